//! How a lane begins: with a flight that fits its round trip, doubling until the path is full; or with the
//! rate that an earlier lane learnt.

use super::*;

impl Control {
    /// How much of the path is taken.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The remembered rate that it began with, in bytes per second: None before the first round-trip time is
    /// known, and where the path turned out to be another than the one that is remembered.
    pub fn began_with(&self) -> Option<u64> {
        let began = !matches!(self.phase, Phase::Blind);
        self.known.filter(|_| began).map(|known| known.rate_bytes_per_s)
    }

    /// The first round-trip time is known.
    pub(super) fn begin(&mut self, now: f64, rtt: f64) {
        self.round = Round::new(now);
        self.proof.last = now;
        self.rtt = rtt;
        if let Pace::Fixed(rate) = self.pace {
            self.known = None;
            self.window = rate as f64 * rtt;
            self.phase = Phase::Follow;
            return;
        }
        let near = |known: &PathMemory| {
            let base = known.base_rtt.as_secs_f64();
            rtt > 0.5 * base && rtt < 1.3 * base + 0.005
        };
        self.known = self.known.filter(near);
        if let Some(known) = self.known {
            self.losses = Losses::expecting(known.loss);
            self.delivery_rate = known.rate_bytes_per_s as f64;
            let base = known.base_rtt.as_secs_f64();
            self.base.restart(now, base.max(rtt.min(1.1 * base)));
            self.window = self.window_for(REMEMBERED * self.delivery_rate, self.target());
            self.phase = Phase::Resume { rounds: 0 };
            return;
        }
        let (rate, least, most) = FIRST;
        let first = (rate * rtt).clamp(least, most);
        self.window = if self.pace == Pace::Background { first / 4.0 } else { first };
        self.phase = Phase::Start { rounds: 0, flat: 0, before: 0.0 };
    }

    /// Looks for a queue within a round, while the start may overshoot.
    pub(super) fn watch(&mut self, now: f64, rtt: f64) {
        if !self.starting() {
            return;
        }
        let batch = &mut self.batch;
        if batch.count == 0 {
            batch.min = f64::INFINITY;
        }
        batch.min = batch.min.min(rtt);
        batch.count += 1;
        if batch.count < 8 {
            return;
        }
        let shortest = batch.min;
        batch.count = 0;
        if self.base.get().is_none() {
            return;
        }
        let queue = shortest - self.base_rtt();
        let most = match self.pace {
            Pace::Background => 2.0 * self.target(),
            Pace::Fair | Pace::Fixed(_) => (self.base_rtt() / 8.0).max(0.006),
        } + self.spread.min(self.base_rtt() / 4.0);
        if queue <= most {
            self.batch.high = None;
            return;
        }
        // What arrives all at once only shows that this machine was busy.
        let since = *self.batch.high.get_or_insert(now);
        if now - since > (self.base_rtt() / 16.0).clamp(0.001, 0.01) {
            self.queue = queue;
            let rate = self.recent.rate().max(self.round_rate(now));
            self.settle(now, rate);
        }
    }

    /// The rate at which acknowledgements came in during this round so far.
    pub(super) fn round_rate(&self, now: f64) -> f64 {
        // Only a finished round can be trusted to hold more than a burst.
        self.round.finish(now, -1.0).map_or(0.0, |figures| figures.delivery_rate)
    }

    /// The start is over: the path delivers `rate`.
    pub(super) fn settle(&mut self, now: f64, rate: f64) {
        self.phase = Phase::Follow;
        self.batch = Batch::default();
        self.end_proof(now);
        self.idle_rounds = 0;
        if rate > 0.0 {
            self.delivery_rate = rate;
            self.window = self.window_for(rate, self.target()).min(self.window);
        }
        // The round that is running mixes both.
        self.skip = 1;
    }

    pub(super) fn end_start_round(
        &mut self,
        now: f64,
        figures: Figures,
        rounds: u32,
        flat: u32,
        before: f64,
    ) {
        let rate = figures.delivery_rate;
        self.delivery_rate = self.delivery_rate.max(rate);
        let packets = f64::from(figures.packets);
        let growing = rate > 1.5 * before && figures.loss < 0.2;
        if growing && self.queue < self.target() {
            // While delivery still doubles, what is lost is the path's own.
            self.losses.learn(self.mtu);
        } else if figures.loss > 0.05 && self.losses.excess(figures.loss, packets) {
            self.losses.doubt();
            return self.settle(now, rate);
        }
        let flat = if figures.limited || rate >= 1.25 * before { 0 } else { flat + 1 };
        if flat >= 2 {
            self.losses.doubt();
            return self.settle(now, rate);
        }
        self.phase = Phase::Start { rounds: rounds + 1, flat, before: rate.max(before) };
    }

    pub(super) fn end_resume_round(&mut self, now: f64, figures: Figures, rounds: u32) {
        let packets = f64::from(figures.packets);
        if self.losses.excess(figures.loss, packets) && figures.loss > 0.05 {
            return self.settle(now, figures.delivery_rate);
        }
        // The first round began before the window was full.
        if rounds >= 1 {
            self.phase = Phase::Follow;
            return self.follow(now, figures);
        }
        self.phase = Phase::Resume { rounds: rounds + 1 };
    }
}
