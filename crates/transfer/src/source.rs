//! The source's half of a transfer as a pure machine: what was walked goes in, and out come offers,
//! reading jobs and the verdict on every entry. It does no IO and reads no clock; the shell (`send.rs`)
//! carries out what it asks for. It keeps at most `WINDOW` unfinished entries and every one of them ends
//! with exactly one outcome, also when the link is cut and the same entries are offered again.

mod job;
mod large;
mod older;
mod reading;
mod rereading;
mod settling;
mod waits;
mod walked;

pub use job::{Failure, Job, JobResult, ReadItem};
pub use walked::{Found, Place, Walked};

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use files::{Attributes, CHUNK, Digest, RelPath};

use crate::message::{
    Entry, EntryKind, MAX_WINDOW, MIN_WINDOW, Need, Outcome, RefuseCode, SourceMessage,
    TargetMessage, pack,
};
use crate::{Totals, Violation};
use large::Large;
use older::Older;
use rereading::is_told_by_reading;
use settling::Settling;

/// Reading jobs that may run at once: enough to keep a disk and a hasher busy.
const MAX_JOBS: usize = 6;
/// Of these, hashing of whole files while there is anything to send.
const MAX_COMPARES: usize = 3;
/// Files that may be sent as bundles before one chunk of a large file gets its turn.
const MAX_BUNDLE: usize = 512;
/// Hard-linked files remembered; links beyond them are sent as files of their own.
const MAX_SHARED: usize = 65_536;
/// Paths that a target may name as extra; a cut at the end may have it name them again.
const MAX_EXTRAS: usize = 10 * crate::target::MAX_EXTRAS;
/// Outcomes after which the target may forget what it keeps for a cut link.
const SEEN_EVERY: u64 = 512;

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on the control stream.
    Send(SourceMessage),
    /// Read; the answer goes to `job_done`.
    Read(Job),
    /// Wait, then see how this file looks; the answer goes to `looked`.
    Look {
        /// The file, as it was when it was last looked at.
        read: ReadItem,
        /// How long to wait.
        after: Duration,
    },
    /// Close the handle of this file, if one is open.
    Forget(u64),
    /// An entry ended so.
    Ended {
        /// Where it was.
        place: Place,
        /// As it was offered.
        entry: Entry,
        /// How it ended.
        outcome: Outcome,
        /// For a hard link that stands: the digest of its content.
        linked: Option<Digest>,
    },
    /// Something that was never offered failed.
    Problem {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// The target names what it has beside what was offered.
    Extras(Vec<RelPath>),
    /// The target says that the job is over.
    Receipt(Vec<u8>),
    /// The target gave up.
    Aborted {
        /// The kind of reason.
        code: RefuseCode,
        /// The reason in words.
        text: String,
    },
}

/// An entry that has no outcome yet.
#[derive(Debug)]
struct Live {
    entry: Entry,
    found: Found,
    attempts: u8,
    /// The length of its path below folder 0.
    path_len: usize,
    cost: u64,
    /// The offer was taken back, and why.
    withdrawn: Option<Withdrawn>,
    /// It changed while it was read, and is watched until it holds still.
    settling: Option<Settling>,
    /// For folders: the walk left it, and whether all of it was read.
    left: Option<bool>,
    /// Known once the content was read whole.
    digest: Option<Digest>,
    large: Option<Large>,
    /// What the target says of an older version of it.
    older: Older,
    /// A small file that goes out on this link without having been asked for.
    early: bool,
    /// Its digest was asked for on this link.
    is_asked: bool,
}

impl Live {
    /// Nothing more of it is to be read under this index.
    fn is_given_up(&self) -> bool {
        self.withdrawn.is_some() || self.settling.is_some()
    }
}

#[derive(Debug)]
struct Withdrawn {
    reason: String,
    /// The same file was offered anew, so this is not how it ended.
    replaced: bool,
}

