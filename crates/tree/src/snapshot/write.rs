//! A set of changes to a snapshot, and to the tables that its keeper has beside it.

use std::ops::Bound;

use files::RelPath;
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::{Snapshot, SnapshotError, TREE};
use crate::key;
use crate::stamp::Known;

/// Entries that a rename holds in memory at a time.
const PAGE: usize = 1024;

/// Key and value of an entry.
type Stored = (Vec<u8>, Vec<u8>);

/// Changes that take effect together. Dropped without [`SnapshotWrite::commit`], they never were.
pub struct SnapshotWrite {
    transaction: WriteTransaction,
    snapshot: Snapshot,
}

/// The entries, to be changed. Only one of it can be open for a write at a time.
pub struct SnapshotTable<'a> {
    table: Table<'a, &'static [u8], &'static [u8]>,
    snapshot: &'a Snapshot,
    /// For the encoded value, used again.
    value: Vec<u8>,
}

impl SnapshotWrite {
    pub(super) fn new(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let begun = snapshot.database().begin_write();
        let transaction = begun.map_err(|error| snapshot.fail(error))?;
        Ok(Self { transaction, snapshot: snapshot.clone() })
    }

    /// The entries. To be dropped before the commit.
    ///
    /// # Errors
    /// When the database cannot be read or written; the same for all calls here.
    pub fn tree(&self) -> Result<SnapshotTable<'_>, SnapshotError> {
        let table = self.transaction.open_table(TREE).map_err(|error| self.snapshot.fail(error))?;
        Ok(SnapshotTable { table, snapshot: &self.snapshot, value: Vec::new() })
    }

    /// The transaction of the whole database, for tables of the caller's own.
    #[must_use]
    pub fn transaction(&self) -> &WriteTransaction {
        &self.transaction
    }

    /// Makes the changes durable, all in one step.
    ///
    /// # Errors
    /// When the disk does not take them; then none has been made.
    pub fn commit(self) -> Result<(), SnapshotError> {
        self.transaction.commit().map_err(|error| self.snapshot.fail(error))
    }
}

