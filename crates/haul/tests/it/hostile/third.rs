//! Machines that lie to the one who has things copied between them: a source that reports what is not so, and a
//! target that grants what it must not. The copy fails in words, in bounded time, and no receipt is believed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul::events::{Counters, Event, Sink};
use haul::files::Digest;
use haul::link::{DialOptions, Identity, LaneKind, LinkChoice, LinkError, Pace, Target, dial};
use haul::transfer::Totals;
use haul::transfer::client::{Between, Connect, JobOptions, JobReport, third};
use haul::transfer::message::{
    Finished, Go, Granted, LinkNews, Opening, Order, Progress, RefuseCode, Report, Stopped, Stretch,
};
use haul::transfer::receipt::Statement;
use haul::tree::TreeDigests;
use testkit::hostile::AnyHost;
use testkit::hostile::host::{Act, Answer, Guest, Host};

use super::hosts::{act, told};
use super::runtime;

/// A copy that is misled for longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(host: &Host) -> Connect {
    let address = host.address();
    let identity = Arc::new(Identity::generate().unwrap());
    Arc::new(move |_way| {
        let identity = identity.clone();
        Box::pin(async move {
            let target = Target::new(&address.ip().to_string(), address.port()).unwrap();
            let options = DialOptions { kind: LaneKind::Tcp, ..DialOptions::default() };
            dial(&target, &identity, &AnyHost, &options).await
        })
    })
}

/// The keys of both machines, for those that sign.
struct Keys {
    source: Identity,
    target: Identity,
}

impl Keys {
    fn new() -> Arc<Self> {
        let [source, target] = [(); 2].map(|()| Identity::generate().unwrap());
        Arc::new(Self { source, target })
    }
}

const THROUGH_HERE: LinkChoice = LinkChoice::Only(LaneKind::Pipe);

/// A target that grants everything and takes tunnels.
fn grants_and_takes() -> Answer {
    Arc::new(|request| match request {
        Opening::Tunnel => Opening::Accept { resumed: false, seen: 0, window: 0, named: false },
        Opening::Grant { .. } => granted(),
        other => panic!("a target was asked {other:?}"),
    })
}

/// A target that grants everything.
fn grants() -> Answer {
    Arc::new(|request| match request {
        Opening::Grant { .. } => granted(),
        other => panic!("a target was asked {other:?}"),
    })
}

fn granted() -> Opening {
    let shown = "data/x".to_owned();
    Opening::Granted(Granted { grant: [1; 32], seconds: 3600, named: true, shown })
}

/// What comes of a copy between a source that does this once it was asked, and a target that answers so.
async fn copy(keys: &Keys, source: Act, target: Answer, sink: Sink) -> Result<JobReport, String> {
    let leave = act(|_guest| async { Ok(()) });
    copy_by(LinkChoice::Auto, keys, source, (target, leave), sink).await
}

/// The same where the target then does this with its lane.
async fn copy_by(
    choice: LinkChoice,
    keys: &Keys,
    source: Act,
    (target, then): (Answer, Act),
    sink: Sink,
) -> Result<JobReport, String> {
    let source = Host::start(&keys.source, source);
    let target = Host::answering(&keys.target, target, then);
    let between = Between {
        source: connect(&source),
        target: connect(&target),
        at: Target::new("target.example", 4285).unwrap(),
        choice,
    };
    let options = JobOptions {
        give_up_after: Duration::from_secs(2),
        limit_bytes_per_s: None,
        pace: Pace::Fair,
        may_move: false,
        lane_ended: None,
        sink,
        counters: Counters::new(),
    };
    let copying = third(between, vec![b"a".to_vec()], Order::default(), options);
    let copied = tokio::time::timeout(PATIENCE, copying).await.expect("the copy hangs");
    copied.map_err(|error| told(&error))
}

async fn say(guest: &mut Guest, reports: &[Report]) -> Result<(), LinkError> {
    for report in reports {
        guest.frame(&report.encode()).await?;
    }
    Ok(())
}

fn weighed() -> Report {
    Report::Weighed { entries: 1, bytes: 5, last: true }
}

async fn hear_go(guest: &mut Guest) -> Result<Go, LinkError> {
    Ok(Go::decode(&guest.hear().await?).expect("an honest orchestrator says the word"))
}

/// A source that behaves until it was told to go, and then says this.
fn tells(reports: Vec<Report>) -> Act {
    act(move |mut guest| {
        let reports = reports.clone();
        async move {
            say(&mut guest, &[weighed()]).await?;
            hear_go(&mut guest).await?;
            say(&mut guest, &reports).await
        }
    })
}

