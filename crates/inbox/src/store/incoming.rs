//! An upload that was taken in: its folder, what stands of it, and the two ways in which it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use files::{Dir, Follow, Name, RelPath, STAGING_NAME};
use jiff::Timestamp;
use serde_json::json;
use transfer::host::Standing;
use tree::{Step, Walk, WalkOptions, WalkRoot};

use super::offer::{MOST_OFFER, OfferError, OfferRecord};
use super::records::Records;
use super::{FILES, Result, Root, StoreError, own};
use crate::name::DatasetId;

const OFFER: &str = "offer.json";
const RECORDS: &str = "records";
/// The folder that will be published.
pub(super) const DATASET: &str = "dataset";
/// The longest reason that is kept of what was discarded.
const MOST_REASON: usize = 4_096;

/// An upload that was taken in. Cloning shares it; there must be only one of an id that is made from disk. It holds no
/// descriptors but while an attempt is under way: thousands may wait.
#[derive(Clone, Debug)]
pub struct Incoming(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) root: Root,
    pub(super) offer: OfferRecord,
    /// What an attempt needs, from its beginning to its end.
    opened: Mutex<Option<Arc<Opened>>>,
    /// The disk has failed it: what is there is not to be trusted.
    pub(super) is_broken: AtomicBool,
}

/// What is open of an upload.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) dir: Dir,
    pub(super) records: Records,
}

impl Incoming {
    pub(super) fn make(root: &Root, offer: &OfferRecord, metadata: &str) -> Result<Self> {
        let cannot = |source| StoreError::Offer { id: offer.id.to_string(), source };
        offer.check(metadata).map_err(cannot)?;
        let (name, steps) = (own(offer.id.as_str()), root.steps());
        steps.at("make incoming")?;
        root.incoming_dir().make_dir(&name, 0o700)?;
        let dir = root.incoming_dir().open_dir(&RelPath::from(&name), Follow::Never)?;
        steps.at("write offer.json")?;
        dir.write_private(&own(OFFER), &offer.to_bytes(metadata))?;
        steps.at("sync incoming")?;
        root.incoming_dir().sync()?;
        dir.make_dir_all(&files_path(), 0o755)?;
        Ok(Self::with(root, offer.clone()))
    }

    /// What stands under this name in `incoming/`.
    pub(crate) fn at(root: &Root, name: &Name) -> Result<Self> {
        Ok(Self::with(root, read(root, name)?.0))
    }

    fn with(root: &Root, offer: OfferRecord) -> Self {
        let (root, is_broken) = (root.clone(), AtomicBool::new(false));
        Self(Arc::new(Inner { root, offer, opened: Mutex::default(), is_broken }))
    }

    /// The id that the dataset will have.
    #[must_use]
    pub fn id(&self) -> DatasetId {
        self.0.offer.id
    }

    /// What was offered.
    #[must_use]
    pub fn offer(&self) -> &OfferRecord {
        &self.0.offer
    }

    /// The metadata as they were sent.
    ///
    /// # Errors
    /// When the record of the offer cannot be read any more, or is another.
    pub fn metadata(&self) -> Result<String> {
        self.0.metadata()
    }

