//! The thread that keeps the tree and the journal: it applies pages, publishes what has arrived, removes what is to go,
//! and is the only one that touches final names. What it does to the tree comes first and is written down after, or is
//! such that it can be told at the next start whether it was done; so it may be killed at any moment.

mod ends;
mod entries;
mod heal;
mod links;
mod lists;
mod moves;
mod objects;
mod pages;
mod removals;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use files::{Dir, FilesError, Partial, RelPath, Staging};
use thiserror::Error;

use super::ReceiveOptions;
use super::ground::{Dress, Ground};
use super::journal::{Journal, JournalError, Place, Tx};
use super::note::{Feedback, Flush, Job, Note, PAGE_OBJECT};
use super::spill::Spill;
use super::status::Shared;
use crate::event::{DiodeEvent, Refusal};
use crate::intervals::Intervals;
use crate::key::TrustLine;
use crate::record::GenerationEnd;

/// What was done becomes part of the journal at least so often, unless that takes long.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How long nothing is done after the journal failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// A path whose failure was told is not told of again; so many are remembered.
const MOST_TOLD: usize = 10_000;

/// What a keeper needs, as often as it begins.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) root: Dir,
    pub(super) state: Dir,
    pub(super) options: Arc<ReceiveOptions>,
    /// Whose tree it is.
    pub(super) line: TrustLine,
    pub(super) staging: Arc<Staging>,
    pub(super) spill: Arc<Spill>,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Sender<Job>,
    pub(super) feedback: Sender<Feedback>,
    /// To itself, from the comparison.
    pub(super) notes: Sender<Note>,
}

