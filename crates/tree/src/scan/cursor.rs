//! A place in a snapshot, in tree order. Entries are read in pages, each in a view of its own, so that
//! the snapshot can be written to meanwhile without growing; a page holds what it was when it was read.

use std::ops::Bound;

use super::ScanError;
use crate::key;
use crate::snapshot::Snapshot;

/// Entries of the first page after a jump, and of a page at most.
const PAGE: std::ops::RangeInclusive<usize> = 64..=4096;
/// Bytes of a page, at most, but for one entry.
const PAGE_BYTES: usize = 1 << 19;

/// Goes through a snapshot.
pub(super) struct Cursor {
    snapshot: Snapshot,
    bytes: Vec<u8>,
    /// Start, key length and value length of each entry in `bytes`.
    slots: Vec<(usize, usize, usize)>,
    at: usize,
    /// Where the next page begins; `None` if there is no more.
    next: Option<Bound<Vec<u8>>>,
    /// Entries of the next page.
    want: usize,
}

impl Cursor {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let (next, want) = (Some(Bound::Unbounded), *PAGE.start());
        let (bytes, slots) = (Vec::new(), Vec::new());
        Self { snapshot: snapshot.clone(), bytes, slots, at: 0, next, want }
    }

    /// Reads on if need be; `false` at the end.
    pub(super) fn load(&mut self) -> Result<bool, ScanError> {
        if self.at < self.slots.len() {
            return Ok(true);
        }
        let Some(from) = self.next.take() else { return Ok(false) };
        self.bytes.clear();
        self.slots.clear();
        self.at = 0;
        let view = self.snapshot.read()?;
        for item in view.raw_range(&(from, Bound::Unbounded))? {
            let (key, value) = item.map_err(|error| view.snapshot().fail(error))?;
            let (key, value) = (key.value(), value.value());
            self.slots.push((self.bytes.len(), key.len(), value.len()));
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(value);
            if self.slots.len() >= self.want || self.bytes.len() >= PAGE_BYTES {
                self.next = Some(Bound::Excluded(key.to_vec()));
                break;
            }
        }
        self.want = (2 * self.want).min(*PAGE.end());
        Ok(!self.slots.is_empty())
    }

    /// The key of the entry that it stands at, once it is loaded; `None` at the end.
    pub(super) fn key(&self) -> Option<&[u8]> {
        let &(start, key, _) = self.slots.get(self.at)?;
        Some(&self.bytes[start..][..key])
    }

    /// Its value.
    pub(super) fn value(&self) -> Option<&[u8]> {
        let &(start, key, value) = self.slots.get(self.at)?;
        Some(&self.bytes[start + key..][..value])
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Goes to what follows the entry that it stands at and all below `head`, which has its key.
    pub(super) fn leave_subtree(&mut self, head: &[u8]) -> Result<(), ScanError> {
        self.advance();
        self.load()?;
        // Nearly always there is nothing below, and a jump would read again what has been read.
        if self.key().is_some_and(|key| key::is_below(key, head)) {
            self.seek(&key::after(head));
        }
        Ok(())
    }

    /// Goes to the first entry whose key is `key` or later, forwards or backwards.
    pub(super) fn seek(&mut self, key: &[u8]) {
        let key_of = |&(start, len, _): &(usize, usize, usize)| &self.bytes[start..][..len];
        let is_in_page = self.slots.first().is_some_and(|slot| key_of(slot) <= key)
            && self.slots.last().is_some_and(|slot| key_of(slot) >= key);
        if is_in_page {
            self.at = self.slots.partition_point(|slot| key_of(slot) < key);
            return;
        }
        self.slots.clear();
        self.bytes.clear();
        self.at = 0;
        self.next = Some(Bound::Included(key.to_vec()));
        self.want = *PAGE.start();
    }
}
