//! The tree digest: 32 bytes that stand for all paths and contents of a tree.
//!
//! Pure. The records of a tree are summed by LtHash16, so they may come in any order, from many
//! threads, and be taken out again, in 4 KiB of memory however large the tree is. The encoding is
//! `docs/formats/tree-digest.md`; why it is done so is `docs/decisions/tree-digest.md`.

use std::fmt;

use files::{Digest, RelPath, Timestamp};

/// Lanes of the sum.
const LANES: usize = 1024;
/// Permission bits that count; the rest of `st_mode` is the kind.
const MODE_BITS: u32 = 0o7777;

/// One entry of a tree, as the digest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Relative to the tree's root, which has no record itself.
    pub path: &'a RelPath,
    /// What is there.
    pub body: Body<'a>,
    /// Permission bits, where they are carried; they count for files and directories.
    pub mode: Option<u32>,
    /// Modification time, where it is carried; it counts for files.
    pub mtime: Option<Timestamp>,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// BLAKE3 of its content.
        content: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it is stored.
        target: &'a [u8],
    },
}

/// What two trees that are the same agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigests {
    /// Of paths, kinds, sizes, contents and link targets.
    pub content: Digest,
    /// Of the same, the permission bits of files and directories, and the times of files.
    pub attributes: Digest,
    /// How many entries the tree has.
    pub records: u64,
}

/// A tree digest that is being summed up.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TreeDigest {
    content: Sum,
    attributes: Sum,
    records: u64,
}

impl TreeDigest {
    /// Of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an entry in. A tree has each path once: this does not check it.
    pub fn add(&mut self, record: &Record<'_>) {
        self.apply(record, u16::wrapping_add);
        // Wraps like the lanes, so that taking out before putting in comes to the same.
        self.records = self.records.wrapping_add(1);
    }

    /// Takes an entry out that was put in with just these fields.
    pub fn remove(&mut self, record: &Record<'_>) {
        self.apply(record, u16::wrapping_sub);
        self.records = self.records.wrapping_sub(1);
    }

    /// Puts all entries of `other` in.
    pub fn merge(&mut self, other: &Self) {
        self.content.merge(&other.content);
        self.attributes.merge(&other.attributes);
        self.records = self.records.wrapping_add(other.records);
    }

    /// The digests of the entries so far.
    #[must_use]
    pub fn finish(&self) -> TreeDigests {
        TreeDigests {
            content: self.content.finish("haul tree digest v1 content", self.records),
            attributes: self.attributes.finish("haul tree digest v1 attributes", self.records),
            records: self.records,
        }
    }

    fn apply(&mut self, record: &Record<'_>, operation: impl Fn(u16, u16) -> u16 + Copy) {
        let mut bytes = Vec::with_capacity(128);
        encode_content(record, &mut bytes);
        self.content.apply("haul tree digest v1 content record", &bytes, operation);
        encode_attributes(record, &mut bytes);
        self.attributes.apply("haul tree digest v1 attributes record", &bytes, operation);
    }
}

impl fmt::Debug for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeDigest").field("finish", &self.finish()).finish_non_exhaustive()
    }
}

/// Appends the fields that make a tree's content. Each field has a fixed length or says its length,
/// so no two records have the same bytes.
fn encode_content(record: &Record<'_>, out: &mut Vec<u8>) {
    let kind = match record.body {
        Body::File { .. } => b'f',
        Body::Directory => b'd',
        Body::Symlink { .. } => b'l',
    };
    out.push(kind);
    put_bytes(record.path.as_bytes(), out);
    match record.body {
        Body::File { size, content } => {
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(content.as_bytes());
        }
        Body::Directory => {}
        Body::Symlink { target } => put_bytes(target, out),
    }
}

/// Appends the other fields that count for the record's kind.
fn encode_attributes(record: &Record<'_>, out: &mut Vec<u8>) {
    if matches!(record.body, Body::File { .. } | Body::Directory) {
        out.push(u8::from(record.mode.is_some()));
        if let Some(mode) = record.mode {
            out.extend_from_slice(&(mode & MODE_BITS).to_le_bytes());
        }
    }
    if matches!(record.body, Body::File { .. }) {
        out.push(u8::from(record.mtime.is_some()));
        if let Some(mtime) = record.mtime {
            out.extend_from_slice(&mtime.seconds.to_le_bytes());
            out.extend_from_slice(&mtime.nanos.to_le_bytes());
        }
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// LtHash16: lane by lane, the sum mod 2^16 of one long hash for each record.
#[derive(Clone, PartialEq, Eq)]
struct Sum(Box<[u16; LANES]>);

impl Default for Sum {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl Sum {
    fn apply(&mut self, context: &str, record: &[u8], operation: impl Fn(u16, u16) -> u16 + Copy) {
        let mut hash = [0; LANES * 2];
        blake3::Hasher::new_derive_key(context).update(record).finalize_xof().fill(&mut hash);
        for (lane, bytes) in self.0.iter_mut().zip(hash.chunks_exact(2)) {
            *lane = operation(*lane, u16::from_le_bytes([bytes[0], bytes[1]]));
        }
    }

    fn merge(&mut self, other: &Self) {
        for (lane, other) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*other);
        }
    }

    fn finish(&self, context: &str, records: u64) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for lane in self.0.iter() {
            hasher.update(&lane.to_le_bytes());
        }
        hasher.update(&records.to_le_bytes());
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests;
