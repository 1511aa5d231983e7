//! Where a carrier leads, as users write it: `udp://HOST:PORT`, `tcp://HOST:PORT`, `tcp-listen://ADDR:PORT`. Behind an
//! address, `%INTERFACE` names the network interface to use, which multicast groups mostly need.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

use link::{Target, TargetError};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

use super::CarrierError;

/// Where a carrier leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Datagrams to this host, or arriving at this address of ours. Either may be a multicast group.
    Udp(Target),
    /// A byte stream over a connection that we make.
    Tcp(Target),
    /// A byte stream over a connection that somebody makes to this address of ours.
    TcpListen(Target),
}

/// Why a text is no address. It does not repeat the text, which may hold control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("write udp://HOST:PORT, tcp://HOST:PORT or tcp-listen://ADDRESS:PORT")]
    Scheme,
    /// There is no port, or an IPv6 address has no brackets.
    #[error("the port is missing; write HOST:PORT, and an IPv6 address in brackets")]
    NoPort,
    /// The rest is wrong.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Address {
    /// Host and port.
    pub fn target(&self) -> &Target {
        match self {
            Self::Udp(target) | Self::Tcp(target) | Self::TcpListen(target) => target,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let with = match scheme {
            "udp" => Self::Udp,
            "tcp" => Self::Tcp,
            "tcp-listen" => Self::TcpListen,
            _ => return Err(AddressError::Scheme),
        };
        let has_port = match rest.strip_prefix('[') {
            Some(rest) => rest.contains("]:"),
            None => rest.bytes().filter(|byte| *byte == b':').count() == 1,
        };
        if !has_port {
            return Err(AddressError::NoPort);
        }
        Ok(with(Target::parse(rest)?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Udp(_) => "udp",
            Self::Tcp(_) => "tcp",
            Self::TcpListen(_) => "tcp-listen",
        };
        write!(f, "{scheme}://{}", self.target())
    }
}

/// An address that was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// How users wrote it, for messages.
    pub name: String,
    pub at: SocketAddr,
    /// The interface to use, and its number.
    pub interface: Option<(String, u32)>,
}

impl Place {
    /// Looks up the host, which asks a name server if it is a name.
    pub fn find(address: &Address) -> Result<Self, CarrierError> {
        let name = address.to_string();
        let Target { host, port } = address.target();
        let (host, zone) = split_zone(host);
        let interface = match zone {
            Some(zone) => Some((zone.to_owned(), interface(&name, zone)?)),
            None => None,
        };
        let found = match host.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, *port)),
            Err(_) => look_up(host, *port),
        };
        let mut at =
            found.map_err(|source| CarrierError::Resolve { address: name.clone(), source })?;
        if let (SocketAddr::V6(v6), Some((_, index))) = (at, &interface) {
            at = SocketAddrV6::new(*v6.ip(), v6.port(), 0, *index).into();
        }
        Ok(Self { name, at, interface })
    }

    /// An error of this place.
    pub fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> CarrierError {
        let address = self.name.clone();
        move |source| CarrierError::Socket { action, address, source }
    }

    /// The number of the interface; 0 leaves it to the system.
    pub fn interface_number(&self) -> u32 {
        self.interface.as_ref().map_or(0, |(_, index)| *index)
    }
}

/// The host and what stands behind its `%`.
pub(crate) fn split_zone(host: &str) -> (&str, Option<&str>) {
    match host.split_once('%') {
        Some((host, zone)) => (host, Some(zone)),
        None => (host, None),
    }
}

fn look_up(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut found = (host, port).to_socket_addrs()?;
    found.next().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

fn interface(address: &str, zone: &str) -> Result<u32, CarrierError> {
    let missing = |source| CarrierError::Interface {
        address: address.to_owned(),
        interface: zone.to_owned(),
        source,
    };
    let any =
        Socket::new(Domain::for_address((Ipv4Addr::UNSPECIFIED, 0).into()), Type::DGRAM, None)
            .map_err(missing)?;
    rustix::net::netdevice::name_to_index(&any, zone).map_err(|error| missing(error.into()))
}

#[cfg(test)]
mod tests;
