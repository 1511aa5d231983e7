//! Targets for the readers of `transfer`, and one that drives a whole target machine.

use std::collections::{HashMap, HashSet};

use files::{CHUNK, ChunkHash, Digest, RelPath, chunk_count, chunk_len};
use transfer::delta::{self, Basis, Op, Piece};
use transfer::message::{
    Go, MAX_MESSAGE, MAX_PATIENCE_SECONDS, MIN_WINDOW, Opening, Order, Outcome, ParcelHead,
    RefuseCode, Report, SourceMessage, TargetMessage,
};
use transfer::receipt::Receipt;
use transfer::target::{
    Failed, Filled, Found, Job, JobResult, Opened, Output, Taken, Target, TargetOptions,
};
use transfer::twins::Stamp;

/// The first words of a peer. What is read has one form only; Hello alone may be followed by more.
pub fn opening(data: &[u8]) {
    let Ok(message) = Opening::decode(data) else { return };
    let again = message.encode();
    if let Opening::Hello { .. } = message {
        assert!(data.starts_with(&again));
    } else {
        assert_eq!(again, data);
    }
}

/// Where somebody wants things sent.
pub fn go(data: &[u8]) {
    let Ok(go) = Go::decode(data) else { return };
    assert_eq!(go.encode(), data);
    assert!(go.target.port > 0 && go.patience_s <= MAX_PATIENCE_SECONDS);
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'@';
    assert!(go.target.host.bytes().all(plain), "a host that is none");
}

/// What a source tells of a copy to another machine.
pub fn report(data: &[u8]) {
    if let Ok(report) = Report::decode(data) {
        assert_eq!(report.encode(), data);
    }
}

/// What a source says.
pub fn source_message(data: &[u8]) {
    let Ok(message) = SourceMessage::decode(data) else { return };
    assert_eq!(message.encode(), data);
    if let SourceMessage::Offer(entries) = message {
        for entry in entries {
            assert!(entry.parent < entry.index, "an entry lies in one offered before");
            assert!(!entry.name.as_bytes().contains(&b'/'), "a name cannot climb");
        }
    }
}

/// What a target says.
pub fn target_message(data: &[u8]) {
    if let Ok(message) = TargetMessage::decode(data) {
        assert_eq!(message.encode(), data);
    }
}

/// The head of a parcel; the first four bytes are the length of its body.
pub fn parcel_head(data: &[u8]) {
    let Some((body, head)) = data.split_first_chunk::<4>() else { return };
    let body = u32::from_be_bytes(*body);
    let Ok(read) = ParcelHead::decode(head, body as usize) else { return };
    assert_eq!(read.encode(), head);
    if let ParcelHead::Bundle(items) = read {
        assert_eq!(items.iter().map(|item| item.len).sum::<u64>(), u64::from(body));
    }
}

/// A receipt, which anybody may have written.
pub fn receipt(data: &[u8]) {
    if let Ok(receipt) = Receipt::verify(data) {
        let again = receipt.json.to_string();
        let again = Receipt::verify(again.as_bytes()).expect("the layout is not signed");
        assert_eq!(again.statement, receipt.statement);
    }
}

