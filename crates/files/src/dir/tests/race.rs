//! The parent, or the last name, turns into a link outside and back while each operation runs. The
//! swaps are atomic exchanges, ten thousand of them, so every window there is gets hit; what lies
//! outside must stay as it was, and none of it may be read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::fs::RenameFlags;

use super::*;
use crate::staging::{PartialKey, PublishOptions, Staging};

const SWAPS: u64 = 10_000;
const OPERATIONS: u64 = 3_000;

/// `root/work` is a real directory and `root/work-link` leads outside, `root/leaf` and
/// `root/leaf-link` likewise as files, `root/tree/sub` and `root/tree/sub-link` for removals.
fn plant(base: &Path) {
    let (outside, root) = (base.join("outside"), base.join("root"));
    for place in [&outside, &root.join("work"), &root.join("tree/sub")] {
        fs::create_dir_all(place.join("sub")).unwrap();
        let content: &[u8] = if *place == outside { b"canary" } else { b"inside" };
        fs::write(place.join("file"), content).unwrap();
        fs::write(place.join("sub/file"), content).unwrap();
    }
    fs::write(root.join("leaf"), b"inside").unwrap();
    symlink("../outside", root.join("work-link")).unwrap();
    symlink("../outside/file", root.join("leaf-link")).unwrap();
    symlink("../../outside", root.join("tree/sub-link")).unwrap();
}

