//! Hosts that break the protocol with those who dial them: a target that asks, answers and signs what it
//! must not, and a source that sends what it must not. The copy fails in words, and nothing is left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use haul::events::{Counters, Sink};
use haul::files::{Digest, Dir, RelPath, hash_chunk};
use haul::link::{DialOptions, Identity, LinkError, Pace, Target, close_code, dial};
use haul::transfer::client::{Connect, JobOptions, Wanted, get, put};
use haul::transfer::delta::Piece;
use haul::transfer::host::{AdmitAll, Landing, SourceRoot};
use haul::transfer::message::{
    BundleItem, Entry, Need, Opening, Order, Outcome, ParcelHead, RefuseCode, SourceMessage,
    TargetMessage,
};
use haul::transfer::receipt::{Receipt, Statement};
use haul::transfer::{Totals, TransferError};
use haul::tree::{Selection, TooLong, TreeDigests};
use testkit::hostile::host::{Act, Guest, Host};
use testkit::hostile::{AnyHost, file};
use testkit::tree::{Scratch, entries};

use super::runtime;

/// A job that is misled for longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn act<F, R>(act: F) -> Act
where
    F: Fn(Guest) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), LinkError>> + Send + 'static,
{
    Arc::new(move |guest| Box::pin(act(guest)))
}

fn connect(host: &Host) -> Connect {
    let address = host.address();
    let identity = Arc::new(Identity::generate().unwrap());
    Arc::new(move |_way| {
        let identity = identity.clone();
        Box::pin(async move {
            let target = Target::new(&address.ip().to_string(), address.port()).unwrap();
            dial(&target, &identity, &AnyHost, &DialOptions::default()).await
        })
    })
}

fn options() -> JobOptions {
    JobOptions {
        give_up_after: Duration::from_secs(5),
        limit_bytes_per_s: None,
        pace: Pace::Fair,
        may_move: false,
        lane_ended: None,
        sink: Sink::default(),
        counters: Counters::new(),
    }
}

