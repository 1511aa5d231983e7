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
        let is_readable = |index: &u64| self.live.get(index).is_none_or(|it| !it.older.is_coming());
        let wanted =
            !self.small.is_empty() || !self.compare.is_empty() || self.big.iter().any(is_readable);
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

#[cfg(test)]
mod tests {
    use files::{CHUNK, hash_chunk};

    use super::super::tests::leaf;
    use super::*;
    use crate::message::{Need, TargetMessage};
    use crate::source::{Job, JobResult, Output, Walked};

    const CHUNKS: u64 = 20;

    /// Takes everything out, and does the jobs at once if `work` is set.
    fn drain(source: &mut Source, work: bool) {
        while let Some(output) = source.poll_output() {
            if let (Output::Read(Job::Chunk { read, chunk, epoch, .. }), true) = (output, work) {
                let hash = hash_chunk(read.attributes.size, chunk, &vec![0; CHUNK as usize]);
                let (index, unsent) = (read.index, 0);
                source.job_done(JobResult::Chunk { index, chunk, hash, unsent, epoch });
            }
        }
    }

    #[test]
    fn a_source_says_what_it_waits_for() {
        let mut source = Source::new();
        assert_eq!(source.waits_for(0, 100), Wait::Answers, "there is no link");
        source.begin_ahead(false);
        assert_eq!(source.waits_for(0, 100), Wait::Walk);
        source.walked(Walked::Leaf(leaf(CHUNKS * CHUNK)));
        source.walked(Walked::Finished);
        drain(&mut source, true);
        assert_eq!(source.waits_for(0, 100), Wait::Finishing);
        let needs = vec![Need { index: 1, have: None, ranges: vec![(0, CHUNKS)] }];
        source.message(TargetMessage::Need(needs)).unwrap();
        drain(&mut source, true);
        assert_eq!(source.waits_for(0, 100), Wait::Credit, "nothing may be sent yet");
        let allowed = 10 * CHUNK;
        source.message(TargetMessage::Credit { allowed, stored: 0 }).unwrap();
        drain(&mut source, false);
        assert_eq!(source.waits_for(0, CHUNK), Wait::Read, "six jobs run");
        assert_eq!(source.waits_for(2 * CHUNK, CHUNK), Wait::Link, "what was read waits");
    }

    #[test]
    fn used_up_credit_is_a_window_or_a_disk() {
        let mut source = Source::new();
        source.begin_ahead(false);
        source.walked(Walked::Leaf(leaf(CHUNKS * CHUNK)));
        let needs = vec![Need { index: 1, have: None, ranges: vec![(0, CHUNKS)] }];
        drain(&mut source, true);
        source.message(TargetMessage::Need(needs)).unwrap();
        let allowed = 10 * CHUNK;
        source.message(TargetMessage::Credit { allowed, stored: 0 }).unwrap();
        drain(&mut source, true);
        assert_eq!(source.waits_for(10 * CHUNK, 20 * CHUNK), Wait::Window, "all is on the wire");
        assert_eq!(source.waits_for(CHUNK, 20 * CHUNK), Wait::Credit, "nine chunks have landed");
        assert_eq!(source.waits_for(10 * CHUNK, 2 * CHUNK), Wait::Link, "most waits here");
        source.hold_reading(true);
        assert_eq!(source.waits_for(CHUNK, 20 * CHUNK), Wait::Link);
        source.link_lost();
        assert_eq!(source.waits_for(0, 0), Wait::Answers);
    }
}
