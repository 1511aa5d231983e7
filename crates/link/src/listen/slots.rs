//! Counts of connections and handshakes, so that neither one address nor all together exhaust a listener.
//! A slot is given back by being dropped, also when its task panics or is aborted.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The most handshakes over TCP at once: all connections that are no part of a lane yet, or never will be.
/// Each holds a descriptor before anything is known of its peer.
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
    /// Those of them that are over TCP, the oldest first.
    over_tcp: BTreeMap<u64, OverTcp>,
    /// How many there have been over TCP.
    tcp_begun: u64,
    /// Handshakes by address; an address without any is absent.
    by_address: HashMap<IpAddr, usize>,
}

/// A handshake over TCP, and the end that it can be brought to.
#[derive(Debug)]
struct OverTcp {
    address: IpAddr,
    end: oneshot::Sender<()>,
}

impl Counts {
    /// One handshake of that address is over.
    fn over(&mut self, address: IpAddr) {
        self.handshakes -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// Ends the oldest handshake over TCP of the address that has the most of them; of several such
    /// addresses, the oldest of all.
    fn end_one(&mut self) {
        let mut of_address = HashMap::new();
        for OverTcp { address, .. } in self.over_tcp.values() {
            *of_address.entry(*address).or_insert(0) += 1;
        }
        let most = of_address.values().max().copied();
        let mut all = self.over_tcp.iter();
        let oldest = all.find(|(_, one)| of_address.get(&one.address).copied() == most);
        let number = oldest.map(|(number, _)| *number);
        if let Some(one) = number.and_then(|number| self.over_tcp.remove(&number)) {
            self.over(one.address);
            // Its task may be over already.
            let _ = one.end.send(());
        }
    }
}

/// Comes true when a connection has to go to make room for others.
#[derive(Debug)]
pub(super) struct Ended(oneshot::Receiver<()>);

impl Ended {
    /// Waits until the connection has to go: for ever, once it is part of a lane.
    pub(super) async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending().await
        }
    }
}

/// One connection's place in the counts.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// None once it is done.
    handshake: Option<Handshake>,
    counted: Counted,
}

