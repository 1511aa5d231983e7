//! `haul cp --verify`: after a copy both ends read again what it covers, in a job of its own that changes nothing, and
//! compare. It asks whether what is on the two disks is the same; who promised what is the receipt's business.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use events::Counters;
use transfer::client::{JobOptions, JobReport};
use transfer::{Totals, TransferError};

use super::Copy;
use crate::contact;
use crate::render::{Render, RenderOptions};
use crate::units;

/// What came of a second reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Files that were read at both ends and are the same.
    same: u64,
    /// Entries that differ, are missing or could not be read again.
    pub(super) differing: u64,
    /// How long it took.
    elapsed: Duration,
}

impl Verdict {
    /// From what the copy covered, and what the second reading found.
    fn of(first: &Totals, report: &JobReport, elapsed: Duration) -> Self {
        let t = &report.totals;
        let sum =
            |counts: &[u64]| counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        // What was not offered again was not read again. A hard link counts as one of them in a copy, and as
        // a file that was read in a second reading.
        let covered = sum(&[first.copied, first.unchanged, first.links]);
        let found = sum(&[t.unchanged, t.links, t.planned, t.failed, t.skipped, t.copied]);
        // In a second reading nothing is copied or skipped. Where a count says so all the same, it is not good.
        let not_again = covered.saturating_sub(found);
        let differing = sum(&[t.planned, t.failed, t.skipped, t.copied, not_again]);
        Self { same: t.unchanged, differing, elapsed }
    }

    /// Whether both ends have the same.
    pub(super) fn is_same(&self) -> bool {
        self.differing == 0
    }

    /// The line for people.
    pub(super) fn words(&self) -> String {
        let read = units::count(self.same, "file");
        let time = units::duration(self.elapsed);
        if self.is_same() {
            return format!("verified: read {read} again on both sides in {time}; all is the same");
        }
        let differ = match self.differing {
            1 => "1 entry differs or could not be read again".to_owned(),
            more => format!("{more} entries differ or could not be read again"),
        };
        format!("NOT verified: {differ}; {read} read again on both sides in {time} are the same")
    }
}

impl Copy {
    /// Runs the second reading, which `start` begins, and shows it like the copy before.
    pub(super) async fn verify<F>(
        &self,
        first: &Totals,
        shown: RenderOptions,
        options: JobOptions,
        start: impl FnOnce(JobOptions) -> F,
    ) -> Result<Verdict>
    where
        F: Future<Output = Result<JobReport, TransferError>>,
    {
        let began = Instant::now();
        // What was counted in the copy is told at its end.
        let counters = Counters::new();
        let render = Render::start(RenderOptions { verifying: true, ..shown }, counters.clone());
        // So little goes over its lanes that they say nothing of the path.
        let lane_ended = None;
        let options = JobOptions { sink: render.sink(), counters, lane_ended, ..options };
        let ended = tokio::select! {
            ended = start(options) => Some(ended),
            () = self.interrupt.wait() => None,
        };
        drop(render);
        match ended {
            Some(Ok(report)) => Ok(Verdict::of(first, &report, began.elapsed())),
            Some(Err(TransferError::Cancelled)) | None => Err(self.interrupted().await),
            Some(Err(error)) => Err(contact::with_our_line(error.into(), &self.identity)),
        }
        .context("the copy is done, but not verified")
    }
}

#[cfg(test)]
mod tests {
    use transfer::Totals;

    use super::*;

    #[test]
    fn only_what_was_read_and_found_the_same_is_verified() {
        let good = Totals { unchanged: 3, links: 1, folders: 2, ..Totals::default() };
        let first = Totals { copied: 2, unchanged: 1, links: 1, ..Totals::default() };
        for (totals, differing) in [
            (good, 0),
            (Totals { planned: 2, ..good }, 2),
            (Totals { failed: 1, planned: 1, ..good }, 2),
            (Totals { skipped: 1, ..good }, 1),
            (Totals { copied: 1, ..good }, 1),
            // One was not offered again.
            (Totals { links: 0, ..good }, 1),
            (Totals { failed: u64::MAX, planned: 1, ..good }, u64::MAX),
        ] {
            let (id, tree) = ([0; 16], tree::TreeDigest::new().finish());
            let report = JobReport { totals, bytes_sent: 0, receipt: None, id, tree, named: false };
            let verdict = Verdict::of(&first, &report, Duration::from_secs(2));
            assert_eq!(verdict.differing, differing, "{totals:?}");
            assert_eq!(verdict.is_same(), differing == 0);
            assert_eq!(verdict.words().starts_with("verified: read 3 files"), differing == 0);
        }
    }
}
