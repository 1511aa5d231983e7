//! Files under a passing name, or none. One is made exclusively, filled, and renamed into place; dropped
//! before that, it is removed. What a killed process leaves behind bears a reserved name.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, Replace};
use crate::error::{Action, Result};
use crate::file::File;
use crate::metadata;
use crate::path::{Name, RelPath};

/// How names of temporary files in a destination directory begin; peers may not use such names.
pub(crate) const TEMPORARY_PREFIX: &str = ".haul-tmp-";

/// For reading and writing, made if missing.
const OWN: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// The same, and never one that exists.
const NEW: OFlags = OWN.union(OFlags::EXCL);

/// A file that never had a name.
const UNNAMED: OFlags = OFlags::RDWR.union(OFlags::TMPFILE).union(OFlags::CLOEXEC);

/// How often a taken name is tried again under another one.
const TRIES: usize = 16;

/// 16 hex digits that nobody else has chosen. Guessing them gains nothing, for files are made with
/// `O_EXCL`; they only have to differ. Within a process they do, and processes begin at random.
fn fresh_hex() -> String {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(std::process::id())));
    format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new file that goes away unless it is renamed into place.
pub(crate) struct Temporary {
    dir: Dir,
    name: Name,
    file: File,
    is_placed: bool,
}

impl Temporary {
    /// Makes one in `dir`, named `prefix` + 16 hex digits + `suffix`.
    ///
    /// `mode` is cut by the umask. The name of what it will become serves messages better than its own.
    pub(crate) fn new(
        dir: &Dir,
        prefix: &str,
        suffix: &str,
        mode: u32,
        for_message: PathBuf,
    ) -> Result<Temporary> {
        let mut tries = 0;
        loop {
            let name = Name::own(format!("{prefix}{}{suffix}", fresh_hex()));
            match rustix::fs::openat(dir, name.as_os_str(), NEW, metadata::mode(mode)) {
                Err(Errno::EXIST) if tries < TRIES => tries += 1,
                Err(error) => return Err(dir.error_in(Action::Create, &name, error)),
                Ok(fd) => {
                    // What `O_EXCL` has made is a regular file: nothing is to be looked at.
                    let file = File::made(fd, for_message);
                    return Ok(Temporary { dir: dir.clone(), name, file, is_placed: false });
                }
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Renames it to its final name in one step.
    pub(crate) fn place(&mut self, into: &Dir, name: &Name, replace: Replace) -> Result<()> {
        self.dir.rename(&self.name, (into, name), replace)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            // Nobody can be told of a failure here; the leftover is known by its reserved name.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

impl Dir {
    /// Opens a regular file in this directory for reading and writing, making it if need be.
    pub(crate) fn create_file(&self, name: &Name, more: OFlags, mode: u32) -> Result<File> {
        let fd = rustix::fs::openat(self, name.as_os_str(), OWN | more, metadata::mode(mode))
            .map_err(|error| self.error_in(Action::Create, name, error))?;
        self.regular(fd, &RelPath::from(name))
    }

    /// An empty file for reading and writing that has no name and is readable by its owner alone. Its
    /// space is free again once its last handle is closed, also when the process is killed.
    pub fn scratch_file(&self) -> Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::openat(self, c".", UNNAMED, mode) {
            Ok(fd) => Ok(File::made(fd, self.path().to_owned())),
            // Filesystems that cannot make one say so in several ways.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                self.unlinked_file()
            }
            Err(error) => Err(self.error(Action::Create, error)),
        }
    }

    /// The same by way of a name that is taken away at once.
    pub(super) fn unlinked_file(&self) -> Result<File> {
        let named = Temporary::new(self, TEMPORARY_PREFIX, "", 0o600, self.path().to_owned())?;
        let handle = named.file().as_fd().try_clone_to_owned();
        let fd = handle.map_err(|error| self.error(Action::Create, error))?;
        Ok(File::made(fd, self.path().to_owned()))
    }
}
