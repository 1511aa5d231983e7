use std::time::Duration;

use link::Identity;

use super::*;
use crate::announce::announce;
use crate::key::DiodeKey;
use crate::rig::Scratch;
use crate::session::{Sealer, SessionId, SessionSecret};

struct Sender {
    identity: Identity,
    line: TrustLine,
    epoch: u64,
    sealer: Sealer,
    id: SessionId,
    secret: SessionSecret,
}

impl Sender {
    fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let receives = DiodeKey::generate().public_key();
        let line =
            TrustLine { identity: identity.public_key(), receives, epoch: 7, name: String::new() };
        let (sealer, id, secret) = Sealer::begin().unwrap();
        Self { identity, line, epoch: 7, sealer, id, secret }
    }

    fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
        (self.sealer, self.id, self.secret) = Sealer::begin().unwrap();
    }

    fn announce(&mut self, key: crate::key::DiodePublicKey) -> Vec<u8> {
        let (session, number) = ((self.id, &self.secret), self.sealer.next_number());
        let bytes = announce(&self.identity, session, self.epoch, 1, number, &[key]).unwrap();
        let mut frame = Vec::new();
        let check = Check::of_announcements(&self.line.identity);
        self.sealer.announce(&bytes[0], &check, &mut frame).unwrap();
        frame
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        self.sealer.seal(Class::Control, b"payload", &mut frame).unwrap();
        frame
    }
}

fn sessions(scratch: &Scratch, senders: &[&Sender]) -> Sessions {
    let state = scratch.sub("state");
    let lines: Vec<TrustLine> = senders.iter().map(|sender| sender.line.clone()).collect();
    Sessions::new(Memory::open(&state).unwrap(), Writer::start(&state).unwrap(), &lines)
}

/// What becomes of a frame: who sent its payload, None if it was an announcement.
fn open(sessions: &mut Sessions, frame: &[u8], now: Instant) -> Result<Option<usize>, Refusal> {
    let header = Header::read(frame.first_chunk().unwrap()).unwrap();
    match sessions.open(&header, &mut frame.to_vec(), now)? {
        Opened::Payload { sender, payload } => {
            assert_eq!(payload, b"payload");
            Ok(Some(sender))
        }
        Opened::Announced | Opened::Began { .. } => Ok(None),
    }
}

/// As [`open`], however slow the disk is that the tests are on.
fn open_in_time(sessions: &mut Sessions, frame: &[u8], now: Instant) {
    for _ in 0..1000 {
        match open(sessions, frame, now) {
            Err(Refusal::Unremembered) => std::thread::sleep(Duration::from_millis(20)),
            opened => return assert!(opened.is_ok(), "{opened:?}"),
        }
    }
    panic!("the disk takes nothing");
}

/// Waits until all that was asked for is on the disk.
fn written(sessions: &mut Sessions) {
    let asked = sessions.writer.ask(&sessions.memory);
    assert!(sessions.writer.wait(asked, Duration::from_secs(30)));
}

#[test]
fn sessions_of_several_senders_are_followed_and_the_one_before_for_a_moment() {
    let scratch = Scratch::new();
    let (mut first, mut second) = (Sender::new(), Sender::new());
    let mut sessions = sessions(&scratch, &[&first, &second]);
    let key = sessions.memory.key.public_key();
    let now = Instant::now();
    let early = first.frame();
    assert_eq!(open(&mut sessions, &early, now), Err(Refusal::UnknownSession));
    for sender in [&mut first, &mut second] {
        let frame = sender.announce(key);
        assert_eq!(open(&mut sessions, &frame, now), Ok(None));
    }
    assert_eq!(open(&mut sessions, &first.frame(), now), Ok(Some(0)));
    assert_eq!(open(&mut sessions, &second.frame(), now), Ok(Some(1)));
    // What was sent before the announcement came is not refused for it.
    assert_eq!(open(&mut sessions, &early, now), Ok(Some(0)));
    let (late, later) = (first.frame(), first.frame());
    first.begin(8);
    let frame = first.announce(key);
    assert_eq!(open(&mut sessions, &frame, now), Ok(None));
    assert_eq!(open(&mut sessions, &first.frame(), now), Ok(Some(0)));
    assert_eq!(open(&mut sessions, &late, now), Ok(Some(0)));
    assert_eq!(open(&mut sessions, &late, now), Err(Refusal::Replayed));
    sessions.tick(now + OVERLAP);
    assert_eq!(open(&mut sessions, &later, now), Err(Refusal::UnknownSession));
}

