//! A lane that is one QUIC connection: parcels and control streams are streams of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, ReadToEndError, VarInt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LaneKind, LaneStats, wildcard};
use crate::error::{close_code, reason_bytes};
use crate::listen::WELCOME;
use crate::manners::Manners;
use crate::memory::Account;
use crate::rate::control_of;
use crate::{LinkError, PathMemory, PeerName, socket};

mod coded;
mod control;
mod parcel;

pub(crate) use control::{Receiver, Sender};
pub(crate) use parcel::Arriving;
pub(super) use parcel::MOST_HEAD;
#[cfg(feature = "fuzzing")]
pub(crate) use parcel::fuzzing::assemble as fuzz_parcel;

/// The connection and what it was made from.
#[derive(Debug)]
pub(crate) struct QuicLane {
    connected: Arc<Connected>,
    /// The socket of this lane alone, where we dialed.
    dialed: Option<(Endpoint, usize)>,
    /// Reads the welcome.
    reader: Option<JoinHandle<()>>,
    /// Of a lane that we admitted.
    manners: Manners,
}

/// What streams and parcels need of their lane.
#[derive(Debug)]
pub(crate) struct Connected {
    connection: Connection,
    name: PeerName,
    account: Arc<Account>,
    standing: watch::Receiver<Standing>,
}

impl Drop for QuicLane {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
        // Others may hold the connection, as the listener's task does, so its own drop is not enough.
        self.connection().close(VarInt::from_u32(close_code::DONE), b"");
    }
}

impl QuicLane {
    /// A lane that we dialed from `endpoint`.
    pub(crate) fn dialed(
        connection: Connection,
        name: PeerName,
        account: Arc<Account>,
        endpoint: Endpoint,
        socket_buffer_bytes: usize,
        welcome: Welcome,
    ) -> Self {
        let Welcome { standing, reader } = welcome;
        let connected = Arc::new(Connected { connection, name, account, standing });
        let dialed = Some((endpoint, socket_buffer_bytes));
        Self { connected, dialed, reader: Some(reader), manners: Manners::default() }
    }

    /// A lane that we admitted.
    pub(crate) fn admitted(
        connection: Connection,
        name: PeerName,
        account: Arc<Account>,
        manners: Manners,
    ) -> Self {
        let standing = watch::Sender::new(Standing::In).subscribe();
        let connected = Arc::new(Connected { connection, name, account, standing });
        Self { connected, dialed: None, reader: None, manners }
    }

    pub(super) fn give_way(&self) {
        self.manners.give_way();
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connected.connection
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.connection().remote_address()
    }

    pub(super) fn stats(&self) -> LaneStats {
        let stats = self.connection().stats();
        let control = control_of(self.connection().congestion_state());
        let view = control.as_ref().map(|control| control.view());
        LaneStats {
            kind: LaneKind::Quic,
            rtt: stats.path.rtt,
            min_rtt: stats.path.min_rtt,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            lost_bytes: stats.path.lost_bytes,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            heard: stats.udp_rx.bytes,
            congestion_window: stats.path.cwnd,
            congestion_events: stats.path.congestion_events,
            mtu: stats.path.current_mtu,
            black_holes: stats.path.black_holes_detected,
            delivery_rate: view.map_or(0, |view| view.delivery_rate),
            connections: 1,
            peer_limited: Duration::ZERO,
            buffer_limited: Duration::ZERO,
            busy: Duration::ZERO,
            pacing_rate: view.map_or(0, |view| view.pacing_rate),
            queue_delay: view.map_or(Duration::ZERO, |view| view.queue_delay),
            path_loss: view.map_or(0.0, |view| view.path_loss),
            policed: view.is_some_and(|view| view.policed),
            app_limited: view.is_some_and(|view| view.app_limited),
            bound: view.map(|view| view.bound),
            pace: control.as_ref().map(|control| control.pace()),
            remembered_rate: control.and_then(|control| control.began_with()).unwrap_or(0),
        }
    }

    pub(super) fn learned(&self) -> Option<PathMemory> {
        let learned = control_of(self.connection().congestion_state())?.learned()?;
        Some(PathMemory { mtu: self.connection().stats().path.current_mtu, ..learned })
    }

