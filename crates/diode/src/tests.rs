//! Both ends, with a link between them that loses, holds up, doubles and turns around what it carries.

mod rehearse;

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver as Taken, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use link::Identity;

use crate::rig::{Random, Scratch};
use crate::*;

mod attributes;
mod links;
mod plain;
mod setbacks;

const MS: Duration = Duration::from_millis(1);

/// Bytes of a frame, and of a frame with the headers below it.
const FRAME: usize = 1472;
const ON_LINK: usize = FRAME + 28;

/// A link without a way back, from a seed. Times are those of the frames' own rate, not of a clock.
#[derive(Clone, Copy, Default)]
struct Link {
    seed: u64,
    /// Of a hundred thousand frames so many are lost, doubled, and held back.
    lost: usize,
    doubled: usize,
    late: usize,
    /// Every so many frames, a burst of so many is lost.
    bursts: Option<(usize, usize)>,
    /// From frame to frame, nothing passes at all.
    cut: Option<(usize, usize)>,
}

struct Wire {
    link: Link,
    random: Random,
    count: usize,
    late: VecDeque<(usize, Vec<u8>)>,
    out: SyncSender<Vec<u8>>,
}

impl Wire {
    fn give(&mut self, frame: Vec<u8>) {
        // Whoever listens may have gone: nobody tells a sender.
        let _ = self.out.send(frame);
    }
}

impl Line for Wire {
    fn frame_bytes(&self) -> usize {
        FRAME
    }

    fn overhead(&self) -> usize {
        ON_LINK - FRAME
    }

    fn has_one_size(&self) -> bool {
        true
    }

    fn most_batch(&self) -> usize {
        16 * FRAME
    }

    fn send(&mut self, frames: &[u8], size: usize) -> Given {
        for frame in frames.chunks(size) {
            self.count += 1;
            let count = self.count;
            while self.late.front().is_some_and(|(due, _)| *due <= count) {
                let (_, frame) = self.late.pop_front().unwrap();
                self.give(frame);
            }
            let Link { lost, doubled, late, bursts, cut, .. } = self.link;
            // Not before much is sent: a burst is a time, and at the start few frames take long.
            let burst = bursts.is_some_and(|(every, length)| count % every > every - length);
            let is_cut = cut.is_some_and(|(from, to)| (from..to).contains(&count));
            if burst || is_cut || self.random.below(100_000) < lost {
                continue;
            }
            if self.random.below(100_000) < late {
                let due = count + 1 + self.random.below(60);
                self.late.push_back((due, frame.to_vec()));
                continue;
            }
            if self.random.below(100_000) < doubled {
                self.give(frame.to_vec());
            }
            self.give(frame.to_vec());
        }
        Given::All
    }
}

/// Two machines, one tree each.
struct World {
    scratch: Scratch,
    low: Arc<Identity>,
    high: Arc<Identity>,
    events: Arc<Mutex<Vec<DiodeEvent>>>,
    deletes: Deletes,
    rate: u64,
    times: u32,
    outage: Duration,
}

