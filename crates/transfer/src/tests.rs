//! Whole transfers over real lanes on loopback, both ways, through a relay that misbehaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use badlink::{Profile, Relay, RelayOptions};
use events::{Counters, Sink};
use files::{Dir, Name, RelPath};
use link::{
    Denied, DialOptions, Gatekeeper, HostCheck, HostRefused, Identity, Lane, ListenOptions,
    Listener, Permissions, PublicKey, Target, dial,
};
use tree::{CompareOptions, compare};

use crate::client::{Connect, JobOptions, JobReport, Way, get, list, put};
use crate::host::{AdmitAll, Host, Landing, Refusal, SourceRoot};
use crate::message::{Listed, Order};
use crate::receipt::Receipt;
use crate::serve::Server;

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

struct Folder(Dir, Arc<Identity>);

impl Host for Folder {
    fn landing(&self, _: &Lane, order: &Order) -> Result<Landing, Refusal> {
        Ok(landing(&self.0, &order.target))
    }

    fn sources(&self, _: &Lane, paths: &[Vec<u8>], _: &Order) -> Result<Vec<SourceRoot>, Refusal> {
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
        allow_setid: true,
        allow_owner: true,
        admission: Arc::new(AdmitAll),
    }
}

fn source(root: &Dir, path: &[u8]) -> SourceRoot {
    let path = RelPath::parse_user(path).unwrap();
    let name = path.file_name();
    SourceRoot { root: root.clone(), path, name, max_rate_bytes_per_s: None }
}

/// A daemon on loopback behind a relay.
struct Rig {
    relay: Relay,
    listener: Arc<Listener>,
    serving: tokio::task::JoinHandle<()>,
    identity: Arc<Identity>,
}

impl Rig {
    fn new(far: Dir, profile: Profile, seed: u64) -> Self {
        let identity = Arc::new(Identity::generate().unwrap());
        let any = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions::default();
        let listener = Arc::new(Listener::bind(any, &identity, Arc::new(Open), options).unwrap());
        let mut options = RelayOptions::new(listener.local_addr());
        (options.to_target, options.to_client, options.seed) = (profile.clone(), profile, seed);
        let relay = Relay::start(options).unwrap();
        let server = Server::new(Arc::new(Folder(far, identity.clone())), Sink::default());
        let accepting = listener.clone();
        let serving = tokio::spawn(async move {
            while let Ok(lane) = accepting.accept().await {
                tokio::spawn(server.clone().serve(lane));
            }
        });
        Self { relay, listener, serving, identity }
    }

    fn connect(&self) -> Connect {
        let address = self.relay.local_addr();
        let identity = self.identity.clone();
        Arc::new(move |_way| {
            let identity = identity.clone();
            Box::pin(async move {
                let target = Target::new(&address.ip().to_string(), address.port()).unwrap();
                dial(&target, &identity, &Open, &DialOptions::default()).await
            })
        })
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
        may_move: false,
        lane_ended: None,
        sink: Sink::default(),
        counters: Counters::new(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
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

#[test]
fn a_tree_goes_there_and_back() {
    let scratch = Scratch::new("there-and-back");
    grow(&scratch.path("near/tree"));
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), Profile::default(), 1);
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

#[test]
fn a_listing_of_nothing_is_empty() {
    let scratch = Scratch::new("listing");
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), Profile::default(), 1);
        let lane = rig.connect()(Way::Any).await.unwrap();
        assert_eq!(list(&lane, b"").await.unwrap(), []);
        rig.close().await;
    });
}

#[test]
fn checksum_deletion_and_existing() {
    let scratch = Scratch::new("policies");
    grow(&scratch.path("near/tree"));
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), Profile::default(), 1);
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

#[test]
fn cuts_are_survived() {
    let scratch = Scratch::new("cuts");
    let near = scratch.path("near/tree");
    std::fs::create_dir_all(&near).unwrap();
    let big: Vec<u8> = (0..12_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(near.join("big"), &big).unwrap();
    for number in 0..500 {
        std::fs::write(near.join(format!("{number}")), vec![number as u8; 3000]).unwrap();
    }
    runtime().block_on(async {
        let profile = Profile { delay: 2_000_000, rate: Some(150e6), ..Profile::default() };
        let rig = Rig::new(scratch.dir("far"), profile, 3);
        let options = options();
        let counters = options.counters.clone();
        let near = scratch.dir("near");
        let sources = vec![source(&near, b"tree")];
        let putting = put(rig.connect(), sources, Order::default(), options);
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

#[test]
fn names_are_offered_as_asked() {
    let scratch = Scratch::new("names");
    std::fs::write(scratch.path("near/a"), b"a").unwrap();
    runtime().block_on(async {
        let rig = Rig::new(scratch.dir("far"), Profile::default(), 1);
        let mut asked = source(&scratch.dir("near"), b"a");
        asked.name = Some(Name::new("b").unwrap());
        put(rig.connect(), vec![asked], Order::default(), options()).await.unwrap();
        assert_eq!(std::fs::read(scratch.path("far/b")).unwrap(), b"a");
        rig.close().await;
    });
}
