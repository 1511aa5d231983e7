//! What is still there under another path. An inode that is gone from one path and new at another is the
//! same file if its size and mtime are, and the same folder if its mtime is or something in it came along.
//!
//! Both sides are sorted by inode outside of memory, and so are the pairs; only the moves that are given
//! out are held. The number of the filesystem is not asked, for it changes over a reboot; that inodes of
//! two filesystems are taken for one another would need the same number, size and mtime.

mod plan;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use files::{Dir, Kind, RelPath};

use super::ScanError;
use super::join::Event;
use crate::key;
use crate::snapshot::Snapshot;
use crate::sort::{Merge, Sorted, Sorter};
use crate::stamp::{Stamp, put_time};
use plan::{Pair, plan};

/// Moves that one scan gives out.
pub const MOST_MOVES: usize = 100_000;
/// Kinds of paths in the snapshot that are remembered while moves are put in order.
const MOST_REMEMBERED: usize = 10_000;
/// Bytes of an identity.
const IDENTITY: usize = 29;

/// Something that is under another path than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it is before this move.
    pub from: RelPath,
    /// Where it is after it. The folder above may be a new one, that is still among the additions.
    pub to: RelPath,
    /// A file or a folder.
    pub kind: Kind,
    /// A file takes the place of another one, or of a link, that is gone.
    pub replaces: bool,
}

/// What may have moved, with the inodes by which it is known again.
pub(super) struct Candidates {
    gone: Sorter,
    new: Sorter,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Candidates {
    pub(super) fn new(scratch: &Dir, memory: usize) -> Self {
        let sorter = || Sorter::new(scratch, memory / 4);
        Self { gone: sorter(), new: sorter(), key: Vec::new(), value: Vec::new() }
    }

    /// Takes note of a path that lost its inode, or has another one.
    pub(super) fn consider(&mut self, event: &Event<'_>) -> Result<(), ScanError> {
        match event {
            Event::Gone { key, known } => self.push(true, key, &known.stamp),
            // Also one that has not settled: a rename makes it young, but not another one.
            Event::New { key, listed } => self.push(false, key, &listed.stamp),
            Event::Both { key, listed, known } if known.stamp.is_replaced_by(&listed.stamp) => {
                self.push(true, key, &known.stamp)?;
                self.push(false, key, &listed.stamp)
            }
            Event::Both { .. } => Ok(()),
        }
    }

    fn push(&mut self, is_gone: bool, path: &[u8], stamp: &Stamp) -> Result<(), ScanError> {
        // Filesystems without inodes say zero; links are as small as the news that they have moved.
        if stamp.inode == 0 || !matches!(stamp.kind, Kind::File | Kind::Directory) {
            return Ok(());
        }
        identity(stamp, &mut self.key);
        self.key.extend_from_slice(path);
        self.value.clear();
        put_time(&mut self.value, stamp.mtime);
        let sorter = if is_gone { &mut self.gone } else { &mut self.new };
        Ok(sorter.push(&self.key, &self.value)?)
    }

    pub(super) fn finish(self) -> Result<(Sorted, Sorted), ScanError> {
        Ok((self.gone.finish()?, self.new.finish()?))
    }
}

/// What a path must have in common with another one to be the same thing.
fn identity(stamp: &Stamp, out: &mut Vec<u8>) {
    out.clear();
    let (is_dir, size, mtime) = match stamp.kind {
        Kind::File => (0, stamp.size, stamp.mtime),
        _ => (1, 0, files::Timestamp::default()),
    };
    out.extend_from_slice(&stamp.inode.to_be_bytes());
    out.push(is_dir);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&mtime.seconds.to_be_bytes());
    out.extend_from_slice(&mtime.nanos.to_be_bytes());
    debug_assert_eq!(out.len(), IDENTITY);
}

