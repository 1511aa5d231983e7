//! What the sender knows after any kill: the tree as it was told, each object and how often it went out, and the pages
//! and generations that tell of them. All of it is in one database, and what belongs together is committed together.

use std::collections::BTreeSet;
use std::time::Duration;

use files::{Dir, Name, RelPath};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use thiserror::Error;
use tree::{Known, Snapshot, SnapshotError};

use crate::send::row::{GenerationRow, Member, Note, Row};
use crate::symbol::ObjectKind;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("diode meta");
const OBJECTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode objects");
/// When an object goes out again, in milliseconds since 1970; 0 if it has not gone out once.
const DUE: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("diode due");
const PAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode pages");
const GENERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode generations");

/// Object numbers are set aside by so many, so that not each needs the disk.
const SET_ASIDE: u64 = 4096;

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

/// Rows of objects that are gone are removed so many at a time.
const MOST_GONE: usize = 10_000;

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
    /// Files that have another content than in these objects.
    pub(crate) outdated: Vec<(u64, RelPath)>,
    pub(crate) objects: Vec<(u64, Row)>,
    pub(crate) pages: Vec<(u64, Vec<u8>)>,
    pub(crate) generation: Option<(u64, GenerationRow)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.renames.is_empty()
            && self.removes.is_empty()
            && self.puts.is_empty()
            && self.outdated.is_empty()
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
}

