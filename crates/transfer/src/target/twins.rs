//! Files whose content the target may have under another name: looked for before anything is asked for, weighed by
//! digest against the source's, and made of what is there if both are the same. What is not found in reasonable time is
//! asked for as ever.

use std::collections::{HashMap, VecDeque};

use files::{CHUNK, Digest, RelPath};

use super::entries::{Missing, State};
use super::{Failed, Filled, Job, Target};
use crate::message::{EntryKind, Need, Outcome, RefuseCode, TargetMessage};
use crate::twins::{LEAST_TWIN, Stamp, Twins};

/// Memory for what is known of the target folder, in windows of unfinished entries.
const WINDOWS: usize = 4;

/// For so much content that is looked for, one entry of the target folder is looked at: what takes some microseconds, for
/// what takes more than ten times as long on a link of 1 Gbit/s. So one new file in a folder of ten millions does not
/// wait for all of them, and many large ones do.
const BYTES_PER_ENTRY: u64 = 16 << 10;

/// Entries that are looked at for anything at all, and at a time.
const LEAST_LISTED: u64 = 4096;

/// Files that are weighed and made at a time: as many as have been right before, within these bounds. Each keeps a file
/// open.
const LEAST_TRIED: u64 = 8;
const MOST_TRIED: u64 = 64;

/// Nothing is looked for any more when so many more were wrong than right: both ends have read each of them in vain.
const MOST_WRONG: u64 = 16;

/// Stamps of which it is remembered whether they tell anything.
const MOST_TRIALS: usize = 1 << 15;

/// Whether files that look alike are alike.
#[derive(Debug)]
enum Trial {
    /// This one is on its way or weighed; the others wait for what comes of it.
    Open { by: u64, waiting: Vec<u64> },
    /// They were.
    Right,
    /// They were not.
    Wrong,
}

/// What is there in this file's stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    Hashing,
    /// It cannot be used.
    Gone,
    Is(Digest),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Seeking {
    known: Twins,
    /// Files that are to be looked for, and those for which something was found.
    seekers: VecDeque<u64>,
    found: VecDeque<u64>,
    trials: HashMap<Stamp, Trial>,
    /// Digests that are to be asked for.
    asks: Vec<u64>,
    /// All of the target folder was looked at.
    is_listed: bool,
    is_listing: bool,
    /// Entries that were looked at, and bytes that were looked for.
    entries: u64,
    bytes: u64,
    tried: u64,
    right: u64,
    wrong: u64,
}

impl Seeking {
    pub(super) fn new(window: u64) -> Self {
        Self {
            known: Twins::new(WINDOWS * window as usize),
            seekers: VecDeque::new(),
            found: VecDeque::new(),
            trials: HashMap::new(),
            asks: Vec::new(),
            is_listed: false,
            is_listing: false,
            entries: 0,
            bytes: 0,
            tried: 0,
            right: 0,
            wrong: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.wrong > self.right + MOST_WRONG
    }

    /// Entries that may still be looked at, for now.
    fn to_list(&self) -> u64 {
        let most = LEAST_LISTED + self.bytes / BYTES_PER_ENTRY;
        if self.is_listed { 0 } else { most.saturating_sub(self.entries).min(LEAST_LISTED) }
    }

    /// It is known whether files of a stamp are alike: those that waited for that go on.
    fn tell(&mut self, stamp: Stamp, trial: Option<Trial>) {
        let before = self.trials.remove(&stamp);
        if let Some(trial) = trial {
            if self.trials.len() >= MOST_TRIALS {
                self.trials.retain(|_, trial| matches!(trial, Trial::Open { .. }));
            }
            self.trials.insert(stamp, trial);
        }
        if let Some(Trial::Open { waiting, .. }) = before {
            self.seekers.extend(waiting);
        }
    }

    /// A file is no longer the one that the others of its stamp wait for, if it was.
    fn leave(&mut self, stamp: Stamp, index: u64) {
        if matches!(self.trials.get(&stamp), Some(Trial::Open { by, .. }) if *by == index) {
            self.tell(stamp, None);
        }
    }
}

impl Target {
    /// The stamp of a file that is worth looking for.
    fn stamp(&self, index: u64) -> Option<Stamp> {
        let entry = &self.files.get(&index)?.placed.entry;
        match entry.kind {
            EntryKind::File { size, .. } if size >= LEAST_TWIN && self.options.delta => {
                Some(Stamp { size, mtime: entry.mtime })
            }
            _ => None,
        }
    }

