//! Keys that may hand in to inboxes and break the rules of it, one at a time: the client is refused or sent away, nothing
//! is published or left that was not taken in, and the server goes on taking datasets. What comes behind an admission is in
//! `offers/arrivals.rs`.

mod arrivals;

use std::fs;
use std::time::Duration;

use haul::link::{Encoder, Identity, LaneKind};
use haul::transfer::message::{MAX_INBOX, Offer, Opening, Order, RefuseCode};
use serde_json::Value;
use testkit::hostile::{End, Peer};

use super::{order, runtime};
use crate::inbox::Lab;

/// What the metadata of most offers are.
const METADATA: &[u8] = b"{}";
/// What an inbox takes of metadata unless it says otherwise.
const MOST_METADATA: u64 = 1 << 20;
/// For ends that come.
const LISTEN: Duration = Duration::from_secs(10);

/// A server with inboxes, and a key that it lets in.
struct Door {
    lab: Lab,
    key: Identity,
}

impl Door {
    fn new(name: &str) -> Self {
        Self::with(name, "")
    }

    /// The same with more in the configuration.
    fn with(name: &str, behind: &str) -> Self {
        let lab = Lab::with(name, "", behind, "inbox=*");
        let key = allowed(&lab, &["--inbox", "*"]);
        Self { lab, key }
    }

    /// Says these after a hello, as far as the server lets it.
    async fn say(&self, frames: &[Vec<u8>]) -> Peer {
        self.say_as(&self.key, frames).await
    }

    async fn say_as(&self, key: &Identity, frames: &[Vec<u8>]) -> Peer {
        let address = self.lab.address.parse().unwrap();
        let mut peer = Peer::dial_by(LaneKind::Tcp, address, key).await.unwrap();
        let hello = Opening::Hello { lowest: 1, highest: 1, software: "hostile".to_owned() };
        peer.frame(&hello.encode()).await.unwrap();
        assert!(matches!(peer.opening().await, Ok(Opening::Welcome { .. })));
        for frame in frames {
            if peer.frame(frame).await.is_err() {
                break;
            }
        }
        peer
    }

    /// Offers this, and waits until it is its turn: the lane, the dataset's id and the notes.
    async fn admitted(&self, offer: &Offer) -> (Peer, String, Vec<String>) {
        self.admitted_as(&self.key, offer).await
    }

    async fn admitted_as(&self, key: &Identity, offer: &Offer) -> (Peer, String, Vec<String>) {
        let mut peer = self.say_as(key, &whole(offer)).await;
        loop {
            match peer.opening().await {
                Ok(Opening::Waiting(_)) => {}
                Ok(Opening::Admitted { dataset, notes }) => return (peer, dataset, notes),
                other => panic!("{}: {other:?}", offer.name),
            }
        }
    }

