//! Objects that have arrived, and the files in them: verified, published, and held until a page names them.

use std::time::{Duration, Instant};

use files::{Digest, FilesError, Kind, Partial, RelPath};

use super::{Keeper, Result, count_down};
use crate::block::BLOCK;
use crate::manifest::Told;
use crate::receive::journal::{Entry, Wanted, What};
use crate::receive::note::{Feedback, Job};

/// After this an object that no page has named goes to the disk, so that a restart does not cost it.
pub(super) const HELD_FOR: Duration = Duration::from_secs(1);

/// So many small objects may wait for pages, and so many large ones with their files open.
const MOST_HELD: usize = 1 << 16;
const MOST_WHOLE: usize = 64;

/// As many files as one object can hold, with some to spare.
const MOST_IN_OBJECT: usize = 1 << 21;

/// After this it is tried again to publish a large object.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A small object that waits for a page.
pub(super) struct Held {
    /// Its bytes, unless they are on the disk.
    bytes: Option<Vec<u8>>,
    /// How many of them were published.
    published: u64,
    since: Instant,
}

/// What became of a wanted file.
enum Fate {
    Published(u64),
    /// It is wanted no more, or otherwise.
    Stale,
    /// The object does not hold what the page says.
    Spoiled,
    Failed,
}

/// What a page says of a wanted file.
struct Content {
    told: Told,
    size: u64,
    digest: [u8; 32],
}

impl Keeper {
    pub(super) fn small_arrived(&mut self, object: u64, bytes: Vec<u8>) -> Result {
        if self.settled.contains(object) || self.held.contains_key(&object) {
            self.feed(Feedback::Memory(bytes));
            return Ok(());
        }
        self.small(object, bytes, 0)
    }

    /// A small object is on the disk.
    pub(super) fn stored(&mut self, object: u64) -> Result {
        if self.settled.contains(object) {
            self.context.spill.forget_object(object);
            return Ok(());
        }
        if self.held.contains_key(&object) {
            return Ok(());
        }
        if self.held.len() >= MOST_HELD {
            self.context.spill.forget_object(object);
            self.feed(Feedback::Again(object));
            return Ok(());
        }
        let held = Held { bytes: None, published: 0, since: Instant::now() };
        self.held.insert(object, held);
        self.tx().put_held(object, 0)?;
        self.is_dirty = true;
        self.claimed.insert(object);
        self.publish_claimed()
    }

    /// Publishes what is wanted of a small object, and holds it while some of it is not named.
    fn small(&mut self, object: u64, bytes: Vec<u8>, mut published: u64) -> Result {
        let (mut is_spoiled, mut has_failed) = (false, false);
        for wanted in self.tx().wanted_of(object, MOST_IN_OBJECT)? {
            match self.publish_wanted(&wanted, &bytes)? {
                Fate::Published(size) => published += size,
                Fate::Stale => {}
                Fate::Spoiled => is_spoiled = true,
                Fate::Failed => has_failed = true,
            }
        }
        if is_spoiled || has_failed {
            // It comes again with the repeats, or is asked for.
            self.forget_held(object)?;
            self.feed(Feedback::Again(object));
        } else if published >= bytes.len() as u64 {
            self.settle(object)?;
        } else {
            return self.hold(object, bytes, published);
        }
        self.feed(Feedback::Memory(bytes));
        Ok(())
    }

    fn publish_wanted(&mut self, wanted: &Wanted, bytes: &[u8]) -> Result<Fate> {
        let Some(content) = self.content_of(wanted)? else {
            self.is_stale(wanted)?;
            return Ok(Fate::Stale);
        };
        let Content { told, size, digest } = &content;
        let range = usize::try_from(wanted.offset).ok().zip(usize::try_from(*size).ok());
        let file = range.and_then(|(at, size)| bytes.get(at..)?.get(..size));
        let Some(file) = file.filter(|file| Digest::of(file).as_bytes() == digest) else {
            return Ok(Fate::Spoiled);
        };
        let path = &wanted.path;
        let mut published = self.ground.publish(path, file, told);
        if published.is_err() && self.make_way(path, Kind::File)? {
            published = self.ground.publish(path, file, told);
        }
        match published {
            Ok(()) => {
                self.is_published(wanted, &content)?;
                Ok(Fate::Published(*size))
            }
            Err(error) => {
                self.publish_failed(path, &error);
                Ok(Fate::Failed)
            }
        }
    }

    /// What no entry bears out any more is not waited for.
    fn is_stale(&mut self, wanted: &Wanted) -> Result {
        if let Some(generation) = self.tx().unwant(wanted.object, wanted.offset, &wanted.path)? {
            count_down(&mut self.wanted, generation);
        }
        Ok(())
    }

    /// What a page says of a file that is wanted still, and of this object.
    fn content_of(&self, wanted: &Wanted) -> Result<Option<Content>> {
        let entry = self.tx().entry(&wanted.path)?.filter(|entry| entry.is_wanted);
        Ok(entry.and_then(|entry| match entry.what {
            What::File { told, size, digest, object, offset }
                if (object, offset) == (wanted.object, wanted.offset) =>
            {
                Some(Content { told, size, digest })
            }
            _ => None,
        }))
    }

