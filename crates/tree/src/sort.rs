//! Sorting more than memory holds: records are gathered up to a number of bytes, sorted, and written to
//! a scratch file as a run; a pass merges the runs. What fits is never written. Records of equal keys
//! come one after another, in no order among themselves.
//!
//! The scratch files have no names, so nothing is left behind by a killed process.

mod merge;
mod run;

use std::sync::Arc;

use files::{Dir, File, FilesError};

use merge::Source;
use run::{Run, RunWriter};

pub use merge::Merge;

/// Runs that are merged at a time. Each takes a buffer, so more are merged to fewer first.
const MOST_RUNS: usize = 128;
/// Bytes that a record may have together, key and value.
pub const MOST_RECORD: usize = 1 << 20;
/// Less memory than this is not worth a run, and more is out of reach of its offsets.
const MEMORY: std::ops::RangeInclusive<usize> = (1 << 12)..=(1 << 30);

/// Takes records in any order.
pub struct Sorter {
    scratch: Dir,
    memory: usize,
    pile: Pile,
    runs: Vec<Run>,
    /// The file that runs are being written to, and where the next begins.
    file: Option<(Arc<File>, u64)>,
}

/// Records in memory.
#[derive(Default)]
struct Pile {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where a record is in the bytes of a pile.
#[derive(Clone, Copy)]
struct Slot {
    start: u32,
    key: u32,
    value: u32,
}

/// Records in order; any number of passes over them can be made.
#[derive(Clone)]
pub struct Sorted {
    parts: Parts,
    memory: usize,
}

#[derive(Clone)]
enum Parts {
    Memory(Arc<Pile>),
    Runs(Arc<[Run]>),
}

impl Sorter {
    /// Sorts in about `memory` bytes, with scratch files in `scratch`.
    pub fn new(scratch: &Dir, memory: usize) -> Self {
        let memory = memory.clamp(*MEMORY.start(), *MEMORY.end());
        let pile = Pile::default();
        Self { scratch: scratch.clone(), memory, pile, runs: Vec::new(), file: None }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When a run cannot be written. A record of more than [`MOST_RECORD`] bytes counts as one that
    /// cannot.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), FilesError> {
        let len = key.len() + value.len();
        if len > MOST_RECORD {
            let (path, limit) = (self.scratch.path().to_owned(), MOST_RECORD as u64);
            return Err(FilesError::TooLarge { path, limit });
        }
        if !self.pile.slots.is_empty() && self.pile.size() + len > self.memory {
            self.write_run()?;
        }
        if self.pile.bytes.capacity() == 0 {
            // Pages that are never touched cost nothing, and growing would copy.
            self.pile.bytes.reserve_exact(self.memory);
        }
        self.pile.push(key, value);
        Ok(())
    }

    /// Ends the gathering.
    ///
    /// # Errors
    /// When the last run cannot be written, or earlier ones cannot be merged.
    pub fn finish(mut self) -> Result<Sorted, FilesError> {
        let memory = self.memory;
        if self.runs.is_empty() {
            self.pile.sort();
            return Ok(Sorted { parts: Parts::Memory(Arc::new(self.pile)), memory });
        }
        self.write_run()?;
        Ok(Sorted { parts: Parts::Runs(self.runs.into()), memory })
    }

    /// Writes what is in memory as a run, and sees to it that there are not too many.
    fn write_run(&mut self) -> Result<(), FilesError> {
        self.pile.sort();
        let (file, at) = match self.file.take() {
            Some(file) => file,
            None => (Arc::new(self.scratch.scratch_file()?), 0),
        };
        let mut writer = RunWriter::new(file, at);
        for index in 0..self.pile.slots.len() {
            writer.push(self.pile.key(index), self.pile.value(index))?;
        }
        let run = writer.finish()?;
        self.file = Some((run.file.clone(), run.end));
        self.runs.push(run);
        self.pile.bytes.clear();
        self.pile.slots.clear();
        if self.runs.len() >= MOST_RUNS { self.merge_runs() } else { Ok(()) }
    }

    /// Merges the smaller half of the runs to one, in a file of its own. Those they were in are gone
    /// with the last run of theirs.
    fn merge_runs(&mut self) -> Result<(), FilesError> {
        self.file = None;
        self.runs.sort_by_key(|run| std::cmp::Reverse(run.end - run.start));
        let small: Arc<[Run]> = self.runs.split_off(MOST_RUNS / 2).into();
        let mut merge = merge_of(&small, self.memory)?;
        let mut writer = RunWriter::new(Arc::new(self.scratch.scratch_file()?), 0);
        while merge.advance()? {
            writer.push(merge.key(), merge.value())?;
        }
        self.runs.push(writer.finish()?);
        Ok(())
    }
}

impl Pile {
    fn size(&self) -> usize {
        self.bytes.len() + self.slots.len() * size_of::<Slot>()
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        // What is gathered is bounded far below 4 GiB.
        let [start, key_len, value_len] =
            [self.bytes.len(), key.len(), value.len()].map(|n| n as u32);
        self.slots.push(Slot { start, key: key_len, value: value_len });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.slots.sort_unstable_by(|a, b| a.key_in(bytes).cmp(b.key_in(bytes)));
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn key(&self, index: usize) -> &[u8] {
        self.slots[index].key_in(&self.bytes)
    }

    fn value(&self, index: usize) -> &[u8] {
        let Slot { start, key, value } = self.slots[index];
        &self.bytes[(start + key) as usize..][..value as usize]
    }
}

impl Slot {
    fn key_in(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..self.key as usize]
    }
}

impl Sorted {
    /// Goes through the records in order.
    ///
    /// # Errors
    /// When a run cannot be read.
    pub fn pass(&self) -> Result<Merge, FilesError> {
        match &self.parts {
            Parts::Memory(pile) => Ok(Merge::new(vec![Source::memory(pile.clone())])),
            Parts::Runs(runs) => merge_of(runs, self.memory),
        }
    }
}

/// A merge of runs whose buffers together stay near `memory`.
fn merge_of(runs: &Arc<[Run]>, memory: usize) -> Result<Merge, FilesError> {
    let buffer = (memory / runs.len().max(1)).clamp(1 << 12, 1 << 18);
    let sources = runs.iter().map(|run| Source::run(run, buffer));
    Ok(Merge::new(sources.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests;
