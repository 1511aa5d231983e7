//! What can go wrong in a root. Each error names what it is about.

use std::path::PathBuf;

use files::{FilesError, Kind, RelPath};

use super::offer::OfferError;
use super::sidecar::SidecarError;
use crate::catalogue::CatalogueError;
use crate::name::DatasetId;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Another process has the root open.
    #[error("another server is at work in {}: stop it first", files::escape_path(path))]
    Locked {
        /// The root.
        path: PathBuf,
    },
    /// A folder of the root lies elsewhere.
    #[error(
        "{} lies on another filesystem than {}: an inbox must lie on one, so that a dataset appears in one step",
        files::escape_path(other),
        files::escape_path(path)
    )]
    OtherFilesystem {
        /// The root.
        path: PathBuf,
        /// The folder.
        other: PathBuf,
    },
    /// A folder cannot be renamed into the store.
    #[error(
        "folders cannot be renamed from incoming/ to {} so that nothing is replaced: both must be of one mount, of a \
         local filesystem",
        files::escape_path(path)
    )]
    NoRename {
        /// The store.
        path: PathBuf,
        /// Why not.
        source: FilesError,
    },
    /// The record of an offer cannot be taken or read.
    #[error("the offer {id} cannot be kept: {source}")]
    Offer {
        /// Which.
        id: String,
        /// Why not.
        source: OfferError,
    },
    /// An upload was damaged when its disk failed, and begins anew with [`super::Incoming::restart_records`].
    #[error("the upload {0} was given up after the disk failed; it must be sent again")]
    Broken(DatasetId),
    /// A file that stood is not there.
    #[error("{0} was received, and is not there")]
    Missing(RelPath),
    /// A file has another size than it had.
    #[error("{path} has {found} bytes, and had {expected} when it was received")]
    Size {
        /// Which.
        path: RelPath,
        /// When it stood.
        expected: u64,
        /// Now.
        found: u64,
    },
    /// A file has another content than it had.
    #[error("{0} is not as it was when it was received: its digest differs")]
    Content(RelPath),
    /// Something that no dataset has.
    #[error("{path} is {kind}: a dataset holds regular files and folders alone")]
    Kind {
        /// Where.
        path: RelPath,
        /// What.
        kind: Kind,
    },
    /// Somebody changed the upload while it was read.
    #[error("{0} was changed while it was read")]
    Changed(RelPath),
    /// What is there is not what was expected as a whole.
    #[error("what has arrived is not what was offered: the tree digest differs")]
    Tree,
    /// The records of what stands cannot be read again.
    #[error("the records of the upload {0} are damaged")]
    Records(DatasetId),
    /// The caller did not give a receipt.
    #[error("no receipt was made: {0}")]
    Receipt(String),
    /// A sidecar cannot be read.
    #[error("{}: {source}", files::escape(path.as_bytes()))]
    Sidecar {
        /// Of which dataset, below the root.
        path: String,
        /// Why not.
        source: SidecarError,
    },
    /// A path in the catalogue that leads to no dataset.
    #[error("{} is no path of a dataset", files::escape(.0.as_bytes()))]
    Path(String),
}
