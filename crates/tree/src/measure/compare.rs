//! Two trees against each other, byte by byte.
//!
//! The first tree is walked and each entry is looked up in the second; then the second is walked for
//! what the first lacks. So memory does not grow with the trees, and no digest is trusted.

use std::fmt;

use files::{Attributes, Dir, FilesError, Follow, Kind, RelPath, Timestamp, escape};

use crate::walk::{Entry, Step, Walk, WalkOptions, WalkRoot};

/// Bytes compared at a time.
const BLOCK: usize = 128 * 1024;

/// What counts as a difference.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// What both walks leave out.
    pub walk: WalkOptions,
    /// Permission bits of files and directories are compared.
    pub modes: bool,
    /// Modification times are compared, to the nanosecond.
    pub mtimes: bool,
    /// The comparison ends after so many differences.
    pub most: usize,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { walk: WalkOptions::default(), modes: true, mtimes: true, most: 100 }
    }
}

/// One of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tree given first.
    First,
    /// The tree given second.
    Second,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "the first tree",
            Self::Second => "the second tree",
        })
    }
}

/// Where two trees are not the same; prints as one line, with names escaped.
#[derive(Debug)]
pub struct Difference {
    /// Relative to both roots.
    pub path: RelPath,
    /// What is not the same there.
    pub mismatch: Mismatch,
}

/// What is not the same. Of pairs, the first is of the first tree.
#[derive(Debug)]
pub enum Mismatch {
    /// It is only in the other tree; what it holds is not looked at.
    Missing(Side),
    /// It is something else; what it holds is not looked at.
    Kind(Kind, Kind),
    /// Sizes of files.
    Size(u64, u64),
    /// The offset of the first byte that differs.
    Content(u64),
    /// Permission bits.
    Mode(u32, u32),
    /// Modification times.
    Mtime(Timestamp, Timestamp),
    /// Targets of symbolic links.
    LinkTarget(Vec<u8>, Vec<u8>),
    /// It could not be read, so nothing is known.
    Unreadable(Side, FilesError),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.mismatch {
            Mismatch::Missing(side) => write!(f, "missing in {side}"),
            Mismatch::Kind(a, b) => write!(f, "{a} here and {b} there"),
            Mismatch::Size(a, b) => write!(f, "{a} bytes here and {b} there"),
            Mismatch::Content(offset) => write!(f, "the contents differ from byte {offset} on"),
            Mismatch::Mode(a, b) => write!(f, "mode {a:04o} here and {b:04o} there"),
            Mismatch::Mtime(a, b) => write!(
                f,
                "modified at {}.{:09} here and {}.{:09} there",
                a.seconds, a.nanos, b.seconds, b.nanos
            ),
            Mismatch::LinkTarget(a, b) => {
                write!(f, "points to '{}' here and to '{}' there", escape(a), escape(b))
            }
            Mismatch::Unreadable(side, error) => {
                write!(f, "cannot be compared in {side}: {error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// At most as many as were asked for.
    pub differences: Vec<Difference>,
    /// The comparison ended there, and there may be more.
    pub cut_short: bool,
    /// Entries of the first tree that were compared.
    pub entries: u64,
    /// Bytes of files that were compared and are the same.
    pub bytes: u64,
}

impl Comparison {
    /// Whether the trees are the same, as far as the options go.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && !self.cut_short
    }
}

/// Compares what two directories hold; the directories' own attributes do not count.
///
/// # Errors
/// When one of the directories itself cannot be read. What fails below them is in the result.
pub fn compare(
    first: &Dir,
    second: &Dir,
    options: &CompareOptions,
) -> Result<Comparison, FilesError> {
    let mut comparing = Comparing { first, second, options, found: Comparison::default() };
    comparing.walk(Side::First)?;
    if !comparing.found.cut_short {
        comparing.walk(Side::Second)?;
    }
    Ok(comparing.found)
}

struct Comparing<'a> {
    first: &'a Dir,
    second: &'a Dir,
    options: &'a CompareOptions,
    found: Comparison,
}

impl Comparing<'_> {
    /// Walks one side and compares it with the other; until the cap is reached.
    fn walk(&mut self, side: Side) -> Result<(), FilesError> {
        let dir = if side == Side::First { self.first } else { self.second };
        let start = WalkRoot::Inside(RelPath::root());
        let mut walk = Walk::new(dir.clone(), start, self.options.walk.clone())?;
        while let Some(step) = walk.next() {
            let entry = match step {
                Step::Problem { path, error } => {
                    self.note(path, Mismatch::Unreadable(side, error));
                    continue;
                }
                Step::Leave { .. } => continue,
                Step::Enter(entry) | Step::Leaf(entry) if entry.path.is_root() => continue,
                Step::Enter(entry) | Step::Leaf(entry) => entry,
            };
            let same_kind = match side {
                Side::First => self.entry(&entry),
                Side::Second => self.presence(&entry),
            };
            if !same_kind {
                walk.skip_directory();
            }
            if self.found.cut_short {
                break;
            }
        }
        Ok(())
    }

