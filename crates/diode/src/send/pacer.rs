//! How much may go out now: credit that grows with time at the rate that was asked for, and is not saved up.

use std::time::Duration;

/// Credit is saved for so long: a thread that slept too long makes up for it, and no longer pause becomes a burst.
const SAVED: Duration = Duration::from_millis(2);

/// And for one call's worth of frames at least, however slow the link.
const LEAST_SAVED: f64 = 1500.0;

/// Times are since any start.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    bytes_per_s: f64,
    credit: f64,
    at: Duration,
}

impl Pacer {
    /// Begins with no credit saved. The rate is in bytes a second.
    pub(crate) fn new(rate: u64, now: Duration) -> Self {
        Self { bytes_per_s: rate.max(1) as f64, credit: 0.0, at: now }
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&mut self, rate: u64, now: Duration) {
        self.refill(now);
        self.bytes_per_s = rate.max(1) as f64;
    }

    /// Whether something may go out: there is no debt.
    pub(crate) fn may_send(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.credit >= 0.0
    }

    /// So many bytes went out; they may be more than there was credit for.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.credit -= bytes as f64;
    }

    /// How long until something may go out.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs_f64((-self.credit / self.bytes_per_s).clamp(0.0, 3600.0))
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = (self.bytes_per_s * SAVED.as_secs_f64()).max(LEAST_SAVED);
        self.credit = (self.credit + passed * self.bytes_per_s).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_rate_is_kept_whatever_the_steps() {
        for (rate, step_us) in [(125_000_000, 70), (125_000_000, 900), (12_500, 1700), (1, 999)] {
            let mut pacer = Pacer::new(rate, Duration::ZERO);
            let (mut now, mut sent) = (Duration::ZERO, 0_u64);
            while now < Duration::from_secs(10) {
                while pacer.may_send(now) {
                    pacer.sent(1500);
                    sent += 1500;
                }
                now += Duration::from_micros(step_us);
            }
            let expected = rate * 10;
            assert!(sent.abs_diff(expected) <= rate / 100 + 4500, "{sent} of {expected}");
        }
    }

    #[test]
    fn a_pause_is_made_up_for_a_moment_only() {
        let mut pacer = Pacer::new(1_000_000, Duration::ZERO);
        assert!(pacer.may_send(5000 * MS));
        let mut burst = 0;
        while pacer.may_send(5000 * MS) {
            pacer.sent(100);
            burst += 100;
        }
        assert!((2000..=2100).contains(&burst), "{burst}");
        assert!(pacer.wait() > Duration::ZERO && pacer.wait() <= MS);
        pacer.set_rate(10, 5000 * MS);
        assert!(pacer.wait() > Duration::from_secs(1));
    }
}
