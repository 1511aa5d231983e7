//! The target's disk: carries out the jobs of the machine below one folder, on threads that may block. It
//! decides nothing but how; every path goes through a folder handle and single names.

mod extras;
mod older;
mod place;
mod twins;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use files::{
    Attributes, CHUNK, ChunkHash, Digest, Dir, DirCache, File, FilesError, Follow, Kind, Name,
    Partial, PartialKey, PublishOptions, RelPath, Replace, Sha256, Staging, chunk_len, hash_chunk,
};

use crate::host::{Admission, Landing, Refusal};
use crate::message::{Entry, EntryKind, Existing, Order, RefuseCode, Why};
use crate::target::{Failed, Found, Job, JobResult, Opened, Placed, Spot};
use extras::Extras;
use older::Older;
use twins::Listing;

/// Folders kept open.
const OPEN_FOLDERS: usize = 64;
/// How often, and in which steps, a staged file that is still held by an earlier offer is waited for.
const BUSY_TRIES: u32 = 50;
const BUSY_STEP: Duration = Duration::from_millis(100);

/// Written by several threads at once; taken by one, which waits for them.
type Shared = Arc<RwLock<Option<Partial>>>;

/// The folder of the entry before: within one job most entries share it.
#[derive(Default)]
struct Nearest(Option<Near>);

struct Near {
    path: Arc<RelPath>,
    folder: Dir,
    /// See `Disk::fresh`.
    is_fresh: bool,
}

impl Nearest {
    fn at(&mut self, disk: &Disk, path: &Arc<RelPath>) -> Result<&Near, FilesError> {
        let near = match self.0.take() {
            Some(near) if Arc::ptr_eq(&near.path, path) => near,
            _ => {
                let folder = disk.folder(path)?;
                let is_fresh = disk.fresh().contains(&**path);
                Near { path: path.clone(), folder, is_fresh }
            }
        };
        Ok(self.0.insert(near))
    }
}

/// See the module's text.
pub(crate) struct Disk {
    landing: Landing,
    order: Order,
    /// Whose staged files are resumed: the source's key.
    peer: [u8; 32],
    base: Option<Dir>,
    folders: Mutex<Option<DirCache>>,
    /// Folders that this transfer has made and not finished: nothing stands in them but what it puts
    /// there. Unfinished entries are bounded by the window, and so are these.
    fresh: Mutex<HashSet<RelPath>>,
    staging: Staging,
    partials: Mutex<HashMap<u64, Shared>>,
    /// Older files of which those are made, by entry.
    older: Mutex<HashMap<u64, Arc<Older>>>,
    /// Files that others may be made of, by entry.
    twins: Mutex<HashMap<u64, Arc<File>>>,
    listing: Mutex<Listing>,
    extras: Mutex<Extras>,
    /// How files looked that were hashed for a comparison, by entry.
    hashed: Mutex<HashMap<u64, Attributes>>,
    /// SHA-256 digests of files that have come to stand, by entry, where an intake wants them.
    sums: Option<Mutex<HashMap<u64, Sha256>>>,
    admission: Arc<dyn Admission>,
}

impl Disk {
    /// Opens the target folder, or makes it if the landing says so.
    pub(crate) fn open(landing: Landing, order: &Order, peer: [u8; 32]) -> Result<Self, Refusal> {
        let refuse = |error: FilesError| {
            let Failed { code, text } = failed(&error);
            Refusal { code, text: format!("{}: {text}", landing.shown) }
        };
        let mut listing = Listing::NotBegun;
        let base = match landing.root.open_dir(&landing.folder, Follow::Never) {
            Ok(base) => Some(base),
            Err(error) if error.is_not_found() && landing.make && order.dry_run => None,
            Err(error) if error.is_not_found() && landing.make => {
                // Nothing is in it.
                listing = Listing::Over;
                Some(landing.root.make_dir_all(&landing.folder, 0o777).map_err(refuse)?)
            }
            Err(error) => return Err(refuse(error)),
        };
        let staging = Staging::open(&landing.root).map_err(refuse)?;
        // What nobody came back for in a week is in the way; a failure to remove it is not.
        let _ = staging.sweep(Duration::from_secs(7 * 24 * 3600));
        let cache = base.clone().map(|base| DirCache::new(base, Follow::Never, OPEN_FOLDERS));
        Ok(Self {
            admission: landing.admission.clone(),
            sums: landing.intake.is_some().then(Mutex::default),
            folders: Mutex::new(cache),
            fresh: Mutex::default(),
            landing,
            order: order.clone(),
            peer,
            base,
            staging,
            partials: Mutex::default(),
            older: Mutex::default(),
            twins: Mutex::default(),
            listing: Mutex::new(listing),
            extras: Mutex::default(),
            hashed: Mutex::default(),
        })
    }

