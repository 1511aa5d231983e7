//! What keeps the source from reading and sending more, for whoever says what holds a transfer back.

use super::{MAX_JOBS, Source};
use crate::bound::Wait;

impl Source {
    /// What it waits for when it has been asked for all outputs. `unsent` is payload that was given to
    /// the link and is not acknowledged, `flight` how much of that is on the wire rather than waiting.
    pub fn waits_for(&self, unsent: u64, flight: u64) -> Wait {
        if !self.ready {
            return Wait::Answers;
        }
        if self.held || unsent > flight {
            return Wait::Link;
        }
        let wanted = !self.small.is_empty() || !self.big.is_empty() || !self.compare.is_empty();
        let on_its_way = self.used.saturating_sub(self.stored);
        if wanted && self.jobs < MAX_JOBS {
            // More could be read, so it is the credit that is used up: by what is on the wire, or by
            // what has arrived and is not stored.
            return if unsent > 0 && unsent >= on_its_way / 2 {
                Wait::Window
            } else {
                Wait::Credit
            };
        }
        if self.jobs > 0 {
            return Wait::Read;
        }
        if !self.finished_walk && self.walk_room() > 0 {
            return Wait::Walk;
        }
        if unsent > 0 {
            return Wait::Link;
        }
        if on_its_way > 0 {
            return Wait::Credit;
        }
        if self.finished_walk { Wait::Finishing } else { Wait::Answers }
    }

    /// Entries that have no outcome yet.
    pub fn unfinished(&self) -> u64 {
        self.live.len() as u64
    }
}
