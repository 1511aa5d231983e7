//! An open regular file. It remembers the path it was opened by for the sake of messages only; every
//! call goes to the descriptor. Reading is by offset, so one handle serves several threads.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, CWD, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::attributes::{Attributes, Kind, Timestamp};
use crate::digest::{ChunkHash, ChunkHasher, Digest, chunk_len, hash_chunk};
use crate::error::{Action, FilesError, Result};
use crate::metadata;
use crate::sha256::{RunningSha256, Sha256};

/// What is hashed in one go after it was read: a part of the smallest second-level caches, and enough
/// for the widest vector units.
const PIECE: usize = 128 << 10;

/// An open regular file.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    path: PathBuf,
}

impl File {
    /// Opens a file that the local user or operator named for reading, following links as any
    /// program does; the file's counterpart of `Dir::open_ambient`.
    pub fn open_ambient(path: &Path) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|error| FilesError::io(Action::Open, path, error))?;
        File::regular(fd, path.to_owned())
    }

    /// Wraps a descriptor after making sure that it is a regular file.
    pub(crate) fn regular(fd: OwnedFd, path: PathBuf) -> Result<File> {
        let file = File::made(fd, path);
        match file.attributes()?.kind {
            Kind::File => Ok(file),
            kind => Err(FilesError::NotAFile { path: file.path, kind }),
        }
    }

    /// Wraps a descriptor that is known to be a regular file.
    pub(crate) fn made(fd: OwnedFd, path: PathBuf) -> File {
        File { file: fd.into(), path }
    }

    /// The same file under another path for messages.
    pub(crate) fn with_path(self, path: PathBuf) -> File {
        File { path, ..self }
    }

    /// The path it was opened by, for messages; it may have been renamed since.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its attributes now.
    pub fn attributes(&self) -> Result<Attributes> {
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|error| self.error(Action::ReadAttributes, error))?;
        Ok(Attributes::from_stat(&stat))
    }

    /// Reads at an offset; 0 bytes mean the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| self.error(Action::Read, error)),
            }
        }
    }

    /// Fills the whole buffer; a file that ends before is [`FilesError::ChangedWhileRead`].
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        match self.file.read_exact_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(FilesError::ChangedWhileRead { path: self.path.clone() })
            }
            result => result.map_err(|error| self.error(Action::Read, error)),
        }
    }

    /// Reads one chunk of a file that had `file_size` bytes when it was offered, replacing what the
    /// buffer held. No bytes at all beyond the end.
    pub fn read_chunk(&self, file_size: u64, index: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let len = chunk_len(file_size, index).unwrap_or(0);
        self.append_exact_at(buffer, len, index * crate::digest::CHUNK)
    }

    /// As [`File::read_chunk`], and hashes the chunk on the way, piece by piece while each is in the
    /// processor's cache. A buffer that was as long before is not touched twice.
    pub fn read_chunk_hashed(
        &self,
        file_size: u64,
        index: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<ChunkHash> {
        let mut offset = index * crate::digest::CHUNK;
        let mut hasher = ChunkHasher::new(file_size, index);
        buffer.resize(chunk_len(file_size, index).unwrap_or(0), 0);
        if buffer.is_empty() {
            // The empty file, or no chunk of this one: nothing is to be read.
            return Ok(hash_chunk(file_size, index, buffer));
        }
        for piece in buffer.chunks_mut(PIECE) {
            self.read_exact_at(piece, offset)?;
            hasher.update(piece);
            offset += piece.len() as u64;
        }
        Ok(hasher.finish())
    }

    /// Replaces what the buffer held by `len` bytes of the file. They are read into memory that was not
    /// zeroed first: for a large file that would cost as much as a tenth of all else.
    fn append_exact_at(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<()> {
        buffer.clear();
        buffer.reserve_exact(len);
        while buffer.len() < len {
            let at = offset + buffer.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(buffer), at) {
                Ok(0) => return Err(FilesError::ChangedWhileRead { path: self.path.clone() }),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.error(Action::Read, error)),
            }
        }
        // There may have been more room than was asked for, and more in the file.
        buffer.truncate(len);
        Ok(())
    }

    /// Reads the whole content, at most `max` bytes of it. The size is only a hint for the buffer.
    pub fn read_whole(&self, max: u64) -> Result<Vec<u8>> {
        let too_large = || FilesError::TooLarge { path: self.path.clone(), limit: max };
        let size = self.attributes()?.size;
        if size > max {
            return Err(too_large());
        }
        // One byte more than expected shows the end without another turn.
        let mut bytes = vec![0; size as usize + 1];
        let mut len = 0;
        loop {
            match self.read_at(&mut bytes[len..], len as u64)? {
                0 => break,
                more => len += more,
            }
            if len as u64 > max {
                return Err(too_large());
            }
            if len == bytes.len() {
                bytes.resize(len + 4096, 0);
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Hashes the content from the beginning to the end, in bounded memory.
    pub fn digest(&self) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        self.read_through(|piece| {
            hasher.update(piece);
        })?;
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Both digests of the content, in one pass.
    pub fn digests(&self) -> Result<(Digest, Sha256)> {
        let (mut hasher, mut sum) = (blake3::Hasher::new(), RunningSha256::new());
        self.read_through(|piece| {
            hasher.update(piece);
            sum.update(piece);
        })?;
        Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), sum.finish()))
    }

    fn read_through(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; 1 << 18];
        let mut offset = 0;
        loop {
            match self.read_at(&mut buffer, offset)? {
                0 => return Ok(()),
                len => {
                    take(&buffer[..len]);
                    offset += len as u64;
                }
            }
        }
    }

    /// Where the next data begins at or after `offset`; `None` if only a hole follows. A filesystem
    /// that knows no holes says `offset` itself.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(self.error(Action::Read, error)),
        }
    }

    /// Where the data that holds `offset` ends.
    pub(crate) fn next_hole(&self, offset: u64, file_size: u64) -> Result<u64> {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
            Ok(at) => Ok(at),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(file_size),
            Err(error) => Err(self.error(Action::Read, error)),
        }
    }

    /// Sets the permission bits, `0o7777` at most.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.file, metadata::mode(mode))
            .map_err(|error| self.error(Action::SetMode, error))
    }

    /// Sets the modification time and leaves the access time.
    pub fn set_times(&self, mtime: Timestamp) -> Result<()> {
        metadata::set_times(self.file.as_fd(), mtime)
            .map_err(|error| self.error(Action::SetTimes, error))
    }

    /// Sets owner and group. The kernel clears setuid and setgid on the way.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        metadata::set_owner(self.file.as_fd(), uid, gid)
            .map_err(|error| self.error(Action::SetOwner, error))
    }

    /// One extended attribute, if it exists.
    pub fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        metadata::xattr(self.file.as_fd(), name)
            .map_err(|error| self.error(Action::ReadXattrs, error))
    }

    /// The names of all extended attributes, in the system's order.
    pub fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        metadata::xattr_names(self.file.as_fd())
            .map_err(|error| self.error(Action::ReadXattrs, error))
    }

    /// Sets one extended attribute.
    pub fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<()> {
        metadata::set_xattr(self.file.as_fd(), name, value)
            .map_err(|error| self.error(Action::SetXattr, error))
    }

    /// Brings content and attributes to stable storage. A failure is final: the pages are marked
    /// clean, a second call would lie, and the file has to be written anew from its source.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.file)
            .map_err(|error| FilesError::Sync { path: self.path.clone(), source: error.into() })
    }

    /// Has the system write what of the content is not on the disk yet, and forget what it has of it in memory, so
    /// that the next reading asks the disk. The latter is a wish: where it is not granted, as for a file that somebody has
    /// mapped, or on tmpfs, memory answers as before; and a disk may answer from a cache of its own. The former must
    /// work, and its failure is as final as that of [`File::sync`].
    pub fn forget_cached(&self) -> Result<()> {
        match rustix::fs::fdatasync(&self.file) {
            // A filesystem for reading only has nothing to write, and may not know how.
            Ok(()) | Err(Errno::INVAL | Errno::ROFS) => {}
            Err(error) => {
                let (path, source) = (self.path.clone(), error.into());
                return Err(FilesError::Sync { path, source });
            }
        }
        // No length means all of it.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }

    /// Has the kernel begin to write a range that was just written to the disk, and does not wait for it: a
    /// [`File::sync`] at the end finds little left to do. It is a wish; whether all of it is on the disk, and what went
    /// wrong meanwhile, says that sync.
    pub fn begin_writing_out(&self, offset: u64, len: u64) {
        // There is no call for this alone. This one begins to write what is dirty and then forgets what is not, of
        // which a range that was just written has nothing.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed);
    }

    /// Writes all of `data` at an offset, of a file that was opened for writing.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(|error| self.error(Action::Write, error))
    }

    /// Makes it this long.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.error(Action::Write, error))
    }

    /// Makes a range read as zeros, as a hole where the filesystem can, in blocks of zeros elsewhere.
    pub(crate) fn clear_range(&self, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, punch, offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let zeros = [0; 65_536];
                let mut done = 0;
                while done < len {
                    let step = (len - done).min(zeros.len() as u64);
                    self.write_all_at(&zeros[..step as usize], offset + done)?;
                    done += step;
                }
                Ok(())
            }
            Err(error) => Err(self.error(Action::Write, error)),
        }
    }

    /// Takes the file's lock without waiting; `false` if somebody else, also in this process, holds it.
    /// The lock goes when the last copy of the descriptor is closed.
    pub fn try_lock(&self) -> Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(self.error(Action::Lock, error)),
        }
    }

    pub(crate) fn error(&self, action: Action, source: impl Into<io::Error>) -> FilesError {
        FilesError::io(action, &self.path, source)
    }
}

impl From<File> for std::fs::File {
    /// For libraries that work on an open file; what they do with it names no path in its errors.
    fn from(file: File) -> std::fs::File {
        file.file
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
