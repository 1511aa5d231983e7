//! The relay's state and the turns of its task: sockets in, two wires, sockets out.
//!
//! A turn never waits. It takes a bounded batch from each socket, so that neither a busy client nor
//! a busy target keeps the others or the control calls from having their turn.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

use super::{RelayError, RelayOptions};
use crate::model::Nanos;
use crate::wire::Wire;

/// The largest UDP payload over IPv4.
pub(super) const LARGEST_DATAGRAM: usize = 65_507;
/// Datagrams taken from one socket before the others have their turn.
const BATCH: usize = 64;
/// Asked of the system for each socket; it gives what it allows.
const SOCKET_BUFFER: usize = 4 << 20;
/// How far ahead the timer is set at most; the due time may be the end of time.
const LONGEST_NAP: Duration = Duration::from_secs(3600);

/// When nothing passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dark {
    Never,
    Until(Nanos),
    UntilRestored,
}

/// A client and its own socket towards the target.
#[derive(Debug)]
pub(super) struct Client {
    upstream: UdpSocket,
    last_seen: Nanos,
}

/// All state of the relay, changed under one lock.
#[derive(Debug)]
pub(super) struct Pump {
    started: Instant,
    listen: UdpSocket,
    pub(super) target: SocketAddr,
    pub(super) clients: BTreeMap<SocketAddr, Client>,
    max_clients: usize,
    pub(super) to_target: Wire<SocketAddr>,
    pub(super) to_client: Wire<SocketAddr>,
    mtu: usize,
    pub(super) dark: Dark,
    buffer: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    waker: Option<Waker>,
}

impl Pump {
    pub(super) fn new(listen: UdpSocket, options: RelayOptions) -> Self {
        let cap = options.under_way_bytes;
        Self {
            started: Instant::now(),
            listen,
            target: options.target,
            clients: BTreeMap::new(),
            max_clients: options.max_clients.max(1),
            to_target: Wire::new(options.to_target, options.seed, cap),
            // Another stream of the same seed: the two directions must not lose the same packets.
            to_client: Wire::new(options.to_client, options.seed ^ (1 << 63), cap),
            mtu: options.mtu.unwrap_or(LARGEST_DATAGRAM),
            dark: Dark::Never,
            // One byte more than any datagram, so that none is ever cut short unseen.
            buffer: vec![0; LARGEST_DATAGRAM + 64],
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            waker: None,
        }
    }

    pub(super) fn now(&self) -> Nanos {
        nanos(self.started.elapsed())
    }

