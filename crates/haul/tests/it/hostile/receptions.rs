//! Servers that lie to those who hand datasets in, or ask what an inbox wants: the real `haul put` and `haul inbox schema`
//! fail in words that name the server and command no terminal, and keep no receipt of what is not so.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use haul::files::{Digest, RelPath};
use haul::link::{Encoder, Identity};
use haul::transfer::Totals;
use haul::transfer::message::{
    Fault, MAX_TEXTS, MAX_WINDOW, Offer, Opening, Outcome, RefuseCode, TargetMessage, Waiting,
};
use haul::transfer::receipt::{DatasetStatement, Statement};
use haul::tree::{Body, Record, TreeDigest, TreeDigests};
use testkit::daemon::{Ended, Running};
use testkit::hostile::host::{Act, Guest, Host, Words};
use testkit::tree::Scratch;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};

use super::hosts::act;
use super::offers::is_clean;
use super::runtime;
use crate::pair::machine;

/// A program that is misled for longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than what is read before it is offered.
const LARGE: u64 = 65 << 20;
const METADATA: &[u8] = b"{\"by\":\"me\"}";
/// What would clear a screen, set a title and turn text around.
const CURSES: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\n";

/// What a server does with one client.
struct Lies {
    name: String,
    identity: Identity,
    /// What it answers first.
    first: Words,
    then: Act,
    /// Words of the command beside those that every run has.
    options: &'static [&'static str],
    /// How long the file is that is handed in; it begins with a word.
    len: u64,
    /// What the client must have said.
    says: &'static str,
}

/// How a client has fared.
struct Misled {
    ended: Ended,
    server: SocketAddr,
    /// How many receipts it has kept, and whether one is where it was wanted.
    receipts: (usize, bool),
}

/// Says these one after another.
fn frames(frames: Vec<Vec<u8>>) -> Act {
    act(move |mut guest: Guest| {
        let frames = frames.clone();
        async move {
            for frame in &frames {
                guest.frame(frame).await?;
            }
            Ok(())
        }
    })
}

fn first(frame: Vec<u8>) -> Words {
    Arc::new(move |_| frame.clone())
}

fn lies(name: &str, identity: Identity, answer: Vec<u8>, then: Act, says: &'static str) -> Lies {
    Lies { name: name.to_owned(), identity, first: first(answer), then, options: &[], len: 5, says }
}

fn says(name: &'static str, said: Vec<Vec<u8>>, words: &'static str) -> Lies {
    let (answer, rest) = said.split_first().expect("a server says something");
    lies(name, Identity::generate().unwrap(), answer.clone(), frames(rest.to_vec()), words)
}

/// The same to one who only asks.
fn judges(name: &'static str, said: Vec<Vec<u8>>, words: &'static str) -> Lies {
    Lies { options: &["--dry-run"], ..says(name, said, words) }
}

/// Runs `haul put`, or `haul inbox schema` where `puts` is false, against this server.
async fn run(test: &str, number: usize, puts: bool, lies: &Lies) -> Misled {
    let host = Host::saying(&lies.identity, lies.first.clone(), lies.then.clone());
    let server = host.address();
    let scratch = Scratch::new(&format!("{test}-{number}"));
    let (options, len) = (lies.options, lies.len);
    let ended = spawn_blocking(move || {
        let client = machine(scratch.join("client"));
        fs::write(scratch.join("a"), b"hello").unwrap();
        fs::File::options().write(true).open(scratch.join("a")).unwrap().set_len(len).unwrap();
        fs::write(scratch.join("metadata"), METADATA).unwrap();
        let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
        let (host, metadata, receipt, a) =
            (server.to_string(), path("metadata"), path("receipt"), path("a"));
        let put =
            ["put", "--accept-new", "--give-up-after", "2s", "--inbox", "any", "-m", &metadata];
        let words = match puts {
            true => [&put[..], options, &["--receipt", &receipt, &host, &a]].concat(),
            false => vec!["inbox", "schema", "--accept-new", &host, "any"],
        };
        let ended = Running::start(client.command(&words)).wait_until(PATIENCE);
        let kept = fs::read_dir(client.home().join("receipts")).map_or(0, Iterator::count);
        Misled { ended, server, receipts: (kept, scratch.join("receipt").exists()) }
    });
    let ended = ended.await.unwrap();
    drop(host);
    ended
}

