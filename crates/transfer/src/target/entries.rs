//! What the target keeps of each unfinished entry, and the chunks that a large file still lacks.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use files::{CHUNK, Digest, Name, RelPath};

use super::twins::Ours;
use super::{Failed, Placed};
use crate::message::{MAX_RANGES, Need, Why};

/// A folder that is being filled. Folder 0 is the target folder, which no entry stands for.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) placed: Option<Placed>,
    /// With the source's own names, for the tree digest.
    pub(super) source_path: RelPath,
    /// Where it is on this side.
    pub(super) path: Arc<RelPath>,
    pub(super) cost: u64,
    /// Children without an outcome.
    pub(super) pending: u64,
    pub(super) left: Option<bool>,
    /// Why it could not be made; what lies in it fails as well.
    pub(super) failure: Option<Failed>,
    pub(super) examined: bool,
    pub(super) would_make: bool,
    pub(super) finishing: bool,
    pub(super) finished: bool,
    /// Names that the source has in it, when extras are to be removed.
    pub(super) names: Option<HashSet<Name>>,
    /// What they take.
    pub(super) names_bytes: usize,
}

impl Folder {
    pub(super) fn top(names: bool) -> Self {
        let mut top = Self::with_paths(RelPath::root(), RelPath::root(), names);
        top.examined = true;
        top
    }

    pub(super) fn new(placed: Placed, source_path: RelPath, path: RelPath, names: bool) -> Self {
        let cost = placed.entry.cost(source_path.as_bytes().len());
        Self { placed: Some(placed), cost, ..Self::with_paths(source_path, path, names) }
    }

    fn with_paths(source_path: RelPath, path: RelPath, names: bool) -> Self {
        Self {
            placed: None,
            source_path,
            path: Arc::new(path),
            cost: 0,
            pending: 0,
            left: None,
            failure: None,
            examined: false,
            would_make: false,
            finishing: false,
            finished: false,
            names: names.then(HashSet::new),
            names_bytes: 0,
        }
    }

    /// Remembers a name that the source has. A folder with more names than `cap` bytes is kept whole:
    /// without all names nothing in it can be called an extra.
    pub(super) fn keep_name(&mut self, name: &Name, cap: usize) {
        let Some(names) = &mut self.names else { return };
        self.names_bytes += name.as_bytes().len() + 64;
        names.insert(name.clone());
        if self.names_bytes > cap {
            self.names = None;
            self.names_bytes = 0;
        }
    }
}

/// A file or link that has no outcome yet.
#[derive(Debug)]
pub(super) struct File {
    pub(super) placed: Placed,
    pub(super) cost: u64,
    pub(super) state: State,
    /// Taken back by the source while a disk job was under way.
    pub(super) withdrawn: bool,
    /// What a dry run says of it.
    pub(super) why: Why,
    /// Why the source has taken it back, where it will not offer it anew.
    pub(super) lost: Option<String>,
    /// The digest of what stands there, once compared.
    pub(super) compared: Option<Digest>,
    /// How often the digest at the end was wrong.
    pub(super) repeats: u8,
    /// The source was told on this link what is needed of it.
    pub(super) asked: bool,
    /// There is an older file, whose pieces are so long on average, as an exponent of two.
    pub(super) older: Option<u8>,
    /// Chunks that could not be made of it.
    pub(super) unpatched: Vec<u64>,
    /// Its content was looked for under other names.
    pub(super) sought: bool,
    /// The disk holds a file that may have its content.
    pub(super) holds_twin: bool,
    /// That file has it, and this digest.
    pub(super) twin: Option<Digest>,
    /// What of the bytes that may be stored it has taken.
    pub(super) claimed: u64,
}

#[derive(Debug)]
pub(super) enum State {
    /// The disk is asked what stands there.
    Examining,
    /// A disk job will end the entry.
    Busy,
    /// A small file whose content was asked for.
    Wanted,
    /// The source is asked whether it has the same.
    Comparing { have: Digest },
    /// A large file that waits for others to be published.
    WaitingForSlot,
    /// Its staged form is being opened.
    Opening,
    /// Chunks are coming.
    Receiving { missing: Missing, writing: u32, sum: Option<Digest> },
    /// Digest check and rename.
    Publishing,
    /// A hard link whose file is not published yet.
    WaitingForLink,
    /// Its content is looked for under other names.
    Seeking,
    /// Another file may have its content: the digests of both, as far as they are known.
    Weighing { ours: Ours, theirs: Option<Digest> },
    /// It is made of another file.
    Filling,
    /// The source took it back.
    Withdrawn,
}

