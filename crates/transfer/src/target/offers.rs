//! What a source offers, leaves, takes back and sums up, held against what it said before.

use files::{Digest, RelPath};

use super::entries::{File, Folder, State};
use super::job::{Failed, Job, Placed, Spot};
use super::twins::Ours;
use super::{MAX_NAMES_BYTES, Target};
use crate::Violation;
use crate::message::{
    Deletion, ENTRY_COST, Entry, Existing, MAX_OUTCOME_TEXT, MIN_WINDOW, Need, Outcome, RefuseCode,
    Why, capped_at,
};

impl Target {
    pub(super) fn offered(&mut self, entry: Entry) -> Result<(), Violation> {
        if entry.index <= self.highest {
            return self.offered_again(&entry);
        }
        if self.finishing {
            // A file that failed here and changed there at the same moment: the source sees that it was
            // not taken when the receipt comes.
            return match entry.is_folder() {
                true => Err(Violation("offer after the end")),
                false => Ok(()),
            };
        }
        // Indexes have no gaps, or the count at the end would prove nothing.
        if entry.index != self.highest + 1 {
            return Err(Violation("an index was left out"));
        }
        // A file that changed is offered anew; the source says the end again behind it.
        self.ended_at = None;
        // A source that never confirms outcomes would make them pile up here.
        if self.outcomes.len() as u64 * ENTRY_COST as u64 > 2 * self.options.window {
            return Err(Violation("outcomes are not confirmed"));
        }
        let finished = self.folders.get(&entry.parent).is_none_or(|folder| folder.finishing);
        if finished {
            return self.refuse_late(entry);
        }
        self.highest = entry.index;
        // Many peers have smaller windows, and less room for names.
        let names_cap = MAX_NAMES_BYTES.min(32 * self.options.window as usize);
        let parent =
            self.folders.get_mut(&entry.parent).ok_or(Violation("offer in an unknown folder"))?;
        parent.pending += 1;
        let others = self.names_bytes - parent.names_bytes;
        parent.keep_name(&entry.name, names_cap.saturating_sub(others));
        self.names_bytes = others + parent.names_bytes;
        let path = parent.source_path.join(&entry.name);
        let name = match (&self.options.rename_top, entry.parent) {
            (Some(name), 0) => name.clone(),
            _ => entry.name.clone(),
        };
        let spot = Spot { folder: parent.path.clone(), name };
        let parent_failed = parent.failure.is_some();
        let (Ok(source_path), Some(target_path)) = (path, spot.path()) else {
            return self.refuse_unplaced(entry, spot);
        };
        let placed = Placed { entry, spot };
        let index = placed.entry.index;
        self.charge(placed.entry.cost(source_path.as_bytes().len()))?;
        if placed.entry.is_folder() {
            let names = self.options.deletion != Deletion::No;
            let folder = Folder::new(placed.clone(), source_path, target_path, names);
            self.folders.insert(index, folder);
        } else {
            self.files.insert(index, File::new(placed.clone()));
        }
        if parent_failed {
            let text = "the folder it lies in could not be made".to_owned();
            self.entry_failed(index, Failed { code: RefuseCode::NotFound, text });
            return Ok(());
        }
        self.examine.push_back(placed);
        Ok(())
    }

    /// What changed while it was read is offered anew after its folder was left. If it failed here at the
    /// same moment, the folder may have been finished without it.
    fn refuse_late(&mut self, entry: Entry) -> Result<(), Violation> {
        if entry.is_folder() || self.files.contains_key(&entry.parent) {
            return Err(Violation("offer in an unknown folder"));
        }
        self.highest = entry.index;
        let spot = Spot { folder: RelPath::root().into(), name: entry.name.clone() };
        let index = entry.index;
        self.charge(entry.cost(0))?;
        self.files.insert(index, File::new(Placed { entry, spot }));
        let text = "the folder it lies in is finished".to_owned();
        self.entry_failed(index, Failed { code: RefuseCode::NotFound, text });
        Ok(())
    }

    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Violation> {
        self.live_cost += cost;
        match self.live_cost > self.options.window.max(MIN_WINDOW) {
            true => Err(Violation("too many unfinished entries")),
            false => Ok(()),
        }
    }

    /// A path that is too long or too deep for this side.
    pub(super) fn refuse_unplaced(&mut self, entry: Entry, spot: Spot) -> Result<(), Violation> {
        let index = entry.index;
        let source_path = RelPath::root();
        let placed = Placed { entry, spot };
        self.charge(placed.entry.cost(0))?;
        if placed.entry.is_folder() {
            let folder = Folder::new(placed, source_path.clone(), source_path, false);
            self.folders.insert(index, folder);
        } else {
            self.files.insert(index, File::new(placed));
        }
        let text = "the path is too long or too deep".to_owned();
        self.entry_failed(index, Failed { code: RefuseCode::NotFound, text });
        Ok(())
    }