/// How a handshake is counted.
#[derive(Debug, Clone, Copy)]
enum Handshake {
    Quic(IpAddr),
    /// By its number.
    Tcp(u64),
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
        let address = self.handshake(remote, &mut counts)?;
        counts.connections += 1;
        let (slots, handshake) = (self.clone(), Some(Handshake::Quic(address)));
        Some(Slot { slots, handshake, counted: Counted::Connection })
    }

    /// A slot for a handshake over TCP from `remote` of which it is not known yet what it will be; none if
    /// its address has as many as it may. Where there are as many as may be in all, another makes room:
    /// one of the address that has the most. What does not become a connection can be told to go like this
    /// until it has.
    pub(super) fn take_handshake(self: &Arc<Self>, remote: IpAddr) -> Option<(Slot, Ended)> {
        let mut counts = self.lock();
        let address = self.handshake(remote, &mut counts)?;
        let (end, ended) = oneshot::channel();
        let number = counts.tcp_begun;
        counts.tcp_begun += 1;
        counts.over_tcp.insert(number, OverTcp { address, end });
        if counts.over_tcp.len() > MOST_TCP_HANDSHAKES {
            counts.end_one();
        }
        let (slots, handshake) = (self.clone(), Some(Handshake::Tcp(number)));
        Some((Slot { slots, handshake, counted: Counted::Nothing }, Ended(ended)))
    }

    /// Counts a handshake and gives the address it is counted for, unless that has as many as it may.
    fn handshake(&self, remote: IpAddr, counts: &mut Counts) -> Option<IpAddr> {
        let address = network_of(remote);
        let from_here = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_here >= self.max_handshakes_per_address {
            return None;
        }
        counts.handshakes += 1;
        counts.by_address.insert(address, from_here + 1);
        Some(address)
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
        if counts.connections >= self.slots.max_connections || self.has_to_go(&counts) {
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
        if counts.data_connections >= self.slots.max_data_connections || self.has_to_go(&counts) {
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
        let Some(handshake) = self.handshake.take() else { return };
        let mut counts = self.slots.lock();
        match handshake {
            Handshake::Quic(address) => counts.over(address),
            Handshake::Tcp(number) => {
                // One that has to go is not counted any more.
                if let Some(one) = counts.over_tcp.remove(&number) {
                    counts.over(one.address);
                }
            }
        }
    }

    /// Whether the place was given to another meanwhile.
    fn has_to_go(&self, counts: &Counts) -> bool {
        let Some(Handshake::Tcp(number)) = self.handshake else { return false };
        !counts.over_tcp.contains_key(&number)
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
pub fn network_of(address: IpAddr) -> IpAddr {
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
        let take = || slots.take_handshake(other).unwrap().0;
        let (mut lane, mut data) = (take(), take());
        assert!(slots.take_handshake(other).is_none(), "two handshakes from one address");
        assert!(lane.connect() && data.join());
        let mut more = take();
        assert!(!more.join(), "one data connection is the limit");
        let full: Vec<_> = [one, "192.0.2.2".parse().unwrap()].map(|a| slots.take(a)).into();
        assert!(full.iter().all(Option::is_some) && !more.connect());
        drop((lane, data, more, full));
        let counts = slots.lock();
        assert_eq!(counts.data_connections, 0);
        assert_eq!((counts.connections, counts.handshakes, counts.by_address.len()), (0, 0, 0));
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Whether a handshake was told to go.
    fn has_to_go(ended: &mut Ended) -> bool {
        ended.0.try_recv().is_ok()
    }

    /// Places that are all taken, by four addresses that take turns; the oldest is that of the first.
    fn full_house(slots: &Arc<Slots>) -> Vec<(Slot, Ended)> {
        let take = |n| slots.take_handshake(address((n % 4) as u8)).unwrap();
        (0..MOST_TCP_HANDSHAKES).map(take).collect()
    }

    #[test]
    fn handshakes_over_tcp_have_a_limit_of_their_own() {
        let slots = Slots::new(256, 32, 512);
        let mut held = full_house(&slots);
        let elsewhere = address(9);
        let quic = slots.take(elsewhere).unwrap();
        // One that was attached to its lane makes room, and so does one that is gone.
        assert!(held[0].0.join());
        held.pop();
        let more = [(); 2].map(|()| slots.take_handshake(elsewhere).unwrap());
        assert!(!held.iter_mut().any(|(_, ended)| has_to_go(ended)));
        drop((held, quic, more));
        let counts = slots.lock();
        assert_eq!((counts.handshakes, counts.over_tcp.len(), counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn whoever_has_most_makes_room_for_others() {
        let slots = Slots::new(256, 40, 512);
        let mut held = full_house(&slots);
        // One address has one more than the others now, and loses its oldest to that.
        let mut own = slots.take_handshake(address(2)).unwrap();
        let gone = |held: &mut [(Slot, Ended)]| {
            let gone = held
                .iter_mut()
                .enumerate()
                .filter_map(|(n, one)| has_to_go(&mut one.1).then_some(n));
            gone.collect::<Vec<_>>()
        };
        assert_eq!(gone(&mut held), [2]);
        // All have as many: the oldest goes, and then those of addresses that have more than others.
        let mut new = Vec::new();
        for oldest in [0, 1, 3, 6] {
            new.push(slots.take_handshake(address(9)).unwrap());
            assert_eq!(gone(&mut held), [oldest]);
        }
        assert!(!has_to_go(&mut own.1) && gone(&mut new).is_empty());
        // One that has to go becomes nothing any more, and is not counted twice.
        assert!(!held[0].0.connect() && !held[1].0.join() && held[4].0.connect());
        assert_eq!(slots.handshakes(), MOST_TCP_HANDSHAKES - 1);
        drop((held, own, new));
        let counts = slots.lock();
        assert_eq!((counts.handshakes, counts.connections, counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn an_address_at_its_limit_drives_nobody_out() {
        let slots = Slots::new(256, MOST_TCP_HANDSHAKES / 4, 512);
        let mut held = full_house(&slots);
        assert!((0..100).all(|n| slots.take_handshake(address(n % 4)).is_none()));
        assert!(!held.iter_mut().any(|(_, ended)| has_to_go(ended)));
    }

    /// A connection that is part of a lane is never told to go.
    #[tokio::test]
    async fn connections_stay() {
        let slots = Slots::new(256, 10_000, 512);
        let (mut slot, ended) = slots.take_handshake(address(0)).unwrap();
        assert!(slot.connect());
        let crowd: Vec<_> = (0..300).map(|_| slots.take_handshake(address(0)).unwrap()).collect();
        assert_eq!(slots.handshakes(), MOST_TCP_HANDSHAKES);
        let mut waiting = std::pin::pin!(ended.wait());
        let waiting = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(waiting.await);
        drop((slot, crowd));
    }
}
