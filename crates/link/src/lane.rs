//! One connection to one peer, whose key is proven and accepted.
//! This is the seam over the QUIC library: none of its types shows here. A lane carries control streams
//! (small frames, in order) and parcels (a head and a body each, in any order); it closes when its last
//! handle, stream and parcel is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, VarInt};

use crate::error::{close_code, reason_bytes};
use crate::memory::Account;
use crate::{LinkError, PeerName, Permissions, PublicKey, Warning, socket};

mod control;
mod parcel;

pub use control::{ControlReceiver, ControlSender, MAX_FRAME};
pub use parcel::Parcel;

/// A connection to a peer. Clones are handles to the same connection.
#[derive(Debug, Clone)]
pub struct Lane {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    name: PeerName,
    peer: PublicKey,
    side: Side,
    account: Arc<Account>,
    warnings: Vec<Warning>,
}

/// What differs between the two ends of a lane.
#[derive(Debug)]
pub(crate) enum Side {
    /// We dialed, from a socket of this lane alone.
    Dialed { endpoint: Endpoint, socket_buffer_bytes: usize },
    /// We listened and admitted the peer.
    Admitted { permissions: Permissions },
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Others may hold the connection, as the listener's task does, so its own drop is not enough.
        self.connection.close(VarInt::from_u32(close_code::DONE), b"");
    }
}

/// What a lane is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneKind {
    /// One QUIC connection over UDP.
    Quic,
    /// TLS over TCP connections.
    Tcp,
}

/// Figures of a lane, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LaneStats {
    /// What the lane is made of.
    pub kind: LaneKind,
    /// Bytes per second that were acknowledged lately; 0 where it is not measured.
    pub delivery_rate: u64,
    /// Bytes per second at which packets are sent; 0 where it is not known.
    pub pacing_rate: u64,
    /// How long packets wait in queues on the way.
    pub queue_delay: Duration,
    /// The share of packets that the path loses, of late: 0 to 1.
    pub path_loss: f64,
    /// Whether something on the path drops what is above a rate.
    pub policed: bool,
    /// Whether there was less to send than could be sent.
    pub app_limited: bool,
    /// Connections that the lane is made of.
    pub connections: u32,
    /// TCP: for how long the peer's window held data back, since the lane began.
    pub peer_limited: Duration,
    /// TCP: for how long the send buffer held data back, since the lane began.
    pub buffer_limited: Duration,
    /// TCP: for how long there was something to send, since the lane began.
    pub busy: Duration,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The smallest round-trip time seen.
    pub min_rtt: Duration,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that were sent and counted as lost.
    pub lost_packets: u64,
    /// Bytes in those.
    pub lost_bytes: u64,
    /// Bytes in UDP packets sent, headers of QUIC included.
    pub sent_bytes: u64,
    /// Bytes in UDP packets received, headers of QUIC included.
    pub received_bytes: u64,
    /// How many bytes may be under way now.
    pub congestion_window: u64,
    /// How often the controller took congestion for certain.
    pub congestion_events: u64,
    /// The size of UDP payloads that the path takes, as far as is known.
    pub mtu: u16,
    /// How often a path stopped taking packets of the size that it took before.
    pub black_holes: u64,
}

impl Lane {
    pub(crate) fn new(
        connection: Connection,
        name: PeerName,
        peer: PublicKey,
        side: Side,
        account: Arc<Account>,
        warnings: Vec<Warning>,
    ) -> Self {
        Self { inner: Arc::new(Inner { connection, name, peer, side, account, warnings }) }
    }

    /// The key that the peer has proven to hold.
    pub fn peer(&self) -> &PublicKey {
        &self.inner.peer
    }

    /// The peer as errors name it: where it was when the lane began, and its key.
    pub fn peer_name(&self) -> &PeerName {
        &self.inner.name
    }

