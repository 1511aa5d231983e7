//! The receiving side of a rehearsal: it follows sessions as a receiver does, with the same memory of what was accepted,
//! and counts what arrives. It writes no file of the tree, and sends nothing. While it is open no receiver can run with
//! the same state folder.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use files::Dir;
use link::PublicKey;

use super::journal::Journal;
use super::sessions::{Opened, Sessions};
use super::{ReceiveError, TICK, memory, open_journal};
use crate::carrier::{Arrival, Incoming};
use crate::event::Refusal;
use crate::frame::{Class, HEADER, Header};
use crate::key::TrustLine;
use crate::priority::{self, prefer};
use crate::record::{Record, Records, RehearsalStep};
use crate::rehearse::{Counts, StepReport};
use crate::resync::{Judge, Resync};

/// What is on its way behind the end is waited for, and the kernel's figures, which are a second old at most; and so is what
/// the sender says when it stops, for so long: over a stream it would find nobody there.
const LINGER: Duration = Duration::from_millis(1500);
const LINGER_FOR_SENDER: Duration = Duration::from_secs(5);

/// A sender that is not heard for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeardRehearsal {
    /// A session of this sender began, and its frames can be read.
    SessionBegan {
        /// Who sends.
        sender: PublicKey,
        /// The session's epoch.
        epoch: u64,
    },
    /// A step began, or ended.
    Step(RehearsalStep),
    /// Files arrive: the sender does not rehearse. What was heard of them is lost.
    Files,
    /// A sender began anew, and so does the count.
    Anew,
}

/// Listens to a rehearsal.
pub struct RehearsalReceiver {
    listener: Listener,
    resync: Resync,
    /// Nobody else has it.
    _alone: Journal,
}

struct Listener {
    sessions: Sessions,
    counts: Counts,
    /// The session that is a rehearsal, by the first bytes of its id, and its sender; and the one before it.
    followed: Option<([u8; 4], usize)>,
    left: Option<[u8; 4]>,
    news: Vec<HeardRehearsal>,
    has_files: bool,
    refused: [u64; Refusal::ALL.len()],
    began: Instant,
    now: Instant,
    heard: Instant,
    over: Option<Instant>,
    /// The sender said that it ends.
    has_stopped: bool,
}

impl RehearsalReceiver {
    /// With the state folder of the receiver for which it is, and its senders.
    pub fn open(state: &Dir, senders: &[TrustLine], now: Instant) -> Result<Self, ReceiveError> {
        if senders.is_empty() {
            return Err(ReceiveError::NoSender);
        }
        let alone = open_journal(state)?;
        let memory = memory::Memory::open(state)?;
        let listener = Listener {
            sessions: Sessions::new(memory, memory::Writer::start(state)?, senders),
            counts: Counts::default(),
            followed: None,
            left: None,
            news: Vec::new(),
            has_files: false,
            refused: [0; Refusal::ALL.len()],
            began: now,
            now,
            heard: now,
            over: None,
            has_stopped: false,
        };
        Ok(Self { listener, resync: Resync::default(), _alone: alone })
    }

    /// Listens until the rehearsal is over, or it is to stop.
    pub fn run(
        &mut self,
        incoming: &mut Incoming,
        stop: &AtomicBool,
        on_heard: &mut dyn FnMut(&HeardRehearsal),
    ) {
        prefer(priority::WORK);
        let mut ticked: Option<Instant> = None;
        loop {
            let arrival = incoming.next(TICK / 2);
            let now = Instant::now();
            match arrival {
                Some(Arrival::Datagrams(mut datagrams)) => self.datagrams(&mut datagrams, now),
                Some(Arrival::Stream { bytes, is_new }) => self.stream(&bytes, is_new, now),
                None => {}
            }
            self.heard().iter().for_each(&mut *on_heard);
            let stops = stop.load(Ordering::Relaxed);
            if stops || ticked.is_none_or(|ticked| now.saturating_duration_since(ticked) >= TICK) {
                ticked = Some(now);
                let counters = incoming.counters();
                self.tick(now, counters.dropped_by_kernel, counters.dropped_by_us);
                if stops || self.is_over() {
                    return;
                }
            }
        }
    }

