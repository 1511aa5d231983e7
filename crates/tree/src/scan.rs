//! What is there now against what was known: new, changed, gone and moved entries, in memory that does
//! not grow with the tree.
//!
//! A scan lists the tree, sorts the listing outside of memory, and goes through it beside the snapshot.
//! Nothing is taken for gone that was not looked for and missed, and a file that changed a moment ago is
//! left for a later scan. The snapshot itself is only read: its keeper writes the changes to it, when he
//! has carried them out.

mod changes;
mod cursor;
mod join;
mod listing;
mod moves;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use files::{Dir, Fault, FilesError, RelPath};

use crate::key;
use crate::measure::{Problem, TreeCounts};
use crate::settle::system_time;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::sort::Sorted;
use crate::stamp::Difference;
use crate::walk::WalkOptions;
use join::{Depth, Event, Join};
use moves::Candidates;

pub use changes::{Change, Changes};
pub use moves::{MOST_MOVES, Moved};

/// Folders of unsettled files that are named; of more it is only said that there are more.
pub const MOST_UNSETTLED_FOLDERS: usize = 1000;

/// How a tree is scanned.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// What is left out. What the snapshot has of it counts as gone.
    pub walk: WalkOptions,
    /// A file waits until it was left alone for so long. Zero waits for none, and a second change of the
    /// same length is then missed if it falls into the same tick of the kernel's clock as the first.
    pub settle: Duration,
    /// Bytes that are sorted in memory at a time; a scan takes about twice as many.
    pub memory: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { walk: WalkOptions::default(), settle: Duration::from_secs(60), memory: 16 << 20 }
    }
}

/// How much of a tree is scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    All,
    /// These folders, what lies directly in them, and all of the folders in them that are new. One that
    /// is not known, or not there any more, stands for the nearest one above that is.
    Folders(Vec<RelPath>),
}

/// Why a scan ended early. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The tree's root cannot be listed, or the scratch folder cannot be written to.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What was sorted did not come back as it was: the disk of the scratch folder fails.
    #[error("the listing of the tree was damaged on its way through the scratch folder")]
    Listing,
    /// It was told to stop.
    #[error("the scan was stopped")]
    Stopped,
}

impl ScanError {
    /// What the failure means for a retry.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Files(error) => error.fault(),
            Self::Snapshot(error) => error.fault(),
            Self::Listing => Fault::Corrupt,
            Self::Stopped => Fault::Transient,
        }
    }
}

/// What a scan has met.
#[derive(Debug, Default)]
pub struct Summary {
    /// What is there, as far as it was listed, without the root.
    pub counts: TreeCounts,
    /// The first [`MAX_PROBLEMS`](crate::measure::MAX_PROBLEMS) things that could not be read.
    pub problems: Vec<Problem>,
    /// How many there were in all.
    pub problem_count: u64,
    /// Folders of which not every name is known; what is missing in them is not taken for gone.
    pub incomplete: u64,
    /// Entries that the snapshot does not have, settled ones. What has moved counts here and as removed.
    pub added: u64,
    /// Entries that are not as the snapshot has them, settled ones.
    pub changed: u64,
    /// Entries that are gone, with all that were below them.
    pub removed: u64,
    /// Files that are new or changed and have not settled.
    pub unsettled: Unsettled,
}

/// Files that wait until they have settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// How many.
    pub files: u64,
    /// When the first of them and when the last of them will have settled, if they are left alone.
    pub until: Option<(SystemTime, SystemTime)>,
    /// The folders that they are in, [`MOST_UNSETTLED_FOLDERS`] at most: to be scanned then.
    pub folders: BTreeSet<RelPath>,
    /// There are more folders than are named.
    pub has_more_folders: bool,
}

/// A finished scan: the listing, on disk if it is large, and what was found out about it.
pub struct Scan {
    snapshot: Snapshot,
    scratch: Dir,
    listing: Sorted,
    /// What is gone and what is new, by inode.
    candidates: Option<(Sorted, Sorted)>,
    memory: usize,
    summary: Summary,
}

