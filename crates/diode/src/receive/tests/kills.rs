//! The keeper is killed at each of its steps. What bears a final name is right at every moment, and in the end all is.

use std::collections::BTreeSet;

use super::rig::*;
use crate::block::BLOCK;
use crate::receive::Deletes;

/// A tree, the moves before it, and whether its manifest is full.
type Turn = (Model, Vec<(&'static str, &'static str)>, bool);

/// Generations that do all that there is to do.
fn scenario() -> Vec<Turn> {
    let first = model(&[
        ("d", folder(1)),
        ("d/a", file(b"a, the first", 2)),
        ("d/b", file(b"b, the first", 3)),
        ("d/hard", Node::HardLink { file: path("k") }),
        ("e", Node::Folder { mode: 0o555, mtime: 4 }),
        ("e/large", file(&noise(1, BLOCK + 5000), 5)),
        ("e/link", Node::Symlink { target: b"x".to_vec(), mtime: 6 }),
        ("k", file(b"becomes a folder", 7)),
    ]);
    let mut second = moved(first.clone(), &path("d/a"), &path("d/t"));
    second = moved(second, &path("d/b"), &path("d/a"));
    second = moved(second, &path("d/t"), &path("d/b"));
    second = moved(second, &path("e"), &path("f"));
    second.insert(path("e"), folder(10));
    second.insert(path("e/new"), file(b"at an old path", 11));
    second.insert(path("d/hard"), first[&path("k")].clone());
    second.insert(path("k"), folder(12));
    second.insert(path("k/in"), file(b"in", 13));
    second.insert(path("f/large"), file(&noise(2, BLOCK + 700), 14));
    let moves = vec![("d/a", "d/t"), ("d/b", "d/a"), ("d/t", "d/b"), ("e", "f")];
    second.insert(path("f"), Node::Folder { mode: 0o555, mtime: 15 });
    let mut third = second.clone();
    third.retain(|at, _| !at.starts_with(&path("f")) && !at.starts_with(&path("d")));
    third.insert(path("g"), file(b"g", 20));
    let mut fourth = third.clone();
    fourth.insert(path("d"), folder(30));
    fourth.insert(path("d/a"), file(b"a, again", 31));
    fourth.remove(&path("e/new"));
    vec![
        (first, vec![], true),
        (second, moves, false),
        (third, vec![], false),
        (fourth, vec![], true),
    ]
}

fn contents() -> BTreeSet<Vec<u8>> {
    let all = scenario().into_iter().flat_map(|(model, ..)| model.into_values());
    all.filter_map(|node| match node {
        Node::File { bytes, .. } => Some(bytes.to_vec()),
        _ => None,
    })
    .collect()
}

/// Sends everything that was ever sent, as repeats do. Whether the keeper lived.
fn send_all(rig: &mut Rig, generations: &[Generation], upto: usize) -> bool {
    for generation in &generations[..upto] {
        rig.send(&generation.all());
        if !rig.try_settle() {
            return false;
        }
    }
    true
}

fn check_killed_at(steps: i64, again: i64, deletes: Deletes) -> bool {
    let contents = contents();
    let mut rig = Rig::with(|options| (options.deletes, options.brake) = (deletes, 1.0));
    let mut generations = Vec::new();
    let is_wrong = |rig: &Rig| {
        rig.found().into_iter().find(|(_, node)| match node {
            Node::File { bytes, .. } => !contents.contains(&**bytes),
            _ => false,
        })
    };
    rig.light_fuse(steps);
    let mut kills = 0;
    for (at, (model, moves, is_full)) in scenario().into_iter().enumerate() {
        generations.push(rig.sender.generation(model, &moves, is_full));
        rig.send(&generations[at].all());
        let mut lives = rig.try_settle();
        while !lives {
            kills += 1;
            assert!(is_wrong(&rig).is_none(), "{steps}, {again}: {:?}", is_wrong(&rig));
            rig.restart_killed();
            if kills == 1 {
                rig.light_fuse(again);
            }
            lives = send_all(&mut rig, &generations, at + 1);
        }
        rig.check(&format!("killed after {steps}, then {again} steps, generation {}", at + 1));
    }
    kills > 0
}

#[test]
fn killed_at_any_step_it_ends_with_the_same_tree() {
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let mut steps = 0;
    while check_killed_at(steps, i64::MAX, Deletes::After(week)) {
        steps += 1;
    }
    assert!(steps > 60, "the scenario has only {steps} steps");
    for steps in (0..steps).step_by(3) {
        check_killed_at(steps, (steps * 7) % 11, Deletes::Now);
    }
}

/// Random trees and changes, and kills at random.
#[test]
fn killed_at_random_it_ends_with_the_same_tree() {
    let mut kills = 0;
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut rig = Rig::with(|options| {
            options.brake = 1.0;
            options.deletes = if seed % 2 == 0 { Deletes::Now } else { options.deletes };
        });
        rig.sender.page_entries = 9;
        let mut tree = random_tree(seed, 60);
        let mut generations: Vec<Generation> = Vec::new();
        for turn in 0..6 {
            let moves =
                if turn == 0 { Vec::new() } else { rig.change(&mut random, &mut tree, turn) };
            let moves: Vec<(&str, &str)> = moves.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            let is_full = turn == 0 || random.below(4) == 0;
            generations.push(rig.sender.generation(tree.clone(), &moves, is_full));
            rig.light_fuse(random.below(60) as i64);
            rig.send(&generations[turn].all());
            let mut lives = rig.try_settle();
            while !lives {
                kills += 1;
                rig.restart_killed();
                if random.below(2) == 0 {
                    rig.light_fuse(random.below(40) as i64);
                }
                lives = send_all(&mut rig, &generations, turn + 1);
            }
            rig.light_fuse(i64::MAX);
            rig.check(&format!("seed {seed}, turn {turn}"));
        }
    }
    assert!(kills > 20, "only {kills} kills");
}