pub(super) fn told(error: &TransferError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A landing in this folder, under the names that are offered.
fn landing(folder: &Path) -> Landing {
    Landing {
        root: Dir::open_ambient(folder).unwrap(),
        folder: RelPath::root(),
        make: false,
        rename_top: None,
        shown: "here".to_owned(),
        max_rate_bytes_per_s: None,
        max_bytes: None,
        allow_setid: true,
        allow_owner: true,
        may_read: true,
        intake: None,
        admission: Arc::new(AdmitAll),
    }
}

/// Copies one small file to the host and gives what the copy says of it.
fn put_to(identity: &Identity, name: &str, act: Act) -> String {
    put_with(identity, name, Order::default(), act)
}

/// The same with this order.
fn put_with(identity: &Identity, name: &str, order: Order, act: Act) -> String {
    let scratch = Scratch::new(&format!("hostile-host-{}", name.replace(' ', "-")));
    std::fs::write(scratch.join("a"), b"hello").unwrap();
    let root = Dir::open_ambient(scratch.path()).unwrap();
    let path = RelPath::parse(b"a").unwrap();
    let source =
        SourceRoot { root, name: path.file_name(), path, max_rate_bytes_per_s: None, only: None };
    runtime().block_on(async {
        let host = Host::start(identity, act);
        let putting = put(connect(&host), vec![source], order, options());
        let result = tokio::time::timeout(PATIENCE, putting).await;
        let result = result.unwrap_or_else(|_| panic!("{name}: the copy hangs"));
        told(&result.expect_err(name))
    })
}

#[test]
fn a_target_that_asks_and_answers_what_it_must_not() {
    let identity = Identity::generate().unwrap();
    let need = |index, ranges: Vec<(u64, u64)>| {
        TargetMessage::Need(vec![Need { index, have: None, ranges }])
    };
    let outcomes = |first, list: Vec<(u64, Outcome)>| TargetMessage::Outcomes { first, list };
    let pieces =
        |index| TargetMessage::Pieces { index, list: vec![Piece { len: 5, mark: 1 }], last: true };
    let failed = || Outcome::Failed { code: RefuseCode::Disk, text: "\u{1b}[2J".to_owned() };
    let ask = || TargetMessage::Ask(vec![1]);
    let credit = |allowed, stored| TargetMessage::Credit { allowed, stored };
    let wrong = Digest::from_bytes([1; 32]);
    let cases: Vec<(&str, Vec<TargetMessage>, &str)> = vec![
        ("ready twice", vec![TargetMessage::Ready], "ready twice"),
        ("need of nothing", vec![need(2, vec![])], "unknown entry"),
        ("ranges of a small file", vec![need(1, vec![(0, 1)])], "small file"),
        (
            "an outcome twice",
            vec![outcomes(0, vec![(1, failed()), (1, failed())])],
            "unknown entry",
        ),
        ("an outcome of nothing", vec![outcomes(0, vec![(7, failed())])], "unknown entry"),
        ("an outcome is left out", vec![outcomes(1, vec![(1, failed())])], "missing"),
        (
            "withdrawn by itself",
            vec![outcomes(0, vec![(1, Outcome::Withdrawn)])],
            "without being asked",
        ),
        ("credit that shrinks", vec![credit(9, 0), credit(8, 0)], "credit"),
        // The five bytes of the file may have been sent unasked.
        ("more stored than sent", vec![credit(9, 6)], "credit"),
        ("a receipt too early", vec![TargetMessage::Receipt(b"{}".to_vec())], "before the end"),
        (
            "a receipt that is none",
            vec![outcomes(0, vec![(1, failed())]), TargetMessage::Receipt(vec![255; 9])],
            "receipt",
        ),
        (
            "more extras than there can be",
            {
                let path = RelPath::parse(b"x").unwrap();
                vec![TargetMessage::Extras(vec![path; 20_000]); 51]
            },
            "extras that cannot be",
        ),
        ("pieces of nothing", vec![pieces(7)], "unknown entry"),
        ("pieces that were not announced", vec![pieces(1)], "not announced"),
        (
            "an older version of a small file",
            vec![TargetMessage::Older { index: 1, exponent: 13 }],
            "no large file",
        ),
        ("a digest of nothing", vec![TargetMessage::Ask(vec![7])], "unknown entry"),
        ("a digest twice", vec![TargetMessage::Ask(vec![1, 1])], "asked for before"),
        ("a digest twice, later", vec![ask(), ask()], "asked for before"),
        (
            "given up",
            vec![TargetMessage::Abort { code: RefuseCode::Disk, text: "a\u{1b}b".to_owned() }],
            "a\\x1bb",
        ),
    ];
    for (name, messages, words) in cases {
        let act = act(move |mut guest: Guest| {
            let messages = messages.clone();
            async move {
                guest.say(TargetMessage::Ready).await?;
                guest.hear_all().await?;
                for message in messages {
                    guest.say(message).await?;
                }
                Ok(())
            }
        });
        let text = put_to(&identity, name, act);
        assert!(text.contains(words), "{name}: {text}");
    }
    // Content that is not what was sent is found by the digest.
    let lying = act(move |mut guest: Guest| async move {
        guest.say(TargetMessage::Ready).await?;
        guest.say(TargetMessage::Credit { allowed: 1 << 20, stored: 0 }).await?;
        guest.hear_all().await?;
        guest.say(TargetMessage::Need(vec![Need { index: 1, have: None, ranges: vec![] }])).await?;
        let parcel = guest.lane.accept_parcel().await?;
        drop(parcel.read(64 * 1024, 1 << 20).await);
        let list = vec![(1, Outcome::Copied(wrong))];
        guest.say(TargetMessage::Outcomes { first: 0, list }).await
    });
    let text = put_to(&identity, "another content", lying);
    assert!(text.contains("another content"), "{text}");
    let noise = act(|mut guest: Guest| async move { guest.frame(&[99, 1, 2]).await });
    let text = put_to(&identity, "no message", noise);
    assert!(text.contains("cannot be read"), "{text}");
}

/// In a second reading a target may lie about its own disk, but not so that a file counts which was not read here.
#[test]
fn a_target_that_says_without_reading_that_all_is_the_same() {
    let identity = Identity::generate().unwrap();
    let right = Digest::of(b"hello");
    let need =
        move || TargetMessage::Need(vec![Need { index: 1, have: Some(right), ranges: vec![] }]);
    let wrong = Digest::from_bytes([1; 32]);
    for (name, compares, outcome) in [
        ("nothing compared", false, Outcome::Unchanged(right)),
        ("another digest", true, Outcome::Unchanged(wrong)),
        ("copied", true, Outcome::Copied(right)),
        ("a link", true, Outcome::Made),
    ] {
        let act = act(move |mut guest: Guest| {
            let outcome = outcome.clone();
            async move {
                guest.say(TargetMessage::Ready).await?;
                guest.hear_all().await?;
                if compares {
                    guest.say(need()).await?;
                    while !matches!(
                        SourceMessage::decode(&guest.hear().await?),
                        Ok(SourceMessage::Same { index: 1 })
                    ) {}
                }
                guest.say(TargetMessage::Outcomes { first: 0, list: vec![(1, outcome)] }).await
            }
        });
        let order = Order::default().second_reading(false);
        let text = put_with(&identity, name, order, act);
        assert!(text.contains("not compared"), "{name}: {text}");
    }
}

/// What a receipt claims in place of the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Signer,
    Transfer,
    Content,
    Durability,
    Signature,
}

