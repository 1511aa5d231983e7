//! What a lane does about a queue that is not its own.

use super::*;

/// A queue that overflows so often is not only ours: on a path that loses little by itself, and on one that loses
/// much, where a clump of losses looks like it and comes as often without a queue.
const OVERFLOWS: u32 = 2;
const OVERFLOWS_LOSSY: u32 = 3;

/// It counts again after so many seconds, and what was before so many does not count.
const OVERFLOW_AGAIN: (f64, f64) = (0.5, 15.0);

/// For so many seconds after others were there the base is not taken for longer than it was.
const OTHERS_STAY: f64 = 30.0;

/// A round trip of this part of the way from the base to the longest that was seen speaks of a full queue.
const NEARLY_FULL: f64 = 0.75;

/// After so many rounds without a queue nobody else fills it.
const EMPTY: u32 = 8;

/// How often the queue overflowed though the lane took it for its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Overflows {
    count: u32,
    /// When it was counted last.
    at: f64,
}

impl Overflows {
    /// It has overflown. Says whether that makes so many times.
    fn again(&mut self, now: f64, enough: u32) -> bool {
        let past = now - self.at;
        if self.count > 0 && past < OVERFLOW_AGAIN.0 {
            return false;
        }
        self.count = if past > OVERFLOW_AGAIN.1 { 1 } else { self.count + 1 };
        self.at = now;
        self.count >= enough
    }

    /// As much was lost where the queue was not full: that takes one of them back.
    fn take_back(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

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
            self.phase = Phase::Beside(Compete::new(now, self.window, self.mtu, true));
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

    /// Whether the queue was about as long as it ever is, so that it may have overflown.
    fn nearly_full(&self, figures: Figures) -> bool {
        let base = self.floor.get().unwrap_or(figures.rtt_min).min(self.base_rtt());
        figures.rtt_mean.max(self.rtt_before) - base > NEARLY_FULL * (self.longest_rtt - base)
    }

    fn is_lossy(&self) -> bool {
        self.losses.lossy(self.carried * self.base_rtt() / self.mtu)
    }

    /// Whether a queue of ours overflows, which only others make it do, and what to do about it.
    pub(super) fn overflows(&mut self, now: f64, figures: Figures, target: f64) -> bool {
        let packets = f64::from(figures.packets) / (1.0 - figures.loss.min(0.9));
        if !self.losses.overflow(figures.loss, packets, self.mtu) {
            return false;
        }
        let base = self.floor.get().unwrap_or(f64::INFINITY).min(self.base_rtt());
        let long = figures.rtt_min.max(self.rtt_before - self.spread) - base > target;
        let lossy = self.is_lossy();
        if !long || !self.nearly_full(figures) {
            if lossy {
                self.overflows.take_back();
            }
            return false;
        }
        if !self.overflows.again(now, if lossy { OVERFLOWS_LOSSY } else { OVERFLOWS }) {
            return false;
        }
        self.overflows = Overflows::default();
        self.foreign = Foreign::default();
        // Half of what the path has carried is a fair part.
        self.window = 0.7 * self.window.max(0.5 * self.peak_rate * figures.rtt_mean);
        self.skip = 1;
        self.phase = Phase::Beside(Compete::new(now, self.window, self.mtu, false));
        true
    }

    pub(super) fn compete(&mut self, now: f64, figures: Figures, mut compete: Compete) {
        self.note_rate(figures.delivery_rate);
        self.beside_at = Some(now);
        let floor = self.floor.get().unwrap_or(figures.rtt_min);
        self.queue = (figures.rtt_min - floor).max(0.0);
        let mut excess =
            figures.loss > self.losses.path() + if self.losses.path() > 0.0 { 0.01 } else { 0.001 };
        self.losses.judge(now, self.window, self.mtu, Queue::Long);
        if compete.gone > 1 || !self.nearly_full(figures) {
            excess = false;
            self.losses.meet(figures.loss);
        }
        let next =
            compete.round(now, self.window, self.mtu, figures.rtt_min, floor + self.spread, excess);
        // Whoever takes loss for a full queue would hold none here.
        let nobody = compete.deep || self.is_lossy();
        match next {
            _ if nobody && self.queue < self.target() => self.alone(now, floor),
            _ if compete.gone > EMPTY => self.alone(now, floor),
            Next::Alone => self.alone(now, floor),
            Next::Window(window) => {
                if figures.peak >= 0.75 * self.window || window < self.window {
                    self.window = window.min(MOST);
                }
                self.phase = Phase::Beside(compete);
            }
        }
    }

    /// Whom the lane competed with may still hold a queue, which is not to be taken for the base.
    pub(super) fn keep_base(&mut self, now: f64) {
        let recent = self.beside_at.is_some_and(|then| now - then < OTHERS_STAY);
        if let Some(floor) = self.floor.get().filter(|floor| recent && *floor < self.base_rtt()) {
            self.base.restart(now, floor);
        }
    }

    pub(super) fn alone(&mut self, now: f64, floor: f64) {
        self.base.restart(now, floor);
        self.foreign = Foreign::default();
        let rate = self.delivery_rate;
        self.settle(now, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_overflows_again_and_again_is_not_only_ours() {
        let mut overflows = Overflows::default();
        assert!(!overflows.again(20.0, OVERFLOWS), "once");
        assert!(!overflows.again(20.3, OVERFLOWS), "too soon to be another time");
        assert!(overflows.again(21.0, OVERFLOWS));
        let mut overflows = Overflows::default();
        assert!(!overflows.again(20.0, OVERFLOWS));
        assert!(!overflows.again(36.0, OVERFLOWS), "too late to be of the same");
        assert!(overflows.again(37.0, OVERFLOWS));
    }

    #[test]
    fn where_much_is_lost_an_excess_without_a_queue_takes_an_overflow_back() {
        let enough = OVERFLOWS_LOSSY;
        let mut overflows = Overflows::default();
        assert!(!overflows.again(20.0, enough) && !overflows.again(21.0, enough));
        assert!(overflows.clone().again(22.0, enough));
        overflows.take_back();
        assert!(!overflows.again(22.0, enough) && overflows.again(23.0, enough));
        let mut overflows = Overflows::default();
        overflows.take_back();
        assert!(!overflows.again(20.0, enough), "there was none to take back");
        assert!(!overflows.again(21.0, enough) && overflows.again(22.0, enough));
    }
}
