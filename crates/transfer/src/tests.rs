//! Whole transfers over real lanes on loopback, both ways and over both kinds: QUIC through a relay that
//! misbehaves, and TCP without one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use badlink::{Profile, Relay, RelayOptions};
use events::{Counters, Event, Sink};
use files::{Dir, Name, RelPath};
use link::{
    Denied, DialOptions, Gatekeeper, HostCheck, HostRefused, Identity, Lane, LaneKind,
    ListenOptions, Listener, Pace, Permissions, PublicKey, Target, dial,
};
use tree::{CompareOptions, compare};

use crate::client::{Connect, Connecting, JobOptions, JobReport, Way, get, list, put};
use crate::host::{AdmitAll, Host, Landing, Refusal, SourceRoot};
use crate::message::{Compression, Listed, Opening, Order};
use crate::receipt::Receipt;
use crate::reception::Reception;
use crate::serve::{GrantBook, Server, ServerOptions};
use crate::session;

/// A folder that is gone at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("haul-transfer-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("far")).unwrap();
        std::fs::create_dir_all(path.join("near")).unwrap();
        Self(path)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    fn dir(&self, below: &str) -> Dir {
        Dir::open_ambient(&self.path(below)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Open;

impl Gatekeeper for Open {
    fn admit(&self, _: &PublicKey, _: std::net::SocketAddr) -> Result<Permissions, Denied> {
        Ok(Permissions::unrestricted())
    }
}

impl HostCheck for Open {
    fn check(&self, _: &str, _: u16, _: &PublicKey) -> Result<(), HostRefused> {
        Ok(())
    }
}

/// The lanes that a daemon was asked over for the beginning of a transfer.
type Lanes = Arc<Mutex<Vec<Lane>>>;

struct Folder(Dir, Arc<Identity>, Lanes);

impl Host for Folder {
    fn landing(&self, lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        self.2.lock().unwrap().push(lane.clone());
        Ok(landing(&self.0, &order.target))
    }

    fn sources(
        &self,
        lane: &Lane,
        paths: &[Vec<u8>],
        _: &Order,
    ) -> Result<Vec<SourceRoot>, Refusal> {
        self.2.lock().unwrap().push(lane.clone());
        Ok(paths.iter().map(|path| source(&self.0, path)).collect())
    }

    fn list(&self, _: &Lane, _: &[u8]) -> Result<Vec<Listed>, Refusal> {
        Ok(Vec::new())
    }

    fn identity(&self) -> Arc<Identity> {
        self.1.clone()
    }
}

fn landing(root: &Dir, folder: &[u8]) -> Landing {
    Landing {
        root: root.clone(),
        folder: RelPath::parse_user(folder).unwrap(),
        make: true,
        rename_top: None,
        shown: String::from_utf8_lossy(folder).into_owned(),
        max_rate_bytes_per_s: None,
        max_bytes: None,
        allow_setid: true,
        allow_owner: true,
        may_read: true,
        intake: None,
        admission: Arc::new(AdmitAll),
    }
}

fn source(root: &Dir, path: &[u8]) -> SourceRoot {
    let path = RelPath::parse_user(path).unwrap();
    let name = path.file_name();
    SourceRoot { root: root.clone(), path, name, max_rate_bytes_per_s: None, only: None }
}

/// A daemon on loopback, over QUIC behind a relay.
struct Rig {
    kind: LaneKind,
    relay: Relay,
    listener: Arc<Listener>,
    serving: tokio::task::JoinHandle<()>,
    identity: Arc<Identity>,
    lanes: Lanes,
    server: Arc<Server>,
}

impl Rig {
    /// One that is reached over this kind of lane.
    fn of(kind: LaneKind, far: Dir) -> Self {
        Self { kind, ..Self::new(far, Profile::default(), 1) }
    }

    /// One that is reached over QUIC, through a relay of this kind.
    fn new(far: Dir, profile: Profile, seed: u64) -> Self {
        Self::with(far, profile, seed, None)
    }

    /// One that takes datasets.
    fn receiving(far: Dir, reception: Option<Arc<dyn Reception>>) -> Self {
        Self::with(far, Profile::default(), 1, reception)
    }

    fn with(far: Dir, profile: Profile, seed: u64, reception: Option<Arc<dyn Reception>>) -> Self {
        let identity = Arc::new(Identity::generate().unwrap());
        let any = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions::default();
        let listener = Arc::new(Listener::bind(any, &identity, Arc::new(Open), options).unwrap());
        let mut options = RelayOptions::new(listener.local_addr());
        (options.to_target, options.to_client, options.seed) = (profile.clone(), profile, seed);
        let relay = Relay::start(options).unwrap();
        let lanes = Lanes::default();
        let folder = Folder(far, identity.clone(), lanes.clone());
        let (host, sink, book) = (Arc::new(folder), Sink::default(), GrantBook::default());
        let server = Server::open(ServerOptions { host, sink, book, own: None, reception });
        let (accepting, serves) = (listener.clone(), server.clone());
        let serving = tokio::spawn(async move {
            while let Ok(lane) = accepting.accept().await {
                tokio::spawn(serves.clone().serve(lane, || {}));
            }
        });
        Self { kind: LaneKind::Quic, relay, listener, serving, identity, lanes, server }
    }

    fn connect(&self) -> Connect {
        let (dialling, kind) = (self.dialling(), self.kind);
        Arc::new(move |_way| dialling(kind))
    }

    /// The first lane is QUIC; as soon as that is blocked every other is TCP.
    fn connect_by_either(&self, is_blocked: Arc<AtomicBool>) -> Connect {
        let dialling = self.dialling();
        Arc::new(move |way| {
            let any = match is_blocked.load(Ordering::Relaxed) {
                true => LaneKind::Tcp,
                false => LaneKind::Quic,
            };
            dialling(match way {
                Way::Any => any,
                Way::Only(kind) => kind,
            })
        })
    }

    fn dialling(&self) -> impl Fn(LaneKind) -> Connecting + Send + Sync + use<> {
        let (relay, listener) = (self.relay.local_addr(), self.listener.local_addr());
        let identity = self.identity.clone();
        move |kind| {
            let identity = identity.clone();
            let address = if kind == LaneKind::Quic { relay } else { listener };
            Box::pin(async move {
                let target = Target::new(&address.ip().to_string(), address.port()).unwrap();
                let options = DialOptions { kind, ..DialOptions::default() };
                dial(&target, &identity, &Open, &options).await
            })
        }
    }

    async fn put(&self, near: &Dir, name: &str, order: Order) -> JobReport {
        put(self.connect(), vec![source(near, name.as_bytes())], order, options()).await.unwrap()
    }

    async fn close(self) {
        self.serving.abort();
        self.listener.close("the test is over", Duration::from_millis(100)).await;
        self.relay.close().await;
    }
}

fn options() -> JobOptions {
    JobOptions {
        give_up_after: Duration::from_secs(60),
        limit_bytes_per_s: None,
        pace: Pace::Fair,
        may_move: false,
        lane_ended: None,
        sink: Sink::default(),
        counters: Counters::new(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Makes a test of each function for each kind of lane.
macro_rules! both_kinds {
    ($($name:ident)*) => {
        mod quic {
            $(#[test]
            fn $name() {
                super::$name(link::LaneKind::Quic);
            })*
        }
        mod tcp {
            $(#[test]
            fn $name() {
                super::$name(link::LaneKind::Tcp);
            })*
        }
    };
}

mod less;
mod pace;
mod reception;

both_kinds! {
    a_tree_goes_there_and_back
    a_listing_of_nothing_is_empty
    a_measurement_is_over_when_its_time_is
    checksum_deletion_and_existing
    names_are_offered_as_asked
}

/// A tree with one of everything: small and large, empty, sparse, links, odd names.
fn grow(at: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let file = |name: &[u8], bytes: &[u8]| {
        std::fs::write(at.join(std::ffi::OsStr::from_bytes(name)), bytes).unwrap();
    };
    std::fs::create_dir_all(at.join("empty folder")).unwrap();
    std::fs::create_dir_all(at.join("deep/er/still")).unwrap();
    file(b"empty", b"");
    file(b"small", b"hello");
    file(b"odd \xff\x1b[31m\n", b"odd");
    file(b"deep/er/still/file", &vec![7; 300_000]);
    let big: Vec<u8> = (0..5_300_000u32).flat_map(|n| n.to_le_bytes()).take(5_300_001).collect();
    file(b"big", &big);
    let sparse = std::fs::File::create(at.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 9_000_000).unwrap();
    std::os::unix::fs::symlink("../no/where", at.join("link")).unwrap();
    std::fs::hard_link(at.join("small"), at.join("same as small")).unwrap();
    std::fs::hard_link(at.join("big"), at.join("deep/same as big")).unwrap();
    for number in 0..3000 {
        file(format!("deep/{number:05}").as_bytes(), format!("{number}").as_bytes());
    }
}

fn assert_same(a: &Dir, b: &Dir) {
    let comparison = compare(a, b, &CompareOptions::default()).unwrap();
    let differences: Vec<_> = comparison.differences.iter().map(|d| d.to_string()).collect();
    assert!(comparison.is_same(), "{differences:#?}");
}

fn a_tree_goes_there_and_back(kind: LaneKind) {
    let scratch = Scratch::new(&format!("there-and-back-{kind}"));
    grow(&scratch.path("near/tree"));
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let report = rig.put(&scratch.dir("near"), "tree", Order::default()).await;
        assert_eq!(report.totals.failed, 0);
        assert_eq!(report.totals.copied, 3006);
        assert_eq!(report.totals.links, 3);
        let statement = Receipt::verify(&report.receipt.unwrap()).unwrap().statement;
        assert_eq!(statement.roots, ["tree"]);
        assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
        assert!(!scratch.path("far/.haul").exists(), "staging is gone");

        // Again: nothing is sent but the beginning of one file, before the first answer.
        let again = rig.put(&scratch.dir("near"), "tree", Order::default()).await;
        assert_eq!((again.totals.copied, again.totals.unchanged), (0, 3006));
        assert!(again.bytes_sent <= files::CHUNK, "{} bytes", again.bytes_sent);
        let repeated = Receipt::verify(&again.receipt.unwrap()).unwrap().statement;
        assert_eq!(repeated.tree, statement.tree);

        // And back.
        let order = Order::default();
        let landing = landing(&scratch.dir("near"), b"back");
        let paths = vec![b"tree".to_vec()];
        let identity = rig.identity.clone();
        let report = get(rig.connect(), paths, landing, order, identity, options()).await.unwrap();
        assert_eq!(report.totals.failed, 0);
        assert_same(&scratch.dir("near/tree"), &scratch.dir("near/back/tree"));
        let back = Receipt::verify(&report.receipt.unwrap()).unwrap().statement;
        assert_eq!(back.tree, statement.tree);
        rig.close().await;
    });
}

#[test]
fn a_bad_link_delays_and_nothing_more() {
    let scratch = Scratch::new("bad-link");
    grow(&scratch.path("near/tree"));
    runtime().block_on(async {
        let ms = 1_000_000;
        let profile = Profile {
            delay: 5 * ms,
            loss: 0.05,
            duplicate: 0.02,
            corrupt: 0.02,
            reorder: 0.02,
            reorder_by: 3 * ms,
            ..Profile::default()
        };
        let rig = Rig::new(scratch.dir("far"), profile, 7);
        let report = rig.put(&scratch.dir("near"), "tree", Order::default()).await;
        assert_eq!(report.totals.failed, 0);
        assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
        rig.close().await;
    });
}

fn a_listing_of_nothing_is_empty(kind: LaneKind) {
    let scratch = Scratch::new(&format!("listing-{kind}"));
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let lane = rig.connect()(Way::Any).await.unwrap();
        assert_eq!(list(&lane, b"").await.unwrap(), []);
        rig.close().await;
    });
}

fn checksum_deletion_and_existing(kind: LaneKind) {
    let scratch = Scratch::new(&format!("policies-{kind}"));
    grow(&scratch.path("near/tree"));
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let near = scratch.dir("near");
        rig.put(&near, "tree", Order::default()).await;
        // Same size and time, other content: only a checksum finds it.
        let path = scratch.path("far/tree/small");
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"hallo").unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        std::fs::write(scratch.path("far/tree/extra"), b"x").unwrap();
        rig.put(&near, "tree", Order::default()).await;
        assert_eq!(std::fs::read(&path).unwrap(), b"hallo");
        let order = Order {
            checksum: true,
            deletion: crate::message::Deletion::Guarded,
            ..Order::default()
        };
        let report = rig.put(&near, "tree", order).await;
        assert_eq!((report.totals.copied, report.totals.failed), (1, 0));
        assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
        let statement = Receipt::verify(&report.receipt.unwrap()).unwrap().statement;
        assert_eq!(statement.removed, 1);

        // A dry run changes nothing.
        std::fs::write(scratch.path("near/tree/new"), b"new").unwrap();
        let order = Order { dry_run: true, ..Order::default() };
        let report = rig.put(&near, "tree", order).await;
        assert_eq!((report.totals.planned, report.receipt), (1, None));
        assert!(!scratch.path("far/tree/new").exists());
        rig.close().await;
    });
}