    /// Does a job; `body` is what came in the parcel that the job is for. Nothing is done for a transfer whose place
    /// another has taken: it is about to end.
    pub(crate) fn run(&self, job: Job, body: &[u8]) -> JobResult {
        let Some(intake) = &self.landing.intake else { return self.carry_out(job, body) };
        let (mut job, mut result) = (Some(job), JobResult::Discarded);
        intake.during(&mut || {
            if let Some(job) = job.take() {
                result = self.carry_out(job, body);
            }
        });
        result
    }

    fn carry_out(&self, job: Job, body: &[u8]) -> JobResult {
        match job {
            Job::Examine(list) => {
                let mut nearest = Nearest::default();
                let found = list.iter().map(|placed| {
                    let found = self.examine(placed, &mut nearest);
                    (placed.entry.index, found)
                });
                JobResult::Examined(found.collect())
            }
            Job::HashExisting { placed, adopt } => {
                let result = self.hash_existing(&placed, adopt).map_err(|e| failed(&e));
                JobResult::Hashed { index: placed.entry.index, result, adopted: adopt }
            }
            Job::Adopt(placed) => {
                let result = self.adopt(&placed).map_err(|e| failed(&e));
                JobResult::Adopted { index: placed.entry.index, result }
            }
            Job::Open { placed, delta } => {
                let result = self.open_checked(&placed).map(|ranges| {
                    let older = if delta { self.find_older(&placed) } else { None };
                    Opened { ranges, older }
                });
                JobResult::Opened { index: placed.entry.index, result }
            }
            Job::Sign { index, from, link } => {
                let (pieces, next) = self.sign(index, from);
                JobResult::Signed { index, link, pieces, next }
            }
            Job::ListTwins { most } => self.list_twins(most),
            Job::HashTwin { placed, from } => {
                let digest = self.hash_twin(&placed, &from);
                JobResult::TwinHashed { index: placed.entry.index, from, digest }
            }
            Job::Fill { placed, digest } => {
                let result = self.fill(&placed, digest);
                JobResult::Filled { index: placed.entry.index, result }
            }
            Job::ForgetTwin { index } => {
                self.twins().remove(&index);
                JobResult::Discarded
            }
            Job::Patch { index, chunk, hash, ops, len, sparse } => {
                match self.patch((index, chunk), &hash, (&ops, body), sparse) {
                    Some(result) => {
                        JobResult::Chunks { index, first: chunk, count: 1, len, result }
                    }
                    None => JobResult::Unpatched { index, chunk, len },
                }
            }
            Job::WriteSmall(files) => {
                let (mut rest, mut nearest) = (body, Nearest::default());
                let written = files.into_iter().map(|(placed, len, hash)| {
                    let (data, behind) = rest.split_at(rest.len().min(len as usize));
                    rest = behind;
                    (placed.entry.index, len, self.write_small(&placed, data, &hash, &mut nearest))
                });
                JobResult::Small(written.collect())
            }
            Job::WriteChunk { index, chunk, hash, len, sparse } => {
                let result = self
                    .with_partial(index, |partial| partial.write_chunk(chunk, body, &hash, sparse));
                JobResult::Chunks { index, first: chunk, count: 1, len, result }
            }
            Job::WriteZeros { index, first, count, len } => {
                let result = self.with_partial(index, |partial| write_zeros(partial, first, count));
                JobResult::Chunks { index, first, count, len, result }
            }
            Job::Publish { placed, digest } => {
                let result = self.publish(&placed, digest).map_err(|e| failed(&e));
                JobResult::Published { index: placed.entry.index, result }
            }
            Job::Discard { index, remove } => {
                self.older().remove(&index);
                let shared = self.partials().remove(&index);
                if let (Some(shared), true) = (shared, remove) {
                    let taken = shared.write().unwrap_or_else(PoisonError::into_inner).take();
                    // What cannot be removed now is swept one day.
                    let _ = taken.map(Partial::discard);
                }
                JobResult::Discarded
            }
            Job::Link { placed, to } => {
                let result = self.link(&placed, &to).map_err(|e| failed(&e));
                JobResult::Linked { index: placed.entry.index, result }
            }
            Job::FinishFolder { placed, path, source_path, keep } => {
                let index = placed.as_ref().map(|placed| placed.entry.index);
                let result = self.finish_folder(placed.as_ref(), (&path, &source_path), keep);
                JobResult::FolderFinished { index, result: result.map_err(|e| failed(&e)) }
            }
            // The shell signs and so answers this one itself.
            Job::Finish { .. } => JobResult::Discarded,
        }
    }

