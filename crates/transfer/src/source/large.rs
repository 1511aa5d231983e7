//! Progress through one large file: which chunks are still to be read, which of them the target
//! needs, and the hashes from which the digest follows. Every chunk is read, also those that the target
//! has from an earlier try: only so can the digest speak of the file as it is now.

use files::{ChunkHash, Digest, chunk_count, chunk_len, file_digest};

use crate::Violation;

#[derive(Debug)]
pub(super) struct Large {
    size: u64,
    hashes: Vec<Option<ChunkHash>>,
    unhashed: u64,
    /// Chunks that are being read for the link of today.
    reading: u64,
    /// Missing at the target: first and end, rising.
    ranges: Vec<(u64, u64)>,
    /// The next chunk to look at.
    next: u64,
    /// Chunk 0 goes out on this link without having been asked for.
    early: bool,
}

impl Large {
    pub(super) fn new(size: u64) -> Self {
        let count = chunk_count(size);
        Self {
            size,
            hashes: vec![None; count as usize],
            unhashed: count,
            reading: 0,
            ranges: Vec::new(),
            next: count,
            early: false,
        }
    }

    /// Chunk 0 is being read and sent before it is asked for.
    pub(super) fn send_early(&mut self) {
        self.early = true;
        self.reading += 1;
    }

    /// The target says what it lacks.
    pub(super) fn need(&mut self, ranges: &[(u64, u64)]) -> Result<(), Violation> {
        let count = self.hashes.len() as u64;
        if ranges.last().is_some_and(|(first, length)| first + length > count) {
            return Err(Violation("need of chunks beyond the end"));
        }
        self.ranges = ranges.iter().map(|(first, length)| (*first, first + length)).collect();
        // What went out early is not asked for by the first need, whatever that says.
        self.next = u64::from(std::mem::take(&mut self.early));
        Ok(())
    }

    /// The link is gone. What was hashed stays hashed; what is needed will be said again.
    pub(super) fn rewind(&mut self) {
        self.ranges.clear();
        self.early = false;
        self.reading = 0;
        self.next = self.hashes.len() as u64;
    }

    /// The next chunk to read, its length, and whether to send it, if `credit` bytes allow it.
    pub(super) fn next(&mut self, credit: u64) -> Option<(u64, u64, bool)> {
        let count = self.hashes.len() as u64;
        while self.next < count {
            let chunk = self.next;
            let len = chunk_len(self.size, chunk)? as u64;
            while self.ranges.first().is_some_and(|(_, end)| *end <= chunk) {
                self.ranges.remove(0);
            }
            let send = self.ranges.first().is_some_and(|(first, _)| *first <= chunk);
            if send && len > credit {
                return None;
            }
            self.next += 1;
            if send || self.hashes[chunk as usize].is_none() {
                self.reading += 1;
                return Some((chunk, len, send));
            }
        }
        None
    }

    pub(super) fn all_asked(&self) -> bool {
        self.next == self.hashes.len() as u64
    }

    /// Whether all has been read that the target needs, and all that the digest needs. Hashes of an
    /// earlier link are kept, so the second alone would be true before the first.
    pub(super) fn is_read(&self) -> bool {
        self.all_asked() && self.unhashed == 0 && self.reading == 0
    }

    /// A chunk was read, for the link of today or, if `stale`, for one that is gone.
    pub(super) fn hashed(&mut self, chunk: u64, hash: ChunkHash, stale: bool) {
        if !stale {
            self.reading = self.reading.saturating_sub(1);
        }
        if let Some(place) = self.hashes.get_mut(chunk as usize) {
            self.unhashed -= u64::from(place.is_none());
            *place = Some(hash);
        }
    }

    /// The file's digest, once all chunks are hashed.
    pub(super) fn digest(&self) -> Option<Digest> {
        let hashes: Option<Vec<_>> = self.hashes.iter().copied().collect();
        file_digest(self.size, &hashes?)
    }
}
