//! Pages in any order, gaps in the chain of generations, and full manifests that heal them.

use std::time::Duration;

use super::rig::*;
use crate::block::BLOCK;

fn names(count: usize, seed: u64) -> Model {
    (0..count)
        .map(|nth| {
            (path(&format!("f{nth:03}")), file(&noise(seed + nth as u64, 500), nth as i64 + 1))
        })
        .collect()
}

#[test]
fn pages_and_contents_may_come_in_any_order() {
    for seed in 0..6 {
        let mut rig = Rig::new();
        rig.sender.page_entries = 7;
        let mut random = Random(seed);
        let generation = rig.sender.generation(random_tree(seed, 60), &[], true);
        let mut parts: Vec<Vec<Payload>> = generation.pages.clone();
        parts.extend(generation.blocks.clone());
        parts.push(vec![generation.end()]);
        for at in (1..parts.len()).rev() {
            parts.swap(at, random.below(at + 1));
        }
        for (nth, part) in parts.iter().enumerate() {
            rig.send(part);
            if nth == parts.len() / 2 {
                // What waits for pages goes to the disk, and a kill does not cost it.
                rig.settle();
                rig.pass(Duration::from_secs(2));
                std::thread::sleep(Duration::from_millis(1300));
                rig.settle();
                rig.restart_killed();
            }
        }
        rig.settle();
        rig.check(&format!("seed {seed}"));
    }
}

#[test]
fn a_delta_waits_for_what_it_builds_on_and_a_full_manifest_heals_the_gap() {
    let mut rig = Rig::new();
    let mut tree = names(20, 1);
    rig.send_generation(&tree, &[], true);
    // The second is lost as a whole, the third builds on it.
    tree.insert(path("f001"), file(b"second", 100));
    drop(rig.sender.generation(tree.clone(), &[], false));
    tree.remove(&path("f002"));
    tree.insert(path("new"), file(b"third", 101));
    let third = rig.sender.generation(tree.clone(), &[], false);
    rig.send(&third.all());
    rig.settle();
    let status = rig.receiver.as_ref().unwrap().status().read();
    assert_eq!((status.tree.generation, status.tree.whole), (1, 1));
    assert!(!rig.tree_path().join("new").exists());
    // The fourth is full, and comes before the gap is filled: patience first.
    let fourth = rig.sender.generation(tree.clone(), &[], true);
    rig.send(&fourth.pages.concat());
    rig.send(&[fourth.end()]);
    rig.settle();
    rig.pass(Duration::from_secs(3));
    rig.settle();
    assert_eq!(rig.receiver.as_ref().unwrap().status().read().tree.generation, 1);
    rig.pass(Duration::from_secs(4));
    rig.settle();
    assert_eq!(rig.receiver.as_ref().unwrap().status().read().tree.whole, 4);
    // What the third had brought is there; what the second had is wanted, and nothing is removed before it comes.
    assert_eq!(std::fs::read(rig.tree_path().join("new")).unwrap(), b"third");
    assert!(rig.tree_path().join("f002").exists());
    assert_eq!(rig.receiver.as_ref().unwrap().requests().missing(9).unwrap(), [path("f001")]);
    let again = rig.sender.place_of("f001");
    let block = rig.sender.block(again, 0, crate::frame::Class::Repeat);
    rig.send(&block);
    rig.settle();
    rig.check("healed");
}

#[test]
fn a_full_manifest_brings_back_what_somebody_changed_here() {
    let mut rig = Rig::new();
    let tree = names(10, 5);
    rig.send_generation(&tree, &[], true);
    std::fs::remove_file(rig.tree_path().join("f003")).unwrap();
    std::fs::write(rig.tree_path().join("f004"), b"changed").unwrap();
    std::fs::write(rig.tree_path().join("stranger"), b"not ours").unwrap();
    let full = rig.sender.generation(tree.clone(), &[], true);
    rig.send(&full.all());
    rig.settle();
    let missing = rig.receiver.as_ref().unwrap().requests().missing(9).unwrap();
    assert_eq!(missing, [path("f003"), path("f004")]);
    let object = rig.sender.place_of("f003");
    let block = rig.sender.block(object, 0, crate::frame::Class::Repeat);
    rig.send(&block);
    rig.settle();
    // What was never sent stays, and is counted.
    use crate::event::{DiodeEvent, Tally};
    let tally = Tally { same: 10, different: 0, extra: 1, missing: 0 };
    rig.wait_for(|event| matches!(event, DiodeEvent::Generation { number: 2, tally: told, .. } if *told == tally));
    std::fs::remove_file(rig.tree_path().join("stranger")).unwrap();
    rig.check("brought back");
}

#[test]
fn another_sender_takes_over_the_tree() {
    let mut rig = Rig::with(|options| options.brake = 1.0);
    let mut tree = names(10, 5);
    tree.insert(path("large"), file(&noise(77, BLOCK + 5), 40));
    rig.send_generation(&tree, &[], true);
    rig.send_generation(&tree, &[], true);
    rig.receiver.take().unwrap().close().unwrap();
    rig.sender = TestSender::new();
    rig.options.senders = vec![rig.sender.line.clone()];
    rig.start();
    tree.remove(&path("f000"));
    tree.insert(path("other"), file(b"other", 50));
    let generation = rig.sender.generation(tree, &[], true);
    // What is there already need not come again.
    rig.send(&generation.pages.concat());
    let other = rig.sender.place_of("other");
    let block = rig.sender.block(other, 0, crate::frame::Class::New);
    rig.send(&block);
    rig.send(&[generation.end()]);
    rig.settle();
    rig.check("taken over");
}

/// A sender whose numbers went back is not taken, and not in silence.
#[test]
fn generations_that_are_older_than_what_is_here_are_counted_as_refused() {
    let mut rig = Rig::new();
    let tree = |text: &str| model(&[("file", file(text.as_bytes(), 1))]);
    rig.send_generation(&tree("one"), &[], true);
    for text in ["two", "three"] {
        rig.send_generation(&tree(text), &[], false);
    }
    let refused = |rig: &Rig| {
        let status = rig.receiver.as_ref().unwrap().status().read();
        status.link.refused[crate::event::Refusal::OldGeneration as usize]
    };
    assert_eq!(refused(&rig), 0);
    rig.sender.generation = 1;
    rig.send_generation(&tree("another two"), &[], false);
    assert!(refused(&rig) > 0 && rig.found() == plain(&tree("three")));
    rig.pass(Duration::from_secs(11));
    rig.wait_for(|event| {
        let why = crate::event::Refusal::OldGeneration;
        matches!(event, crate::event::DiodeEvent::Refused { why: told, .. } if *told == why)
    });
}