#[test]
fn a_target_that_signs_what_is_not_true() {
    for (lie, words) in [
        (Lie::Signer, "signer"),
        (Lie::Transfer, "transfer"),
        (Lie::Content, "tree digest"),
        (Lie::Durability, "durability"),
        (Lie::Signature, "signature"),
    ] {
        let identity = Identity::generate().unwrap();
        let signer = Arc::new(Identity::from_pem(&identity.to_pem()).unwrap());
        let signing = act(move |mut guest: Guest| {
            let signer = signer.clone();
            async move {
                guest.say(TargetMessage::Ready).await?;
                guest.hear_all().await?;
                let failed = Outcome::Failed { code: RefuseCode::Disk, text: String::new() };
                let list = vec![(1, failed)];
                guest.say(TargetMessage::Outcomes { first: 0, list }).await?;
                let receipt = receipt(&guest, &signer, lie);
                guest.say(TargetMessage::Receipt(receipt)).await
            }
        });
        let text = put_to(&identity, &format!("{lie:?}"), signing);
        assert!(text.contains(words), "{lie:?}: {text}");
    }
}

/// A receipt for a transfer of which nothing arrived, true but for one thing.
fn receipt(guest: &Guest, signer: &Identity, lie: Lie) -> Vec<u8> {
    let Opening::Put { id, order, .. } = &guest.request else { panic!("this was a put") };
    let other = Identity::generate().unwrap();
    let mut id = *id;
    id[0] ^= u8::from(lie == Lie::Transfer);
    let empty = haul::tree::TreeDigest::new().finish();
    let content = if lie == Lie::Content { Digest::from_bytes([3; 32]) } else { empty.content };
    let key = if lie == Lie::Signer { &other } else { signer };
    let statement = Statement {
        transfer: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        source: *guest.lane.peer(),
        target: key.public_key(),
        path: String::new(),
        began: 0,
        ended: 0,
        durable: order.durable ^ (lie == Lie::Durability),
        roots: vec!["a".to_owned()],
        root_count: 1,
        tree: TreeDigests { content, ..empty },
        totals: Totals::default(),
        removed: 0,
        dataset: None,
    };
    let signed = statement.sign(if lie == Lie::Signature { &other } else { key });
    assert_eq!(Receipt::verify(&signed).is_ok(), lie != Lie::Signature);
    signed
}

#[test]
fn a_source_that_sends_what_it_must_not() {
    let identity = Identity::generate().unwrap();
    let end = |entries| SourceMessage::End { entries, problems: 0 }.encode();
    let offers = |entries| SourceMessage::Offer(entries).encode();
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("no message", vec![vec![99]], "cannot be read"),
        ("a wrong count", vec![end(3)], "the end does not fit"),
        ("a gap", vec![offers(vec![file(2, 0, "a", 5)])], "left out"),
        (
            "an unknown folder",
            vec![offers(vec![file(1, 0, "a", 5), file(2, 1, "b", 5)])],
            "unknown folder",
        ),
        ("the same index", vec![offers(vec![file(1, 0, "a", 5), file(1, 0, "b", 5)])], "twice"),
        ("a message of a target", vec![TargetMessage::Ready.encode()], "cannot be read"),
    ];
    for (name, frames, words) in cases {
        let scratch = Scratch::new(&format!("hostile-source-{}", name.replace(' ', "-")));
        let act = act(move |mut guest: Guest| {
            let frames = frames.clone();
            async move {
                for frame in &frames {
                    guest.frame(frame).await?;
                }
                Ok(())
            }
        });
        let landing = landing(scratch.path());
        let text = runtime().block_on(async {
            let host = Host::start(&identity, act);
            let me = Arc::new(Identity::generate().unwrap());
            let paths = vec![b"a".to_vec()];
            let getting = get(connect(&host), paths, landing, Order::default(), me, options());
            let result = tokio::time::timeout(PATIENCE, getting).await;
            let result = result.unwrap_or_else(|_| panic!("{name}: the copy hangs"));
            told(&result.expect_err(name))
        });
        assert!(text.contains(words), "{name}: {text}");
        assert_eq!(entries(scratch.path()).len(), 0, "{name}: something stands");
    }
}

