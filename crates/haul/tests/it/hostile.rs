//! Peers with a key that is admitted, who then break the protocol, one rule at a time, against the real
//! daemon. For each: nothing stands under a name that it should not have, the peer is sent away or the
//! entry fails, and the daemon goes on serving. The other way round is in `hostile/hosts.rs`, and what
//! many of them cost in `hostile/crowd.rs`.

mod crowd;
mod enrol;
mod hosts;
mod lists;
mod offers;
mod receptions;
mod third;
mod twins;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use haul::files::{CHUNK, ChunkHash, Digest, hash_chunk};
use haul::link::{Identity, LaneKind};
use haul::transfer::delta::Op;
use haul::transfer::message::{
    BundleItem, ENTRY_COST, Entry, EntryKind, MAX_WINDOW, Opening, Order, Outcome, ParcelHead,
    RefuseCode, SourceMessage,
};
use testkit::hostile::{End, Heard, Peer, Step, bundle, bundle_of, entry, file, offer};
use testkit::tree::entries;

use crate::pair::Pair;

/// What must come of a script.
enum Expect {
    /// The lane is closed for a breach of the protocol, in these words.
    Breach(&'static str),
    /// This entry fails, and the lane lives.
    Fails(u64, Option<RefuseCode>),
    /// This entry ends well.
    Ends(u64),
    /// The job is over, and what comes behind that is a breach or is not heard any more.
    Over,
    /// The daemon waits for more.
    Waits,
}

struct Case {
    name: &'static str,
    script: Vec<Step>,
    expect: Expect,
    /// What may stand in the target folder afterwards, with its content.
    stands: &'static [(&'static str, &'static str)],
}

fn case(name: &'static str, script: Vec<Step>, expect: Expect) -> Case {
    Case { name, script, expect, stands: &[] }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Lets a fresh key in.
fn admitted(pair: &Pair) -> Identity {
    let identity = Identity::generate().unwrap();
    let line = identity.public_key().to_line("hostile");
    pair.far.run(["key", "allow", &line]).expect_code(0);
    identity
}

fn order(target: &str) -> Order {
    Order { target: target.as_bytes().to_vec(), contents: true, ..Order::default() }
}

/// Plays the cases one after another; each has a folder of its own.
fn check(test: &str, cases: Vec<Case>) {
    let pair = Pair::new(test);
    let identity = admitted(&pair);
    runtime().block_on(async {
        for (number, case) in cases.iter().enumerate() {
            let mut peer = Peer::dial(pair.daemon.address(), &identity).await.unwrap();
            let answer = peer.put([number as u8; 16], &order(&format!("data/{number}"))).await;
            assert!(matches!(answer, Ok(Opening::Accept { .. })), "{}: {answer:?}", case.name);
            let listen = match case.expect {
                Expect::Breach(_) => Duration::from_secs(20),
                _ => Duration::from_millis(300),
            };
            let heard = peer.play(&case.script, listen).await;
            case.verdict(&heard);
            case.look(pair.served(number.to_string()));
        }
    });
    still_serves(&pair);
}

impl Case {
    fn verdict(&self, heard: &Heard) {
        let fine = match &self.expect {
            Expect::Breach(words) => {
                matches!(&heard.end, End::Closed(2, reason) if reason.contains(words))
            }
            Expect::Fails(index, code) => {
                let failed = heard.outcomes.get(index);
                matches!(failed, Some(Outcome::Failed { code: found, .. }) if code.is_none_or(|code| code == *found))
                    && heard.end == End::Silence
            }
            Expect::Ends(index) => {
                let good = heard.outcomes.get(index);
                matches!(good, Some(Outcome::Copied(_) | Outcome::Made))
            }
            Expect::Over => match &heard.end {
                End::Closed(2, reason) => reason.contains("after the end"),
                end => *end == End::Receipt,
            },
            Expect::Waits => heard.end == End::Silence,
        };
        assert!(fine, "{}: {heard:?}", self.name);
    }

    fn look(&self, folder: PathBuf) {
        let mut found = BTreeMap::new();
        for (path, meta) in entries(&folder) {
            let mode = std::os::unix::fs::MetadataExt::mode(&meta);
            assert!(meta.is_symlink() || mode & 0o7000 == 0, "{}: {path:?} is {mode:o}", self.name);
            if meta.is_file() {
                let content = std::fs::read_to_string(folder.join(&path)).unwrap();
                found.insert(path.to_str().unwrap().to_owned(), content);
            }
        }
        let stands: BTreeMap<_, _> =
            self.stands.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, stands, "{}: what stands in its folder", self.name);
    }
}

/// An honest copy works, and no part of the daemon has died.
fn still_serves(pair: &Pair) {
    std::fs::write(pair.local("honest"), b"honest").unwrap();
    pair.copy(&[pair.local("honest").as_os_str(), &pair.at("data/honest")]).expect_code(0);
    assert_eq!(std::fs::read(pair.served("honest")).unwrap(), b"honest");
    let log = pair.daemon.log();
    assert!(!log.contains("panicked") && !log.contains("fault of this program"), "{log}");
}

fn kind(index: u64, name: &str, kind: EntryKind) -> Entry {
    entry(index, 0, name, kind)
}

fn large(index: u64, name: &str) -> Entry {
    file(index, 0, name, 2 * CHUNK)
}

fn chunk(index: u64, number: u64, len: usize) -> Step {
    let data = vec![7; len];
    let hash = hash_chunk(2 * CHUNK, number, &data);
    Step::Parcel(ParcelHead::Chunk { index, chunk: number, hash }, data)
}

/// Of chunk 0 of file 1.
fn patch(ops: &[Op], body: &[u8]) -> Step {
    let (hash, ops) = (no_hash(), ops.to_vec());
    Step::Parcel(ParcelHead::Patch { index: 1, chunk: 0, hash, ops }, body.to_vec())
}

/// File 1 in one packed bundle, that is said to become so long.
fn packed(raw: u64, body: &[u8]) -> Step {
    packed_as(raw, no_hash(), body)
}

fn packed_as(raw: u64, hash: ChunkHash, body: &[u8]) -> Step {
    let bundle = ParcelHead::Bundle(vec![BundleItem { index: 1, len: raw, hash }]);
    Step::Parcel(ParcelHead::Packed { raw, head: Box::new(bundle) }, body.to_vec())
}

fn no_hash() -> ChunkHash {
    ChunkHash::from_bytes([9; 32])
}

fn say(message: SourceMessage) -> Step {
    Step::Say(message)
}

#[test]
fn data_that_is_not_what_was_asked_for() {
    use Expect::{Breach, Fails, Waits};
    let small = || offer(vec![file(1, 0, "a", 5)]);
    let big = || offer(vec![large(1, "a")]);
    let (need, zeros) = (Step::AwaitNeed(1), |first, count| {
        Step::Parcel(ParcelHead::Zeros { index: 1, first, count }, Vec::new())
    });
    let whole = CHUNK as usize;
    let sum = |byte| say(SourceMessage::Sum { index: 1, digest: Digest::from_bytes([byte; 32]) });
    check(
        "hostile-data",
        vec![
            case("data before anything was offered", vec![bundle(1, b"hello")], Breach("")),
            case(
                "data of an unknown file",
                vec![small(), need.clone(), bundle(2, b"hello")],
                Breach("unknown file"),
            ),
            case(
                "a larger file than offered",
                vec![small(), need.clone(), bundle(1, b"hello!")],
                Breach("another length"),
            ),
            case(
                "a smaller file than offered",
                vec![small(), need.clone(), bundle(1, b"hell")],
                Breach("another length"),
            ),
            case(
                "a wrong hash",
                vec![
                    small(),
                    need.clone(),
                    bundle_of(1, 5, no_hash(), b"hello"),
                    Step::AwaitOutcome(1),
                ],
                Fails(1, Some(RefuseCode::Corrupt)),
            ),
            Case {
                stands: &[("a", "hello")],
                ..case(
                    "the same data twice",
                    vec![
                        small(),
                        need.clone(),
                        bundle(1, b"hello"),
                        Step::AwaitOutcome(1),
                        bundle(1, b"hello"),
                    ],
                    Breach("unknown file"),
                )
            },
            case(
                "a bundle shorter than its head says",
                vec![small(), need.clone(), bundle_of(1, 5, no_hash(), b"hell")],
                Breach("bundled length"),
            ),
            case(
                "a bundle longer than its head says",
                vec![small(), need.clone(), bundle_of(1, 5, no_hash(), b"hello.")],
                Breach("bundled length"),
            ),
            case(
                "a chunk of a small file",
                vec![small(), need.clone(), chunk(1, 0, 5)],
                Breach("not asked for"),
            ),
            case(
                "a chunk that is too short",
                vec![big(), need.clone(), chunk(1, 0, 5)],
                Breach("wrong length"),
            ),
            case(
                "a chunk beyond the end",
                vec![big(), need.clone(), chunk(1, 2, whole)],
                Breach("not missing"),
            ),
            case(
                "a chunk twice",
                vec![big(), need.clone(), chunk(1, 0, whole), chunk(1, 0, whole)],
                Breach("not missing"),
            ),
            case(
                "a chunk of a folder",
                vec![offer(vec![kind(1, "d", EntryKind::Folder)]), chunk(1, 0, whole)],
                Waits,
            ),
            case(
                "a chunk of a wrong hash",
                vec![
                    big(),
                    need.clone(),
                    Step::Parcel(
                        ParcelHead::Chunk { index: 1, chunk: 0, hash: no_hash() },
                        vec![7; whole],
                    ),
                    Step::AwaitOutcome(1),
                ],
                Fails(1, Some(RefuseCode::Corrupt)),
            ),
            case(
                "zeros beyond the end",
                vec![big(), need.clone(), zeros(1, 2)],
                Breach("not missing"),
            ),
            case(
                "zeros at the end of all numbers",
                vec![big(), need.clone(), zeros(u64::MAX - 1, 1)],
                Breach("not missing"),
            ),
            case(
                "a patch of a file that is not there",
                vec![big(), need.clone(), patch(&[Op::Copy { offset: 0, len: CHUNK }], b"")],
                Breach("not there"),
            ),
            case(
                "a patch that is too short",
                vec![big(), need.clone(), patch(&[Op::Literal { len: 5 }], b"hello")],
                Breach(""),
            ),
            case(
                "a patch whose parts are not there",
                vec![big(), need.clone(), patch(&[Op::Literal { len: 6 }], b"hello")],
                Breach("cannot be read"),
            ),
            case(
                "a packed body that is none",
                vec![small(), need.clone(), packed(5, b"none"), Step::AwaitOutcome(1)],
                Fails(1, Some(RefuseCode::Corrupt)),
            ),
            case(
                "a packed body that is none, with the hash of nothing",
                vec![
                    small(),
                    need.clone(),
                    packed_as(5, hash_chunk(0, 0, b""), b"none"),
                    Step::AwaitOutcome(1),
                ],
                Fails(1, Some(RefuseCode::Corrupt)),
            ),
            case(
                "a packed body of another length",
                vec![small(), need.clone(), packed(6, b"none")],
                Breach("another length"),
            ),
            case(
                "a packed body that does not become larger",
                vec![small(), need.clone(), packed(5, b"hello")],
                Breach("cannot be read"),
            ),
            case(
                "a packed body of more than a chunk",
                vec![small(), need.clone(), packed(CHUNK + 1, b"hello")],
                Breach("cannot be read"),
            ),
            case(
                "a sum that is wrong, twice",
                vec![big(), need.clone(), zeros(0, 2), sum(1), Step::AwaitNeed(1)],
                Waits,
            ),
            case(
                "a sum before it is due",
                vec![small(), need.clone(), sum(1)],
                Breach("not being received"),
            ),
            case(
                "the same, uncompared",
                vec![small(), need, say(SourceMessage::Same { index: 1 })],
                Breach("without a comparison"),
            ),
        ],
    );
}

#[test]
fn parcels_and_frames_that_are_none() {
    use Expect::{Breach, Waits};
    let head = |head: &[u8], body: usize| vec![Step::RawParcel(head.to_vec(), vec![0; body])];
    let frame = |bytes: &[u8]| vec![Step::Frame(bytes.to_vec())];
    let offer_of = |change: &dyn Fn(&mut haul::link::Encoder)| {
        let mut out = haul::link::Encoder::new();
        change(&mut out);
        vec![Step::Frame(out.finish())]
    };
    let named = |name: &[u8]| {
        offer_of(&|out| {
            out.u8(16).varint(1).varint(1).varint(0).bytes(name).u8(1).varint(5).u8(0).u8(0);
            out.varint(0o644).signed(0).varint(0).u8(0).varint(0);
        })
    };
    check(
        "hostile-bytes",
        vec![
            case("an empty parcel", head(b"", 0), Breach("cannot be read")),
            case("a parcel of an unknown type", head(&[9], 0), Breach("cannot be read")),
            case("the longest head", head(&[1; 64 * 1024], 0), Breach("cannot be read")),
            case("a head that is too long", head(&[1; 64 * 1024 + 1], 0), Breach("wrong lengths")),
            case("the longest body", head(&[2, 1, 0], CHUNK as usize), Breach("cannot be read")),
            case(
                "a body that is too long",
                head(&[2, 1, 0], CHUNK as usize + 1),
                Breach("wrong lengths"),
            ),
            case("an empty frame", frame(b""), Breach("cannot be read")),
            case("an unknown message", frame(&[15]), Breach("cannot be read")),
            case("a message of the other side", frame(&[36]), Breach("cannot be read")),
            case("an opening message", frame(&[6, 0]), Breach("cannot be read")),
            case("the longest frame", frame(&[22; 64 * 1024]), Breach("cannot be read")),
            case(
                "a number that does not end",
                frame(&[22, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]),
                Breach("cannot be read"),
            ),
            case("bytes behind a message", frame(&[22, 0, 0]), Breach("cannot be read")),
            case(
                "2^64-1 entries",
                frame(&[16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
                Breach("cannot be read"),
            ),
            case("no name", named(b""), Breach("name")),
            case("a name of one dot", named(b"."), Breach("name")),
            case("a name of two dots", named(b".."), Breach("name")),
            case("a name with a slash", named(b"../../etc"), Breach("name")),
            case("an absolute name", named(b"/etc"), Breach("name")),
            case("a name with NUL", named(b"a\0b"), Breach("name")),
            case("a name of 256 bytes", named(&[b'n'; 256]), Breach("name")),
            case("a name of 255 bytes", named(&[b'n'; 255]), Waits),
        ],
    );
}

#[test]
fn entries_that_do_not_fit() {
    use Expect::{Breach, Ends, Fails, Over};
    let folder = || EntryKind::Folder;
    let symlink = |target: &str| EntryKind::Symlink { target: target.as_bytes().to_vec() };
    let link = |to| EntryKind::HardLink { to, size: 5 };
    let need = Step::AwaitNeed;
    let setid = Entry { mode: 0o6755, ..file(1, 0, "setid", 5) };
    let end = |entries| say(SourceMessage::End { entries, problems: 0 });
    check(
        "hostile-entries",
        vec![
            case(
                "haul's own name",
                vec![offer(vec![file(1, 0, ".haul", 5)]), Step::AwaitOutcome(1)],
                Fails(1, Some(RefuseCode::Denied)),
            ),
            case(
                "haul's own folder",
                vec![
                    offer(vec![kind(1, ".haul", folder())]),
                    say(SourceMessage::Leave { index: 1, complete: true }),
                    Step::AwaitOutcome(1),
                ],
                Fails(1, Some(RefuseCode::Denied)),
            ),
            case(
                "a gap in the indexes",
                vec![offer(vec![file(1, 0, "a", 5), file(3, 0, "b", 5)])],
                Breach("left out"),
            ),
            case(
                "an index used twice",
                vec![offer(vec![file(1, 0, "a", 5), file(1, 0, "b", 5)])],
                Breach("twice"),
            ),
            case(
                "an entry in a file",
                vec![offer(vec![file(1, 0, "a", 5), file(2, 1, "b", 5)])],
                Breach("unknown folder"),
            ),
            case(
                "a folder in a file",
                vec![offer(vec![file(1, 0, "a", 5), entry(2, 1, "b", folder())])],
                Breach("unknown folder"),
            ),
            case(
                "a folder of a link's name, and a file through it",
                vec![
                    offer(vec![
                        kind(1, "x", symlink("../../outside")),
                        kind(2, "x", folder()),
                        file(3, 2, "evil", 5),
                    ]),
                    Step::AwaitOutcome(3),
                ],
                Fails(3, None),
            ),
            case(
                "a link that is absolute, and a folder of its name",
                vec![
                    offer(vec![
                        kind(1, "x", symlink("/tmp")),
                        kind(2, "x", folder()),
                        file(3, 2, "evil", 5),
                    ]),
                    Step::AwaitOutcome(3),
                ],
                Fails(3, None),
            ),
            case(
                "a hard link to itself",
                vec![offer(vec![file(1, 0, "a", 5), kind(2, "b", link(2))])],
                Breach("cannot be read"),
            ),
            case(
                "a hard link to a symbolic link",
                vec![
                    offer(vec![kind(1, "s", symlink("/etc/passwd")), kind(2, "h", link(1))]),
                    need(2),
                ],
                Expect::Waits,
            ),
            Case {
                stands: &[("setid", "hello")],
                ..case(
                    "set-id bits that nobody asked for",
                    vec![offer(vec![setid]), need(1), bundle(1, b"hello"), Step::AwaitOutcome(1)],
                    Ends(1),
                )
            },
            case("a wrong count at the end", vec![end(7)], Breach("end does not fit")),
            case(
                "a folder left that is none",
                vec![say(SourceMessage::Leave { index: 9, complete: true })],
                Breach("unknown folder left"),
            ),
            case(
                "a file that is left",
                vec![
                    offer(vec![file(1, 0, "a", 5)]),
                    say(SourceMessage::Leave { index: 1, complete: true }),
                ],
                Breach("unknown folder left"),
            ),
            case(
                "a withdrawal of nothing",
                vec![say(SourceMessage::Withdraw { index: 4, reason: String::new(), last: true })],
                Breach("unknown entry"),
            ),
            case(
                "outcomes seen that never were",
                vec![say(SourceMessage::Seen { outcomes: 1 })],
                Breach("more outcomes seen"),
            ),
            case("an offer after the end", vec![end(0), offer(vec![kind(1, "d", folder())])], Over),
            case(
                "more than the window holds",
                (0..=MAX_WINDOW / ENDLESS_COST).map(endless).collect(),
                Breach("too many unfinished"),
            ),
            case("outcomes that are never confirmed", unconfirmed(), Breach("not confirmed")),
        ],
    );
}

/// Folders in a message of `endless`, and the least that they cost together.
const ENDLESS: u64 = 200;
const ENDLESS_COST: u64 = ENDLESS * (ENTRY_COST as u64 + 3 * 200);

/// Folders that are never left, a message full of them.
fn endless(message: u64) -> Step {
    let long = "n".repeat(200);
    let first = 1 + ENDLESS * message;
    let folders = (first..first + ENDLESS)
        .map(|index| kind(index, &format!("{index}{long}"), EntryKind::Folder));
    offer(folders.collect())
}

/// Links without end, whose outcomes are read and never confirmed.
fn unconfirmed() -> Vec<Step> {
    let links = |first: u64| {
        let target = EntryKind::Symlink { target: b"x".to_vec() };
        (first..first + 500).map(move |index| kind(index, &format!("l{index}"), target.clone()))
    };
    let message = |first| [offer(links(first).collect()), Step::AwaitOutcome(first + 499)];
    // A target remembers as many as fit in two windows.
    let messages = 2 * MAX_WINDOW / ENTRY_COST as u64 / 500;
    (0..messages + 2).flat_map(|number| message(1 + 500 * number)).collect()
}

#[test]
fn versions_and_first_words() {
    let pair = Pair::new("hostile-opening");
    let identity = admitted(&pair);
    let hello = |lowest, highest| Opening::Hello { lowest, highest, software: "x".to_owned() };
    let address = pair.daemon.address();
    runtime().block_on(async {
        for (lowest, highest) in [(0, 0), (2, 9), (9, 2), (2, u64::MAX)] {
            let mut peer = Peer::dial(address, &identity).await.unwrap();
            peer.frame(&hello(lowest, highest).encode()).await.unwrap();
            let Ok(Opening::Refuse { code, text }) = peer.opening().await else {
                panic!("versions {lowest} to {highest} were not refused in words");
            };
            assert_eq!(code, RefuseCode::Version);
            assert!(text.contains("version 1") && text.contains("update"), "{text}");
        }
        for (name, frames) in [
            ("no message", vec![vec![99]]),
            ("nothing", vec![vec![]]),
            ("a wrong magic", vec![b"\x01hAul\x01\x01\x00".to_vec()]),
            ("a request first", vec![Opening::List { path: Vec::new() }.encode()]),
            ("hello twice", vec![hello(1, 1).encode(), hello(1, 1).encode()]),
            (
                "an answer",
                vec![
                    hello(1, 1).encode(),
                    Opening::Listing { entries: Vec::new(), last: true }.encode(),
                ],
            ),
        ] {
            let mut peer = Peer::dial(address, &identity).await.unwrap();
            for frame in &frames {
                peer.frame(frame).await.unwrap();
            }
            let end = peer.closed().await;
            assert!(matches!(&end, End::Closed(2, _)), "{name}: {end:?}");
        }
        // Later versions may say more in their hello, and are understood.
        let mut peer = Peer::dial(address, &identity).await.unwrap();
        let later = [hello(1, 7).encode(), vec![1, 2, 3]].concat();
        peer.frame(&later).await.unwrap();
        assert!(matches!(peer.opening().await, Ok(Opening::Welcome { version: 1, .. })));
        // A transfer that nobody knows is not resumed.
        let mut peer = Peer::dial(address, &identity).await.unwrap();
        let request = Opening::Put { id: [1; 16], resume: true, seen: 5, order: order("data") };
        let answer = peer.ask(&request).await.unwrap();
        assert!(matches!(answer, Opening::Refuse { code: RefuseCode::UnknownTransfer, .. }));
        // Silence is not waited for longer than the deadline of the first words, here for all at once.
        let begun = Instant::now();
        let silent = Peer::dial(address, &identity).await.unwrap();
        let mut half = Peer::dial(address, &identity).await.unwrap();
        half.frame(&hello(1, 1).encode()).await.unwrap();
        for peer in [silent, half] {
            let closed = tokio::time::timeout(Duration::from_secs(40), peer.lane.closed()).await;
            assert!(closed.is_ok(), "a silent peer was not sent away");
        }
        assert!(begun.elapsed() > Duration::from_secs(10), "it was not given any time");
    });
    still_serves(&pair);
}

/// As a dialler does that tries two kinds of link and takes one: the log tells of the one alone.
#[test]
fn leaving_before_anything_was_asked_is_not_told() {
    let pair = Pair::new("leaving");
    let identity = admitted(&pair);
    runtime().block_on(async {
        for kind in [LaneKind::Quic, LaneKind::Tcp] {
            let peer = Peer::dial_by(kind, pair.daemon.address(), &identity).await.unwrap();
            peer.lane.close(0, "");
            peer.lane.drained(Duration::from_secs(10)).await;
        }
        // One that asks, after these, is told of.
        let mut peer =
            Peer::dial_by(LaneKind::Tcp, pair.daemon.address(), &identity).await.unwrap();
        let answer = peer.ask(&Opening::List { path: Vec::new() }).await.unwrap();
        assert!(matches!(answer, Opening::Listing { last: true, .. }));
        peer.lane.close(0, "");
        peer.lane.drained(Duration::from_secs(10)).await;
        let end = Instant::now() + Duration::from_secs(60);
        while !pair.daemon.log().contains(" left") {
            assert!(Instant::now() < end, "{}", pair.daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let log = pair.daemon.log();
    assert_eq!(log.matches("connected over tcp").count(), 1, "{log}");
    assert_eq!((log.matches(" connected").count(), log.matches(" left").count()), (1, 1), "{log}");
    assert!(!pair.daemon.log().contains("the link failed"), "{}", pair.daemon.log());
}