fn tree(byte: u8) -> TreeDigests {
    let digest = Digest::from_bytes([byte; 32]);
    TreeDigests { content: digest, attributes: digest, records: 1 }
}

fn finished(id: [u8; 16]) -> Finished {
    let totals = Totals { copied: 1, ..Totals::default() };
    Finished { id, totals, bytes_sent: 5, tree: tree(1) }
}

/// What an honest target would sign of run `go`.
fn statement(keys: &Keys, go: &Go) -> ([u8; 16], Statement) {
    let mut id = [3; 16];
    id[8..].copy_from_slice(&go.run);
    let statement = Statement {
        transfer: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        source: keys.source.public_key(),
        target: keys.target.public_key(),
        path: "data/x".to_owned(),
        began: 1,
        ended: 2,
        durable: false,
        roots: Vec::new(),
        root_count: 1,
        tree: tree(1),
        totals: Totals { copied: 1, ..Totals::default() },
        removed: 0,
        dataset: None,
    };
    (id, statement)
}

#[test]
fn a_source_that_reports_what_it_must_not() {
    let keys = Keys::new();
    let progress = || Report::Progress(Progress::default());
    let weighed_by = |entries, bytes, last| Report::Weighed { entries, bytes, last };
    let before_go: Vec<(&str, Vec<Report>, &str)> = vec![
        ("progress before it was weighed", vec![progress()], "out of its turn"),
        ("an end before it began", vec![Report::Finished(finished([0; 16]))], "out of its turn"),
        ("a proof before it began", vec![Report::Proof(Vec::new())], "out of its turn"),
        ("less of bytes", vec![weighed_by(1, 9, false), weighed_by(1, 8, true)], "become less"),
        ("less of entries", vec![weighed_by(2, 9, false), weighed_by(1, 9, true)], "become less"),
    ];
    let after_go: Vec<(&str, Vec<Report>, &str)> = vec![
        ("weighed again", vec![progress(), weighed()], "out of its turn"),
        ("bytes of no pipe", vec![Report::Pipe(vec![1])], "a pipe that there is not"),
        ("a proof of nothing", vec![Report::Proof(b"{}".to_vec())], "out of its turn"),
        (
            "finished twice",
            vec![Report::Finished(finished([0; 16])), Report::Finished(finished([0; 16]))],
            "out of its turn",
        ),
        (
            "progress after the end",
            vec![Report::Finished(finished([0; 16])), progress()],
            "out of its turn",
        ),
        (
            "no receipt",
            vec![Report::Finished(finished([0; 16])), Report::Proof(Vec::new())],
            "does not fit",
        ),
    ];
    runtime().block_on(async {
        for (name, reports, expected) in before_go {
            let source = act(move |mut guest| {
                let reports = reports.clone();
                async move { say(&mut guest, &reports).await }
            });
            let error = copy(&keys, source, grants(), Sink::default()).await.expect_err(name);
            assert!(error.contains(expected), "{name}: {error}");
        }
        for (name, reports, expected) in after_go {
            let error =
                copy(&keys, tells(reports), grants(), Sink::default()).await.expect_err(name);
            assert!(error.contains(expected), "{name}: {error}");
        }
        for frame in [vec![], vec![71], vec![65; 64 * 1024], vec![64, 255], vec![36]] {
            let name = format!("{:?}", &frame[..frame.len().min(9)]);
            let source = act(move |mut guest| {
                let frame = frame.clone();
                async move { guest.frame(&frame).await }
            });
            let error = copy(&keys, source, grants(), Sink::default()).await.expect_err(&name);
            assert!(error.contains("cannot be read"), "{name}: {error}");
        }
    });
}