    /// One turn: everything due goes out, a batch from every socket comes in, and the task is set
    /// to wake for whatever comes first.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let now = self.now();
        if matches!(self.dark, Dark::Until(until) if until <= now) {
            self.dark = Dark::Never;
        }
        self.send_due(now);
        // The buffer is taken out so that it can be lent along with the rest of the pump.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = self.receive_from_clients(cx, now, &mut buffer);
        more |= self.receive_from_target(cx, now, &mut buffer);
        self.buffer = buffer;
        if more || self.timer_is_due(cx) {
            cx.waker().wake_by_ref();
        }
    }

    /// Sets the timer to the next packet. Timers tick in milliseconds, which is why a turn sends
    /// all that is due and never one packet for each tick.
    fn timer_is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let next =
            [self.to_target.next_due(), self.to_client.next_due()].into_iter().flatten().min();
        let Some(at) = next else { return false };
        let nap = Duration::from_nanos(at.saturating_sub(self.now())).min(LONGEST_NAP);
        self.timer.as_mut().reset(Instant::now() + nap);
        self.timer.as_mut().poll(cx).is_ready()
    }

    fn send_due(&mut self, now: Nanos) {
        while let Some(packet) = self.to_target.due(now) {
            let accepted = self.send_to_target(packet.tag, &packet.payload);
            self.to_target.count_sent(packet.payload.len(), accepted);
            self.to_target.recycle(packet.payload);
        }
        while let Some(packet) = self.to_client.due(now) {
            let accepted = send(&self.listen, &packet.payload, packet.tag);
            self.to_client.count_sent(packet.payload.len(), accepted);
            self.to_client.recycle(packet.payload);
        }
    }

    /// Says whether more may be waiting.
    fn receive_from_clients(
        &mut self,
        cx: &mut Context<'_>,
        now: Nanos,
        buffer: &mut [u8],
    ) -> bool {
        for _ in 0..BATCH {
            let Some((from, len)) = receive(&self.listen, cx, buffer) else { return false };
            // A report about an earlier send is no datagram.
            let Some(from) = from else { continue };
            let payload = &mut buffer[..len];
            if !self.passes(Direction::ToTarget, len) {
                continue;
            }
            if !self.knows(from, now) {
                self.to_target.stats.refused += 1;
                continue;
            }
            for _ in 0..self.to_target.admit(now, from, payload) {
                let accepted = self.send_to_target(from, payload);
                self.to_target.count_sent(len, accepted);
            }
        }
        true
    }

    /// Says whether more may be waiting.
    fn receive_from_target(&mut self, cx: &mut Context<'_>, now: Nanos, buffer: &mut [u8]) -> bool {
        let clients = std::mem::take(&mut self.clients);
        let mut more = false;
        for (&address, client) in &clients {
            let mut taken = 0;
            while let Some((from, len)) = receive(&client.upstream, cx, buffer) {
                // Only the target is behind this link; whoever else found the port is not heard.
                if from == Some(self.target) && self.passes(Direction::ToClient, len) {
                    let payload = &mut buffer[..len];
                    for _ in 0..self.to_client.admit(now, address, payload) {
                        let accepted = send(&self.listen, payload, address);
                        self.to_client.count_sent(len, accepted);
                    }
                }
                taken += 1;
                if taken == BATCH {
                    more = true;
                    break;
                }
            }
        }
        self.clients = clients;
        more
    }

    /// Counts a datagram that came in and says whether it gets as far as the link's model.
    fn passes(&mut self, direction: Direction, len: usize) -> bool {
        let stats = match direction {
            Direction::ToTarget => &mut self.to_target.stats,
            Direction::ToClient => &mut self.to_client.stats,
        };
        stats.packets += 1;
        stats.bytes += len as u64;
        if self.dark != Dark::Never {
            stats.blocked += 1;
        } else if len > self.mtu {
            stats.too_large += 1;
        } else {
            return true;
        }
        false
    }

    /// Makes sure that the client has a socket towards the target.
    fn knows(&mut self, address: SocketAddr, now: Nanos) -> bool {
        if let Some(client) = self.clients.get_mut(&address) {
            client.last_seen = now;
            return true;
        }
        if self.clients.len() >= self.max_clients {
            let silent = self.clients.iter().min_by_key(|(_, client)| client.last_seen);
            if let Some((&silent, _)) = silent {
                self.clients.remove(&silent);
            }
        }
        let Ok(upstream) = open(upstream_address(self.target)) else { return false };
        self.clients.insert(address, Client { upstream, last_seen: now });
        // The new socket was not polled in this turn; the next one must come for it.
        self.wake();
        true
    }

    fn send_to_target(&self, client: SocketAddr, payload: &[u8]) -> bool {
        self.clients.get(&client).is_some_and(|client| send(&client.upstream, payload, self.target))
    }

    pub(super) fn darken(&mut self, dark: Dark) {
        self.dark = dark;
        self.to_target.cut();
        self.to_client.cut();
    }

    pub(super) fn rebind(&mut self) -> Result<(), RelayError> {
        let target = self.target;
        for client in self.clients.values_mut() {
            // The old socket is closed after the new one is bound, so the ports differ.
            client.upstream = open(upstream_address(target))
                .map_err(|source| RelayError::Upstream { target, source })?;
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToTarget,
    ToClient,
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Where a socket towards `target` is bound: on loopback it need not be open to the network.
pub(super) fn upstream_address(target: SocketAddr) -> SocketAddr {
    let address: IpAddr = match target.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address, 0)
}

pub(super) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The system caps what it gives; less only means that a burst loses packets before the model.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Sends past tokio's readiness, which a new socket does not have yet. UDP does not wait for a
/// peer, so a refusal is as good as a loss.
fn send(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> bool {
    SockRef::from(socket).send_to(payload, &to.into()).is_ok()
}

/// A datagram's sender (none for an error report) and length, or `None` when nothing is waiting.
fn receive(
    socket: &UdpSocket,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Option<(Option<SocketAddr>, usize)> {
    let mut buffer = ReadBuf::new(buffer);
    match socket.poll_recv_from(cx, &mut buffer) {
        Poll::Ready(Ok(from)) => Some((Some(from), buffer.filled().len())),
        Poll::Ready(Err(_)) => Some((None, 0)),
        Poll::Pending => None,
    }
}
