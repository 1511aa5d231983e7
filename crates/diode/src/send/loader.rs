//! Brings the content of objects from the disk into the outbox, block by block, with their repair symbols. A file that is
//! not what it was when the scan saw it is given up: the next scan sees it anew.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use files::{ChunkHash, Dir, File, FilesError, Follow, RelPath, file_digest, hash_chunk};
use thiserror::Error;
use tree::Stamp;

use crate::block::{BLOCK, Coder, Layout};
use crate::frame::Class;
use crate::send::outbox::{Closed, OutBlock, Outbox};
use crate::symbol::{ObjectKind, SymbolHead};

/// Cuts objects into blocks and puts these into the outbox.
#[derive(Debug)]
pub(crate) struct Cutter {
    pub(crate) outbox: Arc<Outbox>,
    /// Bytes of a symbol.
    pub(crate) symbol: usize,
    /// Repair symbols for each source symbol.
    pub(crate) repair: f64,
    pub(crate) coder: Coder,
}

impl Cutter {
    /// Another one with memory of its own, for another thread.
    pub(crate) fn another(&self) -> Self {
        Self { outbox: self.outbox.clone(), coder: Coder::default(), ..*self }
    }

    /// Puts a block into the outbox, when there is room.
    fn block(&mut self, class: Class, head: SymbolHead, source: Vec<u8>) -> Result<(), Closed> {
        let layout = Layout::new(source.len(), self.symbol)
            .expect("a block has bytes, and lines even symbols");
        let mut repair = self.outbox.repair_buffer();
        self.coder.repair(layout, &source, layout.repair_to_send(self.repair), &mut repair);
        self.outbox.block(OutBlock { class, head, layout, source, repair })
    }

    /// Puts all blocks of an object into the outbox.
    pub(crate) fn object(
        &mut self,
        object: u64,
        kind: ObjectKind,
        bytes: &[u8],
        class: Class,
    ) -> Result<(), Closed> {
        for (block, piece) in bytes.chunks(BLOCK).enumerate() {
            let mut buffer = self.outbox.buffer();
            buffer.extend_from_slice(piece);
            self.block(class, head(object, bytes.len() as u64, block as u64, kind), buffer)?;
        }
        Ok(())
    }
}

/// What is to be brought.
#[derive(Debug)]
pub(crate) enum Job {
    /// A large file that has not gone out before; its digest is found on the way.
    First { object: u64, path: RelPath, stamp: Stamp, class: Class },
    /// What is in memory.
    Bytes { object: u64, kind: ObjectKind, bytes: Vec<u8>, class: Class },
    /// An object from the files in it, or some blocks of it.
    Again { object: u64, length: u64, files: Vec<Part>, blocks: Vec<Range<u64>>, class: Class },
}

/// A file in an object, as it was when it was told.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) path: RelPath,
    pub(crate) size: u64,
    pub(crate) stamp: Stamp,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// All blocks of a large file are in the outbox.
    First { object: u64, path: RelPath, stamp: Stamp, digest: [u8; 32] },
    /// Nothing more of this object comes.
    Failed { object: u64, path: RelPath, is_first: bool, error: LoadError },
}

/// Why a file cannot be brought.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The disk says so.
    #[error(transparent)]
    Disk(#[from] FilesError),
    /// It is another than the scan saw, or changed while it was read.
    #[error("it changed while it was being sent")]
    Changed,
    /// The sender ends.
    #[error("the sender was stopped")]
    Stopped,
}

