//! Decides how many bytes may be under way. Pure: it knows no clock, no socket and no QUIC library.
//!
//! A path that is full delivers at its own rate whatever is sent, so a window of
//! `delivered rate / (1 - path loss) x (base round trip + a small target queue)` leaves just the target
//! in the queue, and on a path that is not full it grows by the target's share of the round trip. Loss
//! enters only as what the path loses by itself; [`super::loss`] finds that out. The library paces at 1.25
//! times window / round trip, so it is the window that holds the rate.

use std::collections::VecDeque;
use std::time::Duration;

use super::Pace;
use super::compete::{Compete, Next};
use super::loss::{Losses, Queue, Verdict};
use super::memory::PathMemory;
use super::round::{Figures, Recent, Round, Smallest};

#[path = "beside.rs"]
mod beside;
#[path = "proof.rs"]
mod proof;
#[path = "start.rs"]
mod start;

use beside::Overflows;
use proof::Proof;

/// The target queue in seconds for a rate of 1 MB/s; it falls with the square root of the rate, so that of
/// two lanes on one queue the slower one grows. And its bounds.
const TARGET: (f64, f64, f64) = (0.035, 0.004, 0.040);

/// A slow lane's target, against that of the highest rate seen.
const MOST_TARGETS: f64 = 2.5;

/// The same in the background.
const TARGET_BACKGROUND: (f64, f64, f64) = (0.010, 0.001, 0.005);

/// Bytes per second of the first flight, and the bounds of its size.
const FIRST: (f64, f64, f64) = (10e6, 128.0 * 1024.0, 1024.0 * 1024.0);

/// The window until the first round-trip time is known.
const BLIND: f64 = 128.0 * 1024.0;

/// The most that may be under way.
const MOST: f64 = 64.0 * 1024.0 * 1024.0;

/// The least, in packets: fair and in the background.
const LEAST: (f64, f64) = (10.0, 4.0);

/// A round takes at least this long, or a burst of acknowledgements would count for much.
const SHORTEST_ROUND: f64 = 0.02;

/// How long a smallest round-trip time is believed.
const BASE_FOR: f64 = 10.0;

/// What is left of the longest queue that was seen, in each round.
const FADING: f64 = 0.9995;

/// The most that a window grows in a round outside of the start.
const MOST_GROWTH: f64 = 1.3;

/// A queue of so many targets is not ours.
const UNEXPLAINED: f64 = 3.0;

/// After so many rounds and seconds a queue that does not move is the path's own length, and one that does
/// is filled by others.
const STANDS: (u32, f64) = (5, 0.15);
const FILLED_BY_OTHERS: (u32, f64) = (10, 0.3);

/// How much of the mean round trip's excess over the shortest is allowed for: the mean of it, and as much
/// again and more, since a loaded path with jitter never shows its shortest time.
const JITTER: f64 = 2.0;

/// How much of a remembered rate is used at once.
const REMEMBERED: f64 = 0.95;

/// A round in which so much of the window was under way was not held back by the application alone.
const FILLED: f64 = 0.85;

/// Silence counts as an outage after so many round trips, and so many seconds.
const OUTAGE: (f64, f64) = (4.0, 0.4);

/// What keeps a lane from sending faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The rate is still being looked for.
    Start,
    /// There was nothing to send.
    Application,
    /// The bottleneck of the path is full.
    Path,
    /// Somewhere on the path, more than a certain rate is thrown away without a queue.
    Policer,
    /// Others fill the same queue.
    Competition,
    /// The rate that was asked for.
    Fixed,
    /// Nothing was acknowledged for a while.
    Outage,
}

/// What the controller takes the path for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// How many bytes may be under way.
    pub window: u64,
    /// Bytes per second that this comes to.
    pub pacing_rate: u64,
    /// Bytes per second acknowledged lately.
    pub delivery_rate: u64,
    /// The round-trip time without queues.
    pub base_rtt: Duration,
    /// By how much queues lengthen it now.
    pub queue_delay: Duration,
    /// The share of packets that the path loses by itself.
    pub path_loss: f64,
    /// Whether the path throws away what is sent above a rate.
    pub policed: bool,
    /// Whether there is too little to send.
    pub app_limited: bool,
    /// What keeps the rate from being higher.
    pub bound: Bound,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Before the first round-trip time.
    Blind,
    /// Doubling.
    Start { rounds: u32, flat: u32, before: f64 },
    /// A remembered rate is tried out.
    Resume { rounds: u32 },
    /// Following the path.
    Follow,
    /// Beside those who fill queues.
    Beside(Compete),
}

