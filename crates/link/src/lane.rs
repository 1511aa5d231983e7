//! One connection to one peer, whose key is proven and accepted.
//! This is the seam over the transports: nothing of QUIC or TLS shows here. A lane carries control streams
//! (small frames, in order) and parcels (a head and a body each, in any order); it closes when its last
//! handle, stream and parcel is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::memory::Account;
use crate::{
    Bound, LinkError, Pace, ParcelError, PathMemory, PeerName, Permissions, PublicKey, Warning,
};

mod quic;
pub(crate) mod tcp;

#[cfg(feature = "fuzzing")]
pub(crate) use quic::fuzz_parcel;
pub(crate) use quic::{QuicLane, Welcome};
pub(crate) use tcp::TcpLane;

/// The longest frame that is sent.
pub const MAX_FRAME: usize = 64 * 1024;

/// How much of cancelled frames is kept for the next call.
const MAX_UNSENT: usize = 16 * MAX_FRAME;

/// What a lane is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LaneKind {
    /// One QUIC connection over UDP.
    #[default]
    Quic,
    /// One or more TCP connections with TLS.
    Tcp,
    /// The same through the pipe of another program.
    Pipe,
}

impl LaneKind {
    /// What it is called in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TCP",
            Self::Pipe => "a pipe",
        }
    }
}

impl std::fmt::Display for LaneKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Pipe => "pipe",
        })
    }
}

/// A connection to a peer. Clones are handles to the same connection.
#[derive(Debug, Clone)]
pub struct Lane {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: Path,
    name: PeerName,
    peer: PublicKey,
    permissions: Option<Permissions>,
    account: Arc<Account>,
    warnings: Vec<Warning>,
}

/// The two kinds. Each closes when it is dropped.
#[derive(Debug)]
pub(crate) enum Path {
    Quic(QuicLane),
    Tcp(TcpLane),
}

/// Figures of a lane, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LaneStats {
    /// What the lane is made of.
    pub kind: LaneKind,
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
    /// Bytes in UDP packets sent, headers of QUIC included; or bytes sent over TCP. What the kernel says of
    /// packets says nothing of a pipe: there are none.
    pub sent_bytes: u64,
    /// Bytes in UDP packets received, headers of QUIC included; or bytes received over TCP.
    pub received_bytes: u64,
    /// Rises with whatever comes from the peer, acknowledgements by its kernel included.
    pub heard: u64,
    /// How many bytes may be under way now.
    pub congestion_window: u64,
    /// How often the controller took congestion for certain.
    pub congestion_events: u64,
    /// The size of UDP payloads, or of IP packets for TCP, that the path takes, as far as is known.
    pub mtu: u16,
    /// How often a path stopped taking packets of the size that it took before.
    pub black_holes: u64,
    /// Bytes per second that the peer has acknowledged of late, 0 if that is not known.
    pub delivery_rate: u64,
    /// How many connections the lane has that carry parcels.
    pub connections: u32,
    /// How long the peer's window held up what was to be sent; zero where that is not known.
    pub peer_limited: Duration,
    /// How long our own socket's buffer did.
    pub buffer_limited: Duration,
    /// How long there was something to send or to be acknowledged.
    pub busy: Duration,
    /// Bytes per second that the rate control lets out. This and what follows is 0, false or None with
    /// another congestion control than ours.
    pub pacing_rate: u64,
    /// By how much queues on the way lengthen the round trip.
    pub queue_delay: Duration,
    /// The share of packets that the path loses by itself, 0 to 1.
    pub path_loss: f64,
    /// Whether something on the way throws away what is sent above a rate.
    pub policed: bool,
    /// Whether there was nothing to send lately.
    pub app_limited: bool,
    /// What keeps the rate from being higher.
    pub bound: Option<Bound>,
    /// How much of the path this end takes. Over TCP it is background or fair, whatever the congestion control.
    pub pace: Option<Pace>,
    /// The rate of an earlier lane that this one began with, in bytes per second.
    pub remembered_rate: u64,
}

impl Lane {
    pub(crate) fn new(
        path: Path,
        name: PeerName,
        peer: PublicKey,
        permissions: Option<Permissions>,
        account: Arc<Account>,
        warnings: Vec<Warning>,
    ) -> Self {
        Self { inner: Arc::new(Inner { path, name, peer, permissions, account, warnings }) }
    }

    /// What the lane is made of.
    pub fn kind(&self) -> LaneKind {
        match &self.inner.path {
            Path::Quic(_) => LaneKind::Quic,
            Path::Tcp(tcp) => tcp.kind(),
        }
    }

