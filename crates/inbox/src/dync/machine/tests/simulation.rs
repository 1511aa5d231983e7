//! One upload over a network that cuts, to a server that is killed. The client behaves as the old one was seen to.

use std::collections::VecDeque;

use super::*;

/// How many chunks the client keeps.
const KEEP: usize = 64;

fn roomy() -> Limits {
    Limits { max_queue: KEEP as u32, window: 48, credit: 48, ..limits() }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

#[derive(Debug)]
enum Said {
    Chunk(u64, usize, bool),
    Query,
}

/// The old client: it keeps the last chunks, and fails where a report names another place.
struct Client {
    size: u64,
    at: u64,
    /// How far it ever was; it can go on from any place between that and what it keeps.
    top: u64,
    credit: u32,
    kept: VecDeque<u64>,
    approved: bool,
    ended: bool,
    done: bool,
    silent: u32,
}

impl Client {
    fn hear(&mut self, message: &ServerMessage, seed: u64) {
        self.silent = 0;
        match message {
            ServerMessage::UploadApproved { credit, .. } => {
                assert!(!self.approved, "seed {seed}: approved twice");
                (self.approved, self.credit) = (true, *credit);
            }
            ServerMessage::TransferCredit(amount) => {
                assert!(self.approved, "seed {seed}: credit before approval");
                self.credit += amount;
            }
            ServerMessage::StatusReport { seek, credit } => {
                let first = self.kept.front().expect("a report to a client that has sent nothing");
                assert!(seek >= first && *seek <= self.top, "seed {seed}: {seek} is not kept");
                (self.at, self.credit, self.ended) = (*seek, *credit, false);
            }
            ServerMessage::UploadFinished(_) => self.done = true,
            ServerMessage::Error { code, text } => panic!("seed {seed}: {code} {text}"),
        }
    }

    fn speak(&mut self) -> Option<Said> {
        if !self.approved || self.done {
            return None;
        }
        if self.credit == 0 || self.ended && self.silent > 0 {
            self.silent += 1;
            return (self.silent > 20).then(|| {
                self.silent = 0;
                Said::Query
            });
        }
        self.credit -= 1;
        let len = CHUNK.min(self.size - self.at);
        if len == 0 {
            (self.ended, self.silent) = (true, 1);
            if self.kept.is_empty() {
                self.kept.push_back(self.at);
            }
            return Some(Said::Chunk(self.at, 0, true));
        }
        if self.kept.back().is_none_or(|last| *last < self.at) {
            self.kept.push_back(self.at);
        }
        while self.kept.len() > KEEP {
            self.kept.pop_front();
        }
        let said = Said::Chunk(self.at, len as usize, false);
        self.at += len;
        self.top = self.top.max(self.at);
        Some(said)
    }
}

/// A desk that writes late and syncs later.
#[derive(Default)]
struct Disk {
    /// The most bytes per second, of which a part is a second's credit.
    rate: Option<u64>,
    of: Option<(UploadId, u64)>,
    queue: VecDeque<u64>,
    written: u64,
    durable: u64,
    finish: bool,
    published: bool,
}

pub(super) fn run(seed: u64) {
    let mut random = Random(seed);
    let mut rig = Rig::with(roomy());
    let size = random.below(200) * CHUNK + random.below(CHUNK);
    let mut client = Client {
        size,
        at: 0,
        top: 0,
        credit: 0,
        kept: VecDeque::new(),
        approved: false,
        ended: false,
        done: false,
        silent: 0,
    };
    let rate = random.one_in(2).then(|| random.below(20 * CHUNK));
    let mut disk = Disk { rate, of: Some(rig.post(b"a")), ..Disk::default() };
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    let mut troubles = random.below(12);
    rig.machine.taken_in(rig.now, disk.of.unwrap());
    for step in 0.. {
        assert!(step < 200_000, "seed {seed}: it does not end");
        if client.done {
            assert!(disk.published);
            return;
        }
        match random.below(8) {
            0..=2 => there.extend(client.speak()),
            3..=4 => {
                let now = rig.now;
                match there.pop_front() {
                    Some(Said::Chunk(seek, len, last)) => {
                        let last = last.then_some([9; 32]);
                        let speaker = speaker(&KEY, b"a");
                        if rig.machine.post_chunk(now, speaker, (seek, len), last) && len > 0 {
                            disk.queue.push_back(seek + len as u64);
                        }
                    }
                    Some(Said::Query) => rig.machine.query(now, speaker(&KEY, b"a")),
                    None => {}
                }
            }
            5 => {
                if let Some(message) = back.pop_front() {
                    client.hear(&message, seed);
                }
            }
            6 => work(&mut rig, &mut disk, &mut random, size),
            _ if troubles > 0 && client.approved && random.one_in(30) => {
                troubles -= 1;
                // A connection that breaks loses what is on its way, both ways.
                there.clear();
                back.clear();
                if random.one_in(3) {
                    // So does the server, with what is not durable, if it is killed.
                    rig.machine = Machine::new(roomy());
                    let (durable, published) = (disk.durable, disk.published);
                    disk = Disk { rate, durable, written: durable, published, ..Disk::default() };
                }
            }
            _ => {
                rig.now += Duration::from_millis(500);
                rig.machine.tick(rig.now);
            }
        }
        while let Some(output) = rig.machine.poll() {
            match output {
                Output::Send { message, .. } => back.push_back(message),
                Output::Find(id, round) if disk.published => {
                    rig.machine.finished(rig.now, (id, round), "id".into());
                }
                Output::Find(id, round) => {
                    disk.of = Some((id, round));
                    rig.machine.taken_in(rig.now, (id, round));
                    (disk.written, disk.queue) = (disk.durable, VecDeque::new());
                }
                Output::Finish(..) => disk.finish = true,
                Output::Close(_) => disk.of = None,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}

fn work(rig: &mut Rig, disk: &mut Disk, random: &mut Random, size: u64) {
    let Some(of) = disk.of else { return };
    rig.machine.opened(of, disk.durable, disk.rate);
    if let Some(end) = disk.queue.pop_front() {
        assert!(end > disk.written && end <= disk.written + CHUNK, "a chunk is missing or doubled");
        disk.written = end;
        rig.machine.wrote(of, 1);
    } else if disk.finish {
        assert_eq!(disk.written, size);
        (disk.durable, disk.published) = (size, true);
        rig.machine.finished(rig.now, of, "id".into());
    }
    if random.one_in(6) {
        disk.durable = disk.written;
        rig.machine.synced(of, disk.durable);
    }
}
