//! Trees that arrive, and what changes in them.

use super::rig::*;
use crate::block::BLOCK;
use crate::event::{DiodeEvent, Tally};

fn first() -> Model {
    model(&[
        ("a", folder(100)),
        ("a/empty", folder(101)),
        ("a/large", file(&noise(1, 2 * BLOCK + 12345), 102)),
        ("a/link", Node::Symlink { target: b"../nowhere".to_vec(), mtime: 103 }),
        ("a/one", file(b"one", 104)),
        ("a/zero", file(b"", 105)),
        ("b", Node::Folder { mode: 0o555, mtime: 106 }),
        ("b/block", file(&noise(2, BLOCK), 107)),
        ("b/two", Node::File { bytes: noise(3, 5000).into(), mode: 0o600, mtime: 108 }),
        ("b/two-again", Node::HardLink { file: path("b/two") }),
        ("c", file(&noise(4, 300), 109)),
    ])
}

#[test]
fn a_tree_arrives_and_changes_with_the_senders() {
    let mut rig = Rig::new();
    rig.send_generation(&first(), &[], true);
    rig.check("the first");
    let tally = |event: &DiodeEvent, at: u64| matches!(event, DiodeEvent::Generation { number, tally: Tally { same: 11, different: 0, extra: 0, missing: 0 }, .. } if *number == at);
    rig.wait_for(|event| tally(event, 1));
    // Attributes, contents, kinds, moves and removals at once.
    let mut next = first();
    next.insert(path("a"), Node::Folder { mode: 0o700, mtime: 200 });
    next.insert(
        path("a/one"),
        Node::File { bytes: b"one".to_vec().into(), mode: 0o640, mtime: 201 },
    );
    next.insert(path("a/zero"), file(b"no more", 202));
    next.insert(path("c"), folder(203));
    next.insert(path("c/inside"), file(b"was a file", 204));
    next.remove(&path("a/empty"));
    next.insert(path("a/empty"), file(b"was a folder", 205));
    next.insert(path("a/link"), Node::Symlink { target: b"elsewhere".to_vec(), mtime: 206 });
    let next = moved(next, &path("b"), &path("moved"));
    rig.sender.tree.insert(path("b/two-again"), rig.sender.tree[&path("b/two")].clone());
    let mut next = next;
    next.insert(path("moved/two-again"), next[&path("moved/two")].clone());
    rig.send_generation(&next, &[("b", "moved")], false);
    rig.check("the second");
    rig.wait_for(|event| matches!(event, DiodeEvent::Generation { number: 2, tally, .. } if tally.missing + tally.extra + tally.different == 0));
    let status = rig.receiver.as_ref().unwrap().status().read();
    assert_eq!((status.tree.whole, status.tree.complete, status.tree.wanted), (2, 2, 0));
    assert_eq!(status.tree.entries, next.len() as u64);
    // Removed with all that is in it; what is left is as it was.
    let mut last = next.clone();
    last.retain(|at, _| !at.starts_with(&path("moved")));
    rig.send_generation(&last, &[], false);
    rig.check("the third");
}

#[test]
fn chains_and_swaps_of_moves_end_where_they_should() {
    let mut rig = Rig::new();
    let tree = model(&[
        ("a", file(b"a", 1)),
        ("b", file(b"b", 2)),
        ("d", folder(3)),
        ("d/e", folder(4)),
        ("d/e/f", file(b"f", 5)),
    ]);
    rig.send_generation(&tree, &[], true);
    // a and b change places, and a folder's inside goes out while it goes into another.
    let moves = [("a", "t"), ("b", "a"), ("t", "b"), ("d/e", "x"), ("d", "x/d"), ("x/f", "x/d/g")];
    let mut next = tree;
    for (from, to) in moves {
        next = moved(next, &path(from), &path(to));
    }
    rig.send_generation(&next, &moves, false);
    rig.check("moved");
    assert_eq!(std::fs::read(rig.tree_path().join("b")).unwrap(), b"a");
}

#[test]
fn what_is_there_by_other_means_is_not_waited_for() {
    let mut rig = Rig::new();
    let large = noise(8, BLOCK + 7);
    let tree =
        model(&[("large", file(&large, 50)), ("small", file(b"small", 51)), ("x", file(b"x", 52))]);
    for (name, bytes) in [("large", &large[..]), ("small", b"small"), ("x", b"y")] {
        let at = rig.tree_path().join(name);
        std::fs::write(&at, bytes).unwrap();
        let mtime = match &tree[&path(name)] {
            Node::File { mtime, .. } => *mtime,
            _ => 0,
        };
        let dir = rig.scratch.sub("into");
        let time = files::Timestamp { seconds: mtime, nanos: 123_456_789 };
        dir.set_times(&files::Name::new(name).unwrap(), time).unwrap();
    }
    let generation = rig.sender.generation(tree, &[], true);
    rig.send(&generation.pages.concat());
    rig.send(&[generation.end()]);
    rig.settle();
    // The same size and time, but not the same content.
    let missing = rig.receiver.as_ref().unwrap().requests().missing(10).unwrap();
    assert_eq!(missing, [path("x")]);
    rig.send(&generation.blocks.concat());
    rig.settle();
    rig.check("then");
}

#[test]
fn a_random_tree_goes_through_many_generations() {
    for seed in 0..4 {
        let mut rig = Rig::with(|options| options.brake = 1.0);
        let mut random = Random(seed);
        let mut tree = random_tree(seed, 120);
        rig.send_generation(&tree, &[], true);
        rig.check(&format!("seed {seed}"));
        for turn in 0..8 {
            let moves = rig.change(&mut random, &mut tree, turn);
            let moves: Vec<(&str, &str)> = moves.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            let is_full = random.below(4) == 0;
            rig.send_generation(&tree, &moves, is_full);
            rig.check(&format!("seed {seed}, turn {turn}"));
        }
    }
}
