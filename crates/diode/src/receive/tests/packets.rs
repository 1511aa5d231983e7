//! Packets of somebody without the keys: made up, forged, flipped, cut, put together, and recorded before. None is
//! taken, whatever end the receiver has come to in between, and what it holds does not grow.
//!
//! `HAUL_HOSTILE_PACKETS` says how many; `cargo xtask hostile` tries a million.

use std::time::Duration;

use super::rig::*;
use crate::announce::announce;
use crate::event::Refusal;
use crate::frame::{Check, Class, HEADER, Header, MARKER};
use crate::receive::Receiver;
use crate::session::Sealer;

/// Packets where nobody says otherwise.
const PACKETS: usize = 30_000;

/// So many are made before they are given to the receiver.
const BATCH: usize = 1000;

/// A receiver in memory may grow by so much while a million of them comes; each has a kilobyte and a half.
const GROWTH: u64 = 24 << 20;

fn packets() -> usize {
    let wanted = std::env::var("HAUL_HOSTILE_PACKETS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(PACKETS)
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What somebody can make who hears everything and has no key but his own.
struct Forger {
    random: Random,
    /// What was sent and taken, announcements among it.
    taken: Vec<Vec<u8>>,
    /// What was sealed and never came.
    lost: Vec<Vec<u8>>,
    /// Another sender, whose frames name the session of the first.
    stranger: TestSender,
    others: Sealer,
    /// What anybody can compute of the first one.
    check: Check,
    short: [u8; 4],
    key: crate::key::DiodePublicKey,
}

impl Forger {
    fn of(rig: &mut Rig, seed: u64, taken: Vec<Vec<u8>>, lost: Vec<Vec<u8>>) -> Self {
        let (others, ..) = Sealer::begin().unwrap();
        let check = Check::of_announcements(&rig.sender.identity.public_key());
        let short = Header::read(lost[0].first_chunk().unwrap()).unwrap().session;
        let key = crate::receive::receiver_key(&rig.scratch.sub("state")).unwrap();
        let (random, stranger) = (Random(seed), TestSender::new());
        Self { random, taken, lost, stranger, others, check, short, key }
    }

    fn some<'a>(random: &mut Random, frames: &'a [Vec<u8>]) -> &'a [u8] {
        &frames[random.below(frames.len())]
    }

    /// One more, of each kind in turn; None if it came out as one that is true.
    fn packet(&mut self, nth: usize) -> Option<Vec<u8>> {
        let random = &mut self.random;
        let mut frame = Self::some(random, &self.lost).to_vec();
        let before = frame.clone();
        match nth % 12 {
            0 => return Some(Self::some(random, &self.taken).to_vec()),
            1 => {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            2 => (0..1 + random.below(20)).for_each(|_| {
                let at = random.below(frame.len());
                frame[at] = random.below(256) as u8;
            }),
            3 => frame.truncate(random.below(frame.len())),
            4 => frame.extend((0..1 + random.below(40)).map(|_| random.below(256) as u8)),
            5 => {
                // The head of one, the body of another, cut at the header or anywhere.
                let other = Self::some(random, &self.lost);
                let most = frame.len().min(other.len());
                let at = if random.below(2) == 0 { HEADER } else { random.below(most) };
                frame.truncate(at);
                frame.extend_from_slice(&other[at..]);
                if self.lost.contains(&frame) {
                    return None;
                }
            }
            6 => frame = (0..random.below(1500)).map(|_| random.below(256) as u8).collect(),
            7 => {
                // Noise that looks like a frame of the session.
                frame = (0..HEADER + 16 + random.below(1400))
                    .map(|_| random.below(256) as u8)
                    .collect();
                frame[..4].copy_from_slice(&MARKER);
                frame[4] = 0x10 | random.below(8) as u8;
                frame[5] = 0;
                let length = (frame.len() - HEADER) as u16;
                frame[6..8].copy_from_slice(&length.to_be_bytes());
                frame[8..12].copy_from_slice(&self.short);
                frame[12..16].fill(0);
            }
            8 => {
                // Another number, class or length for a true frame.
                let at = [4, 6, 7, 12, 16, 17, 18, 19][random.below(8)];
                frame[at] = random.below(256) as u8;
            }
            9 => {
                // A true frame of a session of somebody else, under this session's name.
                frame.clear();
                let payload: Vec<u8> = (0..random.below(1400)).map(|_| 7).collect();
                let class = Class::ALL[1 + random.below(7)];
                self.others.seal(class, &payload, &mut frame).unwrap();
                frame[8..12].copy_from_slice(&self.short);
            }
            10 => return Some(self.announcement()),
            _ => {
                // A true announcement that says something else, or stands in another packet.
                let announcements = |frame: &&Vec<u8>| frame[4] & 0x0f == 0;
                let all: Vec<_> = self.taken.iter().filter(announcements).collect();
                frame = all[random.below(all.len())].clone();
                let at = 4 + random.below(frame.len() - 4);
                frame[at] ^= 1 << random.below(8);
                self.seal_header(&mut frame);
                return Some(frame);
            }
        }
        (frame != before).then_some(frame)
    }

    /// An announcement with the check that anybody can compute, for the receiver, signed by a stranger or by nobody.
    fn announcement(&mut self) -> Vec<u8> {
        let number = self.random.below(1 << 30) as u64;
        let session = crate::session::SessionSecret::generate().unwrap();
        let epoch = 1 << 50;
        let identity = &self.stranger.identity;
        let session = (session.0, &session.1);
        let mut said =
            announce(identity, session, epoch, 7, number, &[self.key]).unwrap().remove(0);
        if self.random.below(2) == 0 {
            let sender = self.stranger.line.identity;
            said[25..57].copy_from_slice(sender.as_bytes());
        }
        let class = Class::Announcement;
        let short = if self.random.below(2) == 0 { self.short } else { session.0.short() };
        let header = Header { class, length: said.len() as u16, session: short, number };
        [&header.encode(&self.check)[..], &said].concat()
    }

    fn seal_header(&self, frame: &mut [u8]) {
        if let Some(header) = frame.first_chunk().and_then(Header::read) {
            frame[..HEADER].copy_from_slice(&header.encode(&self.check));
        }
    }
}

fn taken(rig: &Rig) -> u64 {
    rig.receiver.as_ref().unwrap().work.link.frames
}

/// Gives it so many of them, as datagrams or in a stream.
fn attack(rig: &mut Rig, forger: &mut Forger, count: usize, is_stream: bool) {
    let before = taken(rig);
    let mut made = 0;
    let mut resident_at_first = 0;
    while made < count {
        let mut batch: Vec<Vec<u8>> =
            (made..made + BATCH.min(count - made)).filter_map(|nth| forger.packet(nth)).collect();
        made += BATCH.min(count - made);
        if is_stream {
            // A true frame that is longer by something is a true frame in a stream.
            batch.retain(|frame| !forger.lost.iter().any(|lost| frame.starts_with(lost)));
            let bytes = batch.concat();
            let now = rig.now;
            for piece in bytes.chunks(1 + forger.random.below(9000)) {
                rig.receiver.as_mut().unwrap().stream(piece, false, now);
            }
        } else {
            rig.frames(batch);
        }
        rig.pass(Duration::from_millis(100));
        if made >= count / 10 && resident_at_first == 0 {
            resident_at_first = resident();
        }
        assert_eq!(taken(rig), before, "a packet was taken, among the {made} so far");
    }
    rig.settle();
    // All that grows in a receiver, but for what the disk holds.
    let receiver = rig.receiver.as_ref().unwrap();
    assert_eq!(receiver.work.intake.memory(), 0, "parts of blocks are held");
    let link = receiver.status().read().link;
    assert_eq!((link.blocks, link.waiting, link.heartbeat), (0, 0, None), "something was taken");
    // Other tests share the process where this is not the only one.
    if std::env::var_os("HAUL_HOSTILE_PACKETS").is_some() {
        let grown = resident().saturating_sub(resident_at_first);
        assert!(grown <= GROWTH, "it has grown by {grown} bytes");
    }
}

/// A tree that has come, what was recorded of it, and what never came.
fn recorded(rig: &mut Rig) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let tree = model(&[("a", file(&noise(1, 50_000), 1)), ("b", file(b"b", 2))]);
    let generation = rig.sender.generation(tree, &[], true);
    let key = crate::receive::receiver_key(&rig.scratch.sub("state")).unwrap();
    let mut frames = vec![rig.sender.announcement(key)];
    frames.extend(rig.sender.seal(&generation.all()));
    rig.frames(frames.clone());
    rig.settle();
    rig.check("honest");
    (frames, rig.sender.seal(&generation.all()))
}

