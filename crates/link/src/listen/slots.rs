//! Counts of connections and handshakes, so that neither one address nor all together exhaust a listener.
//! A slot is given back by being dropped, also when its task panics or is aborted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most handshakes over TCP at once, data connections that have no lane yet among them. Each holds a
/// descriptor before anything is known of its peer.
pub(super) const MOST_TCP_HANDSHAKES: usize = 128;

/// The counts and their limits.
#[derive(Debug)]
pub(super) struct Slots {
    max_connections: usize,
    max_handshakes_per_address: usize,
    max_data_connections: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    data_connections: usize,
    handshakes: usize,
    /// Those of them that are over TCP.
    tcp_handshakes: usize,
    /// Handshakes by address; an address without any is absent.
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place in the counts.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// Whose handshake is under way; none once it is done.
    handshake_of: Option<IpAddr>,
    over_tcp: bool,
    counted: Counted,
}

/// What a slot counts as beside its handshake.
#[derive(Debug, PartialEq, Eq)]
enum Counted {
    Nothing,
    Connection,
    DataConnection,
}

impl Slots {
    pub(super) fn new(
        max_connections: usize,
        max_handshakes_per_address: usize,
        max_data_connections: usize,
    ) -> Arc<Self> {
        let counts = Mutex::default();
        Arc::new(Self { max_connections, max_handshakes_per_address, max_data_connections, counts })
    }

    /// A slot for a handshake from `remote` that counts as a connection already, if the limits allow one
    /// more.
    pub(super) fn take(self: &Arc<Self>, remote: IpAddr) -> Option<Slot> {
        let mut counts = self.lock();
        if counts.connections >= self.max_connections {
            return None;
        }
        let mut slot = self.handshake(remote, &mut counts)?;
        counts.connections += 1;
        slot.counted = Counted::Connection;
        Some(slot)
    }

    /// A slot for a handshake over TCP from `remote` of which it is not known yet what it will be.
    pub(super) fn take_handshake(self: &Arc<Self>, remote: IpAddr) -> Option<Slot> {
        let mut counts = self.lock();
        if counts.tcp_handshakes >= MOST_TCP_HANDSHAKES {
            return None;
        }
        let mut slot = self.handshake(remote, &mut counts)?;
        counts.tcp_handshakes += 1;
        slot.over_tcp = true;
        Some(slot)
    }

    /// Whether there are as many handshakes over TCP as may be.
    pub(super) fn is_tcp_full(&self) -> bool {
        self.lock().tcp_handshakes >= MOST_TCP_HANDSHAKES
    }

    fn handshake(self: &Arc<Self>, remote: IpAddr, counts: &mut Counts) -> Option<Slot> {
        let address = network_of(remote);
        let from_here = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_here >= self.max_handshakes_per_address {
            return None;
        }
        counts.handshakes += 1;
        counts.by_address.insert(address, from_here + 1);
        let (slots, handshake_of) = (self.clone(), Some(address));
        Some(Slot { slots, handshake_of, over_tcp: false, counted: Counted::Nothing })
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
    /// The handshake is over and it was a connection; false if there may be no more of them.
    pub(super) fn connect(&mut self) -> bool {
        let mut counts = self.slots.lock();
        if counts.connections >= self.slots.max_connections {
            return false;
        }
        counts.connections += 1;
        drop(counts);
        self.counted = Counted::Connection;
        self.handshake_done();
        true
    }

    /// The handshake is over and it was a connection more of a lane; false if there may be no more.
    pub(super) fn join(&mut self) -> bool {
        let mut counts = self.slots.lock();
        if counts.data_connections >= self.slots.max_data_connections {
            return false;
        }
        counts.data_connections += 1;
        drop(counts);
        self.counted = Counted::DataConnection;
        self.handshake_done();
        true
    }

    /// The handshake is over; the connection stays counted.
    pub(super) fn handshake_done(&mut self) {
        let Some(address) = self.handshake_of.take() else { return };
        let mut counts = self.slots.lock();
        counts.handshakes -= 1;
        counts.tcp_handshakes -= usize::from(self.over_tcp);
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
        let mut counts = self.slots.lock();
        match self.counted {
            Counted::Nothing => {}
            Counted::Connection => counts.connections -= 1,
            Counted::DataConnection => counts.data_connections -= 1,
        }
    }
}

/// The unit that one party can be assumed to have: an IPv4 address, or an IPv6 /64.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
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
        let slots = Slots::new(3, 2, 1);
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
        let mut lane = slots.take_handshake(other).unwrap();
        let mut data = slots.take_handshake(other).unwrap();
        assert!(slots.take_handshake(other).is_none(), "two handshakes from one address");
        assert!(lane.connect() && data.join());
        let mut more = slots.take_handshake(other).unwrap();
        assert!(!more.join(), "one data connection is the limit");
        let full: Vec<_> = [one, "192.0.2.2".parse().unwrap()].map(|a| slots.take(a)).into();
        assert!(full.iter().all(Option::is_some) && !more.connect());
        drop((lane, data, more, full));
        let counts = slots.lock();
        assert_eq!(counts.data_connections, 0);
        assert_eq!((counts.connections, counts.handshakes, counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn handshakes_over_tcp_have_a_limit_of_their_own() {
        let slots = Slots::new(256, 32, 512);
        let address = |n: usize| IpAddr::from([192, 0, 2, (n / 32) as u8]);
        let take = |n| slots.take_handshake(address(n));
        let mut held: Vec<_> = (0..MOST_TCP_HANDSHAKES).map(|n| take(n).unwrap()).collect();
        let elsewhere = address(MOST_TCP_HANDSHAKES);
        assert!(slots.take_handshake(elsewhere).is_none());
        let quic = slots.take(elsewhere).unwrap();
        // One that was attached to its lane makes room, and so does one that is gone.
        assert!(held[0].join());
        let next = slots.take_handshake(elsewhere).unwrap();
        assert!(slots.take_handshake(elsewhere).is_none());
        held.pop();
        let last = slots.take_handshake(elsewhere).unwrap();
        drop((held, quic, next, last));
        let counts = slots.lock();
        assert_eq!((counts.handshakes, counts.tcp_handshakes), (0, 0));
    }
}
