//! What a scan found becomes entries of the generation, and files become objects.

use files::{Digest, FilesError, Follow, Kind, Name, RelPath};
use tree::{Found, Known, Moved, Stamp};

use super::{BULKY, Feed, MOST_LARGE, Result, SMALL};
use crate::manifest::{Change, Told};
use crate::send::SendError;
use crate::send::SendEvent;
use crate::send::loader::Job;
use crate::send::row::Note;
use crate::symbol::ObjectKind;

/// Extended attributes of an entry that take more than this are left out.
const MOST_XATTRS: usize = 1 << 20;

/// What was there and is not any more.
pub(super) type Removed = (RelPath, Known);

impl Feed<'_> {
    /// Takes a change. What is removed waits for the next one, which may put another kind in its place.
    pub(super) fn change(
        &mut self,
        before: Option<Removed>,
        change: tree::Change,
    ) -> Result<Option<Removed>> {
        let (entry, known, is_content) = match change {
            tree::Change::Removed { path, was } => {
                before.map_or(Ok(()), |removed| self.removed(removed))?;
                return Ok(Some((path, was)));
            }
            tree::Change::Added(entry) => (entry, None, true),
            tree::Change::Changed { entry, before, content } => (entry, Some(before), content),
        };
        match before {
            // The entry itself says that another kind is there now. Of a folder what was in it is gone.
            Some((path, was)) if path == entry.path && was.stamp.kind != Kind::Directory => {
                self.forget(path);
            }
            Some(removed) => self.removed(removed)?,
            None => {}
        }
        self.entry(entry, known, is_content)?;
        Ok(None)
    }

    pub(super) fn removed(&mut self, (path, _): Removed) -> Result<()> {
        self.generation()?;
        self.draft.push(Change::Removed { path: path.clone() });
        self.forget(path.clone());
        self.tell_heirs(&path)
    }

    /// Files at a path or below it that are being read are not told there.
    fn stop_reading(&mut self, path: &RelPath) {
        let below = self.reading.range(path..).take_while(|(reading, _)| reading.starts_with(path));
        for path in below.map(|(reading, _)| reading.clone()).collect::<Vec<_>>() {
            self.reading.remove(&path);
        }
    }

    fn forget(&mut self, path: RelPath) {
        self.stop_reading(&path);
        self.draft.batch.removes.push(path);
    }

    pub(super) fn moved(&mut self, moved: &Moved) -> Result<()> {
        self.generation()?;
        let (from, to) = (moved.from.clone(), moved.to.clone());
        self.draft.push(Change::Moved { from: from.clone(), to: to.clone() });
        self.stop_reading(&from);
        self.draft.batch.renames.push((from, to));
        Ok(())
    }

    fn entry(&mut self, entry: Found, before: Option<Known>, is_content: bool) -> Result<()> {
        match entry.stamp.kind {
            Kind::Directory => {
                let attributes = self.told(&entry.path, &entry.stamp);
                self.generation()?;
                self.draft.push(Change::Folder { path: entry.path.clone(), attributes });
                self.put(&entry.path, &entry.stamp, None, Vec::new());
            }
            Kind::Symlink => {
                let target = entry.link_target.clone().unwrap_or_default();
                let (path, mtime) = (entry.path.clone(), entry.stamp.mtime);
                self.generation()?;
                self.draft.push(Change::Symlink { path, mtime, target });
                self.put(&entry.path, &entry.stamp, entry.link_target, Vec::new());
            }
            Kind::File => self.file(&entry.path, &entry.stamp, before, is_content)?,
            Kind::Other => {}
        }
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        before: Option<Known>,
        is_content: bool,
    ) -> Result<()> {
        // It is on its way, or will fail there if it has changed since; either way a later scan looks again.
        if self.reading.contains_key(path) || self.is_another_name(path, stamp, before.as_ref())? {
            return Ok(());
        }
        self.content(path, stamp, before, is_content)
    }

    /// A file as such, with its content if that is new.
    pub(super) fn content(
        &mut self,
        path: &RelPath,
        stamp: &Stamp,
        before: Option<Known>,
        is_content: bool,
    ) -> Result<()> {
        let note = before.and_then(|known| Note::decode(&known.note));
        if let (Some(note), false) = (note, is_content) {
            return self.tell_file(path, stamp, note);
        }
        if stamp.size > SMALL {
            return self.begin_large(path, stamp);
        }
        let Some(content) = self.read_small(path, stamp)? else { return Ok(()) };
        self.generation()?;
        let note = match content.is_empty() {
            true => Note { digest: *Digest::of(b"").as_bytes(), object: 0, offset: 0 },
            false => self.pack(&content)?,
        };
        self.tell_file(path, stamp, note)
    }

    /// Where a small file is in an object that goes out soon.
    fn pack(&mut self, content: &[u8]) -> Result<Note> {
        if !self.draft.has_room(content.len()) {
            self.close_pack()?;
            let (object, buffer) = (self.ledger.new_object()?, self.outbox.buffer());
            self.draft.begin_pack(object, buffer);
        }
        Ok(self.draft.pack(content).expect("a pack is open"))
    }

    /// The bytes of the pack that is open go out.
    pub(super) fn close_pack(&mut self) -> Result<()> {
        let Some(pack) = self.draft.close_pack() else { return Ok(()) };
        let class = self.first_class(self.draft.generation);
        self.begin_way(pack.object, pack.bytes.len() as u64);
        let (object, kind) = (pack.object, ObjectKind::Content);
        let job = Job::Bytes { object, kind, bytes: pack.bytes, class };
        self.lanes.small.send(job).map_err(|_| SendError::Stopped)
    }

    pub(super) fn tell_file(&mut self, path: &RelPath, stamp: &Stamp, note: Note) -> Result<()> {
        self.generation()?;
        self.links.told(path, stamp, Some(note));
        let told = self.told(path, stamp);
        let Note { digest, object, offset } = note;
        let size = stamp.size;
        let path_told = path.clone();
        self.draft.push(Change::File {
            path: path_told,
            attributes: told,
            size,
            digest,
            object,
            offset,
        });
        self.put(path, stamp, None, note.encode());
        Ok(())
    }

    fn put(&mut self, path: &RelPath, stamp: &Stamp, link: Option<Vec<u8>>, note: Vec<u8>) {
        self.draft.put(path, Known { stamp: *stamp, link_target: link, note });
    }

    /// The content of a small file; None if it is not what the scan saw, which the next scan sees anew.
    fn read_small(&mut self, path: &RelPath, stamp: &Stamp) -> Result<Option<Vec<u8>>> {
        let read = || -> std::result::Result<Option<Vec<u8>>, FilesError> {
            let parent = path.parent().unwrap_or_else(RelPath::root);
            let Some(name) = path.file_name() else { return Ok(None) };
            let file = self.folders.get(&parent)?.open_file(&name.into(), Follow::Never)?;
            if Stamp::from(&file.attributes()?) != *stamp {
                return Ok(None);
            }
            let content = file.read_whole(SMALL)?;
            let is_same = Stamp::from(&file.attributes()?) == *stamp;
            Ok(is_same.then_some(content).filter(|content| content.len() as u64 == stamp.size))
        };
        let mut read = read;
        match read() {
            Ok(content) => Ok(content),
            Err(error) => {
                if !error.is_not_found() {
                    let reason = error.to_string();
                    self.event(SendEvent::Unreadable { path: path.clone(), reason });
                }
                Ok(None)
            }
        }
    }

    /// A large file is read while it goes out; what it is is told when its end was read.
    fn begin_large(&mut self, path: &RelPath, stamp: &Stamp) -> Result<()> {
        while self.large.len() + self.fresh.len() >= MOST_LARGE {
            self.serve(std::time::Duration::from_millis(20))?;
            if self.is_stopped() {
                return Err(SendError::Stopped);
            }
        }
        let object = self.ledger.new_object()?;
        let is_bulk = stamp.size > BULKY || self.last_generation <= self.first_generation;
        let class = if is_bulk { crate::frame::Class::Bulk } else { crate::frame::Class::New };
        self.reading.insert(path.clone(), object);
        self.links.reads(object, stamp);
        self.begin_way(object, stamp.size);
        let (path, stamp) = (path.clone(), *stamp);
        let queue = if is_bulk { &mut self.large } else { &mut self.fresh };
        queue.push_back(Job::First { object, path, stamp, class });
        Ok(())
    }

    /// A large file was read to its end.
    pub(super) fn large_file(
        &mut self,
        object: u64,
        path: RelPath,
        stamp: Stamp,
        digest: [u8; 32],
    ) -> Result<()> {
        self.generation()?;
        self.draft.object(object, stamp.size);
        self.tell_file(&path, &stamp, Note { digest, object, offset: 0 })?;
        if self.gone_early.contains(&object) {
            // All of it had gone out before it was told.
            self.draft.waiting.remove(&object);
        }
        Ok(())
    }

    /// Files of an object that cannot be made again, as others in it have changed, go out in a new one.
    pub(super) fn tell_anew(&mut self, object: u64) -> Result<()> {
        for (_, path) in self.ledger.files_of(object)? {
            let known = self.ledger.snapshot().get(&path)?;
            let Some(known) = known else { continue };
            let stamp = match self.root.attributes_of(&path) {
                Ok(attributes) if known.stamp.is_content_of(&attributes) => {
                    Stamp::from(&attributes)
                }
                _ => continue,
            };
            let (inode, at) = (stamp.inode, Note::decode(&known.note));
            self.content(&path, &stamp, Some(known), true)?;
            if stamp.links > 1 {
                self.tell_names_anew(inode, at, &stamp)?;
            }
            if self.draft.is_page() {
                self.close_page()?;
            }
        }
        self.close_page()?;
        self.ledger.have_gone(
            &[object].into(),
            crate::send::engine::now_ms(),
            &Default::default(),
        )?;
        Ok(())
    }

    /// Tells the whole tree as it was told so far, for receivers that came late or lost something.
    pub(super) fn full_manifest(&mut self) -> Result<()> {
        self.end_generation()?;
        if self.draft.generation != 0 {
            return Ok(());
        }
        (self.wants_full, self.run.is_set_back) = (false, false);
        if self.ledger.snapshot().entries()? == 0 {
            return Ok(());
        }
        let number = self.next_generation();
        self.draft.begin(number, 0);
        self.is_telling_all = true;
        let told = self.tell_all();
        self.is_telling_all = false;
        told?;
        self.end_generation()
    }

    /// The entries of a full manifest.
    fn tell_all(&mut self) -> Result<()> {
        let read = self.ledger.snapshot().read()?;
        for entry in read.all()? {
            let (path, known) = entry?;
            let attributes = self.told(&path, &known.stamp);
            let change = match known.stamp.kind {
                Kind::Directory => Change::Folder { path, attributes },
                Kind::Symlink => {
                    let target = known.link_target.unwrap_or_default();
                    Change::Symlink { path, mtime: known.stamp.mtime, target }
                }
                Kind::File => {
                    let Some(note) = Note::decode(&known.note) else { continue };
                    let Note { digest, object, offset } = note;
                    if let Some(file) = self.file_of(&path, &known)? {
                        self.draft.push(Change::HardLink { path, file });
                        self.end_page_of_all()?;
                        continue;
                    }
                    let size = known.stamp.size;
                    Change::File { path, attributes, size, digest, object, offset }
                }
                Kind::Other => continue,
            };
            self.draft.push(change);
            self.end_page_of_all()?;
        }
        Ok(())
    }

    fn end_page_of_all(&mut self) -> Result<()> {
        if self.draft.is_page() {
            self.close_page()?;
            self.serve(std::time::Duration::ZERO)?;
            if self.is_stopped() {
                return Err(SendError::Stopped);
            }
        }
        Ok(())
    }

    fn told(&self, path: &RelPath, stamp: &Stamp) -> Told {
        Told {
            mode: (stamp.mode & 0o7777) as u16,
            mtime: stamp.mtime,
            owner: self.options.with_owner.then_some((stamp.uid, stamp.gid)),
            xattrs: self.xattrs(path, stamp.kind),
        }
    }

    /// The extended attributes that users make; None where they are not to be told, or cannot be.
    fn xattrs(&self, path: &RelPath, kind: Kind) -> Option<Vec<(Name, Vec<u8>)>> {
        let wanted = self.options.with_xattrs && matches!(kind, Kind::File | Kind::Directory);
        let (true, Some(parent), Some(name)) = (wanted, path.parent(), path.file_name()) else {
            return None;
        };
        let read = || -> std::result::Result<Vec<(Name, Vec<u8>)>, FilesError> {
            let dir = self.root.open_dir(&parent, Follow::Never)?;
            let mut xattrs = Vec::new();
            for key in dir.xattr_names(&name)? {
                let value = if key.starts_with(b"user.") { dir.xattr(&name, &key)? } else { None };
                xattrs.extend(Name::new(&key).ok().zip(value));
            }
            Ok(xattrs)
        };
        let xattrs = read().ok()?;
        let bytes: usize = xattrs.iter().map(|(_, value)| value.len()).sum();
        if bytes > MOST_XATTRS || xattrs.len() > 256 {
            let reason =
                "its extended attributes are too many or too long, and are left out".into();
            self.event(SendEvent::Unreadable { path: path.clone(), reason });
            return None;
        }
        Some(xattrs)
    }
}
