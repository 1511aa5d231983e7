//! What goes wrong between two peers, and whether trying again helps.
//! Every message names the peer; whatever text the peer itself sent is capped and stripped of control
//! characters before it is kept.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionError;
use thiserror::Error;

use crate::public_key::is_unprintable;
use crate::{Fault, HostRefused, PublicKey};

/// The codes that a lane is closed with (`docs/formats/link.md`). Protocols above use codes from [`close_code::FIRST_FREE`] on.
pub mod close_code {
    /// Everything was said; also what dropping a lane sends.
    pub const DONE: u32 = 0;
    /// The gatekeeper turned the peer away; the reason says why.
    pub const REFUSED: u32 = 1;
    /// The other side broke the protocol.
    pub const PROTOCOL: u32 = 2;
    /// The peer shuts down; it may be back.
    pub const GOING_AWAY: u32 = 3;
    /// The dialer does not accept the key of the host.
    pub const HOST_KEY: u32 = 4;
    /// The peer takes no more connections for now.
    pub const BUSY: u32 = 5;
    /// The first code that this crate gives no meaning to.
    pub const FIRST_FREE: u32 = 0x100;
}

/// The alert by which TLS says that the two sides share no protocol name (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// How much of a reason of ours is sent.
const MAX_REASON_BYTES: usize = 900;

/// How many characters of a peer's reason are kept.
const MAX_REASON_CHARS: usize = 300;

/// A peer as errors name it: where it is, and its key once it has shown one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName {
    address: Arc<str>,
    key: Option<PublicKey>,
}

impl PeerName {
    /// A peer of which only `host:port` is known.
    pub fn new(address: impl fmt::Display) -> Self {
        Self { address: address.to_string().into(), key: None }
    }

