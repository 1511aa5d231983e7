//! Moves of files and folders. Done twice, a move does harm: what came to its old path since would go too. So they go in
//! batches that touch none of each other's paths; the journal says before that a batch begins, and after that it was
//! done, and in between a move was done exactly if nothing is at its old path.

use std::collections::BTreeSet;

use files::{Kind, RelPath};

use super::{Keeper, Result, count_down};
use crate::manifest::Change;
use crate::receive::journal::What;

/// So many moves go together.
const MOST: usize = 4096;

/// Rows that are renamed at a time.
const BATCH: usize = 1000;

impl Keeper {
    /// Carries out the moves that stand at this entry of a page and behind it, as far as they go together. The first
    /// entry behind them.
    pub(super) fn moves(&mut self, entries: &[Change], at: usize) -> Result<usize> {
        let end = at + independent(&entries[at..]);
        for (from, to) in pairs(&entries[at..end]) {
            self.make_room(from, to)?;
        }
        // Committed before the first of them is carried out.
        self.place.moving = end as u32;
        self.commit()?;
        self.carry_out(&entries[at..end])?;
        self.place.entry = end as u32;
        self.commit()?;
        Ok(end)
    }

    /// Carries out what a batch had left when we were killed.
    pub(super) fn finish_moves(&mut self, entries: &[Change]) -> Result {
        let (at, end) = (self.place.entry as usize, self.place.moving as usize);
        let batch = entries.get(at..end).unwrap_or_default();
        self.carry_out(batch)?;
        self.place.entry = self.place.moving;
        self.commit()
    }

    fn carry_out(&mut self, batch: &[Change]) -> Result {
        for (from, to) in pairs(batch) {
            if self.ground.found(from).ok().flatten().is_some()
                && let Err(error) = self.ground.rename(from, to)
            {
                self.failed(from, &error);
            }
            self.rename_rows(from, to)?;
            self.spare(to)?;
            self.touch_parent(from)?;
            self.touch_parent(to)?;
        }
        Ok(())
    }

    /// The folder that it goes to is there, and nothing that a rename would not replace.
    fn make_room(&mut self, from: &RelPath, to: &RelPath) -> Result {
        let is_folder = |found: Option<files::Attributes>| {
            found.is_some_and(|found| found.kind == Kind::Directory)
        };
        let Some(found) = self.ground.found(from).ok().flatten() else { return Ok(()) };
        let moved = found.kind;
        if let Some(replaced) = self.tx().entry(to)? {
            self.pass_on(to, &replaced)?;
        }
        self.make_way(to, moved)?;
        if moved == Kind::Directory && is_folder(self.ground.found(to).ok().flatten()) {
            self.put_aside(to)?;
        }
        Ok(())
    }

    /// The journal's rows of all that was moved.
    fn rename_rows(&mut self, from: &RelPath, to: &RelPath) -> Result {
        loop {
            let replaced = self.tx().below(to, None, BATCH)?;
            if replaced.is_empty() {
                break;
            }
            for (path, _) in replaced {
                self.drop_entry(&path)?;
            }
        }
        loop {
            let moved = self.tx().below(from, None, BATCH)?;
            if moved.is_empty() {
                break;
            }
            for (path, _) in moved {
                self.rename_row(from, to, &path)?;
            }
        }
        // What is to be removed, and is still there, has gone along with the folder that it is in.
        loop {
            let doomed = self.tx().doomed_below(from, BATCH)?;
            if doomed.is_empty() {
                return Ok(());
            }
            for (path, generation) in doomed {
                self.tx().spare(&path)?;
                let Ok(new) = new_path(from, to, &path) else {
                    count_down(&mut self.doomed, generation);
                    continue;
                };
                self.spare(&new)?;
                self.tx().doom(&new, generation)?;
            }
        }
    }

