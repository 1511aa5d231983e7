//! Joins two loopbacks through a pipe. One task writes to the pipe and one reads from it; each connection has
//! one that reads its socket and one that writes to it. Who reads the pipe never waits for anybody: what it
//! takes in is bounded by the credit that was given.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, timeout};

use super::Carrier;
use super::frame::{
    HEAD_BYTES, Head, MOST_CONNECTIONS, MOST_DATA, Meaning, Table, Violation, WINDOW,
};

/// How often an end gives a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long an end may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Frames that wait for the pipe, each of at most 64 KiB.
const WAITING: usize = 4;
/// Answers to the peer's frames that wait for the pipe. More only an end gets that does not read them.
const URGENT: usize = 1024;
/// How much is passed on before the peer hears of it.
const CREDIT_STEP: usize = WINDOW / 8;

/// What a tunnel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelOptions {
    /// The most connections at once, from 1 to 12; one more is reset.
    pub most_connections: usize,
    /// At the listener's end: where the other end is. It counts as the address of whoever comes out. None leaves
    /// them the address of this machine.
    pub origin: Option<SocketAddr>,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self { most_connections: MOST_CONNECTIONS, origin: None }
    }
}

/// One end of a pipe that carries connections. Dropping it ends them.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    carrier: Carrier,
    shared: Arc<Shared>,
    over: watch::Receiver<Option<TunnelEnd>>,
    running: JoinHandle<()>,
}

/// How a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The other end has said that the job is over.
    Bye,
    /// The pipe ended, or an end of it was silent for too long.
    Lost(String),
    /// The other end broke the rules.
    Violation(&'static str),
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Tunnel {
    /// The dialer's end: what connects to [`Tunnel::address`] comes out at the listener.
    pub async fn enter(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        options: TunnelOptions,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self::start((read, write), address, Carrier::new(), Some(listener), options))
    }

    /// The listener's end: connections come to `listener`, an address of this machine, from the same address, and
    /// `carrier` tells it which they are.
    pub fn leave(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        listener: SocketAddr,
        carrier: &Carrier,
        options: TunnelOptions,
    ) -> Self {
        Self::start((read, write), listener, carrier.of_one_tunnel(), None, options)
    }

    fn start(
        (read, write): (
            impl AsyncRead + Send + Unpin + 'static,
            impl AsyncWrite + Send + Unpin + 'static,
        ),
        address: SocketAddr,
        carrier: Carrier,
        listener: Option<TcpListener>,
        options: TunnelOptions,
    ) -> Self {
        let (out, waiting) = mpsc::channel(WAITING);
        let (urgent, answers) = mpsc::channel(URGENT);
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(listener.is_some(), options.most_connections)),
            connections: Mutex::default(),
            out,
            urgent,
            carrier: carrier.clone(),
            origin: options.origin,
            pinged: Mutex::default(),
        });
        let (ended, over) = watch::channel(None);
        let ours = shared.clone();
        let running = tokio::spawn(async move {
            let (arrivals, mut arrived) = mpsc::channel(1);
            let mut tasks = JoinSet::new();
            let end = {
                let mut writing = std::pin::pin!(write_all(write, waiting, answers));
                let mut reading = std::pin::pin!(read_all(read, ours.clone(), arrivals));
                let mut beat = interval(PING_EVERY);
                loop {
                    tokio::select! {
                        end = &mut reading => break end,
                        failed = &mut writing => {
                            // Why is mostly said in what can still be read.
                            if let Ok(end) = timeout(Duration::from_secs(1), &mut reading).await {
                                break end;
                            }
                            let closed = |()| "it was closed".to_owned();
                            break TunnelEnd::Lost(failed.map_or_else(|e| e.to_string(), closed));
                        }
                        _ = beat.tick() => ours.ping(),
                        socket = accept(&listener, &ours.carrier) => {
                            ours.clone().begin(socket, &mut tasks);
                        }
                        Some(number) = arrived.recv() => {
                            // Those that were reset may still be on their way out.
                            if tasks.len() < 2 * options.most_connections {
                                tasks.spawn(ours.clone().come_out(number, address));
                            } else {
                                ours.turn_down(number);
                            }
                        }
                        Some(_) = tasks.join_next() => {}
                    }
                }
            };
            ended.send_replace(Some(end));
            tasks.shutdown().await;
        });
        Self { address, carrier, shared, over, running }
    }

    /// Where to connect to on this machine, at the dialer's end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the lanes through it are told by.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Whether it still carries.
    pub fn is_open(&self) -> bool {
        self.over.borrow().is_none()
    }

    /// Waits until it has ended, and says how.
    pub async fn closed(&self) -> TunnelEnd {
        let mut over = self.over.clone();
        let ended = over.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|end| end.clone());
        ended.unwrap_or_else(|| TunnelEnd::Lost("it was given up here".to_owned()))
    }

    /// Tells the other end that the job is over. What it does then is to end.
    pub async fn bye(&self) {
        // If the pipe is gone there is nobody to tell.
        let _ = self.shared.out.send(Head::Bye.encode().to_vec()).await;
    }
}