/// All of them fail, in words that can be shown.
fn check(test: &'static str, puts: bool, cases: Vec<Lies>) {
    runtime().block_on(async {
        let mut running = JoinSet::new();
        for (number, lies) in cases.into_iter().enumerate() {
            running.spawn(async move {
                let misled = run(test, number, puts, &lies).await;
                lies.verdict(&misled);
            });
        }
        while let Some(done) = running.join_next().await {
            if let Err(error) = done {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    });
}

impl Lies {
    fn verdict(&self, misled: &Misled) {
        let Misled { ended, server, receipts } = misled;
        let (name, told) = (&self.name, ended.told());
        assert!(!matches!(ended.code, Some(0) | None), "{name}: {told}");
        assert_eq!(*receipts, (0, false), "{name}: {told}");
        let server = server.to_string();
        let names = |line: &str| line.starts_with("haul: ") && line.contains(&server);
        assert!(ended.errors.lines().any(names), "{name}: {told}");
        assert!(ended.errors.contains(self.says), "{name}: {told}");
        assert!(!ended.errors.contains("panicked"), "{name}: {told}");
        for line in ended.errors.split('\n').chain(ended.text().split('\n')) {
            assert!(is_clean(line), "{name}: {line:?}");
        }
    }
}

fn part(last: bool, bytes: &[u8]) -> Vec<u8> {
    Opening::Part { last, bytes: bytes.to_vec() }.encode()
}

fn fault() -> Fault {
    Fault { path: format!("/{CURSES}"), reason: format!("no {CURSES}") }
}

fn unfit(faults: Vec<Fault>) -> Vec<u8> {
    Opening::Unfit { faults, more: u64::MAX }.encode()
}

fn waiting(number: u64) -> Vec<u8> {
    let (seconds, reason) = (Some(number.saturating_sub(2)), format!("for {CURSES}"));
    Opening::Waiting(Waiting { position: number, length: number, seconds, reason }).encode()
}

fn admitted(dataset: &str) -> Vec<u8> {
    Opening::Admitted { dataset: dataset.to_owned(), notes: vec![format!("note {CURSES}")] }
        .encode()
}

fn finished(dataset: &str) -> Vec<u8> {
    Opening::Finished { dataset: dataset.to_owned() }.encode()
}

fn refuse(code: RefuseCode) -> Vec<u8> {
    Opening::Refuse { code, text: format!("gone {CURSES}") }.encode()
}

fn accept(resumed: bool) -> Vec<u8> {
    Opening::Accept { resumed, seen: 0, window: MAX_WINDOW, named: false }.encode()
}

/// An admission with more notes than a message may have bytes of them.
fn noted() -> Vec<u8> {
    let mut out = Encoder::new();
    out.u8(88).text("a1").varint(60);
    for _ in 0..60 {
        out.text(&"n".repeat(1000));
    }
    out.finish()
}

#[test]
fn answers_to_an_offer_that_are_none() {
    use RefuseCode::{Denied, Disk, NotFound};
    let (unreadable, other) = ("cannot be read", "another message was expected");
    let ids = ["", "../../x", "a\u{1b}[2J", "\u{202e}", &"a".repeat(65)];
    let [empty, climbs, commands, turned, long] = ids.map(admitted);
    let fits = || Opening::Fits { notes: vec![CURSES.to_owned()] }.encode();
    let names = Opening::Names { paths: Vec::new(), last: true }.encode();
    let mut many = vec![waiting(1); 200];
    many.push(refuse(NotFound));
    check(
        "receptions-offers",
        true,
        vec![
            says("no message", vec![vec![99, 1, 2]], unreadable),
            says("an empty frame", vec![vec![]], unreadable),
            says("the longest frame", vec![vec![85; 64 * 1024]], unreadable),
            says("a part that was not asked for", vec![part(true, b"{}")], other),
            says("an offer", vec![Opening::AskSchema { inbox: String::new() }.encode()], other),
            says("names", vec![names], other),
            says("what fits, though more was asked", vec![fits()], other),
            says("accepted without an admission", vec![accept(false)], other),
            says("faults that command a terminal", vec![unfit(vec![fault()])], "no \\x1b[2J"),
            says("2^64-1 faults more", vec![unfit(Vec::new())], "18446744073709551615 more"),
            says("too many faults", vec![unfit(vec![fault(); MAX_TEXTS + 1])], unreadable),
            says("a place beyond all", vec![waiting(u64::MAX)], unreadable),
            says(
                "an enormous place",
                vec![waiting(1 << 56), refuse(NotFound)],
                "waiting: place 72057594037927936 of 72057594037927936",
            ),
            says("many places", many, "gone \\x1b[2J"),
            says(
                "a wait for what commands a terminal",
                vec![waiting(9), refuse(Disk)],
                "for \\x1b[2J",
            ),
            says("a refusal that does", vec![refuse(Denied)], "gone \\x1b[2J"),
            says("no message after a wait", vec![waiting(1), vec![99]], unreadable),
            says("a part after a wait", vec![waiting(1), part(false, b"{}")], other),
            says("no id", vec![empty], unreadable),
            says("an id that climbs", vec![climbs], unreadable),
            says("an id that commands a terminal", vec![commands], unreadable),
            says("an id that is turned around", vec![turned], unreadable),
            says("an id that is too long", vec![long], unreadable),
            says("too many notes", vec![noted()], unreadable),
            says(
                "notes that command a terminal",
                vec![admitted("a1"), refuse(Disk)],
                "note \\x1b[2J",
            ),
            says("admitted twice", vec![admitted("a1"), admitted("a1")], other),
            says("resumed what was not", vec![admitted("a1"), accept(true)], other),
            says("a wait after an admission", vec![admitted("a1"), waiting(1)], other),
            says("finished after an admission", vec![admitted("a1"), finished("a1")], other),
            judges("faults, to one who asks", vec![unfit(vec![fault()])], "no \\x1b[2J"),
            judges("admitted, who only asks", vec![admitted("a1")], other),
            judges("a wait and no answer for one who only asks", vec![waiting(1)], "ends early"),
            judges("finished, who only asks", vec![finished("a1"), part(true, b"{}")], other),
            judges("no message to one who asks", vec![vec![86, 255, 255]], unreadable),
            Lies {
                options: &["--json"],
                ..says("places and faults as JSON", vec![waiting(9), unfit(vec![fault()])], "")
            },
            Lies {
                options: &["--json"],
                ..says("notes as JSON", vec![admitted("a1"), refuse(Disk)], "gone")
            },
        ],
    );
}

/// Who waits hears so, and can be told to stop.
#[test]
fn a_wait_without_end_can_be_ended() {
    let asked = Arc::new(Notify::new());
    let waits = {
        let asked = asked.clone();
        act(move |guest: Guest| {
            asked.notify_one();
            async move {
                // As a whole, so that the control stream stays.
                let guest = guest;
                Err(guest.lane.closed().await)
            }
        })
    };
    runtime().block_on(async {
        let identity = Identity::generate().unwrap();
        let host = Host::saying(&identity, first(waiting(1)), waits);
        let scratch = Scratch::new("receptions-wait");
        fs::write(scratch.join("a"), b"hello").unwrap();
        let client = machine(scratch.join("client"));
        let (address, a) = (host.address().to_string(), scratch.join("a"));
        let words = ["put", "--accept-new", "--inbox", "any", &address, a.to_str().unwrap()];
        let mut running = Running::start(client.command(words));
        asked.notified().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(running.is_running());
        running.interrupt();
        let ended = spawn_blocking(move || running.wait_until(PATIENCE)).await.unwrap();
        ended.expect_code(130).expect_says(&["waiting: place 1 of 1", "for \\x1b[2J"]);
    });
}

/// What a receipt claims in place of the truth, or how it is none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// It is true.
    None,
    NotJson,
    Empty,
    Signature,
    Signer,
    Source,
    Transfer,
    Content,
    Durability,
    NoDataset,
    Id,
    Inbox,
    Name,
    Metadata,
    TooLong,
    Endless,
    EmptyParts,
    NoPart,
}

/// A statement about the offer, true but for one thing, signed by the server or by somebody else.
fn receipt(
    guest: &Guest,
    (signer, id): (&Identity, [u8; 16]),
    lie: Lie,
    content: Digest,
) -> Vec<u8> {
    let other = Identity::generate().unwrap();
    let offer = offer_of(guest);
    let instead = |is: Lie, truth: &str, lied: &str| {
        if lie == is { lied.to_owned() } else { truth.to_owned() }
    };
    let key = if lie == Lie::Signer { &other } else { signer };
    let digest =
        |is: Lie, truth: Digest| if lie == is { Digest::from_bytes([3; 32]) } else { truth };
    let dataset = DatasetStatement {
        id: instead(Lie::Id, "a1", "b2"),
        inbox: instead(Lie::Inbox, &offer.inbox, "none"),
        name: instead(Lie::Name, &offer.name, CURSES),
        metadata: digest(Lie::Metadata, Digest::of(METADATA)),
    };
    let mut transfer = id;
    transfer[0] ^= u8::from(lie == Lie::Transfer);
    let empty = TreeDigest::new().finish();
    let statement = Statement {
        transfer: transfer.iter().map(|byte| format!("{byte:02x}")).collect(),
        source: if lie == Lie::Source { other.public_key() } else { *guest.lane.peer() },
        target: key.public_key(),
        path: "inbox any".to_owned(),
        began: 0,
        ended: 0,
        durable: lie != Lie::Durability,
        roots: vec!["a".to_owned()],
        root_count: 1,
        tree: TreeDigests { content: digest(Lie::Content, content), ..empty },
        totals: Totals::default(),
        removed: 0,
        dataset: (lie != Lie::NoDataset).then_some(dataset),
    };
    match lie {
        Lie::NotJson => format!("{CURSES}{{").into_bytes(),
        Lie::Empty => Vec::new(),
        Lie::Signature => statement.sign(&other),
        _ => statement.sign(key),
    }
}

fn offer_of(guest: &Guest) -> Offer {
    match &guest.request {
        Opening::Offer(offer) => offer.clone(),
        other => panic!("{other:?}"),
    }
}

fn told_content(guest: &Guest) -> Digest {
    offer_of(guest).content.expect("what is small is read before it is offered")
}

/// A server that says it has published this before, and gives this for a receipt.
fn has_it_before(lie: Lie, words: &'static str) -> Lies {
    let identity = Identity::generate().unwrap();
    let signer = Arc::new(Identity::from_pem(&identity.to_pem()).unwrap());
    let act = act(move |mut guest: Guest| {
        let signer = signer.clone();
        async move {
            let text = receipt(&guest, (&signer, [1; 16]), lie, told_content(&guest));
            let long = vec![b' '; 60 * 1024];
            match lie {
                Lie::TooLong => {
                    for _ in 0..70 {
                        guest.frame(&part(false, &long)).await?;
                    }
                    guest.frame(&part(true, &text)).await
                }
                Lie::Endless => loop {
                    guest.frame(&part(false, &long)).await?;
                },
                Lie::EmptyParts => guest.frame(&[81, 0, 0]).await,
                Lie::NoPart => guest.frame(&waiting(1)).await,
                _ => {
                    for (number, piece) in text.chunks(100).enumerate() {
                        guest.frame(&part((number + 1) * 100 >= text.len(), piece)).await?;
                    }
                    if text.is_empty() { guest.frame(&part(true, b"")).await } else { Ok(()) }
                }
            }
        }
    });
    lies(&format!("{lie:?}"), identity, finished("a1"), act, words)
}

/// How the file fares at a server that takes the transfer on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fares {
    /// It is there already, as it was offered.
    Stands,
    /// It is there, and is something else.
    Differs,
    Failed,
    Skipped,
    Made,
    /// Nothing is said of it.
    Untold,
}

