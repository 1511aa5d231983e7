//! Events and the handle through which they are told.
//!
//! Paths are bytes and texts are raw: whoever prints an event escapes it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bound::Bound;
use crate::counters::Snapshot;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A job began.
    Started {
        /// Numbers the jobs of one process.
        job: u64,
        /// Where it copies from, as the user wrote it.
        source: String,
        /// Where it copies to, as the user wrote it.
        target: String,
    },
    /// A file is at its final name, or was there already.
    FileDone {
        /// Relative to the job's root.
        path: Vec<u8>,
        /// In bytes.
        size: u64,
        /// How it got there.
        how: How,
        /// BLAKE3 of the content, for what has content.
        digest: Option<[u8; 32]>,
    },
    /// A file will not arrive in this job; the others go on.
    FileFailed {
        /// Relative to the job's root.
        path: Vec<u8>,
        /// The error with its causes.
        reason: String,
    },
    /// A link to a peer stands.
    LinkUp {
        /// The peer's key, in its short printed form.
        peer: String,
        /// Where it was reached.
        address: SocketAddr,
        /// The kind of lane, such as `QUIC` or `TCP`.
        kind: &'static str,
    },
    /// The transfer goes on over another lane; nothing was lost.
    LinkMoved {
        /// Why.
        reason: String,
    },
    /// The link broke; what has arrived is kept.
    LinkLost {
        /// The error with its causes.
        reason: String,
    },
    /// A dry run would copy or make this.
    Planned {
        /// Below the target folder.
        path: Vec<u8>,
        /// Its size in bytes; 0 for what is no file.
        size: u64,
        /// Why, in one word of `docs/formats/events.md`.
        why: &'static str,
    },
    /// The target has this and the source has not: it was removed, or would be.
    Extra {
        /// Below the target folder.
        path: Vec<u8>,
    },
    /// The link will be tried again.
    LinkRetry {
        /// After so long.
        after: Duration,
    },
    /// It is not this job's turn yet.
    Waiting {
        /// Its place, from 1; 0 while it is judged whether it gets one.
        position: u64,
        /// How many wait.
        length: u64,
        /// In how many seconds it is likely to be its turn.
        seconds: Option<u64>,
        /// What it waits for, in the peer's words.
        reason: String,
    },
    /// A dataset may be sent.
    Admitted {
        /// Its id at the peer.
        dataset: String,
        /// What one should know, in the peer's words.
        notes: Vec<String>,
    },
    /// Something that a person should know and that stops nothing.
    Warning {
        /// What, and what to do about it.
        text: String,
    },
    /// Another thing than before holds the job back.
    Bounded {
        /// What, with its figure.
        bound: Bound,
    },
    /// A job ended.
    Finished {
        /// The number that it started with.
        job: u64,
        /// How it ended.
        outcome: Outcome,
        /// The counters at that moment.
        totals: Box<Snapshot>,
        /// From start to end.
        elapsed: Duration,
    },
}

/// How a file got to its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// All of it was carried.
    Copied,
    /// A part had arrived in an earlier job or over an earlier link.
    Resumed,
    /// It was there already, and is the same.
    Unchanged,
    /// It is a symbolic link.
    Linked,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything arrived.
    Complete,
    /// Some files failed; the others arrived.
    Partial,
    /// The job stopped.
    Failed {
        /// The error with its causes.
        reason: String,
    },
}

type Subscriber = Arc<dyn Fn(&Event) + Send + Sync>;

/// Tells events to any number of subscribers. Cloning is cheap; the default has nobody to tell.
///
/// Subscribers are called in the thread of the emitter, in the order in which they were added: they
/// must return quickly and must not wait for the transfer.
#[derive(Clone, Default)]
pub struct Sink {
    subscribers: Option<Arc<[Subscriber]>>,
}

impl Sink {
    /// A sink with one subscriber.
    #[must_use]
    pub fn new(subscriber: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self::default().and(subscriber)
    }

    /// This sink with one subscriber more; other clones of it keep theirs.
    #[must_use]
    pub fn and(self, subscriber: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        let old = self.subscribers.as_deref().unwrap_or_default().iter().cloned();
        let new: Subscriber = Arc::new(subscriber);
        Self { subscribers: Some(old.chain([new]).collect()) }
    }

    /// Tells every subscriber.
    pub fn emit(&self, event: &Event) {
        for subscriber in self.subscribers.as_deref().unwrap_or_default() {
            subscriber(event);
        }
    }

    /// Tells every subscriber what `event` makes, and makes it only if there is one.
    pub fn emit_with(&self, event: impl FnOnce() -> Event) {
        if self.subscribers.is_some() {
            self.emit(&event());
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscribers = self.subscribers.as_deref().map_or(0, <[_]>::len);
        f.debug_struct("Sink").field("subscribers", &subscribers).finish()
    }
}

#[cfg(test)]
mod tests;
