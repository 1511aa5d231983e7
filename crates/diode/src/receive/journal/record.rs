//! Rows of the journal as bytes.

use files::{RelPath, Timestamp};

use crate::manifest::Told;
use crate::record::{GenerationEnd, Record, Records};

/// What should be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::receive) struct Entry {
    pub(in crate::receive) what: What,
    /// Whether it has not arrived.
    pub(in crate::receive) is_wanted: bool,
    /// The last generation that named it.
    pub(in crate::receive) seen: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::receive) enum What {
    Folder {
        told: Told,
    },
    File {
        told: Told,
        size: u64,
        digest: [u8; 32],
        object: u64,
        offset: u64,
    },
    Symlink {
        mtime: Timestamp,
        target: Vec<u8>,
    },
    /// Another name of a file; once it was made, with the object and offset of the content that it got.
    HardLink {
        file: RelPath,
        place: Option<(u64, u64)>,
    },
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_wanted)];
        bytes.extend_from_slice(&self.seen.to_be_bytes());
        match &self.what {
            What::Folder { told } => {
                bytes.push(1);
                told.encode(&mut bytes);
            }
            What::File { told, size, digest, object, offset } => {
                bytes.push(2);
                bytes.extend_from_slice(&size.to_be_bytes());
                bytes.extend_from_slice(digest);
                bytes.extend_from_slice(&object.to_be_bytes());
                bytes.extend_from_slice(&offset.to_be_bytes());
                told.encode(&mut bytes);
            }
            What::Symlink { mtime, target } => {
                bytes.push(3);
                bytes.extend_from_slice(&mtime.seconds.to_be_bytes());
                bytes.extend_from_slice(&mtime.nanos.to_be_bytes());
                bytes.extend_from_slice(target);
            }
            What::HardLink { file, place: Some((object, offset)) } => {
                bytes.push(5);
                bytes.extend_from_slice(&object.to_be_bytes());
                bytes.extend_from_slice(&offset.to_be_bytes());
                bytes.extend_from_slice(file.as_bytes());
            }
            What::HardLink { file, place: None } => {
                bytes.push(4);
                bytes.extend_from_slice(file.as_bytes());
            }
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let [is_wanted] = rest.array()?;
        let seen = rest.u64()?;
        let what = match rest.array()? {
            [1] => What::Folder { told: rest.told()? },
            [2] => {
                let (size, digest) = (rest.u64()?, rest.array()?);
                let (object, offset) = (rest.u64()?, rest.u64()?);
                What::File { told: rest.told()?, size, digest, object, offset }
            }
            [3] => {
                let seconds = i64::from_be_bytes(rest.array()?);
                let mtime = Timestamp::new(seconds, u32::from_be_bytes(rest.array()?))?;
                What::Symlink { mtime, target: rest.0.to_vec() }
            }
            [4] => What::HardLink { file: RelPath::parse(rest.0).ok()?, place: None },
            [5] => {
                let place = Some((rest.u64()?, rest.u64()?));
                What::HardLink { file: RelPath::parse(rest.0).ok()?, place }
            }
            _ => return None,
        };
        Some(Self { what, is_wanted: is_wanted == 1, seen })
    }
}

/// How far the manifests were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::receive) struct Place {
    /// The generation whose pages are applied, or were last.
    pub(in crate::receive) generation: u64,
    /// What it builds on.
    pub(in crate::receive) base: u64,
    /// The page of it that comes next, and how many entries of that were applied.
    pub(in crate::receive) page: u32,
    pub(in crate::receive) entry: u32,
    /// Moves up to this entry may have been carried out; they touch none of each other's paths.
    pub(in crate::receive) moving: u32,
    /// The BLAKE3 of the page before.
    pub(in crate::receive) last: [u8; 32],
    /// The last generation of which all pages were applied.
    pub(in crate::receive) whole: u64,
    /// The last generation of which everything is there.
    pub(in crate::receive) complete: u64,
}

impl Place {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.generation, self.base, self.whole, self.complete] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.page, self.entry, self.moving] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.last);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (generation, base) = (rest.u64()?, rest.u64()?);
        let (whole, complete) = (rest.u64()?, rest.u64()?);
        let mut u32 = || rest.array().map(u32::from_be_bytes);
        let (page, entry, moving) = (u32()?, u32()?, u32()?);
        Some(Self { generation, base, page, entry, moving, last: rest.array()?, whole, complete })
    }
}

/// What was taken out of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::receive) struct Quarantined {
    /// Where it was.
    pub(in crate::receive) path: RelPath,
    /// When it was taken out, in milliseconds since 1970.
    pub(in crate::receive) time_ms: u64,
    /// The generation that removed it; 0 if it was in the way of something else.
    pub(in crate::receive) generation: u64,
}

impl Quarantined {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.time_ms.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(self.path.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (time_ms, generation) = (rest.u64()?, rest.u64()?);
        Some(Self { path: RelPath::parse(rest.0).ok()?, time_ms, generation })
    }
}

pub(super) fn encode_end(end: &GenerationEnd) -> Vec<u8> {
    let mut bytes = Vec::new();
    // It came in a record, so it fits one.
    let _ = Record::GenerationEnded(end.clone()).encode(&mut bytes);
    bytes
}

pub(super) fn decode_end(bytes: &[u8]) -> Option<GenerationEnd> {
    match Records::of(bytes).next()? {
        Ok(Record::GenerationEnded(end)) => Some(end),
        _ => None,
    }
}

/// What is left of a row.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn told(&mut self) -> Option<Told> {
        let (told, rest) = Told::split(self.0)?;
        rest.is_empty().then_some(told)
    }
}

/// Rows have one form, but for what says yes or no.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Some(entry) = Entry::decode(data) {
                assert_eq!(entry.encode()[1..], data[1..]);
                assert_eq!(Entry::decode(&entry.encode()), Some(entry));
            }
        }
        1 => {
            if let Some(place) = Place::decode(data) {
                assert!(data.starts_with(&place.encode()));
            }
        }
        2 => {
            if let Some(row) = Quarantined::decode(data) {
                assert_eq!(row.encode(), data);
            }
        }
        _ => {
            if let Some(end) = decode_end(data) {
                assert_eq!(decode_end(&encode_end(&end)), Some(end));
            }
        }
    }
}
