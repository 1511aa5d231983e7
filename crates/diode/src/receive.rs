//! The receiving end of a diode: from what comes over the link to a tree on disk. It sends nothing.
//!
//! Three threads share the work, so that none waits for another: this one reads frames and puts blocks together
//! (`work`), one restores and writes blocks (`writer`), and one keeps the journal and the tree (`keeper`). A final name
//! bears only what was verified as a whole; the version before stays until then. Whatever moment the process is killed
//! at, the next one finds out how far it had come.

mod compare;
mod ground;
mod journal;
mod keeper;
mod memory;
mod note;
mod rehearse;
mod sessions;
mod spill;
mod status;
mod work;
mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use files::{Dir, FilesError, RelPath, Staging};
use link::Identity;
use thiserror::Error;

use crate::block::Restorer;
use crate::carrier::{Arrival, Incoming};
use crate::channel::Outlets;
use crate::event::{DiodeEvent, OnEvent};
use crate::intake::Intake;
use crate::intervals::Intervals;
use crate::key::TrustLine;
use crate::priority::{self, prefer};
use crate::record::Record;
use crate::resync::Resync;
use journal::Journal;
use keeper::Context;
use memory::Memory;
use note::{Ask, Flush, Job, Note};
use spill::Spill;
use status::Shared;
use work::{Clock, Work};
use writer::Writer;

pub use journal::JournalError;
pub use memory::receiver_key;
pub use rehearse::{HeardRehearsal, RehearsalReceiver};
pub use status::{LinkStatus, ReceiveStatus, StatusHandle, TreeStatus};

/// How a receiver does its work.
#[derive(Clone)]
pub struct ReceiveOptions {
    /// Whose sessions are followed. The tree is of one of them: the one that it was of, or else the first.
    pub senders: Vec<TrustLine>,
    /// Signs want-lists.
    pub identity: Arc<Identity>,
    /// What becomes of what the sender removes.
    pub deletes: Deletes,
    /// A generation that removes more than this share of the entries waits for somebody to agree, if it removes more than
    /// so many.
    pub brake: f64,
    /// See `brake`.
    pub brake_least: u64,
    /// Whether files are on stable storage before they get their names.
    pub fsync: bool,
    /// Bytes of blocks that may be in memory, be it that they are put together, or wait for the disk or for pages.
    pub memory: usize,
    /// Whether owners are taken over, which takes privileges.
    pub owner: bool,
    /// Whether setuid, setgid and sticky bits are taken over.
    pub setid: bool,
    /// Whether sessions are taken that are neither encrypted nor authenticated. For measurements only.
    pub insecure_plain: bool,
    /// Who is told what happens.
    pub on_event: OnEvent,
}

impl ReceiveOptions {
    /// What is usual.
    pub fn new(senders: Vec<TrustLine>, identity: Arc<Identity>) -> Self {
        Self {
            senders,
            identity,
            deletes: Deletes::After(Duration::from_secs(7 * 24 * 3600)),
            brake: 0.2,
            brake_least: 100,
            fsync: false,
            memory: USUAL_MEMORY,
            owner: false,
            setid: false,
            insecure_plain: false,
            on_event: Arc::new(|_| {}),
        }
    }
}

/// What becomes of what the sender removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// It is removed.
    Now,
    /// It is taken out of the tree, and removed after this.
    After(Duration),
    /// It stays, and counts as extra.
    Never,
}

/// What was taken out of the tree and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Where it was.
    pub path: RelPath,
    /// Since when it is kept.
    pub since: SystemTime,
    /// The generation that removed it; 0 if it was in the way of something else.
    pub generation: u64,
}

/// Where the records of channels go.
pub trait ChannelSink: Send {
    /// A record, in whatever order they come, some more than once.
    fn take(&mut self, record: &Record<'_>, now: Instant);
    /// Time goes by.
    fn tick(&mut self, now: Instant);
    /// The sender has begun anew: its connections are others.
    fn session_began(&mut self, now: Instant);
}

impl ChannelSink for Arc<Outlets> {
    fn take(&mut self, record: &Record<'_>, now: Instant) {
        Outlets::take(self, record, now);
    }

    fn tick(&mut self, now: Instant) {
        Outlets::tick(self, now);
    }

