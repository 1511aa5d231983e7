//! What a pattern in a far path stands for, found out by the machine that has the files. Nothing leaves the
//! folder that is searched: names are listed through its handle, and links are followed as those of any far
//! path are. What a search may cost is bounded, whatever the pattern and the tree are.

use std::collections::HashSet;

use files::{Attributes, Dir, Follow, Kind, Name, RelPath, is_reserved};
use transfer::host::{Refusal, SourceRoot};
use transfer::message::RefuseCode;
use tree::Glob;
use tree::glob::Places;

use crate::landing::{self, from_disk, refusal};

/// The most paths that the patterns of one request may stand for.
pub const MAX_MATCHES: usize = 4096;
/// Names that one request may look at, each as often as its comparison takes `CHARACTERS` steps.
const MAX_LOOKED: usize = 1_000_000;
const CHARACTERS: usize = 4096;
/// Names that it may remember meanwhile.
const MAX_HELD: usize = 100_000;

/// What may be seen and taken of a folder, by paths below it.
pub trait Rights {
    /// Whether the path may be known of: it is allowed, or on the way to what is.
    fn sees(&self, path: &RelPath) -> bool;
    /// Whether the path may be copied.
    fn takes(&self, path: &RelPath) -> bool;
}

/// All that is there.
pub struct Everything;

impl Rights for Everything {
    fn sees(&self, _path: &RelPath) -> bool {
        true
    }

    fn takes(&self, _path: &RelPath) -> bool {
        true
    }
}

/// A path that a pattern stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Where it is, links on the way followed.
    pub path: RelPath,
    /// The last name, as it was matched.
    pub name: Name,
}

/// What the patterns of one request have cost so far.
#[derive(Debug)]
pub struct Budget {
    looked: usize,
    held: usize,
    found: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { looked: MAX_LOOKED, held: MAX_HELD, found: MAX_MATCHES }
    }
}

/// What a pattern stands for in a folder, in the order of its names; empty where there is nothing.
pub fn expand(
    root: &Dir,
    pattern: &Glob,
    rights: &dyn Rights,
    budget: &mut Budget,
) -> Result<Vec<Match>, Refusal> {
    let mut search = Search { root, pattern, rights, budget, found: Vec::new() };
    search.go(&RelPath::root(), pattern.start(), 0)?;
    Ok(search.found)
}

struct Search<'a> {
    root: &'a Dir,
    pattern: &'a Glob,
    rights: &'a dyn Rights,
    budget: &'a mut Budget,
    found: Vec<Match>,
}

/// An entry of a folder, as it is and as it is meant.
struct Met {
    name: Name,
    places: Places,
    /// Without links; that of a link that leads nowhere is its own.
    path: RelPath,
    is_folder: bool,
}

