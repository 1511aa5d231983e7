//! From a relative path to a descriptor without leaving the directory. The kernel does it in one call
//! where it has `openat2`; elsewhere a walk opens one name at a time and follows links itself. Both
//! obey one contract and answer with the same errors: ELOOP for a refused link, EXDEV for a way out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::{Dir, Follow, HANDLE};
use crate::path::{MAX_DEPTH, MAX_PATH, RelPath};

/// How paths below a handle are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// By `openat2` with `RESOLVE_BENEATH` (Linux 5.6).
    Kernel,
    /// By a walk that opens each name with `O_NOFOLLOW`.
    Walk,
}

/// `openat2` answers EAGAIN when somebody renames while it checks a `..`; past this many tries the
/// walk, which cannot be disturbed that way, takes over.
const KERNEL_TRIES: usize = 32;
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// The best way this system has, found out once: old kernels answer ENOSYS, sandboxes often EPERM.
pub(super) fn best(dir: BorrowedFd<'_>) -> Resolution {
    static KNOWN: OnceLock<Resolution> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let flags = HANDLE | OFlags::DIRECTORY;
        match rustix::fs::openat2(dir, c".", flags, Mode::empty(), ResolveFlags::BENEATH) {
            Ok(_) => Resolution::Kernel,
            Err(_) => Resolution::Walk,
        }
    })
}

/// Opens what `path` names beneath `dir`.
pub(super) fn open(dir: &Dir, path: &RelPath, follow: Follow, flags: OFlags) -> Result<OwnedFd> {
    if path.is_root() {
        return rustix::fs::openat(dir, c".", flags, Mode::empty());
    }
    match dir.0.resolution {
        Resolution::Kernel => ask_kernel(dir.as_fd(), path, follow, flags),
        Resolution::Walk => walk(dir.as_fd(), path, follow, flags),
    }
}

fn ask_kernel(
    dir: BorrowedFd<'_>,
    path: &RelPath,
    follow: Follow,
    flags: OFlags,
) -> Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // `O_NOFOLLOW` is left out: with `O_DIRECTORY` it turns the ELOOP for a link at the end into ENOTDIR.
    let resolve = match follow {
        Follow::Never => beneath | ResolveFlags::NO_SYMLINKS,
        Follow::Beneath => beneath,
    };
    for _ in 0..KERNEL_TRIES {
        match rustix::fs::openat2(dir, path.as_os_str(), flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A sandbox that closed after the probe; if the refusal is the file's, the walk meets it too.
            Err(Errno::NOSYS | Errno::PERM) => break,
            result => return result,
        }
    }
    walk(dir, path, follow, flags)
}

/// Opens one name after the other. `..`, which only a followed link can bring, goes back to a handle
/// already held and never asks the disk, so a directory moved elsewhere meanwhile leads nowhere new.
fn walk(
    root: BorrowedFd<'_>,
    path: &RelPath,
    follow: Follow,
    mut flags: OFlags,
) -> Result<OwnedFd> {
    let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == b".." {
            above.pop().ok_or(Errno::XDEV)?;
            continue;
        }
        let here = above.last().map_or(root, AsFd::as_fd);
        let is_last = pending.is_empty();
        let how = if is_last { flags } else { HANDLE | OFlags::DIRECTORY };
        let name = name.as_slice();
        match retry(|| rustix::fs::openat(here, name, how | OFlags::NOFOLLOW, Mode::empty())) {
            Ok(fd) if is_last => return Ok(fd),
            Ok(fd) => {
                if follow == Follow::Never {
                    above.clear();
                }
                above.push(fd);
                if above.len() > 2 * MAX_DEPTH {
                    return Err(Errno::NAMETOOLONG);
                }
            }
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                let Ok(target) = rustix::fs::readlinkat(here, name, Vec::new()) else {
                    return Err(error);
                };
                links += 1;
                if follow == Follow::Never || links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if is_last && target.as_bytes().ends_with(b"/") {
                    flags |= OFlags::DIRECTORY;
                }
                push_target(&mut pending, target.as_bytes())?;
            }
            Err(error) => return Err(error),
        }
    }
    let here = above.last().map_or(root, AsFd::as_fd);
    retry(|| rustix::fs::openat(here, c".", flags, Mode::empty()))
}

fn push_target(pending: &mut Vec<Vec<u8>>, target: &[u8]) -> Result<()> {
    if target.starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    let names = target.split(|byte| *byte == b'/').rev();
    pending.extend(names.filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec));
    if pending.len() > MAX_PATH { Err(Errno::NAMETOOLONG) } else { Ok(()) }
}

fn retry<T>(call: impl FnMut() -> Result<T>) -> Result<T> {
    rustix::io::retry_on_intr(call)
}
