//! Two things that read every byte of a tree: its digest, and its comparison with another tree.
//!
//! Both walk and keep nothing but their result, which is capped. Neither changes anything.

mod compare;

use files::{Dir, FilesError, Follow, Kind, NameError, RelPath};

use crate::digest::{Body, Record, TreeDigest};
use crate::walk::{Entry, Step, Walk, WalkOptions, WalkRoot};

pub use compare::{CompareOptions, Comparison, Difference, Mismatch, Side, compare};

/// Problems that are kept; the others are only counted.
pub const MAX_PROBLEMS: usize = 1000;

/// What goes into a measured digest.
#[derive(Clone, Debug)]
pub struct MeasureOptions {
    /// What the walk leaves out.
    pub walk: WalkOptions,
    /// Permission bits count, in the digest of the attributes.
    pub modes: bool,
    /// Modification times of files count, in the digest of the attributes.
    pub mtimes: bool,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self { walk: WalkOptions::default(), modes: true, mtimes: true }
    }
}

/// How many of what a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, fifos and sockets, which have no record.
    pub others: u64,
}

/// Something that could not be read, and where.
#[derive(Debug)]
pub struct Problem {
    /// Relative to the tree's root.
    pub path: RelPath,
    /// What failed.
    pub error: FilesError,
}

/// What was measured. The digest is that of the whole tree only if there is no problem.
#[derive(Debug, Default)]
pub struct Measured {
    /// Of what could be read.
    pub digest: TreeDigest,
    /// Of what could be read.
    pub counts: TreeCounts,
    /// The first [`MAX_PROBLEMS`] problems.
    pub problems: Vec<Problem>,
    /// How many problems there were in all.
    pub problem_count: u64,
}

impl Measured {
    /// Takes another part of the same tree in.
    pub fn merge(&mut self, other: Self) {
        self.digest.merge(&other.digest);
        self.counts.files += other.counts.files;
        self.counts.bytes = self.counts.bytes.saturating_add(other.counts.bytes);
        self.counts.directories += other.counts.directories;
        self.counts.symlinks += other.counts.symlinks;
        self.counts.others += other.counts.others;
        self.problem_count += other.problem_count;
        let room = MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    fn problem(&mut self, path: RelPath, error: FilesError) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path, error });
        }
    }
}

/// Walks `dir` and hashes what it holds.
///
/// # Errors
/// When `dir` itself cannot be read. What fails below it is in the result.
pub fn tree_digest_of(dir: &Dir, options: &MeasureOptions) -> Result<Measured, FilesError> {
    tree_digest_as(dir, WalkRoot::Inside(RelPath::root()), &RelPath::root(), options)
}

/// Walks from `start` and hashes what is found as if the start were called `place`: a tree that was
/// renamed since is compared under its old name. A directory at the start has a record of its own unless
/// `place` is the root.
///
/// # Errors
/// When the start itself cannot be read. What fails below it is in the result.
pub fn tree_digest_as(
    dir: &Dir,
    start: WalkRoot,
    place: &RelPath,
    options: &MeasureOptions,
) -> Result<Measured, FilesError> {
    let names_of_start = match &start {
        WalkRoot::Inside(_) => 0,
        WalkRoot::Beneath(path) => path.depth(),
        WalkRoot::Entry(_) => 1,
    };
    let walk = Walk::new(dir.clone(), start, options.walk.clone())?;
    let dir = walk.root().clone();
    let mut measured = Measured::default();
    for step in walk {
        match step {
            Step::Enter(entry) | Step::Leaf(entry) => {
                let path = match placed(&entry.path, names_of_start, place) {
                    Ok(path) if path.is_root() => continue,
                    Ok(path) => path,
                    Err(source) => {
                        let bytes = entry.path.as_bytes().to_vec();
                        measured.problem(entry.path, FilesError::Name { bytes, source });
                        continue;
                    }
                };
                if let Err(error) = add(&mut measured, &dir, &entry, &path, options) {
                    measured.problem(entry.path, error);
                }
            }
            Step::Problem { path, error } => measured.problem(path, error),
            Step::Leave { .. } => {}
        }
    }
    Ok(measured)
}

/// A path of the walk, with the name of its start replaced.
fn placed(path: &RelPath, names_of_start: usize, place: &RelPath) -> Result<RelPath, NameError> {
    path.names().skip(names_of_start).try_fold(place.clone(), |path, name| path.join(&name))
}

/// Adds one entry to the digest and the counts, or neither.
fn add(
    measured: &mut Measured,
    dir: &Dir,
    entry: &Entry,
    path: &RelPath,
    options: &MeasureOptions,
) -> Result<(), FilesError> {
    let counts = &mut measured.counts;
    let mut attributes = entry.attributes;
    let body = match (attributes.kind, &entry.link_target) {
        (Kind::File, _) => {
            let file = dir.open_file(&entry.path, Follow::Never)?;
            let before = file.attributes()?;
            let content = file.digest()?;
            // A digest of bytes that never were in the file together would prove nothing.
            attributes = file.attributes()?;
            if !attributes.unchanged_since(&before) {
                return Err(FilesError::ChangedWhileRead { path: file.path().to_owned() });
            }
            counts.files += 1;
            counts.bytes = counts.bytes.saturating_add(attributes.size);
            Body::File { size: attributes.size, content }
        }
        (Kind::Directory, _) => {
            counts.directories += 1;
            Body::Directory
        }
        (Kind::Symlink, Some(target)) => {
            counts.symlinks += 1;
            Body::Symlink { target }
        }
        (Kind::Symlink | Kind::Other, _) => {
            counts.others += 1;
            return Ok(());
        }
    };
    measured.digest.add(&Record {
        path,
        body,
        mode: options.modes.then_some(attributes.mode),
        mtime: options.mtimes.then_some(attributes.mtime),
    });
    Ok(())
}

#[cfg(test)]
mod tests;
