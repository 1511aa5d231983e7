//! The parcels of one direction, at both ends: which goes next, which are under way, which have come.
//! Pure. At the sender a parcel gets its number when its first byte is about to go; at the receiver the
//! numbers that were taken are remembered, so that a parcel that was sent twice counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

/// How far the numbers of parcels that were taken may lie apart.
const MOST_AHEAD: u64 = 4096;

/// The least time after which a parcel counts as late.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

/// How a parcel ended: read whole, or refused with a code.
pub(crate) type Fate = Result<(), u32>;

/// The place of a parcel that waits: its order, and when it came.
pub(crate) type Place = (u64, u64);

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
struct Waiting {
    load: Load,
    done: oneshot::Sender<Fate>,
}

#[derive(Debug)]
struct UnderWay {
    load: Load,
    /// None once nobody waits for it.
    done: Option<oneshot::Sender<Fate>>,
    ticket: u64,
    connection: u16,
    begun: Instant,
    again: bool,
}

/// What a writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send this.
    Send { number: u64, load: Load },
    /// Wait until something changes, but not beyond this.
    Wait(Option<Instant>),
    /// The connection is out of use.
    Over,
}

/// The parcels that were sent or will be.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    tickets: u64,
    waiting: BTreeMap<Place, Waiting>,
    next: u64,
    under_way: BTreeMap<u64, UnderWay>,
    /// How long a parcel takes from its first byte to its acknowledgement, smoothed.
    usual: Option<Duration>,
    /// Bytes of parcels that were read whole by the peer.
    acknowledged: u64,
    /// How often a writer found nothing to do.
    starved: u64,
    /// Connections over which a parcel has arrived for certain.
    proven: BTreeSet<u16>,
    /// Connections that are out of use.
    retired: BTreeSet<u16>,
    /// Parcels that were begun on one of those and go first elsewhere, under the same numbers.
    back: BTreeSet<u64>,
}

impl Queue {
    /// Puts a parcel in; a lower `order` goes first.
    pub(crate) fn push(&mut self, load: Load, order: u64) -> (Place, oneshot::Receiver<Fate>) {
        let place = (order, self.tickets);
        self.tickets += 1;
        let (done, fate) = oneshot::channel();
        self.waiting.insert(place, Waiting { load, done });
        (place, fate)
    }

    /// Nobody waits for it any more: it is not begun, or if it was, it is not sent again.
    pub(crate) fn forget(&mut self, place: Place) {
        if self.waiting.remove(&place).is_some() {
            return;
        }
        if let Some((number, parcel)) = self.under_way.iter_mut().find(|(_, p)| p.ticket == place.1)
        {
            parcel.done = None;
            if self.back.contains(number) {
                // It must go once more: the receiver waits for its number.
                return;
            }
            parcel.load = Load { head: Bytes::new(), body: Bytes::new() };
        }
    }

    /// What `connection` does next. When nothing waits, a parcel that is late on another connection is
    /// sent a second time, so that the last parcels do not wait for the slowest path.
    pub(crate) fn turn(&mut self, connection: u16, now: Instant) -> Turn {
        if self.retired.contains(&connection) {
            return Turn::Over;
        }
        while let Some(number) = self.back.pop_first() {
            if let Some(parcel) = self.under_way.get_mut(&number) {
                (parcel.connection, parcel.begun, parcel.again) = (connection, now, false);
                return Turn::Send { number, load: parcel.load.clone() };
            }
        }
        // The receiver remembers numbers that lie so far apart and no further.
        let oldest = self.under_way.first_key_value().map_or(self.next, |(number, _)| *number);
        if self.next - oldest >= MOST_AHEAD {
            return self.straggler(connection, now);
        }
        if let Some((place, parcel)) = self.waiting.pop_first() {
            let number = self.next;
            self.next += 1;
            let load = parcel.load.clone();
            let under_way = UnderWay {
                load: parcel.load,
                done: Some(parcel.done),
                ticket: place.1,
                connection,
                begun: now,
                again: false,
            };
            self.under_way.insert(number, under_way);
            return Turn::Send { number, load };
        }
        self.starved += 1;
        self.straggler(connection, now)
    }

    /// As `turn`, for a connection that takes nothing new.
    pub(crate) fn straggler(&mut self, connection: u16, now: Instant) -> Turn {
        if self.retired.contains(&connection) {
            return Turn::Over;
        }
        // Before anything has come back nobody knows what late means.
        let Some(usual) = self.usual else { return Turn::Wait(None) };
        let patience = LEAST_PATIENCE.max(usual * 3);
        let late = self
            .under_way
            .iter_mut()
            .filter(|(_, p)| !p.again && p.done.is_some() && p.connection != connection)
            .min_by_key(|(_, parcel)| parcel.begun);
        let Some((number, parcel)) = late else { return Turn::Wait(None) };
        let due = parcel.begun + patience;
        if due > now {
            return Turn::Wait(Some(due));
        }
        parcel.again = true;
        Turn::Send { number: *number, load: parcel.load.clone() }
    }

    /// The peer has said how a parcel ended. False if there never was one of that number.
    pub(crate) fn settle(&mut self, number: u64, fate: Fate, now: Instant) -> bool {
        let Some(parcel) = self.under_way.remove(&number) else { return number < self.next };
        self.back.remove(&number);
        if !parcel.again {
            self.proven.insert(parcel.connection);
        }
        if fate.is_ok() {
            self.acknowledged += (parcel.load.head.len() + parcel.load.body.len()) as u64;
            let took = now.saturating_duration_since(parcel.begun);
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        if let Some(done) = parcel.done {
            // Whoever asked may have gone away since.
            let _ = done.send(fate);
        }
        true
    }

    /// Takes a connection out of use; what was begun on it goes over others. False if the lane cannot do
    /// without what was sent on it: something arrived over one that has `failed`, or nobody has the bytes
    /// of a parcel any more.
    pub(crate) fn retire(&mut self, connection: u16, failed: bool) -> bool {
        if failed && self.proven.contains(&connection) {
            return false;
        }
        let begun = self.under_way.iter().filter(|(_, parcel)| parcel.connection == connection);
        if begun.clone().any(|(_, parcel)| parcel.done.is_none()) {
            return false;
        }
        self.back.extend(begun.map(|(number, _)| *number));
        self.retired.insert(connection);
        true
    }

    /// The lane is over: those who wait find out by what they hold.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.under_way.clear();
        self.back.clear();
    }

    /// Bytes of parcels that the peer has read whole.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How often a connection that could have sent had nothing to send.
    pub(crate) fn starved(&self) -> u64 {
        self.starved
    }

    /// Whether parcels are on their way.
    pub(crate) fn has_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }
}

/// The numbers of parcels that have come, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    below: u64,
    above: BTreeSet<u64>,
}

/// A number that lies further ahead than any peer that keeps to the protocol can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooFarAhead;

impl Taken {
    /// Whether a parcel of that number came already.
    pub(crate) fn has(&self, number: u64) -> Result<bool, TooFarAhead> {
        if number >= self.below.saturating_add(MOST_AHEAD) {
            return Err(TooFarAhead);
        }
        Ok(number < self.below || self.above.contains(&number))
    }

    /// Takes it in. False if it was there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        if number < self.below || !self.above.insert(number) {
            return false;
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests;
