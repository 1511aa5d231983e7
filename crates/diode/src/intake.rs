//! What arrives of objects: symbols become blocks, whatever the order, the pass or the restart between them. Only so much
//! is put together in memory; the block that waited longest is given out to be kept elsewhere, and is asked for when
//! another of its symbols comes.

use std::collections::{HashMap, HashSet};

use crate::block::{Added, Assembly, BLOCK, Layout};
use crate::intervals::Intervals;
use crate::symbol::{ObjectKind, SymbolHead};

/// A block of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    /// The object.
    pub object: u64,
    /// Which of its blocks.
    pub block: u32,
}

/// What a symbol led to.
#[derive(Debug)]
pub enum Taken {
    /// It is of no use: known, of what is done, or at odds with what was said of its object before.
    Known,
    /// It was added, and more are needed.
    Kept,
    /// The block of this symbol was kept elsewhere: bring it with [`Intake::recall`], or a new one, and give the symbol
    /// again.
    Recall,
    /// The block is whole.
    Block(Vec<u8>),
}

/// Blocks that are put together.
#[derive(Debug, Default)]
pub struct Intake {
    /// Bytes that may be in memory, and that are.
    most: usize,
    memory: usize,
    slots: HashMap<BlockId, Slot>,
    /// Those that were given out to be kept elsewhere.
    away: HashSet<BlockId>,
    /// Objects of which nothing is taken any more.
    done: Intervals,
    /// Those of which something has come.
    objects: HashMap<u64, Object>,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    assembly: Assembly,
    touched: u64,
}

/// What is known of an object that is not done.
#[derive(Debug)]
struct Object {
    length: u64,
    kind: ObjectKind,
    blocks: Intervals,
}

impl Intake {
    /// Keeps blocks of `most` bytes in memory, and the one that is being added to.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Takes a symbol that was proven to be from one who knows the session's keys. That is not the sender alone, so what
    /// the manifest does not bear out begins anew with [`Self::again`].
    pub fn take(&mut self, head: &SymbolHead, layout: Layout, symbol: &[u8]) -> Taken {
        let id = BlockId { object: head.object, block: head.block };
        if self.done.contains(id.object) {
            return Taken::Known;
        }
        let object = self.objects.entry(id.object).or_insert_with(|| Object {
            length: head.length,
            kind: head.kind,
            blocks: Intervals::default(),
        });
        let agrees = (object.length, object.kind) == (head.length, head.kind);
        if !agrees || object.blocks.contains(id.block.into()) {
            return Taken::Known;
        }
        if self.away.contains(&id) {
            return Taken::Recall;
        }
        self.clock += 1;
        let mut slot = self.drop_slot(id).unwrap_or_else(|| Slot::new(layout));
        if slot.assembly.layout() != layout {
            // The sender cuts it anew; what came of it in the other way does not fit.
            slot = Slot::new(layout);
        }
        slot.touched = self.clock;
        let added = slot.assembly.add(head.symbol, symbol);
        if added == Added::Enough {
            self.mark_done(id, head.length);
            return slot.assembly.finish().map_or(Taken::Known, Taken::Block);
        }
        self.memory += slot.memory();
        self.slots.insert(id, slot);
        if added == Added::New { Taken::Kept } else { Taken::Known }
    }

    /// The block that waited longest, while there is more in memory than may be; keep it and bring it back when asked.
    pub fn spill(&mut self) -> Option<(BlockId, Assembly)> {
        if self.memory <= self.most || self.slots.len() <= 1 {
            return None;
        }
        let (id, _) = self.slots.iter().min_by_key(|(_, slot)| slot.touched)?;
        let id = *id;
        self.away.insert(id);
        self.drop_slot(id).map(|slot| (id, slot.assembly))
    }

    /// Brings a block back that was given out. One that is done or forgotten meanwhile is not taken.
    pub fn recall(&mut self, id: BlockId, assembly: Assembly) {
        if !self.away.remove(&id) {
            return;
        }
        self.clock += 1;
        let slot = Slot { assembly, touched: self.clock };
        self.memory += slot.memory();
        self.slots.insert(id, slot);
    }

