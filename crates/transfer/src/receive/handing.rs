//! What a receiver tells whoever takes over what arrives, where that is more than files in a folder.

use files::{Digest, RelPath};
use link::Identity;

use super::Receiver;
use crate::host::{Intake, Refusal, Standing};
use crate::message::{Entry, Outcome, RefuseCode};
use crate::receipt::Statement;
use crate::record::content_of;
use crate::target::Failed;

impl Receiver {
    /// Whether it may go on over another lane: whoever takes it over may have given its place to others.
    pub(crate) fn may_go_on(&self) -> bool {
        self.landing.intake.iter().all(|intake| intake.link(true))
    }

    pub(super) fn tell_intake(
        &self,
        path: &RelPath,
        entry: &Entry,
        outcome: &Outcome,
        linked: Option<Digest>,
    ) {
        let Some(intake) = &self.landing.intake else { return };
        let sha256 = self.disk.take_sum(entry.index);
        if let Some(digest) = content_of(outcome, linked)
            && let Some(size) = entry.size()
        {
            intake.stands(Standing { path: path.clone(), size, digest, sha256 });
        }
    }
}

/// What an intake makes of a transfer that is complete; of one that is not it gets nothing.
pub(super) fn take_over(
    intake: &dyn Intake,
    statement: Statement,
    failures: bool,
    identity: &Identity,
) -> Result<Vec<u8>, Failed> {
    let lacking = statement.totals.failed + statement.totals.skipped;
    if failures || lacking > 0 {
        let text = "not all that was offered has arrived, so nothing of it is published; what has \
                    arrived is kept for the next try"
            .to_owned();
        return Err(Failed { code: RefuseCode::Corrupt, text });
    }
    let taken = intake.publish(statement, identity);
    taken.map_err(|Refusal { code, text }| Failed { code, text })
}