    /// After a cut the source offers its unfinished entries again: those that wait for content ask
    /// for what is still missing.
    pub(super) fn offered_again(&mut self, entry: &Entry) -> Result<(), Violation> {
        if let Some(folder) = self.folders.get(&entry.index) {
            return match &folder.placed {
                Some(placed) if placed.entry == *entry => Ok(()),
                _ => Err(Violation("an index was used twice")),
            };
        }
        // It ended while the link was new, and its outcome is on the way.
        let Some(file) = self.files.get_mut(&entry.index) else { return Ok(()) };
        if file.placed.entry != *entry {
            return Err(Violation("an index was used twice"));
        }
        if file.asked {
            return Ok(());
        }
        if matches!(file.state, State::Weighing { theirs: None, .. }) {
            self.ask_digest(entry.index);
        } else if let Some(need) = file.need_again() {
            self.ask_content(need);
        }
        Ok(())
    }

    /// Asks for content, once on each link: without one it is asked when the entry is offered again.
    pub(super) fn ask(&mut self, need: Need) {
        if !self.ready {
            return;
        }
        if let Some(file) = self.files.get_mut(&need.index) {
            file.asked = true;
        }
        self.needs.push(need);
    }

    /// Whether an entry has ended. What the source says of it crosses with the outcome, and is no breach.
    pub(super) fn has_ended(&self, index: u64) -> bool {
        (index <= self.highest || self.finishing)
            && !self.files.contains_key(&index)
            && !self.folders.contains_key(&index)
    }

    pub(super) fn left(&mut self, index: u64, complete: bool) -> Result<(), Violation> {
        if self.has_ended(index) {
            return Ok(());
        }
        if index == 0 && !self.options.contents {
            return Err(Violation("the target folder itself is not what is sent"));
        }
        let folder = self.folders.get_mut(&index).ok_or(Violation("unknown folder left"))?;
        // Repeated after a cut; the first word counts.
        folder.left.get_or_insert(complete);
        if index == 0 {
            self.contents_left = true;
        }
        self.finish_folder_if_done(index);
        Ok(())
    }

    /// An offer is taken back, for ever if there is a reason for it.
    pub(super) fn withdrawn(&mut self, index: u64, lost: Option<String>) -> Result<(), Violation> {
        if self.has_ended(index) {
            return Ok(());
        }
        self.unclaim(index);
        let file = self.files.get_mut(&index).ok_or(Violation("unknown entry withdrawn"))?;
        file.lost = lost.map(|reason| capped_at(&reason, MAX_OUTCOME_TEXT).to_owned());
        match std::mem::replace(&mut file.state, State::Withdrawn) {
            State::Withdrawn => Ok(()),
            State::Receiving { .. } => {
                self.jobs.push_back(Job::Discard { index, remove: false });
                self.close_large();
                self.end_entry(index, Outcome::Withdrawn);
                Ok(())
            }
            // A disk job is under way for it: its result ends the entry.
            state @ (State::Examining
            | State::Busy
            | State::Opening
            | State::Publishing
            | State::Weighing { ours: Ours::Hashing, .. }
            | State::Filling) => {
                file.withdrawn = true;
                file.state = state;
                Ok(())
            }
            State::WaitingForSlot
            | State::Wanted
            | State::Comparing { .. }
            | State::Seeking
            | State::Weighing { .. }
            | State::WaitingForLink => {
                self.end_entry(index, Outcome::Withdrawn);
                Ok(())
            }
        }
    }

    pub(super) fn summed(&mut self, index: u64, digest: Digest) -> Result<(), Violation> {
        if self.has_ended(index) {
            return Ok(());
        }
        let file = self.files.get_mut(&index).ok_or(Violation("sum of an unknown entry"))?;
        match &mut file.state {
            State::Receiving { sum, .. } => *sum = Some(digest),
            State::Weighing { theirs: theirs @ None, .. } => {
                *theirs = Some(digest);
                self.weigh(index);
                return Ok(());
            }
            // The source compared, and has something else.
            State::Comparing { .. } => {
                file.why = Why::Content;
                match self.options.existing {
                    Existing::Skip | Existing::Fail => self.exists(index),
                    Existing::Overwrite | Existing::Rename => self.want_content(index),
                }
                return Ok(());
            }
            _ => return Err(Violation("sum of a file that is not being received")),
        }
        self.publish_if_complete(index);
        Ok(())
    }

    pub(super) fn same(&mut self, index: u64) -> Result<(), Violation> {
        if self.has_ended(index) {
            return Ok(());
        }
        let file = self.files.get_mut(&index).ok_or(Violation("unknown entry is the same"))?;
        let State::Comparing { have } = file.state else {
            return Err(Violation("same without a comparison"));
        };
        file.compared = Some(have);
        if self.options.dry_run {
            self.end_entry(index, Outcome::Unchanged(have));
            return Ok(());
        }
        file.state = State::Busy;
        self.jobs.push_back(Job::Adopt(file.placed.clone()));
        Ok(())
    }
}
