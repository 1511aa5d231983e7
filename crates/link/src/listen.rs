//! The side that waits to be dialed: who gets in, how many, and how much memory each may fill.
//! A peer is asked for by its key right after the handshake and before any stream is taken from it. One
//! task takes handshakes in; each connection is watched by a task of its own until it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{close_code, reason_bytes};
use crate::lane::tcp::stream;
use crate::lane::{Path, QuicLane, canonical};
use crate::manners::Manners;
use crate::memory::{Account, MemoryBudget, SMALLEST_SHARE, parcels_of};
use crate::pipe::Carrier;
use crate::rate::control_of;
use crate::{
    Congestion, Denied, Identity, Lane, LinkError, Pace, PathMemory, PeerName, Permissions,
    PublicKey, TransportOptions, Warning, socket, tls,
};

mod memories;
mod slots;
mod tcp;

use memories::Memories;
/// What a data connection over TCP counts as.
pub(crate) use slots::Slot as DataSlot;
pub use slots::network_of;
use slots::{Slot, Slots};

/// What the listener says first on every lane: that the peer is in, and the version that follows.
pub(crate) const WELCOME: [u8; 1] = [1];

/// What every path of QUIC takes (RFC 9000, 14).
const LEAST_MTU: u16 = 1200;

/// How many admitted lanes may wait for `accept`.
const WAITING_LANES: usize = 16;

/// How often shares are granted that had to wait until a peer's earlier bytes were read.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// Who may come in. It is asked on every connection, so a change is in force from the next one on.
pub trait Gatekeeper: Send + Sync {
    /// What the peer may do, or why it is turned away. It must not block.
    fn admit(&self, peer: &PublicKey, remote: SocketAddr) -> Result<Permissions, Denied>;

    /// Whom an admitted key stands for: see [`crate::HostCheck::stands_for`].
    fn stands_for(&self, peer: &PublicKey) -> PublicKey {
        *peer
    }
}

/// How a listener guards itself.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// The memory that all peers together may fill with data that was not yet read. Each gets an equal
    /// share, but not less than [`crate::SMALLEST_SHARE`], which then bounds the sum instead.
    pub memory_budget: u64,
    /// The most connections at once, handshakes included.
    pub max_connections: usize,
    /// The most data connections at once that lanes over TCP have beside their first; each takes half a
    /// MiB for buffers where it is busy, which a share that shrinks does not take back.
    pub max_data_connections: usize,
    /// The most handshakes at once from one IPv4 address or one IPv6 /64.
    pub max_handshakes_per_address: usize,
    /// With this many handshakes under way, newcomers must first prove that they are where they say.
    pub validate_above: usize,
    /// How long a handshake may take.
    pub handshake_deadline: Duration,
    /// The transport's settings.
    pub transport: TransportOptions,
    /// What tells which of the peers come through tunnels, if any may.
    pub carrier: Option<Carrier>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            memory_budget: 128 * 1024 * 1024,
            max_connections: 256,
            max_data_connections: 128,
            max_handshakes_per_address: 32,
            validate_above: 64,
            handshake_deadline: Duration::from_secs(5),
            transport: TransportOptions::default(),
            carrier: None,
        }
    }
}

/// Two bound sockets, UDP and TCP, of one port that admit peers.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    local: SocketAddr,
    ready: Mutex<mpsc::Receiver<Lane>>,
    doorman: JoinHandle<()>,
    /// Ends the lanes over TCP, for this reason; its receivers go when they have ended.
    going: watch::Sender<Option<String>>,
    warnings: Vec<Warning>,
}

