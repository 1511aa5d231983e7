//! Copies between two other machines: the bytes go straight from the one to the other, and whatever dies in the
//! middle, the same command brings it to its end.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use badlink::{End, Pair, PairOptions, Relay, RelayOptions};
use testkit::crash::{runs, seed};
use testkit::daemon::{Daemon, Ended, Machine, Running, behind, far, serve_words};
use testkit::tree::{Growth, Random, Scratch, assert_same, total_bytes, write};

use crate::pair::{copy_words, data, finished, machine, number};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source, a target and the machine that has things copied. The two know nothing of each other.
pub struct Three {
    pub scratch: Scratch,
    pub orchestrator: Machine,
    pub source: Machine,
    pub target: Machine,
    pub source_daemon: Option<Daemon>,
    pub target_daemon: Option<Daemon>,
    pub addresses: [SocketAddr; 2],
}

impl Three {
    pub fn new(name: &str) -> Self {
        Self::with(name, &[], &[])
    }

    /// The same with options of `key allow` at the source and at the target.
    pub fn with(name: &str, at_source: &[&str], at_target: &[&str]) -> Self {
        let scratch = Scratch::new(name);
        let [orchestrator, source, target] =
            ["orchestrator", "source", "target"].map(|name| machine(scratch.join(name)));
        source.allow(&orchestrator, at_source);
        target.allow(&orchestrator, at_target);
        let source_daemon = source.serve(&[data(&scratch.folder("from"))]);
        let target_daemon = target.serve(&[data(&scratch.folder("to"))]);
        let addresses = [source_daemon.address(), target_daemon.address()];
        orchestrator.trust(&source, addresses[0]);
        orchestrator.trust(&target, addresses[1]);
        let (source_daemon, target_daemon) = (Some(source_daemon), Some(target_daemon));
        Self { scratch, orchestrator, source, target, source_daemon, target_daemon, addresses }
    }

    pub fn from(&self, below: &str) -> PathBuf {
        self.scratch.join("from").join(below)
    }

    pub fn to(&self, below: &str) -> PathBuf {
        self.scratch.join("to").join(below)
    }

    /// The words that copy from the one to the other.
    pub fn words(&self, options: &[&str], source: &str, target: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
        words.extend([far(self.addresses[0], source), far(self.addresses[1], target)]);
        copy_words(&words)
    }

    pub fn copy(&self, options: &[&str], source: &str, target: &str) -> Ended {
        self.orchestrator.run(self.words(options, source, target))
    }

    pub fn start(&self, options: &[&str], source: &str, target: &str) -> Running {
        Running::start(self.orchestrator.command(self.words(options, source, target)))
    }

    /// Ends a daemon at once and starts it again at the same address.
    pub fn crash_source(&mut self) {
        self.source_daemon.take().unwrap().kill();
        let exports = [data(&self.scratch.join("from"))];
        self.source_daemon = Some(self.source.serve_at(self.addresses[0], &exports));
    }

    pub fn crash_target(&mut self) {
        self.target_daemon.take().unwrap().kill();
        let exports = [data(&self.scratch.join("to"))];
        self.target_daemon = Some(self.target.serve_at(self.addresses[1], &exports));
    }

