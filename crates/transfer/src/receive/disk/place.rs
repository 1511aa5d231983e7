//! What stands where an entry is to go, and the entries that are made on the spot: folders and links.

use super::*;

impl Disk {
    pub(super) fn examine(&self, placed: &Placed, nearest: &mut Nearest) -> Found {
        let path = placed.spot.path().unwrap_or_default();
        if let Err(refusal) = self.admission.admit(&placed.entry, &path) {
            return Found::Failed(Failed { code: refusal.code, text: refusal.text });
        }
        let Near { folder, is_fresh, .. } = match nearest.at(self, &placed.spot.folder) {
            Err(error) if error.is_not_found() && self.order.dry_run => return would_make(placed),
            Err(error) => return Found::Failed(failed(&error)),
            Ok(near) => near,
        };
        // What comes into a new folder from elsewhere in that moment is replaced as anything that exists is.
        let is_free = *is_fresh && self.order.existing == Existing::Overwrite;
        let found = match &placed.entry.kind {
            EntryKind::Folder => self.make_folder(folder, placed),
            EntryKind::Symlink { target } => self.make_symlink(folder, placed, target),
            EntryKind::File { .. } | EntryKind::HardLink { .. } if is_free => Ok(Found::Nothing),
            EntryKind::File { size, .. } => {
                let found = look(folder, placed, *size);
                if self.order.dry_run
                    && let Some(why) = self.beside_content(folder, placed, &found)
                {
                    return Found::WouldMake(why);
                }
                let read_now = *size <= CHUNK && !self.order.checksum && !self.order.dry_run;
                match found {
                    // A job of its own for each would cost more than the reading.
                    Ok(Found::SameStamp) if read_now => {
                        Ok(match self.hash_existing(placed, true) {
                            Ok(digest) => Found::Unchanged(digest),
                            // A failed sync is final: asked again it would report success for lost data.
                            Err(error @ FilesError::Sync { .. }) => Found::Failed(failed(&error)),
                            Err(_) => Found::SameStamp,
                        })
                    }
                    found => found,
                }
            }
            EntryKind::HardLink { size, .. } => look(folder, placed, *size),
        };
        found.unwrap_or_else(|error| Found::Failed(failed(&error)))
    }

    /// What a dry run would change of what is there, but for content.
    fn beside_content(
        &self,
        folder: &Dir,
        placed: &Placed,
        found: &Result<Found, FilesError>,
    ) -> Option<Why> {
        let now = folder.attributes_of(&RelPath::from(&placed.spot.name)).ok()?;
        let replaces = matches!(self.order.existing, Existing::Overwrite | Existing::Rename);
        match found {
            Ok(Found::SameStamp) if !self.order.checksum => {
                (now.mode & 0o7777 != self.mode(&placed.entry)).then_some(Why::Mode)
            }
            Ok(Found::Different { .. }) if replaces && now.kind != Kind::File => Some(Why::Kind),
            _ => None,
        }
    }

    fn make_folder(&self, folder: &Dir, placed: &Placed) -> Result<Found, FilesError> {
        let name = &placed.spot.name;
        if self.order.dry_run {
            return Ok(match kind_of(folder, name)? {
                None => Found::WouldMake(Why::New),
                Some(Kind::Directory) => Found::Made,
                Some(kind) => in_the_way(kind),
            });
        }
        // Open to its owner alone until it is filled; its own mode comes last.
        match folder.make_dir(name, 0o700) {
            Ok(()) => {
                self.fresh().extend(placed.spot.path());
                Ok(Found::Made)
            }
            Err(error) if error.is_already_exists() => Ok(match kind_of(folder, name)? {
                Some(Kind::Directory) => {
                    self.open_up(folder, name)?;
                    Found::Made
                }
                Some(kind) => in_the_way(kind),
                None => Found::Failed(failed(&error)),
            }),
            Err(error) => Err(error),
        }
    }

    /// Lets us work in a folder that its owner may not write in; its mode is set when it is finished.
    fn open_up(&self, folder: &Dir, name: &Name) -> Result<(), FilesError> {
        let mode = folder.attributes_of(&RelPath::from(name))?.mode & 0o7777;
        if mode & 0o700 != 0o700 {
            // Where it is not ours the first file in it will say so.
            let _ = folder.set_mode(name, mode | 0o700);
        }
        Ok(())
    }

    fn make_symlink(
        &self,
        folder: &Dir,
        placed: &Placed,
        target: &[u8],
    ) -> Result<Found, FilesError> {
        let name = &placed.spot.name;
        let kind = kind_of(folder, name)?;
        match kind {
            Some(Kind::Directory) => return Ok(in_the_way(Kind::Directory)),
            Some(Kind::Symlink) if folder.read_link(name)? == target => {
                if !self.order.dry_run {
                    self.dress_symlink(folder, name, &placed.entry)?;
                }
                return Ok(Found::Made);
            }
            Some(_) if self.order.existing == Existing::Skip => return Ok(Found::Left),
            Some(_) if self.order.existing == Existing::Fail => return Ok(Found::Left),
            None if self.order.dry_run => return Ok(Found::WouldMake(Why::New)),
            Some(Kind::Symlink) if self.order.dry_run => {
                return Ok(Found::WouldMake(Why::Content));
            }
            Some(_) if self.order.dry_run => return Ok(Found::WouldMake(Why::Kind)),
            _ => {}
        }
        self.keep_old(folder, name)?;
        self.beside(folder, |folder, passing| {
            folder.make_symlink(target, passing)?;
            self.dress_symlink(folder, passing, &placed.entry)?;
            folder.rename(passing, (folder, name), Replace::Yes)
        })?;
        Ok(Found::Made)
    }

