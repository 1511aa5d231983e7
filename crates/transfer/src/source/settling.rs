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
        // The offer before counts until the target has answered that it was taken back.
        if still && self.live_cost + live.cost <= self.window {
            return self.withdraw(index, "it changed while it was read".to_owned(), Some(now));
        }
        (settling.seen, settling.looks) = (now, settling.looks + 1);
        match settling.looks < MAX_LOOKS {
            true => self.look(index),
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
        self.send(SourceMessage::Withdraw { index, reason });
        if self.finished_walk {
            self.send_end();
        }
    }
}

fn never_still() -> String {
    "it changed each time that it was read".to_owned()
}