    fn session_began(&mut self, now: Instant) {
        Outlets::session_began(self, now);
    }
}

/// Why there is no receiver, or no answer from it.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// Nobody is trusted to send.
    #[error("no sender is trusted here: exchange keys first")]
    NoSender,
    /// Another process has the state folder.
    #[error("another receiver is at work with the same state folder")]
    Busy,
    /// The file with the key cannot be read.
    #[error("the file `session` in the state folder is damaged: remove it, and exchange keys anew")]
    DamagedMemory,
    /// The journal cannot be opened.
    #[error("the journal cannot be opened")]
    Journal(#[source] JournalError),
    /// A folder cannot be used.
    #[error("a folder of the receiver cannot be used")]
    Files(#[from] FilesError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The journal could not be kept, so nothing can be said.
    #[error("the receiver cannot keep its journal")]
    Failed,
    /// A path cannot be restored.
    #[error("not restored: {0}")]
    NotRestored(String),
}

/// The receiving end.
pub struct Receiver {
    work: Work,
    resync: Resync,
    jobs: Sender<Job>,
    notes: Sender<Note>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How long everything may take to reach the disk.
const FLUSH_WITHIN: Duration = Duration::from_secs(600);

/// Memory for blocks, unless told otherwise: enough for 900 MB/s of which an outage of 50 ms may cost nothing. At lower
/// rates less of it is used.
pub(crate) const USUAL_MEMORY: usize = 1 << 30;

/// How much of it is for blocks that are put together.
pub(crate) fn put_together(memory: usize) -> usize {
    memory / 8 * 5
}

/// So many bytes may wait for the disk in any case: a few blocks.
const LEAST_WAITING: usize = 4 << 20;

/// How often time goes by.
const TICK: Duration = Duration::from_millis(100);

/// How often what the threads give each other goes back and forth.
const ROUNDS: usize = 4;

impl Receiver {
    /// Receives into a folder. What is to be remembered lies in the state folder, which one receiver at a time can use.
    pub fn open(into: &Dir, state: &Dir, options: ReceiveOptions) -> Result<Self, ReceiveError> {
        if options.senders.is_empty() {
            return Err(ReceiveError::NoSender);
        }
        let journal = open_journal(state)?;
        let memory = Memory::open(state)?;
        let tree = tree_sender(&journal, &options).map_err(ReceiveError::Journal)?;
        let line = options.senders[tree].clone();
        let staging = Arc::new(Staging::open(into)?);
        let spill = Arc::new(Spill::open(state)?);
        let shared = Shared::new(options.on_event.clone());
        let mut sessions =
            sessions::Sessions::new(memory, memory::Writer::start(state)?, &options.senders);
        sessions.takes_plain = options.insecure_plain;
        let (jobs, taken_jobs) = channel();
        let (notes, taken_notes) = channel();
        let (feedback, taken_feedback) = channel();
        let (away, _) = spill.list()?;
        let writer = Writer {
            staging: staging.clone(),
            spill: spill.clone(),
            sender: line.identity.0,
            shared: shared.clone(),
            keeper: notes.clone(),
            feedback: feedback.clone(),
            spilled: away.iter().copied().collect::<HashSet<_>>(),
            open: HashMap::new(),
            restorer: Restorer::default(),
            clock: 0,
        };
        let most = options.memory;
        let options = Arc::new(options);
        let context = Context {
            root: into.clone(),
            state: state.clone(),
            options: options.clone(),
            line,
            staging,
            spill,
            shared: shared.clone(),
            jobs: jobs.clone(),
            feedback,
            notes: notes.clone(),
        };
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(body).map_err(ReceiveError::Thread)
        };
        let threads = vec![
            spawn(
                "diode-writer",
                Box::new(move || {
                    prefer(priority::WRITE);
                    writer.run(&taken_jobs);
                }),
            )?,
            spawn("diode-keeper", Box::new(move || keeper::keep(&context, journal, &taken_notes)))?,
        ];
        let work = Work {
            sessions,
            tree,
            intake: Intake::new(put_together(most), Intervals::default(), away),
            jobs: jobs.clone(),
            notes: notes.clone(),
            feedback: taken_feedback,
            shared: shared.clone(),
            sink: None,
            least_waiting: (most / 8).max(LEAST_WAITING),
            // The keeper has the last eighth, for what no page has named yet.
            most_in_memory: most / 8 * 7,
            link: LinkStatus::default(),
            clock: Clock::new(Instant::now()),
        };
        let mut receiver = Self { work, resync: Resync::default(), jobs, notes, shared, threads };
        // What is staged is read again beside what comes.
        receiver.pass_through(1, false)?;
        receiver.shared.tell(&DiodeEvent::Started);
        Ok(receiver)
    }

    /// Gives the records of channels to this.
    pub fn set_sink(&mut self, sink: Box<dyn ChannelSink>) {
        self.work.sink = Some(sink);
    }

    /// Takes what comes until it is to stop, and sees to it that time goes by. An error if the receiver cannot go on.
    pub fn run(&mut self, incoming: &mut Incoming, stop: &AtomicBool) -> Result<(), ReceiveError> {
        prefer(priority::WORK);
        let mut ticked: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let arrival = incoming.next(TICK / 2);
            let now = Instant::now();
            match arrival {
                Some(Arrival::Datagrams(mut datagrams)) => self.datagrams(&mut datagrams, now),
                Some(Arrival::Stream { bytes, is_new }) => self.stream(&bytes, is_new, now),
                None => {}
            }
            if ticked.is_none_or(|ticked| now.saturating_duration_since(ticked) >= TICK) {
                ticked = Some(now);
                self.tick(now, SystemTime::now());
                if self.threads.iter().any(JoinHandle::is_finished) {
                    return Err(ReceiveError::Failed);
                }
            }
        }
        Ok(())
    }

    /// Takes datagrams, which are spoiled.
    pub fn datagrams<'a>(
        &mut self,
        datagrams: impl IntoIterator<Item = &'a mut [u8]>,
        now: Instant,
    ) {
        self.work.clock.now = now;
        self.work.listen();
        for datagram in datagrams {
            self.work.datagram(datagram);
        }
    }

