//! Many files: the walk, the filters, the tree digest, and the comparison of two trees.
//!
//! Everything works in memory that does not grow with the tree. What is done with an entry is the
//! caller's business.

pub mod digest;
pub mod filter;
pub mod measure;
pub mod walk;

pub use digest::{Body, Record, TreeDigest, TreeDigests};
pub use filter::{Filter, FilterError, Rule, Verdict};
pub use measure::{
    CompareOptions, Comparison, Difference, MeasureOptions, Measured, compare, tree_digest_as,
    tree_digest_of,
};
pub use walk::{Entry, Step, Walk, WalkOptions, WalkRoot};

#[cfg(test)]
mod scratch;