    /// Takes datagrams, which are spoiled.
    pub fn datagrams<'a>(
        &mut self,
        datagrams: impl IntoIterator<Item = &'a mut [u8]>,
        now: Instant,
    ) {
        self.listener.now = now;
        for datagram in datagrams {
            let header = datagram.first_chunk::<HEADER>().and_then(Header::read);
            match header.filter(|header| header.frame_length() == datagram.len()) {
                Some(header) => drop(self.listener.frame(&header, datagram)),
                None => self.listener.refused[Refusal::NoFrame as usize] += 1,
            }
        }
    }

    /// Takes bytes of a stream, of another one than before if it `is_new`.
    pub fn stream(&mut self, bytes: &[u8], is_new: bool, now: Instant) {
        self.listener.now = now;
        if is_new {
            while self.resync.last(&mut self.listener).is_some() {}
        }
        self.resync.push(bytes);
        while self.resync.next(&mut self.listener).is_some() {}
    }

    /// Time goes by, and so much has been dropped by kernel and program so far.
    pub fn tick(&mut self, now: Instant, by_kernel: u64, by_program: u64) {
        self.listener.now = now;
        self.listener.sessions.tick(now);
        self.listener.counts.dropped(by_kernel, by_program);
    }

    /// What was heard since the last call.
    pub fn heard(&mut self) -> Vec<HeardRehearsal> {
        std::mem::take(&mut self.listener.news)
    }

    /// Whether nothing more is to be waited for, as of the last tick.
    pub fn is_over(&self) -> bool {
        let Listener { counts, now, heard, over, has_stopped, .. } = &self.listener;
        let linger = if *has_stopped { LINGER } else { LINGER_FOR_SENDER };
        let is_gone = now.saturating_duration_since(*heard) >= GONE_AFTER;
        over.is_some_and(|over| now.saturating_duration_since(over) >= linger)
            || counts.has_begun() && is_gone
    }

    /// Whether the end of the last step was heard.
    pub fn is_whole(&self) -> bool {
        self.listener.over.is_some()
    }

    /// What became of each step that was heard of.
    pub fn reports(&self) -> Vec<StepReport> {
        self.listener.counts.reports()
    }

    /// Frames that were not taken, by the reason, in the order of [`Refusal::ALL`].
    pub fn refused(&self) -> [u64; Refusal::ALL.len()] {
        self.listener.refused
    }

    /// Ends, with what was accepted on the disk, so that it is never accepted again.
    pub fn close(mut self) -> Result<(), ReceiveError> {
        match self.listener.sessions.close() {
            true => Ok(()),
            false => Err(ReceiveError::Failed),
        }
    }
}

impl Listener {
    /// Takes a frame whose length is that of its header. Whether it was one to be taken.
    fn frame(&mut self, header: &Header, frame: &mut [u8]) -> bool {
        let length = frame.len();
        let is_followed = self.followed.is_some_and(|(session, _)| session == header.session);
        let opened = self.sessions.open(header, frame, self.now);
        let outcome = opened.as_ref().map(|_| ()).map_err(|why| *why);
        match opened {
            Ok(Opened::Payload { sender, payload }) => match header.class {
                Class::Filler => {
                    for record in Records::of(payload) {
                        if let Ok(Record::Rehearsal(step)) = record {
                            self.says(header, sender, step);
                        }
                    }
                }
                Class::Page | Class::New | Class::Bulk | Class::Repeat if !self.has_files => {
                    self.has_files = true;
                    self.news.push(HeardRehearsal::Files);
                }
                Class::Control if self.over.is_some() && is_followed => {
                    let stops = |record| matches!(record, Ok(Record::Stopping { .. }));
                    self.has_stopped |= Records::of(payload).any(stops);
                }
                _ => {}
            },
            Ok(Opened::Announced) => {}
            Ok(Opened::Began { sender, epoch, .. }) => {
                self.news.push(HeardRehearsal::SessionBegan { sender, epoch });
            }
            Err(why) => self.refused[why as usize] += 1,
        }
        if self.followed.is_some_and(|(session, _)| session == header.session) {
            match outcome {
                Ok(()) => {
                    self.heard = self.now;
                    self.counts.arrived(header.number, length, self.since());
                }
                Err(Refusal::Replayed) => self.counts.doubled(header.number),
                Err(Refusal::Unremembered) => self.counts.not_taken(header.number),
                Err(_) => {}
            }
        }
        outcome.is_ok()
    }

    fn since(&self) -> Duration {
        self.now.saturating_duration_since(self.began)
    }

    fn says(&mut self, header: &Header, sender: usize, step: RehearsalStep) {
        let session = header.session;
        match self.followed {
            Some((followed, _)) if followed == session => {}
            Some((_, other)) if other != sender || self.over.is_some() => return,
            Some((followed, _)) => {
                // Frames of the session before may come for a while.
                if self.left == Some(session) {
                    return;
                }
                self.left = Some(followed);
                self.counts.begin_anew();
                self.news.push(HeardRehearsal::Anew);
                self.followed = Some((session, sender));
            }
            None => self.followed = Some((session, sender)),
        }
        if self.counts.says(header.number, step, self.since()) {
            self.news.push(HeardRehearsal::Step(step));
        }
        if self.counts.is_over() {
            self.over.get_or_insert(self.now);
        }
    }
}

impl Judge for Listener {
    type Taken = ();

    fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool {
        self.sessions.believes(header, bytes)
    }

    fn take(&mut self, header: &Header, frame: &mut [u8]) -> Option<()> {
        self.frame(header, frame).then_some(())
    }
}