/// A tree that is under way for some seconds on a narrow link: 48 MB in one file, and 500 small ones.
fn grow_long(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    let big: Vec<u8> = (0..12_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(at.join("big"), &big).unwrap();
    for number in 0..500 {
        std::fs::write(at.join(format!("{number}")), vec![number as u8; 3000]).unwrap();
    }
}

/// What is sent can be counted.
fn plain() -> Order {
    Order { compression: Compression::Never, ..Order::default() }
}

/// 150 Mbit/s, 4 ms there and back.
fn narrow() -> Profile {
    Profile { delay: 2_000_000, rate: Some(150e6), ..Profile::default() }
}

#[test]
fn cuts_are_survived() {
    let scratch = Scratch::new("cuts");
    grow_long(&scratch.path("near/tree"));
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), narrow(), 3);
        let options = options();
        let counters = options.counters.clone();
        let near = scratch.dir("near");
        let sources = vec![source(&near, b"tree")];
        let putting = put(rig.connect(), sources, plain(), options);
        let cutting = async {
            // Twice, when a part has arrived, for longer than the idle timeout.
            for part in [10_000_000, 30_000_000] {
                while counters.bytes_acknowledged.get() < part {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                rig.relay.blackout(Duration::from_secs(11));
                rig.relay.rebind().unwrap();
            }
            std::future::pending::<()>().await;
        };
        let report = tokio::select! {
            report = putting => report.unwrap(),
            () = cutting => unreachable!(),
        };
        assert_eq!(report.totals.failed, 0);
        let again = report.bytes_sent - report.totals.bytes_copied;
        assert!(again <= 2 * (8 << 20), "{again} bytes were sent again");
        assert_same(&scratch.dir("near/tree"), &scratch.dir("far/tree"));
        rig.close().await;
    });
}

