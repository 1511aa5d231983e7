//! A lane over TCP: a control connection and one or more data connections, each with TLS of its own
//! (`docs/formats/link.md`, "Over TCP").

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{LaneKind, LaneStats};
use crate::error::close_code;
use crate::pipe::Carrier;
use crate::{LinkError, Pace};

#[cfg(target_os = "linux")]
mod congestion;
mod control;
mod data;
pub(crate) mod frame;
mod growing;
pub(crate) mod growth;
pub(crate) mod handshake;
mod info;
mod outbox;
mod queue;
mod records;
pub(crate) mod session;
mod sockets;
pub(crate) mod stream;
mod talk;

pub(crate) use control::{Receiver, Sender};
pub(crate) use data::Arriving;
use queue::{Load, Place};
pub(crate) use session::{End, Session};

#[cfg(test)]
pub(crate) fn control_window() -> usize {
    control::WINDOW
}

#[cfg(test)]
pub(crate) use talk::listen as listen_to;

#[cfg(feature = "fuzzing")]
pub(crate) use records::fuzzing::open as fuzz_records;

/// How many data connections a lane begins with, whose control connection was just made.
pub(crate) fn first_connections(control: &handshake::Secured) -> u16 {
    growth::first(info::sum(std::slice::from_ref(control.writer.socket())).rtt)
}

/// A handle of the session that closes it when it goes.
#[derive(Debug)]
pub(crate) struct TcpLane {
    session: Arc<Session>,
    remote: SocketAddr,
    /// How long the peer took to answer a connection: its round trip until the kernel has measured one. None
    /// where it was the peer that connected.
    trip: Option<Duration>,
    /// Closed once the session's tasks have ended.
    over: watch::Receiver<()>,
    /// The pipe that the connections go through, if they do.
    carrier: Option<Carrier>,
}

impl Drop for TcpLane {
    fn drop(&mut self) {
        self.session.close(close_code::DONE, "");
    }
}

impl TcpLane {
    /// The handle of `session`, whose `run` holds the sender of `over` until it returns.
    pub(crate) fn new(
        session: Arc<Session>,
        remote: SocketAddr,
        trip: Option<Duration>,
        over: watch::Receiver<()>,
    ) -> Self {
        Self { session, remote, trip, over, carrier: None }
    }

    /// The same through a pipe, if there is one.
    pub(crate) fn through(mut self, carrier: Option<Carrier>) -> Self {
        self.carrier = carrier;
        self
    }

    pub(super) fn kind(&self) -> LaneKind {
        match self.carrier {
            Some(_) => LaneKind::Pipe,
            None => LaneKind::Tcp,
        }
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn stats(&self) -> LaneStats {
        let figures = self.session.figures();
        // Until a data connection is there nothing is measured.
        let known = |time: Duration| match self.trip {
            Some(trip) if time.is_zero() => trip,
            _ => time,
        };
        let (mut rtt, mut min_rtt) = (known(figures.rtt), known(figures.min_rtt));
        let mut figures = figures;
        if let Some(carrier) = &self.carrier {
            // The kernel sees the loopback only.
            (rtt, min_rtt) = carrier.trip().map_or((rtt, min_rtt), |trip| (trip, trip));
            figures = info::Figures {
                sent_bytes: figures.sent_bytes,
                received_bytes: figures.received_bytes,
                acknowledged_bytes: figures.acknowledged_bytes,
                ..info::Figures::default()
            };
        }
        LaneStats {
            kind: self.kind(),
            rtt,
            min_rtt,
            sent_packets: figures.sent_packets,
            lost_packets: figures.lost_packets,
            lost_bytes: figures.lost_bytes,
            sent_bytes: figures.sent_bytes,
            received_bytes: figures.received_bytes,
            heard: figures.received_bytes + figures.acknowledged_bytes,
            congestion_window: figures.congestion_window,
            congestion_events: 0,
            mtu: figures.mtu,
            black_holes: 0,
            delivery_rate: figures.delivery_rate,
            connections: u32::from(self.session.open_connections()),
            peer_limited: figures.peer_limited,
            buffer_limited: figures.buffer_limited,
            busy: figures.busy,
            pacing_rate: 0,
            queue_delay: rtt.saturating_sub(min_rtt),
            path_loss: 0.0,
            policed: false,
            app_limited: false,
            bound: None,
            pace: Some(if self.session.gives_way() { Pace::Background } else { Pace::Fair }),
            remembered_rate: 0,
        }
    }

    pub(super) fn give_way(&self) {
        self.session.give_way();
    }

    #[cfg(test)]
    pub(super) fn sockets(&self) -> Vec<Arc<tokio::net::TcpStream>> {
        self.session.sockets.live()
    }

    pub(super) async fn welcomed(&self) -> Result<(), LinkError> {
        self.session.welcomed().await
    }

    pub(super) async fn open_control(&self) -> Result<(Sender, Receiver), LinkError> {
        let stream = self.session.or_ended(self.session.streams.open()).await?;
        let receiver = Receiver::new(self.session.clone(), stream.clone());
        Ok((Sender::new(self.session.clone(), stream), receiver))
    }

    pub(super) async fn accept_control(&self) -> Result<(Sender, Receiver), LinkError> {
        let stream = self.session.or_ended(self.session.streams.accept()).await?;
        let stream = stream.ok_or_else(|| self.session.error(End::Here))?;
        let receiver = Receiver::new(self.session.clone(), stream.clone());
        Ok((Sender::new(self.session.clone(), stream), receiver))
    }

    pub(super) async fn send_parcel(
        &self,
        head: Bytes,
        body: Bytes,
        order: u64,
    ) -> Result<(), LinkError> {
        if let Some(end) = self.session.end() {
            return Err(self.session.error(end));
        }
        let (place, fate) = self.session.queue().push(Load { head, body }, order);
        let waiting = WaitingParcel { session: &self.session, place };
        self.session.work.notify_one();
        let fate = self.session.or_ended(fate).await?;
        drop(waiting);
        match fate {
            Ok(Ok(())) => Ok(()),
            Ok(Err(code)) => Err(LinkError::StreamStopped {
                peer: self.session.name().clone(),
                code: u64::from(code),
            }),
            // The queue was cleared, which happens just behind the end.
            Err(_) => Err(self.session.error(self.session.ended().await)),
        }
    }

    pub(super) async fn accept_parcel(&self) -> Result<Arriving, LinkError> {
        let parcel = self.session.or_ended(self.session.incoming.accept()).await?;
        parcel.ok_or_else(|| self.session.error(End::Here))
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.session.close(code, reason);
    }

    pub(super) async fn closed(&self) -> LinkError {
        self.session.error(self.session.ended().await)
    }

    pub(super) async fn drained(&self, at_most: Duration) {
        let mut over = self.over.clone();
        // Being too late is no error: the peer's idle timeout covers it.
        let _ =
            tokio::time::timeout(at_most, async { while over.changed().await.is_ok() {} }).await;
    }
}

/// A parcel that somebody waits for; it is taken out of the queue when that ends.
struct WaitingParcel<'a> {
    session: &'a Session,
    place: Place,
}

impl Drop for WaitingParcel<'_> {
    fn drop(&mut self) {
        self.session.queue().forget(self.place);
    }
}
