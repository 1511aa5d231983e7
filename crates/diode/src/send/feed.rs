//! What is to be sent, and when: scans become generations, files become objects, and what has gone out goes out again
//! when it is due. The one thread that writes the ledger.

mod again;
mod entries;
mod links;
mod rounds;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, SystemTime};

use files::{Dir, DirCache, Follow, RelPath};
use tree::{Extent, ScanOptions};

use crate::block::BLOCK;
use crate::frame::Class;
use crate::send::Run;
use crate::send::SendError;
use crate::send::SendEvent;
use crate::send::SendOptions;
use crate::send::control::{Control, Request};
use crate::send::draft::Draft;
use crate::send::engine::now_ms;
use crate::send::ledger::{Batch, Ledger};
use crate::send::loader::{Cutter, Job, LoadError, Loaded};
use crate::send::outbox::{Closed, Outbox};
use crate::symbol::ObjectKind;
use links::Links;

/// A file above this size is read while it is sent; below, it is packed with others.
const SMALL: u64 = BLOCK as u64;

/// A new file above this size goes with the bulk, so that smaller ones need not wait for it.
const BULKY: u64 = 64 << 20;

/// Large files that may wait to be read.
const MOST_LARGE: usize = 10_000;

/// After so many changes of a scan it is looked what else is to be done.
const EACH: usize = 500;

/// An object whose files could not be read is tried again after so many milliseconds.
const PUT_OFF_MS: u64 = 10_000;

/// Objects that are taken from the ledger at a time to go out again.
const MOST_DUE: usize = 256;

/// Where jobs are done.
pub(crate) struct Lanes {
    pub(crate) small: SyncSender<Job>,
    /// Large files that are new and not bulky.
    pub(crate) fresh: SyncSender<Job>,
    pub(crate) large: SyncSender<Job>,
    pub(crate) again: SyncSender<Job>,
    pub(crate) results: Receiver<Loaded>,
}

/// Blocks of an object that are on their way.
#[derive(Debug)]
struct UnderWay {
    left: u64,
    /// Whether this is all of it, so that it counts as having gone out once more.
    is_pass: bool,
}

/// A generation that has ended and has not gone out.
#[derive(Debug)]
struct Ending {
    generation: u64,
    record: Vec<u8>,
    waiting: BTreeSet<u64>,
    is_full: bool,
}

/// Files that are still being written.
pub(crate) struct Unsettled {
    wait: Duration,
    folders: Vec<RelPath>,
    has_more: bool,
}

pub(crate) struct Feed<'a> {
    pub(crate) root: Dir,
    pub(crate) scratch: Dir,
    pub(crate) options: &'a SendOptions,
    pub(crate) floor: u64,
    pub(crate) control: Arc<Control>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) lanes: Lanes,
    pub(crate) cutter: Cutter,
    pub(crate) ledger: Ledger,
    pub(crate) stop: &'a AtomicBool,
    folders: DirCache,
    draft: Draft,
    run: Run,
    last_generation: u64,
    /// The one with which all of the tree was new; 0 before it.
    first_generation: u64,
    under_way: HashMap<u64, UnderWay>,
    endings: Vec<Ending>,
    /// Large files that are being read or wait for it, by path.
    reading: BTreeMap<RelPath, u64>,
    links: Links,
    fresh: VecDeque<Job>,
    large: VecDeque<Job>,
    again: VecDeque<Job>,
    /// Objects that a receiver lacks, or some blocks of them, which are taken from here a few at a time.
    asked: VecDeque<(u64, Option<Vec<Range<u64>>>)>,
    /// Large files all of whose blocks have gone out before their end was told to us.
    gone_early: BTreeSet<u64>,
    /// When the whole tree was told last, in milliseconds since 1970.
    last_full_ms: Option<u64>,
    wants_full: bool,
    is_telling_all: bool,
    asked_to_scan: bool,
}

type Result<T> = std::result::Result<T, SendError>;

