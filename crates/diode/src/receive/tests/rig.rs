//! A sender in memory, a receiver on disk, and a link between them that does what a test says.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use files::{RelPath, Timestamp};
use link::Identity;

use crate::announce::announce;
use crate::block::{BLOCK, repair_symbols};
use crate::event::DiodeEvent;
use crate::frame::{Check, Class};
use crate::key::{DiodeKey, TrustLine};
use crate::manifest::{Change, Page, Told};
use crate::receive::{ReceiveOptions, Receiver, receiver_key};
use crate::record::{GenerationEnd, Heartbeat, Record};
pub(super) use crate::rig::{Random, Scratch};
use crate::session::{Sealer, SessionId, SessionSecret};
use crate::symbol::{ObjectKind, SymbolHead};

/// Bytes of a symbol, and entries of a page: small, so that there are many of both.
pub(super) const SYMBOL: usize = 1408;
const PAGE: usize = 40;

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// What is at a path of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Folder { mode: u16, mtime: i64 },
    File { bytes: Arc<Vec<u8>>, mode: u16, mtime: i64 },
    Symlink { target: Vec<u8>, mtime: i64 },
    HardLink { file: RelPath },
}

pub(super) fn folder(mtime: i64) -> Node {
    Node::Folder { mode: 0o755, mtime }
}

pub(super) fn file(bytes: &[u8], mtime: i64) -> Node {
    Node::File { bytes: Arc::new(bytes.to_vec()), mode: 0o644, mtime }
}

pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A tree, in the order in which folders stand before what they hold.
pub(super) type Model = BTreeMap<RelPath, Node>;

pub(super) fn model(nodes: &[(&str, Node)]) -> Model {
    nodes.iter().map(|(at, node)| (path(at), node.clone())).collect()
}

/// What goes into a frame.
pub(super) type Payload = (Class, Vec<u8>);

/// What a generation consists of.
#[derive(Clone)]
pub(super) struct Generation {
    /// Each page's symbols.
    pub(super) pages: Vec<Vec<Payload>>,
    /// Symbols of contents, block by block.
    pub(super) blocks: Vec<Vec<Payload>>,
    pub(super) end: GenerationEnd,
}

impl Generation {
    /// All of it in the usual order.
    pub(super) fn all(&self) -> Vec<Payload> {
        let mut all: Vec<Payload> = self.pages.concat();
        all.extend(self.blocks.concat());
        all.push(self.end());
        all
    }

    pub(super) fn end(&self) -> Payload {
        record(&Record::GenerationEnded(self.end.clone()))
    }
}

pub(super) fn record(record: &Record<'_>) -> Payload {
    let mut payload = Vec::new();
    record.encode(&mut payload).unwrap();
    (Class::Control, payload)
}

/// The other end.
pub(super) struct TestSender {
    pub(super) identity: Identity,
    pub(super) line: TrustLine,
    sealer: Sealer,
    id: SessionId,
    secret: SessionSecret,
    pub(super) epoch: u64,
    pub(super) tree: Model,
    /// Where each file's content is.
    places: HashMap<RelPath, (u64, u64)>,
    pub(super) objects: HashMap<u64, (ObjectKind, Vec<u8>)>,
    pub(super) generation: u64,
    next_object: u64,
    /// The share of repair symbols, and entries of a page.
    pub(super) repair: f64,
    pub(super) page_entries: usize,
    pub(super) symbol: usize,
}

