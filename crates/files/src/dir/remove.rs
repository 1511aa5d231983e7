//! Removing a whole tree. Everything goes by name from an open parent, links are removed and never
//! followed, other filesystems are not entered, and both descriptors and memory are bounded: beyond
//! a depth the upper handles are closed and found again by walking from the top.

use rustix::io::Errno;

use super::{Dir, Follow};
use crate::attributes::Kind;
use crate::error::{Action, FilesError, Result};
use crate::path::{Name, RelPath};

/// How many levels keep their handle open.
const OPEN_LEVELS: usize = 32;
/// How deep a tree may be; a name is kept for each level.
const MAX_LEVELS: usize = 16_384;
/// How often a directory that does not become empty is gone through.
const MAX_PASSES: usize = 8;

struct Level {
    name: Name,
    dir: Option<Dir>,
    passes: usize,
}

/// What going through a directory came to.
enum Pass {
    /// Nothing is left in it, as far as could be seen.
    Empty,
    /// A directory in it must be emptied first.
    Descend(Name, Dir),
}

impl Dir {
    /// Removes an entry and, if it is a directory, all below it. Something that is not there is an
    /// error. Stops at the first entry that cannot be removed; what was removed stays so.
    pub fn remove_tree(&self, name: &Name) -> Result<()> {
        let Some(first) = self.remove_or_enter(name, None)? else { return Ok(()) };
        let device = first.attributes()?.device;
        let mut levels = vec![Level { name: name.clone(), dir: Some(first), passes: 0 }];
        while let Some(depth) = levels.len().checked_sub(1) {
            let dir = self.level_dir(&mut levels, depth)?;
            match dir.empty_pass(device)? {
                Pass::Descend(name, child) => {
                    if levels.len() >= MAX_LEVELS {
                        return Err(FilesError::TooDeep { path: self.0.path.clone() });
                    }
                    levels.push(Level { name, dir: Some(child), passes: 0 });
                    if let Some(closed) = levels.len().checked_sub(OPEN_LEVELS + 1) {
                        levels[closed].dir = None;
                    }
                }
                Pass::Empty => {
                    let name = levels[depth].name.clone();
                    let parent = match depth.checked_sub(1) {
                        Some(above) => self.level_dir(&mut levels, above)?,
                        None => self.clone(),
                    };
                    match parent.remove_dir(&name) {
                        Ok(()) => drop(levels.pop()),
                        Err(error) if error.is_not_found() => drop(levels.pop()),
                        Err(error) if !error.is_not_empty() => return Err(error),
                        Err(_) if levels[depth].passes >= MAX_PASSES => {
                            return Err(FilesError::Refilled { path: dir.0.path.clone() });
                        }
                        Err(_) => levels[depth].passes += 1,
                    }
                }
            }
        }
        Ok(())
    }

    /// The handle of a level, opened again from the top if it was closed.
    fn level_dir(&self, levels: &mut [Level], depth: usize) -> Result<Dir> {
        if let Some(dir) = &levels[depth].dir {
            return Ok(dir.clone());
        }
        let mut dir = self.clone();
        for (at, level) in levels[..=depth].iter_mut().enumerate() {
            dir = dir.open_level(&level.name)?;
            // The lowest of them are wanted next, on the way up, and spare another walk.
            if at + OPEN_LEVELS > depth {
                level.dir = Some(dir.clone());
            }
        }
        Ok(dir)
    }

    /// The path for messages is not prolonged, which would cost the square of the depth.
    fn open_level(&self, name: &Name) -> Result<Dir> {
        let path = RelPath::from(name);
        let fd = super::resolve::open(self, &path, Follow::Never, super::DIRECTORY)
            .map_err(|error| self.error_in(Action::Open, name, error))?;
        Ok(self.child_unnamed(fd))
    }

    fn empty_pass(&self, device: u64) -> Result<Pass> {
        for entry in self.entries()? {
            let entry = entry?;
            let name = entry.name()?;
            match self.remove_or_enter(&name, entry.kind()) {
                Ok(None) => {}
                Ok(Some(child)) if child.attributes()?.device != device => {
                    let path = self.0.path.join(name.as_os_str());
                    return Err(FilesError::MountInTheWay { path });
                }
                Ok(Some(child)) => return Ok(Pass::Descend(name, child)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Pass::Empty)
    }

    /// Removes what can be removed in one call and opens the directory that cannot.
    fn remove_or_enter(&self, name: &Name, hint: Option<Kind>) -> Result<Option<Dir>> {
        if hint != Some(Kind::Directory) {
            match self.unlink(name) {
                Ok(()) => return Ok(None),
                // Linux says EISDIR for a directory, POSIX and some filesystems EPERM.
                Err(error) if matches!(error.errno(), Some(Errno::ISDIR | Errno::PERM)) => {
                    let kind = self.attributes_of(&RelPath::from(name))?.kind;
                    if kind != Kind::Directory {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        match self.remove_dir(name) {
            Ok(()) => Ok(None),
            Err(error) if error.is_not_empty() => self.open_level(name).map(Some),
            // It was a directory when it was listed, and is none now.
            Err(error) if error.is_not_a_directory() => self.unlink(name).map(|()| None),
            Err(error) => Err(error),
        }
    }
}