impl From<Closed> for SendError {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

impl<'a> Feed<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        (root, scratch): (Dir, Dir),
        options: &'a SendOptions,
        (floor, run): (u64, Run),
        control: Arc<Control>,
        lanes: Lanes,
        cutter: Cutter,
        mut ledger: Ledger,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let folders = DirCache::new(root.clone(), Follow::Never, 64);
        let generations = ledger.generations()?;
        // What was signed for another floor no receiver takes any more.
        let is_renewed = ledger.renew(floor)?;
        let mut feed = Self {
            root,
            scratch,
            options,
            floor,
            control,
            outbox: cutter.outbox.clone(),
            lanes,
            cutter,
            ledger,
            stop,
            folders,
            draft: Draft::default(),
            run,
            last_generation: 0,
            first_generation: 0,
            under_way: HashMap::new(),
            endings: Vec::new(),
            reading: BTreeMap::new(),
            links: Links::default(),
            fresh: VecDeque::new(),
            large: VecDeque::new(),
            again: VecDeque::new(),
            asked: VecDeque::new(),
            gone_early: BTreeSet::new(),
            last_full_ms: None,
            wants_full: false,
            is_telling_all: false,
            asked_to_scan: false,
        };
        feed.first_generation = feed.ledger.first_generation()?;
        if run.is_set_back {
            feed.wants_full = true;
            feed.event(SendEvent::SetBack);
        }
        for (generation, row) in generations {
            feed.last_generation = generation;
            if is_renewed {
                feed.wants_full = true;
                continue;
            }
            match row.end.clone() {
                // What of it has not gone out is found among what is due.
                Some(record) => feed.endings.push(Ending {
                    generation,
                    record,
                    waiting: BTreeSet::new(),
                    is_full: row.base == 0,
                }),
                // A full manifest that was cut short says of the rest of the tree that it is gone; another one is made.
                None if row.base == 0 && generation != feed.first_generation => {
                    feed.wants_full = true
                }
                None => feed.draft = Draft::of(generation, row),
            }
        }
        feed.last_full_ms = feed.ledger.last_full_ms()?;
        Ok(feed)
    }

    fn is_stopped(&self) -> bool {
        // The outbox is closed when the engine has ended.
        self.stop.load(Ordering::Relaxed) || self.outbox.is_closed()
    }

    fn event(&self, event: SendEvent) {
        (self.options.on_event)(&event);
    }

    /// What never went out before a restart goes out now, and generations whose parts have gone out are told.
    pub(crate) fn resume(&mut self) -> Result<()> {
        loop {
            let under_way = &self.under_way;
            let found = self.ledger.due(0, MOST_DUE, |object| under_way.contains_key(&object))?;
            let is_last = found.len() < MOST_DUE;
            for (object, row) in found {
                let class = self.first_class(row.generation);
                self.send_again(object, &row, None, class)?;
                // What of it is still current may have been told anew instead.
                if !self.under_way.contains_key(&object) {
                    continue;
                }
                for ending in &mut self.endings {
                    if ending.generation >= row.generation {
                        ending.waiting.insert(object);
                    }
                }
                // One that had not ended waits for it as well.
                if self.draft.generation >= row.generation {
                    self.draft.waiting.insert(object);
                }
            }
            if is_last {
                return self.tell_endings();
            }
            self.serve(Duration::from_millis(1))?;
            if self.is_stopped() {
                return Err(SendError::Stopped);
            }
        }
    }

    /// Looks at the tree, or a part of it, and sends what has changed. Says where to look again, and when, if something
    /// has not settled.
    pub(crate) fn pass(&mut self, extent: &Extent) -> Result<Option<Unsettled>> {
        // What was told since the last one is known to the next.
        self.close_page()?;
        self.links
            .begin_pass(matches!(extent, Extent::All), self.ledger.snapshot().entries()? == 0);
        let options = ScanOptions {
            walk: self.options.walk.clone(),
            settle: self.options.settle,
            memory: 16 << 20,
        };
        let now = SystemTime::now();
        let snapshot = self.ledger.snapshot();
        let scan =
            tree::scan(&self.root, extent, snapshot, &self.scratch, &options, now, self.stop)?;
        for moved in scan.moves(self.stop)? {
            self.moved(&moved)?;
            if self.draft.is_page() {
                self.close_page()?;
            }
        }
        // The changes are found in the tree as it is after the moves.
        self.close_page()?;
        let mut before = None;
        for (count, change) in scan.changes()?.enumerate() {
            before = self.change(before, change?)?;
            if count % EACH == EACH - 1 {
                self.requests()?;
                self.repeat()?;
            }
            if self.draft.is_page() {
                self.close_page()?;
            }
            self.serve(Duration::ZERO)?;
            if self.is_stopped() {
                return Err(SendError::Stopped);
            }
        }
        if let Some(removed) = before {
            self.removed(removed)?;
        }
        self.tell_late_names()?;
        self.close_page()?;
        let summary = scan.summary();
        self.control.tell(|told| {
            told.unsettled = summary.unsettled.files;
            told.problems = summary.problem_count;
        });
        for problem in &summary.problems {
            let (path, reason) = (problem.path.clone(), problem.error.to_string());
            self.event(SendEvent::Unreadable { path, reason });
        }
        let until = summary.unsettled.until.map(|(_, last)| last);
        Ok(until.map(|last| Unsettled {
            wait: last
                .duration_since(SystemTime::now())
                .unwrap_or_default()
                .min(self.options.settle),
            folders: summary.unsettled.folders.iter().cloned().collect(),
            has_more: summary.unsettled.has_more_folders,
        }))
    }

    /// Closes the page and the pack, writes the ledger, and sends both.
    fn close_page(&mut self) -> Result<()> {
        self.close_pack()?;
        let object = if self.draft.has_entries() { self.ledger.new_object()? } else { 0 };
        let (page, batch) = self.draft.close_page(object, &self.options.identity, self.floor)?;
        self.commit(batch)?;
        self.links.are_written();
        if let Some(page) = page {
            self.begin_way(page.object, page.bytes.len() as u64);
            self.cutter.object(page.object, ObjectKind::Page, &page.bytes, Class::Page)?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        for path in batch.renames.iter().map(|(from, _)| from).chain(&batch.removes) {
            self.folders.forget(path);
        }
        let objects = batch.objects.iter().map(|(object, _)| *object);
        let gone: BTreeSet<u64> = objects.filter(|object| self.gone_early.remove(object)).collect();
        self.ledger.commit(batch)?;
        if !gone.is_empty() {
            // They had gone out before their rows were there.
            self.ledger.have_gone(&gone, now_ms(), &self.options.schedule())?;
        }
        Ok(())
    }

    /// All blocks of an object are about to go out.
    fn begin_way(&mut self, object: u64, length: u64) {
        let left = length.div_ceil(BLOCK as u64);
        self.under_way.insert(object, UnderWay { left, is_pass: true });
    }

    /// Opens a generation if none is open.
    fn generation(&mut self) -> Result<()> {
        if self.draft.generation == 0 {
            let base = self.last_generation;
            let number = self.next_generation();
            if base == 0 {
                self.first_generation = number;
                self.ledger.set_first_generation(number)?;
            }
            self.draft.begin(number, base);
        }
        Ok(())
    }

    /// The number of a generation that begins: above every one that was sent before, also by a run that the ledger knows
    /// nothing of any more.
    fn next_generation(&mut self) -> u64 {
        self.last_generation = self.last_generation.saturating_add(1).max(self.run.number);
        self.last_generation
    }

    /// What goes out for the first time: a tree that was never sent waits for what is new.
    fn first_class(&self, generation: u64) -> Class {
        if generation <= self.first_generation { Class::Bulk } else { Class::New }
    }

    /// Ends the generation that is open, if something is in it.
    pub(crate) fn end_generation(&mut self) -> Result<()> {
        self.close_page()?;
        if self.draft.generation == 0 || self.draft.is_empty() {
            return Ok(());
        }
        let entries = self.ledger.snapshot().entries()?;
        let is_full = self.draft.is_full_manifest();
        // Large files that are still read have numbers already.
        let next = self.ledger.next_object();
        let open = self.reading.values().copied().min().unwrap_or(next).min(next);
        let (generation, row, waiting) =
            self.draft.end((entries, open), &self.options.identity, self.floor);
        let (files, bytes, removed) = (row.files, row.bytes, row.removed);
        let record = row.end.clone().unwrap_or_default();
        let generation_row = Some((generation, row));
        self.commit(Batch { generation: generation_row, ..Batch::default() })?;
        let waiting = waiting.into_iter().filter(|object| self.under_way.contains_key(object));
        let waiting = waiting.collect();
        self.endings.push(Ending { generation, record, waiting, is_full });
        if is_full {
            self.last_full_ms = Some(now_ms());
            self.ledger.told_all(now_ms())?;
        }
        self.control.tell(|told| {
            told.entries = entries;
            told.files += files;
            told.bytes += bytes;
            told.removed += removed;
        });
        let is_full = is_full && generation != self.first_generation;
        self.event(SendEvent::Generation { generation, files, bytes, removed, entries, is_full });
        self.tell_endings()
    }

    /// Generations all of whose parts have gone out are told as ended, in their order.
    fn tell_endings(&mut self) -> Result<()> {
        while self.endings.first().is_some_and(|ending| ending.waiting.is_empty()) {
            let ending = self.endings.remove(0);
            self.control.generation_ended(ending.generation, ending.record);
            if ending.is_full {
                self.ledger.forget_before(ending.generation)?;
            }
        }
        Ok(())
    }

    /// Does what is due besides scans: what has gone out, what was read, what goes out again.
    pub(crate) fn serve(&mut self, wait: Duration) -> Result<()> {
        let mut whole = BTreeSet::new();
        for gone in self.outbox.wait_gone(wait) {
            if let Some(way) = self.under_way.get_mut(&gone.object) {
                way.left = way.left.saturating_sub(1);
                if way.left == 0 {
                    let is_pass = way.is_pass;
                    self.under_way.remove(&gone.object);
                    for ending in &mut self.endings {
                        ending.waiting.remove(&gone.object);
                    }
                    self.draft.waiting.remove(&gone.object);
                    if is_pass {
                        whole.insert(gone.object);
                    }
                }
            }
        }
        // Of a large file that is still read nothing is in the ledger yet, nor of packs whose page is not closed.
        let is_early = |object: &u64| {
            self.reading.values().any(|reading| reading == object) || self.draft.holds(*object)
        };
        let early: BTreeSet<u64> = whole.iter().copied().filter(is_early).collect();
        whole.retain(|object| !early.contains(object));
        self.gone_early.extend(early);
        if !whole.is_empty() {
            let schedule = self.options.schedule();
            self.ledger.have_gone(&whole, now_ms(), &schedule)?;
            self.tell_endings()?;
        }
        // A manifest of the whole tree tells what was known when it began, and nothing newer in between.
        while !self.is_telling_all
            && let Ok(loaded) = self.lanes.results.try_recv()
        {
            self.loaded(loaded)?;
        }
        push_on(&mut self.fresh, &self.lanes.fresh)?;
        push_on(&mut self.large, &self.lanes.large)?;
        push_on(&mut self.again, &self.lanes.again)
    }

    fn loaded(&mut self, loaded: Loaded) -> Result<()> {
        match loaded {
            Loaded::First { object, path, stamp, digest } => {
                let names = self.links.was_read(object);
                if self.reading.get(&path) == Some(&object) {
                    self.reading.remove(&path);
                    self.large_file(object, path, stamp, digest)?;
                    self.tell_names(names)?;
                } else {
                    // The next scan tells them.
                    self.asked_to_scan |= !names.is_empty();
                }
            }
            Loaded::Failed { error: LoadError::Stopped, .. } => return Err(SendError::Stopped),
            Loaded::Failed { object, path, is_first, error } => {
                self.under_way.remove(&object);
                for ending in &mut self.endings {
                    ending.waiting.remove(&object);
                }
                if is_first {
                    self.links.was_read(object);
                    if self.reading.get(&path) == Some(&object) {
                        self.reading.remove(&path);
                    }
                }
                // What has changed is found by the next scan, which sends it anew.
                if !matches!(error, LoadError::Changed) {
                    let reason = error.to_string();
                    self.event(SendEvent::Unreadable { path, reason });
                }
                // A scan finds what has changed in it; then the rest of it is told anew.
                if !is_first {
                    self.ledger.put_off(object, now_ms() + PUT_OFF_MS)?;
                }
                self.asked_to_scan = true;
                self.tell_endings()?;
            }
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<bool> {
        match request {
            Request::Scan => return Ok(true),
            Request::Full => self.wants_full = true,
            Request::Resend(list) => self.resend(&list)?,
        }
        Ok(false)
    }
}

/// Gives jobs on while there is room for them.
fn push_on(jobs: &mut VecDeque<Job>, lane: &SyncSender<Job>) -> Result<()> {
    while let Some(job) = jobs.pop_front() {
        match lane.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                jobs.push_front(job);
                return Ok(());
            }
            Err(TrySendError::Disconnected(_)) => return Err(SendError::Stopped),
        }
    }
    Ok(())
}
