//! A lane through the pipe of another program, such as ssh (`docs/formats/link.md`, "Through a pipe").
//!
//! Both ends introduce themselves by [`greet`] and [`await_greeting`]. The lane itself is one over TCP between
//! the two loopbacks, which a [`Tunnel`] joins: keys and encryption are those of any lane.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::printable;
use crate::lane::canonical;
use crate::{Identity, IdentityError, PublicKey, WireError};

pub(crate) mod frame;
mod greeting;
mod tunnel;

pub use greeting::Job;
use greeting::{Answer, End, Greeting, Introduction, MAGIC, MOST_GREETING, MOST_NOISE};
pub use tunnel::{Tunnel, TunnelEnd, TunnelOptions};

/// How long the dialer's greeting may take once its pipe is there.
const GREETING_DEADLINE: Duration = Duration::from_secs(30);

/// How long a lane through a pipe may be silent. All its connections share the pipe, so what one says may wait behind
/// what another sends; that the pipe itself lives is the tunnel's to watch.
pub(crate) const PIPE_PATIENCE: Duration = Duration::from_secs(600);

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_greetings(data: &[u8]) {
    if let Ok(Some(greeting)) = Greeting::decode(data) {
        assert!(greeting.encode().len() <= MOST_GREETING + MAGIC.len() + 2);
    }
    let _ = Answer::decode(data);
}

/// Whom the two ends of a pipe know each other by, for as long as it lives.
#[derive(Debug)]
pub struct Introduced {
    /// The key of this end for TLS; forgotten with it.
    pub one_time: Arc<Identity>,
    /// The key that the other end shows in TLS.
    pub peer_one_time: PublicKey,
    /// Who the other end is.
    pub peer: PublicKey,
}

/// The listener's end, as the dialer got to know it.
#[derive(Debug)]
pub struct Served {
    /// The keys.
    pub keys: Introduced,
    /// The UDP and TCP port that it listens on.
    pub port: u16,
    /// The address that the pipe's program was reached at, as the other machine sees it.
    pub address: Option<IpAddr>,
}

/// The dialer's end, as the listener got to know it. It waits for an answer.
#[derive(Debug)]
pub struct Guest {
    /// The keys.
    pub keys: Introduced,
    /// What it is for.
    pub job: Job,
    /// First and last port to listen on, if that matters.
    pub ports: Option<(u16, u16)>,
    own: Introduction,
}