impl TestSender {
    pub(super) fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let receives = DiodeKey::generate().public_key();
        let name = "low".to_owned();
        let line = TrustLine { identity: identity.public_key(), receives, epoch: 5, name };
        let (sealer, id, secret) = Sealer::begin().unwrap();
        Self {
            identity,
            line,
            sealer,
            id,
            secret,
            epoch: 10,
            tree: Model::new(),
            places: HashMap::new(),
            objects: HashMap::new(),
            generation: 0,
            next_object: 1,
            repair: 0.15,
            page_entries: PAGE,
            symbol: SYMBOL,
        }
    }

    /// Another session, as after a restart.
    pub(super) fn begin_session(&mut self) {
        self.epoch += 1;
        (self.sealer, self.id, self.secret) = Sealer::begin().unwrap();
    }

    pub(super) fn announcement(&mut self, receiver: crate::key::DiodePublicKey) -> Vec<u8> {
        let number = self.sealer.next_number();
        let session = (self.id, &self.secret);
        let bytes = announce(&self.identity, session, self.epoch, 7, number, &[receiver]).unwrap();
        let mut frame = Vec::new();
        let check = Check::of_announcements(&self.identity.public_key());
        self.sealer.announce(&bytes[0], &check, &mut frame).unwrap();
        frame
    }

    pub(super) fn seal(&mut self, payloads: &[Payload]) -> Vec<Vec<u8>> {
        let seal = |(class, payload): &Payload| {
            let mut frame = Vec::new();
            self.sealer.seal(*class, payload, &mut frame).unwrap();
            frame
        };
        payloads.iter().map(seal).collect()
    }

    /// As if all numbers up to this one had been sent.
    pub(super) fn skip_to(&mut self, number: u64) {
        self.sealer.skip_to(number);
    }

    /// The object that holds a file's content.
    pub(super) fn place_of(&self, at: &str) -> u64 {
        self.places[&path(at)].0
    }

    fn object(&mut self, kind: ObjectKind, bytes: Vec<u8>) -> u64 {
        let object = self.next_object;
        self.next_object += 1;
        self.objects.insert(object, (kind, bytes));
        object
    }

    /// The symbols of a block.
    pub(super) fn block(&self, object: u64, block: u32, class: Class) -> Vec<Payload> {
        let (kind, bytes) = &self.objects[&object];
        let length = bytes.len() as u64;
        let head = SymbolHead { object, length, block, symbol: 0, kind: *kind };
        let layout = head.layout(self.symbol).unwrap();
        let part = &bytes[block as usize * BLOCK..][..layout.length()];
        let mut symbols = part.to_vec();
        symbols.resize(layout.source() * self.symbol, 0);
        symbols.extend(repair_symbols(layout, part, layout.repair_to_send(self.repair)));
        let payload = |(symbol, piece): (u16, &[u8])| {
            (class, [&SymbolHead { symbol, ..head }.encode()[..], piece].concat())
        };
        (0..).zip(symbols.chunks(self.symbol)).map(payload).collect()
    }

    pub(super) fn blocks_of(&self, object: u64) -> u32 {
        (self.objects[&object].1.len().div_ceil(BLOCK)) as u32
    }

    /// The next generation: what makes the tree so, with these moves before.
    pub(super) fn generation(
        &mut self,
        new: Model,
        moves: &[(&str, &str)],
        is_full: bool,
    ) -> Generation {
        let old = std::mem::take(&mut self.tree);
        let mut entries: Vec<Change> = Vec::new();
        let mut old = old;
        // A full manifest says where things are, not how they came there.
        for (from, to) in moves.iter().filter(|_| !is_full) {
            let (from, to) = (path(from), path(to));
            old = moved(old, &from, &to);
            self.places = std::mem::take(&mut self.places)
                .into_iter()
                .map(|(at, place)| (renamed(&at, &from, &to), place))
                .collect();
            entries.push(Change::Moved { from, to });
        }
        let mut objects = Vec::new();
        let mut removed = 0;
        self.pack(&old, &new, &mut objects);
        for (at, node) in &new {
            if is_full || old.get(at) != Some(node) {
                entries.push(self.entry(at, node));
            }
        }
        for at in old.keys().filter(|at| !new.contains_key(at)) {
            removed += 1;
            let above = at.parent().unwrap_or_default();
            let is_topmost = above.is_root() || new.contains_key(&above);
            if !is_full && is_topmost {
                entries.push(Change::Removed { path: at.clone() });
            }
        }
        let base = if is_full { 0 } else { self.generation };
        self.generation += 1;
        self.tree = new;
        let (pages, end) = self.pages(&entries, base, removed);
        let blocks = objects.iter().flat_map(|object| {
            (0..self.blocks_of(*object)).map(|block| self.block(*object, block, Class::New))
        });
        Generation { pages, blocks: blocks.collect(), end }
    }

    /// New contents go into objects: large ones each into one, small ones together.
    fn pack(&mut self, old: &Model, new: &Model, objects: &mut Vec<u64>) {
        let (mut bundle, mut inside) = (Vec::new(), Vec::new());
        for (at, node) in new {
            let Node::File { bytes, .. } = node else { continue };
            let is_known =
                matches!(old.get(at), Some(Node::File { bytes: had, .. }) if had == bytes);
            if bytes.is_empty() || is_known {
                continue;
            }
            if bytes.len() > BLOCK {
                let object = self.object(ObjectKind::Content, bytes.to_vec());
                self.places.insert(at.clone(), (object, 0));
                objects.push(object);
                continue;
            }
            if bundle.len() + bytes.len() > 300_000.max(bytes.len()) {
                objects.push(self.bundle(&mut bundle, &mut inside));
            }
            inside.push((at.clone(), bundle.len() as u64));
            bundle.extend_from_slice(bytes);
        }
        if !bundle.is_empty() {
            objects.push(self.bundle(&mut bundle, &mut inside));
        }
    }

    fn bundle(&mut self, bundle: &mut Vec<u8>, inside: &mut Vec<(RelPath, u64)>) -> u64 {
        let object = self.object(ObjectKind::Content, std::mem::take(bundle));
        for (at, offset) in inside.drain(..) {
            self.places.insert(at, (object, offset));
        }
        object
    }

    fn entry(&self, at: &RelPath, node: &Node) -> Change {
        let time = |seconds| Timestamp { seconds, nanos: 123_456_789 };
        let told = |mode, mtime| Told { mode, mtime: time(mtime), owner: None, xattrs: None };
        let path = at.clone();
        match node {
            Node::Folder { mode, mtime } => {
                Change::Folder { path, attributes: told(*mode, *mtime) }
            }
            Node::File { bytes, mode, mtime } => {
                let (object, offset) = self.places.get(at).copied().unwrap_or((0, 0));
                let (size, digest) = (bytes.len() as u64, blake3::hash(bytes).into());
                let attributes = told(*mode, *mtime);
                Change::File { path, attributes, size, digest, object, offset }
            }
            Node::Symlink { target, mtime } => {
                Change::Symlink { path, mtime: time(*mtime), target: target.clone() }
            }
            Node::HardLink { file } => Change::HardLink { path, file: file.clone() },
        }
    }

    fn pages(
        &mut self,
        entries: &[Change],
        base: u64,
        removed: u64,
    ) -> (Vec<Vec<Payload>>, GenerationEnd) {
        let (mut pages, mut before) = (Vec::new(), [0; 32]);
        let chunks: Vec<&[Change]> = match entries.is_empty() {
            true => vec![&[]],
            false => entries.chunks(self.page_entries).collect(),
        };
        for (page, entries) in (0..).zip(chunks) {
            let entries = entries.to_vec();
            let page = Page { generation: self.generation, base, page, before, entries };
            let bytes = page.sign(&self.identity, self.line.epoch).unwrap();
            before = Page::digest(&bytes);
            let packed = zstd::bulk::compress(&bytes, 3).unwrap();
            let object = self.object(ObjectKind::Page, packed);
            let blocks = 0..self.blocks_of(object);
            pages.push(blocks.flat_map(|block| self.block(object, block, Class::Page)).collect());
        }
        let mut end = GenerationEnd::unsigned(self.generation, base);
        (end.pages, end.last_page) = (pages.len() as u32, before);
        (end.removed, end.entries) = (removed, self.tree.len() as u64);
        end.open = u64::MAX;
        (pages, end.sign(&self.identity, self.line.epoch))
    }
}

