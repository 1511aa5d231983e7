//! A sender whose memory was set back, while the receiver went on.

use super::*;

/// Copies the sender's folders of these names to others, or back.
fn copy(world: &World, from: &str, to: &str, names: &[&str]) {
    for name in names {
        let place = |kind: &str| world.scratch.path().join(format!("{kind}{name}"));
        let _ = std::fs::remove_dir_all(place(to));
        std::fs::create_dir(place(to)).unwrap();
        for entry in std::fs::read_dir(place(from)).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_file() {
                std::fs::copy(entry.path(), place(to).join(entry.file_name())).unwrap();
            }
        }
    }
}

fn has_event(world: &World, is_it: impl Fn(&DiodeEvent) -> bool) -> bool {
    world.events.lock().unwrap().iter().any(is_it)
}

/// Carries lists back until nothing is lacking.
fn heal(world: &World) -> ReceiveStatus {
    let mut status = world.wait_in_vain();
    for _ in 0..4 {
        let list = world.want_list();
        assert!(list.pages.len() <= 65, "{list:?}");
        if list.pages.is_empty() && list.blocks.is_empty() {
            return status;
        }
        world.send_asking(Link::default(), |control| control.ask(Request::Resend(list)));
        status = world.wait_in_vain();
    }
    panic!("the lists do not end: {status:#?}");
}

fn is_set_back(event: &DiodeEvent) -> bool {
    matches!(event, DiodeEvent::SenderSetBack { .. })
}

/// A tree that went on after the sender's memory was kept somewhere: files came, went, moved and changed.
fn gone_on(names: &[&str]) -> (World, Random) {
    let (world, mut random) = (World::new(), Random(9));
    grow(&world, &mut random, 60);
    world.send(Link::default());
    copy(&world, "", "kept ", names);
    for _ in 0..2 {
        shake(&world, &mut random);
        std::fs::write(world.tree().join("came later"), noise(&mut random, 5000)).unwrap();
        world.send(Link::default());
        world.check();
    }
    copy(&world, "kept ", "", names);
    // What the memory never knew is gone now, so no scan finds that.
    std::fs::remove_file(world.tree().join("came later")).unwrap();
    shake(&world, &mut random);
    (world, random)
}

#[test]
fn a_ledger_that_was_restored_is_found_out_and_the_whole_tree_is_told() {
    let (world, mut random) = gone_on(&["sent"]);
    let status = world.send(Link::default());
    assert!(has_event(&world, is_set_back) && status.tree.set_back.is_none(), "{status:#?}");
    heal(&world);
    world.check();
    assert!(!world.copy().join("came later").exists());
    // From then on it is as ever.
    for _ in 0..2 {
        shake(&world, &mut random);
        world.events.lock().unwrap().clear();
        world.send(Link::default());
        world.check();
        assert!(!has_event(&world, is_set_back));
    }
}

#[test]
fn a_setback_is_remembered_by_whoever_runs_next() {
    let (world, _) = gone_on(&["sent"]);
    // It ends before it has told anything.
    drop(world.sender(|_| {}));
    let status = world.send(Link::default());
    assert!(status.tree.set_back.is_none(), "{status:#?}");
    heal(&world);
    world.check();
    assert!(!world.copy().join("came later").exists());
}

#[test]
fn a_whole_home_that_was_restored_is_told_of_and_a_want_list_heals_it() {
    let (world, _) = gone_on(&["sent", "epochs"]);
    let status = world.send(Link::default());
    assert!(has_event(&world, is_set_back) && status.tree.set_back.is_some(), "{status:#?}");
    let status = heal(&world);
    assert!(status.tree.set_back.is_none(), "{status:#?}");
    world.check();
}

#[test]
fn the_next_full_manifest_heals_a_home_that_was_restored() {
    let (world, _) = gone_on(&["sent", "epochs"]);
    world.send(Link::default());
    let status = world.send_asking(Link::default(), |control| control.ask(Request::Full));
    assert!(has_event(&world, is_set_back) && status.tree.set_back.is_none(), "{status:#?}");
    heal(&world);
    world.check();
}

#[test]
fn a_sender_that_has_lost_all_its_memory_begins_anew_above_what_it_sent() {
    let (world, mut random) = (World::new(), Random(4));
    grow(&world, &mut random, 60);
    world.send(Link::default());
    shake(&world, &mut random);
    let before = world.send(Link::default()).tree.generation;
    std::fs::remove_dir_all(world.scratch.path().join("sent")).unwrap();
    shake(&world, &mut random);
    world.send(Link::default());
    let status = world.wait_in_vain();
    assert!(status.tree.generation > before && status.tree.wanted == 0, "{status:#?}");
    world.check();
    let count = |name: &str| std::fs::read(world.scratch.path().join(name)).unwrap();
    assert!(count("epochs/run").starts_with(b"haul-diode-run-1 "));
}

/// Numbers are not one behind the other, and what was lost between two runs is found all the same.
#[test]
fn generations_of_several_runs_that_were_lost_are_asked_for() {
    let (world, mut random) = (World::new(), Random(5));
    grow(&world, &mut random, 30);
    world.send(Link::default());
    for _ in 0..3 {
        shake(&world, &mut random);
        world.send(Link { cut: Some((0, usize::MAX)), ..Link::default() });
    }
    world.send(Link::default());
    heal(&world);
    world.check();
    assert!(!has_event(&world, is_set_back));
}
