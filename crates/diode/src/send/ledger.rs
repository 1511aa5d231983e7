//! What the sender knows after any kill: the tree as it was told, each object and how often it went out, and the pages
//! and generations that tell of them. All of it is in one database, and what belongs together is committed together.

mod books;

use std::collections::BTreeSet;
use std::time::Duration;

use files::{Dir, Name, RelPath};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use thiserror::Error;
use tree::{Known, Snapshot, SnapshotError};

use crate::send::row::{GenerationRow, Row};
use crate::symbol::ObjectKind;

use books::{Books, DUE, NAMES, OBJECTS, PLACES, names_of};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("diode meta");
const PAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode pages");
const GENERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode generations");

/// What the tables hold; a ledger of another layout is not read.
const LAYOUT: u64 = 2;

/// Object numbers are set aside by so many, so that not each needs the disk.
const SET_ASIDE: u64 = 4096;

/// Objects have numbers from the time at which the run began, in milliseconds since 1970, and more than any run can give in
/// a millisecond; they are below 2^62.
const OBJECTS_A_MS: u32 = 20;
const MOST_RUN: u64 = (1 << 42) - 1;

/// How often objects go out, and how long after the time before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedule {
    /// How often files go out in all.
    pub(crate) times: u32,
    /// After these times; the last one again and again.
    pub(crate) files: Vec<Duration>,
    /// Pages go out again after these times, whatever files do: all else depends on them.
    pub(crate) pages: Vec<Duration>,
}

