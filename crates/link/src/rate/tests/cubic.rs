//! A TCP flow as it is usual, in virtual time: slow start, then CUBIC (RFC 9438).

use badlink::Nanos;

use super::sim::SECOND;

#[derive(Debug)]
pub(super) struct Cubic {
    pub(super) window: f64,
    pub(super) threshold: f64,
    pub(super) most: f64,
    pub(super) since: Option<Nanos>,
    pub(super) additive: f64,
    pub(super) recovery: Nanos,
}

impl Cubic {
    pub(super) fn acked(&mut self, now: Nanos) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let since = *self.since.get_or_insert(now);
        let age = (now - since) as f64 / SECOND as f64;
        let turn = (self.most * 0.3 / 0.4).cbrt();
        let aim = (0.4 * (age - turn).powi(3) + self.most).min(1.5 * self.window);
        self.additive += 0.53 / self.window;
        self.window += ((aim - self.window) / self.window).max(0.01 / self.window);
        self.window = self.window.max(self.additive);
    }

    pub(super) fn lost(&mut self, now: Nanos, sent: Nanos) {
        if sent <= self.recovery {
            return;
        }
        self.recovery = now;
        self.most = self.window;
        self.window = (self.window * 0.7).max(2.0);
        (self.threshold, self.additive, self.since) = (self.window, self.window, Some(now));
    }
}
