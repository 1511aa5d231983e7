//! Every message there and back, its bytes as they stand for good, and what becomes of damaged ones.

use crate::delta::{MOST_OPS, Op, Piece};
use files::{ChunkHash, Name, RelPath, Timestamp};
use link::wire::WireError;
use link::{LaneKind, LinkChoice, Pace, PublicKey, Target};
use tree::Rule;

use super::parcel::MAX_ZERO_CHUNKS;
use super::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn entry(index: u64, kind: EntryKind) -> Entry {
    Entry {
        index,
        parent: index - 1,
        name: Name::new(b"n\xff").unwrap(),
        kind,
        mode: 0o4755,
        mtime: Timestamp { seconds: -2, nanos: 999_999_999 },
        owner: index.is_multiple_of(2).then_some((1000, u32::MAX)),
        xattrs: vec![Xattr { name: b"user.a".to_vec(), value: vec![0, 255] }],
    }
}

fn offer() -> SourceMessage {
    SourceMessage::Offer(vec![
        entry(1, EntryKind::Folder),
        entry(2, EntryKind::File { size: 300, sparse: true, shared: false }),
        entry(3, EntryKind::Symlink { target: b"../x".to_vec() }),
        entry(4, EntryKind::HardLink { to: 2, size: MAX_FILE_SIZE }),
    ])
}

fn order() -> Order {
    Order {
        target: b"to/here".to_vec(),
        into_folder: true,
        durable: true,
        setid: true,
        existing: Existing::Rename,
        deletion: Deletion::Guarded,
        compression: Compression::Always,
        whole: true,
        rules: vec![Rule::exclude("*.tmp"), Rule::include("/a")],
        ..Order::default()
    }
}

