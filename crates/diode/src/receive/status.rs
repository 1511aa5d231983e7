//! What is known of a receiver while it runs, and how much may wait inside of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::FilesError;
use link::PublicKey;

use crate::event::{DiodeEvent, OnEvent, Refusal, Tally};
use crate::record::Heartbeat;

/// A receiver's figures, at one moment.
#[derive(Debug, Clone, Default)]
pub struct ReceiveStatus {
    /// What comes over the link.
    pub link: LinkStatus,
    /// What has become of the tree.
    pub tree: TreeStatus,
}

/// What comes over the link. Counts are since the receiver began.
#[derive(Debug, Clone, Default)]
pub struct LinkStatus {
    /// Whose session is followed, and its epoch.
    pub session: Option<(PublicKey, u64)>,
    /// Whether that session is neither encrypted nor authenticated.
    pub is_plain: bool,
    /// What the sender said last of itself.
    pub heartbeat: Option<Heartbeat>,
    /// Whether it was not heard for a while.
    pub is_silent: bool,
    /// Frames that were taken, and their bytes with headers.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames that were sent and not taken, from one heartbeat to the next: lost on the link, or dropped here.
    pub lost: u64,
    /// Frames and payloads that were not taken, by the reason, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Bytes of a stream that were of no frame.
    pub skipped_bytes: u64,
    /// Blocks that were put together.
    pub blocks: u64,
    /// Those of them for which repair symbols were needed.
    pub restored: u64,
    /// Blocks that the disk was too slow for.
    pub dropped: u64,
    /// Bytes of blocks that are being put together.
    pub in_memory: u64,
    /// Bytes that wait for the disk.
    pub waiting: u64,
}

/// What has become of the tree, as it is in the journal.
#[derive(Debug, Clone, Default)]
pub struct TreeStatus {
    /// Whose tree it is.
    pub sender: Option<PublicKey>,
    /// The generation that is applied, and how many of its pages were.
    pub generation: u64,
    /// Pages of it that were applied.
    pub pages: u32,
    /// The last generation whose manifest is whole.
    pub whole: u64,
    /// The last generation of which everything is there.
    pub complete: u64,
    /// Entries that the tree should have.
    pub entries: u64,
    /// Files of them that have not arrived.
    pub wanted: u64,
    /// What was taken out of the tree and is kept.
    pub quarantined: u64,
    /// Generations whose removals wait for somebody to agree.
    pub held_back: Vec<u64>,
    /// The last generation that was not taken since the sender's memory was set back, until it tells the whole tree.
    pub set_back: Option<u64>,
    /// Files that were published since the receiver began, and their bytes.
    pub published: u64,
    /// Bytes of them.
    pub published_bytes: u64,
    /// What was removed since then.
    pub removed: u64,
    /// How often a file could not be published since then.
    pub failed: u64,
    /// The last comparison of tree and journal, and at the end of which generation it was made.
    pub tally: Option<(u64, Tally)>,
    /// Whether the disk is full.
    pub is_full: bool,
    /// Why the journal cannot be kept, if it cannot.
    pub trouble: Option<String>,
}

/// A receiver's figures for other threads.
#[derive(Clone)]
pub struct StatusHandle(pub(super) Arc<Shared>);

impl StatusHandle {
    /// The figures now.
    pub fn read(&self) -> ReceiveStatus {
        let mut status = self.0.status().clone();
        status.link.waiting = self.0.waiting() as u64;
        status
    }
}

/// What the threads of a receiver share.
pub(super) struct Shared {
    status: Mutex<ReceiveStatus>,
    /// Bytes that wait for the disk.
    gauge: AtomicUsize,
    is_full: AtomicBool,
    on_event: OnEvent,
    /// After so many steps the keeper is killed.
    #[cfg(test)]
    pub(super) fuse: std::sync::atomic::AtomicI64,
    /// The disk is said to be full.
    #[cfg(test)]
    pub(super) no_room: AtomicBool,
}

impl Shared {
    pub(super) fn new(on_event: OnEvent) -> Arc<Self> {
        let (status, gauge) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self {
            status,
            gauge,
            is_full: AtomicBool::new(false),
            on_event,
            #[cfg(test)]
            fuse: std::sync::atomic::AtomicI64::new(i64::MAX),
            #[cfg(test)]
            no_room: AtomicBool::new(false),
        })
    }

    /// Where tests have the process killed: before each change to the tree or the journal, and after the latter.
    pub(super) fn step(&self) {
        #[cfg(test)]
        if self.fuse.fetch_sub(1, Ordering::Relaxed) <= 0 {
            std::panic::resume_unwind(Box::new("killed by a test"));
        }
    }

    /// Where tests have the disk be full.
    pub(super) fn room(&self) -> Result<(), FilesError> {
        #[cfg(test)]
        if self.no_room.load(Ordering::Relaxed) {
            // ENOSPC
            let source = std::io::Error::from_raw_os_error(28);
            let (action, path) = (files::Action::Write, std::path::PathBuf::from("the tree"));
            return Err(FilesError::Io { action, path, source });
        }
        Ok(())
    }

    pub(super) fn status(&self) -> MutexGuard<'_, ReceiveStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: &DiodeEvent) {
        (self.on_event)(event);
    }

    /// Whether the disk took what was written last; told when it changes.
    pub(super) fn disk_is_full(&self, is_full: bool) {
        if self.is_full.load(Ordering::Relaxed) == is_full {
            return;
        }
        self.is_full.store(is_full, Ordering::Relaxed);
        self.status().tree.is_full = is_full;
        self.tell(if is_full { &DiodeEvent::DiskFull } else { &DiodeEvent::DiskHasRoom });
    }

    /// Bytes that wait for the disk.
    pub(super) fn waiting(&self) -> usize {
        self.gauge.load(Ordering::Relaxed)
    }

    /// Room for so many bytes; None if more than `most` would wait then.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize, most: usize) -> Option<Charge> {
        let before = self.gauge.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { shared: self.clone(), bytes };
        (before + bytes <= most).then_some(charge)
    }
}

/// Bytes that wait, until it is dropped.
pub(super) struct Charge {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.gauge.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