    fn note(&mut self, path: RelPath, mismatch: Mismatch) {
        if self.found.differences.len() < self.options.most {
            self.found.differences.push(Difference { path, mismatch });
        } else {
            self.found.cut_short = true;
        }
    }

    /// Looks for an entry of the second tree in the first; says whether it is the same kind there.
    fn presence(&mut self, entry: &Entry) -> bool {
        match self.first.attributes_of(&entry.path) {
            // Another kind was noted when the first tree was walked.
            Ok(first) => first.kind == entry.attributes.kind,
            Err(error) => {
                let mismatch = absence(Side::First, error);
                self.note(entry.path.clone(), mismatch);
                false
            }
        }
    }

    /// Compares an entry of the first tree; says whether it is the same kind in the second.
    fn entry(&mut self, entry: &Entry) -> bool {
        self.found.entries += 1;
        let (path, a) = (&entry.path, &entry.attributes);
        let b = match self.second.attributes_of(path) {
            Ok(attributes) => attributes,
            Err(error) => {
                self.note(path.clone(), absence(Side::Second, error));
                return false;
            }
        };
        if a.kind != b.kind {
            self.note(path.clone(), Mismatch::Kind(a.kind, b.kind));
            return false;
        }
        let mismatch = match a.kind {
            Kind::File if a.size != b.size => Some(Mismatch::Size(a.size, b.size)),
            Kind::File => match self.contents(path) {
                Ok(None) => {
                    self.found.bytes += a.size;
                    None
                }
                Ok(Some(offset)) => Some(Mismatch::Content(offset)),
                Err((side, error)) => Some(Mismatch::Unreadable(side, error)),
            },
            Kind::Symlink => self.link_targets(entry),
            Kind::Directory | Kind::Other => None,
        };
        if let Some(mismatch) = mismatch {
            self.note(path.clone(), mismatch);
        }
        self.attributes(path, a, &b);
        true
    }

    fn attributes(&mut self, path: &RelPath, a: &Attributes, b: &Attributes) {
        let has_mode = matches!(a.kind, Kind::File | Kind::Directory);
        if self.options.modes && has_mode && a.mode != b.mode {
            self.note(path.clone(), Mismatch::Mode(a.mode, b.mode));
        }
        // What is neither file, folder nor link cannot be copied, so its time says nothing.
        if self.options.mtimes && a.kind != Kind::Other && a.mtime != b.mtime {
            self.note(path.clone(), Mismatch::Mtime(a.mtime, b.mtime));
        }
    }

    fn link_targets(&self, entry: &Entry) -> Option<Mismatch> {
        let a = entry.link_target.clone().unwrap_or_default();
        let parent = entry.path.parent()?;
        let b = self
            .second
            .open_dir(&parent, Follow::Never)
            .and_then(|dir| dir.read_link(&entry.path.file_name().expect("it has a parent")));
        match b {
            Ok(b) if a == b => None,
            Ok(b) => Some(Mismatch::LinkTarget(a, b)),
            Err(error) => Some(Mismatch::Unreadable(Side::Second, error)),
        }
    }

    /// The offset of the first byte that differs, also where one file is shorter by now.
    fn contents(&self, path: &RelPath) -> Result<Option<u64>, (Side, FilesError)> {
        let first = |error| (Side::First, error);
        let second = |error| (Side::Second, error);
        let a = self.first.open_file(path, Follow::Never).map_err(first)?;
        let b = self.second.open_file(path, Follow::Never).map_err(second)?;
        let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
        let mut offset = 0;
        loop {
            let len = read_block(&a, &mut left, offset).map_err(first)?;
            let other = read_block(&b, &mut right, offset).map_err(second)?;
            if left[..len] != right[..other] {
                let same = left[..len].iter().zip(&right[..other]).take_while(|(a, b)| a == b);
                return Ok(Some(offset + same.count() as u64));
            }
            if len < BLOCK {
                return Ok(None);
            }
            offset += len as u64;
        }
    }
}

/// Fills the block as far as the file goes.
fn read_block(file: &files::File, block: &mut [u8], offset: u64) -> Result<usize, FilesError> {
    let mut len = 0;
    while len < block.len() {
        match file.read_at(&mut block[len..], offset + len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

fn absence(side: Side, error: FilesError) -> Mismatch {
    if error.is_not_found() { Mismatch::Missing(side) } else { Mismatch::Unreadable(side, error) }
}