    /// The last job: removes extras, makes the rest durable. Says which extras were removed, or would be.
    pub(crate) fn finish(&self, failures: bool) -> Result<Vec<RelPath>, Failed> {
        let extras =
            std::mem::take(&mut *self.extras.lock().unwrap_or_else(PoisonError::into_inner));
        let removed = match &self.base {
            Some(base) => extras.remove(base, &self.order, failures)?,
            None => Vec::new(),
        };
        if let (Some(base), true) = (&self.base, self.order.durable && !self.order.dry_run) {
            base.sync().map_err(|error| failed(&error))?;
            if let (true, Some(above)) = (self.landing.make, self.landing.folder.parent()) {
                let above = self.landing.root.open_dir(&above, Follow::Never);
                above.and_then(|above| above.sync()).map_err(|error| failed(&error))?;
            }
        }
        // Left-overs of other transfers keep it, and that is no failure of this one.
        let _ = self.staging.tidy();
        Ok(removed)
    }

    fn partials(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Shared>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, path: &RelPath) -> Result<Dir, FilesError> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        match folders.as_mut() {
            Some(cache) => cache.get(path),
            // A dry run into a folder that does not exist: the root will say that it is missing.
            None => self.landing.root.open_dir(&self.landing.folder, Follow::Never),
        }
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, HashSet<RelPath>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash_existing(&self, placed: &Placed, adopt: bool) -> Result<Digest, FilesError> {
        let folder = self.folder(&placed.spot.folder)?;
        let file = folder.open_file(&RelPath::from(&placed.spot.name), Follow::Never)?;
        let before = file.attributes()?;
        if self.order.reread {
            file.forget_cached()?;
        }
        let digest = file.digest()?;
        if adopt {
            self.adopt_file(&file, &before, &placed.entry)?;
            return Ok(digest);
        }
        if !file.attributes()?.unchanged_since(&before) {
            return Err(FilesError::ChangedWhileRead { path: file.path().to_owned() });
        }
        self.hashed().insert(placed.entry.index, before);
        Ok(digest)
    }

    /// The SHA-256 digest of a file that has come to stand, if it was summed up; it is forgotten here.
    pub(crate) fn take_sum(&self, index: u64) -> Option<Sha256> {
        self.sums()?.remove(&index)
    }