impl Search<'_> {
    /// Searches one folder, and then those in it. No handle is kept meanwhile, however deep it goes.
    fn go(&mut self, at: &RelPath, places: Places, depth: usize) -> Result<(), Refusal> {
        // A path that is too deep to be one stands nowhere; links may lead in a circle.
        if depth > files::MAX_DEPTH {
            return Ok(());
        }
        let met = self.meet_all(at, places)?;
        let held = met.len();
        for met in met {
            if self.pattern.is_match(met.places) && self.is_meant(&met) {
                self.take(&met)?;
            }
            let leads_on = met.is_folder && self.pattern.goes_on(met.places);
            if leads_on && self.rights.sees(&met.path) {
                self.go(&met.path, met.places, depth + 1)?;
            }
        }
        self.budget.held += held;
        Ok(())
    }

    /// What is in a folder and may lead on, in the order of the names.
    fn meet_all(&mut self, at: &RelPath, places: Places) -> Result<Vec<Met>, Refusal> {
        let told = |error: &files::FilesError| from_disk(error, &at.to_string());
        let folder = match self.root.open_dir(at, Follow::Never) {
            Ok(folder) => folder,
            Err(error) if passes(&error) => return Ok(Vec::new()),
            Err(error) => return Err(told(&error)),
        };
        let mut all = Vec::new();
        for name in self.names(&folder, at, places)? {
            all.extend(self.meet(&folder, at, places, name)?);
        }
        self.budget.held = self.budget.held.checked_sub(all.len()).ok_or_else(too_many)?;
        Ok(all)
    }

    /// Names of a folder that the pattern may stand for, in their order.
    fn names(&mut self, folder: &Dir, at: &RelPath, places: Places) -> Result<Vec<Name>, Refusal> {
        if let Some(only) = self.pattern.next_name(places) {
            self.look()?;
            return Ok(Name::new(only).into_iter().collect());
        }
        let mut names = Vec::new();
        let entries = match folder.entries() {
            Ok(entries) => entries,
            Err(error) if passes(&error) => return Ok(names),
            Err(error) => return Err(from_disk(&error, &at.to_string())),
        };
        for entry in entries {
            self.look()?;
            let entry = entry.map_err(|error| from_disk(&error, &at.to_string()))?;
            // A name that is none cannot be offered either.
            let Ok(name) = entry.name() else { continue };
            // Whether it is a link is not asked here: that takes a call to the disk.
            if !self.pattern.after(places, name.as_bytes(), false).is_empty() {
                names.push(name);
            }
            if names.len() > self.budget.held {
                return Err(too_many());
            }
        }
        names.sort();
        Ok(names)
    }

    fn look(&mut self) -> Result<(), Refusal> {
        let cost = 1 + self.pattern.cost() * files::MAX_NAME / CHARACTERS;
        self.budget.looked = self.budget.looked.checked_sub(cost).ok_or_else(too_many)?;
        Ok(())
    }

    /// What has this name, and where the pattern is with it; none for what may not be seen, or went away.
    fn meet(
        &self,
        folder: &Dir,
        at: &RelPath,
        places: Places,
        name: Name,
    ) -> Result<Option<Met>, Refusal> {
        if is_reserved(&name) {
            return Ok(None);
        }
        let Ok(path) = at.join(&name) else { return Ok(None) };
        if !self.rights.sees(&path) {
            return Ok(None);
        }
        let found = match folder.attributes_of(&RelPath::from(&name)) {
            Ok(found) => found,
            Err(error) if passes(&error) => return Ok(None),
            Err(error) => return Err(from_disk(&error, &path.to_string())),
        };
        let is_link = found.kind == Kind::Symlink;
        let places = self.pattern.after(places, name.as_bytes(), is_link);
        if places.is_empty() {
            return Ok(None);
        }
        if !is_link {
            return Ok(Some(Met { name, places, path, is_folder: found.kind == Kind::Directory }));
        }
        let (path, kind) = match self.behind(&path) {
            Some((path, found)) => (path, found.kind),
            None => (path, Kind::Symlink),
        };
        Ok(Some(Met { name, places, path, is_folder: kind == Kind::Directory }))
    }

    /// What a link leads to. A link that somebody has found, and not named, may lead nowhere or out of the
    /// folder: then it is copied as the link that it is, as one inside of a folder.
    fn behind(&self, path: &RelPath) -> Option<(RelPath, Attributes)> {
        let path = landing::follow(self.root, path).ok()?;
        if path.names().any(|name| is_reserved(&name)) {
            return None;
        }
        let attributes = self.root.attributes_of(&path).ok()?;
        Some((path, attributes))
    }

    fn is_meant(&self, met: &Met) -> bool {
        (met.is_folder || !self.pattern.only_folders()) && self.rights.takes(&met.path)
    }

    fn take(&mut self, met: &Met) -> Result<(), Refusal> {
        self.budget.found = self.budget.found.checked_sub(1).ok_or_else(|| {
            let text = format!(
                "more than {MAX_MATCHES} paths match: name the folder, and leave out what you do not want \
                 with --exclude"
            );
            refusal(RefuseCode::Exists, text)
        })?;
        self.found.push(Match { path: met.path.clone(), name: met.name.clone() });
        Ok(())
    }
}

fn too_many() -> Refusal {
    let text = "too many names would have to be looked at for this pattern: name the folder, and leave out \
                what you do not want with --exclude";
    refusal(RefuseCode::Exists, text)
}

/// Whether a shell would go on to the next name: what went away, what is no folder, what is closed to us.
fn passes(error: &files::FilesError) -> bool {
    error.is_not_found()
        || error.is_not_a_directory()
        || error.is_permission_denied()
        || error.is_symlink_refused()
}

/// The pattern of a path, and whether what is in a folder is meant.
pub fn pattern_of(typed: &[u8]) -> Option<(Glob, bool)> {
    let (path, contents) = match typed.strip_suffix(b"/.") {
        Some(folder) => (folder.to_vec(), true),
        None => (typed.to_vec(), false),
    };
    // Only a folder has contents.
    let path = if contents { [path.as_slice(), b"/"].concat() } else { path };
    Some((Glob::parse(&path)?, contents))
}

/// Refuses what would land in one place: two paths of one name, or the contents of two folders.
pub fn check_apart(sources: &[SourceRoot]) -> Result<(), Refusal> {
    let mut seen: HashSet<&Name> = HashSet::new();
    for source in sources {
        let Some(name) = &source.name else {
            if sources.len() > 1 {
                let text = "a source that ends in /. must be the only one, and the pattern matches several";
                return Err(refusal(RefuseCode::Exists, text));
            }
            continue;
        };
        if !seen.insert(name) {
            let text = format!(
                "two of the paths that match are called {name}, and one would replace the other: copy \
                 them one after the other, each to a folder of its own"
            );
            return Err(refusal(RefuseCode::Exists, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
