//! Which frames are taken: those of a session that a trusted sender has announced, each once, also after a restart. What
//! is proven by a session's keys alone may come from another of its receivers, so numbers are bound to what the sender
//! signed: nobody else can push them to where none is left.

use std::time::{Duration, Instant};

use link::PublicKey;

use super::memory::{Memory, Remembered, Writer};
use crate::announce::Announcement;
use crate::event::Refusal;
use crate::frame::{Check, Class, HEADER, Header};
use crate::key::TrustLine;
use crate::replay::Replay;
use crate::session::Opener;

/// How far behind the last announcement that came a packet may be: an outage of 12 s at 1.4 million packets a second, or of
/// three minutes at 1 Gbit/s; beyond that, what comes before the next announcement is lost.
const LEAP: u64 = 1 << 24;

/// How many packets a first order to the disk is ahead of what has come, and the bounds of that as it follows the rate.
const AHEAD: u64 = 1024;
const LEAST_AHEAD: u64 = 8;
const MOST_AHEAD: u64 = 1 << 22;

/// A next order follows after about this: within these bounds the distance stays.
const ORDER_EVERY: std::ops::Range<Duration> =
    Duration::from_millis(100)..Duration::from_millis(400);

/// How long the disk is waited for.
const WAIT: Duration = Duration::from_millis(250);
const WAIT_TO_BEGIN: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// For how long the frames of a session are taken whose sender has begun another one.
const OVERLAP: Duration = Duration::from_secs(2);

/// How many announcements of sessions that are not followed are looked at in a second: each costs a signature's check.
const STRANGE_PER_S: f64 = 200.0;

/// The sessions of all trusted senders.
pub(super) struct Sessions {
    memory: Memory,
    writer: Writer,
    peers: Vec<Peer>,
    /// Sessions that are neither encrypted nor authenticated are taken.
    pub(super) takes_plain: bool,
    strange: f64,
    strange_at: Option<Instant>,
}

struct Peer {
    line: TrustLine,
    check: Check,
    current: Option<Followed>,
    /// The one before, and until when.
    previous: Option<(Followed, Instant)>,
}

struct Followed {
    opener: Opener,
    epoch: u64,
    replay: Replay,
    /// The highest number that the sender has signed.
    signed: u64,
    /// Packets below this are refused after a restart, so that they may be taken now.
    granted: u64,
    /// The floor that is being written.
    order: Option<Order>,
    ahead: u64,
    /// It is never less than this, since the numbers go on by so much with each announcement.
    least_ahead: u64,
    ordered_at: Instant,
    /// The disk was waited for in vain, and is not again.
    is_stuck: bool,
}

#[derive(Clone, Copy)]
struct Order {
    asked: u64,
    floor: u64,
}

/// What a frame was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// A session that is followed was announced once more.
    Announced,
    /// A session begins.
    Began { sender: PublicKey, epoch: u64, is_plain: bool },
    /// A payload of the sender with this number.
    Payload { sender: usize, payload: &'a mut [u8] },
}

impl Sessions {
    pub(super) fn new(memory: Memory, writer: Writer, senders: &[TrustLine]) -> Self {
        let peer = |line: &TrustLine| Peer {
            line: line.clone(),
            check: Check::of_announcements(&line.identity),
            current: None,
            previous: None,
        };
        let peers = senders.iter().map(peer).collect();
        let (takes_plain, strange_at) = (false, None);
        Self { memory, writer, peers, takes_plain, strange: STRANGE_PER_S, strange_at }
    }

    /// Whether a header's length may be believed, and its frame be taken.
    pub(super) fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool {
        if header.class == Class::Announcement {
            return self.peers.iter().any(|peer| Header::is_checked(bytes, &peer.check));
        }
        self.find(header).is_some_and(|(at, is_current)| {
            let followed = self.followed(at, is_current);
            followed.is_some_and(|followed| {
                followed.replay.is_new(header.number) && followed.opener.believes(header, bytes)
            })
        })
    }

