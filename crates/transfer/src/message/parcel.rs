//! The head of a parcel: what the body beside it holds. The body is bulk data and never decoded here.

use files::{CHUNK, ChunkHash};
use link::wire::{Decoder, Encoder, WireError};

/// The most files that one bundle may hold: their heads must fit beside the body.
pub const MAX_BUNDLE_FILES: usize = 1024;
/// What one chunk of zeros costs of the credit, though it has no body: it has to be hashed and noted.
/// A shorter chunk travels as data.
pub const ZERO_COST: u64 = 4096;
/// The most chunks of zeros that one parcel may stand for.
pub const MAX_ZERO_CHUNKS: u64 = 1024;

/// What a parcel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParcelHead {
    /// Whole small files, one after the other in the body.
    Bundle(Vec<BundleItem>),
    /// One chunk of a larger file.
    Chunk {
        /// The file's entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its hash.
        hash: ChunkHash,
    },
    /// Chunks that are all zeros, without a body.
    Zeros {
        /// The file's entry.
        index: u64,
        /// The first chunk.
        first: u64,
        /// How many.
        count: u64,
    },
    /// The beginning of the first file offered, sent before anybody asked for it: the whole file if it
    /// is of one chunk.
    Early {
        /// The file's entry.
        index: u64,
        /// The hash of chunk 0.
        hash: ChunkHash,
    },
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleItem {
    /// The file's entry.
    pub index: u64,
    /// Its size in bytes.
    pub len: u64,
    /// The hash of its one chunk, which is the file's digest.
    pub hash: ChunkHash,
}

impl ParcelHead {
    /// What a parcel with this head and a body of so many bytes costs of the credit.
    pub fn cost(&self, body: u64) -> u64 {
        match self {
            Self::Zeros { count, .. } => body + count * ZERO_COST,
            Self::Bundle(_) | Self::Chunk { .. } | Self::Early { .. } => body,
        }
    }

    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Bundle(items) => {
                out.u8(1).varint(items.len() as u64);
                for item in items {
                    out.varint(item.index).varint(item.len).array(item.hash.as_bytes());
                }
            }
            Self::Chunk { index, chunk, hash } => {
                out.u8(2).varint(*index).varint(*chunk).array(hash.as_bytes());
            }
            Self::Zeros { index, first, count } => {
                out.u8(3).varint(*index).varint(*first).varint(*count);
            }
            Self::Early { index, hash } => {
                out.u8(4).varint(*index).array(hash.as_bytes());
            }
        }
        out.finish()
    }

    /// Reads a head that came with a body of `body` bytes; the two must agree.
    pub fn decode(bytes: &[u8], body: usize) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let head = match input.u8("parcel type")? {
            1 => {
                let mut items = Vec::new();
                let mut rest = body as u64;
                for _ in 0..input.varint_at_most("bundled files", MAX_BUNDLE_FILES as u64)? {
                    let index = input.varint("bundled index")?;
                    let len = input.varint_at_most("bundled length", rest)?;
                    rest -= len;
                    let hash = ChunkHash::from_bytes(input.array("bundled hash")?);
                    items.push(BundleItem { index, len, hash });
                }
                if rest != 0 || items.is_empty() {
                    return Err(WireError::invalid("bundled length"));
                }
                Self::Bundle(items)
            }
            2 => {
                if body == 0 || body as u64 > CHUNK {
                    return Err(WireError::invalid("chunk length"));
                }
                Self::Chunk {
                    index: input.varint("chunk's index")?,
                    chunk: input.varint("chunk number")?,
                    hash: ChunkHash::from_bytes(input.array("chunk hash")?),
                }
            }
            3 => {
                let index = input.varint("zeros' index")?;
                let first = input.varint("first zero chunk")?;
                let count = input.varint_at_most("zero chunks", MAX_ZERO_CHUNKS)?;
                if body != 0 || count == 0 || first.checked_add(count).is_none() {
                    return Err(WireError::invalid("zero chunks"));
                }
                Self::Zeros { index, first, count }
            }
            4 => {
                if body == 0 || body as u64 > CHUNK {
                    return Err(WireError::invalid("early length"));
                }
                Self::Early {
                    index: input.varint("early index")?,
                    hash: ChunkHash::from_bytes(input.array("early hash")?),
                }
            }
            _ => return Err(WireError::invalid("parcel type")),
        };
        input.finish()?;
        Ok(head)
    }
}