    /// The same peer, which has shown its key.
    pub fn with_key(&self, key: PublicKey) -> Self {
        Self { address: self.address.clone(), key: Some(key) }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its key, if it has shown one.
    pub fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} ({key})", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// A lane could not be had, or has ended, or did not do what was asked.
#[derive(Debug, Error)]
#[allow(
    missing_docs,
    reason = "`peer`, `source`, `code` and `reason` say the same in every variant"
)]
pub enum LinkError {
    /// The name could not be looked up.
    #[error("cannot look up the address of {peer}")]
    Resolve { peer: PeerName, source: io::Error },
    /// The name has no addresses.
    #[error("{peer} has no address")]
    NoAddress { peer: PeerName },
    /// A socket of our own failed.
    #[error("cannot {action} a socket at {local}")]
    Socket { action: &'static str, local: SocketAddr, source: io::Error },
    /// The transport could not be set up from the options or the identity.
    #[error("cannot set up the transport: {detail}")]
    Setup { detail: String },
    /// The network says that the peer cannot be reached, or takes no connection there.
    #[error("cannot connect to {peer}")]
    Unreachable { peer: PeerName, source: io::Error },
    /// No handshake within the deadline.
    #[error("{peer} did not answer within {} s", after.as_secs_f32())]
    NoAnswer { peer: PeerName, after: Duration },
    /// The port is closed for TCP, and there was no connection over QUIC for longer than that takes where a
    /// daemon serves; whether part of a handshake came is not asked.
    #[error("{peer} refuses TCP, and no connection over QUIC (UDP) came about within {:.1} s", after.as_secs_f32())]
    NobodyServes { peer: PeerName, after: Duration },
    /// The peer takes no more connections for now.
    #[error("{peer} takes no more connections")]
    Busy { peer: PeerName },
    /// The peer answers, but does not speak this protocol.
    #[error("{peer} does not speak this version of haul: {detail}")]
    Incompatible { peer: PeerName, detail: String },
    /// The host's key was not accepted.
    #[error("the key of {peer} is not accepted: {refused}")]
    HostKey { peer: PeerName, refused: HostRefused },
    /// The peer does not admit us.
    #[error("{peer} refuses this key: {reason}")]
    Refused { peer: PeerName, reason: String },
    /// The peer closed the lane.
    #[error("{peer} closed the connection with code {code}: {reason}")]
    Closed { peer: PeerName, code: u64, reason: String },
    /// The lane was closed on this side.
    #[error("the connection to {peer} was closed on this side")]
    ClosedHere { peer: PeerName },
    /// Nothing came for longer than the idle timeout.
    #[error("the connection to {peer} timed out")]
    TimedOut { peer: PeerName },
    /// The peer no longer knows the lane, as after a restart.
    #[error("{peer} no longer knows this connection")]
    Reset { peer: PeerName },
    /// One of the two transports ended the lane.
    #[error("the connection to {peer} failed: {detail}")]
    Transport { peer: PeerName, detail: String },
    /// A frame or parcel is longer than may be.
    #[error("a message of {length} bytes from or to {peer} is above the limit of {cap}")]
    TooLong { peer: PeerName, length: u64, cap: u64 },
    /// A control stream ended within a frame.
    #[error("a message from {peer} ends early")]
    CutShort { peer: PeerName },
    /// The peer abandoned a stream that it was sending.
    #[error("{peer} abandoned a stream with code {code}")]
    StreamReset { peer: PeerName, code: u64 },
    /// The peer does not want the rest of a stream that we were sending.
    #[error("{peer} stopped a stream with code {code}")]
    StreamStopped { peer: PeerName, code: u64 },
    /// Only the side that dialed can move to another socket.
    #[error("the connection to {peer} was not dialed here and has no socket of its own")]
    CannotRebind { peer: PeerName },
    /// The listener was closed.
    #[error("the listener at {local} is closed")]
    ListenerClosed { local: SocketAddr },
}

impl LinkError {
    /// What kind of failure it is: whether reconnecting helps.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::NobodyServes { .. }
            | Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Reset { .. }
            | Self::StreamReset { .. }
            | Self::StreamStopped { .. }
            // A new connection starts with new transport state, so even a protocol error may not recur.
            | Self::Transport { .. } => Fault::Transient,
            Self::Closed { code, .. } => fault_of_code(*code),
            Self::HostKey { .. } | Self::Refused { .. } => Fault::Denied,
            Self::TooLong { .. } | Self::CutShort { .. } => Fault::Corrupt,
            Self::NoAddress { .. }
            | Self::Socket { .. }
            | Self::Setup { .. }
            | Self::Incompatible { .. }
            | Self::ClosedHere { .. }
            | Self::CannotRebind { .. }
            | Self::ListenerClosed { .. } => Fault::Permanent,
        }
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => {
                "check how the host name is spelled".to_owned()
            }
            Self::NoAnswer { .. } | Self::NobodyServes { .. } | Self::Unreachable { .. } => {
                "check that haul serve runs there and that firewalls let its port through (UDP and TCP)"
                    .to_owned()
            }
            Self::Busy { .. } => {
                "try again later, or raise the number of connections there".to_owned()
            }
            Self::Incompatible { .. } => {
                "install the same version of haul on both sides".to_owned()
            }
            Self::HostKey { refused, .. } => refused.hint().to_owned(),
            Self::Refused { .. } => {
                "ask for our key line to be put into authorized_keys there".to_owned()
            }
            Self::Socket { local, .. } => {
                format!(
                    "check that no other program has port {} (UDP or TCP) and that it may be opened",
                    local.port()
                )
            }
            _ => return None,
        };
        Some(hint)
    }

    /// The peer that it is about, if it is about one.
    pub fn peer(&self) -> Option<&PeerName> {
        match self {
            Self::Socket { .. } | Self::Setup { .. } | Self::ListenerClosed { .. } => None,
            Self::Resolve { peer, .. }
            | Self::NoAddress { peer }
            | Self::Unreachable { peer, .. }
            | Self::NoAnswer { peer, .. }
            | Self::NobodyServes { peer, .. }
            | Self::Busy { peer }
            | Self::Incompatible { peer, .. }
            | Self::HostKey { peer, .. }
            | Self::Refused { peer, .. }
            | Self::Closed { peer, .. }
            | Self::ClosedHere { peer }
            | Self::TimedOut { peer }
            | Self::Reset { peer }
            | Self::Transport { peer, .. }
            | Self::TooLong { peer, .. }
            | Self::CutShort { peer }
            | Self::StreamReset { peer, .. }
            | Self::StreamStopped { peer, .. }
            | Self::CannotRebind { peer } => Some(peer),
        }
    }

    /// Why a connection ended, in our words.
    pub(crate) fn from_connection(peer: PeerName, error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => {
                Self::Incompatible { peer, detail: "no QUIC version in common".to_owned() }
            }
            ConnectionError::TransportError(error) => {
                transport(peer, u64::from(error.code), error.reason.as_bytes(), error.to_string())
            }
            ConnectionError::ConnectionClosed(close) => {
                transport(peer, u64::from(close.error_code), &close.reason, close.to_string())
            }
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                let reason = printable(&close.reason);
                if code == u64::from(close_code::REFUSED) {
                    Self::Refused { peer, reason }
                } else {
                    Self::Closed { peer, code, reason }
                }
            }
            ConnectionError::Reset => Self::Reset { peer },
            ConnectionError::TimedOut => Self::TimedOut { peer },
            ConnectionError::LocallyClosed => Self::ClosedHere { peer },
            ConnectionError::CidsExhausted => {
                Self::Transport { peer, detail: "no connection identifier is left".to_owned() }
            }
        }
    }
}

