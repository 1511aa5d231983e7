//! One file on its way in: its data under a passing name, and the map of the chunks that are proven.
//! A chunk counts as present only after its bytes were verified and written; whatever is found again
//! after an interruption is verified again before it counts.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::follow::Follow;
use super::map::{self, MapHeader, Seal};
use super::publish::{self, PublishOptions, Published};
use super::table::{ChunkTable, chunk_offset};
use super::{PartialKey, sweep};
use crate::attributes::Timestamp;
use crate::digest::{CHUNK, ChunkHash, Digest, chunk_len, hash_chunk};
use crate::dir::{Dir, append};
use crate::error::{FilesError, Result};
use crate::file::File;
use crate::path::{Name, RelPath};
use crate::sha256::Sha256;

/// Runs of zeros of this length and alignment become holes.
const BLOCK: usize = 4096;
/// So many chunks begin to be written to the disk together: one call for each would cost more than it brings.
const TOGETHER: u64 = 8;
static ZEROS: [u8; CHUNK as usize] = [0; CHUNK as usize];

/// A partial file, held exclusively until it is dropped or published. Dropped, it stays on disk and
/// [`Staging::partial`](super::Staging::partial) finds it again. Several threads may write chunks of it
/// at once: they hash beside each other and write one after another.
pub struct Partial {
    area: Dir,
    data_name: Name,
    map_name: Name,
    data: File,
    map: File,
    seal: Seal,
    size: u64,
    progress: Mutex<Progress>,
    /// Held by the thread that writes. The kernel lets one write to a file at a time anyway, and those
    /// who wait for it there spin and keep a processor from everybody else.
    turn: Mutex<()>,
    /// The SHA-256 so far, if it is wanted.
    follow: Option<Follow>,
    /// Whether what is written goes to the disk while more arrives.
    early: bool,
    /// Where it will go, for messages.
    shown: PathBuf,
}

/// What changes with each chunk.
struct Progress {
    table: ChunkTable,
    /// How long the map is as far as it is known to be whole.
    map_len: u64,
    /// Whether missing chunks may hold old bytes rather than a hole.
    is_dirty: bool,
    /// Chunks that threads are writing now.
    writing: Vec<u64>,
}

impl Partial {
    /// `None` if the files were published or swept between opening and locking; then try again.
    pub(super) fn open(
        area: &Dir,
        key: &PartialKey,
        shown: PathBuf,
        size: u64,
        mtime: Timestamp,
    ) -> Result<Option<Partial>> {
        let stem = key.stem();
        let (data_name, map_name) = (sweep::data_name(&stem), sweep::map_name(&stem));
        let map = open_own(area, &map_name, OFlags::APPEND, 0o600)?;
        if !map.try_lock()? {
            return Err(FilesError::Busy { path: shown });
        }
        if !is_still_named(area, &map_name, &map)? {
            return Ok(None);
        }
        // The mode is what the umask leaves; the directory around it keeps others out.
        let data = open_own(area, &data_name, OFlags::empty(), 0o666)?.with_path(shown.clone());
        let header = MapHeader { peer: key.peer, path: key.path.clone(), size, mtime };
        let (head, seal) = map::encode_header(&header);
        let mut partial = Partial {
            area: area.clone(),
            data_name,
            map_name,
            data,
            map,
            seal,
            size,
            progress: Mutex::new(Progress {
                table: ChunkTable::new(size),
                map_len: head.len() as u64,
                is_dirty: true,
                writing: Vec::new(),
            }),
            turn: Mutex::new(()),
            follow: None,
            early: false,
            shown,
        };
        if !partial.resume(&head)? {
            partial.start_again(&head)?;
        }
        Ok(Some(partial))
    }

