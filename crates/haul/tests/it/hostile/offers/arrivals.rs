//! What a key that was let in may do once its dataset is admitted: a put, of what was offered, and nothing else. What
//! arrives otherwise is not published.

use std::fs;

use haul::files::Digest;
use haul::link::Pace;
use haul::transfer::message::{
    Deletion, Entry, EntryKind, Extent, Offer, Opening, Order, Outcome, RefuseCode, SourceMessage,
};
use haul::tree::{Body, Record, TreeDigest};
use serde_json::Value;
use testkit::hostile::{End, Heard, Step, bundle, entry, file};

use super::{Door, LISTEN, METADATA, allowed, is_clean, offer, part, put, whole};
use crate::hostile::{order, runtime};

impl Door {
    /// Hands in what the offer says and then does this.
    async fn play(&self, offer: &Offer, script: &[Step]) -> Heard {
        let (mut peer, ..) = self.admitted(offer).await;
        put(&mut peer, offer.upload, order("")).await;
        peer.play(script, LISTEN).await
    }
}

fn offers(entries: Vec<Entry>) -> Step {
    testkit::hostile::offer(entries)
}

fn end(entries: u64) -> Step {
    Step::Say(SourceMessage::End { entries, problems: 0 })
}

/// What was offered, sent as it should be.
fn honest() -> Vec<Step> {
    vec![
        offers(vec![file(1, 0, "a", 5)]),
        Step::AwaitNeed(1),
        bundle(1, b"hello"),
        Step::AwaitOutcome(1),
        end(1),
    ]
}

/// The content digest of that.
fn content() -> Digest {
    let mut tree = TreeDigest::new();
    let path = haul::files::RelPath::parse(b"a").unwrap();
    let body = Body::File { size: 5, content: Digest::of(b"hello") };
    tree.add(&Record { path: &path, body, mode: None, mtime: None });
    tree.finish().content
}

#[test]
fn only_a_put_follows_an_admission() {
    let door = Door::new("hostile-admitted");
    let put = |resume, id| Opening::Put { id, resume, seen: 0, order: order("") };
    let get = Opening::Get {
        id: [1; 16],
        resume: false,
        window: 1 << 20,
        pace: Pace::Fair,
        order: Order::default(),
        sources: vec![b"any".to_vec()],
        extent: Extent::All,
    };
    let grant = [6; 32];
    let granted =
        Opening::PutGranted { grant, id: [4; 16], resume: false, seen: 0, order: order("") };
    let behind = [
        put(true, [1; 16]),
        get,
        granted,
        Opening::Offer(offer(2)),
        Opening::Part { last: true, bytes: METADATA.to_vec() },
        Opening::List { path: Vec::new() },
    ];
    runtime().block_on(async {
        for opening in behind {
            let (mut peer, ..) = door.admitted(&offer(1)).await;
            peer.frame(&opening.encode()).await.unwrap();
            assert!(peer.opening().await.is_err(), "{opening:?}");
            let end = peer.closed().await;
            let fits = matches!(&end, End::Closed(2, reason) if reason.contains("another message"));
            assert!(fits, "{opening:?}: {end:?}");
        }
    });
    assert_eq!((door.lab.datasets().len(), door.lab.incoming()), (0, 1));
    door.still_takes(0);
}

/// The order that comes with a put says how files are sent, and nothing else.
#[test]
fn an_order_leads_nowhere_else() {
    let door = Door::new("hostile-order");
    let order = Order {
        target: b"../../../../elsewhere".to_vec(),
        contents: true,
        dry_run: true,
        checksum: true,
        owner: true,
        setid: true,
        whole: true,
        deletion: Deletion::All,
        ..Order::default()
    };
    let setid = Entry { mode: 0o6777, owner: Some((12, 34)), ..file(1, 0, "a", 5) };
    runtime().block_on(async {
        let (mut peer, dataset, _) = door.admitted(&offer(1)).await;
        put(&mut peer, [1; 16], order).await;
        let script = [vec![offers(vec![setid])], honest()[1..].to_vec()].concat();
        let heard = peer.play(&script, LISTEN).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
        let [published] = &door.lab.datasets()[..] else { panic!() };
        assert_eq!(published["dataset"], dataset);
        let a = door.lab.folder(published).join("files/a");
        assert_eq!(fs::read(&a).unwrap(), b"hello");
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(&a).unwrap();
        assert_eq!(
            (found.mode() & 0o7000, found.uid()),
            (0, fs::metadata("/proc/self").unwrap().uid())
        );
    });
    let elsewhere: Vec<_> = testkit::tree::entries(door.lab.scratch.path())
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("elsewhere"))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    door.still_takes(1);
}

