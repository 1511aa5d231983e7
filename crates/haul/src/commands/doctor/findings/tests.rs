//! What is said of certain facts.

use std::time::Duration;

use super::super::facts::{Disk, Reached, Speeds};
use super::*;

/// 30 MB/s over 40 ms with two cores of four at each end.
fn measured(kind: BoundKind, figure: u64) -> Measured {
    Measured {
        bytes: 60_000_000,
        micros: 2_000_000,
        cpu: 2000,
        cores: 4,
        rtt_micros: 45_000,
        idle_rtt_micros: 40_000,
        sent_packets: 100_000,
        lost_packets: 5_000,
        bound: Bound::new(kind, figure),
        limit: 0,
        clock: 0,
    }
}

fn toward(up: bool, sender: Measured, receiver: Measured) -> Direction {
    let (here, there) = if up { (sender, receiver) } else { (receiver, sender) };
    Direction { up, here, there, kind: LaneKind::Quic, mtu: 1452, connections: 1 }
}

fn idle() -> Measured {
    Measured { cpu: 100, ..measured(BoundKind::Unknown, 0) }
}

fn whole() -> Facts {
    let lossy = measured(BoundKind::PathLoss, 50_000);
    Facts {
        host: "far:4285".to_owned(),
        addresses: vec!["192.0.2.7".to_owned()],
        key: Some("SHA256:abc".to_owned()),
        warnings: vec!["the buffer is 208 KiB:\n  sysctl -w net.core.rmem_max=8388608".to_owned()],
        access: Some(Ok("2 exports are open to this key".to_owned())),
        lanes: vec![LaneFacts {
            kind: LaneKind::Quic,
            reached: Ok(Reached {
                address: "192.0.2.7:4285".to_owned(),
                handshake: Duration::from_millis(85),
                rtt: Duration::from_millis(40),
            }),
        }],
        up: Some(Ok(toward(true, lossy, idle()))),
        down: Some(Ok(toward(false, lossy, idle()))),
        clock_offset: Some(0),
        speeds: Some(Speeds { hash: 2e9, cipher: 3e9 }),
        disk: None,
        is_complete: true,
    }
}

