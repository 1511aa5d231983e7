//! Handshakes with several addresses, and with one again while it is silent: the first that is finished is taken.
//!
//! A library that lost its first packets waits twice as long before each repetition, so that three lost in a row cost
//! two seconds, and five more than the user has patience for. Loss comes in bursts, and what comes a quarter of a
//! second later is mostly out of it: so a further attempt is begun beside those that wait.

use std::net::SocketAddr;
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

/// An address that has not answered, and what waits for it.
struct Silent {
    address: SocketAddr,
    running: Vec<AbortHandle>,
}

impl Attempts<'_> {
    /// Tries the addresses one after another, the next one beside those that stay silent (as RFC 8305 does for
    /// TCP), then the silent ones again, and gives the first that finishes a handshake. The others are dropped.
    /// An address that answered with an error is not tried again, and says more than the silence of another. What
    /// else runs there goes on, unless the error is one that waiting does not mend: a host that is too busy for the
    /// second attempt may have begun to answer the first.
    pub(super) async fn first<R: Send + 'static, A>(
        &self,
        attempt: impl Fn(SocketAddr) -> A,
    ) -> Result<R, LinkError>
    where
        A: Future<Output = Result<R, LinkError>> + Send + 'static,
    {
        let silence =
            || LinkError::NoAnswer { peer: self.peer.clone(), after: self.options.deadline };
        let mut running = JoinSet::new();
        let begin = |running: &mut JoinSet<_>, address: SocketAddr| {
            let trying = attempt(address);
            running.spawn(async move { (address, trying.await) })
        };
        let mut waiting = self.addresses.iter();
        let mut silent: Vec<Silent> = Vec::new();
        let mut failure = None;
        let mut again = 0_u32;
        let mut next_at = Instant::now();
        loop {
            if Instant::now() >= next_at {
                if let Some(address) = waiting.next() {
                    let running = vec![begin(&mut running, *address)];
                    silent.push(Silent { address: *address, running });
                } else if again < MOST_AGAIN && !silent.is_empty() {
                    let turn = again as usize % silent.len();
                    let of = &mut silent[turn];
                    of.running.push(begin(&mut running, of.address));
                    again += 1;
                }
                next_at = Instant::now() + self.patience(waiting.len(), again);
            }
            match timeout_at(next_at.min(self.deadline), running.join_next()).await {
                Ok(Some(Ok((_, Ok(reached))))) => return Ok(reached),
                Ok(Some(Ok((address, Err(error))))) => {
                    let is_final = !error.fault().is_transient() || is_closed_port(&error);
                    failure = Some(error);
                    for of in silent.extract_if(.., |of| of.address == address) {
                        of.running.iter().filter(|_| is_final).for_each(AbortHandle::abort);
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
