//! What tests of real connections share: a gatekeeper that counts, a relay that loses packets, and a
//! peer that speaks plain QUIC and so can misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::{
    Denied, DialOptions, Gatekeeper, HostCheck, HostRefused, Identity, Lane, LaneKind, LinkError,
    ListenOptions, Listener, Permissions, PublicKey, Target, dial, tls,
};

/// Makes a test of each function for each kind of lane.
macro_rules! both_kinds {
    ($($name:ident)*) => {
        mod quic {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::LaneKind::Quic).await;
            })*
        }
        mod tcp {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::LaneKind::Tcp).await;
            })*
        }
    };
}
pub(crate) use both_kinds;

/// Longer than anything here takes on a slow machine, so that a hang fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target::new(&address.ip().to_string(), address.port()).unwrap()
}

/// How a test dials: one that stalls is to have one lane all the same.
pub(crate) fn dial_options() -> DialOptions {
    DialOptions { again_after: PATIENCE, ..DialOptions::default() }
}

/// Admits the keys it was told, and counts how often it was asked.
#[derive(Debug, Default)]
pub(crate) struct Doorkeeper {
    pub(crate) admitted: Mutex<Vec<PublicKey>>,
    pub(crate) asked: AtomicUsize,
}

impl Doorkeeper {
    pub(crate) fn admitting(keys: &[PublicKey]) -> Arc<Self> {
        Arc::new(Self { admitted: Mutex::new(keys.to_vec()), asked: AtomicUsize::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Gatekeeper for Doorkeeper {
    fn admit(&self, peer: &PublicKey, _remote: SocketAddr) -> Result<Permissions, Denied> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.admitted.lock().unwrap().contains(peer) {
            return Ok(Permissions { comment: "friend".to_owned(), ..Permissions::unrestricted() });
        }
        Err(Denied::new("key is not known\u{1b}[31m"))
    }
}

/// Accepts one host key.
pub(crate) struct Expect(pub(crate) PublicKey);

impl HostCheck for Expect {
    fn check(&self, _host: &str, _port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        if *key == self.0 { Ok(()) } else { Err(HostRefused::Changed { expected: vec![self.0] }) }
    }
}

/// A listener with its identity, and the identity that it admits.
pub(crate) struct Rig {
    pub(crate) listener: Listener,
    pub(crate) host: Identity,
    pub(crate) friend: Identity,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) kind: LaneKind,
}

impl Rig {
    /// One whose lanes are QUIC.
    pub(crate) fn new(options: ListenOptions) -> Self {
        Self::of(LaneKind::Quic, options)
    }

    pub(crate) fn of(kind: LaneKind, options: ListenOptions) -> Self {
        let (host, friend) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let doorkeeper = Doorkeeper::admitting(&[friend.public_key()]);
        let listener = Listener::bind(any_port(), &host, doorkeeper.clone(), options).unwrap();
        Self { listener, host, friend, doorkeeper, kind }
    }

    pub(crate) async fn dial(&self, options: &DialOptions) -> Result<Lane, LinkError> {
        self.dial_at(self.listener.local_addr(), options).await
    }

    pub(crate) async fn dial_at(
        &self,
        address: SocketAddr,
        options: &DialOptions,
    ) -> Result<Lane, LinkError> {
        let options = DialOptions { kind: self.kind, ..options.clone() };
        let expected = Expect(self.host.public_key());
        let lane = dial(&target(address), &self.friend, &expected, &options).await?;
        lane.welcomed().await?;
        Ok(lane)
    }

    /// Both ends of a lane: the dialer's first.
    pub(crate) async fn pair(&self) -> (Lane, Lane) {
        let dialed = self.dial(&dial_options()).await.unwrap();
        (dialed, self.listener.accept().await.unwrap())
    }

    /// A peer with the friend's key that speaks plain QUIC.
    pub(crate) async fn raw(&self) -> (Raw, Lane) {
        let raw = Raw::new(tls::client_config(&self.friend).unwrap());
        let connection = raw.connect(self.listener.local_addr()).await.unwrap();
        (Raw { connection: Some(connection), ..raw }, self.listener.accept().await.unwrap())
    }
}

/// A client made of the library alone.
pub(crate) struct Raw {
    pub(crate) endpoint: Endpoint,
    pub(crate) config: ClientConfig,
    pub(crate) connection: Option<Connection>,
}

impl Raw {
    pub(crate) fn new(tls: rustls::ClientConfig) -> Self {
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint: Endpoint::client(any_port()).unwrap(), config, connection: None }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectionError> {
        self.endpoint.connect_with(self.config.clone(), address, "haul").unwrap().await
    }
}

/// A relay between one client and one server that loses packets by the numbers of a seed and delays the
/// rest.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// While set, nothing passes.
    pub(crate) silent: Arc<AtomicBool>,
    /// Packets above this many bytes vanish.
    pub(crate) largest: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn new(
        server: SocketAddr,
        loss_percent: u64,
        delay: Duration,
        seed: u64,
    ) -> Self {
        let front = Arc::new(UdpSocket::bind(any_port()).await.unwrap());
        let back = Arc::new(UdpSocket::bind(any_port()).await.unwrap());
        back.connect(server).await.unwrap();
        let address = front.local_addr().unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let largest = Arc::new(AtomicUsize::new(usize::MAX));
        let client: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for to_server in [true, false] {
            let (front, back, client) = (front.clone(), back.clone(), client.clone());
            let (silent, largest) = (silent.clone(), largest.clone());
            let (queue, mut queued) =
                tokio::sync::mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(4096);
            let mut random = Random(seed + u64::from(to_server));
            let (from, from_client) =
                (if to_server { front.clone() } else { back.clone() }, client.clone());
            tasks.spawn(async move {
                let mut buffer = vec![0; 65536];
                loop {
                    // A refused packet shows as an error on a connected socket; it is one more loss.
                    let Ok((length, sender)) = from.recv_from(&mut buffer).await else { continue };
                    if to_server {
                        *from_client.lock().unwrap() = Some(sender);
                    }
                    let lost =
                        random.below(100) < loss_percent || length > largest.load(Ordering::SeqCst);
                    if !lost && !silent.load(Ordering::SeqCst) {
                        let due = tokio::time::Instant::now() + delay;
                        let _overflow_is_loss = queue.try_send((due, buffer[..length].to_vec()));
                    }
                }
            });
            tasks.spawn(async move {
                while let Some((due, packet)) = queued.recv().await {
                    tokio::time::sleep_until(due).await;
                    let client = *client.lock().unwrap();
                    let _failure_is_loss = match (to_server, client) {
                        (true, _) => back.send(&packet).await,
                        (false, Some(client)) => front.send_to(&packet, client).await,
                        (false, None) => Ok(0),
                    };
                }
            });
        }
        Self { address, silent, largest, _tasks: tasks }
    }
}

/// Numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
