//! Whether the queue that is seen is our own. Now and then the lane lets it run empty for a round trip. A queue
//! of our own goes then, and shows the base round trip. One that stays is held by others, or is none: then
//! the base was measured too short, and the lane would wear down. So it sends half as much again for a moment: if
//! all of that arrives and nothing takes longer, the path has room, and its base is what is seen.

use super::*;

/// How often the queue is drained, in seconds; and how soon after the start, or where the rate has fallen to this
/// share of what it was when a queue was last seen to go.
const DRAIN_EVERY: f64 = 5.0;
const EARLY_DRAIN: f64 = 0.5;
const FALLEN: f64 = 0.8;

/// After a probe that found no room none follows for so many seconds: at first, and at most. It doubles each time, until
/// a queue goes.
const TRUST: (f64, f64) = (1.0, 16.0);

/// How much is sent to see whether there is room, and the share of that which must arrive.
const PROBE: f64 = 1.5;
const ARRIVES: f64 = 1.3;

/// Where the lane has had this many times as much, a probe that brings this many times more, and this share of
/// what it had, has found room too, even if the round trip grows: the path is full again then. What it had may have
/// been its part beside others, of which a probe brings as much back: then their queue passes for the path's length.
const CARRIED: f64 = 1.15;
const RISES: f64 = 1.12;
const REGAINED: f64 = 0.85;

/// What is known about the queue, and what is being found out.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    drain: Option<Drain>,
    probe: Option<Probe>,
    /// When the queue was drained last, or the start ended.
    pub(super) last: f64,
    /// Whether it was not drained since the lane began, or since there was found to be room.
    first: bool,
    /// No probe before this.
    quiet_until: f64,
    /// For how long the last probe that found no room kept others away.
    trust: f64,
    /// The highest rate since a queue was last seen to go.
    peak: f64,
    /// About the shortest round trip of the last rounds.
    rtt: f64,
}

#[derive(Debug, Clone)]
struct Drain {
    until: f64,
    back: f64,
    /// The round trip and the queue before.
    rtt: f64,
    queue: f64,
    low: f64,
    over: bool,
}

#[derive(Debug, Clone)]
struct Probe {
    window: f64,
    rate: f64,
    rounds: u32,
}

impl Default for Proof {
    fn default() -> Self {
        let (drain, probe, first) = (None, None, true);
        Self { drain, probe, last: 0.0, first, quiet_until: 0.0, trust: 0.0, peak: 0.0, rtt: 0.0 }
    }
}

impl Proof {
    /// The window that comes back when the queue has had time to run empty.
    pub(super) fn refill(&mut self, now: f64) -> Option<f64> {
        let drain = self.drain.as_mut().filter(|drain| !drain.over && now >= drain.until)?;
        drain.over = true;
        Some(drain.back)
    }
}

impl Control {
    /// Lets the queue run empty for a round trip, so that the base is not taken for longer than it is.
    pub(super) fn maybe_drain(&mut self, now: f64, target: f64) {
        let past = now - self.proof.last;
        let mut lately = self.rates.iter().rev().take(4);
        let fallen = lately.all(|rate| *rate < FALLEN * self.proof.peak);
        self.proof.peak = self.proof.peak.max(self.delivery_rate);
        let asks = fallen && now >= self.proof.quiet_until;
        let soon = (asks || self.proof.first) && past >= EARLY_DRAIN;
        if self.losses.testing() || !(soon || past >= DRAIN_EVERY) {
            return;
        }
        if self.queue < 0.3 * target {
            if past >= DRAIN_EVERY {
                self.proof.last = now;
            }
            return;
        }
        self.proof.last = now;
        self.proof.first = false;
        self.proof.drain = Some(Drain {
            until: now + self.rtt + self.queue + 0.002,
            back: self.window,
            rtt: self.proof.rtt,
            queue: self.queue,
            low: f64::INFINITY,
            over: false,
        });
        self.window = 0.92 * self.window_for(self.delivery_rate, 0.0);
        self.skip = 1;
        self.idle_rounds = 0;
    }

    /// Takes back what a drain or a probe did to the window.
    pub(super) fn end_proof(&mut self, now: f64) {
        self.proof.last = now;
        (self.proof.drain, self.proof.probe, self.proof.rtt) = (None, None, 0.0);
    }

    /// The end of a round while something is being found out. Says whether the round is of no other use.
    pub(super) fn prove(&mut self, now: f64, figures: Figures) -> bool {
        if let Some(mut drain) = self.proof.drain.take() {
            drain.low = drain.low.min(figures.rtt_min);
            if !drain.over || self.skip > 0 {
                self.skip = self.skip.saturating_sub(u32::from(drain.over));
                self.proof.drain = Some(drain);
                return true;
            }
            // One that grows meanwhile proves nothing.
            let fell = drain.rtt - drain.low;
            let stayed = fell < 0.4 * drain.queue && -fell < 0.2 * drain.queue + 0.002;
            if fell >= 0.4 * drain.queue {
                (self.proof.quiet_until, self.proof.trust) = (0.0, 0.0);
                self.proof.peak = self.delivery_rate;
            }
            if stayed && now >= self.proof.quiet_until && self.pace != Pace::Background {
                let rate = self.rates.iter().rev().take(3).copied().fold(0.0, f64::max);
                self.proof.probe = Some(Probe { window: self.window, rate, rounds: 0 });
                self.window = (PROBE * self.window).min(MOST);
                return true;
            }
            return false;
        }
        let Some(mut probe) = self.proof.probe.take() else {
            self.proof.rtt += 0.4 * (figures.rtt_min - self.proof.rtt);
            if self.proof.rtt < 0.5 * figures.rtt_min {
                self.proof.rtt = figures.rtt_min;
            }
            return false;
        };
        self.losses.judge(now, self.window, self.mtu, Queue::Long);
        probe.rounds += 1;
        let rate = figures.delivery_rate;
        let regained = self.carried > CARRIED * probe.rate
            && rate > RISES * probe.rate
            && rate > REGAINED * self.carried;
        if probe.rounds >= 2 && regained {
            self.found_room(now, self.proof.rtt);
            self.settle(now, rate);
            return true;
        }
        let longer = figures.rtt_min > 1.05 * self.proof.rtt + 0.001;
        if longer || (probe.rounds >= 3 && rate < ARRIVES * probe.rate) {
            self.window = probe.window;
            self.skip = 1;
            self.proof.trust = (2.0 * self.proof.trust).clamp(TRUST.0, TRUST.1);
            self.proof.quiet_until = now + self.proof.trust;
            return true;
        }
        if probe.rounds < 2 || rate < ARRIVES * probe.rate {
            self.proof.probe = Some(probe);
            return true;
        }
        self.found_room(now, self.proof.rtt.min(figures.rtt_min));
        self.phase = Phase::Start { rounds: 1, flat: 0, before: probe.rate };
        true
    }

    /// What was taken for a queue is the path's own length.
    fn found_room(&mut self, now: f64, rtt: f64) {
        self.base.restart(now, rtt);
        self.floor.restart(now, rtt);
        self.queue = 0.0;
        self.proof.first = true;
        self.foreign = Foreign::default();
    }
}
