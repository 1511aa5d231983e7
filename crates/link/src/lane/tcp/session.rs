//! What all connections of one TCP lane share, and the tasks that keep it alive.
//! `run` owns every task of the lane and returns when the last has ended; everything else only looks at
//! the shared state and waits for bells.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::control::{Streams, violation};
use super::data::{self, Both, Incoming};
use super::frame::{Frame, FrameError};
use super::growing::Growing;
use super::handshake::Secured;
use super::outbox::Outbox;
use super::queue::Queue;
use super::sockets::Sockets;
use super::stream::{self, StreamError};
use super::{info, talk};
use crate::error::{close_code, printable, reason_bytes};
use crate::memory::{Account, Grants, connections_of, parcels_beside};
use crate::{Congestion, LinkError, PeerName, TransportOptions};

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a connection that broke waits for the peer's reason, which comes on another one.
pub(super) const REASON_WAIT: Duration = Duration::from_millis(500);

/// How often the number of connections is thought about.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The most data connections of a lane.
pub(crate) const MOST_CONNECTIONS: u16 = 16;

/// Why a lane has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed on this side.
    Here,
    /// Closed by the peer.
    Closed { code: u32, reason: String },
    /// Nothing came for too long.
    TimedOut,
    /// A connection was gone without a word.
    Reset,
    /// No welcome within this time.
    Late(Duration),
    /// The peer is not to be reached.
    Unreachable(std::io::ErrorKind, String),
    /// The peer does not speak our protocol.
    Incompatible(String),
    /// The peer does what it may not.
    Violation(String),
    /// Something else failed.
    Failed(String),
}

impl End {
    pub(crate) fn into_error(self, peer: PeerName) -> LinkError {
        match self {
            Self::Here => LinkError::ClosedHere { peer },
            Self::Closed { code: close_code::REFUSED, reason } => {
                LinkError::Refused { peer, reason }
            }
            Self::Closed { code: close_code::BUSY, .. } => LinkError::Busy { peer },
            Self::Closed { code, reason } => {
                LinkError::Closed { peer, code: u64::from(code), reason }
            }
            Self::TimedOut => LinkError::TimedOut { peer },
            Self::Reset => LinkError::Reset { peer },
            Self::Late(after) => LinkError::NoAnswer { peer, after },
            Self::Unreachable(kind, detail) => {
                LinkError::Unreachable { peer, source: std::io::Error::new(kind, detail) }
            }
            Self::Incompatible(detail) => LinkError::Incompatible { peer, detail },
            Self::Violation(detail) | Self::Failed(detail) => LinkError::Transport { peer, detail },
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        use std::io::ErrorKind;
        match error {
            StreamError::Io(error) => match error.kind() {
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::NotConnected => Self::Reset,
                ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable => Self::TimedOut,
                _ => Self::Failed(error.to_string()),
            },
            StreamError::Alert(alert) => {
                Self::Incompatible(format!("the handshake was refused with alert {alert}"))
            }
            StreamError::Broken(detail) => Self::Violation(detail),
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Violation(error.to_string())
    }
}

/// How a lane tells that it is alive, how long it waits for the peer, and what its rate goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    pub(crate) keep_alive: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) congestion: Congestion,
}

impl Pulse {
    pub(crate) fn of(transport: &TransportOptions) -> Self {
        let TransportOptions { keep_alive, idle_timeout, congestion, .. } = *transport;
        Self { keep_alive, idle_timeout, congestion }
    }
}

/// Where the dialer gets further connections from.
pub(crate) trait Extend: Send + Sync {
    /// Begins to open data connection `number`, which is handed to the session when it is there.
    fn extend(self: Arc<Self>, number: u16, session: Arc<Session>, tasks: &mut JoinSet<Task>);
}

/// How a task of a lane ends.
pub(crate) type Task = Result<(), End>;

/// The shared state of a lane.
#[derive(Debug)]
pub(crate) struct Session {
    name: PeerName,
    dialed: bool,
    pulse: Pulse,
    pub(super) started: Instant,
    pub(super) end: watch::Sender<Option<End>>,
    welcomed: watch::Sender<bool>,
    pub(crate) outbox: Outbox,
    pub(crate) streams: Streams,
    pub(crate) queue: Mutex<Queue>,
    /// Rung when there is something to send.
    pub(crate) work: Notify,
    /// Rung when the number of connections in use changes.
    pub(crate) bench: Notify,
    pub(crate) incoming: Incoming,
    pub(crate) account: Arc<Account>,
    /// How many connections new parcels go over.
    pub(super) using: AtomicU16,
    /// The places of the data connections that are attached and in order, a bit each.
    live: AtomicU32,
    /// Whether one was taken out of use.
    lost: AtomicBool,
    /// Whether a data connection has come.
    claimed: AtomicBool,
    /// Milliseconds since `started` at which something came last.
    heard: AtomicU64,
    attach: mpsc::Sender<Joining>,
    pub(super) sockets: Sockets,
    /// The figures when they were asked last.
    figures: Mutex<info::Figures>,
    /// The listener's wish for another connection, at the dialer.
    wanted: Notify,
}

/// A data connection whose hello was said.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) number: u16,
    pub(crate) secured: Secured,
    /// Held as long as the connection lives.
    pub(crate) held: Option<crate::listen::DataSlot>,
}