/// The bytes of every kind of message, and how they are read again and written.
fn all() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let mut all = Vec::new();
    let text = || "t".to_owned();
    let id = [7; 16];
    let listed = Listed {
        kind: b'f',
        name: Name::new("l").unwrap(),
        size: 5,
        mode: 0o644,
        mtime: Timestamp { seconds: 1, nanos: 2 },
    };
    let openings = [
        ("Hello", Opening::Hello { lowest: 1, highest: 2, software: text() }),
        ("Welcome", Opening::Welcome { version: 1, software: text() }),
        ("Refuse", Opening::Refuse { code: RefuseCode::Denied, text: text() }),
        ("Put", Opening::Put { id, resume: true, seen: 300, order: order() }),
        (
            "Get",
            Opening::Get {
                id,
                resume: false,
                window: 9,
                pace: Pace::Fixed(300),
                order: order(),
                sources: vec![vec![255]],
                extent: Extent::Listed,
            },
        ),
        (
            "Names",
            Opening::Names {
                paths: vec![RelPath::root(), RelPath::parse(b"a/\xff").unwrap()],
                last: true,
            },
        ),
        ("List", Opening::List { path: b"p".to_vec() }),
        ("Accept", Opening::Accept { resumed: true, seen: 1, window: 196_608, named: true }),
        ("Listing", Opening::Listing { entries: vec![listed], last: true }),
        ("Measure", Opening::Measure { up: true, seconds: 3 }),
        (
            "Measured",
            Opening::Measured(Measured {
                bytes: 1 << 30,
                micros: 3_000_000,
                cpu: 1500,
                cores: 4,
                rtt_micros: 80_000,
                idle_rtt_micros: 40_000,
                sent_packets: 9000,
                lost_packets: 90,
                bound: Bound::new(BoundKind::Path, 23_000_000),
                limit: 0,
                clock: 1_800_000_000,
            }),
        ),
    ];
    for (name, message) in openings {
        all.push((name, message.encode(), Reader::Opening));
    }
    all.extend(third());
    all.extend(inboxes());
    let from_source = [
        ("Offer", offer()),
        ("Leave", SourceMessage::Leave { index: 1, complete: false }),
        ("Withdraw", SourceMessage::Withdraw { index: 2, reason: text(), last: true }),
        ("Sum", SourceMessage::Sum { index: 2, digest: digest(1) }),
        ("Same", SourceMessage::Same { index: 300 }),
        ("End", SourceMessage::End { entries: 4, problems: 0 }),
        ("Seen", SourceMessage::Seen { outcomes: u64::MAX }),
        ("Problem", SourceMessage::Problem { path: text(), reason: text() }),
        ("Bound", SourceMessage::Bound(Bound::new(BoundKind::PathLoss, 50_000))),
    ];
    for (name, message) in from_source {
        all.push((name, message.encode(), Reader::Source));
    }
    let needs = vec![
        Need { index: 1, have: Some(digest(2)), ranges: Vec::new() },
        Need { index: 2, have: None, ranges: vec![(0, 2), (3, 1)] },
    ];
    let list = vec![
        (1, Outcome::Copied(digest(3))),
        (2, Outcome::Unchanged(digest(4))),
        (3, Outcome::Made),
        (4, Outcome::Skipped),
        (5, Outcome::Failed { code: RefuseCode::Corrupt, text: text() }),
        (6, Outcome::Withdrawn),
        (7, Outcome::Planned(Why::Time)),
    ];
    let from_target = [
        ("Need", TargetMessage::Need(needs)),
        ("Outcomes", TargetMessage::Outcomes { first: 128, list }),
        ("Credit", TargetMessage::Credit { allowed: 6 << 20, stored: 1 }),
        ("Receipt", TargetMessage::Receipt(b"{}".to_vec())),
        ("Extras", TargetMessage::Extras(vec![RelPath::parse(b"a/b").unwrap()])),
        ("Ready", TargetMessage::Ready),
        ("Abort", TargetMessage::Abort { code: RefuseCode::Disk, text: text() }),
        ("Older", TargetMessage::Older { index: 300, exponent: 13 }),
        (
            "Pieces",
            TargetMessage::Pieces {
                index: 300,
                list: vec![Piece { len: 8000, mark: 0x0102_0304_0506_0708 }],
                last: true,
            },
        ),
        ("Ask", TargetMessage::Ask(vec![1, 300])),
        ("TargetBound", TargetMessage::Bound(Bound::new(BoundKind::TargetDisk, Bound::MOST))),
    ];
    for (name, message) in from_target {
        all.push((name, message.encode(), Reader::Target));
    }
    let hash = ChunkHash::from_bytes([5; 32]);
    let items =
        vec![BundleItem { index: 1, len: 0, hash }, BundleItem { index: 200, len: 9, hash }];
    let heads = [
        ("Bundle", 9, ParcelHead::Bundle(items)),
        ("Chunk", 1, ParcelHead::Chunk { index: 3, chunk: 4, hash }),
        ("Zeros", 0, ParcelHead::Zeros { index: 3, first: 5, count: 1024 }),
        (
            "Patch",
            5,
            ParcelHead::Patch {
                index: 3,
                chunk: 4,
                hash,
                ops: vec![Op::Copy { offset: 300, len: 200 }, Op::Literal { len: 5 }],
            },
        ),
        (
            "Packed",
            7,
            ParcelHead::Packed {
                raw: 8,
                head: Box::new(ParcelHead::Chunk { index: 3, chunk: 4, hash }),
            },
        ),
    ];
    for (name, body, head) in heads {
        all.push((name, head.encode(), Reader::Parcel(body)));
    }
    all
}

