//! What need not be sent: what becomes smaller, and what the target has of an older version.

use super::*;
use crate::rig::{noise, text};

/// Puts the tree once more, and says how many bytes that took.
async fn put_again(rig: &Rig, scratch: &Scratch, order: Order) -> u64 {
    let report = rig.put(&scratch.dir("near"), "tree", order).await;
    assert_eq!(report.totals.failed, 0);
    assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
    report.bytes_sent
}

fn on_both(name: &str, run: impl AsyncFn(&Rig, &Scratch)) {
    for kind in [LaneKind::Quic, LaneKind::Tcp] {
        let scratch = Scratch::new(name);
        std::fs::create_dir_all(scratch.path("near/tree")).unwrap();
        runtime().block_on(async {
            let rig = Rig::of(kind, scratch.dir("far"));
            run(&rig, &scratch).await;
            rig.close().await;
        });
    }
}

#[test]
fn what_becomes_smaller_is_sent_smaller_and_the_rest_as_it_is() {
    on_both("smaller", async |rig, scratch| {
        std::fs::write(scratch.path("near/tree/text"), text(5_300_000)).unwrap();
        for number in 0..50 {
            std::fs::write(scratch.path(&format!("near/tree/small-{number}")), text(9000)).unwrap();
        }
        let always = || Order { compression: Compression::Always, ..Order::default() };
        let sent = put_again(rig, scratch, always()).await;
        // The beginning of the first file may go out as it is.
        assert!(sent < 3_200_000, "{sent} bytes");
        std::fs::remove_dir_all(scratch.path("near/tree")).unwrap();
        std::fs::create_dir(scratch.path("near/tree")).unwrap();
        std::fs::write(scratch.path("near/tree/media"), noise(1, 5_300_000)).unwrap();
        let sent = rig.put(&scratch.dir("near"), "tree", always()).await.bytes_sent;
        assert_eq!(sent, 5_300_000);
    });
}

/// A small copy to a far machine is over before anything could be learned of the link.
#[test]
fn to_a_far_machine_what_becomes_smaller_is_so_at_once() {
    let scratch = Scratch::new("far-smaller");
    std::fs::create_dir_all(scratch.path("near/tree")).unwrap();
    for number in 0..40 {
        std::fs::write(scratch.path(&format!("near/tree/{number}")), text(50_000)).unwrap();
    }
    runtime().block_on(async {
        let profile = Profile { delay: 6_000_000, ..Profile::default() };
        let rig = Rig::new(scratch.dir("far"), profile, 5);
        let sent = put_again(&rig, &scratch, Order::default()).await;
        assert!(sent < 1_400_000, "{sent} bytes");
        rig.close().await;
    });
}

#[test]
fn of_a_file_that_changed_only_what_is_new_is_sent() {
    on_both("changed", async |rig, scratch| {
        let path = scratch.path("near/tree/large");
        let mut bytes = noise(2, 20_000_000);
        std::fs::write(&path, &bytes).unwrap();
        assert!(put_again(rig, scratch, Order::default()).await >= 20_000_000);
        // Edits, an insertion in front, a part that goes, and more at the end.
        for edit in 0..8 {
            let at = 900_001 + edit * 2_000_003;
            bytes[at..at + 1000].copy_from_slice(&noise(10 + edit as u64, 1000));
        }
        bytes.drain(9_000_000..9_400_000);
        let bytes = [&noise(3, 4321)[..], &bytes, &noise(4, 54_321)].concat();
        std::fs::write(&path, &bytes).unwrap();
        let sent = put_again(rig, scratch, Order::default()).await;
        // The first chunk may go out before anything was asked for.
        assert!(sent < (1 << 20) + 600_000, "{sent} bytes");
        // The same as a whole.
        std::fs::write(scratch.path("far/tree/large"), noise(5, 20_000_000)).unwrap();
        let whole = Order { whole: true, ..plain() };
        assert_eq!(put_again(rig, scratch, whole).await, bytes.len() as u64);
        // One that has nothing in common with it.
        std::fs::write(scratch.path("far/tree/large"), noise(6, 20_000_000)).unwrap();
        assert_eq!(put_again(rig, scratch, plain()).await, bytes.len() as u64);
    });
}

/// What is there of an older version is written over while it is used: the chunks come as they are.
#[test]
fn an_older_version_that_changes_meanwhile_costs_only_time() {
    on_both("meanwhile", async |rig, scratch| {
        let path = scratch.path("near/tree/large");
        let mut bytes = noise(7, 30_000_000);
        std::fs::write(&path, &bytes).unwrap();
        put_again(rig, scratch, Order::default()).await;
        bytes[100..200].copy_from_slice(&noise(8, 100));
        std::fs::write(&path, &bytes).unwrap();
        let far = scratch.path("far/tree/large");
        let writing = Arc::new(AtomicBool::new(true));
        let is_writing = writing.clone();
        let writer = std::thread::spawn(move || {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::File::options().write(true).open(&far).unwrap();
            let mut seed = 9;
            while is_writing.load(Ordering::Relaxed) {
                seed += 1;
                file.write_at(&noise(seed, 5000), seed * 7_654_321 % 29_000_000).unwrap();
            }
        });
        let report = rig.put(&scratch.dir("near"), "tree", Order::default()).await;
        writing.store(false, Ordering::Relaxed);
        writer.join().unwrap();
        assert_eq!(report.totals.failed, 0);
        assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
    });
}

