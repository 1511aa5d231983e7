//! Files that a program keeps for itself: keys, lists of known peers, resume notes, databases. They are
//! readable by their owner alone; the small ones are read whole under a cap and replaced in one durable
//! step.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::{Dir, Follow, Replace, TEMPORARY_PREFIX, Temporary};
use crate::error::{Action, FilesError, Result};
use crate::file::File;
use crate::path::{Name, RelPath};

impl Dir {
    /// Opens a directory that the local user or operator named, making it and its parents if missing.
    /// `mode` is for those that are made; the umask is taken off it.
    pub fn create_ambient(path: &Path, mode: u32) -> Result<Dir> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode & 0o7777)
            .create(path)
            .map_err(|error| FilesError::io(Action::MakeDirectory, path, error))?;
        Dir::open_ambient(path)
    }

    /// Reads a whole file of at most `max` bytes; links beneath this directory are followed.
    pub fn read_small(&self, path: &RelPath, max: u64) -> Result<Vec<u8>> {
        self.open_file(path, Follow::Beneath)?.read_whole(max)
    }

    /// Replaces or makes a file of mode 0600 in one step that survives a power cut: a reader sees the
    /// old content or the new, never a part.
    pub fn write_private(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        self.write_whole(name, bytes, 0o600)
    }

    /// As [`Dir::write_private`], for a file that others may read: the umask is taken off `mode`.
    pub fn write_whole(&self, name: &Name, bytes: &[u8], mode: u32) -> Result<()> {
        let shown = self.join_for_message(&RelPath::from(name));
        let mut temporary = Temporary::new(self, TEMPORARY_PREFIX, "", mode, shown)?;
        temporary.file().write_all_at(bytes, 0)?;
        temporary.file().sync()?;
        temporary.place(self, name, Replace::Yes)?;
        self.sync()
    }

    /// Appends one line to a file, which is made with mode 0600 if missing, and brings it to disk.
    /// `line` comes without its end and must hold none. If an earlier append was cut short, the new
    /// line still begins at the margin.
    pub fn append_line(&self, name: &Name, line: &[u8]) -> Result<()> {
        if line.contains(&b'\n') {
            return Err(self.error_in(Action::Write, name, rustix::io::Errno::INVAL));
        }
        let file = self.create_file(name, OFlags::APPEND, 0o600)?;
        let size = file.attributes()?.size;
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        let margin: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
        append(&file, &[margin, line, b"\n"].concat())?;
        file.sync()?;
        if size == 0 { self.sync() } else { Ok(()) }
    }

    /// Opens a regular file of this directory for reading and writing, for a library that keeps a
    /// database in it; made with mode 0600 if missing. No link is followed.
    pub fn open_private(&self, name: &Name) -> Result<File> {
        self.create_file(name, OFlags::empty(), 0o600)
    }

    /// Makes a file that is not there yet, for reading and writing; the umask is taken off `mode`.
    pub fn make_file(&self, name: &Name, mode: u32) -> Result<File> {
        self.create_file(name, OFlags::EXCL, mode)
    }

    /// Makes or opens a directory of mode 0700; the mode of one that exists is set
    /// again, which fails if it is somebody else's.
    pub fn make_private_dir(&self, name: &Name) -> Result<Dir> {
        match self.make_dir(name, 0o700) {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
        let dir = self.open_dir(&RelPath::from(name), Follow::Never)?;
        if dir.attributes()?.mode & 0o7777 != 0o700 {
            dir.set_own_mode(0o700)?;
        }
        Ok(dir)
    }
}

/// One `write` to a file opened for appending; a short write counts as a failure.
pub(crate) fn append(file: &File, bytes: &[u8]) -> Result<()> {
    let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))
        .map_err(|error| file.error(Action::Write, error))?;
    match written == bytes.len() {
        true => Ok(()),
        false => Err(file.error(Action::Write, rustix::io::Errno::NOSPC)),
    }
}