fn renamed(at: &RelPath, from: &RelPath, to: &RelPath) -> RelPath {
    if !at.starts_with(from) {
        return at.clone();
    }
    let tail = at.as_bytes()[from.as_bytes().len()..].strip_prefix(b"/").unwrap_or_default();
    to.join_path(&RelPath::parse(tail).unwrap()).unwrap()
}

pub(super) fn moved(model: Model, from: &RelPath, to: &RelPath) -> Model {
    let stays = |at: &RelPath| at.starts_with(from) || !at.starts_with(to);
    let kept = model.into_iter().filter(|(at, _)| stays(at));
    kept.map(|(at, node)| (renamed(&at, from, to), node)).collect()
}

/// Both ends.
pub(super) struct Rig {
    pub(super) scratch: Scratch,
    pub(super) sender: TestSender,
    pub(super) options: ReceiveOptions,
    pub(super) receiver: Option<Receiver>,
    pub(super) events: Arc<Mutex<Vec<DiodeEvent>>>,
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(set: impl FnOnce(&mut ReceiveOptions)) -> Self {
        let (scratch, sender) = (Scratch::new(), TestSender::new());
        let identity = Arc::new(Identity::generate().unwrap());
        let mut options = ReceiveOptions::new(vec![sender.line.clone()], identity);
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        options.on_event = Arc::new(move |event| told.lock().unwrap().push(event.clone()));
        set(&mut options);
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let now = Instant::now();
        let mut rig = Self { scratch, sender, options, receiver: None, events, now, wall };
        rig.start();
        rig
    }