impl Listener {
    /// Binds the sockets and starts to admit peers. Must be called within a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        gatekeeper: Arc<dyn Gatekeeper>,
        options: ListenOptions,
    ) -> Result<Self, LinkError> {
        let config = server_config(identity, &options)?;
        let tls = tcp::server_config(identity)?;
        let (socket, accepting, warnings) =
            socket::open_both(address, options.transport.socket_buffer_bytes)?;
        // Whoever came since it listens is accepted with what it had: at worst that costs more.
        stream::prepare(&accepting);
        let failed = |source| LinkError::Socket { action: "listen on", local: address, source };
        let mut endpoint_config = options.transport.to_endpoint_config()?;
        outlive_restarts(&mut endpoint_config, identity);
        let endpoint =
            Endpoint::new(endpoint_config, Some(config.clone()), socket, Arc::new(TokioRuntime))
                .map_err(failed)?;
        let local = endpoint.local_addr().map_err(failed)?;
        let accepting = tokio::net::TcpListener::from_std(accepting).map_err(failed)?;
        let (lanes, ready) = mpsc::channel(WAITING_LANES);
        let door = Arc::new(Door {
            gatekeeper,
            slots: Slots::new(
                options.max_connections,
                options.max_handshakes_per_address,
                options.max_data_connections,
            ),
            budget: MemoryBudget::new(options.memory_budget),
            lanes,
            validate_above: options.validate_above,
            handshake_deadline: options.handshake_deadline,
            config,
            transport: options.transport.clone(),
            memories: Memories::default(),
        });
        let (going, gone) = watch::channel(None);
        // It ends by `going` and takes its leave then.
        let settings = (options.transport, options.carrier);
        tokio::spawn(tcp::keep(door.clone(), accepting, tls, settings, gone));
        let doorman = tokio::spawn(door.keep(endpoint.clone()));
        Ok(Self { endpoint, local, ready: Mutex::new(ready), doorman, going, warnings })
    }

    /// Where it listens, with the port that was chosen if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What the user should know about the socket.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Waits for the next peer that was admitted. Can be cancelled without losing one.
    pub async fn accept(&self) -> Result<Lane, LinkError> {
        let lane = self.ready.lock().await.recv().await;
        lane.ok_or(LinkError::ListenerClosed { local: self.local })
    }

    /// Closes every lane, telling peers that we go away, and waits, `at_most` this long, until they can
    /// have heard it.
    pub async fn close(&self, reason: &str, at_most: Duration) {
        self.endpoint.close(VarInt::from_u32(close_code::GOING_AWAY), reason_bytes(reason));
        self.going.send_replace(Some(reason.to_owned()));
        // Being too late is no error: the peers' idle timeouts cover it.
        let _ = tokio::time::timeout(at_most, async {
            tokio::join!(self.endpoint.wait_idle(), self.going.closed())
        })
        .await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(close_code::GOING_AWAY), b"");
        self.going.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert_default();
            first
        });
        self.doorman.abort();
    }
}

/// Lets a listener that was restarted recognise the connections of the one before, which it knows
/// nothing of, and tell their peers so at once (stateless reset, RFC 9000, 10.3). With keys of chance
/// they would wait for their idle timeout.
fn outlive_restarts(config: &mut EndpointConfig, identity: &Identity) {
    // A signature is the same each time, and nobody else can make it; it is never sent.
    let secret = identity.sign(b"haul: key of stateless resets\0");
    let cids = secret.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret[8..])));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cids)));
}

