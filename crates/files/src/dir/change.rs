//! Making, renaming and removing single entries. Each call takes names, which are one component, so
//! the kernel resolves nothing; none of them follows a link in the last place.

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::{Dir, Follow};
use crate::error::{Action, Result};
use crate::metadata;
use crate::path::{Name, RelPath};

/// Whether a rename or publish may take the place of something that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// What exists is replaced in one step.
    Yes,
    /// What exists stays, and the call fails with "already exists".
    No,
}

impl Dir {
    /// Makes a directory; the process's umask is taken off `mode`.
    pub fn make_dir(&self, name: &Name, mode: u32) -> Result<()> {
        rustix::fs::mkdirat(self, name.as_os_str(), metadata::mode(mode))
            .map_err(|error| self.error_in(Action::MakeDirectory, name, error))
    }

    /// Makes the directories of a path that are missing and opens the last. A link on the way is
    /// refused, also one to a directory.
    pub fn make_dir_all(&self, path: &RelPath, mode: u32) -> Result<Dir> {
        match self.open_dir(path, Follow::Never) {
            Err(error) if error.is_not_found() => {}
            result => return result,
        }
        let mut dir = self.clone();
        for name in path.names() {
            let next = RelPath::from(&name);
            dir = match dir.open_dir(&next, Follow::Never) {
                Err(error) if error.is_not_found() => {
                    match dir.make_dir(&name, mode) {
                        Err(error) if !error.is_already_exists() => return Err(error),
                        _ => {}
                    }
                    dir.open_dir(&next, Follow::Never)?
                }
                result => result?,
            };
        }
        Ok(dir)
    }

    /// Makes a symbolic link. What it points at is not looked at, now or later.
    pub fn make_symlink(&self, target: &[u8], name: &Name) -> Result<()> {
        rustix::fs::symlinkat(target, self, name.as_os_str())
            .map_err(|error| self.error_in(Action::MakeSymlink, name, error))
    }

    /// Gives an existing entry one more name, here. A symbolic link is linked itself.
    pub fn hard_link(&self, name: &Name, existing: (&Dir, &Name)) -> Result<()> {
        let (from, old) = existing;
        rustix::fs::linkat(from, old.as_os_str(), self, name.as_os_str(), AtFlags::empty())
            .map_err(|error| self.error_in(Action::MakeHardLink, name, error))
    }

    /// Renames an entry, also into another directory. As POSIX has it, a file never replaces a
    /// directory, and a directory only an empty one.
    pub fn rename(&self, name: &Name, to: (&Dir, &Name), replace: Replace) -> Result<()> {
        let (into, new) = to;
        let result = match replace {
            Replace::Yes => rustix::fs::renameat(self, name.as_os_str(), into, new.as_os_str()),
            Replace::No => self.rename_no_replace(name, into, new),
        };
        result.map_err(|error| into.error_in(Action::Rename, new, error))
    }

    /// Some filesystems lack `RENAME_NOREPLACE`. A hard link refuses an existing name just as well,
    /// for all but directories.
    fn rename_no_replace(&self, name: &Name, into: &Dir, new: &Name) -> rustix::io::Result<()> {
        let (old_name, new_name) = (name.as_os_str(), new.as_os_str());
        match rustix::fs::renameat_with(self, old_name, into, new_name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(self, old_name, into, new_name, AtFlags::empty())?;
                rustix::fs::unlinkat(self, old_name, AtFlags::empty())
            }
            result => result,
        }
    }

    /// Removes an entry that is no directory.
    pub fn unlink(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(self, name.as_os_str(), AtFlags::empty())
            .map_err(|error| self.error_in(Action::Unlink, name, error))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(self, name.as_os_str(), AtFlags::REMOVEDIR)
            .map_err(|error| self.error_in(Action::RemoveDirectory, name, error))
    }
}
