//! What arrives of objects: symbols become blocks, whatever the order, the pass or the restart between them. Only so much
//! is put together in memory; the block that waited longest is given out to be kept elsewhere, and is put together with
//! what comes of it later once it was brought back. No symbol waits for that.

use std::collections::{HashMap, HashSet};

use crate::block::{Added, Assembly, BLOCK, Layout};
use crate::intervals::Intervals;
use crate::symbol::{ObjectKind, SymbolHead};

/// What a block costs besides its symbols, roughly.
const SLOT: usize = 256;

/// So many objects may have begun and not ended, and so many blocks may be kept elsewhere; who knows a session's keys can
/// make them up.
const MOST_OBJECTS: usize = 1 << 20;
const MOST_AWAY: usize = 1 << 16;

/// A story about an object that was not told for so long gives way to another one.
const STORY_MS: u64 = 1000;

/// How many buffers wait to be used again while nothing is put together. Else as many as may be in memory: blocks come in
/// waves, and fresh memory costs more than what is written into it.
const IDLE_SPARE: usize = 64;

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
    /// Enough have come for the block of this symbol: to be finished elsewhere, which takes its time.
    Block(Assembly),
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
    /// Those of them of which another symbol has come since.
    recalls: Vec<BlockId>,
    /// Objects of which nothing is taken any more.
    done: Intervals,
    /// Those of which something has come.
    objects: HashMap<u64, Object>,
    spare: Vec<Vec<u8>>,
    now_ms: u64,
}

#[derive(Debug)]
struct Slot {
    assembly: Assembly,
    length: u64,
    kind: ObjectKind,
    touched_ms: u64,
}

/// What is known of an object that is not done.
#[derive(Debug)]
struct Object {
    length: u64,
    kind: ObjectKind,
    blocks: Intervals,
    told_ms: u64,
}

/// A block that is to be kept elsewhere.
#[derive(Debug)]
pub struct Spilled {
    /// Which it is.
    pub id: BlockId,
    /// What came of it.
    pub assembly: Assembly,
    /// Bytes of its object.
    pub length: u64,
    /// What its object is.
    pub kind: ObjectKind,
}

impl Intake {
    /// Keeps blocks of `most` bytes in memory, and the one that is being added to. Of the objects that are `done` nothing
    /// is taken, and the blocks that are `away` were given out before.
    pub fn new(most: usize, done: Intervals, away: impl IntoIterator<Item = BlockId>) -> Self {
        let away = away.into_iter().filter(|id| !done.contains(id.object)).take(MOST_AWAY);
        Self { most, away: away.collect(), done, ..Self::default() }
    }

    /// Takes a symbol that was proven to be from one who knows the session's keys. That is not the sender alone, so what
    /// the manifest does not bear out begins anew with [`Self::again`].
    pub fn take(&mut self, head: &SymbolHead, layout: Layout, symbol: &[u8]) -> Taken {
        let id = BlockId { object: head.object, block: head.block };
        let Some(slot) = self.slots.get_mut(&id) else {
            return self.begin(id, head, layout, symbol);
        };
        if (slot.length, slot.kind) != (head.length, head.kind) {
            return self.begin(id, head, layout, symbol);
        }
        if slot.assembly.layout() != layout {
            // The sender cuts it anew; what came of it in the other way does not fit.
            self.drop_slot(id);
            return self.begin(id, head, layout, symbol);
        }
        slot.touched_ms = self.now_ms;
        let before = slot.assembly.memory();
        match slot.assembly.add(head.symbol, symbol) {
            Added::Known => Taken::Known,
            Added::New => {
                self.memory += slot.assembly.memory() - before;
                Taken::Kept
            }
            Added::Enough => {
                self.memory -= before + SLOT;
                self.complete(id)
            }
        }
    }

