//! Ends of generations: when all pages were applied, when all of it is there, and what the tree comes to then.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::{Keeper, Result};
use crate::event::{DiodeEvent, Refusal, Tally};
use crate::receive::compare;
use crate::receive::journal::{Wanted, What};
use crate::receive::note::{Feedback, Job, Note, PAGE_OBJECT};
use crate::record::GenerationEnd;

/// How many ends may wait for their pages.
const MOST_ENDS: usize = 4096;

/// After this what has not arrived of a generation is called missing.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);

/// Rows that are gone through at a time.
const BATCH: usize = 1000;

/// A generation whose pages were all applied, and of which is told what it came to.
pub(super) struct Report {
    end: GenerationEnd,
    since: SystemTime,
    is_complete: bool,
    /// It was told before everything was there.
    was_told: bool,
    is_due: bool,
}

impl Keeper {
    pub(super) fn ended(&mut self, end: GenerationEnd) -> Result {
        let line = &self.context.line;
        let generation = end.generation;
        self.heard = self.heard.max(generation);
        if generation <= self.place.whole || self.ends.contains_key(&generation) {
            return Ok(());
        }
        if !end.is_signed(&line.identity, line.epoch) {
            self.refuse(Refusal::Unsigned);
            return Ok(());
        }
        if self.is_astray(generation, end.base) {
            return Ok(());
        }
        if self.ends.len() >= MOST_ENDS {
            // The highest comes again with the heartbeats, when its turn comes nearer.
            if let Some((last, _)) = self.ends.pop_last() {
                self.tx().remove_end(last)?;
            }
        }
        self.is_dirty = true;
        self.tx().put_end(&end)?;
        self.ends.insert(generation, end);
        Ok(())
    }

    /// Goes on as far as what has come allows.
    pub(super) fn advance(&mut self) -> Result {
        self.end_pages()?;
        self.apply_pages()?;
        let place = &self.place;
        let has_wanted = self.wanted.contains_key(&place.whole);
        if place.whole == place.generation && place.whole > place.complete && !has_wanted {
            return self.complete();
        }
        let is_complete = place.whole == place.generation && place.whole == place.complete;
        if is_complete && self.wanted.is_empty() && self.is_touched {
            // What was missing when a later generation was complete has come since.
            self.finish_folders()?;
            if let Some(report) = self.reports.get_mut(&self.place.complete) {
                report.is_due = true;
                return self.compare();
            }
        }
        Ok(())
    }

    /// What is to be told of the last generation, after a restart.
    pub(super) fn report_again(&mut self) {
        let whole = self.place.whole;
        let is_complete = self.place.complete == whole;
        let Some(end) = self.ends.get(&whole).cloned() else { return };
        if !is_complete || !self.wanted.is_empty() {
            let report =
                Report { end, since: self.now, is_complete, was_told: true, is_due: false };
            self.reports.insert(whole, report);
        }
    }

    /// Whether all pages of the generation were applied, as its end says.
    pub(super) fn end_pages(&mut self) -> Result {
        let place = self.place;
        if place.generation == place.whole {
            return Ok(());
        }
        let Some(end) = self.ends.get(&place.generation) else { return Ok(()) };
        let fits = (end.base, end.pages, end.last_page) == (place.base, place.page, place.last);
        if !fits || place.page == 0 {
            return Ok(());
        }
        let end = end.clone();
        self.is_dirty = true;
        if place.base == 0 {
            self.doom_unnamed()?;
        }
        self.place.whole = place.generation;
        self.link_waiting()?;
        // Its own is kept for what is to be told when what is missing has come, also after a restart.
        while let Some(first) = self.ends.first_entry().filter(|end| *end.key() < place.generation)
        {
            let generation = *first.key();
            first.remove();
            self.tx().remove_end(generation)?;
        }
        let report =
            Report { end, since: self.now, is_complete: false, was_told: false, is_due: false };
        // What a later one comes to says more.
        self.reports.clear();
        self.reports.insert(place.generation, report);
        Ok(())
    }

    /// A full manifest was applied: what it does not name is to be removed.
    fn doom_unnamed(&mut self) -> Result {
        let generation = self.place.generation;
        let mut after = None;
        loop {
            let entries = self.tx().below(&files::RelPath::root(), after.as_ref(), BATCH)?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            after = Some(last.clone());
            for (path, entry) in entries {
                if entry.seen != generation {
                    self.doom(&path)?;
                }
            }
        }
    }