    /// Opens a whole frame in place, if it is one that may be taken.
    pub(super) fn open<'a>(
        &mut self,
        header: &Header,
        frame: &'a mut [u8],
        now: Instant,
    ) -> Result<Opened<'a>, Refusal> {
        let head = *frame.first_chunk::<HEADER>().ok_or(Refusal::NoFrame)?;
        if header.class == Class::Announcement {
            return self.announcement(header, &head, &frame[HEADER..], now);
        }
        let (sender, is_current) = self.find(header).ok_or(Refusal::UnknownSession)?;
        let followed = match is_current {
            true => self.peers[sender].current.as_mut(),
            false => self.peers[sender].previous.as_mut().map(|(followed, _)| followed),
        };
        let followed = followed.ok_or(Refusal::UnknownSession)?;
        if !followed.replay.is_new(header.number) {
            return Err(Refusal::Replayed);
        }
        if header.number >= followed.signed.saturating_add(LEAP) {
            return Err(Refusal::TooFarAhead);
        }
        // The tag covers the header, so its check has nothing to add.
        let payload = followed.opener.open(header, frame).ok_or(Refusal::Forged)?;
        if is_current && !self.remembers(sender, header.number, now) {
            return Err(Refusal::Unremembered);
        }
        let followed = match is_current {
            true => self.peers[sender].current.as_mut(),
            false => self.peers[sender].previous.as_mut().map(|(followed, _)| followed),
        };
        match followed.is_some_and(|followed| followed.replay.take(header.number)) {
            true => Ok(Opened::Payload { sender, payload }),
            false => Err(Refusal::Replayed),
        }
    }

    /// Time goes by.
    pub(super) fn tick(&mut self, now: Instant) {
        for peer in &mut self.peers {
            if peer.previous.as_ref().is_some_and(|(_, until)| *until <= now) {
                peer.previous = None;
            }
            // Fewer packets come than before: a kill is not to cost what a higher rate had asked for.
            let Some(followed) = &mut peer.current else { continue };
            if let Some(floor) = followed.lower(&self.writer, now) {
                self.memory.set(remembered(&peer.line, followed, floor));
                self.writer.ask(&self.memory);
            }
        }
    }

    /// Writes down exactly where each session stands, so that a restart loses nothing.
    pub(super) fn close(&mut self) -> bool {
        let mut last = None;
        for peer in &self.peers {
            let Some(followed) = &peer.current else { continue };
            self.memory.set(remembered(&peer.line, followed, followed.replay.end()));
            last = Some(self.writer.ask(&self.memory));
        }
        last.is_none_or(|asked| self.writer.wait(asked, WAIT_TO_BEGIN))
    }

    fn find(&self, header: &Header) -> Option<(usize, bool)> {
        let is = |followed: &Followed| followed.opener.id().short() == header.session;
        self.peers.iter().enumerate().find_map(|(at, peer)| {
            if peer.current.as_ref().is_some_and(is) {
                return Some((at, true));
            }
            peer.previous.as_ref().is_some_and(|(followed, _)| is(followed)).then_some((at, false))
        })
    }

    fn followed(&self, at: usize, is_current: bool) -> Option<&Followed> {
        let peer = self.peers.get(at)?;
        match is_current {
            true => peer.current.as_ref(),
            false => peer.previous.as_ref().map(|(followed, _)| followed),
        }
    }

    fn announcement<'a>(
        &mut self,
        header: &Header,
        head: &[u8; HEADER],
        payload: &[u8],
        now: Instant,
    ) -> Result<Opened<'a>, Refusal> {
        let checked = |peer: &Peer| Header::is_checked(head, &peer.check);
        let at = self.peers.iter().position(checked).ok_or(Refusal::Stranger)?;
        let known = self.peers[at].current.as_ref();
        let known = known.filter(|followed| followed.opener.id().short() == header.session);
        // Nothing that costs much is done for what was there before.
        if known.is_some_and(|followed| !followed.replay.is_new(header.number)) {
            return Err(Refusal::Replayed);
        }
        if known.is_none() && !self.may_look(now) {
            return Err(Refusal::OldSession);
        }
        let line = &self.peers[at].line;
        let announcement =
            Announcement::read(payload, &line.identity).map_err(|_| Refusal::Stranger)?;
        if !announcement.is_in(header) {
            return Err(Refusal::Replayed);
        }
        let current = self.peers[at].current.as_ref();
        if current.is_some_and(|followed| followed.opener.id() == announcement.id) {
            return self.announced_again(at, header.number, now);
        }
        self.begin(at, &announcement, now)
    }

    fn may_look(&mut self, now: Instant) -> bool {
        let since = self.strange_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.strange_at = Some(now);
        self.strange = (self.strange + since.as_secs_f64() * STRANGE_PER_S).min(STRANGE_PER_S);
        let may = self.strange >= 1.0;
        if may {
            self.strange -= 1.0;
        }
        may
    }

    fn announced_again<'a>(
        &mut self,
        at: usize,
        number: u64,
        now: Instant,
    ) -> Result<Opened<'a>, Refusal> {
        if let Some(followed) = &mut self.peers[at].current {
            followed.passed(number);
        }
        if !self.remembers(at, number, now) {
            return Err(Refusal::Unremembered);
        }
        let followed = self.peers[at].current.as_mut().ok_or(Refusal::UnknownSession)?;
        if !followed.replay.take(number) {
            return Err(Refusal::Replayed);
        }
        followed.signed = followed.signed.max(number);
        Ok(Opened::Announced)
    }

    /// Follows a session, if it is none that was followed before another one.
    fn begin<'a>(
        &mut self,
        at: usize,
        announcement: &Announcement,
        now: Instant,
    ) -> Result<Opened<'a>, Refusal> {
        let line = self.peers[at].line.clone();
        let (id, epoch, number) = (announcement.id, announcement.epoch, announcement.number);
        let last = self.memory.of(&line.identity);
        let is_same = last.is_some_and(|last| (last.epoch, last.id) == (epoch, id));
        let lowest = last.map_or(line.epoch, |last| last.epoch.max(line.epoch));
        let is_another = last.is_some_and(|last| last.epoch == epoch && last.id != id);
        if epoch < lowest || is_another {
            return Err(Refusal::OldSession);
        }
        if announcement.is_plain && !self.takes_plain {
            return Err(Refusal::Plain);
        }
        let floor = if is_same { last.map_or(0, |last| last.floor) } else { 0 };
        let mut replay = Replay::new(floor);
        // After a restart one from below the floor opens the session as well, and nothing below the floor is taken of it.
        replay.take(number);
        // What is sealed for others only is no reason to speak of.
        let Some(secret) = announcement.open(&self.memory.key) else {
            return Err(Refusal::UnknownSession);
        };
        let ahead = self.peers[at].current.as_ref().map_or(AHEAD, |followed| followed.ahead);
        let is_plain = announcement.is_plain;
        let opener = if is_plain { Opener::plain } else { Opener::new };
        let followed = Followed {
            opener: opener(id, &secret),
            epoch,
            replay,
            signed: number,
            granted: number.max(floor) + ahead,
            order: None,
            ahead,
            least_ahead: LEAST_AHEAD,
            ordered_at: now,
            is_stuck: false,
        };
        self.memory.set(remembered(&line, &followed, followed.granted));
        let asked = self.writer.ask(&self.memory);
        if !self.writer.wait(asked, WAIT_TO_BEGIN) {
            // Nothing of it was taken, so what was remembered before holds until it is announced again.
            match last {
                Some(last) => self.memory.set(last),
                None => self.memory.forget(&line.identity),
            }
            return Err(Refusal::Unremembered);
        }
        let peer = &mut self.peers[at];
        peer.previous = peer.current.replace(followed).map(|before| (before, now + OVERLAP));
        Ok(Opened::Began { sender: line.identity, epoch, is_plain })
    }

    /// Whether a packet may be taken without being forgotten: whether it lies below the floor on the disk, which is moved
    /// ahead before it is reached.
    fn remembers(&mut self, at: usize, number: u64, now: Instant) -> bool {
        let peer = &mut self.peers[at];
        let Some(followed) = &mut peer.current else { return false };
        if number.saturating_add(followed.ahead / 2) < followed.granted {
            return true;
        }
        if let Some(order) = followed.order {
            if self.writer.is_written(order.asked) {
                followed.is_granted(order);
            } else if now.saturating_duration_since(followed.ordered_at) > ASK_AGAIN {
                followed.order = None;
            }
        }
        if followed.order.is_none() && number.saturating_add(followed.ahead / 2) >= followed.granted
        {
            followed.follow_rate(now);
            let floor = number.max(followed.replay.end()).saturating_add(followed.ahead);
            self.memory.set(remembered(&peer.line, followed, floor));
            followed.order = Some(Order { asked: self.writer.ask(&self.memory), floor });
        }
        if number < followed.granted {
            return true;
        }
        let Some(order) = followed.order.filter(|_| !followed.is_stuck) else { return false };
        if self.writer.wait(order.asked, WAIT) {
            followed.is_granted(order);
        } else {
            followed.is_stuck = true;
        }
        number < followed.granted
    }
}

