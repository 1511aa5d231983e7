//! What is forged, changed, cut, put together or sent again.

use super::rig::*;
use crate::event::Refusal;
use crate::frame::Class;
use crate::receive::{ReceiveError, Receiver};
use crate::symbol::{ObjectKind, SymbolHead};

fn refused(rig: &mut Rig, why: Refusal) -> u64 {
    rig.settle();
    rig.receiver.as_ref().unwrap().status().read().link.refused[why as usize]
}

fn taken(rig: &mut Rig) -> u64 {
    rig.settle();
    rig.receiver.as_ref().unwrap().status().read().link.frames
}

fn tree() -> Model {
    model(&[("a", file(&noise(1, 50_000), 1)), ("b", file(b"b", 2))])
}

#[test]
fn ten_thousand_bad_packets_are_refused_before_and_after_restarts() {
    let mut rig = Rig::new();
    let generation = rig.sender.generation(tree(), &[], true);
    let frames = rig.sender.seal(&generation.all());
    rig.frames(frames.clone());
    rig.settle();
    rig.check("honest");
    let good = taken(&mut rig);
    let mut random = Random(7);
    let later = rig.sender.seal(&generation.all());
    let mut bad = Vec::new();
    for nth in 0..10_000 {
        let mut frame = later[random.below(later.len())].clone();
        match nth % 5 {
            0 => frame = frames[random.below(frames.len())].clone(),
            1 => {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            2 => frame.truncate(random.below(frame.len())),
            3 => {
                let other = &later[random.below(later.len())];
                let at = 24 + random.below(frame.len().min(other.len()) - 24);
                if frame[at..] == other[at..] {
                    continue;
                }
                frame.truncate(at);
                frame.extend_from_slice(&other[at..]);
            }
            _ => frame.iter_mut().for_each(|byte| *byte = random.below(256) as u8),
        }
        bad.push(frame);
    }
    rig.frames(bad.clone());
    assert_eq!(taken(&mut rig), good, "a bad packet was taken");
    rig.check("after bad packets");
    // An orderly restart, a kill, and a receiver that has lost all that it remembered.
    rig.restart();
    let announced = taken(&mut rig);
    rig.frames(bad.clone());
    rig.frames(frames.clone());
    assert_eq!(taken(&mut rig), announced, "taken again after a restart");
    drop(rig.receiver.take());
    std::fs::remove_dir_all(rig.scratch.path().join("state")).unwrap();
    rig.receiver = Some({
        let (into, state) = (rig.scratch.sub("into"), rig.scratch.sub("state"));
        Receiver::open(&into, &state, rig.options.clone()).unwrap()
    });
    rig.frames(bad);
    rig.frames(frames);
    assert_eq!(taken(&mut rig), 0, "the old key opens something");
    rig.check("the tree stays");
}

#[test]
fn old_sessions_and_strangers_are_not_followed() {
    let mut rig = Rig::new();
    let key = crate::receive::receiver_key(&rig.scratch.sub("state")).unwrap();
    let old = rig.sender.announcement(key);
    rig.frames(vec![old.clone()]);
    assert_eq!(refused(&mut rig, Refusal::OldSession), 0);
    rig.sender.begin_session();
    rig.announce();
    rig.pass(std::time::Duration::from_secs(5));
    rig.frames(vec![old.clone()]);
    assert_eq!(refused(&mut rig, Refusal::OldSession), 1);
    rig.restart();
    rig.frames(vec![old]);
    // The restart began to count anew.
    assert_eq!(refused(&mut rig, Refusal::OldSession), 1);
    // Another session of the same epoch.
    rig.sender.begin_session();
    rig.sender.epoch -= 1;
    let another = rig.sender.announcement(key);
    rig.frames(vec![another]);
    assert_eq!(refused(&mut rig, Refusal::OldSession), 2);
    // Signed by somebody else.
    let mut stranger = TestSender::new();
    let frame = stranger.announcement(key);
    rig.frames(vec![frame]);
    assert_eq!(refused(&mut rig, Refusal::Stranger), 1);
}

#[test]
fn numbers_that_nobody_signed_for_are_refused() {
    let mut rig = Rig::new();
    let filler = vec![(Class::Filler, Vec::new())];
    rig.sender.skip_to(1 << 25);
    rig.send(&filler);
    assert_eq!(refused(&mut rig, Refusal::TooFarAhead), 1);
    rig.announce();
    rig.send(&filler);
    assert_eq!(refused(&mut rig, Refusal::TooFarAhead), 1);
}

/// Another receiver of the same session knows its keys, but cannot sign.
#[test]
fn who_knows_the_keys_can_spoil_but_publish_nothing() {
    let mut rig = Rig::new();
    let generation = rig.sender.generation(tree(), &[], true);
    // Blocks and pages under the numbers that the sender is going to use.
    for object in 1..4 {
        for (kind, class) in [(ObjectKind::Content, Class::New), (ObjectKind::Page, Class::Page)] {
            let head = SymbolHead { object, length: 100, block: 0, symbol: 0, kind };
            rig.send(&[(class, [&head.encode()[..], &[7; 100]].concat())]);
        }
    }
    let mut forged = generation.end.clone();
    forged.pages += 1;
    rig.send(&[record(&crate::record::Record::GenerationEnded(forged))]);
    rig.settle();
    for _ in 0..3 {
        rig.send(&generation.all());
        rig.settle();
    }
    rig.check("in spite of it");
    let mut forged = generation.end.clone();
    forged.generation += 1;
    rig.send(&[record(&crate::record::Record::GenerationEnded(forged))]);
    assert!(refused(&mut rig, Refusal::Unsigned) > 0);
}

#[test]
fn one_receiver_at_a_time_and_not_without_a_sender() {
    let rig = Rig::new();
    let (into, state) = (rig.scratch.sub("into"), rig.scratch.sub("state"));
    let second = Receiver::open(&into, &state, rig.options.clone());
    assert!(matches!(second, Err(ReceiveError::Busy)));
    let mut options = rig.options.clone();
    options.senders.clear();
    let none = Receiver::open(&into, &rig.scratch.sub("other"), options);
    assert!(matches!(none, Err(ReceiveError::NoSender)));
    let damaged = rig.scratch.sub("damaged");
    std::fs::write(rig.scratch.path().join("damaged/session"), b"haul-diode-recv1").unwrap();
    let damaged = Receiver::open(&into, &damaged, rig.options.clone());
    assert!(matches!(damaged, Err(ReceiveError::DamagedMemory)));
}