/// What is said for copies between two other machines.
fn third() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let (grant, text) = ([9; 32], || "t".to_owned());
    let openings = [
        ("Send", Opening::Send { order: order(), sources: vec![b"a".to_vec()] }),
        (
            "Grant",
            Opening::Grant {
                to: PublicKey([3; 32]),
                bytes: 1 << 40,
                seconds: 3600,
                order: order(),
            },
        ),
        ("Granted", Opening::Granted(Granted { grant, seconds: 300, named: true, shown: text() })),
        (
            "PutGranted",
            Opening::PutGranted { grant, id: [7; 16], resume: true, seen: 300, order: order() },
        ),
        ("Tunnel", Opening::Tunnel),
    ];
    let go = Go {
        grant,
        run: [8; 8],
        key: PublicKey([4; 32]),
        target: Target::new("b.example", 4285).unwrap(),
        choice: LinkChoice::Only(LaneKind::Tcp),
        pace: Pace::Background,
        limit_bytes_per_s: Some(300),
        patience_s: 300,
    };
    let progress = Progress {
        entries: 300,
        files_total: 299,
        bytes_total: 1 << 40,
        walk_finished: true,
        files_done: 4,
        files_skipped: 5,
        files_failed: 6,
        bytes_acknowledged: 7,
        bytes_sent: 8,
        link: events::LinkSnapshot {
            rtt: std::time::Duration::from_micros(41_200),
            packets_sent: 1000,
            packets_lost: 20,
            connections: 1,
            is_tcp: true,
            ..Default::default()
        },
        bound: Bound::new(BoundKind::Path, 23_000_000),
    };
    let tree = tree::TreeDigests { content: digest(1), attributes: digest(2), records: 300 };
    let totals = crate::Totals { copied: 300, ..crate::Totals::default() };
    let finished = Finished { id: [7; 16], totals, bytes_sent: 9, tree };
    let (at, code) = (Stretch::Target, RefuseCode::UnknownGrant);
    let reports = [
        ("Weighed", Report::Weighed { entries: 300, bytes: 1 << 40, last: true }),
        ("Progress", Report::Progress(progress)),
        ("FileFailed", Report::FileFailed { path: b"a/\xff".to_vec(), reason: text() }),
        ("LinkNews", Report::LinkNews(LinkNews::Lost, LaneKind::Tcp)),
        ("Finished", Report::Finished(finished)),
        ("Proof", Report::Proof(b"{}".to_vec())),
        ("Stopped", Report::Stopped(Stopped { at, code, text: text() })),
        ("Pipe", Report::Pipe(b"\x06\0".to_vec())),
    ];
    let mut all = vec![("Go", go.encode(), Reader::Go)];
    all.extend(openings.map(|(name, message)| (name, message.encode(), Reader::Opening)));
    all.extend(reports.map(|(name, message)| (name, message.encode(), Reader::Report)));
    all
}

fn handed_in() -> Offer {
    Offer {
        upload: [5; 16],
        inbox: "ngs".to_owned(),
        name: "run 42".to_owned(),
        metadata_len: 300,
        files: 2,
        bytes: 1 << 40,
        content: Some(digest(6)),
        check: true,
    }
}

/// What is said before a dataset is handed in.
fn inboxes() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let text = || "t".to_owned();
    let openings = [
        ("Offer", Opening::Offer(handed_in())),
        ("Part", Opening::Part { last: false, bytes: b"{}".to_vec() }),
        ("AskSchema", Opening::AskSchema { inbox: text() }),
        ("Enrol", Opening::Enrol { code: b"code".to_vec(), label: text() }),
        ("Enrolled", Opening::Enrolled { admitted: true, text: text() }),
        (
            "Unfit",
            Opening::Unfit { faults: vec![Fault { path: text(), reason: text() }], more: 300 },
        ),
        ("Fits", Opening::Fits { notes: vec![text()] }),
        (
            "Waiting",
            Opening::Waiting(Waiting {
                position: 3,
                length: 300,
                seconds: Some(0),
                reason: text(),
            }),
        ),
        ("Admitted", Opening::Admitted { dataset: "0abc".to_owned(), notes: vec![text()] }),
        ("Finished", Opening::Finished { dataset: "0abc".to_owned() }),
    ];
    openings.map(|(name, message)| (name, message.encode(), Reader::Opening)).into()
}

#[derive(Clone, Copy)]
enum Reader {
    Go,
    Report,
    Opening,
    Source,
    Target,
    Parcel(usize),
}

