//! Blocks of an object and their repair symbols: of k source symbols and up to r of repair, any k will do.
//! How a block is cut follows from its length and the size of a symbol alone, so that symbols of every pass fit
//! together, whatever share of repair each of them was sent with.

mod restore;

use reed_solomon_simd::ReedSolomonEncoder;
use thiserror::Error;

use restore::Come;
pub use restore::Restorer;

/// Bytes of a block; the last of an object is shorter.
pub const BLOCK: usize = 1 << 20;

/// The fewest repair symbols that a block has.
const LEAST_REPAIR: usize = 8;

/// A block has a repair symbol for so many source symbols, or more, as their number is a power of two.
const SOURCE_TO_REPAIR: usize = 6;

/// The fewest repair symbols that are sent.
const LEAST_SENT: usize = 3;

/// Bounds of a symbol's size: below, a block has more symbols than the code takes, and no frame holds more.
const SYMBOL_SIZE: (usize, usize) = (32, 65_440);

/// How a block is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    length: usize,
    symbol: usize,
    source: usize,
    repair: usize,
}

/// Why a block cannot be cut so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A block has 1 to [`BLOCK`] bytes.
    #[error("a block of {0} bytes")]
    Length(usize),
    /// Symbols have an even size that a frame holds.
    #[error("symbols of {0} bytes")]
    Symbol(usize),
}

impl Layout {
    /// Cuts a block of `length` bytes into symbols of `symbol` bytes.
    pub fn new(length: usize, symbol: usize) -> Result<Self, LayoutError> {
        if !(1..=BLOCK).contains(&length) {
            return Err(LayoutError::Length(length));
        }
        if !(SYMBOL_SIZE.0..=SYMBOL_SIZE.1).contains(&symbol) || !symbol.is_multiple_of(2) {
            return Err(LayoutError::Symbol(symbol));
        }
        let source = length.div_ceil(symbol);
        let repair = source.div_ceil(SOURCE_TO_REPAIR).next_power_of_two().max(LEAST_REPAIR);
        Ok(Self { length, symbol, source, repair })
    }

    /// Bytes of the block.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes of a symbol.
    pub fn symbol(&self) -> usize {
        self.symbol
    }

    /// Source symbols, which hold the block; the last is filled up with zeros.
    pub fn source(&self) -> usize {
        self.source
    }

    /// Repair symbols that there are.
    pub fn repair(&self) -> usize {
        self.repair
    }

    /// Symbols of both kinds.
    pub fn symbols(&self) -> usize {
        self.source + self.repair
    }

    /// How many repair symbols are sent where this share of the source symbols is asked for.
    pub fn repair_to_send(&self, share: f64) -> usize {
        let asked = (self.source as f64 * share.max(0.0)).ceil() as usize;
        asked.max(LEAST_SENT).min(self.repair)
    }
}

/// The first `count` repair symbols of a block, one behind the other.
pub fn repair_symbols(layout: Layout, block: &[u8], count: usize) -> Vec<u8> {
    let mut symbols = Vec::new();
    Coder::default().repair(layout, block, count, &mut symbols);
    symbols
}

/// Makes repair symbols, in memory that is used again.
#[derive(Default)]
pub struct Coder(Option<ReedSolomonEncoder>);

impl Coder {
    /// Appends the first `count` repair symbols of a block, one behind the other.
    pub fn repair(&mut self, layout: Layout, block: &[u8], count: usize, into: &mut Vec<u8>) {
        assert_eq!(block.len(), layout.length, "the layout is another block's");
        let fits = "as many symbols of this size were announced";
        let Layout { source, repair, symbol, .. } = layout;
        let encoder = begun(&mut self.0, source, repair, symbol);
        let mut pieces = block.chunks_exact(layout.symbol);
        for piece in &mut pieces {
            encoder.add_original_shard(piece).expect(fits);
        }
        if !pieces.remainder().is_empty() {
            let mut last = vec![0; layout.symbol];
            last[..pieces.remainder().len()].copy_from_slice(pieces.remainder());
            encoder.add_original_shard(last).expect(fits);
        }
        let encoded = encoder.encode().expect("all source symbols were added");
        into.reserve(count * layout.symbol);
        for symbol in encoded.recovery_iter().take(count) {
            into.extend_from_slice(symbol);
        }
    }
}

