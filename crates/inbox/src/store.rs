//! Where datasets are on disk (`docs/formats/inbox.md`, "What is stored"): a root with what is arriving, what is published, and
//! what was not. A dataset becomes visible by one rename of a folder whose content is durable; whatever is cut short
//! before that is no dataset, and what is cut short behind it is found again at the next start.

mod error;
mod incoming;
mod links;
mod manifest;
mod offer;
mod place;
mod publish;
mod records;
mod sidecar;
mod steps;
mod survey;

use std::path::Path;
use std::sync::Arc;

use files::{Dir, File, FilesError, Follow, Name, RelPath, Replace};

pub use error::StoreError;
pub use incoming::Incoming;
pub use offer::{OfferError, OfferRecord, SchemaRecord};
pub use publish::{Facts, Publication, PublishedDataset};
pub use sidecar::SidecarError;

pub(crate) use manifest::{Line, ManifestReader, Method};
pub(crate) use place::{dataset_dir, is_absent, is_there, register};
pub(crate) use sidecar::{Sidecar, read_receipt};
pub(crate) use steps::Steps;
pub(crate) use survey::{Survey, digests, open, survey};

#[cfg(feature = "fuzzing")]
pub(crate) use self::{
    manifest::fuzz as fuzz_manifest, offer::fuzz as fuzz_offer, records::fuzz as fuzz_record,
};

use crate::catalogue::Catalogue;
use crate::name::DatasetId;

type Result<T, E = StoreError> = std::result::Result<T, E>;

const LOCK: &str = "lock";
/// The name of a folder that is made and removed to see whether a rename works.
const PROBE: &str = ".haul-probe";
/// Memory for putting the lines of a dataset's files into order; more than that goes through scratch files.
/// Tests have little, so that they go there.
const SORT_MEMORY: usize = if cfg!(test) { 64 << 10 } else { 16 << 20 };

/// The names of what a dataset's folder holds.
pub(crate) const FILES: &str = "files";
pub(crate) const METADATA: &str = "metadata.json";
pub(crate) const RECEIPT: &str = "receipt.json";
pub(crate) const MANIFEST_SHA256: &str = "manifest.sha256";
pub(crate) const MANIFEST_BLAKE3: &str = "manifest.blake3";

/// A root of inboxes. While it is open no other process can open it. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Root(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: Dir,
    incoming: Dir,
    store: Dir,
    rejected: Dir,
    schemas: Dir,
    catalogue: Catalogue,
    set_aside: Option<String>,
    steps: Steps,
    /// Held for as long as this is.
    _lock: File,
}

