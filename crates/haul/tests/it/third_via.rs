//! Copies between two other machines that go through the one who wants them: the first cannot reach the second, and
//! all that is true of a copy that goes straight is true of these.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use badlink::End;
use testkit::daemon::{Daemon, Machine, Running, far, serve_words};
use testkit::tree::{Growth, Scratch, assert_same, total_bytes, write};

use crate::pair::{copy_words, data, finished, machine, number};
use crate::third::{AGAIN_BYTES, Apart, SLOWLY, Three, grow, ip, moments};

#[test]
fn a_tree_goes_through_the_one_who_wants_it_copied() {
    let three = Three::new("via");
    Growth::small(71, 300).grow(&three.from("tree"));
    write(&three.from("tree/large"), &vec![7; 5_000_001]);
    let ended = three.copy(&["--via-me", "-v"], "data/tree", "data/tree").expect_code(0);
    ended.expect_says(&["goes through this machine", "over a pipe", "link: a pipe"]);
    assert_same(&three.from("tree"), &three.to("tree"));
    // The same again finds it all there, and the receipt is the target's about what the source has.
    let line = finished(&three.copy(&["--via-me", "--json"], "data/tree/.", "data/tree"));
    assert_eq!((number(&line, "files"), number(&line, "failed")), (0, 0));
    let (receipt, tree) = (line["receipt"].as_str().unwrap(), three.from("tree"));
    let signer = three.target.run(["key", "show", "--fingerprint"]).text();
    let verify = ["receipt", "verify", receipt, "--signer", signer.trim(), "--tree"];
    let verify = verify.map(String::from).into_iter().chain([tree.to_str().unwrap().to_owned()]);
    three.orchestrator.run(verify).expect_code(0);
    // The target has seen the source itself, and where it came from.
    let source = three.source.run(["key", "show", "--fingerprint"]).text();
    let log = three.target_daemon.as_ref().unwrap().log();
    let connected = format!("({}) connected over pipe", source.trim());
    assert!(log.contains(&connected), "{connected}: {log}");
}

#[test]
fn it_is_for_copies_between_two_other_machines() {
    let three = Three::new("via-usage");
    write(&three.from("a"), b"a");
    let here = three.scratch.join("a");
    write(&here, b"a");
    let words = [vec!["--via-me".into(), here.into(), far(three.addresses[1], "data/a")]].concat();
    let ended = three.orchestrator.run(copy_words(&words)).expect_code(2);
    ended.expect_says(&["--via-me is for copies between two other machines"]);
    three.copy(&["--via-me", "--link", "tcp"], "data/a", "data/a").expect_code(2);
    assert!(!three.to("a").exists());
}

#[test]
fn crash_of_the_one_whom_it_goes_through() {
    let three = Three::new("via-crash");
    let bytes = grow(&three, 72);
    let slowly = [&SLOWLY[..], &["--via-me"]].concat();
    let (mut sent, mut allowed) = (0, 0);
    for moment in moments(72, bytes) {
        let _ = std::fs::remove_dir_all(three.to("new"));
        let mut running = three.start(&slowly, "data/tree/.", "data/new");
        three.wait_for_bytes(moment);
        running.kill();
        drop(running);
        let line = finished(&three.copy(&slowly, "data/tree/.", "data/new").expect_code(0));
        assert_same(&three.from("tree"), &three.to("new"));
        sent += number(&line, "bytes_sent");
        allowed += (bytes - moment) + AGAIN_BYTES;
    }
    eprintln!("{sent} bytes sent after the kills, {allowed} allowed");
    assert!(sent <= allowed, "{sent} bytes were sent, {allowed} are allowed");
}

/// Either daemon ends and comes back, and the same command goes on by itself.
#[test]
fn crash_of_either_end_of_what_goes_through() {
    let mut three = Three::new("via-crash-ends");
    let bytes = grow(&three, 73);
    let slowly = [&SLOWLY[..], &["--via-me"]].concat();
    for crash in [Three::crash_source, Three::crash_target] {
        let _ = std::fs::remove_dir_all(three.to("new"));
        let running = three.start(&slowly, "data/tree", "data/new");
        three.wait_for_bytes(bytes / 3);
        crash(&mut three);
        finished(&running.wait().expect_code(0));
        assert_same(&three.from("tree"), &three.to("new"));
    }
}

