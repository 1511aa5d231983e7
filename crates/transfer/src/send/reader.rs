//! The source's disk: opens, reads and hashes what the machine asks for, on threads that may block. A file
//! is compared with what the walk saw when its last byte was read, and a large one also when it is opened;
//! one that looks different has changed, and its bytes are not vouched for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use files::{
    Attributes, CHUNK, ChunkHash, Digest, Dir, File, FilesError, Follow, RelPath, chunk_len,
    hash_chunk,
};

use crate::buffers::Buffers;
use crate::compress::Packer;
use crate::delta::{self, Basis};
use crate::message::{BundleItem, ParcelHead, ZERO_COST};
use crate::source::{Failure, Job, JobResult, ReadItem};

/// A parcel that is ready to be sent.
pub(crate) type Payload = (ParcelHead, Bytes);

/// Files of the sources, by descriptors below the handles that the walk uses too.
pub(crate) struct Reader {
    /// One for each source; empty until its walk has begun.
    roots: Mutex<Vec<Option<Dir>>>,
    open: Mutex<HashMap<u64, Arc<File>>>,
    buffers: Arc<Buffers>,
    /// Makes payload smaller when the link is what everything waits for.
    packer: Packer,
    /// What is hashed whole is read from the disk, not from what the system has of it in memory.
    reread: bool,
}

/// The folder of the file before: most files of a bundle share it.
struct Nearest {
    source: usize,
    path: RelPath,
    folder: Dir,
}

impl Reader {
    pub(crate) fn new(sources: usize, reread: bool) -> Self {
        Self {
            roots: Mutex::new(vec![None; sources]),
            open: Mutex::default(),
            buffers: Arc::default(),
            packer: Packer::default(),
            reread,
        }
    }

    /// How hard payload is compressed from now on: see [`Packer::set_effort`].
    pub(crate) fn set_effort(&self, effort: usize) {
        self.packer.set_effort(effort);
    }

    /// The folder that paths of this source are relative to.
    pub(crate) fn set_root(&self, source: usize, root: Dir) {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = roots.get_mut(source) {
            *place = Some(root);
        }
    }

    /// Closes a large file.
    pub(crate) fn forget(&self, index: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }

    /// Lets go of memory that is not needed; to be called now and then.
    pub(crate) fn trim(&self) {
        self.buffers.trim();
    }

    /// Does a job.
    pub(crate) fn read(&self, job: &Job) -> (JobResult, Option<Payload>) {
        match job {
            Job::Bundle { items, epoch } => self.packed(self.bundle(items, *epoch)),
            Job::Chunk { read, chunk, send, older, epoch } => {
                let (result, payload) = self.one_chunk(read, *chunk, *send, *epoch);
                let payload = payload.map(|payload| match older {
                    Some(older) => self.patch(read, older, payload),
                    None => payload,
                });
                self.packed((result, payload))
            }
            Job::Early { read, epoch } => {
                let (result, payload) = match read.attributes.size <= CHUNK {
                    true => self.bundle(std::slice::from_ref(read), *epoch),
                    false => self.one_chunk(read, 0, true, *epoch),
                };
                (result, payload.map(|(head, body)| (early(head), body)))
            }
            Job::Close { read, epoch } => {
                let result = self.opened(read).and_then(|file| unchanged(&file, read));
                self.forget(read.index);
                match result {
                    Ok(()) => (JobResult::Closed { index: read.index, epoch: *epoch }, None),
                    Err(failure) => self.failed(read, failure, 0, *epoch),
                }
            }
            Job::Compare { read, have, epoch } => match self.digest(read) {
                Ok(digest) => {
                    let (index, same) = (read.index, Some(digest) == *have);
                    (JobResult::Compared { index, same, digest, epoch: *epoch }, None)
                }
                Err(failure) => self.failed(read, failure, 0, *epoch),
            },
        }
    }

