//! Sockets: UDP with buffers large enough for a burst, and the warning when the kernel grants less.
//! A socket whose buffer overflows loses packets that the path had delivered, which looks like a bad
//! link, so the warning names the commands that cure it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::LinkError;

/// Something that slows transfers down or weakens them without stopping them, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// One or more lines for the user.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Opens a socket at `local` with buffers of `buffer_bytes` each way, or as much as is granted. A
/// wildcard IPv6 address takes IPv4 peers too.
pub(crate) fn open(
    local: SocketAddr,
    buffer_bytes: usize,
) -> Result<(UdpSocket, Vec<Warning>), LinkError> {
    let failed = |action| move |source| LinkError::Socket { action, local, source };
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed("open"))?;
    if local.is_ipv6() {
        // Where the system cannot do both with one socket, IPv6 alone is still worth having.
        let _ = socket.set_only_v6(!local.ip().is_unspecified());
    }
    // What was granted is read back below, so the results of asking say nothing more.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    socket.bind(&local.into()).map_err(failed("bind"))?;
    let receive = granted(socket.recv_buffer_size().map_err(failed("configure"))?);
    let send = granted(socket.send_buffer_size().map_err(failed("configure"))?);
    Ok((socket.into(), buffer_warning(buffer_bytes, receive, send).into_iter().collect()))
}

/// How many connections may wait to be accepted; each takes the kernel a few hundred bytes.
const BACKLOG: i32 = 256;

/// How often another port is tried when one must be found that is free for both kinds.
const PORT_TRIES: usize = 32;

/// Opens a UDP socket and a listening TCP socket of the same port. With port 0 it is one that is free for
/// both.
pub(crate) fn open_both(
    local: SocketAddr,
    buffer_bytes: usize,
) -> Result<(UdpSocket, TcpListener, Vec<Warning>), LinkError> {
    let mut tries = 0;
    loop {
        let (udp, warnings) = open(local, buffer_bytes)?;
        let bound = udp.local_addr().map_err(|source| LinkError::Socket {
            action: "listen on",
            local,
            source,
        })?;
        tries += 1;
        match listen_tcp(SocketAddr::new(local.ip(), bound.port())) {
            Ok(tcp) => return Ok((udp, tcp, warnings)),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && local.port() == 0
                    && tries < PORT_TRIES => {}
            Err(source) => return Err(LinkError::Socket { action: "listen on", local, source }),
        }
    }
}

fn listen_tcp(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    if local.is_ipv6() {
        // As for UDP.
        let _ = socket.set_only_v6(!local.ip().is_unspecified());
    }
    // Connections of the listener before may linger in the kernel and must not keep us from the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The largest UDP payload that the route to `remote` takes, as far as the system knows; no packet is sent.
pub fn path_payload(remote: SocketAddr) -> Option<u16> {
    #[cfg(target_os = "linux")]
    {
        let probe =
            Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP)).ok()?;
        probe.connect(&remote.into()).ok()?;
        // Less an IP header without options and the UDP header.
        let payload = match remote {
            SocketAddr::V4(_) => rustix::net::sockopt::ip_mtu(&probe).ok()?.checked_sub(20 + 8)?,
            SocketAddr::V6(_) => {
                rustix::net::sockopt::ipv6_mtu(&probe).ok()?.checked_sub(40 + 8)?
            }
        };
        Some(u16::try_from(payload).unwrap_or(u16::MAX))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = remote;
        None
    }
}

/// Linux reports twice what was asked for, to account for its own overhead.
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

fn buffer_warning(wanted: usize, receive: usize, send: usize) -> Option<Warning> {
    if receive >= wanted && send >= wanted {
        return None;
    }
    let mut text = format!(
        "the kernel grants UDP buffers of {receive} bytes for receiving and {send} for sending, not the {wanted} \
         that fast links need; to allow more, run as root:"
    );
    if cfg!(target_os = "linux") {
        for (setting, granted) in [("rmem_max", receive), ("wmem_max", send)] {
            if granted < wanted {
                text.push_str(&format!("\n  sysctl -w net.core.{setting}={wanted}"));
            }
        }
    } else {
        text.push_str(&format!("\n  sysctl -w kern.ipc.maxsockbuf={}", wanted.saturating_mul(2)));
    }
    Some(Warning { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_route_to_ourselves_takes_large_payloads() {
        let payload = path_payload((std::net::Ipv4Addr::LOCALHOST, 9).into());
        assert!(payload.is_some_and(|payload| payload >= 1472), "{payload:?}");
    }

    #[test]
    fn the_warning_names_only_what_is_short() {
        assert_eq!(buffer_warning(100, 100, 100), None);
        let text = buffer_warning(8_388_608, 212_992, 8_388_608).unwrap().text;
        if cfg!(target_os = "linux") {
            assert!(text.contains("sysctl -w net.core.rmem_max=8388608"), "{text}");
            assert!(!text.contains("wmem_max"), "{text}");
        }
    }
}
