//! What a lane does about a queue that is not its own.

use super::*;

impl Control {
    /// Whether a queue stands that our window does not explain, and what to do about it: if it only stands,
    /// the path has become longer; one that moves is filled by somebody else.
    pub(super) fn foreign(&mut self, now: f64, figures: Figures) -> bool {
        let allowed = self.target_at(self.peak_rate);
        let (window, rate) = (self.window, self.peak_rate);
        let foreign = &mut self.foreign;
        if foreign.rounds == 0 {
            foreign.since = now;
            foreign.window = window;
            foreign.rate = rate;
            (foreign.least_rtt, foreign.most_rtt) = (f64::INFINITY, 0.0);
        }
        foreign.rounds += 1;
        // The first rounds still show what was under way before.
        if foreign.rounds > 2 {
            foreign.least_rtt = foreign.least_rtt.min(figures.rtt_min);
            foreign.most_rtt = foreign.most_rtt.max(figures.rtt_min);
        }
        let (rounds, seconds) = (foreign.rounds, now - foreign.since);
        if rounds < STANDS.0 || seconds < STANDS.1 {
            return false;
        }
        let (window, rate) = (foreign.window, foreign.rate);
        let stands = foreign.most_rtt - foreign.least_rtt < 0.2 * allowed + self.spread;
        if !stands || foreign.rebased.is_some_and(|then| now - then < BASE_FOR) {
            if rounds < FILLED_BY_OTHERS.0 || seconds < FILLED_BY_OTHERS.1 {
                return false;
            }
            self.foreign = Foreign::default();
            // Half of what the path has carried is a fair part until the losses say more.
            self.window = self.window.max(window).max(0.5 * rate * figures.rtt_mean);
            self.phase = Phase::Beside(Compete::new(now, self.window, self.mtu));
            return true;
        }
        foreign.rounds = 0;
        foreign.rebased = Some(now);
        let rtt = foreign.least_rtt;
        self.base.restart(now, rtt);
        self.window = self.window.max(0.9 * self.window_for(rate, allowed));
        self.skip = 1;
        true
    }

    pub(super) fn compete(&mut self, now: f64, figures: Figures, mut compete: Compete) {
        self.note_rate(figures.delivery_rate);
        let floor = self.floor.get().unwrap_or(figures.rtt_min);
        self.queue = (figures.rtt_min - floor).max(0.0);
        let excess =
            figures.loss > self.losses.path() + if self.losses.path() > 0.0 { 0.01 } else { 0.001 };
        self.losses.judge(now, self.window, self.mtu, Queue::Long);
        let next = compete.round(now, self.window, self.mtu, figures.rtt_min, excess);
        match next {
            _ if self.queue < self.target() => self.alone(now, floor),
            Next::Alone => self.alone(now, floor),
            Next::Window(window) => {
                if figures.peak >= 0.75 * self.window || window < self.window {
                    self.window = window.min(MOST);
                }
                self.phase = Phase::Beside(compete);
            }
        }
    }

    pub(super) fn alone(&mut self, now: f64, floor: f64) {
        self.base.restart(now, floor);
        self.foreign = Foreign::default();
        let rate = self.delivery_rate;
        self.settle(now, rate);
    }
}
