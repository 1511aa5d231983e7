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
