//! The socket at which clients of dync arrive: CURVE with a list of keys, and one loop that takes what comes, hands it to
//! the pure machine and carries out what that wishes. The loop waits for nothing else: what may block goes to the desk on
//! threads of its own, and a client that does not read its answers is disconnected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use omq_proto::endpoint::Host;
use omq_proto::monitor::{MonitorEvent, PeerIdent};
use omq_proto::proto::mechanism::{AuthenticationResult, Authenticator};
use omq_proto::{
    CurveKeypair, CurvePublicKey, CurveSecretKey, CurveServerOptions, Endpoint, Identity, Message,
    Options, PeerPublicKey, SocketType,
};
use omq_tokio::{IdentitySocket, Socket};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::carry::{Beginning, Carrier, Word};
use super::desk::{Desk, Offer, UploadId};
use super::keys::{Clients, KeyError, KeyFolder};
use super::machine::{Limits, Machine, Output, Speaker};
use super::refusals::{Cause, Refusals, Untold};
use super::wire::{ClientMessage, MAX_FRAMES, MESSAGE_OVERHEAD, ServerMessage};
use crate::Client;

/// How often the machine is told the time.
const TICK: Duration = Duration::from_secs(1);
/// How often the folder of keys is read again.
const REREAD: Duration = Duration::from_secs(2);
/// Messages that wait for a client to read them, or for the loop.
const QUEUE: u32 = 64;
/// Denials that wait to be told.
const DENIALS: usize = 64;
/// How often a connection may say what is no message.
const MAX_SLIPS: u32 = 16;
/// What an operator reads whose client has chosen what is ZeroMQ's own.
const IDENTITY_ADVICE: &str = "its identity is too long, or begins with a zero byte, which ZeroMQ keeps for itself and one of 256 \
     random ones does: start that client again, and it takes another";
/// Connections of one key.
const MAX_CONNECTIONS: usize = 256;
/// Words of the desk that wait for the loop.
const WORDS: usize = 1024;
/// How long uploads have to bring to the disk what they hold when the listener ends.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What a listener needs to know.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Where it listens; dync has port 8889.
    pub address: SocketAddr,
    /// Bounds of what is going on at once.
    pub limits: Limits,
    /// The most bytes of metadata.
    pub max_metadata_bytes: usize,
    /// How often a connection is tried whether its client is there still.
    pub heartbeat: Duration,
}

