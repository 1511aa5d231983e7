//! A file that changed while it was read is looked at until it holds still, and is then offered anew.

use std::time::Duration;

use files::Attributes;

use super::{Failure, Found, Output, ReadItem, Source, Withdrawn};
use crate::message::SourceMessage;

/// How often a file is read that changes each time.
const MAX_ATTEMPTS: u8 = 4;
/// How often such a file is looked at after each of them.
const MAX_LOOKS: u8 = 7;
/// How long it has to hold still after the first attempt. Four times as long after each further one,
/// and twice as long after each look in between.
const STILL: Duration = Duration::from_millis(20);
/// It need not hold still for longer than this.
const LONGEST_STILL: Duration = Duration::from_secs(2);

/// A file that changed, as it was when it was last looked at.
#[derive(Debug)]
pub(super) struct Settling {
    seen: Attributes,
    looks: u8,
}

impl Source {
    /// A file could not be read, or changed while it was.
    pub(super) fn read_failed(&mut self, index: u64, failure: Failure) {
        let Some(live) = self.live.get_mut(&index).filter(|live| !live.is_given_up()) else {
            return; // Several chunks of one file fail together, and the first has said it.
        };
        let again = failure.changed_to.filter(|_| live.attempts + 1 < MAX_ATTEMPTS);
        live.settling = again.map(|seen| Settling { seen, looks: 0 });
        // Nothing of it is to be read any more.
        self.big.retain(|big| *big != index);
        self.small.retain(|small| *small != index);
        self.compare.retain(|(compared, _)| *compared != index);
        match (failure.changed_to, again) {
            (Some(_), None) => self.withdraw(index, never_still(), None),
            (Some(_), Some(_)) => self.look(index),
            (None, _) => self.withdraw(index, failure.reason, None),
        }
    }

    fn look(&mut self, index: u64) {
        let Some(live) = self.live.get(&index) else { return };
        let Some(settling) = &live.settling else { return };
        let doublings = 2 * u32::from(live.attempts) + u32::from(settling.looks);
        let after = STILL.saturating_mul(1 << doublings.min(10)).min(LONGEST_STILL);
        let read = ReadItem::of(index, live.found.place.clone(), &settling.seen);
        self.outputs.push_back(Output::Look { read, after });
    }

    /// Takes how a file looks that was to be looked at, or why it cannot be.
    pub fn looked(&mut self, index: u64, now: Result<Attributes, String>) {
        let Some(live) = self.live.get_mut(&index) else { return };
        let Some(settling) = &mut live.settling else { return };
        let now = match now {
            Ok(now) => now,
            Err(reason) => return self.withdraw(index, reason, None),
        };
        let still = now.unchanged_since(&settling.seen);
        (settling.seen, settling.looks) = (now, settling.looks + 1);
        // The offer before counts until the target has answered that it was taken back.
        let has_room = self.live_cost + live.cost <= self.window;
        match settling.looks < MAX_LOOKS {
            _ if still && has_room => self.withdraw(index, changed(), Some(now)),
            true => self.look(index),
            false if still => {
                let reason = format!("{}, and the target has no room for it anew", changed());
                self.withdraw(index, reason, None);
            }
            false => self.withdraw(index, never_still(), None),
        }
    }

    /// Takes an offer back. A file that is to be read again is offered before that, under a new index: so
    /// its folder always has an unfinished child and cannot be finished in between.
    fn withdraw(&mut self, index: u64, reason: String, again: Option<Attributes>) {
        let Some(live) = self.live.get_mut(&index) else { return };
        live.settling = None;
        live.withdrawn = Some(Withdrawn { reason: reason.clone(), replaced: again.is_some() });
        let (parent, found, attempts) = (live.entry.parent, live.found.clone(), live.attempts + 1);
        if let Some(attributes) = again {
            self.offer(Found { attributes, ..found }, Some(parent), attempts);
            self.send_offers();
        }
        self.send(SourceMessage::Withdraw { index, reason, last: again.is_none() });
        if self.finished_walk {
            self.send_end();
        }
    }
}

fn changed() -> String {
    "it changed while it was read".to_owned()
}

fn never_still() -> String {
    "it changed each time that it was read".to_owned()
}

#[cfg(test)]
mod tests {
    use files::CHUNK;

    use super::super::tests::leaf;
    use super::*;
    use crate::message::{Need, TargetMessage};
    use crate::source::{Job, JobResult, Walked};

    /// A source that was asked for the content of its only file.
    fn asked(size: u64) -> Source {
        let mut source = Source::new();
        source.begin_ahead(false);
        source.walked(Walked::Leaf(leaf(size)));
        source.walked(Walked::Finished);
        source.message(TargetMessage::Credit { allowed: 8 * CHUNK, stored: 0 }).unwrap();
        need(&mut source, 1, size);
        source
    }