/// The controller of one path.
#[derive(Debug, Clone)]
pub struct Control {
    pace: Pace,
    known: Option<PathMemory>,
    phase: Phase,
    window: f64,
    mtu: f64,
    in_flight: f64,
    round: Round,
    recent: Recent,
    losses: Losses,
    base: Smallest,
    /// The base of a longer while, which a queue that others hold does not lift.
    floor: Smallest,
    /// The smallest round-trip time of single packets, while there is nothing better.
    first_rtt: f64,
    /// How much longer than the shortest the mean round trip of a round is.
    spread: f64,
    queue: f64,
    rtt: f64,
    delivery_rate: f64,
    /// Delivery rates of the last rounds, the newest last.
    rates: VecDeque<f64>,
    idle_rounds: u32,
    foreign: Foreign,
    /// The longest mean round trip of a round, which fades slowly, and that of the round before.
    longest_rtt: f64,
    rtt_before: f64,
    overflows: Overflows,
    /// When it competed last.
    beside_at: Option<f64>,
    proof: Proof,
    skip: u32,
    last_ack: f64,
    last_limited: f64,
    limited: bool,
    outage: bool,
    batch: Batch,
    trim: f64,
    learnt_rate: f64,
    /// The highest rate of the last while.
    peak_rate: f64,
    /// The highest that three rounds ever had on average.
    carried: f64,
    sent_total: f64,
}

/// Rounds in which a queue stood that our window does not explain.
#[derive(Debug, Clone, Default)]
struct Foreign {
    rounds: u32,
    since: f64,
    window: f64,
    rate: f64,
    least_rtt: f64,
    most_rtt: f64,
    rebased: Option<f64>,
}

/// The smallest round-trip time of some successive packets, which sees a queue before the round is over.
#[derive(Debug, Clone, Default)]
struct Batch {
    count: u32,
    min: f64,
    /// Since when all were long.
    high: Option<f64>,
}

impl Control {
    /// A controller of a path that nothing is known of but what is remembered.
    pub fn new(pace: Pace, mtu: u16, known: Option<PathMemory>) -> Self {
        let window = match pace {
            Pace::Background => BLIND / 4.0,
            Pace::Fair | Pace::Fixed(_) => BLIND,
        };
        Self {
            pace,
            known,
            phase: Phase::Blind,
            window,
            mtu: f64::from(mtu),
            in_flight: 0.0,
            round: Round::new(0.0),
            recent: Recent::default(),
            losses: Losses::default(),
            base: Smallest::over(if pace == Pace::Background { 60.0 } else { BASE_FOR }),
            floor: Smallest::over(60.0),
            first_rtt: f64::INFINITY,
            spread: 0.0,
            queue: 0.0,
            rtt: 0.1,
            delivery_rate: 0.0,
            rates: VecDeque::new(),
            idle_rounds: 0,
            foreign: Foreign::default(),
            longest_rtt: 0.0,
            rtt_before: 0.0,
            overflows: Overflows::default(),
            beside_at: None,
            proof: Proof::default(),
            skip: 0,
            last_ack: 0.0,
            last_limited: 0.0,
            limited: true,
            outage: false,
            batch: Batch::default(),
            trim: 1.0,
            learnt_rate: 0.0,
            peak_rate: 0.0,
            carried: 0.0,
            sent_total: 0.0,
        }
    }

    /// Bytes were sent. Times count from an arbitrary start, the same for all calls.
    pub fn on_sent(&mut self, now: Duration, bytes: u64) {
        let now = now.as_secs_f64();
        if self.in_flight <= 0.0 {
            // Before this there was a gap.
            self.last_limited = now;
            self.last_ack = now;
        }
        self.in_flight += bytes as f64;
        self.sent_total += bytes as f64;
        self.round.under_way(self.in_flight);
    }