/// A frame as it goes out.
type Frame = Vec<u8>;

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    connections: Mutex<HashMap<u32, Connection>>,
    out: mpsc::Sender<Frame>,
    urgent: mpsc::Sender<Frame>,
    carrier: Carrier,
    origin: Option<SocketAddr>,
    /// The last ping, until its pong comes.
    pinged: Mutex<(u32, Option<Instant>)>,
}

/// What the reader of the pipe knows of a connection.
#[derive(Debug)]
struct Connection {
    inbox: Arc<Inbox>,
    credited: Arc<Notify>,
    /// Rung when it is over, whatever is waited for then.
    gone: Arc<Notify>,
}

/// What has come for a connection and was not passed on. Bounded by the credit that was given.
#[derive(Debug, Default)]
struct Inbox {
    come: Mutex<Come>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct Come {
    data: Vec<u8>,
    /// Nothing more will.
    ended: bool,
    /// The connection is over, both ways.
    over: bool,
}

impl Inbox {
    fn put(&self, change: impl FnOnce(&mut Come)) {
        change(&mut lock(&self.come));
        self.rung.notify_one();
    }

    /// What there is, at least a byte; empty at the end, and an error if the connection is over before.
    async fn take(&self) -> io::Result<Vec<u8>> {
        loop {
            {
                let mut come = lock(&self.come);
                if come.over {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if !come.data.is_empty() || come.ended {
                    return Ok(std::mem::take(&mut come.data));
                }
            }
            self.rung.notified().await;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next connection of our own dialer. Whoever else is on this machine may connect to the port too, and gets
/// nothing.
async fn accept(listener: &Option<TcpListener>, carrier: &Carrier) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((socket, remote)) if carrier.carries(remote).is_some() => return socket,
            Ok(_) => {}
            // No descriptor is left for it: whoever dials tries again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Writes frames until the pipe fails or nobody has any more.
async fn write_all(
    mut pipe: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<Frame>,
    mut answers: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    loop {
        let next = tokio::select! {
            biased;
            Some(frame) = answers.recv() => Some(frame),
            frame = waiting.recv() => frame,
        };
        let Some(frame) = next else { return pipe.shutdown().await };
        pipe.write_all(&frame).await?;
        if waiting.is_empty() && answers.is_empty() {
            pipe.flush().await?;
        }
        if frame == Head::Bye.encode() {
            return pipe.shutdown().await;
        }
    }
}

/// Reads frames until the pipe ends; connections that are to be made go to `arrivals`.
async fn read_all(
    mut pipe: impl AsyncRead + Unpin,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<u32>,
) -> TunnelEnd {
    loop {
        let frame = match read_frame(&mut pipe).await {
            Ok(frame) => frame,
            Err(ReadError::Violation(Violation(text))) => return TunnelEnd::Violation(text),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return TunnelEnd::Lost("it was closed".to_owned());
            }
            Err(ReadError::Io(error)) => return TunnelEnd::Lost(error.to_string()),
        };
        match shared.take(frame) {
            Ok(None) => {}
            Ok(Some(Came::Connection(number))) => {
                // It is taken at once, or the tunnel is over.
                if arrivals.send(number).await.is_err() {
                    return TunnelEnd::Lost("it was given up here".to_owned());
                }
            }
            Ok(Some(Came::Bye)) => return TunnelEnd::Bye,
            Err(Violation(text)) => return TunnelEnd::Violation(text),
        }
    }
}

enum ReadError {
    Io(io::Error),
    Violation(Violation),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn read_frame(pipe: &mut (impl AsyncRead + Unpin)) -> Result<(Head, Vec<u8>), ReadError> {
    let mut head = [0; HEAD_BYTES];
    read_exact(pipe, &mut head).await?;
    let head = Head::decode(&head).map_err(ReadError::Violation)?;
    let mut data = Vec::new();
    if let Head::Data { length, .. } = head {
        data = vec![0; length];
        read_exact(pipe, &mut data).await?;
    }
    Ok((head, data))
}

/// Fills the buffer. A pipe may be slow, but not silent.
async fn read_exact(pipe: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let silent = |_| io::Error::other(format!("nothing came for {} s", SILENCE.as_secs()));
        match timeout(SILENCE, pipe.read(&mut buffer[filled..])).await.map_err(silent)?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
    }
    Ok(())
}

/// What the reader cannot see to itself.
enum Came {
    Connection(u32),
    Bye,
}

impl Shared {
    fn take(&self, (head, data): (Head, Vec<u8>)) -> Result<Option<Came>, Violation> {
        let meaning = lock(&self.table).take(head)?;
        match (meaning, head) {
            (Meaning::Opened, Head::Open { connection }) => {
                self.list(connection);
                return Ok(Some(Came::Connection(connection)));
            }
            (Meaning::NoPlace, Head::Open { connection }) => {
                self.answer(Head::Reset { connection })?;
            }
            (Meaning::Data, Head::Data { connection, .. }) => {
                self.hand(connection, |come| come.data.extend_from_slice(&data));
            }
            (Meaning::Ended, Head::End { connection }) => {
                self.hand(connection, |come| come.ended = true);
            }
            (Meaning::Credited, Head::Credit { connection, .. }) => {
                if let Some(of) = lock(&self.connections).get(&connection) {
                    of.credited.notify_one();
                }
            }
            (Meaning::Over, Head::Reset { connection }) => self.forget(connection),
            (_, Head::Ping { number }) => self.answer(Head::Pong { number })?,
            (_, Head::Pong { number }) => {
                let mut pinged = lock(&self.pinged);
                if pinged.0 == number
                    && let Some(since) = pinged.1.take()
                {
                    self.carrier.note_trip(since.elapsed());
                }
            }
            (_, Head::Bye) => return Ok(Some(Came::Bye)),
            _ => {}
        }
        Ok(None)
    }

    fn answer(&self, head: Head) -> Result<(), Violation> {
        let sent = self.urgent.try_send(head.encode().to_vec());
        sent.map_err(|_| Violation("it does not read what it is answered"))
    }

    fn ping(&self) {
        let number = {
            let mut pinged = lock(&self.pinged);
            *pinged = (pinged.0.wrapping_add(1), Some(Instant::now()));
            pinged.0
        };
        // A pipe that is as full as that will be seen to be dead by its silence.
        let _ = self.urgent.try_send(Head::Ping { number }.encode().to_vec());
    }

    fn list(&self, number: u32) {
        let fresh =
            Connection { inbox: Arc::default(), credited: Arc::default(), gone: Arc::default() };
        lock(&self.connections).insert(number, fresh);
    }

    fn hand(&self, number: u32, change: impl FnOnce(&mut Come)) {
        // A connection that has just ended needs no more.
        if let Some(of) = lock(&self.connections).get(&number) {
            of.inbox.put(change);
        }
    }

    /// Sends one frame that is all head. An error if the tunnel is over.
    async fn say(&self, head: Head) -> io::Result<()> {
        let over = |_| io::Error::from(io::ErrorKind::ConnectionReset);
        self.out.send(head.encode().to_vec()).await.map_err(over)
    }

    /// The connection is over: whoever waits for it finds out.
    fn forget(&self, number: u32) {
        if let Some(of) = lock(&self.connections).remove(&number) {
            of.credited.notify_one();
            of.inbox.put(|come| come.over = true);
            of.gone.notify_one();
        }
    }

    /// A connection that was made to this end's loopback goes into the pipe.
    fn begin(self: Arc<Self>, socket: TcpStream, tasks: &mut JoinSet<()>) {
        let Some(number) = lock(&self.table).open() else { return };
        self.list(number);
        tasks.spawn(async move {
            if self.say(Head::Open { connection: number }).await.is_ok() {
                self.join(number, socket).await;
            }
        });
    }

    /// A connection comes out of the pipe, to the listener.
    async fn come_out(self: Arc<Self>, number: u32, listener: SocketAddr) {
        let binding = || {
            let socket = match listener {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // From where the listener itself is: no address but that one is surely of this machine.
            let mut own = listener;
            own.set_port(0);
            socket.bind(own)?;
            // Before the listener can see it.
            let noted = self.carrier.note(socket.local_addr()?, self.origin);
            io::Result::Ok((socket, noted))
        };
        let Some(gone) = lock(&self.connections).get(&number).map(|of| of.gone.clone()) else {
            return;
        };
        let Ok((socket, _noted)) = binding() else { return self.reset(number).await };
        let connected = tokio::select! {
            connected = socket.connect(listener) => connected,
            () = gone.notified() => return,
        };
        match connected {
            Ok(socket) => self.join(number, socket).await,
            Err(_) => self.reset(number).await,
        }
    }

    /// There is no room for a connection.
    fn turn_down(&self, number: u32) {
        self.forget(number);
        if lock(&self.table).close(number) {
            // A peer that does not read its answers is found out by the next of them.
            let _ = self.answer(Head::Reset { connection: number });
        }
    }

    async fn reset(&self, number: u32) {
        self.forget(number);
        if lock(&self.table).close(number) {
            // Without the tunnel the other end knows anyway.
            let _ = self.say(Head::Reset { connection: number }).await;
        }
    }

    /// Passes bytes on both ways until both have ended.
    async fn join(&self, number: u32, socket: TcpStream) {
        // What waits is sent together anyway.
        let _ = socket.set_nodelay(true);
        let (from, to) = socket.into_split();
        let (inbox, credited, gone) = match lock(&self.connections).get(&number) {
            Some(of) => (of.inbox.clone(), of.credited.clone(), of.gone.clone()),
            None => return,
        };
        let inward = self.send_what_comes(number, from, credited);
        let outward = self.pass_on(number, inbox, to);
        let ended = tokio::select! {
            biased;
            // Whatever a socket waits for: what the peer has reset takes no place any more.
            () = gone.notified() => Err(io::ErrorKind::ConnectionReset.into()),
            ended = async { tokio::try_join!(inward, outward) } => ended,
        };
        match ended {
            Ok(_) => self.forget(number),
            Err(_) => self.reset(number).await,
        }
    }

    /// From the socket into the pipe.
    async fn send_what_comes(
        &self,
        number: u32,
        mut from: OwnedReadHalf,
        credited: Arc<Notify>,
    ) -> io::Result<()> {
        let over = || io::Error::from(io::ErrorKind::ConnectionReset);
        loop {
            let credit = lock(&self.table).spend(number, MOST_DATA).ok_or_else(over)?;
            if credit == 0 {
                credited.notified().await;
                continue;
            }
            // Head and data go out as one.
            let mut frame = vec![0; HEAD_BYTES + credit];
            let read = from.read(&mut frame[HEAD_BYTES..]).await?;
            if read < credit {
                lock(&self.table).refund(number, credit - read);
            }
            if read == 0 {
                if !lock(&self.table).end(number) {
                    return Err(over());
                }
                return self.say(Head::End { connection: number }).await;
            }
            frame.truncate(HEAD_BYTES + read);
            let head = Head::Data { connection: number, length: read };
            frame[..HEAD_BYTES].copy_from_slice(&head.encode());
            self.out.send(frame).await.map_err(|_| over())?;
        }
    }

    /// From the pipe to the socket.
    async fn pass_on(
        &self,
        number: u32,
        inbox: Arc<Inbox>,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut passed = 0;
        loop {
            let data = inbox.take().await?;
            if data.is_empty() {
                return to.shutdown().await;
            }
            for part in data.chunks(MOST_DATA) {
                to.write_all(part).await?;
            }
            passed += data.len();
            if passed >= CREDIT_STEP && lock(&self.table).passed_on(number, passed) {
                let credit = Head::Credit { connection: number, bytes: passed };
                passed = 0;
                self.say(credit).await?;
            }
        }
    }
}