/// Whatever numbers a source makes up, nothing overflows, and what it says is only shown.
#[test]
fn numbers_beyond_all_bounds_are_only_numbers() {
    let keys = Keys::new();
    // The most that can be said; it is cut to that when it is written.
    let most = Progress {
        entries: u64::MAX,
        files_total: u64::MAX,
        bytes_total: u64::MAX,
        walk_finished: true,
        files_done: u64::MAX,
        files_skipped: u64::MAX,
        files_failed: u64::MAX,
        bytes_acknowledged: u64::MAX,
        bytes_sent: u64::MAX,
        ..Progress::default()
    };
    runtime().block_on(async {
        let source = act(move |mut guest| async move {
            let (entries, bytes) = (u64::MAX, u64::MAX);
            say(&mut guest, &[Report::Weighed { entries, bytes, last: true }]).await?;
            hear_go(&mut guest).await?;
            let stopped = Stopped {
                at: Stretch::Source,
                code: RefuseCode::Busy,
                text: "\u{1b}[2J gone".to_owned(),
            };
            say(&mut guest, &[Report::Progress(most), Report::Stopped(stopped)]).await
        });
        let error = copy(&keys, source, grants(), Sink::default()).await.unwrap_err();
        assert!(error.contains("cannot send") && error.contains("gone"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    });
}

#[test]
fn a_receipt_that_is_not_what_the_target_signed_of_this_run() {
    type Change = fn(&Keys, &mut Statement);
    let cases: Vec<(&str, Change, &str)> = vec![
        ("another source", |keys, told| told.source = keys.target.public_key(), "source"),
        ("another run", |_, told| told.transfer = "03".repeat(16), "transfer"),
        ("another tree", |_, told| told.tree = tree(2), "tree digest"),
        ("another durability", |_, told| told.durable = true, "durability"),
        ("failures that were not told", |_, told| told.totals.failed = 1, "failures"),
        (
            "a target that is the source",
            |keys, told| told.target = keys.source.public_key(),
            "signer",
        ),
    ];
    let keys = Keys::new();
    runtime().block_on(async {
        for (name, change, expected) in cases {
            let signing = keys.clone();
            let source = act(move |mut guest| {
                let keys = signing.clone();
                async move {
                    say(&mut guest, &[weighed()]).await?;
                    let go = hear_go(&mut guest).await?;
                    let (id, mut statement) = statement(&keys, &go);
                    change(&keys, &mut statement);
                    // Whoever is named has signed it.
                    let by_source = statement.target == keys.source.public_key();
                    let signer = if by_source { &keys.source } else { &keys.target };
                    let receipt = Report::Proof(statement.sign(signer));
                    say(&mut guest, &[Report::Finished(finished(id)), receipt]).await
                }
            });
            let error = copy(&keys, source, grants(), Sink::default()).await.expect_err(name);
            assert!(error.contains("does not fit") && error.contains(expected), "{name}: {error}");
        }
        // One that was made up: signed by the source in the target's name, or changed afterwards.
        let forging = keys.clone();
        let source = act(move |mut guest| {
            let keys = forging.clone();
            async move {
                say(&mut guest, &[weighed()]).await?;
                let go = hear_go(&mut guest).await?;
                let (id, statement) = statement(&keys, &go);
                let receipt = Report::Proof(statement.sign(&keys.source));
                say(&mut guest, &[Report::Finished(finished(id)), receipt]).await
            }
        });
        let error = copy(&keys, source, grants(), Sink::default()).await.unwrap_err();
        assert!(error.contains("signature"), "{error}");
        // And the one that is right, with a source that tells a little on the way.
        let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (noting, honest) = (heard.clone(), keys.clone());
        let source = act(move |mut guest| {
            let keys = honest.clone();
            async move {
                say(&mut guest, &[weighed()]).await?;
                let go = hear_go(&mut guest).await?;
                assert_eq!(go.key, keys.target.public_key());
                assert_eq!(go.target, Target::new("target.example", 4285).unwrap());
                let (id, statement) = statement(&keys, &go);
                let up = Report::LinkNews(LinkNews::Up, LaneKind::Tcp);
                let receipt = Report::Proof(statement.sign(&keys.target));
                say(&mut guest, &[up, Report::Finished(finished(id)), receipt]).await
            }
        });
        let sink = Sink::new(move |event| noting.lock().unwrap().push(event.clone()));
        let report = copy(&keys, source, grants(), sink).await.unwrap();
        assert_eq!((report.totals.copied, report.bytes_sent), (1, 5));
        let target = keys.target.public_key().fingerprint();
        let is_up = |event: &Event| matches!(event, Event::LinkUp { peer, .. } if *peer == target);
        assert!(heard.lock().unwrap().iter().any(is_up));
    });
}

/// A target that knows no grant is asked for another, and not for ever.
#[test]
fn a_source_that_never_finds_its_grant_known() {
    let keys = Keys::new();
    let unknown = Stopped {
        at: Stretch::Target,
        code: RefuseCode::UnknownGrant,
        text: "never heard of it".to_owned(),
    };
    let asked: Arc<Mutex<u32>> = Arc::default();
    let counting = asked.clone();
    let answer: Answer = Arc::new(move |_| {
        *counting.lock().unwrap() += 1;
        granted()
    });
    runtime().block_on(async {
        let source = tells(vec![Report::Stopped(unknown)]);
        let error = copy(&keys, source, answer, Sink::default()).await.unwrap_err();
        assert!(error.contains("does not take") && error.contains("never heard"), "{error}");
    });
    let asked = *asked.lock().unwrap();
    assert!((2..=4).contains(&asked), "asked {asked} times");
}

#[test]
fn a_target_that_answers_what_it_must_not() {
    let keys = Keys::new();
    let refuse = |code, text: &str| Opening::Refuse { code, text: text.to_owned() };
    let cases: Vec<(&str, Opening, &str)> = vec![
        (
            "yes",
            Opening::Accept { resumed: false, seen: 0, window: 1, named: false },
            "another message",
        ),
        ("a request", Opening::List { path: Vec::new() }, "another message"),
        ("a listing", Opening::Listing { entries: Vec::new(), last: true }, "another message"),
        ("no", refuse(RefuseCode::Denied, "not \u{1b}[2J you"), "refused: not"),
    ];
    runtime().block_on(async {
        for (name, answer, expected) in cases {
            let source = act(|mut guest| async move {
                say(&mut guest, &[weighed()]).await?;
                // Nobody tells it to go.
                assert!(guest.hear().await.is_err());
                Ok(())
            });
            let answer: Answer = Arc::new(move |_| answer.clone());
            let error = copy(&keys, source, answer, Sink::default()).await.expect_err(name);
            assert!(error.contains(expected) && !error.contains('\u{1b}'), "{name}: {error}");
        }
    });
}

/// What goes through the orchestrator is nothing to it: it passes on whatever the two say, both ways, and believes
/// what is signed.
#[test]
fn two_that_say_nonsense_through_the_one_who_wants_a_copy() {
    let keys = Keys::new();
    let honest = keys.clone();
    let source = act(move |mut guest| {
        let keys = honest.clone();
        async move {
            say(&mut guest, &[weighed()]).await?;
            let go = hear_go(&mut guest).await?;
            assert_eq!(go.choice, THROUGH_HERE);
            // Far more than waits anywhere, while the other way is as busy.
            for number in 0..200u8 {
                say(&mut guest, &[Report::Pipe(vec![number; 60_000])]).await?;
            }
            for number in 0..200u8 {
                assert_eq!(guest.hear().await?, vec![number; 64 * 1024]);
            }
            let (id, statement) = statement(&keys, &go);
            let receipt = Report::Proof(statement.sign(&keys.target));
            say(&mut guest, &[Report::Finished(finished(id)), receipt]).await
        }
    });
    let target = act(|mut guest| async move {
        if guest.request != Opening::Tunnel {
            return Ok(());
        }
        for number in 0..200u8 {
            assert_eq!(guest.hear().await?, vec![number; 60_000]);
        }
        for number in 0..200u8 {
            guest.frame(&vec![number; 64 * 1024]).await?;
        }
        // It leaves when the copy is over.
        assert!(guest.hear().await.is_err());
        Ok(())
    });
    runtime().block_on(async {
        let target = (grants_and_takes(), target);
        let report = copy_by(THROUGH_HERE, &keys, source, target, Sink::default()).await.unwrap();
        assert_eq!(report.totals.copied, 1);
    });
}

#[test]
fn a_target_that_takes_no_tunnel_or_drops_it() {
    let keys = Keys::new();
    let refuse = |code, text: &str| Opening::Refuse { code, text: text.to_owned() };
    let cases: Vec<(&str, Opening, &str)> = vec![
        ("a grant instead", granted(), "another message"),
        ("no", refuse(RefuseCode::Denied, "not \u{1b}[2J you"), "refused: not"),
        ("too many", refuse(RefuseCode::Busy, "later"), "later"),
    ];
    // A source that is told to go waits for what comes through.
    let waits = || {
        act(|mut guest| async move {
            say(&mut guest, &[weighed()]).await?;
            guest.hear().await?;
            guest.hear().await.map(drop)
        })
    };
    runtime().block_on(async {
        for (name, answer, expected) in cases {
            let leave = act(|_guest| async { Ok(()) });
            let answer: Answer = Arc::new(move |request| match request {
                Opening::Tunnel => answer.clone(),
                _ => granted(),
            });
            let copied =
                copy_by(THROUGH_HERE, &keys, waits(), (answer, leave), Sink::default()).await;
            let error = copied.expect_err(name);
            assert!(error.contains(expected) && !error.contains('\u{1b}'), "{name}: {error}");
        }
        // It is asked again for a while, and then the words are about the link to it.
        let drops = act(|guest| async move {
            guest.lane.close(3, "going away");
            Ok(())
        });
        let target = (grants_and_takes(), drops);
        let copied = copy_by(THROUGH_HERE, &keys, waits(), target, Sink::default()).await;
        let error = copied.unwrap_err();
        assert!(error.contains("going away"), "{error}");
    });
}