    /// A packet was acknowledged. `app_limited` says that there was nothing to send just now.
    pub fn on_ack(&mut self, now: Duration, sent: Duration, bytes: u64, app_limited: bool) {
        let (now, sent, bytes) = (now.as_secs_f64(), sent.as_secs_f64(), bytes as f64);
        if self.silent_for(now) {
            self.end_outage(now);
        }
        self.last_ack = now;
        self.limited = app_limited;
        if app_limited {
            self.last_limited = now;
        }
        // Whoever sends while another reads may be ahead of the time that was read.
        let rtt = (now - sent).max(1e-6);
        self.first_rtt = self.first_rtt.min(rtt);
        if matches!(self.phase, Phase::Blind) {
            self.begin(now, rtt);
        }
        self.in_flight = (self.in_flight - bytes).max(0.0);
        let shortest = if self.starting() { 0.25 * SHORTEST_ROUND } else { SHORTEST_ROUND };
        self.round.acked(now, sent, rtt, bytes, shortest);
        self.losses.acked(sent, bytes);
        self.recent.add(now, bytes, (self.base_rtt() / 4.0).max(0.002));
        if matches!(self.phase, Phase::Start { .. }) && self.used() {
            self.grow(bytes);
        }
        self.watch(now, rtt);
    }

    /// All packets of an acknowledgement were told; `in_flight` bytes remain.
    pub fn on_acks_end(&mut self, now: Duration, in_flight: u64) {
        let now = now.as_secs_f64();
        self.in_flight = in_flight as f64;
        if let Some(back) = self.proof.refill(now) {
            self.window = back;
        }
        if let Some(figures) = self.round.finish(now, self.last_limited) {
            self.round = Round::new(now);
            self.round.under_way(self.in_flight);
            self.end_round(now, figures);
            debug_assert!(self.window.is_finite() && self.window >= 0.0, "{}", self.window);
        }
    }

    /// Packets count as lost, the latest of which was sent at `sent`.
    pub fn on_loss(&mut self, now: Duration, sent: Duration, bytes: u64) {
        let (now, sent, bytes) = (now.as_secs_f64(), sent.as_secs_f64(), bytes as f64);
        if self.silent_for(now) {
            self.end_outage(now);
        }
        self.in_flight = (self.in_flight - bytes).max(0.0);
        if self.outage {
            // What was under way when the path went dark says nothing about it now.
            return;
        }
        self.round.lost(bytes);
        self.losses.lost(sent, bytes);
        if matches!(self.phase, Phase::Start { .. }) && self.used() {
            self.grow(bytes);
        }
    }

    /// The size of packets has changed.
    pub fn on_mtu(&mut self, mtu: u16) {
        self.mtu = f64::from(mtu);
    }

    /// How many bytes may be under way.
    pub fn window(&self) -> u64 {
        let least = if self.pace == Pace::Background { LEAST.1 } else { LEAST.0 };
        self.window.clamp(least * self.mtu, MOST) as u64
    }

    /// What it takes the path for.
    pub fn view(&self) -> View {
        let base = self.base_rtt();
        View {
            window: self.window(),
            pacing_rate: (self.window() as f64 / (base + self.queue + self.spread)) as u64,
            delivery_rate: self.delivery_rate as u64,
            base_rtt: Duration::from_secs_f64(base),
            queue_delay: Duration::from_secs_f64(self.queue),
            path_loss: self.losses.path(),
            policed: self.losses.policed(),
            app_limited: self.limited,
            bound: self.bound(),
        }
    }

    /// What was learnt: None before a rate was found, and in the background, where what others left says little
    /// of the path.
    pub fn learned(&self) -> Option<PathMemory> {
        if self.pace == Pace::Background {
            return None;
        }
        let enough =
            self.learnt_rate > 0.0 && self.sent_total > 4.0 * self.learnt_rate * self.base_rtt();
        enough.then(|| PathMemory {
            rate_bytes_per_s: self.learnt_rate as u64,
            base_rtt: Duration::from_secs_f64(self.base_rtt()),
            loss: self.losses.path(),
            mtu: self.mtu as u16,
        })
    }

    fn bound(&self) -> Bound {
        match &self.phase {
            _ if self.outage => Bound::Outage,
            _ if self.limited => Bound::Application,
            _ if matches!(self.pace, Pace::Fixed(_)) => Bound::Fixed,
            Phase::Blind | Phase::Start { .. } | Phase::Resume { .. } => Bound::Start,
            Phase::Beside(_) => Bound::Competition,
            Phase::Follow if self.losses.policed() => Bound::Policer,
            Phase::Follow => Bound::Path,
        }
    }