    /// A block of an object of `length` bytes is done, as one that was done before a restart.
    pub fn mark_done(&mut self, id: BlockId, length: u64) {
        self.drop_slot(id);
        self.away.remove(&id);
        let kind = ObjectKind::Content;
        let new = || Object { length, kind, blocks: Intervals::default() };
        let object = self.objects.entry(id.object).or_insert_with(new);
        object.blocks.insert(id.block.into());
        if object.blocks.has_all_to(last_block(length)) {
            self.forget(id.object);
        }
    }

    /// An object is done, or wanted no more: nothing of it is taken from now on.
    pub fn forget(&mut self, object: u64) {
        self.clear(object);
        self.done.insert(object);
    }

    /// An object begins anew, since what came of it is not what its manifest says.
    pub fn again(&mut self, object: u64) {
        self.clear(object);
        self.done.remove(object);
    }

    /// Whether all of an object has come, or it is wanted no more.
    pub fn is_whole(&self, object: u64) -> bool {
        self.done.contains(object)
    }

    /// The blocks that an object of `length` bytes still lacks, as ranges of the first and last.
    pub fn missing(&self, object: u64, length: u64) -> Vec<(u64, u64)> {
        if self.is_whole(object) {
            return Vec::new();
        }
        let last = last_block(length);
        self.objects
            .get(&object)
            .map_or_else(|| vec![(0, last)], |known| known.blocks.gaps(last + 1))
    }

    fn clear(&mut self, object: u64) {
        self.objects.remove(&object);
        let slots: Vec<BlockId> =
            self.slots.keys().filter(|id| id.object == object).copied().collect();
        for id in slots {
            self.drop_slot(id);
        }
        self.away.retain(|id| id.object != object);
    }

    fn drop_slot(&mut self, id: BlockId) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        self.memory -= slot.memory();
        Some(slot)
    }
}

impl Slot {
    fn new(layout: Layout) -> Self {
        Self { assembly: Assembly::new(layout), touched: 0 }
    }

    fn memory(&self) -> usize {
        self.assembly.memory()
    }
}

