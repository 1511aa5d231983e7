//! Every format of the diode with fixed keys, as bytes that stand for good. The page `docs/formats/diode.md` points
//! here, so that whoever writes another receiver has something to try it with. All values were checked against another
//! implementation (Python's cryptography and its HPKE), but for the repair symbols.

use files::{Name, RelPath, Timestamp};
use link::{Identity, PublicKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::announce::{Announcement, announce};
use crate::block::{Assembly, Restorer, repair_symbols};
use crate::frame::{Check, Class, HEADER, Header};
use crate::key::{DiodeKey, TrustLine};
use crate::manifest::{Change, Page, Told};
use crate::record::{Carrier, GenerationEnd, Heartbeat, Record, Records, RehearsalStep};
use crate::session::{Opener, Sealer, SessionId, SessionSecret};
use crate::symbol::{ObjectKind, SymbolHead};
use crate::want::{Range, WantList};

/// A name and hexadecimal digits in each line.
const GOLDEN: &str = include_str!("golden/version-1.txt");

const SENDER_SEED: [u8; 32] = [0x51; 32];
const RECEIVER_SEED: [u8; 32] = [0x52; 32];
const RECEIVER_SECRET: [u8; 32] = [0x53; 32];
const ID: SessionId = SessionId([0xa5; 16]);
const EPOCH: u64 = 1_700_000_000_123;
const TIME_MS: u64 = 1_700_000_001_000;
const NUMBER: u64 = 0x0102_0304;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    let digits = line.unwrap_or_else(|| panic!("there is no {name}")).as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn identity(seed: [u8; 32]) -> Identity {
    use base64::Engine as _;
    let head = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    let text = base64::engine::general_purpose::STANDARD.encode([&head[..], &seed].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    Identity::from_pem(&pem).unwrap()
}

fn secret() -> SessionSecret {
    SessionSecret(std::array::from_fn(|at| at as u8))
}

fn line() -> TrustLine {
    let receives = DiodeKey::from_bytes(&RECEIVER_SECRET).unwrap().public_key();
    let identity = identity(RECEIVER_SEED).public_key();
    TrustLine { identity, receives, epoch: EPOCH, name: "high side".to_owned() }
}

fn heartbeat() -> Record<'static> {
    let (generation, frames, rate, next_scan_s) = (3, NUMBER, 12_500_000, 300);
    Record::Heartbeat(Heartbeat { time_ms: TIME_MS, generation, frames, rate, next_scan_s })
}

fn records(page: &[u8]) -> Vec<(&'static str, Record<'static>)> {
    let mut end = GenerationEnd::unsigned(3, 2);
    (end.pages, end.last_page, end.open) = (1, Page::digest(page), 14);
    (end.files, end.bytes, end.removed, end.entries) = (2, 840, 1, 4);
    let end = end.sign(&identity(SENDER_SEED), EPOCH);
    let (channel, connection) = (2, 0x89ab_cdef);
    let (carrier, name, bytes) = (Carrier::Udp, "syslog", &b"payload"[..]);
    vec![
        ("Heartbeat", heartbeat()),
        ("GenerationEnded", Record::GenerationEnded(end)),
        ("Started", Record::Started { time_ms: TIME_MS, version: "0.1.0" }),
        ("Stopping", Record::Stopping { time_ms: TIME_MS, version: "0.1.0" }),
        ("ChannelOpened", Record::ChannelOpened { channel, connection, carrier, name }),
        ("ChannelData", Record::ChannelData { channel, connection, offset: 1 << 33, bytes }),
        ("ChannelClosed", Record::ChannelClosed { channel, connection, length: 7, is_whole: true }),
        (
            "ChannelPiece",
            Record::ChannelPiece { channel, connection, number: 9, at: 1400, total: 1407, bytes },
        ),
        (
            "Rehearsal",
            Record::Rehearsal(RehearsalStep {
                step: 2,
                steps: 9,
                rate: 12_500_000,
                first: NUMBER,
                end: NUMBER + 40_000,
                micros: 5_000_000,
                packet: 1500,
            }),
        ),
    ]
}

fn record(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes
}

/// A page with an entry of each kind.
fn page() -> Page {
    let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
    let mtime = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
    let plain = Told { mode: 0o755, mtime, owner: None, xattrs: None };
    let xattrs = vec![(Name::new("user.note").unwrap(), b"\0\xff".to_vec())];
    let owned = Told { mode: 0o640, mtime, owner: Some((1000, 100)), xattrs: Some(xattrs) };
    let file = |at: &str, content: &[u8], object, attributes| Change::File {
        path: path(at),
        attributes,
        size: content.len() as u64,
        digest: blake3::hash(content).into(),
        object,
        offset: 0,
    };
    let entries = vec![
        Change::Moved { from: path("old"), to: path("folder/new") },
        Change::Folder { path: path("folder"), attributes: plain.clone() },
        file("folder/small", &block(200), 12, plain),
        file("folder/wide", &block(640), 13, owned),
        Change::Symlink { path: path("link"), mtime, target: b"../else/where".to_vec() },
        Change::HardLink { path: path("second name"), file: path("folder/small") },
        Change::Removed { path: path("gone") },
    ];
    Page { generation: 3, base: 2, page: 0, before: [0; 32], entries }
}

/// Content whose byte number i is i times 7, modulo 251.
fn block(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

/// All symbols of an object of one block, with their heads.
fn symbols(object: u64, length: usize, symbol: usize) -> Vec<Vec<u8>> {
    let head = SymbolHead {
        object,
        length: length as u64,
        block: 0,
        symbol: 0,
        kind: ObjectKind::Content,
    };
    let layout = head.layout(symbol).unwrap();
    let mut bytes = block(length);
    let repair = repair_symbols(layout, &bytes, layout.repair());
    bytes.resize(layout.source() * symbol, 0);
    bytes.extend(repair);
    let payload = |(symbol, piece): (u16, &[u8])| {
        [&SymbolHead { symbol, ..head }.encode()[..], piece].concat()
    };
    (0..).zip(bytes.chunks(symbol)).map(payload).collect()
}

fn want_list() -> WantList {
    WantList {
        receiver: identity(RECEIVER_SEED).public_key(),
        sender: identity(SENDER_SEED).public_key(),
        time_ms: TIME_MS,
        generation: 2,
        pages: vec![Range { of: 3, first: 1, count: u32::MAX - 1 }],
        blocks: vec![Range { of: 12, first: 0, count: 1 }, Range { of: 13, first: 2, count: 9 }],
    }
}

fn sealed(class: Class, payload: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::of(ID, &secret());
    sealer.skip_to(NUMBER);
    let mut frame = Vec::new();
    sealer.seal(class, payload, &mut frame).unwrap();
    frame
}

/// Every vector but those of announcements, which are sealed with the system's randomness.
fn all() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut push = |name: &str, bytes: &[u8]| all.push((name.to_owned(), bytes.to_vec()));
    push("SenderSeed", &SENDER_SEED);
    push("SenderKey", identity(SENDER_SEED).public_key().as_bytes());
    push("ReceiverSeed", &RECEIVER_SEED);
    push("ReceiverKey", identity(RECEIVER_SEED).public_key().as_bytes());
    push("ReceiverX25519Secret", &RECEIVER_SECRET);
    push("ReceiverX25519Key", &line().receives.0);
    push("ReceiverLine", line().to_line().as_bytes());
    push("SessionId", &ID.0);
    push("SessionSecret", &secret().0);
    let (data, nonce, header) = keys();
    push("DataKey", &data);
    push("Nonce", &nonce);
    push("HeaderKey", &header);
    push("Frame", &sealed(Class::Control, &record(&heartbeat())));
    let page = page().sign(&identity(SENDER_SEED), EPOCH).unwrap();
    records(&page).iter().for_each(|(name, told)| push(name, &record(told)));
    push("Page", &page);
    push("SmallBlock", &block(200));
    let small = symbols(12, 200, 64);
    (0..).zip(&small).for_each(|(at, symbol)| push(&format!("SmallSymbol{at}"), symbol));
    push("SmallFrame", &sealed(Class::New, &small[0]));
    push("WideBlock", &block(640));
    let wide = symbols(13, 640, 32);
    (0..).zip(&wide).for_each(|(at, symbol)| push(&format!("WideSymbol{at}"), symbol));
    push("WantList", want_list().to_text(&identity(RECEIVER_SEED)).as_bytes());
    all
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The keys that follow from the session's secret, made here as the page says.
fn keys() -> ([u8; 32], [u8; 12], [u8; 16]) {
    let secret = Salt::new(HKDF_SHA256, &ID.0).extract(&secret().0);
    let (mut data, mut nonce, mut header) = ([0; 32], [0; 12], [0; 16]);
    let expand = |info: &[u8], into: &mut [u8]| {
        secret.expand(&[info], Length(into.len())).unwrap().fill(into).unwrap();
    };
    expand(b"haul diode data", &mut data);
    expand(b"haul diode nonce", &mut nonce);
    expand(b"haul diode header", &mut header);
    (data, nonce, header)
}

/// These bytes are version 1. If this fails, the version has changed.
#[test]
fn the_bytes_of_version_1() {
    let all = all();
    for (name, bytes) in &all {
        assert_eq!(hex(bytes), hex(&golden(name)), "{name}");
    }
    // And nothing stands there that nobody makes.
    let random = ["Announcement", "AnnouncementFrame", "PagePacked"];
    assert_eq!(GOLDEN.lines().count(), all.len() + random.len());
}

/// What the page shows of them is what they are.
#[test]
fn the_page_shows_the_same() {
    let page = include_str!("../../../docs/formats/diode.md");
    let page: String = page.split_whitespace().collect();
    for name in ["SenderSeed", "SenderKey", "ReceiverKey", "ReceiverX25519Secret"]
        .into_iter()
        .chain(["ReceiverX25519Key", "SessionId", "SessionSecret", "DataKey", "Nonce"])
        .chain(["HeaderKey", "Heartbeat", "Frame"])
    {
        assert!(page.contains(&hex(&golden(name))), "{name}");
    }
}

/// With the keys of the page and nothing else a frame is opened.
#[test]
fn a_frame_opens_with_the_keys_that_the_page_tells() {
    for (name, payload) in [("Frame", "Heartbeat"), ("SmallFrame", "SmallSymbol0")] {
        let mut frame = golden(name);
        let (head, sealed) = frame.split_at_mut(24);
        let mut nonce: [u8; 12] = golden("Nonce").try_into().unwrap();
        nonce[4..].iter_mut().zip(&head[12..20]).for_each(|(byte, number)| *byte ^= number);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &golden("DataKey")).unwrap());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key.open_in_place(nonce, Aad::from(&*head), sealed).unwrap();
        assert_eq!(opened, golden(payload), "{name}");
        let header: [u8; 16] = golden("HeaderKey").try_into().unwrap();
        assert!(Header::is_checked(frame.first_chunk().unwrap(), &Check::new(&header)));
    }
}

