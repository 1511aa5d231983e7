//! Files under a passing name. One is made exclusively, filled, and renamed into place; dropped
//! before that, it is removed. What a killed process leaves behind bears a reserved name.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{Dir, Replace};
use crate::error::{Action, Result};
use crate::file::File;
use crate::metadata;
use crate::path::{Name, RelPath};

/// How names of temporary files in a destination directory begin; peers may not use such names.
pub(crate) const TEMPORARY_PREFIX: &str = ".haul-tmp-";

/// How often a taken name is tried again under another one.
const TRIES: usize = 16;

/// 16 hex digits that nobody else has chosen. Guessing them gains nothing, for files are made with
/// `O_EXCL`; they only have to differ.
fn random_hex() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// A new file that goes away unless it is renamed into place.
pub(crate) struct Temporary {
    dir: Dir,
    name: Name,
    file: File,
    is_placed: bool,
}

impl Temporary {
    /// Makes one in `dir`, named `prefix` + random + `suffix`.
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
            let name = Name::own(format!("{prefix}{}{suffix}", random_hex()));
            match dir.create_file(&name, OFlags::EXCL, mode) {
                Err(error) if error.is_already_exists() && tries < TRIES => tries += 1,
                result => {
                    let file = result?.with_path(for_message);
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
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC
            | more;
        let fd = rustix::fs::openat(self, name.as_os_str(), flags, metadata::mode(mode))
            .map_err(|error| self.error_in(Action::Create, name, error))?;
        self.regular(fd, &RelPath::from(name))
    }
}