/// Why the keeper cannot go on.
#[derive(Debug, Error)]
pub(super) enum KeepError {
    #[error("the journal cannot be kept")]
    Journal(#[from] JournalError),
    #[error("the state folder cannot be used")]
    Files(#[from] FilesError),
}

type Result<T = (), E = KeepError> = std::result::Result<T, E>;

pub(super) struct Keeper {
    context: Context,
    journal: Journal,
    /// Always there between commits.
    tx: Option<Tx>,
    is_dirty: bool,
    committed: Instant,
    commit_took: Duration,
    ground: Ground,
    place: Place,
    /// Objects of which nothing is to be taken any more.
    settled: Intervals,
    /// The highest object that a page named.
    highest: u64,
    /// The highest object that held a page that was applied.
    highest_page: u64,
    /// Hard links may be waiting for their files.
    has_links: bool,
    /// Folders may have been touched since they got their times.
    is_touched: bool,
    next_quarantine: u64,
    /// Generations whose removals wait for somebody to agree.
    held_back: BTreeSet<u64>,
    /// Those to whose removals somebody has just agreed.
    released: BTreeSet<u64>,
    /// By the generation that brings or removes them.
    wanted: BTreeMap<u64, u64>,
    doomed: BTreeMap<u64, u64>,
    /// Pages in the journal, with the base and bytes of each, and since when a full one waits for those before it.
    pages: BTreeMap<(u64, u32), (u64, u64)>,
    waiting_since: Option<SystemTime>,
    parts: HashMap<u64, pages::Parts>,
    ends: BTreeMap<u64, GenerationEnd>,
    /// The last generation that the sender has said to have sent.
    heard: u64,
    /// The last generation that builds on one of long ago, and that one: the sender's memory was set back.
    set_back: Option<(u64, u64)>,
    reports: BTreeMap<u64, ends::Report>,
    is_comparing: bool,
    /// Small objects that no page has named, or not all of.
    held: HashMap<u64, objects::Held>,
    /// Large ones that are whole, the same.
    whole: HashMap<u64, (u64, Partial)>,
    staged: HashMap<u64, u64>,
    /// Objects that the page has named that is applied.
    claimed: BTreeSet<u64>,
    /// Files that may be there already.
    checks: VecDeque<RelPath>,
    /// Large objects that could not be published, and when they are tried again.
    retries: VecDeque<(Instant, u64, u64)>,
    /// The folder that was touched last.
    touched: Option<RelPath>,
    told: HashSet<RelPath>,
    now: SystemTime,
    swept: Option<SystemTime>,
}

/// Runs keepers until told to stop. When one fails, what it knew is what is on the disk; the next one begins with that.
pub(super) fn keep(context: &Context, first: Journal, notes: &Receiver<Note>) {
    let mut journal = Some(first);
    loop {
        let opened = journal.take().map_or_else(|| Journal::open(&context.state), Ok);
        let started = opened.map_err(KeepError::from).and_then(|journal| {
            let mut keeper = Keeper::start(context.clone(), journal)?;
            context.shared.status().tree.trouble = None;
            keeper.run(notes)
        });
        let Err(error) = started else { return };
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        context.shared.status().tree.trouble = Some(reason.clone());
        context.shared.tell(&DiodeEvent::JournalFailed { reason });
        if rest(notes) {
            return;
        }
    }
}

/// Waits, and drops what comes meanwhile; whether it was told to stop.
fn rest(notes: &Receiver<Note>) -> bool {
    let until = Instant::now() + AFTER_FAILURE;
    loop {
        match notes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
            Ok(_) => {}
        }
    }
}

impl Keeper {
    fn start(context: Context, journal: Journal) -> Result<Self> {
        let options = &context.options;
        let dress = Dress { owner: options.owner, setid: options.setid, durable: options.fsync };
        let ground =
            Ground::new(&context.root, context.staging.clone(), dress, context.shared.clone());
        let tx = journal.begin()?;
        let mut keeper = Self {
            context,
            journal,
            tx: Some(tx),
            is_dirty: false,
            committed: Instant::now(),
            commit_took: Duration::ZERO,
            ground,
            place: Place::default(),
            settled: Intervals::default(),
            highest: 0,
            highest_page: PAGE_OBJECT,
            has_links: true,
            is_touched: true,
            next_quarantine: 1,
            held_back: BTreeSet::new(),
            released: BTreeSet::new(),
            wanted: BTreeMap::new(),
            doomed: BTreeMap::new(),
            pages: BTreeMap::new(),
            waiting_since: None,
            parts: HashMap::new(),
            ends: BTreeMap::new(),
            heard: 0,
            set_back: None,
            reports: BTreeMap::new(),
            is_comparing: false,
            held: HashMap::new(),
            whole: HashMap::new(),
            staged: HashMap::new(),
            claimed: BTreeSet::new(),
            checks: VecDeque::new(),
            retries: VecDeque::new(),
            touched: None,
            told: HashSet::new(),
            now: SystemTime::now(),
            swept: None,
        };
        keeper.heal()?;
        keeper.commit()?;
        Ok(keeper)
    }

    fn run(&mut self, notes: &Receiver<Note>) -> Result {
        loop {
            let is_idle = self.checks.is_empty();
            let wait = if is_idle { COMMIT_EVERY / 4 } else { Duration::ZERO };
            match notes.recv_timeout(wait) {
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.keep_held(Duration::ZERO)?;
                    return self.commit();
                }
                Ok(note) => self.take(note)?,
                Err(RecvTimeoutError::Timeout) => {
                    self.check_next()?;
                    self.retry()?;
                    self.keep_held(objects::HELD_FOR)?;
                }
            }
            let every = COMMIT_EVERY.max(self.commit_took * 4);
            if self.is_dirty && self.committed.elapsed() >= every {
                self.commit()?;
            }
        }
    }