    fn starting(&self) -> bool {
        matches!(self.phase, Phase::Blind | Phase::Start { .. } | Phase::Resume { .. })
    }

    /// Whether the window is what held the sender back.
    fn used(&self) -> bool {
        self.in_flight >= 0.6 * self.window
    }

    fn base_rtt(&self) -> f64 {
        let first = if self.first_rtt.is_finite() { self.first_rtt } else { 0.1 };
        self.base.get().unwrap_or(first)
    }

    fn target(&self) -> f64 {
        // Beyond what six like us would hold, others fill the queue.
        let most = MOST_TARGETS * self.target_at(self.peak_rate.max(self.delivery_rate));
        self.target_at(self.delivery_rate).min(most)
    }

    fn target_at(&self, rate: f64) -> f64 {
        let (at_1_mb, least, most) = match self.pace {
            Pace::Background => TARGET_BACKGROUND,
            Pace::Fair | Pace::Fixed(_) => TARGET,
        };
        (at_1_mb / (rate.max(1.0) / 1e6).sqrt()).clamp(least, most)
    }

    /// A window that carries `rate` of delivered bytes with a queue of `queue` seconds.
    fn window_for(&self, rate: f64, queue: f64) -> f64 {
        let loss = self.losses.path();
        // A lost packet counts as under way until 9/8 of a round trip have passed.
        rate / (1.0 - loss) * (1.0 + loss / 8.0) * (self.base_rtt() + queue + JITTER * self.spread)
    }

    fn grow(&mut self, bytes: f64) {
        self.window = (self.window + bytes).min(MOST);
    }

    fn silent_for(&self, now: f64) -> bool {
        self.in_flight > 0.0 && now - self.last_ack > (OUTAGE.0 * self.rtt).max(OUTAGE.1)
    }

    /// The path answers again.
    fn end_outage(&mut self, now: f64) {
        self.last_ack = now;
        if self.starting() || matches!(self.pace, Pace::Fixed(_)) {
            self.round = Round::new(now);
            self.outage = true;
            return;
        }
        self.outage = true;
        self.end_proof(now);
        self.foreign = Foreign::default();
        self.losses.forget_round();
        self.round = Round::new(now);
        self.rates.clear();
        self.window *= 0.5;
        self.phase = Phase::Start { rounds: 1, flat: 0, before: 0.0 };
    }

    fn end_round(&mut self, now: f64, figures: Figures) {
        self.outage = false;
        // The first packets on an idle path with jitter are faster than any on a loaded one.
        let qualified = figures.packets >= if self.starting() { 64 } else { 10 };
        if qualified || (self.base.get().is_none() && !self.starting()) {
            self.base.add(now, figures.rtt_min, !figures.held_up);
            self.floor.add(now, figures.rtt_min, !figures.held_up);
            self.keep_base(now);
        }
        let base = self.base_rtt();
        self.queue = (figures.rtt_min - base).max(0.0);
        self.rtt_before = self.rtt;
        self.rtt = figures.rtt_mean;
        self.longest_rtt = self.rtt.max(base + FADING * (self.longest_rtt - base).max(0.0));
        // A queue that is still draining is no jitter.
        let filling = match self.phase {
            Phase::Start { before, .. } => figures.delivery_rate < 1.5 * before,
            _ => false,
        };
        let steady = self.queue < 1.5 * self.target() && !filling && self.skip == 0;
        // Where times are wrong the mean may be less.
        let spread = (figures.rtt_mean - figures.rtt_min).clamp(0.0, base / 3.0 + 0.002);
        if steady || spread < self.spread {
            self.spread += 0.25 * (spread - self.spread);
        }
        if let Pace::Fixed(rate) = self.pace {
            self.delivery_rate = figures.delivery_rate;
            self.losses.judge(now, self.window, self.mtu, Queue::Long);
            return self.hold_rate(rate as f64, figures);
        }
        if figures.limited && figures.peak < FILLED * self.window {
            self.losses.judge(now, self.window, self.mtu, Queue::Long);
            return;
        }
        match self.phase.clone() {
            Phase::Blind => {}
            Phase::Start { rounds, flat, before } => {
                self.end_start_round(now, figures, rounds, flat, before);
            }
            Phase::Resume { rounds } => self.end_resume_round(now, figures, rounds),
            Phase::Follow => self.follow(now, figures),
            Phase::Beside(compete) => self.compete(now, figures, compete),
        }
    }

