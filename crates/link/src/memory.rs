//! How much of a listener's memory each peer may fill: an equal share of one budget.
//! A share is enforced by the transport (QUIC by its flow control, TCP by how many parcels are read at once),
//! so a peer cannot exceed it, and it moves with every connection that comes or goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{Connection, VarInt};

/// The least that a connection gets; below it a transfer over a long path would crawl.
pub const SMALLEST_SHARE: u64 = 1024 * 1024;

/// The most that a connection gets: 2.5 Gbit/s over 100 ms.
pub const LARGEST_SHARE: u64 = 32 * 1024 * 1024;

/// What one stream of parcels is counted as when streams are allotted.
const PARCEL_BYTES: u64 = 2 * 1024 * 1024;

/// The most parcels that a peer may have under way at once.
pub(crate) const MOST_PARCELS: u32 = 16;

/// What a parcel takes at most while it is read over TCP: a body of 1 MiB, and its head.
const TCP_PARCEL_BYTES: u64 = 1024 * 1024 + 64 * 1024;

/// What a lane and the budget tell each other.
#[derive(Debug)]
pub(crate) struct Account {
    /// How many bytes the peer may send beyond what was read.
    window: AtomicU64,
    /// How many bytes of the peer's were read.
    read: AtomicU64,
}

impl Account {
    pub(crate) fn new(window: u64) -> Arc<Self> {
        Arc::new(Self { window: AtomicU64::new(window), read: AtomicU64::new(0) })
    }

    pub(crate) fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    pub(crate) fn note_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A transport that can be told how much its peer may send.
pub(crate) trait Grants: std::fmt::Debug + Send + Sync {
    /// Lets the peer fill `window` bytes with this many parcels.
    fn grant(&self, window: u64, parcels: u32);
}

impl Grants for Connection {
    fn grant(&self, window: u64, parcels: u32) {
        // A share is at most 32 MiB, which fits.
        self.set_receive_window(VarInt::from_u32(window as u32));
        self.set_max_concurrent_uni_streams(VarInt::from_u32(parcels));
    }
}

/// The budget and those who live on it.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    total: u64,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    live: HashMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    transport: Arc<dyn Grants>,
    account: Arc<Account>,
    ledger: Ledger,
}

/// A place in the budget; dropping it gives the share back to the others.
#[derive(Debug)]
pub(crate) struct Place {
    budget: Arc<MemoryBudget>,
    id: u64,
}

impl MemoryBudget {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self { total, members: Mutex::default() })
    }

    /// Takes a connection in, whose window so far is [`SMALLEST_SHARE`] and whose account says so.
    pub(crate) fn join(
        self: &Arc<Self>,
        transport: Arc<dyn Grants>,
        account: Arc<Account>,
    ) -> Place {
        let mut members = self.lock();
        let id = members.next;
        members.next += 1;
        let ledger = Ledger { window: SMALLEST_SHARE, debt: 0, read: 0 };
        members.live.insert(id, Member { transport, account, ledger });
        members.rebalance(self.total);
        drop(members);
        Place { budget: self.clone(), id }
    }

    /// Grants what could not be granted before because a debt was open. To be called now and then.
    pub(crate) fn settle(&self) {
        self.lock().rebalance(self.total);
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.budget.lock();
        members.live.remove(&self.id);
        members.rebalance(self.budget.total);
    }
}

impl Members {
    fn rebalance(&mut self, total: u64) {
        let share = share_of(total, self.live.len());
        for member in self.live.values_mut() {
            let before = member.ledger.window;
            let window = member.ledger.aim_at(share, member.account.read.load(Ordering::Relaxed));
            // Setting a window takes the connection's lock, so what did not change is left alone.
            if window != before {
                member.account.window.store(window, Ordering::Relaxed);
                member.transport.grant(window, parcels_of(window));
            }
        }
    }
}

