//! The beginning: what the journal says is brought together with what the disk says, whatever moment the last run ended
//! at.

use std::time::Duration;

use files::RelPath;

use super::{Keeper, Result};
use crate::block::BLOCK;
use crate::receive::journal::{Wanted, What};
use crate::receive::note::{Feedback, PAGE_OBJECT};

/// Rows that are gone through at a time.
const BATCH: usize = 1000;

/// What nobody has added to for so long is swept from the staging.
const SWEPT_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

impl Keeper {
    pub(super) fn heal(&mut self) -> Result {
        self.begin_sender()?;
        self.load()?;
        self.feed(Feedback::Reset(self.settled.clone()));
        self.load_held()?;
        // Moves that were under way come before anything that could come to their old paths.
        if self.place.moving > self.place.entry {
            self.apply_pages()?;
        }
        self.forget_unkept()?;
        self.recognise_wanted()?;
        self.report_again();
        self.publish_claimed()?;
        self.remove_doomed(self.place.complete)?;
        // What cannot be swept now is swept another time.
        let _ = self.context.staging.sweep(SWEPT_AFTER);
        self.advance()
    }

    /// Another sender numbers its generations and objects anew. What the tree is stays known, as of long ago: its first
    /// manifest is a full one and names what is to stay.
    fn begin_sender(&mut self) -> Result {
        let sender = self.context.line.identity;
        let known = self.tx().meta("sender")?;
        if known.as_deref() == Some(sender.as_bytes()) {
            return Ok(());
        }
        if known.is_some() {
            let staged = self.tx().staged()?;
            self.tx().forget_sender()?;
            let mut after: Option<RelPath> = None;
            loop {
                let entries = self.tx().below(&RelPath::root(), after.as_ref(), BATCH)?;
                let Some((last, _)) = entries.last() else { break };
                after = Some(last.clone());
                for (path, mut entry) in entries {
                    if entry.is_wanted {
                        self.drop_entry(&path)?;
                    } else {
                        entry.seen = 0;
                        self.tx().put_entry(&path, &entry)?;
                    }
                }
            }
            for (object, _) in staged {
                self.discard(object)?;
            }
        }
        self.tx().put_meta("sender", sender.as_bytes())?;
        Ok(())
    }

    fn load(&mut self) -> Result {
        self.has_links = self.tx().has_links()?;
        let tx = self.tx();
        let (place, settled) = (tx.place()?, tx.settled()?);
        let (pages, ends) = (tx.pages()?, tx.ends()?);
        let staged = tx.staged()?;
        let highest = tx.meta_number("highest")?.unwrap_or(0);
        let highest_page = tx.meta_number("highest_page")?.unwrap_or(PAGE_OBJECT);
        let next_quarantine = tx.meta_number("next_quarantine")?.unwrap_or(1);
        let set_back = tx.meta("set_back")?.unwrap_or_default();
        let held_back = tx.meta("held_back")?.unwrap_or_default();
        let held_back = held_back
            .chunks_exact(8)
            .map(|number| u64::from_be_bytes(std::array::from_fn(|byte| number[byte])));
        self.held_back = held_back.collect();
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(*bytes.first_chunk()?));
        self.set_back = number(&set_back)
            .zip(set_back.get(8..).and_then(number))
            .filter(|(generation, _)| *generation > 0);
        (self.place, self.settled, self.highest) = (place, settled, highest);
        (self.highest_page, self.next_quarantine) = (highest_page, next_quarantine);
        for (generation, page, base, length) in pages {
            self.pages.insert((generation, page), (base, length));
        }
        self.ends = ends.into_iter().map(|end| (end.generation, end)).collect();
        self.staged = staged.into_iter().collect();
        let mut after: Option<RelPath> = None;
        loop {
            let doomed = self.tx().doomed(after.as_ref(), BATCH)?;
            let Some((last, _)) = doomed.last() else { break };
            after = Some(last.clone());
            for (_, generation) in doomed {
                *self.doomed.entry(generation).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Counts what is wanted, and looks which of it is there: it was published after the journal was written last.
    fn recognise_wanted(&mut self) -> Result {
        self.wanted.clear();
        let mut after: Option<Wanted> = None;
        loop {
            let wanted = self.tx().wanted_after(after.as_ref(), BATCH)?;
            let Some(last) = wanted.last() else { return Ok(()) };
            after = Some(last.clone());
            for wanted in wanted {
                *self.wanted.entry(wanted.generation).or_default() += 1;
                let entry = self.tx().entry(&wanted.path)?;
                let Some(What::File { told, size, .. }) = entry.map(|entry| entry.what) else {
                    continue;
                };
                if self.staged.contains_key(&wanted.object) {
                    self.claimed.insert(wanted.object);
                }
                if !self.looks_like(&wanted.path, size, &told) {
                    continue;
                }
                if size <= BLOCK as u64 {
                    self.recognise(&wanted.path)?;
                } else {
                    self.checks.push_back(wanted.path);
                }
            }
        }
    }
}