impl Root {
    /// Opens a root, making what is missing of it. [`crate::reconcile`] follows, before anything is taken in.
    ///
    /// # Errors
    /// When it cannot be opened or made; when another process has it open; when a folder of it lies on another filesystem
    /// than the rest, or one that cannot rename a folder so that nothing is replaced.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Steps::default())
    }

    pub(crate) fn open_with(path: &Path, steps: Steps) -> Result<Self> {
        let dir = Dir::create_ambient(path, 0o755)?;
        let lock = dir.open_private(&own(LOCK))?;
        if !lock.try_lock()? {
            return Err(StoreError::Locked { path: path.to_owned() });
        }
        let folder = |name: &str, mode: u32| -> Result<Dir> {
            let dir = dir.make_dir_all(&RelPath::from(own(name)), mode)?;
            dir.sync()?;
            Ok(dir)
        };
        // What has not been checked is nobody's business but this server's.
        let (incoming, rejected) = (folder("incoming", 0o700)?, folder("rejected", 0o700)?);
        let (store, schemas) = (folder("store", 0o755)?, folder("schemas", 0o755)?);
        dir.sync()?;
        for other in [&incoming, &rejected, &schemas, &store] {
            if other.attributes()?.device != dir.attributes()?.device {
                let (path, other) = (path.to_owned(), other.path().to_owned());
                return Err(StoreError::OtherFilesystem { path, other });
            }
        }
        probe(&incoming, &store)?;
        let (catalogue, set_aside) = Catalogue::open(&dir)?;
        let inner = Inner {
            dir,
            incoming,
            store,
            rejected,
            schemas,
            catalogue,
            set_aside,
            steps,
            _lock: lock,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.0.dir
    }

    /// The folder of schemas, for [`crate::Schema::keep_in`].
    #[must_use]
    pub fn schemas(&self) -> &Dir {
        &self.0.schemas
    }

    /// What datasets there are.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    /// What a catalogue that could not be read is called now, if one was set aside at the opening.
    #[must_use]
    pub fn set_aside(&self) -> Option<&str> {
        self.0.set_aside.as_deref()
    }

    /// How many bytes its filesystem has free.
    ///
    /// # Errors
    /// When the filesystem does not say.
    pub fn free_bytes(&self) -> Result<u64> {
        Ok(self.0.dir.free_bytes()?)
    }

    /// Takes an offer in: its folder and its record are durable when this returns.
    ///
    /// # Errors
    /// When its name, its inbox's or its metadata cannot be kept, when there is one of this id, or the disk fails.
    pub fn take_in(&self, offer: &OfferRecord, metadata: &str) -> Result<Incoming> {
        Incoming::make(self, offer, metadata)
    }

    /// The uploads that were taken in and are neither published nor discarded, in the order in which they were offered. What
    /// in `incoming/` is none is left out; [`crate::reconcile`] deals with it.
    ///
    /// # Errors
    /// When the folder, or a record in it, cannot be read for another reason than that it is none.
    pub fn incoming(&self) -> Result<Vec<Incoming>> {
        let mut found = Vec::new();
        for entry in self.0.incoming.entries()? {
            let name = entry?.name()?;
            match Incoming::at(self, &name) {
                Ok(incoming) => found.push(incoming),
                Err(StoreError::Offer { .. }) => {}
                Err(StoreError::Files(error))
                    if error.is_not_found() || error.is_not_a_directory() => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(Incoming::id);
        Ok(found)
    }

    /// What stands in a dataset's `metadata.json`.
    ///
    /// # Errors
    /// When its folder does not have one that can be read.
    pub fn metadata_of(&self, dataset: &crate::DatasetRow) -> Result<String> {
        let dir = dataset_dir(self.dir(), &dataset.path)?;
        let bytes = dir.read_small(&RelPath::from(own(METADATA)), offer::MOST_OFFER)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The signed receipt of a dataset.
    ///
    /// # Errors
    /// When its folder does not have one that can be read.
    pub fn receipt(&self, dataset: &crate::DatasetRow) -> Result<Vec<u8>> {
        read_receipt(&dataset_dir(self.dir(), &dataset.path)?)
    }

    pub(crate) fn incoming_dir(&self) -> &Dir {
        &self.0.incoming
    }

    pub(crate) fn store_dir(&self) -> &Dir {
        &self.0.store
    }

    fn steps(&self) -> &Steps {
        &self.0.steps
    }

    /// Whether a published dataset has this id, whatever the catalogue says.
    fn find_published(&self, inbox: &str, id: DatasetId) -> Result<Option<String>> {
        let shelf = match self.0.store.open_dir(&RelPath::from(own(inbox)), Follow::Never) {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result?,
        };
        for month in shelf.entries()? {
            let month = month?.name()?;
            let Ok(folder) = shelf.open_dir(&RelPath::from(&month), Follow::Never) else {
                continue;
            };
            for entry in folder.entries()? {
                let entry = entry?;
                if crate::name::id_of_folder(entry.bytes()) == Some(id) {
                    return Ok(Some(format!("store/{inbox}/{month}/{}", entry.name()?)));
                }
            }
        }
        Ok(None)
    }
}

/// Sees whether a folder can go from `incoming` to `store` in one step: two mounts of one filesystem look like one, and
/// some filesystems cannot rename without replacing.
fn probe(incoming: &Dir, store: &Dir) -> Result<()> {
    let name = own(PROBE);
    let remove = |dir: &Dir| match dir.remove_tree(&name) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    };
    remove(incoming)?;
    remove(store)?;
    incoming.make_dir(&name, 0o700)?;
    let moved = incoming.rename(&name, (store, &name), Replace::No);
    remove(incoming)?;
    remove(store)?;
    moved.map_err(|source| StoreError::NoRename { path: store.path().to_owned(), source })
}

/// A name that this crate makes of ASCII without slashes.
fn own(name: &str) -> Name {
    Name::new(name).expect("a plain name")
}

/// What a sync that fails means for who asked: never to be tried again.
fn is_failed_sync(error: &StoreError) -> bool {
    matches!(error, StoreError::Files(FilesError::Sync { .. }))
}

#[cfg(test)]
pub(crate) mod tests;
