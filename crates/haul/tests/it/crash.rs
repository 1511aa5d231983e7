//! Kills at random moments: whatever dies, every final name holds the whole old file, the whole new one,
//! or nothing; the same command goes on; and little is sent twice.
//!
//! What is counted: where the copying side is killed, every byte that the link carried towards the
//! receiver, QUIC's own included, as the relay between them counts them; where the daemon is killed,
//! the copying side's `bytes_sent`, which is payload.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use badlink::{Relay, RelayOptions};
use testkit::crash::{Between, Found, runs, seed};
use testkit::daemon::{Daemon, Machine, Running};
use testkit::tree::{Growth, Random, Scratch, assert_same, entries, set_time, total_bytes, write};

use crate::pair::{at, copy_words, data, finished, machine, number};

/// Kills on each side where nobody says otherwise.
const KILLS: u32 = 50;
/// What may be sent twice for each kill: chunks under way, and small files not yet published.
const AGAIN_BYTES: u64 = 8 << 20;
/// A copy is held to this rate, so that it lasts long enough to be killed in the middle.
const LIMIT: &str = "60MB";
/// A kill comes at most so long after the start; most runs last longer.
const LATEST: Duration = Duration::from_millis(700);

/// The trees, the two machines, and the chance.
struct Stage {
    scratch: Scratch,
    near: Machine,
    far: Machine,
    random: Random,
    between: Between,
    bytes: u64,
}

impl Stage {
    fn new(name: &str, first_seed: u64) -> Self {
        let seed = seed(first_seed);
        let scratch = Scratch::new(name);
        let (new, old) = (scratch.join("new"), scratch.join("old"));
        let growth = Growth {
            seed,
            files: 500,
            most_bytes: 32 * 1024,
            large: vec![16 << 20, 16 << 20],
            odd: false,
        };
        growth.grow(&new);
        let mut random = Random::new(seed ^ 0x5eed);
        old_versions(&new, &old, &mut random);
        let (near, far) = (machine(scratch.join("near")), machine(scratch.join("far")));
        far.allow(&near, &[]);
        let bytes = total_bytes(&new);
        Self { between: Between::new(old, new.clone()), scratch, near, far, random, bytes }
    }

    fn new_tree(&self) -> PathBuf {
        self.scratch.join("new")
    }

    /// Where the copy lands, as old as it was.
    fn reset(&self, target: &Path) {
        let _ = fs::remove_dir_all(target);
        copy_plainly(&self.scratch.join("old"), target);
    }

    #[track_caller]
    fn check(&self, target: &Path, when: &str) -> Found {
        self.between.check(target).unwrap_or_else(|wrong| panic!("{when}: {wrong}"))
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.below(LATEST.as_micros() as u64))
    }

    /// What may be sent for a number of copies and kills.
    fn allowance(&self, copies: u64, kills: u64) -> u64 {
        copies * self.bytes + kills * AGAIN_BYTES.max(self.bytes / 50)
    }
}

/// A third of the small files and one of the large, with other content and other times.
fn old_versions(new: &Path, old: &Path, random: &mut Random) {
    fs::create_dir(old).unwrap();
    for (path, meta) in entries(new) {
        let target = old.join(&path);
        if meta.is_dir() {
            fs::create_dir_all(target).unwrap();
        } else if path == Path::new("large-1") || random.below(3) == 0 {
            // Longer or shorter than the new one, or just as long.
            let size = meta.len() * (1 + random.below(3)) / 2;
            write(&target, &random.bytes(size as usize));
            set_time(&target, 900_000_000, 0);
        }
    }
}

/// A copy that owes nothing to haul.
fn copy_plainly(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (path, meta) in entries(from) {
        if meta.is_dir() {
            fs::create_dir_all(to.join(&path)).unwrap();
            continue;
        }
        fs::copy(from.join(&path), to.join(&path)).unwrap();
        let file = fs::File::options().write(true).open(to.join(&path)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(meta.modified().unwrap())).unwrap();
    }
}

