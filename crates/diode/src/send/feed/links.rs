//! Files with several names. One name is told as the file; the others as hard links to it, when it is known, or found on
//! the disk, that they are the same inode in the same state. What is known of them is in the ledger; in memory are only
//! those of the page that is open, and of large files that are being read.

use std::collections::{BTreeMap, HashMap};

use files::{Kind, RelPath};
use tree::{Known, Stamp};

use super::{Feed, Result, SMALL};
use crate::manifest::Change;
use crate::send::row::Note;

/// Names of an inode that are asked for the one that was told as a file.
const MOST_ASKED: usize = 8;

/// Names that wait for a file that is read, or for the end of a pass.
const MOST_WAITING: usize = 100_000;

#[derive(Default)]
pub(super) struct Links {
    /// The names in the page that is open, and by inode those that were told as files.
    names: HashMap<RelPath, Stamp>,
    files: HashMap<u64, (RelPath, Stamp, Note)>,
    /// Large files that are being read, by inode, and other names of them.
    reading: HashMap<u64, (u64, Stamp)>,
    waiting: HashMap<u64, Names>,
    /// Names that are new, and whose file may be among what the pass has not come to yet.
    late: Names,
    count: usize,
    is_all: bool,
    is_first: bool,
}

type Names = BTreeMap<RelPath, Stamp>;

/// Empty files have nothing to share.
fn is_shared(stamp: &Stamp) -> bool {
    stamp.kind == Kind::File && stamp.links > 1 && stamp.size > 0
}

impl Links {
    /// A pass over all of the tree or a part of it begins; over one of which nothing is known yet.
    pub(super) fn begin_pass(&mut self, is_all: bool, is_first: bool) {
        (self.is_all, self.is_first) = (is_all, is_first);
        self.count -= std::mem::take(&mut self.late).len();
    }

    /// A name was told, as the file if that has a note.
    pub(super) fn told(&mut self, path: &RelPath, stamp: &Stamp, file: Option<Note>) {
        if !is_shared(stamp) {
            return;
        }
        self.names.insert(path.clone(), *stamp);
        if let Some(note) = file {
            self.files.insert(stamp.inode, (path.clone(), *stamp, note));
        }
    }

    /// What was told is in the ledger.
    pub(super) fn are_written(&mut self) {
        self.names.clear();
        self.files.clear();
    }

    /// A large file is being read as this object.
    pub(super) fn reads(&mut self, object: u64, stamp: &Stamp) {
        if is_shared(stamp) {
            self.reading.insert(stamp.inode, (object, *stamp));
        }
    }

    /// A large file was read, or could not be. Its other names so far.
    pub(super) fn was_read(&mut self, object: u64) -> Names {
        if !self.reading.is_empty() {
            self.reading.retain(|_, (reading, _)| *reading != object);
        }
        let names = self.waiting.remove(&object).unwrap_or_default();
        self.count -= names.len();
        names
    }

    /// A name waits for a file that is read. False if there is no room.
    fn wait(&mut self, object: u64, path: &RelPath, stamp: &Stamp) -> bool {
        if self.count >= MOST_WAITING {
            return false;
        }
        let is_new = self.waiting.entry(object).or_default().insert(path.clone(), *stamp).is_none();
        self.count += usize::from(is_new);
        true
    }
}

