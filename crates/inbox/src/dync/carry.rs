//! One upload between listener and desk: a task that asks the desk and waits for the turn, then a thread that writes
//! what comes. It ends when its [`Carrier`] is dropped; what was written is durable then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use transfer::reception::Turn;

use super::desk::{Desk, FileSink, Found, Offer, Refusal, Ticket, UploadId};
use super::pace::Pace;
use crate::Client;

/// After how many bytes what was written is brought to the disk...
const SYNC_BYTES: u64 = 8 << 20;
/// ...and after what time, if that is sooner.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// What the desk or the disk says.
#[derive(Debug)]
pub(super) enum Word {
    /// The file is taken in and waits for its turn.
    TakenIn,
    /// Nothing is known of it.
    NotFound,
    /// It is open, with so many bytes, and may bring at most so many a second.
    Opened(u64, Option<u64>),
    /// So many chunks are written, and the rate of the key allows as many more.
    Wrote(u32),
    /// So many bytes are durable.
    Synced(u64),
    /// It is published.
    Finished(String),
    /// It is over.
    Failed(Refusal),
}

/// Words with the upload and its round.
pub(super) type Words = mpsc::Sender<(UploadId, u64, Word)>;

/// What an upload begins with.
pub(super) enum Beginning {
    /// Its client offers it.
    Offer(Offer),
    /// It was there before.
    Find(UploadId),
}

/// A chunk, or the end of the file.
enum Job {
    Write(u64, Bytes),
    Finish([u8; 32]),
}

/// An upload that is under way. What waits in it is bounded by the credit of its client.
pub(super) struct Carrier {
    pub(super) round: u64,
    jobs: Sender<Job>,
    abandon: Arc<Mutex<Option<String>>>,
    closed: Arc<AtomicBool>,
    /// Dropped, it ends the waiting for a turn.
    _waits: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Carrier {
    /// Begins; an earlier one of the same upload ends first.
    pub(super) fn start<D: Desk>(
        desk: Arc<D>,
        client: Client,
        (beginning, round): (Beginning, u64),
        words: Words,
        previous: Option<JoinHandle<()>>,
    ) -> Self {
        let (jobs, incoming) = channel();
        let (waits, given_up) = oneshot::channel();
        let (abandon, closed) =
            (Arc::<Mutex<Option<String>>>::default(), Arc::<AtomicBool>::default());
        let course = Course {
            id: match &beginning {
                Beginning::Offer(offer) => offer.upload,
                Beginning::Find(id) => *id,
            },
            desk,
            round,
            words,
            abandon: abandon.clone(),
            closed: closed.clone(),
            max_rate_bytes_per_s: client.max_rate_bytes_per_s,
        };
        let task = tokio::spawn(async move {
            if let Some(previous) = previous {
                // Its panic was its own.
                let _ = previous.await;
            }
            course.run(client, beginning, incoming, given_up).await;
        });
        Self { round, jobs, abandon, closed, _waits: waits, task }
    }

    /// Bytes that were taken.
    pub(super) fn write(&self, at: u64, data: Bytes) {
        // If nobody takes them, it has said why.
        let _ = self.jobs.send(Job::Write(at, data));
    }

    /// The file is whole.
    pub(super) fn finish(&self, sha256: [u8; 32]) {
        let _ = self.jobs.send(Job::Finish(sha256));
    }

    /// Ends it. With a reason, what has arrived may go.
    pub(super) fn close(self, abandon: Option<String>) -> JoinHandle<()> {
        *self.abandon.lock().unwrap_or_else(PoisonError::into_inner) = abandon;
        self.closed.store(true, Ordering::Release);
        self.task
    }
}

/// A file of which everything is written.
struct Whole {
    sha256: [u8; 32],
    /// When its client has paid for it by its key's rate.
    paid_at: Option<Instant>,
}

/// What the task of an upload has.
struct Course<D> {
    id: UploadId,
    round: u64,
    desk: Arc<D>,
    words: Words,
    abandon: Arc<Mutex<Option<String>>>,
    closed: Arc<AtomicBool>,
    max_rate_bytes_per_s: Option<u64>,
}

impl<D: Desk> Course<D> {
    async fn run(
        self,
        client: Client,
        beginning: Beginning,
        jobs: Receiver<Job>,
        mut given_up: oneshot::Receiver<()>,
    ) {
        let desk = self.desk.clone();
        let asked = spawn_blocking(move || match beginning {
            Beginning::Offer(offer) => desk.offer(&client, offer).map(Found::Unfinished),
            Beginning::Find(id) => Ok(desk.find(&client, id)),
        });
        let ticket = match asked.await {
            Ok(Ok(Found::Unfinished(ticket))) => ticket,
            Ok(Ok(Found::Finished(dataset))) => return self.tell(Word::Finished(dataset)).await,
            Ok(Ok(Found::Unknown)) => return self.tell(Word::NotFound).await,
            Ok(Err(refusal)) => return self.tell(Word::Failed(refusal)).await,
            Err(_) => return self.tell(Word::Failed(broken())).await,
        };
        self.tell(Word::TakenIn).await;
        let turn = tokio::select! {
            turn = turn_of(ticket) => Some(turn),
            _ = &mut given_up => None,
        };
        let (desk, id, abandon) = (self.desk.clone(), self.id, self.abandon.clone());
        match turn {
            Some(Ok(ticket)) => {
                let (words, round) = (self.words.clone(), self.round);
                let carried = spawn_blocking(move || {
                    let carried = self.carry(&jobs);
                    drop(ticket);
                    carried
                });
                let word = match carried.await.unwrap_or_else(|_| Err(broken())) {
                    Ok(Some((dataset, paid_at))) => {
                        // Small files are held to the rate too. Nobody's turn waits for that.
                        tokio::select! {
                            () = until(paid_at) => {}
                            _ = &mut given_up => {}
                        }
                        Some(Word::Finished(dataset))
                    }
                    Ok(None) => None,
                    Err(refusal) => Some(Word::Failed(refusal)),
                };
                if let Some(word) = word {
                    let _ = words.send((id, round, word)).await;
                }
            }
            Some(Err(refusal)) => self.tell(Word::Failed(refusal)).await,
            None => {}
        }
        let reason = abandon.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = reason {
            // Nobody waits for it, and it tells its own troubles.
            let _ = spawn_blocking(move || desk.abandon(id, &reason)).await;
        }
    }

