//! What is there now: a walk written down as records that are sorted outside of memory, and read again
//! in tree order as one group for each path.
//!
//! Besides the entries, the listing says of which folders it knows all, part or nothing of what they
//! hold: only where all is known does a missing name mean that something is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use files::{Dir, FilesError, Kind, RelPath, Timestamp, is_reserved};

use super::{ScanError, ScanOptions};
use crate::filter::Verdict;
use crate::key;
use crate::measure::{MAX_PROBLEMS, Problem, TreeCounts};
use crate::settle::{plus, settles_at};
use crate::snapshot::{Snapshot, SnapshotRead};
use crate::sort::{Merge, Sorted, Sorter};
use crate::stamp::{Found, Stamp, decode, encode, put_time, time};
use crate::varint::Reader;
use crate::walk::{Entry, Step, Walk, WalkRoot};

/// What a record says of its path: the entry that is there.
const ENTRY: u8 = 0;
/// The same, of a file that has not settled; the time when it will have stands in front.
const YOUNG: u8 = 1;
/// The folder was listed, wholly or in part.
const LISTED: u8 = 2;
const PARTLY_LISTED: u8 = 3;
/// The same, of a folder at which a listing begins: what it is in was not listed.
const START: u8 = 4;
const PARTLY_START: u8 = 5;

/// How much of what a folder holds is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// Nothing.
    Unknown,
    /// Some names may be missing.
    Partly,
    /// Every name.
    Wholly,
}

/// What a walk has met, beside its entries.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) counts: TreeCounts,
    pub(super) problems: Vec<Problem>,
    pub(super) problem_count: u64,
    pub(super) incomplete: u64,
}

/// Writes the listing.
struct Lister<'a> {
    options: &'a ScanOptions,
    stop: &'a AtomicBool,
    /// When the scan began, by both clocks.
    began: (Timestamp, Instant),
    sorter: Sorter,
    census: Census,
    value: Vec<u8>,
}

/// Lists the whole tree below `root`.
pub(super) fn everything(
    root: &Dir,
    scratch: &Dir,
    options: &ScanOptions,
    now: SystemTime,
    stop: &AtomicBool,
) -> Result<(Sorted, Census), ScanError> {
    let mut lister = Lister::new(scratch, options, now, stop);
    let start = RelPath::root();
    let walk = Walk::new(root.clone(), WalkRoot::Inside(start.clone()), options.walk.clone())?;
    lister.take(walk, &start, |_| Ok(true))?;
    lister.finish()
}

/// Lists what lies directly in some folders, and all of a folder in them that the snapshot does not know.
/// A folder that it does not know itself, or that is gone, stands for the one above.
pub(super) fn folders(
    root: &Dir,
    folders: &[RelPath],
    snapshot: &Snapshot,
    scratch: &Dir,
    options: &ScanOptions,
    now: SystemTime,
    stop: &AtomicBool,
) -> Result<(Sorted, Census), ScanError> {
    let known = snapshot.read()?;
    let mut starts = Vec::new();
    for folder in folders {
        if let Some(start) = start_of(root, folder, &known, options)? {
            starts.push(start);
        }
    }
    starts.sort();
    starts.dedup();
    let mut lister = Lister::new(scratch, options, now, stop);
    for start in starts {
        let below = WalkRoot::Beneath(start.clone());
        let walk = match Walk::new(root.clone(), below, options.walk.clone()) {
            Ok(walk) => walk,
            Err(error) if start.is_root() => return Err(error.into()),
            // Another scan will find it gone from what it was in.
            Err(error) => {
                lister.census.problem(start, error);
                continue;
            }
        };
        lister.take(walk, &start, |entry| {
            Ok(entry.path.parent().as_ref() != Some(&start) || !is_known(&known, entry)?)
        })?;
    }
    lister.finish()
}

