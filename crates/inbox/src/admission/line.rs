//! Those who wait for one kind of turn on one disk, in the order of their turns. Ten thousand wait, and each
//! wants to know how many are before it, so the order is cut into short blocks that know their length and
//! their bytes: entering, leaving and asking for a place each look at one block and at the heads of the others.

use super::fair::Tag;

/// A block that has grown to this is cut into two.
const MOST_IN_BLOCK: usize = 256;

/// Where somebody stands: the tag, and when it came, which makes it unique.
pub(super) type Spot = (Tag, u64);

#[derive(Debug, Default)]
pub(super) struct Line {
    /// None of them is empty.
    blocks: Vec<Block>,
}

#[derive(Debug, Default)]
struct Block {
    bytes: u128,
    spots: Vec<(Spot, u64)>,
}

/// How many come before a spot, and how many bytes they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) count: usize,
    pub(super) bytes: u128,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.spots.len()).sum()
    }

    pub(super) fn first(&self) -> Option<Spot> {
        Some(self.blocks.first()?.spots.first()?.0)
    }

    /// Adds a spot, which must not be there yet.
    pub(super) fn insert(&mut self, spot: Spot, bytes: u64) {
        let number = self.block_of(spot);
        if number == self.blocks.len() {
            match self.blocks.is_empty() {
                true => self.blocks.push(Block::default()),
                false => return self.insert_into(number - 1, spot, bytes),
            }
        }
        self.insert_into(number, spot, bytes);
    }

    /// Takes a spot out; whether it was there.
    pub(super) fn remove(&mut self, spot: Spot) -> bool {
        let number = self.block_of(spot);
        let Some(block) = self.blocks.get_mut(number) else { return false };
        let Ok(index) = block.spots.binary_search_by_key(&spot, |(spot, _)| *spot) else {
            return false;
        };
        let (_, bytes) = block.spots.remove(index);
        block.bytes -= u128::from(bytes);
        if block.spots.is_empty() {
            self.blocks.remove(number);
        }
        true
    }

    /// What is before a spot, whether or not that is in this line.
    pub(super) fn before(&self, spot: Spot) -> Before {
        let number = self.block_of(spot);
        let mut before = Before::default();
        for block in &self.blocks[..number] {
            before.count += block.spots.len();
            before.bytes += block.bytes;
        }
        let Some(block) = self.blocks.get(number) else { return before };
        for (_, bytes) in block.spots.iter().take_while(|(other, _)| *other < spot) {
            before.count += 1;
            before.bytes += u128::from(*bytes);
        }
        before
    }

    /// All of them in order, with their bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Spot, u64)> + '_ {
        self.blocks.iter().flat_map(|block| block.spots.iter().copied())
    }

    /// The first block that does not end before this spot.
    fn block_of(&self, spot: Spot) -> usize {
        self.blocks
            .partition_point(|block| block.spots.last().is_some_and(|(last, _)| *last < spot))
    }

    fn insert_into(&mut self, number: usize, spot: Spot, bytes: u64) {
        let block = &mut self.blocks[number];
        let index = block.spots.partition_point(|(other, _)| *other < spot);
        block.spots.insert(index, (spot, bytes));
        block.bytes += u128::from(bytes);
        if block.spots.len() > MOST_IN_BLOCK {
            let spots = block.spots.split_off(MOST_IN_BLOCK / 2);
            let bytes = spots.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
            block.bytes -= bytes;
            self.blocks.insert(number + 1, Block { bytes, spots });
        }
    }
}
