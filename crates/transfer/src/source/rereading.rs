//! A second reading: what has been copied is read again at both ends, and compared. The target is believed nothing
//! about a file that was not hashed here too.

use files::Digest;

use super::Source;
use crate::message::{Entry, EntryKind, Outcome};

impl Source {
    /// A machine for a second reading: of a file only that counts as the same which was hashed here too.
    pub fn rereading() -> Self {
        Self { rereads: true, ..Self::new() }
    }
}

/// Whether this may come of a second reading, in which nothing is copied and every file is compared. `ours` is the
/// digest of the file, if it was hashed here.
pub(super) fn is_told_by_reading(entry: &Entry, ours: Option<&Digest>, outcome: &Outcome) -> bool {
    let is_file = matches!(entry.kind, EntryKind::File { .. } | EntryKind::HardLink { .. });
    match outcome {
        Outcome::Copied(_) => false,
        Outcome::Unchanged(theirs) => is_file && ours == Some(theirs),
        Outcome::Made => !is_file,
        Outcome::Skipped | Outcome::Failed { .. } | Outcome::Withdrawn | Outcome::Planned(_) => {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::leaf;
    use super::super::{Job, JobResult, Output, Walked};
    use super::*;
    use crate::message::{Need, TargetMessage, Why};

    const OURS: Digest = Digest::from_bytes([1; 32]);
    const OTHER: Digest = Digest::from_bytes([2; 32]);

    /// What a source says of this end of its only file, after a comparison if there is one.
    fn check(rereads: bool, compared: bool, outcome: Outcome, is_fine: bool) {
        let mut source = if rereads { Source::rereading() } else { Source::new() };
        source.begin_ahead(false);
        source.walked(Walked::Leaf(leaf(5)));
        source.walked(Walked::Finished);
        if compared {
            let need = Need { index: 1, have: Some(OURS), ranges: Vec::new() };
            source.message(TargetMessage::Need(vec![need])).unwrap();
            let epoch =
                std::iter::from_fn(|| source.poll_output()).find_map(|output| match output {
                    Output::Read(Job::Compare { epoch, .. }) => Some(epoch),
                    _ => None,
                });
            let epoch = epoch.expect("it is hashed");
            source.job_done(JobResult::Compared { index: 1, same: true, digest: OURS, epoch });
        }
        let told = TargetMessage::Outcomes { first: 0, list: vec![(1, outcome.clone())] };
        assert_eq!(source.message(told).is_ok(), is_fine, "{rereads} {compared} {outcome:?}");
    }

    #[test]
    fn a_file_counts_as_the_same_only_if_it_was_hashed_here_too() {
        check(true, true, Outcome::Unchanged(OURS), true);
        check(true, true, Outcome::Unchanged(OTHER), false);
        check(true, false, Outcome::Unchanged(OURS), false);
        check(true, true, Outcome::Copied(OURS), false);
        check(true, true, Outcome::Made, false);
        check(true, false, Outcome::Planned(Why::New), true);
        // In a copy the target may know by itself.
        check(false, false, Outcome::Unchanged(OURS), true);
    }
}