    fn dress_symlink(&self, folder: &Dir, name: &Name, entry: &Entry) -> Result<(), FilesError> {
        if let Some((user, group)) = entry.owner {
            folder.set_owner(name, user, group)?;
        }
        folder.set_times(name, entry.mtime)
    }

    pub(super) fn link(&self, placed: &Placed, to: &RelPath) -> Result<(), FilesError> {
        let folder = self.folder(&placed.spot.folder)?;
        let name = &placed.spot.name;
        let first = self.folder(&to.parent().unwrap_or_default())?;
        let first_name = to.file_name().unwrap_or_else(|| name.clone());
        let wanted = first.attributes_of(&RelPath::from(&first_name))?;
        if let Ok(now) = folder.attributes_of(&RelPath::from(name)) {
            if (now.device, now.inode) == (wanted.device, wanted.inode) {
                return Ok(());
            }
            if now.kind == Kind::Directory {
                let path = folder.path().join(name.as_os_str());
                return Err(FilesError::DirectoryInTheWay { path });
            }
        }
        self.keep_old(&folder, name)?;
        self.beside(&folder, |folder, passing| {
            folder.hard_link(passing, (&first, &first_name))?;
            folder.rename(passing, (folder, name), Replace::Yes)
        })
    }

    /// Makes something under a passing name in the same folder, so that the final name changes in one
    /// step; the passing name is gone afterwards in any case.
    fn beside(
        &self,
        folder: &Dir,
        make: impl FnOnce(&Dir, &Name) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let passing = passing_name()?;
        let made = make(folder, &passing);
        if made.is_err() {
            // It may not even exist.
            let _ = folder.unlink(&passing);
        }
        made
    }

    /// With `--existing rename`, what has the name is kept as `NAME.~N~`.
    pub(super) fn keep_old(&self, folder: &Dir, name: &Name) -> Result<(), FilesError> {
        if self.order.existing != Existing::Rename {
            return Ok(());
        }
        match kind_of(folder, name)? {
            None | Some(Kind::Directory) => return Ok(()),
            Some(_) => {}
        }
        for number in 1..=u32::MAX {
            let suffix = format!(".~{number}~");
            let keep = 255 - suffix.len();
            let stem = &name.as_bytes()[..name.as_bytes().len().min(keep)];
            let old = Name::new([stem, suffix.as_bytes()].concat())
                .map_err(|source| FilesError::Name { bytes: name.as_bytes().to_vec(), source })?;
            // A second name, so that the first one stands until the new file takes it.
            match folder.hard_link(&old, (folder, name)) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_already_exists() => continue,
                Err(_) => {}
            }
            // File systems without hard links: for a moment nothing has the name.
            match folder.rename(name, (folder, &old), Replace::No) {
                Err(error) if error.is_already_exists() => {}
                result => return result,
            }
        }
        Ok(())
    }
}

fn look(folder: &Dir, placed: &Placed, size: u64) -> Result<Found, FilesError> {
    let now = match folder.attributes_of(&RelPath::from(&placed.spot.name)) {
        Err(error) if error.is_not_found() => return Ok(Found::Nothing),
        now => now?,
    };
    Ok(match now.kind {
        Kind::Directory => in_the_way(Kind::Directory),
        Kind::File if now.size == size && now.mtime == placed.entry.mtime => Found::SameStamp,
        Kind::File => Found::Different { same_size: now.size == size },
        Kind::Symlink | Kind::Other => Found::Different { same_size: false },
    })
}

fn would_make(placed: &Placed) -> Found {
    match placed.entry.kind {
        EntryKind::Folder | EntryKind::Symlink { .. } => Found::WouldMake(Why::New),
        EntryKind::File { .. } | EntryKind::HardLink { .. } => Found::Nothing,
    }
}

fn kind_of(folder: &Dir, name: &Name) -> Result<Option<Kind>, FilesError> {
    match folder.attributes_of(&RelPath::from(name)) {
        Ok(attributes) => Ok(Some(attributes.kind)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_the_way(kind: Kind) -> Found {
    let text = format!("{kind} of this name is in the way");
    Found::Failed(Failed { code: RefuseCode::Exists, text })
}

/// A name that nobody uses, for a moment. Walks and peers are kept from it as from all of haul's names.
fn passing_name() -> Result<Name, FilesError> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!(".haul-tmp-{}-{number}", std::process::id());
    Name::new(&name).map_err(|source| FilesError::Name { bytes: name.into_bytes(), source })
}
