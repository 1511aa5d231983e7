//! What a SOURCE or TARGET of the command line means. Pure: it reads the text and asks neither disk
//! nor network. A word is far if a colon stands before its first slash, as scp has it; so a local
//! file whose name holds a colon is written `./a:b`.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use link::{DEFAULT_PORT, Target, TargetError};

/// One SOURCE or TARGET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A path of this machine.
    Local(PathBuf),
    /// A path of another machine, as typed; empty for `HOST:`.
    Far {
        /// Whom to dial.
        host: Target,
        /// What to ask for.
        path: Vec<u8>,
    },
    /// `-`: standard input or output.
    Pipe,
}

/// Why a word is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// The host is wrong.
    #[error(transparent)]
    Host(#[from] TargetError),
    /// A host that is not UTF-8.
    #[error("the host has a character that no host name or address has")]
    HostBytes,
    /// `user@host`.
    #[error(
        "haul knows machines by their keys and has no user names: leave out what is before '@'"
    )]
    User,
    /// A bracket that is not closed, or not followed by a colon.
    #[error("write [ADDRESS]:PATH or [ADDRESS]:PORT:PATH")]
    Bracket,
    /// `%` that is not followed by two hex digits.
    #[error("a '%' in a haul:// address is followed by two hex digits")]
    Percent,
    /// A NUL byte.
    #[error("a path holds no NUL byte")]
    Nul,
}

impl Address {
    /// Reads one word.
    pub fn parse(word: &OsStr) -> Result<Self, AddressError> {
        let bytes = word.as_bytes();
        if bytes.is_empty() {
            return Err(AddressError::Empty);
        }
        if bytes.contains(&0) {
            return Err(AddressError::Nul);
        }
        if bytes == b"-" {
            return Ok(Self::Pipe);
        }
        if let Some(rest) = bytes.strip_prefix(b"haul://") {
            return parse_url(rest);
        }
        let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
        let head = &bytes[..slash];
        if head.starts_with(b"[") && head.contains(&b']') {
            return parse_bracketed(bytes);
        }
        let Some(colon) = head.iter().position(|byte| *byte == b':') else {
            return Ok(Self::Local(PathBuf::from(word)));
        };
        let host = host_text(&bytes[..colon])?;
        let (port, path) = split_port(&bytes[colon + 1..])?;
        Ok(Self::Far { host: Target::new(host, port)?, path: path.to_vec() })
    }

    /// The other machine, if it is one.
    pub fn host(&self) -> Option<&Target> {
        match self {
            Self::Far { host, .. } => Some(host),
            Self::Local(_) | Self::Pipe => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => files::escape_path(path).fmt(f),
            Self::Pipe => f.write_str("-"),
            Self::Far { host, path } => write!(f, "{}:{}", bare(host), files::escape(path)),
        }
    }
}

/// A host as it is typed before a path: the port only where it is not the usual one.
pub fn bare(host: &Target) -> String {
    let text = host.to_string();
    match text.strip_suffix(&format!(":{DEFAULT_PORT}")) {
        Some(without) if host.port == DEFAULT_PORT => without.to_owned(),
        _ => text,
    }
}

/// `HOST[:PORT]/PATH`, percent-encoded. A second slash makes the path absolute.
fn parse_url(rest: &[u8]) -> Result<Address, AddressError> {
    let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let host = Target::parse(host_text(&rest[..slash])?)?;
    let path = rest.get(slash + 1..).unwrap_or_default();
    let path = decode_percent(path)?;
    if path.contains(&0) {
        return Err(AddressError::Nul);
    }
    Ok(Address::Far { host, path })
}

/// `[HOST]:PATH` or `[HOST]:PORT:PATH`. Brackets may hold a name as well as an address.
fn parse_bracketed(bytes: &[u8]) -> Result<Address, AddressError> {
    let close = bytes.iter().position(|byte| *byte == b']').ok_or(AddressError::Bracket)?;
    let host = host_text(&bytes[1..close])?;
    let rest = bytes[close + 1..].strip_prefix(b":").ok_or(AddressError::Bracket)?;
    let (port, path) = split_port(rest)?;
    Ok(Address::Far { host: Target::new(host, port)?, path: path.to_vec() })
}

/// A port and a colon in front of a path, if they are there. A path that itself begins so is written
/// with `./` in front.
fn split_port(rest: &[u8]) -> Result<(u16, &[u8]), AddressError> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || rest.get(digits) != Some(&b':') {
        return Ok((DEFAULT_PORT, rest));
    }
    let text = std::str::from_utf8(&rest[..digits]).map_err(|_| AddressError::HostBytes)?;
    match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok((port, &rest[digits + 1..])),
        _ => Err(AddressError::Host(TargetError::Port)),
    }
}

fn host_text(bytes: &[u8]) -> Result<&str, AddressError> {
    let text = std::str::from_utf8(bytes).map_err(|_| AddressError::HostBytes)?;
    if text.contains('@') { Err(AddressError::User) } else { Ok(text) }
}

fn decode_percent(text: &[u8]) -> Result<Vec<u8>, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|byte| char::from(*byte).to_digit(16))
                .ok_or(AddressError::Percent)
        };
        out.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &after[2..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
