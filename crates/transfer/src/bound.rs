//! What holds a transfer back, found from what its loop waits for and from what the link says of itself.
//! Pure: times come from the caller, as durations since any fixed start. The verdict looks back over
//! about a second and does not flicker: another wait must be longer than the present one by a margin.

use std::collections::VecDeque;
use std::time::Duration;

use events::{Bound, BoundKind};
use link::{LaneKind, LaneStats};

/// How far the verdict looks back.
const WINDOW: Duration = Duration::from_secs(1);
/// The most laps kept, however often they come.
const MOST_LAPS: usize = 64;
/// By which share of the window another wait must be longer than the present one.
const MARGIN: f64 = 0.1;
/// A thread or all cores are busy from this share on.
const BUSY: f64 = 0.9;
/// The machine has no time left, from this share on.
const FULL: f64 = 0.95;
/// On such a machine a program that uses this share of it is held back by the others, and one that uses
/// little is not.
const PART: f64 = 0.3;
/// Data waited for a window or a buffer for so much of the time that it is what counts.
const MOST_OF_THE_TIME: f64 = 0.4;
/// Loss below this costs less than what it takes to say so.
const NOTABLE_LOSS: f64 = 0.005;
/// A queue below this is no queue: schedulers alone make such delays.
const LEAST_QUEUE: Duration = Duration::from_millis(10);
/// Payload that is under way at any rate, however short the round trip: two chunks.
const LEAST_FLIGHT: u64 = 2 << 20;

/// What a loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The source: the walk has nothing that could be offered.
    Walk,
    /// The source: what is to be sent is being read.
    Read,
    /// The source: what was read waits for the link.
    Link,
    /// The source: all that the credit allows is on the wire.
    Window,
    /// The source: all that the credit allows has arrived, and is not stored.
    Credit,
    /// The source: the answer to what was offered or asked.
    Answers,
    /// Either: a rate that somebody set.
    Limit,
    /// The target: what has arrived waits for the disk.
    Store,
    /// The target: something that the source sends.
    Source,
    /// Either: all is there, and is being finished.
    Finishing,
}

const WAITS: usize = Wait::Finishing as usize + 1;

/// What is known of the link; times and counts are totals since any fixed start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Whether it is TCP.
    pub is_tcp: bool,
    /// Smoothed round trip.
    pub rtt: Duration,
    /// The smallest round trip seen.
    pub min_rtt: Duration,
    /// How long packets wait in queues on the way.
    pub queue_delay: Duration,
    /// Bytes per second that were acknowledged lately; 0 where it is not measured.
    pub delivery_rate: u64,
    /// The share of packets that the path loses, of late.
    pub path_loss: f64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets lost.
    pub lost_packets: u64,
    /// Whether something drops what is above a rate.
    pub policed: bool,
    /// For how long the peer's window held data back.
    pub peer_limited: Duration,
    /// For how long the send buffer held data back.
    pub buffer_limited: Duration,
    /// For how long there was something to send.
    pub busy: Duration,
}

impl From<&LaneStats> for Link {
    fn from(stats: &LaneStats) -> Self {
        Self {
            is_tcp: stats.kind == LaneKind::Tcp,
            rtt: stats.rtt,
            min_rtt: stats.min_rtt,
            queue_delay: stats.queue_delay,
            delivery_rate: stats.delivery_rate,
            path_loss: stats.path_loss,
            sent_packets: stats.sent_packets,
            lost_packets: stats.lost_packets,
            policed: stats.policed,
            peer_limited: stats.peer_limited,
            buffer_limited: stats.buffer_limited,
            busy: stats.busy,
        }
    }
}

/// Processor time used, as totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// By the whole process.
    pub process: Duration,
    /// By the thread that the loop and the link run on, and in waiting for a core; the same as before if
    /// that is not known.
    pub thread: Duration,
    /// Cores that the process may use.
    pub cores: u32,
    /// By all programs of the machine, and all that its cores had; both 0 where the system does not say.
    pub machine: (Duration, Duration),
}