/// The most memory that a process has had, as long as it is there.
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// A target that does not go on for a while fills what is on the way, and that is all.
#[test]
fn what_waits_on_the_way_is_bounded() {
    const BYTES: usize = 400 << 20;
    const MOST: u64 = 96 << 20;
    let three = Three::new("via-memory");
    write(&three.from("large"), &vec![7; BYTES]);
    let daemons = [&three.source_daemon, &three.target_daemon];
    let [source, target] = daemons.map(|daemon| daemon.as_ref().unwrap().pid());
    let running = three.start(&["--via-me", "--json", "--compress=never"], "data/large", "data/x");
    three.wait_for_bytes(BYTES as u64 / 20);
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &target.to_string()]).status();
        assert!(status.unwrap().success());
    };
    signal("-STOP");
    std::thread::sleep(Duration::from_secs(2));
    let orchestrator = peak(running.pid()).expect("it cannot have ended");
    signal("-CONT");
    finished(&running.wait().expect_code(0));
    let peaks = [orchestrator, peak(source).unwrap(), peak(target).unwrap()];
    eprintln!("at most {:?} MiB", peaks.map(|bytes| bytes >> 20));
    assert!(peaks.iter().all(|bytes| *bytes < MOST), "{peaks:?}");
    assert_eq!(std::fs::metadata(three.to("x")).unwrap().len(), BYTES as u64);
}

#[test]
fn needs_tun_a_target_that_the_source_cannot_reach() {
    let apart = Apart::start();
    let scratch = Scratch::new("via-apart");
    let [orchestrator, source, target] =
        ["orchestrator", "source", "target"].map(|name| machine(scratch.join(name)));
    source.allow(&orchestrator, &[]);
    // From where it is seen, and not from the target's own addresses, which is where tunnels come out.
    target.allow(&orchestrator, &["--from", "10.98.1.1"]);
    let serve = |machine: &Machine, end, listen: SocketAddr, folder: &str| {
        let words = serve_words(listen, &[data(&scratch.folder(folder))]);
        Daemon::start(Apart::inside(apart.joint.name(end), &machine.command(words)))
    };
    let from = serve(&source, End::A, SocketAddr::new(apart.joint.address(End::A), 4285), "from");
    ip(&["-n", apart.joint.name(End::A), "link", "set", "lo", "up"]);
    ip(&["-n", apart.joint.name(End::B), "link", "set", "lo", "up"]);
    ip(&["-n", apart.joint.name(End::A), "route", "add", "blackhole", "10.98.1.2"]);
    let only_here: SocketAddr = "10.98.1.2:4286".parse().unwrap();
    let to = serve(&target, End::B, only_here, "to");
    orchestrator.trust(&source, from.address());
    orchestrator.trust(&target, to.address());
    let tree = scratch.join("from/tree");
    Growth { large: vec![40 << 20], ..Growth::small(74, 200) }.grow(&tree);
    let run = |options: &[&str]| {
        let mut words: Vec<_> = options.iter().map(Into::into).collect();
        words.extend([from.at("data/tree"), to.at("data/tree")]);
        let command = orchestrator.command(copy_words(&words));
        Running::start(Apart::inside(&apart.orchestrator, &command)).wait()
    };
    run(&[]).expect_code(4).expect_says(&["--via-me"]);
    let (before, began) = (apart.carried(), Instant::now());
    let line = finished(&run(&["--via-me", "--json", "--compress=never"]).expect_code(0));
    let (carried, bytes) = (apart.carried() - before, total_bytes(&tree));
    assert_same(&tree, &scratch.join("to/tree"));
    eprintln!("{bytes} bytes in {:?}, {carried} through the orchestrator", began.elapsed());
    assert!(carried > 2 * bytes, "{carried} of {bytes} bytes, {line}");
    // The source is seen where the one is through whom it came.
    let fingerprint = source.run(["key", "show", "--fingerprint"]).text();
    let is_seen = |line: &str| {
        line.contains(fingerprint.trim()) && line.contains("10.98.1.1:") && line.contains("pipe")
    };
    assert!(to.log().lines().any(is_seen), "{}", to.log());
}