/// An encoder for so many symbols of this size, in the memory of the one before.
fn begun(
    encoder: &mut Option<ReedSolomonEncoder>,
    source: usize,
    repair: usize,
    symbol: usize,
) -> &mut ReedSolomonEncoder {
    let takes = "every layout is one that the code takes";
    let encoder = encoder
        .get_or_insert_with(|| ReedSolomonEncoder::new(source, repair, symbol).expect(takes));
    encoder.reset(source, repair, symbol).expect(takes);
    encoder
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coder")
    }
}

/// What became of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was there before, or is needed no more.
    Known,
    /// It is new, and more are needed.
    New,
    /// It was the last that was needed.
    Enough,
}

/// A block of which symbols arrive, in any order and from any pass.
#[derive(Debug, Clone)]
pub struct Assembly {
    layout: Layout,
    /// The source symbols, each at its place; what has not come holds anything.
    source: Vec<u8>,
    /// Repair symbols in the order in which they came, and which they are.
    repair: Vec<u8>,
    repairs: Vec<u16>,
    come: Vec<u64>,
    count: usize,
}

impl Assembly {
    /// A block of which nothing has come.
    pub fn new(layout: Layout) -> Self {
        Self::within(layout, Vec::new())
    }

    /// The same, in memory that was used before, whatever it holds: new memory would have to be cleared.
    pub fn within(layout: Layout, mut memory: Vec<u8>) -> Self {
        let come = vec![0; layout.symbols().div_ceil(64)];
        memory.resize(layout.source * layout.symbol, 0);
        Self { layout, source: memory, repair: Vec::new(), repairs: Vec::new(), come, count: 0 }
    }

    /// How the block is cut.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether repair symbols stand in for some that have not come.
    pub fn needs_repair(&self) -> bool {
        !self.repairs.is_empty()
    }

    /// How many symbols are still needed.
    pub fn missing(&self) -> usize {
        self.layout.source - self.count
    }

    /// Adds a symbol that was proven to be the sender's. What the layout does not have is not taken.
    pub fn add(&mut self, number: u16, symbol: &[u8]) -> Added {
        let at = usize::from(number);
        if at >= self.layout.symbols() || symbol.len() != self.layout.symbol {
            return Added::Known;
        }
        let bit = 1 << (at % 64);
        if self.missing() == 0 || self.come[at / 64] & bit != 0 {
            return Added::Known;
        }
        self.come[at / 64] |= bit;
        self.count += 1;
        if at < self.layout.source {
            self.source[at * symbol.len()..][..symbol.len()].copy_from_slice(symbol);
        } else {
            self.repair.extend_from_slice(symbol);
            self.repairs.push(number);
        }
        if self.missing() == 0 { Added::Enough } else { Added::New }
    }