impl Reader {
    /// Reads a message and writes what was read.
    fn rewrite(self, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
        Ok(match self {
            Self::Opening => Opening::decode(bytes)?.encode(),
            Self::Go => Go::decode(bytes)?.encode(),
            Self::Report => Report::decode(bytes)?.encode(),
            Self::Source => SourceMessage::decode(bytes)?.encode(),
            Self::Target => TargetMessage::decode(bytes)?.encode(),
            Self::Parcel(body) => ParcelHead::decode(bytes, body)?.encode(),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_message_comes_back() {
    for (name, bytes, reader) in all() {
        assert_eq!(reader.rewrite(&bytes).as_ref(), Ok(&bytes), "{name}");
    }
}

#[test]
fn a_second_reading_changes_nothing_and_is_never_anything_else() {
    let second = Order { whole: false, ..order().second_reading(true) };
    assert!(second.dry_run && second.checksum && second.named && !second.durable);
    assert_eq!((second.deletion, second.existing), (Deletion::No, Existing::Overwrite));
    assert_eq!(second.second_reading(false), second);
    let put = |order: Order| Opening::Put { id: [7; 16], resume: false, seen: 0, order };
    let back = |order: Order| Opening::decode(&put(order).encode());
    assert_eq!(back(second.clone()), Ok(put(second.clone())));
    for order in [Order { dry_run: false, ..second.clone() }, Order { checksum: false, ..second }] {
        assert_eq!(back(order), Err(WireError::invalid("further flags")));
    }
}

#[test]
fn a_cut_message_is_refused() {
    for (name, bytes, reader) in all() {
        for end in 0..bytes.len() {
            assert!(
                reader.rewrite(&bytes[..end]).is_err(),
                "{name} without its bytes from {end} on"
            );
        }
        // Only Hello may say more: a later version will.
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(reader.rewrite(&longer).is_err(), name != "Hello", "{name} and a byte more");
    }
}

/// A message has one form only, so what is read from damaged bytes is what they say and nothing else.
#[test]
fn a_damaged_message_is_refused_or_means_what_it_says() {
    for (name, bytes, reader) in all() {
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let Ok(again) = reader.rewrite(&damaged) else { continue };
                // Hello alone may be followed by more than this version writes.
                let says = &damaged[..again.len().min(damaged.len())];
                assert_eq!(again, says, "{name} with byte {at} set to {value}");
                assert!(again.len() == damaged.len() || name == "Hello", "{name} at {at}");
            }
        }
    }
}

/// These bytes are the protocol's version 1. If this fails, the version has changed.
#[test]
fn the_bytes_of_version_1() {
    let golden = include_str!("tests/version-1.txt");
    let now: String =
        all().iter().map(|(name, bytes, _)| format!("{name} {}\n", hex(bytes))).collect();
    assert_eq!(now, golden);
}

#[test]
fn what_must_not_be_in_a_list_of_names() {
    let bytes = |path: &[u8]| [&[11, 1, 1, path.len() as u8][..], path].concat();
    assert!(Opening::decode(&bytes(b"a/b")).is_ok());
    for path in [&b"/a"[..], b"a/", b"a//b", b"../a", b"a/.", b"a\0", b".haul/x", b"a/.HAUL"] {
        assert!(Opening::decode(&bytes(path)).is_err(), "{}", path.escape_ascii());
    }
    let (order, sources) = (order(), Vec::new());
    let (id, pace, extent) = ([7; 16], Pace::Fair, Extent::ListedWhole);
    let get = Opening::Get { id, resume: false, window: 9, pace, order, sources, extent };
    let mut bytes = get.encode();
    assert_eq!(Opening::decode(&bytes), Ok(get));
    *bytes.last_mut().unwrap() = 3;
    assert!(Opening::decode(&bytes).is_err());
}

#[test]
fn what_must_not_be_in_a_pace() {
    let get = |pace| {
        let (order, sources) = (order(), Vec::new());
        let extent = Extent::All;
        Opening::Get { id: [7; 16], resume: false, window: 9, pace, order, sources, extent }
    };
    let at = 1 + 16 + 1 + 1;
    for (pace, byte) in [(Pace::Fair, 0), (Pace::Background, 1), (Pace::Fixed(5), 2)] {
        let bytes = get(pace).encode();
        assert_eq!(bytes[at], byte);
        assert_eq!(Opening::decode(&bytes), Ok(get(pace)));
    }
    let mut bytes = get(Pace::Fair).encode();
    bytes[at] = 3;
    assert!(Opening::decode(&bytes).is_err(), "an unknown pace");
    let mut bytes = get(Pace::Fixed(5)).encode();
    bytes[at + 1] = 0;
    assert!(Opening::decode(&bytes).is_err(), "a rate of nothing");
}

#[test]
fn what_must_not_be_in_an_entry() {
    let check = |why: &str, good: bool, change: &dyn Fn(&mut Encoder)| {
        let mut out = Encoder::new();
        out.u8(16).varint(1);
        change(&mut out);
        assert_eq!(SourceMessage::decode(&out.finish()).is_ok(), good, "{why}");
    };
    let file = |out: &mut Encoder, index: u64, parent: u64, name: &[u8], size: u64, mode: u64| {
        out.varint(index).varint(parent).bytes(name).u8(1).varint(size).u8(0).u8(0);
        out.varint(mode).signed(0).varint(0).u8(0).varint(0);
    };
    check("a good one", true, &|out| file(out, 1, 0, b"a", 1, 0o644));
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'n'; 256]] {
        check("a name that is none", false, &|out| file(out, 1, 0, name, 1, 0o644));
    }
    check("the longest name", true, &|out| file(out, 1, 0, &[b'n'; 255], 1, 0o644));
    check("index 0", false, &|out| file(out, 0, 0, b"a", 1, 0o644));
    check("its own parent", false, &|out| file(out, 1, 1, b"a", 1, 0o644));
    check("a later parent", false, &|out| file(out, 1, 2, b"a", 1, 0o644));
    check("a mode beyond its bits", false, &|out| file(out, 1, 0, b"a", 1, 0o10000));
    check("the largest file", true, &|out| file(out, 1, 0, b"a", MAX_FILE_SIZE, 0o644));
    check("a larger file", false, &|out| file(out, 1, 0, b"a", MAX_FILE_SIZE + 1, 0o644));
    let link = |out: &mut Encoder, kind: u8, target: &[u8]| {
        out.varint(3).varint(0).bytes(b"a").u8(kind);
        if kind == 2 {
            out.bytes(target)
        } else {
            out.varint(target.len() as u64).varint(1)
        };
        out.varint(0o777).signed(0).varint(0).u8(0).varint(0);
    };
    check("a link that says something", true, &|out| link(out, 2, b"/etc"));
    check("an empty link", false, &|out| link(out, 2, b""));
    check("a link with NUL", false, &|out| link(out, 2, b"a\0b"));
    check("a link of 4096 bytes", false, &|out| link(out, 2, &[b'a'; 4096]));
    check("a hard link to 2", true, &|out| link(out, 3, &[0; 2]));
    check("a hard link to 0", false, &|out| link(out, 3, &[0; 0]));
    check("a hard link to itself", false, &|out| link(out, 3, &[0; 3]));
    check("an unknown kind", false, &|out| link(out, 4, b"a"));
}

