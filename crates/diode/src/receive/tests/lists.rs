//! What is missing is known, asked for, and only that is sent again.

use super::rig::*;
use crate::block::BLOCK;
use crate::event::DiodeEvent;
use crate::frame::Class;
use crate::want::{Range, WantList};

fn want(rig: &Rig) -> WantList {
    let text = rig.receiver.as_ref().unwrap().requests().want_list(rig.wall).unwrap();
    let receiver = rig.options.identity.public_key();
    WantList::parse(&text, &rig.sender.line.identity, &[receiver]).unwrap()
}

/// What a sender sends for a list.
fn answer(rig: &Rig, list: &WantList) -> Vec<Payload> {
    let ranges = list.blocks.iter();
    let blocks = ranges
        .flat_map(|range| (range.first..range.first + range.count).map(|block| (range.of, block)));
    blocks.flat_map(|(object, block)| rig.sender.block(object, block, Class::Repeat)).collect()
}

#[test]
fn only_what_is_missing_is_asked_for_and_that_heals() {
    let mut rig = Rig::new();
    let tree = model(&[
        ("large", file(&noise(1, 6 * BLOCK + 10), 1)),
        ("small", file(&noise(2, 2000), 2)),
        ("there", file(&noise(3, BLOCK), 3)),
    ]);
    let generation = rig.sender.generation(tree.clone(), &[], true);
    rig.send(&generation.pages.concat());
    // Blocks 1, 2 and 5 of the large file and the small one are lost on the way, and half of block 3.
    let is_block = |payload: &Payload, at: u32| payload.1[16..20] == at.to_be_bytes();
    for block in &generation.blocks {
        let is_large = block[0].1[8..16] == (6 * BLOCK as u64 + 10).to_be_bytes();
        let is_small = block[0].1[8..16] == 2000_u64.to_be_bytes();
        let is_lost = is_large && [1, 2, 5].iter().any(|at| is_block(&block[0], *at));
        if is_lost || is_small {
            continue;
        }
        let is_half = is_large && is_block(&block[0], 3);
        let count = if is_half { block.len() / 2 } else { block.len() };
        rig.send(&block[..count]);
    }
    rig.send(&[generation.end()]);
    rig.settle();
    rig.pass(std::time::Duration::from_secs(3));
    let missing = DiodeEvent::Missing { generation: 1, files: 2 };
    rig.wait_for(|event| *event == missing);
    let list = want(&rig);
    let large = list.blocks[0].of;
    let ranges: Vec<(u32, u32)> =
        list.blocks.iter().map(|range| (range.first, range.count)).collect();
    assert_eq!(ranges, [(1, 3), (5, 1), (0, 1)]);
    assert!(list.pages.is_empty() && list.generation == 1 && list.blocks[1].of == large);
    // The same after a restart, when what is staged is read again.
    rig.restart();
    assert_eq!(want(&rig).blocks, list.blocks);
    let answered = answer(&rig, &list);
    rig.send(&answered);
    rig.settle();
    rig.check("answered");
    let list = want(&rig);
    assert!(list.blocks.is_empty() && list.pages.is_empty());
    rig.wait_for(|event| matches!(event, DiodeEvent::Generation { number: 1, tally, .. } if tally.missing == 0));
}

#[test]
fn pages_that_are_missing_are_asked_for() {
    let mut rig = Rig::new();
    rig.sender.page_entries = 10;
    let tree = random_tree(3, 55);
    let generation = rig.sender.generation(tree, &[], true);
    assert_eq!(generation.pages.len(), 6);
    rig.beat(1);
    rig.settle();
    assert_eq!(want(&rig).pages, [Range { of: 1, first: 0, count: u32::MAX }]);
    for at in [0, 1, 3] {
        rig.send(&generation.pages[at]);
    }
    rig.settle();
    let open = Range { of: 1, first: 4, count: u32::MAX - 4 };
    assert_eq!(want(&rig).pages, [Range { of: 1, first: 2, count: 1 }, open]);
    rig.send(&[generation.end()]);
    rig.settle();
    let rest = [Range { of: 1, first: 2, count: 1 }, Range { of: 1, first: 4, count: 2 }];
    assert_eq!(want(&rig).pages, rest);
    rig.restart();
    assert_eq!(want(&rig).pages, rest);
    for at in [5, 4, 2] {
        rig.send(&generation.pages[at]);
    }
    rig.settle();
    assert!(want(&rig).pages.is_empty());
    rig.send(&generation.blocks.concat());
    rig.settle();
    rig.check("with all pages");
}

#[test]
fn another_version_takes_the_place_of_one_that_never_came() {
    let mut rig = Rig::new();
    let mut tree = model(&[("a", file(&noise(1, BLOCK + 9), 1)), ("b", file(b"b", 2))]);
    rig.send_generation(&tree, &[], true);
    tree.insert(path("a"), file(&noise(2, BLOCK + 9), 3));
    let lost = rig.sender.generation(tree.clone(), &[], false);
    rig.send(&lost.pages.concat());
    rig.send(&lost.blocks[0]);
    rig.send(&[lost.end()]);
    rig.settle();
    // The version before is as it was.
    let found = std::fs::read(rig.tree_path().join("a")).unwrap();
    assert!(found == noise(1, BLOCK + 9));
    assert_eq!(want(&rig).blocks.len(), 1);
    tree.insert(path("a"), file(&noise(3, 400), 4));
    rig.send_generation(&tree, &[], false);
    rig.check("the third version");
    assert!(want(&rig).blocks.is_empty());
    let staged = std::fs::read_dir(rig.tree_path().join(".haul")).unwrap();
    let staged: Vec<_> = staged.map(|entry| entry.unwrap().file_name()).collect();
    assert!(staged.iter().all(|name| !name.to_string_lossy().contains(".part")), "{staged:?}");
}