    /// Looks for a file's content before it is asked for, if that was not done and is worth it.
    pub(super) fn seek(&mut self, index: u64) -> bool {
        let Some(stamp) = self.stamp(index) else { return false };
        let Some(file) = self.files.get_mut(&index) else { return false };
        if self.is_fast || self.seeking.is_over() || std::mem::replace(&mut file.sought, true) {
            return false;
        }
        file.state = State::Seeking;
        self.seeking.bytes += stamp.size;
        self.seeking.seekers.push_back(index);
        true
    }

    /// The next thing to do for those that are looked for.
    pub(super) fn next_twin(&mut self) -> Option<Job> {
        loop {
            if let Some(job) = self.next_found() {
                return Some(job);
            }
            if self.seeking.is_listing {
                return None;
            }
            let index = *self.seeking.seekers.front()?;
            let most = self.seeking.to_list();
            if most > 0 && !self.seeking.is_over() {
                self.seeking.is_listing = true;
                return Some(Job::ListTwins { most });
            }
            self.seeking.seekers.pop_front();
            self.sort_out(index);
        }
    }

    /// One that was found, if there is room for it.
    fn next_found(&mut self) -> Option<Job> {
        while self.seeking.tried < self.seeking.right.clamp(LEAST_TRIED, MOST_TRIED) {
            let index = self.seeking.found.pop_front()?;
            let Some((_, found)) = self.look_up(index) else { continue };
            match found.filter(|_| !self.seeking.is_over()) {
                Some(from) => return Some(self.weigh_against(index, from)),
                None => self.want_content(index),
            }
        }
        None
    }

    /// A file has its turn: what may be its content is found, or another one is waited for, or it is asked for.
    fn sort_out(&mut self, index: u64) {
        let Some((stamp, found)) = self.look_up(index) else { return };
        if self.seeking.is_over() {
            return self.want_content(index);
        }
        match (self.seeking.trials.get_mut(&stamp), &found) {
            (Some(Trial::Open { waiting, .. }), _) => return waiting.push(index),
            (Some(Trial::Wrong), _) | (Some(Trial::Right), None) => {
                return self.want_content(index);
            }
            (Some(Trial::Right), Some(_)) => return self.seeking.found.push_back(index),
            (None, _) => {}
        }
        let trial = Trial::Open { by: index, waiting: Vec::new() };
        self.seeking.trials.insert(stamp, trial);
        match found {
            Some(_) => self.seeking.found.push_back(index),
            None => self.want_content(index),
        }
    }

    /// A file that is still looked for, and what may be its content.
    fn look_up(&self, index: u64) -> Option<(Stamp, Option<RelPath>)> {
        let file = self.files.get(&index)?;
        let stamp = self.stamp(index).filter(|_| matches!(file.state, State::Seeking))?;
        let found = self.seeking.known.find(stamp, &file.placed.spot.name);
        Some((stamp, found.filter(|from| file.placed.spot.path().as_ref() != Some(from))))
    }

    fn weigh_against(&mut self, index: u64, from: RelPath) -> Job {
        self.seeking.tried += 1;
        let file = self.files.get_mut(&index).expect("it was looked at just now");
        file.state = State::Weighing { ours: Ours::Hashing, theirs: None };
        file.holds_twin = true;
        let placed = file.placed.clone();
        self.ask_digest(index);
        Job::HashTwin { placed, from }
    }

    /// Asks for a digest, once on each link.
    pub(super) fn ask_digest(&mut self, index: u64) {
        if self.ready
            && let Some(file) = self.files.get_mut(&index)
        {
            file.asked = true;
            self.seeking.asks.push(index);
        }
    }

    pub(super) fn flush_asks(&mut self) {
        // As many as fit, each as long as may be.
        let asks = std::mem::take(&mut self.seeking.asks);
        for list in asks.chunks(4096) {
            self.messages.push_back(TargetMessage::Ask(list.to_vec()));
        }
    }

    pub(super) fn forget_asks(&mut self) {
        self.seeking.asks.clear();
    }

    /// A part of the target folder was looked at.
    pub(super) fn twins_listed(&mut self, looked: u64, found: &[(Stamp, RelPath)], is_all: bool) {
        self.seeking.is_listing = false;
        self.seeking.is_listed |= is_all;
        self.seeking.entries += looked.max(1);
        for (stamp, path) in found {
            self.seeking.known.insert(*stamp, path);
        }
    }

