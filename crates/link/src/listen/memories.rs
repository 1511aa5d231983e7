//! What a listener has learnt of the paths to those it sent to, by their network, as long as it runs: the
//! next connection from there starts near that rate. One who shares the network of another can spoil or
//! better the other's first round trips so, and no more: what is lost there corrects the rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::slots::network_of;
use crate::PathMemory;

/// Networks remembered; each takes some 100 bytes.
const MOST: usize = 4096;

/// The memories of a listener.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<HashMap<IpAddr, PathMemory>>);

impl Memories {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, PathMemory>> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the path to this address.
    pub(super) fn of(&self, remote: IpAddr) -> Option<PathMemory> {
        self.lock().get(&network_of(remote)).copied()
    }

    /// Remembers a path; where there are too many, one of the others is forgotten.
    pub(super) fn learn(&self, remote: IpAddr, memory: PathMemory) {
        let network = network_of(remote);
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(&network) {
            let any = known.keys().next().copied();
            any.map(|any| known.remove(&any));
        }
        known.insert(network, memory);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn paths_are_known_by_network_and_their_number_is_bounded() {
        let memory = |rate_bytes_per_s| PathMemory {
            rate_bytes_per_s,
            base_rtt: Duration::from_millis(50),
            loss: 0.01,
            mtu: 1472,
        };
        let memories = Memories::default();
        let here: IpAddr = "2001:db8::1".parse().unwrap();
        memories.learn(here, memory(1));
        memories.learn("2001:db8::2".parse().unwrap(), memory(2));
        assert_eq!(memories.of(here), Some(memory(2)), "one /64 is one place");
        for number in 0..2 * MOST as u32 {
            memories.learn(Ipv4Addr::from_bits(number).into(), memory(3));
        }
        assert_eq!(memories.lock().len(), MOST);
        let last = Ipv4Addr::from_bits(2 * MOST as u32 - 1);
        assert_eq!(memories.of(last.into()), Some(memory(3)));
    }
}