impl SnapshotTable<'_> {
    /// What is known of one entry, with the changes made so far.
    ///
    /// # Errors
    /// When the database cannot be read or written; the same for all calls here.
    pub fn get(&self, path: &RelPath) -> Result<Option<Known>, SnapshotError> {
        let value = self.table.get(key::of(path).as_slice());
        let Some(value) = value.map_err(|error| self.snapshot.fail(error))? else {
            return Ok(None);
        };
        let known = Known::decode(value.value()).ok_or_else(|| self.snapshot.damaged())?;
        Ok(Some(known))
    }

    /// Takes over an entry, in place of what was known of it. What is below it is not touched, and
    /// whether the folder above is known is not asked. Without effect for the root, which has no entry.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn put(&mut self, path: &RelPath, known: &Known) -> Result<(), SnapshotError> {
        if path.is_root() {
            return Ok(());
        }
        self.value.clear();
        known.encode(&mut self.value);
        let put = self.table.insert(key::of(path).as_slice(), self.value.as_slice());
        put.map(|_| ()).map_err(|error| self.snapshot.fail(error))
    }

    /// Removes an entry and all below it, and says how many that were.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn remove(&mut self, path: &RelPath) -> Result<u64, SnapshotError> {
        let key = key::of(path);
        let before = self.entries()?;
        let (low, high) = key::with_all_below(&key);
        let keys = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        let removed = self.table.retain_in::<&[u8], _>(keys, |_, _| false);
        removed.map_err(|error| self.snapshot.fail(error))?;
        Ok(before - self.entries()?)
    }

    /// Removes an entry and all below it, one after another, and gives each to the keeper, who may have
    /// tables of its own that speak of it. Some are in memory at a time, however many there are.
    ///
    /// # Errors
    /// As for all calls here, and those of the keeper.
    pub fn remove_each<E: From<SnapshotError>>(
        &mut self,
        path: &RelPath,
        mut gone: impl FnMut(&Self, &RelPath, &Known) -> Result<(), E>,
    ) -> Result<u64, E> {
        let head = key::of(path);
        let mut removed = 0;
        loop {
            let page = self.first_below(&head)?;
            if page.is_empty() {
                return Ok(removed);
            }
            removed += page.len() as u64;
            for (key, value) in page {
                let (path, known) = self.entry(&key, &value)?;
                let taken = self.table.remove(key.as_slice()).map(|_| ());
                taken.map_err(|error| self.snapshot.fail(error))?;
                gone(self, &path, &known)?;
            }
        }
    }

    /// Renames an entry with all below it, and says how many that were. They take the place of what is
    /// at `to`, which is removed with all below it.
    ///
    /// # Errors
    /// [`SnapshotError::Rename`] if one path lies below the other, if either is the root, or if there is
    /// no path for an entry then; in that case the write must not be committed. And as for all calls
    /// here.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> Result<u64, SnapshotError> {
        if from.starts_with(to) || to.starts_with(from) {
            return Err(self.no_rename(from, to));
        }
        self.remove(to)?;
        self.rename_rows(from, to, |_, _, _, _| Ok(()))
    }

    /// Renames an entry with all below it to where nothing is, and gives each to the keeper with the path
    /// that it had and the one that it has. Some are in memory at a time, however many there are.
    ///
    /// # Errors
    /// As for [`Self::rename`], and those of the keeper.
    pub fn rename_each<E: From<SnapshotError>>(
        &mut self,
        from: &RelPath,
        to: &RelPath,
        mut moved: impl FnMut(&RelPath, &RelPath, &Known) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.rename_rows(from, to, |table, old, new, value| {
            let (old, known) = table.entry(old, value)?;
            let new = key::path(new).ok_or_else(|| table.snapshot.damaged())?;
            moved(&old, &new, &known)
        })
    }

    fn rename_rows<E: From<SnapshotError>>(
        &mut self,
        from: &RelPath,
        to: &RelPath,
        mut moved: impl FnMut(&Self, &[u8], &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        if from.starts_with(to) || to.starts_with(from) {
            return Err(self.no_rename(from, to).into());
        }
        let (from_key, to_key) = (key::of(from), key::of(to));
        let mut renamed = 0;
        loop {
            let page = self.first_below(&from_key)?;
            if page.is_empty() {
                return Ok(renamed);
            }
            renamed += page.len() as u64;
            for (key, value) in page {
                let Some(new) = key::moved(&key, &from_key, &to_key) else {
                    return Err(self.no_rename(from, to).into());
                };
                let removed = self.table.remove(key.as_slice()).map(|_| ());
                removed.map_err(|error| self.snapshot.fail(error))?;
                let put = self.table.insert(new.as_slice(), value.as_slice()).map(|_| ());
                put.map_err(|error| self.snapshot.fail(error))?;
                moved(self, &key, &new, &value)?;
            }
        }
    }

    fn entry(&self, key: &[u8], value: &[u8]) -> Result<(RelPath, Known), SnapshotError> {
        key::path(key).zip(Known::decode(value)).ok_or_else(|| self.snapshot.damaged())
    }

    /// How many entries there are, with the changes made so far.
    ///
    /// # Errors
    /// As for all calls here.
    pub fn entries(&self) -> Result<u64, SnapshotError> {
        self.table.len().map_err(|error| self.snapshot.fail(error))
    }

    /// The first entries of a subtree, its top included, as they are stored.
    fn first_below(&self, key: &[u8]) -> Result<Vec<Stored>, SnapshotError> {
        let after = key::after(key);
        let keys = (Bound::Included(key), Bound::Excluded(after.as_slice()));
        let fail = |error| self.snapshot.fail(error);
        let range = self.table.range::<&[u8]>(keys).map_err(fail)?;
        range
            .take(PAGE)
            .map(|item| {
                let (key, value) = item.map_err(fail)?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
    }

    fn no_rename(&self, from: &RelPath, to: &RelPath) -> SnapshotError {
        let path = self.snapshot.path().to_owned();
        SnapshotError::Rename { path, from: from.clone(), to: to.clone() }
    }
}
