//! An upload that was taken in: its folder, what stands of it, and the two ways in which it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use files::{Dir, Follow, Name, RelPath};
use jiff::Timestamp;
use serde_json::json;
use transfer::host::Standing;

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

/// An upload that was taken in. Cloning shares it; there must be only one of an id that is made from disk.
#[derive(Clone, Debug)]
pub struct Incoming(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) root: Root,
    pub(super) offer: OfferRecord,
    pub(super) dir: Dir,
    pub(super) records: Records,
    /// The disk has failed it: what is there is not to be trusted.
    pub(super) is_broken: AtomicBool,
}

impl Incoming {
    pub(super) fn make(root: &Root, offer: &OfferRecord) -> Result<Self> {
        let cannot = |source| StoreError::Offer { id: offer.id.to_string(), source };
        offer.check().map_err(cannot)?;
        let (name, steps) = (own(offer.id.as_str()), root.steps());
        steps.at("make incoming")?;
        root.incoming_dir().make_dir(&name, 0o700)?;
        let dir = root.incoming_dir().open_dir(&RelPath::from(&name), Follow::Never)?;
        steps.at("write offer.json")?;
        dir.write_private(&own(OFFER), &offer.to_bytes())?;
        steps.at("sync incoming")?;
        root.incoming_dir().sync()?;
        let incoming = Self::with(root, offer.clone(), dir)?;
        incoming.restart_records()?;
        Ok(incoming)
    }

    /// What stands under this name in `incoming/`.
    pub(crate) fn at(root: &Root, name: &Name) -> Result<Self> {
        let dir = root.incoming_dir().open_dir(&RelPath::from(name), Follow::Never)?;
        let bytes = dir.read_small(&RelPath::from(own(OFFER)), MOST_OFFER)?;
        let offer = OfferRecord::parse(&bytes).and_then(|offer| {
            let is_its_own = offer.id.as_str().as_bytes() == name.as_bytes();
            if is_its_own { Ok(offer) } else { Err(OfferError::OtherId(offer.id)) }
        });
        let offer = offer.map_err(|source| StoreError::Offer { id: name.to_string(), source })?;
        Self::with(root, offer, dir)
    }

    fn with(root: &Root, offer: OfferRecord, dir: Dir) -> Result<Self> {
        let records = Records::new(dir.open_private(&own(RECORDS))?);
        let (root, is_broken) = (root.clone(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { root, offer, dir, records, is_broken })))
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

    /// The folder of the upload: the root of a landing, below which the staging area lies.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.0.dir
    }

    /// The folder below [`Incoming::dir`] into which the files go.
    #[must_use]
    pub fn files(&self) -> RelPath {
        RelPath::from(own(DATASET)).join(&own(FILES)).expect("two short names")
    }

    /// Whether what is to be published is here still, rather than in the store.
    #[must_use]
    pub fn has_dataset(&self) -> bool {
        self.0.dir.attributes_of(&RelPath::from(own(DATASET))).is_ok()
    }

    /// Notes that a file stands, its path relative to [`Incoming::files`]. The last note of a path counts. It does not wait
    /// for the disk unless some 40,000 notes are unwritten.
    pub fn note(&self, file: &Standing) {
        self.0.records.note(file);
    }

    /// Begins a new attempt, before its first file: what was noted is forgotten, for all of it will be noted again, and
    /// files that are there may stay. An upload that the disk has failed begins with nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn restart_records(&self) -> Result<()> {
        let inner = &*self.0;
        if inner.is_broken.load(Ordering::Acquire) {
            inner.remove_dataset()?;
        }
        inner.records.clear()?;
        inner.dir.make_dir_all(&self.files(), 0o755)?;
        inner.is_broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Forgets all that has arrived, files too: for an attempt whose whole is not what was offered.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_anew(&self) -> Result<()> {
        self.0.is_broken.store(true, Ordering::Release);
        self.restart_records()
    }

    /// Ends an upload that will not be published: who offered what, and why it ended, is kept in `rejected/`, and what had
    /// arrived is removed.
    ///
    /// # Errors
    /// When the disk fails. The upload is then still there, or will be removed at the next start.
    pub fn discard(&self, reason: &str, at: Timestamp) -> Result<()> {
        let inner = &*self.0;
        let (steps, rejected) = (inner.root.steps(), &inner.root.0.rejected);
        let name = own(self.id().as_str());
        steps.at("make rejected")?;
        let folder = rejected.make_private_dir(&name)?;
        let cut = (0..=reason.len().min(MOST_REASON)).rev().find(|at| reason.is_char_boundary(*at));
        let reason = &reason[..cut.unwrap_or(0)];
        let reason = json!({ "haul_rejected": 1, "reason": reason, "at": at.to_string() });
        steps.at("write rejected")?;
        folder.write_private(&own(OFFER), &inner.offer.to_bytes())?;
        folder.write_private(&own("reason.json"), reason.to_string().as_bytes())?;
        steps.at("sync rejected")?;
        rejected.sync()?;
        self.remove()
    }

    /// Removes what is left of an upload: to be called once its client has the answer. It can be called again.
    ///
    /// # Errors
    /// When the disk fails; the next start removes the rest.
    pub fn remove(&self) -> Result<()> {
        let (incoming, steps) = (self.0.root.incoming_dir(), self.0.root.steps());
        // Without its record the rest is nobody's, also if this is cut short.
        steps.at("unlink offer.json")?;
        ignore_missing(self.0.dir.unlink(&own(OFFER)))?;
        steps.at("sync upload")?;
        self.0.dir.sync()?;
        steps.at("remove upload")?;
        ignore_missing(incoming.remove_tree(&own(self.id().as_str())))?;
        steps.at("sync incoming")?;
        Ok(incoming.sync()?)
    }
}

impl Inner {
    /// Removes what would be published.
    pub(super) fn remove_dataset(&self) -> Result<()> {
        self.root.steps().at("remove dataset")?;
        ignore_missing(self.dir.remove_tree(&own(DATASET)))?;
        Ok(())
    }
}

pub(super) fn ignore_missing(
    result: Result<(), files::FilesError>,
) -> Result<(), files::FilesError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