#[track_caller]
fn says(facts: &Facts, topic: &str, parts: &[&str]) {
    let all = of(facts);
    let of_topic: Vec<String> =
        all.iter().filter(|found| found.topic == topic).map(Finding::words).collect();
    let text = of_topic.join("\n");
    for part in parts {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
}

#[test]
fn each_fact_has_its_sentence() {
    let facts = whole();
    says(&facts, "host", &["far:4285: 192.0.2.7"]);
    says(&facts, "key", &["SHA256:abc, which is known here"]);
    says(&facts, "access", &["2 exports are open"]);
    says(&facts, "sockets", &["208 KiB\n", "-> sysctl -w net.core.rmem_max=8388608"]);
    says(&facts, "QUIC", &["192.0.2.7:4285: let in after 85.0 ms, round trip 40.0 ms"]);
    let link = ["30.0 MB/s over QUIC (1 connection, packets of 1452 bytes); loss 5.0%"];
    says(&facts, "to there", &link);
    says(&facts, "to there", &["40 ms idle, 45 ms under load", "CPU 2.0 of 4 cores here, 0.1"]);
    says(&facts, "from there", &["CPU 0.1 of 4 cores here, 2.0 of 4 cores there"]);
    says(&facts, "disk", &["not measured"]);
    says(&facts, "bound", &["a copy to there is bound by path loss 5.0%, and makes 30.0 MB/s"]);
    says(
        &facts,
        "to there",
        &[
            "-> the path loses 5.0% of the packets
",
            "QUIC is the right link",
        ],
    );
    says(&facts, "to there", &["such loss and 40 ms one TCP", "198.3 kB/s"]);
    let starved = Measured { cpu: 4000, ..idle() };
    let lossy = measured(BoundKind::Path, 30_000_000);
    let facts = Facts { up: Some(Ok(toward(true, lossy, starved))), ..whole() };
    let to_there = of(&facts).into_iter().find(|found| found.topic == "to there").unwrap();
    assert_eq!(to_there.advice, None, "packets were lost for want of processor time");
}

#[test]
fn a_slower_disk_bounds_its_direction_alone() {
    let disk = Disk { path: "/d".to_owned(), write: 20e6, read: 400e6, files: 9e3 };
    let facts = Facts { disk: Some(Ok(disk)), ..whole() };
    says(&facts, "bound", &["to there is bound by path loss", "the disk there was not measured"]);
    says(&facts, "bound", &["from there is bound by the receiving disk at 20.0 MB/s (the"]);
    says(&facts, "bound", &["the disk here takes 20.0 MB/s: write to a faster one"]);
}

#[test]
fn each_bound_of_the_link_has_its_figure_and_its_advice() {
    let check = |kind, figure, words: &str, advice: &str| {
        let facts = Facts { up: Some(Ok(toward(true, measured(kind, figure), idle()))), ..whole() };
        let words = format!("a copy to there is bound by {words}, and makes 30.0 MB/s");
        says(&facts, "bound", &[&words, advice]);
    };
    check(BoundKind::Policer, 12_500_000, "a policer at 12.5 MB/s", "as with --pace 11875kB");
    check(
        BoundKind::PeerWindow,
        800,
        "the receiver's window (80% of the time)",
        "data waited 80% of the time for the window",
    );
    check(
        BoundKind::SocketBuffer,
        600,
        "socket buffers (60% of the time)",
        "sysctl -w net.core.wmem_max=8388608",
    );
    check(BoundKind::Path, 30_000_000, "the path at 30.0 MB/s", "only a faster link");
    check(BoundKind::Limit, 2_000_000, "the limit of 2.0 MB/s", "raise --limit");
}

#[test]
fn who_has_no_processor_time_left() {
    let check = |sender: Measured, receiver: Measured, kind: BoundKind| {
        assert_eq!(link_bound(&toward(true, sender, receiver)).kind, kind);
    };
    let path = measured(BoundKind::Path, 30_000_000);
    check(path, idle(), BoundKind::Path);
    check(path, Measured { cpu: 3700, ..idle() }, BoundKind::TargetCpu);
    check(path, measured(BoundKind::TargetCpu, 1000), BoundKind::TargetCpu);
    check(path, measured(BoundKind::Limit, 9), BoundKind::Limit);
    let busy = measured(BoundKind::SourceCpu, 1000);
    check(busy, measured(BoundKind::TargetCpu, 900), BoundKind::SourceCpu);
    check(busy, measured(BoundKind::Limit, 9), BoundKind::Limit);
    // A peer that says it has no cores is not believed to be busy.
    check(path, Measured { cores: 0, ..idle() }, BoundKind::Path);
    let both = toward(true, busy, measured(BoundKind::TargetCpu, 900));
    let facts = Facts { up: Some(Ok(both)), ..whole() };
    says(&facts, "bound", &["bound by CPU here", "both ends are at their processor"]);
}

#[test]
fn what_could_not_be_measured_is_said() {
    let facts = Facts {
        up: Some(Err("far refused: busy".to_owned())),
        disk: Some(Err("no such folder".to_owned())),
        clock_offset: Some(-90),
        ..whole()
    };
    assert!(facts.lacks_something() && !whole().lacks_something());
    says(&facts, "to there", &["could not be measured: far refused: busy"]);
    says(&facts, "disk", &["could not be measured: no such folder"]);
    says(&facts, "clock", &["90 seconds behind", "-> keys expire by it"]);
    assert_eq!(of(&facts).iter().filter(|found| found.topic == "bound").count(), 1);
}

#[test]
fn a_long_queue_is_a_matter_of_its_own() {
    let slow = Measured { rtt_micros: 540_000, ..measured(BoundKind::Path, 30_000_000) };
    let facts = Facts { up: Some(Ok(toward(true, slow, idle()))), ..whole() };
    says(&facts, "to there", &["a queue of 500 ms builds up under load"]);
    let overflow = ["5.0% of the packets are lost beside a queue of 500 ms"];
    says(&facts, "to there", &overflow);
}

#[test]
fn statements_are_only_added() {
    let done = whole();
    let steps = [
        Facts { is_complete: false, ..done.clone() },
        Facts { is_complete: false, down: None, ..done.clone() },
        Facts { is_complete: false, down: None, up: None, ..done.clone() },
        Facts { is_complete: false, down: None, up: None, lanes: vec![], ..done.clone() },
    ];
    for step in steps {
        assert!(of(&done).starts_with(&of(&step)), "{step:?}");
    }
}

#[test]
fn a_peer_cannot_steer_the_terminal_or_break_the_sums() {
    let zero = Measured { bytes: u64::MAX, lost_packets: u64::MAX, ..Measured::default() };
    let facts = Facts {
        up: Some(Ok(toward(true, zero, zero))),
        down: Some(Ok(toward(false, zero, zero))),
        access: Some(Err("\u{1b}[2J".to_owned())),
        ..whole()
    };
    for found in of(&facts) {
        assert!(!found.words().contains('\u{1b}'));
    }
    let line: Value = serde_json::from_str(&json(&facts)).unwrap();
    assert_eq!(line["event"], "doctor");
}
