//! Many clients at one inbox at once, each with a key of its own: everything arrives whole, the server's memory stays
//! small, and small uploads do not wait behind large ones. `cargo xtask load inbox` is the same at length.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use testkit::daemon::{Daemon, Machine, Running};
use testkit::tree::{Growth, Random, Scratch, assert_same, write};

use crate::pair::machine;

/// The most memory that the server may take.
const MEMORY: u64 = 256 << 20;

/// A server with an inbox, and machines that may hand in.
struct Crowd {
    scratch: Scratch,
    server: Machine,
    daemon: Daemon,
    clients: Vec<Machine>,
}

impl Crowd {
    fn new(name: &str, clients: usize, budgets: &str) -> Self {
        let scratch = Scratch::new(name);
        let server = machine(scratch.join("server"));
        let clients: Vec<Machine> =
            (0..clients).map(|client| machine(scratch.join(format!("client-{client}")))).collect();
        clients.iter().for_each(|client| server.allow(client, &[]));
        let config = scratch.join("haul.toml");
        let text = format!("[[inbox]]\nname = \"lab\"\npath = \"root\"\n[inboxes]\n{budgets}\n");
        fs::write(&config, text).unwrap();
        let words: [OsString; 5] = [
            "serve".into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--config".into(),
            config.into(),
        ];
        let daemon = Daemon::start(server.command(words));
        clients.iter().for_each(|client| client.trust(&server, daemon.address()));
        Self { scratch, server, daemon, clients }
    }

    /// The words with which a client hands this in.
    fn words(&self, source: &Path, options: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["put", "--json", "-k", "sample:x"].map(Into::into).into();
        words.extend(options.iter().map(Into::into));
        words.extend([self.daemon.address().to_string().into(), source.into()]);
        words
    }

    /// Hands everything in at once, each by its client, and holds what is published against its source.
    #[track_caller]
    fn put_all(&self, uploads: &[(usize, PathBuf)]) {
        let start = |(client, source): &(usize, PathBuf)| {
            Running::start(self.clients[*client].command(self.words(source, &[])))
        };
        let running: Vec<Running> = uploads.iter().map(start).collect();
        for (running, (_, source)) in running.into_iter().zip(uploads) {
            let ended = running.wait().expect_code(0);
            let last: Value = serde_json::from_str(&ended.last_line()).unwrap();
            assert_eq!(last["event"], "published", "{}", ended.told());
            let folder = self.folder(last["dataset"].as_str().unwrap());
            let copy = folder.join("files").join(source.file_name().unwrap());
            if source.is_dir() {
                assert_same(source, &copy);
            } else {
                assert!(
                    fs::read(source).unwrap() == fs::read(&copy).unwrap(),
                    "{}",
                    copy.display()
                );
            }
        }
    }

    /// The folder of a dataset.
    fn folder(&self, id: &str) -> PathBuf {
        let months = entries(&self.scratch.join("root/store/lab"));
        let start = format!("{id}-");
        let is_it = |path: &PathBuf| {
            path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(&start))
        };
        let mut found = months.iter().flat_map(|month| entries(month)).filter(is_it);
        found.next().unwrap_or_else(|| panic!("no folder of {id}"))
    }

    /// So many datasets are whole, and the server has not taken too much memory for them.
    #[track_caller]
    fn expect_whole(&self, count: usize) {
        let says = format!("{count} datasets read, all whole");
        self.server.run(["inbox", "verify"]).expect_code(0).expect_says(&[&says]);
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        assert!(kibibytes << 10 < MEMORY, "the server took {kibibytes} KiB");
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// An upload whose events are read as they come; it ends with the test.
struct Followed {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Followed {
    fn start(machine: &Machine, words: Vec<OsString>) -> Self {
        let mut child = machine.command(words).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads on until this event comes, and fails the test if another one of these comes before.
    #[track_caller]
    fn until(&mut self, wanted: &str, never: &[&str]) {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended before '{wanted}'");
            let event: Value = serde_json::from_str(&line).unwrap();
            let word = event["event"].as_str().unwrap();
            assert!(!never.contains(&word), "{line}");
            if word == wanted {
                return;
            }
        }
    }

    /// All that it says until it is ended, which it is now.
    fn end(mut self) -> String {
        assert!(self.child.try_wait().unwrap().is_none(), "it has ended already");
        self.child.kill().unwrap();
        let rest = std::io::read_to_string(&mut self.lines).unwrap();
        self.child.wait().unwrap();
        rest
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn datasets_of_many_clients_at_once_arrive_whole() {
    let crowd = Crowd::new("inbox-load-many", 12, "active = 3\nkeep_free = \"1MB\"");
    let uploads: Vec<(usize, PathBuf)> = (0..12)
        .map(|client| {
            let run = crowd.scratch.join(format!("run-{client}"));
            let large = vec![200_000 + 10_000 * client as u64];
            let growth =
                Growth { seed: client as u64, files: 30, most_bytes: 40_000, large, odd: false };
            growth.grow(&run);
            (client, run)
        })
        .collect();
    crowd.put_all(&uploads);
    crowd.expect_whole(12);
}

#[test]
fn many_datasets_of_few_clients_at_once_arrive_whole() {
    let crowd = Crowd::new("inbox-load-few", 4, "active = 3\nkeep_free = \"1MB\"");
    let mut random = Random::new(11);
    let uploads: Vec<(usize, PathBuf)> = (0..40)
        .map(|number| {
            let file = crowd.scratch.join(format!("file-{number}"));
            let len = random.below(60_000) as usize;
            write(&file, &random.bytes(len));
            (number % 4, file)
        })
        .collect();
    crowd.put_all(&uploads);
    crowd.expect_whole(40);
}

#[test]
fn small_uploads_pass_large_ones() {
    let crowd =
        Crowd::new("inbox-load-beside", 6, "active = 1\nsmall = \"1MB\"\nkeep_free = \"1MB\"");
    let mut random = Random::new(12);
    let large = crowd.scratch.join("large");
    write(&large, &random.bytes(16 << 20));
    // At this rate it takes minutes, and the test does not.
    let large = |client: usize| {
        Followed::start(&crowd.clients[client], crowd.words(&large, &["--limit", "50kB"]))
    };
    let mut first = large(0);
    first.until("admitted", &[]);
    let mut second = large(1);
    second.until("waiting", &["admitted"]);
    let uploads: Vec<(usize, PathBuf)> = (0..16)
        .map(|number| {
            let file = crowd.scratch.join(format!("small-{number}"));
            write(&file, &random.bytes(32_000));
            (2 + number % 4, file)
        })
        .collect();
    crowd.put_all(&uploads);
    assert!(!first.end().contains("\"published\""));
    let waited = second.end();
    assert!(!waited.contains("\"admitted\"") && !waited.contains("\"published\""), "{waited}");
    crowd.expect_whole(16);
}
