//! Both ends of a rehearsal: over a link that loses, and from what was kept of a sender, in a time of the test's own.

use super::*;

/// A machine before the diode and one behind it, which trust each other.
struct Ends {
    scratch: Scratch,
    low: Arc<Identity>,
    line: TrustLine,
}

impl Ends {
    fn new() -> Self {
        let (scratch, low) = (Scratch::new(), Arc::new(Identity::generate().unwrap()));
        let receives = DiodeKey::generate().public_key();
        let line =
            TrustLine { identity: low.public_key(), receives, epoch: 1, name: "low".to_owned() };
        Self { scratch, low, line }
    }

    fn options(&self, rates: &[u64], each: Duration) -> RehearseOptions {
        RehearseOptions {
            identity: self.low.clone(),
            receivers: vec![receiver_key(&self.scratch.sub("high")).unwrap()],
            rates: rates.to_vec(),
            each,
            on_step: Arc::new(|_| {}),
        }
    }

    fn send(&self, state: &str, line: impl Line, options: RehearseOptions) {
        let state = self.scratch.sub(state);
        let epochs = Epochs::open(&state, 5).unwrap();
        rehearse(line, &state, epochs, options, &Arc::default()).unwrap();
    }

    fn receiver(&self, state: &str) -> Result<RehearsalReceiver, ReceiveError> {
        let state = self.scratch.sub(state);
        RehearsalReceiver::open(&state, std::slice::from_ref(&self.line), Instant::now())
    }
}

#[test]
fn a_link_is_judged_by_what_came_through_it() {
    let ends = Ends::new();
    let (out, arrived) = sync_channel::<Vec<u8>>(1 << 16);
    let link = Link { seed: 3, lost: 2000, doubled: 1000, late: 1000, ..Link::default() };
    let wire = Wire { link, random: Random(3), count: 0, late: VecDeque::new(), out };
    let rates = [2_000_000, 6_000_000];
    let options = ends.options(&rates, 700 * MS);
    let mut receiver = ends.receiver("high").unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| ends.send("low", wire, options));
        while !receiver.is_over() {
            let now = Instant::now();
            assert!(now - began < Duration::from_secs(120), "it does not end");
            match arrived.recv_timeout(20 * MS) {
                Ok(mut frame) => receiver.datagrams([&mut frame[..]], now),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(20 * MS),
            }
            receiver.tick(now, 0, 0);
        }
        // Nobody waits for a receiver that has gone.
        while arrived.recv().is_ok() {}
    });
    assert!(receiver.is_whole());
    let reports = receiver.reports();
    let asked: Vec<u64> = reports.iter().map(|report| report.rate).collect();
    assert_eq!(asked, rates);
    for report in &reports {
        // However late the sender's thread was, it says how many it has sent.
        let share = report.lost as f64 / report.sent as f64;
        assert!(report.is_whole && report.sent > 100, "{report:?}");
        assert!((0.001..0.08).contains(&share), "{share}");
        assert!(report.doubled > 0 && report.late > 0 && report.latest <= 70, "{report:?}");
    }
    receiver.close().unwrap();
}

/// Frames of two rehearsals of one sender, the second of which has the later epoch.
fn kept(ends: &Ends) -> [Vec<Vec<u8>>; 2] {
    let run = |state: &str, rates: &[u64]| {
        let (out, arrived) = sync_channel(1 << 20);
        let random = Random(1);
        let wire = Wire { link: Link::default(), random, count: 0, late: VecDeque::new(), out };
        ends.send(state, wire, ends.options(rates, 200 * MS));
        arrived.try_iter().collect()
    };
    // The folder is there, so that both find the same key.
    ends.options(&[], MS);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| run("first", &[1_000_000]));
        // Epochs are milliseconds.
        std::thread::sleep(100 * MS);
        let second = run("second", &[1_000_000, 2_000_000]);
        [first.join().unwrap(), second]
    })
}

fn give(receiver: &mut RehearsalReceiver, frames: &[Vec<u8>], now: &mut Instant) {
    for frame in frames {
        receiver.datagrams([&mut frame.clone()[..]], *now);
        *now += MS;
        receiver.tick(*now, 0, 0);
    }
}

/// Which frame is the first of a step, as a receiver with a memory of its own hears it.
fn begin_of(ends: &Ends, state: &str, frames: &[Vec<u8>], step: u16) -> usize {
    let (mut receiver, mut now) = (ends.receiver(state).unwrap(), Instant::now());
    let mut begins = |frame: &Vec<u8>| {
        give(&mut receiver, std::slice::from_ref(frame), &mut now);
        steps(&receiver.heard()).contains(&(step, false))
    };
    frames.iter().position(&mut begins).unwrap()
}

fn steps(heard: &[HeardRehearsal]) -> Vec<(u16, bool)> {
    let step = |heard: &HeardRehearsal| match heard {
        HeardRehearsal::Step(step) => Some((step.step, step.end != 0)),
        _ => None,
    };
    heard.iter().filter_map(step).collect()
}

