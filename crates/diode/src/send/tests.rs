//! The sender as a whole, with a reader that does what its pages say. What the reader has is held against the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::rig::{Kept, Reader};
use super::*;
use crate::block::BLOCK;
use crate::key::DiodeKey;
use crate::manifest::{Change, MOST_PAGE, Page};
use crate::rig::{Random, Scratch};

/// Whatever is at a path: its kind, mode, mtime, and content or target.
type Model = BTreeMap<String, (char, u32, (i64, u32), Vec<u8>)>;

struct World {
    identity: Arc<Identity>,
    key: DiodeKey,
    scratch: Scratch,
    /// What the reader has of the tree, and where its pages ended.
    model: Model,
    contents: BTreeMap<[u8; 32], Vec<u8>>,
    at: (u64, u32, [u8; 32]),
    removed: Vec<String>,
    events: Arc<Mutex<Vec<SendEvent>>>,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        for folder in ["tree", "state", "epochs"] {
            std::fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        Self {
            identity: Arc::new(Identity::generate().unwrap()),
            key: DiodeKey::generate(),
            scratch,
            model: Model::new(),
            contents: BTreeMap::new(),
            at: (0, 0, [0; 32]),
            removed: Vec::new(),
            events: Arc::default(),
        }
    }

    fn dir(&self, name: &str) -> Dir {
        Dir::open_ambient(&self.scratch.path().join(name)).unwrap()
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.scratch.path().join("tree").join(below)
    }

    fn write(&self, below: &str, content: &[u8]) {
        std::fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        std::fs::write(self.path(below), content).unwrap();
    }

    fn sender(&self, change: impl FnOnce(&mut SendOptions)) -> Sender {
        let mut options = SendOptions::new(self.identity.clone(), vec![self.key.public_key()]);
        options.once = true;
        options.settle = Duration::ZERO;
        options.engine.outage = Duration::from_millis(2);
        let events = self.events.clone();
        options.on_event = Arc::new(move |event| events.lock().unwrap().push(event.clone()));
        change(&mut options);
        let epochs = Epochs::open(&self.dir("epochs"), 1).unwrap();
        Sender::open(Some(self.dir("tree")), &self.dir("state"), epochs, 400_000_000, options)
            .unwrap()
    }

    /// Sends the tree once and does what the pages say.
    fn send(&mut self) -> Vec<Vec<u8>> {
        self.send_with(|_| {}, |_| {})
    }

    fn send_with(
        &mut self,
        change: impl FnOnce(&mut SendOptions),
        ask: impl FnOnce(&Control),
    ) -> Vec<Vec<u8>> {
        let sender = self.sender(change);
        ask(&sender.control());
        let line = Kept::default();
        sender.run(line.clone(), &AtomicBool::new(false)).unwrap();
        let frames = line.take();
        self.apply(&frames);
        frames
    }

    fn apply(&mut self, frames: &[Vec<u8>]) {
        let key = DiodeKey::from_bytes(&self.key.to_bytes()).unwrap();
        let mut reader = Reader::new(self.identity.public_key(), &key);
        reader.read(frames);
        let floor = Epochs::open(&self.dir("epochs"), 1).unwrap().floor();
        let mut pages: Vec<(Page, [u8; 32])> = Vec::new();
        for object in &reader.pages {
            let packed = reader.object(*object).unwrap();
            let bytes = zstd::bulk::decompress(&packed, MOST_PAGE).unwrap();
            let page = Page::read(&bytes, &self.identity.public_key(), floor).unwrap();
            pages.push((page, Page::digest(&bytes)));
        }
        pages.sort_by_key(|(page, _)| (page.generation, page.page));
        for (page, digest) in pages {
            let (generation, next, before) = self.at;
            if page.generation == generation {
                assert_eq!((page.page, page.before), (next, before));
            } else {
                self.end_generation();
                assert!(page.generation > generation && page.page == 0);
                assert!(page.base == generation || page.base == 0);
                if page.base == 0 {
                    self.model.clear();
                }
            }
            self.at = (page.generation, page.page + 1, digest);
            for entry in page.entries {
                self.entry(entry, &reader);
            }
        }
        self.end_generation();
    }

