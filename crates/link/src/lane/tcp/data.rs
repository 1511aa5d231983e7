//! The data connections: parcels one after another. At the receiver a connection lends its reading half to
//! the parcel that is being read, so what nobody reads stays in the sockets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::control::violation;
use super::frame::{PARCEL_START_BYTES, ParcelStart};
use super::queue::{Taken, Turn};
use super::session::{End, REASON_WAIT, Session, Task};
use super::stream::{Reader, StreamError, Writer};
use crate::listen::DataSlot;
use crate::{LinkError, ParcelError};

/// What a refusal says when a parcel was dropped unread.
const UNREAD: u32 = 0;

/// How long a connection keeps its buffers after the last parcel.
const KEEP_BUFFERS: Duration = Duration::from_millis(500);

/// The parcels that come, of all connections of a lane.
#[derive(Debug)]
pub(crate) struct Incoming {
    begun: mpsc::Sender<Arriving>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Arriving>>,
    taken: Mutex<Taken>,
    places: Mutex<Places>,
    /// Rung when a place gets free.
    room: Notify,
}

/// How many parcels are being read, and may be.
#[derive(Debug)]
struct Places {
    used: u32,
    allowed: u32,
}

impl Incoming {
    pub(crate) fn new(allowed: u32) -> Self {
        let (begun, accepted) = mpsc::channel(1);
        Self {
            begun,
            accepted: tokio::sync::Mutex::new(accepted),
            taken: Mutex::default(),
            places: Mutex::new(Places { used: 0, allowed }),
            room: Notify::new(),
        }
    }

    /// Sets how many parcels may be read at once. What is asked for the number last is what holds.
    pub(crate) fn allow(&self, parcels: impl FnOnce() -> u32) {
        let mut places = self.places();
        places.allowed = parcels();
        drop(places);
        self.room.notify_waiters();
    }

    /// The next parcel; none once the lane is over.
    pub(crate) async fn accept(&self) -> Option<Arriving> {
        self.accepted.lock().await.recv().await
    }