/// What a loop counts. All but `limit` and `unfinished` are totals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Payload bytes read from the disk (source).
    pub read: u64,
    /// Payload bytes that the link has carried.
    pub carried: u64,
    /// Payload bytes that the target has stored.
    pub stored: u64,
    /// Entries found (source).
    pub entries: u64,
    /// Entries without an outcome, now.
    pub unfinished: u64,
    /// The rate that somebody set, or 0.
    pub limit: u64,
    /// Processor time.
    pub cpu: Cpu,
    /// The link.
    pub link: Link,
}

/// Which end asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that has the data.
    Source,
    /// The one that gets it.
    Target,
}

/// One piece of the window.
#[derive(Debug, Clone, Copy)]
struct Lap {
    end: Duration,
    waits: [Duration; WAITS],
    figures: Figures,
}

/// Finds the bound of one transfer on one lane.
#[derive(Debug)]
pub struct Meter {
    side: Side,
    wait: Wait,
    since: Duration,
    waits: [Duration; WAITS],
    laps: VecDeque<Lap>,
    /// The wait that the last verdict was about.
    main: Option<Wait>,
    /// What the other end says.
    told: Bound,
    /// The last verdict only repeats what the other end says.
    repeats: bool,
    rate: f64,
}

impl Meter {
    /// A meter that begins at `now`.
    pub fn new(side: Side, now: Duration) -> Self {
        let wait = if side == Side::Source { Wait::Answers } else { Wait::Source };
        Self {
            side,
            wait,
            since: now,
            waits: [Duration::ZERO; WAITS],
            laps: VecDeque::new(),
            main: None,
            told: Bound::default(),
            repeats: false,
            rate: 0.0,
        }
    }

    /// The present wait, to be held against the next one before a clock is read.
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// From now on the loop waits for this.
    pub fn waits(&mut self, now: Duration, wait: Wait) {
        self.waits[self.wait as usize] += now.saturating_sub(self.since);
        self.since = now.max(self.since);
        self.wait = wait;
    }

    /// The other end says what holds it back.
    pub fn told(&mut self, bound: Bound) {
        self.told = bound;
    }

    /// What the other end should hear of the last verdict: nothing of what it has said itself.
    pub fn news(&self, verdict: Bound) -> Bound {
        if self.repeats { Bound::default() } else { verdict }
    }

    /// Payload that is on the wire when the link is neither full nor empty: what lies beyond waits.
    pub fn flight(&self, rtt: Duration) -> u64 {
        LEAST_FLIGHT.saturating_add((2.0 * self.rate * rtt.as_secs_f64()) as u64)
    }

    /// The share of the last lap in which one of these was waited for.
    pub fn lap_share(&self, waits: &[Wait]) -> f64 {
        let Some(last) = self.laps.back() else { return 0.0 };
        let all: Duration = last.waits.iter().sum();
        let part: Duration = waits.iter().map(|wait| last.waits[*wait as usize]).sum();
        if all.is_zero() { 0.0 } else { part.as_secs_f64() / all.as_secs_f64() }
    }

