//! The map of a partial file: which chunks have arrived, and what proves each. This module only reads
//! and writes bytes in memory; the format is described in `docs/formats/staging.md`.

use crate::attributes::Timestamp;
use crate::digest::{CHUNK, ChunkHash, chunk_count};
use crate::path::{MAX_PATH, RelPath};

const MAGIC: [u8; 8] = *b"HAULMAP\n";
const VERSION: u32 = 1;
/// The fields before the path.
const FIXED: usize = 84;
const CHECKSUM: usize = 32;
/// The longest header there can be.
pub(super) const MAX_HEADER: usize = FIXED + MAX_PATH + CHECKSUM;
/// The length of one record.
pub(super) const RECORD: usize = 48;

/// What a map says about the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapHeader {
    /// The sender's public key.
    pub peer: [u8; 32],
    /// The path below the destination's root.
    pub path: RelPath,
    /// The size of the whole file.
    pub size: u64,
    /// The modification time that the file was offered with.
    pub mtime: Timestamp,
}

/// A map as read from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The header.
    pub header: MapHeader,
    /// The chunks in the order in which they arrived; a later record of a chunk replaces an earlier.
    pub records: Vec<(u64, ChunkHash)>,
    /// Whether the last record was cut short or damaged, and left out.
    pub is_torn: bool,
}

/// Why bytes are not a map that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The bytes end within the header.
    #[error("the header is cut short")]
    Short,
    /// The first bytes are not those of a map.
    #[error("this is not a map")]
    Magic,
    /// A version that this program does not read.
    #[error("the map has version {0}")]
    Version(u32),
    /// The header does not match its checksum, or a field is out of range.
    #[error("the header is damaged")]
    Header,
    /// A record before the last does not match its checksum, or names a chunk beyond the file.
    #[error("record {0} is damaged")]
    Record(u64),
}

/// Binds records to their header, so that none can wander from one map to another.
pub(super) type Seal = [u8; CHECKSUM];

/// Reads a whole map. Never panics, and needs no more memory than the bytes it is given.
pub fn parse_map(bytes: &[u8]) -> Result<Map, MapError> {
    let (header, seal, start) = decode_header(bytes)?;
    let mut records = Vec::new();
    let body = &bytes[start..];
    let whole = body.chunks_exact(RECORD);
    let mut is_torn = !whole.remainder().is_empty();
    let last = whole.len();
    for (at, bytes) in whole.enumerate() {
        match decode_record(bytes, &seal, header.size) {
            Some(record) => records.push(record),
            None if at + 1 == last && !is_torn => is_torn = true,
            None => return Err(MapError::Record(at as u64)),
        }
    }
    Ok(Map { header, records, is_torn })
}

/// The bytes of a header, and the seal of its records.
pub(super) fn encode_header(header: &MapHeader) -> (Vec<u8>, Seal) {
    let path = header.path.as_bytes();
    let len = FIXED + path.len() + CHECKSUM;
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    // A path has at most 4096 bytes, so these two fit.
    bytes.extend((len as u32).to_le_bytes());
    bytes.extend(header.size.to_le_bytes());
    bytes.extend(header.mtime.seconds.to_le_bytes());
    bytes.extend(header.mtime.nanos.to_le_bytes());
    bytes.extend((CHUNK as u32).to_le_bytes());
    bytes.extend(header.peer);
    bytes.extend((path.len() as u32).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(path);
    let seal = *blake3::hash(&bytes).as_bytes();
    bytes.extend(seal);
    (bytes, seal)
}

/// Reads a header from the beginning of `bytes`; also gives the seal and where the records begin.
pub(super) fn decode_header(bytes: &[u8]) -> Result<(MapHeader, Seal, usize), MapError> {
    let field = |at: usize, len: usize| bytes.get(at..at + len).ok_or(MapError::Short);
    if field(0, 8)? != MAGIC {
        return Err(MapError::Magic);
    }
    let version = u32_at(bytes, 8).ok_or(MapError::Short)?;
    if version != VERSION {
        return Err(MapError::Version(version));
    }
    let len = u32_at(bytes, 12).ok_or(MapError::Short)? as usize;
    if !(FIXED + CHECKSUM..=MAX_HEADER).contains(&len) {
        return Err(MapError::Header);
    }
    let sealed = field(0, len - CHECKSUM)?;
    let seal = *blake3::hash(sealed).as_bytes();
    if field(len - CHECKSUM, CHECKSUM)? != seal {
        return Err(MapError::Header);
    }
    let header = decode_fields(sealed).ok_or(MapError::Header)?;
    Ok((header, seal, len))
}

/// Reads the fields of a header whose checksum was right.
fn decode_fields(sealed: &[u8]) -> Option<MapHeader> {
    let path = sealed.get(FIXED..)?;
    let size = u64_at(sealed, 16)?;
    let seconds = i64::from_le_bytes(sealed.get(24..32)?.try_into().ok()?);
    let mtime = Timestamp::new(seconds, u32_at(sealed, 32)?)?;
    let peer = sealed.get(40..72)?.try_into().ok()?;
    let agrees = u64::from(u32_at(sealed, 36)?) == CHUNK
        && u32_at(sealed, 72)? as usize == path.len()
        && u64_at(sealed, 76)? == 0;
    let path = RelPath::parse(path).ok()?;
    agrees.then_some(MapHeader { peer, path, size, mtime })
}

pub(super) fn encode_record(seal: &Seal, index: u64, hash: &ChunkHash) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes[8..40].copy_from_slice(hash.as_bytes());
    let checksum = record_checksum(seal, &bytes[..40]);
    bytes[40..].copy_from_slice(&checksum);
    bytes
}

/// Reads one record; `None` if it is damaged or names a chunk beyond the file.
pub(super) fn decode_record(bytes: &[u8], seal: &Seal, size: u64) -> Option<(u64, ChunkHash)> {
    let checksum = bytes.get(40..RECORD)?;
    if checksum != record_checksum(seal, &bytes[..40]) {
        return None;
    }
    let index = u64_at(bytes, 0)?;
    let hash = ChunkHash::from_bytes(bytes.get(8..40)?.try_into().ok()?);
    (index < chunk_count(size)).then_some((index, hash))
}

fn record_checksum(seal: &Seal, bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::keyed_hash(seal, bytes);
    let mut short = [0; 8];
    short.copy_from_slice(&hash.as_bytes()[..8]);
    short
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
