//! Many files over time: the walk, the filters, the tree digest, and the comparison of two trees; a
//! snapshot of a tree on disk, the scan that finds what has changed since, and a watch that says where
//! to look.
//!
//! Everything works in memory that does not grow with the tree, but for the watch, whose folders are
//! capped. What is done with an entry is the caller's business.

pub mod digest;
pub mod filter;
pub mod glob;
mod key;
pub mod measure;
pub mod scan;
pub mod selection;
pub mod settle;
pub mod snapshot;
pub mod sort;
mod stamp;
mod varint;
pub mod walk;
pub mod watch;

pub use digest::{Body, Record, TreeDigest, TreeDigests};
pub use filter::{Filter, FilterError, Rule, Verdict};
pub use glob::{Glob, NameGlob};
pub use measure::{
    CompareOptions, Comparison, Difference, MeasureOptions, Measured, compare, tree_digest_as,
    tree_digest_of,
};
pub use scan::{
    Change, Changes, Extent, Moved, Scan, ScanError, ScanOptions, Summary, Unsettled, scan,
};
pub use selection::{Selection, TooLong};
pub use settle::unfinished_names;
pub use snapshot::{
    KnownEntries, Snapshot, SnapshotError, SnapshotRead, SnapshotTable, SnapshotWrite,
};
pub use stamp::{Found, Known, Stamp};
pub use walk::{Entry, ListedWalk, Step, Walk, WalkOptions, WalkRoot};
pub use watch::{Hint, Watch, WatchError};

#[cfg(test)]
mod scratch;
