//! Source symbols out of repair symbols. Of a block that lacks few, what the repair symbols say of those few is found by
//! encoding the rest, which is quick, and solved for them; one that lacks many goes through the code's own decoder, whose
//! cost does not depend on how many they are.

use reed_solomon_simd::engine::tables::{self, ExpLog};
use reed_solomon_simd::engine::{DefaultEngine, Engine as _, utils};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::{Layout, begun};

/// Up to so many missing symbols are solved for: their number squared is how many symbols are multiplied.
const FEW: usize = 64;

/// What the code works on at once: the low bytes of 32 elements of the field, and then their high bytes.
type Chunk = [u8; 64];
const ELEMENTS: usize = 32;

/// What logarithms of elements are counted modulo.
const MODULUS: u32 = 65_535;

/// What restores source symbols from repair symbols. Kept between blocks, it makes its working memory once.
#[derive(Default)]
pub struct Restorer {
    decoder: Option<ReedSolomonDecoder>,
    few: Option<Solver>,
}

/// What came of a block.
pub(super) struct Come<'a> {
    pub(super) layout: Layout,
    /// The source symbols at their places; those that are missing hold anything.
    pub(super) source: &'a mut [u8],
    /// Which of them are missing.
    pub(super) missing: &'a [usize],
    /// As many repair symbols, and their numbers among the repair symbols.
    pub(super) repair: &'a [u8],
    pub(super) repairs: &'a [usize],
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Restorer")
    }
}

impl Restorer {
    /// Puts the missing source symbols in their places.
    pub(super) fn restore(&mut self, mut come: Come<'_>) {
        if come.missing.len() > FEW || !self.few.get_or_insert_default().restore(&mut come) {
            self.decode(&mut come);
        }
    }

    fn decode(&mut self, come: &mut Come<'_>) {
        let Layout { source, repair, symbol, .. } = come.layout;
        let takes = "every layout is one that the code takes";
        let fits = "each symbol has come once and is one of the layout's";
        let decoder = self
            .decoder
            .get_or_insert_with(|| ReedSolomonDecoder::new(source, repair, symbol).expect(takes));
        decoder.reset(source, repair, symbol).expect(takes);
        let mut missing = come.missing.iter().peekable();
        for (at, piece) in come.source.chunks_exact(symbol).enumerate() {
            if missing.next_if_eq(&&at).is_none() {
                decoder.add_original_shard(at, piece).expect(fits);
            }
        }
        for (number, piece) in come.repairs.iter().zip(come.repair.chunks_exact(symbol)) {
            decoder.add_recovery_shard(*number, piece).expect(fits);
        }
        let decoded = decoder.decode().expect("as many have come as there are source symbols");
        for (at, piece) in decoded.restored_original_iter() {
            come.source[at * symbol..][..symbol].copy_from_slice(piece);
        }
    }
}

/// Solves for a few missing symbols.
struct Solver {
    engine: DefaultEngine,
    encoder: Option<ReedSolomonEncoder>,
    /// What the missing symbols add to each repair symbol.
    sums: Vec<Chunk>,
    solved: Vec<Chunk>,
    product: Vec<Chunk>,
    unit: Vec<u8>,
}

impl Default for Solver {
    fn default() -> Self {
        Self {
            engine: DefaultEngine::new(),
            encoder: None,
            sums: Vec::new(),
            solved: Vec::new(),
            product: Vec::new(),
            unit: Vec::new(),
        }
    }
}

impl Solver {
    /// False if it does not work out, which no set of symbols of this code makes happen; nothing is changed then but what
    /// is missing.
    fn restore(&mut self, come: &mut Come<'_>) -> bool {
        let symbol = come.layout.symbol;
        let Some(inverse) = inverted(self.coefficients(come)) else { return false };
        let chunks = symbol.div_ceil(size_of::<Chunk>());
        self.sums(come, chunks);
        for (at, row) in come.missing.iter().zip(inverse.rows()) {
            self.solved.clear();
            self.solved.resize(chunks, [0; 64]);
            for (sum, factor) in self.sums.chunks_exact(chunks).zip(row) {
                let Some(log) = log_of(*factor) else { continue };
                self.product.clear();
                self.product.extend_from_slice(sum);
                self.engine.mul(&mut self.product, log);
                utils::xor(&mut self.solved, &self.product);
            }
            take_out(&self.solved, &mut come.source[at * symbol..][..symbol]);
        }
        true
    }

