//! Who may have the link measured now. A daemon has better things to do than to send filler, so each
//! peer measures one thing at a time, begins nothing that would bring it past a minute in five, and few do so
//! at once. What counts is how long one really took, its last words included, so the last of a period may
//! bring it past by as much as that takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::PublicKey;

use crate::host::Refusal;
use crate::message::RefuseCode;

/// Measurements of all peers at once.
const AT_ONCE: usize = 2;
/// What a peer may use up in a period.
const ALLOWANCE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_secs(300);
/// Peers remembered; only admitted keys come here.
const MOST_PEERS: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Peer {
    since: Instant,
    used: Duration,
    running: bool,
}

/// The measurements of a daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowances(Arc<Mutex<HashMap<PublicKey, Peer>>>);

/// One that is under way; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Turn {
    all: Allowances,
    peer: PublicKey,
    began: Instant,
    /// What the peer has paid for already.
    paid: Duration,
}

impl Allowances {
    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one of so many seconds, or says why not.
    pub(crate) fn begin(
        &self,
        peer: &PublicKey,
        seconds: u64,
        now: Instant,
    ) -> Result<Turn, Refusal> {
        let busy = |text: &str| Refusal { code: RefuseCode::Busy, text: text.to_owned() };
        let mut peers = self.lock();
        peers.retain(|_, peer| peer.running || now.saturating_duration_since(peer.since) < PERIOD);
        let fresh = Peer { since: now, used: Duration::ZERO, running: false };
        let known = peers.get(peer).copied().unwrap_or(fresh);
        if known.running {
            return Err(busy("this key has the link measured already"));
        }
        let paid = Duration::from_secs(seconds);
        let used = known.used + paid;
        if used > ALLOWANCE {
            return Err(busy("this key has had the link measured for long enough: wait 5 minutes"));
        }
        if peers.values().filter(|peer| peer.running).count() >= AT_ONCE
            || peers.len() >= MOST_PEERS
        {
            return Err(busy("others have their link measured now: try again in a minute"));
        }
        peers.insert(*peer, Peer { used, running: true, ..known });
        Ok(Turn { all: self.clone(), peer: *peer, began: now, paid })
    }

    /// One is over that took so long; what was not paid for is paid now.
    fn end(&self, peer: &PublicKey, paid: Duration, took: Duration) {
        if let Some(peer) = self.lock().get_mut(peer) {
            peer.used += took.saturating_sub(paid);
            peer.running = false;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.end(&self.peer, self.paid, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use link::Identity;

    use super::*;

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    #[test]
    fn one_at_a_time_and_a_minute_in_five() {
        let (allowances, peer, start) = (Allowances::default(), key(), Instant::now());
        for _ in 0..6 {
            let running = allowances.begin(&peer, 10, start).unwrap();
            let refused = allowances.begin(&peer, 1, start).unwrap_err();
            assert!(refused.text.contains("already"), "{refused}");
            drop(running);
        }
        let refused = allowances.begin(&peer, 1, start + Duration::from_secs(299)).unwrap_err();
        assert_eq!(refused.code, RefuseCode::Busy);
        assert!(refused.text.contains("long enough"), "{refused}");
        assert!(allowances.begin(&peer, 1, start + PERIOD).is_ok());
    }

    #[test]
    fn whoever_takes_longer_pays_for_it() {
        let (allowances, peer, start) = (Allowances::default(), key(), Instant::now());
        let second = Duration::from_secs(1);
        for _ in 0..2 {
            let running = allowances.begin(&peer, 1, start).unwrap();
            allowances.end(&peer, second, 26 * second);
            drop(running);
        }
        assert!(allowances.begin(&peer, 9, start).is_err(), "52 seconds are gone");
        drop(allowances.begin(&peer, 8, start).unwrap());
        assert!(allowances.begin(&peer, 1, start).is_err());
    }

    #[test]
    fn few_at_once() {
        let (allowances, now) = (Allowances::default(), Instant::now());
        let running: Vec<_> =
            (0..AT_ONCE).map(|_| allowances.begin(&key(), 10, now).unwrap()).collect();
        assert!(allowances.begin(&key(), 1, now).unwrap_err().text.contains("others"));
        drop(running);
        assert!(allowances.begin(&key(), 1, now).is_ok());
    }
}
