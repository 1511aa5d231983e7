//! The target's half of a transfer as a pure machine: messages and parcel heads of a peer go in, and out
//! come jobs for the disk and answers. The peer is hostile until checked: every index, length and order
//! of messages is held against what was offered and asked for, and a rule that is broken ends the link.
//! Memory is bounded by the window of unfinished entries, never by the tree.

mod early;
mod entries;
mod job;
mod offers;
mod older;
mod outcomes;
mod results;
mod twins;
mod waits;

pub use job::{Failed, Filled, Found, Job, JobResult, Opened, Placed, Spot};

use std::collections::{HashMap, VecDeque};

use files::{ChunkHash, Digest, Name, RelPath, chunk_len};

use crate::message::{
    Deletion, Entry, EntryKind, Existing, Need, Order, Outcome, ParcelHead, SourceMessage,
    TargetMessage, Why,
};
use crate::{Totals, Violation};
use entries::{File, Folder, State};
use outcomes::OutcomeLog;
use twins::Seeking;

/// Large files that may be open for staging at once; more wait, and so does their content.
const MAX_OPEN: usize = 8;
/// Files remembered for hard links, and the bytes that their paths may take.
const MAX_SHARED: usize = 65_536;
const MAX_SHARED_BYTES: usize = 8 << 20;
/// Bytes that the names of all unfinished folders may take while extras are looked for.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// The most extra entries that one job removes or names.
pub(crate) const MAX_EXTRAS: usize = 100_000;
/// How often a large file whose digest was wrong is asked for again.
const MAX_REPEATS: u8 = 1;

/// What the machine may do, from the order and from the one who runs it.
#[derive(Debug, Clone)]
pub struct TargetOptions {
    /// What to do with a different file that exists.
    pub existing: Existing,
    /// Compare by content.
    pub checksum: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// Every file is hashed and compared, also each further name of one, and what cannot be read fails.
    pub reread: bool,
    /// Remove what the source does not have.
    pub deletion: Deletion,
    /// What unfinished entries may cost.
    pub window: u64,
    /// What is sent are the contents of a folder, so the target folder is that folder.
    pub contents: bool,
    /// Instead of the name offered, the one entry at the top gets this one.
    pub rename_top: Option<Name>,
    /// A file that differs is made of what is there of an older one, as far as that goes.
    pub delta: bool,
    /// The most bytes of content that may be asked for, if limited.
    pub max_bytes: Option<u64>,
}

impl TargetOptions {
    /// The options that an order asks for.
    pub fn of(order: &Order, rename_top: Option<Name>, window: u64) -> Self {
        Self {
            existing: order.existing,
            checksum: order.checksum,
            dry_run: order.dry_run,
            reread: order.reread,
            deletion: order.deletion,
            window,
            contents: order.contents,
            rename_top,
            delta: !order.whole,
            max_bytes: None,
        }
    }
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this on the control stream.
    Send(TargetMessage),
    /// Do this on the disk; the answer goes to `job_done`.
    Do(Job),
    /// The same with the body of the parcel that is held.
    DoHeld(Job),
    /// The body of the parcel that is held is not wanted.
    DropHeld,
    /// An entry ended so, at this path as the source calls it; what is needed for its record.
    Ended {
        /// The entry as offered.
        entry: Entry,
        /// Its path below the target folder, with the source's own names.
        path: RelPath,
        /// How it ended.
        outcome: Outcome,
        /// For a hard link that stands: the digest of its content.
        linked: Option<Digest>,
    },
}

/// What is to be done with a parcel that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Do this with its body; the answer goes to `job_done`.
    Do(Job),
    /// Hold its body until an output says what to do with it.
    Hold,
    /// Its entry has ended meanwhile: drop it.
    Drop,
}

/// An early parcel whose file is not decided yet.
#[derive(Debug, Clone, Copy)]
struct Held {
    index: u64,
    hash: ChunkHash,
    len: u64,
}