    fn end_generation(&mut self) {
        for path in std::mem::take(&mut self.removed) {
            self.model.retain(|other, _| *other != path && !other.starts_with(&format!("{path}/")));
        }
    }

    fn entry(&mut self, entry: Change, reader: &Reader<'_>) {
        let text = |path: &RelPath| String::from_utf8(path.as_bytes().to_vec()).unwrap();
        // What is named again after it was removed stays.
        if let Change::Folder { path, .. }
        | Change::File { path, .. }
        | Change::Symlink { path, .. } = &entry
        {
            self.removed.retain(|removed| *removed != text(path));
        }
        match entry {
            Change::Folder { path, attributes } => {
                let path = text(&path);
                if self.model.get(&path).is_some_and(|entry| entry.0 != 'd') {
                    self.model.remove(&path);
                }
                let mtime = (attributes.mtime.seconds, attributes.mtime.nanos);
                self.model.insert(path, ('d', attributes.mode.into(), mtime, Vec::new()));
            }
            Change::File { path, attributes, size, digest, object, offset } => {
                let path = text(&path);
                let content = match reader.object(object) {
                    Some(bytes) => bytes[offset as usize..][..size as usize].to_vec(),
                    // It went out before, or there is nothing of it.
                    None => self.contents.get(&digest).cloned().unwrap_or_default(),
                };
                assert_eq!(*files::Digest::of(&content).as_bytes(), digest, "{path}");
                self.contents.insert(digest, content.clone());
                self.model.retain(|other, _| !other.starts_with(&format!("{path}/")));
                let mtime = (attributes.mtime.seconds, attributes.mtime.nanos);
                self.model.insert(path, ('f', attributes.mode.into(), mtime, content));
            }
            Change::Symlink { path, mtime, target } => {
                let path = text(&path);
                self.model.retain(|other, _| !other.starts_with(&format!("{path}/")));
                self.model.insert(path, ('l', 0o777, (mtime.seconds, mtime.nanos), target));
            }
            Change::Moved { from, to } => {
                let (from, to) = (text(&from), text(&to));
                let below = format!("{from}/");
                let moved: Vec<String> = self
                    .model
                    .keys()
                    .filter(|path| **path == from || path.starts_with(&below))
                    .cloned()
                    .collect();
                assert!(!moved.is_empty(), "{from} is not there");
                for path in moved {
                    let entry = self.model.remove(&path).unwrap();
                    self.model.insert(format!("{to}{}", &path[from.len()..]), entry);
                }
            }
            Change::Removed { path } => self.removed.push(text(&path)),
            Change::HardLink { .. } => panic!("none is sent"),
        }
    }

    fn check(&self) {
        let mut tree = Model::new();
        list(&self.scratch.path().join("tree"), "", &mut tree);
        let different: Vec<_> = tree
            .keys()
            .chain(self.model.keys())
            .filter(|path| tree.get(*path) != self.model.get(*path))
            .map(|path| {
                let brief = |model: &Model| model.get(path).map(|e| (e.0, e.1, e.2, e.3.len()));
                (path, brief(&tree), brief(&self.model))
            })
            .collect();
        assert!(different.is_empty(), "path, tree, reader: {different:#?}");
    }
}

fn list(folder: &Path, below: &str, tree: &mut Model) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let meta = entry.path().symlink_metadata().unwrap();
        let (kind, content) = if meta.is_dir() {
            list(&entry.path(), &path, tree);
            ('d', Vec::new())
        } else if meta.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            ('l', target.into_os_string().into_encoded_bytes())
        } else {
            ('f', std::fs::read(entry.path()).unwrap())
        };
        let mtime = (meta.mtime(), meta.mtime_nsec() as u32);
        tree.insert(path, (kind, meta.mode() & 0o7777, mtime, content));
    }
}

fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// One change to the tree, as users make them.
fn change(world: &World, random: &mut Random) {
    let root = world.scratch.path().join("tree");
    let mut tree = Model::new();
    list(&root, "", &mut tree);
    let of = |kind: char| -> Vec<String> {
        tree.iter().filter(|(_, entry)| entry.0 == kind).map(|(path, _)| path.clone()).collect()
    };
    let (files, mut folders) = (of('f'), of('d'));
    folders.push(String::new());
    let pick = |random: &mut Random, from: &[String]| from[random.below(from.len())].clone();
    let folder = pick(random, &folders);
    let new = format!("{folder}/n{}", random.below(40)).trim_start_matches('/').to_owned();
    let exists = root.join(&new).symlink_metadata().is_ok();
    match random.below(12) {
        0 | 1 if !exists => {
            let length = [0, 1, 5000, 70_000][random.below(4)];
            world.write(&new, &noise(random, length));
        }
        2 if !exists => world.write(&new, &noise(random, BLOCK + 12_345)),
        3 if !exists => std::fs::create_dir(root.join(&new)).unwrap(),
        4 if !exists => std::os::unix::fs::symlink("some/where", root.join(&new)).unwrap(),
        5 if !files.is_empty() => {
            let file = pick(random, &files);
            let length = random.below(9000);
            world.write(&file, &noise(random, length));
        }
        6 if !files.is_empty() => {
            let mode = [0o600, 0o644, 0o755][random.below(3)];
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(root.join(pick(random, &files)), permissions).unwrap();
        }
        7 if !files.is_empty() && !exists => {
            std::fs::rename(root.join(pick(random, &files)), root.join(&new)).unwrap();
        }
        8 if folders.len() > 1 && !exists => {
            let from = pick(random, &folders[..folders.len() - 1]);
            if !new.starts_with(&format!("{from}/")) && new != from {
                std::fs::rename(root.join(from), root.join(&new)).unwrap();
            }
        }
        9 if !files.is_empty() => std::fs::remove_file(root.join(pick(random, &files))).unwrap(),
        10 if folders.len() > 3 && random.below(3) == 0 => {
            std::fs::remove_dir_all(root.join(pick(random, &folders[..folders.len() - 1])))
                .unwrap();
        }
        // Another kind in its place.
        11 if !files.is_empty() && random.below(2) == 0 => {
            let file = pick(random, &files);
            std::fs::remove_file(root.join(&file)).unwrap();
            std::fs::create_dir(root.join(&file)).unwrap();
            world.write(&format!("{file}/inside"), b"there");
        }
        11 if folders.len() > 1 => {
            let folder = pick(random, &folders[..folders.len() - 1]);
            std::fs::remove_dir_all(root.join(&folder)).unwrap();
            world.write(&folder, b"a file now");
        }
        _ => {}
    }
}

#[test]
fn a_reader_of_all_generations_has_the_tree() {
    for seed in 0..6 {
        let (mut world, mut random) = (World::new(), Random(seed));
        for round in 0..8 {
            for _ in 0..if round == 0 { 60 } else { 1 + random.below(12) } {
                change(&world, &mut random);
            }
            println!("seed {seed}, round {round}");
            world.send();
            world.check();
        }
        // And one that comes late has it from a full manifest and all the content.
        let at = world.at;
        world.send_with(|_| {}, |control| control.ask(Request::Full));
        assert!(world.at.0 > at.0);
        world.check();
    }
}

