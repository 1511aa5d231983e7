//! The walk over a tree: pulled step by step, depth first, in the order in which the disk lists.
//!
//! Memory is a listing buffer for each open level and a path for each level, whatever the number of
//! entries: nothing is sorted and no name is kept. At most [`OPEN_LEVELS`] directories are open at a
//! time; above them, outer ones are closed and later opened again by path, where the names already
//! seen are skipped. That is only right if the directory did not change meanwhile, so one that did is
//! reported and left incomplete. Symbolic links are never followed below the start.

use std::collections::VecDeque;

use files::{
    Attributes, Dir, Entries, FilesError, Follow, Kind, Name, NameError, RelPath, is_reserved,
};

use crate::filter::{Filter, Verdict};

mod listed;

pub use listed::ListedWalk;

/// Directories that are open at a time; each takes two descriptors.
pub const OPEN_LEVELS: usize = 32;

/// Where a walk starts, seen from the directory that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkRoot {
    /// In the directory at this path. Paths are relative to it; its own is the root path. Links on
    /// the way to it are followed as long as they stay beneath the given directory.
    Inside(RelPath),
    /// In the directory at this path, whose own path and those of all in it stay relative to the given
    /// one, as the filter's rules do. No link on the way to it is followed.
    Beneath(RelPath),
    /// At one entry of the given directory: a file, a link (not followed), or a directory with what
    /// it holds. Paths begin with its name. The filter is not asked about it.
    Entry(Name),
}

/// What a walk leaves out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Rules on paths relative to the walk's root.
    pub filter: Filter,
    /// Does not enter directories on other filesystems than the start's.
    pub one_file_system: bool,
}

/// Something that a walk met.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Relative to the walk's root.
    pub path: RelPath,
    /// As they were when the entry was listed; a link's own.
    pub attributes: Attributes,
    /// Where it points, for symbolic links.
    pub link_target: Option<Vec<u8>>,
}

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    /// A directory; what it holds comes next, and then its `Leave`.
    Enter(Entry),
    /// Anything else.
    Leaf(Entry),
    /// The end of a directory.
    Leave {
        /// The directory.
        path: RelPath,
        /// Everything that it holds was seen, apart from what filters and reserved names leave out.
        /// This speaks of its own entries: one that could not be listed itself has its own `Leave`.
        complete: bool,
    },
    /// Something could not be read; the walk goes on.
    Problem {
        /// What it is about: the entry, or its directory if the entry can have no path.
        path: RelPath,
        /// What failed.
        error: FilesError,
    },
}

/// A walk in progress; see [the module](self). It blocks on the disk.
#[derive(Debug)]
pub struct Walk {
    root: Dir,
    options: WalkOptions,
    device: u64,
    levels: Vec<Level>,
    /// The directory entered last, which is opened by the next step, so that the caller may skip it.
    to_open: Option<Entry>,
    /// At most two steps that follow from one event.
    ready: VecDeque<Step>,
}

/// A directory on the way from the start to where the walk is.
#[derive(Debug)]
struct Level {
    path: RelPath,
    /// From before it was first opened.
    attributes: Attributes,
    listing: Listing,
    /// Names taken from the listing so far.
    seen: u64,
    complete: bool,
}

enum Listing {
    Open(Dir, Entries),
    /// Closed to save descriptors.
    Parked,
    /// Nothing more will come.
    Ended,
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(..) => "Open",
            Self::Parked => "Parked",
            Self::Ended => "Ended",
        })
    }
}

impl Walk {
    /// A walk that begins at `start`, below or in `root`.
    ///
    /// # Errors
    /// When the start cannot be opened or read: there would be nothing to walk.
    pub fn new(root: Dir, start: WalkRoot, options: WalkOptions) -> Result<Self, FilesError> {
        let (root, entry) = match start {
            WalkRoot::Inside(path) => {
                let root = root.open_dir(&path, Follow::Beneath)?;
                let attributes = root.attributes()?;
                (root, Entry { path: RelPath::root(), attributes, link_target: None })
            }
            WalkRoot::Beneath(path) => {
                let attributes = root.open_dir(&path, Follow::Never)?.attributes()?;
                (root, Entry { path, attributes, link_target: None })
            }
            WalkRoot::Entry(name) => {
                let path = RelPath::from(&name);
                let (attributes, link_target) = look_at(&root, name)?;
                (root, Entry { path, attributes, link_target })
            }
        };
        let device = entry.attributes.device;
        let (levels, to_open, ready) = (Vec::new(), None, VecDeque::new());
        let mut walk = Self { root, options, device, levels, to_open, ready };
        let step = walk.step_of(entry);
        walk.ready.push_back(step);
        Ok(walk)
    }

    /// Leaves out what the directory of the last `Enter` holds: neither its entries nor its `Leave`
    /// will come. Without effect after any other step.
    pub fn skip_directory(&mut self) {
        self.to_open = None;
    }

    /// The directory that the paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The step for an entry, remembering a directory as the one to open next.
    fn step_of(&mut self, entry: Entry) -> Step {
        if entry.attributes.kind == Kind::Directory {
            self.to_open = Some(entry.clone());
            Step::Enter(entry)
        } else {
            Step::Leaf(entry)
        }
    }

