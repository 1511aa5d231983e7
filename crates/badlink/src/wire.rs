//! One direction of a link: its model, the packets under way and what became of them.
//!
//! A wire does no IO: its owner shows it each packet, sends what it says, and tells it how that
//! went. It never holds more than its cap of bytes. `T` is what its owner must know to send a
//! packet on, such as the client of a relay.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::model::{Fate, Link, Nanos, Profile};

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Packets that came in.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets sent on, copies included.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Lost on their own.
    pub lost: u64,
    /// Lost in bursts.
    pub burst_lost: u64,
    /// No room before the rate limiter, or too many bytes under way.
    pub queue_full: u64,
    /// Above what the policer grants.
    pub policed: u64,
    /// Of a protocol that the link drops; a relay drops none.
    pub filtered: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Had a bit flipped.
    pub corrupted: u64,
    /// Were held back and overtaken.
    pub reordered: u64,
    /// Came to a cut wire, or were under way on it.
    pub blocked: u64,
    /// Were longer than the MTU.
    pub too_large: u64,
    /// Could not be handed to the system.
    pub refused: u64,
}

/// What a packet under way costs beside its payload, so that empty datagrams are bounded too.
const PACKET_OVERHEAD: usize = 96;
/// Buffers kept for reuse.
const SPARE_BUFFERS: usize = 256;

/// A packet under way.
#[derive(Debug)]
pub(crate) struct Packet<T> {
    pub(crate) at: Nanos,
    /// Keeps the order among equal times.
    number: u64,
    pub(crate) tag: T,
    pub(crate) payload: Vec<u8>,
}

impl<T> PartialEq for Packet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Packet<T> {}

impl<T> PartialOrd for Packet<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Packet<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug)]
pub(crate) struct Wire<T> {
    link: Link,
    pub(crate) stats: DirectionStats,
    under_way: BinaryHeap<Reverse<Packet<T>>>,
    under_way_bytes: usize,
    cap_bytes: usize,
    number: u64,
    spare: Vec<Vec<u8>>,
}

impl<T: Copy> Wire<T> {
    pub(crate) fn new(profile: Profile, seed: u64, cap_bytes: usize) -> Self {
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

    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.link.set_profile(profile);
    }

    /// Says how many copies of `payload` (0, 1 or 2) must be sent at once, with the flipped bit
    /// already in place; copies that are due later are kept.
    ///
    /// The caller has sent all that was due at `now` before, so that order is kept.
    pub(crate) fn admit(&mut self, now: Nanos, tag: T, payload: &mut [u8]) -> usize {
        let (at, duplicate) = match self.link.admit(now, payload.len()) {
            Fate::Blocked => {
                self.stats.blocked += 1;
                return 0;
            }
            Fate::Policed => {
                self.stats.policed += 1;
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
            self.keep(at, tag, payload);
        }
        0
    }

    /// The next packet that is due at `now`; give its buffer back to `recycle`.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Packet<T>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(packet) = self.under_way.pop()?;
        self.under_way_bytes -= packet.payload.len() + PACKET_OVERHEAD;
        Some(packet)
    }

    /// How many packets are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    pub(crate) fn next_due(&self) -> Option<Nanos> {
        self.under_way.peek().map(|Reverse(packet)| packet.at)
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }

    /// Counts a packet that was handed to the system, or that the system refused.
    pub(crate) fn count_sent(&mut self, len: usize, accepted: bool) {
        if accepted {
            self.stats.delivered += 1;
            self.stats.delivered_bytes += len as u64;
        } else {
            self.stats.refused += 1;
        }
    }

    /// Throws away what is under way and counts it as blocked.
    pub(crate) fn cut(&mut self) {
        self.stats.blocked += self.under_way.len() as u64;
        self.under_way.clear();
        self.under_way_bytes = 0;
        self.link.clear();
    }

    fn keep(&mut self, at: Nanos, tag: T, payload: &[u8]) {
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
        self.under_way.push(Reverse(Packet { at, number: self.number, tag, payload: buffer }));
    }
}
