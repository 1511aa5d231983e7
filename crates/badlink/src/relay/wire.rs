//! One direction of the relay: its model, the packets under way and what became of them.
//!
//! A wire does no IO: the relay shows it each packet, sends what it says, and tells it how that
//! went. It never holds more than its cap of bytes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::DirectionStats;
use crate::model::{Fate, Link, Nanos, Profile};

/// What a packet under way costs beside its payload, so that empty datagrams are bounded too.
const PACKET_OVERHEAD: usize = 96;
/// Buffers kept for reuse.
const SPARE_BUFFERS: usize = 256;

/// A packet under way.
#[derive(Debug)]
pub(super) struct Packet {
    at: Nanos,
    /// Keeps the order among equal times.
    number: u64,
    /// The client that it comes from or goes to.
    pub(super) client: SocketAddr,
    pub(super) payload: Vec<u8>,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    link: Link,
    pub(super) stats: DirectionStats,
    under_way: BinaryHeap<Reverse<Packet>>,
    under_way_bytes: usize,
    cap_bytes: usize,
    number: u64,
    spare: Vec<Vec<u8>>,
}

impl Wire {
    pub(super) fn new(profile: Profile, seed: u64, cap_bytes: usize) -> Self {
        Self {
            link: Link::new(profile, seed),
            stats: DirectionStats::default(),
            under_way: BinaryHeap::new(),
            under_way_bytes: 0,
            cap_bytes,
            number: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn set_profile(&mut self, profile: Profile) {
        self.link.set_profile(profile);
    }

    /// Says how many copies of `payload` (0, 1 or 2) must be sent at once, with the flipped bit
    /// already in place; copies that are due later are kept.
    ///
    /// The caller has sent all that was due at `now` before, so that order is kept.
    pub(super) fn admit(&mut self, now: Nanos, client: SocketAddr, payload: &mut [u8]) -> usize {
        let (at, duplicate) = match self.link.admit(now, payload.len()) {
            Fate::Blocked => {
                self.stats.blocked += 1;
                return 0;
            }
            Fate::QueueFull => {
                self.stats.queue_full += 1;
                return 0;
            }
            Fate::Lost => {
                self.stats.lost += 1;
                return 0;
            }
            Fate::BurstLost => {
                self.stats.burst_lost += 1;
                return 0;
            }
            Fate::Delivered { at, flip, duplicate, late } => {
                if let Some(bit) = flip {
                    payload[(bit / 8) as usize] ^= 1 << (bit % 8);
                    self.stats.corrupted += 1;
                }
                self.stats.reordered += u64::from(late);
                self.stats.duplicated += u64::from(duplicate);
                (at, duplicate)
            }
        };
        let copies = 1 + usize::from(duplicate);
        if at <= now {
            return copies;
        }
        for _ in 0..copies {
            self.keep(at, client, payload);
        }
        0
    }

    /// The next packet that is due at `now`; give its buffer back to `recycle`.
    pub(super) fn due(&mut self, now: Nanos) -> Option<Packet> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(packet) = self.under_way.pop()?;
        self.under_way_bytes -= packet.payload.len() + PACKET_OVERHEAD;
        Some(packet)
    }

    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.under_way.peek().map(|Reverse(packet)| packet.at)
    }

    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }

    /// Counts a packet that was handed to the system, or that the system refused.
    pub(super) fn count_sent(&mut self, len: usize, accepted: bool) {
        if accepted {
            self.stats.delivered += 1;
            self.stats.delivered_bytes += len as u64;
        } else {
            self.stats.refused += 1;
        }
    }

    /// Throws away what is under way and counts it as blocked.
    pub(super) fn cut(&mut self) {
        self.stats.blocked += self.under_way.len() as u64;
        self.under_way.clear();
        self.under_way_bytes = 0;
        self.link.clear();
    }

    fn keep(&mut self, at: Nanos, client: SocketAddr, payload: &[u8]) {
        let cost = payload.len() + PACKET_OVERHEAD;
        if self.under_way_bytes + cost > self.cap_bytes {
            self.stats.queue_full += 1;
            return;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.under_way_bytes += cost;
        self.number += 1;
        self.under_way.push(Reverse(Packet { at, number: self.number, client, payload: buffer }));
    }
}
