//! How often something may come from one address. Pure: times are given.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::counted;

/// Addresses that are remembered. Beyond them the one whose time began first is forgotten.
const MOST: usize = 1_024;

/// Counts by address, each over a time that begins with the first.
#[derive(Debug)]
pub(super) struct PerAddress {
    span: Duration,
    most: usize,
    seen: HashMap<IpAddr, (Instant, usize)>,
}

impl PerAddress {
    pub(super) fn new(span: Duration, most: usize) -> Self {
        Self { span, most, seen: HashMap::new() }
    }

    /// Whether one more may come from this address now.
    pub(super) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        self.seen.get(&counted(address)).is_none_or(|(began, count)| {
            now.saturating_duration_since(*began) >= self.span || *count < self.most
        })
    }

    /// One came.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) {
        let address = counted(address);
        let is_over = |began: &Instant| now.saturating_duration_since(*began) >= self.span;
        if !self.seen.contains_key(&address) && self.seen.len() >= MOST {
            let oldest = self.seen.iter().min_by_key(|(_, (began, _))| *began);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.seen.remove(&oldest);
            }
        }
        let entry = self.seen.entry(address).or_insert((now, 0));
        if is_over(&entry.0) {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}
