//! What the receiver knows, on disk: what the tree should be, what of it is still wanted, what is to be removed, and how
//! far the manifests were applied. One transaction at a time is open; what was done to the tree and is not in it yet is
//! found again at the next start, so every use of it must bear to be done twice.
//!
//! Paths are kept with a zero in place of each slash, so that a folder stands before what is in it and nothing else
//! stands between.

mod record;

use std::os::fd::{AsFd as _, AsRawFd as _};

use files::{Dir, RelPath};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use thiserror::Error;

use crate::intervals::Intervals;
use crate::record::GenerationEnd;

pub(super) use record::{Entry, Place, Quarantined, What};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const ENTRIES: Table = TableDefinition::new("entries");
const WANTED: Table = TableDefinition::new("wanted");
/// Hard links that wait, with the file that each is to be a name of; and the same the other way round.
const LINKS: Table = TableDefinition::new("links");
const LINKED: Table = TableDefinition::new("linked");
const TOUCHED: Table = TableDefinition::new("touched");
const DOOMED: Table = TableDefinition::new("doomed");
const QUARANTINE: Table = TableDefinition::new("quarantine");
const PAGES: Table = TableDefinition::new("pages");
const ENDS: Table = TableDefinition::new("ends");
const STAGED: Table = TableDefinition::new("staged");
const HELD: Table = TableDefinition::new("held");
const META: Table = TableDefinition::new("meta");
const ALL: [Table; 12] =
    [ENTRIES, WANTED, LINKS, LINKED, TOUCHED, DOOMED, QUARANTINE, PAGES, ENDS, STAGED, HELD, META];

const FILE: &str = "journal.redb";
const VERSION: &[u8] = b"1";

/// Memory for pages of the database.
const CACHE: usize = 32 << 20;

/// So many ranges of settled objects are kept; who loses some takes what he has once more.
const MOST_PIECES: usize = 1 << 16;

/// Why the journal could not be read or written.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct JournalError(Box<redb::Error>);

macro_rules! from {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for JournalError {
            fn from(error: redb::$error) -> Self {
                Self(Box::new(error.into()))
            }
        }
    )*};
}
from!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

impl JournalError {
    /// Whether another process has it open.
    pub(super) fn is_open_elsewhere(&self) -> bool {
        matches!(*self.0, redb::Error::DatabaseAlreadyOpen)
    }

    fn damaged(what: &str) -> Self {
        Self(Box::new(redb::Error::Corrupted(format!("a row of {what} cannot be read"))))
    }
}

pub(super) type Result<T, E = JournalError> = std::result::Result<T, E>;

/// The journal of one receiver. While it is open no other process can open it.
pub(super) struct Journal(Database);

impl Journal {
    pub(super) fn open(state: &Dir) -> Result<Self> {
        let path = format!("/proc/self/fd/{}/{FILE}", state.as_fd().as_raw_fd());
        let db = Database::builder().set_cache_size(CACHE).create(path)?;
        let write = db.begin_write()?;
        for table in ALL {
            write.open_table(table)?;
        }
        write.commit()?;
        let journal = Self(db);
        let tx = journal.begin()?;
        match tx.meta("version")? {
            Some(version) if version != VERSION => {
                let text = "the journal was written by a later version".to_owned();
                return Err(JournalError(Box::new(redb::Error::Corrupted(text))));
            }
            Some(_) => {}
            None => {
                tx.put_meta("version", VERSION)?;
                tx.commit()?;
            }
        }
        Ok(journal)
    }

    pub(super) fn begin(&self) -> Result<Tx> {
        Ok(Tx(self.0.begin_write()?))
    }

    /// What was committed last, as it stays for whoever reads it.
    pub(super) fn read(&self) -> Result<View> {
        View::new(&self.0.begin_read()?)
    }
}

/// The committed entries at one moment.
pub(super) struct View(redb::ReadOnlyTable<&'static [u8], &'static [u8]>);

impl View {
    fn new(read: &ReadTransaction) -> Result<Self> {
        Ok(Self(read.open_table(ENTRIES)?))
    }