impl Ledger {
    pub(crate) fn open(state: &Dir) -> Result<Self> {
        let name = Name::new("sent.redb").expect("it is a name");
        let snapshot = Snapshot::open(state, &name)?;
        let transaction = snapshot.database().begin_write()?;
        let next_object = {
            transaction.open_table(OBJECTS)?;
            transaction.open_table(DUE)?;
            transaction.open_table(PAGES)?;
            transaction.open_table(GENERATIONS)?;
            let meta = transaction.open_table(META)?;
            let next = meta.get("objects")?;
            next.map_or(1, |next| next.value())
        };
        transaction.commit()?;
        Ok(Self { snapshot, next_object, set_aside: next_object })
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

    pub(crate) fn commit(&mut self, batch: Batch) -> Result<()> {
        let changed = self.changed_members(&batch)?;
        let write = self.snapshot.write()?;
        {
            let mut tree = write.tree()?;
            for (from, to) in &batch.renames {
                tree.rename(from, to)?;
            }
            for path in &batch.removes {
                tree.remove(path)?;
            }
            for (path, known) in &batch.puts {
                tree.put(path, known)?;
            }
        }
        {
            let transaction = write.transaction();
            let mut objects = transaction.open_table(OBJECTS)?;
            for (object, row) in changed {
                match row {
                    Some(row) => objects.insert(object, &*row.encode())?,
                    None => objects.remove(object)?,
                };
            }
            let mut due = transaction.open_table(DUE)?;
            for (object, row) in &batch.objects {
                objects.insert(object, &*row.encode())?;
                due.insert((0, *object), ())?;
            }
            let mut pages = transaction.open_table(PAGES)?;
            for (object, bytes) in &batch.pages {
                pages.insert(object, &**bytes)?;
            }
            if let Some((number, row)) = &batch.generation {
                let mut generations = transaction.open_table(GENERATIONS)?;
                generations.insert(number, &*row.encode())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// The rows of objects that hold files which were moved, removed or changed; None for those that hold nothing current
    /// any more.
    fn changed_members(&self, batch: &Batch) -> Result<Vec<(u64, Option<Row>)>> {
        let mut touched: BTreeSet<u64> = batch.outdated.iter().map(|(object, _)| *object).collect();
        let read = self.snapshot.read()?;
        // What a move takes the place of is gone as well.
        let heads = batch.renames.iter().flat_map(|(from, to)| [from, to]).chain(&batch.removes);
        for head in heads {
            let own = read.get(head)?.into_iter().map(|known| Ok((head.clone(), known)));
            for entry in own.chain(read.below(head)?) {
                touched.extend(Note::decode(&entry?.1.note).map(|note| note.object));
            }
        }
        let transaction = self.snapshot.database().begin_read()?;
        let objects = transaction.open_table(OBJECTS)?;
        let mut changed = Vec::new();
        for object in touched {
            let Some(bytes) = objects.get(object)? else { continue };
            let mut row = decode_row(bytes.value())?;
            for member in &mut row.members {
                for (from, to) in &batch.renames {
                    member.is_current &= !member.path.starts_with(to);
                    if let Some(path) = moved(&member.path, from, to) {
                        member.path = path;
                    }
                }
                let is_gone = batch.removes.iter().any(|path| member.path.starts_with(path))
                    || batch
                        .outdated
                        .iter()
                        .any(|(of, path)| *of == object && *path == member.path);
                member.is_current &= !is_gone;
            }
            let is_kept = row.members.iter().any(|member| member.is_current);
            changed.push((object, is_kept.then_some(row)));
        }
        Ok(changed)
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
        let mut gone = Vec::new();
        let found = self.due_and_gone(now_ms, most, is_busy, &mut gone)?;
        if !gone.is_empty() {
            let transaction = self.snapshot.database().begin_write()?;
            {
                let mut due = transaction.open_table(DUE)?;
                for key in gone {
                    due.remove(key)?;
                }
            }
            transaction.commit()?;
        }
        Ok(found)
    }

    /// What is due, and the rows of objects that hold nothing any more.
    fn due_and_gone(
        &self,
        now_ms: u64,
        most: usize,
        is_busy: impl Fn(u64) -> bool,
        gone: &mut Vec<(u64, u64)>,
    ) -> Result<Vec<(u64, Row)>> {
        let transaction = self.snapshot.database().begin_read()?;
        let (due, objects) = (transaction.open_table(DUE)?, transaction.open_table(OBJECTS)?);
        let mut found = Vec::new();
        for entry in due.range((0, 0)..=(now_ms, u64::MAX))? {
            let (at, object) = entry?.0.value();
            if is_busy(object) {
                continue;
            }
            match objects.get(object)? {
                Some(bytes) => found.push((object, decode_row(bytes.value())?)),
                None => gone.push((at, object)),
            }
            if found.len() == most || gone.len() == MOST_GONE {
                break;
            }
        }
        Ok(found)
    }

    /// How many objects have not gone out once, and how many go out again.
    pub(crate) fn counts(&self) -> Result<(u64, u64)> {
        let transaction = self.snapshot.database().begin_read()?;
        let due = transaction.open_table(DUE)?;
        let first = due.range((0, 0)..=(0, u64::MAX))?.count() as u64;
        Ok((first, redb::ReadableTableMetadata::len(&due)? - first))
    }

    /// These objects have gone out once more, and are due again as the schedule says.
    pub(crate) fn have_gone(
        &mut self,
        gone: &BTreeSet<u64>,
        now_ms: u64,
        schedule: &Schedule,
    ) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut due = transaction.open_table(DUE)?;
            due.retain_in((0, 0)..=(now_ms, u64::MAX), |(_, object), ()| !gone.contains(&object))?;
            for object in gone {
                let row = objects.get(object)?.map(|bytes| decode_row(bytes.value()));
                let Some(mut row) = row.transpose()? else { continue };
                let passes = row.passes as usize;
                row.passes += 1;
                objects.insert(object, &*row.encode())?;
                let after = match row.kind {
                    ObjectKind::Page => schedule.pages.get(passes).copied(),
                    ObjectKind::Content if row.passes < schedule.times => {
                        schedule.files.get(passes).or(schedule.files.last()).copied()
                    }
                    ObjectKind::Content => None,
                };
                if let Some(after) = after {
                    let at = now_ms + u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
                    due.insert((at, *object), ())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// An object could not be read, and is tried again at this time.
    pub(crate) fn put_off(&mut self, object: u64, until_ms: u64) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut due = transaction.open_table(DUE)?;
            due.retain_in((0, 0)..(until_ms, 0), |(_, other), ()| other != object)?;
            due.insert((until_ms, object), ())?;
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
        transaction.open_table(META)?.insert("full", now_ms)?;
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

    pub(crate) fn generation(&self, number: u64) -> Result<Option<GenerationRow>> {
        let transaction = self.snapshot.database().begin_read()?;
        let generations = transaction.open_table(GENERATIONS)?;
        let row = generations.get(number)?;
        row.map(|bytes| {
            GenerationRow::decode(bytes.value()).ok_or(LedgerError::Damaged("a generation"))
        })
        .transpose()
    }

    /// Forgets generations before this one, which is full and has gone out.
    pub(crate) fn forget_before(&mut self, full: u64) -> Result<()> {
        let transaction = self.snapshot.database().begin_write()?;
        {
            let mut generations = transaction.open_table(GENERATIONS)?;
            let (mut objects, mut pages) =
                (transaction.open_table(OBJECTS)?, transaction.open_table(PAGES)?);
            for entry in generations.extract_from_if(..full, |_, _| true)? {
                let row = GenerationRow::decode(entry?.1.value());
                for page in row.ok_or(LedgerError::Damaged("a generation"))?.pages {
                    objects.remove(page)?;
                    pages.remove(page)?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn decode_row(bytes: &[u8]) -> Result<Row> {
    Row::decode(bytes).ok_or(LedgerError::Damaged("an object"))
}

/// The path after a move of what it is or lies in.
fn moved(path: &RelPath, from: &RelPath, to: &RelPath) -> Option<RelPath> {
    if !path.starts_with(from) {
        return None;
    }
    let tail = &path.as_bytes()[from.as_bytes().len()..];
    RelPath::parse(&[to.as_bytes(), tail].concat()).ok()
}

/// A file in an object that is new.
pub(crate) fn member(path: &RelPath, size: u64) -> Member {
    Member { path: path.clone(), size, is_current: true }
}
