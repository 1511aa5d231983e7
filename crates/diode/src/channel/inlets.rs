//! The sending side of channels: threads that take connections and datagrams from programs, and give them away as
//! records, each once; that they go out several times is the sender's affair. A connection waits until there is room, so
//! its program is slowed down; a datagram does not wait.

mod tcp;
mod udp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{
    ChannelCounters, ChannelError, ChannelIn, Figures, StreamSink, carrier_of, check_names,
};
use crate::carrier::{Address, CarrierError, InOptions, Incoming, Place, listen};
use crate::record::Record;

/// How often a connection that is open is named again, for receivers that come late.
const NAMED_EVERY: Duration = Duration::from_secs(1);

/// The smallest record that a sink must take: some bytes of a connection behind a name.
const LEAST_RECORD: usize = 300;

/// Bytes of UDP datagrams that the kernel may hold, and that may wait behind it.
const UDP_WAITING: usize = 8 << 20;

/// The channels of a sender. They end when this is dropped, for which the sink must no longer wait.
#[derive(Debug)]
pub struct Inlets {
    channels: Vec<(ChannelIn, Arc<Figures>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    #[cfg(test)]
    pub(super) places: Vec<std::net::SocketAddr>,
}

impl Inlets {
    /// Opens all channels, or none.
    pub fn start(
        channels: Vec<ChannelIn>,
        sink: Arc<dyn StreamSink>,
    ) -> Result<Self, ChannelError> {
        check_names(channels.iter().map(|channel| channel.name.as_str()))?;
        let mut numbers = std::collections::BTreeSet::new();
        if let Some(twice) = channels.iter().find(|channel| !numbers.insert(channel.number)) {
            return Err(ChannelError::Twice { name: twice.name.clone() });
        }
        let mut inlets = Self {
            channels: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
            #[cfg(test)]
            places: Vec::new(),
        };
        for channel in channels {
            let name = channel.name.clone();
            inlets
                .open(channel, sink.clone())
                .map_err(|source| ChannelError::Open { name, source })?;
        }
        Ok(inlets)
    }

    fn open(&mut self, channel: ChannelIn, sink: Arc<dyn StreamSink>) -> Result<(), CarrierError> {
        let figures = Arc::new(Figures::default());
        let inlet = Inlet {
            number: channel.number,
            name: channel.name.clone(),
            sink,
            figures: figures.clone(),
            stop: self.stop.clone(),
        };
        let thread = std::thread::Builder::new().name("diode-inlet".to_owned());
        let (local, thread) = match &channel.at {
            Address::Udp(_) => {
                let options = InOptions { receive_buffer: UDP_WAITING, ring: UDP_WAITING };
                let incoming = Incoming::open(&channel.at, &options)?;
                (incoming.local(), thread.spawn(move || udp::take(&inlet, incoming)))
            }
            Address::Tcp(target) | Address::TcpListen(target) => {
                let place = Place::find(&Address::TcpListen(target.clone()))?;
                let listener = listen(&place).map_err(place.failed("listen"))?;
                let inlet = Arc::new(inlet);
                (listener.local_addr().ok(), thread.spawn(move || tcp::accept(&inlet, &listener)))
            }
        };
        self.threads.push(thread.map_err(CarrierError::Thread)?);
        self.channels.push((channel, figures));
        #[cfg(test)]
        self.places.extend(local);
        let _ = local;
        Ok(())
    }

    /// How each channel goes, in the order in which they were given.
    pub fn counters(&self) -> Vec<ChannelCounters> {
        let counters = |(channel, figures): &(ChannelIn, Arc<Figures>)| {
            figures.counters(&channel.name, carrier_of(&channel.at))
        };
        self.channels.iter().map(counters).collect()
    }
}

impl Drop for Inlets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Each looks every tick whether it is still wanted; what it panicked of was printed.
            let _ = thread.join();
        }
    }
}

/// What the threads of a channel share.
struct Inlet {
    number: u16,
    name: String,
    sink: Arc<dyn StreamSink>,
    figures: Arc<Figures>,
    stop: Arc<AtomicBool>,
}

impl Inlet {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Bytes of a record's content behind its fixed fields, of which there are so many bytes.
    fn room(&self, fields: usize) -> usize {
        self.sink.most_record().clamp(LEAST_RECORD, MOST_RECORD) - fields
    }

    /// Gives a record away, encoded into memory that is used again.
    fn push(&self, record: &Record<'_>, memory: &mut Vec<u8>, may_wait: bool) -> bool {
        memory.clear();
        // Names were checked when they were read, and contents are cut to fit.
        record.encode(memory).is_ok() && self.sink.push(memory, may_wait)
    }
}

/// The longest content of a record, less than its two-byte length could tell.
const MOST_RECORD: usize = 65_000;

/// The number of a first connection: others than a sender before us has used, unless it made a thousand a second.
fn first_number() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u32
}