fn names_are_offered_as_asked(kind: LaneKind) {
    let scratch = Scratch::new(&format!("names-{kind}"));
    std::fs::write(scratch.path("near/a"), b"a").unwrap();
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let mut asked = source(&scratch.dir("near"), b"a");
        asked.name = Some(Name::new("b").unwrap());
        put(rig.connect(), vec![asked], Order::default(), options()).await.unwrap();
        assert_eq!(std::fs::read(scratch.path("far/b")).unwrap(), b"a");
        rig.close().await;
    });
}

/// Blocks QUIC for good while a copy runs, and checks that it goes on over TCP, as what it was.
fn goes_on_over_tcp(name: &str, is_pull: bool) {
    let scratch = Scratch::new(name);
    let (from, to) = if is_pull { ("far", "near") } else { ("near", "far") };
    grow_long(&scratch.path(from).join("tree"));
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), narrow(), 5);
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let listening = heard.clone();
        let sink = Sink::new(move |event| {
            let word = match event {
                Event::LinkUp { kind, .. } => kind,
                Event::LinkMoved { .. } => "moved",
                Event::LinkLost { .. } => "lost",
                Event::Warning { text } if text.contains("restarted") => "begun anew",
                _ => return,
            };
            listening.lock().unwrap().push(word.to_owned());
        });
        let options = JobOptions { sink, ..options() };
        let (counters, near) = (options.counters.clone(), scratch.dir("near"));
        let is_blocked = Arc::new(AtomicBool::new(false));
        let (connect, order) = (rig.connect_by_either(is_blocked.clone()), plain());
        let copying = async {
            if is_pull {
                let (landing, paths) = (landing(&near, b""), vec![b"tree".to_vec()]);
                get(connect, paths, landing, order, rig.identity.clone(), options).await
            } else {
                put(connect, vec![source(&near, b"tree")], order, options).await
            }
        };
        let blocking = async {
            while counters.bytes_acknowledged.get() < 10_000_000 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            is_blocked.store(true, Ordering::Relaxed);
            rig.relay.blackout(Duration::from_secs(3600));
            std::future::pending::<()>().await;
        };
        let report = tokio::select! {
            report = copying => report.unwrap(),
            () = blocking => unreachable!(),
        };
        // Not lost: the move comes before the lane's own timeout.
        assert_eq!(*heard.lock().unwrap(), ["QUIC", "moved", "TCP"]);
        assert_eq!(report.totals.failed, 0);
        let again = report.bytes_sent - report.totals.bytes_copied;
        assert!(again <= 8 << 20, "{again} bytes were sent again");
        let (from, to) = (scratch.path(from).join("tree"), scratch.path(to).join("tree"));
        assert_same(&Dir::open_ambient(&from).unwrap(), &Dir::open_ambient(&to).unwrap());
        rig.close().await;
    });
}