    fn rename_row(&mut self, from: &RelPath, to: &RelPath, path: &RelPath) -> Result {
        // What waits to be another name of a file follows it, so the row may have changed since it was read.
        let Some(entry) = &self.tx().entry(path)? else { return Ok(()) };
        let tx = self.tx();
        tx.remove_entry(path)?;
        let new = new_path(from, to, path);
        let wanted = Self::wanted_row(path, entry);
        let generation = match &wanted {
            Some(wanted) => tx.unwant(wanted.object, wanted.offset, path)?,
            None => None,
        };
        let link_of = tx.remove_link(path)?;
        let Ok(new) = new else {
            if let Some(generation) = generation {
                count_down(&mut self.wanted, generation);
            }
            // A path that is too long was told to nobody by an honest sender.
            self.failed_because(path, "its new path is too long".to_owned());
            return Ok(());
        };
        tx.put_entry(&new, entry)?;
        if let Some((wanted, generation)) = wanted.zip(generation) {
            tx.want(wanted.object, wanted.offset, &new, generation)?;
        }
        if let Some(file) = link_of {
            tx.put_link(&new, &file)?;
        }
        if matches!(entry.what, What::Folder { .. }) {
            tx.touch(&new)?;
        }
        if self.has_links && matches!(entry.what, What::File { .. }) {
            self.relink(path, &new)?;
        }
        Ok(())
    }
}

/// Where a path is once `from`, at it or above it, has become `to`.
fn new_path(from: &RelPath, to: &RelPath, path: &RelPath) -> Result<RelPath, files::NameError> {
    let tail = path.as_bytes()[from.as_bytes().len()..].strip_prefix(b"/").unwrap_or_default();
    RelPath::parse(tail).and_then(|tail| to.join_path(&tail))
}

fn pairs(batch: &[Change]) -> impl Iterator<Item = (&RelPath, &RelPath)> {
    batch.iter().filter_map(|change| match change {
        Change::Moved { from, to } => Some((from, to)),
        _ => None,
    })
}

/// How many moves from the first on touch no path of each other, nor one above or below.
fn independent(entries: &[Change]) -> usize {
    let mut taken: BTreeSet<&RelPath> = BTreeSet::new();
    let is_free = |taken: &BTreeSet<&RelPath>, path: &RelPath| {
        let below = taken.range::<RelPath, _>(path..).next();
        let mut above = std::iter::successors(path.parent(), RelPath::parent);
        below.is_none_or(|below| !below.starts_with(path))
            && !above.any(|above| taken.contains(&above))
    };
    for (count, entry) in entries.iter().enumerate() {
        let Change::Moved { from, to } = entry else { return count };
        if count == MOST || !is_free(&taken, from) || !is_free(&taken, to) {
            return count;
        }
        taken.insert(from);
        taken.insert(to);
    }
    entries.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(from: &str, to: &str) -> Change {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        Change::Moved { from: path(from), to: path(to) }
    }

    #[test]
    fn only_moves_that_touch_no_path_of_each_other_go_together() {
        let check = |expected: usize, moves: &[(&str, &str)]| {
            let entries: Vec<_> = moves.iter().map(|(from, to)| moved(from, to)).collect();
            assert_eq!(independent(&entries), expected, "{moves:?}");
        };
        check(3, &[("a", "b"), ("c", "d"), ("x/a", "x/b")]);
        check(1, &[("a", "b"), ("b", "c")]);
        check(1, &[("a", "b"), ("c", "a")]);
        check(1, &[("a", "b"), ("c", "b/c")]);
        check(1, &[("a/b/c", "x"), ("a", "y")]);
        check(1, &[("a", "x/y/z"), ("b", "x")]);
        check(2, &[("a", "b"), ("ab", "bc"), ("a/c", "d")]);
        let path = RelPath::parse(b"z").unwrap();
        assert_eq!(independent(&[moved("a", "b"), Change::Removed { path }, moved("c", "d")]), 1);
    }
}