    /// An honest client is served, nobody has panicked, and nothing was written raw that a client has said.
    fn still_takes(&self, published: usize) {
        let honest = self.lab.scratch.join("honest");
        fs::write(&honest, b"honest").unwrap();
        self.lab.put(&["--inbox", "any", "-k", "by:me"], &[honest]).expect_code(0);
        assert_eq!(self.lab.datasets().len(), published + 1);
        self.lab.inbox(&["verify"]).expect_code(0);
        let log = self.lab.log();
        assert!(!log.contains("panicked") && !log.contains("fault of this program"), "{log}");
        let audit = fs::read_to_string(self.lab.server.home().join("audit.jsonl")).unwrap();
        for line in log.lines().chain(audit.lines()) {
            assert!(is_clean(line), "{line:?}");
        }
        assert!(audit.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{audit}");
    }
}

/// Whether a line can be shown as it is.
pub fn is_clean(line: &str) -> bool {
    let bare = line.replace('\\', "");
    haul::files::escape(bare.as_bytes()).to_string() == bare
}

/// Lets a fresh key in, with these options of `key allow`.
fn allowed(lab: &Lab, options: &[&str]) -> Identity {
    let identity = Identity::generate().unwrap();
    let line = identity.public_key().to_line("hostile");
    let words = ["key", "allow"].iter().chain(options).copied();
    lab.server.run(words.chain([line.as_str()])).expect_code(0);
    identity
}

/// One file of five bytes.
fn offer(number: u8) -> Offer {
    Offer {
        upload: [number; 16],
        inbox: "any".to_owned(),
        name: format!("dataset {number}"),
        metadata_len: METADATA.len() as u64,
        files: 1,
        bytes: 5,
        content: None,
        check: false,
    }
}

fn part(last: bool, bytes: &[u8]) -> Vec<u8> {
    Opening::Part { last, bytes: bytes.to_vec() }.encode()
}

/// The offer and its metadata.
fn whole(offer: &Offer) -> Vec<Vec<u8>> {
    vec![Opening::Offer(offer.clone()).encode(), part(true, METADATA)]
}

/// Begins the transfer.
async fn put(peer: &mut Peer, id: [u8; 16], order: Order) {
    let put = Opening::Put { id, resume: false, seen: 0, order };
    peer.frame(&put.encode()).await.unwrap();
    let answer = peer.opening().await;
    assert!(matches!(answer, Ok(Opening::Accept { resumed: false, .. })), "{answer:?}");
}

/// What must become of an offer.
#[derive(Clone, Copy)]
enum Expect {
    /// The lane is closed for a breach of the protocol, in these words.
    Breach(&'static str),
    Refused(RefuseCode),
    Unfit,
}

/// An offer that is changed in one way, and its metadata.
fn changed(change: impl FnOnce(&mut Offer)) -> Vec<Vec<u8>> {
    let mut offer = offer(1);
    change(&mut offer);
    whole(&offer)
}

/// The offer, and these in place of its metadata.
fn followed(len: u64, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let offer = Offer { metadata_len: len, ..offer(1) };
    [vec![Opening::Offer(offer).encode()], parts].concat()
}

fn described(metadata: &[u8]) -> Vec<Vec<u8>> {
    followed(metadata.len() as u64, vec![part(true, metadata)])
}

/// An offer whose name is these bytes.
fn named(name: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Encoder::new();
    out.u8(80).array(&[1; 16]).text("any").bytes(name);
    out.varint(METADATA.len() as u64).varint(1).varint(5).boolean(false).boolean(false);
    vec![out.finish(), part(true, METADATA)]
}

fn called(name: &str) -> Vec<Vec<u8>> {
    changed(|offer| offer.name = name.to_owned())
}

fn into(inbox: &str) -> Vec<Vec<u8>> {
    changed(|offer| offer.inbox = inbox.to_owned())
}

#[test]
fn offers_that_are_none() {
    use Expect::{Breach, Refused, Unfit};
    use RefuseCode::{Denied, Disk, NotFound, TooMuch};
    let door = Door::new("hostile-offers");
    let metadata = |len| changed(|offer| offer.metadata_len = len);
    let files = |files| changed(|offer| offer.files = files);
    let bytes = |bytes| changed(|offer| offer.bytes = bytes);
    let valid = Opening::Offer(offer(1)).encode();
    let last = valid.len() - 1;
    let no_boolean = [&valid[..last], &[2]].concat();
    let another = |opening: Opening| followed(2, vec![opening.encode()]);
    let list = Opening::List { path: Vec::new() };
    let long = 60 * 1024;
    let length = Breach("another length");
    let cases = [
        ("metadata of 2^60 bytes", metadata(1 << 60), Breach("cannot be read")),
        ("metadata of 2^64-1 bytes", metadata(u64::MAX), Breach("cannot be read")),
        ("metadata of 2^56 bytes", metadata(1 << 56), Refused(TooMuch)),
        ("a byte more of metadata than is taken", metadata(MOST_METADATA + 1), Refused(TooMuch)),
        ("fewer bytes than were announced", followed(3, vec![part(true, METADATA)]), length),
        ("more bytes than were announced", followed(1, vec![part(true, METADATA)]), length),
        (
            "a part behind the whole that was not the last",
            followed(2, vec![part(false, METADATA), part(true, b" ")]),
            length,
        ),
        ("no bytes for some", followed(2, vec![part(true, b"")]), length),
        ("some bytes for none", followed(0, vec![part(true, METADATA)]), length),
        ("parts that are empty", followed(2, vec![vec![81, 0, 0]]), Breach("cannot be read")),
        (
            "parts that do not end",
            followed(2, vec![part(false, b" "); 5000]),
            Breach("another length"),
        ),
        (
            "a part that is too long",
            followed(MOST_METADATA, vec![part(false, &vec![b' '; long + 1])]),
            Breach("cannot be read"),
        ),
        ("no message for a part", followed(2, vec![vec![99]]), Breach("cannot be read")),
        ("an empty frame for a part", followed(2, vec![Vec::new()]), Breach("cannot be read")),
        ("another request for a part", another(list), Breach("another message")),
        ("an offer for a part", another(Opening::Offer(offer(2))), Breach("another message")),
        (
            "an answer for a part",
            another(Opening::Fits { notes: Vec::new() }),
            Breach("another message"),
        ),
        ("metadata that are no text", described(b"{\"a\":\"\xff\"}"), Unfit),
        ("metadata that are no JSON", described(b"\x1b[2J{}"), Unfit),
        ("no metadata", described(b""), Unfit),
        ("metadata that are no object", described(b"[]"), Unfit),
        ("a key twice", described(b"{\"a\":1,\"a\":2}"), Unfit),
        ("a control character in a key", described(b"{\"a\\u001b\":1}"), Unfit),
        ("metadata behind metadata", described(b"{}{}"), Unfit),
        ("brackets without end", described(&vec![b'['; long]), Unfit),
        ("no name", called(""), Refused(Denied)),
        ("a name of one dot", called("."), Refused(Denied)),
        ("a name of two dots", called(".."), Refused(Denied)),
        ("a name that climbs", called("../../etc/passwd"), Refused(Denied)),
        ("an absolute name", called("/etc/passwd"), Refused(Denied)),
        ("a name with a line end", called("a\nb"), Refused(Denied)),
        ("a name with NUL", called("a\0"), Refused(Denied)),
        ("a name that commands a terminal", called("a\u{1b}]0;b\u{7}"), Refused(Denied)),
        ("a name with a C1 control", called("a\u{9b}2J"), Refused(Denied)),
        ("a name that is turned around", called("a\u{202e}gpj.exe"), Refused(Denied)),
        ("a name with what cannot be seen", called("a\u{200b}b"), Refused(Denied)),
        ("a name that ends in a space", called("a "), Refused(Denied)),
        ("a name that is too long", called(&"n".repeat(201)), Refused(Denied)),
        ("a name of 10 kB", called(&"n".repeat(10_000)), Breach("cannot be read")),
        ("a name that is no text", named(b"a\xff"), Breach("cannot be read")),
        ("an inbox that is a path", into("../any"), Refused(NotFound)),
        ("an inbox with a slash", into("any/"), Refused(NotFound)),
        ("an inbox with NUL", into("any\0"), Refused(NotFound)),
        ("an inbox that commands a terminal", into("\u{1b}[2Jany"), Refused(NotFound)),
        ("an inbox that is turned around", into("any\u{202e}"), Refused(NotFound)),
        ("an inbox in capitals", into("ANY"), Refused(NotFound)),
        ("no inbox where there are two", into(""), Refused(NotFound)),
        ("the name of all inboxes", into("*"), Refused(NotFound)),
        ("an inbox that is too long", into(&"i".repeat(MAX_INBOX + 1)), Breach("cannot be read")),
        ("2^64-1 files", files(u64::MAX), Breach("cannot be read")),
        ("2^56 files", files(1 << 56), Refused(TooMuch)),
        ("no files", files(0), Refused(Denied)),
        ("2^64-1 bytes", bytes(u64::MAX), Breach("cannot be read")),
        ("2^56 bytes", bytes(1 << 56), Refused(Disk)),
        ("an offer that is cut short", vec![valid[..last].to_vec()], Breach("cannot be read")),
        ("bytes behind an offer", vec![[&valid[..], &[0]].concat()], Breach("cannot be read")),
        ("a boolean of two", vec![no_boolean], Breach("cannot be read")),
        ("a part without an offer", vec![part(true, METADATA)], Refused(Denied)),
        (
            "an answer",
            vec![Opening::Finished { dataset: "a".to_owned() }.encode()],
            Refused(Denied),
        ),
    ];
    runtime().block_on(async {
        for (name, frames, expect) in cases {
            let mut peer = door.say(&frames).await;
            match (peer.opening().await, expect) {
                (Err(_), Breach(words)) => {
                    let end = peer.closed().await;
                    let fits = matches!(&end, End::Closed(2, reason) if reason.contains(words));
                    assert!(fits, "{name}: {end:?}");
                }
                (Ok(Opening::Refuse { code, text }), Refused(expected)) => {
                    assert_eq!(code, expected, "{name}: {text}");
                    assert!(is_clean(&text), "{name}: {text:?}");
                }
                (Ok(Opening::Unfit { faults, .. }), Unfit) => {
                    assert!(!faults.is_empty(), "{name}");
                }
                (answer, _) => panic!("{name}: {answer:?}"),
            }
            peer.lane.close(0, "");
        }
    });
    door.lab.expect_nothing();
    door.still_takes(0);
}

/// Whoever only asks hands nothing in, whatever it says behind.
#[test]
fn a_question_is_no_offer() {
    let door = Door::new("hostile-check");
    let check = Offer { check: true, ..offer(1) };
    let put = |resume| Opening::Put { id: [1; 16], resume, seen: 0, order: order("") }.encode();
    runtime().block_on(async {
        for behind in [put(false), put(true), Opening::Offer(offer(1)).encode(), vec![99]] {
            let mut peer = door.say(&[whole(&check), vec![behind]].concat()).await;
            assert!(matches!(peer.opening().await, Ok(Opening::Fits { .. })));
            let heard = peer.opening().await;
            assert!(heard.is_err(), "{heard:?}");
            peer.lane.close(0, "");
        }
    });
    door.lab.expect_nothing();
    door.still_takes(0);
}

/// Those who have offered and say nothing more hold nobody up.
#[test]
fn silence_keeps_nobody_waiting() {
    let door = Door::new("hostile-silent");
    runtime().block_on(async {
        let silent = door.say(&followed(100, vec![part(false, b"{")])).await;
        let bare = door.say(&[Opening::Offer(offer(1)).encode()]).await;
        let (admitted, ..) = door.admitted(&offer(2)).await;
        let (mut carried, ..) = door.admitted(&offer(3)).await;
        put(&mut carried, [3; 16], order("")).await;
        let door = tokio::task::spawn_blocking(move || {
            door.still_takes(0);
            door
        });
        let door = door.await.unwrap();
        assert_eq!(door.lab.incoming(), 2);
        drop((silent, bare, admitted, carried));
    });
}

#[test]
fn nothing_is_said_while_an_offer_waits() {
    let door = Door::with("hostile-waiting", "[inboxes]\nactive = 1\nsmall_active = 0");
    let put = Opening::Put { id: [2; 16], resume: false, seen: 0, order: order("") }.encode();
    runtime().block_on(async {
        let (first, ..) = door.admitted(&offer(1)).await;
        for behind in [put, part(true, METADATA), whole(&offer(2))[0].clone(), vec![99], vec![]] {
            let mut peer = door.say(&whole(&offer(2))).await;
            assert!(matches!(peer.opening().await, Ok(Opening::Waiting(_))));
            peer.frame(&behind).await.unwrap();
            assert!(peer.opening().await.is_err());
            let end = peer.closed().await;
            let fits = matches!(&end, End::Closed(2, reason) if reason.contains("while an offer"));
            assert!(fits, "{behind:?}: {end:?}");
        }
        first.lane.close(0, "");
        first.lane.drained(LISTEN).await;
    });
    // Both were taken in and may come back.
    assert_eq!((door.lab.datasets().len(), door.lab.incoming()), (0, 2));
    door.still_takes(0);
}

#[test]
fn rights_end_at_the_inbox_that_is_named() {
    let door = Door::new("hostile-rights");
    let (reads, one) =
        (allowed(&door.lab, &["--read-only"]), allowed(&door.lab, &["--inbox", "any"]));
    let schema = |inbox: &str| Opening::AskSchema { inbox: inbox.to_owned() }.encode();
    let hands =
        |inbox: &str| Opening::Offer(Offer { inbox: inbox.to_owned(), ..offer(1) }).encode();
    let asks = |inbox: &str| {
        Opening::Offer(Offer { inbox: inbox.to_owned(), check: true, ..offer(1) }).encode()
    };
    let put = Opening::Put { id: [1; 16], resume: false, seen: 0, order: order("any") }.encode();
    let (denied, unknown) = (RefuseCode::Denied, RefuseCode::NotFound);
    let hostile = "../ngs\u{1b}[2J\u{202e}";
    let cases = [
        ("reads", &reads, schema("any"), denied),
        ("reads", &reads, schema(""), denied),
        ("reads", &reads, hands("any"), denied),
        ("reads", &reads, asks("any"), denied),
        ("hands in to one", &one, schema("ngs"), unknown),
        ("hands in to one", &one, schema(hostile), unknown),
        ("hands in to one", &one, hands("ngs"), unknown),
        ("hands in to one", &one, asks("ngs"), unknown),
        ("hands in to one", &one, put, denied),
        ("hands in to one", &one, Opening::List { path: Vec::new() }.encode(), denied),
        ("hands in to one", &one, Opening::Measure { up: true, seconds: 1 }.encode(), denied),
        ("hands in to one", &one, Opening::Tunnel.encode(), denied),
        ("hands in to all", &door.key, schema("none"), unknown),
        ("hands in to all", &door.key, schema(""), unknown),
    ];
    runtime().block_on(async {
        for (who, key, request, expected) in cases {
            let mut peer = door.say_as(key, &[request.clone(), part(true, METADATA)]).await;
            match peer.opening().await {
                Ok(Opening::Refuse { code, text }) => {
                    assert_eq!(code, expected, "{who}: {request:?}: {text}");
                    assert!(is_clean(&text), "{who}: {text:?}");
                    let others = text.rsplit("for this key").next();
                    assert!(
                        who == "hands in to all"
                            || !others.is_some_and(|text| text.contains("ngs")),
                        "{text}"
                    );
                }
                answer => panic!("{who}: {request:?}: {answer:?}"),
            }
            peer.lane.close(0, "");
        }
    });
    door.lab.expect_nothing();
    door.still_takes(0);
}