    /// Lets go of what nobody will accept any more.
    pub(crate) async fn clear(&self) {
        let mut accepted = self.accepted.lock().await;
        while accepted.try_recv().is_ok() {}
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place among the parcels that are being read.
#[derive(Debug)]
struct PlaceTaken(Arc<Session>);

impl PlaceTaken {
    async fn wait(session: &Arc<Session>) -> Self {
        let incoming = &session.incoming;
        loop {
            let mut room = std::pin::pin!(incoming.room.notified());
            // From here on a bell is not missed.
            room.as_mut().enable();
            {
                let mut places = incoming.places();
                if places.used < places.allowed {
                    places.used += 1;
                    return Self(session.clone());
                }
            }
            room.await;
        }
    }
}

impl Drop for PlaceTaken {
    fn drop(&mut self) {
        self.0.incoming.places().used -= 1;
        self.0.incoming.room.notify_waiters();
    }
}

/// A parcel whose lengths have come, with the connection that it comes on.
#[derive(Debug)]
pub(crate) struct Arriving {
    session: Arc<Session>,
    start: ParcelStart,
    /// Bytes of it that were not read.
    left: u64,
    /// None once it was given back.
    reader: Option<Reader>,
    back: Option<oneshot::Sender<(Reader, u64)>>,
    settled: bool,
    _place: PlaceTaken,
}

impl Arriving {
    /// Reads head and body; the body goes into what `buffer` gives for its length.
    pub(crate) async fn read(
        mut self,
        max_head: usize,
        max_body: usize,
        buffer: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<u8>), ParcelError> {
        let peer = || self.session.name().clone();
        let (head, body) = (self.start.head, self.start.body);
        if head as usize > max_head {
            let length = u64::from(head);
            return Err(ParcelError::HeadTooLong { peer: peer(), length, cap: max_head });
        }
        if body as usize > max_body {
            let length = u64::from(body);
            return Err(ParcelError::BodyTooLong { peer: peer(), length, cap: max_body });
        }
        // Address space and no more: what does not come is never touched and takes no memory.
        let head = self.part(head as usize, Vec::with_capacity(head as usize)).await?;
        let body = self.part(body as usize, buffer(body as usize)).await?;
        let first = self.session.incoming.taken().insert(self.start.number);
        self.settled = true;
        if !first {
            // It was sent twice, and the other one was quicker.
            let peer = self.session.name().clone();
            return Err(ParcelError::Abandoned { peer, code: u64::from(UNREAD) });
        }
        if !self.session.outbox.read(self.start.number) {
            self.session.fail(violation("acknowledgements are not taken"));
        }
        Ok((head, body))
    }

    /// Tells the sender that it is not wanted.
    pub(crate) fn refuse(mut self, code: u32) {
        self.turn_down(code);
    }

    fn turn_down(&mut self, code: u32) {
        self.settled = true;
        if self.session.incoming.taken().insert(self.start.number)
            && !self.session.outbox.refused(self.start.number, code)
        {
            self.session.fail(violation("refusals are not taken"));
        }
    }

    async fn part(&mut self, length: usize, mut part: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        part.clear();
        let Some(reader) = &mut self.reader else {
            return Err(self.session.error(End::Here));
        };
        while part.len() < length {
            let ready = reader.ready().map_err(|error| self.session.error(error.into()))?;
            if ready.is_empty() {
                fill(&self.session, reader).await?;
                continue;
            }
            let taken = ready.len().min(length - part.len());
            part.extend_from_slice(&ready[..taken]);
            reader.consume(taken);
            self.left -= taken as u64;
        }
        self.session.account.note_read(length);
        Ok(part)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.settled {
            self.turn_down(UNREAD);
        }
        if let (Some(reader), Some(back)) = (self.reader.take(), self.back.take()) {
            // It fails only once the lane is over.
            let _ = back.send((reader, self.left));
        }
    }
}

/// Waits for bytes within a parcel.
async fn fill(session: &Session, reader: &mut Reader) -> Result<(), LinkError> {
    let filled = session.or_ended(reader.fill(true)).await?;
    let end = match filled {
        Ok(true) => return Ok(()),
        Ok(false) => End::Reset,
        Err(error) => error.into(),
    };
    // Why the connection broke is said on another one, and the task that owns this one waits for it.
    session.lose(end).await;
    Err(session.error(session.end().unwrap_or(End::Reset)))
}

/// What the two halves of a connection share.
#[derive(Debug)]
pub(crate) struct Both {
    place: u16,
    /// Rung for the half that sends when the connection is out of use.
    over: Notify,
    /// Held until both halves have ended.
    _held: Option<DataSlot>,
}

impl Both {
    /// The connection of that place, counted from 0.
    pub(crate) fn new(place: u16, held: Option<DataSlot>) -> Self {
        Self { place, over: Notify::new(), _held: held }
    }
}

/// Takes the parcels of one connection in until it ends. The lane goes on without one that the peer ended,
/// or for which it had no room: one that broke before anything came or arrived over it.
pub(crate) async fn receive(session: Arc<Session>, reader: Reader, both: Arc<Both>) -> Task {
    let mut used = false;
    let ended = take_parcels(&session, reader, &mut used).await;
    let failed = match &ended {
        Ok(()) => false,
        Err(End::Reset) if !used => true,
        Err(_) => return ended,
    };
    if session.end().is_some() {
        return ended;
    }
    if !session.retire(both.place, failed) {
        return Err(End::Reset);
    }
    both.over.notify_one();
    Ok(())
}

/// Takes parcels in until the peer ends the connection; `used` tells whether anything came.
async fn take_parcels(session: &Arc<Session>, mut reader: Reader, used: &mut bool) -> Task {
    loop {
        let next = tokio::time::timeout(KEEP_BUFFERS, reader.fill(true)).await;
        let more = match next {
            Ok(more) => more?,
            Err(_quiet) => {
                reader.release();
                reader.socket().clone().readable().await.map_err(StreamError::from)?;
                continue;
            }
        };
        if !more {
            // The peer needs this one no more.
            return Ok(());
        }
        *used = true;
        let place = PlaceTaken::wait(session).await;
        let start = ParcelStart::decode(&reader.read_exact::<PARCEL_START_BYTES>().await?);
        let known = session.incoming.taken().has(start.number);
        let mut left = start.content();
        if !known.map_err(|_| violation("a parcel whose number is too far ahead"))? {
            let (back, returned) = oneshot::channel();
            let arriving = Arriving {
                session: session.clone(),
                start,
                left,
                reader: Some(reader),
                back: Some(back),
                settled: false,
                _place: place,
            };
            if session.incoming.begun.send(arriving).await.is_err() {
                return Ok(());
            }
            let Ok(given_back) = returned.await else { return Ok(()) };
            (reader, left) = given_back;
        }
        skip(&mut reader, left).await?;
    }
}

async fn skip(reader: &mut Reader, mut left: u64) -> Result<(), StreamError> {
    while left > 0 {
        if !reader.fill(true).await? {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let ready = reader.ready()?.len();
        let taken = left.min(ready as u64);
        reader.consume(taken as usize);
        left -= taken;
    }
    Ok(())
}

/// Sends parcels on one connection until it is out of use, or the lane ends.
pub(crate) async fn send(session: Arc<Session>, mut writer: Writer, both: Arc<Both>) -> Task {
    let (mut quiet, mut was_benched) = (false, true);
    loop {
        let benched = session.is_benched(both.place);
        if benched && !was_benched {
            // What woke it may have been meant for one that is in use.
            session.work.notify_one();
        }
        was_benched = benched;
        let (number, load) = {
            // A connection that is not in use must not take the bell from one that is, nor one that writes
            // from one that waits.
            let bell = if benched { &session.bench } else { &session.work };
            let mut rung = std::pin::pin!(bell.notified());
            // From here on a bell is not missed.
            rung.as_mut().enable();
            let turn = {
                let mut queue = session.queue();
                match benched {
                    false => queue.turn(both.place, Instant::now()),
                    true => queue.straggler(both.place, Instant::now()),
                }
            };
            match turn {
                Turn::Send { number, load } => (number, load),
                Turn::Over => {
                    session.work.notify_one();
                    return Ok(());
                }
                Turn::Wait(until) => {
                    let late = until.map(|until| until.saturating_duration_since(Instant::now()));
                    let pause = late.unwrap_or(KEEP_BUFFERS).min(KEEP_BUFFERS);
                    tokio::select! {
                        () = rung.as_mut() => continue,
                        () = both.over.notified() => continue,
                        () = tokio::time::sleep(pause) => {}
                    }
                    if std::mem::replace(&mut quiet, true) {
                        writer.release();
                    }
                    if late.is_none() && !benched {
                        tokio::select! {
                            () = rung => {}
                            () = both.over.notified() => {}
                        }
                    }
                    continue;
                }
            }
        };
        quiet = false;
        let (head, body) = (load.head.len() as u32, load.body.len() as u32);
        let start = ParcelStart { head, body, number }.encode();
        if let Err(error) = writer.write(&mut [&start, &load.head, &load.body]).await {
            // The half that reads finds out whether the lane can do without this connection.
            let retired = tokio::time::timeout(REASON_WAIT, both.over.notified()).await.is_ok();
            return if retired { Ok(()) } else { Err(error.into()) };
        }
    }
}
