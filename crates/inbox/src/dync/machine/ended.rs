//! How uploads ended, for clients that have not heard it. Bounded by number and by time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::dync::desk::{Refusal, UploadId};

/// How an upload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It was published as this dataset.
    Finished(String),
    /// It was not.
    Refused(Refusal),
}

/// The ends of the last uploads.
#[derive(Debug)]
pub(super) struct Ended {
    ends: HashMap<UploadId, (End, Duration)>,
    /// In the order of their times; one that ended twice is here twice.
    order: VecDeque<(UploadId, Duration)>,
    most: usize,
    keep: Duration,
}

impl Ended {
    pub(super) fn new(most: usize, keep: Duration) -> Self {
        Self { ends: HashMap::new(), order: VecDeque::new(), most, keep }
    }

    pub(super) fn put(&mut self, now: Duration, id: UploadId, end: End) {
        self.ends.insert(id, (end, now));
        self.order.push_back((id, now));
        while self.order.len() > self.most {
            self.drop_first();
        }
    }

    pub(super) fn get(&self, now: Duration, id: &UploadId) -> Option<&End> {
        let (end, at) = self.ends.get(id)?;
        (now.saturating_sub(*at) < self.keep).then_some(end)
    }

    pub(super) fn expire(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(_, at)| now.saturating_sub(*at) >= self.keep) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((id, at)) = self.order.pop_front() else { return };
        // It may have ended again since.
        if self.ends.get(&id).is_some_and(|(_, last)| *last == at) {
            self.ends.remove(&id);
        }
    }
}