#[test]
fn nothing_is_sent_of_what_did_not_change() {
    let mut world = World::new();
    let mut random = Random(1);
    for number in 0..50 {
        world.write(&format!("a/{number}"), &noise(&mut random, 3000));
    }
    let first = world.send().len();
    let again = world.send().len();
    assert!(first > 150 && again < first, "{first}, {again}");
    let events = world.events.lock().unwrap();
    let generations = events.iter().filter(|event| matches!(event, SendEvent::Generation { .. }));
    assert_eq!(generations.count(), 1, "{events:?}");
}

#[test]
fn files_go_out_as_often_as_is_asked_for() {
    let mut world = World::new();
    let mut random = Random(2);
    world.write("small", &noise(&mut random, 5000));
    world.write("large", &noise(&mut random, BLOCK + 5000));
    let sender = world.sender(|options| options.times = 3);
    let line = Kept::default();
    sender.run(line.clone(), &AtomicBool::new(false)).unwrap();
    let frames = line.take();
    let mut reader = Reader::new(world.identity.public_key(), &world.key);
    reader.read(&frames);
    let repeats =
        reader.classes.iter().filter(|class| **class == crate::frame::Class::Repeat).count();
    let bulk = reader.classes.iter().filter(|class| **class == crate::frame::Class::Bulk).count();
    assert!(repeats >= 2 * bulk, "{repeats}, {bulk}");
    world.apply(&frames);
    world.check();
}

#[test]
fn a_want_list_brings_those_blocks_again_and_no_others() {
    let mut world = World::new();
    let mut random = Random(3);
    world.write("large", &noise(&mut random, 5 * BLOCK + 5000));
    world.write("small", &noise(&mut random, 5000));
    let frames = world.send();
    let mut reader = Reader::new(world.identity.public_key(), &world.key);
    reader.read(&frames);
    let large =
        *reader.blocks.keys().find(|(_, block)| *block == 5).map(|(object, _)| object).unwrap();
    let (sender, receiver) = (world.identity.public_key(), world.identity.public_key());
    let blocks = vec![crate::want::Range { of: large, first: 2, count: 2 }];
    let list = crate::want::WantList {
        receiver,
        sender,
        time_ms: 0,
        generation: 1,
        pages: Vec::new(),
        blocks,
    };
    let sender = world.sender(|_| {});
    sender.control().ask(Request::Resend(list));
    let line = Kept::default();
    sender.run(line.clone(), &AtomicBool::new(false)).unwrap();
    let mut again = Reader::new(world.identity.public_key(), &world.key);
    again.read(&line.take());
    let content: Vec<(u64, u32)> =
        again.blocks.keys().copied().filter(|(object, _)| !again.pages.contains(object)).collect();
    assert_eq!(content, [(large, 2), (large, 3)]);
    assert_eq!(again.blocks[&(large, 2)], reader.blocks[&(large, 2)]);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_told_when_it_holds_still() {
    let mut world = World::new();
    world.write("grows", &vec![1; 30 * BLOCK]);
    let path = world.path("grows");
    let sender = world.sender(|options| options.once = true);
    let line = Kept::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| sender.run(line.clone(), &AtomicBool::new(false)).unwrap());
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        for _ in 0..40 {
            file.write_all(&[2; 1000]).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        running.join().unwrap();
    });
    world.apply(&line.take());
    // Whatever was told of it before, it is told whole now.
    world.send();
    world.check();
}

#[test]
fn a_sender_that_is_stopped_anywhere_goes_on_where_it_was() {
    for seed in 0..4 {
        let (mut world, mut random) = (World::new(), Random(seed));
        for _ in 0..80 {
            change(&world, &mut random);
        }
        let mut frames = Vec::new();
        for _ in 0..4 {
            let (sender, line, stop) =
                (world.sender(|_| {}), Kept::default(), AtomicBool::new(false));
            sender.control().set_rate(3_000_000);
            std::thread::scope(|scope| {
                let running = scope.spawn(|| sender.run(line.clone(), &stop).unwrap());
                std::thread::sleep(Duration::from_millis(20 + random.below(250) as u64));
                stop.store(true, Ordering::Relaxed);
                running.join().unwrap();
            });
            frames.extend(line.take());
        }
        let (sender, line) = (world.sender(|_| {}), Kept::default());
        sender.run(line.clone(), &AtomicBool::new(false)).unwrap();
        frames.extend(line.take());
        println!("seed {seed}");
        world.apply(&frames);
        world.check();
    }
}