#[test]
fn what_was_taken_is_never_taken_again_after_an_end_of_any_kind() {
    for is_orderly in [true, false] {
        let scratch = Scratch::new();
        let mut sender = Sender::new();
        let mut now = Instant::now();
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for turn in 0..4 {
            let mut sessions = sessions(&scratch, &[&sender]);
            let key = sessions.memory.key.public_key();
            let announcement = sender.announce(key);
            assert_eq!(open(&mut sessions, &announcement, now), Ok(None));
            for frame in &taken {
                let refused = open(&mut sessions, frame, now);
                // An announcement from below the floor is of no use, and does no harm.
                let is_known = refused == Err(Refusal::Replayed) || refused == Ok(None);
                assert!(is_known, "turn {turn}: {refused:?}");
            }
            taken.push(announcement);
            let mut lost = 0;
            for _ in 0..3000 {
                let frame = sender.frame();
                now += Duration::from_micros(300);
                match open(&mut sessions, &frame, now) {
                    Ok(sender) => assert_eq!(sender, Some(0)),
                    Err(why) => {
                        assert_eq!(why, Refusal::Replayed);
                        lost += 1;
                    }
                }
                taken.push(frame);
            }
            // A killed receiver costs what it had allowed itself: less than a second here.
            assert!(lost <= 3000 && (lost == 0 || !is_orderly && turn > 0), "{lost}");
            if is_orderly {
                assert!(sessions.close());
            }
        }
    }
}

#[test]
fn the_distance_to_the_disk_follows_the_rate() {
    let scratch = Scratch::new();
    let mut sender = Sender::new();
    let mut sessions = sessions(&scratch, &[&sender]);
    let mut now = Instant::now();
    let frame = sender.announce(sessions.memory.key.public_key());
    open_in_time(&mut sessions, &frame, now);
    // 20 packets a second, then 20,000.
    for _ in 0..4000 {
        now += Duration::from_millis(50);
        open_in_time(&mut sessions, &sender.frame(), now);
    }
    let slow = sessions.peers[0].current.as_ref().unwrap().ahead;
    assert!((LEAST_AHEAD..=2 * LEAST_AHEAD).contains(&slow), "{slow} packets ahead");
    for _ in 0..60_000 {
        now += Duration::from_micros(50);
        open_in_time(&mut sessions, &sender.frame(), now);
    }
    let fast = sessions.peers[0].current.as_ref().unwrap().ahead;
    assert!((4096..=16_384).contains(&fast), "{fast} packets ahead");
}

/// After a burst a sender says three things a second. A receiver that is killed then must not be deaf for an hour.
#[test]
fn a_kill_costs_what_the_present_rate_brings_in_a_moment() {
    let scratch = Scratch::new();
    let mut sender = Sender::new();
    let mut now = Instant::now();
    let mut taken = Vec::new();
    {
        let mut sessions = sessions(&scratch, &[&sender]);
        let frame = sender.announce(sessions.memory.key.public_key());
        open_in_time(&mut sessions, &frame, now);
        for nth in 0..60_030 {
            now += Duration::from_micros(if nth < 60_000 { 50 } else { 333_000 });
            let frame = sender.frame();
            open_in_time(&mut sessions, &frame, now);
            if nth % 100 == 0 || nth > 60_000 {
                taken.push(frame);
            }
            if nth >= 60_000 {
                (0..3).for_each(|tick| sessions.tick(now + tick * Duration::from_millis(100)));
                written(&mut sessions);
            }
        }
    }
    let mut sessions = sessions(&scratch, &[&sender]);
    let frame = sender.announce(sessions.memory.key.public_key());
    assert_eq!(open(&mut sessions, &frame, now), Ok(None));
    for frame in &taken {
        assert_eq!(open(&mut sessions, frame, now), Err(Refusal::Replayed));
    }
    let lost = (0..1000).take_while(|_| open(&mut sessions, &sender.frame(), now).is_err()).count();
    assert!(lost as u64 <= 2 * LEAST_AHEAD, "{lost} packets were lost");
}

#[test]
fn a_session_that_is_not_sealed_for_us_is_not_followed() {
    let scratch = Scratch::new();
    let mut sender = Sender::new();
    let mut sessions = sessions(&scratch, &[&sender]);
    let frame = sender.announce(DiodeKey::generate().public_key());
    assert_eq!(open(&mut sessions, &frame, Instant::now()), Err(Refusal::UnknownSession));
    // Nor are announcements looked at without end.
    let now = Instant::now() + Duration::from_secs(60);
    let mut looked = 0;
    for _ in 0..1000 {
        sender.begin(6);
        let frame = sender.announce(sessions.memory.key.public_key());
        looked += u32::from(open(&mut sessions, &frame, now) == Err(Refusal::OldSession));
    }
    assert_eq!(looked, 1000);
    sender.begin(9);
    let frame = sender.announce(sessions.memory.key.public_key());
    assert_eq!(open(&mut sessions, &frame, now), Err(Refusal::OldSession));
    assert_eq!(open(&mut sessions, &frame, now + Duration::from_secs(1)), Ok(None));
}
