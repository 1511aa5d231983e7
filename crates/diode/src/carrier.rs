//! Carriers: how frames leave one host and come into the other, as UDP datagrams or in a TCP stream. Sockets and the
//! thread that drains them are here; what the bytes mean is nobody's business here. The receiving end never writes to
//! its socket, and the sending end never reads from its own.

mod address;
mod incoming;
mod outgoing;
mod ring;
mod socket;

use std::io;

use thiserror::Error;

pub use address::{Address, AddressError};
pub use incoming::{Arrival, InCounters, InMeter, InOptions, Incoming};
pub use outgoing::{OutCounters, OutMeter, OutOptions, Outgoing, Sent};
pub use ring::{Buffer, Datagrams, DatagramsMut};

pub(crate) use address::Place;
pub(crate) use socket::{Redial, TICK, listen, tune, udp_to, wait_readable, wait_writable};

/// Why bytes cannot be carried.
#[derive(Debug, Error)]
pub enum CarrierError {
    /// The host has no address that we could find.
    #[error("{address}: no address is known for this host")]
    Resolve {
        /// Whom to reach.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The interface behind the `%` is not there.
    #[error("{address}: there is no network interface {interface}")]
    Interface {
        /// Whom to reach.
        address: String,
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{address}: cannot {action}")]
    Socket {
        /// What was attempted.
        action: &'static str,
        /// Whom to reach, or where to listen.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing is sent to whoever connects to us: the sending end connects.
    #[error("{address}: one can only receive from this address")]
    OnlyReceives {
        /// The address.
        address: String,
    },
    /// No packet may be so small or so large.
    #[error("packets have {least} to {most} bytes, not {packet}")]
    Packet {
        /// What was asked for.
        packet: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// The link takes only smaller packets, and a frame is never sent in fragments.
    #[error("{address}: packets of {packet} bytes do not fit{}", said(.most))]
    TooLarge {
        /// Whom to reach.
        address: String,
        /// Bytes of a packet, with its headers.
        packet: usize,
        /// What the link takes, if the system says so.
        most: Option<usize>,
    },
    /// Sending was given up because the sender is to stop.
    #[error("{address}: stopped before everything was sent")]
    Stopped {
        /// Whom to reach.
        address: String,
    },
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

fn said(most: &Option<usize>) -> String {
    match most {
        Some(most) => format!(": the link to it takes {most}"),
        None => " through the link".to_owned(),
    }
}

#[cfg(test)]
mod tests;
