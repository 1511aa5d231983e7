//! Channels: named TCP connections and UDP datagrams that go across beside the files. On the sending side inlets take
//! them from programs and turn them into records; on the receiving side outlets turn records back and hand them on.
//! A connection is never bridged over a gap: whoever reads it sees it reset. What is lost is counted.

mod inlets;
mod order;
mod outlets;

use std::sync::atomic::{AtomicU64, Ordering};

use link::is_unprintable;
use thiserror::Error;

use crate::carrier::{Address, AddressError, CarrierError};
use crate::record::Carrier;

pub use inlets::Inlets;
pub use outlets::Outlets;

/// The longest name, in bytes.
const MOST_NAME: usize = 255;

/// Connections of a channel at a time.
const MOST_CONNECTIONS: usize = 128;

/// Takes what inlets have for the other side.
pub trait StreamSink: Send + Sync {
    /// Takes an encoded record, which fits one frame; false if there is no room. If it `may_wait` this waits for room,
    /// and gives false only when the sender stops.
    fn push(&self, record: &[u8], may_wait: bool) -> bool;

    /// Bytes of the longest record that fits one frame.
    fn most_record(&self) -> usize;
}

/// A channel on the sending side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelIn {
    /// Its number, which no other has.
    pub number: u16,
    /// Its name, by which the receiving side knows it.
    pub name: String,
    /// Where programs connect or send to: TCP listens, UDP may be a multicast group.
    pub at: Address,
}

/// A channel on the receiving side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOut {
    /// Its name on the sending side.
    pub name: String,
    /// Where it goes: TCP connects to a program, or listens for one for each connection; UDP sends to a host or a
    /// multicast group.
    pub to: Address,
    /// Whether a TCP connection goes on after a gap, as a new one that begins in the middle. Without, what comes after a
    /// gap is lost, since nobody could tell it from a whole one.
    pub goes_on: bool,
    /// How many routers a multicast datagram passes; the system's default is 1.
    pub hops: Option<u32>,
}

/// Why channels cannot be had.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// No `NAME=` before the address.
    #[error("write NAME=tcp://ADDRESS:PORT or NAME=udp://ADDRESS:PORT")]
    NoName,
    /// A name that is too long or has characters that no terminal shows.
    #[error("a channel's name has 1 to {MOST_NAME} bytes, and no control characters")]
    Name,
    /// The address is wrong.
    #[error("channel {name}")]
    Address {
        /// The channel.
        name: String,
        /// Why.
        source: AddressError,
    },
    /// A word behind the address is not known.
    #[error("channel {name}: behind the address may stand `resume` and `ttl=NUMBER`")]
    Option {
        /// The channel.
        name: String,
    },
    /// Two channels have the same name or number.
    #[error("there are two channels {name}")]
    Twice {
        /// The name.
        name: String,
    },
    /// It cannot be opened.
    #[error("channel {name}")]
    Open {
        /// The channel.
        name: String,
        /// Why.
        source: CarrierError,
    },
}

impl ChannelIn {
    /// Reads `NAME=tcp://ADDRESS:PORT`, which listens, or `NAME=udp://ADDRESS:PORT`.
    pub fn parse(text: &str, number: u16) -> Result<Self, ChannelError> {
        let (name, at) = split(text)?;
        let at = match at.parse() {
            Ok(Address::Tcp(target)) => Address::TcpListen(target),
            Ok(at) => at,
            Err(source) => return Err(ChannelError::Address { name, source }),
        };
        Ok(Self { number, name, at })
    }
}

impl ChannelOut {
    /// Reads `NAME=tcp://HOST:PORT`, which connects, `NAME=tcp-listen://ADDRESS:PORT` or `NAME=udp://HOST:PORT`; behind
    /// it may stand `,resume` and `,ttl=NUMBER`.
    pub fn parse(text: &str) -> Result<Self, ChannelError> {
        let (name, rest) = split(text)?;
        let mut words = rest.split(',');
        let to = match words.next().unwrap_or_default().parse() {
            Ok(to) => to,
            Err(source) => return Err(ChannelError::Address { name, source }),
        };
        let mut channel = Self { name, to, goes_on: false, hops: None };
        for word in words {
            match (word, word.strip_prefix("ttl=").map(str::parse::<u8>)) {
                ("resume", _) => channel.goes_on = true,
                (_, Some(Ok(hops))) => channel.hops = Some(hops.into()),
                _ => return Err(ChannelError::Option { name: channel.name }),
            }
        }
        Ok(channel)
    }
}

fn split(text: &str) -> Result<(String, &str), ChannelError> {
    let (name, rest) = text.split_once('=').ok_or(ChannelError::NoName)?;
    let is_name = !name.is_empty() && name.len() <= MOST_NAME && !name.chars().any(is_unprintable);
    if !is_name {
        return Err(ChannelError::Name);
    }
    Ok((name.to_owned(), rest))
}

/// What an address carries.
fn carrier_of(address: &Address) -> Carrier {
    match address {
        Address::Udp(_) => Carrier::Udp,
        Address::Tcp(_) | Address::TcpListen(_) => Carrier::Tcp,
    }
}

/// Figures of a channel, on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Its name.
    pub name: String,
    /// What it carries.
    pub carrier: Carrier,
    /// Connections that are open.
    pub open: u64,
    /// Connections so far.
    pub connections: u64,
    /// Of these, the ones that ended otherwise than their sender wanted: reset there, with a gap, or given up because
    /// nobody took them.
    pub broken: u64,
    /// Connections that were refused because there were too many, or that lead to nothing here.
    pub refused: u64,
    /// Bytes handed on.
    pub bytes: u64,
    /// Datagrams handed on.
    pub datagrams: u64,
    /// Datagrams that came and were not handed on: there was no room.
    pub dropped: u64,
    /// Datagrams that never came across, as far as the numbers of others tell.
    pub lost_datagrams: u64,
    /// Bytes of connections that never came across, or could not be handed on.
    pub lost_bytes: u64,
}

/// What the figures are read from.
#[derive(Debug, Default)]
struct Figures {
    open: AtomicU64,
    connections: AtomicU64,
    broken: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    datagrams: AtomicU64,
    dropped: AtomicU64,
    lost_datagrams: AtomicU64,
    lost_bytes: AtomicU64,
}

impl Figures {
    fn counters(&self, name: &str, carrier: Carrier) -> ChannelCounters {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        ChannelCounters {
            name: name.to_owned(),
            carrier,
            open: read(&self.open),
            connections: read(&self.connections),
            broken: read(&self.broken),
            refused: read(&self.refused),
            bytes: read(&self.bytes),
            datagrams: read(&self.datagrams),
            dropped: read(&self.dropped),
            lost_datagrams: read(&self.lost_datagrams),
            lost_bytes: read(&self.lost_bytes),
        }
    }

    fn add(figure: &AtomicU64, more: usize) {
        figure.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn begins(&self) {
        Self::add(&self.connections, 1);
        Self::add(&self.open, 1);
    }

    fn ends(&self, is_whole: bool) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        Self::add(&self.broken, usize::from(!is_whole));
    }
}

/// Refuses channels of which two have the same name.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ChannelError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ChannelError::Twice { name: name.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
