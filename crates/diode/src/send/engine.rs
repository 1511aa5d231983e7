//! The one thread that sends: it takes what waits in the outbox, spreads the symbols of many blocks over time, seals each
//! frame, and gives them to the line at the rate that was asked for. It tells the session again and again, for nobody
//! can ask.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use link::Identity;

use crate::announce::{announce, announce_plain};
use crate::frame::{Check, Class, HEADER, MOST_PACKETS, TAG};
use crate::key::DiodePublicKey;
use crate::record::{Heartbeat, Record};
use crate::replay::WINDOW;
use crate::send::control::Control;
use crate::send::ends::Ends;
use crate::send::epoch::{EpochError, Epochs};
use crate::send::line::{Given, Line};
use crate::send::outbox::{OutBlock, Outbox};
use crate::send::pacer::Pacer;
use crate::send::rehearse::Conductor;
use crate::session::{Sealer, SessionId, SessionSecret};
use crate::shares::Shares;
use crate::span::{Spread, span};
use crate::symbol::SYMBOL_HEAD;

/// Announcements and heartbeats come each second.
const SECOND: Duration = Duration::from_secs(1);

/// A session is announced so often before it is used, over a time that so many outages fit in: what comes before the first
/// announcement that gets through cannot be read. Twice as many follow in the rest of the second.
const EARLY_ANNOUNCEMENTS: u32 = 4;
const LEAD_OUTAGES: u32 = 3;
const LEAST_LEAD: Duration = Duration::from_millis(60);
const MANY_ANNOUNCEMENTS: u32 = 3 * EARLY_ANNOUNCEMENTS;
const EARLY: Duration = Duration::from_millis(120);

/// A session ends after so long, or when it has no numbers left.
const MOST_SESSION: Duration = Duration::from_secs(24 * 3600);
const PACKETS_LEFT: u64 = 1 << 20;

/// So many packet numbers are passed over at a time at most: half of what a receiver tells old from new by.
const MOST_SKIPPED: u64 = WINDOW / 2;

/// A rate that falls lets the numbers go on more slowly by this factor each second, no faster: what a receiver has set
/// aside at the higher one, a second and a half of it, is over in a few seconds then, up to some 100,000 packets a second.
const SLOWER: f64 = 0.75;

/// Frames before the first that counts, and after the last: links lose most at a start and at an end.
const ROLL: u32 = 64;

/// At the end what matters is said so often.
const LAST_TIMES: u32 = 3;

/// Records of channels that the engine takes at a time.
const MOST_RECORDS: usize = 64;

/// Shorter sleeps make calls of a few frames each, and cost more than they smooth.
const LEAST_SLEEP: Duration = Duration::from_micros(500);

/// The engine sleeps no longer than this: somebody may change the rate.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// How the engine sends.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// An outage of this length costs no block.
    pub outage: Duration,
    /// When a record of a channel is sent again.
    pub stream_again: Vec<Duration>,
    /// Whether the link is kept full with filler.
    pub filler: bool,
    /// Payloads are neither encrypted nor authenticated, so that a measurement can tell what these cost. No receiver takes
    /// that unless it was told to.
    pub insecure_plain: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let ms = Duration::from_millis;
        let stream_again = vec![ms(20), ms(60)];
        Self { outage: ms(50), stream_again, filler: false, insecure_plain: false }
    }
}

/// Who speaks, and to whom.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) identity: Arc<Identity>,
    pub(crate) receivers: Vec<DiodePublicKey>,
    pub(crate) epochs: Epochs,
}

#[derive(Debug)]
pub(crate) struct Engine<L> {
    line: L,
    outbox: Arc<Outbox>,
    control: Arc<Control>,
    speaker: Speaker,
    options: EngineOptions,
    session: Session,
    start: Instant,
    pacer: Pacer,
    rate: u64,
    spread: Spread<usize>,
    under_way: Vec<Option<(OutBlock, usize)>>,
    free: Vec<usize>,
    /// Of frames, among records, symbols and filler; and of blocks that begin, among their classes.
    frames: Shares,
    begun: Shares,
    records: VecDeque<Vec<u8>>,
    stream: VecDeque<Vec<u8>>,
    stream_again: VecDeque<(Duration, u8, Vec<u8>)>,
    ends: Ends,
    next_announcement: Duration,
    next_heartbeat: Duration,
    roll: u32,
    batch: Vec<u8>,
    payload: Vec<u8>,
    zeros: Vec<u8>,
    /// Says what stands in filler, and how fast it goes: there is nothing else to send then.
    conductor: Option<Conductor>,
}