    /// What may be a file's content was hashed here.
    pub(super) fn twin_hashed(&mut self, index: u64, from: &RelPath, digest: Option<Digest>) {
        if let (Some(stamp), None) = (self.stamp(index), digest) {
            self.seeking.known.remove(stamp, from);
        }
        let Some(file) = self.files.get_mut(&index) else { return };
        if let State::Weighing { ours, .. } = &mut file.state {
            *ours = digest.map_or(Ours::Gone, Ours::Is);
        }
        if file.withdrawn {
            return self.end_entry(index, Outcome::Withdrawn);
        }
        self.weigh(index);
    }

    /// Once both digests are known: takes what is there, or asks for the content.
    pub(super) fn weigh(&mut self, index: u64) {
        let Some(stamp) = self.stamp(index) else { return };
        let Some(file) = self.files.get_mut(&index) else { return };
        let State::Weighing { ours, theirs: Some(theirs) } = file.state else { return };
        match ours {
            Ours::Hashing => {}
            Ours::Gone => {
                self.drop_twin(index);
                self.want_content(index);
            }
            Ours::Is(digest) if digest == theirs => {
                self.seeking.right += 1;
                self.seeking.tell(stamp, Some(Trial::Right));
                file.twin = Some(digest);
                if let Err(failed) = self.claim(index) {
                    self.drop_twin(index);
                    return self.entry_failed(index, failed);
                }
                let Some(file) = self.files.get_mut(&index) else { return };
                if stamp.size <= CHUNK {
                    return self.fill(index);
                }
                file.state = State::WaitingForSlot;
                self.waiting_open.push_back(index);
            }
            Ours::Is(_) => {
                self.seeking.wrong += 1;
                self.seeking.tell(stamp, Some(Trial::Wrong));
                self.drop_twin(index);
                self.want_content(index);
            }
        }
    }

    /// Makes a file of what is there.
    pub(super) fn fill(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let Some(digest) = file.twin else { return };
        file.state = State::Filling;
        self.jobs.push_back(Job::Fill { placed: file.placed.clone(), digest });
    }

    pub(super) fn filled(&mut self, index: u64, result: Result<Filled, Failed>) {
        let Some(file) = self.files.get(&index) else { return };
        let (digest, withdrawn, placed) = (file.twin, file.withdrawn, file.placed.clone());
        let is_large = file.small_size().is_none();
        if is_large && (withdrawn || result.is_err()) {
            let remove = matches!(&result, Err(failed) if failed.code == RefuseCode::Disk);
            self.jobs.push_back(Job::Discard { index, remove });
            self.close_large();
        }
        match (result, digest) {
            (Err(failed), _) => self.entry_failed(index, failed),
            (Ok(Filled::Published), Some(digest)) => {
                self.end_entry(index, Outcome::Copied(digest));
            }
            _ if withdrawn => self.end_entry(index, Outcome::Withdrawn),
            (Ok(Filled::Partly), _) => self.fill(index),
            (Ok(Filled::Whole), Some(digest)) => {
                self.drop_twin(index);
                if let Some(file) = self.files.get_mut(&index) {
                    file.state = State::Publishing;
                }
                self.jobs.push_back(Job::Publish { placed, digest });
            }
            (Ok(Filled::Lacks(ranges)), _) => {
                self.drop_twin(index);
                self.lacks(index, &ranges);
            }
            (Ok(Filled::Published | Filled::Whole), None) => {}
        }
    }

    /// What a file was to be made of is not what it was: the rest is asked for.
    fn lacks(&mut self, index: u64, ranges: &[(u64, u64)]) {
        let Some(file) = self.files.get_mut(&index) else { return };
        file.twin = None;
        let (mut missing, mut ranges) = (Missing::new(ranges), Vec::new());
        file.state = if file.small_size().is_some() {
            State::Wanted
        } else {
            ranges = missing.ranges();
            State::Receiving { missing, writing: 0, sum: None }
        };
        self.ask(Need { index, have: None, ranges });
    }

    /// What a file was to be made of is not needed any more.
    fn drop_twin(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        if std::mem::replace(&mut file.holds_twin, false) {
            self.seeking.tried -= 1;
            self.jobs.push_back(Job::ForgetTwin { index });
        }
    }

    /// A file ends: it may be what others look for.
    pub(super) fn seeker_ends(&mut self, index: u64, outcome: &Outcome) {
        self.drop_twin(index);
        let Some(stamp) = self.stamp(index) else { return };
        let stands = matches!(outcome, Outcome::Copied(_) | Outcome::Unchanged(_));
        let path = self.files.get(&index).and_then(|file| file.placed.spot.path());
        if let (Some(path), true) = (path, stands) {
            self.seeking.known.insert(stamp, &path);
        }
        self.seeking.leave(stamp, index);
    }
}
