//! Whom to dial: a host name or address and a port, as users write them.
//! Parsing is the border: a `Target` holds no control characters, no user part and no brackets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

/// The port, of UDP and of TCP, that `haul serve` listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4285;

/// The longest host name that DNS can carry.
const MAX_HOST_BYTES: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// A host name in lower case, or an address without brackets.
    pub host: String,
    /// The port, of UDP and of TCP.
    pub port: u16,
}

impl Target {
    /// A target from its parts; the host is checked and put in lower case.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        Ok(Self { host: checked_host(host)?, port })
    }

    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address; the port is
    /// [`DEFAULT_PORT`] where none is written.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(TargetError::OpenBracket)?;
            let bare = host.split_once('%').map_or(host, |(address, _zone)| address);
            bare.parse::<Ipv6Addr>().map_err(|_| TargetError::NotAnAddress)?;
            let port = match after {
                "" => DEFAULT_PORT,
                _ => parse_port(after.strip_prefix(':').ok_or(TargetError::Port)?)?,
            };
            return Self::new(host, port);
        }
        match text.bytes().filter(|byte| *byte == b':').count() {
            0 => Self::new(text, DEFAULT_PORT),
            1 => {
                let (host, port) = text.split_once(':').expect("one colon was counted");
                Self::new(host, parse_port(port)?)
            }
            _ => {
                let bare = text.split_once('%').map_or(text, |(address, _zone)| address);
                bare.parse::<Ipv6Addr>().map_err(|_| TargetError::NotAnAddress)?;
                Self::new(text, DEFAULT_PORT)
            }
        }
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text names no target. It does not repeat the text, which may hold control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TargetError {
    /// No host.
    #[error("the host is empty")]
    Empty,
    /// Longer than a host name can be.
    #[error("the host is longer than {MAX_HOST_BYTES} bytes")]
    TooLong,
    /// A character that no host name or address has.
    #[error("the host has a character that no host name or address has")]
    Character,
    /// `[` without `]`.
    #[error("the opening bracket is not closed")]
    OpenBracket,
    /// Brackets or several colons around what is no IPv6 address.
    #[error("an IPv6 address was expected; write [address]:port")]
    NotAnAddress,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

fn checked_host(host: &str) -> Result<String, TargetError> {
    if host.is_empty() {
        return Err(TargetError::Empty);
    }
    if host.len() > MAX_HOST_BYTES {
        return Err(TargetError::TooLong);
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'%');
    if host.starts_with('-') || !host.bytes().all(allowed) {
        return Err(TargetError::Character);
    }
    // One address has many spellings; the shortest is the one that is compared and stored.
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Ok(host.to_ascii_lowercase()),
    }
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(TargetError::Port),
    }
}

#[cfg(test)]
mod tests;
