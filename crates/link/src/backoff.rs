//! When to dial again after a lane was lost, and when to stop trying.
//! It is pure: time is told to it as a duration since some fixed moment, and so is the random number
//! that spreads the reconnects of many peers.

use std::time::Duration;

use crate::Fault;

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct BackoffOptions {
    /// The first delay.
    pub first: Duration,
    /// The delay that doubling stops at.
    pub longest: Duration,
    /// How long after the last progress to give up.
    pub give_up_after: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(2),
            give_up_after: Duration::from_secs(120),
        }
    }
}

/// How the last attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing useful came of it: no lane, or a lane that ended before anything moved.
    Failed(Fault),
    /// A lane that had moved data was lost. The patience begins anew.
    LostAfterProgress(Fault),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Dial again after this long.
    Wait(Duration),
    /// Report the error.
    GiveUp,
}

/// The state of one series of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    options: BackoffOptions,
    attempts: u32,
    deadline: Option<Duration>,
}

impl Backoff {
    /// A series that has not failed yet.
    pub fn new(options: BackoffOptions) -> Self {
        Self { options, attempts: 0, deadline: None }
    }

    /// What to do after `outcome`, at `now`. `random` is any number; all its bits are used, so that
    /// a delay lies anywhere between half of the full one and the full one.
    pub fn next(&mut self, now: Duration, outcome: Outcome, random: u64) -> Step {
        let fault = match outcome {
            Outcome::Failed(fault) => fault,
            Outcome::LostAfterProgress(fault) => {
                self.attempts = 0;
                self.deadline = None;
                fault
            }
        };
        if !fault.is_transient() {
            return Step::GiveUp;
        }
        let deadline = *self.deadline.get_or_insert(now.saturating_add(self.options.give_up_after));
        let Some(left) = deadline.checked_sub(now).filter(|left| !left.is_zero()) else {
            return Step::GiveUp;
        };
        let delay = delay(self.options.first, self.options.longest, self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        // The last wait ends at the deadline, so that patience is never cut short by a long delay.
        Step::Wait(delay.min(left))
    }
}

/// The delay after `before` earlier ones: it doubles from `first` up to `longest`, and lies anywhere between half of
/// that and the whole, as `random` has it.
pub fn delay(first: Duration, longest: Duration, before: u32, random: u64) -> Duration {
    let full = first.saturating_mul(1 << before.min(31)).min(longest);
    let fraction = random as f64 / u64::MAX as f64;
    full.mul_f64(0.5 + fraction / 2.0).min(full)
}

#[cfg(test)]
mod tests;
