//! Two machines with a diode between them: on the loopback, or each in a network namespace of its own.

use std::ffi::OsStr;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use badlink::{End, Pair, PairOptions};
use serde_json::Value;
use testkit::daemon::{Machine, Running, behind};
use testkit::tree::{Scratch, differences};

use crate::pair::machine;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two machines that trust each other, and a tree on the one before the diode.
pub struct Diode {
    pub scratch: Scratch,
    pub low: Machine,
    pub high: Machine,
    /// Where the receiver listens.
    pub address: SocketAddr,
    /// What the sender is told of its rate.
    pub rate: &'static str,
    link: Option<Pair>,
}

impl Diode {
    /// Both on the loopback.
    pub fn new(name: &str) -> Self {
        // Free a moment ago, which is all that can be had.
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::at(name, address, None)
    }

    /// Each in a namespace of its own. The receiver's has no way back.
    pub fn apart(name: &str) -> Self {
        let options = PairOptions { model: None, one_way: true, ..PairOptions::default() };
        let link = Pair::start(options).unwrap();
        Self::at(name, SocketAddr::new(link.address(End::B), 4286), Some(link))
    }

    fn at(name: &str, address: SocketAddr, link: Option<Pair>) -> Self {
        let scratch = Scratch::new(name);
        let (low, high) = (machine(scratch.join("low")), machine(scratch.join("high")));
        let line = |machine: &Machine| machine.run(["diode", "key", "show"]).expect_code(0).text();
        high.run(["diode", "key", "trust", line(&low).trim()]).expect_code(0);
        low.run(["diode", "key", "trust", line(&high).trim()]).expect_code(0);
        scratch.folder("tree");
        Self { scratch, low, high, address, rate: "40MB", link }
    }

    pub fn tree(&self) -> PathBuf {
        self.scratch.join("tree")
    }

    pub fn copy(&self) -> PathBuf {
        self.scratch.join("copy")
    }

    /// Packets that have left the sender's namespace, and the receiver's.
    pub fn packets(&self) -> (u64, u64) {
        let sent = |end| self.link.as_ref().and_then(|link| link.sent(end));
        (sent(End::A).unwrap(), sent(End::B).unwrap())
    }

    /// A count of the receiver's kernel, such as `Udp` and `OutDatagrams` (proc_pid_net(5)).
    pub fn counted(&self, protocol: &str, name: &str) -> u64 {
        let link = self.link.as_ref().unwrap();
        let output = link.command(End::B, "cat").arg("/proc/net/snmp").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let head = format!("{protocol}: ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&head));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|it| it == name).unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    fn start(&self, end: End, command: Command) -> Running {
        Running::start(match &self.link {
            None => command,
            Some(link) => {
                behind("ip", &["netns", "exec", link.name(end)].map(OsStr::new), &command)
            }
        })
    }

    /// Where both ends meet.
    pub fn url(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// Starts a receiver, and does not wait for it.
    pub fn start_receiver(&self, url: &str, options: &[&str]) -> Running {
        let copy = self.copy();
        let mut words = vec!["diode", "recv", "--from", url, "--into", copy.to_str().unwrap()];
        words.extend(options);
        self.start(End::B, self.high.command(words))
    }

    pub fn receive_from(&self, url: &str, options: &[&str]) -> Running {
        let running = self.start_receiver(url, options);
        self.wait("the receiver answers", |status| status["recv"].is_object());
        running
    }

    pub fn receive(&self) -> Running {
        self.receive_from(&self.url(), &[])
    }

    pub fn send(&self, options: &[&str]) -> Running {
        let (tree, url) = (self.tree(), self.url());
        let mut words = vec!["diode", "send", tree.to_str().unwrap(), "--to", &url];
        words.extend(["--rate", self.rate, "--settle", "20ms"]);
        words.extend(options);
        self.start(End::A, self.low.command(words))
    }

    pub fn status(machine: &Machine) -> Value {
        let ended = machine.run(["diode", "status", "--json"]).expect_code(0);
        serde_json::from_str(&ended.last_line()).unwrap()
    }

    /// Waits until the receiver's side says so.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        Self::wait_on(&self.high, what, is_so);
    }

    /// Waits until a sender that was started answers.
    pub fn wait_sender(&self) {
        Self::wait_on(&self.low, "the sender answers", |status| status["send"].is_object());
    }

    fn wait_on(machine: &Machine, what: &str, is_so: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        loop {
            let status = Self::status(machine);
            if is_so(&status) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where the trees differ; what haul keeps for itself is left out.
    pub fn differences(&self) -> Vec<String> {
        let mut differs = differences(&self.tree(), &self.copy());
        differs.retain(|line| !line.contains(".haul"));
        differs
    }

    /// Waits until the trees are the same.
    pub fn wait_same(&self) {
        let began = Instant::now();
        loop {
            let differs = self.differences();
            if differs.is_empty() {
                return;
            }
            let status = Self::status(&self.high);
            assert!(began.elapsed() < PATIENCE, "{differs:#?}\n{status:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Carries a want-list from the one side to the other.
    pub fn resend(&self) {
        let list = self.scratch.join("list");
        self.high.run(["diode", "want", "--out", list.to_str().unwrap()]).expect_code(0);
        self.low.run(["diode", "resend", list.to_str().unwrap()]).expect_code(0);
    }

    /// Carries lists of what is missing back by hand until the trees are the same.
    pub fn heal(&self) {
        let began = Instant::now();
        loop {
            self.resend();
            std::thread::sleep(Duration::from_millis(700));
            let status = Self::status(&self.high);
            let differs = self.differences();
            if differs.is_empty() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{differs:#?}\n{status:#}");
        }
    }
}