impl Session {
    /// A lane that begins, and where its data connections come in.
    pub(crate) fn new(
        name: PeerName,
        dialed: bool,
        pulse: Pulse,
        account: Arc<Account>,
    ) -> (Arc<Self>, mpsc::Receiver<Joining>) {
        let (attach, joining) = mpsc::channel(usize::from(MOST_CONNECTIONS));
        let session = Self {
            name,
            dialed,
            pulse,
            started: Instant::now(),
            end: watch::Sender::new(None),
            welcomed: watch::Sender::new(!dialed),
            outbox: Outbox::default(),
            streams: Streams::new(dialed),
            queue: Mutex::default(),
            work: Notify::new(),
            bench: Notify::new(),
            incoming: Incoming::new(crate::memory::parcels_of(account.window())),
            account,
            using: AtomicU16::new(1),
            live: AtomicU32::new(0),
            lost: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            attach,
            sockets: Sockets::default(),
            figures: Mutex::default(),
            wanted: Notify::new(),
        };
        (Arc::new(session), joining)
    }

    pub(crate) fn name(&self) -> &PeerName {
        &self.name
    }

    pub(super) fn congestion(&self) -> Congestion {
        self.pulse.congestion
    }

    pub(crate) fn error(&self, end: End) -> LinkError {
        end.into_error(self.name.clone())
    }

