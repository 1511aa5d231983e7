//! Which reading job comes next, and what its result means for the entries it was for.

use files::{CHUNK, ChunkHash, Digest};

use super::large::Large;
use super::{Job, JobResult, MAX_BUNDLE, MAX_COMPARES, MAX_JOBS, Output, ReadItem, Source};
use crate::message::SourceMessage;

impl Source {
    /// The next thing to do, or nothing until there is more input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.offers.is_empty() {
            self.send_offers();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.next_job().map(Output::Read)
    }

    fn next_job(&mut self) -> Option<Job> {
        if !self.ready || self.held || self.jobs >= MAX_JOBS {
            return None;
        }
        if let Some(live) = self.early.take().and_then(|index| self.live.get(&index)) {
            let (place, attributes) = (live.found.place.clone(), &live.found.attributes);
            let read = ReadItem::of(live.entry.index, place, attributes);
            self.used += attributes.size.min(CHUNK);
            self.jobs += 1;
            return Some(Job::Early { read, epoch: self.epoch });
        }
        // Whole files take long to hash, and what can be sent need not wait for that.
        let compare = if self.comparing.len() < MAX_COMPARES { self.next_compare() } else { None };
        let job = compare.or_else(|| self.next_payload()).or_else(|| self.next_compare())?;
        self.jobs += 1;
        Some(job)
    }

    fn next_compare(&mut self) -> Option<Job> {
        while let Some((index, have)) = self.compare.pop_front() {
            let Some(live) = self.live.get(&index) else { continue };
            self.comparing.push((index, self.epoch));
            let read = ReadItem::of(index, live.found.place.clone(), &live.found.attributes);
            return Some(Job::Compare { read, have, epoch: self.epoch });
        }
        None
    }

    fn next_payload(&mut self) -> Option<Job> {
        self.big_turn = !self.big_turn;
        if self.big_turn {
            self.next_chunk().or_else(|| self.next_bundle())
        } else {
            self.next_bundle().or_else(|| self.next_chunk())
        }
    }

    fn next_bundle(&mut self) -> Option<Job> {
        let mut items = Vec::new();
        let mut total = 0;
        while let Some(index) = self.small.front() {
            let Some(live) = self.live.get(index) else {
                self.small.pop_front();
                continue;
            };
            let size = live.found.attributes.size;
            let full = total + size > CHUNK || items.len() >= MAX_BUNDLE;
            if full || self.used + total + size > self.allowed {
                break;
            }
            total += size;
            items.push(ReadItem::of(*index, live.found.place.clone(), &live.found.attributes));
            self.small.pop_front();
        }
        self.used += total;
        (!items.is_empty()).then_some(Job::Bundle { items, epoch: self.epoch })
    }

    fn next_chunk(&mut self) -> Option<Job> {
        let mut at = 0;
        while let Some(index) = self.big.get(at).copied() {
            let Some(live) = self.live.get_mut(&index) else {
                self.big.remove(at);
                continue;
            };
            if live.older.is_coming() {
                // Others need not wait for its pieces.
                at += 1;
                continue;
            }
            let older = live.older.known();
            let large = live.large.as_mut()?;
            let read = ReadItem::of(index, live.found.place.clone(), &live.found.attributes);
            if let Some((chunk, len, send)) = large.next(self.allowed.saturating_sub(self.used)) {
                self.used += if send { len } else { 0 };
                let older = older.filter(|_| send);
                return Some(Job::Chunk { read, chunk, send, older, epoch: self.epoch });
            }
            if !large.all_asked() {
                return None; // It waits for credit, and the files behind it wait with it.
            }
            self.big.remove(at);
            if large.is_read() {
                return Some(Job::Close { read, epoch: self.epoch });
            }
        }
        None
    }

    /// Takes the result of a reading job.
    pub fn job_done(&mut self, result: JobResult) {
        self.jobs -= 1;
        let stale = result.epoch() != self.epoch;
        if let JobResult::Compared { index, epoch, .. } | JobResult::Failed { index, epoch, .. } =
            &result
        {
            self.comparing.retain(|compared| *compared != (*index, *epoch));
        }
        if !stale {
            self.used -= result.unsent();
        }
        match result {
            JobResult::Bundle { read, failed, .. } => {
                if stale {
                    return;
                }
                for (index, hash, _) in read {
                    if let Some(live) = self.live.get_mut(&index) {
                        live.digest = Some(Digest::from_bytes(*hash.as_bytes()));
                    }
                }
                for (index, failure) in failed {
                    self.read_failed(index, failure);
                }
            }
            JobResult::Chunk { index, chunk, hash, .. } => {
                self.chunk_read(index, chunk, hash, stale)
            }
            JobResult::Closed { index, .. } => self.closed(index, stale),
            JobResult::Compared { index, same, digest, .. } => {
                if !stale {
                    self.compared(index, same, digest);
                }
            }
            JobResult::Failed { index, failure, .. } => {
                if !stale {
                    self.read_failed(index, failure);
                }
            }
        }
    }

    fn chunk_read(&mut self, index: u64, chunk: u64, hash: ChunkHash, stale: bool) {
        let Some(live) = self.live.get_mut(&index) else { return };
        let given_up = live.is_given_up();
        let Some(large) = &mut live.large else { return };
        large.hashed(chunk, hash, stale);
        if stale || given_up || !large.is_read() || self.big.contains(&index) {
            return;
        }
        // All was asked for before the last hash came: only now can the file be closed.
        self.big.push_front(index);
    }

    fn closed(&mut self, index: u64, stale: bool) {
        let Some(live) = self.live.get_mut(&index) else { return };
        let digest = live.large.as_ref().and_then(Large::digest);
        live.digest = digest;
        if let (Some(digest), false) = (digest, stale) {
            self.send(SourceMessage::Sum { index, digest });
        }
    }

    fn compared(&mut self, index: u64, same: bool, digest: Digest) {
        let Some(live) = self.live.get_mut(&index) else { return };
        live.digest = Some(digest);
        if same {
            self.send(SourceMessage::Same { index });
            return;
        }
        // Another digest than the one that was named says that the content is to be asked for. Where none was named the
        // target knows what to do.
        self.send(SourceMessage::Sum { index, digest });
    }
}