#[test]
fn what_arrives_is_what_was_offered() {
    let door = Door::new("hostile-arrives");
    let link = || entry(1, 0, "a", EntryKind::Symlink { target: b"/etc/passwd".to_vec() });
    let two = |name: &str| file(2, 0, name, 5);
    let fails = |entry: Entry| vec![offers(vec![entry]), Step::AwaitOutcome(1), end(1)];
    let denied = Some(RefuseCode::Denied);
    let sent = |index| [Step::AwaitNeed(index), bundle(index, b"hello"), Step::AwaitOutcome(index)];
    let problems = SourceMessage::End { entries: 1, problems: 1 };
    let gone = SourceMessage::Withdraw { index: 1, reason: "\u{1b}[2J".to_owned(), last: true };
    // What becomes of entry 1, and what the refusal says.
    let cases = [
        ("a symbolic link", fails(link()), denied, "not all"),
        ("haul's own name", fails(file(1, 0, ".haul", 5)), denied, "not all"),
        ("a name with a line end", fails(file(1, 0, "a\nb", 5)), denied, "not all"),
        ("a name that commands a terminal", fails(file(1, 0, "\u{1b}[2J", 5)), denied, "not all"),
        (
            "a folder of such a name",
            vec![
                offers(vec![entry(1, 0, "\u{7f}", EntryKind::Folder)]),
                Step::Say(SourceMessage::Leave { index: 1, complete: true }),
                Step::AwaitOutcome(1),
                end(1),
            ],
            denied,
            "not all",
        ),
        (
            "more bytes than were offered",
            fails(file(1, 0, "a", 6)),
            Some(RefuseCode::TooMuch),
            "not all",
        ),
        ("2^50 bytes", fails(file(1, 0, "a", 1 << 50)), Some(RefuseCode::TooMuch), "not all"),
        (
            "a hard link to a symbolic link",
            vec![
                offers(vec![link(), entry(2, 0, "b", EntryKind::HardLink { to: 1, size: 5 })]),
                Step::AwaitOutcome(1),
                Step::Say(SourceMessage::Withdraw { index: 2, reason: String::new(), last: true }),
                Step::AwaitOutcome(2),
                end(2),
            ],
            denied,
            "not all",
        ),
        ("nothing", vec![end(0)], None, "0 files of 0 bytes"),
        (
            "a folder alone",
            vec![
                offers(vec![entry(1, 0, "a", EntryKind::Folder)]),
                Step::Say(SourceMessage::Leave { index: 1, complete: true }),
                end(1),
            ],
            None,
            "0 files of 0 bytes",
        ),
        (
            "fewer bytes than were offered",
            vec![
                offers(vec![file(1, 0, "a", 4)]),
                Step::AwaitNeed(1),
                bundle(1, b"hell"),
                Step::AwaitOutcome(1),
                end(1),
            ],
            None,
            "1 files of 4 bytes",
        ),
        (
            "an empty file more than was offered",
            [
                vec![offers(vec![file(1, 0, "a", 5), file(2, 0, "b", 0)])],
                sent(1).to_vec(),
                vec![Step::AwaitNeed(2), bundle(2, b""), Step::AwaitOutcome(2), end(2)],
            ]
            .concat(),
            None,
            "2 files of 5 bytes",
        ),
        (
            "a file more than was offered",
            [
                vec![offers(vec![file(1, 0, "a", 5), two("b")])],
                vec![Step::AwaitOutcome(2)],
                sent(1).to_vec(),
                vec![end(2)],
            ]
            .concat(),
            None,
            "not all",
        ),
        (
            "what could not be read",
            [honest()[..4].to_vec(), vec![Step::Say(problems)]].concat(),
            None,
            "not all",
        ),
        (
            "what is withdrawn",
            vec![
                offers(vec![file(1, 0, "a", 5)]),
                Step::AwaitNeed(1),
                Step::Say(gone),
                Step::AwaitOutcome(1),
                end(1),
            ],
            None,
            "not all",
        ),
    ];
    let count = cases.len();
    runtime().block_on(async {
        for (number, (name, script, outcome, words)) in cases.into_iter().enumerate() {
            let heard = door.play(&offer(number as u8 + 1), &script).await;
            let fits = matches!(&heard.end, End::Refused(_, text) if text.contains(words));
            assert!(fits, "{name}: {heard:?}");
            let found = match heard.outcomes.get(&1) {
                Some(Outcome::Failed { code, .. }) if outcome.is_some() => Some(*code),
                _ => None,
            };
            assert_eq!(found, outcome, "{name}: {heard:?}");
            assert_eq!(door.lab.datasets(), Vec::<Value>::new(), "{name}");
        }
    });
    // Each was taken in, and may be handed in once more.
    assert_eq!(door.lab.incoming(), count);
    door.still_takes(0);
}