impl ListenOptions {
    /// The defaults, at this address.
    pub fn new(address: SocketAddr) -> Self {
        let heartbeat = Duration::from_secs(15);
        Self { address, limits: Limits::default(), max_metadata_bytes: 1 << 20, heartbeat }
    }
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The address cannot be had.
    #[error("cannot listen for dync clients at {address}: {reason}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// What happens at a listener, for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A file of the clients' folder is not understood, and lets nobody in.
    Key {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// A client was disconnected for what it did.
    Disconnected {
        /// Its label, from outside.
        client: String,
        /// Why.
        reason: String,
    },
    /// A connection was refused in the handshake.
    Refused {
        /// Where it came from.
        address: String,
        /// Why, partly from outside.
        reason: String,
        /// How many more like it were refused since that was told last...
        same: u64,
        /// ...and how many of others, which were too many.
        others: u64,
    },
}

/// A listener that runs.
pub struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens, with the pair of `keys`, which is made if there is none. `notice` must not block.
    pub async fn start<D: Desk>(
        options: ListenOptions,
        keys: KeyFolder,
        desk: Arc<D>,
        notice: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, ListenError> {
        let folder = keys.clone();
        let read = move || Ok((folder.server_pair(Timestamp::now())?, folder.clients()?));
        let read = tokio::task::spawn_blocking(read).await;
        let (pair, clients) = read
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            .map_err(|error: KeyError| error)?;
        for (file, reason) in clients.problems.clone() {
            notice(Notice::Key { file, reason });
        }
        let allowed = Arc::new(RwLock::new(Arc::new(clients)));
        let secret = pair.secret.as_ref().map(|secret| secret.0).unwrap_or_default();
        let pair = CurveKeypair {
            public: CurvePublicKey::from_bytes(pair.public),
            secret: CurveSecretKey::from_bytes(secret),
        };
        let wrong = |error: omq_proto::Error| ListenError::Bind {
            address: options.address,
            reason: error.to_string(),
        };
        let (denied, denials) = mpsc::channel(DENIALS);
        let socket = socket_options(&options, pair, &allowed, denied);
        let socket = Socket::try_new(SocketType::Router, socket).map_err(wrong)?;
        let host = Host::Ip(options.address.ip());
        let bound = socket.bind(Endpoint::Tcp { host, port: options.address.port() }).await;
        let port = match bound.map_err(wrong)? {
            Endpoint::Tcp { port, .. } => port,
            _ => options.address.port(),
        };
        let socket = IdentitySocket::try_from(socket).map_err(wrong)?;
        let (stop, stopped) = watch::channel(false);
        let (words, said) = mpsc::channel(WORDS);
        let address = SocketAddr::new(options.address.ip(), port);
        let room = Room {
            machine: Machine::new(options.limits.clone()),
            options,
            socket,
            desk,
            allowed,
            words,
            carriers: BTreeMap::new(),
            closing: BTreeMap::new(),
            denials,
            slips: HashMap::new(),
            ending: HashSet::new(),
            holders: HashMap::new(),
            refusals: Refusals::default(),
            notice: Box::new(notice),
            began: Instant::now(),
        };
        let task = tokio::spawn(room.run(keys, said, stopped));
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: what was taken is brought to the disk first.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// An address as the handshake has it: without a port, or with one.
fn address_of(text: &str) -> Option<SocketAddr> {
    let without = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(without)
}

fn socket_options(
    options: &ListenOptions,
    pair: CurveKeypair,
    allowed: &Arc<RwLock<Arc<Clients>>>,
    denied: mpsc::Sender<Denied>,
) -> Options {
    let allowed = allowed.clone();
    let authenticator = Authenticator::new_with_result(move |peer| {
        let clients = current(&allowed);
        let address = peer.peer_address.as_deref().and_then(address_of);
        match clients.client(&peer.public_key, address, Timestamp::now()) {
            // The same for each connection of a key, or a client could not take its identity over when it comes back.
            Ok(client) => AuthenticationResult::allow().with_user_id(Bytes::from(client.id)),
            Err(reason) => {
                // Who is denied while many are need not stand in the log.
                let from = address.map(|address| address.ip());
                let _ = denied.try_send((from, peer.public_key, reason));
                AuthenticationResult::deny()
            }
        }
    });
    let mut server = CurveServerOptions::new();
    server.authenticator = Some(authenticator);
    let chunk = options.limits.chunk_bytes as usize;
    let message = chunk.max(options.max_metadata_bytes) + MESSAGE_OVERHEAD;
    Options::default()
        .curve_server_with_options(pair, server)
        .router_mandatory(true)
        .send_hwm(QUEUE)
        .recv_hwm(QUEUE)
        .max_message_size(message)
        .heartbeat_interval(options.heartbeat)
        .heartbeat_timeout(options.heartbeat * 2)
        .tcp_user_timeout(options.heartbeat * 4)
        .linger(Duration::from_secs(1))
}

fn current(allowed: &RwLock<Arc<Clients>>) -> Arc<Clients> {
    allowed.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Where somebody came from who was denied, with which key, and why.
type Denied = (Option<IpAddr>, [u8; 32], String);

/// Everything that the loop has.
struct Room<D> {
    options: ListenOptions,
    machine: Machine,
    socket: IdentitySocket,
    desk: Arc<D>,
    allowed: Arc<RwLock<Arc<Clients>>>,
    words: super::carry::Words,
    carriers: BTreeMap<UploadId, Carrier>,
    /// Uploads that were closed and have not ended.
    closing: BTreeMap<UploadId, JoinHandle<()>>,
    /// Who was denied because of its key.
    denials: mpsc::Receiver<Denied>,
    /// What is no message, by connection.
    slips: HashMap<u64, u32>,
    /// Connections that are being ended; what still comes from them is passed over.
    ending: HashSet<u64>,
    /// Who spoke last under an identity, and over which connection: nobody else is answered there.
    holders: HashMap<Vec<u8>, ([u8; 32], u64)>,
    refusals: Refusals,
    notice: Box<dyn Fn(Notice) + Send + Sync>,
    began: Instant,
}

impl<D: Desk> Room<D> {
    async fn run(
        mut self,
        keys: KeyFolder,
        mut said: mpsc::Receiver<(UploadId, u64, Word)>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (read, mut reread) = mpsc::channel(1);
        let reader = tokio::spawn(read_again(keys, read));
        let mut connections = self.socket.monitor();
        loop {
            tokio::select! {
                received = self.socket.recv_from() => match received {
                    Ok((identity, message)) => self.take(&identity, message),
                    Err(_) => break,
                },
                Some((id, round, word)) = said.recv() => self.hear((id, round), word),
                Some(clients) = reread.recv() => self.revoke(clients),
                Ok(event) = connections.recv() => self.connection(event),
                Some((from, key, reason)) = self.denials.recv() => {
                    self.refused(from, Cause::Key(key), reason);
                }
                _ = tick.tick() => self.tick(),
                _ = stopped.changed() => break,
            }
            self.carry_out();
        }
        reader.abort();
        // Nobody hears the words any more, so nobody may wait to say them.
        drop(said);
        let carriers = std::mem::take(&mut self.carriers).into_values();
        let tasks = carriers.map(|carrier| carrier.close(None)).chain(self.closing.into_values());
        let tasks: Vec<JoinHandle<()>> = tasks.collect();
        let ended = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(STOP_WITHIN, ended).await;
        let _ = self.socket.into_inner().close().await;
    }

    /// Something has arrived.
    fn take(&mut self, from: &Identity, message: Message) {
        let now = self.began.elapsed();
        let info = from.peer_info();
        let connection = info.connection_id;
        if self.ending.contains(&connection) {
            return;
        }
        let Some(PeerPublicKey::Curve(key)) = info.authentication.public_key else { return };
        let address = info.peer_address;
        let client = match current(&self.allowed).client(&key, address, Timestamp::now()) {
            Ok(client) => client,
            Err(reason) => return self.disconnect(connection, None, &reason),
        };
        let identity: &[u8] = from.as_ref();
        self.holders.insert(identity.to_vec(), (key, connection));
        let frames: Vec<Bytes> = match message.len() {
            1..=MAX_FRAMES => (0..message.len()).filter_map(|at| message.part_bytes(at)).collect(),
            _ => Vec::new(),
        };
        let upload = UploadId::of(&key, identity);
        let speaker = Speaker { upload, key: &key, identity };
        match ClientMessage::read(&frames, self.options.max_metadata_bytes) {
            Ok(ClientMessage::PostFile { name, metadata }) => {
                if let Some(round) = self.machine.post_file(now, speaker) {
                    let offer = Offer { upload, name, metadata };
                    self.begin(client.clone(), Beginning::Offer(offer), round);
                }
            }
            Ok(ClientMessage::PostChunk { seek, data, last }) => {
                let taken = self.machine.post_chunk(now, speaker, (seek, data.len()), last);
                if let Some(carrier) = self.carriers.get(&upload)
                    && taken
                    && !data.is_empty()
                {
                    carrier.write(seek, data);
                }
            }
            Ok(ClientMessage::QueryStatus) => self.machine.query(now, speaker),
            Ok(ClientMessage::Error { code, text }) => {
                self.machine.client_error(speaker, code, &text);
            }
            Err(error) => {
                let slips = self.slips.entry(connection).or_default();
                *slips += 1;
                if *slips > MAX_SLIPS {
                    let reason = format!("it does not speak the protocol: {error}");
                    return self.disconnect(connection, Some(client), &reason);
                }
                self.send(key, identity, &ServerMessage::error(400, &error.to_string()));
            }
        }
        // What the machine wishes to find belongs to who spoke.
        self.carry_out_for(Some(&client));
    }

    /// The desk or the disk says something.
    fn hear(&mut self, of: (UploadId, u64), word: Word) {
        let now = self.began.elapsed();
        match word {
            Word::TakenIn => self.machine.taken_in(now, of),
            Word::NotFound => self.machine.not_found(now, of),
            Word::Opened(durable, max_rate) => self.machine.opened(of, durable, max_rate),
            Word::Wrote(chunks) => self.machine.wrote(of, chunks),
            Word::Synced(durable) => self.machine.synced(of, durable),
            Word::Finished(dataset) => self.machine.finished(now, of, dataset),
            Word::Failed(refusal) => self.machine.failed(now, of, refusal),
        }
    }

    /// Something has become of a connection.
    fn connection(&mut self, event: MonitorEvent) {
        if let MonitorEvent::HandshakeFailed { peer_ident, reason, .. } = event
            && let Some(cause) = Cause::of(&reason)
        {
            let address = match peer_ident {
                PeerIdent::Socket(address) => Some(address.ip()),
                _ => None,
            };
            let reason = match cause {
                Cause::Identity => IDENTITY_ADVICE.to_owned(),
                _ => format!("the handshake failed: {reason}"),
            };
            self.refused(address, cause, reason);
        }
    }

    fn refused(&mut self, from: Option<IpAddr>, cause: Cause, reason: String) {
        if let Some(Untold { same, others }) =
            self.refusals.another(self.began.elapsed(), from, cause)
        {
            let address = from.map_or_else(|| "somewhere".to_owned(), |from| from.to_string());
            (self.notice)(Notice::Refused { address, reason, same, others });
        }
    }

    fn tick(&mut self) {
        self.machine.tick(self.began.elapsed());
        self.closing.retain(|_, task| !task.is_finished());
        // These are forgotten together when there are many: a client that is there still is entered again.
        let most = self.options.limits.uploads * 4;
        if self.slips.len() > most {
            self.slips.clear();
        }
        if self.ending.len() > most {
            self.ending.clear();
        }
        if self.holders.len() > most {
            self.holders.clear();
        }
    }

    fn carry_out(&mut self) {
        self.carry_out_for(None);
    }

    fn carry_out_for(&mut self, speaker: Option<&Client>) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { key, identity, message } => self.send(key, &identity, &message),
                Output::Find(id, round) => match speaker {
                    Some(client) => self.begin(client.clone(), Beginning::Find(id), round),
                    None => self.machine.not_found(self.began.elapsed(), (id, round)),
                },
                Output::Finish(id, round, sha256) => {
                    let carrier = self.carriers.get(&id).filter(|carrier| carrier.round == round);
                    if let Some(carrier) = carrier {
                        carrier.finish(sha256);
                    }
                }
                Output::Close(id) => self.close(id, None),
                Output::Abandon(id, reason) => self.close(id, Some(reason)),
                Output::Disconnect(key, identity) => {
                    if let Some((holder, connection)) = self.holders.get(&identity).copied()
                        && holder == key
                    {
                        self.disconnect(connection, None, "it sends more than it may");
                    }
                }
            }
        }
    }

    fn begin(&mut self, client: Client, beginning: Beginning, round: u64) {
        let id = match &beginning {
            Beginning::Offer(offer) => offer.upload,
            Beginning::Find(id) => *id,
        };
        let previous = self.closing.remove(&id);
        let (desk, words) = (self.desk.clone(), self.words.clone());
        let carrier = Carrier::start(desk, client, (beginning, round), words, previous);
        self.carriers.insert(id, carrier);
    }

    fn close(&mut self, id: UploadId, abandon: Option<String>) {
        if let Some(carrier) = self.carriers.remove(&id) {
            self.closing.insert(id, carrier.close(abandon));
        }
    }

    /// Says something to a client, unless its identity has another bearer now. One that does not read is disconnected:
    /// waiting for it would stall all others.
    fn send(&mut self, key: [u8; 32], identity: &[u8], message: &ServerMessage) {
        let Some((holder, connection)) = self.holders.get(identity).copied() else { return };
        if holder != key {
            return;
        }
        let sent = self.socket.try_send_to(identity, Message::multipart(message.write()));
        // Whoever is gone asks when it comes back.
        if let Err(omq_proto::TrySendError::Full(_)) = sent {
            self.disconnect(connection, None, "it does not read what it is told");
        }
    }

    fn disconnect(&mut self, connection: u64, client: Option<Client>, reason: &str) {
        self.slips.remove(&connection);
        if !self.ending.insert(connection) {
            return;
        }
        let client =
            client.map_or_else(|| format!("connection {connection}"), |client| client.label);
        (self.notice)(Notice::Disconnected { client, reason: reason.to_owned() });
        let socket = self.socket.clone();
        // It may be gone already. The task waits for the socket's own answer and ends with the socket.
        tokio::spawn(async move { drop(socket.disconnect_peer(connection).await) });
    }

    /// The folder of keys was read again.
    fn revoke(&mut self, clients: Clients) {
        let before = current(&self.allowed);
        let clients = Arc::new(clients);
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = clients.clone();
        if before.problems != clients.problems {
            for (file, reason) in clients.problems.clone() {
                (self.notice)(Notice::Key { file, reason });
            }
        }
        let gone = before.gone_in(&clients);
        for key in &gone {
            self.machine.revoke(key);
        }
        let socket = self.socket.clone();
        // As for a disconnection.
        tokio::spawn(async move { end_connections(&socket, &gone).await });
    }
}

/// Ends the connections of keys that are gone, and those that a key has too many of.
async fn end_connections(socket: &IdentitySocket, gone: &[[u8; 32]]) {
    let Ok(connections) = socket.connections().await else { return };
    let mut of_key: HashMap<[u8; 32], usize> = HashMap::new();
    for connection in connections {
        let Some(info) = connection.peer_info else { continue };
        let Some(PeerPublicKey::Curve(key)) = info.authentication.public_key else { continue };
        let count = of_key.entry(key).or_default();
        *count += 1;
        if gone.contains(&key) || *count > MAX_CONNECTIONS {
            let _ = socket.disconnect_peer(connection.connection_id).await;
        }
    }
}

/// Reads the folder of keys again and again.
async fn read_again(keys: KeyFolder, read: mpsc::Sender<Clients>) {
    loop {
        tokio::time::sleep(REREAD).await;
        let keys = keys.clone();
        // While it cannot be read, what was read last holds.
        if let Ok(Ok(clients)) = tokio::task::spawn_blocking(move || keys.clients()).await
            && read.send(clients).await.is_err()
        {
            return;
        }
    }
}