    /// The key that the peer has proven to hold, or the one that this stands for.
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
        self.inner.permissions.as_ref()
    }

    /// Where the peer is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.inner.path {
            Path::Quic(quic) => canonical(quic.remote_address()),
            Path::Tcp(tcp) => canonical(tcp.remote_address()),
        }
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
        match &self.inner.path {
            Path::Quic(quic) => quic.stats(),
            Path::Tcp(tcp) => tcp.stats(),
        }
    }

    /// Sends from now on only what others on the path leave, as [`crate::Pace::Background`] says. Over QUIC
    /// this is for lanes that we admitted; one that is dialed has its pace in its options. Over TCP it is
    /// as much as the system allows: one data connection, with TCP-LP where Linux
    /// offers that, or else Reno.
    pub fn give_way(&self) {
        match &self.inner.path {
            Path::Quic(quic) => quic.give_way(),
            Path::Tcp(tcp) => tcp.give_way(),
        }
    }

    /// The sockets of a lane over TCP.
    #[cfg(test)]
    pub(crate) fn tcp_sockets(&self) -> Vec<Arc<tokio::net::TcpStream>> {
        match &self.inner.path {
            Path::Quic(_) => Vec::new(),
            Path::Tcp(tcp) => tcp.sockets(),
        }
    }

    /// Waits until the peer has said that we are in; the error says why not. A lane can be used before,
    /// and whatever is done on it fails with the same error if the peer refuses us. A lane that we
    /// admitted is welcome from the start.
    pub async fn welcomed(&self) -> Result<(), LinkError> {
        match &self.inner.path {
            Path::Quic(quic) => quic.welcomed().await,
            Path::Tcp(tcp) => tcp.welcomed().await,
        }
    }

    /// Opens a control stream. The peer sees it when the first frame arrives.
    pub async fn open_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        Ok(match &self.inner.path {
            Path::Quic(quic) => self.quic_control(quic.open_control().await?),
            Path::Tcp(tcp) => self.tcp_control(tcp.open_control().await?),
        })
    }

    /// Waits for the peer to open a control stream.
    pub async fn accept_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        Ok(match &self.inner.path {
            Path::Quic(quic) => self.quic_control(quic.accept_control().await?),
            Path::Tcp(tcp) => self.tcp_control(tcp.accept_control().await?),
        })
    }

    fn quic_control(
        &self,
        (sender, receiver): (quic::Sender, quic::Receiver),
    ) -> (ControlSender, ControlReceiver) {
        let sender = ControlSender { half: SenderHalf::Quic(sender), _lane: self.clone() };
        (sender, ControlReceiver { half: ReceiverHalf::Quic(receiver), _lane: self.clone() })
    }

    fn tcp_control(
        &self,
        (sender, receiver): (tcp::Sender, tcp::Receiver),
    ) -> (ControlSender, ControlReceiver) {
        let sender = ControlSender { half: SenderHalf::Tcp(sender), _lane: self.clone() };
        (sender, ControlReceiver { half: ReceiverHalf::Tcp(receiver), _lane: self.clone() })
    }

    /// Sends a parcel and returns when the peer has acknowledged all of it: its transport over QUIC, its
    /// program over TCP. Parcels with a lower `order` go first, over QUIC retransmissions too. Dropping
    /// the future abandons the parcel; over TCP one that was begun is still sent whole.
    pub async fn send_parcel(&self, head: Bytes, body: Bytes, order: u64) -> Result<(), LinkError> {
        self.send(head, body, order, false).await
    }

    /// The same for one of the last parcels of a job: where packets are lost, it goes with so much more
    /// that the peer need not wait until they are sent again.
    pub async fn send_parcel_redundantly(
        &self,
        head: Bytes,
        body: Bytes,
        order: u64,
    ) -> Result<(), LinkError> {
        self.send(head, body, order, true).await
    }

    async fn send(
        &self,
        head: Bytes,
        body: Bytes,
        order: u64,
        redundantly: bool,
    ) -> Result<(), LinkError> {
        for (part, cap) in [(&head, quic::MOST_HEAD as u64), (&body, u64::from(u32::MAX))] {
            let length = part.len() as u64;
            if length > cap {
                return Err(LinkError::TooLong { peer: self.inner.name.clone(), length, cap });
            }
        }
        match &self.inner.path {
            Path::Quic(quic) => quic.send_parcel(head, body, order, redundantly).await,
            Path::Tcp(tcp) => tcp.send_parcel(head, body, order).await,
        }
    }

    /// Waits for the first bytes of the peer's next parcel.
    pub async fn accept_parcel(&self) -> Result<Parcel, LinkError> {
        let arriving = match &self.inner.path {
            Path::Quic(quic) => Arriving::Quic(quic.accept_parcel().await?),
            Path::Tcp(tcp) => Arriving::Tcp(Box::new(tcp.accept_parcel().await?)),
        };
        Ok(Parcel { arriving, _lane: self.clone() })
    }

    /// What sending over this lane has taught about the path, for [`crate::TransportOptions::known_path`]
    /// of a later one. None where too little was sent, in the background, and over TCP. Can be asked after the
    /// lane's end.
    pub fn learned(&self) -> Option<PathMemory> {
        match &self.inner.path {
            Path::Quic(quic) => quic.learned(),
            Path::Tcp(_) => None,
        }
    }

    /// Closes the lane at once; what was not acknowledged may not arrive. The reason is told to the peer.
    /// Codes from [`crate::close_code::FIRST_FREE`] on belong to the protocol above.
    pub fn close(&self, code: u32, reason: &str) {
        match &self.inner.path {
            Path::Quic(quic) => quic.close(code, reason),
            Path::Tcp(tcp) => tcp.close(code, reason),
        }
    }

    /// Waits until the lane has ended, and says why.
    pub async fn closed(&self) -> LinkError {
        match &self.inner.path {
            Path::Quic(quic) => quic.closed().await,
            Path::Tcp(tcp) => tcp.closed().await,
        }
    }

    /// Waits, `at_most` this long, until the peer can have heard that the lane was closed. A program
    /// that dialed calls it before it ends, or the peer finds out by its idle timeout.
    pub async fn drained(&self, at_most: Duration) {
        match &self.inner.path {
            Path::Quic(quic) => quic.drained(at_most).await,
            Path::Tcp(tcp) => tcp.drained(at_most).await,
        }
    }

    /// Moves the lane to a fresh socket on any address, after the network under it has changed. Only the
    /// side that dialed can do it, and only over QUIC; what was under way is sent again where it needs to
    /// be.
    pub fn rebind(&self) -> Result<(), LinkError> {
        match &self.inner.path {
            Path::Quic(quic) => quic.rebind(),
            Path::Tcp(_) => Err(LinkError::CannotRebind { peer: self.inner.name.clone() }),
        }
    }
}

