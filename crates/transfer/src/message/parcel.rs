//! The head of a parcel: what the body beside it holds. The body is bulk data and never decoded here.

use files::{CHUNK, ChunkHash};

use super::MAX_FILE_SIZE;
use crate::delta::{MOST_OPS, Op};
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
    /// One chunk of a larger file, made of parts of an older one and of those in the body.
    Patch {
        /// The file's entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its hash.
        hash: ChunkHash,
        /// What makes it, from its beginning to its end.
        ops: Vec<Op>,
    },
    /// A bundle, a chunk or a patch whose body is one Zstandard frame (RFC 8878).
    Packed {
        /// Bytes of the body once it is unpacked.
        raw: u64,
        /// What that body holds.
        head: Box<ParcelHead>,
    },
}

/// What makes a chunk: together no more than one, and all of the body.
fn decode_ops(input: &mut Decoder, body: u64) -> Result<Vec<Op>, WireError> {
    let (mut ops, mut room, mut rest) = (Vec::new(), CHUNK, body);
    for _ in 0..input.varint_at_most("parts of a patch", MOST_OPS as u64)? {
        let word = input.varint("part of a patch")?;
        let len = word >> 1;
        if len == 0 || len > room {
            return Err(WireError::invalid("part of a patch"));
        }
        room -= len;
        if word & 1 == 1 {
            ops.push(Op::Copy {
                offset: input.varint_at_most("place in an older file", MAX_FILE_SIZE)?,
                len,
            });
            continue;
        }
        rest = rest.checked_sub(len).ok_or(WireError::invalid("part of a patch"))?;
        ops.push(Op::Literal { len });
    }
    match rest == 0 && !ops.is_empty() {
        true => Ok(ops),
        false => Err(WireError::invalid("part of a patch")),
    }
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
            Self::Patch { ops, .. } => ops.iter().map(Op::len).sum(),
            Self::Packed { raw, head } => head.cost(*raw),
        }
    }

    /// What the body holds, and how long that is once it is unpacked, if it has to be.
    pub fn unwrapped(self) -> (Self, Option<u64>) {
        match self {
            Self::Packed { raw, head } => (*head, Some(raw)),
            head => (head, None),
        }
    }

    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode_into(&mut out);
        out.finish()
    }

    fn encode_into(&self, out: &mut Encoder) {
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
            Self::Packed { raw, head } => {
                out.u8(5).varint(*raw);
                head.encode_into(out);
            }
            Self::Patch { index, chunk, hash, ops } => {
                out.u8(6).varint(*index).varint(*chunk).array(hash.as_bytes());
                out.varint(ops.len() as u64);
                for op in ops {
                    match op {
                        Op::Literal { len } => out.varint(len << 1),
                        Op::Copy { offset, len } => out.varint(len << 1 | 1).varint(*offset),
                    };
                }
            }
        }
    }

    /// Reads a head that came with a body of `body` bytes; the two must agree.
    pub fn decode(bytes: &[u8], body: usize) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let head = match input.u8("parcel type")? {
            5 => {
                let raw = input.varint_at_most("unpacked length", CHUNK)?;
                // Whoever packs without need makes work, and nothing that is packed is packed again.
                if body == 0 || raw <= body as u64 {
                    return Err(WireError::invalid("unpacked length"));
                }
                let head = Self::decode_plain(input.u8("parcel type")?, &mut input, raw as usize)?;
                if !matches!(head, Self::Bundle(_) | Self::Chunk { .. } | Self::Patch { .. }) {
                    return Err(WireError::invalid("packed parcel type"));
                }
                Self::Packed { raw, head: Box::new(head) }
            }
            kind => Self::decode_plain(kind, &mut input, body)?,
        };
        input.finish()?;
        Ok(head)
    }

    fn decode_plain(kind: u8, input: &mut Decoder, body: usize) -> Result<Self, WireError> {
        Ok(match kind {
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
            6 => {
                let (index, chunk) =
                    (input.varint("patch's index")?, input.varint("patched chunk")?);
                let hash = ChunkHash::from_bytes(input.array("patch hash")?);
                Self::Patch { index, chunk, hash, ops: decode_ops(input, body as u64)? }
            }
            _ => return Err(WireError::invalid("parcel type")),
        })
    }
}
