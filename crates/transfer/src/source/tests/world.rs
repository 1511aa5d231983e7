//! The two disks of a simulated transfer: the tree that is copied, with files that change while they are
//! read, and a target on which everything can be found, fail or be staged in part. Content is a version
//! number, from which sizes, times and hashes follow.

use std::collections::{HashMap, HashSet};

use files::{
    Attributes, CHUNK, ChunkHash, Digest, Kind, Name, RelPath, Timestamp, chunk_count, chunk_len,
    file_digest,
};

use super::super::{Failure, Found, Job, JobResult, Place, ReadItem, Walked};
use super::pair::Plan;
use crate::delta::{Op, Piece};
use crate::message::{BundleItem, EntryKind, ParcelHead, RefuseCode, Xattr, ZERO_COST};
use crate::target::{self, Filled};
use crate::twins::Stamp;

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The hash of a chunk of a version. Every seventh chunk is zeros, whatever the version.
fn hash_of(version: u64, size: u64, chunk: u64) -> ChunkHash {
    if size > CHUNK && chunk % 7 == 3 {
        return ChunkHash::from_bytes([0; 32]);
    }
    let digest = Digest::of(format!("{version} {size} {chunk}").as_bytes());
    ChunkHash::from_bytes(*digest.as_bytes())
}

fn digest_of(version: u64, size: u64) -> Digest {
    if size <= CHUNK {
        return Digest::from_bytes(*hash_of(version, size, 0).as_bytes());
    }
    let hashes: Vec<_> =
        (0..chunk_count(size)).map(|chunk| hash_of(version, size, chunk)).collect();
    file_digest(size, &hashes).unwrap()
}

/// The tree that is copied.
pub struct SourceDisk {
    /// By inode: how it looks now; the version is in its change time.
    inodes: HashMap<u64, Attributes>,
    steps: Vec<Walked>,
    trouble: u64,
    /// The walk met something that is not copied.
    pub has_problems: bool,
}

impl SourceDisk {
    pub fn grow(rng: &mut Rng, plan: &Plan) -> Self {
        let mut disk = Self {
            inodes: HashMap::new(),
            steps: Vec::new(),
            trouble: plan.trouble,
            has_problems: false,
        };
        let mut top = RelPath::root();
        for number in 0..plan.chain {
            top = top.join(&Name::new(format!("a folder, number {number}")).unwrap()).unwrap();
            let found = disk.found(rng, plan, &top, Kind::Directory);
            disk.steps.push(Walked::Enter(found));
        }
        let mut room = plan.entries;
        if plan.contents && plan.chain == 0 {
            disk.steps.push(Walked::EnterContents);
            disk.fill(rng, plan, &top, &mut room, 0);
            disk.steps.push(Walked::Leave { complete: !rng.percent(plan.trouble) });
        } else {
            disk.fill(rng, plan, &top, &mut room, 0);
        }
        (0..plan.chain).for_each(|_| disk.steps.push(Walked::Leave { complete: true }));
        disk.steps.push(Walked::Finished);
        disk.steps.reverse();
        disk
    }

    fn fill(&mut self, rng: &mut Rng, plan: &Plan, at: &RelPath, room: &mut u64, depth: u64) {
        let mut number = 0;
        while *room > 0 {
            *room -= 1;
            number += 1;
            let long = if plan.dear { "n".repeat(rng.below(200) as usize) } else { String::new() };
            let path = at.join(&Name::new(format!("{number}{long}")).unwrap()).unwrap();
            let kind = rng.below(100);
            if kind < 15 && depth < 6 {
                let found = self.found(rng, plan, &path, Kind::Directory);
                self.steps.push(Walked::Enter(found));
                self.fill(rng, plan, &path, room, depth + 1);
                self.steps.push(Walked::Leave { complete: !rng.percent(plan.trouble) });
            } else if kind < 25 && depth > 0 {
                return;
            } else if kind < 28 {
                self.has_problems = true;
                self.steps.push(Walked::Problem { path: "p".into(), reason: "r".into() });
            } else {
                let symlink = kind < if plan.dear { 60 } else { 35 };
                let kind = if symlink { Kind::Symlink } else { Kind::File };
                let found = self.found(rng, plan, &path, kind);
                self.steps.push(Walked::Leaf(found));
            }
        }
    }