/// The moves among the candidates, in order; see [`Scan::moves`](super::Scan::moves).
pub(super) fn moves(
    (gone, new): &(Sorted, Sorted),
    snapshot: &Snapshot,
    scratch: &Dir,
    memory: usize,
    stop: &AtomicBool,
) -> Result<Vec<Moved>, ScanError> {
    let mut pairs = Sorter::new(scratch, memory / 4);
    pair_up(&mut gone.pass()?, &mut new.pass()?, &mut pairs, stop)?;
    let pairs = own_moves(&mut pairs.finish()?.pass()?, memory, stop)?;
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let view = snapshot.read()?;
    let mut kinds: HashMap<RelPath, Option<Kind>> = HashMap::new();
    plan(pairs, |path| {
        if stop.load(Relaxed) {
            return Err(ScanError::Stopped);
        }
        if let Some(kind) = kinds.get(path) {
            return Ok(*kind);
        }
        let kind = view.get(path)?.map(|known| known.stamp.kind);
        if kinds.len() >= MOST_REMEMBERED {
            kinds.clear();
        }
        kinds.insert(path.clone(), kind);
        Ok(kind)
    })
}

/// Finds the paths of equal identity. A pair is sorted by where it was, and says where it is, whether it
/// is a folder, and whether the mtimes agree.
fn pair_up(
    gone: &mut Merge,
    new: &mut Merge,
    pairs: &mut Sorter,
    stop: &AtomicBool,
) -> Result<(), ScanError> {
    let mut value = Vec::new();
    let mut has_both = gone.advance()? && new.advance()?;
    while has_both {
        if stop.load(Relaxed) {
            return Err(ScanError::Stopped);
        }
        let halves =
            gone.key().split_at_checked(IDENTITY).zip(new.key().split_at_checked(IDENTITY));
        let ((old, from), (now, to)) = halves.ok_or(ScanError::Listing)?;
        has_both = match old.cmp(now) {
            Ordering::Less => gone.advance()?,
            Ordering::Greater => new.advance()?,
            Ordering::Equal => {
                value.clear();
                value.push(u8::from(old[8] == 1) | u8::from(gone.value() == new.value()) << 1);
                value.extend_from_slice(to);
                pairs.push(from, &value)?;
                gone.advance()? && new.advance()?
            }
        };
    }
    Ok(())
}

/// A folder that may have moved, while the pairs below it are looked at.
struct Above {
    from: Vec<u8>,
    to: Vec<u8>,
    /// It is the same folder, and not only an inode that was used again.
    is_proven: bool,
}

/// The pairs that did not simply come along with a folder above them.
fn own_moves(pairs: &mut Merge, memory: usize, stop: &AtomicBool) -> Result<Vec<Pair>, ScanError> {
    let mut own = Own { pairs: Vec::new(), room: memory };
    let mut around: Vec<Above> = Vec::new();
    while pairs.advance()? {
        if stop.load(Relaxed) {
            return Err(ScanError::Stopped);
        }
        let from = pairs.key();
        let (&flags, to) = pairs.value().split_first().ok_or(ScanError::Listing)?;
        let is_dir = flags & 1 != 0;
        own.leave(&mut around, |above| !key::is_below(from, &above.from))?;
        if let Some(above) = around.last_mut()
            && to.strip_prefix(&*above.to) == Some(&from[above.from.len()..])
        {
            above.is_proven = true;
        } else if is_dir {
            let is_proven = flags & 2 != 0;
            around.push(Above { from: from.to_vec(), to: to.to_vec(), is_proven });
        } else {
            own.push(from, to, Kind::File)?;
        }
    }
    own.leave(&mut around, |_| true)?;
    Ok(own.pairs)
}

/// Pairs that are kept, as far as there is room.
struct Own {
    pairs: Vec<Pair>,
    room: usize,
}

impl Own {
    /// Takes leave of folders, the innermost first, and keeps those that have moved.
    fn leave(
        &mut self,
        around: &mut Vec<Above>,
        is_left: impl Fn(&Above) -> bool,
    ) -> Result<(), ScanError> {
        while let Some(above) = around.pop_if(|above| is_left(above)) {
            if above.is_proven {
                self.push(&above.from, &above.to, Kind::Directory)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, from: &[u8], to: &[u8], kind: Kind) -> Result<(), ScanError> {
        let size = size_of::<Pair>() + from.len() + to.len();
        if self.pairs.len() >= MOST_MOVES || size > self.room {
            return Ok(());
        }
        self.room -= size;
        let path = |key| key::path(key).ok_or(ScanError::Listing);
        self.pairs.push(Pair { from: path(from)?, to: path(to)?, kind });
        Ok(())
    }
}