    /// Takes bytes of a stream, of another one than before if it `is_new`.
    pub fn stream(&mut self, bytes: &[u8], is_new: bool, now: Instant) {
        self.work.clock.now = now;
        self.work.listen();
        if is_new {
            while self.resync.last(&mut self.work).is_some() {}
        }
        self.resync.push(bytes);
        while self.resync.next(&mut self.work).is_some() {}
        self.work.link.skipped_bytes = self.resync.skipped();
    }

    /// Time goes by: to be called ten times a second, whether anything comes or not.
    pub fn tick(&mut self, now: Instant, wall: SystemTime) {
        self.work.tick(now, wall);
    }

    /// Waits until everything that has come is on the disk as far as it goes.
    pub fn flush(&mut self) -> Result<(), ReceiveError> {
        self.pass_through(ROUNDS, true)
    }

    fn pass_through(&mut self, rounds: usize, with_checks: bool) -> Result<(), ReceiveError> {
        for _ in 0..rounds {
            let (reply, answer) = channel();
            let flush = Flush { with_checks, reply };
            self.jobs.send(Job::Flush(flush)).map_err(|_| ReceiveError::Failed)?;
            answer.recv_timeout(FLUSH_WITHIN).map_err(|_| ReceiveError::Failed)?;
            self.work.listen();
        }
        Ok(())
    }

    /// The figures.
    pub fn status(&self) -> StatusHandle {
        StatusHandle(self.shared.clone())
    }

    /// For questions, also from other threads.
    pub fn requests(&self) -> Requests {
        Requests(self.notes.clone())
    }

    /// Ends, with all that has come on the disk as far as it goes, and nothing to be received again because of it.
    pub fn close(mut self) -> Result<(), ReceiveError> {
        let flushed = self.pass_through(2, false);
        let is_remembered = self.work.close();
        self.stop();
        self.shared.tell(&DiodeEvent::Stopped);
        flushed.and(if is_remembered { Ok(()) } else { Err(ReceiveError::Failed) })
    }

    fn stop(&mut self) {
        // A thread that is gone already needs no order.
        let _ = self.jobs.send(Job::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The journal, which nobody else has open then.
fn open_journal(state: &Dir) -> Result<Journal, ReceiveError> {
    Journal::open(state).map_err(|error| match error.is_open_elsewhere() {
        true => ReceiveError::Busy,
        false => ReceiveError::Journal(error),
    })
}

/// Which of the senders the tree is of.
fn tree_sender(journal: &Journal, options: &ReceiveOptions) -> Result<usize, JournalError> {
    let known = journal.begin()?.meta("sender")?;
    let is_known = |line: &TrustLine| known.as_deref() == Some(line.identity.as_bytes());
    Ok(options.senders.iter().position(is_known).unwrap_or(0))
}

/// Questions to a receiver.
#[derive(Clone)]
pub struct Requests(Sender<Note>);

impl Requests {
    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> Result<T, ReceiveError> {
        let (reply, answer) = channel();
        self.0.send(Note::Ask(ask(reply))).map_err(|_| ReceiveError::Failed)?;
        answer.recv().map_err(|_| ReceiveError::Failed)
    }

    /// What is missing, as text that is to be carried to the sender.
    pub fn want_list(&self, time: SystemTime) -> Result<String, ReceiveError> {
        self.ask(|reply| Ask::Want { time, reply })
    }

    /// Agrees to what the brake holds back. The generations.
    pub fn release(&self) -> Result<Vec<u64>, ReceiveError> {
        self.ask(|reply| Ask::Release { reply })
    }

    /// Brings back what was removed last at a path, if nothing is there now.
    pub fn restore(&self, path: &RelPath) -> Result<(), ReceiveError> {
        let path = path.clone();
        self.ask(|reply| Ask::Restore { path, reply })?.map_err(ReceiveError::NotRestored)
    }

    /// Up to `limit` files that have not arrived.
    pub fn missing(&self, limit: usize) -> Result<Vec<RelPath>, ReceiveError> {
        self.ask(|reply| Ask::Missing { limit, reply })
    }

    /// Up to `limit` of what was removed and is kept, the last first.
    pub fn quarantined(&self, limit: usize) -> Result<Vec<Quarantine>, ReceiveError> {
        self.ask(|reply| Ask::Quarantined { limit, reply })
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) use journal::fuzz_row;

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_kept(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    if which % 2 == 0 { memory::fuzz(data) } else { spill::fuzz(data) }
}

#[cfg(test)]
mod tests;