    fn is_published(&mut self, wanted: &Wanted, content: &Content) -> Result {
        let size = content.size;
        self.has_arrived(wanted)?;
        let mut status = self.context.shared.status();
        status.tree.published += 1;
        status.tree.published_bytes += size;
        drop(status);
        self.context.shared.disk_is_full(false);
        Ok(())
    }

    /// A wanted file is there with the content and attributes that it should have.
    fn has_arrived(&mut self, wanted: &Wanted) -> Result {
        let Wanted { object, offset, path, .. } = wanted;
        if let Some(entry) = self.tx().entry(path)? {
            self.tx().put_entry(path, &Entry { is_wanted: false, ..entry })?;
        }
        if let Some(generation) = self.tx().unwant(*object, *offset, path)? {
            count_down(&mut self.wanted, generation);
        }
        self.told.remove(path);
        self.link_to(path)?;
        self.touch_parent(path)
    }

    fn publish_failed(&mut self, path: &RelPath, error: &FilesError) {
        if error.is_disk_full() {
            self.context.shared.disk_is_full(true);
        }
        self.failed(path, error);
    }

    /// Nothing more is wanted of an object.
    pub(super) fn settle(&mut self, object: u64) -> Result {
        self.is_dirty = true;
        self.settled.insert(object);
        self.forget_held(object)
    }

