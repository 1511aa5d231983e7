//! Sockets as carriers and channels need them: bound to an interface, joined to a group, connected without blocking
//! for longer than it takes to be told to stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use link::{Backoff, BackoffOptions, Fault, Outcome, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, TcpKeepalive, Type};

use super::address::{Address, Place};

/// How long a thread waits before it looks whether it is to stop.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A peer that acknowledges nothing for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// How long a connection may take to be made.
const CONNECT_AT_MOST: Duration = Duration::from_secs(10);

/// How long a connection must have lasted for the next to be tried as soon as the first.
const LASTED: Duration = Duration::from_secs(10);

/// A socket that sends datagrams to a place and is connected to nobody, so that no answer of the network disturbs it.
/// `hops` is how many routers a multicast datagram passes.
pub(crate) fn udp_to(place: &Place, hops: Option<u32>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(place.at), Type::DGRAM, Some(Protocol::UDP))?;
    bind_interface(&socket, place)?;
    match place.at {
        SocketAddr::V4(_) => {
            socket.set_broadcast(true)?;
            if let Some(hops) = hops {
                socket.set_multicast_ttl_v4(hops)?;
            }
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        }
        SocketAddr::V6(_) => {
            if let Some(hops) = hops {
                socket.set_multicast_hops_v6(hops)?;
            }
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        }
    }
    // Nobody reads it: what is sent to its port takes next to no memory.
    let _ = socket.set_recv_buffer_size(0);
    Ok(socket)
}

/// A socket that receives datagrams at a place; if it is a multicast group, as a member of it.
pub(crate) fn udp_at(place: &Place) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(place.at), Type::DGRAM, Some(Protocol::UDP))?;
    bind_interface(&socket, place)?;
    if place.at.ip().is_multicast() {
        // Others on this host may listen to the group too.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&place.at.into())?;
    let interface = place.interface_number();
    match place.at.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))?;
        }
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, interface)?,
        _ => {}
    }
    Ok(socket)
}

/// Bytes of the largest packet on the route to a place, with its headers, as far as the system knows. Over an interface
/// that was named, it says nothing.
pub(crate) fn path_packet(place: &Place) -> Option<usize> {
    let payload = link::path_payload(place.at).filter(|_| place.interface.is_none())?;
    Some(usize::from(payload) + udp_headers(place.at))
}

/// Bytes of the IP header without options, and of the UDP header.
pub(crate) fn udp_headers(to: SocketAddr) -> usize {
    if to.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// Listens for connections, without blocking.
pub(crate) fn listen(place: &Place) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(place.at), Type::STREAM, Some(Protocol::TCP))?;
    bind_interface(&socket, place)?;
    // Connections of a program before may linger in the kernel and must not keep us from the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&place.at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to a place, without blocking for longer than a tick once `is_over`. The stream does not block either.
fn connect(place: &Place, is_over: &mut dyn FnMut() -> bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(place.at), Type::STREAM, Some(Protocol::TCP))?;
    bind_interface(&socket, place)?;
    socket.set_nonblocking(true)?;
    let began = Instant::now();
    match socket.connect(&place.at.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
        _ => {}
    }
    while !wait(&socket, PollFlags::OUT, TICK) {
        if is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if began.elapsed() > CONNECT_AT_MOST {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let stream = TcpStream::from(socket);
    tune(&stream)?;
    Ok(stream)
}

/// Makes one connection after the other to the same address, with pauses that grow while none lasts.
#[derive(Debug)]
pub(crate) struct Redial {
    backoff: Backoff,
    dialled: bool,
    connected: Option<Instant>,
}

impl Default for Redial {
    fn default() -> Self {
        let patience = BackoffOptions {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(5),
            give_up_after: Duration::MAX,
        };
        Self { backoff: Backoff::new(patience), dialled: false, connected: None }
    }
}

impl Redial {
    /// A connection, however long it takes; None once `is_over`. What goes wrong meanwhile is told.
    pub(crate) fn dial(
        &mut self,
        address: &Address,
        is_over: &mut dyn FnMut() -> bool,
        mut tell: impl FnMut(&io::Error),
    ) -> Option<TcpStream> {
        loop {
            if std::mem::replace(&mut self.dialled, true) && !self.pause(is_over) {
                return None;
            }
            // A name may lead elsewhere by now.
            let place = Place::find(address).map_err(io::Error::other);
            match place.and_then(|place| connect(&place, is_over)) {
                Ok(stream) => {
                    self.connected = Some(Instant::now());
                    return Some(stream);
                }
                Err(error) => tell(&error),
            }
        }
    }

    /// Waits until the next attempt; false if it is over before.
    fn pause(&mut self, is_over: &mut dyn FnMut() -> bool) -> bool {
        let outcome = match self.connected.take() {
            Some(since) if since.elapsed() > LASTED => Outcome::LostAfterProgress(Fault::Transient),
            _ => Outcome::Failed(Fault::Transient),
        };
        // A single connection needs no jitter, and patience never ends.
        let Step::Wait(pause) = self.backoff.next(Duration::ZERO, outcome, u64::MAX) else {
            return false;
        };
        let until = Instant::now() + pause;
        loop {
            if is_over() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Makes a connection send at once what it is given, notice when its peer is gone, and never block.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(GONE_AFTER / 3).with_interval(GONE_AFTER / 6).with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(GONE_AFTER))
}

/// Whether there is something to read, an end or an error within this time.
pub(crate) fn wait_readable(socket: impl AsFd, at_most: Duration) -> bool {
    wait(socket, PollFlags::IN, at_most)
}

/// Whether something can be written, or an error be had, within this time.
pub(crate) fn wait_writable(socket: impl AsFd, at_most: Duration) -> bool {
    wait(socket, PollFlags::OUT, at_most)
}

fn wait(socket: impl AsFd, flags: PollFlags, at_most: Duration) -> bool {
    let timeout = Timespec::try_from(at_most).ok();
    let mut polled = [PollFd::new(&socket, flags)];
    // An interrupted call is one that nothing came of: the caller looks again.
    poll(&mut polled, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

fn bind_interface(socket: &Socket, place: &Place) -> io::Result<()> {
    match &place.interface {
        Some((name, _)) => socket.bind_device(Some(name.as_bytes())),
        None => Ok(()),
    }
}
