//! A directory handle, and through it every path call of the project. Paths are relative to the
//! handle and cannot leave it; changes take a single name, because the calls that change something
//! resolve nothing then, and a parent swapped for a symbolic link cannot divert them.

mod attributes;
mod cache;
mod change;
mod entries;
mod remove;
mod resolve;
mod state;
mod temporary;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::attributes::Attributes;
use crate::error::{Action, FilesError, Result};
use crate::file::File;
use crate::path::{Name, RelPath, escape_path};

pub use cache::DirCache;
pub use change::Replace;
pub use entries::{Entries, Entry};
pub use resolve::Resolution;
pub(crate) use state::append;
pub(crate) use temporary::{TEMPORARY_PREFIX, Temporary};

/// What to do with symbolic links on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Refuse every link, on the way and at the end.
    Never,
    /// Follow links, on the way and at the end, that stay beneath the handle; refuse absolute ones and
    /// those that climb out, even if they come back in.
    Beneath,
}

/// A handle to a directory. Cloning shares the descriptor.
#[derive(Clone)]
pub struct Dir(Arc<Inner>);

struct Inner {
    fd: OwnedFd,
    /// The path it was opened by; for messages only.
    path: PathBuf,
    resolution: Resolution,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
/// Without `NONBLOCK`, opening a fifo would wait for a writer that never comes.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory that the local user or operator named, following links as any program does.
    /// This and [`Dir::create_ambient`] are the only places where a path is used as it stands.
    pub fn open_ambient(path: &Path) -> Result<Dir> {
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|error| FilesError::io(Action::Open, path, error))?;
        let resolution = resolve::best(fd.as_fd());
        Ok(Dir(Arc::new(Inner { fd, path: path.to_owned(), resolution })))
    }

    /// The same directory, with paths below it resolved in the given way; inherited by every handle
    /// opened from it. The best way is chosen by itself; tests use this to hold both to one contract.
    pub fn with_resolution(&self, resolution: Resolution) -> Result<Dir> {
        let fd = self.reopen().map_err(|error| self.error(Action::Open, error))?;
        Ok(Dir(Arc::new(Inner { fd, path: self.0.path.clone(), resolution })))
    }

    /// How many bytes its filesystem has free for users without privileges.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.0.fd)
            .map_err(|error| self.error(Action::ReadAttributes, error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The path it was opened by, for messages; it may have been renamed since.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens a directory below this one; the root path gives the same handle again.
    pub fn open_dir(&self, path: &RelPath, follow: Follow) -> Result<Dir> {
        if path.is_root() {
            return Ok(self.clone());
        }
        let fd = resolve::open(self, path, follow, DIRECTORY)
            .map_err(|error| self.error_at(Action::Open, path, error))?;
        Ok(self.child(fd, path))
    }

    /// Opens a regular file below this directory for reading. Anything else is refused without
    /// being waited for.
    pub fn open_file(&self, path: &RelPath, follow: Follow) -> Result<File> {
        let fd = resolve::open(self, path, follow, FILE)
            .map_err(|error| self.error_at(Action::Open, path, error))?;
        self.regular(fd, path)
    }

    /// The attributes of this directory.
    pub fn attributes(&self) -> Result<Attributes> {
        let stat =
            rustix::fs::fstat(self).map_err(|error| self.error(Action::ReadAttributes, error))?;
        Ok(Attributes::from_stat(&stat))
    }

    /// The attributes of an entry below this directory; a link's own, and no link on the way.
    pub fn attributes_of(&self, path: &RelPath) -> Result<Attributes> {
        if path.is_root() {
            return self.attributes();
        }
        let fail = |error| self.error_at(Action::ReadAttributes, path, error);
        let stat = match path.parent().filter(|parent| !parent.is_root()).zip(path.file_name()) {
            // The path is a single name.
            None => rustix::fs::statat(self, path.as_os_str(), AtFlags::SYMLINK_NOFOLLOW),
            Some((parent, name)) => {
                resolve::open(self, &parent, Follow::Never, HANDLE | OFlags::DIRECTORY).and_then(
                    |parent| {
                        rustix::fs::statat(parent, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
                    },
                )
            }
        };
        Ok(Attributes::from_stat(&stat.map_err(fail)?))
    }

    /// Where a symbolic link in this directory points, as stored.
    pub fn read_link(&self, name: &Name) -> Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(self, name.as_os_str(), Vec::new())
            .map_err(|error| self.error_in(Action::ReadLink, name, error))?;
        Ok(target.into_bytes())
    }

    /// Lists the directory, from a reading position of its own, in bounded memory.
    pub fn entries(&self) -> Result<Entries> {
        Entries::new(self)
    }

    /// Brings the directory's own entries to stable storage: what was published, renamed or removed
    /// in it survives a power cut from here on, provided that the directory's own name is durable: one
    /// that was just made needs its parent synced too. A failure is final, as for [`File::sync`].
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self)
            .map_err(|error| FilesError::Sync { path: self.0.path.clone(), source: error.into() })
    }

    /// Whether two handles are the same directory on disk.
    pub fn is_same(&self, other: &Dir) -> Result<bool> {
        Ok(self.attributes()?.is_same_inode(&other.attributes()?))
    }

    fn reopen(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(self, c".", DIRECTORY, Mode::empty())
    }

    fn child(&self, fd: OwnedFd, path: &RelPath) -> Dir {
        let (path, resolution) = (self.join_for_message(path), self.0.resolution);
        Dir(Arc::new(Inner { fd, path, resolution }))
    }

    /// A directory below this one under this one's path, for walks that go very deep.
    fn child_unnamed(&self, fd: OwnedFd) -> Dir {
        let (path, resolution) = (self.0.path.clone(), self.0.resolution);
        Dir(Arc::new(Inner { fd, path, resolution }))
    }

    fn regular(&self, fd: OwnedFd, path: &RelPath) -> Result<File> {
        File::regular(fd, self.join_for_message(path))
    }

    pub(crate) fn join_for_message(&self, path: &RelPath) -> PathBuf {
        if path.is_root() { self.0.path.clone() } else { self.0.path.join(path.as_os_str()) }
    }

    pub(crate) fn error(&self, action: Action, source: impl Into<std::io::Error>) -> FilesError {
        FilesError::io(action, &self.0.path, source)
    }

    pub(crate) fn error_in(
        &self,
        action: Action,
        name: &Name,
        source: impl Into<std::io::Error>,
    ) -> FilesError {
        FilesError::io(action, &self.0.path.join(name.as_os_str()), source)
    }

    fn error_at(
        &self,
        action: Action,
        path: &RelPath,
        source: impl Into<std::io::Error>,
    ) -> FilesError {
        FilesError::io(action, &self.join_for_message(path), source)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dir({})", escape_path(&self.0.path))
    }
}

#[cfg(test)]
mod tests;
