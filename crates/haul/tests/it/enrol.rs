//! Keys that ask to be let in, end to end: requests and codes against a real daemon, which is never restarted for them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use haul::link::{Identity, LinkError};
use haul::transfer::message::{Opening, RefuseCode};
use testkit::daemon::{Daemon, Machine, serve_words};
use testkit::hostile::Peer;
use testkit::tree::Scratch;

use crate::hostile::runtime;
use crate::pair::{data, machine};

/// Two machines of which the far one serves, and knows nobody.
struct Desk {
    scratch: Scratch,
    near: Machine,
    far: Machine,
    daemon: Daemon,
    host: String,
}

impl Desk {
    fn new(name: &str, takes_requests: bool) -> Self {
        let scratch = Scratch::new(name);
        let (near, far) = (machine(scratch.join("near")), machine(scratch.join("far")));
        let daemon = start(&scratch, &far, takes_requests);
        near.trust(&far, daemon.address());
        let host = daemon.address().to_string();
        Self { scratch, near, far, daemon, host }
    }

    fn ask(&self, who: &Machine, words: &[&str]) -> testkit::daemon::Ended {
        who.run(["key", "request", &self.host].iter().chain(words))
    }

    fn code(&self, words: &[&str]) -> String {
        let invite = ["key", "invite", "--as", "lab1", "--inbox", "ngs"];
        self.far.run(invite.iter().chain(words)).expect_code(0).text().trim().to_owned()
    }

    fn keys(&self) -> String {
        fs::read_to_string(self.scratch.join("far/authorized_keys")).unwrap_or_default()
    }

    fn approve(&self, fingerprint: &str) {
        let words = ["key", "approve", fingerprint, "--as", "lab1", "--inbox", "ngs"];
        let words = words.iter().chain(&["--quota", "2T", "--quota-datasets", "9"]);
        self.far.run(words).expect_code(0).expect_says(&["lab1 is let in"]);
    }
}

fn start(scratch: &Scratch, far: &Machine, takes_requests: bool) -> Daemon {
    let config: PathBuf = scratch.join("serve.toml");
    fs::write(&config, format!("[enrolment]\nrequests = {takes_requests}\n")).unwrap();
    let mut words = serve_words("127.0.0.1:0".parse().unwrap(), &[data(&scratch.folder("served"))]);
    words.extend(["--config".into(), config.into_os_string()]);
    Daemon::start(far.command(words))
}

fn fingerprint(of: &Machine) -> String {
    of.run(["key", "show", "--fingerprint"]).text().trim().to_owned()
}

#[test]
fn a_request_is_approved_and_the_key_works_at_once() {
    let desk = Desk::new("enrol-request", true);
    let print = fingerprint(&desk.near);
    desk.far.run(["key", "pending"]).expect_code(0);
    let label = "\u{1b}[31mme\u{202e}\nhaul-ed25519 AAAA";
    desk.ask(&desk.near, &["--label", label]).expect_code(1).expect_says(&[&print, "key approve"]);
    // Nothing else is open to it.
    desk.near
        .run(["ls", &desk.host])
        .expect_code(3)
        .expect_says(&["may ask to be let in (haul key request)"]);
    let pending = desk.far.run(["key", "pending"]).expect_code(0).text();
    assert!(pending.contains(&print) && pending.lines().count() == 1, "{pending:?}");
    for text in [&pending, &desk.daemon.log()] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    // By a beginning that is long enough.
    desk.far.run(["key", "approve", &print[..10], "--as", "x", "--inbox", "y"]).expect_code(2);
    desk.approve(&print["SHA256:".len()..][..8]);
    let line = desk.near.key_line();
    let key: Vec<&str> = line.split(' ').take(2).collect();
    let expected = format!("inbox=\"ngs\",quota=2T,quota-datasets=9 {} lab1\n", key.join(" "));
    assert_eq!(desk.keys(), expected);
    desk.ask(&desk.near, &[]).expect_code(0).expect_says(&["was known here before"]);
    assert_eq!(desk.far.run(["key", "pending"]).text().trim(), "nobody asks to be let in");
    let list = desk.far.run(["key", "list"]).text();
    assert!(list.contains("lab1") && list.contains("quota=2T"), "{list}");
    desk.far.run(["key", "approve", &print, "--as", "x", "--inbox", "y"]).expect_code(1);
    let audit = fs::read_to_string(desk.scratch.join("far/audit.jsonl")).unwrap();
    assert!(audit.lines().count() == 2 && audit.contains("approved"), "{audit}");
}

