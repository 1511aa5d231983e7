//! Who hands something in, whatever way it came.

use std::net::SocketAddr;

use link::InboxRights;

/// Who hands something in. Two with the same id are the same: quotas, queue places and uploads are kept by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The key line of a peer, `haul-ed25519 AAAA...`, or `dync:` and the key in Z85.
    pub id: String,
    /// What the operator calls it, for logs, lists and sidecars; from outside, so escaped where it is shown.
    pub label: String,
    /// Where it comes from, if that is known.
    pub address: Option<SocketAddr>,
    /// What it may do.
    pub rights: InboxRights,
    /// Payload bytes per second, if limited.
    pub max_rate_bytes_per_s: Option<u64>,
}
