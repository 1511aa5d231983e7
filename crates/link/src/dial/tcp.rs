//! Dialing over TCP: the control connection, and beside it the first data connections.
//! All are checked for the same key, and none says anything behind its handshake before that key was
//! accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::attempts::{Attempts, Progress};
use super::{HOST_KEY_REASON, Host};
use crate::error::close_code;
use crate::lane::tcp::frame::{Frame, Hello};
use crate::lane::tcp::handshake::{self, HandshakeError, Secured};
use crate::lane::tcp::session::{End, Extend, Joining, Pulse, Session, Task};
use crate::lane::tcp::{growth, stream};
use crate::lane::{Path, TcpLane};
use crate::memory::Account;
use crate::pipe::{Carrier, PIPE_PATIENCE};
use crate::{
    DialOptions, Identity, Lane, LinkError, Pace, PeerName, PublicKey, TransportOptions, tls,
};

/// How long telling a host that its key is not accepted may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often the first data connection is tried, and how long is waited before each further try.
const FIRST_TRIES: u32 = 6;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How long the pipe that a connection leads into may take to take it.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Any port of the address that a pipe listens on.
fn wildcard_loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

/// What every connection of a lane is made with.
#[derive(Debug, Clone)]
struct Way {
    peer: PeerName,
    config: Arc<ClientConfig>,
    transport: TransportOptions,
    carrier: Option<Carrier>,
}

/// A finished handshake, and others to the same address that may not be finished.
struct Reached {
    address: SocketAddr,
    trip: Duration,
    control: Secured,
    data: Vec<Pending>,
}

