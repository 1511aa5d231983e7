//! The sending side: a tree, and channels, become frames on a line with no way back.
//!
//! Threads: the *feed* looks at the tree, makes generations, and alone writes the ledger; four *loaders* read files
//! and make repair symbols; the *engine* spreads, seals and sends. Between them is the *outbox*.

mod control;
mod draft;
mod ends;
mod engine;
mod epoch;
mod feed;
mod ledger;
mod line;
mod loader;
mod outbox;
mod pacer;
mod rehearse;
#[cfg(test)]
mod rig;
mod row;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use files::{Dir, FilesError, Name, RelPath};
use link::Identity;
use thiserror::Error;
use tree::{ScanError, SnapshotError, WalkOptions, Watch, WatchError};

use crate::block::Coder;
use crate::channel::StreamSink;
use crate::frame::{HEADER, TAG};
use crate::key::DiodePublicKey;
use crate::manifest::PageError;
use crate::send::engine::{Engine, Speaker, now_ms};
use crate::send::feed::{Feed, Lanes};
use crate::send::ledger::{Ledger, LedgerError, Schedule};
use crate::send::loader::{Cutter, Job, Loader};
use crate::send::outbox::Outbox;

pub use control::{Control, Request, SendStatus};
pub use engine::EngineOptions;
pub use epoch::{EpochError, Epochs};
pub use line::{Given, Line};
pub use rehearse::{RehearseOptions, rehearse};

/// Jobs that wait for a loader. Each may hold a pack of 1 MiB.
const MOST_JOBS: usize = 8;

/// The feed ends last: it is given so long for what it is doing.
const STACK: usize = 2 << 20;

/// What is sent, and how.
#[derive(Clone)]
pub struct SendOptions {
    /// Who signs.
    pub identity: Arc<Identity>,
    /// Who can read it.
    pub receivers: Vec<DiodePublicKey>,
    /// What is left out of the tree.
    pub walk: WalkOptions,
    /// Files that changed less than this ago wait.
    pub settle: Duration,
    /// Owner and group are told.
    pub with_owner: bool,
    /// Extended attributes are told.
    pub with_xattrs: bool,
    /// One pass, with all its repeats, and no more.
    pub once: bool,
    /// The tree is looked at as a whole so often.
    pub every: Duration,
    /// Whether changes are looked for as they are made.
    pub watch: bool,
    /// So many folders are watched at most; what is elsewhere is found by the next look at the whole tree.
    pub most_watched: usize,
    /// The whole tree is told anew so often.
    pub full_every: Duration,
    /// How often each file goes out in all, 1 at least.
    pub times: u32,
    /// After these times; the last one again and again.
    pub again: Vec<Duration>,
    /// Repair symbols for each source symbol.
    pub repair: f64,
    /// What the engine is to do.
    pub engine: EngineOptions,
    /// Is told what happens.
    pub on_event: Arc<dyn Fn(&SendEvent) + Send + Sync>,
}

impl SendOptions {
    /// For these receivers, with defaults for the rest.
    pub fn new(identity: Arc<Identity>, receivers: Vec<DiodePublicKey>) -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            identity,
            receivers,
            walk: WalkOptions::default(),
            settle: Duration::from_secs(2),
            with_owner: false,
            with_xattrs: false,
            once: false,
            every: minutes(5),
            watch: true,
            most_watched: 100_000,
            full_every: minutes(24 * 60),
            times: 1,
            again: vec![minutes(1), minutes(10), minutes(60), minutes(24 * 60)],
            repair: 0.15,
            engine: EngineOptions::default(),
            on_event: Arc::new(|_| {}),
        }
    }

    fn schedule(&self) -> Schedule {
        if self.once {
            // Nobody waits for a minute to pass.
            return Schedule {
                times: self.times,
                files: vec![Duration::ZERO],
                pages: vec![Duration::ZERO; 2],
            };
        }
        let seconds = [5, 60, 600].map(Duration::from_secs);
        Schedule { times: self.times, files: self.again.clone(), pages: seconds.to_vec() }
    }
}

impl std::fmt::Debug for SendOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendOptions").field("receivers", &self.receivers).finish_non_exhaustive()
    }
}

