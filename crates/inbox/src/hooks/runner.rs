//! Carries out what stands in the outbox. One task looks for hooks that are due and starts them, a bounded number at
//! once; each ends by writing down how it went. Killed anywhere in between, the outbox says after the next start what
//! is still to do: a hook that had ended without its row being told runs again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use events::{Event, Sink};
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::verdict::{Ran, after_failure};
use super::{Job, Surroundings};
use crate::catalogue::outbox::{self, Due, Next};
use crate::options::HookOptions;

/// What is not told by the bell, as when another program asks for new tries, is found after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// After so long a database that cannot be written is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// Whoever has the database with the outbox. Calls are made on threads that may block.
pub trait Books: Send + Sync + 'static {
    /// Does something with it that nothing else interrupts.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T>;
}

impl Books for Mutex<Connection> {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // A transaction that a panic left open was rolled back as it went.
        work(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// To be rung after rows were added to the outbox; clones ring the same.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Something may be due.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// How hooks are run.
#[derive(Debug, Clone)]
pub struct HooksOptions {
    /// The hooks of each inbox, by its name.
    pub hooks: Vec<(String, Vec<HookOptions>)>,
    /// How many run at once. One hook alone has all but one of them at most, so that one that hangs does not hold up
    /// the others.
    pub at_once: usize,
    /// How long hooks that run may go on after [`Hooks::stop`].
    pub grace: Duration,
    /// What programs find in their environment.
    pub surroundings: Surroundings,
    /// Who is told of failures.
    pub sink: Sink,
    /// What wakes them.
    pub bell: Bell,
}

impl Default for HooksOptions {
    fn default() -> Self {
        Self {
            hooks: Vec::new(),
            at_once: 4,
            grace: Duration::from_secs(5),
            surroundings: Surroundings::default(),
            sink: Sink::default(),
            bell: Bell::default(),
        }
    }
}

/// The task that runs hooks.
#[derive(Debug)]
pub struct Hooks {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// Takes up what stands in the outbox, whose tables must be there, and begins. Nobody else may run hooks of it.
    pub async fn start<B: Books>(books: Arc<B>, options: HooksOptions) -> rusqlite::Result<Self> {
        let shared = Arc::new(Shared { books, options });
        shared
            .with(|db, options, now_ms| {
                let names = |(inbox, hooks): &'_ (String, Vec<HookOptions>)| {
                    hooks.iter().map(|hook| (inbox.clone(), hook.name.clone())).collect::<Vec<_>>()
                };
                let pairs: Vec<_> = options.hooks.iter().flat_map(names).collect();
                let pairs = pairs.iter().map(|(inbox, hook)| (&inbox[..], &hook[..]));
                outbox::start(db, pairs, now_ms)
            })
            .await?;
        let (stop, stopped) = watch::channel(false);
        let runner = Runner { shared, running: JoinSet::new(), begun: HashMap::new() };
        Ok(Self { stop, task: tokio::spawn(runner.run(stopped)) })
    }

    /// Starts no more hooks, lets those that run go on for the grace, ends the rest, which wait for the next start, and
    /// returns once all of that is done. Dropped instead, it does the same and nobody waits for it.
    pub async fn stop(self) {
        // The task ends when the sender is gone, too.
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct Shared<B> {
    books: Arc<B>,
    options: HooksOptions,
}

impl<B: Books> Shared<B> {
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection, &HooksOptions, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let shared = self.clone();
        let work = move || shared.books.with(|db| work(db, &shared.options, now_ms()));
        // It fails only where the runtime ends or the work panicked, and then nothing was done.
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(rusqlite::Error::UnwindingPanic))
    }

    fn warn(&self, text: impl FnOnce() -> String) {
        self.options.sink.emit_with(|| Event::Warning { text: text() });
    }

    fn hook(&self, due: &Due) -> Option<&HookOptions> {
        let (_, hooks) = self.options.hooks.iter().find(|(inbox, _)| *inbox == due.inbox)?;
        hooks.iter().find(|hook| hook.name == due.hook)
    }
}

struct Runner<B> {
    shared: Arc<Shared<B>>,
    running: JoinSet<()>,
    /// What the tasks that run are at.
    begun: HashMap<Id, Due>,
}

impl<B: Books> Runner<B> {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let bell = self.shared.options.bell.0.clone();
        loop {
            let pause = match self.begin_what_is_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    self.shared.warn(|| format!("cannot read which hooks are to run: {error}"));
                    WRITE_AGAIN
                }
            };
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await,
                () = bell.notified() => {}
                () = sleep(pause) => {}
            }
        }
        self.wind_up().await;
    }

    /// Starts what is due, and says how long nothing more will be.
    async fn begin_what_is_due(&mut self) -> rusqlite::Result<Duration> {
        let at_once = self.shared.options.at_once.max(1);
        let room = at_once.saturating_sub(self.running.len());
        if room > 0 {
            // Those of each hook take turns, so that one of another kind is among so many.
            let hooks: usize = self.shared.options.hooks.iter().map(|(_, hooks)| hooks.len()).sum();
            let due =
                self.shared.with(move |db, _, now_ms| outbox::due(db, now_ms, hooks + at_once));
            for due in due.await? {
                if self.running.len() >= at_once {
                    break;
                }
                self.begin(due, at_once.saturating_sub(1).max(1)).await?;
            }
        }
        let next = self.shared.with(|db, _, now_ms| Ok((outbox::next_due(db, now_ms)?, now_ms)));
        let pause = match next.await? {
            (Some(next), now) => Duration::from_millis(next.saturating_sub(now).unsigned_abs()),
            (None, _) => LOOK_AGAIN,
        };
        Ok(pause.min(LOOK_AGAIN))
    }

    async fn begin(&mut self, due: Due, most_of_one: usize) -> rusqlite::Result<()> {
        let is_same = |other: &&Due| other.inbox == due.inbox && other.hook == due.hook;
        if self.begun.values().filter(is_same).count() >= most_of_one {
            return Ok(());
        }
        let row = due.clone();
        if self.shared.hook(&due).is_none() {
            self.shared.with(move |db, _, now_ms| outbox::removed(db, &row, now_ms)).await?;
            self.shared.warn(|| {
                let Due { hook, inbox, dataset, .. } = &due;
                format!("dataset {dataset} waits for hook {hook} of inbox {inbox}, which the configuration has no more")
            });
            return Ok(());
        }
        let body = self.shared.with(move |db, _, now_ms| outbox::began(db, &row, now_ms)).await?;
        if let Some(body) = body {
            let task = self.running.spawn(once(self.shared.clone(), due.clone(), body));
            self.begun.insert(task.id(), due);
        }
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, has_failed) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        if let Some(due) = self.begun.remove(&id).filter(|_| has_failed) {
            // A mistake of ours: it is no reason to try again at once, and again.
            let ran = Ran::failed("haul itself failed while it ran");
            write_down(&self.shared, &due, &ran).await;
        }
    }

    async fn wind_up(mut self) {
        let grace = self.shared.options.grace;
        let all = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                self.ended(ended).await;
            }
        };
        if timeout(grace, all).await.is_ok() {
            return;
        }
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            if let Ok((id, ())) = ended {
                self.begun.remove(&id);
            }
        }
        for (_, due) in self.begun.drain() {
            // Where this cannot be written, the next start finds the row as a kill would leave it.
            let write = move |db: &mut Connection, _: &_, now| outbox::interrupted(db, &due, now);
            let _ = self.shared.with(write).await;
        }
    }
}