    /// Opens the directory just entered as the new innermost level.
    fn open(&mut self, entry: Entry) {
        let Entry { path, attributes, .. } = entry;
        let listing = if self.options.one_file_system && attributes.device != self.device {
            // What is there stays unknown.
            None
        } else {
            match open(&self.root, self.levels.last(), &path) {
                Ok(listing) => Some(listing),
                Err(error) => {
                    self.ready.push_back(Step::Problem { path: path.clone(), error });
                    None
                }
            }
        };
        let complete = listing.is_some();
        let listing = listing.unwrap_or(Listing::Ended);
        self.levels.push(Level { path, attributes, listing, seen: 0, complete });
        if let Some(outer) = self.levels.len().checked_sub(OPEN_LEVELS + 1)
            && let Some(level) = self.levels.get_mut(outer)
            && matches!(level.listing, Listing::Open(..))
        {
            level.listing = Listing::Parked;
        }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            if let Some(entry) = self.to_open.take() {
                self.open(entry);
                continue;
            }
            let level = self.levels.last_mut()?;
            match level.next(&self.root, &self.options.filter) {
                Some(Ok(entry)) => return Some(self.step_of(entry)),
                Some(Err((path, error))) => {
                    level.complete = false;
                    return Some(Step::Problem { path, error });
                }
                None => {
                    let level = self.levels.pop()?;
                    return Some(Step::Leave { path: level.path, complete: level.complete });
                }
            }
        }
    }
}

impl Level {
    /// The next entry that the filter lets through.
    fn next(
        &mut self,
        root: &Dir,
        filter: &Filter,
    ) -> Option<Result<Entry, (RelPath, FilesError)>> {
        if matches!(self.listing, Listing::Parked)
            && let Err(error) = self.unpark(root)
        {
            self.listing = Listing::Ended;
            return Some(Err((self.path.clone(), error)));
        }
        let Listing::Open(dir, entries) = &mut self.listing else { return None };
        loop {
            let listed = match entries.next()? {
                Ok(listed) => listed,
                Err(error) => {
                    self.listing = Listing::Ended;
                    return Some(Err((self.path.clone(), error)));
                }
            };
            self.seen += 1;
            let name = match listed.name() {
                Ok(name) if is_reserved(&name) => continue,
                Ok(name) => name,
                Err(error) => return Some(Err((self.path.clone(), error))),
            };
            let path = match self.path.join(&name) {
                Ok(path) => path,
                Err(source) => {
                    let error = no_path(&self.path, &name, source);
                    return Some(Err((self.path.clone(), error)));
                }
            };
            // Where the listing tells the kind, what is left out costs no further call.
            if let Some(kind) = listed.kind()
                && filter.matches(&path, kind == Kind::Directory) == Verdict::Exclude
            {
                continue;
            }
            match look_at(dir, name) {
                // Removed since it was listed: then it is not there, and nothing is unknown.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Some(Err((path, error))),
                Ok((attributes, link_target)) => {
                    let is_dir = attributes.kind == Kind::Directory;
                    if filter.matches(&path, is_dir) == Verdict::Include {
                        return Some(Ok(Entry { path, attributes, link_target }));
                    }
                }
            }
        }
    }

    /// Opens a parked directory again and goes to where it was left.
    fn unpark(&mut self, root: &Dir) -> Result<(), FilesError> {
        let listing = open(root, None, &self.path)?;
        let Listing::Open(dir, mut entries) = listing else { return Ok(()) };
        let now = dir.attributes()?;
        let before = &self.attributes;
        let changed = || FilesError::ChangedWhileRead { path: dir.path().to_owned() };
        if (now.device, now.inode, now.ctime) != (before.device, before.inode, before.ctime) {
            return Err(changed());
        }
        for _ in 0..self.seen {
            entries.next().ok_or_else(changed)??;
        }
        self.listing = Listing::Open(dir, entries);
        Ok(())
    }
}

/// Opens a directory by its last name where its parent is open, otherwise by its whole path.
fn open(root: &Dir, parent: Option<&Level>, path: &RelPath) -> Result<Listing, FilesError> {
    let dir = match (parent.map(|level| &level.listing), path.file_name()) {
        (Some(Listing::Open(parent, _)), Some(name)) => {
            parent.open_dir(&RelPath::from(name), Follow::Never)?
        }
        _ => root.open_dir(path, Follow::Never)?,
    };
    let entries = dir.entries()?;
    Ok(Listing::Open(dir, entries))
}

/// What has that name in `dir`, and where it points if it is a symbolic link.
fn look_at(dir: &Dir, name: Name) -> Result<(Attributes, Option<Vec<u8>>), FilesError> {
    let name = RelPath::from(name);
    let attributes = dir.attributes_of(&name)?;
    let link_target = match (attributes.kind, name.file_name()) {
        (Kind::Symlink, Some(name)) => Some(dir.read_link(&name)?),
        _ => None,
    };
    Ok((attributes, link_target))
}

/// The error for a name whose path would be too long or too deep.
fn no_path(parent: &RelPath, name: &Name, source: NameError) -> FilesError {
    FilesError::Name { bytes: [parent.as_bytes(), b"/", name.as_bytes()].concat(), source }
}

#[cfg(test)]
mod tests;