#[test]
fn frames_are_read() {
    let opener = Opener::new(ID, &secret());
    for (name, class) in [("Frame", Class::Control), ("SmallFrame", Class::New)] {
        let mut frame = golden(name);
        let head: [u8; HEADER] = *frame.first_chunk().unwrap();
        let header = Header::read(&head).unwrap();
        assert_eq!((header.class, header.number), (class, NUMBER));
        assert!(opener.believes(&header, &head) && opener.open(&header, &mut frame).is_some());
    }
}

#[test]
fn an_announcement_is_read_and_made_again() {
    let (bytes, sender) = (golden("Announcement"), identity(SENDER_SEED));
    let read = Announcement::read(&bytes, &sender.public_key()).unwrap();
    assert_eq!((read.id, read.epoch, read.time_ms), (ID, EPOCH, TIME_MS));
    assert_eq!(read.number, NUMBER);
    let key = DiodeKey::from_bytes(&RECEIVER_SECRET).unwrap();
    assert_eq!(read.open(&key), Some(secret()));
    // One that is made now differs in what is random, and in the signature over that.
    let session = (ID, &secret());
    let made =
        announce(&sender, session, EPOCH, TIME_MS, NUMBER, &[line().receives]).unwrap().remove(0);
    let random = 1 + 16 + 8 + 32 + 8 + 8 + 2 + 4;
    assert_eq!((hex(&made[..random]), made.len()), (hex(&bytes[..random]), bytes.len()));
    let said = bytes.len() - 64;
    let signed = sender.sign(&[b"haul diode announcement", &bytes[..said]].concat());
    assert_eq!(hex(&signed), hex(&bytes[said..]));
    let mut sealer = Sealer::of(ID, &secret());
    sealer.skip_to(NUMBER);
    let mut frame = Vec::new();
    let check = Check::of_announcements(&sender.public_key());
    sealer.announce(&bytes, &check, &mut frame).unwrap();
    assert_eq!(hex(&frame), hex(&golden("AnnouncementFrame")));
    let header = Header::read(frame.first_chunk().unwrap()).unwrap();
    assert!(read.is_in(&header));
}

