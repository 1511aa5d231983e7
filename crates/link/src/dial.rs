//! The side that dials: names to addresses, one socket per attempt, the host's key.
//! Nothing is sent behind the handshake before the key of the host was accepted. Whether the host lets us
//! in is said later (`Lane::welcomed`), so that the caller can use its first round trip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TokioRuntime, VarInt};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::error::close_code;
use crate::lane::{LaneKind, Path, QuicLane, Welcome, wildcard};
use crate::listen::peer_key;
use crate::memory::{Account, LARGEST_SHARE, MOST_PARCELS};
use crate::pipe::Carrier;
use crate::{
    Identity, Lane, LinkError, PeerName, PublicKey, Target, TransportOptions, Warning, socket, tls,
};

mod attempts;
mod tcp;

use attempts::Attempts;

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// The library wants a server name; a raw key is bound to none, and none is sent.
const SERVER_NAME: &str = "haul";

/// Whether the key that a host showed is the right one.
pub trait HostCheck: Send + Sync {
    /// Accepts or refuses the key. It must not block: to ask the user, refuse with
    /// [`HostRefused::Unknown`], ask, and dial again.
    fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), HostRefused>;

    /// Whom an accepted key stands for: its holder is known by that one in all but the handshake. A one-time
    /// key, which an identity has signed, stands for it.
    fn stands_for(&self, key: &PublicKey) -> PublicKey {
        *key
    }
}

/// Why a host's key is not accepted. The key itself is in the error's peer name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostRefused {
    /// No key of this host is known.
    #[error("the host is not in known_hosts")]
    Unknown,
    /// Other keys of this host are known.
    #[error("the host is known by another key: {}", list(expected))]
    Changed {
        /// The keys that it is known by.
        expected: Vec<PublicKey>,
    },
    /// Refused for another reason, as when an address pins a fingerprint.
    #[error("{reason}")]
    Other {
        /// Why, for the user.
        reason: String,
    },
}

impl HostRefused {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown => {
                "compare the fingerprint with the one that the host prints, then accept the host"
            }
            Self::Changed { .. } => {
                "somebody may be in between; if the host really has a new key, remove the old one from known_hosts"
            }
            Self::Other { .. } => "compare the fingerprint with the one that the host prints",
        }
    }
}

fn list(keys: &[PublicKey]) -> String {
    keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>().join(", ")
}

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// What the lane is made of.
    pub kind: LaneKind,
    /// How long everything up to the welcome may take.
    pub deadline: Duration,
    /// How long one address may stay silent before the next is tried beside it.
    pub next_address_after: Duration,
    /// How long all of them may stay silent before one is tried again beside them: bursts of loss are seldom
    /// longer. TCP has twice as long, and further attempts wait longer.
    pub again_after: Duration,
    /// How many bytes the peer may send us beyond what we have read.
    pub receive_window: u64,
    /// The transport's settings.
    pub transport: TransportOptions,
    /// The pipe that what is dialed leads through, if it does. For TCP only.
    pub carrier: Option<Carrier>,
    /// What errors call the host, instead of what is dialed.
    pub name: Option<PeerName>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            kind: LaneKind::Quic,
            deadline: Duration::from_secs(10),
            next_address_after: Duration::from_millis(250),
            again_after: Duration::from_millis(250),
            receive_window: LARGEST_SHARE,
            transport: TransportOptions::default(),
            carrier: None,
            name: None,
        }
    }
}

/// Connects to a host and returns once its key was accepted. Must be called within a tokio runtime.
pub async fn dial(
    target: &Target,
    identity: &Identity,
    check: &dyn HostCheck,
    options: &DialOptions,
) -> Result<Lane, LinkError> {
    let deadline = Instant::now() + options.deadline;
    let peer = options.name.clone().unwrap_or_else(|| PeerName::new(target));
    let late = || LinkError::NoAnswer { peer: peer.clone(), after: options.deadline };
    let addresses = timeout_at(deadline, resolve(target, &peer)).await.map_err(|_| late())??;
    let host = Host { target, peer, check, deadline };
    match options.kind {
        LaneKind::Quic => dial_quic(host, &addresses, identity, options).await,
        LaneKind::Tcp | LaneKind::Pipe => tcp::dial(host, &addresses, identity, options).await,
    }
}

/// Whom we want to reach.
struct Host<'a> {
    target: &'a Target,
    peer: PeerName,
    check: &'a dyn HostCheck,
    deadline: Instant,
}