    fn found(&mut self, rng: &mut Rng, plan: &Plan, path: &RelPath, kind: Kind) -> Found {
        let known = self.inodes.len() as u64;
        // Some names are further names of a file that was found before.
        let linked = (kind == Kind::File && known > 0 && rng.percent(15))
            .then(|| self.inodes[&(1 + rng.below(known))])
            .filter(|attributes| attributes.links > 1);
        let attributes = linked.unwrap_or_else(|| {
            let size = match rng.below(10) {
                _ if kind != Kind::File => 0,
                0 => 0,
                1 => CHUNK,
                2 => CHUNK + 1 + rng.below(5 * CHUNK),
                3 => 3 * CHUNK,
                _ => rng.below(50_000),
            };
            let links = if kind == Kind::File { 1 + rng.below(2) } else { 1 };
            let (inode, mode) = (known + 1, rng.below(0o10000) as u32);
            let (mtime, ctime) = (Timestamp::default(), Timestamp::default());
            Attributes {
                kind,
                size,
                mode,
                mtime,
                ctime,
                uid: 0,
                gid: 0,
                links,
                device: 1,
                inode,
                blocks: 0,
            }
        });
        if kind == Kind::File {
            self.inodes.insert(attributes.inode, attributes);
        }
        let long = if plan.dear { 4000 } else { 20 };
        let target = (kind == Kind::Symlink).then(|| vec![b't'; 1 + rng.below(long) as usize]);
        let dear = plan.dear && rng.percent(10);
        let value = vec![1; rng.below(30_000) as usize];
        let xattrs = dear.then(|| Xattr { name: b"user.x".to_vec(), value }).into_iter().collect();
        Found {
            place: Place { source: 0, path: path.clone() },
            name: path.file_name().unwrap(),
            attributes,
            link_target: target,
            owner: None,
            xattrs,
        }
    }

    pub fn step(&mut self) -> Option<Walked> {
        self.steps.pop()
    }

    fn now(&mut self, rng: &mut Rng, item: &ReadItem) -> Attributes {
        let now = self.inodes.get_mut(&item.attributes.inode).unwrap();
        if rng.percent(self.trouble) {
            now.ctime.seconds += 1;
            now.mtime.seconds += 1;
            // A file may grow out of its one chunk, or into it.
            now.size = if rng.percent(30) { rng.below(3 * CHUNK) } else { now.size };
        }
        *now
    }

    fn look(&mut self, rng: &mut Rng, item: &ReadItem) -> Result<Attributes, Failure> {
        if rng.percent(self.trouble / 3) {
            return Err(Failure { reason: "unreadable".into(), changed_to: None });
        }
        let now = self.now(rng, item);
        match now.unchanged_since(&item.attributes) {
            true => Ok(now),
            false => Err(Failure { reason: "changed".into(), changed_to: Some(now) }),
        }
    }

    /// How a file looks that changed before, and why it cannot be looked at now and then.
    pub fn glance(&mut self, rng: &mut Rng, item: &ReadItem) -> Result<Attributes, String> {
        if rng.percent(self.trouble / 3) {
            return Err("unreadable".into());
        }
        Ok(self.now(rng, item))
    }