impl World {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            low: Arc::new(Identity::generate().unwrap()),
            high: Arc::new(Identity::generate().unwrap()),
            events: Arc::default(),
            deletes: Deletes::Now,
            rate: 40_000_000,
            times: 1,
            outage: 4 * MS,
        }
    }

    fn tree(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    fn copy(&self) -> PathBuf {
        self.scratch.path().join("copy")
    }

    fn receiver(&self) -> Receiver {
        self.receiver_with(|_| {})
    }

    fn receiver_with(&self, change: impl FnOnce(&mut ReceiveOptions)) -> Receiver {
        let epochs = Epochs::open(&self.scratch.sub("epochs"), 1).unwrap();
        let line = TrustLine {
            identity: self.low.public_key(),
            receives: receiver_key(&self.scratch.sub("sent")).unwrap(),
            epoch: epochs.floor(),
            name: "low".to_owned(),
        };
        let mut options = ReceiveOptions::new(vec![line], self.high.clone());
        options.deletes = self.deletes;
        let events = self.events.clone();
        options.on_event = Arc::new(move |event| events.lock().unwrap().push(event.clone()));
        change(&mut options);
        Receiver::open(&self.scratch.sub("copy"), &self.scratch.sub("received"), options).unwrap()
    }

    fn sender(&self, change: impl FnOnce(&mut SendOptions)) -> Sender {
        let key = receiver_key(&self.scratch.sub("received")).unwrap();
        let mut options = SendOptions::new(self.low.clone(), vec![key]);
        options.once = true;
        options.settle = Duration::ZERO;
        options.times = self.times;
        options.engine.outage = self.outage;
        change(&mut options);
        let epochs = Epochs::open(&self.scratch.sub("epochs"), 1).unwrap();
        let root = Some(self.scratch.sub("tree"));
        Sender::open(root, &self.scratch.sub("sent"), epochs, self.rate, options).unwrap()
    }

    /// Sends once over this link; the receiver runs as long as the sender does, and until all is on its disk.
    fn send(&self, link: Link) -> ReceiveStatus {
        self.send_asking(link, |_| {})
    }

    fn send_asking(&self, link: Link, ask: impl FnOnce(&Control)) -> ReceiveStatus {
        self.send_counting(link, ask).0
    }

    /// The same, and what the sender has counted.
    fn send_counting(&self, link: Link, ask: impl FnOnce(&Control)) -> (ReceiveStatus, SendStatus) {
        let mut receiver = self.receiver();
        let sender = self.sender(|_| {});
        ask(&sender.control());
        let (out, taken) = sync_channel(20_000);
        let wire = Wire { link, random: Random(link.seed), count: 0, late: VecDeque::new(), out };
        let report = std::thread::scope(|scope| {
            let sending = scope.spawn(move || sender.run(wire, &AtomicBool::new(false)).unwrap());
            take(&mut receiver, &taken);
            sending.join().unwrap()
        });
        receiver.flush().unwrap();
        let status = receiver.status().read();
        receiver.close().unwrap();
        (status, report.status)
    }

    /// The receiver waits for what is not to come, until its patience ends.
    fn wait_in_vain(&self) -> ReceiveStatus {
        let mut receiver = self.receiver();
        for second in [0, 6, 12] {
            receiver.tick(Instant::now(), SystemTime::now() + second * 1000 * MS);
            receiver.flush().unwrap();
        }
        receiver.tick(Instant::now(), SystemTime::now() + 12_000 * MS);
        let status = receiver.status().read();
        receiver.close().unwrap();
        status
    }

    /// What is lacking, as the text that is carried back.
    fn want_list(&self) -> WantList {
        let receiver = self.receiver();
        let text = receiver.requests().want_list(SystemTime::now()).unwrap();
        receiver.close().unwrap();
        let (low, high) = (self.low.public_key(), self.high.public_key());
        WantList::parse(&text, &low, &[high]).unwrap()
    }

    #[track_caller]
    fn check(&self) {
        let (tree, copy) = (portrait(&self.tree()), portrait(&self.copy()));
        let paths = tree.keys().chain(copy.keys());
        let different: Vec<_> = paths
            .filter(|path| tree.get(*path) != copy.get(*path))
            .map(|path| (path, tree.get(path), copy.get(path)))
            .collect();
        assert!(different.is_empty(), "path, sent, received: {different:#?}");
    }
}

/// Gives a receiver what comes until nothing comes any more.
fn take(receiver: &mut Receiver, taken: &Taken<Vec<u8>>) {
    let mut ticked = Instant::now();
    loop {
        match taken.recv_timeout(20 * MS) {
            Ok(mut frame) => {
                receiver.datagrams([&mut frame[..]], Instant::now());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if ticked.elapsed() > 50 * MS {
            ticked = Instant::now();
            receiver.tick(ticked, SystemTime::now());
        }
    }
}

/// Every entry: kind, mode, mtime, and a digest of what is in it.
fn portrait(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, below)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with(".haul") {
                continue;
            }
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let meta = entry.path().symlink_metadata().unwrap();
            let (kind, content) = if meta.is_dir() {
                folders.push((entry.path(), path.clone()));
                ("folder", String::new())
            } else if meta.is_symlink() {
                ("link", std::fs::read_link(entry.path()).unwrap().display().to_string())
            } else {
                let content = std::fs::read(entry.path()).unwrap();
                ("file", format!("{} {}", content.len(), blake3::hash(&content).to_hex()))
            };
            let mode = if kind == "link" { 0 } else { meta.mode() & 0o7777 };
            let line =
                format!("{kind} {mode:o} {}.{:09} {content}", meta.mtime(), meta.mtime_nsec());
            found.insert(path, line);
        }
    }
    found
}

fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&(random.below(usize::MAX) as u64).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn grow(world: &World, random: &mut Random, files: usize) {
    let root = world.tree();
    std::fs::create_dir_all(&root).unwrap();
    for number in 0..files {
        let folder = root.join(format!("f{}/g{}", random.below(6), random.below(4)));
        std::fs::create_dir_all(&folder).unwrap();
        let length = [0, 10, 3000, 20_000, 200_000][random.below(5)];
        let path = folder.join(format!("file {number}"));
        std::fs::write(&path, noise(random, length)).unwrap();
        if random.below(4) == 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        }
    }
    std::fs::create_dir_all(root.join("empty/folder")).unwrap();
    let _ = std::os::unix::fs::symlink("../nowhere", root.join("empty/link"));
    std::fs::write(root.join("large"), noise(random, 5 << 20)).unwrap();
}

