//! Control streams over the one control connection. Each has a window of its own, so that a peer that
//! does not read one stream holds up neither the other nor the acknowledgements of parcels.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::frame::Frame;
use super::session::{End, Session};
use crate::LinkError;
use crate::lane::{MAX_FRAME, MAX_UNSENT, PeerName};

/// What may be sent on a stream beyond what the peer's program has taken.
pub(crate) const WINDOW: usize = 4 * MAX_FRAME;

/// What a frame counts as beside its bytes, so that empty ones are bounded too.
const FRAME_COST: usize = 64;

/// The number of control streams that each side may have open.
pub(crate) const MOST_STREAMS: usize = 2;

/// All control streams of a lane.
#[derive(Debug)]
pub(crate) struct Streams {
    table: Mutex<Table>,
    /// Rung when a stream of ours is over.
    room: Notify,
    opened: mpsc::UnboundedSender<Arc<Stream>>,
    accepted: tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Stream>>>,
}

#[derive(Debug)]
struct Table {
    live: HashMap<u32, Arc<Stream>>,
    /// The next stream that we open; the dialer's are even.
    next_own: u32,
    next_peer: u32,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    id: u32,
    state: Mutex<State>,
    arrived: Notify,
    granted: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Vec<u8>>,
    /// What the frames cost that our program has not taken, or whose credit was not given back.
    unread: usize,
    /// Credit to give back.
    owed: usize,
    ended_by_peer: bool,
    unwanted: bool,
    credit: usize,
    ended_by_us: bool,
}

impl Stream {
    fn new(id: u32) -> Arc<Self> {
        let state = State {
            frames: VecDeque::new(),
            unread: 0,
            owed: 0,
            ended_by_peer: false,
            unwanted: false,
            credit: WINDOW,
            ended_by_us: false,
        };
        let (arrived, granted) = (Notify::new(), Notify::new());
        Arc::new(Self { id, state: Mutex::new(state), arrived, granted })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.ended_by_us && self.ended_by_peer
    }

    /// Notes that so much was taken, and says how much credit is worth giving back now.
    fn give_back(&mut self, cost: usize) -> Option<u32> {
        self.owed += cost;
        if self.owed < WINDOW / 4 || self.ended_by_peer {
            return None;
        }
        self.unread -= self.owed;
        Some(std::mem::take(&mut self.owed) as u32)
    }
}

impl Streams {
    pub(crate) fn new(dialed: bool) -> Self {
        let (next_own, next_peer) = if dialed { (0, 1) } else { (1, 0) };
        let table = Table { live: HashMap::new(), next_own, next_peer };
        // Its length is bounded by the number of streams that a peer may have open.
        let (opened, accepted) = mpsc::unbounded_channel();
        let accepted = tokio::sync::Mutex::new(accepted);
        Self { table: Mutex::new(table), room: Notify::new(), opened, accepted }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream as soon as fewer than [`MOST_STREAMS`] of ours are open.
    pub(crate) async fn open(&self) -> Arc<Stream> {
        loop {
            let room = self.room.notified();
            {
                let mut table = self.lock();
                let side = table.next_own % 2;
                if table.live.keys().filter(|id| **id % 2 == side).count() < MOST_STREAMS {
                    let stream = Stream::new(table.next_own);
                    table.next_own += 2;
                    table.live.insert(stream.id, stream.clone());
                    return stream;
                }
            }
            room.await;
        }
    }

    /// The next stream of the peer's; none once the lane is over.
    pub(crate) async fn accept(&self) -> Option<Arc<Stream>> {
        self.accepted.lock().await.recv().await
    }

    /// Takes a frame of a stream in. False if the peer may not send it.
    pub(crate) fn arrived(&self, session: &Session, id: u32, bytes: Vec<u8>) -> bool {
        let Some(stream) = self.find_or_open(id) else { return false };
        let mut state = stream.lock();
        let cost = bytes.len() + FRAME_COST;
        state.unread += cost;
        if state.ended_by_peer || state.unread > WINDOW {
            return false;
        }
        if state.unwanted {
            if let Some(credit) = state.give_back(cost) {
                session.outbox.credit(id, credit);
            }
            return true;
        }
        state.frames.push_back(bytes);
        drop(state);
        stream.arrived.notify_one();
        true
    }

    /// The peer has ended its half. False if it may not.
    pub(crate) fn ended(&self, id: u32) -> bool {
        let Some(stream) = self.find_or_open(id) else { return false };
        let mut state = stream.lock();
        if std::mem::replace(&mut state.ended_by_peer, true) {
            return false;
        }
        let over = state.is_over();
        drop(state);
        stream.arrived.notify_one();
        if over {
            self.remove(id);
        }
        true
    }

    /// The peer has taken something. False if it takes more than there was.
    pub(crate) fn granted(&self, id: u32, bytes: u32) -> bool {
        let table = self.lock();
        // A stream that is over needs no credit.
        let Some(stream) = table.live.get(&id) else {
            return id < table.next_own.max(table.next_peer);
        };
        let mut state = stream.lock();
        state.credit += bytes as usize;
        let sane = state.credit <= WINDOW;
        drop(state);
        stream.granted.notify_one();
        sane
    }

    fn find_or_open(&self, id: u32) -> Option<Arc<Stream>> {
        let mut table = self.lock();
        if let Some(stream) = table.live.get(&id) {
            return Some(stream.clone());
        }
        let side = table.next_peer % 2;
        let open = table.live.keys().filter(|id| **id % 2 == side).count();
        if id != table.next_peer || open >= MOST_STREAMS {
            return None;
        }
        table.next_peer = table.next_peer.checked_add(2)?;
        let stream = Stream::new(id);
        table.live.insert(id, stream.clone());
        self.opened.send(stream.clone()).ok()?;
        Some(stream)
    }

    fn remove(&self, id: u32) {
        self.lock().live.remove(&id);
        self.room.notify_one();
    }
}

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct Sender {
    session: Arc<Session>,
    stream: Arc<Stream>,
    /// Frames that were accepted and wait for credit.
    unsent: VecDeque<Vec<u8>>,
    unsent_bytes: usize,
}

impl Sender {
    pub(crate) fn new(session: Arc<Session>, stream: Arc<Stream>) -> Self {
        Self { session, stream, unsent: VecDeque::new(), unsent_bytes: 0 }
    }

