//! What is removed, kept, restored, left, and held back.

use std::time::Duration;

use super::rig::*;
use crate::event::DiodeEvent;
use crate::receive::{Deletes, ReceiveError};

fn tree(count: usize) -> Model {
    let mut tree = model(&[("d", folder(1)), ("d/sub", folder(2))]);
    for nth in 0..count {
        tree.insert(path(&format!("d/sub/f{nth:03}")), file(&noise(nth as u64, 100), 3));
    }
    tree
}

#[test]
fn what_is_removed_is_kept_for_a_while_and_can_be_restored() {
    let mut rig = Rig::new();
    let mut model = tree(5);
    rig.send_generation(&model, &[], true);
    model.retain(|at, _| !at.starts_with(&path("d/sub")));
    rig.send_generation(&model, &[], false);
    rig.check("removed");
    assert!(rig.has_event(|event| *event == DiodeEvent::Quarantined { path: path("d/sub") }));
    let requests = rig.receiver.as_ref().unwrap().requests();
    let kept = requests.quarantined(10).unwrap();
    assert_eq!(kept.iter().map(|kept| &kept.path).collect::<Vec<_>>(), [&path("d/sub")]);
    assert_eq!(kept[0].generation, 2);
    // One file of it, then the rest.
    requests.restore(&path("d/sub/f003")).unwrap();
    assert_eq!(std::fs::read(rig.tree_path().join("d/sub/f003")).unwrap(), noise(3, 100));
    let taken = requests.restore(&path("d/sub")).unwrap_err();
    assert!(matches!(taken, ReceiveError::NotRestored(_)), "{taken}");
    assert!(requests.restore(&path("e")).is_err());
    std::fs::remove_dir_all(rig.tree_path().join("d/sub")).unwrap();
    requests.restore(&path("d/sub")).unwrap();
    assert_eq!(std::fs::read_dir(rig.tree_path().join("d/sub")).unwrap().count(), 4);
    assert!(requests.quarantined(10).unwrap().is_empty());
}

/// What is to go waits for its generation, and meanwhile the folder that it is in may move.
#[test]
fn what_is_to_go_goes_from_where_its_folder_has_moved() {
    let mut rig = Rig::with(|options| options.deletes = Deletes::Now);
    let mut tree = tree(5);
    rig.send_generation(&tree, &[], true);
    tree.remove(&path("d/sub/f001"));
    tree.insert(path("late"), file(&noise(9, 5000), 4));
    let second = rig.sender.generation(tree.clone(), &[], false);
    let mut tree = moved(tree, &path("d"), &path("e"));
    tree.insert(path("later"), file(&noise(10, 5000), 4));
    let third = rig.sender.generation(tree, &[("d", "e")], false);
    for generation in [&second, &third] {
        rig.send(&generation.pages.concat());
        rig.send(&[generation.end()]);
        rig.settle();
    }
    assert!(rig.tree_path().join("e/sub/f001").exists(), "what comes instead is not there yet");
    rig.restart();
    rig.send(&[second.blocks.concat(), third.blocks.concat()].concat());
    rig.settle();
    rig.check("all has come");
}

#[test]
fn what_was_kept_for_long_enough_goes() {
    let mut rig = Rig::new();
    let mut model = tree(2);
    rig.send_generation(&model, &[], true);
    model.remove(&path("d/sub/f001"));
    rig.send_generation(&model, &[], false);
    let kept = |rig: &Rig| rig.receiver.as_ref().unwrap().requests().quarantined(9).unwrap().len();
    assert_eq!(kept(&rig), 1);
    rig.wall += Duration::from_secs(6 * 24 * 3600);
    rig.settle();
    rig.restart();
    rig.settle();
    assert_eq!(kept(&rig), 1);
    rig.wall += Duration::from_secs(24 * 3600);
    rig.settle();
    assert_eq!(kept(&rig), 0);
    let quarantine = rig.tree_path().join(".haul/quarantine");
    assert_eq!(std::fs::read_dir(quarantine).unwrap().count(), 0);
}

#[test]
fn removals_follow_what_is_asked_for() {
    for (deletes, is_there) in [(Deletes::Now, false), (Deletes::Never, true)] {
        let mut rig = Rig::with(|options| options.deletes = deletes);
        let mut model = tree(3);
        rig.send_generation(&model, &[], true);
        model.remove(&path("d/sub/f001"));
        rig.send_generation(&model, &[], false);
        assert_eq!(rig.tree_path().join("d/sub/f001").exists(), is_there);
        let extra = u64::from(is_there);
        rig.wait_for(|event| matches!(event, DiodeEvent::Generation { number: 2, tally, .. } if tally.extra == extra));
        let kept = rig.receiver.as_ref().unwrap().requests().quarantined(9).unwrap();
        assert!(kept.is_empty());
    }
}

