use super::*;
use crate::block::{Restorer, repair_symbols};
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
        all.extend((0..).zip(pieces).map(|(symbol, piece)| (SymbolHead { symbol, ..head }, piece)));
    }
    all
}

fn intake(most: usize) -> Intake {
    Intake::new(most, Intervals::default(), [])
}

fn take(intake: &mut Intake, (head, symbol): &(SymbolHead, Vec<u8>)) -> Taken {
    intake.take(head, head.layout(symbol.len()).unwrap(), symbol)
}

fn finished(assembly: Assembly) -> Vec<u8> {
    assembly.finish(&mut Restorer::default()).unwrap()
}

/// What keeps blocks that are given out.
#[derive(Default)]
struct Kept {
    blocks: HashMap<BlockId, Assembly>,
    whole: HashMap<BlockId, Vec<u8>>,
}

impl Kept {
    fn is_whole(&mut self, id: BlockId, assembly: Assembly) {
        self.blocks.remove(&id);
        assert!(self.whole.insert(id, finished(assembly)).is_none(), "twice");
    }

    /// Takes what does not fit, with what was kept of it before.
    fn spill(&mut self, intake: &mut Intake, length_of: impl Fn(u64) -> u64) {
        while let Some(Spilled { id, mut assembly, .. }) = intake.spill() {
            for (number, symbol) in self.blocks.remove(&id).iter().flat_map(Assembly::symbols) {
                assembly.add(number, symbol);
            }
            if assembly.missing() == 0 {
                intake.mark_done(id, length_of(id.object), ObjectKind::Content);
                self.is_whole(id, assembly);
            } else {
                self.blocks.insert(id, assembly);
            }
        }
    }

    fn recall(&mut self, intake: &mut Intake, length_of: impl Fn(u64) -> u64) -> bool {
        let Some(id) = intake.recall() else { return false };
        let merged = self.blocks.get(&id).and_then(|kept| intake.merge(id, kept));
        if let Some((block, length, _)) = merged {
            assert_eq!(length, length_of(id.object));
            self.is_whole(id, block);
        }
        true
    }
}

