//! When to look at the tree, and what is done in between.

use std::time::{Duration, Instant};

use tree::{Extent, Hint, Watch};

use super::{Feed, Result};
use crate::send::SendError;
use crate::send::SendEvent;

/// How long nothing is looked at, at most.
const TURN: Duration = Duration::from_millis(20);

/// A generation that waits for a large file to be read ends without it after so long.
const MOST_OPEN: Duration = Duration::from_secs(3);

/// A pass over everything that was not settled is followed by a pause of so many times as long as it took.
const PAUSE: u32 = 10;

/// A single pass waits for files that are being written no longer than this.
const MOST_UNSETTLED: Duration = Duration::from_secs(30);

impl Feed<'_> {
    /// Sends what there is and what changes, until it is told to stop.
    pub(crate) fn run(&mut self, mut watch: Option<Watch>) -> Result<()> {
        self.resume()?;
        let mut extent = Extent::All;
        let (mut looked_at_all, mut open_since) = (Instant::now(), None);
        loop {
            let began = Instant::now();
            let unsettled = self.pass(&extent)?;
            let took = began.elapsed();
            if matches!(extent, Extent::All) {
                looked_at_all = began;
            }
            // Folders that are looked at often cost little; the whole tree may cost much.
            let again = unsettled.map(|unsettled| match unsettled.has_more {
                true => (Instant::now() + unsettled.wait.max(took * PAUSE), Extent::All),
                false => (Instant::now() + unsettled.wait, Extent::Folders(unsettled.folders)),
            });
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
                if let Some((at, extent)) = &again
                    && Instant::now() >= *at
                {
                    break extent.clone();
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
        let is_due = self.last_full.is_some_and(|at| at.elapsed() >= self.options.full_every);
        if self.wants_full || is_due {
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
        while let Some(unsettled) = self.pass(&Extent::All)? {
            let wait = unsettled.wait;
            if began.elapsed() + wait > MOST_UNSETTLED {
                self.event(SendEvent::Unsettled { files: self.control.status().unsettled });
                break;
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                self.turn_once()?;
            }
        }
        while !self.reading.is_empty() || !self.large.is_empty() {
            self.turn_once()?;
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
            let is_idle = self.under_way.is_empty() && self.again.is_empty();
            if is_idle && waiting == 0 && repeats == 0 && self.outbox.is_empty() {
                return Ok(());
            }
        }
    }

    /// Does what was asked for.
    fn requests(&mut self) -> Result<()> {
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