/// Files change, move, go, and become folders.
fn shake(world: &World, random: &mut Random) {
    let root = world.tree();
    let entries: Vec<String> = portrait(&root)
        .into_iter()
        .filter(|(_, line)| line.starts_with("file"))
        .map(|(path, _)| path)
        .collect();
    for path in &entries {
        let at = root.join(path);
        match random.below(12) {
            0 => std::fs::write(&at, noise(random, 5000)).unwrap(),
            1 => std::fs::remove_file(&at).unwrap(),
            2 => {
                std::fs::rename(&at, root.join(format!("moved {}", random.below(1 << 40)))).unwrap()
            }
            3 => std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o600)).unwrap(),
            4 => {
                std::fs::remove_file(&at).unwrap();
                std::fs::create_dir(&at).unwrap();
                std::fs::write(at.join("inside"), noise(random, 100)).unwrap();
            }
            _ => {}
        }
    }
    for number in 0..6 {
        let folder = root.join(format!("f{number}"));
        if folder.is_dir() && random.below(4) == 0 {
            std::fs::rename(&folder, root.join(format!("away{}", random.below(1 << 40)))).unwrap();
        } else if folder.is_dir() && random.below(4) == 0 {
            std::fs::remove_dir_all(&folder).unwrap();
            std::fs::write(&folder, noise(random, 500)).unwrap();
        }
    }
}

#[test]
fn a_tree_and_what_becomes_of_it_arrives() {
    for seed in 0..4 {
        let (world, mut random) = (World::new(), Random(seed));
        grow(&world, &mut random, 120);
        for round in 0..5 {
            println!("seed {seed}, round {round}");
            let status = world.send(Link { seed, ..Link::default() });
            assert_eq!((status.tree.wanted, status.link.dropped), (0, 0), "{status:#?}");
            world.check();
            shake(&world, &mut random);
        }
    }
}

#[test]
fn one_pass_is_enough_over_a_link_that_loses_bursts_doubles_and_turns_around() {
    for seed in 0..3 {
        let (world, mut random) = (World::new(), Random(seed));
        grow(&world, &mut random, 200);
        // At 40 MB/s, 4 ms are 106 frames; each burst is that long.
        let bursts = Some((3_000, 100));
        let link = Link { seed, lost: 1000, doubled: 500, late: 3000, bursts, cut: None };
        let status = world.send(link);
        println!("seed {seed}: {} blocks, {} restored", status.link.blocks, status.link.restored);
        assert_eq!(status.tree.wanted, 0, "{status:#?}");
        assert!(status.link.restored > 0);
        world.check();
    }
}

/// What a user gets who asks for nothing else.
#[test]
fn one_pass_is_enough_with_the_defaults_over_outages_of_the_length_that_they_promise() {
    let (mut world, mut random) = (World::new(), Random(8));
    world.rate = 4_000_000;
    world.outage = EngineOptions::default().outage;
    grow(&world, &mut random, 40);
    std::fs::write(world.tree().join("larger"), noise(&mut random, 8 << 20)).unwrap();
    // Of frames at this rate; 50 ms are 133 of them. A block is under way for less than the time between two bursts.
    let length =
        (u128::from(world.rate) * world.outage.as_millis() / (1000 * ON_LINK as u128)) as usize;
    let every = 3500;
    let bursts = Some((every, length));
    let link = Link { seed: 8, lost: 1000, doubled: 500, late: 3000, bursts, cut: None };
    let status = world.send(link);
    println!("{} blocks, {} restored", status.link.blocks, status.link.restored);
    assert_eq!(status.tree.wanted, 0, "{status:#?}");
    assert!(status.link.restored > 0, "{status:#?}");
    // Else fewer bursts fell into what counts.
    assert!(status.link.frames as usize > 3 * every, "{status:#?}");
    world.check();
}

/// Bytes of the frames that carry a block of the full length.
fn most_of_block() -> u64 {
    let symbol = (FRAME - HEADER - TAG - SYMBOL_HEAD) & !1;
    let layout = Layout::new(BLOCK, symbol).unwrap();
    let repair = SendOptions::new(Arc::new(Identity::generate().unwrap()), Vec::new()).repair;
    ((layout.source() + layout.repair_to_send(repair)) * FRAME) as u64
}