#[test]
fn a_million_bad_packets_are_refused_before_and_after_restarts() {
    let count = packets();
    let mut rig = Rig::new();
    let (frames, lost) = recorded(&mut rig);
    let mut forger = Forger::of(&mut rig, 7, frames.clone(), lost);
    rig.restart();
    attack(&mut rig, &mut forger, count / 2, false);
    rig.check("after bad datagrams");
    attack(&mut rig, &mut forger, count / 4, true);
    rig.check("after a bad stream");
    // A receiver that was killed.
    rig.light_fuse(0);
    drop(rig.receiver.take());
    rig.start();
    let announced = taken(&rig);
    rig.frames(frames.clone());
    assert_eq!(taken(&rig), announced, "taken again after a kill");
    attack(&mut rig, &mut forger, count / 8, false);
    rig.check("after a kill");
    // One that has lost all that it remembered, and with it the key.
    drop(rig.receiver.take());
    std::fs::remove_dir_all(rig.scratch.path().join("state")).unwrap();
    rig.receiver = Some({
        let (into, state) = (rig.scratch.sub("into"), rig.scratch.sub("state"));
        Receiver::open(&into, &state, rig.options.clone()).unwrap()
    });
    rig.frames(frames);
    rig.frames(forger.lost.clone());
    assert_eq!(taken(&rig), 0, "the old key opens something");
    attack(&mut rig, &mut forger, count / 8, false);
    rig.check("the tree stays");
    let refused = rig.receiver.as_ref().unwrap().status().read().link.refused;
    assert!(refused[Refusal::UnknownSession as usize] > 0, "{refused:?}");
}