/// A pack that had not gone out when the sender was killed, and in which one file has changed, is told anew. The end of
/// its generation does not wait for it.
#[test]
fn a_generation_ends_though_a_file_of_it_has_changed_before_it_went_out() {
    let world = World::new();
    world.write("a", b"a");
    world.write("b", b"b");
    // So slowly that no object has gone out before it is stopped.
    let stop = Arc::new(AtomicBool::new(false));
    let (told, path) = (stop.clone(), world.path("a"));
    let mut sender = world.sender(|options| {
        (options.once, options.watch, options.every) = (false, false, Duration::from_millis(5));
    });
    let made = AtomicU64::new(0);
    sender.options.on_event = Arc::new(move |event| match event {
        SendEvent::Generation { .. } if made.fetch_add(1, Ordering::Relaxed) == 0 => {
            std::fs::write(&path, b"changed").unwrap();
        }
        SendEvent::Generation { .. } => told.store(true, Ordering::Relaxed),
        _ => {}
    });
    sender.control().set_rate(200_000);
    sender.run(Kept::default(), &stop).unwrap();
    let sender = world.sender(|_| {});
    let line = Kept::default();
    let report = sender.run(line.clone(), &AtomicBool::new(false)).unwrap();
    let last = report.status.generation;
    let mut reader = Reader::new(world.identity.public_key(), &world.key);
    reader.read(&line.take());
    let ends: BTreeSet<&str> = reader
        .records
        .iter()
        .filter_map(|record| record.strip_prefix("GenerationEnded(GenerationEnd { generation: "))
        .filter_map(|end| end.split_once(',').map(|(number, _)| number))
        .collect();
    assert!(ends.len() == 3 && ends.contains(&*last.to_string()), "{last} of {ends:?}");
    // What was said is said after a restart, before anything is looked at.
    let status = world.sender(|_| {}).control().status();
    assert_eq!((status.generation, status.entries), (last, 2));
}

/// A full manifest that ends early says that the rest of the tree is gone.
#[test]
fn a_full_manifest_that_was_cut_short_is_not_ended_but_made_anew() {
    let mut world = World::new();
    for folder in 0..20 {
        std::fs::create_dir(world.path(&format!("f{folder}"))).unwrap();
        for number in 0..1000 {
            std::fs::write(world.path(&format!("f{folder}/{number}")), b"").unwrap();
        }
    }
    world.send_with(|_| {}, |control| control.set_rate(400_000_000));
    world.check();
    // Stopped when the first page of it has been written.
    let (sender, stop) = (world.sender(|options| options.once = false), AtomicBool::new(false));
    let (line, control) = (Kept::default(), sender.control());
    control.ask(Request::Full);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| sender.run(line.clone(), &stop).unwrap());
        while control.status().first_bytes == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap();
    });
    world.sender(|_| {}).run(Kept::default(), &AtomicBool::new(false)).unwrap();
    let ledger = super::ledger::Ledger::open(&world.dir("state")).unwrap();
    let (rows, first) = (ledger.generations().unwrap(), ledger.first_generation().unwrap());
    assert_eq!(ledger.snapshot().entries().unwrap(), 20_020);
    assert!(rows.iter().any(|(number, row)| *number > first && row.base == 0 && row.end.is_some()));
    for (number, row) in rows {
        // Whatever has ended as a full manifest has told all of it: three pages.
        if row.base == 0 && row.end.is_some() {
            assert!(row.pages.len() >= 3, "generation {number} has {} pages", row.pages.len());
        }
    }
}
