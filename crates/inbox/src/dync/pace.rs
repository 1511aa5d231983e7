//! Holds an upload to the rate of its client's key.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What an upload has written and what of that its client has paid for with time: a chunk is told to be taken, so that its
/// client may send another, when it would have ended at the rate.
pub(super) struct Pace {
    max_rate_bytes_per_s: Option<u64>,
    paid_at: Option<Instant>,
    /// When each chunk is that has not been told of.
    held: VecDeque<Instant>,
}

impl Pace {
    /// At this rate, or at any.
    pub(super) fn new(max_rate_bytes_per_s: Option<u64>) -> Self {
        Self { max_rate_bytes_per_s, paid_at: None, held: VecDeque::new() }
    }

    /// A chunk was written.
    pub(super) fn wrote(&mut self, now: Instant, bytes: u64) {
        let from = self.paid_at.map_or(now, |paid_at| paid_at.max(now));
        let takes = self.max_rate_bytes_per_s.map_or(Duration::ZERO, |rate| time_of(bytes, rate));
        let paid_at = from + takes;
        self.paid_at = Some(paid_at);
        self.held.push_back(paid_at);
    }

    /// How many chunks are paid for by now and were not told of.
    pub(super) fn paid(&mut self, now: Instant) -> u32 {
        let mut chunks = 0;
        while self.held.front().is_some_and(|at| *at <= now) {
            self.held.pop_front();
            chunks += 1;
        }
        chunks
    }

    /// When all that was written is paid for.
    pub(super) fn paid_at(&self) -> Option<Instant> {
        self.paid_at
    }

    /// How many were not told of.
    pub(super) fn unpaid(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// When the next is paid for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.front().copied()
    }
}

/// How long so many bytes take; a chunk is small, and a rate has at least one byte a second.
fn time_of(bytes: u64, bytes_per_s: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_paid_for_at_the_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(Some(1000));
        for _ in 0..3 {
            pace.wrote(start, 500);
        }
        assert_eq!((pace.paid(at(499)), pace.due()), (0, Some(at(500))));
        assert_eq!((pace.paid(at(1000)), pace.due()), (2, Some(at(1500))));
        assert_eq!((pace.paid(at(1500)), pace.due()), (1, None));
        // Time that nobody used is not saved up.
        pace.wrote(at(9000), 500);
        pace.wrote(at(9000), 500);
        assert_eq!((pace.paid(at(9500)), pace.due()), (1, Some(at(10_000))));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(None);
        pace.wrote(now, u64::MAX);
        pace.wrote(now, u64::MAX);
        assert_eq!((pace.paid(now), pace.due()), (2, None));
    }
}
