//! What a source's shell is asked to read, and what comes back. Descriptions only: the bytes that were
//! read stay in the shell and go from there to the link.

use std::sync::Arc;

use files::{Attributes, CHUNK, ChunkHash, Digest, chunk_len};

use super::Place;
use crate::delta::Basis;

/// A file to be read, and how it looked when it was offered.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadItem {
    /// The entry.
    pub index: u64,
    /// Where it is.
    pub place: Place,
    /// What the walk saw; a file that looks different by now has changed.
    pub attributes: Attributes,
}

impl ReadItem {
    pub(super) fn of(index: u64, place: Place, attributes: &Attributes) -> Self {
        Self { index, place, attributes: *attributes }
    }
}

/// Something to read. The epoch goes back with the result: bytes read for a link that is gone are
/// not sent on the next one.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Read these small files whole and send them in one parcel.
    Bundle {
        /// The files.
        items: Vec<ReadItem>,
        /// See the type.
        epoch: u64,
    },
    /// Read one chunk of a large file, hash it, and send it unless it is only to be hashed.
    Chunk {
        /// The file, which stays open between its chunks.
        read: ReadItem,
        /// Which chunk.
        chunk: u64,
        /// Whether the target needs it.
        send: bool,
        /// What the target has of an older version of the file.
        older: Option<Arc<Basis>>,
        /// See the type.
        epoch: u64,
    },
    /// Read chunk 0 of the first file, which nobody has asked for yet, hash it and send it.
    Early {
        /// The file, which stays open if it has more chunks.
        read: ReadItem,
        /// See the type.
        epoch: u64,
    },
    /// All chunks are read: look whether the file is still as it was, and close it.
    Close {
        /// The file.
        read: ReadItem,
        /// See the type.
        epoch: u64,
    },
    /// Hash the whole file and compare.
    Compare {
        /// The file.
        read: ReadItem,
        /// What the target has, if it has said that.
        have: Option<Digest>,
        /// See the type.
        epoch: u64,
    },
}

impl Job {
    /// How many bytes it reads from the disk.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Bundle { items, .. } => items.iter().map(|item| item.attributes.size).sum(),
            Self::Chunk { read, chunk, .. } => {
                chunk_len(read.attributes.size, *chunk).map_or(0, |len| len as u64)
            }
            Self::Early { read, .. } => read.attributes.size.min(CHUNK),
            Self::Close { .. } => 0,
            Self::Compare { read, .. } => read.attributes.size,
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// How it looks now, if it was read but had changed: it may be tried again.
    pub changed_to: Option<Attributes>,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobResult {
    /// Small files: those in the parcel, with hash and size, and those that could not be read.
    Bundle {
        /// Index, hash and size.
        read: Vec<(u64, ChunkHash, u64)>,
        /// Index and reason.
        failed: Vec<(u64, Failure)>,
        /// Payload that the job was to send and did not: it is credit for others.
        unsent: u64,
        /// As in the job.
        epoch: u64,
    },
    /// One chunk was read.
    Chunk {
        /// The entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its hash.
        hash: ChunkHash,
        /// As in a bundle: the chunk's length if it was zeros, which travel without a body.
        unsent: u64,
        /// As in the job.
        epoch: u64,
    },
    /// The file is as it was.
    Closed {
        /// The entry.
        index: u64,
        /// As in the job.
        epoch: u64,
    },
    /// The file was hashed.
    Compared {
        /// The entry.
        index: u64,
        /// Whether the target has the same.
        same: bool,
        /// Its digest.
        digest: Digest,
        /// As in the job.
        epoch: u64,
    },
    /// The file cannot be read, or has changed.
    Failed {
        /// The entry.
        index: u64,
        /// Why.
        failure: Failure,
        /// As in a bundle.
        unsent: u64,
        /// As in the job.
        epoch: u64,
    },
}

impl JobResult {
    /// Payload that the job was to send and did not.
    pub(super) fn unsent(&self) -> u64 {
        match self {
            Self::Bundle { unsent, .. }
            | Self::Chunk { unsent, .. }
            | Self::Failed { unsent, .. } => *unsent,
            Self::Closed { .. } | Self::Compared { .. } => 0,
        }
    }

    /// The epoch of the job that this answers.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Bundle { epoch, .. }
            | Self::Chunk { epoch, .. }
            | Self::Closed { epoch, .. }
            | Self::Compared { epoch, .. }
            | Self::Failed { epoch, .. } => *epoch,
        }
    }
}
