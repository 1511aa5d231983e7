//! What is to go: removed, kept out of the tree for a while, or left, as it was asked for; and the brake, which holds back
//! a generation that would remove too much. Nothing is removed before what the same generation brings is there.

use std::time::{Duration, UNIX_EPOCH};

use files::RelPath;

use super::{Keeper, Result};
use crate::event::DiodeEvent;
use crate::receive::Deletes;
use crate::receive::journal::Quarantined;

/// What was in the way is kept for so long, where nothing else is said.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often it is looked what was kept for long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Rows that are gone through at a time.
const BATCH: usize = 500;

/// So much of the quarantine is gone through when a path is looked for.
const MOST_LISTED: usize = 1 << 20;

impl Keeper {
    /// Takes what is at a path out of the tree, since something else is to be there.
    pub(super) fn put_aside(&mut self, path: &RelPath) -> Result<bool> {
        let id = self.quarantine_row(path, 0)?;
        // Written down first, or nobody would know where it came from.
        self.commit()?;
        match self.ground.put_away(path, id) {
            Ok(()) => {
                self.tell(&DiodeEvent::Quarantined { path: path.clone() });
                self.touch_parent(path)?;
                Ok(true)
            }
            Err(error) => {
                self.tx().remove_quarantined(id)?;
                self.failed(path, &error);
                Ok(false)
            }
        }
    }

    fn quarantine_row(&mut self, path: &RelPath, generation: u64) -> Result<u64> {
        let id = self.next_quarantine;
        self.next_quarantine += 1;
        let row = Quarantined { path: path.clone(), time_ms: self.now_ms(), generation };
        self.tx().put_quarantined(id, &row)?;
        self.is_dirty = true;
        Ok(id)
    }

    /// Removes what is to go by the generations up to this one, which is complete, but for those that are held back.
    pub(super) fn remove_doomed(&mut self, upto: u64) -> Result {
        self.pull_brake(upto)?;
        let is_ready = |keeper: &Self, generation: u64| {
            generation <= upto && !keeper.held_back.contains(&generation)
        };
        if !self.doomed.keys().any(|generation| is_ready(self, *generation)) {
            return Ok(());
        }
        let mut after: Option<RelPath> = None;
        loop {
            let doomed = self.tx().doomed(after.as_ref(), BATCH)?;
            let Some((last, _)) = doomed.last() else { return Ok(()) };
            after = Some(last.clone());
            let (mut gone, mut inside): (Vec<(RelPath, u64)>, Option<RelPath>) = (Vec::new(), None);
            for (path, generation) in doomed {
                if inside.as_ref().is_some_and(|folder| path.starts_with(folder)) {
                    continue;
                }
                if !is_ready(self, generation) {
                    continue;
                }
                // A folder in which something is to stay, stays; what else was in it comes behind.
                if !self.tx().below(&path, None, 1)?.is_empty() {
                    self.spare(&path)?;
                    continue;
                }
                // So does one in which something is held back: it goes with that.
                if !self.held_back.is_empty() && self.has_unready_below(&path, &is_ready)? {
                    continue;
                }
                inside = Some(path.clone());
                gone.push((path, generation));
            }
            self.remove_all(&gone)?;
        }
    }

    /// Whether something at a path or below it is to go only later.
    fn has_unready_below(
        &self,
        path: &RelPath,
        is_ready: &impl Fn(&Self, u64) -> bool,
    ) -> Result<bool> {
        let mut after = path.clone();
        loop {
            let doomed = self.tx().doomed(Some(&after), BATCH)?;
            let Some((last, _)) = doomed.last() else { return Ok(false) };
            after = last.clone();
            for (other, generation) in &doomed {
                if !other.starts_with(path) {
                    return Ok(false);
                }
                if !is_ready(self, *generation) {
                    return Ok(true);
                }
            }
        }
    }

    fn pull_brake(&mut self, upto: u64) -> Result {
        let options = self.context.options.clone();
        let entries = self.tx().entries()?;
        let all: u64 = entries + self.doomed.values().sum::<u64>();
        let ready = self.doomed.range(..=upto);
        let is_too_much =
            |count: u64| count > options.brake_least && count as f64 > all as f64 * options.brake;
        let pulled: Vec<(u64, u64)> = ready
            .map(|(generation, count)| (*generation, *count))
            .filter(|(generation, count)| {
                is_too_much(*count)
                    && !self.held_back.contains(generation)
                    && !self.released.contains(generation)
            })
            .collect();
        for (generation, removes) in pulled {
            self.held_back.insert(generation);
            self.is_dirty = true;
            self.tell(&DiodeEvent::BrakePulled { generation, removes, of: all });
        }
        Ok(())
    }

    /// Somebody agrees to what was held back. The generations.
    pub(super) fn release(&mut self) -> Result<Vec<u64>> {
        let released: Vec<u64> = std::mem::take(&mut self.held_back).into_iter().collect();
        self.released.extend(&released);
        for generation in &released {
            self.tell(&DiodeEvent::BrakeReleased { generation: *generation });
        }
        self.remove_doomed(self.place.complete)?;
        self.released.clear();
        self.finish_folders()?;
        self.commit()?;
        Ok(released)
    }