/// The machine. See the module's text.
#[derive(Debug)]
pub struct Target {
    options: TargetOptions,
    ready: bool,
    /// What unfinished entries cost, held against the window.
    live_cost: u64,
    folders: HashMap<u64, Folder>,
    files: HashMap<u64, File>,
    highest: u64,
    contents_left: bool,
    /// Published files that hard links may refer to.
    shared: HashMap<u64, (RelPath, Digest)>,
    shared_bytes: usize,
    /// What the names kept in folders take.
    names_bytes: usize,
    /// Hard links that wait for the file they refer to.
    waiting_links: HashMap<u64, Vec<u64>>,
    outcomes: OutcomeLog,
    /// The source has offered so many entries and no more will come.
    ended_at: Option<u64>,
    failures: bool,
    /// Bytes of content that have been asked for, held against what may be stored.
    claimed: u64,
    /// What the source could not offer.
    problems: u64,
    /// What is extra at this end, once that is known.
    extras: Vec<RelPath>,
    finishing: bool,
    receipt: Option<Vec<u8>>,
    /// Payload of earlier connections that the disk still works on.
    earlier: u64,
    /// On this connection: payload that came, that may come, and that is stored.
    received: u64,
    allowed: u64,
    stored: u64,
    told_allowed: u64,
    told_stored: u64,
    window: u64,
    ceiling: u64,
    examine: VecDeque<Placed>,
    examining: bool,
    waiting_open: VecDeque<u64>,
    open: usize,
    jobs_running: usize,
    jobs: VecDeque<Job>,
    /// Pieces of older files that are to be looked for, when there is nothing else to do.
    signs: VecDeque<Job>,
    needs: Vec<Need>,
    /// What may be made of files that are there under other names.
    seeking: Seeking,
    ended: VecDeque<Output>,
    messages: VecDeque<TargetMessage>,
    /// An early parcel came on this connection; there may be only one.
    early: bool,
    /// There was a link before.
    begun: bool,
    /// How many links there were.
    links: u64,
    /// To send what differs takes less time than to look for what is the same.
    is_fast: bool,
    held: Option<Held>,
    totals: Totals,
}

impl Target {
    /// A machine at the start of a transfer, with no link yet. `window` is how many payload bytes may
    /// be on their way or waiting for the disk.
    pub fn new(options: TargetOptions, window: u64) -> Self {
        let top = Folder::top(options.deletion != Deletion::No);
        let seeking = Seeking::new(options.window);
        Self {
            options,
            ready: false,
            live_cost: 0,
            folders: HashMap::from([(0, top)]),
            files: HashMap::new(),
            highest: 0,
            contents_left: false,
            shared: HashMap::new(),
            shared_bytes: 0,
            names_bytes: 0,
            waiting_links: HashMap::new(),
            outcomes: OutcomeLog::default(),
            ended_at: None,
            failures: false,
            claimed: 0,
            problems: 0,
            extras: Vec::new(),
            finishing: false,
            receipt: None,
            earlier: 0,
            received: 0,
            allowed: 0,
            stored: 0,
            told_allowed: 0,
            told_stored: 0,
            window,
            ceiling: u64::MAX,
            examine: VecDeque::new(),
            examining: false,
            waiting_open: VecDeque::new(),
            open: 0,
            jobs_running: 0,
            jobs: VecDeque::new(),
            signs: VecDeque::new(),
            needs: Vec::new(),
            seeking,
            ended: VecDeque::new(),
            messages: VecDeque::new(),
            early: false,
            begun: false,
            links: 0,
            is_fast: false,
            held: None,
            totals: Totals::default(),
        }
    }

    /// What has been counted so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Payload bytes received on this connection.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Payload bytes of this connection that are stored.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Whether disk jobs are under way, so that silence is not idleness.
    pub fn is_working(&self) -> bool {
        self.jobs_running > 0
    }

    /// Whether the receipt has been made.
    pub fn is_finished(&self) -> bool {
        self.receipt.is_some()
    }