    async fn tell(&self, word: Word) {
        // The listener may have ended.
        let _ = self.words.send((self.id, self.round, word)).await;
    }

    /// The same on a thread that may block.
    fn say(&self, word: Word) {
        let _ = self.words.blocking_send((self.id, self.round, word));
    }

    /// Takes the file until it is published, if it is not closed before: the dataset, and when it is paid for.
    fn carry(&self, jobs: &Receiver<Job>) -> Result<Option<(String, Option<Instant>)>, Refusal> {
        let mut sink = self.desk.open(self.id)?;
        self.say(Word::Opened(sink.durable(), self.max_rate_bytes_per_s));
        let Some(Whole { sha256, paid_at }) = self.write_all(sink.as_mut(), jobs)? else {
            return Ok(None);
        };
        Ok(Some((sink.finish(sha256)?, paid_at)))
    }

    /// Writes until the file is whole, or the upload is closed; then there is nothing.
    fn write_all(
        &self,
        sink: &mut dyn FileSink,
        jobs: &Receiver<Job>,
    ) -> Result<Option<Whole>, Refusal> {
        let mut unsynced = 0;
        // When the oldest byte that is not durable was written.
        let mut since: Option<Instant> = None;
        let mut pace = Pace::new(self.max_rate_bytes_per_s);
        loop {
            let sync = since.map(|since| since + SYNC_AFTER);
            let job = match sync.into_iter().chain(pace.due()).min() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            // A client that is gone has nothing to say to bytes that wait.
            let ended = self.closed.load(Ordering::Acquire);
            match job {
                Ok(Job::Finish(sha256)) if !ended => {
                    // Others may have its credit: it sends nothing more.
                    self.say(Word::Wrote(pace.unpaid()));
                    return Ok(Some(Whole { sha256, paid_at: pace.paid_at() }));
                }
                Ok(Job::Write(at, data)) if !ended => {
                    sink.write(at, &data)?;
                    unsynced += data.len() as u64;
                    let now = Instant::now();
                    since.get_or_insert(now);
                    pace.wrote(now, data.len() as u64);
                }
                Err(RecvTimeoutError::Timeout) if !ended => {}
                _ => {
                    sink.sync()?;
                    return Ok(None);
                }
            }
            match pace.paid(Instant::now()) {
                0 => {}
                chunks => self.say(Word::Wrote(chunks)),
            }
            if unsynced >= SYNC_BYTES || since.is_some_and(|since| since.elapsed() >= SYNC_AFTER) {
                let durable = sink.sync()?;
                (unsynced, since) = (0, None);
                self.say(Word::Synced(durable));
            }
        }
    }
}

/// Waits until it is the ticket's turn.
async fn turn_of(mut ticket: Ticket) -> Result<Ticket, Refusal> {
    loop {
        match &*ticket.turns.borrow_and_update() {
            Turn::Waits(_) => {}
            Turn::Admitted => break,
            Turn::Refused(refusal) => return Err(refusal.clone().into()),
        }
        if ticket.turns.changed().await.is_err() {
            return Err(Refusal::new(503, "the queue has ended: try again later"));
        }
    }
    Ok(ticket)
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

fn broken() -> Refusal {
    Refusal::new(500, "the server has failed: its log says more")
}
