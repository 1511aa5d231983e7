//! Why a transfer as a whole did not work; failures of single entries are outcomes, not errors.

use files::{Fault, FilesError};
use link::wire::WireError;
use link::{LinkError, PeerName};

use crate::Violation;
use crate::message::{RefuseCode, Stopped, Stretch};

/// Why a transfer ended without a receipt.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The link failed in a way that reconnecting does not mend, or for too long.
    #[error("the link failed")]
    Link(#[from] LinkError),
    /// The link was tried for as long as was allowed.
    #[error("gave up on the link after {seconds} s without a connection")]
    GaveUp {
        /// How long it was tried.
        seconds: u64,
        /// What happened last.
        #[source]
        last: LinkError,
    },
    /// The peer said no.
    #[error("{peer} refused: {}", files::escape(text.as_bytes()))]
    Refused {
        /// Who.
        peer: PeerName,
        /// The kind of reason.
        code: RefuseCode,
        /// The peer's words.
        text: String,
    },
    /// The peer sent something that the protocol does not allow.
    #[error("{peer} broke the protocol")]
    Violation {
        /// Who.
        peer: PeerName,
        /// Which rule.
        #[source]
        violation: Violation,
    },
    /// The peer sent bytes that are no message.
    #[error("{peer} sent a message that cannot be read")]
    Unreadable {
        /// Who.
        peer: PeerName,
        /// What was wrong.
        #[source]
        error: WireError,
    },
    /// The disk on this side.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Refused on this side, for instance a target that is no folder.
    #[error(transparent)]
    Here(#[from] crate::host::Refusal),
    /// The receipt does not prove what it should.
    #[error("{peer} signed a receipt that does not fit what was sent")]
    BadReceipt {
        /// Who.
        peer: PeerName,
        /// What is wrong with it.
        #[source]
        error: crate::receipt::ReceiptError,
    },
    /// The peer was silent for longer than the protocol allows.
    #[error("{peer} made no progress for {seconds} s")]
    Stalled {
        /// Who.
        peer: PeerName,
        /// How long.
        seconds: u64,
    },
    /// The peer ended the transfer before it was done, and means it.
    #[error("{peer} ended the transfer before it was done")]
    Abandoned {
        /// Who.
        peer: PeerName,
    },
    /// A copy between two other machines has ended before its time.
    #[error("{}", elsewhere(.source_host, .target_host, .stopped))]
    Elsewhere {
        /// Who was to send.
        source_host: PeerName,
        /// To whom, as it was named.
        target_host: String,
        /// What the source says of it.
        stopped: Stopped,
    },
    /// The peer does not take a dataset for its metadata.
    #[error("{peer} does not take these metadata")]
    Unfit {
        /// Who.
        peer: PeerName,
        /// The first faults.
        faults: Vec<crate::message::Fault>,
        /// How many more there are.
        more: u64,
    },
    /// The user or the daemon's operator ended it.
    #[error("interrupted")]
    Cancelled,
}

/// The words of a source, which are never more than words.
fn elsewhere(source: &PeerName, target: &str, stopped: &Stopped) -> String {
    let text = files::escape(stopped.text.as_bytes());
    match stopped.at {
        Stretch::Source => format!("{source} cannot send: {text}"),
        Stretch::Target => format!("{target} does not take what {source} sends: {text}"),
        Stretch::Unreached => format!("{source} cannot reach {target}"),
        Stretch::LinkLost => {
            format!("the link from {source} to {target} was lost and did not come back")
        }
    }
}

impl TransferError {
    /// What trying again would bring.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Link(error) => match error.fault() {
                link::Fault::Transient => Fault::Transient,
                link::Fault::Permanent => Fault::Permanent,
                link::Fault::Corrupt => Fault::Corrupt,
                link::Fault::Denied => Fault::Denied,
            },
            Self::Files(error) => error.fault(),
            Self::Refused { code, .. } => match code {
                RefuseCode::Denied => Fault::Denied,
                RefuseCode::UnknownTransfer | RefuseCode::Busy => Fault::Transient,
                _ => Fault::Permanent,
            },
            Self::Elsewhere { stopped, .. } => match (stopped.at, stopped.code) {
                // The target was restarted: it will grant the same again.
                (Stretch::Target, RefuseCode::UnknownGrant) | (_, RefuseCode::Busy) => {
                    Fault::Transient
                }
                (Stretch::Source | Stretch::Target, RefuseCode::Denied) => Fault::Denied,
                _ => Fault::Permanent,
            },
            Self::Violation { .. } | Self::Unreadable { .. } | Self::BadReceipt { .. } => {
                Fault::Corrupt
            }
            Self::Here(_) | Self::Abandoned { .. } | Self::Unfit { .. } => Fault::Permanent,
            Self::GaveUp { .. } | Self::Stalled { .. } | Self::Cancelled => Fault::Transient,
        }
    }
}
