//! Daemons in this process, with the clock of their grants in the test's hand, and scripted peers: who gives,
//! holds and misuses grants, and who has what sent where.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use files::{Dir, Name};
use link::{LaneKind, LinkChoice, Pace, PublicKey, Target};
use testkit::hostile::{End, Peer, Step, bundle, file, offer};
use testkit::tree::Scratch;
use transfer::grant::PER_KEY;
use transfer::message::{
    Existing, Extent, Go, Granted, Opening, Order, Outcome, RefuseCode, Report, SourceMessage,
    Stopped, Stretch,
};

use super::*;
use crate::exports::{Export, Exports, Mode};

mod granted;
mod sending;
mod tunnel;

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A daemon with an export `data`, and what the test can turn.
struct Served {
    scratch: Scratch,
    identity: Arc<Identity>,
    /// Seconds on the clock of grants.
    clock: Arc<AtomicU64>,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    running: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir_all(scratch.join("keys")).unwrap();
        std::fs::create_dir_all(scratch.join("data")).unwrap();
        let (identity, clock) = (Arc::new(Identity::generate().unwrap()), Arc::default());
        let log: Arc<Mutex<String>> = Arc::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (running, address) = run(&scratch, &identity, any, &clock, &log);
        Self { scratch, identity, clock, log, address, running }
    }

    /// Ends it and starts it again at the same address, as after a crash.
    async fn restart(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        let Self { scratch, identity, clock, log, address, .. } = &*self;
        self.running = run(scratch, identity, *address, clock, log).0;
    }

    /// The list of who may connect, from these lines.
    fn allow(&self, lines: &[String]) {
        let mut text = lines.join("\n");
        text.push('\n');
        let path = self.scratch.join("keys/authorized_keys");
        // Another length each time, so that it is another file also within one tick of the clock.
        text.push_str(&"#".repeat(std::fs::read(&path).map_or(0, |old| old.len()) + 1));
        std::fs::write(&path, text).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn dial(&self, who: &Identity) -> Result<Peer, LinkError> {
        Peer::dial_by(LaneKind::Tcp, self.address, who).await
    }

    /// Asks one thing on a lane of its own.
    async fn ask(&self, who: &Identity, request: &Opening) -> Opening {
        self.dial(who).await.unwrap().ask(request).await.unwrap()
    }

    /// Has something granted to this key.
    async fn grant(&self, by: &Identity, to: &Identity, order: &Order, bytes: u64) -> Granted {
        match self.ask(by, &grant(to, order, bytes)).await {
            Opening::Granted(granted) => granted,
            other => panic!("{other:?}"),
        }
    }

    fn data(&self, below: &str) -> std::path::PathBuf {
        self.scratch.join("data").join(below)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn run(
    scratch: &Scratch,
    identity: &Arc<Identity>,
    listen: SocketAddr,
    clock: &Arc<AtomicU64>,
    log: &Arc<Mutex<String>>,
) -> (tokio::task::JoinHandle<()>, SocketAddr) {
    let daemon = open(scratch, identity, listen, clock, log);
    let address = daemon.local_addr();
    (tokio::spawn(daemon.run(std::future::pending())), address)
}

fn open(
    scratch: &Scratch,
    identity: &Arc<Identity>,
    listen: SocketAddr,
    clock: &Arc<AtomicU64>,
    log: &Arc<Mutex<String>>,
) -> Daemon {
    let (clock, log) = (clock.clone(), log.clone());
    let log: Log = Arc::new(move |text| {
        let mut log = log.lock().unwrap();
        log.push_str(text);
        log.push('\n');
    });
    let keys = Dir::open_ambient(&scratch.join("keys")).unwrap();
    let keys = Arc::new(LiveKeys::new(keys, log.clone()));
    let name = Name::new("data").unwrap();
    let export = Export::open(name, &scratch.join("data"), Mode::Rw).unwrap();
    let host = Exports::new(vec![export], identity.clone()).with_keys(keys.clone());
    let host = Arc::new(host.with_log(log.clone()));
    let options = DaemonOptions {
        listen,
        identity: identity.clone(),
        host,
        sink: Sink::default(),
        carrier: None,
        reception: None,
    };
    let clock = move || Duration::from_secs(clock.load(Ordering::Relaxed));
    let grants = GrantBook::with_clock(Arc::new(clock));
    let door = Arc::new(Door::new(keys, grants.clone()));
    Daemon::open(options, door.clone(), Some(door), grants, log).unwrap()
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn line(who: &Identity) -> String {
    who.public_key().to_line("")
}

fn order(target: &str) -> Order {
    Order { target: target.as_bytes().to_vec(), ..Order::default() }
}

fn grant(to: &Identity, order: &Order, bytes: u64) -> Opening {
    let (to, order) = (to.public_key(), order.clone());
    Opening::Grant { to, bytes, seconds: 1_000_000, order }
}

fn put_granted(granted: &Granted, order: &Order, id: u8) -> Opening {
    let (grant, order) = (granted.grant, order.clone());
    Opening::PutGranted { grant, id: [id; 16], resume: false, seen: 0, order }
}

#[track_caller]
fn assert_refused(answer: &Opening, code: RefuseCode, words: &str) {
    match answer {
        Opening::Refuse { code: found, text } if *found == code && text.contains(words) => {}
        other => panic!("{other:?} instead of {code:?} '{words}'"),
    }
}

#[test]
fn a_transfer_that_nobody_comes_back_for_is_let_go_of() {
    runtime().block_on(async {
        let (mut served, who) = (Served::start("let-go"), identity());
        served.running.abort();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon = open(&served.scratch, &served.identity, any, &served.clock, &served.log);
        daemon.keep = Duration::ZERO;
        served.address = daemon.local_addr();
        served.running = tokio::spawn(daemon.run(std::future::pending()));
        served.allow(&[line(&who)]);
        let order = order("data/new");
        let mut resume = false;
        let end = Instant::now() + PATIENCE;
        loop {
            let order = order.clone();
            let mut peer = served.dial(&who).await.unwrap();
            let put = Opening::Put { id: [1; 16], resume, seen: 0, order };
            match peer.ask(&put).await.unwrap() {
                Opening::Accept { resumed, .. } => assert_eq!(resumed, resume),
                answer => {
                    assert!(resume, "{answer:?}");
                    assert_refused(&answer, RefuseCode::UnknownTransfer, "");
                    break;
                }
            }
            assert!(Instant::now() < end, "it is kept");
            // Its machine goes to sleep, for longer than it is waited for.
            peer.lane.close(link::close_code::GOING_AWAY, "");
            tokio::time::sleep(WATCH_EVERY).await;
            resume = true;
        }
    });
}