    fn sums(&self) -> Option<std::sync::MutexGuard<'_, HashMap<u64, Sha256>>> {
        let sums = self.sums.as_ref()?;
        Some(sums.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hashed(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Attributes>> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source has said that what was hashed here is what it has.
    fn adopt(&self, placed: &Placed) -> Result<(), FilesError> {
        let folder = self.folder(&placed.spot.folder)?;
        let file = folder.open_file(&RelPath::from(&placed.spot.name), Follow::Never)?;
        let changed = || FilesError::ChangedWhileRead { path: file.path().to_owned() };
        let hashed = self.hashed().remove(&placed.entry.index).ok_or_else(changed)?;
        self.adopt_file(&file, &hashed, &placed.entry)
    }

    /// Gives a file whose content is right the entry's mode and time, and makes it durable. It must be as
    /// it was when it was hashed: a change in between would be given the source's time and never be seen.
    fn adopt_file(
        &self,
        file: &File,
        hashed: &Attributes,
        entry: &Entry,
    ) -> Result<(), FilesError> {
        let now = file.attributes()?;
        if !now.unchanged_since(hashed) {
            return Err(FilesError::ChangedWhileRead { path: file.path().to_owned() });
        }
        let mode = self.mode(entry);
        if let Some((user, group)) = entry.owner
            && (now.uid, now.gid) != (user, group)
        {
            file.set_owner(user, group)?;
        }
        if now.mode & 0o7777 != mode {
            file.set_mode(mode)?;
        }
        if now.mtime != entry.mtime {
            file.set_times(entry.mtime)?;
        }
        if self.order.durable { file.sync() } else { Ok(()) }
    }

    /// The mode that an entry gets: set-id and sticky bits only when the order carries them.
    fn mode(&self, entry: &Entry) -> u32 {
        entry.mode & if self.order.setid { 0o7777 } else { 0o777 }
    }

    fn options(&self, entry: &Entry) -> PublishOptions {
        PublishOptions {
            mode: Some(self.mode(entry)),
            keep_setid: self.order.setid,
            mtime: Some(entry.mtime),
            owner: entry.owner,
            xattrs: entry.xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect(),
            durable: self.order.durable,
            replace: Replace::Yes,
        }
    }

    fn write_small(
        &self,
        placed: &Placed,
        data: &[u8],
        hash: &ChunkHash,
        nearest: &mut Nearest,
    ) -> Result<Digest, Failed> {
        // What could not be unpacked is empty, and so may be a file that nobody has offered.
        if Some(data.len() as u64) != placed.entry.size()
            || hash_chunk(data.len() as u64, 0, data) != *hash
        {
            let text = "what arrived does not have the hash that came with it".to_owned();
            return Err(Failed { code: RefuseCode::Corrupt, text });
        }
        self.hashed().remove(&placed.entry.index);
        let mut write = || {
            let Near { folder, .. } = nearest.at(self, &placed.spot.folder)?;
            self.keep_old(folder, &placed.spot.name)?;
            let options = self.options(&placed.entry);
            self.staging.small(data, folder, &placed.spot.name, &options)
        };
        write().map_err(|error| failed(&error))?;
        if self.sums.is_some() {
            let sum = Sha256::of(data);
            self.sums().map(|mut sums| sums.insert(placed.entry.index, sum));
        }
        Ok(Digest::from_bytes(*hash.as_bytes()))
    }

    fn key(&self, spot: &Spot) -> Result<PartialKey, FilesError> {
        let path = spot.path().unwrap_or_default();
        let path = self.landing.folder.join_path(&path).unwrap_or(path);
        Ok(PartialKey { peer: self.peer, path })
    }

    /// A file that cannot fit is refused before it fills the disk for all others.
    fn check_room(&self, placed: &Placed, present: u64) -> Result<(), Failed> {
        let size = placed.entry.size().unwrap_or_default();
        let sparse = matches!(placed.entry.kind, EntryKind::File { sparse: true, .. });
        let Ok(free) = self.landing.root.free_bytes() else { return Ok(()) };
        let needed = size.saturating_sub(present);
        if sparse || needed <= free {
            return Ok(());
        }
        let text = format!("the disk is full: {needed} bytes are needed and {free} are free");
        Err(Failed { code: RefuseCode::Disk, text })
    }

    fn open_partial(&self, placed: &Placed) -> Result<Vec<(u64, u64)>, FilesError> {
        let size = placed.entry.size().unwrap_or_default();
        self.hashed().remove(&placed.entry.index);
        let key = self.key(&placed.spot)?;
        let mut tries = 0;
        let mut partial = loop {
            match self.staging.partial(&key, size, placed.entry.mtime) {
                Err(FilesError::Busy { .. }) if tries < BUSY_TRIES => {
                    tries += 1;
                    std::thread::sleep(BUSY_STEP);
                }
                result => break result?,
            }
        };
        if self.sums.is_some() {
            partial.sum_up();
        }
        if self.order.durable {
            partial.write_out_early();
        }
        let missing = partial.missing().map(|range| (range.start, range.end - range.start));
        let missing = missing.collect();
        let shared = Arc::new(RwLock::new(Some(partial)));
        self.partials().insert(placed.entry.index, shared);
        Ok(missing)
    }

    fn open_checked(&self, placed: &Placed) -> Result<Vec<(u64, u64)>, Failed> {
        let missing = self.open_partial(placed).map_err(|error| failed(&error))?;
        let size = placed.entry.size().unwrap_or_default();
        let lacking: u64 = missing.iter().map(|(_, count)| count * CHUNK).sum();
        self.check_room(placed, size.saturating_sub(lacking)).inspect_err(|_| {
            if let Some(shared) = self.partials().remove(&placed.entry.index) {
                let taken = shared.write().unwrap_or_else(PoisonError::into_inner).take();
                // Nothing of it has arrived, or as much as there was room for.
                let _ = taken.filter(|partial| partial.bytes_present() == 0).map(Partial::discard);
            }
        })?;
        Ok(missing)
    }

    fn with_partial(
        &self,
        index: u64,
        act: impl FnOnce(&Partial) -> Result<(), FilesError>,
    ) -> Result<(), Failed> {
        let shared = self.partials().get(&index).cloned();
        let gone = || Failed { code: RefuseCode::Cancelled, text: "it was taken back".to_owned() };
        let shared = shared.ok_or_else(gone)?;
        let partial = shared.read().unwrap_or_else(PoisonError::into_inner);
        act(partial.as_ref().ok_or_else(gone)?).map_err(|error| failed(&error))
    }

    fn publish(&self, placed: &Placed, digest: Digest) -> Result<Option<Digest>, FilesError> {
        let index = placed.entry.index;
        self.older().remove(&index);
        let shared = self.partials().remove(&index);
        let taken =
            shared.and_then(|shared| shared.write().unwrap_or_else(PoisonError::into_inner).take());
        let incomplete = || FilesError::Incomplete { path: placed.spot.name.as_os_str().into() };
        let partial = taken.ok_or_else(incomplete)?;
        if partial.complete() != Some(digest) {
            partial.discard()?;
            self.open_partial(placed)?;
            return Ok(None);
        }
        let folder = self.folder(&placed.spot.folder)?;
        self.keep_old(&folder, &placed.spot.name)?;
        if let Some(sum) = partial.sha256()? {
            self.sums().map(|mut sums| sums.insert(index, sum));
        }
        partial.publish(&folder, &placed.spot.name, &self.options(&placed.entry))?;
        Ok(Some(digest))
    }

    fn finish_folder(
        &self,
        placed: Option<&Placed>,
        (path, source_path): (&RelPath, &RelPath),
        keep: Option<Vec<Name>>,
    ) -> Result<(), FilesError> {
        self.fresh().remove(path);
        let folder = match self.folder(path) {
            Err(error) if error.is_not_found() && self.order.dry_run => return Ok(()),
            folder => folder?,
        };
        if let Some(keep) = keep {
            let mut extras = self.extras.lock().unwrap_or_else(PoisonError::into_inner);
            extras.look(&folder, (path, source_path), &keep, &self.order)?;
        }
        let (Some(placed), false) = (placed, self.order.dry_run) else { return Ok(()) };
        let entry = &placed.entry;
        let parent = self.folder(&placed.spot.folder)?;
        for xattr in &entry.xattrs {
            if xattr.name.starts_with(b"user.") {
                parent.set_xattr(&placed.spot.name, &xattr.name, &xattr.value)?;
            }
        }
        if let Some((user, group)) = entry.owner {
            folder.set_own_owner(user, group)?;
        }
        folder.set_own_mode(self.mode(entry))?;
        folder.set_own_times(entry.mtime)?;
        if self.order.durable {
            folder.sync()?;
        }
        Ok(())
    }
}

fn write_zeros(partial: &Partial, first: u64, count: u64) -> Result<(), FilesError> {
    let zeros = vec![0; CHUNK as usize];
    for chunk in first..first + count {
        let len = chunk_len(partial.size(), chunk).unwrap_or(0);
        let hash = hash_chunk(partial.size(), chunk, &zeros[..len]);
        partial.write_zero_chunk(chunk, &hash)?;
    }
    Ok(())
}

/// A disk error as an outcome: the kind, and the words without the path, which the source knows.
pub(crate) fn failed(error: &FilesError) -> Failed {
    let code = if error.is_disk_full() || error.is_read_only() {
        RefuseCode::Disk
    } else if error.is_permission_denied() || error.is_symlink_refused() {
        RefuseCode::Denied
    } else if error.is_not_found() {
        RefuseCode::NotFound
    } else if error.is_not_a_directory() {
        RefuseCode::NotAFolder
    } else {
        match error {
            FilesError::WrongHash { .. } | FilesError::WrongChunk { .. } => RefuseCode::Corrupt,
            FilesError::Busy { .. } => RefuseCode::Busy,
            FilesError::DirectoryInTheWay { .. } => RefuseCode::Exists,
            FilesError::XattrRefused { .. } | FilesError::Staging { .. } => RefuseCode::Denied,
            _ => RefuseCode::Disk,
        }
    };
    Failed { code, text: crate::words(error) }
}