/// A digest that was told decides, also when what was told was wrong; who tells another one begins anew.
#[test]
fn the_content_that_is_told_is_the_content_that_is_taken() {
    let door = Door::new("hostile-content");
    let wrong = Offer { content: Some(Digest::from_bytes([9; 32])), ..offer(1) };
    let right = Offer { content: Some(content()), ..offer(1) };
    runtime().block_on(async {
        // The second time the file is there.
        let there = vec![offers(vec![file(1, 0, "a", 5)]), Step::AwaitOutcome(1), end(1)];
        for script in [honest(), there] {
            let heard = door.play(&wrong, &script).await;
            let fits = matches!(&heard.end, End::Refused(RefuseCode::Corrupt, text) if text.contains("another content"));
            assert!(fits, "{heard:?}");
            assert_eq!(door.lab.datasets(), Vec::<Value>::new());
        }
        let heard = door.play(&right, &honest()).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
    });
    door.still_takes(1);
}

/// Metadata may hold what commands a terminal, as values; what shows them does not.
#[test]
fn metadata_are_shown_and_command_nothing() {
    let door = Door::new("hostile-metadata");
    let curses = "a\u{7f}\u{9b}2J\u{202e}gpj\u{200b}";
    let metadata = format!("{{\"by\": \"{curses}\\u001b[2J\"}}");
    let offer = Offer { metadata_len: metadata.len() as u64, ..offer(1) };
    runtime().block_on(async {
        let frames = [Opening::Offer(offer).encode(), part(true, metadata.as_bytes())];
        let mut peer = door.say(&frames).await;
        let answer = peer.opening().await;
        assert!(matches!(answer, Ok(Opening::Admitted { .. })), "{answer:?}");
        put(&mut peer, [1; 16], order("")).await;
        assert_eq!(peer.play(&honest(), LISTEN).await.end, End::Receipt);
    });
    let [dataset] = &door.lab.datasets()[..] else { panic!() };
    assert_eq!(dataset["metadata"]["by"], format!("{curses}\u{1b}[2J"));
    let stored = fs::read_to_string(door.lab.folder(dataset).join("metadata.json")).unwrap();
    assert!(stored.contains(&metadata), "they are kept as they came");
    let id = dataset["dataset"].as_str().unwrap();
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["show", id],
        &["show", id, "--json"],
        &["search", "gpj"],
        &["verify", "--json"],
    ] {
        let ended = door.lab.inbox(words).expect_code(0);
        for line in ended.text().split('\n').chain(ended.errors.split('\n')) {
            assert!(is_clean(line), "{words:?}: {line:?}");
        }
    }
    door.still_takes(1);
}

/// An upload is its key's: nobody else can name it, learn of it or go on with it.
#[test]
fn uploads_of_others_cannot_be_named() {
    let door = Door::new("hostile-others");
    let other = allowed(&door.lab, &["--inbox", "any"]);
    let check = Offer { check: true, ..offer(1) };
    let resume = Opening::Put { id: [7; 16], resume: true, seen: 0, order: order("") };
    runtime().block_on(async {
        let (mut owner, first, notes) = door.admitted(&offer(1)).await;
        assert_eq!(notes, Vec::<String>::new());
        put(&mut owner, [7; 16], order("")).await;
        // The other asks for it, resumes it, and offers it.
        let mut peer = door.say_as(&other, &whole(&check)).await;
        let answer = peer.opening().await;
        assert!(matches!(&answer, Ok(Opening::Fits { notes }) if notes.is_empty()), "{answer:?}");
        peer.lane.close(0, "");
        let mut peer = door.say_as(&other, &[resume.encode()]).await;
        let answer = peer.opening().await;
        let is_refused =
            matches!(answer, Ok(Opening::Refuse { code: RefuseCode::UnknownTransfer, .. }));
        assert!(is_refused, "{answer:?}");
        peer.lane.close(0, "");
        let (mut peer, second, notes) = door.admitted_as(&other, &offer(1)).await;
        assert_ne!(first, second);
        assert_eq!(notes, Vec::<String>::new());
        // With the id of the transfer that goes on.
        put(&mut peer, [7; 16], order("")).await;
        let heard = owner.play(&honest(), LISTEN).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
        // Now it is published; to the other this is not told.
        let mut asking = door.say_as(&other, &whole(&check)).await;
        let answer = asking.opening().await;
        let said = format!("{answer:?}");
        assert!(
            matches!(answer, Ok(Opening::Fits { .. })) && !said.contains("handed in"),
            "{said}"
        );
        asking.lane.close(0, "");
        let heard = peer.play(&honest(), LISTEN).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
        let mut owner = door.say(&whole(&offer(1))).await;
        let answer = owner.opening().await;
        let is_own = matches!(&answer, Ok(Opening::Finished { dataset }) if *dataset == first);
        assert!(is_own, "{answer:?}");
        owner.lane.close(0, "");
        // The same upload with other metadata is none that was published.
        let changed = Offer { metadata_len: 3, ..offer(1) };
        let frames = [Opening::Offer(changed).encode(), part(true, b"{ }")];
        let mut peer = door.say(&frames).await;
        let answer = peer.opening().await;
        assert!(!matches!(answer, Ok(Opening::Finished { .. })), "{answer:?}");
        peer.lane.close(0, "");
    });
    door.still_takes(2);
}