fn server_config(identity: &Identity, options: &ListenOptions) -> Result<ServerConfig, LinkError> {
    let setup = |detail: String| LinkError::Setup { detail };
    let tls = tls::server_config(identity).map_err(|error| setup(error.to_string()))?;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| setup(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    // Until a peer is admitted it may fill the least that there is.
    let transport = options.transport.to_config(SMALLEST_SHARE, parcels_of(SMALLEST_SHARE))?;
    config.transport_config(Arc::new(transport));
    config.migration(true);
    // The doorman takes handshakes in at once, so only a moment's worth of them ever waits here.
    config
        .max_incoming(1024)
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(4 * 1024 * 1024);
    // Tokens for later visits would let onlookers tell that two connections are one client's.
    config.validation_token.sent(0);
    Ok(config)
}

/// What the tasks behind a listener share.
struct Door {
    gatekeeper: Arc<dyn Gatekeeper>,
    slots: Arc<Slots>,
    budget: Arc<MemoryBudget>,
    lanes: mpsc::Sender<Lane>,
    validate_above: usize,
    handshake_deadline: Duration,
    config: ServerConfig,
    transport: TransportOptions,
    memories: Memories,
}

impl Door {
    /// Takes handshakes in until the endpoint closes. The tasks end with this one.
    async fn keep(self: Arc<Self>, endpoint: Endpoint) {
        let mut visits = JoinSet::new();
        let mut settling = tokio::time::interval(SETTLE_EVERY);
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.receive(incoming, &mut visits),
                    None => break,
                },
                Some(_ended) = visits.join_next() => {}
                _ = settling.tick() => self.budget.settle(),
            }
        }
        while visits.join_next().await.is_some() {}
    }

    fn receive(self: &Arc<Self>, incoming: Incoming, visits: &mut JoinSet<()>) {
        if self.slots.handshakes() >= self.validate_above && incoming.may_retry() {
            // A forged source address never sees the answer, so it costs one packet and no memory.
            let _ = incoming.retry();
            return;
        }
        let remote = canonical(incoming.remote_address());
        match self.slots.take(remote.ip()) {
            Some(slot) => {
                visits.spawn(self.clone().visit(incoming, slot));
            }
            None => incoming.refuse(),
        }
    }

    /// One peer, from its handshake to its end. The slot is given back when this returns or panics.
    async fn visit(self: Arc<Self>, incoming: Incoming, mut slot: Slot) {
        let admitted = tokio::time::timeout(self.handshake_deadline, self.admit(incoming)).await;
        let Ok(Some(Admitted { connection, peer, permissions, manners })) = admitted else {
            return;
        };
        slot.handshake_done();
        let account = Account::new(SMALLEST_SHARE);
        let _place = self.budget.join(Arc::new(connection.clone()), account.clone());
        let remote = canonical(connection.remote_address());
        let known_as = self.gatekeeper.stands_for(&peer);
        let name = PeerName::new(remote).with_key(known_as);
        let quic =
            QuicLane::admitted(connection.clone(), name.clone(), account.clone(), manners.clone());
        let path = Path::Quic(quic);
        let lane = Lane::new(path, name, known_as, Some(permissions), account, Vec::new());
        tokio::select! {
            sent = self.lanes.send(lane) => if sent.is_err() {
                return;
            },
            _ended = connection.closed() => return,
        }
        connection.closed().await;
        let learned = control_of(connection.congestion_state()).and_then(|rate| rate.learned());
        if let Some(learned) = learned {
            // Others of that network may sit behind a narrower link: sizes are found anew.
            self.memories.learn(remote.ip(), PathMemory { mtu: LEAST_MTU, ..learned });
        }
    }

    /// The settings for a connection from here, which starts from what was learnt of the path, and gives
    /// way when it is told to.
    fn config_for(&self, remote: SocketAddr, manners: &Manners) -> Option<ServerConfig> {
        let known_path = self.memories.of(remote.ip());
        let options = TransportOptions { known_path, ..self.transport.clone() };
        let mut transport = options.to_config(SMALLEST_SHARE, parcels_of(SMALLEST_SHARE)).ok()?;
        if options.congestion == Congestion::Rate && options.pace == Pace::Fair {
            transport.congestion_controller_factory(Arc::new(manners.factory(known_path)));
        }
        let mut config = self.config.clone();
        config.transport_config(Arc::new(transport));
        Some(config)
    }

    /// The handshake, the gatekeeper's word, and the welcome that tells the dialer that it is in.
    async fn admit(&self, incoming: Incoming) -> Option<Admitted> {
        let manners = Manners::default();
        let accepted = match self.config_for(canonical(incoming.remote_address()), &manners) {
            Some(config) => incoming.accept_with(Arc::new(config)),
            None => incoming.accept(),
        };
        let connection = accepted.ok()?.await.ok()?;
        let Some(peer) = peer_key(&connection) else {
            connection.close(VarInt::from_u32(close_code::PROTOCOL), b"no key was shown");
            return None;
        };
        match self.gatekeeper.admit(&peer, canonical(connection.remote_address())) {
            Ok(permissions) => {
                let mut welcome = connection.open_uni().await.ok()?;
                welcome.write_all(&WELCOME).await.ok()?;
                welcome.finish().ok()?;
                Some(Admitted { connection, peer, permissions, manners })
            }
            Err(denied) => {
                connection
                    .close(VarInt::from_u32(close_code::REFUSED), reason_bytes(&denied.reason));
                None
            }
        }
    }
}

/// A peer that was let in.
struct Admitted {
    connection: Connection,
    peer: PublicKey,
    permissions: Permissions,
    manners: Manners,
}

/// The key that the peer proved to hold in the handshake.
pub(crate) fn peer_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_key(&certificates)
}

#[cfg(test)]
mod tests;
