//! Private folders for what is under way: a pipe that is being copied, a trial run. Each bears a name
//! that nobody can guess, is open to its owner alone, and goes with all it holds when it is dropped.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::{Dir, FilesError, Follow, Name, RelPath};
use rustix::fs::{Mode, OFlags};

use crate::state::own_name;

/// How much of a pipe is moved at a time.
const BLOCK: usize = 256 * 1024;

/// A private folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    parent: Dir,
    name: Name,
    dir: Dir,
    path: PathBuf,
}

impl Scratch {
    /// In the system's folder for temporary files.
    pub fn in_temporary(prefix: &str) -> Result<Self> {
        let path = std::env::temp_dir();
        let parent = Dir::open_ambient(&path)?;
        Self::below(parent, &path, prefix)
    }

    /// In a folder that is known under this path.
    pub fn below(parent: Dir, path: &Path, prefix: &str) -> Result<Self> {
        let name = own_name(&format!("{prefix}{}", random_hex()));
        // Fails when the name exists, so nobody can have prepared it.
        parent.make_dir(&name, 0o700)?;
        let dir = parent.open_dir(&RelPath::from(&name), Follow::Never)?;
        Ok(Self { path: path.join(name.as_os_str()), parent, name, dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its own name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Makes a folder in it.
    pub fn folder(&self, name: &str) -> Result<Dir, FilesError> {
        self.dir.make_private_dir(&own_name(name))
    }

    /// Removes it now, and says if that failed.
    pub fn remove(&self) -> Result<(), FilesError> {
        match self.parent.remove_tree(&self.name) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody can be told of a failure here; the name says whose it is.
        let _ = self.remove();
    }
}

/// Writes all of `input` to a new file of this folder and gives its length.
pub fn fill(dir: &Dir, name: &str, mut input: impl Read) -> Result<u64> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // The folder is private; the file's mode is what arrives at the far end.
    let mode = Mode::from_raw_mode(0o644);
    let fd =
        rustix::fs::openat(dir, name, flags, mode).map_err(std::io::Error::from).with_context(
            || format!("cannot create a spool file in {}", files::escape_path(dir.path())),
        )?;
    let mut file = File::from(fd);
    let mut block = vec![0; BLOCK];
    let mut total = 0;
    loop {
        let len = match input.read(&mut block) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read standard input"),
        };
        file.write_all(&block[..len]).with_context(|| {
            format!("cannot write to the spool in {}", files::escape_path(dir.path()))
        })?;
        total += len as u64;
    }
    Ok(total)
}

/// Copies a file of this folder to `output`.
pub fn empty(dir: &Dir, name: &Name, mut output: impl Write) -> Result<()> {
    let file = dir.open_file(&name.into(), Follow::Never)?;
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let len = file.read_at(&mut block, offset)?;
        if len == 0 {
            break;
        }
        output.write_all(&block[..len]).context("cannot write to standard output")?;
        offset += len as u64;
    }
    output.flush().context("cannot write to standard output")
}

/// 16 hex digits that nobody else has chosen.
pub fn random_hex() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
