//! Attributes changed through an open handle. Every function takes a descriptor and never a path, so
//! what it changes is what was opened; `Dir` and `File` give these calls their names and errors.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use crate::attributes::Timestamp;

/// The kernel's `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
pub(crate) const XATTR_LIMIT: usize = 65_536;

/// Times that set the modification time and leave the access time.
pub(crate) fn times(mtime: Timestamp) -> Result<Timestamps> {
    if !mtime.is_valid() {
        return Err(Errno::INVAL);
    }
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) as _ },
    })
}

/// An owner as the system call wants it. The largest id means "leave as it is" to the kernel, so
/// it is refused rather than misunderstood.
pub(crate) fn owner(uid: u32, gid: u32) -> Result<(Option<Uid>, Option<Gid>)> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
}

/// Permission bits as the system call wants them, nothing beyond `0o7777`.
pub(crate) fn mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = owner(uid, gid)?;
    rustix::fs::fchown(fd, uid, gid)
}

pub(crate) fn set_times(fd: BorrowedFd<'_>, mtime: Timestamp) -> Result<()> {
    rustix::fs::futimens(fd, &times(mtime)?)
}

pub(crate) fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
}

pub(crate) fn remove_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rustix::fs::fremovexattr(fd, name)
}

pub(crate) fn xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    xattr_value(|buffer| rustix::fs::fgetxattr(fd, name, buffer))
}

pub(crate) fn xattr_names(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    xattr_list(|| rustix::fs::flistxattr_query(fd), |buffer| rustix::fs::flistxattr(fd, buffer))
}

/// Reads one value; an attribute that does not exist, or cannot exist here, is `None`.
pub(crate) fn xattr_value(get: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; XATTR_LIMIT];
    match get(&mut value) {
        Ok(len) => {
            value.truncate(len);
            value.shrink_to_fit();
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the names; a filesystem without extended attributes has none.
pub(crate) fn xattr_list(
    query: impl FnOnce() -> Result<usize>,
    list: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<Vec<Vec<u8>>> {
    // Most files have none, and asking for the length alone spares them the buffer.
    match query() {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut names = vec![0; XATTR_LIMIT];
    let len = list(&mut names)?;
    let names = names[..len].split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}