/// Waits for a moment, or for the end of the program, whichever comes first; says whether it runs still.
fn runs_until(running: &mut Running, moment: Duration) -> bool {
    let end = Instant::now() + moment;
    while Instant::now() < end {
        if !running.is_running() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    running.is_running()
}

/// The copying program is killed; `pull` says whether it is the one that receives.
fn kill_the_copy(name: &str, first_seed: u64, pull: bool, kills: u32) {
    let mut stage = Stage::new(name, first_seed);
    let (source, target) = (stage.new_tree(), stage.scratch.join("target"));
    // The target of a push lies in the folder that is exported.
    let exported = if pull { source.clone() } else { stage.scratch.path().to_owned() };
    let daemon = stage.far.serve(&[data(&exported)]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = RelayOptions::new(daemon.address());
    let relay = runtime.block_on(async { Relay::start(options) }).unwrap();
    stage.near.trust(&stage.far, relay.local_addr());
    let words: Vec<OsString> = match pull {
        true => vec![at(relay.local_addr(), "data/."), target.clone().into_os_string()],
        false => vec![source.join(".").into_os_string(), at(relay.local_addr(), "data/target")],
    };
    let words: Vec<OsString> =
        ["--json", "--limit", LIMIT].iter().map(OsString::from).chain(words).collect();
    let (mut killed, mut copies, mut began) = (0, 0, true);
    while killed < kills || !began {
        if std::mem::take(&mut began) {
            stage.reset(&target);
            copies += 1;
        }
        let mut running = Running::start(stage.near.command(copy_words(&words)));
        let moment = stage.moment();
        if killed < kills && runs_until(&mut running, moment) {
            running.kill();
            drop(running);
            killed += 1;
            stage.check(&target, &format!("after kill {killed}, {moment:?} after the start"));
        } else {
            finished(&running.wait().expect_code(0));
            assert_same(&source, &target);
            began = true;
        }
    }
    let stats = relay.stats();
    let carried = if pull { stats.to_client.bytes } else { stats.to_target.bytes };
    report(&stage, name, carried, copies, killed);
    runtime.block_on(relay.close());
}

/// Fails if more was sent than the kills excuse.
fn report(stage: &Stage, name: &str, sent: u64, copies: u64, killed: u32) {
    let allowed = stage.allowance(copies, killed.into());
    eprintln!(
        "{name}: {killed} kills in {copies} copies of {} bytes; {sent} bytes sent, {allowed} allowed",
        stage.bytes
    );
    assert!(sent <= allowed, "{name}: {sent} bytes were sent, {allowed} are allowed");
}

#[test]
fn crash_of_the_sender_that_copies() {
    kill_the_copy("crash-push", 71, false, runs(KILLS).div_ceil(2));
}

#[test]
fn crash_of_the_receiver_that_copies() {
    kill_the_copy("crash-pull", 72, true, runs(KILLS) / 2);
}

/// The target has the large files under other names. What was made of them when the receiver died is used, and they
/// are not sent.
#[test]
fn crash_of_a_receiver_that_has_the_content_elsewhere() {
    let kills = runs(KILLS) / 5;
    let mut stage = Stage::new("crash-twins", 74);
    let (source, target) = (stage.new_tree(), stage.scratch.join("target"));
    let daemon = stage.far.serve(&[data(stage.scratch.path())]);
    stage.near.trust(&stage.far, daemon.address());
    let words: Vec<OsString> =
        ["--json".into(), at(daemon.address(), "data/new"), target.clone().into_os_string()].into();
    let arrived = target.join("new");
    let large: u64 = 2 * (16 << 20);
    let (mut killed, mut began) = (0, true);
    while killed < kills || !began {
        if std::mem::take(&mut began) {
            stage.reset(&target);
            fs::rename(&target, stage.scratch.join("passing")).unwrap();
            fs::create_dir(&target).unwrap();
            fs::rename(stage.scratch.join("passing"), &arrived).unwrap();
            copy_plainly(&source, &target.join("was"));
        }
        let mut running = Running::start(stage.near.command(copy_words(&words)));
        let moment = stage.moment() / 2;
        if killed < kills && runs_until(&mut running, moment) {
            running.kill();
            drop(running);
            killed += 1;
            stage.check(&arrived, &format!("after kill {killed}, {moment:?} after the start"));
        } else {
            let line = finished(&running.wait().expect_code(0));
            assert_same(&source, &arrived);
            let sent = number(&line, "bytes_sent");
            // One chunk may go out unasked.
            assert!(sent <= stage.bytes - large + (1 << 20), "{sent} of {} bytes", stage.bytes);
            began = true;
        }
    }
}

#[test]
fn crash_of_the_daemon_that_receives() {
    let kills = runs(KILLS);
    let mut stage = Stage::new("crash-daemon", 73);
    let (source, export) = (stage.new_tree(), stage.scratch.folder("export"));
    let target = export.join("target");
    let exports = [data(&export)];
    let mut daemon = stage.far.serve(&exports);
    let address = daemon.address();
    stage.near.trust(&stage.far, address);
    let words: Vec<OsString> = ["--json", "--limit", LIMIT]
        .iter()
        .map(OsString::from)
        .chain([source.join(".").into_os_string(), at(address, "data/target")])
        .collect();
    let (mut killed, mut copies, mut sent) = (0, 0, 0);
    while killed < kills {
        stage.reset(&target);
        copies += 1;
        let mut running = Running::start(stage.near.command(copy_words(&words)));
        // So few kills for each copy that its patience, not its luck, decides.
        for _ in 0..5 {
            let moment = stage.moment();
            if killed >= kills || !runs_until(&mut running, moment) {
                break;
            }
            daemon.kill();
            killed += 1;
            stage.check(
                &target,
                &format!("after kill {killed} of the daemon, {moment:?} after the last"),
            );
            daemon = restart(&stage.far, address, &exports);
        }
        // The same run goes on by itself.
        let line = finished(&running.wait().expect_code(0));
        assert_same(&source, &target);
        sent += number(&line, "bytes_sent");
    }
    report(&stage, "crash-daemon", sent, copies, killed);
}

/// The daemon again, at the same address.
fn restart(far: &Machine, address: std::net::SocketAddr, exports: &[OsString]) -> Daemon {
    far.serve_at(address, exports)
}
