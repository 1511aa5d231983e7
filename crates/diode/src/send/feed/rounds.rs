//! When to look at the tree, and what is done in between.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use files::RelPath;
use tree::{Extent, Hint, Watch};

use super::{Feed, Result, Unsettled};
use crate::send::SendError;
use crate::send::SendEvent;
use crate::send::engine::now_ms;

/// How long nothing is looked at, at most.
const TURN: Duration = Duration::from_millis(20);

/// A generation that waits for a large file to be read ends without it after so long.
const MOST_OPEN: Duration = Duration::from_secs(3);

/// A pass over everything that was not settled is followed by a pause of so many times as long as it took.
const PAUSE: u32 = 10;

/// Folders with something unsettled that are looked at one by one.
const MOST_PENDING: usize = 10_000;

/// A single pass waits for files that are being written no longer than this.
const MOST_UNSETTLED: Duration = Duration::from_secs(30);

/// Folders that are to be looked at again, since something in them had not settled.
#[derive(Default)]
struct Pending {
    folders: BTreeSet<RelPath>,
    at: Option<Instant>,
    /// There are too many: the whole tree is looked at.
    all_at: Option<Instant>,
}

impl Pending {
    /// Something has not settled. A look at the whole tree waits for this pause at least.
    fn add(&mut self, unsettled: Unsettled, pause: Duration) {
        let at = Instant::now() + unsettled.wait;
        if unsettled.has_more || self.folders.len() + unsettled.folders.len() > MOST_PENDING {
            self.all_at.get_or_insert(at.max(Instant::now() + pause));
        } else {
            self.folders.extend(unsettled.folders);
            self.at.get_or_insert(at);
        }
    }

    /// What is to be looked at by now.
    fn due(&mut self) -> Option<Extent> {
        if self.all_at.is_some_and(|at| Instant::now() >= at) {
            *self = Self::default();
            return Some(Extent::All);
        }
        self.at.filter(|at| Instant::now() >= *at)?;
        self.at = None;
        Some(Extent::Folders(std::mem::take(&mut self.folders).into_iter().collect()))
    }
}

impl Feed<'_> {
    /// Sends what there is and what changes, until it is told to stop.
    pub(crate) fn run(&mut self, mut watch: Option<Watch>) -> Result<()> {
        self.resume()?;
        let mut extent = Extent::All;
        let (mut looked_at_all, mut open_since) = (Instant::now(), None);
        let mut pending = Pending::default();
        loop {
            let began = Instant::now();
            let unsettled = self.pass(&extent)?;
            let took = began.elapsed();
            if matches!(extent, Extent::All) {
                looked_at_all = began;
            }
            // Folders that are looked at often cost little; the whole tree may cost much.
            if let Some(unsettled) = unsettled {
                pending.add(unsettled, took * PAUSE);
            }
            extent = loop {
                let hint = self.turn(watch.as_mut(), &mut open_since)?;
                let next = self.options.every.saturating_sub(looked_at_all.elapsed());
                self.control.set_next_scan_s(next.as_secs());
                if next.is_zero() || matches!(hint, Hint::Everything) || self.asked_to_scan {
                    self.asked_to_scan = false;
                    break Extent::All;
                }
                if let Hint::Folders(folders) = hint {
                    break Extent::Folders(folders);
                }
                if let Some(extent) = pending.due() {
                    break extent;
                }
            };
        }
    }

    /// One turn between two scans.
    fn turn(
        &mut self,
        watch: Option<&mut Watch>,
        open_since: &mut Option<Instant>,
    ) -> Result<Hint> {
        let is_watched = watch.is_some();
        let hint = match watch {
            Some(watch) => watch.wait(TURN)?,
            None => Hint::Nothing,
        };
        // The watch has waited already.
        self.serve(if is_watched { Duration::ZERO } else { TURN })?;
        self.repeat()?;
        self.requests()?;
        // Large files that are still read may come into the same generation for a while.
        if self.draft.has_told() {
            let since = *open_since.get_or_insert_with(Instant::now);
            if self.reading.is_empty() || since.elapsed() >= MOST_OPEN {
                self.end_generation()?;
                *open_since = None;
            }
        } else {
            *open_since = None;
        }
        let full_every = u64::try_from(self.options.full_every.as_millis()).unwrap_or(u64::MAX);
        let is_due = self.last_full_ms.is_some_and(|at| now_ms() >= at.saturating_add(full_every));
        // After a setback it names what is being read, too.
        let may_tell = !self.run.is_set_back || self.reading.is_empty();
        if (self.wants_full || is_due) && may_tell {
            self.full_manifest()?;
        }
        if self.is_stopped() {
            return Err(SendError::Stopped);
        }
        Ok(hint)
    }

    /// Sends the tree once, with all its repeats, and returns when the last has gone out.
    pub(crate) fn run_once(&mut self) -> Result<()> {
        self.resume()?;
        let began = Instant::now();
        loop {
            let unsettled = self.pass(&Extent::All)?;
            while !self.reading.is_empty() || !self.large.is_empty() || !self.fresh.is_empty() {
                self.turn_once()?;
            }
            // What changed while it was read is looked at once more.
            let has_failed = std::mem::take(&mut self.asked_to_scan);
            let wait = match unsettled {
                Some(unsettled) => unsettled.wait,
                None if has_failed => self.options.settle.max(TURN),
                None => break,
            };
            if began.elapsed() + wait > MOST_UNSETTLED {
                self.event(SendEvent::Unsettled { files: self.control.status().unsettled });
                break;
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                self.turn_once()?;
            }
        }
        self.end_generation()?;
        loop {
            self.requests()?;
            if self.wants_full {
                self.full_manifest()?;
            }
            self.turn_once()?;
            self.repeat()?;
            if self.draft.has_told() {
                self.end_generation()?;
            }
            let (waiting, repeats) = self.ledger.counts()?;
            let is_idle =
                self.under_way.is_empty() && self.again.is_empty() && self.asked.is_empty();
            if is_idle && waiting == 0 && repeats == 0 && self.outbox.is_empty() {
                return Ok(());
            }
        }
    }

    /// Does what was asked for.
    pub(super) fn requests(&mut self) -> Result<()> {
        while let Some(request) = self.control.next_request() {
            self.asked_to_scan |= self.request(request)?;
        }
        Ok(())
    }

    fn turn_once(&mut self) -> Result<()> {
        self.serve(TURN)?;
        if self.is_stopped() { Err(SendError::Stopped) } else { Ok(()) }
    }
}