/// Why there is nobody at the other end of a pipe.
#[derive(Debug, Error)]
pub enum PipeError {
    /// The pipe failed.
    #[error("the pipe failed")]
    Io(#[from] io::Error),
    /// It ended before the greeting; this is what came.
    #[error("it ended without a greeting")]
    Ended {
        /// The last of what came, as it may be shown.
        noise: String,
    },
    /// Something else than haul talks there.
    #[error("what came through it is not from haul")]
    NotHaul {
        /// The last of what came, as it may be shown.
        noise: String,
    },
    /// The greeting cannot be read.
    #[error("the greeting cannot be read")]
    Unreadable(#[from] WireError),
    /// No greeting in time.
    #[error("no greeting came within {} s", after.as_secs())]
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// The other end speaks other versions only.
    #[error("the other end speaks another version of haul")]
    Version,
    /// The other end does not serve.
    #[error("{reason}")]
    Refused {
        /// Its words, as they may be shown.
        reason: String,
    },
    /// No one-time key could be made.
    #[error(transparent)]
    Key(#[from] IdentityError),
}

/// Dialer: greets, and waits for the listener's answer. `ports` says where the listener is to listen. Nothing behind the greetings is read from `read`, which should be buffered. What takes its time, such as a
/// password that is asked for, may take it: the caller sets the deadline.
pub async fn greet(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    identity: &Identity,
    job: Job,
    ports: Option<(u16, u16)>,
) -> Result<Served, PipeError> {
    let one_time = Arc::new(Identity::generate()?);
    let own = Introduction::new(End::Dialer, &one_time, identity);
    // A pipe that is broken already may still have said why.
    let sent = write.write_all(&Greeting::new(own, job, ports).encode()).await;
    let sent = match sent {
        Ok(()) => write.flush().await,
        failed => failed,
    };
    let message = read_greeting(read, MOST_NOISE).await?;
    sent?;
    match Answer::decode(&message)? {
        Answer::Refused { reason, .. } => {
            Err(PipeError::Refused { reason: printable(reason.as_bytes()) })
        }
        Answer::Serves { who, port, address, .. } => {
            let keys = Introduced { one_time, peer_one_time: who.one_time, peer: who.identity };
            Ok(Served { keys, port, address })
        }
    }
}

/// Listener: waits for the dialer's greeting. It gets its answer from [`Guest::serve`] or [`refuse`].
pub async fn await_greeting(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    identity: &Identity,
) -> Result<Guest, PipeError> {
    let reading = timeout(GREETING_DEADLINE, read_greeting(read, 0)).await;
    let message = reading.map_err(|_| PipeError::Silent { after: GREETING_DEADLINE })??;
    let Some(Greeting { who, job, ports, .. }) = Greeting::decode(&message)? else {
        refuse(write, "haul on the other machine speaks another version: update the older one")
            .await?;
        return Err(PipeError::Version);
    };
    let one_time = Arc::new(Identity::generate()?);
    let own = Introduction::new(End::Listener, &one_time, identity);
    let keys = Introduced { one_time, peer_one_time: who.one_time, peer: who.identity };
    Ok(Guest { keys, job, ports, own })
}

/// Listener: says why there is nothing to be had.
pub async fn refuse(write: &mut (impl AsyncWrite + Unpin), reason: &str) -> io::Result<()> {
    write.write_all(&Answer::refused(reason).encode()).await?;
    write.flush().await
}

impl Guest {
    /// Tells the dialer where it is served.
    pub async fn serve(
        &self,
        write: &mut (impl AsyncWrite + Unpin),
        port: u16,
        address: Option<IpAddr>,
    ) -> io::Result<()> {
        write.write_all(&Answer::serves(self.own, port, address).encode()).await?;
        write.flush().await
    }
}

/// Reads a greeting that may have so much in front of it.
async fn read_greeting(
    read: &mut (impl AsyncRead + Unpin),
    most_noise: usize,
) -> Result<Vec<u8>, PipeError> {
    let mut seen = Vec::new();
    while !seen.ends_with(MAGIC) {
        if seen.len() >= most_noise + MAGIC.len() {
            return Err(PipeError::NotHaul { noise: tail(&seen) });
        }
        match read.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(PipeError::Ended { noise: tail(&seen) });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let length = usize::from(read.read_u16().await?);
    if length > MOST_GREETING {
        return Err(WireError::invalid("length of the greeting").into());
    }
    let mut message = vec![0; length];
    read.read_exact(&mut message).await?;
    Ok(message)
}

/// The last of what a program printed, as it may be shown.
fn tail(seen: &[u8]) -> String {
    const MOST: usize = 200;
    let last = &seen[seen.len().saturating_sub(MOST)..];
    printable(last.trim_ascii())
}

/// Which connections to a listener come out of tunnels, where those who made them are, and how far that is.
#[derive(Debug, Clone, Default)]
pub struct Carrier {
    /// By the addresses that tunnels connect to the listener from.
    ways: Arc<Mutex<HashMap<SocketAddr, Way>>>,
    /// The least round trip through the pipe in microseconds; 0 if none was measured.
    trip_micros: Arc<AtomicU64>,
}

/// A connection that comes out of a tunnel.
#[derive(Debug)]
struct Way {
    /// Where whoever made it is, if not on this machine.
    origin: Option<SocketAddr>,
    /// The round trip of its tunnel.
    trip_micros: Arc<AtomicU64>,
    /// Tells it from a later one of the same address.
    mark: Arc<()>,
}

impl Carrier {
    /// One that carries nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The least round trip through the pipe, once one was measured.
    pub fn trip(&self) -> Option<Duration> {
        match self.trip_micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// The same for one of several tunnels to the listener: its round trip is its own.
    fn of_one_tunnel(&self) -> Self {
        Self { ways: self.ways.clone(), trip_micros: Arc::default() }
    }

    fn note_trip(&self, trip: Duration) {
        let micros = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX).max(1);
        let least = |old: u64| Some(if old == 0 { micros } else { old.min(micros) });
        let _ = self.trip_micros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, least);
    }

    /// Waits until a round trip was measured, but not longer than this.
    pub async fn measured(&self, at_most: Duration) -> Option<Duration> {
        const LOOK: Duration = Duration::from_millis(5);
        let measured = async {
            loop {
                match self.trip() {
                    Some(trip) => return trip,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        timeout(at_most, measured).await.ok()
    }

    /// The tunnel that a connection from there came out of, and where whoever made it is: there, if the tunnel
    /// does not say otherwise.
    pub(crate) fn carries(&self, remote: SocketAddr) -> Option<(Self, SocketAddr)> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let way = ways.get(&canonical(remote))?;
        let carrier = Self { ways: self.ways.clone(), trip_micros: way.trip_micros.clone() };
        Some((carrier, way.origin.map_or(remote, canonical)))
    }

    /// Notes that a connection from this address, which its socket has already, comes out of this tunnel, until
    /// the result is dropped. The socket must be closed before that: a listener that has not looked yet finds
    /// a connection on which nothing can be proven any more.
    pub(crate) fn note(&self, from: SocketAddr, origin: Option<SocketAddr>) -> Noted {
        let (from, trip_micros) = (canonical(from), self.trip_micros.clone());
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = Arc::new(());
        ways.insert(from, Way { origin, trip_micros, mark: mark.clone() });
        drop(ways);
        Noted { carrier: self.clone(), from, mark }
    }
}

/// A line in a carrier's list.
#[derive(Debug)]
pub(crate) struct Noted {
    carrier: Carrier,
    from: SocketAddr,
    mark: Arc<()>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut ways = self.carrier.ways.lock().unwrap_or_else(PoisonError::into_inner);
        // The port may be another connection's by now.
        if ways.get(&self.from).is_some_and(|way| Arc::ptr_eq(&way.mark, &self.mark)) {
            ways.remove(&self.from);
        }
    }
}

#[cfg(test)]
mod tests;