    /// Waits until so much is staged or stands at the target.
    pub fn wait_for_bytes(&self, bytes: u64) {
        let end = Instant::now() + PATIENCE;
        while stored(&self.scratch.join("to")) < bytes {
            assert!(Instant::now() < end, "nothing arrives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the files below a folder take on the disk; one that goes away meanwhile counts as nothing.
fn stored(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => stored(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[test]
fn a_tree_goes_from_one_to_the_other() {
    let three = Three::new("third");
    Growth::small(41, 300).grow(&three.from("tree"));
    write(&three.from("tree/large"), &vec![7; 5_000_001]);
    for kind in ["auto", "quic", "tcp"] {
        let target = format!("data/{kind}");
        let line =
            finished(&three.copy(&["--json", "--link", kind], "data/tree", &target).expect_code(0));
        assert_same(&three.from("tree"), &three.to(kind));
        assert_eq!(number(&line, "failed"), 0);
        // The receipt is kept here, and is the target's about what the source has.
        let receipt = line["receipt"].as_str().unwrap();
        let tree = three.from("tree");
        let signer = three.target.run(["key", "show", "--fingerprint"]).text();
        three
            .orchestrator
            .run([
                "receipt",
                "verify",
                receipt,
                "--tree",
                tree.to_str().unwrap(),
                "--signer",
                signer.trim(),
            ])
            .expect_code(0);
        let again = finished(&three.copy(&["--json"], "data/tree/.", &target).expect_code(0));
        assert_eq!((number(&again, "files"), number(&again, "failed")), (0, 0));
    }
    // Both ends tell their operators who did what.
    let [source, target] = [&three.source_daemon, &three.target_daemon];
    assert!(source.as_ref().unwrap().log().contains("began a copy from data/tree"));
    assert!(target.as_ref().unwrap().log().contains("has granted a copy to data/quic"));
}

#[test]
fn words_mean_what_they_mean_between_two_machines() {
    let three = Three::new("third-words");
    write(&three.from("a"), b"a");
    write(&three.from("b"), b"b");
    std::fs::create_dir(three.from("folder")).unwrap();
    write(&three.from("folder/c"), b"c");
    let [source, target] = three.addresses;
    let run = |words: &[OsString]| three.orchestrator.run(copy_words(words));
    // A dry run changes nothing and leaves no receipt.
    three.copy(&["--dry-run"], "data/a", "data/x").expect_code(0).expect_says(&["would copy 1"]);
    assert!(!three.to("x").exists());
    std::fs::create_dir(three.to("into")).unwrap();
    run(&[far(source, "data/a"), far(source, "data/b"), far(target, "data/into/")]).expect_code(0);
    assert_eq!(std::fs::read(three.to("into/b")).unwrap(), b"b");
    three.copy(&["-v"], "data/folder/.", "data/made").expect_code(0).expect_says(&["over"]);
    assert_eq!(std::fs::read(three.to("made/c")).unwrap(), b"c");
    // Rules hold at the source, and protect at the target.
    write(&three.to("made/extra"), b"x");
    write(&three.to("made/kept.log"), b"x");
    let options = ["--exclude", "*.log", "--delete-extra=all"];
    three.copy(&options, "data/folder/.", "data/made").expect_code(0);
    assert!(!three.to("made/extra").exists() && three.to("made/kept.log").exists());
    // What fails is named, and decides the exit code.
    std::os::unix::net::UnixListener::bind(three.from("folder/socket")).unwrap();
    three.copy(&[], "data/folder/.", "data/made").expect_code(1).expect_says(&["socket"]);
}

#[test]
fn each_machine_decides_for_itself() {
    let check = |name: &str, at_source: &[&str], at_target: &[&str], says: &str| {
        let three = Three::with(name, at_source, at_target);
        write(&three.from("a"), b"a");
        three.copy(&[], "data/a", "data/b").expect_code(3).expect_says(&[says]);
        assert!(!three.to("b").exists());
    };
    check("third-unread", &["--write-only"], &[], "may only write");
    check("third-unwritten", &[], &["--read-only"], "may only read");
    check("third-elsewhere", &[], &["--path", "data/inbox"], "may not use");
    // A limit of the key at either end holds for what goes between them.
    let three = Three::with("third-limit", &["--max-rate", "2MB"], &[]);
    write(&three.from("a"), &vec![7; 6_000_000]);
    let began = Instant::now();
    three.copy(&["--compress=never"], "data/a", "data/b").expect_code(0);
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Kills for each of the three where nobody says otherwise.
const KILLS: u32 = 3;
/// What may be sent twice for each kill, as for any copy.
pub const AGAIN_BYTES: u64 = 8 << 20;
/// A copy is held to this rate, so that it lasts long enough to be killed in the middle.
pub const SLOWLY: [&str; 4] = ["--json", "--limit", "12MB", "--compress=never"];

/// A tree of some 24 MB at the source, in small files and large ones.
pub fn grow(three: &Three, seed: u64) -> u64 {
    let large = vec![9 << 20, 9 << 20];
    let growth = Growth { seed, files: 300, most_bytes: 32 * 1024, large, odd: false };
    growth.grow(&three.from("tree"));
    total_bytes(&three.from("tree"))
}

/// How much has arrived when something is killed, by chance.
pub fn moments(first_seed: u64, bytes: u64) -> Vec<u64> {
    let mut random = Random::new(seed(first_seed));
    (0..runs(KILLS)).map(|_| bytes / 20 + random.below(bytes / 2)).collect()
}

#[test]
fn crash_of_the_one_that_has_it_copied() {
    let three = Three::new("third-crash");
    let bytes = grow(&three, 51);
    let (mut sent, mut allowed) = (0, 0);
    for moment in moments(51, bytes) {
        let _ = std::fs::remove_dir_all(three.to("new"));
        let mut running = three.start(&SLOWLY, "data/tree/.", "data/new");
        three.wait_for_bytes(moment);
        running.kill();
        drop(running);
        // At once: the source has not noticed yet, and the earlier run is ended by this one.
        let line = finished(&three.copy(&SLOWLY, "data/tree/.", "data/new").expect_code(0));
        assert_same(&three.from("tree"), &three.to("new"));
        sent += number(&line, "bytes_sent");
        allowed += (bytes - moment) + AGAIN_BYTES;
    }
    eprintln!("{sent} bytes sent after the kills, {allowed} allowed");
    assert!(sent <= allowed, "{sent} bytes were sent, {allowed} are allowed");
}

/// The same command goes on by itself when either daemon is back, to the place that it meant when it began.
fn crash_of_a_daemon(mut three: Three, first_seed: u64, crash: fn(&mut Three)) {
    let bytes = grow(&three, first_seed);
    for moment in moments(first_seed, bytes) {
        let _ = std::fs::remove_dir_all(three.to("new"));
        let running = three.start(&SLOWLY, "data/tree", "data/new");
        three.wait_for_bytes(moment);
        crash(&mut three);
        finished(&running.wait().expect_code(0));
        assert_same(&three.from("tree"), &three.to("new"));
    }
}

#[test]
fn crash_of_the_source_in_between() {
    crash_of_a_daemon(Three::new("third-crash-source"), 52, Three::crash_source);
}

#[test]
fn crash_of_the_target_in_between() {
    crash_of_a_daemon(Three::new("third-crash-target"), 53, Three::crash_target);
}

/// The target lets the source in by itself, and knows nothing of the grant any more.
#[test]
fn crash_of_a_target_that_knows_the_source() {
    let three = Three::new("third-crash-known");
    three.target.allow(&three.source, &["--read-only"]);
    crash_of_a_daemon(three, 56, Three::crash_target);
}

/// The orchestrator loses the source for longer than a lane lives, and nobody does anything.
#[test]
fn a_cut_between_the_orchestrator_and_the_source_is_survived() {
    let mut three = Three::new("third-cut");
    let bytes = grow(&three, 55);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = RelayOptions::new(three.addresses[0]);
    let relay = runtime.block_on(async { Relay::start(options) }).unwrap();
    three.addresses[0] = relay.local_addr();
    three.orchestrator.trust(&three.source, relay.local_addr());
    let slowly = [&SLOWLY[..], &["--link", "quic"]].concat();
    let running = three.start(&slowly, "data/tree", "data/new");
    three.wait_for_bytes(bytes / 4);
    relay.blackout(Duration::from_secs(12));
    let ended = running.wait().expect_code(0);
    finished(&ended);
    assert!(ended.text().contains("\"link_lost\""), "{}", ended.told());
    assert_same(&three.from("tree"), &three.to("new"));
    runtime.block_on(relay.close());
}

/// Ctrl-C ends it at the source too, and the same command goes on.
#[test]
fn whoever_interrupts_it_ends_it() {
    let three = Three::new("third-interrupt");
    let bytes = grow(&three, 54);
    let mut running = three.start(&SLOWLY, "data/tree/.", "data/new");
    three.wait_for_bytes(bytes / 4);
    running.interrupt();
    running.wait().expect_code(130);
    // The source has taken leave of the target.
    let source = three.source.run(["key", "show", "--fingerprint"]).text();
    let log = || three.target_daemon.as_ref().unwrap().log();
    let has_left = |line: &str| line.contains(source.trim()) && line.ends_with("left");
    let end = Instant::now() + PATIENCE;
    while !log().lines().any(has_left) {
        assert!(Instant::now() < end, "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    three.copy(&["--json"], "data/tree/.", "data/new").expect_code(0);
    assert_same(&three.from("tree"), &three.to("new"));
}

/// Three network namespaces: source and target are joined, and a third is joined to each by a device of its own.
pub struct Apart {
    pub joint: Pair,
    pub orchestrator: String,
}

/// The devices of the orchestrator, towards the source and the target.
const DEVICES: [&str; 2] = ["to-source", "to-target"];

impl Apart {
    pub fn start() -> Self {
        let joint = Pair::start(PairOptions { model: None, ..PairOptions::default() }).unwrap();
        let orchestrator = format!("{}-third", joint.name(End::A));
        ip(&["netns", "add", &orchestrator]);
        let apart = Self { joint, orchestrator };
        for (number, (end, device)) in [End::A, End::B].into_iter().zip(DEVICES).enumerate() {
            let (here, there) = (apart.orchestrator.as_str(), apart.joint.name(end));
            let (ours, theirs) = (format!("10.98.{number}.1/24"), format!("10.98.{number}.2/24"));
            let peer = ["peer", "name", "third", "netns", there];
            ip(&[&["-n", here, "link", "add", device, "type", "veth"][..], &peer].concat());
            ip(&["-n", here, "address", "add", &ours, "dev", device]);
            ip(&["-n", there, "address", "add", &theirs, "dev", "third"]);
            ip(&["-n", here, "link", "set", device, "up"]);
            ip(&["-n", there, "link", "set", "third", "up"]);
            // The addresses by which the two know each other are good from here too.
            let address = apart.joint.address(end).to_string();
            let via = format!("10.98.{number}.2");
            ip(&["-n", here, "route", "add", &address, "via", &via]);
        }
        ip(&["-n", &apart.orchestrator, "link", "set", "lo", "up"]);
        apart
    }

    pub fn inside(namespace: &str, command: &Command) -> Command {
        behind("ip", &["netns", "exec", namespace].map(OsStr::new), command)
    }

    /// Bytes that the devices of the orchestrator have carried, both ways.
    pub fn carried(&self) -> u64 {
        let count = |device: &str, way: &str| {
            let path = format!("/sys/class/net/{device}/statistics/{way}_bytes");
            let mut cat = Command::new("ip");
            cat.args(["netns", "exec", &self.orchestrator, "cat", &path]);
            let text = String::from_utf8(cat.output().unwrap().stdout).unwrap();
            text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{path}: {text}"))
        };
        DEVICES.iter().map(|device| count(device, "rx") + count(device, "tx")).sum()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Its devices go with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.orchestrator]).status();
    }
}

pub fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn needs_tun_the_bytes_do_not_pass_through_the_one_who_wants_them_copied() {
    let apart = Apart::start();
    let scratch = Scratch::new("third-apart");
    let [orchestrator, source, target] =
        ["orchestrator", "source", "target"].map(|name| machine(scratch.join(name)));
    source.allow(&orchestrator, &[]);
    target.allow(&orchestrator, &[]);
    let serve = |machine: &Machine, end, folder: &str| {
        let listen = SocketAddr::new(apart.joint.address(end), 4285);
        let words = serve_words(listen, &[data(&scratch.folder(folder))]);
        Daemon::start(Apart::inside(apart.joint.name(end), &machine.command(words)))
    };
    let from = serve(&source, End::A, "from");
    let to = serve(&target, End::B, "to");
    orchestrator.trust(&source, from.address());
    orchestrator.trust(&target, to.address());
    let tree = scratch.join("from/tree");
    Growth { large: vec![80 << 20], ..Growth::small(61, 200) }.grow(&tree);
    let run = |words: &[OsString]| {
        let command = orchestrator.command(copy_words(words));
        Running::start(Apart::inside(&apart.orchestrator, &command)).wait()
    };
    let before = apart.carried();
    let words = ["--json".into(), from.at("data/tree"), to.at("data/tree")];
    let line = finished(&run(&words).expect_code(0));
    let carried = apart.carried() - before;
    assert_same(&tree, &scratch.join("to/tree"));
    let bytes = total_bytes(&tree);
    eprintln!("{carried} of {bytes} bytes went through the orchestrator");
    assert!(carried > 0 && carried < bytes / 100, "{carried} of {bytes} bytes, {line}");
    // A target that only the orchestrator reaches: the error names both and says what to do.
    ip(&["-n", apart.joint.name(End::A), "route", "add", "blackhole", "10.98.1.2"]);
    let only_here: SocketAddr = "10.98.1.2:4286".parse().unwrap();
    let words = serve_words(only_here, &[data(&scratch.folder("elsewhere"))]);
    let other = machine(scratch.join("other"));
    other.allow(&orchestrator, &[]);
    let unreached = Daemon::start(Apart::inside(apart.joint.name(End::B), &other.command(words)));
    orchestrator.trust(&other, only_here);
    let words = [from.at("data/tree"), unreached.at("data/tree")];
    run(&words).expect_code(4).expect_says(&[
        "10.99.0.1:4285",
        "cannot reach 10.98.1.2:4286",
        "--via-me",
    ]);
    assert!(!scratch.join("elsewhere/tree").exists());
}
