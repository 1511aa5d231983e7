//! One entry of a page, applied. Each may be applied twice.

use files::{Digest, Kind, RelPath};

use super::{Keeper, Result, count_down};
use crate::block::BLOCK;
use crate::manifest::{Change, Told};
use crate::receive::journal::{Entry, Wanted, What};

/// So many files may wait to be looked at.
const MOST_CHECKS: usize = 1 << 20;

/// Entries that are gone through at a time.
const BATCH: usize = 1000;

impl Keeper {
    /// Applies an entry that is no move.
    pub(super) fn change(&mut self, change: &Change) -> Result {
        self.is_dirty = true;
        match change {
            Change::Folder { path, attributes } => self.folder(path, attributes),
            Change::File { path, attributes, size, digest, object, offset } => {
                let (told, digest) = (attributes.clone(), *digest);
                let what =
                    What::File { told, size: *size, digest, object: *object, offset: *offset };
                self.file(path, what)
            }
            Change::Symlink { path, mtime, target } => {
                self.replace(path, What::Symlink { mtime: *mtime, target: target.clone() }, false)?;
                self.symlink(path, target, *mtime)
            }
            Change::HardLink { path, file } => {
                let what = What::HardLink { file: file.clone(), place: None };
                self.replace(path, what, true)?;
                self.put_link(path, file)
            }
            Change::Removed { path } => self.doom_all(path),
            // Moves go together: see `moves`.
            Change::Moved { .. } => Ok(()),
        }
    }

    /// Writes down what is at a path now, in place of what was.
    fn replace(&mut self, path: &RelPath, what: What, is_wanted: bool) -> Result<Option<Entry>> {
        let before = self.tx().entry(path)?;
        if let Some(before) = &before {
            if !has_content_of(&what, before) {
                self.pass_on(path, before)?;
            }
            self.unwant(path, before)?;
        }
        self.spare(path)?;
        let entry = Entry { what, is_wanted, seen: self.place.generation };
        self.tx().put_entry(path, &entry)?;
        Ok(before)
    }

