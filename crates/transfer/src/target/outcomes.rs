//! The outcomes of a transfer as a numbered log: kept until the source says that it has processed them,
//! so that a cut link loses none and repeats none. It holds at most what a source may leave unconfirmed.

use std::collections::VecDeque;

use crate::Violation;
use crate::message::{Outcome, TargetMessage, pack};

#[derive(Debug, Default)]
pub(super) struct OutcomeLog {
    /// The number of the first one kept.
    first: u64,
    kept: VecDeque<(u64, Outcome)>,
    /// How many of those kept have been sent on this link.
    sent: usize,
}

impl OutcomeLog {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn push(&mut self, index: u64, outcome: Outcome) {
        self.kept.push_back((index, outcome));
    }

    /// The source has processed this many since the transfer began.
    pub(super) fn seen(&mut self, count: u64) -> Result<(), Violation> {
        let past =
            count.checked_sub(self.first).ok_or(Violation("fewer outcomes seen than before"))?;
        let past = usize::try_from(past).unwrap_or(usize::MAX);
        if past > self.kept.len() {
            return Err(Violation("more outcomes seen than there are"));
        }
        self.kept.drain(..past);
        self.first = count;
        self.sent = self.sent.saturating_sub(past);
        Ok(())
    }

    /// A new link: everything kept is to be sent again.
    pub(super) fn repeat(&mut self) {
        self.sent = 0;
    }

    /// Messages with what was not sent yet.
    pub(super) fn unsent(&mut self) -> Vec<TargetMessage> {
        let mut first = self.first + self.sent as u64;
        let list: Vec<_> = self.kept.iter().skip(self.sent).cloned().collect();
        self.sent = self.kept.len();
        let messages = pack(list, |(_, outcome)| outcome.encoded_len()).into_iter();
        messages
            .map(|list| {
                let message = TargetMessage::Outcomes { first, list };
                if let TargetMessage::Outcomes { list, .. } = &message {
                    first += list.len() as u64;
                }
                message
            })
            .collect()
    }
}