/// A parcel that cannot be taken.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "`peer` is the sender; `length` is what it said, `cap` what it may")]
pub enum ParcelError {
    /// The lane ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The sender abandoned it; it will come again if it matters.
    #[error("{peer} abandoned a parcel with code {code}")]
    Abandoned { peer: PeerName, code: u64 },
    /// The head is longer than may be.
    #[error("a parcel from {peer} has a head of {length} bytes, above the limit of {cap}")]
    HeadTooLong { peer: PeerName, length: u64, cap: usize },
    /// The body is longer than may be.
    #[error("a parcel from {peer} has a body of {length} bytes, above the limit of {cap}")]
    BodyTooLong { peer: PeerName, length: u64, cap: usize },
    /// It ends before the lengths that it began with.
    #[error("a parcel from {peer} ends early")]
    EndsEarly { peer: PeerName },
    /// It goes on behind the lengths that it began with.
    #[error("a parcel from {peer} is longer than it says")]
    TrailingBytes { peer: PeerName },
    /// It brings more to make up for loss than any loss could need.
    #[error("a parcel from {peer} has more repair symbols than content")]
    TooMuchRepair { peer: PeerName },
    /// Its beginning is missing while crumbs of the rest come.
    #[error("a parcel from {peer} comes in too many pieces")]
    TooManyPieces { peer: PeerName },
}

impl ParcelError {
    /// What kind of failure it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Link(error) => error.fault(),
            Self::Abandoned { .. } => Fault::Transient,
            Self::HeadTooLong { .. }
            | Self::BodyTooLong { .. }
            | Self::EndsEarly { .. }
            | Self::TrailingBytes { .. }
            | Self::TooMuchRepair { .. }
            | Self::TooManyPieces { .. } => Fault::Corrupt,
        }
    }

    /// Whether the sender broke the protocol, so that the lane should be closed with
    /// [`close_code::PROTOCOL`].
    pub fn is_violation(&self) -> bool {
        self.fault() == Fault::Corrupt
    }
}

fn fault_of_code(code: u64) -> Fault {
    match u32::try_from(code) {
        Ok(close_code::DONE | close_code::GOING_AWAY | close_code::BUSY) => Fault::Transient,
        Ok(close_code::REFUSED | close_code::HOST_KEY) => Fault::Denied,
        Ok(close_code::PROTOCOL) => Fault::Corrupt,
        _ => Fault::Permanent,
    }
}

fn transport(peer: PeerName, code: u64, reason: &[u8], shown: String) -> LinkError {
    if code == u64::from(quinn_proto::TransportErrorCode::CONNECTION_REFUSED) {
        return LinkError::Busy { peer };
    }
    if code == ALERT_NO_APPLICATION_PROTOCOL {
        return LinkError::Incompatible { peer, detail: no_protocol() };
    }
    // The codes from 0x100 to 0x1ff carry a TLS alert: the handshake itself was refused.
    if (0x100..0x200).contains(&code) {
        let detail =
            format!("the handshake was refused with alert {}: {}", code - 0x100, printable(reason));
        return LinkError::Incompatible { peer, detail };
    }
    LinkError::Transport { peer, detail: printable(shown.as_bytes()) }
}

/// What a peer lacks that answers with [`ALERT_NO_APPLICATION_PROTOCOL`].
pub(crate) fn no_protocol() -> String {
    format!("it does not offer {}", String::from_utf8_lossy(crate::ALPN))
}

/// A reason as it is sent: cut to what surely fits a packet, which the library would do too, but between
/// the bytes of a character.
pub(crate) fn reason_bytes(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}

/// A peer's text as it may be shown.
pub(crate) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(MAX_REASON_CHARS).map(|c| if is_unprintable(c) { '_' } else { c }).collect()
}
