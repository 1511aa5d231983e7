//! What the ledger keeps of an object and of a generation, as bytes.

use crate::symbol::ObjectKind;

/// An object and how often it has gone out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) kind: ObjectKind,
    pub(crate) length: u64,
    /// How often it has gone out.
    pub(crate) passes: u32,
    /// The generation that tells of it.
    pub(crate) generation: u64,
    /// When it goes out again, in milliseconds since 1970; 0 if it has not gone out once.
    pub(crate) due_ms: Option<u64>,
}

impl Row {
    /// One that has not gone out.
    pub(crate) fn new(kind: ObjectKind, length: u64, generation: u64) -> Self {
        Self { kind, length, passes: 0, generation, due_ms: Some(0) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.kind == ObjectKind::Page)];
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.passes.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        if let Some(due_ms) = self.due_ms {
            bytes.extend_from_slice(&due_ms.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let kind = match rest.take(1)? {
            [0] => ObjectKind::Content,
            [1] => ObjectKind::Page,
            _ => return None,
        };
        let (length, passes, generation) = (rest.u64()?, rest.u32()?, rest.u64()?);
        let due_ms = if rest.0.is_empty() { None } else { Some(rest.u64()?) };
        rest.0.is_empty().then_some(Self { kind, length, passes, generation, due_ms })
    }
}

/// A generation that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GenerationRow {
    /// The generation that it builds on; 0 for a full one.
    pub(crate) base: u64,
    /// Its pages, in order, as objects.
    pub(crate) pages: Vec<u64>,
    /// The BLAKE3 of the last page.
    pub(crate) last_page: [u8; 32],
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) removed: u64,
    /// The record of its end, once it has ended.
    pub(crate) end: Option<Vec<u8>>,
}

impl GenerationRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.base, self.files, self.bytes, self.removed, self.pages.len() as u64] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.last_page);
        for page in &self.pages {
            bytes.extend_from_slice(&page.to_be_bytes());
        }
        bytes.extend_from_slice(self.end.as_deref().unwrap_or_default());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (base, files, bytes, removed) = (rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?);
        let count = rest.u64()?;
        let last_page = *rest.take(32)?.first_chunk()?;
        let pages = (0..count).map(|_| rest.u64()).collect::<Option<Vec<_>>>()?;
        let end = (!rest.0.is_empty()).then(|| rest.0.to_vec());
        Some(Self { base, pages, last_page, files, bytes, removed, end })
    }
}

/// What the snapshot notes of a file: where its content went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) digest: [u8; 32],
    pub(crate) object: u64,
    pub(crate) offset: u64,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.digest.to_vec();
        bytes.extend_from_slice(&self.object.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let digest = *rest.take(32)?.first_chunk()?;
        let (object, offset) = (rest.u64()?, rest.u64()?);
        rest.0.is_empty().then_some(Self { digest, object, offset })
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// What was read can be written and read again.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            if let Some(row) = Row::decode(data) {
                assert_eq!(Row::decode(&row.encode()), Some(row));
            }
        }
        1 => {
            if let Some(row) = GenerationRow::decode(data) {
                assert_eq!(row.encode(), data);
            }
        }
        _ => {
            if let Some(note) = Note::decode(data) {
                assert_eq!(note.encode(), data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_cut_short_does_not() {
        let mut row = Row { passes: 3, ..Row::new(ObjectKind::Content, 1 << 40, 7) };
        for due_ms in [None, Some(0), Some(1 << 41)] {
            row.due_ms = due_ms;
            assert_eq!(Row::decode(&row.encode()), Some(row.clone()));
        }
        let page = Row { kind: ObjectKind::Page, ..row.clone() };
        assert_eq!(Row::decode(&page.encode()), Some(page));
        let bytes = row.encode();
        assert_eq!(bytes.len(), 29);
        assert!(
            (0..29)
                .filter(|length| *length != 21)
                .all(|length| Row::decode(&bytes[..length]).is_none())
        );
        assert_eq!(Row::decode(&[&bytes[..], &[0]].concat()), None);
        let generation =
            GenerationRow { base: 4, pages: vec![9, 8], files: 1, ..Default::default() };
        assert_eq!(GenerationRow::decode(&generation.encode()), Some(generation.clone()));
        let ended = GenerationRow { end: Some(vec![1, 2]), last_page: [3; 32], ..generation };
        assert_eq!(GenerationRow::decode(&ended.encode()), Some(ended));
        let note = Note { digest: [1; 32], object: 2, offset: 3 };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        assert_eq!(Note::decode(&[]), None);
    }
}
