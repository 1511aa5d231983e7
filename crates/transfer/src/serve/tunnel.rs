//! Pipes in the messages of a control stream (`docs/formats/protocol.md`, "Through the orchestrator"): the target's
//! end leads to its own listener and nowhere else, and what the source's end needs of them is here too.

use std::net::SocketAddr;

use link::pipe::{Carrier, Tunnel, TunnelEnd, TunnelOptions};
use link::{Lane, LinkError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::turns::Turn;
use super::{QUEUE, Server};
use crate::host::Refusal;
use crate::lane_io::{Incoming, queues, why_ended};
use crate::message::{MAX_PIPE, Opening, RefuseCode};
use crate::send::STALL;
use crate::session::Control;
use crate::{TransferError, Violation};

/// The most connections of a tunnel: a lane over TCP with two data connections.
const MOST_CONNECTIONS: usize = 3;
/// What waits between a tunnel and the control stream, in each direction. It is short for the same reason as the queue.
const BUFFER: usize = MAX_PIPE;

/// This daemon's own listener, as connections that come through a tunnel reach it.
#[derive(Debug, Clone)]
pub struct OwnListener {
    /// Where it takes connections over TCP; an address of this machine.
    pub address: SocketAddr,
    /// What tells it which of them come through a tunnel.
    pub carrier: Carrier,
}

/// What a tunnel carries, at the side of the control stream.
pub(super) struct Ends {
    pub(super) from: ReadHalf<DuplexStream>,
    pub(super) into: WriteHalf<DuplexStream>,
}

impl Ends {
    /// Those of a tunnel that there is not.
    pub(super) fn closed() -> Self {
        pipe().0
    }
}

/// The two sides of a pipe within this process.
fn pipe() -> (Ends, Ends) {
    let (ours, theirs) = duplex(BUFFER);
    let ends = |side| {
        let (from, into) = split(side);
        Ends { from, into }
    };
    (ends(ours), ends(theirs))
}

/// The source's end of a tunnel.
pub(super) async fn enter() -> Result<(Tunnel, Ends), Refusal> {
    let (ours, theirs) = pipe();
    let options = TunnelOptions { most_connections: MOST_CONNECTIONS, origin: None };
    let tunnel = Tunnel::enter(theirs.from, theirs.into, options).await.map_err(|error| {
        let text = format!("no port can be had on the loopback here: {error}");
        Refusal { code: RefuseCode::Busy, text }
    })?;
    Ok((tunnel, ours))
}

/// The next bytes that a tunnel has to say, or none when it has ended. Cancel-safe.
pub(super) async fn next(from: &mut ReadHalf<DuplexStream>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MAX_PIPE);
    match from.read_buf(&mut bytes).await {
        Ok(1..) => Some(bytes),
        Ok(0) | Err(_) => None,
    }
}

/// Passes messages into a tunnel until the peer leaves or breaks the rules; says which. A tunnel that has ended
/// is for its owner to notice.
pub(super) async fn pass_in(
    incoming: &mut Incoming,
    into: &mut WriteHalf<DuplexStream>,
    lane: &Lane,
) -> TransferError {
    loop {
        match incoming.recv().await {
            Ok(Some(bytes)) if bytes.is_empty() => {
                let violation = Violation("a message of a pipe without bytes");
                return TransferError::Violation { peer: lane.peer_name().clone(), violation };
            }
            Ok(Some(bytes)) => {
                if into.write_all(&bytes).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Ok(None) | Err(_) => return left(lane).await,
        }
    }
}

/// Why nothing more comes from a peer.
pub(super) async fn left(lane: &Lane) -> TransferError {
    match why_ended(lane).await {
        LinkError::Closed { peer, code: 0, .. } => TransferError::Abandoned { peer },
        error => error.into(),
    }
}

/// What the end of a tunnel says of the peer that carries it.
pub(super) fn ended(end: TunnelEnd, lane: &Lane) -> TransferError {
    let peer = lane.peer_name().clone();
    match end {
        TunnelEnd::Bye => TransferError::Abandoned { peer },
        TunnelEnd::Lost(_) => TransferError::Stalled { peer, seconds: STALL.as_secs() },
        TunnelEnd::Violation(rule) => TransferError::Violation { peer, violation: Violation(rule) },
    }
}

/// A tunnel to the listener of this machine that may be carried.
pub(super) struct Leaving {
    to: OwnListener,
    _turn: Turn,
}

impl Server {
    /// Checks that this peer may have a tunnel here: whoever may write may grant, and it is for those who were
    /// granted something.
    pub(super) fn begin_tunnel(&self, lane: &Lane) -> Result<Leaving, Refusal> {
        let denied = |text: &str| Refusal { code: RefuseCode::Denied, text: text.to_owned() };
        if !lane.permissions().is_some_and(|allowed| allowed.write) {
            return Err(denied("this key may only read here"));
        }
        let to = self.own.clone().ok_or_else(|| denied("nothing is carried to this daemon"))?;
        Ok(Leaving { to, _turn: self.tunnels.take(lane.peer())? })
    }
}

impl Leaving {
    /// Carries it until the peer leaves.
    pub(super) async fn carry(
        self,
        lane: &Lane,
        mut control: Control,
    ) -> Result<(), TransferError> {
        let accept = Opening::Accept { resumed: false, seen: 0, window: 0, named: false };
        control.0.send(&accept.encode()).await?;
        let (outgoing, mut incoming) = queues(control, QUEUE);
        let (Ends { mut from, mut into }, theirs) = pipe();
        let OwnListener { address, carrier } = &self.to;
        let origin = Some(lane.remote_address());
        let options = TunnelOptions { most_connections: MOST_CONNECTIONS, origin };
        let tunnel = Tunnel::leave(theirs.from, theirs.into, *address, carrier, options);
        let telling = async {
            while let Some(bytes) = next(&mut from).await {
                outgoing.room().await;
                outgoing.send(bytes);
            }
            // Why, the tunnel says.
            std::future::pending::<TransferError>().await
        };
        let error = tokio::select! {
            error = pass_in(&mut incoming, &mut into, lane) => error,
            error = telling => error,
            end = tunnel.closed() => ended(end, lane),
        };
        match error {
            // It has been carried for as long as it was wanted.
            TransferError::Abandoned { .. } => Ok(()),
            error => Err(error),
        }
    }
}