#[test]
fn records_pages_lines_and_lists_are_read() {
    let sender = identity(SENDER_SEED).public_key();
    let bytes = golden("Page");
    assert_eq!(Page::read(&bytes, &sender, EPOCH), Ok(page()));
    let unpacked = zstd::bulk::decompress(&golden("PagePacked"), 1 << 16).unwrap();
    assert_eq!(hex(&unpacked), hex(&bytes));
    for (name, told) in records(&bytes) {
        let bytes = golden(name);
        let read: Vec<_> = Records::of(&bytes).collect();
        if let Record::GenerationEnded(end) = &told {
            assert!(end.is_signed(&sender, EPOCH));
        }
        assert_eq!(read, [Ok(told)], "{name}");
    }
    let text = String::from_utf8(golden("ReceiverLine")).unwrap();
    assert_eq!(TrustLine::parse(&text), Ok(line()));
    let text = String::from_utf8(golden("WantList")).unwrap();
    let receivers: [PublicKey; 1] = [identity(RECEIVER_SEED).public_key()];
    assert_eq!(WantList::parse(&text, &sender, &receivers), Ok(want_list()));
}

/// Whichever symbols come, as many as there are source symbols make the block.
#[test]
fn blocks_are_restored() {
    for (of, source, all) in [("Small", 4, 12), ("Wide", 20, 28)] {
        for first in 0..=all - source {
            let mut assembly: Option<Assembly> = None;
            for at in first..first + source {
                let payload = golden(&format!("{of}Symbol{at}"));
                let (head, layout, symbol) = SymbolHead::read(&payload).unwrap();
                assert_eq!((layout.source(), layout.symbols()), (source, all));
                let assembly = assembly.get_or_insert_with(|| Assembly::new(layout));
                assembly.add(head.symbol, symbol);
            }
            let whole = assembly.unwrap().finish(&mut Restorer::default()).unwrap();
            assert_eq!(hex(&whole), hex(&golden(&format!("{of}Block"))), "from {first}");
        }
    }
}
