//! What receiving costs without a link: frames of one large file, sealed beforehand, go through a receiver as fast as it
//! takes them; the manifest names other files that do not come. Arguments: MiB, bytes of a symbol, lost frames in a
//! thousand, other files, a folder on the disk that is meant.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use diode::{
    BLOCK, Change, Check, Class, GenerationEnd, ObjectKind, Page, ReceiveOptions, Receiver, Record,
    Sealer, SymbolHead, Told, TrustLine, announce, receiver_key, repair_symbols,
};
use files::{Dir, RelPath, Timestamp};
use link::Identity;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: usize| {
        words.get(at).map_or(usual, |word| word.parse().expect("a number"))
    };
    let (mib, symbol, lost) = (number(0, 256), number(1, 1408), number(2, 10));
    let others = number(3, 0);
    let place = words.get(4).map_or_else(std::env::temp_dir, Into::into).join("haul-receive-cost");
    let dir = |name: &str| Dir::create_ambient(&place.join(name), 0o700).expect("a folder");
    let (into, state) = (dir("into"), dir("state"));
    let identity = Identity::generate().expect("randomness");
    let key = receiver_key(&state).expect("a key");
    let name = String::new();
    let line = TrustLine { identity: identity.public_key(), receives: key, epoch: 1, name };
    let own = Arc::new(Identity::generate().expect("randomness"));
    let mut receiver =
        Receiver::open(&into, &state, ReceiveOptions::new(vec![line], own)).expect("a receiver");
    let (mut sealer, id, secret) = Sealer::begin().expect("randomness");
    let announcement = announce(&identity, (id, &secret), 1, 0, 0, &[key]).expect("a key");
    let check = Check::of_announcements(&identity.public_key());
    let mut frames = Vec::new();
    sealer.announce(&announcement[0], &check, &mut frames).expect("it fits");
    let now = Instant::now();
    receiver.datagrams([&mut frames[..]], now);

    let content: Vec<u8> = (0..mib * BLOCK).map(|at| ((at * at) >> 7) as u8).collect();
    let entry = Change::File {
        path: RelPath::parse(b"large").expect("a path"),
        attributes: told(),
        size: content.len() as u64,
        digest: blake3::hash(&content).into(),
        object: 1,
        offset: 0,
    };
    let (pages, end) = manifest(&identity, entry, others);
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    let mut seal = |class: Class, payload: &[u8]| {
        let mut frame = Vec::with_capacity(payload.len() + 40);
        sealer.seal(class, payload, &mut frame).expect("it fits");
        sealed.push(frame);
    };
    for (object, packed) in (2..).zip(&pages) {
        for number in 0..packed.len().div_ceil(BLOCK) as u32 {
            block(&mut seal, Class::Page, ObjectKind::Page, (object, packed), number, symbol, 0);
        }
    }
    seal(Class::Control, &end);
    for number in 0..mib as u32 {
        block(&mut seal, Class::New, ObjectKind::Content, (1, &content), number, symbol, lost);
    }
    let bytes: usize = sealed.iter().map(Vec::len).sum();
    let frames = sealed.len();
    let began = Instant::now();
    let mut status = receiver.status().read();
    for (nth, batch) in sealed.chunks_mut(64).enumerate() {
        receiver.datagrams(batch.iter_mut().map(|frame| &mut frame[..]), Instant::now());
        // The disk is waited for here, as no link would.
        while nth % 16 == 0 && receiver.status().read().link.waiting > 32 << 20 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
    let read = began.elapsed();
    receiver.flush().expect("the disk");
    receiver.tick(Instant::now(), SystemTime::now());
    let all = began.elapsed();
    status.clone_from(&receiver.status().read());
    println!(
        "{frames} frames, {bytes} bytes: read in {read:?}, on disk in {all:?} ({:.0} MB/s); {} blocks, {} restored, {} dropped, {} missing",
        content.len() as f64 / all.as_secs_f64() / 1e6,
        status.link.blocks,
        status.link.restored,
        status.link.dropped,
        status.tree.wanted,
    );
    receiver.close().expect("the disk");
    for name in ["into", "state"] {
        let _ = Dir::open_ambient(&place)
            .and_then(|dir| dir.remove_tree(&files::Name::new(name).expect("a name")));
    }
}

/// Packed pages that name this file and so many others, and the end of the generation.
fn manifest(identity: &Identity, entry: Change, others: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let told = told();
    let other = |nth: usize| Change::File {
        path: RelPath::parse(format!("folder {}/file {nth}", nth / 1000).as_bytes())
            .expect("a path"),
        attributes: told.clone(),
        size: 4096,
        digest: [7; 32],
        object: 1000 + nth as u64 / 256,
        offset: nth as u64 % 256 * 4096,
    };
    let entries: Vec<Change> = std::iter::once(entry).chain((0..others).map(other)).collect();
    let (mut pages, mut before) = (Vec::new(), [0; 32]);
    for (page, entries) in (0..).zip(entries.chunks(100_000)) {
        let page = Page { generation: 1, base: 0, page, before, entries: entries.to_vec() };
        let page = page.sign(identity, 1).expect("a page");
        before = Page::digest(&page);
        pages.push(zstd::bulk::compress(&page, 3).expect("memory"));
    }
    let mut end = GenerationEnd::unsigned(1, 0);
    (end.pages, end.last_page) = (pages.len() as u32, before);
    let mut payload = Vec::new();
    Record::GenerationEnded(end.sign(identity, 1)).encode(&mut payload).expect("it fits");
    (pages, payload)
}

fn told() -> Told {
    let mtime = Timestamp { seconds: 1, nanos: 0 };
    Told { mode: 0o644, mtime, owner: None, xattrs: None }
}

fn block(
    seal: &mut impl FnMut(Class, &[u8]),
    class: Class,
    kind: ObjectKind,
    (object, content): (u64, &[u8]),
    block: u32,
    symbol: usize,
    lost: usize,
) {
    let head = SymbolHead { object, length: content.len() as u64, block, symbol: 0, kind };
    let layout = head.layout(symbol).expect("a layout");
    let part = &content[block as usize * BLOCK..][..layout.length()];
    let mut symbols = part.to_vec();
    symbols.resize(layout.source() * symbol, 0);
    symbols.extend(repair_symbols(layout, part, layout.repair_to_send(0.15)));
    for (number, piece) in (0..).zip(symbols.chunks(symbol)) {
        if (number as usize * 7919 + block as usize * 31) % 1000 >= lost {
            let head = SymbolHead { symbol: number, ..head };
            seal(class, &[&head.encode()[..], piece].concat());
        }
    }
}
