//! Sessions that are neither encrypted nor authenticated.

use super::*;

/// What a sender sends, and whether a receiver took it.
fn carry(world: &World, is_plain: bool, takes_plain: bool) -> (Vec<Vec<u8>>, ReceiveStatus) {
    let sender = world.sender(|options| options.engine.insecure_plain = is_plain);
    assert_eq!(sender.control().status().is_plain, is_plain);
    let (out, taken) = sync_channel(100_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    sender.run(wire, &AtomicBool::new(false)).unwrap();
    let frames: Vec<Vec<u8>> = taken.try_iter().collect();
    let mut receiver = world.receiver_with(|options| options.insecure_plain = takes_plain);
    for frame in &frames {
        receiver.datagrams([&mut frame.clone()[..]], Instant::now());
    }
    receiver.flush().unwrap();
    receiver.tick(Instant::now() + 20_000 * MS, SystemTime::now());
    let status = receiver.status().read();
    receiver.close().unwrap();
    (frames, status)
}

#[test]
fn a_plain_session_is_taken_only_where_that_was_asked_for() {
    let (world, mut random) = (World::new(), Random(1));
    grow(&world, &mut random, 10);
    let secret = b"a text that can be found again";
    std::fs::write(world.tree().join("secret"), secret).unwrap();
    let is_there = |frames: &[Vec<u8>]| {
        frames.iter().any(|frame| frame.windows(secret.len()).any(|bytes| bytes == secret))
    };
    let count = |status: &ReceiveStatus| status.link.refused[Refusal::Plain as usize];
    let (frames, status) = carry(&world, true, false);
    assert!(is_there(&frames) && count(&status) > 0, "{status:#?}");
    assert!(status.link.frames == 0 && status.link.session.is_none() && !status.link.is_plain);
    assert!(portrait(&world.copy()).is_empty());
    let events = || world.events.lock().unwrap().clone();
    let refused =
        |event: &DiodeEvent| matches!(event, DiodeEvent::Refused { why: Refusal::Plain, .. });
    assert!(events().iter().any(refused), "{:?}", events());
    // Whoever asked for it takes it, and says so; and what is sealed besides.
    std::fs::remove_dir_all(world.scratch.path().join("sent")).unwrap();
    let (_, status) = carry(&world, true, true);
    assert!(status.link.is_plain && count(&status) == 0 && status.tree.wanted == 0, "{status:#?}");
    world.check();
    assert!(events().iter().any(|event| matches!(event, DiodeEvent::PlainSession { .. })));
    std::fs::write(world.tree().join("later"), secret).unwrap();
    let (frames, status) = carry(&world, false, true);
    assert!(!is_there(&frames) && !status.link.is_plain);
    world.check();
}

/// A sealed session cannot be made a plain one by who has no key of the sender.
#[test]
fn nobody_else_can_say_that_a_session_is_plain() {
    let (world, mut random) = (World::new(), Random(2));
    grow(&world, &mut random, 10);
    let sender = world.sender(|_| {});
    let (out, taken) = sync_channel(100_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    sender.run(wire, &AtomicBool::new(false)).unwrap();
    let mut receiver = world.receiver_with(|options| options.insecure_plain = true);
    for mut frame in taken.try_iter() {
        // The announcement's version, behind the header.
        if frame[4] & 0xf == Class::Announcement as u8 {
            assert_eq!(frame[HEADER], 1);
            frame[HEADER] = 2;
        }
        receiver.datagrams([&mut frame[..]], Instant::now());
    }
    receiver.flush().unwrap();
    assert_eq!(receiver.status().read().link.frames, 0);
    receiver.close().unwrap();
    assert!(portrait(&world.copy()).is_empty());
}