/// Puts the same file on either side, under these paths and with one time.
fn twins(scratch: &Scratch, near: &str, far: &str, bytes: &[u8], nanos: u32) {
    let time = std::time::UNIX_EPOCH + Duration::new(1_700_000_000, nanos);
    for path in [scratch.path("near/tree").join(near), scratch.path("far/tree").join(far)] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// The tree without what only the target has.
fn assert_arrived(scratch: &Scratch) {
    let near = scratch.path("near/tree");
    for (path, meta) in entries(&near) {
        if meta.is_file() {
            let far = scratch.path("far/tree").join(&path);
            assert!(
                std::fs::read(near.join(&path)).unwrap() == std::fs::read(&far).unwrap(),
                "{path:?} has another content"
            );
            let time = std::fs::metadata(&far).unwrap().modified().unwrap();
            assert_eq!(time, meta.modified().unwrap(), "{path:?}");
        }
    }
    assert!(!scratch.path("far/.haul").exists(), "staging is gone");
}

fn entries(folder: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let (mut all, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            }
            all.push((entry.path().strip_prefix(folder).unwrap().to_owned(), meta));
        }
    }
    all
}

#[test]
fn a_folder_that_was_renamed_is_not_sent_again() {
    on_both("renamed", async |rig, scratch| {
        for number in 0..1000_u32 {
            let bytes = noise(u64::from(number) + 1, 66_000);
            let name = format!("part-{}/{number}", number % 7);
            // Groups of one size and time, as files have that were made in one moment.
            twins(scratch, &format!("new/{name}"), &format!("old/{name}"), &bytes, number / 10);
        }
        for (number, size) in [5_300_001, 40_000_000, 1 << 20].into_iter().enumerate() {
            let (near, far) = (format!("new/large-{number}"), format!("old/was-{number}"));
            twins(scratch, &near, &far, &noise(2000 + number as u64, size), 7);
        }
        let report = rig.put(&scratch.dir("near"), "tree", plain()).await;
        assert_eq!((report.totals.copied, report.totals.failed), (1003, 0));
        assert_arrived(scratch);
        // The first file may go out before anything was asked for.
        assert!(report.bytes_sent <= 1 << 20, "{} bytes", report.bytes_sent);
    });
}

#[test]
fn what_only_looks_the_same_is_sent() {
    on_both("looks-same", async |rig, scratch| {
        let mut all = 0;
        for (number, size) in [70_000, 3_300_000, 200_000].into_iter().enumerate() {
            twins(scratch, &format!("b{number}"), &format!("a{number}"), &noise(1, size), 5);
            let far = scratch.path(&format!("far/tree/a{number}"));
            let time = std::fs::metadata(&far).unwrap().modified().unwrap();
            let mut other = noise(1, size);
            *other.last_mut().unwrap() ^= 1;
            std::fs::write(&far, other).unwrap();
            let file = std::fs::File::options().append(true).open(&far).unwrap();
            file.set_modified(time).unwrap();
            all += size as u64;
        }
        let report = rig.put(&scratch.dir("near"), "tree", plain()).await;
        assert_eq!((report.totals.copied, report.totals.failed), (3, 0));
        assert_arrived(scratch);
        assert_eq!(report.bytes_sent, all);
    });
}

/// Also within one copy, and where the name is taken by something else; not where it was ruled out.
#[test]
fn what_is_there_twice_is_sent_once() {
    on_both("twice", async |rig, scratch| {
        std::fs::create_dir_all(scratch.path("far/tree")).unwrap();
        for name in ["a", "b/a", "c/z", "d"] {
            twins(scratch, name, "passing", &noise(1, 4_300_000), 5);
            twins(scratch, &format!("{name}-small"), "passing", &noise(2, 100_000), 6);
        }
        std::fs::remove_file(scratch.path("far/tree/passing")).unwrap();
        std::fs::write(scratch.path("far/tree/d"), noise(9, 2_000_000)).unwrap();
        let report = rig.put(&scratch.dir("near"), "tree", plain()).await;
        assert_eq!((report.totals.copied, report.totals.failed), (8, 0));
        assert_arrived(scratch);
        // Once, and the beginning of what goes out unasked.
        let once = 4_400_000;
        assert!((once..=once + (1 << 20)).contains(&report.bytes_sent), "{}", report.bytes_sent);

        std::fs::rename(scratch.path("far/tree/a"), scratch.path("far/tree/e")).unwrap();
        let whole = Order { whole: true, ..plain() };
        let report = rig.put(&scratch.dir("near"), "tree", whole).await;
        assert_eq!(report.totals.copied, 1);
        assert!(report.bytes_sent >= 4_300_000, "{}", report.bytes_sent);
    });
}

/// What is to be copied here is written over while that is done: whatever is published is what the source has.
#[test]
fn a_twin_that_changes_meanwhile_costs_only_time() {
    on_both("twin-meanwhile", async |rig, scratch| {
        for number in 0..8_u32 {
            let bytes = noise(u64::from(number), 12_000_000);
            twins(scratch, &format!("new-{number}"), &format!("old-{number}"), &bytes, number);
        }
        let folder = scratch.path("far/tree");
        let writing = Arc::new(AtomicBool::new(true));
        let is_writing = writing.clone();
        let writer = std::thread::spawn(move || {
            use std::os::unix::fs::FileExt as _;
            let mut seed = 9;
            while is_writing.load(Ordering::Relaxed) {
                seed += 1;
                let path = folder.join(format!("old-{}", seed % 8));
                let file = std::fs::File::options().write(true).open(path).unwrap();
                let time = file.metadata().unwrap().modified().unwrap();
                file.write_at(&noise(seed, 500), seed * 7_654_321 % 11_000_000).unwrap();
                file.set_modified(time).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let report = rig.put(&scratch.dir("near"), "tree", plain()).await;
        writing.store(false, Ordering::Relaxed);
        writer.join().unwrap();
        assert_eq!(report.totals.failed, 0);
        assert_arrived(scratch);
    });
}
