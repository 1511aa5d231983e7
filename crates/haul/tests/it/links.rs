//! The real program over links that lose, reorder, double and break packets, go away and come back, and
//! change addresses: the copy is the same, and hardly more is sent than there is.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use badlink::{Profile, Relay, RelayOptions};
use testkit::crash::seed;
use testkit::daemon::{Ended, Running};
use testkit::tree::{Growth, assert_same, total_bytes};
use tokio::runtime::Runtime;

use crate::pair::{Pair, at, copy_words, finished, number};

/// Payload that is sent again may be half of what there is, and a burst at the start of each run.
const SLACK: u64 = 1 << 20;

/// Two machines with a bad link between them.
struct Far {
    pair: Pair,
    relay: Relay,
    runtime: Runtime,
}

impl Far {
    fn new(name: &str, profile: Profile, first_seed: u64) -> Self {
        let pair = Pair::new(name);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut options = RelayOptions::new(pair.daemon.address());
        (options.to_target, options.to_client) = (profile.clone(), profile);
        options.seed = seed(first_seed);
        let relay = runtime.block_on(async { Relay::start(options) }).unwrap();
        pair.near.trust(&pair.far, relay.local_addr());
        Self { pair, relay, runtime }
    }

    /// Grows a tree at the end that gives, and the words that copy it.
    fn plan(&self, growth: &Growth, pull: bool) -> Plan {
        let source = if pull { self.pair.served("tree") } else { self.pair.local("tree") };
        growth.grow(&source);
        let relayed = at(self.relay.local_addr(), if pull { "data/tree" } else { "data" });
        let (from, to, target) = match pull {
            true => (relayed, self.pair.local("here").into_os_string(), self.pair.local("here")),
            false => (source.clone().into_os_string(), relayed, self.pair.served("tree")),
        };
        Plan { words: vec!["--json".into(), from, to], source, target }
    }

    fn start(&self, plan: &Plan) -> Running {
        Running::start(self.pair.near.command(copy_words(&plan.words)))
    }

