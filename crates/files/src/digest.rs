//! Content digests. A file's digest is the plain BLAKE3 hash of its bytes; because a chunk is a whole
//! subtree of BLAKE3's tree, each chunk can be proven alone and the proofs merge into that digest
//! without the bytes. This module is pure; reading a file to hash it is `File::digest`.

use std::fmt;
use std::str::FromStr;

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};

/// The size of a chunk: 1 MiB. A power of two, so that every chunk is a whole BLAKE3 subtree.
pub const CHUNK: u64 = 1 << 20;

/// The BLAKE3 hash of a whole file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// What proves one chunk at its place in a file: the file's own hash when the file is one chunk,
/// otherwise BLAKE3's chaining value of that subtree. The same bytes elsewhere have another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash([u8; 32]);

/// Text that is not a digest: it must be 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hex digits")]
pub struct DigestParseError;

impl Digest {
    /// The digest of bytes that are all in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// Takes the raw bytes, as from the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hex digits of either case.
    pub fn parse(text: &str) -> Result<Digest, DigestParseError> {
        match blake3::Hash::from_hex(text) {
            Ok(hash) => Ok(Digest(*hash.as_bytes())),
            Err(_) => Err(DigestParseError),
        }
    }
}

impl ChunkHash {
    /// Takes the raw bytes, as from the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> ChunkHash {
        ChunkHash(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Digest, DigestParseError> {
        Digest::parse(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

/// How many chunks a file of this size has; an empty file has none.
pub const fn chunk_count(file_size: u64) -> u64 {
    file_size.div_ceil(CHUNK)
}

/// How many bytes a chunk has, or `None` beyond the end of the file. Only the last may be short.
pub const fn chunk_len(file_size: u64, index: u64) -> Option<usize> {
    if index >= chunk_count(file_size) {
        return None;
    }
    let rest = file_size - index * CHUNK;
    Some(if rest < CHUNK { rest as usize } else { CHUNK as usize })
}

/// Hashes one chunk of a file of the given size.
///
/// `data` must be exactly that chunk ([`chunk_len`] bytes; for the empty file, chunk 0 with no bytes).
/// For anything else the result is drawn from another hash family and matches no true chunk, so a
/// lie about length fails the comparison instead of panicking.
pub fn hash_chunk(file_size: u64, index: u64, data: &[u8]) -> ChunkHash {
    let is_empty_file = file_size == 0 && index == 0 && data.is_empty();
    if chunk_len(file_size, index) != Some(data.len()) && !is_empty_file {
        return ChunkHash(blake3::derive_key(
            "haul 2026 bytes that are not the chunk they claim",
            data,
        ));
    }
    let mut hasher = ChunkHasher::new(file_size, index);
    hasher.update(data);
    hasher.finish()
}

/// Hashes one chunk of a file piece by piece, as [`hash_chunk`] does in one go. Whoever feeds it sees to
/// it that the pieces are that chunk.
pub(crate) struct ChunkHasher {
    hasher: blake3::Hasher,
    is_file: bool,
}

impl ChunkHasher {
    pub(crate) fn new(file_size: u64, index: u64) -> ChunkHasher {
        let mut hasher = blake3::Hasher::new();
        let is_file = file_size <= CHUNK;
        if !is_file {
            hasher.set_input_offset(index * CHUNK);
        }
        ChunkHasher { hasher, is_file }
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    pub(crate) fn finish(&self) -> ChunkHash {
        match self.is_file {
            true => ChunkHash(*self.hasher.finalize().as_bytes()),
            false => ChunkHash(self.hasher.finalize_non_root()),
        }
    }
}

/// Merges all chunk hashes of a file into its digest, which equals BLAKE3 over the whole file.
/// `None` if there are not exactly [`chunk_count`] of them.
pub fn file_digest(file_size: u64, chunks: &[ChunkHash]) -> Option<Digest> {
    if chunks.len() as u64 != chunk_count(file_size) {
        return None;
    }
    Some(merge(file_size, &|index| chunks[index as usize]))
}

/// As [`file_digest`], for hashes kept elsewhere; `chunk_at` is asked once for each index in range.
pub(crate) fn merge(file_size: u64, chunk_at: &dyn Fn(u64) -> ChunkHash) -> Digest {
    match file_size {
        0 => Digest::of(b""),
        1..=CHUNK => Digest(chunk_at(0).0),
        _ => {
            let left = hazmat::left_subtree_len(file_size);
            let (left, right) =
                (subtree(0, left, chunk_at), subtree(left, file_size - left, chunk_at));
            Digest(*hazmat::merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
        }
    }
}

/// The depth of recursion is the tree's height, at most 44 for any 64-bit size.
fn subtree(offset: u64, len: u64, chunk_at: &dyn Fn(u64) -> ChunkHash) -> ChainingValue {
    if len <= CHUNK {
        return chunk_at(offset / CHUNK).0;
    }
    let left = hazmat::left_subtree_len(len);
    let first = subtree(offset, left, chunk_at);
    let second = subtree(offset + left, len - left, chunk_at);
    hazmat::merge_subtrees_non_root(&first, &second, Mode::Hash)
}

#[cfg(test)]
mod tests;
