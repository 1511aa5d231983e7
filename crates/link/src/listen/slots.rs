//! Counts of connections and handshakes, so that neither one address nor all together exhaust a listener.
//! A slot is given back by being dropped, also when its task panics or is aborted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts and their limits.
#[derive(Debug)]
pub(super) struct Slots {
    max_connections: usize,
    max_handshakes_per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    /// Handshakes by address; an address without any is absent.
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place in the counts.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    /// Whose handshake is under way; none once it is done.
    handshake_of: Option<IpAddr>,
}

impl Slots {
    pub(super) fn new(max_connections: usize, max_handshakes_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max_connections, max_handshakes_per_address, counts: Mutex::default() })
    }

    /// A slot for a handshake from `remote`, if the limits allow one more.
    pub(super) fn take(self: &Arc<Self>, remote: IpAddr) -> Option<Slot> {
        let address = network_of(remote);
        let mut counts = self.lock();
        let from_here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.connections >= self.max_connections
            || from_here >= self.max_handshakes_per_address
        {
            return None;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        counts.by_address.insert(address, from_here + 1);
        drop(counts);
        Some(Slot { slots: self.clone(), handshake_of: Some(address) })
    }

    /// How many handshakes are under way.
    pub(super) fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The handshake is over; the connection stays counted.
    pub(super) fn handshake_done(&mut self) {
        let Some(address) = self.handshake_of.take() else { return };
        let mut counts = self.slots.lock();
        counts.handshakes -= 1;
        if let Some(count) = counts.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshake_done();
        self.slots.lock().connections -= 1;
    }
}

/// The unit that one party can be assumed to have: an IPv4 address, or an IPv6 /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_slots_come_back() {
        let slots = Slots::new(3, 2);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same_network: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        let mut first = slots.take(one).unwrap();
        let second = slots.take(same_network).unwrap();
        assert!(slots.take(one).is_none(), "two handshakes from one /64 are the limit");
        first.handshake_done();
        let third = slots.take(one).unwrap();
        assert!(slots.take(other).is_none(), "three connections are the limit");
        drop(second);
        let fourth = slots.take(other).unwrap();
        assert_eq!(slots.handshakes(), 2);
        drop((first, third, fourth));
        let counts = slots.lock();
        assert_eq!((counts.connections, counts.handshakes, counts.by_address.len()), (0, 0, 0));
    }
}