    /// How many payload bytes may be on their way or waiting for the disk from now on.
    pub fn set_window(&mut self, window: u64) {
        self.window = window;
    }

    /// Lets the source hear that work goes on, when the disk takes long.
    pub fn say_alive(&mut self) {
        if self.ready {
            let (allowed, stored) = (self.told_allowed, self.told_stored);
            self.messages.push_back(TargetMessage::Credit { allowed, stored });
        }
    }

    /// How many payload bytes may come on this connection at most, for now: how a rate that somebody
    /// set for the source is kept at this end.
    pub fn set_ceiling(&mut self, bytes: u64) {
        self.ceiling = bytes;
    }

    /// Whether the link carries what differs faster than a disk tells what is the same.
    pub fn set_fast(&mut self, is_fast: bool) {
        self.is_fast = is_fast;
    }

    /// A link is up, and the source has processed `seen` outcomes.
    pub fn link_up(&mut self, seen: u64) -> Result<(), Violation> {
        self.outcomes.seen(seen)?;
        self.ready = true;
        self.links += 1;
        self.messages.clear();
        self.earlier += self.received - self.stored;
        (self.received, self.allowed, self.stored) = (0, 0, 0);
        (self.told_allowed, self.told_stored) = (0, 0);
        // Only when the transfer begins.
        self.early = std::mem::replace(&mut self.begun, true);
        self.outcomes.repeat();
        self.flush_outcomes();
        self.messages.push_back(TargetMessage::Ready);
        if let Some(receipt) = self.receipt.clone() {
            self.send_extras();
            self.messages.push_back(TargetMessage::Receipt(receipt));
        }
        Ok(())
    }

    /// The link is gone. Disk jobs go on; contents still missing will be asked for again.
    pub fn link_lost(&mut self) {
        self.ready = false;
        self.messages.clear();
        self.needs.clear();
        self.forget_asks();
        self.signs.clear();
        // Its bytes are dropped with it, so no later link waits for them.
        self.received -= self.held.take().map_or(0, |held| held.len);
        self.files.values_mut().for_each(|file| file.asked = false);
    }

    /// Takes a message of the source.
    pub fn message(&mut self, message: SourceMessage) -> Result<(), Violation> {
        match message {
            SourceMessage::Offer(entries) => entries.into_iter().try_for_each(|e| self.offered(e)),
            SourceMessage::Leave { index, complete } => self.left(index, complete),
            SourceMessage::Withdraw { index, reason, last } => {
                self.withdrawn(index, last.then_some(reason))
            }
            SourceMessage::Sum { index, digest } => self.summed(index, digest),
            SourceMessage::Same { index } => self.same(index),
            SourceMessage::End { entries, problems } => {
                if self.finishing {
                    return Ok(());
                }
                if entries != self.highest {
                    return Err(Violation("the end does not fit what was offered"));
                }
                self.ended_at = Some(entries);
                self.failures |= problems > 0;
                // Those that were told while the link was down are known by their number only.
                let untold = problems.saturating_sub(self.problems);
                self.problems += untold;
                self.totals.failed = self.totals.failed.saturating_add(untold);
                Ok(())
            }
            SourceMessage::Problem { .. } => {
                self.failures = true;
                self.problems += 1;
                self.totals.failed = self.totals.failed.saturating_add(1);
                Ok(())
            }
            SourceMessage::Seen { outcomes } => self.outcomes.seen(outcomes),
            // The shell has read it.
            SourceMessage::Bound(_) => Ok(()),
        }
    }