    pub(super) fn entry(&self, path: &RelPath) -> Result<Option<Entry>> {
        match self.0.get(&*key(path))? {
            Some(row) => {
                Entry::decode(row.value()).map(Some).ok_or(JournalError::damaged("entries"))
            }
            None => Ok(None),
        }
    }

    pub(super) fn entries(&self) -> Result<u64> {
        Ok(self.0.len()?)
    }
}

/// Changes that become true together.
pub(super) struct Tx(WriteTransaction);

/// Rows as they stand.
pub(super) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

impl Tx {
    pub(super) fn commit(self) -> Result<()> {
        Ok(self.0.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.open_table(table)?.get(key)?.map(|row| row.value().to_vec()))
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.open_table(table)?.insert(key, value)?;
        Ok(())
    }

    /// Whether there was such a row.
    fn delete(&self, table: Table, key: &[u8]) -> Result<bool> {
        Ok(self.0.open_table(table)?.remove(key)?.is_some())
    }

    /// Up to `limit` rows behind a key, or from the first on, while they are wanted.
    fn rows(
        &self,
        table: Table,
        from: std::ops::Bound<&[u8]>,
        limit: usize,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Rows> {
        let table = self.0.open_table(table)?;
        let mut rows = Vec::new();
        for row in table.range::<&[u8]>((from, std::ops::Bound::Unbounded))? {
            let (key, value) = row?;
            if rows.len() == limit || !is_wanted(key.value()) {
                break;
            }
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    }

    fn after(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Rows> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.rows(table, from, limit, |_| true)
    }

    fn count(&self, table: Table) -> Result<u64> {
        Ok(self.0.open_table(table)?.len()?)
    }

    // What the tree should be.

    pub(super) fn entry(&self, path: &RelPath) -> Result<Option<Entry>> {
        match self.get(ENTRIES, &key(path))? {
            Some(row) => Entry::decode(&row).map(Some).ok_or(JournalError::damaged("entries")),
            None => Ok(None),
        }
    }

    pub(super) fn put_entry(&self, path: &RelPath, entry: &Entry) -> Result<()> {
        self.put(ENTRIES, &key(path), &entry.encode())
    }

    pub(super) fn remove_entry(&self, path: &RelPath) -> Result<bool> {
        self.delete(ENTRIES, &key(path))
    }

    pub(super) fn entries(&self) -> Result<u64> {
        self.count(ENTRIES)
    }

    /// Up to `limit` entries at a path and below it, behind one of them if that is given.
    pub(super) fn below(
        &self,
        path: &RelPath,
        after: Option<&RelPath>,
        limit: usize,
    ) -> Result<Vec<(RelPath, Entry)>> {
        let head = key(path);
        let behind = after.map(key);
        let from = match &behind {
            Some(behind) => std::ops::Bound::Excluded(&behind[..]),
            None => std::ops::Bound::Included(&head[..]),
        };
        let rows = self.rows(ENTRIES, from, limit, |key| is_below(key, &head))?;
        rows.iter()
            .map(|(key, row)| Some((unkey(key)?, Entry::decode(row)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or(JournalError::damaged("entries"))
    }

    // Files that have not arrived, by the object that holds them.

    pub(super) fn want(
        &self,
        object: u64,
        offset: u64,
        path: &RelPath,
        generation: u64,
    ) -> Result<()> {
        self.put(WANTED, &wanted_key(object, offset, path), &generation.to_be_bytes())
    }

    /// The generation that brings it, if it was wanted.
    pub(super) fn unwant(&self, object: u64, offset: u64, path: &RelPath) -> Result<Option<u64>> {
        let mut table = self.0.open_table(WANTED)?;
        let row = table.remove(&*wanted_key(object, offset, path))?;
        Ok(row.and_then(|row| number(row.value())))
    }

    /// What is wanted of an object.
    pub(super) fn wanted_of(&self, object: u64, limit: usize) -> Result<Vec<Wanted>> {
        let head = object.to_be_bytes();
        let from = std::ops::Bound::Included(&head[..]);
        let rows = self.rows(WANTED, from, limit, |key| key.starts_with(&head))?;
        wanted(&rows)
    }

    /// What is wanted, behind one of them if that is given.
    pub(super) fn wanted_after(&self, after: Option<&Wanted>, limit: usize) -> Result<Vec<Wanted>> {
        let after = after.map(|wanted| wanted_key(wanted.object, wanted.offset, &wanted.path));
        wanted(&self.after(WANTED, after.as_deref(), limit)?)
    }

    pub(super) fn wanted(&self) -> Result<u64> {
        self.count(WANTED)
    }

    // Sets of paths: hard links that wait for their file, folders whose time is to be set, what is to be removed.

    pub(super) fn put_link(&self, path: &RelPath, file: &RelPath) -> Result<()> {
        self.remove_link(path)?;
        self.put(LINKS, &key(path), &key(file))?;
        self.put(LINKED, &linked_key(file, path), &[])
    }

    /// The file, if it waited.
    pub(super) fn remove_link(&self, path: &RelPath) -> Result<Option<RelPath>> {
        let mut links = self.0.open_table(LINKS)?;
        let Some(row) = links.remove(&*key(path))? else { return Ok(None) };
        let file = unkey(row.value()).ok_or(JournalError::damaged("links"))?;
        self.delete(LINKED, &linked_key(&file, path))?;
        Ok(Some(file))
    }

    /// Up to `limit` hard links that wait for a file.
    pub(super) fn linked_to(&self, file: &RelPath, limit: usize) -> Result<Vec<RelPath>> {
        let head = [file.as_bytes(), &[0]].concat();
        let from = std::ops::Bound::Included(&head[..]);
        let rows = self.rows(LINKED, from, limit, |key| key.starts_with(&head))?;
        let read = |(key, _): &(Vec<u8>, Vec<u8>)| unkey(key.get(head.len()..)?);
        let read: Option<Vec<_>> = rows.iter().map(read).collect();
        read.ok_or(JournalError::damaged("links"))
    }

    pub(super) fn has_links(&self) -> Result<bool> {
        Ok(!self.0.open_table(LINKS)?.is_empty()?)
    }

    pub(super) fn links(&self, after: Option<&RelPath>, limit: usize) -> Result<Vec<RelPath>> {
        paths(&self.after(LINKS, after.map(key).as_deref(), limit)?)
    }

    pub(super) fn touch(&self, path: &RelPath) -> Result<()> {
        self.put(TOUCHED, &key(path), &[])
    }

    /// Up to `limit` touched folders, the last first, so that each comes behind those in it; they are touched no more.
    pub(super) fn untouch(&self, limit: usize) -> Result<Vec<RelPath>> {
        let mut table = self.0.open_table(TOUCHED)?;
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((key, _)) = table.pop_last()? else { break };
            taken.push(unkey(key.value()).ok_or(JournalError::damaged("folders"))?);
        }
        Ok(taken)
    }

    pub(super) fn doom(&self, path: &RelPath, generation: u64) -> Result<()> {
        self.put(DOOMED, &key(path), &generation.to_be_bytes())
    }

    /// The generation that would have removed it.
    pub(super) fn spare(&self, path: &RelPath) -> Result<Option<u64>> {
        let mut table = self.0.open_table(DOOMED)?;
        let row = table.remove(&*key(path))?;
        Ok(row.and_then(|row| number(row.value())))
    }

    pub(super) fn doomed(
        &self,
        after: Option<&RelPath>,
        limit: usize,
    ) -> Result<Vec<(RelPath, u64)>> {
        doomed(&self.after(DOOMED, after.map(key).as_deref(), limit)?)
    }

    /// Up to `limit` of what is to be removed at a path and below it.
    pub(super) fn doomed_below(&self, path: &RelPath, limit: usize) -> Result<Vec<(RelPath, u64)>> {
        let head = key(path);
        let from = std::ops::Bound::Included(&head[..]);
        doomed(&self.rows(DOOMED, from, limit, |key| is_below(key, &head))?)
    }

    // What was taken out of the tree.

    pub(super) fn put_quarantined(&self, id: u64, row: &Quarantined) -> Result<()> {
        self.put(QUARANTINE, &id.to_be_bytes(), &row.encode())
    }

    pub(super) fn remove_quarantined(&self, id: u64) -> Result<bool> {
        self.delete(QUARANTINE, &id.to_be_bytes())
    }

    pub(super) fn quarantined(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Quarantined)>> {
        let after = after.map(u64::to_be_bytes);
        let rows = self.after(QUARANTINE, after.as_ref().map(|key| &key[..]), limit)?;
        rows.iter()
            .map(|(key, row)| Some((number(key)?, Quarantined::decode(row)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or(JournalError::damaged("the quarantine"))
    }

    pub(super) fn in_quarantine(&self) -> Result<u64> {
        self.count(QUARANTINE)
    }

    // Pages that cannot be applied yet, each with the base that it builds on and its object, and ends of generations.

    pub(super) fn put_page(
        &self,
        at: (u64, u32),
        base: u64,
        object: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let row = [&base.to_be_bytes()[..], &object.to_be_bytes(), bytes].concat();
        self.put(PAGES, &page_key(at.0, at.1), &row)
    }

    /// The page as it came, and its object.
    pub(super) fn page(&self, generation: u64, page: u32) -> Result<Option<(Vec<u8>, u64)>> {
        let Some(mut row) = self.get(PAGES, &page_key(generation, page))? else { return Ok(None) };
        let object = row.get(8..).and_then(number).ok_or(JournalError::damaged("pages"))?;
        Ok(Some((row.split_off(16), object)))
    }

    pub(super) fn remove_page(&self, generation: u64, page: u32) -> Result<bool> {
        self.delete(PAGES, &page_key(generation, page))
    }

    /// Generation, page, base and length of every page.
    pub(super) fn pages(&self) -> Result<Vec<(u64, u32, u64, u64)>> {
        let table = self.0.open_table(PAGES)?;
        let mut pages = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let page =
                key.get(8..).and_then(|page| Some(u32::from_be_bytes(page.try_into().ok()?)));
            let read = number(key).zip(page).zip(number(value));
            let ((generation, page), base) = read.ok_or(JournalError::damaged("pages"))?;
            pages.push((generation, page, base, value.len() as u64));
        }
        Ok(pages)
    }

    pub(super) fn put_end(&self, end: &GenerationEnd) -> Result<()> {
        self.put(ENDS, &end.generation.to_be_bytes(), &record::encode_end(end))
    }

    pub(super) fn remove_end(&self, generation: u64) -> Result<bool> {
        self.delete(ENDS, &generation.to_be_bytes())
    }

    pub(super) fn ends(&self) -> Result<Vec<GenerationEnd>> {
        let rows = self.after(ENDS, None, usize::MAX)?;
        rows.iter()
            .map(|(_, row)| record::decode_end(row))
            .collect::<Option<Vec<_>>>()
            .ok_or(JournalError::damaged("ends"))
    }

    // Objects: large ones that are staged, small ones of which a part was published.

    pub(super) fn put_staged(&self, object: u64, length: u64) -> Result<()> {
        self.put(STAGED, &object.to_be_bytes(), &length.to_be_bytes())
    }

    pub(super) fn remove_staged(&self, object: u64) -> Result<bool> {
        self.delete(STAGED, &object.to_be_bytes())
    }

    pub(super) fn staged(&self) -> Result<Vec<(u64, u64)>> {
        self.numbers(STAGED)
    }

    /// How many bytes of a small object that waits were published.
    pub(super) fn put_held(&self, object: u64, published: u64) -> Result<()> {
        self.put(HELD, &object.to_be_bytes(), &published.to_be_bytes())
    }

    pub(super) fn remove_held(&self, object: u64) -> Result<bool> {
        self.delete(HELD, &object.to_be_bytes())
    }

    pub(super) fn held(&self) -> Result<Vec<(u64, u64)>> {
        self.numbers(HELD)
    }

    fn numbers(&self, table: Table) -> Result<Vec<(u64, u64)>> {
        let rows = self.after(table, None, usize::MAX)?;
        rows.iter()
            .map(|(key, row)| Some((number(key)?, number(row)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or(JournalError::damaged("objects"))
    }

    // The rest.

    pub(super) fn place(&self) -> Result<Place> {
        match self.meta("place")? {
            Some(row) => Place::decode(&row).ok_or(JournalError::damaged("places")),
            None => Ok(Place::default()),
        }
    }

    pub(super) fn put_place(&self, place: &Place) -> Result<()> {
        self.put_meta("place", &place.encode())
    }

    /// Objects that nothing is to be taken of any more.
    pub(super) fn settled(&self) -> Result<Intervals> {
        let mut settled = Intervals::default();
        for range in self.meta("settled")?.unwrap_or_default().chunks_exact(16) {
            if let Some((first, last)) = number(range).zip(number(&range[8..])) {
                settled.insert_range(first, last);
            }
        }
        Ok(settled)
    }

    pub(super) fn put_settled(&self, settled: &Intervals) -> Result<()> {
        let mut bytes = Vec::new();
        for (first, last) in settled.ranges().take(MOST_PIECES) {
            bytes.extend_from_slice(&first.to_be_bytes());
            bytes.extend_from_slice(&last.to_be_bytes());
        }
        self.put_meta("settled", &bytes)
    }

    pub(super) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.get(META, name.as_bytes())
    }

    pub(super) fn meta_number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.meta(name)?.and_then(|row| number(&row)))
    }

    pub(super) fn put_meta(&self, name: &str, value: &[u8]) -> Result<()> {
        self.put(META, name.as_bytes(), value)
    }

    /// Forgets all that was numbered by a sender: pages, ends, objects. What the tree is stays known.
    pub(super) fn forget_sender(&self) -> Result<()> {
        for table in [PAGES, ENDS, STAGED, HELD, WANTED, DOOMED, LINKS, LINKED] {
            self.0.delete_table(table)?;
            self.0.open_table(table)?;
        }
        for name in ["place", "settled", "held_back", "set_back", "highest", "highest_page"] {
            self.delete(META, name.as_bytes())?;
        }
        Ok(())
    }
}

/// A file that has not arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) object: u64,
    pub(super) offset: u64,
    pub(super) path: RelPath,
    pub(super) generation: u64,
}

fn wanted(rows: &Rows) -> Result<Vec<Wanted>> {
    let read = |(key, row): &(Vec<u8>, Vec<u8>)| {
        Some(Wanted {
            object: number(key)?,
            offset: number(key.get(8..)?)?,
            path: unkey(key.get(16..)?)?,
            generation: number(row)?,
        })
    };
    rows.iter().map(read).collect::<Option<Vec<_>>>().ok_or(JournalError::damaged("what is wanted"))
}

fn doomed(rows: &Rows) -> Result<Vec<(RelPath, u64)>> {
    rows.iter()
        .map(|(key, row)| Some((unkey(key)?, number(row)?)))
        .collect::<Option<Vec<_>>>()
        .ok_or(JournalError::damaged("what is to be removed"))
}

fn paths(rows: &Rows) -> Result<Vec<RelPath>> {
    let read: Option<Vec<_>> = rows.iter().map(|(key, _)| unkey(key)).collect();
    read.ok_or(JournalError::damaged("paths"))
}

fn key(path: &RelPath) -> Vec<u8> {
    path.as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn unkey(key: &[u8]) -> Option<RelPath> {
    let bytes: Vec<u8> = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    RelPath::parse(&bytes).ok()
}

fn is_below(key: &[u8], head: &[u8]) -> bool {
    let rest = key.strip_prefix(head);
    rest.is_some_and(|rest| head.is_empty() || rest.first().is_none_or(|byte| *byte == 0))
}

fn wanted_key(object: u64, offset: u64, path: &RelPath) -> Vec<u8> {
    [&object.to_be_bytes()[..], &offset.to_be_bytes(), &key(path)].concat()
}

/// The file's path as it is, which has no zero in it.
fn linked_key(file: &RelPath, path: &RelPath) -> Vec<u8> {
    [file.as_bytes(), &[0], &key(path)].concat()
}

fn page_key(generation: u64, page: u32) -> Vec<u8> {
    [&generation.to_be_bytes()[..], &page.to_be_bytes()].concat()
}

/// The number that bytes begin with.
fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_row(data: &[u8]) {
    record::fuzz(data);
}

#[cfg(test)]
mod tests;
