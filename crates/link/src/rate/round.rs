//! What a round trip's worth of acknowledgements tells: the rate of delivery, the share that was lost and
//! the round-trip times. And the smallest of those times over the last seconds, which is the path's own.
//! Times are seconds since an arbitrary start.

/// One round, from one acknowledgement to that of a packet sent after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    start: f64,
    acked: f64,
    lost: f64,
    packets: u32,
    /// The acknowledgements that came in at one time.
    moment: Moment,
    moments: u32,
    /// Whether this machine may have been held up.
    held_up: bool,
    /// The shortest of these, in order.
    lows: [f64; 3],
    rtt_sum: f64,
    /// When the first packet that was acknowledged in this round had been sent.
    first_sent: Option<f64>,
    complete: bool,
    /// The most that was under way, in bytes.
    peak: f64,
}

/// Acknowledgements that were read at one time.
#[derive(Debug, Clone, Default)]
struct Moment {
    time: f64,
    packets: u32,
    least: f64,
    most: f64,
}

impl Moment {
    fn new(time: f64) -> Self {
        Self { time, packets: 0, least: f64::INFINITY, most: 0.0 }
    }

    /// The shortest round trip that these acknowledgements prove. A machine that is busy takes the time, is held
    /// up, and then reads packets that came later: those look too fast by as much. When many were read at
    /// once, only the one that took longest is sure to have been there at that time.
    fn rtt(&self) -> f64 {
        if self.crowded() { self.most - CROWD_SPAN } else { self.least }
    }

    fn crowded(&self) -> bool {
        self.packets >= CROWD && self.most - self.least > CROWD_SPAN
    }
}

/// From so many packets on, acknowledgements may have gathered while this machine was held up; and for so
/// long they gather on one that is not.
const CROWD: u32 = 8;
const CROWD_SPAN: f64 = 0.002;

/// From so many times of acknowledgements on, single ones are not trusted.
const MANY_MOMENTS: u32 = 16;

/// The figures of a finished round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// Bytes acknowledged per second.
    pub(super) delivery_rate: f64,
    /// The share of bytes that was lost of those whose fate became known.
    pub(super) loss: f64,
    /// How many packets were acknowledged.
    pub(super) packets: u32,
    pub(super) rtt_min: f64,
    pub(super) rtt_mean: f64,
    /// Whether this machine may have been held up, so that times are wrong.
    pub(super) held_up: bool,
    /// Whether there was nothing to send for a part of it.
    pub(super) limited: bool,
    /// The most bytes that were under way.
    pub(super) peak: f64,
}

impl Round {
    pub(super) fn new(start: f64) -> Self {
        let moment = Moment::new(start);
        Self { start, moment, lows: [f64::INFINITY; 3], ..Self::default() }
    }

    /// A packet of `sent` was acknowledged at `now`, which makes `rtt`. The round takes `shortest` at least.
    pub(super) fn acked(&mut self, now: f64, sent: f64, rtt: f64, bytes: f64, shortest: f64) {
        self.acked += bytes;
        self.packets += 1;
        if now != self.moment.time {
            self.lows = self.lows_with_moment();
            self.moments += 1;
            self.moment = Moment::new(now);
        }
        self.moment.packets += 1;
        self.moment.least = self.moment.least.min(rtt);
        self.moment.most = self.moment.most.max(rtt);
        self.held_up |= self.moment.crowded();
        self.rtt_sum += rtt;
        self.first_sent.get_or_insert(sent);
        self.complete |= sent >= self.start && now - self.start >= shortest;
    }

    fn lows_with_moment(&self) -> [f64; 3] {
        let [first, second, third] = self.lows;
        match self.moment.rtt() {
            // It began in the round before, with those that took longest.
            _ if self.moment.time <= self.start => self.lows,
            low if low < first => [low, first, second],
            low if low < second => [first, low, second],
            low if low < third => [first, second, low],
            _ => self.lows,
        }
    }

