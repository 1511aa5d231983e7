//! A run: records in order in a part of a scratch file, each key cut by what it shares with the one
//! before it.
//!
//! A record is the number of bytes that follow, then bytes shared with the key before, the length of the
//! rest of the key, that rest, and the value.

use std::sync::Arc;

use files::{File, FilesError};

use crate::varint::{Reader, put};

/// Bytes that are gathered before they are written.
const WRITE: usize = 1 << 18;
/// Bytes of the longest number.
const MOST_NUMBER: usize = 10;

/// Where a run lies.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) file: Arc<File>,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Writes a run.
pub(super) struct RunWriter {
    run: Run,
    key: Vec<u8>,
    record: Vec<u8>,
    buffer: Vec<u8>,
}

/// Reads a run from its beginning.
pub(super) struct RunReader {
    run: Run,
    /// How far the file has been read.
    at: u64,
    buffer: Vec<u8>,
    /// How far the buffer has been used.
    used: usize,
    /// Bytes that are read at once.
    step: usize,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl RunWriter {
    pub(super) fn new(file: Arc<File>, at: u64) -> Self {
        let run = Run { file, start: at, end: at };
        Self { run, key: Vec::new(), record: Vec::new(), buffer: Vec::with_capacity(WRITE) }
    }

    /// Adds a record whose key is not below the one before.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), FilesError> {
        let shared = key.iter().zip(&self.key).take_while(|(a, b)| a == b).count();
        let rest = &key[shared..];
        self.record.clear();
        put(&mut self.record, shared as u64);
        put(&mut self.record, rest.len() as u64);
        self.record.extend_from_slice(rest);
        self.record.extend_from_slice(value);
        put(&mut self.buffer, self.record.len() as u64);
        self.buffer.extend_from_slice(&self.record);
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        if self.buffer.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Run, FilesError> {
        self.flush()?;
        Ok(self.run)
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        self.run.file.write_all_at(&self.buffer, self.run.end)?;
        self.run.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl RunReader {
    pub(super) fn new(run: &Run, step: usize) -> Self {
        let (run, at) = (run.clone(), run.start);
        let (key, value) = (Vec::new(), Vec::new());
        Self { run, at, buffer: Vec::new(), used: 0, step, key, value }
    }

    /// Goes to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, FilesError> {
        self.fill(MOST_NUMBER)?;
        if self.used == self.buffer.len() {
            return Ok(false);
        }
        let mut head = Reader(&self.buffer[self.used..]);
        let len = head.small::<usize>();
        let head_len = self.buffer.len() - self.used - head.0.len();
        // A record is bounded where it is pushed; what is longer is not one of ours.
        let whole = len.filter(|&len| len <= super::MOST_RECORD + 2 * MOST_NUMBER);
        let whole = whole.ok_or_else(|| self.damaged())? + head_len;
        self.fill(whole)?;
        let record = self.buffer.get(self.used + head_len..self.used + whole);
        let mut reader = Reader(record.ok_or_else(|| self.damaged())?);
        let parts = reader.small::<usize>().zip(reader.small::<usize>());
        let parts = parts.and_then(|(shared, rest)| Some((shared, reader.bytes(rest)?)));
        let (shared, rest) =
            parts.filter(|part| part.0 <= self.key.len()).ok_or_else(|| self.damaged())?;
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.value.clear();
        self.value.extend_from_slice(reader.0);
        self.used += whole;
        Ok(true)
    }

    /// Sees to it that `len` bytes are in the buffer, or all that are left.
    fn fill(&mut self, len: usize) -> Result<(), FilesError> {
        let left = self.buffer.len() - self.used;
        if left >= len || self.at == self.run.end {
            return Ok(());
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let remaining = usize::try_from(self.run.end - self.at).unwrap_or(usize::MAX);
        let more = self.step.max(len - left).min(remaining);
        self.buffer.resize(left + more, 0);
        self.run.file.read_exact_at(&mut self.buffer[left..], self.at)?;
        self.at += more as u64;
        Ok(())
    }

    /// The file is ours alone, so only a failing disk can bring this about.
    fn damaged(&self) -> FilesError {
        FilesError::ChangedWhileRead { path: self.run.file.path().to_owned() }
    }
}
