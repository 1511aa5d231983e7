//! Puts what came of a channel back into order: the bytes of a connection by their offset, datagrams by their number.
//! Memory is bounded, and nothing is made up: a gap is filled, or known to be lost. Datagrams do not wait for one
//! another, since those who use them expect them late or not at all, but not later than need be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is missing for so long is lost: it was sent three times within 60 ms.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(1);

/// Bytes of a connection that may wait for what is missing before them.
const MOST_HELD: usize = 8 << 20;

/// Gaps between datagrams that are remembered.
const MOST_GAPS: usize = 4096;

/// Bytes of datagrams of which pieces are missing.
const MOST_PARTIAL: usize = 16 << 20;

/// A number up to which a first datagram counts as seen from the start.
const START: u64 = 256;

/// The bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct StreamOrder {
    /// The offset of the next byte that is wanted.
    next: u64,
    /// What came too early, by offset, and when.
    held: BTreeMap<u64, (Instant, Vec<u8>)>,
    held_bytes: usize,
    /// How long the connection is, once it has ended, and when that came.
    end: Option<(u64, Instant)>,
}

/// More waits for what is missing than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl StreamOrder {
    /// Takes bytes that came, and gives away what is in order now.
    pub(super) fn take(
        &mut self,
        offset: u64,
        bytes: &[u8],
        now: Instant,
        mut give: impl FnMut(&[u8]),
    ) -> Result<(), Full> {
        let Some(end) = offset.checked_add(bytes.len() as u64) else { return Ok(()) };
        if end <= self.next {
            return Ok(());
        }
        if offset > self.next {
            return self.hold(offset, bytes, now);
        }
        give(&bytes[(self.next - offset) as usize..]);
        self.next = end;
        self.advance(give);
        Ok(())
    }

    /// The connection has ended and has so many bytes.
    pub(super) fn end(&mut self, length: u64, now: Instant) {
        self.end.get_or_insert((length, now));
    }

    /// Whether everything was given away.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|(length, _)| self.next >= length)
    }

    /// Whether what is missing is lost: what lies behind it has waited for long enough.
    pub(super) fn has_lost(&self, now: Instant) -> bool {
        let held = self.held.first_key_value().map(|(_, (since, _))| *since);
        let since = held.or(self.end.filter(|_| !self.is_done()).map(|(_, since)| since));
        since.is_some_and(|since| now.saturating_duration_since(since) >= LOST_AFTER)
    }

    /// Goes on behind what is missing. Gives how many bytes that is.
    pub(super) fn skip(&mut self, give: impl FnMut(&[u8])) -> u64 {
        let held = self.held.first_key_value().map(|(offset, _)| *offset);
        let after = held.or(self.end.map(|(length, _)| length));
        let Some(after) = after.filter(|after| *after > self.next) else { return 0 };
        let missing = after - self.next;
        self.next = after;
        self.advance(give);
        missing
    }

    /// How many bytes were given away or skipped.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes wait.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn hold(&mut self, offset: u64, bytes: &[u8], now: Instant) -> Result<(), Full> {
        let there = self.held.get(&offset).map_or(0, |(_, bytes)| bytes.len());
        if there >= bytes.len() {
            return Ok(());
        }
        if self.held_bytes + bytes.len() > MOST_HELD {
            return Err(Full);
        }
        self.held.insert(offset, (now, bytes.to_vec()));
        self.held_bytes += bytes.len() - there;
        Ok(())
    }

    /// Gives away what was held and follows now.
    fn advance(&mut self, mut give: impl FnMut(&[u8])) {
        while let Some(first) = self.held.first_entry().filter(|first| *first.key() <= self.next) {
            let (offset, (_, bytes)) = first.remove_entry();
            self.held_bytes -= bytes.len();
            let known = self.next - offset;
            if let Some(new) = bytes.get(known as usize..).filter(|new| !new.is_empty()) {
                give(new);
                self.next += new.len() as u64;
            }
        }
    }
}