    /// Takes the head of a parcel that came with `body` bytes, and says what is to be done with them.
    /// Nothing, for chunks of a file that failed or was taken back while they were on their way.
    pub fn parcel(&mut self, head: &ParcelHead, body: u64) -> Result<Taken, Violation> {
        let cost = head.cost(body);
        self.received += cost;
        if self.received > self.allowed {
            return Err(Violation("more data than the credit allows"));
        }
        match head {
            ParcelHead::Bundle(items) => {
                let mut files = Vec::new();
                for item in items {
                    let file = self
                        .files
                        .get_mut(&item.index)
                        .ok_or(Violation("data of an unknown file"))?;
                    if file.small_size() != Some(item.len) {
                        return Err(Violation("data of another length than was offered"));
                    }
                    match file.state {
                        State::Wanted => file.state = State::Busy,
                        _ => return Err(Violation("data that was not asked for")),
                    }
                    files.push((file.placed.clone(), item.len, item.hash));
                }
                self.jobs_running += 1;
                Ok(Taken::Do(Job::WriteSmall(files)))
            }
            ParcelHead::Chunk { index, .. }
            | ParcelHead::Zeros { index, .. }
            | ParcelHead::Patch { index, .. }
                if *index <= self.highest && !self.files.contains_key(index) =>
            {
                self.stored += cost;
                Ok(Taken::Drop)
            }
            ParcelHead::Chunk { index, chunk, hash } => {
                let sparse = self.claim_chunks(*index, *chunk, 1)?;
                let file = &self.files[index];
                let size = file.placed.entry.size().unwrap_or_default();
                if chunk_len(size, *chunk).map(|len| len as u64) != Some(body) {
                    return Err(Violation("a chunk of a wrong length"));
                }
                self.jobs_running += 1;
                Ok(Taken::Do(Job::WriteChunk {
                    index: *index,
                    chunk: *chunk,
                    hash: *hash,
                    len: body,
                    sparse,
                }))
            }
            ParcelHead::Zeros { index, first, count } => {
                self.claim_chunks(*index, *first, *count)?;
                self.jobs_running += 1;
                let (index, first, count) = (*index, *first, *count);
                Ok(Taken::Do(Job::WriteZeros { index, first, count, len: cost }))
            }
            ParcelHead::Patch { index, chunk, hash, ops } => {
                self.patch((*index, *chunk), *hash, ops, cost)
            }
            // The shell takes it apart before.
            ParcelHead::Packed { .. } => Err(Violation("a parcel that was not unpacked")),
            ParcelHead::Early { index, hash } => {
                if std::mem::replace(&mut self.early, true) {
                    return Err(Violation("a second early parcel"));
                }
                self.held = Some(Held { index: *index, hash: *hash, len: body });
                Ok(Taken::Hold)
            }
        }
    }

    /// Marks chunks as being written; chunks that were not missing are a violation, for a peer could
    /// otherwise keep the disk busy for ever. Says whether the file is sparse.
    fn claim_chunks(&mut self, index: u64, first: u64, count: u64) -> Result<bool, Violation> {
        let file = self.files.get_mut(&index).ok_or(Violation("chunk of an unknown file"))?;
        let sparse = matches!(file.placed.entry.kind, EntryKind::File { sparse: true, .. });
        let State::Receiving { missing, writing, .. } = &mut file.state else {
            return Err(Violation("a chunk that was not asked for"));
        };
        if !missing.take(first, count) {
            return Err(Violation("a chunk that is not missing"));
        }
        *writing += 1;
        Ok(sparse)
    }

    fn publish_if_complete(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let State::Receiving { missing, writing: 0, sum: Some(digest) } = &mut file.state else {
            return;
        };
        if missing.is_empty() && !file.unpatched.is_empty() {
            return self.ask_unpatched(index);
        }
        if missing.is_empty() {
            let job = Job::Publish { placed: file.placed.clone(), digest: *digest };
            file.state = State::Publishing;
            self.jobs.push_back(job);
        }
    }

