//! Which chunks of a file are there and their hashes, in memory. Pages are made when the first chunk in
//! them arrives, so memory follows what was received and not what a peer announced.

use std::ops::Range;

use crate::digest::{CHUNK, ChunkHash, Digest, chunk_count, chunk_len, merge};

/// How many chunks share a page: 1 GiB of file, 32 KiB of hashes.
const PAGE: u64 = 1024;

/// The chunks of one file of a fixed size.
pub(super) struct ChunkTable {
    size: u64,
    pages: Vec<Option<Vec<Option<ChunkHash>>>>,
    present: u64,
    bytes: u64,
}

impl ChunkTable {
    /// A table with nothing in it. The caller has capped the size.
    pub(super) fn new(size: u64) -> ChunkTable {
        let pages = vec![None; chunk_count(size).div_ceil(PAGE) as usize];
        ChunkTable { size, pages, present: 0, bytes: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        chunk_count(self.size)
    }

    /// How many bytes the chunks that are there have.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_complete(&self) -> bool {
        self.present == self.count()
    }

    pub(super) fn get(&self, index: u64) -> Option<ChunkHash> {
        let page = self.pages.get((index / PAGE) as usize)?.as_ref()?;
        *page.get((index % PAGE) as usize)?
    }

    /// Notes a chunk; one beyond the file is left out.
    pub(super) fn insert(&mut self, index: u64, hash: ChunkHash) {
        let Some(len) = chunk_len(self.size, index) else { return };
        let first = index / PAGE * PAGE;
        let width = (self.count() - first).min(PAGE) as usize;
        let page = self.pages[(index / PAGE) as usize].get_or_insert_with(|| vec![None; width]);
        if page[(index - first) as usize].replace(hash).is_none() {
            self.present += 1;
            self.bytes += len as u64;
        }
    }

    /// Takes a chunk out again.
    pub(super) fn remove(&mut self, index: u64) {
        let Some(Some(page)) = self.pages.get_mut((index / PAGE) as usize) else { return };
        let slot = page.get_mut((index % PAGE) as usize);
        if let (Some(_), Some(len)) = (slot.and_then(Option::take), chunk_len(self.size, index)) {
            self.present -= 1;
            self.bytes -= len as u64;
        }
    }

    /// The runs of chunks that are missing, in order.
    pub(super) fn missing(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = (next..self.count()).find(|index| self.get(*index).is_none())?;
            let end = (start..self.count()).find(|index| self.get(*index).is_some());
            next = end.unwrap_or(self.count());
            Some(start..next)
        })
    }

    /// The digest of the whole file, once all chunks are there.
    pub(super) fn digest(&self) -> Option<Digest> {
        let nothing = ChunkHash::from_bytes([0; 32]);
        self.is_complete().then(|| merge(self.size, &|index| self.get(index).unwrap_or(nothing)))
    }
}

/// Where a chunk begins in its file.
pub(super) const fn chunk_offset(index: u64) -> u64 {
    index * CHUNK
}

#[cfg(test)]
mod tests;
