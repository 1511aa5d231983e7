//! When a lane has fallen silent: packets go out and nothing comes back. That is long before any idle
//! timeout, and may pass; but it is the time to try whether the peer can be reached by another lane.

use std::time::Duration;

/// The least silence that is taken for one.
const LEAST: Duration = Duration::from_millis(1000);
/// The same in round trips, for paths that are long.
const TRIPS: u32 = 6;

/// Watches one lane's counts.
#[derive(Debug)]
pub(super) struct Silence {
    /// How many times longer than usual a silence must be.
    patience: u32,
    sent: u64,
    received: u64,
    /// When something went out after the last that came in.
    unanswered_since: Option<Duration>,
}

impl Silence {
    pub(super) fn new(patience: u32) -> Self {
        Self { patience, sent: 0, received: 0, unanswered_since: None }
    }

    /// Takes the bytes sent and received so far, at a time since any fixed moment. True while the lane
    /// is silent.
    pub(super) fn look(&mut self, now: Duration, sent: u64, received: u64, rtt: Duration) -> bool {
        if received != self.received {
            self.unanswered_since = None;
        } else if sent != self.sent {
            self.unanswered_since.get_or_insert(now);
        }
        (self.sent, self.received) = (sent, received);
        let limit = LEAST.max(rtt * TRIPS) * self.patience;
        self.unanswered_since.is_some_and(|since| now.saturating_sub(since) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_is_who_does_not_answer_not_who_is_not_asked() {
        let ms = Duration::from_millis;
        let mut silence = Silence::new(1);
        assert!(!silence.look(ms(0), 10, 10, ms(20)));
        // Nothing is sent and nothing comes: that is peace.
        assert!(!silence.look(ms(60_000), 10, 10, ms(20)));
        assert!(!silence.look(ms(60_100), 20, 10, ms(20)));
        assert!(!silence.look(ms(61_000), 30, 10, ms(20)));
        assert!(silence.look(ms(61_100), 30, 10, ms(20)));
        assert!(!silence.look(ms(61_200), 30, 11, ms(20)), "it has answered");
        // Over a satellite a second is no time.
        assert!(!silence.look(ms(61_300), 40, 11, ms(700)));
        assert!(!silence.look(ms(62_900), 40, 11, ms(700)));
        assert!(silence.look(ms(65_500), 40, 11, ms(700)));
    }

    /// Where leaving a silent lane has brought nothing, the next may be silent for longer.
    #[test]
    fn patience_makes_it_longer() {
        let ms = Duration::from_millis;
        let mut silence = Silence::new(4);
        assert!(!silence.look(ms(0), 10, 10, ms(20)));
        assert!(!silence.look(ms(100), 20, 10, ms(20)));
        assert!(!silence.look(ms(4000), 30, 10, ms(20)));
        assert!(silence.look(ms(4100), 30, 10, ms(20)));
    }
}
