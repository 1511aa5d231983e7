//! What a login may copy: all that its user may, by paths as a shell there takes them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::Dir;
use link::{Identity, Lane};
use transfer::host::{Host, Landing, Refusal, SourceRoot};
use transfer::message::{Listed, Order, RefuseCode};
use tree::Glob;

use crate::glob::{self, Budget, Everything, Match};
use crate::landing::{self, Wish, from_disk, refusal};
use crate::report::Failure;
use crate::{listing, local};

/// The policy of `haul over-ssh`.
pub struct Login {
    /// The login folder, which relative paths begin at.
    pub home: PathBuf,
    /// Who signs.
    pub identity: Arc<Identity>,
}

impl Login {
    /// The path that is meant by one as typed.
    fn path(&self, typed: &[u8]) -> Result<PathBuf, Refusal> {
        let rest = match typed {
            b"" => return Ok(self.home.clone()),
            [b'~'] => return Ok(self.home.clone()),
            [b'~', b'/', rest @ ..] => rest,
            [b'~', ..] => {
                let typed = files::escape(typed);
                let text = format!(
                    "{typed}: only one's own login folder, ~, has a short form; \
                     write the whole path, or ./{typed} for a name that begins so"
                );
                return Err(refusal(RefuseCode::NotFound, text));
            }
            rest => rest,
        };
        if rest.contains(&0) {
            return Err(refusal(RefuseCode::NotFound, "a path holds no NUL byte"));
        }
        Ok(self.home.join(std::ffi::OsStr::from_bytes(rest)))
    }
}

/// An error of this machine, for the other one.
fn told(error: anyhow::Error, path: &Path) -> Refusal {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal.clone();
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return refusal(RefuseCode::NotFound, failure.to_string());
    }
    let shown = files::escape_path(path).to_string();
    match error.downcast_ref::<files::FilesError>() {
        Some(error) => from_disk(error, &shown),
        None => refusal(RefuseCode::Disk, format!("cannot use {shown}: {error:#}")),
    }
}

/// What a pattern stands for below a folder of this machine.
fn expanded(
    root: &Path,
    below: &[u8],
    contents: bool,
    budget: &mut Budget,
) -> Result<Vec<SourceRoot>, Refusal> {
    let shown = files::escape(below).to_string();
    let root = Dir::open_ambient(root).map_err(|error| from_disk(&error, &shown))?;
    let no_match = || refusal(RefuseCode::NotFound, format!("no file matches {shown}"));
    // Only a folder has contents.
    let below = match contents {
        true => [below.strip_suffix(b"/.").unwrap_or(below), b"/"].concat(),
        false => below.to_vec(),
    };
    let pattern = Glob::parse(&below).ok_or_else(no_match)?;
    let found = glob::expand(&root, &pattern, &Everything, budget)?;
    if found.is_empty() {
        return Err(no_match());
    }
    let source = |found: Match| SourceRoot {
        root: root.clone(),
        path: found.path,
        name: (!contents).then_some(found.name),
        max_rate_bytes_per_s: None,
        only: None,
    };
    Ok(found.into_iter().map(source).collect())
}

impl Host for Login {
    fn landing(&self, _lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        let path = self.path(&order.target)?;
        local::landing(&path, Wish::of(order)).map_err(|error| told(error, &path))
    }

    fn sources(
        &self,
        _lane: &Lane,
        paths: &[Vec<u8>],
        _order: &Order,
    ) -> Result<Vec<SourceRoot>, Refusal> {
        let mut budget = Budget::default();
        let (mut sources, mut is_expanded) = (Vec::new(), false);
        for typed in paths {
            let path = self.path(typed)?;
            // What stands there as it is written is meant as it is written.
            let is_there = landing::ambient(&path).is_ok_and(|found| {
                let (dir, below) = found.into_place(false);
                dir.attributes_of(&below).is_ok()
            });
            let (root, below) = match typed.strip_prefix(b"/") {
                Some(below) => (Path::new("/"), below),
                None => (self.home.as_path(), typed.strip_prefix(b"~/").unwrap_or(typed)),
            };
            match glob::pattern_of(below).filter(|_| !is_there) {
                None => sources.push(local::source(&path).map_err(|error| told(error, &path))?),
                Some((_, contents)) => {
                    is_expanded = true;
                    sources.extend(expanded(root, below, contents, &mut budget)?);
                }
            }
        }
        if is_expanded {
            glob::check_apart(&sources)?;
        }
        Ok(sources)
    }

    fn list(&self, _lane: &Lane, path: &[u8]) -> Result<Vec<Listed>, Refusal> {
        let path = self.path(path)?;
        let shown = files::escape_path(&path).to_string();
        let listing = || {
            let (dir, below) = landing::ambient(&path)?.into_place(false);
            let own = below.file_name().unwrap_or_else(|| crate::state::own_name("folder"));
            listing::list(&dir, &below, own, |_| true)
        };
        listing().map_err(|error| from_disk(&error, &shown))
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_login_folder() {
        let identity = Arc::new(Identity::generate().unwrap());
        let login = Login { home: "/there/me".into(), identity };
        let check = |typed: &str, expected: &str| {
            assert_eq!(login.path(typed.as_bytes()).unwrap(), Path::new(expected), "{typed}");
        };
        check("", "/there/me");
        check("~", "/there/me");
        check("~/a", "/there/me/a");
        check("a/b", "/there/me/a/b");
        check("./~x", "/there/me/./~x");
        check("/srv/a", "/srv/a");
        check("a/.", "/there/me/a/.");
        assert!(login.path(b"~root/a").unwrap_err().text.contains("./~root/a"));
        assert!(login.path(b"a\0b").is_err());
    }
}
