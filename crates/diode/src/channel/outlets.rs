//! The receiving side of channels: records become connections and datagrams again. Nothing here makes the caller wait:
//! bytes of connections go through a bounded queue to a thread for each, and datagrams to the system, which takes them or
//! not.

mod links;
mod pipe;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket};

use super::{ChannelCounters, ChannelError, ChannelOut, Figures, carrier_of, check_names};
use crate::carrier::{self, Address, CarrierError, listen, udp_to};
use crate::record::Record;
use links::{Links, Place};
use writer::{Way, Writers};

/// Bytes of datagrams that the system may hold for a program that is slow.
const UDP_WAITING: usize = 4 << 20;

/// The channels of a receiver. When this is dropped, what waits goes out within a second, or not at all.
#[derive(Debug)]
pub struct Outlets {
    outlets: Vec<Outlet>,
    links: Mutex<Links>,
    writers: Writers,
}

/// One channel.
#[derive(Debug)]
struct Outlet {
    channel: ChannelOut,
    figures: Arc<Figures>,
    way: Onward,
}

/// Where a channel leads.
#[derive(Debug)]
enum Onward {
    Udp(Socket, SockAddr),
    Tcp(Way),
}

impl Outlets {
    /// Opens all channels, or none.
    pub fn start(channels: Vec<ChannelOut>) -> Result<Self, ChannelError> {
        check_names(channels.iter().map(|channel| channel.name.as_str()))?;
        let open = |channel: ChannelOut| match onward(&channel) {
            Ok(way) => Ok(Outlet { channel, figures: Arc::default(), way }),
            Err(source) => Err(ChannelError::Open { name: channel.name, source }),
        };
        let outlets = channels.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { outlets, links: Mutex::default(), writers: Writers::default() })
    }

    /// Takes a record, if it is one of channels.
    pub fn take(&self, record: &Record<'_>, now: Instant) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        match *record {
            Record::ChannelOpened { channel, connection, carrier, name } => {
                links.opened(self, (channel, connection), carrier, name, now);
            }
            Record::ChannelData { channel, connection, offset, bytes } => {
                links.data(self, (channel, connection), Place::Whole(offset), bytes, now);
            }
            Record::ChannelPiece { channel, connection, number, at, total, bytes } => {
                let place = Place::Piece(number, at, total);
                links.data(self, (channel, connection), place, bytes, now);
            }
            Record::ChannelClosed { channel, connection, length, is_whole } => {
                links.closed(self, (channel, connection), length, is_whole, now);
            }
            _ => {}
        }
    }

    /// Gives up what is missing for too long. To be called several times a second, also when no record comes.
    pub fn tick(&self, now: Instant) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).tick(self, now);
    }

    /// Another session of the sender has begun: connections that it does not name soon have ended with the one before.
    pub fn session_began(&self, now: Instant) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).session_began(now);
    }

    /// How each channel goes, in the order in which they were given.
    pub fn counters(&self) -> Vec<ChannelCounters> {
        let counters = |outlet: &Outlet| {
            let ChannelOut { name, to, .. } = &outlet.channel;
            outlet.figures.counters(name, carrier_of(to))
        };
        self.outlets.iter().map(counters).collect()
    }

    /// How many connections there were of channels that lead nowhere here.
    pub fn unclaimed(&self) -> u64 {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).unclaimed()
    }

    /// Connections that are remembered, and bytes that wait for what is missing.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        self.links.lock().unwrap().held()
    }

    #[cfg(test)]
    pub(super) fn place(&self, at: usize) -> std::net::SocketAddr {
        match &self.outlets[at].way {
            Onward::Tcp(Way::Listen(door)) => door.place(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).end(self);
        self.writers.end();
    }
}

impl Outlet {
    /// Hands a datagram on, if the system takes it.
    fn send(&self, datagram: &[u8]) {
        let Onward::Udp(socket, to) = &self.way else { return };
        if socket.send_to(datagram, to).is_ok() {
            Figures::add(&self.figures.datagrams, 1);
            Figures::add(&self.figures.bytes, datagram.len());
        } else {
            Figures::add(&self.figures.dropped, 1);
        }
    }

    fn lost_bytes(&self, bytes: u64) {
        self.figures.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn lost_datagrams(&self, datagrams: u64) {
        self.figures.lost_datagrams.fetch_add(datagrams, Ordering::Relaxed);
    }
}

fn onward(channel: &ChannelOut) -> Result<Onward, CarrierError> {
    let to = &channel.to;
    match to {
        Address::Udp(_) => {
            let place = carrier::Place::find(to)?;
            let open = || {
                let socket = udp_to(&place, channel.hops)?;
                socket.set_nonblocking(true)?;
                let _ = socket.set_send_buffer_size(UDP_WAITING);
                Ok(socket)
            };
            let socket = open().map_err(place.failed("open a socket"))?;
            Ok(Onward::Udp(socket, place.at.into()))
        }
        Address::Tcp(_) => Ok(Onward::Tcp(Way::Dial(to.clone()))),
        Address::TcpListen(_) => {
            let place = carrier::Place::find(to)?;
            let listener = listen(&place).map_err(place.failed("listen"))?;
            Ok(Onward::Tcp(Way::listen(listener)))
        }
    }
}

/// A connection that is not named for so long has ended.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15);

/// One that another session of the sender does not name within this time has ended too.
const SESSION_NAMES_WITHIN: Duration = Duration::from_secs(3);

/// What tells connections apart: the number of the channel, and that of the connection in it.
type Key = (u16, u32);
