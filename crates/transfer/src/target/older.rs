//! Large files of which there is an older version: the source is told its pieces, and sends what is not among them.

use files::{ChunkHash, chunk_len};

use super::entries::State;
use super::{Job, Taken, Target};
use crate::Violation;
use crate::delta::{Op, Piece};
use crate::message::{MOST_PIECES_AT_ONCE, Need, TargetMessage};

/// A file that lacks fewer chunks gets them as they are.
const LEAST_MISSING: u64 = 2;

/// Messages that may wait when pieces are looked for.
const MOST_AHEAD: usize = 4;

impl Target {
    /// Asks for the content of a large file, and for pieces of the older one first, if there is one.
    pub(super) fn ask_content(&mut self, need: Need) {
        let index = need.index;
        let older = self.files.get(&index).and_then(|file| file.older);
        let missing: u64 = need.ranges.iter().map(|(_, count)| count).sum();
        if let Some(exponent) = older.filter(|_| self.ready && missing >= LEAST_MISSING) {
            self.flush_needs();
            self.messages.push_back(TargetMessage::Older { index, exponent });
            self.signs.push_back(Job::Sign { index, from: 0, link: self.links });
        }
        self.ask(need);
    }

    /// Pieces of an older file are known, up to where it is to be gone on with.
    pub(super) fn signed(&mut self, index: u64, link: u64, list: &[Piece], next: Option<u64>) {
        let file = self.files.get(&index).filter(|file| !file.withdrawn);
        let is_wanted = file.is_some_and(|file| matches!(file.state, State::Receiving { .. }));
        if !is_wanted || link != self.links || !self.ready {
            return;
        }
        // The need goes first.
        self.flush_needs();
        let mut rest = list;
        loop {
            let (now, behind) = rest.split_at(rest.len().min(MOST_PIECES_AT_ONCE));
            rest = behind;
            let last = rest.is_empty() && next.is_none();
            if !now.is_empty() || last {
                self.messages.push_back(TargetMessage::Pieces { index, list: now.to_vec(), last });
            }
            if rest.is_empty() {
                break;
            }
        }
        if let Some(from) = next {
            self.signs.push_back(Job::Sign { index, from, link });
        }
    }

    /// The next pieces to look for: not before most of the last ones have left, so that neither they fill the memory, nor
    /// all else that is to be said waits behind them.
    pub(super) fn next_sign(&mut self) -> Option<Job> {
        if self.messages.len() < MOST_AHEAD { self.signs.pop_front() } else { None }
    }

    /// Takes the head of a chunk that is made of an older file.
    pub(super) fn patch(
        &mut self,
        (index, chunk): (u64, u64),
        hash: ChunkHash,
        ops: &[Op],
        len: u64,
    ) -> Result<Taken, Violation> {
        let sparse = self.claim_chunks(index, chunk, 1)?;
        let file = &self.files[&index];
        let size = file.placed.entry.size().unwrap_or_default();
        if file.older.is_none() {
            return Err(Violation("a patch of a file that is not there"));
        }
        if chunk_len(size, chunk).map(|len| len as u64) != Some(len) {
            return Err(Violation("a patch of a wrong length"));
        }
        self.jobs_running += 1;
        let ops = ops.to_vec();
        Ok(Taken::Do(Job::Patch { index, chunk, hash, ops, len, sparse }))
    }

    /// The older file is not what it was, or a mark has lied: the chunk is to come as it is.
    pub(super) fn unpatched(&mut self, index: u64, chunk: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let State::Receiving { writing, .. } = &mut file.state else { return };
        *writing -= 1;
        file.unpatched.push(chunk);
        self.publish_if_complete(index);
    }

    /// Everything else is there, and the source has read all of it.
    pub(super) fn ask_unpatched(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let State::Receiving { missing, sum, .. } = &mut file.state else { return };
        file.unpatched.drain(..).for_each(|chunk| missing.put(chunk));
        // From now on no patch is taken, or a source could go on for ever.
        (*sum, file.older) = (None, None);
        let ranges = missing.ranges();
        self.ask(Need { index, have: None, ranges });
    }
}
