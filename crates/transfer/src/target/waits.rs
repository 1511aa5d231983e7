//! What keeps the target from taking more, for whoever says what holds a transfer back.

use files::CHUNK;

use super::Target;
use crate::bound::Wait;

impl Target {
    /// What it waits for. `threads` is how many disk jobs can run at once.
    pub fn waits_for(&self, threads: usize) -> Wait {
        let waiting = self.received.saturating_sub(self.stored);
        if waiting >= self.window / 2 || self.jobs_running >= threads {
            return Wait::Store;
        }
        if self.ended_at.is_some() && waiting == 0 && self.jobs_running > 0 {
            return Wait::Finishing;
        }
        if self.ceiling != u64::MAX && self.received + CHUNK > self.ceiling {
            return Wait::Limit;
        }
        Wait::Source
    }

    /// Entries that have no outcome yet.
    pub fn unfinished(&self) -> u64 {
        // One folder is the target itself.
        (self.files.len() + self.folders.len()).saturating_sub(1) as u64
    }
}
