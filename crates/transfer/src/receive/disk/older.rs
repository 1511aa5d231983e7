//! What is there of an older version of a large file: its pieces, and the chunks of the new one that are made of them.

use super::*;
use crate::delta::{self, LEAST_BASIS, MOST_PIECES, Op, Piece, exponent_for};

/// Bytes that are cut at a time, and after which others get their turn.
const WINDOW: u64 = 4 << 20;
const TURN: u64 = 32 << 20;

/// An older file that is so many times as large takes longer to look through than what is new of the other one is worth.
const MOST_TIMES: u64 = 4;

/// An older file. What happens to its name meanwhile does not matter, and what happens to its bytes is found out.
pub(super) struct Older {
    file: File,
    size: u64,
    exponent: u8,
    known: Mutex<Known>,
}

/// The pieces that were found so far, and where they end. They are told again after a cut, and are at most
/// [`MOST_PIECES`].
#[derive(Default)]
struct Known {
    pieces: Vec<Piece>,
    end: u64,
}

impl Known {
    /// Those that begin here and behind.
    fn from(&self, from: u64) -> Vec<Piece> {
        let mut at = 0;
        let begins = |piece: &&Piece| {
            let begin = at;
            at += piece.len;
            begin < from
        };
        self.pieces.iter().skip_while(begins).copied().collect()
    }
}

impl Disk {
    pub(super) fn older(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Older>>> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the pieces are of what stands where an entry is to go, if that is worth a look.
    pub(super) fn find_older(&self, placed: &Placed) -> Option<u8> {
        let folder = self.folder(&placed.spot.folder).ok()?;
        let file = folder.open_file(&RelPath::from(&placed.spot.name), Follow::Never).ok()?;
        let attributes = file.attributes().ok()?;
        let (size, new) = (attributes.size, placed.entry.size().unwrap_or_default());
        if size < LEAST_BASIS || size / MOST_TIMES > new || attributes.is_sparse() {
            return None;
        }
        let exponent = exponent_for(size);
        let older = Older { file, size, exponent, known: Mutex::default() };
        self.older().insert(placed.entry.index, Arc::new(older));
        Some(exponent)
    }

    /// Pieces of an older file from a byte on, and where they end, unless that is its end. One that cannot be read any
    /// further has no more of them.
    pub(super) fn sign(&self, index: u64, from: u64) -> (Vec<Piece>, Option<u64>) {
        let Some(older) = self.older().get(&index).cloned() else { return (Vec::new(), None) };
        let mut known = older.known.lock().unwrap_or_else(PoisonError::into_inner);
        let began = known.end;
        let mut bytes = Vec::new();
        // What is known from before a cut is told first.
        while from >= began && known.end < older.size.min(began + TURN) {
            let end = older.size.min(known.end + WINDOW);
            bytes.resize((end - known.end) as usize, 0);
            if older.file.read_exact_at(&mut bytes, known.end).is_err() {
                return (known.from(from), None);
            }
            let mut pieces = delta::pieces(&bytes, older.exponent, end == older.size);
            pieces.truncate(MOST_PIECES - known.pieces.len());
            if pieces.is_empty() {
                return (known.from(from), None);
            }
            known.end += pieces.iter().map(|piece| piece.len).sum::<u64>();
            known.pieces.extend(pieces);
        }
        let is_all = known.end == older.size || known.pieces.len() == MOST_PIECES;
        (known.from(from), (!is_all).then_some(known.end))
    }

    /// Makes a chunk and writes it. None if it is not what it should be.
    pub(super) fn patch(
        &self,
        (index, chunk): (u64, u64),
        hash: &ChunkHash,
        (ops, body): (&[Op], &[u8]),
        sparse: bool,
    ) -> Option<Result<(), Failed>> {
        let older = self.older().get(&index).cloned()?;
        let mut whole = Vec::with_capacity(CHUNK as usize);
        let read = |bytes: &mut [u8], at: u64| older.file.read_exact_at(bytes, at);
        if !delta::apply(ops, body, &mut whole, read).unwrap_or(false) {
            return None;
        }
        let written =
            self.with_partial(index, |partial| partial.write_chunk(chunk, &whole, hash, sparse));
        let is_other = |failed: &Failed| failed.code == RefuseCode::Corrupt;
        if written.as_ref().is_err_and(is_other) { None } else { Some(written) }
    }
}
