//! What can go wrong with a snapshot, and whether trying again helps.

use std::io;
use std::path::{Path, PathBuf};

use files::{Fault, FilesError, RelPath, escape_path};

/// Why a snapshot cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Another process has it open, or this one for a second time.
    #[error("{} is in use by another process", escape_path(path))]
    InUse {
        /// The path of the snapshot.
        path: PathBuf,
    },
    /// It is not what was written. Nothing can be taken from it; it has to be made anew.
    #[error("{} is damaged", escape_path(path))]
    Damaged {
        /// The path of the snapshot.
        path: PathBuf,
        /// What was found.
        source: Box<redb::Error>,
    },
    /// A newer program wrote it.
    #[error("{} has version {version}, which this program does not know", escape_path(path))]
    Version {
        /// The path of the snapshot.
        path: PathBuf,
        /// The version that it says it has.
        version: u64,
    },
    /// The database failed to do what was asked, on most occasions because the disk did.
    #[error("cannot use the database {}", escape_path(path))]
    Database {
        /// The path of the snapshot.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// Entries cannot go there: below themselves, or deeper or under longer paths than there are.
    #[error("cannot rename {from} to {to} in {}", escape_path(path))]
    Rename {
        /// The path of the snapshot.
        path: PathBuf,
        /// Where the entries are.
        from: RelPath,
        /// Where they were to be.
        to: RelPath,
    },
}

impl SnapshotError {
    pub(crate) fn of(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path },
            error if is_damage(&error) => Self::Damaged { path, source: Box::new(error) },
            error => Self::Database { path, source: Box::new(error) },
        }
    }

    /// What the failure means for a retry.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Files(error) => error.fault(),
            Self::InUse { .. } => Fault::Transient,
            Self::Damaged { .. } => Fault::Corrupt,
            Self::Version { .. } | Self::Database { .. } | Self::Rename { .. } => Fault::Permanent,
        }
    }

    /// No space or no quota is left where the snapshot lies.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Files(error) => error.is_disk_full(),
            Self::Database { source, .. } => match &**source {
                redb::Error::Io(error) => matches!(error.kind(), StorageFull | QuotaExceeded),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Whether the bytes are to blame.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => true,
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}