#[test]
fn what_was_kept_of_a_sender_is_taken_once_and_by_one_at_a_time() {
    let ends = Ends::new();
    let [first, second] = kept(&ends);
    let path = |state: &str| ends.scratch.path().join(state);
    // Others begin with the same key.
    for state in ["one", "two", "stream", "killed", "silent"] {
        ends.scratch.sub(state);
        std::fs::copy(path("high/session"), path(state).join("session")).unwrap();
    }
    let mut now = Instant::now();

    // As datagrams, and no receiver runs beside it.
    let mut receiver = ends.receiver("high").unwrap();
    assert!(matches!(ends.receiver("high"), Err(ReceiveError::Busy)));
    let (into, state) = (ends.scratch.sub("into"), ends.scratch.sub("high"));
    let usual = || ReceiveOptions::new(vec![ends.line.clone()], ends.low.clone());
    assert!(matches!(Receiver::open(&into, &state, usual()), Err(ReceiveError::Busy)));
    give(&mut receiver, &first, &mut now);
    assert_eq!(steps(&receiver.heard()), [(1, false), (1, true)]);
    assert!(receiver.is_whole() && !receiver.is_over(), "it waits for what is late");
    now += Duration::from_secs(2);
    receiver.tick(now, 0, 0);
    assert!(receiver.is_over());
    let report = &receiver.reports()[0];
    assert_eq!((report.lost, report.doubled, report.packet, report.is_whole), (0, 0, 1500, true));
    receiver.close().unwrap();

    // What was accepted never is again, by another rehearsal or by who receives files.
    let mut again = ends.receiver("high").unwrap();
    assert!(matches!(Receiver::open(&into, &state, usual()), Err(ReceiveError::Busy)));
    give(&mut again, &first, &mut now);
    assert!(again.reports().is_empty() && !again.is_over());
    let refused = again.refused();
    // Its announcements open the session, and no frame of it is one that was not there before.
    assert!(refused[Refusal::Replayed as usize] as usize >= first.len() / 2, "{refused:?}");
    give(&mut again, &second, &mut now);
    assert!(again.is_whole());
    again.close().unwrap();
    let mut receiver = Receiver::open(&into, &state, usual()).unwrap();
    for frame in &first {
        receiver.datagrams([&mut frame.clone()[..]], now);
    }
    receiver.tick(now, SystemTime::now());
    let link = receiver.status().read().link;
    assert_eq!((link.frames, link.session), (0, None), "{link:?}");
    assert!(link.refused[Refusal::OldSession as usize] > 0);
    receiver.close().unwrap();

    // As bytes of a stream, of which a span is missing.
    let mut receiver = ends.receiver("stream").unwrap();
    let from = begin_of(&ends, "two", &second, 2) + 3;
    let before = second[..from].concat();
    let bytes = second.concat();
    let at = before.len() + 700;
    for piece in [&bytes[..at], &bytes[at + 10 * 1472..]] {
        for piece in piece.chunks(10_007) {
            receiver.stream(piece, false, now);
        }
    }
    assert_eq!(steps(&receiver.heard()).len(), 4);
    let lost: Vec<u64> = receiver.reports().iter().map(|report| report.lost).collect();
    assert_eq!(lost, [0, 11]);
    receiver.close().unwrap();

    // A sender that was killed in the middle of a step and begins anew.
    let mut receiver = ends.receiver("killed").unwrap();
    let in_step = begin_of(&ends, "one", &first, 1) + 5;
    give(&mut receiver, &first[..in_step], &mut now);
    assert!(receiver.reports().len() == 1 && !receiver.is_whole());
    give(&mut receiver, &second, &mut now);
    let heard = receiver.heard();
    assert!(heard.contains(&HeardRehearsal::Anew) && receiver.is_whole());
    assert_eq!(receiver.reports().len(), 2);
    assert!(receiver.reports().iter().all(|report| report.lost == 0 && report.is_whole));
    receiver.close().unwrap();

    // And one that does not come back.
    let mut receiver = ends.receiver("silent").unwrap();
    give(&mut receiver, &first[..in_step], &mut now);
    receiver.tick(now + Duration::from_secs(9), 0, 0);
    assert!(!receiver.is_over());
    receiver.tick(now + Duration::from_secs(11), 0, 0);
    assert!(receiver.is_over() && !receiver.is_whole());
    assert!(receiver.reports()[0].sent > 0);
}

#[test]
fn no_sender_runs_beside_a_rehearsal() {
    let ends = Ends::new();
    let (out, _arrived) = sync_channel(1);
    let wire =
        Wire { link: Link::default(), random: Random(1), count: 0, late: VecDeque::new(), out };
    let state = ends.scratch.sub("low");
    let epochs = || Epochs::open(&state, 5).unwrap();
    let key = receiver_key(&ends.scratch.sub("high")).unwrap();
    let options = SendOptions::new(ends.low.clone(), vec![key]);
    let _sender = Sender::open(None, &state, epochs(), 1000, options).unwrap();
    let begun = std::fs::read(ends.scratch.path().join("low/epoch")).unwrap();
    let refused = rehearse(wire, &state, epochs(), ends.options(&[1000], MS), &Arc::default());
    assert!(matches!(refused, Err(SendError::Ledger(_))), "{refused:?}");
    // And no epoch is used up by it.
    assert_eq!(std::fs::read(ends.scratch.path().join("low/epoch")).unwrap(), begun);
}