    /// Why the lane has ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Here),
            // The sender is in `self`.
            Err(_) => End::Here,
        }
    }

    /// What `future` gives, unless the lane ends before.
    pub(crate) async fn or_ended<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Result<T, LinkError> {
        tokio::select! {
            biased;
            done = future => Ok(done),
            end = self.ended() => Err(self.error(end)),
        }
    }

    /// Waits until the listener has said that we are in.
    pub(crate) async fn welcomed(&self) -> Result<(), LinkError> {
        let mut welcomed = self.welcomed.subscribe();
        self.or_ended(async { welcomed.wait_for(|yes| *yes).await.is_ok() }).await.map(|_| ())
    }

    /// Ends the lane on this side and tells the peer.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.finish(End::Here, Some((code, reason_bytes(reason))));
    }

    /// Ends the lane for a reason that was found here.
    pub(crate) fn fail(&self, end: End) {
        let last_word = match &end {
            End::Violation(detail) => Some((close_code::PROTOCOL, detail.clone())),
            End::Late(_) => Some((close_code::DONE, String::new())),
            _ => None,
        };
        let last_word = last_word.as_ref().map(|(code, why)| (*code, reason_bytes(why)));
        self.finish(end, last_word);
    }

    fn finish(&self, end: End, last_word: Option<(u32, &[u8])>) {
        let first = self.end.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                // Whoever sees the end finds the last word in the box.
                if let Some((code, reason)) = last_word {
                    self.outbox.close(code, reason);
                }
                *now = Some(end);
            }
            first
        });
        if first {
            self.queue().clear();
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no new parcels go over the connection of that place: as many others come before it as are
    /// in use.
    pub(super) fn is_benched(&self, place: u16) -> bool {
        let before = self.live.load(Ordering::Relaxed) & ((1 << place) - 1);
        before.count_ones() >= u32::from(self.using.load(Ordering::Relaxed))
    }

    pub(crate) fn open_connections(&self) -> u16 {
        self.live.load(Ordering::Relaxed).count_ones() as u16
    }

    /// Whether a data connection was taken out of use.
    pub(super) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes the connection of that place out of use, which has `failed` or was ended by the peer. False if
    /// the lane cannot do without it.
    pub(super) fn retire(&self, place: u16, failed: bool) -> bool {
        let gone = 1 << place;
        if self.live.fetch_and(!gone, Ordering::Relaxed) & !gone == 0
            || !self.queue().retire(place, failed)
        {
            return false;
        }
        self.lost.store(true, Ordering::Relaxed);
        self.work.notify_waiters();
        self.bench.notify_waiters();
        self.share_out();
        true
    }

    /// What the kernel knows of the lane, or knew when it ended.
    pub(crate) fn figures(&self) -> info::Figures {
        let sockets = self.sockets.live();
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if !sockets.is_empty() {
            *figures = info::sum(&sockets);
        }
        *figures
    }

    /// Leaves the path to others from now on, as far as the system allows.
    pub(crate) fn give_way(&self) {
        self.sockets.give_way();
    }

    /// Whether that was asked for.
    pub(crate) fn gives_way(&self) -> bool {
        self.sockets.gives_way()
    }

    /// Whether the data connection that asks is the first of the lane.
    pub(crate) fn claim_first(&self) -> bool {
        !self.claimed.swap(true, Ordering::Relaxed)
    }

    /// Hands a data connection over. It is dropped if the lane has ended.
    pub(crate) async fn attach(&self, joining: Joining) {
        // It fails only once the lane is over.
        let _ = self.attach.send(joining).await;
    }

    /// Notes that the peer lives.
    pub(super) fn heard(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.heard.store(now, Ordering::Relaxed);
    }

    /// Keeps the lane until it has ended and the peer could hear so.
    pub(crate) async fn run(
        self: Arc<Self>,
        control: Secured,
        mut joining: mpsc::Receiver<Joining>,
        first: u16,
        extender: Option<Arc<dyn Extend>>,
    ) {
        let Secured { reader, writer, .. } = control;
        self.using.store(first, Ordering::Relaxed);
        self.sockets.note(writer.socket());
        let mut speaking = tokio::spawn(talk::speak(self.clone(), writer));
        let mut listening = tokio::spawn(talk::listen(self.clone(), reader));
        let mut tasks: JoinSet<Task> = JoinSet::new();
        let mut growing = Growing::new(first, extender);
        let mut looking = tokio::time::interval(LOOK_EVERY);
        looking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pinging = tokio::time::interval(self.pulse.keep_alive);
        let mut numbers = Vec::new();
        loop {
            tokio::select! {
                _end = self.ended() => break,
                Some(joining) = joining.recv() => self.join(joining, &mut numbers, &mut tasks),
                Some(ended) = tasks.join_next() => if let Some(end) = failure(ended) {
                    self.lose(end).await;
                },
                _ = looking.tick() => {
                    self.watch_silence();
                    growing.look(&self, &mut tasks);
                }
                () = self.wanted.notified() => growing.open(&self, &mut tasks),
                _ = pinging.tick() => self.outbox.ping(),
                ended = &mut listening => {
                    // It has said why, unless it panicked. It must not be asked again.
                    if let Err(error) = ended {
                        self.fail(End::Failed(error.to_string()));
                    }
                    break;
                }
            }
        }
        drop(joining);
        self.figures();
        // The reason goes out before the other connections vanish, or the peer would see a reset.
        let farewell = async {
            let _ = (&mut speaking).await;
            if !listening.is_finished() {
                let _ = (&mut listening).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        speaking.abort();
        listening.abort();
        tasks.shutdown().await;
        self.incoming.clear().await;
    }

    fn join(self: &Arc<Self>, new: Joining, numbers: &mut Vec<u16>, tasks: &mut JoinSet<Task>) {
        if new.number == 0 || new.number > MOST_CONNECTIONS || numbers.contains(&new.number) {
            return self.fail(violation("a data connection with a number that cannot be"));
        }
        if !self.dialed && self.open_connections() >= connections_of(self.account.window()) {
            // There is no room for its buffers. The peer goes on without it.
            return;
        }
        numbers.push(new.number);
        let Secured { reader, writer, .. } = new.secured;
        let place = (numbers.len() - 1) as u16;
        self.live.fetch_or(1 << place, Ordering::Relaxed);
        self.sockets.note(writer.socket());
        let both = Arc::new(Both::new(place, new.held));
        tasks.spawn(data::send(self.clone(), writer, both.clone()));
        tasks.spawn(data::receive(self.clone(), reader, both));
        self.work.notify_one();
        self.share_out();
    }

    /// Says how many parcels may be read at once beside the buffers of the connections.
    fn share_out(&self) {
        let buffered = stream::MOST_BUFFERED as u64;
        self.incoming
            .allow(|| parcels_beside(self.account.window(), self.open_connections(), buffered));
    }

    /// A data connection has failed. The peer's reason, if it has one, says more.
    pub(crate) async fn lose(&self, end: End) {
        if !matches!(end, End::Violation(_)) {
            let _ = tokio::time::timeout(REASON_WAIT, self.ended()).await;
        }
        self.fail(end);
    }

    fn watch_silence(&self) {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        if self.started.elapsed().saturating_sub(heard) > self.pulse.idle_timeout {
            self.fail(End::TimedOut);
        }
    }

    /// Takes one frame of the control connection in.
    pub(super) fn take(&self, frame: Frame) -> Result<(), End> {
        let allowed = |yes: bool, what: &str| if yes { Ok(()) } else { Err(violation(what)) };
        match frame {
            Frame::Welcome => {
                allowed(self.dialed, "a welcome from a dialer")?;
                self.welcomed.send_replace(true);
                Ok(())
            }
            Frame::Control { stream, bytes } => {
                allowed(self.streams.arrived(self, stream, bytes), "a control stream out of turn")
            }
            Frame::ControlEnd { stream } => {
                allowed(self.streams.ended(stream), "an end of a control stream out of turn")
            }
            Frame::Credit { stream, bytes } => {
                allowed(self.streams.granted(stream, bytes), "credit for nothing")
            }
            Frame::Read { numbers } => {
                let (mut queue, now) = (self.queue(), Instant::now());
                let known = numbers.into_iter().all(|number| queue.settle(number, Ok(()), now));
                drop(queue);
                self.work.notify_one();
                allowed(known, "an acknowledgement of a parcel that was not sent")
            }
            Frame::Refused { number, code } => {
                let known = self.queue().settle(number, Err(code), Instant::now());
                allowed(known, "a refusal of a parcel that was not sent")
            }
            Frame::Ping => {
                self.outbox.pong();
                Ok(())
            }
            Frame::Pong => Ok(()),
            Frame::More { .. } => {
                allowed(self.dialed, "a wish for connections from a dialer")?;
                self.wanted.notify_one();
                Ok(())
            }
            Frame::Close { code, reason } => Err(End::Closed { code, reason: printable(&reason) }),
        }
    }
}

impl Grants for Session {
    fn grant(&self, _window: u64, _parcels: u32) {
        // The account says it already.
        self.share_out();
    }
}

/// What a task's end means for the lane: nothing if it ended well or was aborted.
fn failure(ended: Result<Task, tokio::task::JoinError>) -> Option<End> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(end)) => Some(end),
        Err(error) if error.is_cancelled() => None,
        Err(error) => Some(End::Failed(error.to_string())),
    }
}
