//! Records of several sorted parts as one sorted sequence.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use files::FilesError;

use super::Pile;
use super::run::{Run, RunReader};

/// A pass over records in order. It stands before the first one until [`Merge::advance`] is called.
pub struct Merge {
    /// Each at its first record that has not been passed.
    sources: BinaryHeap<Source>,
    has_begun: bool,
}

/// One sorted part, at a record. The one with the lowest key is the greatest, since a heap gives the
/// greatest first.
pub(super) enum Source {
    Memory {
        pile: Arc<Pile>,
        at: usize,
    },
    Run(RunReader),
    /// There is nothing in it.
    Empty,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let sources = sources.into_iter().filter(|source| !matches!(source, Source::Empty));
        Self { sources: sources.collect(), has_begun: false }
    }

    /// Goes to the next record; `false` at the end.
    ///
    /// # Errors
    /// When a run cannot be read.
    pub fn advance(&mut self) -> Result<bool, FilesError> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Ok(!self.sources.is_empty());
        }
        if let Some(mut first) = self.sources.peek_mut()
            && !first.advance()?
        {
            PeekMut::pop(first);
        }
        Ok(!self.sources.is_empty())
    }

    /// The key of the record; empty at the end.
    pub fn key(&self) -> &[u8] {
        self.sources.peek().map_or(&[], Source::key)
    }

    /// The value of the record; empty at the end.
    pub fn value(&self) -> &[u8] {
        self.sources.peek().map_or(&[], Source::value)
    }
}

impl Source {
    pub(super) fn memory(pile: Arc<Pile>) -> Self {
        match pile.len() {
            0 => Self::Empty,
            _ => Self::Memory { pile, at: 0 },
        }
    }

    pub(super) fn run(run: &Run, buffer: usize) -> Result<Self, FilesError> {
        let mut reader = RunReader::new(run, buffer);
        Ok(if reader.advance()? { Self::Run(reader) } else { Self::Empty })
    }

    fn advance(&mut self) -> Result<bool, FilesError> {
        match self {
            Self::Memory { pile, at } => {
                *at += 1;
                Ok(*at < pile.len())
            }
            Self::Run(reader) => reader.advance(),
            Self::Empty => Ok(false),
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Memory { pile, at } if *at < pile.len() => pile.key(*at),
            Self::Run(reader) => &reader.key,
            Self::Memory { .. } | Self::Empty => &[],
        }
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Memory { pile, at } if *at < pile.len() => pile.value(*at),
            Self::Run(reader) => &reader.value,
            Self::Memory { .. } | Self::Empty => &[],
        }
    }
}

impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(self.key())
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Source {}