/// Why the ledger cannot be kept.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The part that holds the tree.
    #[error("the ledger of what was sent cannot be used")]
    Snapshot(#[from] SnapshotError),
    /// The database does not do as it should.
    #[error("the ledger of what was sent cannot be used")]
    Database(#[source] Box<redb::Error>),
    /// It holds what nobody wrote there.
    #[error("the ledger of what was sent is damaged: {0}")]
    Damaged(&'static str),
}

/// Each step of a transaction has an error type of its own.
macro_rules! from_steps {
    ($($step:ident),*) => {
        $(impl From<redb::$step> for LedgerError {
            fn from(error: redb::$step) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_steps!(TransactionError, TableError, StorageError, CommitError);

type Result<T> = std::result::Result<T, LedgerError>;

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Files and folders with another path, and all below them; before all else.
    pub(crate) renames: Vec<(RelPath, RelPath)>,
    /// What is gone, with all below.
    pub(crate) removes: Vec<RelPath>,
    pub(crate) puts: Vec<(RelPath, Known)>,
    /// More names of files that are known or among these.
    pub(crate) links: Vec<(RelPath, Known)>,
    pub(crate) objects: Vec<(u64, Row)>,
    pub(crate) pages: Vec<(u64, Vec<u8>)>,
    pub(crate) generation: Option<(u64, GenerationRow)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.renames.is_empty()
            && self.removes.is_empty()
            && self.puts.is_empty()
            && self.links.is_empty()
            && self.objects.is_empty()
            && self.pages.is_empty()
            && self.generation.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    snapshot: Snapshot,
    next_object: u64,
    set_aside: u64,
    /// Objects that have not gone out once.
    waiting: u64,
    /// Rows that commits have looked at or written.
    #[cfg(test)]
    pub(crate) steps: u64,
}

impl Ledger {
    pub(crate) fn open(state: &Dir) -> Result<Self> {
        let snapshot = Snapshot::open(state, &file_name())?;
        let is_new = snapshot.entries()? == 0;
        let transaction = snapshot.database().begin_write()?;
        let (next_object, waiting) = {
            Books::open(&transaction)?;
            transaction.open_table(PAGES)?;
            transaction.open_table(GENERATIONS)?;
            let mut meta = transaction.open_table(META)?;
            let layout = meta.get("layout")?.map(|layout| layout.value());
            if layout.is_none() && is_new {
                meta.insert("layout", LAYOUT)?;
            } else if layout != Some(LAYOUT) {
                return Err(LedgerError::Damaged("another version of haul wrote it"));
            }
            let next = meta.get("objects")?.map_or(1, |next| next.value());
            let due = transaction.open_table(DUE)?;
            (next, due.range((0, 0)..=(0, u64::MAX))?.count() as u64)
        };
        transaction.commit()?;
        Ok(Self {
            snapshot,
            next_object,
            set_aside: next_object,
            waiting,
            #[cfg(test)]
            steps: 0,
        })
    }

    /// Begins a run of the sender, the last of which that is remembered elsewhere had this number: the number of the new
    /// one, and whether the ledger is older than the last one, which is so after it was restored from a backup. No
    /// generation and no object has a number again that any run before has given, whatever the ledger knows of it.
    pub(crate) fn begin_run(&mut self, now_ms: u64, last: u64) -> Result<(u64, bool)> {
        let transaction = self.snapshot.database().begin_write()?;
        let (is_back, run) = {
            let mut meta = transaction.open_table(META)?;
            let own = meta.get("run")?.map_or(0, |run| run.value());
            let run = now_ms.max(own.max(last).saturating_add(1));
            meta.insert("run", run)?;
            let least = run.min(MOST_RUN) << OBJECTS_A_MS;
            self.next_object = self.next_object.max(least);
            self.set_aside = self.next_object;
            meta.insert("objects", self.next_object)?;
            // Until the whole tree is told, whoever runs next must know it as well.
            let is_back = own < last || meta.get("set back")?.is_some();
            if is_back {
                meta.insert("set back", run)?;
            }
            (is_back, run)
        };
        transaction.commit()?;
        Ok((run, is_back && self.snapshot.entries()? > 0))
    }

    /// The first generation, with which all of the tree was new; 0 if there is none yet.
    pub(crate) fn first_generation(&self) -> Result<u64> {
        let transaction = self.snapshot.database().begin_read()?;
        let first = transaction.open_table(META)?.get("first")?;
        Ok(first.map_or(0, |first| first.value()))
    }

    /// The first generation has begun.
    pub(crate) fn set_first_generation(&mut self, generation: u64) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        transaction.open_table(META)?.insert("first", generation)?;
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A number that no object had, or will have after any kill.
    pub(crate) fn new_object(&mut self) -> Result<u64> {
        if self.next_object == self.set_aside {
            let end = self.set_aside + SET_ASIDE;
            let transaction = self.snapshot.database().begin_write()?;
            transaction.open_table(META)?.insert("objects", end)?;
            transaction.commit()?;
            self.set_aside = end;
        }
        self.next_object += 1;
        Ok(self.next_object - 1)
    }

    /// The number that the next one will have, or a lower one.
    pub(crate) fn next_object(&self) -> u64 {
        self.next_object
    }

    /// Writes a batch. What it takes grows with the rows that it moves, removes and puts, one at a time, and memory not.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<()> {
        let write = self.snapshot.write()?;
        {
            let transaction = write.transaction();
            let mut tree = write.tree()?;
            let mut books = Books::open(transaction)?;
            books.waiting = self.waiting;
            for (object, mut row) in batch.objects {
                row.due_ms = None;
                books.set_due(object, &mut row, Some(0))?;
            }
            for (from, to) in &batch.renames {
                // What a move takes the place of is gone.
                tree.remove_each(to, |tree, path, known| books.gone(tree, path, known))?;
                tree.rename_each(from, to, |old, new, known| books.moved(old, new, known))?;
            }
            for path in &batch.removes {
                tree.remove_each(path, |tree, path, known| books.gone(tree, path, known))?;
            }
            for (path, known) in &batch.puts {
                books.put(&mut tree, path, known, false)?;
            }
            for (path, known) in &batch.links {
                books.put(&mut tree, path, known, true)?;
            }
            let mut pages = transaction.open_table(PAGES)?;
            for (object, bytes) in &batch.pages {
                pages.insert(object, &**bytes)?;
            }
            if let Some((number, row)) = &batch.generation {
                let mut generations = transaction.open_table(GENERATIONS)?;
                generations.insert(number, &*row.encode())?;
            }
            self.waiting = books.waiting;
            #[cfg(test)]
            {
                self.steps += books.steps;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// The files in an object, by where they begin in it; those that are gone, or have another content now, are missing.
    pub(crate) fn files_of(&self, object: u64) -> Result<Vec<(u64, RelPath)>> {
        let transaction = self.snapshot.database().begin_read()?;
        let places = transaction.open_table(PLACES)?;
        let mut files = Vec::new();
        for entry in places.range((object, 0)..=(object, u64::MAX))? {
            let (at, path) = entry?;
            files.push((at.value().1, read_path(path.value())?));
        }
        Ok(files)
    }

    /// The file whose content is at this place of an object: of several names of it the one that was told as a file.
    pub(crate) fn file_at(&self, object: u64, offset: u64) -> Result<Option<RelPath>> {
        let transaction = self.snapshot.database().begin_read()?;
        let places = transaction.open_table(PLACES)?;
        places.get((object, offset))?.map(|path| read_path(path.value())).transpose()
    }

    /// Up to `most` names of the files with several names that had this inode when they were told.
    pub(crate) fn names_of(&self, inode: u64, most: usize) -> Result<Vec<RelPath>> {
        let transaction = self.snapshot.database().begin_read()?;
        names_of(&transaction.open_table(NAMES)?, inode, most)
    }

    /// Whether any file has several names.
    pub(crate) fn has_names(&self) -> Result<bool> {
        let transaction = self.snapshot.database().begin_read()?;
        Ok(!redb::ReadableTableMetadata::is_empty(&transaction.open_table(NAMES)?)?)
    }

    pub(crate) fn row(&self, object: u64) -> Result<Option<Row>> {
        let transaction = self.snapshot.database().begin_read()?;
        let objects = transaction.open_table(OBJECTS)?;
        objects.get(object)?.map(|bytes| decode_row(bytes.value())).transpose()
    }

    /// The bytes of a page as they go across.
    pub(crate) fn page(&self, object: u64) -> Result<Option<Vec<u8>>> {
        let transaction = self.snapshot.database().begin_read()?;
        let pages = transaction.open_table(PAGES)?;
        Ok(pages.get(object)?.map(|bytes| bytes.value().to_vec()))
    }

    /// Objects that are to go out by now, those that never have before all others.
    pub(crate) fn due(
        &self,
        now_ms: u64,
        most: usize,
        is_busy: impl Fn(u64) -> bool,
    ) -> Result<Vec<(u64, Row)>> {
        let transaction = self.snapshot.database().begin_read()?;
        let (due, objects) = (transaction.open_table(DUE)?, transaction.open_table(OBJECTS)?);
        let mut found = Vec::new();
        for entry in due.range((0, 0)..=(now_ms, u64::MAX))? {
            if found.len() == most {
                break;
            }
            let (_, object) = entry?.0.value();
            if !is_busy(object)
                && let Some(bytes) = objects.get(object)?
            {
                found.push((object, decode_row(bytes.value())?));
            }
        }
        Ok(found)
    }

    /// How many objects have not gone out once, and how many go out again.
    pub(crate) fn counts(&self) -> Result<(u64, u64)> {
        let transaction = self.snapshot.database().begin_read()?;
        let due = transaction.open_table(DUE)?;
        let all = redb::ReadableTableMetadata::len(&due)?;
        Ok((self.waiting, all.saturating_sub(self.waiting)))
    }

    /// These objects have gone out once more, and are due again as the schedule says.
    pub(crate) fn have_gone(
        &mut self,
        gone: &BTreeSet<u64>,
        now_ms: u64,
        schedule: &Schedule,
    ) -> Result<()> {
        self.change_rows(gone.iter().copied(), |row| {
            let passes = row.passes as usize;
            row.passes += 1;
            let after = match row.kind {
                ObjectKind::Page => schedule.pages.get(passes).copied(),
                ObjectKind::Content if row.passes < schedule.times => {
                    schedule.files.get(passes).or(schedule.files.last()).copied()
                }
                ObjectKind::Content => None,
            };
            after.map(|after| now_ms + u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2))
        })
    }

    /// An object could not be read, and is tried again at this time.
    pub(crate) fn put_off(&mut self, object: u64, until_ms: u64) -> Result<()> {
        self.change_rows([object].into_iter(), |_| Some(until_ms))
    }

    /// Changes rows of objects, and when they are due.
    fn change_rows(
        &mut self,
        objects: impl Iterator<Item = u64>,
        change: impl Fn(&mut Row) -> Option<u64>,
    ) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut books = Books::open(&transaction)?;
            books.waiting = self.waiting;
            for object in objects {
                let row = books.objects.get(object)?.map(|bytes| decode_row(bytes.value()));
                let Some(mut row) = row.transpose()? else { continue };
                let at = change(&mut row);
                books.set_due(object, &mut row, at)?;
            }
            self.waiting = books.waiting;
        }
        transaction.commit()?;
        Ok(())
    }

    /// What is signed from now on is signed for this floor. Forgets pages and generations that were signed for another one,
    /// and says whether there were any.
    pub(crate) fn renew(&mut self, floor: u64) -> Result<bool> {
        let transaction = self.snapshot.database().begin_write()?;
        let is_renewed = {
            let mut meta = transaction.open_table(META)?;
            let before = meta.insert("floor", floor)?.map(|before| before.value());
            before.is_some_and(|before| before != floor)
        };
        transaction.commit()?;
        if is_renewed {
            self.forget_before(u64::MAX)?;
        }
        Ok(is_renewed)
    }

    /// When the whole tree was told last, in milliseconds since 1970.
    pub(crate) fn last_full_ms(&self) -> Result<Option<u64>> {
        let transaction = self.snapshot.database().begin_read()?;
        let meta = transaction.open_table(META)?;
        Ok(meta.get("full")?.map(|at| at.value()))
    }

    /// The whole tree was told now.
    pub(crate) fn told_all(&mut self, now_ms: u64) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("full", now_ms)?;
            meta.remove("set back")?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The generations that are kept, in order.
    pub(crate) fn generations(&self) -> Result<Vec<(u64, GenerationRow)>> {
        let transaction = self.snapshot.database().begin_read()?;
        let generations = transaction.open_table(GENERATIONS)?;
        let mut all = Vec::new();
        for entry in generations.iter()? {
            let (number, bytes) = entry?;
            let row = GenerationRow::decode(bytes.value());
            all.push((number.value(), row.ok_or(LedgerError::Damaged("a generation"))?));
        }
        Ok(all)
    }

    /// The last generation of which, and of those before it, everything has gone out once; 0 if none.
    pub(crate) fn sent_generation(&self) -> Result<u64> {
        let waiting = self.first_waiting()?;
        let generations = self.generations()?.into_iter();
        let sent = generations.filter(|(number, row)| row.end.is_some() && *number < waiting);
        Ok(sent.map(|(number, _)| number).max().unwrap_or(0))
    }

    /// The first generation that tells of an object which has not gone out once.
    fn first_waiting(&self) -> Result<u64> {
        let transaction = self.snapshot.database().begin_read()?;
        let (due, objects) = (transaction.open_table(DUE)?, transaction.open_table(OBJECTS)?);
        let mut first = u64::MAX;
        for entry in due.range((0, 0)..=(0, u64::MAX))? {
            let (_, object) = entry?.0.value();
            let Some(bytes) = objects.get(object)? else { continue };
            first = first.min(decode_row(bytes.value())?.generation);
        }
        Ok(first)
    }

    /// Forgets generations before this one, which is full and has gone out.
    pub(crate) fn forget_before(&mut self, full: u64) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut generations = transaction.open_table(GENERATIONS)?;
            let mut pages = transaction.open_table(PAGES)?;
            let mut books = Books::open(&transaction)?;
            books.waiting = self.waiting;
            for entry in generations.extract_from_if(..full, |_, _| true)? {
                let row = GenerationRow::decode(entry?.1.value());
                for page in row.ok_or(LedgerError::Damaged("a generation"))?.pages {
                    books.remove_object(page)?;
                    pages.remove(page)?;
                }
            }
            self.waiting = books.waiting;
        }
        transaction.commit()?;
        Ok(())
    }
}

pub(super) fn decode_row(bytes: &[u8]) -> Result<Row> {
    Row::decode(bytes).ok_or(LedgerError::Damaged("an object"))
}

fn read_path(bytes: &[u8]) -> Result<RelPath> {
    RelPath::parse(bytes).map_err(|_| LedgerError::Damaged("a path"))
}

fn file_name() -> Name {
    Name::new("sent.redb").expect("it is a name")
}

#[cfg(test)]
mod tests;