impl Feed<'_> {
    /// Whether a file is told as another name of one, or needs not be told, or not yet.
    pub(super) fn is_another_name(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        before: Option<&Known>,
    ) -> Result<bool> {
        if !is_shared(stamp) {
            return Ok(false);
        }
        if self.links.names.get(path) == Some(stamp) || self.links_to_new(path, stamp, before)? {
            return Ok(true);
        }
        // It was told when another of its names was come to.
        let now = self.ledger.snapshot().get(path)?;
        if now.is_some_and(|known| known.stamp == *stamp) {
            return Ok(true);
        }
        let mut asked = Vec::new();
        for name in self.ledger.names_of(stamp.inode, MOST_ASKED)? {
            let Some(known) = self.ledger.snapshot().get(&name)? else { continue };
            let file = self.file_of(&name, &known)?.unwrap_or(name);
            if file == *path || asked.contains(&file) {
                continue;
            }
            if self.links_to_known(path, stamp, before, &file)? {
                return Ok(true);
            }
            asked.push(file);
        }
        // It may be another name of a file that had only one so far, which this pass or the next comes to.
        let has_content = before.is_some_and(|known| known.stamp.inode == stamp.inode);
        if has_content || self.links.is_first || self.links.late.contains_key(path) {
            return Ok(false);
        }
        if self.links.is_all && self.links.count < MOST_WAITING {
            self.links.late.insert(path.clone(), *stamp);
            self.links.count += 1;
            return Ok(true);
        }
        if !self.links.is_all && stamp.size > SMALL {
            self.asked_to_scan = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// Tells a name of a file that is in the page that is open, or is being read.
    fn links_to_new(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        before: Option<&Known>,
    ) -> Result<bool> {
        if let Some((file, told, note)) = self.links.files.get(&stamp.inode)
            && told == stamp
            && file != path
        {
            let (file, note) = (file.clone(), *note);
            self.tell_link(path, stamp, &file, note, before)?;
            return Ok(true);
        }
        match self.links.reading.get(&stamp.inode) {
            Some((object, read)) if read == stamp => {
                let object = *object;
                Ok(self.links.wait(object, path, stamp))
            }
            _ => Ok(false),
        }
    }

    /// Tells a name of a file that was told before, and that has changed with it, if at all.
    fn links_to_known(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        before: Option<&Known>,
        file: &RelPath,
    ) -> Result<bool> {
        let Some(known) = self.ledger.snapshot().get(file)? else { return Ok(false) };
        if known.stamp == *stamp {
            let Some(note) = Note::decode(&known.note) else { return Ok(false) };
            self.tell_link(path, stamp, file, note, before)?;
            return Ok(true);
        }
        let Ok(attributes) = self.root.attributes_of(file) else { return Ok(false) };
        if Stamp::from(&attributes) != *stamp {
            return Ok(false);
        }
        if !self.reading.contains_key(file) {
            let is_content = !known.stamp.is_content_of(&attributes);
            self.content(file, stamp, Some(known), is_content)?;
        }
        // What could not be read now is looked at again by the next scan.
        self.links_to_new(path, stamp, before)?;
        Ok(true)
    }

    /// Tells a name as a hard link, unless it was told as one to this content.
    fn tell_link(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        file: &RelPath,
        note: Note,
        before: Option<&Known>,
    ) -> Result<()> {
        let had = before.and_then(|known| Note::decode(&known.note));
        let was_link = had == Some(note)
            && self.ledger.file_at(note.object, note.offset)?.is_some_and(|told| told != *path);
        if !was_link {
            self.generation()?;
            self.draft.push(Change::HardLink { path: path.clone(), file: file.clone() });
        }
        self.links.told(path, stamp, None);
        let known = Known { stamp: *stamp, link_target: None, note: note.encode() };
        self.draft.put_link(path, known);
        Ok(())
    }

    /// The file that a name is another one of; None if it was told as a file itself.
    pub(super) fn file_of(&self, path: &RelPath, known: &Known) -> Result<Option<RelPath>> {
        if !is_shared(&known.stamp) {
            return Ok(None);
        }
        let Some(note) = Note::decode(&known.note) else { return Ok(None) };
        Ok(self.ledger.file_at(note.object, note.offset)?.filter(|file| file != path))
    }

    /// Tells the names of a large file that was read, or could not be.
    pub(super) fn tell_names(
        &mut self,
        names: impl IntoIterator<Item = (RelPath, Stamp)>,
    ) -> Result<()> {
        for (path, stamp) in names {
            let now = self.root.attributes_of(&path);
            if now.is_ok_and(|now| Stamp::from(&now) == stamp) {
                let before = self.ledger.snapshot().get(&path)?;
                self.file(&path, &stamp, before, true)?;
            } else {
                self.asked_to_scan = true;
            }
            if self.draft.is_page() {
                self.close_page()?;
            }
        }
        Ok(())
    }

    /// Tells the names that were new to a pass, now that it has come to all others.
    pub(super) fn tell_late_names(&mut self) -> Result<()> {
        let late = self.links.late.clone();
        self.tell_names(late)?;
        self.links.count -= std::mem::take(&mut self.links.late).len();
        Ok(())
    }

    /// Tells the names of a file whose content goes out in another object, and that was at this place before.
    pub(super) fn tell_names_anew(
        &mut self,
        inode: u64,
        at: Option<Note>,
        stamp: &Stamp,
    ) -> Result<()> {
        for name in self.ledger.names_of(inode, MOST_WAITING)? {
            let before = self.ledger.snapshot().get(&name)?;
            let was = before.as_ref().and_then(|known| Note::decode(&known.note));
            let now = self.root.attributes_of(&name);
            if was == at && now.is_ok_and(|now| Stamp::from(&now) == *stamp) {
                self.links_to_new(&name, stamp, before.as_ref())?;
            }
        }
        Ok(())
    }

    /// What has gone may have been the file that other names were told to be links to. Those of which the scan sees no
    /// change, since the file is there and only left out now, are told here.
    pub(super) fn tell_heirs(&mut self, gone: &RelPath) -> Result<()> {
        if !self.ledger.has_names()? {
            return Ok(());
        }
        let read = self.ledger.snapshot().read()?;
        let own = read.get(gone)?.map(|known| Ok((gone.clone(), known)));
        for entry in own.into_iter().chain(read.below(gone)?) {
            let (path, known) = entry?;
            let Some(note) = Note::decode(&known.note).filter(|_| is_shared(&known.stamp)) else {
                continue;
            };
            if self.ledger.file_at(note.object, note.offset)?.as_ref() != Some(&path) {
                continue;
            }
            for name in self.ledger.names_of(known.stamp.inode, MOST_WAITING)? {
                let heir = read.get(&name)?.filter(|_| !name.starts_with(gone));
                let Some(heir) = heir.filter(|heir| heir.note == known.note) else { continue };
                let now = self.root.attributes_of(&name);
                if now.is_ok_and(|now| Stamp::from(&now) == heir.stamp) {
                    self.tell_file(&name, &heir.stamp, note)?;
                    break;
                }
            }
            if self.draft.is_page() {
                self.close_page()?;
            }
        }
        Ok(())
    }
}
