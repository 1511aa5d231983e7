//! Who we talk to and how: identity, the files that say who is trusted, the handshake, and lanes
//! over QUIC and TCP.
//!
//! A *link* is how bytes reach a peer and a *lane* is one connection of it. This crate knows nothing of
//! files and does no disk IO: the texts of key files come in and go out as strings. No type of the
//! libraries beneath shows in the public API.
//!
//! - [`Identity`], [`PublicKey`]: who we are and who a peer is.
//! - [`KnownHosts`], [`AuthorizedKeys`]: whom we dial and whom we admit; pure.
//! - [`Listener`], [`dial`], [`Lane`]: connections, control frames, parcels, deadlines, memory shares.
//! - [`Encoder`], [`Decoder`]: the codec of messages; pure.
//! - [`Backoff`]: when to dial again; pure.

mod authorized_keys;
mod backoff;
mod dial;
mod error;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod known_hosts;
mod lane;
mod listen;
mod manners;
mod memory;
pub mod pipe;
mod public_key;
mod race;
mod rate;
#[cfg(test)]
mod rig;
mod socket;
mod target;
mod tls;
mod transport;
pub mod wire;

pub use authorized_keys::{
    AuthorizedKeys, Denied, InboxRights, Inboxes, LineOptions, LineProblem, Permissions,
    is_inbox_name,
};
pub use backoff::{Backoff, BackoffOptions, Outcome, Step, delay};
pub use dial::{DialOptions, HostCheck, HostRefused, dial};
pub use error::{LinkError, ParcelError, PeerName, close_code};
pub use fault::Fault;
pub use identity::{Identity, IdentityError, MAX_PEM_BYTES};
pub use known_hosts::{KnownHosts, Lookup};
pub use lane::{ControlReceiver, ControlSender, Lane, LaneKind, LaneStats, MAX_FRAME, Parcel};
pub use listen::{Gatekeeper, ListenOptions, Listener};
pub use memory::{LARGEST_SHARE, SMALLEST_SHARE};
pub use public_key::{
    KEY_TYPE, KeyLineError, MAX_LINE_BYTES, PublicKey, SPKI_BYTES, is_unprintable,
};
pub use race::{LinkChoice, NEAR, reach};
pub use rate::{Bound, Pace, PathMemory};
pub use socket::{Warning, path_payload};
pub use target::{DEFAULT_PORT, Target, TargetError};
pub use tls::ALPN;
pub use transport::{Congestion, PARCEL_WINDOW, TransportOptions};
pub use wire::{Decoder, Encoder, WireError, WireProblem};