    pub(super) async fn welcomed(&self) -> Result<(), LinkError> {
        let mut standing = self.connected.standing.clone();
        let settled = standing.wait_for(|standing| *standing != Standing::Waiting).await;
        if settled.is_ok_and(|standing| *standing == Standing::In) {
            return Ok(());
        }
        // It was not understood, or came too late, or the connection was lost before it came.
        Err(self.closed().await)
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.connection().close(VarInt::from_u32(code), reason_bytes(reason));
    }

    pub(super) async fn closed(&self) -> LinkError {
        let error = self.connection().closed().await;
        self.connected.error(error)
    }

    pub(super) async fn drained(&self, at_most: Duration) {
        if let Some((endpoint, _)) = &self.dialed {
            // Being too late is no error: the peer's idle timeout covers it.
            let _ = tokio::time::timeout(at_most, endpoint.wait_idle()).await;
        }
    }

    pub(super) fn rebind(&self) -> Result<(), LinkError> {
        let Some((endpoint, socket_buffer_bytes)) = &self.dialed else {
            return Err(LinkError::CannotRebind { peer: self.connected.name.clone() });
        };
        let local = wildcard(self.connection().remote_address());
        let (socket, _same_warnings) = socket::open(local, *socket_buffer_bytes)?;
        endpoint.rebind(socket).map_err(|source| LinkError::Socket {
            action: "move to",
            local,
            source,
        })
    }

    /// Waits until the welcome has come, or never will.
    async fn settled(&self) {
        let mut standing = self.connected.standing.clone();
        // It fails when the reader has ended without it.
        let _ = standing.wait_for(|standing| *standing != Standing::Waiting).await;
    }
}

impl Connected {
    /// Why the connection ended. If it was we who closed it, for want of a welcome, that is the reason.
    fn error(&self, error: quinn::ConnectionError) -> LinkError {
        let peer = self.name.clone();
        let standing = self.standing.borrow().clone();
        match (&error, standing) {
            (quinn::ConnectionError::LocallyClosed, Standing::Late(after)) => {
                LinkError::NoAnswer { peer, after }
            }
            (quinn::ConnectionError::LocallyClosed, Standing::Misunderstood) => {
                let detail = "its welcome is not understood".to_owned();
                LinkError::Incompatible { peer, detail }
            }
            _ => LinkError::from_connection(peer, error),
        }
    }

    /// Tells the memory budget that the peer's bytes were taken out of the transport.
    fn note_read(&self, bytes: usize) {
        self.account.note_read(bytes);
    }
}

/// Whether the listener has said that we are in. In TLS 1.3 the dialer is done before the listener has
/// seen its key, so it is the welcome, or the close in its place, that says so.
#[derive(Debug)]
pub(crate) struct Welcome {
    standing: watch::Receiver<Standing>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Waiting,
    In,
    Misunderstood,
    Late(Duration),
}

impl Welcome {
    /// Waits for the welcome in the background, until `deadline`, which is `after` the beginning.
    pub(crate) fn await_on(connection: Connection, deadline: Instant, after: Duration) -> Self {
        let (said, standing) = watch::channel(Standing::Waiting);
        let reader = tokio::spawn(async move {
            let read = tokio::time::timeout_at(deadline, read_welcome(&connection)).await;
            let (standing, reason) = match read {
                Ok(Some(Standing::In)) => {
                    said.send_replace(Standing::In);
                    return;
                }
                Ok(Some(standing)) => (standing, "the welcome is not understood"),
                // The connection is lost and knows why.
                Ok(None) => return,
                Err(_late) => (Standing::Late(after), "the welcome is late"),
            };
            said.send_replace(standing);
            connection.close(VarInt::from_u32(close_code::PROTOCOL), reason.as_bytes());
        });
        Self { standing, reader }
    }
}

/// Reads the welcome; none if the connection was lost before.
async fn read_welcome(connection: &Connection) -> Option<Standing> {
    let mut stream = connection.accept_uni().await.ok()?;
    match stream.read_to_end(WELCOME.len()).await {
        Ok(welcome) if welcome == WELCOME => Some(Standing::In),
        Err(ReadToEndError::Read(quinn::ReadError::ConnectionLost(_))) => None,
        Ok(_) | Err(_) => Some(Standing::Misunderstood),
    }
}