/// Runs a hook once and writes down how it went.
async fn once<B: Books>(shared: Arc<Shared<B>>, due: Due, body: String) {
    let Some(hook) = shared.hook(&due) else { return };
    let job = Job {
        hook,
        event: due.event.word(),
        inbox: &due.inbox,
        dataset: Some(&due.dataset),
        path: due.path.as_deref(),
        body: &body,
        surroundings: &shared.options.surroundings,
    };
    let ran = job.run().await;
    write_down(&shared, &due, &ran).await;
}

async fn write_down<B: Books>(shared: &Arc<Shared<B>>, due: &Due, ran: &Ran) {
    let tries = due.tries.saturating_add(1);
    let most = shared.hook(due).map_or(1, |hook| hook.tries);
    let random = chance();
    let words = ran.words();
    let next = loop {
        let (row, outcome, output, is_done) =
            (due.clone(), words.clone(), ran.output.clone(), ran.is_done());
        let write = move |db: &mut Connection, _: &_, now_ms| {
            if is_done {
                return outbox::done(db, &row, &outcome, &output, now_ms).map(|()| None);
            }
            let next = after_failure(tries, most, random, now_ms);
            outbox::failed(db, &row, next, &outcome, &output, now_ms)?;
            Ok(Some((next, now_ms)))
        };
        match shared.with(write).await {
            Ok(next) => break next,
            Err(error) => {
                let Due { hook, dataset, .. } = due;
                shared.warn(|| {
                    format!("cannot write down how hook {hook} of dataset {dataset} went: {error}")
                });
                sleep(WRITE_AGAIN).await;
            }
        }
    };
    let Some((next, now)) = next else { return };
    shared.warn(|| {
        let Due { hook, inbox, dataset, .. } = due;
        let then = match next {
            Next::At(at) => {
                let seconds = at.saturating_sub(now) / 1_000;
                format!("it is tried again in {seconds} s")
            }
            Next::Stuck => format!(
                "it is not tried again by itself; when it is mended, run: haul inbox retry-hooks {dataset}"
            ),
        };
        format!("hook {hook} of inbox {inbox} failed for dataset {dataset}, try {tries}: {words}; {then}")
    });
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Spreads tries that failed together. Without chance they are tried together again, which is no harm but a burst.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