    /// A chunk as a patch of what the target has, if that is shorter. Whether the file is still what it was is looked
    /// at in the end, as for all chunks.
    fn patch(&self, item: &ReadItem, older: &Basis, payload: Payload) -> Payload {
        let (ParcelHead::Chunk { index, chunk, hash }, body) = &payload else { return payload };
        let size = item.attributes.size;
        let start = chunk * CHUNK;
        let part = start..start + body.len() as u64;
        let span = older.span(&part, size);
        let mut bytes = vec![0; (span.end - span.start) as usize];
        let at = |place: u64| (place - span.start) as usize;
        let read = self.opened(item).is_ok_and(|file| {
            bytes[at(part.start)..at(part.end)].copy_from_slice(body);
            let (before, rest) = bytes.split_at_mut(at(part.start));
            let behind = &mut rest[body.len()..];
            file.read_exact_at(before, span.start).is_ok()
                && file.read_exact_at(behind, part.end).is_ok()
        });
        let ops = if read { older.ops(&bytes, &part, size) } else { None };
        let Some(ops) = ops else { return payload };
        let body = Bytes::from(delta::literals(&ops, body));
        (ParcelHead::Patch { index: *index, chunk: *chunk, hash: *hash, ops }, body)
    }

    fn packed(&self, done: (JobResult, Option<Payload>)) -> (JobResult, Option<Payload>) {
        let (result, payload) = done;
        (result, payload.map(|(head, body)| self.packer.pack(head, body, &self.buffers)))
    }

    /// How a file looks now.
    pub(crate) fn look(&self, item: &ReadItem) -> Result<Attributes, String> {
        let root = self.root(item.place.source).map_err(|failure| failure.reason)?;
        let file = root.open_file(&item.place.path, Follow::Never);
        file.and_then(|file| file.attributes()).map_err(|error| crate::words(&error))
    }

    fn failed(
        &self,
        read: &ReadItem,
        failure: Failure,
        unsent: u64,
        epoch: u64,
    ) -> (JobResult, Option<Payload>) {
        self.forget(read.index);
        (JobResult::Failed { index: read.index, failure, unsent, epoch }, None)
    }

    fn one_chunk(
        &self,
        read: &ReadItem,
        chunk: u64,
        send: bool,
        epoch: u64,
    ) -> (JobResult, Option<Payload>) {
        match self.chunk(read, chunk, send) {
            Ok((hash, payload)) => {
                let sent = payload.as_ref().map_or(0, |(head, body)| head.cost(body.len() as u64));
                let unsent = to_send(read, chunk, send) - sent;
                (JobResult::Chunk { index: read.index, chunk, hash, unsent, epoch }, payload)
            }
            Err(failure) => self.failed(read, failure, to_send(read, chunk, send), epoch),
        }
    }

