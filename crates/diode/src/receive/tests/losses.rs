//! Links that lose, reorder and repeat, and passes that are put together.

use std::time::Duration;

use super::rig::*;
use crate::block::BLOCK;

/// Symbols of all blocks, each block spread evenly over the whole, as a sender does within its span.
fn spread(blocks: &[Vec<Payload>]) -> Vec<Payload> {
    let mut timed: Vec<(f64, &Payload)> = Vec::new();
    for (nth, block) in blocks.iter().enumerate() {
        let count = block.len() as f64;
        let at = |number: usize| (number as f64 + 0.5 + 1e-6 * nth as f64) / count;
        timed.extend(block.iter().enumerate().map(|(number, payload)| (at(number), payload)));
    }
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    timed.into_iter().map(|(_, payload)| payload.clone()).collect()
}

/// What a link makes of frames: loses one in a hundred and one burst, reorders and repeats.
fn bad_link(random: &mut Random, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let burst = frames.len() / 25;
    let from = random.below(frames.len().saturating_sub(burst).max(1));
    let mut kept = Vec::new();
    for (nth, frame) in frames.into_iter().enumerate() {
        if (from..from + burst).contains(&nth) || random.below(100) == 0 {
            continue;
        }
        if random.below(50) == 0 {
            kept.push(frame.clone());
        }
        kept.push(frame);
    }
    for at in 0..kept.len() {
        if random.below(10) == 0 {
            let with = (at + random.below(40)).min(kept.len() - 1);
            kept.swap(at, with);
        }
    }
    kept
}

#[test]
fn losses_bursts_reordering_and_repeats_cost_nothing_in_one_pass() {
    for seed in 0..6 {
        let mut rig = Rig::new();
        let mut random = Random(seed);
        let tree = random_tree(seed, 100);
        let generation = rig.sender.generation(tree, &[], true);
        // Pages are sent twice, with what else goes across.
        let mut blocks = generation.pages.clone();
        blocks.extend(generation.pages.clone());
        blocks.extend(generation.blocks.clone());
        let mut payloads = spread(&blocks);
        for at in [1, 2, 3, 4, 5] {
            payloads.insert(payloads.len() * at / 5, generation.end());
        }
        let frames = rig.sender.seal(&payloads);
        let frames = bad_link(&mut random, frames);
        rig.frames(frames);
        rig.settle();
        rig.check(&format!("seed {seed}"));
        let status = rig.receiver.as_ref().unwrap().status().read();
        assert!(status.link.restored > 0, "nothing was lost");
    }
}

#[test]
fn passes_are_put_together_symbol_by_symbol_across_restarts() {
    let mut rig = Rig::new();
    let tree = model(&[
        ("large", file(&noise(1, 2 * BLOCK + 100_000), 5)),
        ("small", file(&noise(2, 70_000), 6)),
    ]);
    let generation = rig.sender.generation(tree, &[], true);
    rig.send(&generation.pages.concat());
    rig.send(&[generation.end()]);
    rig.settle();
    let symbols = generation.blocks.concat();
    let third = |rest: usize| -> Vec<Payload> {
        let some = symbols.iter().enumerate().filter(|(nth, _)| nth % 3 == rest);
        some.map(|(_, payload)| payload.clone()).collect()
    };
    for pass in 0..3 {
        assert_eq!(rig.receiver.as_ref().unwrap().requests().missing(9).unwrap().len(), 2);
        rig.send(&third(pass));
        // What waits goes to the disk, in an orderly end or not.
        rig.pass(Duration::from_millis(1500));
        rig.settle();
        match pass {
            0 => rig.restart(),
            1 => rig.restart_killed(),
            _ => {}
        }
    }
    rig.settle();
    rig.check("three passes");
    let spilled = std::fs::read_dir(rig.scratch.path().join("state/spill")).unwrap();
    let left = spilled.filter(|entry| entry.as_ref().unwrap().file_name() != ".haul").count();
    assert_eq!(left, 0, "what is whole is not kept any more");
}

#[test]
fn a_disk_that_is_too_slow_costs_blocks_and_no_more() {
    let mut rig = Rig::with(|options| options.memory = 4 * BLOCK);
    let tree = model(&[("large", file(&noise(1, 20 * BLOCK), 5)), ("s", file(b"small", 6))]);
    let generation = rig.sender.generation(tree, &[], true);
    rig.send(&generation.pages.concat());
    rig.settle();
    // Faster than any disk: nothing is waited for.
    let mut passes = 0;
    while rig.receiver.as_ref().unwrap().requests().missing(1).unwrap().len() == 1 {
        rig.send(&generation.blocks.concat());
        rig.send(&[generation.end()]);
        rig.settle();
        passes += 1;
        assert!(passes < 30, "it does not get on");
    }
    rig.check("in the end");
}

#[test]
fn a_heartbeat_is_missed_and_heard_again() {
    use crate::event::DiodeEvent;
    let mut rig = Rig::new();
    rig.beat(1);
    rig.pass(Duration::from_secs(4));
    assert!(!rig.has_event(|event| matches!(event, DiodeEvent::HeartbeatLost { .. })));
    rig.pass(Duration::from_secs(2));
    assert!(rig.has_event(|event| matches!(event, DiodeEvent::HeartbeatLost { .. })));
    assert!(rig.receiver.as_ref().unwrap().status().read().link.is_silent);
    rig.beat(1);
    let back = Duration::from_secs(6);
    assert!(rig.has_event(|event| *event == DiodeEvent::HeartbeatBack { silent_for: back }));
}

#[test]
fn a_full_disk_costs_what_came_meanwhile_and_nothing_else() {
    use crate::event::DiodeEvent;
    use std::sync::atomic::Ordering;
    let mut rig = Rig::new();
    let mut tree = model(&[("large", file(&noise(1, 2 * BLOCK), 1)), ("small", file(b"small", 2))]);
    rig.send_generation(&tree, &[], true);
    tree.insert(path("large"), file(&noise(2, 2 * BLOCK + 5), 3));
    tree.insert(path("small"), file(b"another", 4));
    tree.insert(path("folder"), folder(5));
    let generation = rig.sender.generation(tree, &[], false);
    rig.receiver.as_ref().unwrap().shared.no_room.store(true, Ordering::Relaxed);
    rig.send(&generation.all());
    rig.beat(2);
    rig.settle();
    // What is told is heard, the old versions stay, and what is missing is known.
    let status = rig.receiver.as_ref().unwrap().status().read();
    assert!(status.tree.is_full && rig.has_event(|event| *event == DiodeEvent::DiskFull));
    assert_eq!((status.tree.whole, status.tree.wanted), (2, 2));
    assert_eq!(status.link.heartbeat.map(|beat| beat.generation), Some(2));
    assert_eq!(std::fs::read(rig.tree_path().join("small")).unwrap(), b"small");
    assert!(std::fs::read(rig.tree_path().join("large")).unwrap() == noise(1, 2 * BLOCK));
    rig.receiver.as_ref().unwrap().shared.no_room.store(false, Ordering::Relaxed);
    rig.send(&generation.blocks.concat());
    rig.settle();
    rig.check("with room again");
    assert!(rig.has_event(|event| *event == DiodeEvent::DiskHasRoom));
    assert!(!rig.receiver.as_ref().unwrap().status().read().tree.is_full);
}