/// The nearest folder at or above `folder` that the snapshot knows and that is still there; `None` where
/// the walk must not go.
fn start_of(
    root: &Dir,
    folder: &RelPath,
    known: &SnapshotRead,
    options: &ScanOptions,
) -> Result<Option<RelPath>, ScanError> {
    let mut start = RelPath::root();
    let device = root.attributes()?.device;
    for name in folder.names() {
        let Ok(path) = start.join(&name) else { break };
        if is_reserved(&name) || options.walk.filter.matches(&path, true) == Verdict::Exclude {
            return Ok(None);
        }
        // Only the last one is looked at on the disk: it cannot be there unless those above are.
        if known.get(&path)?.is_none_or(|known| known.stamp.kind != Kind::Directory) {
            break;
        }
        start = path;
    }
    while let Some(above) = start.parent() {
        let found = root.attributes_of(&start);
        let is_there = match &found {
            Ok(attributes) if options.walk.one_file_system && attributes.device != device => {
                return Ok(None);
            }
            Ok(attributes) => {
                let found = Stamp::from(attributes);
                known.get(&start)?.is_some_and(|known| !known.stamp.is_replaced_by(&found))
            }
            Err(_) => false,
        };
        if is_there {
            break;
        }
        start = above;
    }
    Ok(Some(start))
}

/// Whether the snapshot has the folder that was found.
fn is_known(snapshot: &SnapshotRead, entry: &Entry) -> Result<bool, ScanError> {
    let found = Stamp::from(&entry.attributes);
    Ok(snapshot.get(&entry.path)?.is_some_and(|known| !known.stamp.is_replaced_by(&found)))
}

impl<'a> Lister<'a> {
    fn new(scratch: &Dir, options: &'a ScanOptions, now: SystemTime, stop: &'a AtomicBool) -> Self {
        Self {
            options,
            stop,
            began: (now.into(), Instant::now()),
            sorter: Sorter::new(scratch, options.memory),
            census: Census::default(),
            value: Vec::new(),
        }
    }

    /// Writes down one walk, which begins at the folder `start`. `enters` decides whether a folder is
    /// looked into.
    fn take(
        &mut self,
        mut walk: Walk,
        start: &RelPath,
        enters: impl Fn(&Entry) -> Result<bool, ScanError>,
    ) -> Result<(), ScanError> {
        while let Some(step) = walk.next() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ScanError::Stopped);
            }
            match step {
                Step::Enter(entry) => {
                    self.entry(&entry)?;
                    if entry.path != *start && !enters(&entry)? {
                        walk.skip_directory();
                    }
                }
                Step::Leaf(entry) => self.entry(&entry)?,
                Step::Leave { path, complete } => {
                    let kind = match (path == *start, complete) {
                        (false, true) => LISTED,
                        (false, false) => PARTLY_LISTED,
                        (true, true) => START,
                        (true, false) => PARTLY_START,
                    };
                    self.census.incomplete += u64::from(!complete);
                    self.sorter.push(&key::of(&path), &[kind])?;
                }
                Step::Problem { path, error } => self.census.problem(path, error),
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ScanError> {
        if entry.path.is_root() {
            return Ok(());
        }
        let counts = &mut self.census.counts;
        match entry.attributes.kind {
            Kind::File => {
                counts.files += 1;
                counts.bytes = counts.bytes.saturating_add(entry.attributes.size);
            }
            Kind::Directory => counts.directories += 1,
            Kind::Symlink => counts.symlinks += 1,
            // Never copied, so not there.
            Kind::Other => {
                counts.others += 1;
                return Ok(());
            }
        }
        let stamp = Stamp::from(&entry.attributes);
        let now = plus(self.began.0, self.began.1.elapsed());
        self.value.clear();
        match settles_at(&stamp, self.options.settle, now) {
            None => self.value.push(ENTRY),
            Some(time) => {
                self.value.push(YOUNG);
                put_time(&mut self.value, time);
            }
        }
        encode(&stamp, entry.link_target.as_deref(), &mut self.value);
        self.sorter.push(&key::of(&entry.path), &self.value)?;
        Ok(())
    }

    fn finish(self) -> Result<(Sorted, Census), ScanError> {
        Ok((self.sorter.finish()?, self.census))
    }
}

