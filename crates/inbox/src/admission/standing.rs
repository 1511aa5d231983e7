//! How those who wait stand: their place under the rules, and when it is likely to be their turn.

use std::fmt;
use std::time::Duration;

use super::line::{Before, Spot};
use super::{Admission, Kind, State, UploadKey};

/// Changed places are looked for this often while hardly anybody waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For each so many that wait, once that time more: each look costs as much as many wait.
const LOOK_LONGER_PER: usize = 1_000;

/// How an upload that waits stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its place among those of its kind that are there, from 1: as many as that less one go before it.
    pub position: u64,
    /// How many of its kind wait.
    pub length: u64,
    /// When it is likely to be its turn, if something drains at all.
    pub estimate: Option<Duration>,
    /// What it waits for.
    pub reason: Reason,
}

/// What an upload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many are under way.
    Turns(usize),
    /// Its disk has no room.
    Disk,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turns(1) => write!(f, "one upload is under way, which is as many as go at once"),
            Self::Turns(count) => {
                write!(f, "{count} uploads are under way, which is as many as go at once")
            }
            Self::Disk => write!(f, "the disk of this inbox has no room for more at the moment"),
        }
    }
}

/// What is under way, for estimates.
struct UnderWay {
    count: usize,
    /// Bytes that are still to come, of all and of the one that has the least.
    left: u128,
    least: u128,
}

impl Admission {
    /// How an upload that waits stands; nothing, if it does not wait.
    pub fn standing(&self, now: Duration, key: &UploadKey) -> Option<Standing> {
        self.standing_beside(now, key, &self.what_is_under_way())
    }

    /// Whose places are others than those that were told last, with the new ones, in no order. It finds nothing if
    /// it is called too soon after it has looked; [`Admission::poll_timeout`] says when it will.
    pub fn changes(&mut self, now: Duration) -> Vec<(UploadKey, Standing)> {
        if !self.changed || now < self.next_look {
            return Vec::new();
        }
        self.close_gaps();
        self.changed = false;
        let longer = u32::try_from(self.waiting / LOOK_LONGER_PER).unwrap_or(u32::MAX);
        self.next_look = now.saturating_add(LOOK_EVERY.saturating_mul(longer.saturating_add(1)));
        let under_way = self.what_is_under_way();
        let mut changes = Vec::new();
        for line in self.lines.values() {
            for ((_, number), _) in line.iter() {
                let Some(key) = self.by_number.get(&number) else { continue };
                let Some(standing) = self.standing_beside(now, key, &under_way) else { continue };
                let told = self.held.get(key).and_then(|held| held.told);
                if told != Some((standing.position, standing.reason)) {
                    changes.push((key.clone(), standing));
                }
            }
        }
        for (key, standing) in &changes {
            if let Some(held) = self.held.get_mut(key) {
                held.told = Some((standing.position, standing.reason));
            }
        }
        changes
    }

    fn standing_beside(
        &self,
        now: Duration,
        key: &UploadKey,
        under_way: &UnderWay,
    ) -> Option<Standing> {
        let held = self.held.get(key).filter(|held| held.state == State::Waits)?;
        let is_shut = self.full_disks.contains(&held.disk);
        let before = self.before(held.kind, held.disk, held.spot);
        let waits = self.lines.range((held.kind, 0)..=(held.kind, usize::MAX));
        let length: usize = waits.map(|(_, line)| line.len()).sum();
        let position = before.count as u64 + 1;
        // Processes that share a rate: the first ends when as much has drained as all had got until then.
        let first = under_way.least.saturating_mul(under_way.count as u128).min(under_way.left);
        let ahead = u64::try_from(first.saturating_add(before.bytes)).unwrap_or(u64::MAX);
        Some(Standing {
            position,
            length: position.max(length as u64),
            estimate: if is_shut { None } else { self.drain.time_left(now, ahead) },
            reason: if is_shut { Reason::Disk } else { Reason::Turns(under_way.count) },
        })
    }

    /// Those that would go before this spot: of its disk, and of all that have room.
    fn before(&self, kind: Kind, disk: usize, spot: Spot) -> Before {
        let mut sum = Before::default();
        for ((_, other), line) in self.lines.range((kind, 0)..=(kind, usize::MAX)) {
            if *other == disk || !self.full_disks.contains(other) {
                let before = line.before(spot);
                sum.count += before.count;
                sum.bytes += before.bytes;
            }
        }
        sum
    }

    fn what_is_under_way(&self) -> UnderWay {
        let left = |key: &UploadKey| {
            let held = self.held.get(key)?;
            Some(u128::from(held.bytes.saturating_sub(held.stored)))
        };
        let lefts: Vec<u128> = self.under_way.iter().filter_map(left).collect();
        UnderWay {
            count: lefts.len(),
            left: lefts.iter().sum(),
            least: lefts.iter().copied().min().unwrap_or(0),
        }
    }
}