#[test]
fn what_must_not_be_in_a_measure_or_a_bound() {
    for (seconds, good) in [(0, false), (1, true), (10, true), (11, false), (u64::MAX, false)] {
        let bytes = Opening::Measure { up: false, seconds }.encode();
        assert_eq!(Opening::decode(&bytes).is_ok(), good, "{seconds} s");
    }
    for (code, figure, good) in
        [(13, Bound::MOST, true), (13, Bound::MOST + 1, false), (14, 0, false)]
    {
        for kind in [23, 38] {
            let mut out = Encoder::new();
            out.u8(kind).u8(code).varint(figure);
            let bytes = out.finish();
            let is_read = match kind {
                23 => SourceMessage::decode(&bytes).is_ok(),
                _ => TargetMessage::decode(&bytes).is_ok(),
            };
            assert_eq!(is_read, good, "bound {code} with {figure} in {kind}");
        }
    }
}

#[test]
fn what_must_not_be_in_a_need() {
    let check = |ranges: &[(u64, u64)], good: bool| {
        let need = Need { index: 1, have: None, ranges: ranges.to_vec() };
        let read = TargetMessage::decode(&TargetMessage::Need(vec![need]).encode());
        assert_eq!(read.is_ok(), good, "{ranges:?}");
    };
    check(&[(0, 1)], true);
    check(&[(0, 1), (2, 1)], true);
    check(&[(0, 0)], false);
    check(&[(0, 1), (1, 1)], false);
    check(&[(2, 1), (0, 1)], false);
    check(&[(u64::MAX, 1)], false);
    check(&[(1, u64::MAX)], false);
    let many = |count: u64| (0..count).map(|at| (2 * at, 1)).collect::<Vec<_>>();
    check(&many(MAX_RANGES as u64), true);
    check(&many(MAX_RANGES as u64 + 1), false);
}