    /// Does a reading job: its result, and the parcel that goes with it.
    pub fn read(&mut self, rng: &mut Rng, job: Job) -> (JobResult, Option<(ParcelHead, u64)>) {
        match job {
            Job::Bundle { items, epoch } => self.bundle(rng, &items, epoch),
            Job::Early { read, epoch } => {
                let (result, parcel) = match read.attributes.size <= CHUNK {
                    true => self.bundle(rng, &[read], epoch),
                    false => self
                        .read(rng, Job::Chunk { read, chunk: 0, send: true, older: None, epoch }),
                };
                let early = |(head, body)| match head {
                    ParcelHead::Bundle(items) => {
                        let (index, hash) = (items[0].index, items[0].hash);
                        (ParcelHead::Early { index, hash }, body)
                    }
                    ParcelHead::Chunk { index, hash, .. } => {
                        (ParcelHead::Early { index, hash }, body)
                    }
                    other => (other, body),
                };
                (result, parcel.map(early))
            }
            Job::Chunk { read, chunk, send, older, epoch } => {
                let len = chunk_len(read.attributes.size, chunk).unwrap() as u64;
                // A file is looked at when it is opened, so any of its chunks may be the one that fails.
                if rng.percent(5)
                    && let Err(failure) = self.look(rng, &read)
                {
                    let unsent = if send { len } else { 0 };
                    return (failed(&read, failure, unsent, epoch), None);
                }
                let (index, now) = (read.index, self.now(rng, &read));
                let hash = hash_of(now.ctime.seconds as u64, read.attributes.size, chunk);
                let parcel = match *hash.as_bytes() == [0; 32] && len >= ZERO_COST {
                    true => (ParcelHead::Zeros { index, first: chunk, count: 1 }, 0),
                    false if older.is_some() && rng.percent(70) => {
                        let known = 1 + rng.below(len);
                        let mut ops = vec![Op::Copy { offset: rng.below(9), len: known }];
                        ops.extend((known < len).then_some(Op::Literal { len: len - known }));
                        (ParcelHead::Patch { index, chunk, hash, ops }, len - known)
                    }
                    false => (ParcelHead::Chunk { index, chunk, hash }, len),
                };
                let unsent = if send { len - parcel.0.cost(parcel.1) } else { 0 };
                (JobResult::Chunk { index, chunk, hash, unsent, epoch }, send.then_some(parcel))
            }
            Job::Close { read, epoch } => match self.look(rng, &read) {
                Ok(_) => (JobResult::Closed { index: read.index, epoch }, None),
                Err(failure) => (failed(&read, failure, 0, epoch), None),
            },
            Job::Compare { read, have, epoch } => match self.look(rng, &read) {
                Ok(now) => {
                    let digest = digest_of(now.ctime.seconds as u64, now.size);
                    let (index, same) = (read.index, Some(digest) == have);
                    (JobResult::Compared { index, same, digest, epoch }, None)
                }
                Err(failure) => (failed(&read, failure, 0, epoch), None),
            },
        }
    }

    fn bundle(
        &mut self,
        rng: &mut Rng,
        items: &[ReadItem],
        epoch: u64,
    ) -> (JobResult, Option<(ParcelHead, u64)>) {
        let (mut read, mut failed, mut heads, mut body) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let wanted: u64 = items.iter().map(|item| item.attributes.size).sum();
        for item in items {
            match self.look(rng, item) {
                Ok(now) => {
                    let hash = hash_of(now.ctime.seconds as u64, now.size, 0);
                    read.push((item.index, hash, now.size));
                    heads.push(BundleItem { index: item.index, len: now.size, hash });
                    body += now.size;
                }
                Err(failure) => failed.push((item.index, failure)),
            }
        }
        let parcel = (!heads.is_empty()).then_some((ParcelHead::Bundle(heads), body));
        (JobResult::Bundle { read, failed, unsent: wanted - body, epoch }, parcel)
    }
}

fn failed(read: &ReadItem, failure: Failure, unsent: u64, epoch: u64) -> JobResult {
    JobResult::Failed { index: read.index, failure, unsent, epoch }
}

/// As first and count.
fn ranges(chunks: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for chunk in chunks {
        match ranges.last_mut() {
            Some((first, count)) if *first + *count == *chunk => *count += 1,
            _ => ranges.push((*chunk, 1)),
        }
    }
    ranges
}

/// The disk that is copied to. It keeps staged chunks and nothing else.
pub struct TargetDisk {
    staged: HashMap<u64, HashMap<u64, ChunkHash>>,
    /// Folders that are being finished: nothing may end in them any more.
    pub finishing: HashSet<u64>,
    trouble: u64,
}

impl TargetDisk {
    pub fn new(plan: &Plan) -> Self {
        Self { staged: HashMap::new(), finishing: HashSet::new(), trouble: plan.trouble }
    }