    /// Everything that the last generation brings is there.
    fn complete(&mut self) -> Result {
        let generation = self.place.whole;
        self.is_dirty = true;
        self.link_waiting()?;
        self.remove_doomed(generation)?;
        self.finish_folders()?;
        self.settle_passed()?;
        // Only now: what is committed before this is done once more if we are killed.
        self.place.complete = generation;
        if let Some(report) = self.reports.get_mut(&generation) {
            (report.is_complete, report.is_due) = (true, true);
        }
        self.compare()
    }

    /// Folders in which something changed get their attributes, the innermost first.
    pub(super) fn finish_folders(&mut self) -> Result {
        (self.touched, self.is_touched) = (None, false);
        loop {
            let folders = self.tx().untouch(BATCH)?;
            if folders.is_empty() {
                return Ok(());
            }
            for path in folders {
                let entry = self.tx().entry(&path)?;
                let Some(What::Folder { told }) = entry.map(|entry| entry.what) else { continue };
                if let Err(error) = self.ground.dress_folder(&path, &told) {
                    self.failed(&path, &error);
                }
            }
        }
    }

    /// Objects of which nothing is wanted, that are older than what the complete generation named, and that no later one
    /// names, are wanted no more.
    fn settle_passed(&mut self) -> Result {
        let open = self.ends.get(&self.place.whole).map_or(0, |end| end.open);
        let (last, mut but) = (self.highest.min(open.saturating_sub(1)), HashSet::new());
        let mut after: Option<Wanted> = None;
        loop {
            let wanted = self.tx().wanted_after(after.as_ref(), BATCH)?;
            let Some(end) = wanted.last() else { break };
            after = Some(end.clone());
            but.extend(wanted.iter().map(|wanted| wanted.object));
        }
        self.settled.insert_range(0, last);
        self.settled.insert_range(PAGE_OBJECT, self.highest_page);
        for object in &but {
            self.settled.remove(*object);
        }
        self.forget_held_to(last, &but)?;
        self.whole.retain(|object, _| *object > last || but.contains(object));
        let highest_page = self.highest_page;
        self.parts.retain(|object, _| *object > highest_page);
        self.job(Job::Settled { last, but: but.clone() });
        self.feed(Feedback::Settled { last, but });
        Ok(())
    }

    /// Tells of a generation that has ended and of which something has not come in time.
    pub(super) fn report(&mut self) -> Result {
        let now = self.now;
        let mut is_due = false;
        for report in self.reports.values_mut() {
            let waited = now.duration_since(report.since).unwrap_or_default();
            if waited >= ARRIVES_WITHIN && !report.was_told && !report.is_complete {
                report.is_due = true;
            }
            is_due |= report.is_due;
        }
        if is_due {
            self.finish_folders()?;
            self.compare()?;
        }
        Ok(())
    }

    /// Compares the tree with the journal, beside all else.
    fn compare(&mut self) -> Result {
        let due = self.reports.iter().find(|(_, report)| report.is_due).map(|(at, _)| *at);
        let Some(generation) = due.filter(|_| !self.is_comparing) else { return Ok(()) };
        self.commit()?;
        let (view, root) = (self.journal.read()?, self.context.root.clone());
        let notes = self.context.notes.clone();
        self.is_comparing = true;
        let compared =
            std::thread::Builder::new().name("diode-compare".to_owned()).spawn(move || {
                let tally = compare::compare(&root, &view);
                let _ = notes.send(Note::Tallied { generation, tally });
            });
        // Without a thread nothing is compared this time.
        self.is_comparing = compared.is_ok();
        Ok(())
    }

    pub(super) fn tallied(&mut self, generation: u64, tally: Tally) -> Result {
        self.is_comparing = false;
        self.context.shared.status().tree.tally = Some((generation, tally));
        if let Some(report) = self.reports.get_mut(&generation) {
            report.is_due = false;
            report.was_told = true;
            let (end, is_complete) = (report.end.clone(), report.is_complete);
            self.tell(&DiodeEvent::Generation {
                number: generation,
                files: end.files,
                bytes: end.bytes,
                removed: end.removed,
                tally,
            });
            let files = self.tx().wanted()?;
            if files > 0 {
                self.tell(&DiodeEvent::Missing { generation, files });
            }
            if is_complete && files == 0 {
                self.reports.remove(&generation);
            }
        }
        self.compare()
    }
}
