//! Files with several names, from one end to the other.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::block::BLOCK;

/// Which names are one file, of those with content.
fn groups(root: &Path) -> BTreeSet<BTreeSet<String>> {
    let mut groups: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (path, line) in portrait(root) {
        let meta = root.join(&path).symlink_metadata().unwrap();
        if line.starts_with("file") && meta.len() > 0 {
            groups.entry(meta.ino()).or_default().insert(path);
        }
    }
    groups.into_values().filter(|names| names.len() > 1).collect()
}

#[track_caller]
fn check(world: &World) {
    world.check();
    assert_eq!(groups(&world.copy()), groups(&world.tree()));
}

fn world(files: &[(&str, Vec<u8>)], links: &[(&str, &str)]) -> World {
    let world = World::new();
    for folder in ["", "a", "b"] {
        std::fs::create_dir_all(world.tree().join(folder)).unwrap();
    }
    for (path, bytes) in files {
        std::fs::write(world.tree().join(path), bytes).unwrap();
    }
    for (file, path) in links {
        std::fs::hard_link(world.tree().join(file), world.tree().join(path)).unwrap();
    }
    world
}

/// Bytes that a pass sends of files for the first time and again.
fn sent(world: &World) -> u64 {
    let (out, taken) = sync_channel(100_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    let mut receiver = world.receiver();
    let sender = world.sender(|_| {});
    let control = sender.control();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || sender.run(wire, &AtomicBool::new(false)).unwrap());
        take(&mut receiver, &taken);
        sending.join().unwrap();
    });
    receiver.flush().unwrap();
    receiver.close().unwrap();
    control.status().first_bytes
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn names_of_a_file_are_names_of_one_and_its_content_goes_out_once() {
    let mut random = Random(1);
    let (small, large) = (noise(&mut random, 9000), noise(&mut random, 3 * BLOCK + 77));
    let links =
        [("a/small", "b/small"), ("a/small", "0"), ("b/large", "a/large"), ("b/large", "z")];
    let world = world(&[("a/small", small), ("b/large", large), ("empty", Vec::new())], &links);
    assert!(sent(&world) < 4 * BLOCK as u64);
    check(&world);
    assert_eq!(groups(&world.copy()).len(), 2);
    // Attributes, content and the name that came first, one after another.
    std::fs::set_permissions(world.tree().join("z"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    assert!(sent(&world) < 100_000);
    check(&world);
    append(&world.tree().join("z"), b"more");
    append(&world.tree().join("0"), b"more");
    sent(&world);
    check(&world);
    for first in ["0", "a/large"] {
        std::fs::remove_file(world.tree().join(first)).unwrap();
    }
    assert!(sent(&world) < 100_000);
    check(&world);
    // A name more of a file that had one, before and behind it.
    std::fs::write(world.tree().join("m"), noise(&mut random, 2 * BLOCK)).unwrap();
    sent(&world);
    for name in ["a/m", "zz"] {
        std::fs::hard_link(world.tree().join("m"), world.tree().join(name)).unwrap();
    }
    assert!(sent(&world) < 100_000);
    check(&world);
}

/// A receiver that has nothing but a full manifest makes the same of it.
#[test]
fn a_full_manifest_tells_which_names_are_one_file() {
    let mut random = Random(2);
    let links = [("a/f", "b/f"), ("a/f", "c"), ("g", "a/g")];
    let world = world(&[("a/f", noise(&mut random, 5000)), ("g", noise(&mut random, 400))], &links);
    world.send(Link::default());
    std::fs::remove_file(world.tree().join("a/f")).unwrap();
    std::fs::rename(world.tree().join("a"), world.tree().join("moved")).unwrap();
    world.send(Link { cut: Some((0, usize::MAX)), ..Link::default() });
    world.send_asking(Link::default(), |control| control.ask(Request::Full));
    world.wait_in_vain();
    // What has moved is not where it was told to be.
    let list = world.want_list();
    world.send_asking(Link::default(), |control| control.ask(Request::Resend(list)));
    check(&world);
}

#[test]
fn the_name_that_was_told_first_is_left_out_later() {
    let mut random = Random(3);
    let world = world(&[("a/f", noise(&mut random, 5000))], &[("a/f", "b/f"), ("a/f", "b/g")]);
    world.send(Link::default());
    let mut receiver = world.receiver();
    let rule = tree::Rule::exclude("/a/f");
    let sender = world.sender(|options| {
        options.walk.filter = tree::Filter::new(vec![rule]).unwrap();
    });
    let (out, taken) = sync_channel(100_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    std::thread::scope(|scope| {
        scope.spawn(move || sender.run(wire, &AtomicBool::new(false)).unwrap());
        take(&mut receiver, &taken);
    });
    receiver.flush().unwrap();
    receiver.close().unwrap();
    assert!(!world.copy().join("a/f").exists());
    let names = BTreeSet::from(["b/f".to_owned(), "b/g".to_owned()]);
    assert_eq!(groups(&world.copy()), BTreeSet::from([names]));
}

/// Every change that users make to names and to what they name.
fn stir(world: &World, random: &mut Random) {
    let root = world.tree();
    let files: Vec<String> = portrait(&root)
        .into_iter()
        .filter(|(_, line)| line.starts_with("file"))
        .map(|(path, _)| path)
        .collect();
    let folders = ["", "a/", "b/", "c/"];
    let name = |random: &mut Random| format!("{}n{}", folders[random.below(4)], random.below(30));
    let to = root.join(name(random));
    let exists = to.symlink_metadata().is_ok();
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    if files.is_empty() {
        std::fs::write(to, noise(random, 3000)).unwrap();
        return;
    }
    let at = root.join(&files[random.below(files.len())]);
    match random.below(12) {
        0 if !exists => {
            let length = [10, 4000, BLOCK + 500][random.below(3)];
            std::fs::write(to, noise(random, length)).unwrap();
        }
        1..=4 if !exists => std::fs::hard_link(at, to).unwrap(),
        // Two files become one.
        5 if to != at => {
            let _ = std::fs::remove_file(&to);
            std::fs::hard_link(at, to).unwrap();
        }
        // One becomes two, with the same content and time.
        6 => {
            let (meta, bytes) = (at.metadata().unwrap(), std::fs::read(&at).unwrap());
            let beside = root.join("beside");
            std::fs::write(&beside, bytes).unwrap();
            let file = std::fs::File::options().write(true).open(&beside).unwrap();
            file.set_modified(meta.modified().unwrap()).unwrap();
            std::fs::set_permissions(&beside, meta.permissions()).unwrap();
            std::fs::rename(beside, at).unwrap();
        }
        7 => append(&at, &noise(random, 50)),
        8 => {
            let mode = [0o600, 0o644, 0o640][random.below(3)];
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        9 => std::fs::remove_file(at).unwrap(),
        10 => std::fs::rename(at, to).unwrap(),
        _ => {
            let (from, to) = (root.join("c"), root.join(format!("c{}", random.below(1 << 30))));
            let _ = std::fs::rename(from, to);
        }
    }
}

#[test]
fn whatever_becomes_of_names_arrives() {
    for seed in 0..8 {
        let (mut world, mut random) = (world(&[], &[]), Random(seed));
        world.rate = 100_000_000;
        for round in 0..9 {
            for _ in 0..if round == 0 { 40 } else { 1 + random.below(14) } {
                stir(&world, &mut random);
            }
            println!("seed {seed}, round {round}");
            if round % 4 == 3 {
                world.send_asking(Link::default(), |control| control.ask(Request::Full));
            } else {
                world.send(Link::default());
            }
            check(&world);
        }
    }
}

/// Content is lost on the way, so links wait, and names change meanwhile.
#[test]
fn links_that_wait_are_right_when_their_file_has_come() {
    for seed in 0..6 {
        let (mut world, mut random) = (world(&[], &[]), Random(100 + seed));
        (world.rate, world.times) = (100_000_000, 2);
        for round in 0..6 {
            for _ in 0..if round == 0 { 40 } else { 1 + random.below(14) } {
                stir(&world, &mut random);
            }
            println!("seed {seed}, round {round}");
            world.send(Link { seed, lost: 22_000, ..Link::default() });
        }
        let mut rounds = 0;
        loop {
            let list = world.want_list();
            if list.pages.is_empty() && list.blocks.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds <= 8, "the lists do not end: {list:?}");
            world.send_asking(Link::default(), |control| control.ask(Request::Resend(list)));
        }
        check(&world);
    }
}

/// A watch sees a change through one name only; the other names are found by what is known of them, or by the next look
/// at the whole tree.
#[test]
fn a_change_through_one_name_that_a_watch_sees_arrives_at_all() {
    let mut random = Random(5);
    let large = noise(&mut random, 2 * BLOCK + 5);
    let world = world(&[("a/f", noise(&mut random, 5000)), ("a/g", large)], &[("a/f", "b/f")]);
    let mut receiver = world.receiver();
    let sender = world.sender(|options| {
        options.once = false;
        options.every = Duration::from_secs(2);
    });
    let (out, taken) = sync_channel(20_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    let stop = AtomicBool::new(false);
    let mut arrives = |what: &str| {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let mut next = taken.recv_timeout(10 * MS).ok();
            while let Some(mut frame) = next {
                receiver.datagrams([&mut frame[..]], Instant::now());
                next = taken.try_recv().ok();
            }
            receiver.tick(Instant::now(), SystemTime::now());
            receiver.flush().unwrap();
            let is_same = portrait(&world.copy()) == portrait(&world.tree())
                && groups(&world.copy()) == groups(&world.tree());
            if is_same {
                return;
            }
            assert!(Instant::now() < until, "{what}: {:?}", groups(&world.copy()));
        }
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| sender.run(wire, &stop).unwrap());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            arrives("the tree");
            append(&world.tree().join("b/f"), b"through the other name");
            arrives("a change of both");
            let mode = std::fs::Permissions::from_mode(0o604);
            std::fs::set_permissions(world.tree().join("b/f"), mode).unwrap();
            arrives("a mode of both");
            for (file, name) in [("a/f", "0"), ("a/g", "b/g")] {
                std::fs::hard_link(world.tree().join(file), world.tree().join(name)).unwrap();
                arrives("another name");
            }
            std::fs::remove_file(world.tree().join("a/f")).unwrap();
            std::fs::remove_file(world.tree().join("a/g")).unwrap();
            arrives("the first names gone");
            append(&world.tree().join("b/g"), b"more");
            arrives("a change of the last name");
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        while !running.is_finished() {
            let _ = taken.recv_timeout(10 * MS);
        }
        result.unwrap();
    });
    receiver.close().unwrap();
}