impl File {
    pub(super) fn new(placed: Placed) -> Self {
        let cost = placed.entry.cost(0);
        let state = State::Examining;
        Self {
            placed,
            cost,
            state,
            withdrawn: false,
            why: Why::New,
            lost: None,
            compared: None,
            repeats: 0,
            asked: false,
            older: None,
            unpatched: Vec::new(),
            sought: false,
            holds_twin: false,
            twin: None,
            claimed: 0,
        }
    }

    /// What of its claim has not come and, once it has ended, will not be stored any more.
    pub(super) fn unused_claim(&self) -> u64 {
        match &self.state {
            State::Wanted | State::WaitingForSlot => self.claimed,
            State::Receiving { missing, .. } => self.claimed.min(missing.count() * CHUNK),
            _ => 0,
        }
    }

    /// The size, if the file travels whole.
    pub(super) fn small_size(&self) -> Option<u64> {
        self.placed.entry.size().filter(|size| *size <= CHUNK)
    }

    /// What to ask of a source that has forgotten what it was asked.
    pub(super) fn need_again(&mut self) -> Option<Need> {
        let index = self.placed.entry.index;
        match &mut self.state {
            State::Wanted => Some(Need { index, have: None, ranges: Vec::new() }),
            State::Comparing { have } => {
                Some(Need { index, have: Some(*have), ranges: Vec::new() })
            }
            State::Receiving { missing, sum, .. } => {
                *sum = None;
                self.unpatched.drain(..).for_each(|chunk| missing.put(chunk));
                Some(Need { index, have: None, ranges: missing.ranges() })
            }
            _ => None,
        }
    }
}

/// The chunks that a large file lacks, as ranges: small even for files of many chunks, because
/// chunks come nearly in order.
#[derive(Debug)]
pub(super) struct Missing(VecDeque<(u64, u64)>);

impl Missing {
    /// From first and count, rising.
    pub(super) fn new(ranges: &[(u64, u64)]) -> Self {
        Self(ranges.iter().map(|(first, count)| (*first, first + count)).collect())
    }

    /// One chunk more is missing.
    pub(super) fn put(&mut self, chunk: u64) {
        let place = self.0.partition_point(|(first, _)| *first <= chunk);
        let end_before = place.checked_sub(1).map(|before| self.0[before].1);
        if end_before.is_some_and(|end| end > chunk) {
            return;
        }
        let joins = self.0.get(place).is_some_and(|(first, _)| *first == chunk + 1);
        match (end_before == Some(chunk), joins) {
            (true, true) => {
                let behind = self.0.remove(place).map_or(chunk + 1, |(_, end)| end);
                self.0[place - 1].1 = behind;
            }
            (true, false) => self.0[place - 1].1 = chunk + 1,
            (false, true) => self.0[place].0 = chunk,
            (false, false) => self.0.insert(place, (chunk, chunk + 1)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many chunks these are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// Takes chunks out; false if not all of them are missing.
    pub(super) fn take(&mut self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        let place = self.0.partition_point(|(_, range_end)| *range_end <= first);
        let Some((range_first, range_end)) = self.0.get(place).copied() else { return false };
        if first < range_first || end > range_end {
            return false;
        }
        self.0.remove(place);
        if end < range_end {
            self.0.insert(place, (end, range_end));
        }
        if range_first < first {
            self.0.insert(place, (range_first, first));
        }
        true
    }

    /// As first and count, at most as many as a need may list: beyond that, neighbours are joined and
    /// what lies between them becomes missing again. A chunk that is being written is not missing.
    pub(super) fn ranges(&mut self) -> Vec<(u64, u64)> {
        while self.0.len() > MAX_RANGES {
            let mut joined = VecDeque::new();
            while let Some((first, end)) = self.0.pop_front() {
                let end = self.0.pop_front().map_or(end, |(_, end)| end);
                joined.push_back((first, end));
            }
            self.0 = joined;
        }
        self.0.iter().map(|(first, end)| (*first, end - first)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_are_missing_again_join_their_neighbours() {
        let mut missing = Missing::new(&[(2, 2), (6, 1)]);
        for (chunk, ranges) in [
            (9, vec![(2, 2), (6, 1), (9, 1)]),
            (5, vec![(2, 2), (5, 2), (9, 1)]),
            (4, vec![(2, 5), (9, 1)]),
            (3, vec![(2, 5), (9, 1)]),
            (0, vec![(0, 1), (2, 5), (9, 1)]),
            (7, vec![(0, 1), (2, 6), (9, 1)]),
            (8, vec![(0, 1), (2, 8)]),
            (1, vec![(0, 10)]),
        ] {
            missing.put(chunk);
            assert_eq!(missing.ranges(), ranges, "with chunk {chunk}");
        }
    }
}
