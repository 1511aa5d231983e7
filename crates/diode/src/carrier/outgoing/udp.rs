//! Frames as datagrams of one size, as many to a system call as the kernel segments at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::io::Errno;
use socket2::Socket;

use super::{OutMeter, OutOptions, Patience, Sent};
use crate::carrier::CarrierError;
use crate::carrier::address::Place;
use crate::carrier::socket::{TICK, path_packet, udp_headers, udp_to, wait_writable};

/// The smallest packet that is worth having: a symbol of some hundred bytes, and an announcement for a receiver.
const LEAST_PACKET: usize = 512;

/// The largest that IP has.
const MOST_PACKET: usize = 65_535;

/// Bytes that the kernel segments at once, a little less than it takes (IP_MAX_MTU less the headers).
const MOST_SEGMENTED: usize = 65_400;

/// How long to wait after the interface had no room, and after it was not there.
const FULL: Duration = Duration::from_millis(1);
const AWAY: Duration = Duration::from_millis(50);

/// How often frames are tried while the interface is not there. Then they are lost, as they would be on a link that is
/// cut further away: what comes later may be more important.
const TRIES: usize = 20;

#[derive(Debug)]
pub(super) struct UdpOut {
    socket: Socket,
    state: UdpSocketState,
    place: Place,
    frame: usize,
    stop: Arc<AtomicBool>,
}

impl UdpOut {
    pub(super) fn open(
        place: Place,
        options: &OutOptions,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, CarrierError> {
        let packet = options.packet;
        if !(LEAST_PACKET..=MOST_PACKET).contains(&packet) {
            return Err(CarrierError::Packet { packet, least: LEAST_PACKET, most: MOST_PACKET });
        }
        // The route may not be there yet; then the first packet tells.
        if let Some(most) = path_packet(&place).filter(|most| *most < packet) {
            return Err(CarrierError::TooLarge { address: place.name, packet, most: Some(most) });
        }
        let socket = udp_to(&place, options.hops).map_err(place.failed("open a socket"))?;
        // What was granted shows in how often we wait.
        let _ = socket.set_send_buffer_size(options.send_buffer);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))
            .map_err(place.failed("set up the socket"))?;
        let frame = packet - udp_headers(place.at);
        Ok(Self { socket, state, place, frame, stop })
    }

    pub(super) fn packet_headers(&self) -> usize {
        udp_headers(self.place.at)
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.frame
    }

    /// Bytes of whole frames that one call takes.
    pub(super) fn most_at_once(&self, frame: usize) -> usize {
        let frame = frame.max(1);
        (MOST_SEGMENTED / frame).clamp(1, self.state.max_gso_segments().max(1)) * frame
    }

    pub(super) fn send(
        &self,
        batch: &[u8],
        frame: usize,
        meter: &OutMeter,
    ) -> Result<Sent, CarrierError> {
        let (mut rest, mut tries) = (batch, 0);
        let mut patience = Patience::new(&self.stop);
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(self.most_at_once(frame))];
            let sent = self.state.try_send((&self.socket).into(), &self.transmit(piece, frame));
            match sent {
                Ok(()) => {
                    meter.sent(piece.len(), frame);
                    (rest, tries) = (&rest[piece.len()..], 0);
                    continue;
                }
                Err(error) => match self.judge(&error, piece, frame) {
                    Failure::Full => {
                        meter.waited();
                        if error.kind() == io::ErrorKind::WouldBlock {
                            wait_writable(&self.socket, TICK);
                        } else {
                            std::thread::sleep(FULL);
                        }
                    }
                    Failure::OneByOne => {}
                    Failure::TooLarge => {
                        return Err(CarrierError::TooLarge {
                            address: self.place.name.clone(),
                            packet: frame + udp_headers(self.place.at),
                            most: path_packet(&self.place),
                        });
                    }
                    Failure::Away => {
                        meter.failed(&error);
                        tries += 1;
                        if tries >= TRIES {
                            meter.gave_up(piece.len(), frame);
                            (rest, tries) = (&rest[piece.len()..], 0);
                        } else {
                            std::thread::sleep(AWAY);
                        }
                    }
                },
            }
            if patience.is_over() {
                meter.gave_up(rest.len(), frame);
                return Err(CarrierError::Stopped { address: self.place.name.clone() });
            }
        }
        Ok(Sent::All)
    }

    fn transmit<'a>(&self, contents: &'a [u8], frame: usize) -> Transmit<'a> {
        Transmit {
            destination: self.place.at,
            ecn: None,
            contents,
            segment_size: Some(frame),
            src_ip: None,
        }
    }

    fn judge(&self, error: &io::Error, piece: &[u8], frame: usize) -> Failure {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Failure::Full;
        }
        match Errno::from_io_error(error) {
            Some(Errno::NOBUFS | Errno::NOMEM) => Failure::Full,
            Some(Errno::MSGSIZE) => Failure::TooLarge,
            // An interface that does not segment says so only now; from here on frames go one by one.
            _ if piece.len() > frame && self.state.max_gso_segments() <= 1 => Failure::OneByOne,
            _ => Failure::Away,
        }
    }
}

/// Why a piece did not go.
enum Failure {
    Full,
    OneByOne,
    TooLarge,
    Away,
}