/// A connection that is being made; dropping it stops that.
struct Pending(JoinHandle<Result<Secured, LinkError>>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn dial(
    host: Host<'_>,
    addresses: &[SocketAddr],
    identity: &Identity,
    options: &DialOptions,
) -> Result<Lane, LinkError> {
    let setup = |error: rustls::Error| LinkError::Setup { detail: error.to_string() };
    let config = Arc::new(tls::tcp_client_config(identity).map_err(setup)?);
    let mut transport = options.transport.clone();
    if options.carrier.is_some() {
        transport.idle_timeout = PIPE_PATIENCE;
    }
    let carrier = options.carrier.clone();
    let way = Way { peer: host.peer.clone(), config, transport, carrier };
    let mut lane = [0; 16];
    SystemRandom::new()
        .fill(&mut lane)
        .map_err(|_| LinkError::Setup { detail: "no random numbers".to_owned() })?;
    let attempts = Attempts { peer: &host.peer, addresses, options, deadline: host.deadline };
    let reaching = attempts.first(|address, progress| way.clone().reach(address, progress));
    let Reached { address, trip, mut control, data } = reaching.await?;
    let (peer, key) = match host.accept(control.key) {
        Ok(accepted) => accepted,
        Err(error) => {
            if matches!(error, LinkError::HostKey { .. }) {
                // The host is told, if it listens; nothing of us is in it.
                let _ = timeout(FAREWELL, say_no(&mut control, lane)).await;
            }
            return Err(error);
        }
    };
    let opening = control.writer.write(&mut [&Hello { lane, number: 0 }.encode()]).await;
    opening.map_err(|error| End::from(error).into_error(peer.clone()))?;
    let account = Account::new(options.receive_window);
    let pulse = Pulse::of(&way.transport);
    let (session, joining) = Session::new(peer.clone(), true, pulse, account.clone());
    if way.transport.pace == Pace::Background {
        session.give_way();
    }
    let way = Arc::new(Further { way: Way { peer: peer.clone(), ..way }, address, key, lane });
    let (deadline, after) = (host.deadline, options.deadline);
    let (over, ended) = watch::channel(());
    let running = session.clone();
    tokio::spawn(async move {
        let mut opening = JoinSet::new();
        for (number, pending) in (1..).zip(data) {
            opening.spawn(way.clone().join_first(
                number,
                pending,
                running.clone(),
                deadline,
                after,
            ));
        }
        let waiting = running.clone();
        opening.spawn(async move {
            if timeout_at(deadline, waiting.welcomed()).await.is_err() {
                waiting.fail(End::Late(after));
            }
        });
        running.run(control, joining, growth::first(trip), Some(way)).await;
        opening.shutdown().await;
        drop(over);
    });
    let tcp = TcpLane::new(session, address, Some(trip), ended).through(options.carrier.clone());
    let known_as = host.check.stands_for(&key);
    Ok(Lane::new(Path::Tcp(tcp), peer, known_as, None, account, Vec::new()))
}

/// Tells a host that its key is not accepted.
async fn say_no(control: &mut Secured, lane: [u8; 16]) -> Result<(), stream::StreamError> {
    let mut close = Vec::new();
    let reason = HOST_KEY_REASON.as_bytes().to_vec();
    Frame::Close { code: close_code::HOST_KEY, reason }.encode(&mut close);
    control.writer.write(&mut [&Hello { lane, number: 0 }.encode(), &close]).await?;
    control.writer.finish().await
}

impl Way {
    /// Connects to one address, and begins further connections once it has answered. If it has done so before, they
    /// wait for the handshake, so that no host pays for those of an attempt that will lose.
    async fn reach(self, address: SocketAddr, progress: Progress) -> Result<Reached, LinkError> {
        let began = Instant::now();
        let socket = self.connect(address).await?;
        let trip = began.elapsed();
        let wanted = growth::first(trip);
        let mut data = Vec::new();
        if progress.made() {
            data = self.begin(address, wanted);
        }
        let control = self.secure(socket).await?;
        if data.is_empty() {
            data = self.begin(address, wanted);
        }
        Ok(Reached { address, trip, control, data })
    }

    fn begin(&self, address: SocketAddr, connections: u16) -> Vec<Pending> {
        let one = || {
            let way = self.clone();
            Pending(tokio::spawn(async move {
                let socket = way.connect(address).await?;
                way.secure(socket).await
            }))
        };
        (0..connections).map(|_| one()).collect()
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, LinkError> {
        let connecting = async {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            stream::prepare(&socket);
            let Some(carrier) = &self.carrier else { return socket.connect(address).await };
            // The pipe takes connections of this dialer alone, and must know them before they come.
            socket.bind(wildcard_loopback(address))?;
            let noted = carrier.note(socket.local_addr()?, None);
            let socket = socket.connect(address).await?;
            // It is taken within that time, or nobody takes it any more.
            tokio::spawn(async move {
                tokio::time::sleep(TAKEN_WITHIN).await;
                drop(noted);
            });
            Ok(socket)
        };
        let socket = connecting.await.map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => LinkError::TimedOut { peer: self.peer.clone() },
            _ => LinkError::Unreachable { peer: self.peer.clone(), source },
        })?;
        stream::tune(&socket, self.transport.congestion, self.transport.idle_timeout);
        Ok(socket)
    }

    async fn secure(&self, socket: TcpStream) -> Result<Secured, LinkError> {
        let peer = || self.peer.clone();
        handshake::dial(socket, self.config.clone()).await.map_err(|error| match error {
            // A listener that is full closes before it says anything.
            HandshakeError::Lost { heard: false, source } if is_gone(&source) => {
                LinkError::Busy { peer: peer() }
            }
            HandshakeError::Lost { source, .. } => {
                End::from(stream::StreamError::Io(source)).into_error(peer())
            }
            HandshakeError::Tls(error) => {
                LinkError::Incompatible { peer: peer(), detail: explain(&error) }
            }
            HandshakeError::Record(error) => {
                LinkError::Incompatible { peer: peer(), detail: error.to_string() }
            }
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
            crate::error::no_protocol()
        }
        other => format!("the handshake failed: {other}"),
    }
}

/// Opens further connections of a lane.
#[derive(Debug)]
struct Further {
    way: Way,
    address: SocketAddr,
    key: PublicKey,
    lane: [u8; 16],
}

impl Further {
    /// Says which lane a connection belongs to, if its peer is the lane's, and hands it over.
    async fn join(
        &self,
        number: u16,
        mut secured: Secured,
        session: &Session,
    ) -> Result<(), LinkError> {
        if secured.key != Some(self.key) {
            let detail = "it showed another key on another connection".to_owned();
            return Err(LinkError::Incompatible { peer: self.way.peer.clone(), detail });
        }
        let hello = Hello { lane: self.lane, number }.encode();
        let said = secured.writer.write(&mut [&hello]).await;
        said.map_err(|error| End::from(error).into_error(self.way.peer.clone()))?;
        session.attach(Joining { number, secured, held: None }).await;
        Ok(())
    }

    /// Takes one of the first connections in; without the very first there is no lane, so it is tried
    /// again while the host has no room for it. What is not there at `deadline`, which is `after` the
    /// beginning, does not come.
    async fn join_first(
        self: Arc<Self>,
        number: u16,
        pending: Pending,
        session: Arc<Session>,
        deadline: Instant,
        after: Duration,
    ) {
        let joined = timeout_at(deadline, self.try_first(number, pending, &session)).await;
        if number != 1 {
            // The lane works without it.
            return;
        }
        let end = match joined {
            Ok(Ok(())) => return,
            Err(_) => return session.fail(End::Late(after)),
            Ok(Err(LinkError::TimedOut { .. })) => End::TimedOut,
            Ok(Err(LinkError::Unreachable { source, .. })) => {
                End::Unreachable(source.kind(), source.to_string())
            }
            Ok(Err(error)) => End::Failed(format!("no connection for data: {error}")),
        };
        session.lose(end).await;
    }

    async fn try_first(
        &self,
        number: u16,
        mut pending: Pending,
        session: &Session,
    ) -> Result<(), LinkError> {
        let mut made = match (&mut pending.0).await {
            Ok(made) => made,
            Err(error) => Err(LinkError::Setup { detail: error.to_string() }),
        };
        for tried in 1..FIRST_TRIES {
            if !matches!(made, Err(LinkError::Busy { .. })) {
                break;
            }
            tokio::time::sleep(TRY_AGAIN * tried).await;
            made = self.make().await;
        }
        self.join(number, made?, session).await
    }

    async fn make(&self) -> Result<Secured, LinkError> {
        let socket = self.way.connect(self.address).await?;
        self.way.secure(socket).await
    }
}

impl Extend for Further {
    fn extend(self: Arc<Self>, number: u16, session: Arc<Session>, tasks: &mut JoinSet<Task>) {
        tasks.spawn(async move {
            let opening = async {
                let secured = self.make().await?;
                self.join(number, secured, &session).await
            };
            // The lane works without it, and the search for more ends when it does not come.
            let _ = timeout(self.way.transport.idle_timeout, opening).await;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{PATIENCE, any_port};

    /// How a lane ends whose first data connection is made in this way.
    async fn end_of(number: u16, pending: Pending, address: SocketAddr) -> Option<End> {
        let after = Duration::from_millis(200);
        let identity = Identity::generate().unwrap();
        let peer = PeerName::new(address);
        let config = Arc::new(tls::tcp_client_config(&identity).unwrap());
        let (transport, carrier) = (TransportOptions::default(), None);
        let way = Way { peer: peer.clone(), config, transport, carrier };
        let further = Arc::new(Further { way, address, key: identity.public_key(), lane: [1; 16] });
        let congestion = crate::Congestion::Rate;
        let pulse = Pulse { keep_alive: PATIENCE, idle_timeout: PATIENCE, congestion };
        let (session, _joining) = Session::new(peer, true, pulse, Account::new(1));
        let deadline = Instant::now() + after;
        let joining = further.join_first(number, pending, session.clone(), deadline, after);
        timeout(PATIENCE, joining).await.expect("it waits beyond the deadline");
        session.end()
    }

    /// Whether a host that finishes no handshake gets another connection within so long.
    async fn is_asked_for_more(progress: &Progress, within: Duration) -> bool {
        let silent = tokio::net::TcpListener::bind(any_port()).await.unwrap();
        let address = silent.local_addr().unwrap();
        let identity = Identity::generate().unwrap();
        let config = Arc::new(tls::tcp_client_config(&identity).unwrap());
        let peer = PeerName::new(address);
        let way = Way { peer, config, transport: TransportOptions::default(), carrier: None };
        let reaching = tokio::spawn(way.reach(address, progress.clone()));
        let _control = timeout(PATIENCE, silent.accept()).await.expect("it is asked").unwrap();
        let more = timeout(within, silent.accept()).await.is_ok();
        reaching.abort();
        more
    }

    #[tokio::test]
    async fn only_the_first_answer_begins_data_connections_before_its_handshake() {
        let progress = Progress::default();
        assert!(is_asked_for_more(&progress, PATIENCE).await);
        assert!(!is_asked_for_more(&progress, Duration::from_millis(200)).await);
    }

    fn never() -> Pending {
        Pending(tokio::spawn(std::future::pending()))
    }

    #[tokio::test]
    async fn without_its_first_data_connection_a_lane_fails_in_time() {
        let late = end_of(1, never(), any_port()).await;
        assert_eq!(late, Some(End::Late(Duration::from_millis(200))));
        assert_eq!(end_of(2, never(), any_port()).await, None, "the second is not needed");
        let peer = PeerName::new(any_port());
        let source = io::Error::from(io::ErrorKind::ConnectionRefused);
        let refused = Pending(tokio::spawn(async { Err(LinkError::Unreachable { peer, source }) }));
        let end = end_of(1, refused, any_port()).await.unwrap();
        let error = end.into_error(PeerName::new(any_port()));
        assert!(matches!(error, LinkError::Unreachable { .. }), "{error:?}");
    }
}