    /// Waits until so many bytes have passed.
    fn wait_for_bytes(&self, bytes: u64, running: &mut Running) {
        let end = Instant::now() + Duration::from_secs(60);
        let passed = || {
            let stats = self.relay.stats();
            stats.to_target.delivered_bytes + stats.to_client.delivered_bytes
        };
        while passed() < bytes {
            assert!(running.is_running(), "it ended before {bytes} bytes had passed");
            assert!(Instant::now() < end, "only {} bytes passed in a minute", passed());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(self) {
        let Self { pair, relay, runtime } = self;
        runtime.block_on(relay.close());
        drop(pair);
    }
}

struct Plan {
    words: Vec<OsString>,
    source: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Plan {
    /// The same tree has arrived, and little was sent twice.
    #[track_caller]
    fn check(&self, ended: Ended) {
        let line = finished(&ended.expect_code(0));
        assert_same(&self.source, &self.target);
        let (sent, all) = (number(&line, "bytes_sent"), total_bytes(&self.source));
        assert!(sent <= all * 3 / 2 + SLACK, "{sent} bytes were sent for a tree of {all}: {line}");
        assert_eq!(number(&line, "failed"), 0, "{line}");
    }
}

fn tree(seed: u64, large: &[u64]) -> Growth {
    Growth { large: large.to_vec(), ..Growth::small(seed, 150) }
}

/// A short way, so that loss is met often and the tests are quick.
fn lossy(loss: f64) -> Profile {
    Profile { delay: 5_000_000, jitter: 1_000_000, loss, ..Profile::default() }
}

fn check(name: &str, profile: Profile, seed: u64, bytes: u64) {
    for pull in [false, true] {
        let far = Far::new(name, profile.clone(), seed);
        let plan = far.plan(&tree(seed, &[bytes, 100_000]), pull);
        plan.check(far.start(&plan).wait());
        far.end();
    }
}

#[test]
fn a_good_link() {
    check("loss-0", lossy(0.0), 51, 6 << 20);
}

#[test]
fn two_percent_of_packets_are_lost() {
    check("loss-2", lossy(0.02), 52, 4 << 20);
}

#[test]
fn ten_percent_of_packets_are_lost() {
    check("loss-10", lossy(0.10), 53, 2 << 20);
}

#[test]
fn packets_are_overtaken_and_doubled() {
    let profile = Profile { reorder: 0.1, reorder_by: 15_000_000, duplicate: 0.1, ..lossy(0.0) };
    check("reorder", profile, 54, 3 << 20);
}

#[test]
fn packets_are_damaged() {
    check("corrupt", Profile { corrupt: 0.03, ..lossy(0.0) }, 55, 3 << 20);
}

#[test]
fn everything_at_once() {
    let profile = Profile {
        reorder: 0.05,
        reorder_by: 10_000_000,
        duplicate: 0.02,
        corrupt: 0.01,
        burst_loss: Some(badlink::GilbertElliott {
            good_to_bad: 0.002,
            bad_to_good: 0.1,
            loss_in_bad: 0.8,
            loss_in_good: 0.0,
        }),
        rate: Some(40e6),
        ..lossy(0.01)
    };
    check("all", profile, 56, 2 << 20);
}

/// A link of 2 MB/s, so that there is a middle.
fn slow() -> Profile {
    Profile { rate: Some(16e6), ..lossy(0.0) }
}

#[test]
fn a_link_that_is_away_for_half_a_minute() {
    const AWAY: Duration = Duration::from_secs(30);
    // The idle timeout is 10 s and the longest pause between two tries 2 s; an attempt that was under
    // way when the link came back may have to time out first.
    const AFTER: Duration = Duration::from_secs(20);
    // So large that the chunks under way, which a cut loses, are a small part of it.
    let profile = Profile { rate: Some(64e6), ..lossy(0.0) };
    let far = Far::new("blackout", profile, 57);
    let plan = far.plan(&tree(57, &[20 << 20]), false);
    let mut running = far.start(&plan);
    far.wait_for_bytes(10 << 20, &mut running);
    far.relay.blackout(AWAY);
    let cut = Instant::now();
    let ended = running.wait();
    let taken = cut.elapsed();
    assert!(taken > AWAY, "it ended while nothing could pass: {taken:?}");
    assert!(taken < AWAY + AFTER, "it took {taken:?}\n{}", ended.told());
    assert!(ended.text().contains("\"link_lost\""), "{}", ended.told());
    plan.check(ended);
    far.end();
}

#[test]
fn short_cuts_one_after_the_other() {
    let far = Far::new("cuts", slow(), 58);
    let plan = far.plan(&tree(58, &[6 << 20]), true);
    let mut running = far.start(&plan);
    for cut in 1..=3 {
        far.wait_for_bytes(cut << 20, &mut running);
        far.relay.blackout(Duration::from_millis(700));
    }
    plan.check(running.wait());
    far.end();
}

#[test]
fn an_address_that_changes_in_the_middle() {
    for (pull, seed) in [(false, 59), (true, 60)] {
        let far = Far::new("rebind", slow(), seed);
        let plan = far.plan(&tree(seed, &[4 << 20]), pull);
        let mut running = far.start(&plan);
        far.wait_for_bytes(2 << 20, &mut running);
        far.relay.rebind().unwrap();
        let moved = Instant::now();
        let ended = running.wait();
        let taken = moved.elapsed();
        assert!(taken < Duration::from_secs(20), "it took {taken:?}\n{}", ended.told());
        plan.check(ended);
        far.end();
    }
}

/// Copies with `-v`, and gives the line about the link.
fn link_line(far: &Far, source: &Path, name: &str) -> String {
    let target = at(far.relay.local_addr(), format!("data/{name}"));
    let ended = far.pair.copy(&["-v".into(), source.into(), target]).expect_code(0);
    let line = ended.errors.lines().find(|line| line.starts_with("link: QUIC"));
    line.unwrap_or_else(|| panic!("{}", ended.told())).to_owned()
}

/// The rate that is remembered of the one host that there is.
fn remembered(far: &Far) -> f64 {
    let files: Vec<_> = std::fs::read_dir(far.pair.near.home().join("paths")).unwrap().collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
    let (_, rest) = text.split_once("rate_bytes_per_s=").unwrap_or_else(|| panic!("{text}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_second_copy_begins_with_the_rate_of_the_first() {
    let profile = Profile { delay: 20_000_000, rate: Some(40e6), ..Profile::default() };
    let far = Far::new("learnt", profile, 62);
    let source = far.pair.local("file");
    std::fs::write(&source, testkit::tree::Random::new(62).bytes(8 << 20)).unwrap();
    let first = link_line(&far, &source, "first");
    assert!(!first.contains("earlier copy"), "{first}");
    // What is remembered counts where the path is as it was. A machine that others keep busy answers late
    // and makes another path of it, so one of five must do.
    let tries = (0..5).map(|number| {
        let rate = remembered(&far);
        assert!((1e6..6e6).contains(&rate), "{rate}, where the path carries 5 MB/s");
        let expected = format!("begun with the {:.1} MB/s of an earlier copy", rate / 1e6);
        let line = link_line(&far, &source, &format!("again-{number}"));
        line.ends_with(&expected).then_some(()).ok_or(format!("{line}, not {expected}"))
    });
    let failed: Vec<_> = tries.map_while(Result::err).collect();
    assert!(failed.len() < 5, "{failed:#?}");
    far.end();
}

#[test]
fn a_link_that_stays_away_is_given_up_and_what_arrived_is_kept() {
    let profile = Profile { rate: Some(64e6), ..lossy(0.0) };
    let far = Far::new("gone", profile, 61);
    let mut plan = far.plan(&tree(61, &[20 << 20]), false);
    let patient = plan.words.clone();
    plan.words.splice(0..0, ["--give-up-after".into(), "3s".into()]);
    let mut running = far.start(&plan);
    far.wait_for_bytes(16 << 20, &mut running);
    far.relay.cut();
    let ended = running.wait_until(Duration::from_secs(60)).expect_code(4);
    ended.expect_says(&["hint: ", "what has arrived is kept"]);
    assert!(!Path::new(&plan.target).join("large-0").exists());
    far.relay.restore();
    plan.words = patient;
    let line = finished(&far.start(&plan).wait().expect_code(0));
    assert_same(&plan.source, &plan.target);
    let sent = number(&line, "bytes_sent");
    // Four MiB had not been sent, and at most eight were under way.
    assert!(sent <= 13 << 20, "{sent} bytes were sent again, though 16 of 20 MiB had arrived");
    far.end();
}