#[test]
fn nothing_is_removed_before_what_comes_with_it() {
    let mut rig = Rig::new();
    let mut model = tree(3);
    rig.send_generation(&model, &[], true);
    model.remove(&path("d/sub/f001"));
    model.insert(path("d/new"), file(&noise(9, 4000), 9));
    let generation = rig.sender.generation(model.clone(), &[], false);
    rig.send(&generation.pages.concat());
    rig.send(&[generation.end()]);
    rig.settle();
    assert!(rig.tree_path().join("d/sub/f001").exists());
    // It is named again before it was removed.
    let mut later = model.clone();
    later.insert(path("d/sub/f001"), file(&noise(1, 100), 3));
    let third = rig.sender.generation(later, &[], false);
    rig.send(&third.all());
    rig.send(&generation.blocks.concat());
    rig.settle();
    rig.check("named again");
}

#[test]
fn what_is_to_be_removed_goes_along_with_its_folder() {
    let mut rig = Rig::new();
    let mut model = tree(3);
    rig.send_generation(&model, &[], true);
    model.remove(&path("d/sub/f001"));
    model.insert(path("d/new"), file(&noise(9, 4000), 9));
    let second = rig.sender.generation(model.clone(), &[], false);
    rig.send(&second.pages.concat());
    rig.send(&[second.end()]);
    rig.settle();
    // Not everything of the generation is there yet when the folder moves.
    let model = moved(model, &path("d/sub"), &path("d/moved"));
    let third = rig.sender.generation(model, &[("d/sub", "d/moved")], false);
    rig.send(&third.all());
    rig.settle();
    // A later generation is complete, and with it goes what the one before removes.
    assert!(!rig.tree_path().join("d/moved/f001").exists());
    assert!(
        rig.has_event(|event| *event == DiodeEvent::Quarantined { path: path("d/moved/f001") })
    );
    rig.send(&second.blocks.concat());
    rig.settle();
    rig.check("moved and removed");
}

#[test]
fn the_brake_holds_back_what_would_remove_too_much() {
    for is_full in [false, true] {
        let mut rig = Rig::with(|options| options.brake_least = 20);
        let mut model = tree(100);
        rig.send_generation(&model, &[], true);
        model.retain(|at, _| !at.to_string().contains("f0"));
        assert_eq!(model.len(), 2, "all names begin so");
        model.insert(path("new"), file(b"new", 5));
        rig.send_generation(&model, &[], is_full);
        let pulled = DiodeEvent::BrakePulled { generation: 2, removes: 100, of: 103 };
        assert!(rig.has_event(|event| *event == pulled));
        assert!(rig.tree_path().join("new").exists());
        assert_eq!(std::fs::read_dir(rig.tree_path().join("d/sub")).unwrap().count(), 100);
        // Later generations go on; what is named again stays.
        model.insert(path("d/sub/f050"), file(&noise(50, 100), 3));
        rig.send_generation(&model, &[], false);
        rig.restart();
        assert_eq!(rig.receiver.as_ref().unwrap().status().read().tree.held_back, [2]);
        assert_eq!(std::fs::read_dir(rig.tree_path().join("d/sub")).unwrap().count(), 100);
        assert_eq!(rig.receiver.as_ref().unwrap().requests().release().unwrap(), [2]);
        rig.check("released");
    }
}

/// A removal that takes two generations: what is left of a folder is little, and the folder goes with what is held back.
#[test]
fn a_folder_does_not_take_along_what_the_brake_holds_back() {
    let mut rig = Rig::with(|options| options.brake_least = 20);
    let mut tree = tree(100);
    rig.send_generation(&tree, &[], true);
    tree.retain(|at, _| !at.to_string().contains("f0") || at.to_string().ends_with('9'));
    rig.send_generation(&tree, &[], false);
    tree.retain(|at, _| !at.starts_with(&path("d/sub")));
    rig.send_generation(&tree, &[], false);
    rig.restart();
    assert_eq!(rig.receiver.as_ref().unwrap().status().read().tree.held_back, [2]);
    assert_eq!(std::fs::read_dir(rig.tree_path().join("d/sub")).unwrap().count(), 90);
    assert_eq!(rig.receiver.as_ref().unwrap().requests().release().unwrap(), [2]);
    rig.check("released");
}

/// A file that never came, and a name that waits for it, go with their folder.
#[test]
fn nothing_is_waited_for_that_was_removed_with_its_folder() {
    let mut rig = Rig::new();
    let mut tree = model(&[("stays", file(b"stays", 1))]);
    rig.send_generation(&tree, &[], true);
    tree.insert(path("d"), folder(1));
    tree.insert(path("d/f"), file(&noise(1, 5000), 2));
    tree.insert(path("d/g"), Node::HardLink { file: path("d/f") });
    let second = rig.sender.generation(tree.clone(), &[], false);
    rig.send(&second.pages.concat());
    rig.send(&[second.end()]);
    rig.settle();
    assert_eq!(rig.receiver.as_ref().unwrap().status().read().tree.wanted, 1);
    tree.retain(|at, _| !at.starts_with(&path("d")));
    rig.send_generation(&tree, &[], false);
    rig.check("removed");
    let status = rig.receiver.as_ref().unwrap().status().read();
    assert_eq!((status.tree.wanted, status.tree.complete), (0, 3));
}