    /// Removes these, with all that is below them. It is written down before where they go, and after that they went,
    /// before anything can come to their paths again.
    fn remove_all(&mut self, gone: &[(RelPath, u64)]) -> Result {
        if gone.is_empty() {
            return Ok(());
        }
        let deletes = self.context.options.deletes;
        let mut ids = Vec::new();
        for (path, generation) in gone {
            self.touch_parent(path)?;
            let is_there = self.ground.found(path).ok().flatten().is_some();
            let is_kept = is_there && matches!(deletes, Deletes::After(_));
            ids.push(if is_kept { Some(self.quarantine_row(path, *generation)?) } else { None });
        }
        self.commit()?;
        for ((path, _), id) in gone.iter().zip(ids) {
            self.remove_one(path, id)?;
        }
        for (path, _) in gone {
            self.forget_doomed(path)?;
        }
        self.commit()
    }

    fn remove_one(&mut self, path: &RelPath, id: Option<u64>) -> Result {
        let removed = match (self.context.options.deletes, id) {
            (Deletes::Never, _) => return Ok(()),
            (Deletes::Now, _) => self.ground.remove(path),
            (Deletes::After(_), Some(id)) => self.ground.put_away(path, id),
            // There is nothing.
            (Deletes::After(_), None) => return Ok(()),
        };
        match removed {
            Ok(()) => {
                self.context.shared.status().tree.removed += 1;
                if id.is_some() {
                    self.tell(&DiodeEvent::Quarantined { path: path.clone() });
                }
                Ok(())
            }
            Err(error) => {
                if let Some(id) = id {
                    self.tx().remove_quarantined(id)?;
                }
                self.failed(path, &error);
                Ok(())
            }
        }
    }

    fn forget_doomed(&mut self, path: &RelPath) -> Result {
        loop {
            let below = self.tx().doomed_below(path, BATCH)?;
            if below.is_empty() {
                return Ok(());
            }
            for (path, _) in below {
                self.spare(&path)?;
            }
        }
    }

    /// Lets go what was kept for long enough.
    pub(super) fn expire(&mut self) -> Result {
        let since = self.swept.and_then(|swept| self.now.duration_since(swept).ok());
        if self.swept.is_some() && since.is_some_and(|since| since < SWEEP_EVERY) {
            return Ok(());
        }
        self.swept = Some(self.now);
        let kept_for = match self.context.options.deletes {
            Deletes::After(kept_for) => kept_for,
            Deletes::Now | Deletes::Never => KEPT_FOR,
        };
        let now_ms = self.now_ms();
        let mut after = None;
        loop {
            let rows = self.tx().quarantined(after, BATCH)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(*last);
            for (id, row) in rows {
                let kept_ms = u128::from(now_ms.saturating_sub(row.time_ms));
                if kept_ms < kept_for.as_millis() {
                    continue;
                }
                match self.ground.let_go(id) {
                    Ok(()) => {
                        self.tx().remove_quarantined(id)?;
                        self.is_dirty = true;
                    }
                    Err(error) => self.failed(&row.path, &error),
                }
            }
        }
    }

    /// Brings back what was taken out of the tree last at this path, or the part of it that was.
    pub(super) fn restore(&mut self, path: &RelPath) -> Result<Result<(), String>> {
        let rows = self.tx().quarantined(None, MOST_LISTED)?;
        let found = rows.into_iter().rev().find(|(_, row)| path.starts_with(&row.path));
        let Some((id, row)) = found else {
            return Ok(Err(format!("nothing that was at {path} is kept")));
        };
        let tail =
            path.as_bytes()[row.path.as_bytes().len()..].strip_prefix(b"/").unwrap_or_default();
        let inside = RelPath::parse(tail).unwrap_or_default();
        if let Err(error) = self.ground.bring_back(id, &inside, path) {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            return Ok(Err(format!("{error}{cause}")));
        }
        if inside.is_root() {
            self.tx().remove_quarantined(id)?;
        }
        self.ground.forget(path);
        self.touch_parent(path)?;
        self.commit()?;
        Ok(Ok(()))
    }

    /// What is kept, the last first.
    pub(super) fn list_quarantined(&self, limit: usize) -> Result<Vec<crate::receive::Quarantine>> {
        let rows = self.tx().quarantined(None, MOST_LISTED)?;
        let listed =
            rows.into_iter().rev().take(limit).map(|(_, row)| crate::receive::Quarantine {
                path: row.path,
                since: UNIX_EPOCH + Duration::from_millis(row.time_ms),
                generation: row.generation,
            });
        Ok(listed.collect())
    }

    /// Rows of what is not kept after all: we were killed between writing them and taking it out of the tree.
    pub(super) fn forget_unkept(&mut self) -> Result {
        let mut after = None;
        loop {
            let rows = self.tx().quarantined(after, BATCH)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(*last);
            for (id, _) in rows {
                if !self.ground.is_kept(id)? {
                    self.tx().remove_quarantined(id)?;
                }
            }
        }
    }
}