    fn unwant(&mut self, path: &RelPath, entry: &Entry) -> Result {
        match entry.what {
            What::File { object, offset, .. } if entry.is_wanted => {
                if let Some(generation) = self.tx().unwant(object, offset, path)? {
                    count_down(&mut self.wanted, generation);
                }
            }
            What::HardLink { .. } => {
                self.tx().remove_link(path)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// An entry is not to be there any more. It is read anew, since what was dropped before may have changed it.
    pub(super) fn drop_entry(&mut self, path: &RelPath) -> Result {
        let Some(entry) = self.tx().entry(path)? else { return Ok(()) };
        self.pass_on(path, &entry)?;
        self.unwant(path, &entry)?;
        self.tx().remove_entry(path)?;
        Ok(())
    }

    /// What is named again is not removed.
    pub(super) fn spare(&mut self, path: &RelPath) -> Result {
        if let Some(generation) = self.tx().spare(path)? {
            count_down(&mut self.doomed, generation);
        }
        Ok(())
    }

    /// A path with all that should be below it is to be removed.
    fn doom_all(&mut self, path: &RelPath) -> Result {
        loop {
            let below = self.tx().below(path, None, BATCH)?;
            if below.is_empty() {
                return Ok(());
            }
            for (path, _) in below {
                self.doom(&path)?;
            }
        }
    }

    pub(super) fn doom(&mut self, path: &RelPath) -> Result {
        self.drop_entry(path)?;
        self.spare(path)?;
        let generation = self.place.generation;
        self.tx().doom(path, generation)?;
        *self.doomed.entry(generation).or_default() += 1;
        Ok(())
    }

    fn folder(&mut self, path: &RelPath, told: &Told) -> Result {
        let what = What::Folder { told: told.clone() };
        let before = self.replace(path, what.clone(), false)?;
        if self.ground.is_folder(path) {
            if before.as_ref().is_none_or(|before| before.what != what) {
                self.tx().touch(path)?;
            }
            // It may have been made by us, who were killed then.
            return if before.is_none() { self.touch_parent(path) } else { Ok(()) };
        }
        self.make_way(path, Kind::Directory)?;
        if let Err(error) = self.ground.make_folder(path) {
            self.failed(path, &error);
        }
        self.tx().touch(path)?;
        self.touch_parent(path)
    }

    fn symlink(&mut self, path: &RelPath, target: &[u8], mtime: files::Timestamp) -> Result {
        let found = self.ground.found(path).ok().flatten();
        if found.is_some_and(|found| found.kind == Kind::Symlink)
            && self.ground.target(path).is_ok_and(|found| found == target)
        {
            if let Err(error) = self.ground.time_link(path, mtime) {
                self.failed(path, &error);
            }
            return self.touch_parent(path);
        }
        self.make_way(path, Kind::Symlink)?;
        if let Err(error) = self.ground.symlink(path, target, mtime) {
            self.failed(path, &error);
        }
        self.touch_parent(path)
    }

    /// A file: wanted, unless it is there.
    fn file(&mut self, path: &RelPath, what: What) -> Result {
        let What::File { told, size, digest, object, offset } = &what else { return Ok(()) };
        let (size, digest, object, offset) = (*size, *digest, *object, *offset);
        let fits = match size > BLOCK as u64 {
            true => offset == 0,
            false => offset.checked_add(size).is_some_and(|end| end <= BLOCK as u64),
        };
        if !fits || size == 0 && digest != *Digest::of(b"").as_bytes() {
            self.failed_because(path, "its page says what cannot be".to_owned());
            return Ok(());
        }
        self.highest = self.highest.max(object);
        let before = self.replace(path, what.clone(), false)?;
        if before.as_ref().is_some_and(|before| is_elsewhere(before, (object, offset))) {
            self.unshare(path, &what)?;
        }
        if let Some(before) = before.filter(|before| !before.is_wanted)
            && let What::File { told: before, size: had, digest: was, .. } = &before.what
            && (*had, *was) == (size, digest)
            && self.looks_like(path, size, before)
        {
            // Only its attributes are new, if anything.
            if before != told
                && let Err(error) = self.ground.dress_file(path, told)
            {
                self.failed(path, &error);
            }
            return Ok(());
        }
        if size == 0 {
            return self.empty(path, told);
        }
        let looks_like_it = self.looks_like(path, size, told);
        let entry = Entry { what: what.clone(), is_wanted: true, seen: self.place.generation };
        self.tx().put_entry(path, &entry)?;
        let generation = self.place.generation;
        self.tx().want(object, offset, path, generation)?;
        *self.wanted.entry(generation).or_default() += 1;
        if looks_like_it {
            if size <= BLOCK as u64 {
                if self.recognise(path)? {
                    return Ok(());
                }
            } else if self.checks.len() < MOST_CHECKS {
                self.checks.push_back(path.clone());
            }
        }
        self.claim(object);
        Ok(())
    }

    /// A file without content needs no object.
    fn empty(&mut self, path: &RelPath, told: &Told) -> Result {
        let mut published = self.ground.publish(path, b"", told);
        if published.is_err() && self.make_way(path, Kind::File)? {
            published = self.ground.publish(path, b"", told);
        }
        match published {
            Ok(()) => self.context.shared.status().tree.published += 1,
            Err(error) => self.failed(path, &error),
        }
        self.touch_parent(path)
    }

    /// Sees to it that an entry of this kind can be made at a path: its folders are there, and nothing that a rename would
    /// not replace is in the way. What is there is kept, out of the tree. Whether anything changed.
    pub(super) fn make_way(&mut self, path: &RelPath, kind: Kind) -> Result<bool> {
        let mut has_changed = self.make_parents(path)?;
        let found = match self.ground.found(path) {
            Ok(found) => found,
            Err(error) => {
                self.failed(path, &error);
                return Ok(has_changed);
            }
        };
        let is_in_the_way =
            found.is_some_and(|found| (found.kind == Kind::Directory) != (kind == Kind::Directory));
        if is_in_the_way {
            has_changed |= self.put_aside(path)?;
        }
        Ok(has_changed)
    }

    fn make_parents(&mut self, path: &RelPath) -> Result<bool> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else {
            return Ok(false);
        };
        self.ground.forget(&parent);
        if self.ground.is_folder(&parent) {
            return Ok(false);
        }
        let mut has_changed = false;
        let mut at = RelPath::root();
        for name in parent.names() {
            let Ok(next) = at.join(&name) else { return Ok(has_changed) };
            at = next;
            if self.ground.is_folder(&at) {
                continue;
            }
            has_changed = true;
            if self.ground.found(&at).ok().flatten().is_some() {
                self.put_aside(&at)?;
            }
            if let Err(error) = self.ground.make_folder(&at) {
                self.failed(&at, &error);
                return Ok(true);
            }
            self.tx().touch(&at)?;
            self.touch_parent(&at)?;
        }
        Ok(has_changed)
    }

    /// Something changed in the folder of this path, whose time is to be set when the generation is complete.
    pub(super) fn touch_parent(&mut self, path: &RelPath) -> Result {
        (self.is_dirty, self.is_touched) = (true, true);
        let parent = path.parent().unwrap_or_default();
        if parent.is_root() || self.touched.as_ref() == Some(&parent) {
            return Ok(());
        }
        self.tx().touch(&parent)?;
        self.touched = Some(parent);
        Ok(())
    }

    /// A row of what is wanted, for an entry.
    pub(super) fn wanted_row(path: &RelPath, entry: &Entry) -> Option<Wanted> {
        match entry.what {
            What::File { object, offset, .. } if entry.is_wanted => {
                Some(Wanted { object, offset, path: path.clone(), generation: 0 })
            }
            _ => None,
        }
    }
}

/// Whether what is told now has the content of what was told before.
fn has_content_of(now: &What, before: &Entry) -> bool {
    let content = |what: &What| match what {
        What::File { size, digest, .. } => Some((*size, *digest)),
        _ => None,
    };
    content(now).is_some_and(|now| content(&before.what) == Some(now))
}

/// Whether the content that is at a path came from another place than this.
fn is_elsewhere(before: &Entry, place: (u64, u64)) -> bool {
    match before.what {
        What::File { object, offset, .. } => !before.is_wanted && (object, offset) != place,
        What::HardLink { place: had, .. } => had.is_some_and(|had| had != place),
        _ => false,
    }
}
