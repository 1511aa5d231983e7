//! The tree on disk: every change to it goes through here, by folder handles and single names. It decides nothing; what
//! bears a final name here has been proven whole.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use files::{
    Attributes, CHUNK, Digest, Dir, DirCache, FilesError, Follow, Kind, Name, Partial,
    PublishOptions, RelPath, Replace, Staging, Timestamp, chunk_count, chunk_len,
};

use super::status::Shared;
use super::writer::{NO_TIME, staging_key};
use crate::manifest::Told;

type Result<T, E = FilesError> = std::result::Result<T, E>;

/// Folders kept open.
const OPEN_FOLDERS: usize = 256;

/// So many changed folders are remembered.
const MOST_UNSYNCED: usize = 4096;

/// Where in the staging area things lie that were taken out of the tree.
const QUARANTINE: &str = "quarantine";

/// What of a file's attributes is taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dress {
    pub(super) owner: bool,
    pub(super) setid: bool,
    pub(super) durable: bool,
}

pub(super) struct Ground {
    folders: DirCache,
    staging: Arc<Staging>,
    dress: Dress,
    shared: Arc<Shared>,
    quarantine: Option<Dir>,
    /// Folders in which something changed since the last time that they were brought to the disk.
    unsynced: HashSet<RelPath>,
    passing: AtomicU64,
}

impl Ground {
    pub(super) fn new(
        root: &Dir,
        staging: Arc<Staging>,
        dress: Dress,
        shared: Arc<Shared>,
    ) -> Self {
        let folders = DirCache::new(root.clone(), Follow::Never, OPEN_FOLDERS);
        let passing = AtomicU64::new(RandomState::new().hash_one(std::process::id()));
        let unsynced = HashSet::new();
        Self { folders, staging, dress, shared, quarantine: None, unsynced, passing }
    }

    pub(super) fn root(&self) -> &Dir {
        self.folders.root()
    }

    fn parent(&mut self, path: &RelPath) -> Result<(Dir, Name)> {
        let folder = self.folders.get(&path.parent().unwrap_or_default())?;
        Ok((folder, name_of(path)))
    }

    /// The same, to change something there.
    fn changed(&mut self, path: &RelPath) -> Result<(Dir, Name)> {
        self.shared.step();
        let parent = path.parent().unwrap_or_default();
        let folder = self.folders.get(&parent)?;
        if self.dress.durable && !self.unsynced.contains(&parent) {
            if self.unsynced.len() >= MOST_UNSYNCED {
                self.sync()?;
            }
            self.unsynced.insert(parent);
        }
        Ok((folder, name_of(path)))
    }