#[derive(Debug)]
struct Session {
    sealer: Sealer,
    id: SessionId,
    secret: SessionSecret,
    epoch: u64,
    began: Duration,
    announced: u32,
    /// It is only announced until then.
    used_from: Duration,
    /// The packet number at a time, and at how many a second it went on: see [`Self::number_on`].
    numbered: (u64, Duration),
    numbers_per_s: f64,
}

impl Session {
    fn begin(
        epochs: &mut Epochs,
        options: &EngineOptions,
        now: Duration,
    ) -> Result<Self, EpochError> {
        let epoch = epochs.begin(now_ms())?;
        let begun = if options.insecure_plain { Sealer::begin_plain() } else { Sealer::begin() };
        let (sealer, id, secret) = begun.expect("the system gives randomness");
        let used_from = now + options.lead();
        let (numbered, numbers_per_s) = ((0, now), 0.0);
        Ok(Self {
            sealer,
            id,
            secret,
            epoch,
            began: now,
            announced: 0,
            used_from,
            numbered,
            numbers_per_s,
        })
    }

    /// Goes on with the packet numbers as if so many had been sent each second. A receiver sets numbers aside at the rate
    /// of what comes, and refuses these after a kill; they must pass with time, also when little is sent.
    fn number_on(&mut self, per_s: f64, now: Duration) {
        let (number, then) = self.numbered;
        let since = now.saturating_sub(then).as_secs_f64();
        self.numbers_per_s = per_s.max(self.numbers_per_s * SLOWER.powf(since));
        let passed = self.numbers_per_s * since;
        self.sealer.skip_to(number + (passed as u64).min(MOST_SKIPPED));
        self.numbered = (self.sealer.next_number(), now);
    }
}

