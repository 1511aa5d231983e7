//! The receiving end of a carrier. A thread of its own does nothing but drain the socket into a ring, so that the kernel
//! has no reason to drop anything while others work. It sends nothing, ever.

mod drops;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::address::Place;
use super::ring::{Buffer, Datagrams, Held, Ring};
use super::socket::listen;
use super::{Address, CarrierError};
use crate::priority::{self, prefer};
use drops::Drops;
use tcp::Source;

/// How often the kernel is asked what it dropped.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How to receive.
#[derive(Debug, Clone)]
pub struct InOptions {
    /// Bytes that the kernel is asked to hold for us while the thread that drains the socket waits for a processor. It
    /// may grant less: see [`InCounters::advice`]. For TCP the system decides, and nothing is lost.
    pub receive_buffer: usize,
    /// Bytes that may have come without having been worked on.
    pub ring: usize,
}

impl Default for InOptions {
    fn default() -> Self {
        Self { receive_buffer: 32 << 20, ring: 128 << 20 }
    }
}

/// What has come.
#[derive(Debug)]
pub enum Arrival {
    /// Datagrams, each whole.
    Datagrams(Datagrams),
    /// The next bytes of a stream, of which any span may be missing.
    Stream {
        /// The bytes.
        bytes: Buffer,
        /// Whether they are the first of another connection.
        is_new: bool,
    },
}

/// The receiving end. What has come and was not taken is lost when it is dropped.
#[derive(Debug)]
pub struct Incoming {
    ring: Arc<Ring>,
    meter: InMeter,
    local: Option<SocketAddr>,
    drain: Option<JoinHandle<()>>,
}

impl Incoming {
    /// Begins to receive. A connection is made, or made again, as often as it takes.
    pub fn open(address: &Address, options: &InOptions) -> Result<Self, CarrierError> {
        let ring = Ring::new(options.ring);
        let thread = std::thread::Builder::new().name("diode-drain".to_owned());
        let (meter, local, drain) = match address {
            Address::Udp(_) => {
                let place = Place::find(address)?;
                let (receiver, granted) = udp::Receiver::open(&place, options.receive_buffer)?;
                let local = receiver.local();
                let meter = InMeter::new(Some((options.receive_buffer, granted)), receiver.drops());
                let (ring, figures) = (ring.clone(), meter.0.clone());
                (
                    meter,
                    local,
                    thread.spawn(move || {
                        prefer(priority::DRAIN);
                        receiver.drain(&ring, &figures);
                    }),
                )
            }
            Address::Tcp(_) | Address::TcpListen(_) => {
                let (source, local) = match address {
                    Address::TcpListen(_) => {
                        let place = Place::find(address)?;
                        let listener = listen(&place).map_err(place.failed("listen"))?;
                        let local = listener.local_addr().ok();
                        (Source::Listener(listener), local)
                    }
                    _ => (Source::dialled(address.clone()), None),
                };
                let meter = InMeter::new(None, None);
                let (ring, figures) = (ring.clone(), meter.0.clone());
                (
                    meter,
                    local,
                    thread.spawn(move || {
                        prefer(priority::DRAIN);
                        tcp::drain(source, &ring, &figures);
                    }),
                )
            }
        };
        let drain = drain.map_err(CarrierError::Thread)?;
        Ok(Self { ring, meter, local, drain: Some(drain) })
    }

    /// What came next; None if nothing does within this time. To be worked on soon: its memory is used again.
    pub fn next(&mut self, timeout: Duration) -> Option<Arrival> {
        let (held, buffer) = self.ring.take(timeout)?;
        Some(match held {
            Held::Datagrams => Arrival::Datagrams(Datagrams(buffer)),
            Held::Stream { is_new } => Arrival::Stream { bytes: buffer, is_new },
        })
    }

    /// Where it listens; None where it connects.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What can be asked from other threads how it goes.
    pub fn meter(&self) -> InMeter {
        self.meter.clone()
    }

    /// How it goes.
    pub fn counters(&self) -> InCounters {
        self.meter.counters()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.ring.close();
        if let Some(drain) = self.drain.take() {
            // It looks every tick whether it is still wanted; what it panicked of was printed.
            let _ = drain.join();
        }
    }
}

/// Figures of a receiving end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InCounters {
    /// Datagrams that have come to us.
    pub datagrams: u64,
    /// Bytes that have come to us, in datagrams or in streams.
    pub bytes: u64,
    /// Datagrams that came and were dropped, because the ring was full: we are too slow.
    pub dropped_by_us: u64,
    /// Packets that the kernel dropped, because its buffer was full: this machine is too slow, or the buffer too small. As
    /// of a second ago at most. Datagrams that it had joined count as one packet, so that up to 64 times as many may be
    /// missing: this tells who lost something, and the numbers of frames how much.
    pub dropped_by_kernel: u64,
    /// Bytes of the kernel's buffer that were asked for; 0 for TCP.
    pub buffer_asked: usize,
    /// Bytes of it that were granted.
    pub buffer_granted: usize,
    /// TCP connections so far.
    pub connections: u64,
    /// Whether there is one; over UDP always.
    pub is_connected: bool,
    /// Errors of the socket, and attempts to connect that failed.
    pub errors: u64,
    /// What the last one said.
    pub last_error: Option<String>,
}

impl InCounters {
    /// The command that lets the kernel grant the buffer that was asked for, if it did not.
    pub fn advice(&self) -> Option<String> {
        (self.buffer_granted < self.buffer_asked)
            .then(|| format!("sysctl -w net.core.rmem_max={}", self.buffer_asked))
    }
}

/// Where the figures of a receiving end can be read, from any thread.
#[derive(Debug, Clone)]
pub struct InMeter(Arc<InFigures>);

#[derive(Debug)]
struct InFigures {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    buffer: Option<(usize, usize)>,
    connections: AtomicU64,
    is_connected: AtomicBool,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// What the kernel says, and when it was asked.
    drops: Mutex<Option<(Drops, Option<Instant>)>>,
}

impl InMeter {
    fn new(buffer: Option<(usize, usize)>, drops: Option<Drops>) -> Self {
        Self(Arc::new(InFigures {
            datagrams: AtomicU64::default(),
            bytes: AtomicU64::default(),
            dropped: AtomicU64::default(),
            buffer,
            connections: AtomicU64::default(),
            is_connected: AtomicBool::new(buffer.is_some()),
            errors: AtomicU64::default(),
            last_error: Mutex::default(),
            drops: Mutex::new(drops.map(|drops| (drops, None))),
        }))
    }

    /// How it goes. Asks the kernel, once a second at most, which takes about a millisecond.
    pub fn counters(&self) -> InCounters {
        let figures = &*self.0;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (buffer_asked, buffer_granted) = figures.buffer.unwrap_or_default();
        InCounters {
            datagrams: read(&figures.datagrams),
            bytes: read(&figures.bytes),
            dropped_by_us: read(&figures.dropped),
            dropped_by_kernel: figures.dropped_by_kernel(),
            buffer_asked,
            buffer_granted,
            connections: read(&figures.connections),
            is_connected: figures.is_connected.load(Ordering::Relaxed),
            errors: read(&figures.errors),
            last_error: figures.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl InFigures {
    fn dropped_by_kernel(&self) -> u64 {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((drops, asked)) = &mut *drops else { return 0 };
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            *asked = Some(Instant::now());
            drops.ask();
        }
        drops.count()
    }

    fn failed(&self, error: &std::io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    fn connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
        self.connections.fetch_add(is_connected.into(), Ordering::Relaxed);
    }
}
