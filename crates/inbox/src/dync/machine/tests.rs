use super::*;

const KEY: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];
const CHUNK: u64 = 100;

fn limits() -> Limits {
    Limits { chunk_bytes: 100, max_queue: 16, window: 8, credit: 24, ..Limits::default() }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn speaker<'a>(key: &'a [u8; 32], identity: &'a [u8]) -> Speaker<'a> {
    Speaker { upload: UploadId::of(key, identity), key, identity }
}

/// A machine with what it said.
struct Rig {
    machine: Machine,
    now: Duration,
}

impl Rig {
    fn new() -> Self {
        Self::with(limits())
    }

    fn with(limits: Limits) -> Self {
        Self { machine: Machine::new(limits), now: s(0) }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    /// What was said since, and nothing else may have been wished for.
    fn said(&mut self) -> Vec<ServerMessage> {
        let said = |output| match output {
            Output::Send { message, .. } => message,
            other => panic!("{other:?}"),
        };
        self.outputs().into_iter().map(said).collect()
    }

    fn post(&mut self, identity: &[u8]) -> (UploadId, u64) {
        let speaker = speaker(&KEY, identity);
        let round = self.machine.post_file(self.now, speaker).expect("it is asked for");
        (speaker.upload, round)
    }

    /// An upload that has its first credit.
    fn running(&mut self, identity: &[u8]) -> ((UploadId, u64), u32) {
        let of = self.post(identity);
        self.machine.taken_in(self.now, of);
        self.machine.opened(of, 0, None);
        match self.said().pop() {
            Some(ServerMessage::UploadApproved { credit, .. }) => (of, credit),
            other => panic!("{other:?}"),
        }
    }

    fn chunk(&mut self, identity: &[u8], number: u64) -> bool {
        let at = (number * CHUNK, CHUNK as usize);
        self.machine.post_chunk(self.now, speaker(&KEY, identity), at, None)
    }

    fn last(&mut self, identity: &[u8], seek: u64, len: usize) -> bool {
        let speaker = speaker(&KEY, identity);
        self.machine.post_chunk(self.now, speaker, (seek, len), Some([9; 32]))
    }

    fn query(&mut self, identity: &[u8]) -> Vec<ServerMessage> {
        self.machine.query(self.now, speaker(&KEY, identity));
        self.said()
    }

    fn wrote_all(&mut self, of: (UploadId, u64), chunks: u32, durable: u64) -> Vec<ServerMessage> {
        for _ in 0..chunks {
            self.machine.wrote(of, 1);
        }
        self.machine.synced(of, durable);
        self.said()
    }
}

fn approved(credit: u32) -> ServerMessage {
    ServerMessage::UploadApproved { credit, chunk_bytes: 100, max_queue: 16 }
}

fn report(seek: u64, credit: u32) -> ServerMessage {
    ServerMessage::StatusReport { seek, credit }
}

#[test]
fn a_file_goes_through_and_its_end_is_told_again() {
    let mut rig = Rig::new();
    let (of, credit) = rig.running(b"a");
    assert_eq!(credit, 8);
    for number in 0..8 {
        assert!(rig.chunk(b"a", number));
    }
    assert_eq!(rig.said(), [], "nothing until the disk has taken something");
    let more = rig.wrote_all(of, 8, 800);
    let given = |message: &ServerMessage| match message {
        ServerMessage::TransferCredit(amount) => *amount,
        other => panic!("{other:?}"),
    };
    assert_eq!(more.iter().map(given).sum::<u32>(), 8);
    assert!(more.len() <= 4, "credit comes in some messages, not one for each chunk: {more:?}");
    assert!(rig.last(b"a", 800, 30), "data in the last chunk are taken");
    assert_eq!(rig.outputs(), [Output::Finish(of.0, of.1, [9; 32])]);
    assert!(!rig.last(b"a", 800, 30), "the last chunk comes twice");
    assert_eq!(rig.query(b"a"), [ServerMessage::TransferCredit(0)]);
    rig.machine.finished(rig.now, of, "id1".into());
    let finished = ServerMessage::UploadFinished("id1".into());
    assert!(
        matches!(&rig.outputs()[..], [Output::Send { message, .. }, Output::Close(_)] if *message == finished)
    );
    assert_eq!(rig.machine.credit_used(), 0);
    // The answer is lost: it is given again, to queries and to repeated last chunks, and only to this key.
    assert_eq!(rig.query(b"a"), std::slice::from_ref(&finished));
    assert!(!rig.last(b"a", 800, 30));
    assert_eq!(rig.said(), std::slice::from_ref(&finished));
    rig.machine.query(rig.now, speaker(&OTHER, b"a"));
    assert!(matches!(rig.outputs()[..], [Output::Find(..)]), "another key has no such upload");
    rig.now = s(3600);
    rig.machine.tick(rig.now);
    rig.outputs();
    assert_eq!(rig.query(b"a"), [finished]);
    rig.now = s(3 * 3600);
    rig.machine.tick(rig.now);
    rig.outputs();
    rig.machine.query(rig.now, speaker(&KEY, b"a"));
    assert!(matches!(rig.outputs()[..], [Output::Find(..)]), "then the desk is asked");
}

#[test]
fn who_waits_is_told_so_and_never_sent_a_report() {
    let mut rig = Rig::new();
    let of = rig.post(b"a");
    rig.machine.tick(rig.now);
    assert_eq!(rig.said(), []);
    rig.machine.taken_in(rig.now, of);
    for round in 0..500 {
        rig.now += s(29);
        rig.machine.tick(rig.now);
        let said = rig.said();
        let expected: &[ServerMessage] = if round == 0 { &[approved(0)] } else { &[] };
        assert_eq!(said, expected);
        assert_eq!(rig.query(b"a"), [ServerMessage::TransferCredit(0)]);
    }
    rig.machine.opened(of, 0, None);
    assert_eq!(rig.said(), [ServerMessage::TransferCredit(8)]);
    // That was lost: the client has nothing yet, and would fall over a report.
    assert_eq!(rig.query(b"a"), [ServerMessage::TransferCredit(1)]);
    assert!(rig.chunk(b"a", 0));
}

#[test]
fn a_client_with_a_rate_has_a_seconds_worth_of_credit_at_once() {
    let mut rig = Rig::new();
    let of = rig.post(b"a");
    rig.machine.taken_in(rig.now, of);
    rig.machine.opened(of, 0, Some(250));
    assert_eq!(rig.said(), [approved(4)], "the chunks of a second, and one");
    assert!((0..4).all(|number| rig.chunk(b"a", number)));
    assert!(!rig.chunk(b"a", 4), "more than it may");
    // It is ahead, so it is told where to go on; then it has more as the rate allows.
    assert_eq!(rig.wrote_all(of, 1, 100), [report(400, 1)]);
    assert_eq!(rig.wrote_all(of, 1, 200), [ServerMessage::TransferCredit(1)]);
    assert!(rig.chunk(b"a", 4) && rig.chunk(b"a", 5));
    rig.machine.tick(rig.now);
    assert_eq!(rig.said(), []);
    // A chunk may take longer than a second.
    let slow = rig.post(b"b");
    rig.machine.opened(slow, 0, Some(1));
    assert_eq!(rig.said(), [approved(2)]);
}

#[test]
fn what_slow_clients_may_not_have_others_may() {
    let mut rig = Rig::with(Limits { window: 24, max_queue: 64, ..limits() });
    for slow in [b"a", b"b", b"c"] {
        let of = rig.post(slow);
        rig.machine.opened(of, 0, Some(1));
        assert_eq!(
            rig.said(),
            [ServerMessage::UploadApproved { credit: 2, chunk_bytes: 100, max_queue: 64 }]
        );
    }
    let of = rig.post(b"d");
    rig.machine.opened(of, 0, None);
    let fast = ServerMessage::UploadApproved { credit: 18, chunk_bytes: 100, max_queue: 64 };
    assert_eq!(rig.said(), [fast]);
}

#[test]
fn a_refusal_after_waiting_is_an_error_with_its_number() {
    let mut rig = Rig::new();
    let of = rig.post(b"a");
    rig.machine.failed(rig.now, of, Refusal::new(507, "full"));
    let error = ServerMessage::error(507, "full");
    assert!(
        matches!(&rig.outputs()[..], [Output::Send { message, .. }, Output::Close(_)] if *message == error)
    );
    assert_eq!(rig.query(b"a"), [error], "the error was lost");
    assert!(rig.machine.post_file(rig.now, speaker(&KEY, b"a")).is_some(), "it may try again");
}

#[test]
fn lost_chunks_are_asked_for_once() {
    let mut rig = Rig::new();
    let (of, _) = rig.running(b"a");
    assert!(rig.chunk(b"a", 0));
    // 1 is lost; 2 to 7 were on their way.
    let mut reports = Vec::new();
    for number in 2..8 {
        assert!(!rig.chunk(b"a", number));
        reports.extend(rig.said());
    }
    assert_eq!(reports, [report(100, 7)]);
    // The report is lost too: the query brings it again.
    assert_eq!(rig.query(b"a"), [report(100, 7)]);
    for number in 1..8 {
        assert!(rig.chunk(b"a", number));
    }
    // What was sent twice is passed over.
    assert!(!rig.chunk(b"a", 3));
    assert_eq!(rig.said(), []);
    // All is used up, the disk is slow: the client is told that the server is there.
    assert_eq!(rig.query(b"a"), [ServerMessage::TransferCredit(0)]);
    assert!(!rig.wrote_all(of, 8, 800).is_empty());
    assert!(rig.chunk(b"a", 8));
}

#[test]
fn the_client_never_has_to_keep_more_than_it_was_told() {
    let mut rig = Rig::new();
    let (of, credit) = rig.running(b"a");
    // The disk writes, and never syncs.
    let (mut left, mut sent) = (credit, 0);
    while left > 0 {
        assert!(rig.chunk(b"a", sent));
        (sent, left) = (sent + 1, left - 1);
        rig.machine.wrote(of, 1);
        for message in rig.said() {
            if let ServerMessage::TransferCredit(amount) = message {
                left += amount;
            }
        }
    }
    assert!(sent <= 12, "{sent} chunks are past what is durable");
    rig.machine.synced(of, sent * CHUNK);
    assert_eq!(rig.said(), [ServerMessage::TransferCredit(8)]);
}

#[test]
fn after_a_restart_the_durable_offset_is_told() {
    for (durable, first) in [(300, report(300, 8)), (0, ServerMessage::TransferCredit(1))] {
        let mut rig = Rig::new();
        rig.machine.query(rig.now, speaker(&KEY, b"a"));
        let [Output::Find(id, round)] = rig.outputs()[..] else { panic!("not looked for") };
        rig.machine.taken_in(rig.now, (id, round));
        assert_eq!(rig.query(b"a"), [ServerMessage::TransferCredit(0)]);
        rig.machine.opened((id, round), durable, None);
        assert_eq!(rig.said(), [first]);
        assert!(rig.chunk(b"a", durable / CHUNK));
    }
    // A client that sends has something to go back in, also to the beginning.
    let mut rig = Rig::new();
    assert!(!rig.chunk(b"a", 5));
    let [Output::Find(id, round)] = rig.outputs()[..] else { panic!("not looked for") };
    rig.machine.taken_in(rig.now, (id, round));
    rig.machine.opened((id, round), 0, None);
    assert_eq!(rig.said(), [report(0, 8)]);
    // What nobody knows is not there.
    rig.machine.query(rig.now, speaker(&KEY, b"b"));
    let [Output::Find(id, round)] = rig.outputs()[..] else { panic!("not looked for") };
    rig.machine.not_found(rig.now, (id, round));
    assert!(matches!(
        &rig.outputs()[..],
        [Output::Send { message: ServerMessage::Error { code: 404, .. }, .. }, Output::Close(_)]
    ));
}

#[test]
fn credit_is_shared_and_nobody_stands_still() {
    let mut rig = Rig::new();
    let credits: Vec<u32> = (0..6).map(|at| rig.running(&[at]).1).collect();
    assert!(credits.iter().all(|credit| *credit >= 1), "{credits:?}");
    assert!(rig.machine.credit_used() <= 24 + 6);
    assert_eq!(rig.machine.uploads(), 6);
}

#[test]
fn the_silent_give_their_credit_back_and_come_back() {
    let mut rig = Rig::new();
    let (of, _) = rig.running(b"a");
    assert!(rig.chunk(b"a", 0));
    rig.machine.wrote(of, 1);
    rig.said();
    rig.now += s(31);
    rig.machine.tick(rig.now);
    assert_eq!((rig.said(), rig.machine.credit_used()), (vec![], 1));
    // It was slow, no more: what it sends is taken as long as there is credit.
    for number in 1..8 {
        assert!(rig.chunk(b"a", number), "{number}");
    }
    rig.now += s(121);
    rig.machine.tick(rig.now);
    assert!(matches!(rig.outputs()[..], [Output::Close(_)]));
    assert_eq!((rig.machine.credit_used(), rig.machine.uploads()), (0, 0));
    // What comes of it later is of no use to anybody.
    rig.machine.wrote(of, 1);
    rig.machine.opened(of, 0, None);
    assert_eq!(rig.outputs(), []);
    assert!(!rig.chunk(b"a", 8));
    assert!(matches!(rig.outputs()[..], [Output::Find(..)]));
}

#[test]
fn who_sends_more_than_it_may_is_cut_off() {
    let mut rig = Rig::new();
    rig.running(b"a");
    let taken = (0..1000).filter(|number| rig.chunk(b"a", *number)).count();
    assert_eq!(taken, 8);
    let outputs = rig.outputs();
    let ends = outputs.iter().filter(|output| matches!(output, Output::Disconnect(..))).count();
    assert!(ends >= 1, "{outputs:?}");
    let said = outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    assert!(said < 10, "{said} messages");
}

#[test]
fn impossible_chunks_end_the_upload() {
    for (seek, len) in [(0, 101), (u64::MAX, 100), (0, usize::MAX)] {
        let mut rig = Rig::new();
        let (of, _) = rig.running(b"a");
        assert!(!rig.machine.post_chunk(rig.now, speaker(&KEY, b"a"), (seek, len), None));
        let outputs = rig.outputs();
        assert!(matches!(&outputs[..],
            [Output::Send { message: ServerMessage::Error { code: 413, .. }, .. }, Output::Abandon(id, _)] if *id == of.0));
    }
}

#[test]
fn empty_chunks_move_nothing() {
    let mut rig = Rig::new();
    let (of, _) = rig.running(b"a");
    let empty = |rig: &mut Rig| rig.machine.post_chunk(rig.now, speaker(&KEY, b"a"), (0, 0), None);
    assert!(!empty(&mut rig));
    assert!(rig.last(b"a", 0, 0), "an empty file");
    assert_eq!(rig.outputs(), [Output::Finish(of.0, of.1, [9; 32])]);
}

#[test]
fn the_client_gives_up_or_loses_its_key() {
    let mut rig = Rig::new();
    let (of, _) = rig.running(b"a");
    rig.machine.client_error(speaker(&OTHER, b"a"), 1, "not mine");
    assert_eq!(rig.outputs(), []);
    rig.machine.client_error(speaker(&KEY, b"a"), 7, "no");
    assert!(matches!(&rig.outputs()[..], [Output::Abandon(id, _)] if *id == of.0));
    rig.running(b"b");
    rig.machine.revoke(&OTHER);
    assert_eq!(rig.outputs(), []);
    rig.machine.revoke(&KEY);
    assert!(matches!(rig.outputs()[..], [Output::Close(_)]));
    assert_eq!(rig.machine.credit_used(), 0);
}

#[test]
fn uploads_are_counted() {
    let mut rig = Rig::with(Limits { uploads: 3, uploads_per_key: 2, ..limits() });
    rig.post(b"a");
    rig.post(b"b");
    assert_eq!(rig.machine.post_file(rig.now, speaker(&KEY, b"c")), None);
    assert!(matches!(rig.said()[..], [ServerMessage::Error { code: 429, .. }]));
    assert!(rig.machine.post_file(rig.now, speaker(&OTHER, b"c")).is_some());
    assert_eq!(rig.machine.post_file(rig.now, speaker(&[3; 32], b"c")), None);
}

/// A client as the old one is, a network that loses, a server that is restarted: whatever the seed, the file arrives,
/// and the client is never told to go back to what it does not keep.
#[test]
fn files_arrive_whatever_is_lost() {
    for seed in 0..3000 {
        simulation::run(seed);
    }
}

mod simulation;
