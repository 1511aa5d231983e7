//! Sessions and numbers that nobody may follow, and what others with the keys may do. Packets of those without them are
//! in `packets`.

use super::rig::*;
use crate::event::Refusal;
use crate::frame::Class;
use crate::receive::{ReceiveError, Receiver};
use crate::symbol::{ObjectKind, SymbolHead};

fn refused(rig: &mut Rig, why: Refusal) -> u64 {
    rig.settle();
    rig.receiver.as_ref().unwrap().status().read().link.refused[why as usize]
}

fn tree() -> Model {
    model(&[("a", file(&noise(1, 50_000), 1)), ("b", file(b"b", 2))])
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