/// The machine. See the module's text.
#[derive(Debug)]
pub struct Source {
    live: BTreeMap<u64, Live>,
    live_cost: u64,
    window: u64,
    next_index: u64,
    /// Steps of the walk that wait until there is room for them.
    steps: VecDeque<Walked>,
    /// How many folders deep the walk is in what is left out.
    skipping: usize,
    /// Files and links among the unfinished entries.
    leaves: usize,
    /// The folders that the walk is in, outermost first; 0 is the target folder.
    stack: Vec<u64>,
    contents_left: Option<bool>,
    /// First index of each file with several names, by device and inode.
    shared: HashMap<(u64, u64), u64>,
    shared_digests: HashMap<u64, Digest>,
    finished_walk: bool,
    problems: u64,
    /// How many paths the target has named as extra.
    extras: usize,
    ready: bool,
    /// Began without waiting for the target, whose word that it is ready is still to come.
    ahead: bool,
    /// The next file offered goes out early.
    early_open: bool,
    /// The file to be read for that.
    early: Option<u64>,
    held: bool,
    /// Raised with each cut, so that a late reading job is known to be for the link before.
    epoch: u64,
    seen: u64,
    seen_told: u64,
    allowed: u64,
    used: u64,
    stored: u64,
    /// Files to be hashed, and what the target has if it said so.
    compare: VecDeque<(u64, Option<Digest>)>,
    /// Those that are being hashed, and for which link.
    comparing: Vec<(u64, u64)>,
    small: VecDeque<u64>,
    big: VecDeque<u64>,
    big_turn: bool,
    jobs: usize,
    offers: Vec<Entry>,
    outputs: VecDeque<Output>,
    totals: Totals,
    /// See [`Source::rereading`].
    rereads: bool,
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// A machine at the start of a transfer, with no link yet.
    pub fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            live_cost: 0,
            window: MIN_WINDOW,
            next_index: 1,
            steps: VecDeque::new(),
            skipping: 0,
            leaves: 0,
            stack: Vec::new(),
            contents_left: None,
            shared: HashMap::new(),
            shared_digests: HashMap::new(),
            finished_walk: false,
            problems: 0,
            extras: 0,
            ready: false,
            ahead: false,
            early_open: false,
            early: None,
            held: false,
            epoch: 0,
            seen: 0,
            seen_told: 0,
            allowed: 0,
            used: 0,
            stored: 0,
            compare: VecDeque::new(),
            comparing: Vec::new(),
            small: VecDeque::new(),
            big: VecDeque::new(),
            big_turn: false,
            jobs: 0,
            offers: Vec::new(),
            outputs: VecDeque::new(),
            totals: Totals::default(),
            rereads: false,
        }
    }

    /// What the target grants for unfinished entries.
    pub fn set_window(&mut self, window: u64) {
        // Whatever a target says, what is kept for it here is bounded.
        self.window = window.clamp(MIN_WINDOW, MAX_WINDOW);
    }

    /// Begins a transfer without waiting until the target says that it is ready. With `early`, the
    /// beginning of the first file goes out before it is asked for.
    pub fn begin_ahead(&mut self, early: bool) {
        (self.ready, self.ahead, self.early_open) = (true, true, early);
    }

    /// Whether to read no more for now: what was read has not yet left.
    pub fn hold_reading(&mut self, held: bool) {
        self.held = held;
    }

    /// How many outcomes have been processed; told to the target when a cut link is resumed.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What has been counted so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether all that there is has been found.
    pub fn is_walked(&self) -> bool {
        self.finished_walk
    }

    /// Payload bytes that the target has stored on this connection.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Lets the target hear that work goes on, when reading takes long.
    pub fn say_alive(&mut self) {
        self.send(SourceMessage::Seen { outcomes: self.seen });
    }

    fn send_end(&mut self) {
        self.send_offers();
        let entries = self.next_index - 1;
        self.send(SourceMessage::End { entries, problems: self.problems });
    }

    fn offer(&mut self, found: Found, parent: Option<u64>, attempts: u8) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        let parent = parent.unwrap_or_else(|| self.stack.last().copied().unwrap_or(0));
        let attributes = &found.attributes;
        let kind = match (attributes.kind, &found.link_target) {
            (files::Kind::Directory, _) => EntryKind::Folder,
            (_, Some(target)) => EntryKind::Symlink { target: target.clone() },
            _ => self.file_kind(index, attributes),
        };
        let entry = Entry {
            index,
            parent,
            name: found.name.clone(),
            kind,
            mode: attributes.mode & 0o7777,
            mtime: attributes.mtime,
            owner: found.owner,
            xattrs: found.xattrs.clone(),
        };
        if self.ready {
            self.offers.push(entry.clone());
        }
        let above = self.live.get(&parent).map_or(0, |folder| folder.path_len + 1);
        let path_len = above + entry.name.as_bytes().len();
        let cost = entry.cost(path_len);
        self.live_cost += cost;
        self.leaves += usize::from(!entry.is_folder());
        let live = Live {
            path_len,
            cost,
            entry,
            found,
            attempts,
            withdrawn: None,
            settling: None,
            left: None,
            digest: None,
            large: None,
            older: Older::None,
            early: false,
            is_asked: false,
        };
        self.live.insert(index, live);
        self.try_early(index);
        index
    }

    /// Sends the beginning of this entry unasked, if it is the first file of a transfer that begins.
    fn try_early(&mut self, index: u64) {
        let Some(live) = self.live.get_mut(&index).filter(|_| self.early_open) else { return };
        let EntryKind::File { size, sparse, .. } = live.entry.kind else { return };
        self.early_open = false;
        if size == 0 || sparse {
            return;
        }
        if size <= CHUNK {
            live.early = true;
        } else {
            live.large.get_or_insert_with(|| Large::new(size)).send_early();
        }
        self.early = Some(index);
    }

    fn file_kind(&mut self, index: u64, attributes: &Attributes) -> EntryKind {
        let size = attributes.size;
        let mut shared = false;
        if attributes.links > 1 {
            let inode = (attributes.device, attributes.inode);
            if let Some(first) = self.shared.get(&inode) {
                return EntryKind::HardLink { to: *first, size };
            }
            shared = self.shared.len() < MAX_SHARED;
            if shared {
                self.shared.insert(inode, index);
            }
        }
        EntryKind::File { size, sparse: attributes.is_sparse(), shared }
    }

    /// Takes a message of the target.
    pub fn message(&mut self, message: TargetMessage) -> Result<(), Violation> {
        match message {
            TargetMessage::Ready => self.offer_again(),
            TargetMessage::Need(needs) => needs.into_iter().try_for_each(|need| self.needed(need)),
            TargetMessage::Outcomes { first, list } => self.outcomes(first, list),
            TargetMessage::Credit { allowed, stored } => {
                if allowed < self.allowed || stored > self.used {
                    return Err(Violation("credit shrank or exceeds what was sent"));
                }
                (self.allowed, self.stored) = (allowed, stored);
                Ok(())
            }
            TargetMessage::Receipt(receipt) => {
                self.give_up_unanswered()?;
                self.outputs.push_back(Output::Receipt(receipt));
                Ok(())
            }
            TargetMessage::Extras(paths) => {
                self.extras += paths.len();
                if self.extras > MAX_EXTRAS || !self.finished_walk {
                    return Err(Violation("extras that cannot be"));
                }
                self.outputs.push_back(Output::Extras(paths));
                Ok(())
            }
            // The shell has read it.
            TargetMessage::Bound(_) => Ok(()),
            TargetMessage::Older { index, exponent } => self.older_comes(index, exponent),
            TargetMessage::Pieces { index, list, last } => self.pieces_came(index, &list, last),
            TargetMessage::Ask(list) => list.into_iter().try_for_each(|index| self.asked(index)),
            TargetMessage::Abort { code, text } => {
                self.outputs.push_back(Output::Aborted { code, text });
                Ok(())
            }
        }
    }

    /// The target is done. What it has not answered can only be files that failed there while they
    /// changed here and were offered anew.
    fn give_up_unanswered(&mut self) -> Result<(), Violation> {
        if !self.finished_walk || self.live.values().any(|live| live.attempts == 0) {
            return Err(Violation("receipt before the end"));
        }
        for (_, live) in std::mem::take(&mut self.live) {
            self.live_cost -= live.cost;
            self.leaves -= 1;
            if live.withdrawn.is_some_and(|withdrawn| withdrawn.replaced) {
                continue;
            }
            let text = "it changed while it was read, and failed at the target".to_owned();
            let outcome = Outcome::Failed { code: RefuseCode::NotFound, text };
            self.totals.count(live.entry.size(), false, &outcome);
            let (place, entry) = (live.found.place, live.entry);
            self.outputs.push_back(Output::Ended { place, entry, outcome, linked: None });
        }
        Ok(())
    }

    /// The link is gone: nothing can be sent, and what was under way counts as not sent.
    pub fn link_lost(&mut self) {
        (self.ready, self.ahead, self.early_open) = (false, false, false);
        self.early = None;
        self.epoch += 1;
        (self.allowed, self.used, self.stored) = (0, 0, 0);
        self.compare.clear();
        self.small.clear();
        self.big.clear();
        self.offers.clear();
        self.outputs.retain(|output| !matches!(output, Output::Send(_)));
        for live in self.live.values_mut() {
            (live.early, live.is_asked) = (false, false);
            live.older = Older::None;
            if let Some(large) = &mut live.large {
                large.rewind();
            }
        }
    }

    fn offer_again(&mut self) -> Result<(), Violation> {
        if std::mem::take(&mut self.ahead) {
            return Ok(());
        }
        if self.ready {
            return Err(Violation("ready twice"));
        }
        self.ready = true;
        self.seen_told = self.seen;
        self.offers = self.live.values().map(|live| live.entry.clone()).collect();
        self.send_offers();
        let left: Vec<_> =
            self.live.iter().filter_map(|(index, live)| Some((*index, live.left?))).collect();
        for (index, complete) in left.into_iter().chain(self.contents_left.map(|left| (0, left))) {
            self.send(SourceMessage::Leave { index, complete });
        }
        let withdrawn: Vec<_> = self
            .live
            .iter()
            .filter_map(|(index, live)| {
                let Withdrawn { reason, replaced } = live.withdrawn.as_ref()?;
                Some((*index, reason.clone(), !replaced))
            })
            .collect();
        for (index, reason, last) in withdrawn {
            self.send(SourceMessage::Withdraw { index, reason, last });
        }
        if self.finished_walk {
            self.send_end();
        }
        Ok(())
    }

    fn send_offers(&mut self) {
        for piece in pack(std::mem::take(&mut self.offers), Entry::encoded_len) {
            self.send(SourceMessage::Offer(piece));
        }
    }

    /// Without a link nothing is queued: `offer_again` says all that is still true.
    fn send(&mut self, message: SourceMessage) {
        if self.ready {
            self.outputs.push_back(Output::Send(message));
        }
    }

    fn needed(&mut self, need: Need) -> Result<(), Violation> {
        let live = self.live.get_mut(&need.index).ok_or(Violation("need of an unknown entry"))?;
        let size = live.entry.size().ok_or(Violation("need of what has no content"))?;
        if live.is_given_up() {
            return Ok(());
        }
        if let Some(have) = need.have {
            self.compare.push_back((need.index, Some(have)));
            return Ok(());
        }
        if size <= CHUNK {
            if !need.ranges.is_empty() {
                return Err(Violation("ranges of a small file"));
            }
            if std::mem::take(&mut live.early) {
                return Ok(());
            }
            self.small.push_back(need.index);
            return Ok(());
        }
        let large = live.large.get_or_insert_with(|| Large::new(size));
        large.need(&need.ranges)?;
        live.older.needed();
        if !self.big.contains(&need.index) {
            self.big.push_back(need.index);
        }
        Ok(())
    }

    /// The target may have the content of this file under another name.
    fn asked(&mut self, index: u64) -> Result<(), Violation> {
        let live = self.live.get_mut(&index).ok_or(Violation("digest of an unknown entry"))?;
        if !matches!(live.entry.kind, EntryKind::File { .. }) {
            return Err(Violation("digest of what is no file"));
        }
        if std::mem::replace(&mut live.is_asked, true) {
            return Err(Violation("a digest that was asked for before"));
        }
        if !live.is_given_up() {
            self.compare.push_back((index, None));
        }
        Ok(())
    }

    fn outcomes(&mut self, first: u64, list: Vec<(u64, Outcome)>) -> Result<(), Violation> {
        for (place, (index, outcome)) in (first..).zip(list) {
            if place < self.seen {
                continue;
            }
            if place > self.seen {
                return Err(Violation("an outcome is missing"));
            }
            self.seen += 1;
            self.ended(index, outcome)?;
        }
        self.take_steps();
        if self.seen - self.seen_told >= SEEN_EVERY {
            self.seen_told = self.seen;
            self.send(SourceMessage::Seen { outcomes: self.seen });
        }
        Ok(())
    }

    fn ended(&mut self, index: u64, outcome: Outcome) -> Result<(), Violation> {
        let live = self.live.remove(&index).ok_or(Violation("outcome of an unknown entry"))?;
        self.live_cost -= live.cost;
        self.leaves -= usize::from(!live.entry.is_folder());
        if live.large.is_some() {
            self.outputs.push_back(Output::Forget(index));
        }
        let outcome = match (outcome, live.withdrawn) {
            (Outcome::Withdrawn, Some(Withdrawn { replaced: true, .. })) => return Ok(()),
            (Outcome::Withdrawn, Some(Withdrawn { reason, .. })) => {
                Outcome::Failed { code: RefuseCode::NotFound, text: reason }
            }
            (Outcome::Withdrawn, None) => return Err(Violation("withdrawn without being asked")),
            (outcome, _) => outcome,
        };
        if let (Outcome::Copied(theirs), Some(ours)) = (&outcome, &live.digest)
            && theirs != ours
        {
            return Err(Violation("the target stored another content than was sent"));
        }
        if self.rereads && !is_told_by_reading(&live.entry, live.digest.as_ref(), &outcome) {
            return Err(Violation("a file that was not compared is said to be the same"));
        }
        self.totals.count(live.entry.size(), live.entry.is_folder(), &outcome);
        let linked = match (&live.entry.kind, &outcome) {
            (EntryKind::File { shared: true, .. }, Outcome::Copied(d) | Outcome::Unchanged(d)) => {
                self.shared_digests.insert(index, *d);
                None
            }
            (EntryKind::HardLink { to, .. }, Outcome::Made) => self.shared_digests.get(to).copied(),
            _ => None,
        };
        let (place, entry) = (live.found.place, live.entry);
        self.outputs.push_back(Output::Ended { place, entry, outcome, linked });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