    /// Ends a lap, with the figures as they are now, and gives the verdict.
    pub fn tick(&mut self, now: Duration, figures: Figures) -> Bound {
        self.waits(now, self.wait);
        let waits = std::mem::replace(&mut self.waits, [Duration::ZERO; WAITS]);
        self.laps.push_back(Lap { end: now, waits, figures });
        // The lap before the window stays: what is counted is the difference to its end.
        while self.laps.len() > MOST_LAPS
            || self.laps.get(1).is_some_and(|lap| lap.end + WINDOW <= now)
        {
            self.laps.pop_front();
        }
        let Some((first, rest)) = self.laps.make_contiguous().split_first() else {
            return Bound::default();
        };
        let span = Span {
            seconds: now.saturating_sub(first.end).as_secs_f64(),
            before: first.figures,
            now: figures,
        };
        if rest.is_empty() || span.seconds <= 0.0 {
            return Bound::default();
        }
        let mut sums = [0.0; WAITS];
        for lap in rest {
            for (sum, wait) in sums.iter_mut().zip(lap.waits) {
                *sum += wait.as_secs_f64() / span.seconds;
            }
        }
        self.rate = span.rate(|figures| figures.carried);
        let present = self.main.map_or(0.0, |wait| sums[wait as usize]);
        let longest =
            ALL.into_iter().max_by(|a, b| sums[*a as usize].total_cmp(&sums[*b as usize]));
        let longest = longest.filter(|wait| sums[*wait as usize] > present + MARGIN);
        if let Some(wait) = longest {
            self.main = Some(wait);
        }
        let Some(main) = self.main else { return Bound::default() };
        let verdict = self.verdict(main, &sums, &span);
        self.repeats = main == Wait::Source && (span.busy_cpu().is_none() || self.is_limited(main));
        verdict
    }

    /// Whether a rate that was set at either end is the reason: without it more would move, however
    /// busy the processor is.
    fn is_limited(&self, wait: Wait) -> bool {
        let by_other_end = matches!(wait, Wait::Credit | Wait::Window | Wait::Source);
        wait == Wait::Limit || (by_other_end && self.told.kind == BoundKind::Limit)
    }

    fn verdict(&self, wait: Wait, sums: &[f64; WAITS], span: &Span) -> Bound {
        let now = &span.now;
        let own_cpu = match self.side {
            Side::Source => BoundKind::SourceCpu,
            Side::Target => BoundKind::TargetCpu,
        };
        if let Some(thousandths) = span.busy_cpu().filter(|_| !self.is_limited(wait)) {
            return Bound::new(own_cpu, thousandths);
        }
        let said = |kinds: &[BoundKind]| kinds.contains(&self.told.kind).then_some(self.told);
        match wait {
            Wait::Walk => bound(BoundKind::Walk, span.rate(|figures| figures.entries)),
            Wait::Read => bound(BoundKind::SourceDisk, span.rate(|figures| figures.read)),
            Wait::Limit => Bound::new(BoundKind::Limit, now.limit),
            // A peer that has no time to empty its socket looks like a bad path from here.
            Wait::Link | Wait::Window if self.told.kind == BoundKind::TargetCpu => self.told,
            Wait::Link => span.link_verdict(),
            Wait::Window => said(&[BoundKind::Limit]).unwrap_or_else(|| {
                let share = sums[Wait::Window as usize].min(1.0);
                bound(BoundKind::PeerWindow, share * 1000.0)
            }),
            Wait::Credit => said(&[BoundKind::TargetCpu, BoundKind::Limit, BoundKind::TargetDisk])
                .unwrap_or_else(|| {
                    bound(BoundKind::TargetDisk, span.rate(|figures| figures.stored))
                }),
            Wait::Answers => said(&[BoundKind::TargetCpu, BoundKind::TargetDisk])
                .unwrap_or_else(|| Bound::new(BoundKind::RoundTrips, micros(now.link.rtt))),
            Wait::Store => bound(BoundKind::TargetDisk, span.rate(|figures| figures.stored)),
            Wait::Source => self.told,
            Wait::Finishing => Bound::new(BoundKind::Finishing, now.unfinished),
        }
    }
}

const ALL: [Wait; WAITS] = [
    Wait::Walk,
    Wait::Read,
    Wait::Link,
    Wait::Window,
    Wait::Credit,
    Wait::Answers,
    Wait::Limit,
    Wait::Store,
    Wait::Source,
    Wait::Finishing,
];

/// The figures at both ends of a time.
#[derive(Debug, Clone, Copy)]
struct Span {
    seconds: f64,
    before: Figures,
    now: Figures,
}