impl Host<'_> {
    /// The peer with the key that it showed, if that is the right one.
    fn accept(&self, key: Option<PublicKey>) -> Result<(PeerName, PublicKey), LinkError> {
        let Some(key) = key else {
            let detail = "it showed no key".to_owned();
            return Err(LinkError::Incompatible { peer: self.peer.clone(), detail });
        };
        match self.check.check(&self.target.host, self.target.port, &key) {
            Ok(()) => Ok((self.peer.with_key(self.check.stands_for(&key)), key)),
            Err(refused) => Err(LinkError::HostKey { peer: self.peer.with_key(key), refused }),
        }
    }
}

/// What a host hears whose key is not accepted.
const HOST_KEY_REASON: &str = "the key of the host is not accepted";

async fn dial_quic(
    host: Host<'_>,
    addresses: &[SocketAddr],
    identity: &Identity,
    options: &DialOptions,
) -> Result<Lane, LinkError> {
    let config = client_config(identity)?;
    let attempts = Attempts { peer: &host.peer, addresses, options, deadline: host.deadline };
    // A host's part of the handshake fits one packet: it is silent until that is there, and then we are done.
    let reached = attempts
        .first(|address, _| attempt(host.peer.clone(), address, config.clone(), options.clone()));
    quic_lane(&host, reached.await?, options)
}

/// The lane over a finished handshake, if the key of the host is accepted.
fn quic_lane(host: &Host<'_>, reached: Reached, options: &DialOptions) -> Result<Lane, LinkError> {
    let Reached { endpoint, connection, warnings } = reached;
    let (peer, key) = host.accept(peer_key(&connection)).inspect_err(|error| {
        if matches!(error, LinkError::HostKey { .. }) {
            let code = VarInt::from_u32(close_code::HOST_KEY);
            connection.close(code, HOST_KEY_REASON.as_bytes());
        }
    })?;
    let account = Account::new(options.receive_window);
    let welcome = Welcome::await_on(connection.clone(), host.deadline, options.deadline);
    let socket_buffer_bytes = options.transport.socket_buffer_bytes;
    let quic = QuicLane::dialed(
        connection,
        peer.clone(),
        account.clone(),
        endpoint,
        socket_buffer_bytes,
        welcome,
    );
    let known_as = host.check.stands_for(&key);
    Ok(Lane::new(Path::Quic(quic), peer, known_as, None, account, warnings))
}

fn client_config(identity: &Identity) -> Result<ClientConfig, LinkError> {
    let setup = |detail: String| LinkError::Setup { detail };
    let tls = tls::client_config(identity).map_err(|error| setup(error.to_string()))?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| setup(error.to_string()))?;
    // The transport's settings follow in each attempt, as they depend on the address.
    Ok(ClientConfig::new(Arc::new(crypto)))
}

/// The addresses of a name, the two families by turns, beginning with the one the system put first.
async fn resolve(target: &Target, peer: &PeerName) -> Result<Vec<SocketAddr>, LinkError> {
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|source| LinkError::Resolve { peer: peer.clone(), source })?.collect();
    let addresses = by_turns(found);
    if addresses.is_empty() {
        return Err(LinkError::NoAddress { peer: peer.clone() });
    }
    Ok(addresses)
}

fn by_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut mixed: Vec<SocketAddr> = Vec::new();
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(preferred.next());
        mixed.extend(other.next());
        if mixed.len() == before || mixed.len() >= MAX_ADDRESSES {
            mixed.truncate(MAX_ADDRESSES);
            return mixed;
        }
    }
}

/// A finished handshake, with the socket that it was made from.
struct Reached {
    endpoint: Endpoint,
    connection: Connection,
    warnings: Vec<Warning>,
}

async fn attempt(
    peer: PeerName,
    address: SocketAddr,
    mut config: ClientConfig,
    options: DialOptions,
) -> Result<Reached, LinkError> {
    let local = wildcard(address);
    let transport = options.transport.within(socket::path_payload(address));
    config.transport_config(Arc::new(transport.to_config(options.receive_window, MOST_PARCELS)?));
    let (socket, warnings) = socket::open(local, transport.socket_buffer_bytes)?;
    let endpoint =
        Endpoint::new(transport.to_endpoint_config()?, None, socket, Arc::new(TokioRuntime))
            .map_err(|source| LinkError::Socket { action: "use", local, source })?;
    let connecting = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| LinkError::Setup { detail: format!("{address}: {error}") })?;
    let connection = connecting.await.map_err(|error| LinkError::from_connection(peer, error))?;
    Ok(Reached { endpoint, connection, warnings })
}

#[cfg(test)]
mod tests;
