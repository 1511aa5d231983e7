//! What the threads of a receiver tell each other: the one that reads the link, the one that writes blocks, and the one
//! that keeps the journal and the tree. No queue has a bound of its own; what they hold is charged, and the first thread
//! drops whole blocks when too much waits. What else goes through them follows from a block, a heartbeat or a request.

use std::collections::HashSet;
use std::sync::mpsc::Sender;
use std::time::SystemTime;

use files::{Partial, RelPath};

use super::status::Charge;
use crate::block::Assembly;
use crate::event::Tally;
use crate::intake::{BlockId, Spilled};
use crate::intervals::Intervals;
use crate::record::GenerationEnd;
use crate::symbol::ObjectKind;

/// Among ourselves the numbers of pages have this bit, so that nobody who cannot sign keeps a page from coming by sending
/// something else under its number.
pub(super) const PAGE_OBJECT: u64 = 1 << 63;

/// What is to be done with blocks.
pub(super) enum Job {
    /// Enough has come of a block.
    Block { id: BlockId, length: u64, kind: ObjectKind, assembly: Assembly, _charge: Charge },
    /// Too little has come of a block, which is to be kept.
    Spill { spilled: Spilled, _charge: Charge },
    /// A block that is kept is to be brought back.
    Recall(BlockId),
    /// An object may be whole in the staging.
    Open { object: u64, length: u64 },
    /// Nothing of an object is wanted any more.
    Discard(u64),
    /// The same, of all objects up to one but some.
    Settled { last: u64, but: HashSet<u64> },
    /// Which blocks an object lacks that was staged.
    Missing { object: u64, length: u64, reply: Sender<Vec<(u64, u64)>> },
    /// Goes through all threads and is answered by the last.
    Flush(Flush),
    /// Ends the thread, and the next one.
    Stop,
}

/// What the tree's keeper is to know.
pub(super) enum Note {
    /// An object of one block.
    Small { object: u64, bytes: Vec<u8>, _charge: Charge },
    /// The same, which is on the disk until there is time for it.
    Stored(u64),
    /// A block of a page.
    PagePart { object: u64, length: u64, block: u32, bytes: Vec<u8>, _charge: Charge },
    /// A large object is being staged.
    Begun { object: u64, length: u64 },
    /// A large object is whole.
    Whole { object: u64, length: u64, partial: Box<Partial> },
    /// The sender says what a generation came to.
    Ended(Box<GenerationEnd>),
    /// The last generation that the sender has sent once.
    Heard(u64),
    /// How the tree compares with the journal.
    Tallied { generation: u64, tally: Tally },
    /// What time it is.
    Time(SystemTime),
    /// Somebody asks.
    Ask(Ask),
    /// To be answered when all before it is on disk.
    Flush(Flush),
    /// Ends the thread.
    Stop,
}

/// Goes through all threads.
pub(super) struct Flush {
    /// Whether files that may be there already are to be looked at before, which takes as long as reading them.
    pub(super) with_checks: bool,
    pub(super) reply: Sender<()>,
}

/// What somebody asks.
pub(super) enum Ask {
    Want { time: SystemTime, reply: Sender<String> },
    Release { reply: Sender<Vec<u64>> },
    Restore { path: RelPath, reply: Sender<Result<(), String>> },
    Missing { limit: usize, reply: Sender<Vec<RelPath>> },
    Quarantined { limit: usize, reply: Sender<Vec<super::Quarantine>> },
}

/// What the thread that reads the link is to know.
pub(super) enum Feedback {
    /// A block was lost on its way to the disk.
    Lost { id: BlockId, length: u64, kind: ObjectKind },
    /// A block is done that was put together on disk.
    Done { id: BlockId, length: u64, kind: ObjectKind },
    /// These blocks of an object are there: ranges of the first and last.
    Has { object: u64, length: u64, present: Vec<(u64, u64)> },
    /// What was kept of a block.
    Loaded { id: BlockId, assembly: Option<Assembly> },
    /// A block was not kept.
    NotKept(BlockId),
    /// An object begins anew.
    Again(u64),
    /// Nothing of an object is wanted any more.
    Forget(u64),
    /// The same, of all objects up to one but some.
    Settled { last: u64, but: HashSet<u64> },
    /// The journal was opened, and of these objects nothing is wanted.
    Reset(Intervals),
    /// Memory that may be used again.
    Memory(Vec<u8>),
}