impl Fares {
    fn outcome(self) -> Option<Outcome> {
        let failed = || Outcome::Failed { code: RefuseCode::Disk, text: CURSES.to_owned() };
        match self {
            Self::Stands => Some(Outcome::Unchanged(Digest::of(b"hello"))),
            Self::Differs => Some(Outcome::Unchanged(Digest::of(b"olleh"))),
            Self::Failed => Some(failed()),
            Self::Skipped => Some(Outcome::Skipped),
            Self::Made => Some(Outcome::Made),
            Self::Untold => None,
        }
    }

    /// The content digest of what the server then has.
    fn content(self) -> Digest {
        let mut tree = TreeDigest::new();
        if let Some(Outcome::Unchanged(content)) = self.outcome() {
            let path = RelPath::parse(b"a").unwrap();
            let body = Body::File { size: 5, content };
            tree.add(&Record { path: &path, body, mode: None, mtime: None });
        }
        tree.finish().content
    }
}

/// A server that takes a transfer on to its end, and signs this.
fn takes_it(fares: Fares, lie: Lie, words: &'static str) -> Lies {
    let identity = Identity::generate().unwrap();
    let signer = Arc::new(Identity::from_pem(&identity.to_pem()).unwrap());
    let act = act(move |mut guest: Guest| {
        let signer = signer.clone();
        async move {
            let id = loop {
                if let Ok(Opening::Put { id, .. }) = Opening::decode(&guest.hear().await?) {
                    break id;
                }
            };
            guest.frame(&accept(false)).await?;
            guest.say(TargetMessage::Ready).await?;
            guest.hear_all().await?;
            if let Some(outcome) = fares.outcome() {
                guest.say(TargetMessage::Outcomes { first: 0, list: vec![(1, outcome)] }).await?;
            }
            let receipt = receipt(&guest, (&signer, id), lie, fares.content());
            guest.say(TargetMessage::Receipt(receipt)).await
        }
    });
    lies(&format!("{fares:?}, {lie:?}"), identity, admitted("a1"), act, words)
}