fn last_block(length: u64) -> u64 {
    length.saturating_sub(1) / BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::repair_symbols;
    use crate::rig::Random;
    use crate::symbol::ObjectKind;

    const SYMBOL: usize = 8192;

    /// The symbols of an object, with their heads.
    fn symbols(object: u64, content: &[u8]) -> Vec<(SymbolHead, Vec<u8>)> {
        let mut all = Vec::new();
        for (block, bytes) in (0..).zip(content.chunks(BLOCK)) {
            let (kind, length) = (ObjectKind::Content, content.len() as u64);
            let head = SymbolHead { object, length, block, symbol: 0, kind };
            let layout = head.layout(SYMBOL).unwrap();
            let mut source = bytes.to_vec();
            source.resize(layout.source() * SYMBOL, 0);
            source.extend(repair_symbols(layout, bytes, layout.repair()));
            let pieces = source.chunks(SYMBOL).map(<[u8]>::to_vec);
            all.extend(
                (0..).zip(pieces).map(|(symbol, piece)| (SymbolHead { symbol, ..head }, piece)),
            );
        }
        all
    }

    #[test]
    fn passes_are_put_together_in_any_order_within_a_bounded_memory() {
        for seed in 0..6 {
            let mut random = Random(seed);
            let contents: Vec<Vec<u8>> = (0..5)
                .map(|nth| (0..nth * 700_000 + 1000).map(|_| random.below(256) as u8).collect())
                .collect();
            let mut all: Vec<_> = (1..)
                .zip(&contents)
                .flat_map(|(object, content)| symbols(object, content))
                .collect();
            for at in (1..all.len()).rev() {
                all.swap(at, random.below(at + 1));
            }
            let most = 3 * BLOCK;
            let mut intake = Intake::new(most);
            let mut kept: HashMap<BlockId, Assembly> = HashMap::new();
            let mut whole: HashMap<BlockId, Vec<u8>> = HashMap::new();
            // Of two passes each loses a half.
            for pass in 0..2 {
                for (nth, (head, symbol)) in all.iter().enumerate() {
                    if (nth + pass) % 2 == 0 {
                        continue;
                    }
                    let id = BlockId { object: head.object, block: head.block };
                    let layout = head.layout(SYMBOL).unwrap();
                    let mut taken = intake.take(head, layout, symbol);
                    if matches!(taken, Taken::Recall) {
                        intake.recall(id, kept.remove(&id).expect("it was given out"));
                        taken = intake.take(head, layout, symbol);
                    }
                    if let Taken::Block(bytes) = taken {
                        assert!(whole.insert(id, bytes).is_none(), "twice");
                    }
                    while let Some((id, assembly)) = intake.spill() {
                        kept.insert(id, assembly);
                    }
                    let held: usize = intake.slots.values().map(Slot::memory).sum();
                    assert!(intake.memory == held && held <= most);
                }
            }
            for (object, content) in (1..).zip(&contents) {
                assert!(
                    intake.is_whole(object)
                        && intake.missing(object, content.len() as u64).is_empty()
                );
                for (block, bytes) in (0..).zip(content.chunks(BLOCK)) {
                    assert!(whole[&BlockId { object, block }] == bytes, "{object}, {block}");
                }
            }
            assert!(intake.slots.is_empty() && intake.away.is_empty());
            assert!(intake.objects.is_empty() && intake.memory == 0);
        }
    }

    #[test]
    fn what_is_missing_is_known_and_what_is_forgotten_is_not_taken() {
        let content = vec![7; 2 * BLOCK + 5];
        let all = symbols(9, &content);
        let mut intake = Intake::new(10 * BLOCK);
        assert_eq!(intake.missing(9, content.len() as u64), [(0, 2)]);
        for (head, symbol) in all.iter().filter(|(head, _)| head.block == 1) {
            intake.take(head, head.layout(SYMBOL).unwrap(), symbol);
        }
        assert_eq!(intake.missing(9, content.len() as u64), [(0, 0), (2, 2)]);
        intake.forget(9);
        let (head, symbol) = &all[0];
        assert!(matches!(intake.take(head, head.layout(SYMBOL).unwrap(), symbol), Taken::Known));
    }

    #[test]
    fn a_block_that_is_cut_anew_begins_anew() {
        let mut random = Random(5);
        let content: Vec<u8> = (0..5000).map(|_| random.below(256) as u8).collect();
        let kind = ObjectKind::Content;
        let head = |symbol| SymbolHead { object: 1, length: 5000, block: 0, symbol, kind };
        let mut intake = Intake::new(10 * BLOCK);
        let wide = head(0).layout(4096).unwrap();
        assert!(matches!(intake.take(&head(0), wide, &content[..4096]), Taken::Kept));
        let narrow = head(0).layout(2500).unwrap();
        assert!(matches!(intake.take(&head(1), narrow, &content[2500..]), Taken::Kept));
        let Taken::Block(block) = intake.take(&head(0), narrow, &content[..2500]) else { panic!() };
        assert_eq!(block, content);
    }

    #[test]
    fn what_does_not_agree_is_not_taken_until_the_object_begins_anew() {
        let content = vec![7; 5000];
        let all = symbols(3, &content);
        let mut intake = Intake::new(10 * BLOCK);
        let take = |intake: &mut Intake, at: usize, length: u64| {
            let (head, symbol) = &all[at];
            let head = SymbolHead { length, ..*head };
            intake.take(&head, all[at].0.layout(SYMBOL).unwrap(), symbol)
        };
        // Somebody has said that it is longer.
        assert!(matches!(take(&mut intake, 0, 3 * BLOCK as u64), Taken::Block(_)));
        assert!(matches!(take(&mut intake, 0, 5000), Taken::Known));
        intake.again(3);
        assert!(matches!(take(&mut intake, 0, 5000), Taken::Block(_)));
        assert!(intake.is_whole(3));
        // What is on its way from the disk comes too late.
        let id = BlockId { object: 3, block: 0 };
        intake.recall(id, Assembly::new(all[0].0.layout(SYMBOL).unwrap()));
        assert!(intake.slots.is_empty());
        intake.again(3);
        assert!(!intake.is_whole(3));
    }
}