    /// The first symbol of a block that is not in memory.
    fn begin(&mut self, id: BlockId, head: &SymbolHead, layout: Layout, symbol: &[u8]) -> Taken {
        if self.done.contains(id.object) {
            return Taken::Known;
        }
        let room = self.objects.len() < MOST_OBJECTS;
        if !room && !self.objects.contains_key(&id.object) {
            return Taken::Known;
        }
        let (length, kind, told_ms) = (head.length, head.kind, self.now_ms);
        let new = || Object { length, kind, blocks: Intervals::default(), told_ms };
        let object = self.objects.entry(id.object).or_insert_with(new);
        if (object.length, object.kind) != (length, kind) {
            let touched_ms = self.slots.get(&id).map_or(0, |slot| slot.touched_ms);
            if object.told_ms.max(touched_ms) + STORY_MS > told_ms {
                return Taken::Known;
            }
            self.clear(id.object);
            return self.begin(id, head, layout, symbol);
        }
        if object.blocks.contains(id.block.into()) {
            return Taken::Known;
        }
        object.told_ms = told_ms;
        if self.away.remove(&id) {
            self.recalls.push(id);
        }
        let mut assembly = Assembly::within(layout, self.spare.pop().unwrap_or_default());
        let added = assembly.add(head.symbol, symbol);
        let memory = assembly.memory();
        self.slots.insert(id, Slot { assembly, length, kind, touched_ms: self.now_ms });
        match added {
            Added::Enough => self.complete(id),
            Added::New | Added::Known => {
                self.memory += memory + SLOT;
                if added == Added::New { Taken::Kept } else { Taken::Known }
            }
        }
    }

    /// Takes a block out for which enough has come, and whose memory was given back.
    fn complete(&mut self, id: BlockId) -> Taken {
        let Some(slot) = self.slots.remove(&id) else { return Taken::Known };
        self.mark_done(id, slot.length, slot.kind);
        Taken::Block(slot.assembly)
    }

