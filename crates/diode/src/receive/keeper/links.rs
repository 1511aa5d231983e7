//! Hard links: made when the file is there. One that waits follows its file when that moves, and takes its place when that
//! goes or gets another content, since the name was told of what the file was then.

use files::{Kind, RelPath};

use super::{Keeper, Result};
use crate::receive::journal::{Entry, What};
use crate::receive::note::Feedback;

/// Rows that are gone through at a time.
const BATCH: usize = 1000;

impl Keeper {
    pub(super) fn put_link(&mut self, path: &RelPath, file: &RelPath) -> Result {
        self.has_links = true;
        Ok(self.tx().put_link(path, file)?)
    }

    /// Makes the hard links whose files have arrived.
    pub(super) fn link_waiting(&mut self) -> Result {
        if !self.has_links {
            return Ok(());
        }
        let mut after: Option<RelPath> = None;
        loop {
            let links = self.tx().links(after.as_ref(), BATCH)?;
            let Some(last) = links.last() else { break };
            after = Some(last.clone());
            for path in &links {
                self.link(path)?;
            }
        }
        self.has_links = self.tx().has_links()?;
        Ok(())
    }

    /// Makes the hard links that waited for a file that has arrived.
    pub(super) fn link_to(&mut self, file: &RelPath) -> Result {
        if !self.has_links {
            return Ok(());
        }
        loop {
            let links = self.tx().linked_to(file, BATCH)?;
            let mut has_made = false;
            for path in &links {
                has_made |= self.link(path)?;
            }
            if links.len() < BATCH || !has_made {
                return Ok(());
            }
        }
    }

    /// Makes a hard link if its file is there. Whether it waits no more.
    fn link(&mut self, path: &RelPath) -> Result<bool> {
        let entry = self.tx().entry(path)?;
        let Some(Entry { what: What::HardLink { file, .. }, seen, .. }) = entry else {
            self.tx().remove_link(path)?;
            return Ok(true);
        };
        let target = self.tx().entry(&file)?.filter(|target| !target.is_wanted);
        let Some(What::File { object, offset, .. }) = target.map(|target| target.what) else {
            return Ok(false);
        };
        let found =
            (self.ground.found(path).ok().flatten(), self.ground.found(&file).ok().flatten());
        let is_same =
            matches!(&found, (Some(a), Some(b)) if (a.device, a.inode) == (b.device, b.inode));
        if !is_same {
            self.make_way(path, Kind::File)?;
            if let Err(error) = self.ground.hard_link(path, &file) {
                self.failed(path, &error);
                return Ok(false);
            }
        }
        self.touch_parent(path)?;
        self.tx().remove_link(path)?;
        let what = What::HardLink { file, place: Some((object, offset)) };
        self.tx().put_entry(path, &Entry { what, is_wanted: false, seen })?;
        Ok(true)
    }

    /// A file goes, or gets another content. What waits to be another name of it is made now, or, if it is not there, one
    /// of them is wanted in its place.
    pub(super) fn pass_on(&mut self, path: &RelPath, before: &Entry) -> Result {
        let What::File { size, object, offset, .. } = before.what else { return Ok(()) };
        if !self.has_links {
            return Ok(());
        }
        if !before.is_wanted {
            return self.link_to(path);
        }
        let mut heir: Option<RelPath> = None;
        loop {
            let links = self.tx().linked_to(path, BATCH)?;
            if links.is_empty() || size == 0 {
                return Ok(());
            }
            for link in links {
                let tx = self.tx();
                tx.remove_link(&link)?;
                let Some(entry) = tx.entry(&link)? else { continue };
                let what = match &heir {
                    None => before.what.clone(),
                    Some(file) => {
                        tx.put_link(&link, file)?;
                        What::HardLink { file: file.clone(), place: None }
                    }
                };
                tx.put_entry(&link, &Entry { what, is_wanted: true, seen: entry.seen })?;
                if heir.is_none() {
                    let generation = self.place.generation;
                    self.tx().want(object, offset, &link, generation)?;
                    *self.wanted.entry(generation).or_default() += 1;
                    self.claim(object);
                    heir = Some(link);
                }
            }
        }
    }

    /// Something of an object is wanted that may be here already.
    pub(super) fn claim(&mut self, object: u64) {
        if self.settled.remove(object) {
            self.feed(Feedback::Again(object));
        }
        let is_here = self.held.contains_key(&object) || self.whole.contains_key(&object);
        if is_here || self.staged.contains_key(&object) {
            self.claimed.insert(object);
        }
    }

    /// A file has moved, and what waits to be another name of it follows.
    pub(super) fn relink(&mut self, from: &RelPath, to: &RelPath) -> Result {
        loop {
            let links = self.tx().linked_to(from, BATCH)?;
            if links.is_empty() {
                return Ok(());
            }
            for link in links {
                let tx = self.tx();
                tx.put_link(&link, to)?;
                if let Some(Entry { is_wanted, seen, .. }) = tx.entry(&link)? {
                    let what = What::HardLink { file: to.clone(), place: None };
                    tx.put_entry(&link, &Entry { what, is_wanted, seen })?;
                }
            }
        }
    }

    /// A file that was one with others is a file of its own now, whose content may be the same: it gets a copy, so that
    /// what becomes of the others is not its business.
    pub(super) fn unshare(&mut self, path: &RelPath, what: &What) -> Result {
        let What::File { told, size, digest, .. } = what else { return Ok(()) };
        let found = self.ground.found(path).ok().flatten();
        let is_shared = found.is_some_and(|found| {
            (found.kind, found.size) == (Kind::File, *size) && found.links > 1
        });
        if is_shared {
            // Where this fails, the content is waited for.
            match self.ground.publish_copy(path, path, (*size, *digest), told) {
                Ok(_) => self.touch_parent(path)?,
                Err(error) => self.failed(path, &error),
            }
        }
        Ok(())
    }
}
