//! What a tree was, on disk: every entry with its stamp and a note of whoever keeps the snapshot, in
//! tree order, in a redb database that the keeper may put tables of its own into, so that both change in
//! one step. Memory is the cache of the database ([`CACHE`]), whatever the number of entries.
//!
//! A committed write survives a power cut; one that was not committed leaves no trace. The root of the
//! tree has no entry of its own. See `docs/formats/snapshot.md`.

mod error;
mod read;
mod write;

use std::path::Path;
use std::sync::Arc;

use files::{Dir, Name, RelPath};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, TableDefinition, TableError};

use crate::stamp::Known;

pub use error::SnapshotError;
pub use read::{KnownEntries, SnapshotRead};
pub use write::{SnapshotTable, SnapshotWrite};

/// Bytes that the database keeps in memory.
pub const CACHE: usize = 32 << 20;

/// The version of the format, which stands in the database.
const VERSION: u64 = 1;
/// The entries: keys in tree order, stamps and notes.
const TREE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("tree");
/// One number: the version.
const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("tree format");
const FORMAT_KEY: &str = "version";

/// A snapshot of a tree. Clones are handles of the same one; while any lives, with its readers and
/// writers, no other process can open it.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    database: Database,
    /// For messages.
    path: Box<Path>,
}

impl Snapshot {
    /// Opens the snapshot of that name, or makes an empty one that only its owner can read.
    ///
    /// The whole file is read and checked, so that damage shows here and not in the middle of a write.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if it is no database, or not the one that was written;
    /// [`SnapshotError::InUse`] while another process has it open.
    pub fn open(dir: &Dir, name: &Name) -> Result<Self, SnapshotError> {
        let file = dir.open_private(name)?;
        let is_new = file.attributes()?.size == 0;
        let path: Box<Path> = file.path().into();
        let fail = |error: redb::Error| SnapshotError::of(&path, error);
        let backend = FileBackend::new(file.into()).map_err(|error| fail(error.into()))?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let opened = builder.create_with_backend(backend);
        let database = opened.map_err(|error| fail(error.into()))?;
        if is_new {
            dir.sync()?;
        }
        let snapshot = Self(Arc::new(Inner { database, path }));
        snapshot.check_version()?;
        Ok(snapshot)
    }

    /// The database, for tables of the caller's own. Their names must not begin with `tree`.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The path it was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How many entries it has.
    ///
    /// # Errors
    /// When the database cannot be read; the same for all calls here.
    pub fn entries(&self) -> Result<u64, SnapshotError> {
        self.read()?.entries()
    }

    /// What is known of one entry.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn get(&self, path: &RelPath) -> Result<Option<Known>, SnapshotError> {
        self.read()?.get(path)
    }

    /// A view that later writes do not change. Space that they free is used again only when the view is
    /// dropped, so a view kept for long lets the file grow.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn read(&self) -> Result<SnapshotRead, SnapshotError> {
        SnapshotRead::new(self)
    }

    /// A set of changes, of which all take effect at its commit, or none. Waits for the one before it to
    /// be committed or dropped.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn write(&self) -> Result<SnapshotWrite, SnapshotError> {
        SnapshotWrite::new(self)
    }

    /// Makes the tables of a new database, and refuses one of another version.
    fn check_version(&self) -> Result<(), SnapshotError> {
        let transaction = self.0.database.begin_read().map_err(|error| self.fail(error))?;
        let version = match transaction.open_table(FORMAT) {
            Ok(table) => table.get(FORMAT_KEY).map_err(|error| self.fail(error))?,
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(self.fail(error)),
        };
        match version.map(|version| version.value()) {
            Some(VERSION) => Ok(()),
            Some(version) => Err(SnapshotError::Version { path: self.path().to_owned(), version }),
            None => self.make_tables(),
        }
    }

    fn make_tables(&self) -> Result<(), SnapshotError> {
        let write = self.write()?;
        write.tree()?;
        let table = write.transaction().open_table(FORMAT);
        let mut table = table.map_err(|error| self.fail(error))?;
        table.insert(FORMAT_KEY, VERSION).map_err(|error| self.fail(error))?;
        drop(table);
        write.commit()
    }

    pub(crate) fn fail(&self, error: impl Into<redb::Error>) -> SnapshotError {
        SnapshotError::of(&self.0.path, error.into())
    }

    /// The error for a record that means nothing.
    pub(crate) fn damaged(&self) -> SnapshotError {
        self.fail(redb::Error::Corrupted("an entry of the tree cannot be read".to_owned()))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", files::escape_path(&self.0.path))
    }
}

#[cfg(test)]
mod tests;
