//! The engine with a line that a test reads: what goes out can be put together by who holds the key, and by nobody else.

use super::*;
use crate::block::{BLOCK, Coder};
use crate::frame::Header;
use crate::key::DiodeKey;
use crate::record::GenerationEnd;
use crate::rig::{Random, Scratch};
use crate::send::loader::Cutter;
use crate::send::rig::{Kept, Reader};
use crate::symbol::ObjectKind;

struct Bench {
    identity: Arc<Identity>,
    key: DiodeKey,
    line: Kept,
    outbox: Arc<Outbox>,
    control: Arc<Control>,
    _scratch: Scratch,
    engine: Engine<Kept>,
}

impl Bench {
    fn new(rate: u64, options: EngineOptions) -> Self {
        let (identity, key) = (Arc::new(Identity::generate().unwrap()), DiodeKey::generate());
        let scratch = Scratch::new();
        let epochs = Epochs::open(&scratch.dir(), 5).unwrap();
        let receivers = vec![key.public_key()];
        let speaker = Speaker { identity: identity.clone(), receivers, epochs };
        let (line, outbox) = (Kept::default(), Arc::new(Outbox::default()));
        let control = Arc::new(Control::new(rate));
        let engine =
            Engine::new(line.clone(), outbox.clone(), control.clone(), speaker, options).unwrap();
        Self { identity, key, line, outbox, control, _scratch: scratch, engine }
    }

    /// Runs the engine while `work` is done, and until what it left has gone out.
    fn run(&mut self, work: impl FnOnce(&Outbox) + Send) -> Vec<Vec<u8>> {
        let stop = AtomicBool::new(false);
        let (outbox, engine) = (self.outbox.clone(), &mut self.engine);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| engine.run(&stop));
            work(&outbox);
            while !outbox.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            running.join().unwrap().unwrap();
        });
        self.line.take()
    }

    fn read(&self, frames: &[Vec<u8>]) -> Reader<'_> {
        let mut reader = Reader::new(self.identity.public_key(), &self.key);
        reader.read(frames);
        reader
    }

    fn cutter(&self) -> Cutter {
        let (outbox, symbol) = (self.outbox.clone(), 1408);
        Cutter { outbox, symbol, repair: 0.15, coder: Coder::default() }
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(256) as u8).collect()
}

#[test]
fn objects_arrive_though_a_tenth_of_the_frames_is_lost() {
    let mut bench = Bench::new(200_000_000, EngineOptions::default());
    let objects: Vec<Vec<u8>> =
        [1, 1408, 5000, BLOCK, 3 * BLOCK + 7].map(|length| noise(length as u64, length)).into();
    let mut cutter = bench.cutter();
    let frames = bench.run(|_| {
        for (object, bytes) in objects.iter().enumerate() {
            let (kind, class) = (ObjectKind::Content, Class::New);
            cutter.object(object as u64 + 1, kind, bytes, class).unwrap();
        }
    });
    for seed in 0..20 {
        let mut random = Random(seed);
        // Small blocks have few repair symbols, so of theirs none is lost here.
        let kept = |frame: &&Vec<u8>| frame[4] & 0x0f == 0 || random.below(100) >= 3;
        let kept: Vec<Vec<u8>> = frames.iter().filter(kept).cloned().collect();
        let read = bench.read(&kept);
        let whole = |object: usize| -> Option<Vec<u8>> {
            let blocks = objects[object].len().div_ceil(BLOCK) as u32;
            let parts: Option<Vec<_>> =
                (0..blocks).map(|block| read.blocks.get(&(object as u64 + 1, block))).collect();
            Some(parts?.into_iter().flatten().copied().collect())
        };
        for (object, bytes) in objects.iter().enumerate().skip(3) {
            assert!(whole(object).as_ref() == Some(bytes), "seed {seed}, {object}");
        }
    }
    let read = bench.read(&frames);
    assert_eq!((read.blocks.len(), read.sessions.len()), (8, 1));
    assert!(frames.iter().all(|frame| frame.len() == 1472 || frame[4] & 0x0f == 0));
    let last = read.records.last().unwrap();
    assert!(last.contains("Stopping"), "{last}");
    assert!(read.records.iter().any(|record| record.contains("Heartbeat")));
}