    fn close_large(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    fn finish_folder_if_done(&mut self, index: u64) {
        let Some(folder) = self.folders.get_mut(&index) else { return };
        let (Some(complete), 0, false) = (folder.left, folder.pending, folder.finishing) else {
            return;
        };
        if !folder.examined {
            return;
        }
        folder.finishing = true;
        if let Some(failed) = folder.failure.clone() {
            self.end_entry(index, Outcome::Failed { code: failed.code, text: failed.text });
            return;
        }
        let placed = folder.placed.clone();
        let keep = folder.names.take().filter(|_| complete);
        let keep = keep.map(|names| names.into_iter().collect());
        let path = RelPath::clone(&folder.path);
        if self.options.dry_run && keep.is_none() {
            if index != 0 {
                let planned = Outcome::Planned(Why::New);
                let outcome = if folder.would_make { planned } else { Outcome::Made };
                self.end_entry(index, outcome);
            } else {
                folder.finished = true;
            }
            return;
        }
        let source_path = folder.source_path.clone();
        self.jobs.push_back(Job::FinishFolder { placed, path, source_path, keep });
    }

    /// The next thing to do, or nothing until there is more input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.ended.pop_front() {
            return Some(output);
        }
        if let Some(output) = self.settle_held() {
            return Some(output);
        }
        if let Some(job) = self.next_job() {
            self.jobs_running += 1;
            return Some(Output::Do(job));
        }
        if self.ready {
            self.flush_needs();
            self.flush_asks();
            self.flush_outcomes();
            self.flush_credit();
        }
        self.messages.pop_front().map(Output::Send)
    }

    fn next_job(&mut self) -> Option<Job> {
        if let Some(job) = self.jobs.pop_front() {
            return Some(job);
        }
        // Before what follows, since what was looked for in vain is asked for and opened.
        if let Some(job) = self.next_twin() {
            return Some(job);
        }
        while self.open < MAX_OPEN {
            let Some(index) = self.waiting_open.pop_front() else { break };
            let Some(file) = self.files.get_mut(&index) else { continue };
            if !matches!(file.state, State::WaitingForSlot) {
                continue;
            }
            file.state = State::Opening;
            self.open += 1;
            let delta = self.options.delta && !self.is_fast && file.twin.is_none();
            return Some(Job::Open { placed: file.placed.clone(), delta });
        }
        // Folders must be made before what lies in them: one examination at a time, in order.
        if !self.examining && !self.examine.is_empty() {
            self.examining = true;
            let count = self.examine.len().min(512);
            return Some(Job::Examine(self.examine.drain(..count).collect()));
        }
        self.next_sign().or_else(|| self.finish_if_done())
    }

    fn finish_if_done(&mut self) -> Option<Job> {
        let idle = self.ended_at.is_some() && self.files.is_empty() && self.folders.len() == 1;
        let top = &self.folders[&0];
        let settled = !self.contents_left || top.finished;
        if !idle || !settled || self.finishing || self.jobs_running > 0 {
            return None;
        }
        self.finishing = true;
        Some(Job::Finish { failures: self.failures || top.left == Some(false) })
    }

    fn flush_needs(&mut self) {
        let needs = std::mem::take(&mut self.needs);
        for piece in crate::message::pack(needs, Need::encoded_len) {
            self.messages.push_back(TargetMessage::Need(piece));
        }
    }

    fn flush_outcomes(&mut self) {
        for message in self.outcomes.unsent() {
            self.messages.push_back(message);
        }
    }

    /// Credit is told in steps of a quarter window, and whatever is stored when nothing is running.
    fn flush_credit(&mut self) {
        let allowed = (self.stored + self.window).min(self.ceiling).max(self.allowed);
        // A ceiling rises in small steps.
        let step = if self.ceiling < u64::MAX { 1 } else { (self.window / 4).max(1) };
        let due = allowed >= self.told_allowed + step
            || self.stored >= self.told_stored + step
            || (self.jobs_running == 0 && self.stored > self.told_stored);
        if due {
            self.allowed = allowed;
            (self.told_allowed, self.told_stored) = (allowed, self.stored);
            self.messages.push_back(TargetMessage::Credit { allowed, stored: self.stored });
        }
    }
}

#[cfg(test)]
mod tests;