    /// Says what time it is, in milliseconds since any start.
    pub fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.slots.is_empty() {
            self.spare.truncate(IDLE_SPARE);
        }
    }

    /// The block that waited longest, while there is more in memory than may be; keep it, and bring it back when asked.
    pub fn spill(&mut self) -> Option<Spilled> {
        if self.memory <= self.most || self.slots.len() <= 1 {
            return None;
        }
        let (id, _) = self.slots.iter().min_by_key(|(id, slot)| (slot.touched_ms, **id))?;
        self.give_out(*id)
    }

    /// Blocks of which nothing came for so many milliseconds.
    pub fn idle(&self, for_ms: u64) -> Vec<BlockId> {
        let is_idle = |slot: &Slot| slot.touched_ms + for_ms <= self.now_ms;
        self.slots.iter().filter(|(_, slot)| is_idle(slot)).map(|(id, _)| *id).collect()
    }

    /// Gives a block out of memory, to be kept and brought back when asked.
    pub fn give_out(&mut self, id: BlockId) -> Option<Spilled> {
        let slot = self.drop_slot(id)?;
        if self.away.len() < MOST_AWAY {
            self.away.insert(id);
        }
        Some(Spilled { id, assembly: slot.assembly, length: slot.length, kind: slot.kind })
    }

    /// A block that was given out was not kept.
    pub fn is_lost(&mut self, id: BlockId) {
        self.away.remove(&id);
    }

    /// A block that is to be brought back, with [`Self::merge`].
    pub fn recall(&mut self) -> Option<BlockId> {
        self.recalls.pop()
    }

    /// Adds what was kept elsewhere of a block. One that is done, away or forgotten meanwhile is not taken. The block, if
    /// it has enough now, with the length of its object and what that is.
    pub fn merge(&mut self, id: BlockId, kept: &Assembly) -> Option<(Assembly, u64, ObjectKind)> {
        let slot =
            self.slots.get_mut(&id).filter(|slot| slot.assembly.layout() == kept.layout())?;
        let before = slot.assembly.memory();
        for (number, symbol) in kept.symbols() {
            if slot.assembly.add(number, symbol) == Added::Enough {
                break;
            }
        }
        if slot.assembly.missing() > 0 {
            self.memory += slot.assembly.memory() - before;
            return None;
        }
        self.memory -= before + SLOT;
        let (length, kind) = (slot.length, slot.kind);
        match self.complete(id) {
            Taken::Block(assembly) => Some((assembly, length, kind)),
            Taken::Known | Taken::Kept => None,
        }
    }

    /// A block of an object of `length` bytes is done, as one that was done before a restart.
    pub fn mark_done(&mut self, id: BlockId, length: u64, kind: ObjectKind) {
        self.drop_slot(id);
        self.away.remove(&id);
        if self.done.contains(id.object) {
            return;
        }
        if last_block(length) == 0 {
            self.forget(id.object);
            return;
        }
        let told_ms = self.now_ms;
        let new = || Object { length, kind, blocks: Intervals::default(), told_ms };
        let object = self.objects.entry(id.object).or_insert_with(new);
        object.blocks.insert(id.block.into());
        if object.blocks.has_all_to(last_block(length)) {
            self.forget(id.object);
        }
    }

    /// These blocks of an object are done: ranges of the first and last.
    pub fn has(&mut self, object: u64, length: u64, present: &[(u64, u64)]) {
        if self.done.contains(object) {
            return;
        }
        let kind = ObjectKind::Content;
        let told_ms = self.now_ms;
        let new = || Object { length, kind, blocks: Intervals::default(), told_ms };
        let known = self.objects.entry(object).or_insert_with(new);
        for (first, last) in present {
            known.blocks.insert_range(*first, *last);
        }
        if known.blocks.has_all_to(last_block(length)) {
            self.forget(object);
            return;
        }
        let blocks = &self.objects[&object].blocks;
        let is_done = |id: &BlockId| id.object == object && blocks.contains(id.block.into());
        let done: Vec<BlockId> = self.slots.keys().filter(|id| is_done(id)).copied().collect();
        self.away.retain(|id| !is_done(id));
        for id in done {
            self.drop_slot(id);
        }
    }

    /// Begins anew, with these objects done: what was put together and not kept is lost.
    pub fn reset(&mut self, done: Intervals) {
        self.slots.clear();
        self.objects.clear();
        self.memory = 0;
        self.away.retain(|id| !done.contains(id.object));
        self.done = done;
    }

    /// A block that was done was lost on its way to where it is kept: it is taken again.
    pub fn undo(&mut self, id: BlockId, length: u64, kind: ObjectKind) {
        let last = last_block(length);
        if self.done.remove(id.object) {
            let (blocks, told_ms) = (Intervals::from_range(0, last), self.now_ms);
            self.objects.insert(id.object, Object { length, kind, blocks, told_ms });
        }
        if let Some(object) = self.objects.get_mut(&id.object) {
            object.blocks.remove(id.block.into());
        }
    }

    /// An object is done, or wanted no more: nothing of it is taken from now on.
    pub fn forget(&mut self, object: u64) {
        self.clear(object);
        self.done.insert(object);
    }

    /// Of all objects up to `last` but these nothing is taken from now on.
    pub fn forget_to(&mut self, last: u64, but: &HashSet<u64>) {
        let begun: HashSet<u64> = self
            .objects
            .keys()
            .chain(self.slots.keys().map(|id| &id.object))
            .chain(self.away.iter().map(|id| &id.object))
            .copied()
            .filter(|object| *object <= last && !but.contains(object))
            .collect();
        begun.into_iter().for_each(|object| self.clear(object));
        let kept: Vec<u64> =
            but.iter().copied().filter(|object| !self.done.contains(*object)).collect();
        self.done.insert_range(0, last);
        for object in kept {
            self.done.remove(object);
        }
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

    /// Memory of a block, to be used again.
    pub fn reuse(&mut self, memory: Vec<u8>) {
        if self.spare.len() < (self.most / BLOCK).max(IDLE_SPARE) {
            self.spare.push(memory);
        }
    }

    /// How many buffers lie ready.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Bytes that are in memory.
    pub fn memory(&self) -> usize {
        self.memory
    }

    fn clear(&mut self, object: u64) {
        let Some(known) = self.objects.remove(&object) else {
            self.away.retain(|id| id.object != object);
            return;
        };
        if last_block(known.length) == 0 {
            let id = BlockId { object, block: 0 };
            self.drop_slot(id);
            self.away.remove(&id);
            return;
        }
        let slots: Vec<BlockId> =
            self.slots.keys().filter(|id| id.object == object).copied().collect();
        for id in slots {
            self.drop_slot(id);
        }
        self.away.retain(|id| id.object != object);
    }

    fn drop_slot(&mut self, id: BlockId) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        self.memory -= slot.assembly.memory() + SLOT;
        Some(slot)
    }
}

fn last_block(length: u64) -> u64 {
    length.saturating_sub(1) / BLOCK as u64
}

#[cfg(test)]
mod tests;