#[test]
fn records_of_channels_go_three_times_and_before_files() {
    let mut bench = Bench::new(3_000_000, EngineOptions::default());
    let bytes = noise(1, 2 * BLOCK);
    let mut cutter = bench.cutter();
    let frames = bench.run(|outbox| {
        cutter.object(1, ObjectKind::Content, &bytes, Class::Bulk).unwrap();
        for number in 0..50_u64 {
            let mut record = Vec::new();
            let data =
                Record::ChannelData { channel: 1, connection: 2, offset: number, bytes: b"x" };
            data.encode(&mut record).unwrap();
            assert!(outbox.stream(&record, true));
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let read = bench.read(&frames);
    assert_eq!(read.blocks.len(), 2);
    for number in 0..50 {
        let offset = format!("offset: {number},");
        let times = read.records.iter().filter(|record| record.contains(&offset)).count();
        assert_eq!(times, 3, "{offset}");
    }
    let last_stream = read.classes.iter().rposition(|class| *class == Class::Stream).unwrap();
    let last_bulk = read.classes.iter().rposition(|class| *class == Class::Bulk).unwrap();
    assert!(last_stream < last_bulk, "{last_stream}, {last_bulk}");
}

#[test]
fn a_line_that_began_anew_is_told_the_session_at_once() {
    let mut bench = Bench::new(50_000_000, EngineOptions::default());
    let is_new = bench.line.is_new.clone();
    let bytes = noise(1, 8 * BLOCK);
    let mut cutter = bench.cutter();
    let frames = bench.run(|_| {
        cutter.object(1, ObjectKind::Content, &bytes, Class::New).unwrap();
        is_new.store(true, Ordering::Relaxed);
    });
    let read = bench.read(&frames);
    let told = |class: &&Class| **class == Class::Announcement;
    assert!(read.classes.iter().filter(told).count() >= 2 && read.sessions.len() == 1);
    // A second run has a later session.
    let (before, mut again) = (read.sessions[0], bench);
    again.engine.session = Session::begin(
        &mut again.engine.speaker.epochs,
        &EngineOptions::default(),
        again.engine.start.elapsed(),
    )
    .unwrap();
    again.engine.next_announcement = Duration::ZERO;
    let frames = again.run(|_| {});
    assert!(again.read(&frames).sessions[0] > before);
}

#[test]
fn the_end_of_a_generation_is_said_more_than_once() {
    let mut bench = Bench::new(50_000_000, EngineOptions::default());
    let end = crate::record::GenerationEnd::unsigned(7, 6).sign(&bench.identity, 5);
    let mut record = Vec::new();
    Record::GenerationEnded(end).encode(&mut record).unwrap();
    bench.control.generation_ended(7, record);
    let frames = bench.run(|_| {});
    let read = bench.read(&frames);
    let said = read.records.iter().filter(|record| record.contains("generation: 7, base: 6"));
    assert!(said.count() >= 3, "{:?}", read.records);
}

/// A receiver that was killed in a burst refuses the numbers that it had set aside. They pass though nothing is sent.
#[test]
fn packet_numbers_go_on_with_time() {
    let mut bench = Bench::new(30_000_000, EngineOptions::default());
    let frames = bench.run(|_| std::thread::sleep(Duration::from_millis(2200)));
    let number = |frame: &Vec<u8>| Header::read(frame.first_chunk().unwrap()).unwrap().number;
    let numbers: Vec<u64> = frames.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    // At 20,000 packets each second.
    let (last, count) = (numbers[numbers.len() - 1], numbers.len() as u64);
    assert!(last >= 20_000 && count < 1000, "{count} frames up to {last}");
    let beats = bench.read(&frames).records;
    let told: Vec<u64> = beats
        .iter()
        .filter_map(|record| record.split_once(" frames: ")?.1.split(',').next()?.parse().ok())
        .collect();
    assert!(told.iter().all(|told| *told <= count) && told.len() >= 2, "{told:?} of {count}");
}

/// What a receiver had set aside at a high rate is over soon, also when the rate is lowered before it is killed.
#[test]
fn packet_numbers_go_on_more_slowly_little_by_little() {
    let mut bench = Bench::new(30_000_000, EngineOptions::default());
    let session = &mut bench.engine.session;
    let mut went = Vec::new();
    for (second, per_s) in [(1, 40_000.0), (2, 1000.0), (3, 1000.0), (30, 1000.0), (31, 2000.0)] {
        let before = session.sealer.next_number();
        session.number_on(per_s, Duration::from_secs(second));
        went.push(session.sealer.next_number() - before);
    }
    assert_eq!(went, [40_000, 30_000, 22_500, 27_000, 2000]);
}

/// After a restart the ends of all generations wait to be said, and a few each second can be.
#[test]
fn the_end_that_was_asked_for_last_is_said_first() {
    let mut bench = Bench::new(30_000_000, EngineOptions::default());
    let end = |generation: u64| {
        let end = GenerationEnd::unsigned(generation, generation - 1).sign(&bench.identity, 5);
        let mut record = Vec::new();
        Record::GenerationEnded(end).encode(&mut record).unwrap();
        record
    };
    let ends: Vec<_> = (1..=500).map(end).collect();
    for (generation, end) in (1..).zip(&ends) {
        bench.control.generation_ended(generation, end.clone());
    }
    // Asked for again and again.
    for _ in 0..100 {
        bench.control.generation_ended(470, ends[469].clone());
    }
    let frames = bench.run(|_| std::thread::sleep(Duration::from_millis(300)));
    let records = bench.read(&frames).records;
    for generation in [470, 500] {
        let end = format!("GenerationEnded(GenerationEnd {{ generation: {generation},");
        assert!(records.iter().any(|record| record.starts_with(&end)), "{end}");
    }
}