    pub(super) fn tree_path(&self) -> std::path::PathBuf {
        self.scratch.path().join("into")
    }

    pub(super) fn start(&mut self) {
        let (into, state) = (self.scratch.sub("into"), self.scratch.sub("state"));
        self.receiver = Some(Receiver::open(&into, &state, self.options.clone()).unwrap());
        self.announce();
    }

    pub(super) fn announce(&mut self) {
        let key = receiver_key(&self.scratch.sub("state")).unwrap();
        let frame = self.sender.announcement(key);
        self.frames(vec![frame]);
    }

    /// Ends and begins anew; the sender goes on.
    pub(super) fn restart(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.close().unwrap();
        }
        self.start();
    }

    /// From now on the keeper is killed after so many steps.
    pub(super) fn light_fuse(&mut self, steps: i64) {
        let shared = &self.receiver.as_ref().unwrap().shared;
        shared.fuse.store(steps, Ordering::Relaxed);
    }

    /// Whether it was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.receiver.as_ref().unwrap().shared.fuse.load(Ordering::Relaxed) < 0
    }

    /// Begins anew without an orderly end.
    pub(super) fn restart_killed(&mut self) {
        self.light_fuse(0);
        drop(self.receiver.take());
        self.start();
        // It takes what the disk remembers until then for granted, and the sender has gone on.
        self.skip_floor();
    }

    /// As if the sender had sent much while nobody listened.
    pub(super) fn skip_floor(&mut self) {
        self.sender.skip_to(self.sender.sealer.next_number() + (1 << 23));
        self.announce();
    }

    pub(super) fn frames(&mut self, frames: Vec<Vec<u8>>) {
        let now = self.now;
        let receiver = self.receiver.as_mut().unwrap();
        for mut frame in frames {
            receiver.datagrams([&mut frame[..]], now);
        }
    }

    /// Sends all of these.
    pub(super) fn send(&mut self, payloads: &[Payload]) {
        let frames = self.sender.seal(payloads);
        self.frames(frames);
    }

    pub(super) fn send_generation(&mut self, new: &Model, moves: &[(&str, &str)], is_full: bool) {
        let generation = self.sender.generation(new.clone(), moves, is_full);
        self.send(&generation.all());
        self.settle();
    }

    pub(super) fn beat(&mut self, generation: u64) {
        let beat = Heartbeat { time_ms: 1, generation, frames: 2, rate: 3, next_scan_s: 4 };
        self.send(&[record(&Record::Heartbeat(beat))]);
    }

    /// Time goes by, in steps of 100 ms.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(100);
            self.wall += Duration::from_millis(100);
            self.receiver.as_mut().unwrap().tick(self.now, self.wall);
        }
    }

    /// Changes some files of a tree, removes some entries, and moves a folder under a name that nobody had.
    pub(super) fn change(
        &self,
        random: &mut Random,
        tree: &mut Model,
        turn: usize,
    ) -> Vec<(String, String)> {
        let all: Vec<_> = tree.keys().cloned().collect();
        for _ in 0..10 {
            let at = all[random.below(all.len())].clone();
            if random.below(3) == 0 {
                tree.retain(|other, _| !other.starts_with(&at));
            } else if let Some(Node::File { bytes, mtime, .. }) = tree.get_mut(&at) {
                *bytes = noise(random.below(1 << 30) as u64, 1 + random.below(5000)).into();
                *mtime += 1;
            }
        }
        let folders = tree.iter().filter(|(_, node)| matches!(node, Node::Folder { .. }));
        let folders: Vec<_> = folders.map(|(at, _)| at.to_string()).collect();
        let (from, to) = (folders.get(random.below(folders.len().max(1))), format!("moved{turn}"));
        let from = from.filter(|from| self.sender.tree.contains_key(&path(from))).cloned();
        if let Some(from) = &from {
            *tree = moved(std::mem::take(tree), &path(from), &path(&to));
        }
        from.map(|from| (from, to)).into_iter().collect()
    }

    /// Everything that has come is where it goes.
    pub(super) fn settle(&mut self) {
        self.receiver.as_mut().unwrap().flush().unwrap();
        self.pass(Duration::from_millis(100));
    }

    /// The same; whether the keeper lives.
    pub(super) fn try_settle(&mut self) -> bool {
        let has_settled = self.receiver.as_mut().unwrap().flush().is_ok();
        self.pass(Duration::from_millis(100));
        has_settled && !self.is_killed()
    }

    /// Waits for an event, which other threads may have to say.
    pub(super) fn wait_for(&self, is_it: impl Fn(&DiodeEvent) -> bool) -> DiodeEvent {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(event) = self.events.lock().unwrap().iter().rev().find(|event| is_it(event))
            {
                return event.clone();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not come: {:?}", self.events.lock().unwrap());
    }

    pub(super) fn has_event(&self, is_it: impl Fn(&DiodeEvent) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(is_it)
    }

    /// What is on disk, with what a model does not say left out.
    pub(super) fn found(&self) -> Model {
        let mut found = Model::new();
        read(&self.tree_path(), &RelPath::root(), &mut found);
        found
    }

    pub(super) fn check(&self, what: &str) {
        let (found, expected) = (self.found(), plain(&self.sender.tree));
        for (at, node) in &expected {
            assert!(found.get(at) == Some(node), "{what}: {at} is {:?}", found.get(at).map(brief));
        }
        for at in found.keys() {
            assert!(expected.contains_key(at), "{what}: {at} is there");
        }
    }
}