    fn hold(&mut self, object: u64, bytes: Vec<u8>, published: u64) -> Result {
        if self.held.len() >= MOST_HELD && !self.held.contains_key(&object) {
            self.feed(Feedback::Again(object));
            return Ok(());
        }
        let held = Held { bytes: Some(bytes), published, since: Instant::now() };
        self.held.insert(object, held);
        let in_memory: usize =
            self.held.values().filter_map(|held| held.bytes.as_ref()).map(Vec::len).sum();
        if in_memory > self.context.options.memory / 8 {
            self.keep_held(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Brings what was held for so long to the disk.
    pub(super) fn keep_held(&mut self, held_for: Duration) -> Result {
        let is_due = |held: &Held| held.bytes.is_some() && held.since.elapsed() >= held_for;
        let due: Vec<u64> =
            self.held.iter().filter(|(_, held)| is_due(held)).map(|(object, _)| *object).collect();
        for object in due {
            let Some(held) = self.held.get_mut(&object) else { continue };
            let Some(bytes) = held.bytes.take() else { continue };
            let published = held.published;
            let room = self.context.shared.room();
            match room.and_then(|()| self.context.spill.keep_object(object, &bytes)) {
                Ok(()) => {
                    self.tx().put_held(object, published)?;
                    self.is_dirty = true;
                }
                Err(error) => {
                    self.context.shared.disk_is_full(error.is_disk_full());
                    self.held.remove(&object);
                    self.feed(Feedback::Again(object));
                }
            }
            self.feed(Feedback::Memory(bytes));
        }
        Ok(())
    }

    fn forget_held(&mut self, object: u64) -> Result {
        self.held.remove(&object);
        if self.tx().remove_held(object)? {
            self.context.spill.forget_object(object);
        }
        Ok(())
    }

    /// Small objects that were on the disk when we began, or are wanted no more.
    pub(super) fn load_held(&mut self) -> Result {
        let known = self.tx().held()?;
        for (object, published) in &known {
            let held = Held { bytes: None, published: *published, since: Instant::now() };
            self.held.insert(*object, held);
        }
        let (_, objects) = self.context.spill.list()?;
        for object in objects.into_iter().filter(|object| !self.held.contains_key(object)) {
            self.context.spill.forget_object(object);
        }
        self.claimed.extend(known.into_iter().map(|(object, _)| object));
        Ok(())
    }

    /// Nothing is wanted any more of objects up to one, but some.
    pub(super) fn forget_held_to(
        &mut self,
        last: u64,
        but: &std::collections::HashSet<u64>,
    ) -> Result {
        let is_done = |object: &u64| *object <= last && !but.contains(object);
        let done: Vec<u64> = self.held.keys().copied().filter(is_done).collect();
        for object in done {
            self.forget_held(object)?;
        }
        let done: Vec<u64> = self.staged.keys().copied().filter(is_done).collect();
        for object in done {
            self.discard(object)?;
        }
        Ok(())
    }

    /// Publishes what a page has named of objects that are here.
    pub(super) fn publish_claimed(&mut self) -> Result {
        while let Some(object) = self.claimed.pop_first() {
            if let Some(held) = self.held.remove(&object) {
                let kept = || self.context.spill.load_object(object);
                match held.bytes.or_else(kept) {
                    Some(bytes) => self.small(object, bytes, held.published)?,
                    None => {
                        self.forget_held(object)?;
                        self.feed(Feedback::Again(object));
                    }
                }
            } else if let Some((length, partial)) = self.whole.remove(&object) {
                self.large(object, length, partial)?;
            } else if let Some(length) = self.staged.get(&object) {
                self.job(Job::Open { object, length: *length });
            }
        }
        Ok(())
    }

    pub(super) fn begun(&mut self, object: u64, length: u64) -> Result {
        if self.staged.insert(object, length) != Some(length) {
            self.tx().put_staged(object, length)?;
            self.is_dirty = true;
        }
        Ok(())
    }

    /// A large object is whole: it is one file, which goes to its final name in one step.
    pub(super) fn large(&mut self, object: u64, length: u64, partial: Partial) -> Result {
        let all = self.tx().wanted_of(object, MOST_IN_OBJECT)?;
        let Some(first) = all.first() else {
            if self.settled.contains(object) {
                drop(partial);
                return self.discard(object);
            }
            if self.whole.len() < MOST_WHOLE {
                self.whole.insert(object, (length, partial));
            }
            return Ok(());
        };
        let digest = partial.complete();
        let Some(content) = self.content_of(first)? else { return Ok(()) };
        let is_it = content.size == length && first.offset == 0;
        if !is_it || digest.is_none_or(|digest| *digest.as_bytes() != content.digest) {
            drop(partial);
            self.discard(object)?;
            self.feed(Feedback::Again(object));
            return Ok(());
        }
        self.make_way(&first.path, Kind::File)?;
        match self.ground.publish_staged(&first.path, partial, &content.told) {
            Ok(()) => self.is_published(first, &content)?,
            Err(error) => {
                self.publish_failed(&first.path, &error);
                self.retries.push_back((Instant::now() + RETRY_AFTER, object, length));
                return Ok(());
            }
        }
        for wanted in &all[1..] {
            self.copy(&first.path, wanted)?;
        }
        self.unstage(object)?;
        self.settle(object)
    }

    /// Another file with the content of one that was published.
    fn copy(&mut self, from: &RelPath, wanted: &Wanted) -> Result {
        let Some(content) = self.content_of(wanted)? else { return Ok(()) };
        self.make_way(&wanted.path, Kind::File)?;
        let Content { told, size, digest } = &content;
        match self.ground.publish_copy(from, &wanted.path, (*size, *digest), told) {
            Ok(true) => self.is_published(wanted, &content)?,
            Ok(false) => self.failed_because(&wanted.path, "its content has changed".to_owned()),
            Err(error) => self.publish_failed(&wanted.path, &error),
        }
        Ok(())
    }

    fn unstage(&mut self, object: u64) -> Result {
        self.staged.remove(&object);
        self.tx().remove_staged(object)?;
        Ok(())
    }

    /// Removes what is staged of an object.
    pub(super) fn discard(&mut self, object: u64) -> Result {
        self.whole.remove(&object);
        self.unstage(object)?;
        self.is_dirty = true;
        self.job(Job::Discard(object));
        Ok(())
    }

    /// Tries again what could not be published.
    pub(super) fn retry(&mut self) -> Result {
        while self.retries.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            let Some((_, object, length)) = self.retries.pop_front() else { break };
            if !self.settled.contains(object) {
                self.job(Job::Open { object, length });
            }
        }
        Ok(())
    }

    /// Looks whether a wanted file is there already: brought by other means, or published before a restart.
    pub(super) fn check_next(&mut self) -> Result {
        let Some(path) = self.checks.pop_front() else { return Ok(()) };
        self.recognise(&path)?;
        Ok(())
    }

    /// Whether a wanted file was found in its place; then it is wanted no more.
    pub(super) fn recognise(&mut self, path: &RelPath) -> Result<bool> {
        let Some(entry) = self.tx().entry(path)?.filter(|entry| entry.is_wanted) else {
            return Ok(false);
        };
        let What::File { told, size, digest, object, offset } = entry.what else {
            return Ok(false);
        };
        if !self.looks_like(path, size, &told) {
            return Ok(false);
        }
        if self.ground.digest(path).ok().is_none_or(|found| *found.as_bytes() != digest) {
            return Ok(false);
        }
        if self.ground.dress_file(path, &told).is_err() {
            return Ok(false);
        }
        let wanted = Wanted { object, offset, path: path.clone(), generation: 0 };
        self.has_arrived(&wanted)?;
        if size > BLOCK as u64 && self.tx().wanted_of(object, 1)?.is_empty() {
            self.settle(object)?;
            self.feed(Feedback::Forget(object));
            if self.staged.contains_key(&object) {
                self.discard(object)?;
            }
        }
        Ok(true)
    }

    /// Whether a file of this size and time is at a path.
    pub(super) fn looks_like(&mut self, path: &RelPath, size: u64, told: &Told) -> bool {
        let found = self.ground.found(path).ok().flatten();
        found.is_some_and(|found| {
            found.kind == Kind::File && found.size == size && found.mtime == told.mtime
        })
    }
}
