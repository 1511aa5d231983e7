//! The sending end of a carrier: frames go out in batches, as datagrams of one size or into a TCP stream. It never reads.
//! What the network answers changes nothing but counters; only what no waiting cures is an error.

mod tcp;
mod udp;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::Place;
use super::{Address, CarrierError};
use crate::frame::{HEADER, TAG};
use crate::symbol::SYMBOL_HEAD;
use tcp::TcpOut;
use udp::UdpOut;

/// Bytes of a symbol over TCP.
const TCP_SYMBOL: usize = 16 * 1024;

/// Frames over TCP that are worth one call.
const TCP_FRAMES: usize = 16;

/// How long a call goes on once the sender is to stop.
const AFTER_STOP: Duration = Duration::from_millis(500);

/// How to send.
#[derive(Debug, Clone)]
pub struct OutOptions {
    /// Bytes of a UDP packet with its IP and UDP headers.
    pub packet: usize,
    /// Bytes that the system may hold for us before they are on the link; what is asked for, it may grant less. For
    /// TCP the system decides.
    pub send_buffer: usize,
    /// How many routers a multicast datagram passes; the system's default is 1.
    pub hops: Option<u32>,
}

impl Default for OutOptions {
    fn default() -> Self {
        Self { packet: 1500, send_buffer: 2 << 20, hops: None }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The system has taken it.
    All,
    /// The TCP connection broke and there is another. Of this batch, and of what went before, any part may be lost:
    /// announce the session anew. The batch may be given again, since who has a frame refuses it the second time.
    Again,
}

/// The sending end.
#[derive(Debug)]
pub struct Outgoing {
    carrier: Carrier,
    meter: OutMeter,
}

#[derive(Debug)]
enum Carrier {
    Udp(UdpOut),
    Tcp(TcpOut),
}

impl Outgoing {
    /// Prepares to send to an address. UDP looks it up now; TCP connects with the first batch, and tries as long as it
    /// takes. Once `stop` is set, no call goes on for longer than half a second.
    pub fn open(
        address: &Address,
        options: &OutOptions,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, CarrierError> {
        let meter = OutMeter::default();
        let carrier = match address {
            Address::Udp(_) => Carrier::Udp(UdpOut::open(Place::find(address)?, options, stop)?),
            Address::Tcp(_) => {
                meter.connected(false);
                Carrier::Tcp(TcpOut::new(address.clone(), stop))
            }
            Address::TcpListen(_) => {
                return Err(CarrierError::OnlyReceives { address: address.to_string() });
            }
        };
        Ok(Self { carrier, meter })
    }

    /// Bytes of each full frame, with its header and its tag.
    pub fn frame_bytes(&self) -> usize {
        match &self.carrier {
            Carrier::Udp(udp) => udp.frame_bytes(),
            Carrier::Tcp(_) => HEADER + SYMBOL_HEAD + TCP_SYMBOL + TAG,
        }
    }

    /// Bytes of a packet besides its frame, where each frame is one.
    pub fn packet_headers(&self) -> Option<usize> {
        match &self.carrier {
            Carrier::Udp(udp) => Some(udp.packet_headers()),
            Carrier::Tcp(_) => None,
        }
    }

    /// Bytes of full frames that are worth giving to one call. It may become less when an interface turns out not to
    /// segment.
    pub fn most_batch(&self) -> usize {
        match &self.carrier {
            Carrier::Udp(udp) => udp.most_at_once(udp.frame_bytes()),
            Carrier::Tcp(_) => TCP_FRAMES * self.frame_bytes(),
        }
    }

    /// Sends frames that stand one behind the other, each of `frame` bytes but the last, which may be shorter. Waits
    /// while the system takes nothing; a TCP connection that breaks is made again, however long that takes.
    pub fn send(&mut self, batch: &[u8], frame: usize) -> Result<Sent, CarrierError> {
        match &mut self.carrier {
            Carrier::Udp(udp) => udp.send(batch, frame, &self.meter),
            Carrier::Tcp(tcp) => tcp.send(batch, frame, &self.meter),
        }
    }

    /// What can be asked from other threads how it goes.
    pub fn meter(&self) -> OutMeter {
        self.meter.clone()
    }

    /// How it goes.
    pub fn counters(&self) -> OutCounters {
        self.meter.counters()
    }
}

/// Figures of a sending end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutCounters {
    /// Frames that the system has taken.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// How often we had to wait because the system took nothing: the link is slower than the rate.
    pub waits: u64,
    /// How often sending failed otherwise, as when an interface is down.
    pub errors: u64,
    /// Frames that were given up after such errors.
    pub unsent: u64,
    /// TCP connections made so far.
    pub connections: u64,
    /// Whether there is one; over UDP always.
    pub is_connected: bool,
    /// What the last error said.
    pub last_error: Option<String>,
}

/// Where the figures of a sending end can be read, from any thread.
#[derive(Debug, Clone, Default)]
pub struct OutMeter(Arc<OutFigures>);

#[derive(Debug, Default)]
struct OutFigures {
    frames: AtomicU64,
    bytes: AtomicU64,
    waits: AtomicU64,
    errors: AtomicU64,
    unsent: AtomicU64,
    connections: AtomicU64,
    is_broken: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl OutMeter {
    /// How it goes.
    pub fn counters(&self) -> OutCounters {
        let figures = &*self.0;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        OutCounters {
            frames: read(&figures.frames),
            bytes: read(&figures.bytes),
            waits: read(&figures.waits),
            errors: read(&figures.errors),
            unsent: read(&figures.unsent),
            connections: read(&figures.connections),
            is_connected: !figures.is_broken.load(Ordering::Relaxed),
            last_error: figures.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn sent(&self, bytes: usize, frame: usize) {
        self.0.frames.fetch_add(bytes.div_ceil(frame.max(1)) as u64, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn gave_up(&self, bytes: usize, frame: usize) {
        self.0.unsent.fetch_add(bytes.div_ceil(frame.max(1)) as u64, Ordering::Relaxed);
    }

    fn waited(&self) {
        self.0.waits.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, error: &std::io::Error) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
        let mut last = self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    fn connected(&self, is_connected: bool) {
        self.0.is_broken.store(!is_connected, Ordering::Relaxed);
        self.0.connections.fetch_add(is_connected.into(), Ordering::Relaxed);
    }
}

/// How long a call may still go on: for ever, until the sender is to stop.
#[derive(Debug)]
struct Patience<'a> {
    stop: &'a AtomicBool,
    stopped: Option<Instant>,
}

impl<'a> Patience<'a> {
    fn new(stop: &'a AtomicBool) -> Self {
        Self { stop, stopped: None }
    }

    /// Whether to give up.
    fn is_over(&mut self) -> bool {
        if !self.stop.load(Ordering::Relaxed) {
            return false;
        }
        self.stopped.get_or_insert_with(Instant::now).elapsed() >= AFTER_STOP
    }
}