/// A server that tells the truth, by the same script, is believed.
async fn is_believed(test: &str, honest: Lies) {
    let misled = run(test, 0, true, &honest).await;
    misled.ended.expect_code(0).expect_says(&["dataset a1"]);
    assert_eq!(misled.receipts, (1, true));
}

#[test]
fn receipts_of_what_was_published_before() {
    runtime().block_on(is_believed("receptions-true", has_it_before(Lie::None, "")));
    let cases = [
        (Lie::NotJson, "not JSON"),
        (Lie::Empty, "not JSON"),
        (Lie::Signature, "signature"),
        (Lie::Signer, "its signer"),
        (Lie::Source, "its source"),
        (Lie::Content, "its tree digest"),
        (Lie::Durability, "its durability"),
        (Lie::NoDataset, "its dataset"),
        (Lie::Id, "its dataset"),
        (Lie::Inbox, "its dataset"),
        (Lie::Name, "its dataset"),
        (Lie::Metadata, "its dataset"),
        (Lie::TooLong, "too long"),
        (Lie::Endless, "too long"),
        (Lie::EmptyParts, "cannot be read"),
        (Lie::NoPart, "another message was expected"),
    ];
    let cases = cases.map(|(lie, words)| has_it_before(lie, words));
    check("receptions-before", true, cases.into());
}

