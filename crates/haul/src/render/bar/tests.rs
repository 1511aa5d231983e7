use std::time::Duration;

use events::{Bound, BoundKind, LinkSnapshot, Snapshot};

use super::*;

fn figures(current: &[u8]) -> Figures {
    let link = LinkSnapshot {
        rtt: Duration::from_micros(21_400),
        packets_sent: 1000,
        packets_lost: 12,
        ..LinkSnapshot::default()
    };
    let snapshot = Snapshot {
        bytes_total: 2_000_000,
        bytes_acknowledged: 500_000,
        walk_finished: true,
        link,
        current: Some(current.into()),
        ..Snapshot::default()
    };
    Figures { snapshot, rate: 250_000.0, left: Some(Duration::from_secs(6)), verifying: false }
}

#[test]
fn the_line_shows_what_matters() {
    let text = line(&figures(b"a/b.txt"), Here::Source, 120);
    let expected = " 25%  500.0 kB of 2.0 MB  250.0 kB/s  6.0 s left  loss 1.2% rtt 21 ms  a/b.txt";
    assert_eq!(text, expected);
    let mut bounded = figures(b"a/b.txt");
    bounded.snapshot.bound = Bound::new(BoundKind::PathLoss, 12_000);
    let text = line(&bounded, Here::Source, 120);
    assert!(text.ends_with("rtt 21 ms  bound by path loss 1.2%  a/b.txt"), "{text}");
    // A figure is there whole or not at all.
    bounded.snapshot.bound = Bound::new(BoundKind::Path, 23_400_000);
    bounded.snapshot.files_failed = 3;
    let before = " 25%  500.0 kB of 2.0 MB  250.0 kB/s  6.0 s left  loss 1.2% rtt 21 ms";
    let whole = format!("{before}  bound by the path at 23.4 MB/s  3 failed");
    assert_eq!(line(&bounded, Here::Source, whole.len() + 1), whole);
    let short = format!("{before}  bound by the path  3 failed");
    for width in short.len() + 1..short.len() + 10 {
        assert_eq!(line(&bounded, Here::Source, width), short);
    }
    let mut walking = figures(b"x");
    walking.snapshot.walk_finished = false;
    walking.left = None;
    assert!(
        line(&walking, Here::Source, 120)
            .starts_with("500.0 kB of 2.0 MB found so far  250.0 kB/s  loss")
    );
    let mut empty = figures(b"x");
    empty.snapshot.bytes_total = 0;
    assert!(line(&empty, Here::Source, 120).starts_with("100%"));
}

#[test]
fn the_line_never_wraps_and_names_cannot_steer_the_terminal() {
    let long = "x/".repeat(500);
    for name in [long.as_bytes(), b"\x1b[2J\r\n\xff", "漢字".repeat(60).as_bytes()] {
        for width in 0..140 {
            let text = line(&figures(name), Here::Source, width);
            assert!(columns(&text) < width.max(1), "{width}: {text}");
            assert!(!text.contains(|character: char| character.is_control()), "{text:?}");
        }
    }
    let text = line(&figures(b"some/folder/with/a/name.txt"), Here::Source, 90);
    assert!(text.ends_with("...a/name.txt") || text.ends_with("name.txt"), "{text}");
}