#[test]
fn passes_are_put_together_in_any_order_within_a_bounded_memory() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let contents: Vec<Vec<u8>> = (0..5)
            .map(|nth| (0..nth * 700_000 + 1000).map(|_| random.below(256) as u8).collect())
            .collect();
        let length_of = |object: u64| contents[object as usize - 1].len() as u64;
        let mut all: Vec<_> =
            (1..).zip(&contents).flat_map(|(object, content)| symbols(object, content)).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, random.below(at + 1));
        }
        let most = 3 * BLOCK;
        let (mut intake, mut kept) = (intake(most), Kept::default());
        // Of two passes each loses a half.
        for pass in 0..2 {
            for (nth, (head, symbol)) in all.iter().enumerate() {
                if (nth + pass) % 2 == 0 {
                    continue;
                }
                let id = BlockId { object: head.object, block: head.block };
                let layout = head.layout(SYMBOL).unwrap();
                if let Taken::Block(block) = intake.take(head, layout, symbol) {
                    kept.is_whole(id, block);
                }
                kept.spill(&mut intake, length_of);
                // What was kept comes back some symbols later.
                while random.below(3) == 0 && kept.recall(&mut intake, length_of) {}
                kept.spill(&mut intake, length_of);
                let memory = |slot: &Slot| slot.assembly.memory() + SLOT;
                let held: usize = intake.slots.values().map(memory).sum();
                assert!(intake.memory == held && held <= most);
            }
        }
        while kept.recall(&mut intake, length_of) {}
        for (object, content) in (1..).zip(&contents) {
            let is_whole = intake.is_whole(object);
            assert!(is_whole && intake.missing(object, content.len() as u64).is_empty());
            for (block, bytes) in (0..).zip(content.chunks(BLOCK)) {
                assert!(kept.whole[&BlockId { object, block }] == bytes, "{object}, {block}");
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
    let mut intake = intake(10 * BLOCK);
    assert_eq!(intake.missing(9, content.len() as u64), [(0, 2)]);
    for symbol in all.iter().filter(|(head, _)| head.block == 1) {
        take(&mut intake, symbol);
    }
    assert_eq!(intake.missing(9, content.len() as u64), [(0, 0), (2, 2)]);
    intake.forget(9);
    assert!(matches!(take(&mut intake, &all[0]), Taken::Known));
    // Of all up to one but some.
    for object in [3, 5, 20] {
        assert!(matches!(take(&mut intake, &symbols(object, &content)[0]), Taken::Kept));
    }
    intake.forget_to(10, &HashSet::from([5, 9]));
    assert!(intake.is_whole(3) && intake.is_whole(9) && !intake.is_whole(5));
    assert!(!intake.is_whole(20) && intake.slots.len() == 2);
}

#[test]
fn a_block_that_is_cut_anew_begins_anew() {
    let mut random = Random(5);
    let content: Vec<u8> = (0..5000).map(|_| random.below(256) as u8).collect();
    let kind = ObjectKind::Content;
    let head = |symbol| SymbolHead { object: 1, length: 5000, block: 0, symbol, kind };
    let mut intake = intake(10 * BLOCK);
    let wide = head(0).layout(4096).unwrap();
    assert!(matches!(intake.take(&head(0), wide, &content[..4096]), Taken::Kept));
    let narrow = head(0).layout(2500).unwrap();
    assert!(matches!(intake.take(&head(1), narrow, &content[2500..]), Taken::Kept));
    let Taken::Block(block) = intake.take(&head(0), narrow, &content[..2500]) else { panic!() };
    assert_eq!(finished(block), content);
    assert_eq!(intake.memory, 0);
}

#[test]
fn what_does_not_agree_is_not_taken_until_the_object_begins_anew() {
    let content = vec![7; 5000];
    let all = symbols(3, &content);
    let mut intake = intake(10 * BLOCK);
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
    let late = Assembly::new(all[0].0.layout(SYMBOL).unwrap());
    assert!(intake.merge(id, &late).is_none() && intake.slots.is_empty());
    intake.again(3);
    assert!(!intake.is_whole(3));
    // What is not told any more gives way.
    assert!(matches!(take(&mut intake, 0, 3 * BLOCK as u64), Taken::Block(_)));
    intake.at(999);
    assert!(matches!(take(&mut intake, 0, 5000), Taken::Known));
    intake.at(1000);
    assert!(matches!(take(&mut intake, 0, 5000), Taken::Block(_)));
}

#[test]
fn a_block_that_was_lost_behind_us_is_taken_again() {
    let content = vec![7; 2 * BLOCK + 5];
    let (kind, length) = (ObjectKind::Content, content.len() as u64);
    let all = symbols(9, &content);
    let mut intake = intake(10 * BLOCK);
    let blocks = |intake: &mut Intake| {
        all.iter().filter(|symbol| matches!(take(intake, symbol), Taken::Block(_))).count()
    };
    assert_eq!(blocks(&mut intake), 3);
    intake.undo(BlockId { object: 9, block: 1 }, length, kind);
    assert_eq!(intake.missing(9, length), [(1, 1)]);
    assert_eq!(blocks(&mut intake), 1);
    assert!(intake.is_whole(9));
    let small = symbols(4, b"small");
    assert!(matches!(take(&mut intake, &small[0]), Taken::Block(_)));
    intake.undo(BlockId { object: 4, block: 0 }, 5, kind);
    assert!(matches!(take(&mut intake, &small[0]), Taken::Block(_)));
    assert!(matches!(take(&mut intake, &small[0]), Taken::Known));
}

#[test]
fn what_waits_is_given_out_and_put_together_with_what_comes_later() {
    let content: Vec<u8> = (0..BLOCK).map(|at| at as u8).collect();
    let all = symbols(2, &content);
    let mut intake = intake(10 * BLOCK);
    let needed = all[0].0.layout(SYMBOL).unwrap().source();
    intake.at(1000);
    all[..needed / 2].iter().for_each(|symbol| drop(take(&mut intake, symbol)));
    intake.at(1999);
    assert!(intake.idle(1000).is_empty());
    intake.at(2000);
    let id = BlockId { object: 2, block: 0 };
    assert_eq!(intake.idle(1000), [id]);
    let spilled = intake.give_out(id).unwrap();
    assert!(intake.memory == 0 && intake.idle(0).is_empty());
    // Repair symbols of the next pass, and one that is there already.
    let rest = needed - needed / 2;
    let next: Vec<_> = all.iter().rev().take(rest - 1).chain(&all[..1]).collect();
    next.iter().for_each(|symbol| drop(take(&mut intake, symbol)));
    assert_eq!(intake.recall(), Some(id));
    assert!(intake.merge(id, &spilled.assembly).is_none());
    let Taken::Block(block) = take(&mut intake, &all[needed / 2]) else { panic!() };
    assert_eq!(finished(block), content);
    // After a restart it is known that there is one elsewhere, unless it is done.
    let mut later =
        Intake::new(BLOCK, Intervals::from_range(0, 1), [id, BlockId { object: 1, block: 0 }]);
    assert!(matches!(take(&mut later, &all[needed - 1]), Taken::Kept));
    assert_eq!(later.recall(), Some(id));
    assert!(matches!(take(&mut later, &symbols(1, b"x")[0]), Taken::Known));
    let mut kept = spilled.assembly.clone();
    for (head, symbol) in &all[needed / 2..needed - 1] {
        kept.add(head.symbol, symbol);
    }
    let (block, length, _) = later.merge(id, &kept).unwrap();
    assert!(finished(block) == content && length == BLOCK as u64 && later.memory == 0);
}