    /// The folder of the upload: the root of a landing, below which the staging area lies.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn dir(&self) -> Result<Dir> {
        self.0.dir()
    }

    /// The folder below [`Incoming::dir`] into which the files go.
    #[must_use]
    pub fn files(&self) -> RelPath {
        files_path()
    }

    /// Whether what is to be published is here still, rather than in the store.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn has_dataset(&self) -> Result<bool> {
        match self.dir()?.attributes_of(&RelPath::from(own(DATASET))) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the disk has failed it: the next attempt begins with nothing.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.is_broken.load(Ordering::Acquire)
    }

    /// Notes that a file stands, its path relative to [`Incoming::files`]. The last note of a path counts. It does not wait
    /// for the disk unless some 40,000 notes are unwritten.
    pub fn note(&self, file: &Standing) {
        match self.0.opened() {
            Ok(opened) => opened.records.note(file),
            // What is not noted would be taken for a leftover.
            Err(_) => self.0.is_broken.store(true, Ordering::Release),
        }
    }

    /// Begins a new attempt, before its first file: what was noted is forgotten, for all of it will be noted again, and
    /// files that are there may stay. An upload that the disk has failed begins with nothing. [`Incoming::rest`] follows
    /// when the attempt has ended.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn restart_records(&self) -> Result<()> {
        let inner = &*self.0;
        let opened = inner.opened()?;
        if inner.is_broken.load(Ordering::Acquire) {
            inner.empty(&opened.dir)?;
        }
        opened.records.clear()?;
        opened.dir.make_dir_all(&files_path(), 0o755)?;
        inner.is_broken.store(false, Ordering::Release);
        Ok(())
    }

    /// An attempt has ended, and nothing of it comes any more: what was noted is forgotten, and no descriptors are held.
    pub fn rest(&self) {
        let opened = self.0.lock().take();
        // Its thread may be writing, for which it is waited.
        drop(opened);
    }

    /// Somebody is at it: what is left alone expires.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn touch(&self) -> Result<()> {
        let now = files::Timestamp::from(SystemTime::now());
        Ok(self.dir()?.set_times(&own(OFFER), now)?)
    }

    /// When somebody was at it last.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn touched(&self) -> Result<SystemTime> {
        let attributes = self.dir()?.attributes_of(&RelPath::from(own(OFFER)))?;
        let seconds = u64::try_from(attributes.mtime.seconds).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
    }

    /// How many bytes of content have arrived, whole files and parts of them, as far as they take room on the disk. It
    /// looks at every file.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn arrived(&self) -> Result<u64> {
        let dir = self.dir()?;
        let mut bytes: u64 = 0;
        for folder in [files_path(), RelPath::from(own(STAGING_NAME))] {
            let walk = Walk::new(dir.clone(), WalkRoot::Inside(folder), WalkOptions::default());
            let walk = match walk {
                Err(error) if error.is_not_found() => continue,
                walk => walk?,
            };
            for step in walk {
                if let Step::Leaf(entry) = step {
                    let found = entry.attributes;
                    bytes = bytes.saturating_add(found.size.min(found.blocks.saturating_mul(512)));
                }
            }
        }
        Ok(bytes)
    }

    /// Forgets all that has arrived, whole files and parts: for an attempt whose whole is not what was offered.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_anew(&self) -> Result<()> {
        self.0.is_broken.store(true, Ordering::Release);
        self.restart_records()
    }

    /// Ends an upload that will not be published: who offered what, and why it ended, is kept in `rejected/`. What had
    /// arrived is removed by [`Incoming::clear`], which follows; a new start does it too.
    ///
    /// # Errors
    /// When the disk fails; the upload is then still there. Where it has no room for the reason, the reason is not kept.
    pub fn discard(&self, reason: &str, at: Timestamp) -> Result<()> {
        match self.keep_reason(reason, at) {
            // What would make room is not kept because there is none.
            Err(StoreError::Files(error)) if error.is_disk_full() => {}
            kept => kept?,
        }
        self.disown()
    }

    fn keep_reason(&self, reason: &str, at: Timestamp) -> Result<()> {
        let inner = &*self.0;
        let (steps, rejected) = (inner.root.steps(), &inner.root.0.rejected);
        let metadata = inner.metadata()?;
        let name = own(self.id().as_str());
        steps.at("make rejected")?;
        let folder = rejected.make_private_dir(&name)?;
        let cut = (0..=reason.len().min(MOST_REASON)).rev().find(|at| reason.is_char_boundary(*at));
        let reason = &reason[..cut.unwrap_or(0)];
        let reason = json!({ "haul_rejected": 1, "reason": reason, "at": at.to_string() });
        steps.at("write rejected")?;
        folder.write_private(&own(OFFER), &inner.offer.to_bytes(&metadata))?;
        folder.write_private(&own("reason.json"), reason.to_string().as_bytes())?;
        steps.at("sync rejected")?;
        Ok(rejected.sync()?)
    }

    /// Without its record the rest is nobody's.
    fn disown(&self) -> Result<()> {
        let (dir, steps) = (self.dir()?, self.0.root.steps());
        steps.at("unlink offer.json")?;
        ignore_missing(dir.unlink(&own(OFFER)))?;
        steps.at("sync upload")?;
        Ok(dir.sync()?)
    }

    /// Removes what is left of an upload that is over, which may take a while. It can be called again.
    ///
    /// # Errors
    /// When the disk fails; the next start removes the rest.
    pub fn clear(&self) -> Result<()> {
        let (incoming, steps) = (self.0.root.incoming_dir(), self.0.root.steps());
        self.rest();
        steps.at("remove upload")?;
        ignore_missing(incoming.remove_tree(&own(self.id().as_str())))?;
        steps.at("sync incoming")?;
        Ok(incoming.sync()?)
    }

    /// Removes an upload: to be called once its client has the answer. It can be called again.
    ///
    /// # Errors
    /// When the disk fails; the next start removes the rest.
    pub fn remove(&self) -> Result<()> {
        match self.disown() {
            Err(StoreError::Files(error)) if error.is_not_found() => {}
            disowned => disowned?,
        }
        self.clear()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt needs, opened now if it is not.
    pub(super) fn opened(&self) -> Result<Arc<Opened>> {
        let mut opened = self.lock();
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let dir = self.dir()?;
        let records = Records::new(dir.open_private(&own(RECORDS))?);
        Ok(opened.insert(Arc::new(Opened { dir, records })).clone())
    }

    fn dir(&self) -> Result<Dir> {
        let name = RelPath::from(own(self.offer.id.as_str()));
        Ok(self.root.incoming_dir().open_dir(&name, Follow::Never)?)
    }

    pub(super) fn metadata(&self) -> Result<String> {
        let (offer, metadata) = read(&self.root, &own(self.offer.id.as_str()))?;
        match offer.metadata_digest == self.offer.metadata_digest {
            true => Ok(metadata),
            false => {
                let source = OfferError::OtherMetadata;
                Err(StoreError::Offer { id: self.offer.id.to_string(), source })
            }
        }
    }

    /// Removes all that has arrived, and whatever tells how much that is.
    pub(super) fn empty(&self, dir: &Dir) -> Result<()> {
        self.root.steps().at("remove dataset")?;
        for entry in dir.entries()? {
            let name = entry?.name()?;
            if [OFFER, RECORDS, DATASET].iter().all(|kept| name != own(kept)) {
                ignore_missing(dir.remove_tree(&name))?;
            }
        }
        // What was told of it does not outlive it, also if this is cut short.
        Ok(ignore_missing(dir.remove_tree(&own(DATASET)))?)
    }
}

/// The record of an offer, and the metadata.
fn read(root: &Root, name: &Name) -> Result<(OfferRecord, String)> {
    let dir = root.incoming_dir().open_dir(&RelPath::from(name), Follow::Never)?;
    let bytes = dir.read_small(&RelPath::from(own(OFFER)), MOST_OFFER)?;
    let read = OfferRecord::parse(&bytes).and_then(|(offer, metadata)| {
        let is_its_own = offer.id.as_str().as_bytes() == name.as_bytes();
        if is_its_own { Ok((offer, metadata)) } else { Err(OfferError::OtherId(offer.id)) }
    });
    read.map_err(|source| StoreError::Offer { id: name.to_string(), source })
}

fn files_path() -> RelPath {
    RelPath::from(own(DATASET)).join(&own(FILES)).expect("two short names")
}

pub(super) fn ignore_missing(
    result: Result<(), files::FilesError>,
) -> Result<(), files::FilesError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