impl Followed {
    fn is_granted(&mut self, order: Order) {
        self.granted = self.granted.max(order.floor);
        self.order = None;
        self.is_stuck = false;
    }

    /// A lower floor, if the one on the disk is farther ahead than what comes now asks for. What lies above it is not
    /// taken from now on, so it does not matter whether it gets to the disk.
    fn lower(&mut self, writer: &Writer, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.ordered_at) <= ORDER_EVERY.end {
            return None;
        }
        if let Some(order) = self.order {
            if !writer.is_written(order.asked) {
                return None;
            }
            self.is_granted(order);
        }
        self.follow_rate(now);
        let floor = self.replay.end().saturating_add(self.ahead);
        let is_lower = floor < self.granted;
        self.granted = self.granted.min(floor);
        is_lower.then_some(floor)
    }

    fn follow_rate(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.ordered_at);
        self.ordered_at = now;
        if since < ORDER_EVERY.start {
            self.ahead *= 2;
        } else if since > ORDER_EVERY.end {
            self.ahead /= 2;
        }
        self.ahead = self.ahead.clamp(self.least_ahead, MOST_AHEAD);
    }

    /// An announcement came in this packet. Those after it are a second away, by their numbers as far as it is from the
    /// one before, and are not to wait for the disk.
    fn passed(&mut self, number: u64) {
        let second = number.saturating_sub(self.signed);
        self.least_ahead = (second + second / 2).clamp(LEAST_AHEAD, MOST_AHEAD);
        self.ahead = self.ahead.max(self.least_ahead);
    }
}

fn remembered(line: &TrustLine, followed: &Followed, floor: u64) -> Remembered {
    let (sender, id) = (line.identity, followed.opener.id());
    Remembered { sender, epoch: followed.epoch, id, floor }
}

#[cfg(test)]
mod tests;
