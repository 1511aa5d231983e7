//! A byte stream, from an appliance that we connect to or that connects to us. When the ring is full nothing is read, and
//! the appliance holds the rest.

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::InFigures;
use crate::carrier::Address;
use crate::carrier::ring::Ring;
use crate::carrier::socket::{Redial, TICK, tune, wait_readable};

/// A connection that has brought nothing for so long gives way to another. A sender that lives says so each second.
const SILENT: Duration = Duration::from_secs(3);

/// Where connections come from.
pub(super) enum Source {
    Listener(TcpListener),
    Dialled(Address, Redial),
}

impl Source {
    pub(super) fn dialled(address: Address) -> Self {
        Self::Dialled(address, Redial::default())
    }

    /// The next connection, however long it takes; None once the ring is closed.
    fn next(&mut self, ring: &Ring, figures: &InFigures) -> Option<TcpStream> {
        match self {
            Self::Dialled(address, redial) => {
                redial.dial(address, &mut || ring.is_closed(), |error| figures.failed(error))
            }
            Self::Listener(listener) => {
                while !ring.is_closed() {
                    match accept(listener, figures) {
                        Some(stream) => return Some(stream),
                        None => drop(wait_readable(&*listener, TICK)),
                    }
                }
                None
            }
        }
    }

    /// Another connection, if somebody waits to make one.
    fn other(&self, figures: &InFigures) -> Option<TcpStream> {
        match self {
            Self::Dialled(..) => None,
            Self::Listener(listener) => accept(listener, figures),
        }
    }
}

fn accept(listener: &TcpListener, figures: &InFigures) -> Option<TcpStream> {
    let accepted = listener.accept().and_then(|(stream, _)| tune(&stream).map(|()| stream));
    match accepted {
        Ok(stream) => Some(stream),
        Err(error) => {
            if error.kind() != io::ErrorKind::WouldBlock {
                figures.failed(&error);
                // Such as having too many open files, which passes.
                std::thread::sleep(TICK);
            }
            None
        }
    }
}

/// Moves what comes into the ring until that is closed.
pub(super) fn drain(mut source: Source, ring: &Ring, figures: &InFigures) {
    let mut next = source.next(ring, figures);
    while let Some(stream) = next {
        figures.connected(true);
        next = read(stream, &source, ring, figures);
        figures.connected(false);
        if next.is_none() {
            next = source.next(ring, figures);
        }
    }
}

/// Reads a connection to its end. Gives another that has taken its place.
fn read(
    mut stream: TcpStream,
    source: &Source,
    ring: &Ring,
    figures: &InFigures,
) -> Option<TcpStream> {
    let (mut is_new, mut heard) = (true, Instant::now());
    while !ring.is_closed() {
        let mut storage = ring.wait_for_room()?;
        match stream.read(storage.room()) {
            Ok(0) => {
                ring.give_back(storage);
                return None;
            }
            Ok(length) => {
                figures.bytes.fetch_add(length as u64, Ordering::Relaxed);
                ring.give_stream(storage, length, is_new);
                (is_new, heard) = (false, Instant::now());
            }
            Err(error) => {
                ring.give_back(storage);
                let kind = error.kind();
                if !matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    figures.failed(&error);
                    return None;
                }
                if !wait_readable(&stream, TICK)
                    && heard.elapsed() >= SILENT
                    && let Some(other) = source.other(figures)
                {
                    return Some(other);
                }
            }
        }
    }
    None
}