/// Pieces of an older file that a target makes up, and a newer one: what the parts make is always the newer one, if
/// the older one is what its pieces say.
pub fn patches(data: &[u8]) {
    let Some((&[split, change], data)) = data.split_first_chunk::<2>() else { return };
    // Long enough for several pieces, whatever the input.
    let old: Vec<u8> = (0_usize..)
        .map(|at| data.get(at % data.len().max(1)).copied().unwrap_or(0) ^ (at >> 9) as u8)
        .take(120_000)
        .collect();
    let mut new = old.clone();
    let at = usize::from(split) * 400;
    new.splice(at..at, data.iter().copied());
    new[usize::from(change) * 300] ^= 1;
    let mut basis = Basis::new(13);
    for piece in delta::pieces(&old, 13, true) {
        basis.push(piece);
    }
    let size = new.len() as u64;
    for start in (0..size).step_by(50_000) {
        let part = start..size.min(start + 50_000);
        let span = basis.span(&part, size);
        let Some(ops) = basis.ops(&new[span.start as usize..span.end as usize], &part, size) else {
            continue;
        };
        let whole = &new[part.start as usize..part.end as usize];
        assert_eq!(ops.iter().map(Op::len).sum::<u64>(), part.end - part.start);
        let body = delta::literals(&ops, whole);
        let mut made = Vec::new();
        let read = |bytes: &mut [u8], at: u64| {
            bytes.copy_from_slice(&old[at as usize..at as usize + bytes.len()]);
            Ok::<_, std::convert::Infallible>(())
        };
        assert_eq!(delta::apply(&ops, &body, &mut made, read), Ok(true));
        assert_eq!(made, whole);
    }
}