impl Span {
    /// How fast a total has grown.
    fn rate(&self, total: impl Fn(&Figures) -> u64) -> f64 {
        total(&self.now).saturating_sub(total(&self.before)) as f64 / self.seconds
    }

    /// The share of the time by which a total of times has grown.
    fn share(&self, total: impl Fn(&Figures) -> Duration) -> f64 {
        total(&self.now).saturating_sub(total(&self.before)).as_secs_f64() / self.seconds
    }

    /// Thousandths of a core in use, if the processor is what everything waits for: all its cores, by this
    /// program or with others, or the one that the loop's thread has.
    fn busy_cpu(&self) -> Option<u64> {
        let process = self.share(|figures| figures.cpu.process);
        let thread = self.share(|figures| figures.cpu.thread);
        let cores = f64::from(self.now.cpu.cores.max(1));
        let machine = self.share(|figures| figures.cpu.machine.0);
        let all = self.share(|figures| figures.cpu.machine.1);
        let is_full = machine > 0.0 && machine >= FULL * all && process >= PART * cores;
        let used = if is_full { machine } else { process.max(thread.min(1.0)) };
        (is_full || thread >= BUSY || process >= BUSY * cores).then_some((used * 1000.0) as u64)
    }

    /// What of the link it is.
    fn link_verdict(&self) -> Bound {
        let link = &self.now.link;
        if link.is_tcp {
            let busy = self.share(|figures| figures.link.busy).max(f64::MIN_POSITIVE);
            let peer = self.share(|figures| figures.link.peer_limited);
            let buffer = self.share(|figures| figures.link.buffer_limited);
            for (kind, waited) in [(BoundKind::PeerWindow, peer), (BoundKind::SocketBuffer, buffer)]
            {
                let share = (waited / busy).min(1.0);
                if share >= MOST_OF_THE_TIME {
                    return bound(kind, share * 1000.0);
                }
            }
        }
        let rate = match link.delivery_rate {
            0 => self.rate(|figures| figures.carried),
            measured => measured as f64,
        };
        if link.policed {
            return bound(BoundKind::Policer, rate);
        }
        let sent = self.rate(|figures| figures.link.sent_packets);
        let lost = self.rate(|figures| figures.link.lost_packets);
        let of_late = if sent > 0.0 { (lost / sent).min(1.0) } else { 0.0 };
        let loss = link.path_loss.max(of_late);
        // Loss beside a standing queue is that queue overflowing: then the path is full.
        if loss >= NOTABLE_LOSS && !is_standing_queue(link.queue_delay, link.min_rtt) {
            return bound(BoundKind::PathLoss, loss * 1e6);
        }
        bound(BoundKind::Path, rate)
    }
}

/// Whether packets wait for so long on the way that the path is full, and what it loses is what overflows.
pub fn is_standing_queue(delay: Duration, min_rtt: Duration) -> bool {
    delay >= LEAST_QUEUE.max(min_rtt / 2)
}

fn bound(kind: BoundKind, figure: f64) -> Bound {
    // A cast of a float saturates.
    Bound::new(kind, figure as u64)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// When the other end is to be told of the bound: at most once in a second, and then only if there is
/// something to tell.
#[derive(Debug, Default)]
pub struct Teller {
    last: Option<(Duration, Bound)>,
}

impl Teller {
    /// What to tell at `now`, when this is the bound.
    pub fn next(&mut self, now: Duration, bound: Bound) -> Option<Bound> {
        let due = match self.last {
            None => bound.kind != BoundKind::Unknown,
            Some((then, _)) if now < then + WINDOW => false,
            Some((_, told)) => told.kind != bound.kind || is_far(told.figure, bound.figure),
        };
        due.then(|| self.last.insert((now, bound)).1)
    }
}

/// Whether a figure differs by more than a tenth from the one that was told.
fn is_far(told: u64, now: u64) -> bool {
    told.abs_diff(now) > told / 10
}

#[cfg(test)]
mod tests;