    fn take(&mut self, note: Note) -> Result {
        match note {
            Note::Small { object, bytes, _charge } => self.small_arrived(object, bytes)?,
            Note::Stored(object) => self.stored(object)?,
            Note::PagePart { object, length, block, bytes, _charge } => {
                drop(_charge);
                self.page_part(object, length, block, bytes)?;
            }
            Note::Begun { object, length } => self.begun(object, length)?,
            Note::Whole { object, length, partial } => self.large(object, length, *partial)?,
            Note::Ended(end) => self.ended(*end)?,
            Note::Heard(generation) => self.heard = self.heard.max(generation),
            Note::Tallied { generation, tally } => self.tallied(generation, tally)?,
            Note::Time(now) => {
                self.now = now;
                self.apply_pages()?;
                self.report()?;
                self.expire()?;
            }
            Note::Ask(ask) => self.answer(ask)?,
            Note::Flush(Flush { with_checks, reply }) => {
                while with_checks && !self.checks.is_empty() {
                    self.check_next()?;
                }
                self.advance()?;
                self.commit()?;
                let _ = reply.send(());
                return Ok(());
            }
            Note::Stop => return Ok(()),
        }
        self.advance()
    }

    fn tx(&self) -> &Tx {
        self.tx.as_ref().expect("a transaction is open between commits")
    }

    /// Makes what was done part of the journal.
    fn commit(&mut self) -> Result {
        let began = Instant::now();
        // What the journal says to be there must be there when the power fails.
        self.ground.sync()?;
        self.context.shared.step();
        let Some(tx) = self.tx.take() else { return Ok(()) };
        tx.put_place(&self.place)?;
        tx.put_settled(&self.settled)?;
        tx.put_meta("highest", &self.highest.to_be_bytes())?;
        tx.put_meta("highest_page", &self.highest_page.to_be_bytes())?;
        tx.put_meta("next_quarantine", &self.next_quarantine.to_be_bytes())?;
        let held_back: Vec<u8> = self.held_back.iter().flat_map(|at| at.to_be_bytes()).collect();
        tx.put_meta("held_back", &held_back)?;
        let (astray, base) = self.set_back.unwrap_or_default();
        tx.put_meta("set_back", &[astray.to_be_bytes(), base.to_be_bytes()].concat())?;
        let (entries, wanted) = (tx.entries()?, tx.wanted()?);
        let quarantined = tx.in_quarantine()?;
        tx.commit()?;
        self.context.shared.step();
        self.tx = Some(self.journal.begin()?);
        self.touched = None;
        self.is_dirty = false;
        self.committed = Instant::now();
        self.commit_took = began.elapsed();
        let mut status = self.context.shared.status();
        let tree = &mut status.tree;
        tree.sender = Some(self.context.line.identity);
        (tree.generation, tree.pages) = (self.place.generation, self.place.page);
        (tree.whole, tree.complete) = (self.place.whole, self.place.complete);
        (tree.entries, tree.wanted, tree.quarantined) = (entries, wanted, quarantined);
        tree.set_back = self.set_back.map(|(generation, _)| generation);
        tree.held_back = self.held_back.iter().copied().collect();
        Ok(())
    }

    fn tell(&self, event: &DiodeEvent) {
        self.context.shared.tell(event);
    }

    fn feed(&self, feedback: Feedback) {
        // Who reads the link may have ended before.
        let _ = self.context.feedback.send(feedback);
    }

    fn job(&self, job: Job) {
        let _ = self.context.jobs.send(job);
    }

    fn refuse(&self, why: Refusal) {
        self.context.shared.status().link.refused[why as usize] += 1;
    }

    /// A file, folder or link is not as it should be; told once for each path.
    fn failed(&mut self, path: &RelPath, error: &dyn std::error::Error) {
        let mut reason = error.to_string();
        if let Some(source) = error.source() {
            reason = format!("{reason}: {source}");
        }
        self.failed_because(path, reason);
    }

    fn failed_because(&mut self, path: &RelPath, reason: String) {
        self.context.shared.status().tree.failed += 1;
        if self.told.len() < MOST_TOLD && self.told.insert(path.clone()) {
            self.tell(&DiodeEvent::FileFailed { path: path.clone(), reason });
        }
    }

    fn now_ms(&self) -> u64 {
        let since = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

fn count_down(counts: &mut BTreeMap<u64, u64>, at: u64) {
    if let Some(count) = counts.get_mut(&at) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&at);
        }
    }
}