/// Lists the tree below `root` and compares it with the snapshot. The listing is sorted in files of
/// `scratch` that have no names. `now` is the time on the clock that also sets the times of files. Blocks
/// on the disk; `stop` ends it early.
///
/// # Errors
/// When the root cannot be listed, when the scratch files or the snapshot fail, and when it is stopped.
/// What cannot be read below the root is in the summary.
pub fn scan(
    root: &Dir,
    extent: &Extent,
    snapshot: &Snapshot,
    scratch: &Dir,
    options: &ScanOptions,
    now: SystemTime,
    stop: &AtomicBool,
) -> Result<Scan, ScanError> {
    let (listing, census) = match extent {
        Extent::All => listing::everything(root, scratch, options, now, stop)?,
        Extent::Folders(folders) => {
            listing::folders(root, folders, snapshot, scratch, options, now, stop)?
        }
    };
    let summary = Summary {
        counts: census.counts,
        problems: census.problems,
        problem_count: census.problem_count,
        incomplete: census.incomplete,
        ..Summary::default()
    };
    let (snapshot, scratch) = (snapshot.clone(), scratch.clone());
    let memory = options.memory;
    let mut scan = Scan { snapshot, scratch, listing, candidates: None, memory, summary };
    scan.compare(stop)?;
    Ok(scan)
}

impl Scan {
    /// What the scan has met.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Folders and files that are still there under another path, at most [`MOST_MOVES`], in an order in
    /// which they can be carried out one after another. Each path is the one at that moment, so when a
    /// folder moved and a file in it too, the file moves within the new folder.
    ///
    /// Known by their inode: a file by size and mtime besides, a folder by its mtime or by something in
    /// it that came along. A move that would need a detour, as when two folders change places, is left
    /// out; so is what moves with its folder. What is left out is among the changes in its two halves.
    ///
    /// # Errors
    /// When the scratch files or the snapshot fail, and when it is stopped.
    pub fn moves(&self, stop: &AtomicBool) -> Result<Vec<Moved>, ScanError> {
        match &self.candidates {
            Some(candidates) => {
                moves::moves(candidates, &self.snapshot, &self.scratch, self.memory, stop)
            }
            None => Ok(Vec::new()),
        }
    }

    /// What has changed, in tree order, against the snapshot as it is now: with the moves, if they were
    /// carried out in it. What is gone is named by its topmost path. What became something of another
    /// kind is removed and added.
    ///
    /// The snapshot may be written to meanwhile, if only to take over the changes that have been given
    /// out: it is read a page at a time, and no page is looked at twice.
    ///
    /// # Errors
    /// When the scratch files fail.
    pub fn changes(&self) -> Result<Changes, ScanError> {
        if self.summary.is_unchanged() {
            return Ok(Changes::none());
        }
        Changes::new(&self.listing, &self.snapshot)
    }

    /// Counts the differences, and gathers what may have moved.
    fn compare(&mut self, stop: &AtomicBool) -> Result<(), ScanError> {
        // Where nothing was known, nothing can have moved.
        let mut candidates = match self.snapshot.entries()? {
            0 => None,
            _ => Some(Candidates::new(&self.scratch, self.memory)),
        };
        let mut join = Join::new(&self.listing, &self.snapshot, Depth::Everything)?;
        while let Some(event) = join.step()? {
            if stop.load(Ordering::Relaxed) {
                return Err(ScanError::Stopped);
            }
            if let Some(candidates) = &mut candidates {
                candidates.consider(&event)?;
            }
            self.summary.take(&event);
        }
        drop(join);
        if self.summary.removed + self.summary.changed + self.summary.unsettled.files > 0 {
            self.candidates = candidates.map(Candidates::finish).transpose()?;
        }
        Ok(())
    }
}

impl Summary {
    /// Whether nothing is to be told; something may have moved all the same, and not have settled.
    fn is_unchanged(&self) -> bool {
        self.added + self.changed + self.removed == 0
    }

    fn take(&mut self, event: &Event<'_>) {
        let (key, listed, count) = match event {
            Event::Gone { .. } => {
                self.removed += 1;
                return;
            }
            Event::New { key, listed } => (key, listed, &mut self.added),
            Event::Both { key, listed, known } => {
                match known.difference(&listed.stamp, listed.link_target.as_deref()) {
                    Difference::Nothing => return,
                    _ => (key, listed, &mut self.changed),
                }
            }
        };
        match listed.settles {
            Some(time) => self.unsettled.take(key, system_time(time)),
            None => *count += 1,
        }
    }
}

impl Unsettled {
    fn take(&mut self, key: &[u8], settled: SystemTime) {
        self.files += 1;
        let (first, last) = self.until.unwrap_or((settled, settled));
        self.until = Some((first.min(settled), last.max(settled)));
        let Some(folder) = key::path(key).and_then(|path| path.parent()) else { return };
        if self.folders.len() < MOST_UNSETTLED_FOLDERS || self.folders.contains(&folder) {
            self.folders.insert(folder);
        } else {
            self.has_more_folders = true;
        }
    }
}

#[cfg(test)]
mod tests;