#[test]
fn receipts_of_a_whole_transfer() {
    use Fares::{Differs, Failed, Made, Skipped, Stands, Untold};
    runtime().block_on(is_believed("receptions-whole", takes_it(Stands, Lie::None, "")));
    let cases = [
        (Stands, Lie::NotJson, "not JSON"),
        (Stands, Lie::Empty, "not JSON"),
        (Stands, Lie::Signature, "signature"),
        (Stands, Lie::Signer, "its signer"),
        (Stands, Lie::Source, "its source"),
        (Stands, Lie::Transfer, "its transfer"),
        (Stands, Lie::Content, "its tree digest"),
        (Stands, Lie::Durability, "its durability"),
        (Stands, Lie::NoDataset, "its dataset"),
        (Stands, Lie::Id, "its dataset"),
        (Stands, Lie::Inbox, "its dataset"),
        (Stands, Lie::Name, "its dataset"),
        (Stands, Lie::Metadata, "its dataset"),
        (Differs, Lie::None, "its tree digest"),
        (Failed, Lie::None, "its tree digest"),
        (Skipped, Lie::None, "its tree digest"),
        (Made, Lie::None, "its tree digest"),
        (Untold, Lie::None, "receipt before the end"),
    ];
    let mut cases: Vec<Lies> =
        cases.into_iter().map(|(fares, lie, words)| takes_it(fares, lie, words)).collect();
    let failed = takes_it(Failed, Lie::None, "its tree digest");
    cases.push(Lies { options: &["--json"], ..failed });
    // What is large is not read before it is offered.
    for fares in [Failed, Skipped, Made] {
        cases.push(Lies { len: LARGE, ..takes_it(fares, Lie::None, "its number of files") });
    }
    check("receptions-transfers", true, cases);
}