    /// Takes over what the map claims and the data bears out. `false` if the map is another file's,
    /// an older version's, or damaged anywhere but at its end.
    fn resume(&mut self, head: &[u8]) -> Result<bool> {
        let map_size = self.map.attributes()?.size;
        let progress = self.progress.get_mut().unwrap_or_else(PoisonError::into_inner);
        let most = (progress.table.count() * 2 + 1024) * map::RECORD as u64;
        if map_size < progress.map_len
            || map_size - progress.map_len > most
            || self.data.attributes()?.size != self.size
        {
            return Ok(false);
        }
        let mut found = vec![0; head.len()];
        self.map.read_exact_at(&mut found, 0)?;
        if found != head || !progress.read_records(&self.map, &self.seal, self.size, map_size)? {
            return Ok(false);
        }
        if progress.map_len < map_size {
            self.map.set_len(progress.map_len)?;
        }
        let mut buffer = Vec::new();
        for index in 0..progress.table.count() {
            let Some(hash) = progress.table.get(index) else { continue };
            // Bytes that cannot be read are as good as lost; writing them again may well succeed.
            let read = self.data.read_chunk_hashed(self.size, index, &mut buffer);
            if read.is_ok_and(|read| read == hash) {
                continue;
            }
            progress.table.remove(index);
        }
        Ok(true)
    }

