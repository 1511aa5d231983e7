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
        /// Whom to reach.
        host: Host,
        /// What to ask for.
        path: Vec<u8>,
    },
    /// `-`: standard input or output.
    Pipe,
}

/// Another machine, and what leads to it: its daemon, ssh, or the one where the other does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its daemon. None where a user was named, whom only ssh knows.
    pub daemon: Option<Target>,
    /// A login there. None where a port of the daemon, or `haul://`, was written.
    pub login: Option<Login>,
}

/// Whom ssh is asked for. The user's configuration of ssh may mean another machine by the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user there; that of ssh's configuration where none was written.
    pub user: Option<String>,
    /// The host as it was typed.
    pub host: String,
    /// The port of ssh, where one was written.
    pub port: Option<u16>,
}

impl Host {
    fn daemon(target: Target) -> Self {
        Self { daemon: Some(target), login: None }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.daemon, &self.login) {
            (Some(target), _) => f.write_str(&bare(target)),
            (None, Some(login)) => login.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

impl Login {
    /// What ssh takes as its destination.
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        match (self.host.contains(':'), self.port) {
            (false, None) => write!(f, "{user}{}", self.host),
            (true, None) => write!(f, "{user}[{}]", self.host),
            (false, Some(port)) => write!(f, "{user}{}:{port}", self.host),
            (true, Some(port)) => write!(f, "{user}[{}]:{port}", self.host),
        }
    }
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
    /// `haul://user@host`.
    #[error(
        "a daemon knows machines by their keys and has no user names: leave out what is before '@', \
         or write ssh://USER@HOST/PATH"
    )]
    DaemonUser,
    /// A user name that ssh should not be given.
    #[error("a user name has letters, digits and . _ - + @ \\, and does not begin with '-'")]
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
        if let Some(rest) = bytes.strip_prefix(b"ssh://") {
            return parse_ssh_url(rest);
        }
        let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
        let head = &bytes[..slash];
        // A user comes first, and may hold an '@' itself: that of the host is the last before a colon.
        let colon = head.iter().position(|byte| *byte == b':');
        let user = head[..colon.unwrap_or(0)].iter().rposition(|byte| *byte == b'@');
        let (user, rest) = match user {
            Some(at) => (Some(user_text(&bytes[..at])?), &bytes[at + 1..]),
            None => (None, bytes),
        };
        let bracketed = rest.starts_with(b"[") && head.contains(&b']');
        let (host, behind) = match (bracketed, colon) {
            (true, _) => split_bracketed(rest)?,
            (false, Some(colon)) => {
                let at = colon - (bytes.len() - rest.len());
                (host_text(&rest[..at])?, &rest[at + 1..])
            }
            (false, None) => return Ok(Self::Local(PathBuf::from(word))),
        };
        let (port, path) = split_port(behind)?;
        Ok(Self::Far { host: named(user, host, port)?, path: path.to_vec() })
    }

    /// The other machine, if it is one.
    pub fn host(&self) -> Option<&Host> {
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
            Self::Far { host, path } => write!(f, "{host}:{}", files::escape(path)),
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
    let (host, path) = split_url(rest)?;
    if host.contains('@') {
        return Err(AddressError::DaemonUser);
    }
    Ok(Address::Far { host: Host::daemon(Target::parse(host)?), path })
}

/// `[USER@]HOST[:PORT]/PATH`, the same but for a login.
fn parse_ssh_url(rest: &[u8]) -> Result<Address, AddressError> {
    let (host, path) = split_url(rest)?;
    let (user, host) = match host.rsplit_once('@') {
        Some((user, host)) => (Some(user_text(user.as_bytes())?), host),
        None => (None, host),
    };
    // The brackets and the port are read as those of any host; the port is that of ssh.
    let target = Target::parse(host)?;
    let has_port = host.ends_with(&format!(":{}", target.port));
    let port =
        has_port.then_some(target.port).filter(|_| target.ip().is_none() || host.contains(']'));
    let login = Login { user, host: typed_host(host, &target), port };
    Ok(Address::Far { host: Host { daemon: None, login: Some(login) }, path })
}

/// The host of a URL, and its path, decoded.
fn split_url(rest: &[u8]) -> Result<(&str, Vec<u8>), AddressError> {
    let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let host = std::str::from_utf8(&rest[..slash]).map_err(|_| AddressError::HostBytes)?;
    let path = decode_percent(rest.get(slash + 1..).unwrap_or_default())?;
    if path.contains(&0) {
        return Err(AddressError::Nul);
    }
    Ok((host, path))
}

/// The host and what is behind the colon of `[HOST]:…`. Brackets may hold a name as well as an address.
fn split_bracketed(bytes: &[u8]) -> Result<(&str, &[u8]), AddressError> {
    let close = bytes.iter().position(|byte| *byte == b']').ok_or(AddressError::Bracket)?;
    let behind = bytes[close + 1..].strip_prefix(b":").ok_or(AddressError::Bracket)?;
    Ok((host_text(&bytes[1..close])?, behind))
}

/// The machine of these words. A port is that of the daemon, unless there is a user, whom only ssh knows.
fn named(user: Option<String>, host: &str, port: Option<u16>) -> Result<Host, AddressError> {
    let target = Target::new(host, port.unwrap_or(DEFAULT_PORT))?;
    let host = typed_host(host, &target);
    Ok(match (user, port) {
        (None, Some(_)) => Host::daemon(target),
        (None, None) => {
            let login = Login { user: None, host, port: None };
            Host { daemon: Some(target), login: Some(login) }
        }
        (user, port) => Host { daemon: None, login: Some(Login { user, host, port }) },
    })
}

/// A name as it was typed, since ssh's configuration may tell capitals; an address in its usual spelling.
fn typed_host(typed: &str, target: &Target) -> String {
    match typed.to_ascii_lowercase() == target.host {
        true => typed.to_owned(),
        false => target.host.clone(),
    }
}

/// A port and a colon in front of a path, if they are there. A path that itself begins so is written
/// with `./` in front.
fn split_port(rest: &[u8]) -> Result<(Option<u16>, &[u8]), AddressError> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || rest.get(digits) != Some(&b':') {
        return Ok((None, rest));
    }
    let text = std::str::from_utf8(&rest[..digits]).map_err(|_| AddressError::HostBytes)?;
    match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok((Some(port), &rest[digits + 1..])),
        _ => Err(AddressError::Host(TargetError::Port)),
    }
}

fn host_text(bytes: &[u8]) -> Result<&str, AddressError> {
    std::str::from_utf8(bytes).map_err(|_| AddressError::HostBytes)
}

/// A user of another machine. What a shell or ssh could take for more than a name is refused, as ssh's
/// configuration may hand it to both.
fn user_text(bytes: &[u8]) -> Result<String, AddressError> {
    let allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+@\\".contains(byte) || *byte >= 0x80;
    if bytes.is_empty() || bytes.starts_with(b"-") || !bytes.iter().all(allowed) {
        return Err(AddressError::User);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| AddressError::User)
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