    /// The shortest round trip; where there are many times, the third shortest of them.
    fn rtt_min(&self) -> f64 {
        let [first, _, third] = self.lows_with_moment();
        if self.moments >= MANY_MOMENTS { third } else { first }
    }

    pub(super) fn lost(&mut self, bytes: f64) {
        self.lost += bytes;
    }

    pub(super) fn under_way(&mut self, bytes: f64) {
        self.peak = self.peak.max(bytes);
    }

    /// The figures, once the round is over. `last_limited` is when there was last nothing to send.
    pub(super) fn finish(&self, now: f64, last_limited: f64) -> Option<Figures> {
        if !self.complete || now <= self.start {
            return None;
        }
        Some(Figures {
            delivery_rate: self.acked / (now - self.start),
            loss: self.lost / (self.acked + self.lost),
            packets: self.packets,
            rtt_min: self.rtt_min(),
            rtt_mean: self.rtt_sum / f64::from(self.packets),
            held_up: self.held_up,
            limited: self.first_sent.is_none_or(|sent| sent <= last_limited),
            peak: self.peak,
        })
    }
}

/// How many parts a [`Smallest`] is made of.
const PARTS: usize = 10;

/// A value is borne out by another that is larger by at most this, in seconds and as a share of it.
const BORNE_OUT: (f64, f64) = (0.003, 0.1);

/// The smallest value of the last while, which is cut into ten parts. One that is alone far below all others
/// does not count: a machine that is held up sometimes measures such.
#[derive(Debug, Clone)]
pub(super) struct Smallest {
    /// The two smallest of each part.
    parts: [[f64; 2]; PARTS],
    at: usize,
    part_started: f64,
    part_length: f64,
    smallest: f64,
}

impl Smallest {
    pub(super) fn over(length: f64) -> Self {
        let parts = [[f64::INFINITY; 2]; PARTS];
        let part_length = length / PARTS as f64;
        Self { parts, at: 0, part_started: 0.0, part_length, smallest: f64::INFINITY }
    }

    /// `sure` says that this value needs no other.
    pub(super) fn add(&mut self, now: f64, value: f64, sure: bool) {
        if now - self.part_started >= self.part_length {
            self.part_started = now;
            self.at = (self.at + 1) % PARTS;
            self.parts[self.at] = [f64::INFINITY; 2];
        }
        let [first, second] = self.parts[self.at];
        self.parts[self.at] = match sure {
            true if value < first => [value; 2],
            _ => [first.min(value), second.min(first.max(value))],
        };
        self.smallest = self.find();
    }

    /// Forgets all and begins with this value.
    pub(super) fn restart(&mut self, now: f64, value: f64) {
        self.parts = [[f64::INFINITY; 2]; PARTS];
        self.part_started = now;
        self.parts[self.at] = [value; 2];
        self.smallest = value;
    }

    pub(super) fn get(&self) -> Option<f64> {
        self.smallest.is_finite().then_some(self.smallest)
    }

    fn find(&self) -> f64 {
        let mut values: Vec<f64> =
            self.parts.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let first = values.first().copied().unwrap_or(f64::INFINITY);
        if values.len() < 3 {
            return first;
        }
        let borne_out = |pair: &&[f64]| pair[1] - pair[0] <= BORNE_OUT.0.max(BORNE_OUT.1 * pair[0]);
        values.windows(2).find(borne_out).map_or(first, |pair| pair[0])
    }
}

/// The rate at which acknowledgements came in over the last few milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    start: f64,
    bytes: f64,
    last: f64,
    before: f64,
}

impl Recent {
    pub(super) fn add(&mut self, now: f64, bytes: f64, length: f64) {
        let past = now - self.start;
        if past >= length {
            self.before = self.last;
            // A gap in what was sent says nothing about the path.
            self.last = if past < 2.0 * length { self.bytes / past } else { 0.0 };
            self.start = now;
            self.bytes = 0.0;
        }
        self.bytes += bytes;
    }

    /// Bytes per second; 0 where nothing is known.
    pub(super) fn rate(&self) -> f64 {
        self.last.max(self.before)
    }
}
