//! What decides on a machine that takes datasets, beside [`crate::host::Host`]: what its inboxes want, whose turn it
//! is, and where a dataset lands (`docs/formats/inbox.md`). Calls may touch the disk; they are made on threads that may
//! block, except where it says otherwise.

use link::Lane;
use tokio::sync::watch;

use crate::host::{Landing, Refusal};
use crate::message::{Fault, Offer, Waiting};

/// The inboxes of a machine, and its door for keys that are not known yet.
pub trait Reception: Send + Sync + 'static {
    /// The most bytes of metadata that any inbox takes. It must not block.
    fn most_metadata(&self) -> u64;

    /// What an inbox wants of metadata, as JSON text.
    fn schema(&self, lane: &Lane, inbox: &str) -> Result<Vec<u8>, Refusal>;

    /// Whether an offer would be taken now, and what the client should know. Nothing is kept of it.
    fn check(&self, lane: &Lane, offer: &Offer, metadata: &[u8]) -> Result<Vec<String>, Turned>;

    /// Takes an offer in, or says why not.
    fn offer(&self, lane: &Lane, offer: Offer, metadata: Vec<u8>) -> Result<Offered, Turned>;

    /// A key that may do nothing else asks to be let in: whether it is from now on, and what follows from it.
    fn enrol(&self, lane: &Lane, code: &[u8], label: &str) -> Result<(bool, String), Refusal>;
}

/// Why an offer is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// For what it is as a whole.
    Refused(Refusal),
    /// For its metadata.
    Unfit {
        /// What is wrong with them, the first of it.
        faults: Vec<Fault>,
        /// How many faults there are beside these.
        more: u64,
    },
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What becomes of an offer that is taken in.
pub enum Offered {
    /// The same upload was published before.
    Finished {
        /// The dataset's id.
        dataset: String,
        /// Its signed receipt.
        receipt: Vec<u8>,
    },
    /// It has a place in the queue.
    Queued(Box<dyn Place>),
}

/// A place in the queue. Dropped, it is kept for a while for who comes back.
pub trait Place: Send {
    /// How it stands, now and whenever that changes. It must not block.
    fn turns(&self) -> watch::Receiver<Turn>;

    /// Begins the upload whose turn it is.
    fn begin(self: Box<Self>) -> Result<Begun, Refusal>;
}

/// Whether it is somebody's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Not yet.
    Waits(Waiting),
    /// Now.
    Admitted,
    /// Never, for this reason.
    Refused(Refusal),
}

/// An upload that may begin.
pub struct Begun {
    /// The dataset's id.
    pub dataset: String,
    /// What the client should know.
    pub notes: Vec<String>,
    /// Where its files go.
    pub landing: Landing,
}
