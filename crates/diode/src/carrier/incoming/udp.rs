//! Datagrams: many to a system call, joined by the kernel where it can.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::Socket;

use super::InFigures;
use super::drops::Drops;
use crate::carrier::CarrierError;
use crate::carrier::address::Place;
use crate::carrier::ring::{Message, Ring, Storage};
use crate::carrier::socket::{TICK, udp_at, wait_readable};

/// Messages to a call. Where the kernel joins datagrams, each is up to a buffer long, and more would not stay in the
/// processor's caches.
const MESSAGES: usize = 16;

/// How long to leave datagrams to gather while many come: each time that we look costs more than they do, and the kernel
/// has room for many times that.
const GATHER: Duration = Duration::from_micros(300);

/// Bytes since we last waited that count as many.
const MANY: usize = 32 * 1024;

/// How long to wait after an error that has no reason of its own.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// A bound socket.
pub(super) struct Receiver {
    socket: Socket,
    state: UdpSocketState,
}

impl Receiver {
    /// Binds, and tells what the kernel granted of the buffer that was asked for.
    pub(super) fn open(place: &Place, buffer: usize) -> Result<(Self, usize), CarrierError> {
        let socket = udp_at(place).map_err(place.failed("receive at this address"))?;
        // Beyond its limit the kernel lets only the administrator go.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer).is_err() {
            let _ = socket.set_recv_buffer_size(buffer);
        }
        // It says twice what it grants, since it counts what it needs itself.
        let granted = socket.recv_buffer_size().map_err(place.failed("set up the socket"))? / 2;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))
            .map_err(place.failed("set up the socket"))?;
        Ok((Self { socket, state }, granted))
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    pub(super) fn drops(&self) -> Option<Drops> {
        Drops::of(&self.socket, self.local()?.is_ipv6())
    }

    /// Moves what comes into the ring until that is closed.
    pub(super) fn drain(self, ring: &Ring, figures: &InFigures) {
        let mut slots: Vec<Storage> = (0..MESSAGES).map(|_| Storage::new()).collect();
        let mut metas = [RecvMeta::default(); MESSAGES];
        let mut since_wait = 0;
        while !ring.is_closed() {
            match self.receive(&mut slots, &mut metas) {
                Ok(count) => {
                    let message =
                        |meta: RecvMeta| Message { length: meta.len, stride: meta.stride };
                    let messages = metas.map(message);
                    let messages = &messages[..count.min(MESSAGES)];
                    let datagrams: usize = messages.iter().map(Message::datagrams).sum();
                    let bytes: usize = messages.iter().map(|message| message.length).sum();
                    since_wait += bytes;
                    figures.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
                    figures.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    let dropped = ring.give(&mut slots, messages);
                    figures.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if std::mem::take(&mut since_wait) >= MANY {
                        std::thread::sleep(GATHER);
                    } else {
                        wait_readable(&self.socket, TICK);
                    }
                }
                Err(error) => {
                    figures.failed(&error);
                    std::thread::sleep(AFTER_ERROR);
                }
            }
        }
    }

    fn receive(
        &self,
        slots: &mut [Storage],
        metas: &mut [RecvMeta; MESSAGES],
    ) -> io::Result<usize> {
        let mut slots = slots.iter_mut();
        let mut room: [IoSliceMut<'_>; MESSAGES] = std::array::from_fn(|_| {
            IoSliceMut::new(slots.next().map_or(&mut [], |slot| slot.room()))
        });
        self.state.recv((&self.socket).into(), &mut room, metas)
    }
}
