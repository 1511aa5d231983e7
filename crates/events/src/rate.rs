//! How fast bytes arrive and how long the rest will take, over a sliding window.
//!
//! Pure: times are durations since any fixed start, given by the caller. Samples closer together
//! than a fiftieth of the window are merged, so about a hundred are the most that it ever holds.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples that a window is divided into.
const SAMPLES: u32 = 50;

/// The rate of a growing total.
#[derive(Clone, Debug)]
pub struct Rate {
    window: Duration,
    /// Times and totals, oldest first; the first is the last one at or before the window's start.
    samples: VecDeque<(Duration, u64)>,
}

impl Default for Rate {
    fn default() -> Self {
        Self::new(Duration::from_secs(5))
    }
}

impl Rate {
    /// Looks back over `window`.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes in that the total is `total` at `now`. Neither may go back; if one does, the window
    /// starts afresh.
    pub fn observe(&mut self, now: Duration, total: u64) {
        if self.samples.back().is_some_and(|&(at, old)| now < at || total < old) {
            self.samples.clear();
        }
        // The last sample moves forward until it is a step away from the one before it.
        if let [.., (before, _), last] = self.samples.make_contiguous()
            && now - *before < self.window / SAMPLES
        {
            *last = (now, total);
        } else {
            self.samples.push_back((now, total));
        }
        let start = now.saturating_sub(self.window);
        while self.samples.get(1).is_some_and(|&(at, _)| at <= start) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window up to `now`, which may be later than the last sample: a
    /// transfer that has stopped is seen to slow down. Zero until there are two samples.
    #[must_use]
    pub fn bytes_per_s(&self, now: Duration) -> f64 {
        let (Some(&(_, first_total)), Some(&(last_at, last_total))) =
            (self.samples.front(), self.samples.back())
        else {
            return 0.0;
        };
        let start = now.saturating_sub(self.window);
        // The total at the window's start lies between two samples, or is the oldest one.
        let mut from = (self.samples[0].0.max(start), first_total as f64);
        for (&(at, total), &(next_at, next_total)) in
            self.samples.iter().zip(self.samples.iter().skip(1))
        {
            if at <= start && start < next_at {
                let part = (start - at).as_secs_f64() / (next_at - at).as_secs_f64();
                from = (start, total as f64 + part * (next_total - total) as f64);
            }
        }
        if last_at <= start {
            return 0.0;
        }
        let span = now.max(last_at).saturating_sub(from.0).as_secs_f64();
        if span > 0.0 { (last_total as f64 - from.1) / span } else { 0.0 }
    }

    /// How long `bytes` will take at the present rate; `None` while nothing moves.
    #[must_use]
    pub fn time_left(&self, now: Duration, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_s(now);
        if bytes == 0 {
            return Some(Duration::ZERO);
        }
        if rate <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(bytes as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests;