    fn bundle(&self, items: &[ReadItem], epoch: u64) -> (JobResult, Option<Payload>) {
        let total: u64 = items.iter().map(|item| item.attributes.size).sum();
        let mut body = self.buffers.take(total.min(CHUNK) as usize);
        body.resize(total.min(CHUNK) as usize, 0);
        let mut end = 0;
        let (mut head, mut read, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let mut nearest = None;
        for item in items {
            let len = item.attributes.size;
            let Some(place) = body.get_mut(end..end + len as usize) else {
                failed.push((item.index, gone("it does not fit its bundle".to_owned())));
                continue;
            };
            match self.whole(item, &mut nearest, place) {
                Ok(hash) => {
                    end += len as usize;
                    head.push(BundleItem { index: item.index, len, hash });
                    read.push((item.index, hash, len));
                }
                Err(failure) => failed.push((item.index, failure)),
            }
        }
        body.truncate(end);
        let unsent = total - body.len() as u64;
        let body = self.buffers.lend(body);
        let payload = (!head.is_empty()).then_some((ParcelHead::Bundle(head), body));
        (JobResult::Bundle { read, failed, unsent, epoch }, payload)
    }

    /// Reads and hashes a small file. That it is still as it was offered is looked at once it is
    /// read, which sees what happened before as well.
    fn whole(
        &self,
        item: &ReadItem,
        nearest: &mut Option<Nearest>,
        place: &mut [u8],
    ) -> Result<ChunkHash, Failure> {
        let file = self.open_near(item, nearest)?;
        file.read_exact_at(place, 0).map_err(|error| reread(&file, &error))?;
        unchanged(&file, item)?;
        Ok(hash_chunk(place.len() as u64, 0, place))
    }

    fn chunk(
        &self,
        item: &ReadItem,
        chunk: u64,
        send: bool,
    ) -> Result<(ChunkHash, Option<Payload>), Failure> {
        let file = self.opened(item)?;
        let size = item.attributes.size;
        let len = chunk_len(size, chunk).unwrap_or(0) as u64;
        let start = chunk * CHUNK;
        let index = item.index;
        if item.attributes.is_sparse() && len >= ZERO_COST {
            let data = file.next_data(start).map_err(|error| reread(&file, &error))?;
            if data.is_none_or(|data| data >= start + len) {
                let hash = hash_chunk(size, chunk, &vec![0; len as usize]);
                let head = ParcelHead::Zeros { index, first: chunk, count: 1 };
                return Ok((hash, send.then(|| (head, Bytes::new()))));
            }
        }
        let mut data = self.buffers.take(len as usize);
        let hash = file.read_chunk_hashed(size, chunk, &mut data);
        let data = self.buffers.lend(data);
        let hash = hash.map_err(|error| reread(&file, &error))?;
        let head = ParcelHead::Chunk { index, chunk, hash };
        Ok((hash, send.then_some((head, data))))
    }

    fn digest(&self, item: &ReadItem) -> Result<Digest, Failure> {
        let file = self.open_unchanged(item)?;
        if self.reread {
            file.forget_cached().map_err(|error| gone(crate::words(&error)))?;
        }
        let digest = file.digest().map_err(|error| reread(&file, &error))?;
        unchanged(&file, item)?;
        Ok(digest)
    }

    /// A large file stays open between its chunks, so that all of them are of one file.
    fn opened(&self, item: &ReadItem) -> Result<Arc<File>, Failure> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().get(&item.index) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.open_unchanged(item)?);
        Ok(lock().entry(item.index).or_insert(file).clone())
    }

    fn open_unchanged(&self, item: &ReadItem) -> Result<File, Failure> {
        let file = self
            .root(item.place.source)?
            .open_file(&item.place.path, Follow::Never)
            .map_err(|error| gone(crate::words(&error)))?;
        unchanged(&file, item)?;
        Ok(file)
    }

    /// Opens a file by its last name where the folder of the file before is its own.
    fn open_near(&self, item: &ReadItem, nearest: &mut Option<Nearest>) -> Result<File, Failure> {
        let (source, path) = (item.place.source, &item.place.path);
        let fail = |error: FilesError| gone(crate::words(&error));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(gone("it has no name".to_owned()));
        };
        let near = match nearest.take() {
            Some(near) if near.source == source && near.path == parent => near,
            _ => {
                let folder = self.root(source)?.open_dir(&parent, Follow::Never).map_err(fail)?;
                Nearest { source, path: parent, folder }
            }
        };
        let Nearest { folder, .. } = nearest.insert(near);
        folder.open_file(&RelPath::from(name), Follow::Never).map_err(fail)
    }

    fn root(&self, source: usize) -> Result<Dir, Failure> {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let root = roots.get(source).cloned().flatten();
        root.ok_or_else(|| gone("its source is not open".to_owned()))
    }
}

/// A file that cannot be opened, or read from its disk.
fn gone(reason: String) -> Failure {
    Failure { reason, changed_to: None }
}

/// The head for the same content when nobody has asked for it.
fn early(head: ParcelHead) -> ParcelHead {
    match &head {
        ParcelHead::Chunk { index, hash, .. } => ParcelHead::Early { index: *index, hash: *hash },
        ParcelHead::Bundle(items) => match items.first() {
            Some(item) => ParcelHead::Early { index: item.index, hash: item.hash },
            None => head,
        },
        _ => head,
    }
}

/// The payload that a chunk's job was given credit for.
fn to_send(item: &ReadItem, chunk: u64, send: bool) -> u64 {
    let len = chunk_len(item.attributes.size, chunk).unwrap_or(0);
    if send { len as u64 } else { 0 }
}

fn unchanged(file: &File, item: &ReadItem) -> Result<(), Failure> {
    let now = file
        .attributes()
        .map_err(|error| Failure { reason: crate::words(&error), changed_to: None })?;
    if now.unchanged_since(&item.attributes) {
        return Ok(());
    }
    Err(Failure { reason: "it changed while it was read".to_owned(), changed_to: Some(now) })
}

/// A read that failed: either the file changed under it, and can be tried again, or the disk failed.
fn reread(file: &File, error: &FilesError) -> Failure {
    let changed = matches!(error, FilesError::ChangedWhileRead { .. });
    Failure { reason: crate::words(error), changed_to: file.attributes().ok().filter(|_| changed) }
}
