//! A stable view of a snapshot.

use files::RelPath;
use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::{Snapshot, SnapshotError, TREE};
use crate::key;
use crate::stamp::Known;

/// What a snapshot was at one moment, whatever is written since.
pub struct SnapshotRead {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    transaction: ReadTransaction,
    /// Keeps the database open.
    snapshot: Snapshot,
}

/// Entries of a snapshot in tree order; after an error it ends.
pub struct KnownEntries {
    /// Gone after an error.
    range: Option<Range<'static, &'static [u8], &'static [u8]>>,
    snapshot: Snapshot,
}

impl SnapshotRead {
    pub(super) fn new(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let transaction = snapshot.database().begin_read().map_err(|error| snapshot.fail(error))?;
        let table = transaction.open_table(TREE).map_err(|error| snapshot.fail(error))?;
        Ok(Self { table, transaction, snapshot: snapshot.clone() })
    }

    /// The view of the whole database, for tables of the caller's own.
    #[must_use]
    pub fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// When the database cannot be read; the same for all calls here.
    pub fn entries(&self) -> Result<u64, SnapshotError> {
        self.table.len().map_err(|error| self.snapshot.fail(error))
    }

    /// What is known of one entry.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn get(&self, path: &RelPath) -> Result<Option<Known>, SnapshotError> {
        let value = self.table.get(key::of(path).as_slice());
        let Some(value) = value.map_err(|error| self.snapshot.fail(error))? else {
            return Ok(None);
        };
        let known = Known::decode(value.value()).ok_or_else(|| self.snapshot.damaged())?;
        Ok(Some(known))
    }

    /// All entries below a path, without its own.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn below(&self, path: &RelPath) -> Result<KnownEntries, SnapshotError> {
        self.range(key::all_below(&key::of(path)))
    }

    /// All entries.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn all(&self) -> Result<KnownEntries, SnapshotError> {
        self.below(&RelPath::root())
    }

    fn range(&self, keys: key::KeyRange) -> Result<KnownEntries, SnapshotError> {
        let range = self.raw_range(&keys)?;
        Ok(KnownEntries { range: Some(range), snapshot: self.snapshot.clone() })
    }

    /// Keys and values as they are stored.
    pub(crate) fn raw_range(
        &self,
        (low, high): &key::KeyRange,
    ) -> Result<Range<'static, &'static [u8], &'static [u8]>, SnapshotError> {
        let keys = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        self.table.range::<&[u8]>(keys).map_err(|error| self.snapshot.fail(error))
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Iterator for KnownEntries {
    type Item = Result<(RelPath, Known), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.range.as_mut()?.next()? {
            Ok((key, value)) => match key::path(key.value()).zip(Known::decode(value.value())) {
                Some(entry) => Ok(entry),
                None => Err(self.snapshot.damaged()),
            },
            Err(error) => Err(self.snapshot.fail(error)),
        };
        if item.is_err() {
            self.range = None;
        }
        Some(item)
    }
}