    /// How each repair symbol depends on each missing one: what encoding makes of a block that has a one in each missing
    /// symbol, each in an element of its own, and nothing else.
    fn coefficients(&mut self, come: &Come<'_>) -> Square {
        let Layout { source, repair, .. } = come.layout;
        let count = come.missing.len();
        let bytes = count.div_ceil(ELEMENTS) * size_of::<Chunk>();
        let place = |at: usize| at / ELEMENTS * size_of::<Chunk>() + at % ELEMENTS;
        let one = tables::get_exp_log().exp[0].to_le_bytes();
        let encoder = begun(&mut self.encoder, source, repair, bytes);
        self.unit.clear();
        self.unit.resize(bytes, 0);
        let mut missing = come.missing.iter().enumerate().peekable();
        for at in 0..source {
            match missing.next_if(|(_, missing)| **missing == at) {
                None => encoder.add_original_shard(&self.unit[..]).expect(ADDED),
                Some((column, _)) => {
                    let mut symbol = self.unit.clone();
                    symbol[place(column)] = one[0];
                    symbol[place(column) + ELEMENTS] = one[1];
                    encoder.add_original_shard(symbol).expect(ADDED);
                }
            }
        }
        let encoded = encoder.encode().expect(ALL_ADDED);
        let mut square = Square { size: count, elements: Vec::with_capacity(count * count) };
        for number in come.repairs {
            let row = encoded.recovery(*number).expect(IS_ONE);
            let element = |at| u16::from_le_bytes([row[place(at)], row[place(at) + ELEMENTS]]);
            square.elements.extend((0..count).map(element));
        }
        square
    }

    /// What the missing symbols add to the repair symbols that came: these, less what all others make of them.
    fn sums(&mut self, come: &Come<'_>, chunks: usize) {
        let Layout { source, repair, symbol, .. } = come.layout;
        let encoder = begun(&mut self.encoder, source, repair, symbol);
        self.unit.clear();
        self.unit.resize(symbol, 0);
        let mut missing = come.missing.iter().peekable();
        for (at, piece) in come.source.chunks_exact(symbol).enumerate() {
            let is_missing = missing.next_if_eq(&&at).is_some();
            let piece = if is_missing { &self.unit[..] } else { piece };
            encoder.add_original_shard(piece).expect(ADDED);
        }
        let encoded = encoder.encode().expect(ALL_ADDED);
        self.sums.clear();
        self.sums.resize(come.repairs.len() * chunks, [0; 64]);
        self.product.clear();
        self.product.resize(chunks, [0; 64]);
        let sums = self.sums.chunks_exact_mut(chunks);
        for ((sum, number), piece) in sums.zip(come.repairs).zip(come.repair.chunks_exact(symbol)) {
            put_in(piece, sum);
            put_in(encoded.recovery(*number).expect(IS_ONE), &mut self.product);
            utils::xor(sum, &self.product);
        }
    }
}

const ADDED: &str = "as many symbols of this size were announced";
const ALL_ADDED: &str = "all source symbols were added";
const IS_ONE: &str = "the layout has this repair symbol";

/// A symbol as the code sees it: the bytes that do not fill a chunk are the low and the high halves of elements too.
fn put_in(symbol: &[u8], chunks: &mut [Chunk]) {
    let (whole, rest) = symbol.as_chunks::<64>();
    chunks[..whole.len()].copy_from_slice(whole);
    if !rest.is_empty() {
        let (low, high) = rest.split_at(rest.len() / 2);
        let last = &mut chunks[whole.len()];
        last[..low.len()].copy_from_slice(low);
        last[ELEMENTS..][..high.len()].copy_from_slice(high);
    }
}

/// And back.
fn take_out(chunks: &[Chunk], symbol: &mut [u8]) {
    let (whole, rest) = symbol.as_chunks_mut::<64>();
    whole.copy_from_slice(&chunks[..whole.len()]);
    if !rest.is_empty() {
        let last = &chunks[whole.len()];
        let (low, high) = rest.split_at_mut(rest.len() / 2);
        low.copy_from_slice(&last[..low.len()]);
        high.copy_from_slice(&last[ELEMENTS..][..high.len()]);
    }
}

/// Elements of the field in rows and columns.
struct Square {
    size: usize,
    elements: Vec<u16>,
}

impl Square {
    fn one(size: usize) -> Self {
        let mut one = Self { size, elements: vec![0; size * size] };
        for at in 0..size {
            one.elements[at * size + at] = tables::get_exp_log().exp[0];
        }
        one
    }

    fn at(&self, row: usize, column: usize) -> u16 {
        self.elements[row * self.size + column]
    }

    fn rows(&self) -> impl Iterator<Item = &[u16]> {
        self.elements.chunks_exact(self.size)
    }

    fn swap(&mut self, row: usize, other: usize) {
        (0..self.size).for_each(|column| {
            self.elements.swap(row * self.size + column, other * self.size + column)
        });
    }