impl From<Closed> for LoadError {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

/// One thread of those that load.
pub(crate) struct Loader {
    pub(crate) root: Dir,
    pub(crate) cutter: Cutter,
    pub(crate) results: Sender<Loaded>,
}

impl Loader {
    /// Does jobs until there will be none any more.
    pub(crate) fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let result = match job {
                Job::First { object, path, stamp, class } => {
                    Some(match self.first(object, &path, &stamp, class) {
                        Ok(digest) => Loaded::First { object, path, stamp, digest },
                        Err(error) => Loaded::Failed { object, path, is_first: true, error },
                    })
                }
                Job::Bytes { object, kind, bytes, class } => {
                    // It fails only at the end of all.
                    let _ = self.cutter.object(object, kind, &bytes, class);
                    None
                }
                Job::Again { object, length, files, blocks, class } => {
                    let result = self.again(object, length, &files, &blocks, class);
                    let path = files.first().map_or_else(RelPath::root, |file| file.path.clone());
                    result.err().map(|error| Loaded::Failed {
                        object,
                        path,
                        is_first: false,
                        error,
                    })
                }
            };
            if let Some(result) = result
                && self.results.send(result).is_err()
            {
                return;
            }
        }
    }

    fn first(
        &mut self,
        object: u64,
        path: &RelPath,
        stamp: &Stamp,
        class: Class,
    ) -> Result<[u8; 32], LoadError> {
        let file = self.root.open_file(path, Follow::Never)?;
        let length = stamp.size;
        if Stamp::from(&file.attributes()?) != *stamp {
            return Err(LoadError::Changed);
        }
        let mut hashes: Vec<ChunkHash> = Vec::new();
        for block in 0..length.div_ceil(BLOCK as u64) {
            let mut buffer = self.cutter.outbox.buffer();
            read_block(&file, length, block, &mut buffer)?;
            hashes.push(hash_chunk(length, block, &buffer));
            let head = head(object, length, block, ObjectKind::Content);
            self.cutter.block(class, head, buffer)?;
        }
        if Stamp::from(&file.attributes()?) != *stamp {
            return Err(LoadError::Changed);
        }
        let digest = file_digest(length, &hashes).ok_or(LoadError::Changed)?;
        Ok(*digest.as_bytes())
    }

    fn again(
        &mut self,
        object: u64,
        length: u64,
        parts: &[Part],
        blocks: &[Range<u64>],
        class: Class,
    ) -> Result<(), LoadError> {
        let root = self.root.clone();
        let open = |part: &Part| -> Result<File, LoadError> {
            let file = root.open_file(&part.path, Follow::Never)?;
            let is_same = part.stamp.is_content_of(&file.attributes()?);
            if is_same { Ok(file) } else { Err(LoadError::Changed) }
        };
        let kind = ObjectKind::Content;
        if let [part] = parts {
            let file = open(part)?;
            for block in blocks.iter().flat_map(Clone::clone) {
                let mut buffer = self.cutter.outbox.buffer();
                read_block(&file, length, block, &mut buffer)?;
                // Each time, so that no receiver is given two contents for one object without need.
                if !part.stamp.is_content_of(&file.attributes()?) {
                    return Err(LoadError::Changed);
                }
                let head = head(object, length, block, kind);
                self.cutter.block(class, head, buffer)?;
            }
            return Ok(());
        }
        // Several files are one block.
        let mut bytes = self.cutter.outbox.buffer();
        for part in parts {
            let file = open(part)?;
            let content = file.read_whole(part.size)?;
            if content.len() as u64 != part.size || !part.stamp.is_content_of(&file.attributes()?) {
                return Err(LoadError::Changed);
            }
            bytes.extend_from_slice(&content);
        }
        if bytes.len() as u64 != length {
            return Err(LoadError::Changed);
        }
        Ok(self.cutter.object(object, kind, &bytes, class)?)
    }
}

/// Reads a block that is not of one of several files.
fn read_block(file: &File, length: u64, block: u64, buffer: &mut Vec<u8>) -> Result<(), LoadError> {
    file.read_chunk(length, block, buffer).map_err(|error| match error {
        FilesError::ChangedWhileRead { .. } => LoadError::Changed,
        error => LoadError::Disk(error),
    })
}

fn head(object: u64, length: u64, block: u64, kind: ObjectKind) -> SymbolHead {
    SymbolHead { object, length, block: block as u32, symbol: 0, kind }
}