/// The disk as it was at some moment while frames came, the journal older still, is all that a power cut leaves.
#[test]
fn after_a_power_cut_nothing_that_was_taken_before_is_taken_again() {
    let mut rig = Rig::new();
    let state = rig.scratch.path().join("state");
    let saved = rig.scratch.path().join("saved");
    rig.settle();
    let journal = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::copy(from.join("journal.redb"), to.join("journal.redb")).unwrap();
    };
    std::fs::create_dir(&saved).unwrap();
    // The journal is from before the first frame.
    if let Some(receiver) = rig.receiver.take() {
        receiver.close().unwrap();
    }
    journal(&state, &saved);
    rig.start();
    let tree = random_tree(3, 80);
    let generation = rig.sender.generation(tree, &[], true);
    let payloads = generation.all();
    let mut random = Random(5);
    let (mut sent, mut images) = (Vec::new(), Vec::new());
    for payloads in payloads.chunks(payloads.len() / 12) {
        let frames = rig.sender.seal(payloads);
        for frame in frames {
            rig.now += Duration::from_micros(100);
            rig.frames(vec![frame.clone()]);
            sent.push(frame);
            if random.below(200) == 0 {
                images.push((sent.len(), std::fs::read(state.join("session")).unwrap()));
            }
        }
    }
    images.push((sent.len(), std::fs::read(state.join("session")).unwrap()));
    assert!(images.len() > 5, "only {} moments", images.len());
    rig.settle();
    for (count, session) in images {
        drop(rig.receiver.take());
        std::fs::write(state.join("session"), session).unwrap();
        journal(&saved, &state);
        rig.start();
        let before = taken(&rig);
        rig.frames(sent[..count].to_vec());
        assert_eq!(taken(&rig), before, "of {count} frames before the power cut");
    }
    // And what comes anew heals the journal.
    rig.skip_floor();
    rig.send(&payloads);
    rig.settle();
    rig.check("healed");
}
