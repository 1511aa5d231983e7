//! The address of a webhook. It is pure.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// Where to post to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Whether it is `https`.
    pub(super) is_tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// As in the header `Host`.
    pub(super) authority: String,
    /// Path and query, as in the first line of a request.
    pub(super) target: String,
}

impl Address {
    /// Reads one; the error does not repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("what follows # is never sent");
        }
        let uri: Uri = text.parse().map_err(|_| "it is no address")?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins with neither https:// nor http://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "it holds a name or password: put them into a header that is read from a file",
            );
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        if host.is_empty() {
            return Err("it names no host");
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err("there is no port 0"),
            Some(port) => port,
            None if has_port => return Err("its port is none"),
            None if is_tls => 443,
            None => 80,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_tls, host, port, authority: authority.as_str().to_owned(), target })
    }

    /// Whether what is sent there stays on this machine.
    pub(super) fn is_here(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|host: IpAddr| host.is_loopback())
    }
}

impl fmt::Display for Address {
    /// Without path and query, for some services have a secret there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        let host = files::escape(self.host.as_bytes());
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{}", self.port),
            false => write!(f, "{scheme}://{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests;