    fn luck<T>(&self, rng: &mut Rng, good: T) -> Result<T, target::Failed> {
        match rng.percent(self.trouble) {
            true => Err(target::Failed { code: RefuseCode::Disk, text: "no luck".into() }),
            false => Ok(good),
        }
    }

    pub fn run(&mut self, rng: &mut Rng, job: target::Job) -> target::JobResult {
        use target::{Job, JobResult};
        match job {
            Job::Examine(list) => JobResult::Examined(
                list.iter().map(|placed| (placed.entry.index, self.examine(rng, placed))).collect(),
            ),
            Job::HashExisting { placed, adopt } => {
                let digest = digest_of(rng.below(2), placed.entry.size().unwrap());
                let (index, result) = (placed.entry.index, self.luck(rng, digest));
                JobResult::Hashed { index, result, adopted: adopt }
            }
            Job::Adopt(placed) => {
                JobResult::Adopted { index: placed.entry.index, result: self.luck(rng, ()) }
            }
            Job::Open { placed, delta } => {
                let older = (delta && rng.percent(50)).then_some(13);
                let result = self.open(rng, &placed);
                let result = result.map(|ranges| target::Opened { ranges, older });
                JobResult::Opened { index: placed.entry.index, result }
            }
            Job::Sign { index, from, link } => {
                let piece = Piece { len: 1 + rng.below(9000), mark: rng.below(1000) };
                let count = rng.below(3) * rng.below(5000);
                let next = (from < 5 && rng.percent(50)).then_some(from + 1);
                let pieces = vec![piece; count as usize];
                JobResult::Signed { index, link, pieces, next }
            }
            Job::Patch { index, chunk, len, .. } if rng.percent(20) => {
                JobResult::Unpatched { index, chunk, len }
            }
            Job::Patch { index, chunk, hash, len, .. } => {
                let result = self.write(rng, index, chunk, hash);
                JobResult::Chunks { index, first: chunk, count: 1, len, result }
            }
            Job::ListTwins { most } => {
                let path = RelPath::parse(b"elsewhere/twin").unwrap();
                let stamp = |size| Stamp { size, mtime: Timestamp::default() };
                let found = vec![(stamp(CHUNK), path.clone()), (stamp(3 * CHUNK), path)];
                JobResult::TwinsListed { looked: most, found, is_all: rng.percent(50) }
            }
            Job::HashTwin { placed, from } => {
                let digest = digest_of(rng.below(2), placed.entry.size().unwrap());
                let digest = (!rng.percent(10)).then_some(digest);
                JobResult::TwinHashed { index: placed.entry.index, from, digest }
            }
            Job::Fill { placed, digest } => {
                let (index, result) = (placed.entry.index, self.fill(rng, &placed, digest));
                JobResult::Filled { index, result }
            }
            Job::ForgetTwin { .. } => JobResult::Discarded,
            Job::WriteSmall(list) => {
                let written = list.into_iter().map(|(placed, len, hash)| {
                    let digest = Digest::from_bytes(*hash.as_bytes());
                    (placed.entry.index, len, self.luck(rng, digest))
                });
                JobResult::Small(written.collect())
            }
            Job::WriteChunk { index, chunk, hash, len, .. } => {
                let result = self.write(rng, index, chunk, hash);
                JobResult::Chunks { index, first: chunk, count: 1, len, result }
            }
            Job::WriteZeros { index, first, count, len } => {
                let result = (first..first + count).try_for_each(|chunk| {
                    self.write(rng, index, chunk, ChunkHash::from_bytes([0; 32]))
                });
                JobResult::Chunks { index, first, count, len, result }
            }
            Job::Publish { placed, digest } => {
                let result = self.publish(rng, &placed, digest);
                JobResult::Published { index: placed.entry.index, result }
            }
            Job::Discard { index, .. } => {
                self.staged.remove(&index);
                JobResult::Discarded
            }
            Job::Link { placed, .. } => {
                JobResult::Linked { index: placed.entry.index, result: self.luck(rng, ()) }
            }
            Job::FinishFolder { placed, .. } => {
                let index = placed.map(|placed| placed.entry.index);
                JobResult::FolderFinished { index, result: self.luck(rng, ()) }
            }
            Job::Finish { .. } => JobResult::Finished(Ok(b"receipt".to_vec())),
        }
    }