impl Census {
    fn problem(&mut self, path: RelPath, error: FilesError) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path, error });
        }
    }
}

/// An entry of the listing.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) stamp: Stamp,
    pub(super) link_target: Option<Vec<u8>>,
    /// When it will have settled; `None` if it has.
    pub(super) settles: Option<Timestamp>,
}

/// All that the listing says of one path.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: Vec<u8>,
    /// Not there for the root.
    pub(super) entry: Option<Listed>,
    pub(super) children: Children,
    /// What the path is in was not listed for its sake.
    pub(super) is_start: bool,
}

/// Reads a listing in tree order.
pub(super) struct Listing {
    merge: Merge,
    /// Whether the merge stands at a record that is still to be read.
    has_more: bool,
    group: Option<Group>,
}

impl Listing {
    pub(super) fn new(sorted: &Sorted) -> Result<Self, ScanError> {
        let mut merge = sorted.pass()?;
        let has_more = merge.advance()?;
        let mut listing = Self { merge, has_more, group: None };
        listing.advance()?;
        Ok(listing)
    }

    /// What is said of the path that it stands at; `None` at the end.
    pub(super) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Goes to the next path.
    pub(super) fn advance(&mut self) -> Result<(), ScanError> {
        if !self.has_more {
            self.group = None;
            return Ok(());
        }
        let mut key = self.group.take().map_or_else(Vec::new, |group| group.key);
        key.clear();
        key.extend_from_slice(self.merge.key());
        let (entry, children, is_start) = (None, Children::Unknown, false);
        let mut group = Group { key, entry, children, is_start };
        while self.has_more && self.merge.key() == group.key {
            group.add(self.merge.value()).ok_or(ScanError::Listing)?;
            self.has_more = self.merge.advance()?;
        }
        self.group = Some(group);
        Ok(())
    }
}

impl Group {
    /// Takes a record in. A folder may have been listed twice, if it was moved meanwhile.
    fn add(&mut self, record: &[u8]) -> Option<()> {
        let (&kind, rest) = record.split_first()?;
        if matches!(kind, ENTRY | YOUNG) {
            let mut reader = Reader(rest);
            let settles = if kind == YOUNG { Some(time(&mut reader)?) } else { None };
            let (stamp, link_target) = decode(&mut reader)?;
            self.entry = Some(Listed { stamp, link_target, settles });
            return Some(());
        }
        let is_whole = matches!(kind, LISTED | START);
        self.is_start |= matches!(kind, START | PARTLY_START);
        self.children = match (self.children, is_whole) {
            (Children::Partly, _) | (_, false) => Children::Partly,
            _ => Children::Wholly,
        };
        Some(())
    }
}

impl Listed {
    pub(super) fn found(&self, path: RelPath) -> Found {
        Found { path, stamp: self.stamp, link_target: self.link_target.clone() }
    }
}

/// A listing of these entries below the root, of which all is known.
#[cfg(test)]
pub(super) fn made_by_hand(scratch: &Dir, entries: &[(RelPath, Stamp, Children)]) -> Sorted {
    let mut sorter = Sorter::new(scratch, 1 << 20);
    sorter.push(b"", &[START]).unwrap();
    for (path, stamp, children) in entries {
        let mut value = vec![ENTRY];
        encode(stamp, None, &mut value);
        sorter.push(&key::of(path), &value).unwrap();
        match children {
            Children::Unknown => {}
            Children::Partly => sorter.push(&key::of(path), &[PARTLY_LISTED]).unwrap(),
            Children::Wholly => sorter.push(&key::of(path), &[LISTED]).unwrap(),
        }
    }
    sorter.finish().unwrap()
}
