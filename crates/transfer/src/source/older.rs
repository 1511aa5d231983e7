//! What a target says of older versions of large files: announced before the need, told piece by piece after it, and
//! used once it is all there.

use std::sync::Arc;

use files::CHUNK;

use super::Source;
use crate::Violation;
use crate::delta::{Basis, MOST_PIECES, Piece};

/// What is known of an older version of one file.
#[derive(Debug)]
pub(super) enum Older {
    /// There is none, or its time is over: chunks go out as they are.
    None,
    /// The next need is one that pieces follow.
    Announced(Basis),
    /// Pieces are coming.
    Coming(Basis),
    /// All have come.
    Known(Arc<Basis>),
}

impl Older {
    /// The target says what it lacks: pieces follow if they were announced.
    pub(super) fn needed(&mut self) {
        *self = match std::mem::replace(self, Self::None) {
            Self::Announced(basis) => Self::Coming(basis),
            _ => Self::None,
        };
    }

    /// Nothing is to be read yet.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self, Self::Coming(_))
    }

    pub(super) fn known(&self) -> Option<Arc<Basis>> {
        match self {
            Self::Known(basis) => Some(basis.clone()),
            _ => None,
        }
    }

    fn pieces(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Announced(basis) | Self::Coming(basis) => basis.pieces(),
            Self::Known(basis) => basis.pieces(),
        }
    }
}

impl Source {
    pub(super) fn older_comes(&mut self, index: u64, exponent: u8) -> Result<(), Violation> {
        let live = self.live.get_mut(&index).ok_or(Violation("pieces for an unknown entry"))?;
        if live.entry.size().is_none_or(|size| size <= CHUNK) {
            return Err(Violation("pieces for what is no large file"));
        }
        live.older = Older::Announced(Basis::new(exponent));
        Ok(())
    }

    pub(super) fn pieces_came(
        &mut self,
        index: u64,
        list: &[Piece],
        last: bool,
    ) -> Result<(), Violation> {
        let all: usize = self.live.values().map(|live| live.older.pieces()).sum();
        let live = self.live.get_mut(&index).ok_or(Violation("pieces for an unknown entry"))?;
        if live.is_given_up() {
            return Ok(());
        }
        let Older::Coming(basis) = &mut live.older else {
            return Err(Violation("pieces that were not announced"));
        };
        let mut room = MOST_PIECES.saturating_sub(all);
        for piece in list {
            // Those beyond are not remembered, and what is in them is sent.
            match room {
                0 => basis.pass(*piece),
                _ => basis.push(*piece),
            }
            room = room.saturating_sub(1);
        }
        if last && let Older::Coming(basis) = std::mem::replace(&mut live.older, Older::None) {
            live.older = Older::Known(Arc::new(basis));
        }
        Ok(())
    }
}
