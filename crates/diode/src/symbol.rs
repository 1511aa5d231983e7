//! What stands before each symbol: the object and the block that it is of, and which one it is.

use thiserror::Error;

use crate::block::{BLOCK, Layout};

/// Bytes before a symbol.
pub const SYMBOL_HEAD: usize = 24;

/// Numbers of objects are below this.
pub const MOST_OBJECT: u64 = 1 << 62;

/// The longest object: as many blocks as there are numbers for.
pub const MOST_LENGTH: u64 = 1 << 52;

/// The Reed-Solomon code of `reed-solomon-simd` 3.
const CODEC: u8 = 1;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// The content of a file, or of several small ones.
    Content,
    /// A page of a manifest.
    Page,
}

/// The head of a symbol, whose numbers fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolHead {
    /// The object's number, which is never used again by its sender.
    pub object: u64,
    /// Bytes of the whole object.
    pub length: u64,
    /// Which of its blocks.
    pub block: u32,
    /// Which symbol of the block; from the number of its source symbols on it is a repair symbol.
    pub symbol: u16,
    /// What the object is.
    pub kind: ObjectKind,
}

/// Why a payload is no symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SymbolError {
    /// It ends before its symbol begins.
    #[error("a symbol's head is cut short")]
    Short,
    /// A code or kind that a later version may know.
    #[error("a symbol of codec {codec}, kind {kind} is not known")]
    Unknown {
        /// The code.
        codec: u8,
        /// What the object is.
        kind: u8,
    },
    /// The object has no such block, or the block no such symbol.
    #[error("a symbol lies outside of its object")]
    Outside,
}

impl SymbolHead {
    /// The head's bytes.
    pub fn encode(&self) -> [u8; SYMBOL_HEAD] {
        let mut bytes = [0; SYMBOL_HEAD];
        bytes[..8].copy_from_slice(&self.object.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.block.to_be_bytes());
        bytes[20..22].copy_from_slice(&self.symbol.to_be_bytes());
        bytes[22] = CODEC;
        bytes[23] = match self.kind {
            ObjectKind::Content => 0,
            ObjectKind::Page => 1,
        };
        bytes
    }

    /// Reads the payload of a frame: the head, the layout of its block, and the symbol.
    pub fn read(payload: &[u8]) -> Result<(Self, Layout, &[u8]), SymbolError> {
        let (head, symbol) =
            payload.split_first_chunk::<SYMBOL_HEAD>().ok_or(SymbolError::Short)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let kind = match (head[22], head[23]) {
            (CODEC, 0) => ObjectKind::Content,
            (CODEC, 1) => ObjectKind::Page,
            (codec, kind) => return Err(SymbolError::Unknown { codec, kind }),
        };
        let read = Self {
            object: number(0),
            length: number(8),
            block: u32::from_be_bytes([head[16], head[17], head[18], head[19]]),
            symbol: u16::from_be_bytes([head[20], head[21]]),
            kind,
        };
        let layout = read.layout(symbol.len()).ok_or(SymbolError::Outside)?;
        if usize::from(read.symbol) >= layout.symbols() || read.object >= MOST_OBJECT {
            return Err(SymbolError::Outside);
        }
        Ok((read, layout, symbol))
    }

    /// How the block is cut into symbols of this size; None if the object has no such block.
    pub fn layout(&self, symbol: usize) -> Option<Layout> {
        if self.length == 0 || self.length > MOST_LENGTH {
            return None;
        }
        let start = u64::from(self.block) * BLOCK as u64;
        let rest = self.length.checked_sub(start).filter(|rest| *rest > 0)?;
        Layout::new(rest.min(BLOCK as u64) as usize, symbol).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SymbolHead {
        let kind = ObjectKind::Content;
        SymbolHead { object: 7, length: 3 * BLOCK as u64 + 5000, block: 3, symbol: 3, kind }
    }

    fn read(head: SymbolHead, symbol: usize) -> Result<SymbolHead, SymbolError> {
        let mut payload = head.encode().to_vec();
        payload.extend(std::iter::repeat_n(9, symbol));
        SymbolHead::read(&payload).map(|(head, _, _)| head)
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for kind in [ObjectKind::Content, ObjectKind::Page] {
            assert_eq!(
                read(SymbolHead { kind, ..head() }, 1408),
                Ok(SymbolHead { kind, ..head() })
            );
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        // 5,000 bytes are 4 source symbols and 8 of repair.
        assert!(read(SymbolHead { symbol: 11, ..head() }, 1408).is_ok());
        let outside = Err(SymbolError::Outside);
        assert_eq!(read(SymbolHead { symbol: 12, ..head() }, 1408), outside);
        assert_eq!(read(SymbolHead { block: 4, ..head() }, 1408), outside);
        assert_eq!(read(SymbolHead { object: MOST_OBJECT, ..head() }, 1408), outside);
        assert_eq!(read(SymbolHead { block: u32::MAX, ..head() }, 1408), outside);
        assert_eq!(read(SymbolHead { length: 0, block: 0, ..head() }, 1408), outside);
        assert_eq!(read(SymbolHead { length: MOST_LENGTH + 1, ..head() }, 1408), outside);
        assert_eq!(read(head(), 1407), outside, "symbols have even lengths");
        assert_eq!(read(head(), 0), outside);
        assert_eq!(SymbolHead::read(&head().encode()[..23]).unwrap_err(), SymbolError::Short);
        let mut payload = head().encode().to_vec();
        payload[22] = 2;
        payload.extend([0; 8]);
        let error = SymbolHead::read(&payload).unwrap_err();
        assert_eq!(error, SymbolError::Unknown { codec: 2, kind: 0 });
    }
}