/// A dialler that asked for a second and does not stop is not read from any longer, and hears the figures
/// all the same when it does.
fn a_measurement_is_over_when_its_time_is(kind: LaneKind) {
    let scratch = Scratch::new(&format!("overtime-{kind}"));
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let lane = rig.connect()(Way::Any).await.unwrap();
        let request = Opening::Measure { up: true, seconds: 1 };
        let (mut control, answer) = session::ask(&lane, &request).await.unwrap();
        assert!(matches!(answer, Opening::Accept { .. }));
        let body = bytes::Bytes::from(vec![7; 64 << 10]);
        let quiet = Duration::from_secs(4);
        let mut dropped = 0;
        for order in 0.. {
            let sending = lane.send_parcel(bytes::Bytes::new(), body.clone(), order);
            match tokio::time::timeout(quiet, sending).await {
                Ok(Ok(())) => {}
                // Those that were being read when the time was over.
                Ok(Err(error)) => {
                    dropped += 1;
                    assert!(dropped <= 16, "{error}");
                }
                Err(_not_read) => break,
            }
            // Not to fill the memory of the daemon's transport within a moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        control.0.finish().await.unwrap();
        let said = session::read(&lane, &mut control.1, Duration::from_secs(20)).await.unwrap();
        assert!(matches!(said, Opening::Measured(seen) if seen.bytes > 0), "{said:?}");
        rig.close().await;
    });
}

#[test]
fn a_push_goes_on_over_tcp_when_quic_is_blocked() {
    goes_on_over_tcp("push-moves", false);
}

#[test]
fn a_pull_goes_on_over_tcp_when_quic_is_blocked() {
    goes_on_over_tcp("pull-moves", true);
}