/// Offers one entry, sends what is asked for of it, and waits for the end.
fn offering(entry: Entry, content: &'static [u8]) -> Act {
    act(move |mut guest: Guest| {
        let entry = entry.clone();
        async move {
            guest.offer(SourceMessage::Offer(vec![entry])).await?;
            guest.offer(SourceMessage::End { entries: 1, problems: 0 }).await?;
            loop {
                match TargetMessage::decode(&guest.hear().await?) {
                    Ok(TargetMessage::Need(_)) => {}
                    Ok(TargetMessage::Receipt(_)) => {
                        guest.lane.close(close_code::DONE, "done");
                        return Ok(());
                    }
                    _ => continue,
                }
                let (len, hash) =
                    (content.len() as u64, hash_chunk(content.len() as u64, 0, content));
                let head = ParcelHead::Bundle(vec![BundleItem { index: 1, len, hash }]);
                guest.lane.send_parcel(head.encode().into(), content.into(), 0).await?;
            }
        }
    })
}

#[test]
fn a_source_gives_only_what_was_asked_for() {
    let identity = Identity::generate().unwrap();
    let fetch = |asked: &'static [u8], name: &str| {
        let scratch = Scratch::new(&format!("hostile-unasked-{}", name.replace('.', "")));
        let (entry, landing) = (file(1, 0, name, 5), landing(scratch.path()));
        let result = runtime().block_on(async {
            let host = Host::start(&identity, offering(entry, b"hello"));
            let me = Arc::new(Identity::generate().unwrap());
            let paths = vec![asked.to_vec()];
            let getting = get(connect(&host), paths, landing, Order::default(), me, options());
            tokio::time::timeout(PATIENCE, getting).await
        });
        (scratch, result.ok())
    };
    // The one that was asked for stands, so a refusal of the other is not a mistake of this script.
    for asked in [&b"data/report.pdf"[..], b"data/r*.pdf"] {
        let (scratch, result) = fetch(asked, "report.pdf");
        assert_eq!(result.unwrap().unwrap().totals.copied, 1);
        assert_eq!(std::fs::read(scratch.join("report.pdf")).unwrap(), b"hello");
    }
    let listed = |name: &str| {
        let scratch = Scratch::new(&format!("hostile-unlisted-{}", name.replace('.', "")));
        let (entry, landing) = (file(1, 0, name, 5), landing(scratch.path()));
        let path = RelPath::parse(b"report.pdf").unwrap();
        let list = Selection::of([Ok::<_, TooLong>(path)], false, 1000).unwrap();
        let wanted = Wanted { paths: vec![b"data/.".to_vec()], only: Some(Arc::new(list)) };
        let order = Order { contents: true, ..Order::default() };
        let result = runtime().block_on(async {
            let host = Host::start(&identity, offering(entry, b"hello"));
            let me = Arc::new(Identity::generate().unwrap());
            let getting = get(connect(&host), wanted, landing, order, me, options());
            tokio::time::timeout(PATIENCE, getting).await
        });
        let failed = result.unwrap().map_or(1, |report| report.totals.failed);
        (entries(scratch.path()).len(), failed)
    };
    assert_eq!(listed("report.pdf"), (1, 0));
    assert_eq!(listed("other.pdf"), (0, 1));
    assert_eq!(listed(".bashrc"), (0, 1));
    let plain = [".bashrc", "report.pdf.sh", "data"].map(|name| (&b"data/report.pdf"[..], name));
    let pattern =
        [".bashrc", ".r.pdf", "report.pdf.sh", "x.pdf"].map(|name| (&b"data/r*.pdf"[..], name));
    for (asked, name) in plain.into_iter().chain(pattern) {
        let (scratch, result) = fetch(asked, name);
        let names: Vec<_> = entries(scratch.path()).into_iter().map(|(path, _)| path).collect();
        assert!(names.is_empty(), "{name}: {names:?} stands");
        let Some(result) = result else { panic!("{name}: the copy hangs") };
        let failed = result.map_or(true, |report| report.totals.failed > 0);
        assert!(failed, "{name}: it counts as done");
    }
}
