//! How many requests of a kind are carried out at once: so many of a peer, and so many in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use link::PublicKey;

use crate::host::Refusal;
use crate::message::RefuseCode;

/// The turns that are taken.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// What the requests are for, in words.
    what: &'static str,
    taken: Arc<Mutex<HashMap<PublicKey, usize>>>,
    of_peer: usize,
    in_all: usize,
}

/// A turn; dropping it makes room.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    peer: PublicKey,
}

impl Turns {
    pub(super) fn new(what: &'static str, of_peer: usize, in_all: usize) -> Self {
        Self { what, taken: Arc::default(), of_peer, in_all }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn for this peer, if there is one.
    pub(super) fn take(&self, peer: &PublicKey) -> Result<Turn, Refusal> {
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(peer).copied().unwrap_or(0);
        if own >= self.of_peer || all >= self.in_all {
            let text = format!("too many {} are under way here: try again later", self.what);
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        taken.insert(*peer, own + 1);
        Ok(Turn { turns: self.clone(), peer: *peer })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.lock();
        match taken.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_bounded_by_peer_and_in_all_and_come_back() {
        let turns = Turns::new("things", 2, 3);
        let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let first = turns.take(&a).unwrap();
        let second = turns.take(&a).unwrap();
        assert_eq!(turns.take(&a).unwrap_err().code, RefuseCode::Busy);
        let third = turns.take(&b).unwrap();
        assert!(turns.take(&b).is_err());
        drop(first);
        let fourth = turns.take(&b).unwrap();
        drop((second, third, fourth));
        assert!(turns.lock().is_empty());
    }
}