/// A target machine under a hostile source. The input is a stream of steps: a message or a parcel of the
/// source, or a job that the disk has done, well or badly. Whatever comes, every job is asked for once,
/// every entry ends once and in a folder that is not finished, and nothing is published that lacks a
/// chunk.
pub fn target_machine(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> World {
    let mut input = Input(data);
    let order = Order { contents: true, ..Order::default() };
    let options = TargetOptions::of(&order, None, MIN_WINDOW);
    let options = TargetOptions { max_bytes: Some(MOST_BYTES), ..options };
    let mut world = World {
        target: Target::new(options, 6 << 20),
        jobs: Vec::new(),
        missing: HashMap::new(),
        stamps: Vec::new(),
        held: false,
        finished: HashSet::new(),
        ended: HashSet::new(),
        outcomes: 0,
        written: 0,
    };
    world.target.link_up(0).expect("a new transfer has seen nothing");
    while let Some(step) = input.u8() {
        world.drain();
        let taken = match step % 8 {
            0..=2 => world.message(&mut input),
            3 | 4 => world.parcel(&mut input),
            5 | 6 => {
                world.finish_job(usize::from(step / 8), step >= 0xe0);
                true
            }
            _ => {
                world.target.link_lost();
                world.target.link_up(world.outcomes).is_ok()
            }
        };
        if !taken {
            // The peer broke a rule: its link is closed, and what the disk does is still answered.
            break;
        }
    }
    world.target.link_lost();
    while !world.jobs.is_empty() {
        world.finish_job(0, false);
        world.drain();
    }
    world
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.u8().unwrap_or(0)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}

struct World {
    target: Target,
    jobs: Vec<Job>,
    /// The shell holds the body of an early parcel.
    held: bool,
    /// Chunks that an open file lacks.
    missing: HashMap<u64, HashSet<u64>>,
    /// Of files that were looked for.
    stamps: Vec<Stamp>,
    finished: HashSet<u64>,
    ended: HashSet<u64>,
    outcomes: u64,
    /// Bytes of content that the disk was asked to write.
    written: u64,
}

/// The most bytes of content that the source may have stored.
const MOST_BYTES: u64 = 64 << 20;

impl World {
    fn message(&mut self, input: &mut Input<'_>) -> bool {
        match SourceMessage::decode(input.bytes()) {
            Ok(message) => self.target.message(message).is_ok(),
            Err(_) => true,
        }
    }

    fn parcel(&mut self, input: &mut Input<'_>) -> bool {
        let body = u64::from(input.u8().unwrap_or(0));
        let Ok(head) = ParcelHead::decode(input.bytes(), body as usize) else { return true };
        match self.target.parcel(&head, body) {
            Ok(Taken::Do(job)) => {
                self.jobs.push(job);
                true
            }
            Ok(Taken::Hold) => {
                assert!(!std::mem::replace(&mut self.held, true), "one body is held at most");
                true
            }
            Ok(Taken::Drop) => true,
            Err(_) => false,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.target.poll_output() {
            match output {
                Output::DropHeld => assert!(std::mem::take(&mut self.held)),
                Output::DoHeld(job) => {
                    assert!(std::mem::take(&mut self.held));
                    self.jobs.push(job);
                }
                Output::Do(job) => {
                    assert!(self.jobs.len() < 10_000, "jobs are bounded by the window");
                    if let Job::FinishFolder { placed, .. } = &job {
                        let index = placed.as_ref().map_or(0, |placed| placed.entry.index);
                        assert!(self.finished.insert(index), "a folder is finished once");
                    }
                    self.jobs.push(job);
                }
                Output::Send(message) => {
                    assert!(message.encode().len() <= MAX_MESSAGE, "what is said fits a frame");
                }
                Output::Ended { entry, outcome, .. } => {
                    assert!(self.ended.insert(entry.index), "an entry ends once");
                    let failed = matches!(outcome, Outcome::Failed { .. });
                    let late = self.finished.contains(&entry.parent);
                    assert!(failed || !late, "nothing but failures ends in a finished folder");
                    assert!(!matches!(outcome, Outcome::Planned(_)), "this is no dry run");
                }
            }
        }
        assert!(self.target.stored() <= self.target.received());
    }

    fn finish_job(&mut self, which: usize, bad: bool) {
        if self.jobs.is_empty() {
            return;
        }
        let job = self.jobs.remove(which % self.jobs.len());
        if let Job::WriteSmall(list) = &job {
            self.written += list.iter().map(|(_, len, _)| len).sum::<u64>();
        }
        let result = self.result(job, bad);
        // A file whose digest is wrong is written once more, and of two chunks one may be short, which is
        // counted as a whole one.
        assert!(self.written <= 4 * (MOST_BYTES + CHUNK), "more is stored than may be");
        self.target.job_done(result);
    }

    fn result(&mut self, job: Job, bad: bool) -> JobResult {
        let digest = Digest::from_bytes([1; 32]);
        match job {
            Job::Examine(list) => JobResult::Examined(
                list.iter()
                    .map(|placed| {
                        let stamp = |size| Stamp { size, mtime: placed.entry.mtime };
                        let is_elsewhere = placed.entry.mode & 4 == 4;
                        let size = placed.entry.size().filter(|_| is_elsewhere);
                        self.stamps.extend(size.map(stamp));
                        let made = placed.entry.size().is_none();
                        let found = match (made, bad, placed.entry.mode % 3) {
                            (true, false, _) => Found::Made,
                            (false, false, 0) => Found::SameStamp,
                            (_, false, 1) => Found::Nothing,
                            (_, false, _) => Found::Different { same_size: true },
                            (_, true, _) => {
                                Found::Failed(or(true, ()).expect_err("this one is bad"))
                            }
                        };
                        (placed.entry.index, found)
                    })
                    .collect(),
            ),
            Job::HashExisting { placed, adopt } => JobResult::Hashed {
                index: placed.entry.index,
                result: or(bad, digest),
                adopted: adopt,
            },
            Job::Adopt(placed) => {
                JobResult::Adopted { index: placed.entry.index, result: or(bad, ()) }
            }
            Job::Open { placed, .. } => {
                let index = placed.entry.index;
                let count = chunk_count(placed.entry.size().unwrap_or(0));
                // A file of a petabyte would need as many numbers here as its map has on disk.
                let older = (index % 2 == 1).then_some(13);
                let opened = Opened { ranges: vec![(0, count)], older };
                let result = or(bad || count > 1000, opened);
                if result.is_ok() {
                    self.missing.insert(index, (0..count).collect());
                }
                JobResult::Opened { index, result }
            }
            Job::WriteSmall(list) => JobResult::Small(
                list.into_iter()
                    .map(|(placed, len, hash)| {
                        let digest = Digest::from_bytes(*ChunkHash::as_bytes(&hash));
                        assert_eq!(placed.entry.size(), Some(len), "what was offered is written");
                        (placed.entry.index, len, or(bad, digest))
                    })
                    .collect(),
            ),
            job @ (Job::ListTwins { .. }
            | Job::HashTwin { .. }
            | Job::Fill { .. }
            | Job::ForgetTwin { .. }) => self.twin_result(job, bad),
            Job::WriteChunk { index, chunk, len, .. } => {
                self.write(index, chunk, 1);
                JobResult::Chunks { index, first: chunk, count: 1, len, result: or(bad, ()) }
            }
            Job::Sign { index, from, link } => {
                let next = (bad && from < 3).then_some(from + 1);
                JobResult::Signed { index, link, pieces: vec![Piece { len: 9, mark: from }], next }
            }
            Job::Patch { index, chunk, len, .. } if bad => {
                JobResult::Unpatched { index, chunk, len }
            }
            Job::Patch { index, chunk, len, .. } => {
                self.write(index, chunk, 1);
                JobResult::Chunks { index, first: chunk, count: 1, len, result: Ok(()) }
            }
            Job::WriteZeros { index, first, count, len } => {
                self.write(index, first, count);
                JobResult::Chunks { index, first, count, len, result: or(bad, ()) }
            }
            Job::Publish { placed, digest } => {
                let index = placed.entry.index;
                let lacks = self.missing.get(&index).expect("only an open file is published");
                assert!(lacks.is_empty(), "a file is published that lacks chunks");
                let size = placed.entry.size().unwrap_or(0);
                assert!(chunk_len(size, 0).is_some(), "small files are published as they come");
                JobResult::Published { index, result: or(bad, Some(digest)) }
            }
            Job::Link { placed, .. } => {
                JobResult::Linked { index: placed.entry.index, result: or(bad, ()) }
            }
            Job::FinishFolder { placed, .. } => {
                let index = placed.map(|placed| placed.entry.index);
                JobResult::FolderFinished { index, result: or(bad, ()) }
            }
            Job::Finish { .. } => JobResult::Finished(Ok(b"{}".to_vec())),
            Job::Discard { .. } => JobResult::Discarded,
        }
    }

    fn twin_result(&mut self, job: Job, bad: bool) -> JobResult {
        match job {
            // Some of what was offered so far lies elsewhere as well.
            Job::ListTwins { most } => {
                let path = RelPath::parse(b"else/where").expect("it is a path");
                let found = self.stamps.drain(..).map(|stamp| (stamp, path.clone())).collect();
                JobResult::TwinsListed { looked: most, found, is_all: bad }
            }
            Job::HashTwin { placed, from } => {
                let digest = (!bad).then_some(Digest::from_bytes([1; 32]));
                JobResult::TwinHashed { index: placed.entry.index, from, digest }
            }
            Job::Fill { placed, .. } => {
                let index = placed.entry.index;
                let lacks = self.missing.get_mut(&index).filter(|lacks| !lacks.is_empty());
                let filled = match lacks {
                    Some(lacks) if bad => Filled::Lacks(vec![(0, lacks.len() as u64)]),
                    Some(lacks) => {
                        lacks.clear();
                        Filled::Partly
                    }
                    None if placed.entry.size().unwrap_or(0) > CHUNK => Filled::Whole,
                    None if bad => Filled::Lacks(Vec::new()),
                    None => Filled::Published,
                };
                JobResult::Filled { index, result: or(bad && index % 2 == 1, filled) }
            }
            _ => JobResult::Discarded,
        }
    }

    fn write(&mut self, index: u64, first: u64, count: u64) {
        // Of a file that was given up, nothing may be open any more.
        let Some(missing) = self.missing.get_mut(&index) else { return };
        self.written += count * CHUNK;
        for chunk in first..first + count {
            assert!(missing.remove(&chunk), "a chunk is written that was not missing");
        }
    }
}

fn or<T>(bad: bool, good: T) -> Result<T, Failed> {
    match bad {
        true => Err(Failed { code: RefuseCode::Disk, text: "bad".to_owned() }),
        false => Ok(good),
    }
}

#[cfg(test)]
mod tests;