impl EngineOptions {
    /// For how long a session is announced before it is used.
    fn lead(&self) -> Duration {
        (self.outage * LEAD_OUTAGES).clamp(LEAST_LEAD, SECOND)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl<L: Line> Engine<L> {
    pub(crate) fn new(
        line: L,
        outbox: Arc<Outbox>,
        control: Arc<Control>,
        mut speaker: Speaker,
        options: EngineOptions,
    ) -> Result<Self, EpochError> {
        let zero = Duration::ZERO;
        let session = Session::begin(&mut speaker.epochs, &options, zero)?;
        let rate = control.rate();
        let zeros = vec![0; line.frame_bytes()];
        Ok(Self {
            line,
            outbox,
            control,
            speaker,
            options,
            session,
            start: Instant::now(),
            pacer: Pacer::new(rate, zero),
            rate,
            spread: Spread::default(),
            under_way: Vec::new(),
            free: Vec::new(),
            frames: Shares::default(),
            begun: Shares::default(),
            records: VecDeque::new(),
            stream: VecDeque::new(),
            stream_again: VecDeque::new(),
            ends: Ends::default(),
            next_announcement: zero,
            next_heartbeat: zero,
            roll: ROLL,
            batch: Vec::new(),
            payload: Vec::new(),
            zeros,
            conductor: None,
        })
    }

    /// Sends nothing but what this says.
    pub(crate) fn rehearse(&mut self, conductor: Conductor) {
        self.options.filler = true;
        self.conductor = Some(conductor);
    }

    /// Sends until it is told to stop. What waits in the outbox then stays there.
    pub(crate) fn run(&mut self, stop: &AtomicBool) -> Result<(), EpochError> {
        let mut record = Vec::new();
        let started = Record::Started { time_ms: now_ms(), version: env!("CARGO_PKG_VERSION") };
        // It fits: versions are short.
        let _ = started.encode(&mut record);
        self.records.push_back(record);
        while !stop.load(Ordering::Relaxed) {
            let now = self.start.elapsed();
            // What waits there keeps those waiting who make more.
            if self.stream.len() < MOST_RECORDS {
                self.outbox.take_records(&mut self.stream, MOST_RECORDS);
            }
            self.timers(now)?;
            if now >= self.session.used_from {
                self.begin_blocks(now);
            }
            while self.pacer.may_send(now) && self.batch.len() < self.most_batch() {
                if !self.frame(now) {
                    break;
                }
            }
            let has_sent = !self.batch.is_empty();
            self.flush();
            if !has_sent {
                let wait = self.idle(self.start.elapsed());
                self.outbox.wait_news(wait);
            } else if !self.pacer.may_send(self.start.elapsed()) {
                std::thread::sleep(self.pacer.wait().clamp(LEAST_SLEEP, LONGEST_SLEEP));
            }
        }
        self.last_words();
        Ok(())
    }

    fn most_batch(&self) -> usize {
        self.line.most_batch().max(self.line.frame_bytes())
    }

    /// How long nothing is due.
    fn idle(&mut self, now: Duration) -> Duration {
        let due = [
            Some(self.next_announcement),
            Some(self.next_heartbeat),
            self.spread.next_due(),
            self.stream_again.front().map(|(at, ..)| *at),
        ];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        let next = next.max(self.session.used_from).min(self.next_announcement);
        // A block that waits for room begins when others end, which a symbol that is due tells.
        let wait = next.saturating_sub(now).max(self.pacer.wait());
        wait.clamp(Duration::from_micros(50), LONGEST_SLEEP)
    }

    fn timers(&mut self, now: Duration) -> Result<(), EpochError> {
        let rate = self.control.rate();
        if rate != self.rate {
            self.rate = rate;
            self.pacer.set_rate(rate, now);
        }
        let is_old = now.saturating_sub(self.session.began) >= MOST_SESSION;
        if is_old || self.session.sealer.next_number() + PACKETS_LEFT > MOST_PACKETS {
            self.flush();
            self.session = Session::begin(&mut self.speaker.epochs, &self.options, now)?;
            self.next_announcement = now;
        }
        if now >= self.next_announcement {
            self.announce(now);
        }
        // One that waited for the session to be used would count too few frames.
        if now >= self.next_heartbeat.max(self.session.used_from) {
            self.next_heartbeat = now + SECOND;
            self.heartbeat();
        }
        self.ends.renew(&self.control, &mut self.records);
        Ok(())
    }

    fn announce(&mut self, now: Duration) {
        self.flush();
        let frame = (self.line.frame_bytes() + self.line.overhead()) as f64;
        let session = &mut self.session;
        // A rehearsal counts what is lost by the numbers, and its session is used for nothing else.
        if self.conductor.is_none() {
            session.number_on(self.rate as f64 / frame, now);
        }
        session.announced += 1;
        // The last of the early ones is there when the session begins to be used.
        let wait = if session.announced < EARLY_ANNOUNCEMENTS {
            self.options.lead() / EARLY_ANNOUNCEMENTS
        } else if session.announced < MANY_ANNOUNCEMENTS {
            EARLY
        } else {
            SECOND
        };
        self.next_announcement = now + wait;
        let announce = if self.options.insecure_plain { announce_plain } else { announce };
        let told = announce(
            &self.speaker.identity,
            (session.id, &session.secret),
            session.epoch,
            now_ms(),
            session.sealer.next_number(),
            &self.speaker.receivers,
        );
        let check = Check::of_announcements(&self.speaker.identity.public_key());
        // Receivers' keys were tried when their lines were read.
        for announcement in told.into_iter().flatten() {
            if self.session.sealer.announce(&announcement, &check, &mut self.batch).is_ok() {
                self.flush();
            }
        }
    }

    fn beat(&mut self) {
        let beat = Heartbeat {
            time_ms: now_ms(),
            generation: self.control.generation(),
            frames: self.session.sealer.sealed(),
            rate: self.rate,
            next_scan_s: self.control.next_scan_s(),
        };
        let mut record = Vec::new();
        if Record::Heartbeat(beat).encode(&mut record).is_ok() {
            self.records.push_back(record);
        }
    }

    fn heartbeat(&mut self) {
        self.beat();
        if self.options.insecure_plain {
            let mut record = Vec::new();
            // It fits: it is empty.
            let _ = Record::Plain.encode(&mut record);
            self.records.push_back(record);
        }
        self.ends.beat(&mut self.records);
    }

    /// Begins blocks while the rate needs more of them. What is new waits for nobody's span.
    fn begin_blocks(&mut self, now: Duration) {
        let frame = (self.line.frame_bytes() + self.line.overhead()) as f64;
        let per_s = self.rate as f64 / frame;
        loop {
            let has_room = self.spread.has_room(per_s);
            if !has_room && !self.spread.has_room(2.0 * per_s) {
                return;
            }
            let begun = &mut self.begun;
            let mut had = [false; Class::ALL.len()];
            let block = self.outbox.take_block(|waits| {
                // Who waits is owed a share, also while only what is new may begin beyond the rate.
                Class::ALL.into_iter().for_each(|class| had[class as usize] = waits(class));
                let is_first = |class: Class| matches!(class, Class::Page | Class::New);
                begun.next(waits).filter(|class| has_room || is_first(*class))
            });
            let Some(block) = block else { return };
            begun.sent(block.class, block.source.len(), |class| had[class as usize]);
            let symbols = block.symbols();
            let over = span(block.layout, symbols - block.layout.source(), self.options.outage);
            let at = self.free.pop().unwrap_or(self.under_way.len());
            if at == self.under_way.len() {
                self.under_way.push(None);
            }
            self.under_way[at] = Some((block, symbols));
            self.spread.begin(now, at, symbols, over);
        }
    }

    /// Appends one frame to the batch, of what goes first now. False if nothing is due.
    fn frame(&mut self, now: Duration) -> bool {
        let stream_due = self.stream_again.front().is_some_and(|(at, ..)| *at <= now);
        let is_used = now >= self.session.used_from;
        let has = [
            (Class::Control, is_used && !self.records.is_empty()),
            (Class::Stream, is_used && (stream_due || !self.stream.is_empty())),
            (Class::New, is_used && self.spread.next_due().is_some_and(|due| due <= now)),
            (Class::Filler, self.options.filler || self.roll > 0),
        ];
        let has = |class: Class| has.iter().any(|(one, has)| *one == class && *has);
        let Some(class) = self.frames.next(has) else { return false };
        let length = match class {
            Class::Control => self.records_frame(),
            Class::Stream => self.stream_frame(now, stream_due),
            Class::New => self.symbol_frame(now),
            _ => {
                self.roll = self.roll.saturating_sub(1);
                self.payload.clear();
                if let Some(conductor) = &mut self.conductor {
                    let number = self.session.sealer.next_number();
                    let most = self.line.frame_bytes() - HEADER - TAG;
                    let rate = conductor.fill(now, number, most, &mut self.payload);
                    self.control.set_rate(rate);
                }
                self.seal(Class::Filler)
            }
        };
        self.frames.sent(class, length, has);
        self.pacer.sent(length + self.line.overhead());
        true
    }

    /// The longest payload of a frame.
    fn most_payload(&self) -> usize {
        self.line.frame_bytes() - HEADER - TAG
    }

    fn records_frame(&mut self) -> usize {
        let most = self.most_payload();
        self.payload.clear();
        while let Some(record) = self.records.front() {
            if !self.payload.is_empty() && self.payload.len() + record.len() > most {
                break;
            }
            // One that fits no frame was made for another line; nothing could carry it.
            if record.len() <= most {
                self.payload.extend_from_slice(record);
            }
            self.records.pop_front();
        }
        self.seal(Class::Control)
    }

    fn stream_frame(&mut self, now: Duration, is_again: bool) -> usize {
        let again = if is_again { self.stream_again.pop_front() } else { None };
        let times = match again {
            Some((_, times, payload)) => {
                self.payload = payload;
                times + 1
            }
            None => {
                let most = self.most_payload();
                self.payload.clear();
                while let Some(record) = self.stream.front() {
                    if !self.payload.is_empty() && self.payload.len() + record.len() > most {
                        break;
                    }
                    if record.len() <= most {
                        self.payload.extend_from_slice(record);
                    }
                    self.stream.pop_front();
                }
                0
            }
        };
        let length = self.seal(Class::Stream);
        if let Some(after) = self.options.stream_again.get(usize::from(times)) {
            // Each is measured from the first time; they are few, and their order is kept.
            let before =
                times.checked_sub(1).map(|times| self.options.stream_again[usize::from(times)]);
            let at = now + after.saturating_sub(before.unwrap_or_default());
            let place = self.stream_again.partition_point(|(other, ..)| *other <= at);
            let payload = std::mem::take(&mut self.payload);
            self.stream_again.insert(place, (at, times, payload));
        }
        length
    }

    fn symbol_frame(&mut self, now: Duration) -> usize {
        let Some((at, symbol)) = self.spread.next(now) else { return 0 };
        let Some((block, symbols)) = &self.under_way[at] else { return 0 };
        let mut head = block.head;
        head.symbol = symbol as u16;
        let (bytes, padding) = block.symbol(symbol);
        let parts = [&head.encode()[..], bytes, &self.zeros[..padding]];
        let class = block.class;
        let is_last = symbol + 1 == *symbols;
        let before = self.batch.len();
        let sealed = self.session.sealer.seal_parts(class, &parts, &mut self.batch);
        debug_assert!(sealed.is_ok(), "{sealed:?}");
        let length = self.batch.len() - before;
        self.control.count_symbol(class, length);
        if is_last && let Some((block, _)) = self.under_way[at].take() {
            self.free.push(at);
            self.outbox.has_gone(block);
        }
        length
    }

    /// Seals the payload, filled up with zeros where all frames have one size.
    fn seal(&mut self, class: Class) -> usize {
        let most = self.most_payload();
        let padding =
            if self.line.has_one_size() { most.saturating_sub(self.payload.len()) } else { 0 };
        let before = self.batch.len();
        let parts = [&self.payload[..], &self.zeros[..padding]];
        let sealed = self.session.sealer.seal_parts(class, &parts, &mut self.batch);
        debug_assert!(sealed.is_ok(), "{sealed:?}");
        self.control.count_other(self.batch.len() - before);
        self.batch.len() - before
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let given = self.line.send(&self.batch, self.line.frame_bytes());
        self.batch.clear();
        if given == Given::Anew {
            self.next_announcement = Duration::ZERO;
            self.session.announced = 0;
        }
    }

    /// That it ends, and frames behind it, so that what a link loses at an end is nothing that counts.
    fn last_words(&mut self) {
        // Who joins now can read at least this.
        self.announce(self.start.elapsed());
        while self.start.elapsed() < self.session.used_from {
            std::thread::sleep(LEAST_LEAD / 4);
            self.announce(self.start.elapsed());
        }
        let version = env!("CARGO_PKG_VERSION");
        let mut record = Vec::new();
        let stopping = Record::Stopping { time_ms: now_ms(), version };
        // It fits: versions are short.
        let _ = stopping.encode(&mut record);
        let ends = self.ends.last(&self.control);
        for _ in 0..LAST_TIMES {
            // The other side knows then what it has lost since the last second began.
            self.beat();
            self.records.extend(ends.iter().chain([&record]).cloned());
            while !self.records.is_empty() {
                self.paced(Self::records_frame);
            }
            for _ in 0..ROLL {
                self.payload.clear();
                self.paced(|engine| engine.seal(Class::Filler));
            }
        }
    }

    fn paced(&mut self, frame: impl FnOnce(&mut Self) -> usize) {
        while !self.pacer.may_send(self.start.elapsed()) {
            std::thread::sleep(self.pacer.wait().min(LONGEST_SLEEP));
        }
        let length = frame(self);
        self.pacer.sent(length + self.line.overhead());
        self.flush();
    }

    /// Bytes of a symbol on this line.
    pub(crate) fn symbol_bytes(line: &L) -> usize {
        (line.frame_bytes() - HEADER - TAG - SYMBOL_HEAD) & !1
    }
}

#[cfg(test)]
mod tests;