    /// Brings the names that were given and taken since the last time to the disk, if that was asked for.
    pub(super) fn sync(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.unsynced) {
            match self.folders.get(&path).and_then(|folder| folder.sync()) {
                // It was moved or removed since, which its own parent bears out.
                Err(error) if error.is_not_found() || error.is_not_a_directory() => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    /// Forgets handles of folders that somebody may have replaced.
    pub(super) fn forget(&mut self, path: &RelPath) {
        self.folders.forget(path);
    }

    /// What is at a path now.
    pub(super) fn found(&mut self, path: &RelPath) -> Result<Option<Attributes>> {
        let found = self.parent(path).and_then(|(folder, name)| {
            let found = folder.attributes_of(&(&name).into());
            // A folder that is there tells what is in it; one that was removed tells nothing.
            match found {
                Err(error) if error.is_not_found() && folder.attributes()?.links > 0 => Ok(None),
                found => found.map(Some),
            }
        });
        match found {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() || error.is_not_a_directory() => {
                self.folders.forget(&path.parent().unwrap_or_default());
                Ok(None)
            }
            // A link on the way is nothing that we have put there.
            Err(error) if error.is_symlink_refused() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a folder is there and can be opened.
    pub(super) fn is_folder(&mut self, path: &RelPath) -> bool {
        self.folders.get(path).is_ok()
    }

    /// Makes a folder that only we can enter until it gets its mode.
    pub(super) fn make_folder(&mut self, path: &RelPath) -> Result<()> {
        let (folder, name) = self.changed(path)?;
        self.opened(path, |_| match folder.make_dir(&name, 0o700) {
            Err(error) if error.is_already_exists() => Ok(()),
            made => made,
        })
    }

    /// Does something in a folder that may forbid it to its owner, who may allow it again; its own mode comes back when
    /// the generation is complete.
    fn opened<T>(&mut self, path: &RelPath, act: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        match act(self) {
            Err(error) if error.is_permission_denied() => {
                let folder = self.folders.get(&path.parent().unwrap_or_default())?;
                let mode = folder.attributes()?.mode & 0o7777;
                if mode & 0o300 == 0o300 || folder.set_own_mode(mode | 0o700).is_err() {
                    return Err(error);
                }
                act(self)
            }
            acted => acted,
        }
    }

    /// Gives a folder its attributes, the time last.
    pub(super) fn dress_folder(&mut self, path: &RelPath, told: &Told) -> Result<()> {
        let folder = self.folders.get(path)?;
        let (parent, name) = self.parent(path)?;
        if let (Some((user, group)), true) = (told.owner, self.dress.owner) {
            folder.set_own_owner(user, group)?;
        }
        if told.xattrs.is_some() {
            // They are written by whoever may write.
            folder.set_own_mode(self.mode(told) | 0o700)?;
        }
        dress_xattrs(&parent, &name, told)?;
        folder.set_own_mode(self.mode(told))?;
        folder.set_own_times(told.mtime)
    }

    /// Gives a file that is there other attributes.
    pub(super) fn dress_file(&mut self, path: &RelPath, told: &Told) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        if let (Some((user, group)), true) = (told.owner, self.dress.owner) {
            folder.set_owner(&name, user, group)?;
        }
        if told.xattrs.is_some() {
            folder.set_mode(&name, self.mode(told) | 0o600)?;
        }
        dress_xattrs(&folder, &name, told)?;
        folder.set_mode(&name, self.mode(told))?;
        folder.set_times(&name, told.mtime)
    }

    fn mode(&self, told: &Told) -> u32 {
        u32::from(told.mode) & if self.dress.setid { 0o7777 } else { 0o777 }
    }

    fn options(&self, told: &Told) -> PublishOptions {
        let xattrs = user_xattrs(told).map(|(key, value)| (key.to_vec(), value.to_vec()));
        PublishOptions {
            mode: Some(told.mode.into()),
            keep_setid: self.dress.setid,
            mtime: Some(told.mtime),
            owner: told.owner.filter(|_| self.dress.owner),
            xattrs: xattrs.collect(),
            durable: self.dress.durable,
            replace: Replace::Yes,
        }
    }

    /// Publishes a small file whose content was verified.
    pub(super) fn publish(&mut self, path: &RelPath, bytes: &[u8], told: &Told) -> Result<()> {
        self.shared.room()?;
        let options = self.options(told);
        self.opened(path, |ground| {
            let (folder, name) = ground.changed(path)?;
            ground.staging.small(bytes, &folder, &name, &options).map(|_| ())
        })
    }

    /// Publishes a staged file whose digest was verified. Its folder is there, and no folder in its way.
    pub(super) fn publish_staged(
        &mut self,
        path: &RelPath,
        partial: Partial,
        told: &Told,
    ) -> Result<()> {
        let options = self.options(told);
        let (folder, name) = self.changed(path)?;
        // A staged file that could not be published is read and hashed once more, so this is seen to before.
        let mode = folder.attributes()?.mode;
        if mode & 0o300 != 0o300 {
            let _ = folder.set_own_mode(mode & 0o7777 | 0o700);
        }
        partial.publish(&folder, &name, &options).map(|_| ())
    }

    /// Publishes what another path holds, as a copy that is verified again.
    pub(super) fn publish_copy(
        &mut self,
        from: &RelPath,
        path: &RelPath,
        (size, digest): (u64, [u8; 32]),
        told: &Told,
    ) -> Result<bool> {
        let (folder, name) = self.parent(from)?;
        let file = folder.open_file(&RelPath::from(name), Follow::Never)?;
        let key = staging_key(digest, size);
        let partial = self.staging.partial(&key, size, NO_TIME)?;
        let mut chunk = Vec::with_capacity(CHUNK as usize);
        for index in 0..chunk_count(size) {
            chunk.resize(chunk_len(size, index).unwrap_or(0), 0);
            file.read_exact_at(&mut chunk, index * CHUNK)?;
            partial.write_proven(index, &chunk, true)?;
        }
        if partial.complete() != Some(Digest::from_bytes(digest)) {
            partial.discard()?;
            return Ok(false);
        }
        self.publish_staged(path, partial, told).map(|()| true)
    }

    /// The BLAKE3 of the file at a path.
    pub(super) fn digest(&mut self, path: &RelPath) -> Result<Digest> {
        let (folder, name) = self.parent(path)?;
        folder.open_file(&RelPath::from(name), Follow::Never)?.digest()
    }

    /// Where the link at a path points.
    pub(super) fn target(&mut self, path: &RelPath) -> Result<Vec<u8>> {
        let (folder, name) = self.parent(path)?;
        folder.read_link(&name)
    }

    /// Sets the time of a link.
    pub(super) fn time_link(&mut self, path: &RelPath, mtime: Timestamp) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        folder.set_times(&name, mtime)
    }

    /// Makes a symbolic link in one step.
    pub(super) fn symlink(
        &mut self,
        path: &RelPath,
        target: &[u8],
        mtime: Timestamp,
    ) -> Result<()> {
        self.opened(path, |ground| {
            let (folder, name) = ground.changed(path)?;
            ground.beside(&folder, &name, |passing| {
                folder.make_symlink(target, passing)?;
                folder.set_times(passing, mtime)
            })
        })
    }

    /// Gives a file another name in one step.
    pub(super) fn hard_link(&mut self, path: &RelPath, file: &RelPath) -> Result<()> {
        self.opened(path, |ground| {
            let (from, old) = ground.parent(file)?;
            let (folder, name) = ground.changed(path)?;
            ground.beside(&folder, &name, |passing| folder.hard_link(passing, (&from, &old)))
        })
    }

    /// Makes something under a passing name, so that the final name changes in one step.
    fn beside(
        &self,
        folder: &Dir,
        name: &Name,
        make: impl FnOnce(&Name) -> Result<()>,
    ) -> Result<()> {
        let number = self.passing.fetch_add(1, Ordering::Relaxed);
        // Such names are our own: no page may use them.
        let passing = own(&format!(".haul-tmp-{number:016x}"));
        let made =
            make(&passing).and_then(|()| folder.rename(&passing, (folder, name), Replace::Yes));
        // A rename of one inode to itself leaves both names.
        let _ = folder.unlink(&passing);
        made
    }

    /// A folder that forbids writing cannot be renamed into another one.
    fn loosen(&mut self, path: &RelPath) -> Result<()> {
        match self.found(path)? {
            Some(Attributes { kind: Kind::Directory, mode, .. }) if mode & 0o200 == 0 => {
                let (folder, name) = self.parent(path)?;
                folder.set_mode(&name, mode | 0o700)
            }
            _ => Ok(()),
        }
    }

    /// Renames an entry with all that is in it.
    pub(super) fn rename(&mut self, from: &RelPath, to: &RelPath) -> Result<()> {
        self.loosen(from)?;
        let inode = |found: Option<Attributes>| {
            found.filter(|found| found.kind == Kind::File).map(|found| (found.device, found.inode))
        };
        let (old, new) = (inode(self.found(from)?), inode(self.found(to)?));
        if old.is_some() && old == new {
            // A rename of one inode to itself leaves both names.
            return self.remove(from);
        }
        let (from_folder, from_name) = self.changed(from)?;
        self.opened(from, |ground| {
            ground.opened(to, |ground| {
                let (to_folder, to_name) = ground.changed(to)?;
                from_folder.rename(&from_name, (&to_folder, &to_name), Replace::Yes)
            })
        })?;
        self.folders.forget(from);
        self.folders.forget(to);
        Ok(())
    }

    /// Removes an entry with all that is in it.
    pub(super) fn remove(&mut self, path: &RelPath) -> Result<()> {
        self.folders.forget(path);
        self.opened(path, |ground| {
            let (folder, name) = ground.changed(path)?;
            match folder.remove_tree(&name) {
                Err(error) if error.is_not_found() => Ok(()),
                removed => removed,
            }
        })
    }

    /// Takes an entry out of the tree, to be kept under a number.
    pub(super) fn put_away(&mut self, path: &RelPath, id: u64) -> Result<()> {
        let quarantine = self.quarantine()?;
        self.loosen(path)?;
        self.opened(path, |ground| {
            let (folder, name) = ground.changed(path)?;
            folder.rename(&name, (&quarantine, &kept_name(id)), Replace::No)
        })?;
        self.folders.forget(path);
        Ok(())
    }

    /// Brings an entry back, or one that is in it. What has its path now stays, and this fails.
    pub(super) fn bring_back(&mut self, id: u64, inside: &RelPath, to: &RelPath) -> Result<()> {
        let quarantine = self.quarantine()?;
        let parent = self.root().make_dir_all(&to.parent().unwrap_or_default(), 0o700)?;
        let name = name_of(to);
        let kept = RelPath::from(kept_name(id));
        let from = match (inside.parent(), inside.file_name()) {
            (Some(folder), Some(name)) => {
                let folder = kept.join_path(&folder).unwrap_or_default();
                (quarantine.open_dir(&folder, Follow::Never)?, name)
            }
            _ => (quarantine, kept_name(id)),
        };
        from.0.rename(&from.1, (&parent, &name), Replace::No)
    }

    /// Whether something is kept under a number.
    pub(super) fn is_kept(&mut self, id: u64) -> Result<bool> {
        match self.quarantine()?.attributes_of(&kept_name(id).into()) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes for good what is kept under a number.
    pub(super) fn let_go(&mut self, id: u64) -> Result<()> {
        match self.quarantine()?.remove_tree(&kept_name(id)) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        }
    }

    fn quarantine(&mut self) -> Result<Dir> {
        if let Some(dir) = &self.quarantine {
            return Ok(dir.clone());
        }
        let area = self.root().make_private_dir(&own(files::STAGING_NAME))?;
        let dir = area.make_private_dir(&own(QUARANTINE))?;
        Ok(self.quarantine.insert(dir).clone())
    }
}

/// Only these are taken over: others mean something to the system.
fn user_xattrs(told: &Told) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = told.xattrs.iter().flatten().map(|(key, value)| (key.as_bytes(), &value[..]));
    all.filter(|(key, _)| key.starts_with(b"user."))
}

/// Gives an entry the extended attributes that are told, and takes those that are not, if any are told at all.
fn dress_xattrs(folder: &Dir, name: &Name, told: &Told) -> Result<()> {
    if told.xattrs.is_none() {
        return Ok(());
    }
    for key in folder.xattr_names(name)?.into_iter().filter(|key| key.starts_with(b"user.")) {
        if user_xattrs(told).all(|(told, _)| told != key) {
            folder.remove_xattr(name, &key)?;
        }
    }
    user_xattrs(told).try_for_each(|(key, value)| folder.set_xattr(name, key, value))
}

fn name_of(path: &RelPath) -> Name {
    // No entry is the tree's root: pages that name it are refused.
    path.file_name().unwrap_or_else(|| own("unnamed"))
}

fn kept_name(id: u64) -> Name {
    own(&format!("{id:016x}"))
}

fn own(text: &str) -> Name {
    Name::new(text).expect("it has neither slashes nor dots alone")
}