    fn multiply(&mut self, row: usize, factor: u16) {
        for element in &mut self.elements[row * self.size..][..self.size] {
            *element = times(*element, factor);
        }
    }

    /// Adds a multiple of a row to another one.
    fn add(&mut self, row: usize, factor: u16, to: usize) {
        let ExpLog { exp, log } = tables::get_exp_log();
        let factor = u32::from(log[usize::from(factor)]);
        for column in 0..self.size {
            let element = self.at(row, column);
            if element != 0 {
                let product = exp[within(factor + u32::from(log[usize::from(element)]))];
                self.elements[to * self.size + column] ^= product;
            }
        }
    }
}

/// The inverse, by elimination; None if there is none.
fn inverted(mut square: Square) -> Option<Square> {
    let mut inverse = Square::one(square.size);
    for column in 0..square.size {
        let pivot = (column..square.size).find(|row| square.at(*row, column) != 0)?;
        square.swap(pivot, column);
        inverse.swap(pivot, column);
        let factor = reciprocal(square.at(column, column));
        square.multiply(column, factor);
        inverse.multiply(column, factor);
        for row in (0..square.size).filter(|row| *row != column) {
            let factor = square.at(row, column);
            if factor != 0 {
                square.add(column, factor, row);
                inverse.add(column, factor, row);
            }
        }
    }
    Some(inverse)
}

/// The logarithm of an element; zero has none.
fn log_of(element: u16) -> Option<u16> {
    (element != 0).then(|| tables::get_exp_log().log[usize::from(element)])
}

fn times(a: u16, b: u16) -> u16 {
    match (log_of(a), log_of(b)) {
        (Some(a), Some(b)) => exp(u32::from(a) + u32::from(b)),
        _ => 0,
    }
}

/// One divided by an element that is not zero.
fn reciprocal(element: u16) -> u16 {
    exp(MODULUS - u32::from(log_of(element).unwrap_or(0)))
}

fn exp(log: u32) -> u16 {
    tables::get_exp_log().exp[within(log)]
}

/// A sum of two logarithms as the table of their elements has it.
fn within(log: u32) -> usize {
    (log % MODULUS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BLOCK, repair_symbols};
    use crate::rig::Random;

    /// Both ways give back what was there, whatever is missing, also where symbols do not fill the code's chunks.
    #[test]
    fn few_and_many_are_restored_alike() {
        let mut random = Random(3);
        let mut restorer = Restorer::default();
        for (length, symbol) in
            [(1, 32), (70_000, 1408), (90_001, 1406), (BLOCK, 1410), (BLOCK, 8908)]
        {
            let layout = Layout::new(length, symbol).unwrap();
            let block: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            let all_repair = repair_symbols(layout, &block, layout.repair());
            let mut whole = block;
            whole.resize(layout.source() * symbol, 0);
            for count in [1, 2, 3, 31, 32, 33, FEW, FEW + 1] {
                if count > layout.source().min(layout.repair()) {
                    continue;
                }
                let missing = some(&mut random, layout.source(), count);
                let repairs = some(&mut random, layout.repair(), count);
                let repair: Vec<u8> = repairs
                    .iter()
                    .flat_map(|at| &all_repair[at * symbol..][..symbol])
                    .copied()
                    .collect();
                let mut damaged = whole.clone();
                missing.iter().for_each(|at| damaged[at * symbol..][..symbol].fill(0xa5));
                let (mut solved, mut decoded) = (damaged.clone(), damaged);
                let come = |source| Come {
                    layout,
                    source,
                    missing: &missing,
                    repair: &repair,
                    repairs: &repairs,
                };
                assert!(restorer.few.get_or_insert_default().restore(&mut come(&mut solved)));
                restorer.decode(&mut come(&mut decoded));
                assert!(solved == whole, "{count} of {length} bytes in {symbol}");
                assert!(decoded == whole, "{count} of {length} bytes in {symbol}");
            }
        }
    }

    /// So many different numbers below `below`, in order.
    fn some(random: &mut Random, below: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..below).collect();
        for at in 0..count {
            all.swap(at, at + random.below(below - at));
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }

    #[test]
    fn what_has_no_inverse_is_told() {
        assert!(inverted(Square { size: 2, elements: vec![3, 5, 3, 5] }).is_none());
        let square = || Square { size: 2, elements: vec![0, 5, 3, 5] };
        let inverse = inverted(square()).unwrap();
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let sum =
                (0..2).fold(0, |sum, at| sum ^ times(square().at(row, at), inverse.at(at, column)));
            assert_eq!(sum, Square::one(2).at(row, column));
        }
    }
}