    fn need(source: &mut Source, index: u64, size: u64) {
        let ranges = if size > CHUNK { vec![(0, size.div_ceil(CHUNK))] } else { Vec::new() };
        source.message(TargetMessage::Need(vec![Need { index, have: None, ranges }])).unwrap();
    }

    fn outputs(source: &mut Source) -> Vec<Output> {
        std::iter::from_fn(|| source.poll_output()).collect()
    }

    /// The file as of a later time.
    fn later(mut attributes: Attributes) -> Attributes {
        attributes.ctime.seconds += 1;
        attributes
    }

    /// Lets the first reading find that the file looks like this by now; says what the file looked like.
    fn fail(source: &mut Source) -> Attributes {
        let jobs = outputs(source).into_iter().filter_map(|output| match output {
            Output::Read(Job::Chunk { read, epoch, .. }) => Some((read, epoch)),
            Output::Read(Job::Bundle { items, epoch }) => Some((items[0].clone(), epoch)),
            _ => None,
        });
        let jobs: Vec<_> = jobs.collect();
        let now = later(jobs[0].0.attributes);
        for (read, epoch) in jobs {
            let failure = Failure { reason: "changed".into(), changed_to: Some(now) };
            let (index, unsent) = (read.index, read.attributes.size.min(CHUNK));
            source.job_done(JobResult::Failed { index, failure, unsent, epoch });
        }
        now
    }

    fn wait(source: &mut Source) -> Option<Duration> {
        let waits: Vec<_> = outputs(source)
            .into_iter()
            .filter_map(|output| match output {
                Output::Look { after, .. } => Some(after),
                _ => None,
            })
            .collect();
        assert!(waits.len() < 2, "it is looked at once, however many of its chunks fail");
        waits.first().copied()
    }

    fn withdrawn(source: &mut Source) -> (Option<u64>, String) {
        let (mut anew, mut why) = (None, None);
        for output in outputs(source) {
            match output {
                Output::Send(SourceMessage::Offer(entries)) => {
                    assert!(why.is_none(), "the folder must not be without a child in between");
                    anew = entries.first().map(|entry| entry.index);
                }
                Output::Send(SourceMessage::Withdraw { reason, .. }) => why = Some(reason),
                _ => {}
            }
        }
        (anew, why.expect("it is withdrawn"))
    }

    #[test]
    fn it_is_read_again_once_it_holds_still_and_not_for_ever() {
        for size in [100, 3 * CHUNK] {
            let mut source = asked(size);
            for (attempt, still_ms) in [20, 80, 320].into_iter().enumerate() {
                let index = attempt as u64 + 1;
                let mut now = fail(&mut source);
                assert_eq!(wait(&mut source), Some(Duration::from_millis(still_ms)));
                now = later(now);
                source.looked(index, Ok(now));
                let longer = Duration::from_millis(2 * still_ms);
                assert_eq!(wait(&mut source), Some(longer), "it moved");
                source.looked(index, Ok(now));
                assert_eq!(withdrawn(&mut source).0, Some(index + 1));
                need(&mut source, index + 1, size);
            }
            fail(&mut source);
            let (anew, why) = withdrawn(&mut source);
            assert_eq!((anew, why), (None, never_still()));
        }
    }

    #[test]
    fn one_that_never_holds_still_is_given_up() {
        let mut source = asked(100);
        let mut now = fail(&mut source);
        let mut waited = Duration::ZERO;
        while let Some(wait) = wait(&mut source) {
            waited += wait;
            now = later(now);
            source.looked(1, Ok(now));
            if source.live[&1].withdrawn.is_some() {
                break;
            }
        }
        assert_eq!(withdrawn(&mut source), (None, never_still()));
        assert_eq!(waited, STILL * ((1 << MAX_LOOKS) - 1));
    }

    #[test]
    fn one_that_vanishes_meanwhile_says_so() {
        let mut source = asked(100);
        fail(&mut source);
        source.looked(1, Err("no such file".into()));
        assert_eq!(withdrawn(&mut source), (None, "no such file".to_owned()));
    }

    #[test]
    fn a_cut_link_changes_nothing_about_it() {
        let mut source = asked(100);
        let now = fail(&mut source);
        assert!(wait(&mut source).is_some());
        source.link_lost();
        source.looked(1, Ok(now));
        source.message(TargetMessage::Ready).unwrap();
        let (anew, why) = withdrawn(&mut source);
        assert_eq!((anew, why), (Some(1), changed()), "both offers are made again");
        need(&mut source, 2, 100);
    }

    #[test]
    fn without_room_it_is_given_up_in_true_words() {
        let mut source = asked(100);
        let now = fail(&mut source);
        source.live_cost = source.window;
        for _ in 0..MAX_LOOKS {
            assert!(wait(&mut source).is_some());
            source.looked(1, Ok(now));
        }
        let (anew, why) = withdrawn(&mut source);
        assert!(anew.is_none() && why.contains("no room"), "{why}");
    }
}
