//! The tables of objects, while they are written: which object holds which file, when it goes out, and what becomes of
//! that when files move, go, or get another content. A file is found by its object, and an object by its file's note in
//! the tree, so that a move changes one row for each file and reads no object.
//!
//! Of a file with several names all have the note; the place of the content names the one that was told as a file. When
//! that one goes, another takes its place.

use files::{Kind, RelPath};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use tree::{Known, SnapshotTable};

use super::{Result, decode_row, read_path};
use crate::send::row::{Note, Row};

pub(super) const OBJECTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("diode objects");
/// When an object goes out again, in milliseconds since 1970, and which; 0 if it has not gone out once.
pub(super) const DUE: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("diode due");
/// The path of the file that is in an object from there on, if the tree has it.
pub(super) const PLACES: TableDefinition<'_, (u64, u64), &[u8]> =
    TableDefinition::new("diode places");

/// Files with several names, by inode. The number of the filesystem is not asked, for it changes over a reboot: who looks
/// here compares all else.
pub(super) const NAMES: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("diode names");

/// Names of one inode that are looked at for one that can take another's place.
const MOST_HEIRS: usize = 1000;

pub(super) struct Books<'t> {
    pub(super) objects: Table<'t, u64, &'static [u8]>,
    due: Table<'t, (u64, u64), ()>,
    places: Table<'t, (u64, u64), &'static [u8]>,
    names: Table<'t, (u64, &'static [u8]), ()>,
    /// Objects that have not gone out once.
    pub(super) waiting: u64,
    /// Rows that were looked at or written.
    #[cfg(test)]
    pub(super) steps: u64,
}

impl<'t> Books<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self> {
        Ok(Self {
            objects: transaction.open_table(OBJECTS)?,
            due: transaction.open_table(DUE)?,
            places: transaction.open_table(PLACES)?,
            names: transaction.open_table(NAMES)?,
            waiting: 0,
            #[cfg(test)]
            steps: 0,
        })
    }

    fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    /// Writes an object's row, which is due then, or not again.
    pub(super) fn set_due(&mut self, object: u64, row: &mut Row, at: Option<u64>) -> Result<()> {
        self.not_due(object, row.due_ms)?;
        row.due_ms = at;
        if let Some(at) = at
            && self.due.insert((at, object), ())?.is_none()
        {
            self.waiting += u64::from(at == 0);
        }
        self.objects.insert(object, &*row.encode())?;
        self.step();
        Ok(())
    }

    fn not_due(&mut self, object: u64, at: Option<u64>) -> Result<()> {
        if let Some(at) = at
            && self.due.remove((at, object))?.is_some()
        {
            self.waiting = self.waiting.saturating_sub(u64::from(at == 0));
        }
        Ok(())
    }

    /// An object is of no use any more.
    pub(super) fn remove_object(&mut self, object: u64) -> Result<()> {
        self.step();
        let row = self.objects.remove(object)?.map(|bytes| decode_row(bytes.value()));
        match row.transpose()? {
            Some(row) => self.not_due(object, row.due_ms),
            None => Ok(()),
        }
    }

    /// An entry is not in the tree any more.
    pub(super) fn gone(
        &mut self,
        tree: &SnapshotTable<'_>,
        path: &RelPath,
        known: &Known,
    ) -> Result<()> {
        if let Some(inode) = shared(known) {
            self.names.remove((inode, path.as_bytes()))?;
        }
        self.leave(tree, path, known)
    }

    /// An entry has another path.
    pub(super) fn moved(&mut self, old: &RelPath, new: &RelPath, known: &Known) -> Result<()> {
        if let Some(inode) = shared(known) {
            self.names.remove((inode, old.as_bytes()))?;
            self.names.insert((inode, new.as_bytes()), ())?;
        }
        if let Some(at) = place(known)
            && self.is_at(at, old)?
        {
            self.places.insert(at, new.as_bytes())?;
        }
        Ok(())
    }

    /// Takes over an entry, in place of what was known of it, as a file or as another name of one.
    pub(super) fn put(
        &mut self,
        tree: &mut SnapshotTable<'_>,
        path: &RelPath,
        known: &Known,
        is_link: bool,
    ) -> Result<()> {
        let at = place(known);
        let before = tree.get(path)?;
        tree.put(path, known)?;
        let (was, is) = (before.as_ref().and_then(shared), shared(known));
        if was != is {
            if let Some(inode) = was {
                self.names.remove((inode, path.as_bytes()))?;
            }
            if let Some(inode) = is {
                self.names.insert((inode, path.as_bytes()), ())?;
            }
        }
        if let Some(before) = before.filter(|before| place(before) != at) {
            self.leave(tree, path, &before)?;
        }
        if let Some(at) = at {
            self.step();
            if !is_link || self.places.get(at)?.is_none() {
                self.places.insert(at, path.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The content of a file is not at this path any more, but may be at another one. An object without files is of no
    /// use.
    fn leave(&mut self, tree: &SnapshotTable<'_>, path: &RelPath, known: &Known) -> Result<()> {
        let Some(at) = place(known) else { return Ok(()) };
        if !self.is_at(at, path)? {
            return Ok(());
        }
        if let Some(inode) = shared(known) {
            for name in names_of(&self.names, inode, MOST_HEIRS)? {
                self.step();
                let heir = tree.get(&name)?;
                if name != *path && heir.is_some_and(|heir| place(&heir) == Some(at)) {
                    self.places.insert(at, name.as_bytes())?;
                    return Ok(());
                }
            }
        }
        self.places.remove(at)?;
        self.step();
        let is_empty = self.places.range((at.0, 0)..=(at.0, u64::MAX))?.next().is_none();
        if is_empty { self.remove_object(at.0) } else { Ok(()) }
    }

    fn is_at(&mut self, at: (u64, u64), path: &RelPath) -> Result<bool> {
        self.step();
        let found = self.places.get(at)?;
        Ok(found.is_some_and(|found| found.value() == path.as_bytes()))
    }
}

/// The object that holds a file's content, and where; an empty file needs none.
fn place(known: &Known) -> Option<(u64, u64)> {
    let note = Note::decode(&known.note).filter(|note| note.object != 0)?;
    Some((note.object, note.offset))
}

/// The inode of a file with several names.
fn shared(known: &Known) -> Option<u64> {
    let stamp = &known.stamp;
    (stamp.kind == Kind::File && stamp.links > 1 && stamp.size > 0).then_some(stamp.inode)
}

/// Up to `most` names of an inode.
pub(super) fn names_of(
    names: &impl ReadableTable<(u64, &'static [u8]), ()>,
    inode: u64,
    most: usize,
) -> Result<Vec<RelPath>> {
    let mut found = Vec::new();
    for entry in names.range((inode, &b""[..])..)? {
        let entry = entry?;
        let (of, path) = entry.0.value();
        if of != inode || found.len() == most {
            break;
        }
        found.push(read_path(path)?);
    }
    Ok(found)
}