/// The datagrams of one channel.
#[derive(Debug, Default)]
pub(super) struct DatagramOrder {
    /// One more than the highest number that came; None before the first.
    next: Option<u64>,
    /// What is missing below, by first number: one more than the last, and since when.
    missing: BTreeMap<u64, (u64, Instant)>,
    lost: u64,
    partial: BTreeMap<u64, Partial>,
    partial_bytes: usize,
}

/// A datagram of which pieces have come.
#[derive(Debug)]
struct Partial {
    since: Instant,
    bytes: Vec<u8>,
    /// Where each piece begins, and where it ends.
    pieces: BTreeMap<usize, usize>,
}

impl DatagramOrder {
    /// Whether a datagram that came whole is new. Each number is new once.
    pub(super) fn take(&mut self, number: u64, now: Instant) -> bool {
        let next = *self.next.get_or_insert(if number < START { 0 } else { number });
        let Some(after) = number.checked_add(1) else { return false };
        if number >= next {
            if number > next {
                self.missing.insert(next, (number, now));
                if self.missing.len() > MOST_GAPS {
                    self.give_up_first();
                }
            }
            self.next = Some(after);
            return true;
        }
        let Some((first, (end, since))) = self.gap_with(number) else { return false };
        self.missing.remove(&first);
        if first < number {
            self.missing.insert(first, (number, since));
        }
        if after < end {
            self.missing.insert(after, (end, since));
        }
        true
    }

    /// Takes a piece of a datagram of so many bytes. Gives the datagram when it is whole, once.
    pub(super) fn take_piece(
        &mut self,
        number: u64,
        at: u16,
        total: u16,
        bytes: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        let is_wanted =
            self.next.is_none_or(|next| number >= next) || self.gap_with(number).is_some();
        let (at, total) = (usize::from(at), usize::from(total));
        if !is_wanted || bytes.is_empty() || at + bytes.len() > total {
            return None;
        }
        if !self.partial.contains_key(&number) {
            while self.partial_bytes + total > MOST_PARTIAL
                && let Some((_, first)) = self.partial.pop_first()
            {
                self.partial_bytes -= first.bytes.len();
            }
            self.partial_bytes += total;
        }
        let new = || Partial { since: now, bytes: vec![0; total], pieces: BTreeMap::new() };
        let partial = self.partial.entry(number).or_insert_with(new);
        if partial.bytes.len() != total {
            return None;
        }
        partial.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        partial.pieces.insert(at, at + bytes.len());
        let covered = partial.pieces.iter().fold(0, |covered, (from, upto)| {
            if *from <= covered { covered.max(*upto) } else { covered }
        });
        if covered < total {
            return None;
        }
        let whole = self.partial.remove(&number)?.bytes;
        self.partial_bytes -= total;
        self.take(number, now).then_some(whole)
    }

    /// Counts what is missing for too long as lost. What comes of it afterwards is not new.
    pub(super) fn tick(&mut self, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= LOST_AFTER;
        let lost = &mut self.lost;
        self.missing.retain(|first, (end, since)| {
            if is_old(*since) {
                *lost = lost.saturating_add(*end - first);
            }
            !is_old(*since)
        });
        let bytes = &mut self.partial_bytes;
        self.partial.retain(|_, partial| {
            if is_old(partial.since) {
                *bytes -= partial.bytes.len();
            }
            !is_old(partial.since)
        });
    }

    /// Bytes of datagrams of which pieces are missing.
    pub(super) fn held_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// How many were lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Counts everything as lost that is missing still.
    pub(super) fn end(&mut self) {
        while !self.missing.is_empty() {
            self.give_up_first();
        }
    }

    fn gap_with(&self, number: u64) -> Option<(u64, (u64, Instant))> {
        let (first, gap) = self.missing.range(..=number).next_back()?;
        (number < gap.0).then_some((*first, *gap))
    }

    fn give_up_first(&mut self) {
        if let Some((first, (end, _))) = self.missing.pop_first() {
            self.lost = self.lost.saturating_add(end - first);
        }
    }
}

#[cfg(test)]
mod tests;
