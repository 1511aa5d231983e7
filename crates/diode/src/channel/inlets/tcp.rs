//! Connections of programs on the sending side, with a thread for each.

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Figures, Inlet, NAMED_EVERY, first_number};
use crate::carrier::{TICK, tune, wait_readable};
use crate::channel::MOST_CONNECTIONS;
use crate::record::{Carrier, Record};

/// Bytes of a record of data before the data: kind, length, channel, connection, offset.
const FIELDS: usize = 3 + 2 + 4 + 8;

/// How often a closing is said again.
const CLOSED_AGAIN: u32 = 2;

/// A connection as the channel's own thread sees it.
struct Connection {
    number: u32,
    state: Arc<State>,
    thread: JoinHandle<()>,
    /// How often its closing was said again.
    said: u32,
}

#[derive(Default)]
struct State {
    length: AtomicU64,
    has_ended: AtomicBool,
    is_whole: AtomicBool,
}

/// Takes connections until the channel ends.
pub(super) fn accept(inlet: &Arc<Inlet>, listener: &TcpListener) {
    let (mut connections, mut next) = (Vec::<Connection>::new(), first_number());
    let mut memory = Vec::new();
    let mut named = Instant::now();
    while !inlet.is_over() {
        match listener.accept() {
            Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                connections.extend(begin(inlet, stream, next));
                next = next.wrapping_add(1);
            }
            // It is closed at once.
            Ok(_) => Figures::add(&inlet.figures.refused, 1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_readable(listener, TICK);
            }
            // Such as too many open files, which passes.
            Err(_) => std::thread::sleep(TICK),
        }
        if named.elapsed() >= NAMED_EVERY {
            named = Instant::now();
            connections.retain_mut(|connection| name_again(inlet, connection, &mut memory));
        }
    }
    for connection in connections {
        let _ = connection.thread.join();
    }
}

fn begin(inlet: &Arc<Inlet>, stream: TcpStream, number: u32) -> Option<Connection> {
    let state = Arc::new(State::default());
    let thread = std::thread::Builder::new().name("diode-inlet".to_owned());
    let (own, shared) = (inlet.clone(), state.clone());
    match thread.spawn(move || read(&own, stream, number, &shared)) {
        Ok(thread) => Some(Connection { number, state, thread, said: 0 }),
        Err(_) => {
            Figures::add(&inlet.figures.refused, 1);
            None
        }
    }
}

/// Names a connection again, or its end; false once that was said often enough.
fn name_again(inlet: &Inlet, connection: &mut Connection, memory: &mut Vec<u8>) -> bool {
    let state = &connection.state;
    if !state.has_ended.load(Ordering::Acquire) {
        inlet.push(&opened(inlet, connection.number), memory, false);
        return true;
    }
    let closed = Record::ChannelClosed {
        channel: inlet.number,
        connection: connection.number,
        length: state.length.load(Ordering::Relaxed),
        is_whole: state.is_whole.load(Ordering::Relaxed),
    };
    inlet.push(&closed, memory, false);
    connection.said += 1;
    connection.said < CLOSED_AGAIN
}

fn opened(inlet: &Inlet, connection: u32) -> Record<'_> {
    Record::ChannelOpened {
        channel: inlet.number,
        connection,
        carrier: Carrier::Tcp,
        name: &inlet.name,
    }
}

/// Reads a connection to its end.
fn read(inlet: &Inlet, stream: TcpStream, number: u32, state: &State) {
    inlet.figures.begins();
    let mut memory = Vec::new();
    inlet.push(&opened(inlet, number), &mut memory, true);
    let mut length = 0;
    let is_whole = copy(inlet, stream, number, &mut length).is_ok();
    state.length.store(length, Ordering::Relaxed);
    state.is_whole.store(is_whole, Ordering::Relaxed);
    state.has_ended.store(true, Ordering::Release);
    let closed =
        Record::ChannelClosed { channel: inlet.number, connection: number, length, is_whole };
    inlet.push(&closed, &mut memory, true);
    inlet.figures.ends(is_whole);
}

fn copy(inlet: &Inlet, mut stream: TcpStream, number: u32, length: &mut u64) -> io::Result<()> {
    tune(&stream)?;
    let mut piece = vec![0; inlet.room(FIELDS)];
    let mut memory = Vec::with_capacity(piece.len() + FIELDS);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let data = Record::ChannelData {
                    channel: inlet.number,
                    connection: number,
                    offset: *length,
                    bytes: &piece[..read],
                };
                if !inlet.push(&data, &mut memory, true) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                *length += read as u64;
                Figures::add(&inlet.figures.bytes, read);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_readable(&stream, TICK);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if inlet.is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
