//! A generation while it is made: entries that become signed pages, and small files that become objects. What is written
//! to the ledger with a page is what the page tells.

use std::collections::BTreeSet;

use files::{Digest, RelPath};
use link::Identity;
use tree::Known;

use crate::block::BLOCK;
use crate::manifest::{Change, Page, PageError};
use crate::record::{GenerationEnd, Record};
use crate::send::ledger::Batch;
use crate::send::row::{GenerationRow, Note, Row};
use crate::symbol::ObjectKind;

/// A page is closed with so many entries, or bytes before it is packed.
const ENTRIES: usize = 8192;
const BYTES: usize = 1 << 20;

/// How hard pages are packed: zstd's default.
const LEVEL: i32 = 3;

/// Several small files that go out as one object.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) object: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A page, ready to go out.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) object: u64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// 0 while none is open.
    pub(crate) generation: u64,
    row: GenerationRow,
    entries: Vec<Change>,
    bytes: usize,
    pub(crate) batch: Batch,
    pack: Option<Pack>,
    /// Objects of this generation that have not gone out once.
    pub(crate) waiting: BTreeSet<u64>,
}

impl Draft {
    /// One that goes on with a generation that has not ended.
    pub(crate) fn of(generation: u64, row: GenerationRow) -> Self {
        Self { generation, row, ..Self::default() }
    }

    /// Begins a generation that builds on another, or on none.
    pub(crate) fn begin(&mut self, generation: u64, base: u64) {
        debug_assert!(self.generation == 0 && self.entries.is_empty());
        self.generation = generation;
        self.row = GenerationRow { base, ..GenerationRow::default() };
    }

    /// Whether nothing was told in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.row.pages.is_empty()
    }

    /// Whether something was told in the generation that is open, so that it is to be ended.
    pub(crate) fn has_told(&self) -> bool {
        self.generation != 0 && (!self.is_empty() || self.pack.is_some())
    }

    pub(crate) fn is_full_manifest(&self) -> bool {
        self.row.base == 0
    }

    pub(crate) fn push(&mut self, change: Change) {
        match &change {
            Change::File { size, .. } => {
                self.row.files += 1;
                self.row.bytes += size;
            }
            Change::Removed { .. } => self.row.removed += 1,
            _ => {}
        }
        self.bytes += weight(&change);
        self.entries.push(change);
    }

    /// Whether the entries make a page, or what is to be written with it is as much.
    pub(crate) fn is_page(&self) -> bool {
        self.entries.len().max(self.batch.links.len()) >= ENTRIES || self.bytes >= BYTES
    }

    pub(crate) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether a small file of this size has room in the pack that is open.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.pack.as_ref().is_some_and(|pack| pack.bytes.len() + size <= BLOCK)
    }

    pub(crate) fn begin_pack(&mut self, object: u64, bytes: Vec<u8>) {
        debug_assert!(self.pack.is_none() && bytes.is_empty());
        self.pack = Some(Pack { object, bytes });
    }

    /// Adds a small file to the pack that is open and has room, and says where it is.
    pub(crate) fn pack(&mut self, content: &[u8]) -> Option<Note> {
        let pack = self.pack.as_mut()?;
        let offset = pack.bytes.len() as u64;
        pack.bytes.extend_from_slice(content);
        Some(Note { digest: *Digest::of(content).as_bytes(), object: pack.object, offset })
    }

    /// Closes the pack, whose bytes are to go out now.
    pub(crate) fn close_pack(&mut self) -> Option<Pack> {
        let pack = self.pack.take()?;
        self.object(pack.object, pack.bytes.len() as u64);
        Some(pack)
    }

    /// An object whose files this generation tells.
    pub(crate) fn object(&mut self, object: u64, length: u64) {
        self.waiting.insert(object);
        let row = Row::new(ObjectKind::Content, length, self.generation);
        self.batch.objects.push((object, row));
    }

    /// Whether an object is told by entries that are in no page yet.
    pub(crate) fn holds(&self, object: u64) -> bool {
        self.batch.objects.iter().any(|(other, _)| *other == object)
    }

    pub(crate) fn put(&mut self, path: &RelPath, known: Known) {
        self.batch.puts.push((path.clone(), known));
    }

    /// Another name of a file that is put as well, or was.
    pub(crate) fn put_link(&mut self, path: &RelPath, known: Known) {
        self.batch.links.push((path.clone(), known));
    }

    /// Makes a page of the entries, which goes out as this object, and the batch that belongs to it. No pack may be open.
    pub(crate) fn close_page(
        &mut self,
        object: u64,
        identity: &Identity,
        floor: u64,
    ) -> Result<(Option<Packed>, Batch), PageError> {
        debug_assert!(self.pack.is_none());
        let mut batch = std::mem::take(&mut self.batch);
        if self.entries.is_empty() {
            return Ok((None, batch));
        }
        let page = Page {
            generation: self.generation,
            base: self.row.base,
            page: self.row.pages.len() as u32,
            before: self.row.last_page,
            entries: std::mem::take(&mut self.entries),
        };
        self.bytes = 0;
        let signed = page.sign(identity, floor)?;
        self.row.last_page = Page::digest(&signed);
        self.row.pages.push(object);
        let bytes = zstd::bulk::compress(&signed, LEVEL).expect("memory can be packed");
        let row = Row::new(ObjectKind::Page, bytes.len() as u64, self.generation);
        batch.objects.push((object, row));
        batch.pages.push((object, bytes.clone()));
        batch.generation = Some((self.generation, self.row.clone()));
        self.waiting.insert(object);
        Ok((Some(Packed { object, bytes }), batch))
    }

    /// Ends the generation, all of whose entries are in pages, with what its end says of the tree and of objects to come:
    /// its row, and the record that tells of it.
    pub(crate) fn end(
        &mut self,
        (entries, open): (u64, u64),
        identity: &Identity,
        floor: u64,
    ) -> (u64, GenerationRow, BTreeSet<u64>) {
        let mut end = GenerationEnd::unsigned(self.generation, self.row.base);
        end.pages = self.row.pages.len() as u32;
        end.last_page = self.row.last_page;
        end.files = self.row.files;
        end.bytes = self.row.bytes;
        end.removed = self.row.removed;
        end.entries = entries;
        end.open = open;
        let mut record = Vec::new();
        let signed = Record::GenerationEnded(end.sign(identity, floor));
        signed.encode(&mut record).expect("it has a fixed length");
        let mut row = std::mem::take(&mut self.row);
        row.end = Some(record);
        (std::mem::take(&mut self.generation), row, std::mem::take(&mut self.waiting))
    }
}

/// Bytes of an entry in a page, or a little more.
fn weight(change: &Change) -> usize {
    match change {
        Change::Folder { path, attributes } | Change::File { path, attributes, .. } => {
            let xattrs = attributes.xattrs.iter().flatten();
            let xattrs: usize =
                xattrs.map(|(name, value)| name.as_bytes().len() + value.len() + 6).sum();
            100 + path.as_bytes().len() + xattrs
        }
        Change::Symlink { path, target, .. } => 20 + path.as_bytes().len() + target.len(),
        Change::HardLink { path, file } => 5 + path.as_bytes().len() + file.as_bytes().len(),
        Change::Moved { from, to } => 5 + from.as_bytes().len() + to.as_bytes().len(),
        Change::Removed { path } => 3 + path.as_bytes().len(),
    }
}