#[test]
fn schemas_that_are_none() {
    let long = || part(false, &[b' '; 60 * 1024]);
    let (unreadable, other) = ("cannot be read", "another message was expected");
    let mut too_long = vec![long(); 70];
    too_long.push(part(true, b"{}"));
    check(
        "receptions-schemas",
        false,
        vec![
            says("no message", vec![vec![99]], unreadable),
            says("an empty frame", vec![vec![]], unreadable),
            says("an admission", vec![admitted("a1")], other),
            says("faults", vec![unfit(vec![fault()])], other),
            says("a refusal", vec![refuse(RefuseCode::NotFound)], "gone \\x1b[2J"),
            says("another message for a part", vec![part(false, b"{"), waiting(1)], other),
            says("a part that is empty", vec![part(false, b"{"), vec![81, 0, 0]], unreadable),
            says("a text that is too long", too_long, "too long"),
            says("no text", vec![part(true, b"")], "no JSON"),
            says("no JSON", vec![part(true, format!("{CURSES}{{}}").as_bytes())], "no JSON"),
            says(
                "a control character in a text",
                vec![part(true, b"{\"a\":\"\x1b[2J\"}")],
                "no JSON",
            ),
            says("what is no text", vec![part(true, b"\"\xff\"")], "no JSON"),
        ],
    );
}

/// What JSON allows and a terminal does not is written in another way that means the same.
#[test]
fn schemas_are_shown_as_they_mean() {
    let title = "a\u{7f}\u{9b}2J\u{202e}b\\n \u{e0041}\u{feff}\u{2028}ä😀";
    let text = format!("{{\r\n\t\"title\": {}\n}}", serde_json::to_string(title).unwrap());
    let identity = Identity::generate().unwrap();
    let lies = lies("", identity, part(true, text.as_bytes()), frames(Vec::new()), "");
    let misled = runtime().block_on(run("receptions-shown", 0, false, &lies));
    let shown = misled.ended.expect_code(0).text();
    assert!(shown.split(['\n', '\t']).all(is_clean), "{shown:?}");
    assert!(shown.contains("ä😀"), "{shown}");
    let schema: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(schema["title"], title);
}