/// The sending half of a control stream. Dropping it ends the stream as `finish` does.
#[derive(Debug)]
pub struct ControlSender {
    half: SenderHalf,
    /// A stream counts as a handle of the lane.
    _lane: Lane,
}

#[derive(Debug)]
enum SenderHalf {
    Quic(quic::Sender),
    Tcp(tcp::Sender),
}

impl ControlSender {
    /// Sends one frame. When it is cancelled, the frame counts as accepted, and what is left of it goes
    /// out with the next call; [`LinkError::TooLong`] says that too much was left in this way.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match &mut self.half {
            SenderHalf::Quic(half) => half.send(frame).await,
            SenderHalf::Tcp(half) => half.send(frame).await,
        }
    }

    /// Says that no frame follows.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        match &mut self.half {
            SenderHalf::Quic(half) => half.finish().await,
            SenderHalf::Tcp(half) => half.finish().await,
        }
    }
}

/// The receiving half of a control stream.
#[derive(Debug)]
pub struct ControlReceiver {
    half: ReceiverHalf,
    /// A stream counts as a handle of the lane.
    _lane: Lane,
}

#[derive(Debug)]
enum ReceiverHalf {
    Quic(quic::Receiver),
    Tcp(tcp::Receiver),
}

impl ControlReceiver {
    /// The next frame, of at most `max` bytes, or nothing once the peer has finished. Memory grows with
    /// what arrives and not with what a length promises. It can be cancelled without losing a frame.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>, LinkError> {
        match &mut self.half {
            ReceiverHalf::Quic(half) => half.recv(max).await,
            ReceiverHalf::Tcp(half) => half.recv(max).await,
        }
    }
}

/// A parcel of which something has arrived. Dropping it tells the sender to stop.
#[derive(Debug)]
pub struct Parcel {
    arriving: Arriving,
    /// A stream counts as a handle of the lane.
    _lane: Lane,
}

#[derive(Debug)]
enum Arriving {
    Quic(quic::Arriving),
    Tcp(Box<tcp::Arriving>),
}

impl Parcel {
    /// Reads the whole parcel: its head, of at most `max_head` bytes, and its body, of at most `max_body`.
    pub async fn read(
        self,
        max_head: usize,
        max_body: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), ParcelError> {
        self.read_into(max_head, max_body, Vec::with_capacity).await
    }

    /// As [`Parcel::read`], but the body may take the place of the old content of what `buffer` gives for
    /// its length: memory that was used before need not be fetched from the system again.
    pub async fn read_into(
        self,
        max_head: usize,
        max_body: usize,
        buffer: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<u8>), ParcelError> {
        match self.arriving {
            Arriving::Quic(parcel) => parcel.read(max_head, max_body).await,
            Arriving::Tcp(parcel) => parcel.read(max_head, max_body, buffer).await,
        }
    }

    /// Tells the sender that the parcel is not wanted; it sees `code`.
    pub fn refuse(self, code: u32) {
        match self.arriving {
            Arriving::Quic(parcel) => parcel.refuse(code),
            Arriving::Tcp(parcel) => parcel.refuse(code),
        }
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