    /// The map goes first, so that no record outlives the bytes it speaks of.
    fn start_again(&mut self, head: &[u8]) -> Result<()> {
        let progress = self.progress.get_mut().unwrap_or_else(PoisonError::into_inner);
        progress.table = ChunkTable::new(self.size);
        self.map.set_len(0)?;
        self.data.set_len(0)?;
        self.data.set_len(self.size)?;
        append(&self.map, head)?;
        progress.map_len = head.len() as u64;
        progress.is_dirty = false;
        Ok(())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many chunks the whole file has.
    pub fn chunk_count(&self) -> u64 {
        self.progress().table.count()
    }

    /// The runs of chunks that are still missing, in order.
    pub fn missing(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        self.progress().table.missing().collect::<Vec<_>>().into_iter()
    }

    /// Whether a chunk is there and verified.
    pub fn is_present(&self, index: u64) -> bool {
        self.progress().table.get(index).is_some()
    }

    /// What proves a chunk that is there.
    pub fn chunk_hash(&self, index: u64) -> Option<ChunkHash> {
        self.progress().table.get(index)
    }

    /// How many bytes are there and verified.
    pub fn bytes_present(&self) -> u64 {
        self.progress().table.bytes()
    }

    /// The digest of the whole file once every chunk is there; the caller compares it with what the
    /// sender promised.
    pub fn complete(&self) -> Option<Digest> {
        self.progress().table.digest()
    }

    /// Has the SHA-256 summed up in passing; to be said before anything is written.
    pub fn sum_up(&mut self) {
        self.follow = Some(Follow::new());
    }

    /// Has what is written go to the disk while more arrives, for a file that is to be durable in the end: else most of
    /// it waits in memory until then, and the disk has idled.
    pub fn write_out_early(&mut self) {
        self.early = true;
    }

    /// The SHA-256 of the whole file, once every chunk is there and if it was to be summed up.
    pub fn sha256(&self) -> Result<Option<Sha256>> {
        let count = self.progress().table.count();
        match &self.follow {
            Some(follow) => follow.finish(count, |index, buffer| self.read_standing(index, buffer)),
            None => Ok(None),
        }
    }

    /// Reads a chunk that is there, and makes sure that it is what was proven; false, if it is not there.
    fn read_standing(&self, index: u64, buffer: &mut Vec<u8>) -> Result<bool> {
        let Some(proven) = self.chunk_hash(index) else { return Ok(false) };
        match self.data.read_chunk_hashed(self.size, index, buffer)? == proven {
            true => Ok(true),
            false => Err(FilesError::WrongHash { path: self.shown.clone(), index }),
        }
    }

    /// Verifies a chunk, writes it, and notes it in the map. With `sparse`, blocks of 4 KiB that are
    /// all zeros become holes. A chunk that is there already is not written again;
    /// [`FilesError::Busy`] if another thread writes it at this moment.
    pub fn write_chunk(
        &self,
        index: u64,
        data: &[u8],
        expected: &ChunkHash,
        sparse: bool,
    ) -> Result<()> {
        self.verify(index, data, expected)?;
        self.write_verified(index, data, expected, sparse)
    }

    fn write_verified(
        &self,
        index: u64,
        data: &[u8],
        expected: &ChunkHash,
        sparse: bool,
    ) -> Result<()> {
        let Some(is_dirty) = self.begin(index, expected)? else { return Ok(()) };
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match sparse {
            true => self.write_sparse(index, data, is_dirty),
            false => self.data.write_all_at(data, chunk_offset(index)),
        };
        drop(turn);
        // What arrives out of order may miss it, and waits for the end.
        if self.early && index % TOGETHER == TOGETHER - 1 {
            let first = chunk_offset(index + 1 - TOGETHER);
            self.data.begin_writing_out(first, chunk_offset(index + 1) - first);
        }
        self.note(index, written.map(|()| *expected))?;
        match &self.follow {
            Some(follow) => follow.stands(index, data, |at, buffer| self.read_standing(at, buffer)),
            None => Ok(()),
        }
    }

    /// As [`Partial::write_chunk`], for bytes that were proven in another way, or will be together with the whole file:
    /// hashes them and says what proves the chunk from now on.
    pub fn write_proven(&self, index: u64, data: &[u8], sparse: bool) -> Result<ChunkHash> {
        if chunk_len(self.size, index) != Some(data.len()) {
            let path = self.shown.clone();
            return Err(FilesError::WrongChunk { path, index, len: data.len() });
        }
        let hash = hash_chunk(self.size, index, data);
        self.write_verified(index, data, &hash, sparse)?;
        Ok(hash)
    }

    /// Takes a chunk over from the same place of another file, sharing its blocks where the filesystem can. It is read
    /// back and counts as what is there then; whether that is what was meant is proven together with the whole file.
    /// Nothing is done for a chunk that is there already; [`FilesError::Busy`] if another thread writes it.
    pub fn take_over(&self, index: u64, from: &File) -> Result<()> {
        let Some(len) = chunk_len(self.size, index) else {
            let path = self.shown.clone();
            return Err(FilesError::WrongChunk { path, index, len: 0 });
        };
        let mut progress = self.progress();
        if progress.table.get(index).is_some() {
            return Ok(());
        }
        if progress.writing.contains(&index) {
            return Err(FilesError::Busy { path: self.shown.clone() });
        }
        progress.writing.push(index);
        drop(progress);
        let start = chunk_offset(index);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = publish::copy_range(from, &self.data, start, start + len as u64);
        drop(turn);
        let read = || self.data.read_chunk_hashed(self.size, index, &mut Vec::new());
        self.note(index, copied.and_then(|()| read()))
    }

    /// Notes a chunk of zeros, which is left as a hole.
    pub fn write_zero_chunk(&self, index: u64, expected: &ChunkHash) -> Result<()> {
        let len = chunk_len(self.size, index).unwrap_or(0);
        self.write_chunk(index, &ZEROS[..len], expected, true)
    }

    fn verify(&self, index: u64, data: &[u8], expected: &ChunkHash) -> Result<()> {
        let path = || self.shown.clone();
        if chunk_len(self.size, index) != Some(data.len()) {
            return Err(FilesError::WrongChunk { path: path(), index, len: data.len() });
        }
        if hash_chunk(self.size, index, data) != *expected {
            return Err(FilesError::WrongHash { path: path(), index });
        }
        Ok(())
    }

    /// Claims a verified chunk for writing, and says whether old bytes may be in its place; nothing, if
    /// the chunk is there.
    fn begin(&self, index: u64, expected: &ChunkHash) -> Result<Option<bool>> {
        let mut progress = self.progress();
        match progress.table.get(index) {
            // Whose bytes would stand there in the end nobody could say.
            None if progress.writing.contains(&index) => {
                Err(FilesError::Busy { path: self.shown.clone() })
            }
            None => {
                progress.writing.push(index);
                Ok(Some(progress.is_dirty))
            }
            Some(known) if known == *expected => Ok(None),
            // Both were proven, so the sender tells two stories about one file.
            Some(_) => Err(FilesError::WrongHash { path: self.shown.clone(), index }),
        }
    }

    fn write_sparse(&self, index: u64, data: &[u8], is_dirty: bool) -> Result<()> {
        let offset = chunk_offset(index);
        if is_dirty {
            self.data.clear_range(offset, data.len() as u64)?;
        }
        let is_zero = |block: &[u8]| block == &ZEROS[..block.len()];
        let mut at = 0;
        while at < data.len() {
            let rest = &data[at..];
            let skipped: usize =
                rest.chunks(BLOCK).take_while(|block| is_zero(block)).map(<[u8]>::len).sum();
            let rest = &rest[skipped..];
            let solid: usize =
                rest.chunks(BLOCK).take_while(|block| !is_zero(block)).map(<[u8]>::len).sum();
            self.data.write_all_at(&rest[..solid], offset + (at + skipped) as u64)?;
            at += skipped + solid;
        }
        Ok(())
    }

    /// Adds the record of a chunk that was written. If either failed, the map is cut back to what it
    /// was, so that the next record stands where readers look for it.
    fn note(&self, index: u64, written: Result<ChunkHash>) -> Result<()> {
        let mut progress = self.progress();
        progress.writing.retain(|writing| *writing != index);
        let noted = written.and_then(|hash| {
            append(&self.map, &map::encode_record(&self.seal, index, &hash))?;
            Ok(hash)
        });
        match noted {
            Ok(hash) => {
                progress.map_len += map::RECORD as u64;
                progress.table.insert(index, hash);
                Ok(())
            }
            Err(error) => {
                progress.is_dirty = true;
                // Should this fail too, a torn record in the middle makes the next opening start again.
                let _ = self.map.set_len(progress.map_len);
                Err(error)
            }
        }
    }

    /// Gives the file its attributes and its final name in one step; see [`PublishOptions`].
    ///
    /// On failure the partial file stays for another try, but for a failed sync: then what was staged
    /// cannot be trusted any more and is removed.
    pub fn publish(self, into: &Dir, name: &Name, options: &PublishOptions) -> Result<Published> {
        if !self.progress().table.is_complete() {
            return Err(FilesError::Incomplete { path: self.shown });
        }
        publish::refuse_directory(into, name)?;
        let staged = (&self.area, &self.data_name);
        let result = publish::publish(&self.data, staged, into, name, options);
        match &result {
            // The file has its name now, so leftovers are no failure; a sweep finds them.
            Ok(published) => {
                if published.was_copied {
                    let _ = self.area.unlink(&self.data_name);
                }
                let _ = self.area.unlink(&self.map_name);
            }
            // The map goes first: without it, nothing is ever taken over from the data.
            Err(FilesError::Sync { .. }) => {
                let _ = self.area.unlink(&self.map_name);
                let _ = self.area.unlink(&self.data_name);
            }
            Err(_) => {}
        }
        result
    }

    /// Removes the partial file for good.
    pub fn discard(self) -> Result<()> {
        self.area.unlink(&self.map_name)?;
        self.area.unlink(&self.data_name)
    }
}

impl Progress {
    /// Reads the records into the table and finds where the whole ones end.
    fn read_records(&mut self, map: &File, seal: &Seal, size: u64, map_size: u64) -> Result<bool> {
        let mut buffer = vec![0; map::RECORD * 1024];
        while self.map_len + map::RECORD as u64 <= map_size {
            let rest = (map_size - self.map_len) as usize / map::RECORD * map::RECORD;
            let block = &mut buffer[..rest.min(map::RECORD * 1024)];
            map.read_exact_at(block, self.map_len)?;
            for bytes in block.chunks_exact(map::RECORD) {
                match map::decode_record(bytes, seal, size) {
                    Some((index, hash)) => self.table.insert(index, hash),
                    None => return Ok(self.map_len + map::RECORD as u64 == map_size),
                }
                self.map_len += map::RECORD as u64;
            }
        }
        Ok(true)
    }
}

/// Opens a file of our own in the staging directory. Whatever else has its name is removed: a link, a
/// file that has another name too, one that we may not write.
fn open_own(area: &Dir, name: &Name, flags: OFlags, mode: u32) -> Result<File> {
    match area.create_file(name, flags, mode) {
        Ok(file) if file.attributes()?.links <= 1 => return Ok(file),
        Err(error) if !is_foreign(&error) => return Err(error),
        Ok(_) | Err(_) => area.remove_tree(name)?,
    }
    area.create_file(name, flags, mode)
}

/// Whether opening failed because of what has the name, rather than because of the system.
fn is_foreign(error: &FilesError) -> bool {
    let errno = error.errno();
    matches!(error, FilesError::NotAFile { .. })
        || matches!(errno, Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS))
}

/// Whether the name still means the file that was opened.
pub(super) fn is_still_named(area: &Dir, name: &Name, file: &File) -> Result<bool> {
    match area.attributes_of(&RelPath::from(name)) {
        Ok(named) => Ok(named.is_same_inode(&file.attributes()?)),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