/// Exchanges the pairs of names until the operations are through, at least [`SWAPS`] times each.
fn flip(root: &Dir, is_over: &AtomicBool, swaps: &AtomicU64) {
    let pairs = [("work", "work-link"), ("leaf", "leaf-link"), ("tree/sub", "tree/sub-link")];
    while !is_over.load(Ordering::Relaxed) || swaps.load(Ordering::Relaxed) < SWAPS {
        for (one, two) in pairs {
            let swapped = rustix::fs::renameat_with(root, one, root, two, RenameFlags::EXCHANGE);
            // The tree is away now and then; the others are always there.
            assert!(swapped.is_ok() || one == "tree/sub", "{one}: {swapped:?}");
        }
        swaps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stops the flipper also when an assertion fails, which otherwise would leave the test waiting for it.
struct Stop<'a>(&'a AtomicBool, &'a AtomicU64);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.1.fetch_max(SWAPS, Ordering::Relaxed);
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs operations against the flipper, then compares what lies outside. Gives the number of
/// operations that succeeded and that failed, and whether the outside is as it was.
fn race(resolution: Resolution, operate: impl Fn(&Dir, &mut Random) -> bool) -> (u64, u64, bool) {
    // Memory is faster where there is some, and speed makes for more windows hit.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { Scratch::beneath(memory) } else { Scratch::new() };
    plant(scratch.path());
    let outside = scratch.path().join("outside");
    let before = portrait(&outside);
    let root = scratch.sub("root", resolution);
    let (is_over, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut succeeded, mut done) = (0, 0);
    thread::scope(|scope| {
        let flipper = scope.spawn(|| flip(&root, &is_over, &swaps));
        let _stop = Stop(&is_over, &swaps);
        let mut random = Random(23);
        let is_enough = |done| done >= OPERATIONS && swaps.load(Ordering::Relaxed) >= SWAPS;
        while !is_enough(done) && !flipper.is_finished() {
            succeeded += u64::from(operate(&root, &mut random));
            done += 1;
        }
    });
    (succeeded, done - succeeded, portrait(&outside) == before)
}

/// `least_failures` because only a mixture shows that the operations met the link and the real thing;
/// removals, to which both are welcome, seldom fail.
fn check(least_failures: u64, operate: impl Fn(&Dir, &mut Random) -> Result<()>) {
    for resolution in BOTH {
        let (succeeded, failed, is_unharmed) =
            race(resolution, |root, random| operate(root, random).is_ok());
        assert!(is_unharmed, "{resolution:?}: the outside was changed");
        assert!(
            succeeded > 99 && failed >= least_failures,
            "{resolution:?}: {succeeded} succeeded, {failed} failed"
        );
    }
}

fn assert_inside(bytes: &[u8]) {
    assert_ne!(bytes, b"canary", "read from outside");
}

#[test]
fn reads_stay_inside() {
    check(100, |root, random| {
        let follow = if random.below(2) == 0 { Follow::Never } else { Follow::Beneath };
        let target = ["work/file", "work/sub/file", "leaf"][random.below(3) as usize];
        match random.below(4) {
            0 => assert_inside(&root.open_file(&path(target), follow)?.read_whole(99)?),
            1 => assert_inside(&root.read_small(&path(target), 99)?),
            2 => {
                let work = root.open_dir(&path("work"), follow)?;
                assert_inside(&work.read_small(&path("file"), 99)?);
                assert!(work.entries()?.count() >= 2);
            }
            _ => drop(root.attributes_of(&path("work/file"))?),
        }
        Ok(())
    });
}

#[test]
fn changes_below_a_swapped_parent_stay_inside() {
    check(100, |root, random| {
        let follow = if random.below(2) == 0 { Follow::Never } else { Follow::Beneath };
        let work = match random.below(3) {
            0 => root.make_dir_all(&path("work/sub"), 0o755)?,
            1 => DirCache::new(root.clone(), follow, 4).get(&path("work/sub"))?,
            _ => root.open_dir(&path("work"), follow)?,
        };
        let (file, new) = (name("file"), name("new"));
        match random.below(10) {
            0 => work.set_mode(&file, 0o600 + random.below(8) as u32),
            1 => work.set_times(&file, Timestamp { seconds: random.below(99) as i64, nanos: 0 }),
            2 => work.set_xattr(&file, b"user.x", b"1"),
            3 => work.write_private(&new, b"new"),
            4 => work.append_line(&name("lines"), b"line"),
            5 => work.make_symlink(b"x", &new).and_then(|()| work.unlink(&new)),
            6 => work.make_dir(&new, 0o755).and_then(|()| work.remove_dir(&new)),
            7 => work.hard_link(&new, (&work, &file)).and_then(|()| work.unlink(&new)),
            8 => {
                work.rename(&file, (&work, &new), Replace::Yes)?;
                work.rename(&new, (&work, &file), Replace::Yes)
            }
            _ => work.set_own_mode(0o755),
        }
    });
}

#[test]
fn changes_to_a_swapped_name_stay_inside() {
    check(100, |root, random| {
        let leaf = name("leaf");
        match random.below(7) {
            0 => root.set_mode(&leaf, 0o600 + random.below(8) as u32),
            1 => root.set_times(&leaf, Timestamp { seconds: random.below(99) as i64, nanos: 0 }),
            2 => root.set_xattr(&leaf, b"user.x", b"1"),
            3 => root.append_line(&leaf, b"line"),
            4 => root.set_owner(&leaf, 0, 0),
            5 => root.xattr_names(&leaf).map(drop),
            _ => {
                let file = root.open_file(&path("leaf"), Follow::Never)?;
                file.set_times(Timestamp { seconds: 5, nanos: 5 })
            }
        }
    });
}

#[test]
fn publishing_stays_inside() {
    check(100, |root, random| {
        let staging = Staging::open(root)?;
        let work = root.open_dir(&path("work"), Follow::Never)?;
        let target = name(["file", "new"][random.below(2) as usize]);
        let options = PublishOptions { mode: Some(0o644), ..PublishOptions::default() };
        if random.below(2) == 0 {
            return staging.small(b"data", &work, &target, &options).map(drop);
        }
        let key = PartialKey { peer: [1; 32], path: path("work/new") };
        let partial = staging.partial(&key, 4, Timestamp::default())?;
        partial.write_chunk(0, b"data", &crate::hash_chunk(4, 0, b"data"), false)?;
        partial.publish(&work, &target, &options).map(drop)
    });
}

#[test]
fn removals_stay_inside() {
    check(0, |root, random| {
        let target = name("tree");
        let removed = root.remove_tree(&target);
        let tree = root.make_dir_all(&path("tree"), 0o755)?;
        tree.make_dir_all(&path("sub/sub"), 0o755)?;
        tree.write_private(&name("x"), b"x")?;
        let _ = tree.make_symlink(b"../../outside", &name("sub-link"));
        let sub = tree.open_dir(&path("sub"), Follow::Never)?;
        (0..random.below(4)).try_for_each(|_| sub.append_line(&name("file"), b"x"))?;
        removed
    });
}

/// The proof that the race is one: code that trusts a path it has checked is caught by it.
#[test]
fn a_careless_writer_would_be_caught() {
    let (_, _, is_unharmed) = race(Resolution::Kernel, |root, _| {
        let parent = root.path().join("work");
        let is_real = fs::symlink_metadata(&parent).is_ok_and(|meta| meta.is_dir());
        thread::yield_now();
        is_real && fs::write(parent.join("new"), b"x").is_ok()
    });
    assert!(!is_unharmed, "the flipper never hit the window between check and use");
}