/// What happens at a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendEvent {
    /// A generation was made; its files are on their way.
    Generation {
        /// Its number.
        generation: u64,
        /// Files that it brings.
        files: u64,
        /// Bytes of these.
        bytes: u64,
        /// Entries that it removes.
        removed: u64,
        /// Entries that the tree has.
        entries: u64,
        /// Whether it tells the whole tree anew.
        is_full: bool,
    },
    /// An entry could not be read, and is not sent.
    Unreadable {
        /// Relative to the tree's root.
        path: RelPath,
        /// The error with its causes.
        reason: String,
    },
    /// Files that were still being written at the end of a single pass.
    Unsettled {
        /// How many.
        files: u64,
    },
    /// A want-list is being served.
    Resending {
        /// Pages of manifests, as ranges.
        pages: u64,
        /// Blocks.
        blocks: u64,
        /// Objects whose files have changed since, or are gone.
        changed: u64,
    },
    /// The memory of what was sent is older than the last run: it was restored from a backup. The whole tree is told anew.
    SetBack,
    /// Folders beyond the limit are not watched; what changes there is found by the next look at the whole tree.
    NotWatched {
        /// Why.
        reason: String,
    },
}

/// Why a sender ended.
#[derive(Debug, Error)]
pub enum SendError {
    /// It was told to.
    #[error("the sender was stopped")]
    Stopped,
    /// There is nobody to send to.
    #[error("no receiver is trusted, so nobody could read what is sent")]
    NoReceivers,
    /// The tree cannot be read at all.
    #[error("the tree cannot be read")]
    Tree(#[source] ScanError),
    /// The disk that the state is on.
    #[error("the sender's state cannot be used")]
    State(#[from] FilesError),
    /// The memory of what was sent.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The memory of sessions.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// An entry that no receiver would take.
    #[error("a page of the manifest cannot be made")]
    Page(#[from] PageError),
    /// The tree cannot be watched.
    #[error("the tree cannot be watched")]
    Watch(#[from] WatchError),
    /// A thread could not be started.
    #[error("no thread could be started")]
    Thread(#[from] std::io::Error),
    /// A thread has ended as none should.
    #[error("a part of the sender has failed: {0}")]
    Panicked(&'static str),
}

impl From<ScanError> for SendError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Stopped => Self::Stopped,
            error => Self::Tree(error),
        }
    }
}

impl From<SnapshotError> for SendError {
    fn from(error: SnapshotError) -> Self {
        Self::Ledger(error.into())
    }
}

/// What was sent in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendReport {
    /// As it was at the end.
    pub status: SendStatus,
    /// Whether it ended because it was stopped.
    pub was_stopped: bool,
}

/// A sender of a tree.
pub struct Sender {
    root: Option<Dir>,
    scratch: Dir,
    ledger: Ledger,
    epochs: Epochs,
    run: Run,
    options: SendOptions,
    control: Arc<Control>,
    outbox: Arc<Outbox>,
}

/// A run of the sender: generations have numbers from its own on.
#[derive(Debug, Clone, Copy)]
struct Run {
    number: u64,
    /// What the ledger says is older than what was sent.
    is_set_back: bool,
}

impl Sender {
    /// A sender of the tree at `root`, if there is one, whose memory is in `state`; `epochs` is the memory of sessions
    /// that all senders with this identity share. It may send `rate` bytes a second.
    pub fn open(
        root: Option<Dir>,
        state: &Dir,
        epochs: Epochs,
        rate: u64,
        options: SendOptions,
    ) -> Result<Self, SendError> {
        if options.receivers.is_empty() {
            return Err(SendError::NoReceivers);
        }
        let mut ledger = Ledger::open(state)?;
        let (number, is_set_back) = ledger.begin_run(now_ms(), epochs.last_run()?)?;
        epochs.began_run(number)?;
        let run = Run { number, is_set_back };
        let scratch = state.make_private_dir(&Name::new("scratch").expect("it is a name"))?;
        let control = Arc::new(Control::new(rate));
        // What was said before a restart is said again, whoever asks first.
        control.has_sent(ledger.sent_generation()?, ledger.snapshot().entries()?);
        control.tell(|told| told.is_plain = options.engine.insecure_plain);
        let outbox = Arc::new(Outbox::default());
        Ok(Self { root, scratch, ledger, epochs, run, options, control, outbox })
    }

    /// What others may see and change while it runs.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    /// Where channels give their records, for a line with frames of this size.
    pub fn streams(&self, frame_bytes: usize) -> Arc<dyn StreamSink> {
        let most = frame_bytes.saturating_sub(HEADER + TAG);
        Arc::new(Streams { outbox: self.outbox.clone(), most })
    }

    /// Sends over this line until it is told to stop, or once.
    pub fn run<L: Line>(self, line: L, stop: &AtomicBool) -> Result<SendReport, SendError> {
        let Self { root, scratch, ledger, epochs, run, options, control, outbox } = self;
        let symbol = Engine::symbol_bytes(&line);
        let cutter = Cutter {
            outbox: outbox.clone(),
            symbol,
            repair: options.repair,
            coder: Coder::default(),
        };
        let floor = epochs.floor();
        let (identity, receivers) = (options.identity.clone(), options.receivers.clone());
        let speaker = Speaker { identity, receivers, epochs };
        let engine_options = options.engine.clone();
        let mut engine =
            Engine::new(line, outbox.clone(), control.clone(), speaker, engine_options)?;
        // The engine goes on until all that was made has been sent.
        let end = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            let named =
                |name: &str| std::thread::Builder::new().name(name.into()).stack_size(STACK);
            let (closing, end) = (Closing(outbox.clone()), &end);
            let sending = named("diode send").spawn_scoped(scope, move || {
                // Whatever ends the engine ends all: nobody waits for one that is not there.
                let _closing = closing;
                engine.run(end)
            })?;
            let feeding = || -> Result<(), SendError> {
                let Some(root) = root else {
                    while !stop.load(Ordering::Relaxed) && !outbox.is_closed() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    return Err(SendError::Stopped);
                };
                let (results, loaded) = channel();
                let mut lanes = Vec::new();
                for name in ["diode small", "diode fresh", "diode large", "diode again"] {
                    let (jobs, waiting) = sync_channel::<Job>(MOST_JOBS);
                    let mut loader = Loader {
                        root: root.clone(),
                        cutter: cutter.another(),
                        results: results.clone(),
                    };
                    named(name).spawn_scoped(scope, move || loader.run(&waiting))?;
                    lanes.push(jobs);
                }
                let [small, fresh, large, again] =
                    lanes.try_into().map_err(|_| SendError::Panicked("the loaders"))?;
                let lanes = Lanes { small, fresh, large, again, results: loaded };
                let watch = watch(&root, &options)?;
                let folders = (root, scratch);
                let mut feed = Feed::new(
                    folders,
                    &options,
                    (floor, run),
                    control.clone(),
                    lanes,
                    cutter,
                    ledger,
                    stop,
                )?;
                if options.once { feed.run_once() } else { feed.run(watch) }
            };
            let fed = feeding();
            end.store(true, Ordering::Relaxed);
            outbox.close();
            let sent = sending.join().map_err(|_| SendError::Panicked("the engine"))?;
            sent.map_err(SendError::from).and(fed)
        });
        // A scan that is told to stop says so in its own words.
        let was_stopped =
            matches!(result, Err(SendError::Stopped | SendError::Tree(ScanError::Stopped)));
        match result {
            Ok(()) | Err(SendError::Stopped | SendError::Tree(ScanError::Stopped)) => {
                Ok(SendReport { status: control.status(), was_stopped })
            }
            Err(error) => Err(error),
        }
    }
}

/// Closes the outbox when it goes, however that comes.
struct Closing(Arc<Outbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Where records of channels go.
struct Streams {
    outbox: Arc<Outbox>,
    most: usize,
}

impl StreamSink for Streams {
    fn push(&self, record: &[u8], may_wait: bool) -> bool {
        self.outbox.stream(record, may_wait)
    }

    fn most_record(&self) -> usize {
        self.most
    }
}

/// Watches the tree, if it is to be.
fn watch(root: &Dir, options: &SendOptions) -> Result<Option<Watch>, SendError> {
    if options.once || !options.watch {
        return Ok(None);
    }
    let watch = Watch::new(root, &options.walk.filter, options.most_watched)?;
    if !watch.is_whole() {
        let reason = "not all folders can be watched (see fs.inotify.max_user_watches)".to_owned();
        (options.on_event)(&SendEvent::NotWatched { reason });
    }
    Ok(Some(watch))
}

#[cfg(feature = "fuzzing")]
pub(crate) use row::fuzz as fuzz_row;

#[cfg(test)]
mod tests;
