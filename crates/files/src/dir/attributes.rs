//! Attributes changed by name. A link in the last place is never followed: the entry is pinned by a
//! handle that opens nothing, and the change goes to what the handle holds.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::{Dir, FILE, HANDLE};
use crate::attributes::{Attributes, Kind, Timestamp};
use crate::error::{Action, Result};
use crate::metadata;
use crate::path::Name;

impl Dir {
    /// Sets the permission bits of an entry. A symbolic link has none and is refused.
    pub fn set_mode(&self, name: &Name, mode: u32) -> Result<()> {
        let mode = metadata::mode(mode);
        self.pin(name)
            .and_then(|pin| match pin.kind {
                Kind::Symlink => Err(Errno::LOOP),
                _ => pin
                    .apply(|path| rustix::fs::chmod(path, mode), |fd| rustix::fs::fchmod(fd, mode)),
            })
            .map_err(|error| self.error_in(Action::SetMode, name, error))
    }

    /// Sets the modification time of an entry, a link's own if it is one.
    pub fn set_times(&self, name: &Name, mtime: Timestamp) -> Result<()> {
        metadata::times(mtime)
            .and_then(|times| {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(self, name.as_os_str(), &times, flags)
            })
            .map_err(|error| self.error_in(Action::SetTimes, name, error))
    }

    /// Sets owner and group of an entry, a link's own if it is one.
    pub fn set_owner(&self, name: &Name, uid: u32, gid: u32) -> Result<()> {
        metadata::owner(uid, gid)
            .and_then(|(uid, gid)| {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(self, name.as_os_str(), uid, gid, flags)
            })
            .map_err(|error| self.error_in(Action::SetOwner, name, error))
    }

    /// One extended attribute of an entry, if it exists.
    pub fn xattr(&self, name: &Name, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.pin(name)
            .and_then(|pin| {
                pin.apply(
                    |path| metadata::xattr_value(|buffer| rustix::fs::getxattr(path, key, buffer)),
                    |fd| metadata::xattr(fd.as_fd(), key),
                )
            })
            .map_err(|error| self.error_in(Action::ReadXattrs, name, error))
    }

    /// The names of all extended attributes of an entry, in the system's order.
    pub fn xattr_names(&self, name: &Name) -> Result<Vec<Vec<u8>>> {
        self.pin(name)
            .and_then(|pin| {
                pin.apply(
                    |path| {
                        metadata::xattr_list(
                            || rustix::fs::listxattr_query(path),
                            |buffer| rustix::fs::listxattr(path, buffer),
                        )
                    },
                    |fd| metadata::xattr_names(fd.as_fd()),
                )
            })
            .map_err(|error| self.error_in(Action::ReadXattrs, name, error))
    }

    /// Sets one extended attribute of an entry.
    pub fn set_xattr(&self, name: &Name, key: &[u8], value: &[u8]) -> Result<()> {
        self.pin(name)
            .and_then(|pin| {
                pin.apply(
                    |path| rustix::fs::setxattr(path, key, value, XattrFlags::empty()),
                    |fd| metadata::set_xattr(fd.as_fd(), key, value),
                )
            })
            .map_err(|error| self.error_in(Action::SetXattr, name, error))
    }

    /// Removes one extended attribute of an entry; one that is not there is removed already.
    pub fn remove_xattr(&self, name: &Name, key: &[u8]) -> Result<()> {
        let removed = self.pin(name).and_then(|pin| {
            pin.apply(
                |path| rustix::fs::removexattr(path, key),
                |fd| metadata::remove_xattr(fd.as_fd(), key),
            )
        });
        match removed {
            Err(Errno::NODATA) => Ok(()),
            removed => removed.map_err(|error| self.error_in(Action::SetXattr, name, error)),
        }
    }

    /// Sets the permission bits of this directory itself.
    pub fn set_own_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(self, metadata::mode(mode))
            .map_err(|error| self.error(Action::SetMode, error))
    }

    /// Sets the modification time of this directory itself.
    pub fn set_own_times(&self, mtime: Timestamp) -> Result<()> {
        metadata::set_times(self.as_fd(), mtime)
            .map_err(|error| self.error(Action::SetTimes, error))
    }

    /// Sets owner and group of this directory itself.
    pub fn set_own_owner(&self, uid: u32, gid: u32) -> Result<()> {
        metadata::set_owner(self.as_fd(), uid, gid)
            .map_err(|error| self.error(Action::SetOwner, error))
    }

    fn pin<'a>(&'a self, name: &'a Name) -> rustix::io::Result<Pin<'a>> {
        let flags = HANDLE | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(self, name.as_os_str(), flags, Mode::empty())?;
        let attributes = Attributes::from_stat(&rustix::fs::fstat(&fd)?);
        Ok(Pin { dir: self, name, fd, kind: attributes.kind, attributes })
    }
}

/// An entry held by an `O_PATH` handle, which needs no permission on it and has no side effects.
struct Pin<'a> {
    dir: &'a Dir,
    name: &'a Name,
    fd: OwnedFd,
    kind: Kind,
    attributes: Attributes,
}

impl Pin<'_> {
    /// Does it through `/proc`, whose entry for a descriptor leads to the pinned inode itself; where
    /// `/proc` is absent, through a real handle that is checked to be the same inode.
    fn apply<T>(
        &self,
        by_path: impl FnOnce(&str) -> rustix::io::Result<T>,
        by_handle: impl FnOnce(&OwnedFd) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match by_path(&format!("/proc/self/fd/{}", self.fd.as_raw_fd())) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            result => return result,
        }
        if !matches!(self.kind, Kind::File | Kind::Directory) {
            return Err(Errno::OPNOTSUPP);
        }
        let flags = FILE | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(self.dir, self.name.as_os_str(), flags, Mode::empty())?;
        let now = Attributes::from_stat(&rustix::fs::fstat(&handle)?);
        if !now.is_same_inode(&self.attributes) {
            return Err(Errno::AGAIN);
        }
        by_handle(&handle)
    }
}