    /// The symbols that have come, with their numbers.
    pub fn symbols(&self) -> impl Iterator<Item = (u16, &[u8])> + '_ {
        let Layout { source, symbol, .. } = self.layout;
        let of_source = (0..source as u16)
            .filter(|number| self.has(usize::from(*number)))
            .map(move |number| (number, &self.source[usize::from(number) * symbol..][..symbol]));
        of_source.chain(self.repairs.iter().copied().zip(self.repair.chunks_exact(symbol)))
    }

    /// Bytes of memory that its symbols take.
    pub fn memory(&self) -> usize {
        self.source.len() + self.repair.len()
    }

    /// Its memory, for another block.
    pub fn into_memory(self) -> Vec<u8> {
        self.source
    }

    fn has(&self, at: usize) -> bool {
        self.come[at / 64] >> (at % 64) & 1 == 1
    }

    /// The block; None while symbols are missing, which are lost then.
    pub fn finish(mut self, restorer: &mut Restorer) -> Option<Vec<u8>> {
        if self.missing() > 0 {
            return None;
        }
        if !self.repairs.is_empty() {
            self.restore(restorer);
        }
        self.source.truncate(self.layout.length);
        Some(self.source)
    }

    fn restore(&mut self, restorer: &mut Restorer) {
        let Layout { source, .. } = self.layout;
        let missing: Vec<usize> = (0..source).filter(|at| !self.has(*at)).collect();
        let repairs: Vec<usize> =
            self.repairs.iter().map(|number| usize::from(*number) - source).collect();
        restorer.restore(Come {
            layout: self.layout,
            source: &mut self.source,
            missing: &missing,
            repair: &self.repair,
            repairs: &repairs,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Random;

    #[test]
    fn every_layout_is_one_that_the_code_takes() {
        for symbol in (32..=65_440).step_by(1022).chain([32, 1408, 8908, 65_440]) {
            for length in
                [1, 2, symbol, symbol + 1, 8 * symbol, 9 * symbol, 300_000, BLOCK - 1, BLOCK]
            {
                let Ok(layout) = Layout::new(length.min(BLOCK), symbol) else { panic!("{symbol}") };
                let (source, repair) = (layout.source(), layout.repair());
                assert!(ReedSolomonEncoder::supports(source, repair), "{source}, {repair}");
                assert!(layout.symbols() <= usize::from(u16::MAX), "{source}, {repair}");
                assert!(repair >= source.div_ceil(6) && layout.repair_to_send(1.0) <= repair);
            }
        }
        let usual = Layout::new(BLOCK, 1408).unwrap();
        assert_eq!((usual.source(), usual.repair(), usual.repair_to_send(0.15)), (745, 128, 112));
        assert_eq!(Layout::new(0, 1408), Err(LayoutError::Length(0)));
        assert_eq!(Layout::new(BLOCK + 1, 1408), Err(LayoutError::Length(BLOCK + 1)));
        assert_eq!(Layout::new(1, 1407), Err(LayoutError::Symbol(1407)));
    }

    #[test]
    fn any_symbols_will_do_if_they_are_enough() {
        let mut random = Random(1);
        let mut restorer = Restorer::default();
        for (length, symbol) in
            [(1, 32), (5000, 1408), (20_000, 1408), (200_001, 512), (BLOCK, 8908)]
        {
            let layout = Layout::new(length, symbol).unwrap();
            let block: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            let repair = repair_symbols(layout, &block, layout.repair());
            let mut filled = block.clone();
            filled.resize(layout.source() * symbol, 0);
            let all = [filled, repair].concat();
            for _ in 0..8 {
                let mut order: Vec<usize> = (0..layout.symbols()).collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, random.below(at + 1));
                }
                // The memory of another block, and a restorer that has seen others.
                let mut assembly = Assembly::within(layout, vec![0xa5; random.below(2 * BLOCK)]);
                for (come, at) in order.iter().take(layout.source()).enumerate() {
                    assert_eq!(assembly.missing(), layout.source() - come);
                    let piece = &all[at * symbol..][..symbol];
                    let last = come + 1 == layout.source();
                    let expected = if last { Added::Enough } else { Added::New };
                    assert_eq!(assembly.add(*at as u16, piece), expected);
                    assert_eq!(assembly.add(*at as u16, piece), Added::Known);
                }
                assert!(
                    assembly.finish(&mut restorer).unwrap() == block,
                    "{length} bytes in {symbol}"
                );
            }
        }
    }

    #[test]
    fn what_no_block_has_is_not_taken() {
        let mut assembly = Assembly::new(Layout::new(5000, 1408).unwrap());
        assert_eq!(assembly.add(12, &[0; 1408]), Added::Known);
        assert_eq!(assembly.add(0, &[0; 1406]), Added::Known);
        assert_eq!(assembly.missing(), 4);
        assert_eq!(assembly.finish(&mut Restorer::default()), None);
    }
}