/// Hard links are files.
pub(super) fn plain(model: &Model) -> Model {
    let node = |node: &Node| match node {
        Node::HardLink { file } => model[file].clone(),
        node => node.clone(),
    };
    model.iter().map(|(at, what)| (at.clone(), node(what))).collect()
}

fn brief(node: &Node) -> String {
    match node {
        Node::File { bytes, mode, mtime } => format!("{} bytes, {mode:o}, {mtime}", bytes.len()),
        node => format!("{node:?}"),
    }
}

fn read(folder: &Path, at: &RelPath, found: &mut Model) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name =
            files::Name::new(std::os::unix::ffi::OsStrExt::as_bytes(&*entry.file_name())).unwrap();
        if at.is_root() && name.as_bytes() == b".haul" {
            continue;
        }
        let path = at.join(&name).unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let (mode, mtime) = (meta.permissions().mode() as u16 & 0o7777, meta.mtime());
        let node = if meta.is_dir() {
            read(&entry.path(), &path, found);
            Node::Folder { mode, mtime }
        } else if meta.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec();
            Node::Symlink { target, mtime }
        } else {
            let bytes = Arc::new(std::fs::read(entry.path()).unwrap());
            Node::File { bytes, mode, mtime }
        };
        found.insert(path, node);
    }
}

/// A tree of many kinds of entries, from a seed.
pub(super) fn random_tree(seed: u64, files: usize) -> Model {
    let mut random = Random(seed);
    let mut tree = Model::new();
    let mut folders = vec![RelPath::root()];
    for nth in 0..files {
        let at = folders[random.below(folders.len())].clone();
        let name = files::Name::new(format!("n{nth}")).unwrap();
        let at = at.join(&name).unwrap();
        let mtime = 1_000_000 + random.below(1_000_000) as i64;
        let node = match random.below(12) {
            0 | 1 => {
                folders.push(at.clone());
                folder(mtime)
            }
            2 => Node::Symlink { target: format!("../{nth}").into_bytes(), mtime },
            3 => file(b"", mtime),
            4 if nth % 4 == 0 => {
                file(&noise(seed ^ nth as u64, 1 + random.below(3 * BLOCK)), mtime)
            }
            _ => file(&noise(seed ^ nth as u64, 1 + random.below(20_000)), mtime),
        };
        tree.insert(at, node);
    }
    tree
}
