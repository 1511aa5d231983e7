//! Handshakes with several addresses, and with one again while it is silent: the first that is finished is taken.
//!
//! A library that lost its first packets waits twice as long before each repetition, so that three lost in a row cost
//! two seconds, and five more than the user has patience for. Loss comes in bursts, and what comes a quarter of a
//! second later is mostly out of it: so a further attempt is begun beside those that wait, as long as the address is
//! silent. One that has answered is slow, and waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::race::is_closed_port;
use crate::{DialOptions, LaneKind, LinkError, PeerName};

/// By how much longer the wait before each further attempt is, and how many there are at most, whatever the number of
/// addresses.
const LONGER: f64 = 1.25;
const MOST_AGAIN: u32 = 10;

/// QUIC has answered after one round trip, and TCP with its TLS after two.
const TCP_LONGER: u32 = 2;

/// A path that is known is not asked again before twice its round trip.
const KNOWN_TRIPS: u32 = 2;

/// What is tried, and until when.
pub(super) struct Attempts<'a> {
    pub(super) peer: &'a PeerName,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) options: &'a DialOptions,
    pub(super) deadline: Instant,
}

/// Whether an address has answered an attempt at it, which may not be finished for long: then it is there, and
/// asking again would only cost it more.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicBool>);

impl Progress {
    /// The address has answered. Says whether this is the first of its answers.
    pub(super) fn made(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An address that was tried.
struct Tried {
    address: SocketAddr,
    progress: Progress,
    /// What was begun there.
    begun: Vec<AbortHandle>,
    /// An attempt there has ended in an error.
    has_failed: bool,
    /// An error has ended all of them.
    is_over: bool,
}

impl Tried {
    fn new(address: SocketAddr) -> Self {
        let (progress, begun) = (Progress::default(), Vec::new());
        Self { address, progress, begun, has_failed: false, is_over: false }
    }

    fn is_silent(&self) -> bool {
        !self.has_failed && !self.progress.is_made()
    }

    /// Takes in how an attempt ended, and ends the others if it is for good. Says whether that is worth telling.
    fn failed(&mut self, error: &LinkError) -> bool {
        self.has_failed = true;
        // One of our own says nothing of a peer that others still wait for.
        let of_peer = error.peer().is_some();
        if self.is_over || !of_peer && !self.begun.iter().all(AbortHandle::is_finished) {
            return false;
        }
        self.is_over = of_peer && !error.fault().is_transient() || is_closed_port(error);
        self.begun.iter().filter(|_| self.is_over).for_each(AbortHandle::abort);
        true
    }
}

impl Attempts<'_> {
    /// Tries the addresses one after another, the next one beside those that stay silent (as RFC 8305 does for
    /// TCP), then the silent ones again, and gives the first that finishes a handshake. The others are dropped.
    /// An address that has answered, also with an error, is not tried again, and an error says more than the silence
    /// of another. What else runs there goes on, unless the peer gave an error that waiting does not mend: a host
    /// that is too busy for the second attempt may have begun to answer the first.
    pub(super) async fn first<R: Send + 'static, A>(
        &self,
        attempt: impl Fn(SocketAddr, Progress) -> A,
    ) -> Result<R, LinkError>
    where
        A: Future<Output = Result<R, LinkError>> + Send + 'static,
    {
        let silence =
            || LinkError::NoAnswer { peer: self.peer.clone(), after: self.options.deadline };
        let mut running = JoinSet::new();
        let begin = |running: &mut JoinSet<_>, at: usize, of: &mut Tried| {
            let trying = attempt(of.address, of.progress.clone());
            of.begun.push(running.spawn(async move { (at, trying.await) }));
        };
        let mut waiting = self.addresses.iter();
        let mut tried: Vec<Tried> = Vec::new();
        let mut failure = None;
        let mut again = 0_u32;
        let mut next_at = Instant::now();
        loop {
            if Instant::now() >= next_at {
                let silent = tried.iter_mut().enumerate().filter(|(_, of)| of.is_silent());
                if let Some(address) = waiting.next() {
                    let mut of = Tried::new(*address);
                    begin(&mut running, tried.len(), &mut of);
                    tried.push(of);
                } else if again < MOST_AGAIN
                    && let Some((at, of)) = silent.min_by_key(|(_, of)| of.begun.len())
                {
                    begin(&mut running, at, of);
                    again += 1;
                }
                next_at = Instant::now() + self.patience(waiting.len(), again);
            }
            match timeout_at(next_at.min(self.deadline), running.join_next()).await {
                Ok(Some(Ok((_, Ok(reached))))) => return Ok(reached),
                Ok(Some(Ok((at, Err(error))))) => {
                    if tried[at].failed(&error) {
                        failure = Some(error);
                    }
                    if waiting.len() > 0 {
                        next_at = Instant::now();
                    }
                }
                Ok(Some(Err(ended))) if ended.is_cancelled() => {}
                Ok(Some(Err(panicked))) => {
                    failure = Some(LinkError::Setup { detail: panicked.to_string() });
                    next_at = Instant::now();
                }
                Ok(None) if waiting.len() == 0 => return Err(failure.unwrap_or_else(silence)),
                Err(_silent) if Instant::now() >= self.deadline => {
                    return Err(failure.unwrap_or_else(silence));
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// How long those that run are waited for before another is begun.
    fn patience(&self, waiting: usize, again: u32) -> Duration {
        if waiting > 0 {
            return self.options.next_address_after;
        }
        if again >= MOST_AGAIN {
            return self.options.deadline;
        }
        let known = self.options.transport.known_path.map_or(Duration::ZERO, |path| path.base_rtt);
        let first = self.options.again_after.max(known * KNOWN_TRIPS);
        let of_kind = if self.options.kind == LaneKind::Tcp { first * TCP_LONGER } else { first };
        of_kind.mul_f64(LONGER.powi(again.try_into().unwrap_or(i32::MAX)))
    }
}