#[test]
fn a_cut_is_healed_by_a_want_list_and_only_what_was_lost_is_sent_again() {
    // The last one is 2 s long at its rate, as when an appliance throws away all that it holds.
    let slow: u64 = 10_000_000;
    let long = 2 * slow as usize / ON_LINK;
    let cuts =
        [(40_000_000, (3000, 9000)), (40_000_000, (3500, 9000)), (slow, (3000, 3000 + long))];
    for (seed, (rate, cut)) in (0..).zip(cuts) {
        let (mut world, mut random) = (World::new(), Random(seed));
        world.rate = rate;
        grow(&world, &mut random, 150);
        std::fs::write(world.tree().join("huge"), noise(&mut random, 20 << 20)).unwrap();
        world.send(Link { seed, cut: Some(cut), ..Link::default() });
        let mut rounds = 0;
        loop {
            let list = world.want_list();
            let blocks: u64 = list.blocks.iter().map(|range| u64::from(range.count)).sum();
            println!("seed {seed}: {} ranges of pages, {blocks} blocks", list.pages.len());
            if list.pages.is_empty() && list.blocks.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds <= 4, "the lists do not end");
            // All pages together are less than a block.
            let pages = u64::from(!list.pages.is_empty());
            let ask = |control: &Control| control.ask(Request::Resend(list));
            let (_, sent) = world.send_counting(Link::default(), ask);
            let bytes = sent.first_bytes + sent.again_bytes;
            assert!(bytes <= (blocks + pages) * most_of_block(), "{blocks} blocks: {sent:#?}");
            assert!(sent.again_bytes > 0 || blocks == 0, "{sent:#?}");
        }
        assert!(rounds > 0, "the cut has cost nothing");
        world.check();
    }
}

#[test]
fn passes_are_put_together_block_by_block_across_restarts() {
    let (mut world, mut random) = (World::new(), Random(5));
    world.times = 3;
    grow(&world, &mut random, 60);
    // So much is lost that no pass brings all of it.
    let status = world.send(Link { seed: 5, lost: 22_000, ..Link::default() });
    println!(
        "{} blocks, {} restored, {} wanted",
        status.link.blocks, status.link.restored, status.tree.wanted
    );
    assert_eq!(status.tree.wanted, 0, "{status:#?}");
    world.check();
}

#[test]
fn a_receiver_that_comes_late_has_it_all_from_a_full_manifest_and_a_want_list() {
    let (world, mut random) = (World::new(), Random(6));
    grow(&world, &mut random, 100);
    world.send(Link { cut: Some((0, usize::MAX)), ..Link::default() });
    shake(&world, &mut random);
    world.send(Link { cut: Some((0, usize::MAX)), ..Link::default() });
    world.send_asking(Link::default(), |control| control.ask(Request::Full));
    let list = world.want_list();
    assert!(!list.blocks.is_empty());
    world.send_asking(Link::default(), |control| control.ask(Request::Resend(list)));
    world.check();
}

#[test]
fn nothing_that_a_stranger_or_a_recording_sends_is_taken() {
    let (world, mut random) = (World::new(), Random(7));
    grow(&world, &mut random, 20);
    // The recording.
    let (out, taken) = sync_channel(100_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    world.sender(|_| {}).run(wire, &AtomicBool::new(false)).unwrap();
    let frames: Vec<Vec<u8>> = taken.try_iter().collect();
    let play = |frames: &[Vec<u8>]| {
        let mut receiver = world.receiver();
        for frame in frames {
            let mut frame = frame.clone();
            receiver.datagrams([&mut frame[..]], Instant::now());
        }
        receiver.flush().unwrap();
        receiver.tick(Instant::now(), SystemTime::now());
        let status = receiver.status().read();
        receiver.close().unwrap();
        status
    };
    let first = play(&frames);
    assert!(
        first.link.frames as usize > frames.len() / 2,
        "{} of {}: {first:#?}",
        first.link.frames,
        frames.len()
    );
    world.check();
    let again = play(&frames);
    // The session may be announced again, as to one who has just begun; nothing in it is new.
    assert!(again.link.frames <= 1 && again.link.blocks == 0, "{again:#?}");
    // Flipped, cut short, spliced and made up.
    let mut forged = Vec::new();
    for number in 0..10_000 {
        let mut frame = frames[random.below(frames.len())].clone();
        let other = &frames[random.below(frames.len())];
        match number % 4 {
            0 => {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            1 => frame.truncate(random.below(frame.len())),
            2 => {
                let at = random.below(frame.len().min(other.len()));
                frame.truncate(at);
                frame.extend_from_slice(&other[at..]);
            }
            _ => frame = noise(&mut random, 1472),
        }
        if !frame.is_empty() {
            forged.push(frame);
        }
    }
    std::fs::write(world.tree().join("later"), b"a session after the recording").unwrap();
    let status = play(&forged);
    assert!(status.link.frames <= 1 && status.link.blocks == 0, "{status:#?}");
    // And the sender is still heard.
    world.send(Link::default());
    world.check();
}