#[test]
fn a_head_and_its_body_agree() {
    let hash = ChunkHash::from_bytes([5; 32]);
    let check = |head: ParcelHead, body: usize, good: bool| {
        assert_eq!(ParcelHead::decode(&head.encode(), body).is_ok(), good, "{head:?} with {body}");
    };
    let bundle = |lens: &[u64]| {
        ParcelHead::Bundle(
            lens.iter().map(|len| BundleItem { index: 1, len: *len, hash }).collect(),
        )
    };
    check(bundle(&[3, 0, 4]), 7, true);
    check(bundle(&[3, 0, 4]), 6, false);
    check(bundle(&[3, 0, 4]), 8, false);
    check(bundle(&[]), 0, false);
    check(bundle(&[u64::MAX, 8]), 7, false);
    check(bundle(&[0; 1024]), 0, true);
    check(bundle(&[0; 1025]), 0, false);
    let chunk = || ParcelHead::Chunk { index: 1, chunk: 0, hash };
    check(chunk(), 0, false);
    check(chunk(), 1 << 20, true);
    check(chunk(), (1 << 20) + 1, false);
    let zeros = |first, count| ParcelHead::Zeros { index: 1, first, count };
    check(zeros(0, 1), 0, true);
    check(zeros(0, 1), 1, false);
    check(zeros(0, 0), 0, false);
    check(zeros(u64::MAX, 1), 0, false);
    check(zeros(0, MAX_ZERO_CHUNKS + 1), 0, false);
    let packed = |raw, head| ParcelHead::Packed { raw, head: Box::new(head) };
    check(packed(7, bundle(&[3, 0, 4])), 6, true);
    check(packed(8, bundle(&[3, 0, 4])), 6, false);
    check(packed(7, bundle(&[3, 0, 4])), 7, false);
    check(packed(7, bundle(&[3, 0, 4])), 0, false);
    check(packed(1 << 20, chunk()), 1, true);
    check(packed((1 << 20) + 1, chunk()), 1, false);
    check(packed(10, zeros(0, 1)), 1, false);
    check(packed(10, ParcelHead::Early { index: 1, hash }), 1, false);
    check(packed(10, packed(10, chunk())), 1, false);
    let patch = |ops: &[Op]| ParcelHead::Patch { index: 1, chunk: 0, hash, ops: ops.to_vec() };
    let copy = |offset, len| Op::Copy { offset, len };
    let literal = |len| Op::Literal { len };
    check(patch(&[copy(7, 100), literal(5), copy(0, 1)]), 5, true);
    check(patch(&[copy(7, 100)]), 0, true);
    check(patch(&[copy(7, 100)]), 1, false);
    check(patch(&[literal(5), literal(6)]), 10, false);
    check(patch(&[literal(5), literal(6)]), 12, false);
    check(patch(&[]), 0, false);
    check(patch(&[copy(0, 0)]), 0, false);
    check(patch(&[copy(0, 1 << 20)]), 0, true);
    check(patch(&[copy(0, 1 << 20), literal(1)]), 1, false);
    check(patch(&[copy(MAX_FILE_SIZE + 1, 1)]), 0, false);
    check(patch(&[copy(0, 1); MOST_OPS]), 0, true);
    check(patch(&[copy(0, 1); MOST_OPS + 1]), 0, false);
    check(packed(9, patch(&[literal(9)])), 4, true);
    check(packed(9, patch(&[literal(8)])), 4, false);
}

#[test]
fn long_lists_are_packed_into_messages_that_fit() {
    let entries: Vec<_> = (1..=2000)
        .map(|index| {
            let target = vec![b'x'; (index as usize * 37) % 4000 + 1];
            entry(index, EntryKind::Symlink { target })
        })
        .collect();
    let pieces = pack(entries.clone(), Entry::encoded_len);
    assert_eq!(pieces.concat(), entries);
    for piece in pieces {
        assert!(SourceMessage::Offer(piece).encode().len() <= MAX_MESSAGE);
    }
}

#[test]
fn texts_are_cut_at_a_character() {
    let reason = "ä".repeat(MAX_TEXT);
    let bytes = SourceMessage::Withdraw { index: 1, reason, last: false }.encode();
    let SourceMessage::Withdraw { reason, .. } = SourceMessage::decode(&bytes).unwrap() else {
        panic!("it is read as something else");
    };
    assert_eq!(reason.len(), MAX_TEXT);
}
