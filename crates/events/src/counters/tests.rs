//! Counting from several threads, and what a snapshot shows.

use std::thread;

use super::*;

#[test]
fn threads_add_up() {
    let counters = Counters::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| counters.bytes_sent.add(3)));
        }
    });
    assert_eq!(counters.snapshot().bytes_sent, 12_000);
}

#[test]
fn what_is_left_is_known_when_the_walk_is_finished() {
    let counters = Counters::new();
    counters.bytes_total.add(100);
    counters.bytes_acknowledged.add(30);
    assert_eq!(counters.snapshot().bytes_left(), None);
    counters.finish_walk();
    assert_eq!(counters.snapshot().bytes_left(), Some(70));
    // A file that grew under way can be acknowledged beyond what the walk saw.
    counters.bytes_acknowledged.add(100);
    assert_eq!(counters.snapshot().bytes_left(), Some(0));
}

#[test]
fn current_file_and_link_figures() {
    let counters = Counters::new();
    assert_eq!(counters.snapshot(), Snapshot::default());
    counters.set_current(Some(b"a\xff"));
    counters.link.rtt_micros.set(1500);
    counters.link.packets_sent.set(200);
    counters.link.packets_lost.set(3);
    counters.link.gives_way.set(1);
    counters.link.remembered_rate.set(5);
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.current.as_deref(), Some(&b"a\xff"[..]));
    assert_eq!(snapshot.link.rtt, Duration::from_micros(1500));
    assert_eq!(snapshot.link.loss(), 0.015);
    assert!(snapshot.link.gives_way);
    assert_eq!(snapshot.link.remembered_rate, 5);
    assert_eq!(LinkSnapshot::default().loss(), 0.0);
    counters.set_current(None);
    assert_eq!(counters.snapshot().current, None);
}