    fn follow(&mut self, now: f64, figures: Figures) {
        if self.prove(now, figures) {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.note_rate(figures.delivery_rate);
        let target = self.target();
        let background = self.pace == Pace::Background;
        let unexplained =
            if background { 2.0 * target } else { UNEXPLAINED * self.target_at(self.peak_rate) };
        if self.queue > unexplained + self.spread {
            if background {
                self.window *= 0.6;
                self.skip = 1;
                return;
            }
            if self.foreign(now, figures) {
                return;
            }
        } else {
            self.foreign.rounds = 0;
        }
        if !background && self.overflows(now, figures, target) {
            return;
        }
        let queue = match self.queue / target {
            ratio if ratio < 0.5 => Queue::Empty,
            ratio if ratio < 2.0 => Queue::Standing,
            _ => Queue::Long,
        };
        match self.losses.judge(now, self.window, self.mtu, queue) {
            Verdict::Cut(factor) => {
                self.window *= factor.max(0.5);
                self.idle_rounds = 0;
                return;
            }
            Verdict::Restore(window) => {
                self.window = self.window.max(window);
                self.idle_rounds = 0;
                self.skip = 1;
                return;
            }
            Verdict::Deliver => {
                let loss = self.losses.path();
                let window = 0.98 * self.delivery_rate / (1.0 - loss) * self.rtt;
                self.window = window.min(self.window);
                self.idle_rounds = 0;
                return;
            }
            Verdict::Hold if self.queue < 1.5 * target => {
                self.idle_rounds = 0;
                return;
            }
            Verdict::Hold | Verdict::Go => {}
        }
        self.adjust(figures, target);
        self.maybe_drain(now, target);
    }

    fn note_rate(&mut self, rate: f64) {
        self.rates.push_back(rate);
        if self.rates.len() > 8 {
            self.rates.pop_front();
        }
        self.delivery_rate = rate;
        self.peak_rate = rate.max(0.998 * self.peak_rate);
        if self.rates.len() >= 3 {
            let last: f64 = self.rates.iter().rev().take(3).sum();
            self.carried = self.carried.max(last / 3.0);
            let mut sorted: Vec<f64> = self.rates.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            self.learnt_rate = sorted[sorted.len() / 2];
        }
    }

    /// The law: what is delivered, with just the target in the queue.
    fn adjust(&mut self, figures: Figures, target: f64) {
        let low = self.queue < 0.5 * target;
        let span = if self.queue < target { 3 } else { 1 };
        let rate = self.rates.iter().rev().take(span).copied().fold(0.0, f64::max);
        let mut aim = self.window_for(rate, target);
        self.idle_rounds = if low { self.idle_rounds + 1 } else { 0 };
        let most = if self.losses.policed() { 1.04 } else { MOST_GROWTH };
        if self.idle_rounds > 2 && !self.losses.policed() && self.pace != Pace::Background {
            aim *= 1.0 + 0.1 * f64::from((self.idle_rounds - 2).min(2));
        }
        if aim > self.window && figures.peak < 0.75 * self.window {
            return;
        }
        if figures.limited && aim < self.window && self.queue < 1.5 * target {
            // Gaps in what was sent make the path look slower than it is.
            return;
        }
        self.window = aim.clamp(0.5 * self.window, most * self.window).min(MOST);
    }

    /// A fixed rate: the window follows the round trip, trimmed by what really went out.
    fn hold_rate(&mut self, rate: f64, figures: Figures) {
        let sent = figures.delivery_rate / (1.0 - figures.loss.min(0.9));
        if !figures.limited && sent > 0.0 && figures.peak > 0.75 * self.window {
            let step = (rate / sent).clamp(0.8, 1.25).sqrt();
            self.trim = (self.trim * step).clamp(0.7, 1.5);
        }
        let loss = figures.loss.min(0.5);
        let aim = rate * self.rtt * (1.0 + loss / 8.0) * self.trim;
        self.window = aim.min(rate * (self.base_rtt() + 2.0)).min(MOST);
    }
}