/// How far a window can be moved. Credit that was given cannot be taken back: after a window shrinks,
/// the library keeps new credit to itself until as much was read, but when the window grows again
/// before that, it grants the growth on top. A peer that is not read from would gain with every turn,
/// so the debt is counted here and growth waits for it.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    window: u64,
    debt: u64,
    read: u64,
}

impl Ledger {
    /// The window to set so that window and debt together come as near to `share` as they can.
    fn aim_at(&mut self, share: u64, read: u64) -> u64 {
        self.debt = self.debt.saturating_sub(read - self.read);
        self.read = read;
        if share < self.window {
            self.debt += self.window - share;
            self.window = share;
        } else {
            self.window = self.window.max(share.saturating_sub(self.debt));
        }
        self.window
    }
}

/// What each of `connections` may fill.
pub(crate) fn share_of(total: u64, connections: usize) -> u64 {
    (total / connections.max(1) as u64).clamp(SMALLEST_SHARE, LARGEST_SHARE)
}

/// How many parcels fit in a share.
pub(crate) fn parcels_of(share: u64) -> u32 {
    ((share / PARCEL_BYTES) as u32).clamp(1, MOST_PARCELS)
}

/// How many data connections over TCP fit in a share: each has buffers, and a parcel under way.
pub(crate) fn connections_of(share: u64) -> u16 {
    // At most 16, which fits.
    parcels_of(share) as u16
}

/// How many parcels may be read at once over so many data connections, whose buffers take
/// `buffered` bytes each out of the same share.
pub(crate) fn parcels_beside(share: u64, connections: u16, buffered: u64) -> u32 {
    let left = share.saturating_sub(u64::from(connections) * buffered);
    // At most `LARGEST_SHARE` by `TCP_PARCEL_BYTES`, which fits.
    ((left / TCP_PARCEL_BYTES) as u32).clamp(1, parcels_of(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_room_from_parcels() {
        let (mib, buffered) = (1024 * 1024, 513 * 1024);
        for (share, connections, parcels) in
            [(32, 16, 16), (32, 1, 16), (4, 2, 2), (4, 4, 1), (16, 16, 7), (1, 1, 1), (1, 16, 1)]
        {
            let got = parcels_beside(share * mib, connections, buffered);
            assert_eq!(got, parcels, "{connections} connections in {share} MiB");
        }
        // As many as are let in at a share never take more than it together, unless it is the least.
        for share in 2..=32 {
            let connections = connections_of(share * mib);
            let parcels = parcels_beside(share * mib, connections, buffered);
            let taken = u64::from(connections) * buffered + u64::from(parcels) * TCP_PARCEL_BYTES;
            assert!(taken <= share * mib, "{taken} bytes of {share} MiB");
        }
    }

    #[test]
    fn shares_stay_within_their_bounds() {
        let mib = 1024 * 1024;
        for (connections, share, parcels) in
            [(0, 32, 16), (1, 32, 16), (4, 32, 16), (8, 16, 8), (100, 1, 1), (1000, 1, 1)]
        {
            let got = share_of(128 * mib, connections);
            assert_eq!(got / mib, share, "{connections} connections");
            assert_eq!(parcels_of(got), parcels, "{connections} connections");
        }
    }

    #[test]
    fn going_to_and_fro_grants_nothing_twice() {
        let mut ledger = Ledger { window: 32, debt: 0, read: 0 };
        for _ in 0..10 {
            assert_eq!(ledger.aim_at(16, 0), 16);
            assert_eq!(ledger.aim_at(32, 0), 16, "the peer still holds credit for 32");
        }
        assert_eq!(ledger.aim_at(32, 10), 26);
        assert_eq!(ledger.aim_at(32, 16), 32);
        assert_eq!(ledger.aim_at(8, 16), 8);
        assert_eq!(ledger.aim_at(4, 20), 4);
        assert_eq!(ledger.aim_at(32, 100), 32);
    }
}