    pub(crate) async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let too_long = |length: usize, cap: usize| LinkError::TooLong {
            peer: self.session.name().clone(),
            length: length as u64,
            cap: cap as u64,
        };
        if frame.len() > MAX_FRAME {
            return Err(too_long(frame.len(), MAX_FRAME));
        }
        if self.unsent_bytes > MAX_UNSENT {
            return Err(too_long(self.unsent_bytes, MAX_UNSENT));
        }
        self.unsent.push_back(frame.to_vec());
        self.unsent_bytes += frame.len() + FRAME_COST;
        self.flush().await
    }

    pub(crate) async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.end();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.unsent.front() {
            let cost = frame.len() + FRAME_COST;
            self.session.or_ended(has_credit(&self.stream, cost)).await?;
            let Some(bytes) = self.unsent.pop_front() else { break };
            self.unsent_bytes -= cost;
            self.session.outbox.control(Frame::Control { stream: self.stream.id, bytes });
        }
        match self.session.end() {
            Some(end) => Err(self.session.error(end)),
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        let mut state = self.stream.lock();
        if std::mem::replace(&mut state.ended_by_us, true) {
            return;
        }
        let over = state.is_over();
        drop(state);
        self.session.outbox.control(Frame::ControlEnd { stream: self.stream.id });
        if over {
            self.session.streams.remove(self.stream.id);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

async fn has_credit(stream: &Stream, cost: usize) {
    loop {
        {
            let mut state = stream.lock();
            if state.credit >= cost {
                state.credit -= cost;
                return;
            }
        }
        stream.granted.notified().await;
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct Receiver {
    session: Arc<Session>,
    stream: Arc<Stream>,
}

impl Receiver {
    pub(crate) fn new(session: Arc<Session>, stream: Arc<Stream>) -> Self {
        Self { session, stream }
    }

    pub(crate) async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            // Asked first: what came before the end is still given out.
            let end = self.session.end();
            if let Some(next) = self.next() {
                return match next {
                    Some(frame) if frame.len() > max => Err(self.too_long(frame.len(), max)),
                    other => Ok(other),
                };
            }
            if let Some(end) = end {
                return Err(self.session.error(end));
            }
            tokio::select! {
                () = self.stream.arrived.notified() => {}
                _end = self.session.ended() => {}
            }
        }
    }

    /// The next frame, or the end; nothing while neither is there.
    fn next(&mut self) -> Option<Option<Vec<u8>>> {
        let mut state = self.stream.lock();
        let Some(frame) = state.frames.pop_front() else {
            return state.ended_by_peer.then_some(None);
        };
        if let Some(credit) = state.give_back(frame.len() + FRAME_COST) {
            self.session.outbox.credit(self.stream.id, credit);
        }
        Some(Some(frame))
    }

    fn too_long(&self, length: usize, cap: usize) -> LinkError {
        let peer: PeerName = self.session.name().clone();
        LinkError::TooLong { peer, length: length as u64, cap: cap as u64 }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.unwanted = true;
        let cost = state.frames.drain(..).map(|frame| frame.len() + FRAME_COST).sum();
        if let Some(credit) = state.give_back(cost) {
            self.session.outbox.credit(self.stream.id, credit);
        }
    }
}

/// What a peer did that it may not.
pub(crate) fn violation(what: &str) -> End {
    End::Violation(what.to_owned())
}
