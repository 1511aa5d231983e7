//! Asking a hook about an offer. It says yes, or no with a reason for the client; whatever else happens means that the
//! inbox cannot judge now, and then nothing is taken.

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::verdict::Answer;
use super::{Job, Surroundings};
use crate::options::HookOptions;

/// Offers that wait for each that is judged; more are told to come again.
const WAITING: usize = 8;

/// Asks hooks about offers, a bounded number of them at once.
#[derive(Debug)]
pub struct Asker {
    permits: Semaphore,
    /// Those that are asked and those that wait to be: each holds a thread.
    room: Semaphore,
    surroundings: Surroundings,
}

/// Why an offer is not taken. What is shown of it is for the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The hook says no. The same offer will be refused again.
    #[error("{reason}")]
    No {
        /// Its reason: one line that is safe to show, at most [`super::verdict::MAX_REASON`] bytes.
        reason: String,
    },
    /// The hook could not be asked or gave no answer. The same offer may be taken later.
    #[error("the inbox cannot judge offers now; try again later")]
    Unable {
        /// What happened, for the operator's log; safe to show.
        detail: String,
    },
}

impl Asker {
    /// One that runs `at_once` hooks at most, and lets eight times as many offers wait for that.
    pub fn new(at_once: usize, surroundings: Surroundings) -> Self {
        let [permits, room] = [at_once, at_once.saturating_mul(1 + WAITING)]
            .map(|count| Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { permits, room, surroundings }
    }

    /// Asks a hook about an offer ([`super::object::offer`]). It takes no longer than twice the hook's timeout. A thread
    /// that may block calls it through `Handle::block_on`.
    pub async fn ask(&self, hook: &HookOptions, inbox: &str, offer: &str) -> Result<(), Refused> {
        let unable = |detail: String| {
            let detail = format!("hook {} of inbox {inbox} cannot judge: {detail}", hook.name);
            Refused::Unable { detail }
        };
        let too_many = || unable("too many offers are judged at once".to_owned());
        let _room = self.room.try_acquire().map_err(|_| too_many())?;
        let turn = timeout(hook.timeout, self.permits.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(too_many()) };
        let job = Job {
            hook,
            event: "offer",
            inbox,
            dataset: None,
            path: None,
            body: offer,
            surroundings: &self.surroundings,
        };
        let ran = job.run().await;
        match ran.answer() {
            Answer::Yes => Ok(()),
            Answer::No(reason) => Err(Refused::No { reason }),
            Answer::Unable => Err(unable(match &ran.output[..] {
                [] => ran.words(),
                output => {
                    let from = output.len().saturating_sub(400);
                    format!("{}: {}", ran.words(), files::escape(output[from..].trim_ascii()))
                }
            })),
        }
    }
}

#[cfg(test)]
mod tests;