#[test]
fn a_code_is_good_once() {
    let desk = Desk::new("enrol-code", false);
    // Nobody comes in where there is nothing to ask for.
    desk.ask(&desk.near, &[]).expect_code(3).expect_says(&["is not in authorized_keys"]);
    let code = desk.code(&["--quota", "500G"]);
    desk.ask(&desk.near, &[]).expect_code(3).expect_says(&["takes no requests"]);
    desk.ask(&desk.near, &["--code", "wrong"]).expect_code(3).expect_says(&["is not taken"]);
    let ended = desk
        .near
        .run_with(["key", "request", &desk.host, "--code", "-"], format!("{code}\n").as_bytes());
    ended.expect_code(0).expect_says(&["let in from now on, as lab1"]);
    assert!(desk.keys().starts_with("inbox=\"ngs\",quota=500G haul-ed25519 "), "{}", desk.keys());
    desk.ask(&desk.near, &[]).expect_code(0);
    // Another code, so that strangers may come in; the first is used up.
    desk.code(&[]);
    let other = machine(desk.scratch.join("other"));
    other.trust(&desk.far, desk.daemon.address());
    desk.ask(&other, &["--code", &code]).expect_code(3).expect_says(&["is not taken"]);
    let late = desk.code(&["--expires", "0s"]);
    desk.ask(&other, &["--code", &late]).expect_code(3).expect_says(&["is not taken"]);
    assert_eq!(desk.keys().lines().count(), 1);
    let listed = fs::read_to_string(desk.scratch.join("far/codes")).unwrap();
    assert!(!listed.contains(&code) && !desk.daemon.log().contains(&code), "codes are secrets");
}

#[test]
fn revoking_ends_lanes_and_drops_requests() {
    let desk = Desk::new("enrol-revoke", true);
    let identity = Identity::generate().unwrap();
    let print = identity.public_key().fingerprint();
    let ask = Opening::Enrol { code: Vec::new(), label: "me".to_owned() };
    runtime().block_on(async {
        let address = desk.daemon.address();
        let mut peer = Peer::dial(address, &identity).await.unwrap();
        let answer = peer.ask(&ask).await;
        assert!(matches!(answer, Ok(Opening::Enrolled { admitted: false, .. })), "{answer:?}");
        desk.far.run(["key", "revoke", &print]).expect_code(0).expect_says(&["1 request"]);
        desk.far.run(["key", "approve", &print, "--as", "x", "--inbox", "y"]).expect_code(1);
        let mut peer = Peer::dial(address, &identity).await.unwrap();
        peer.ask(&ask).await.unwrap();
        desk.approve(&print);
        let peer = Peer::dial(address, &identity).await.unwrap();
        desk.far.run(["key", "revoke", &print[..20]]).expect_code(0).expect_says(&["1 key"]);
        // The daemon looks every two seconds.
        let closed = closed(&peer).await;
        // It is as any unknown key again, so its lane ends for that it may do less.
        assert!(matches!(&closed, Some(LinkError::Closed { code: 3, .. })), "{closed:?}");
    });
    assert_eq!(desk.keys(), "");
}

/// Why a lane was closed, if it was within half a minute.
async fn closed(peer: &Peer) -> Option<LinkError> {
    tokio::time::timeout(Duration::from_secs(30), peer.lane.closed()).await.ok()
}

#[test]
fn strangers_are_few_and_do_not_stay() {
    let desk = Desk::new("enrol-few", true);
    runtime().block_on(async {
        let address = desk.daemon.address();
        let mut here = Vec::new();
        for _ in 0..4 {
            here.push(Peer::dial(address, &Identity::generate().unwrap()).await.unwrap());
        }
        let fifth = Peer::dial(address, &Identity::generate().unwrap()).await;
        let reason = fifth.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(reason.contains("too many unknown keys"), "{reason}");
        // Who is known is not in their number.
        desk.far.allow(&desk.near, &[]);
        desk.near.run(["ls", &desk.host]).expect_code(0);
        for peer in &here {
            assert!(closed(peer).await.is_some(), "a stranger that says nothing stays");
        }
        let mut peer = Peer::dial(address, &Identity::generate().unwrap()).await.unwrap();
        let answer = peer.ask(&Opening::List { path: Vec::new() }).await;
        assert!(
            matches!(answer, Ok(Opening::Refuse { code: RefuseCode::Denied, .. })),
            "{answer:?}"
        );
    });
}

/// Killed at any moment, it leaves a code that can be used or a key that is in, or neither; never both, and never a
/// list that cannot be read.
#[test]
fn a_kill_leaves_no_code_beside_its_key() {
    let desk = Desk::new("enrol-kill", false);
    let (mut daemon, far) = (None, &desk.far);
    for round in 0..10_u64 {
        let home = format!("client{round}");
        let client = machine(desk.scratch.join(&home));
        let served = daemon.insert(start(&desk.scratch, far, false));
        client.trust(far, served.address());
        let code = desk.code(&[]);
        let address = served.address().to_string();
        let words = ["key", "request", &address, "--code", &code];
        let asking = testkit::daemon::Running::start(client.command(words));
        let log = served.log();
        // From before the question to after the answer.
        std::thread::sleep(Duration::from_millis(round * 15));
        daemon = None;
        drop(asking);
        let line = client.key_line();
        let key = line.split(' ').nth(1).unwrap();
        let is_in = desk.keys().contains(key);
        let codes = fs::read_to_string(desk.scratch.join("far/codes")).unwrap_or_default();
        let left = codes.lines().count();
        assert!(!is_in || left == 0, "round {round}: {log}");
        assert!(!far.run(["key", "list"]).text().contains("admits nobody"));
        fs::remove_file(desk.scratch.join("far/codes")).unwrap();
    }
}