    /// What the gatekeeper lets the peer do. None on a lane that we dialed: what we may do is the peer's
    /// to decide, and it may ask nothing of us.
    pub fn permissions(&self) -> Option<&Permissions> {
        match &self.inner.side {
            Side::Admitted { permissions } => Some(permissions),
            Side::Dialed { .. } => None,
        }
    }

    /// Where the peer is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.inner.connection.remote_address())
    }

    /// How many bytes the peer may send us beyond what we have read.
    pub fn memory_share(&self) -> u64 {
        self.inner.account.window()
    }

    /// What the user should know about this lane's socket.
    pub fn warnings(&self) -> &[Warning] {
        &self.inner.warnings
    }

    /// The lane's figures.
    pub fn stats(&self) -> LaneStats {
        let stats = self.inner.connection.stats();
        LaneStats {
            kind: LaneKind::Quic,
            delivery_rate: 0,
            pacing_rate: 0,
            queue_delay: stats.path.rtt.saturating_sub(stats.path.min_rtt),
            path_loss: match stats.path.sent_packets {
                0 => 0.0,
                sent => stats.path.lost_packets as f64 / sent as f64,
            },
            policed: false,
            app_limited: false,
            connections: 1,
            peer_limited: Duration::ZERO,
            buffer_limited: Duration::ZERO,
            busy: Duration::ZERO,
            rtt: stats.path.rtt,
            min_rtt: stats.path.min_rtt,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            lost_bytes: stats.path.lost_bytes,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            congestion_window: stats.path.cwnd,
            congestion_events: stats.path.congestion_events,
            mtu: stats.path.current_mtu,
            black_holes: stats.path.black_holes_detected,
        }
    }

    /// Closes the lane at once; what was not acknowledged may not arrive. The reason is told to the peer.
    /// Codes from [`close_code::FIRST_FREE`] on belong to the protocol above.
    pub fn close(&self, code: u32, reason: &str) {
        self.inner.connection.close(VarInt::from_u32(code), reason_bytes(reason));
    }

    /// Waits until the lane has ended, and says why.
    pub async fn closed(&self) -> LinkError {
        let error = self.inner.connection.closed().await;
        self.error(error)
    }

    /// Waits, `at_most` this long, until the peer can have heard that the lane was closed. A program
    /// that dialed calls it before it ends, or the peer finds out by its idle timeout.
    pub async fn drained(&self, at_most: Duration) {
        if let Side::Dialed { endpoint, .. } = &self.inner.side {
            // Being too late is no error: the peer's idle timeout covers it.
            let _ = tokio::time::timeout(at_most, endpoint.wait_idle()).await;
        }
    }

    /// Moves the lane to a fresh socket on any address, after the network under it has changed. Only the
    /// side that dialed can do it; what was under way is sent again where it needs to be.
    pub fn rebind(&self) -> Result<(), LinkError> {
        let Side::Dialed { endpoint, socket_buffer_bytes } = &self.inner.side else {
            return Err(LinkError::CannotRebind { peer: self.inner.name.clone() });
        };
        let local = wildcard(self.inner.connection.remote_address());
        let (socket, _same_warnings) = socket::open(local, *socket_buffer_bytes)?;
        endpoint.rebind(socket).map_err(|source| LinkError::Socket {
            action: "move to",
            local,
            source,
        })
    }

    fn error(&self, error: quinn::ConnectionError) -> LinkError {
        LinkError::from_connection(self.inner.name.clone(), error)
    }

    /// Tells the memory budget that the peer's bytes were taken out of the transport.
    fn note_read(&self, bytes: usize) {
        self.inner.account.note_read(bytes);
    }

    fn connection(&self) -> &Connection {
        &self.inner.connection
    }
}

/// A socket for both families shows IPv4 peers as `::ffff:a.b.c.d`; everybody else wants `a.b.c.d`.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Any address and port of the family that reaches `remote`.
pub(crate) fn wildcard(remote: SocketAddr) -> SocketAddr {
    use std::net::{Ipv4Addr, Ipv6Addr};
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests;