    fn examine(&mut self, rng: &mut Rng, placed: &target::Placed) -> target::Found {
        use target::Found;
        if let Err(failed) = self.luck(rng, ()) {
            return Found::Failed(failed);
        }
        match placed.entry.kind {
            EntryKind::Folder if rng.percent(5) => Found::WouldMake(crate::message::Why::New),
            EntryKind::Folder => Found::Made,
            EntryKind::Symlink { .. } => {
                [Found::Made, Found::Left][usize::from(rng.percent(10))].clone()
            }
            _ => match rng.below(10) {
                0 => Found::SameStamp,
                1 => Found::Different { same_size: true },
                2 => Found::Different { same_size: false },
                _ => Found::Nothing,
            },
        }
    }

    /// Some chunks may be staged from an earlier try, and some of those are of an older version.
    fn open(
        &mut self,
        rng: &mut Rng,
        placed: &target::Placed,
    ) -> Result<Vec<(u64, u64)>, target::Failed> {
        self.luck(rng, ())?;
        let size = placed.entry.size().unwrap();
        let version = placed.entry.mtime.seconds as u64 + u64::from(rng.percent(20));
        let mut staged = HashMap::new();
        for chunk in 0..chunk_count(size) {
            if rng.percent(25) {
                staged.insert(chunk, hash_of(version, size, chunk));
            }
        }
        let missing: Vec<_> =
            (0..chunk_count(size)).filter(|chunk| !staged.contains_key(chunk)).collect();
        let missing = ranges(&missing);
        self.staged.insert(placed.entry.index, staged);
        Ok(missing)
    }

    fn write(
        &mut self,
        rng: &mut Rng,
        index: u64,
        chunk: u64,
        hash: ChunkHash,
    ) -> Result<(), target::Failed> {
        self.luck(rng, ())?;
        if let Some(staged) = self.staged.get_mut(&index) {
            assert!(staged.insert(chunk, hash).is_none(), "a chunk is written once");
        }
        Ok(())
    }

    /// Chunk by chunk, of a file that now and then is another by then.
    fn fill(
        &mut self,
        rng: &mut Rng,
        placed: &target::Placed,
        digest: Digest,
    ) -> Result<Filled, target::Failed> {
        self.luck(rng, ())?;
        let size = placed.entry.size().unwrap();
        if size <= CHUNK {
            return Ok(if rng.percent(20) { Filled::Lacks(Vec::new()) } else { Filled::Published });
        }
        let version = (0..2).find(|version| digest_of(*version, size) == digest).unwrap();
        let staged = self.staged.get_mut(&placed.entry.index).unwrap();
        let lacks: Vec<_> =
            (0..chunk_count(size)).filter(|chunk| !staged.contains_key(chunk)).collect();
        if rng.percent(10) && !lacks.is_empty() {
            return Ok(Filled::Lacks(ranges(&lacks)));
        }
        let turn = if rng.percent(50) { 1 } else { lacks.len() };
        for chunk in lacks.iter().take(turn) {
            staged.insert(*chunk, hash_of(version + u64::from(rng.percent(5)), size, *chunk));
        }
        Ok(if turn < lacks.len() { Filled::Partly } else { Filled::Whole })
    }

    fn publish(
        &mut self,
        rng: &mut Rng,
        placed: &target::Placed,
        digest: Digest,
    ) -> Result<Option<Digest>, target::Failed> {
        self.luck(rng, ())?;
        let size = placed.entry.size().unwrap();
        let staged = self.staged.get_mut(&placed.entry.index).unwrap();
        let hashes: Option<Vec<_>> =
            (0..chunk_count(size)).map(|chunk| staged.get(&chunk).copied()).collect();
        let found =
            file_digest(size, &hashes.expect("all chunks are there before the file is published"));
        if found != Some(digest) {
            staged.clear();
            return Ok(None);
        }
        Ok(found)
    }
}
