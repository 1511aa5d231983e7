//! What progress is drawn from: atomics that the transfer adds to and anyone may read.
//!
//! Counters only grow during a job and are read one by one, so a snapshot is no moment in time: it
//! may show a file done whose bytes are counted an instant later. That is good enough to draw and
//! never enough to decide with.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::bound::{Bound, BoundGauge};

/// One number.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces; for gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one job, shared as `Arc<Counters>`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Directory entries of any kind that the walk has seen.
    pub entries: Count,
    /// Files that the walk has seen; grows until the walk is finished.
    pub files_total: Count,
    /// Files at their final name because of this job.
    pub files_done: Count,
    /// Files that were there already.
    pub files_skipped: Count,
    /// Files that will not arrive in this job.
    pub files_failed: Count,
    /// Bytes of the files that the walk has seen; grows until the walk is finished.
    pub bytes_total: Count,
    /// Bytes that need not be sent any more: the target has them, verified.
    pub bytes_acknowledged: Count,
    /// Payload bytes put on the wire, those sent again included.
    pub bytes_sent: Count,
    /// The link's own figures.
    pub link: LinkFigures,
    /// What holds the job back.
    pub bound: BoundGauge,
    walk_finished: AtomicBool,
    current: Mutex<Option<Arc<[u8]>>>,
}

impl Counters {
    /// All at zero, with no current file.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on the totals are final.
    pub fn finish_walk(&self) {
        // Pairs with the load in `snapshot`: who sees the flag sees the totals.
        self.walk_finished.store(true, Ordering::Release);
    }

    /// Names the file that is being carried, by its path relative to the job's root.
    pub fn set_current(&self, path: Option<&[u8]>) {
        let path = path.map(Arc::from);
        // Only pointers move under the lock: neither side can hold it long or panic with it.
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// All figures as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let walk_finished = self.walk_finished.load(Ordering::Acquire);
        Snapshot {
            entries: self.entries.get(),
            files_total: self.files_total.get(),
            files_done: self.files_done.get(),
            files_skipped: self.files_skipped.get(),
            files_failed: self.files_failed.get(),
            bytes_total: self.bytes_total.get(),
            bytes_acknowledged: self.bytes_acknowledged.get(),
            bytes_sent: self.bytes_sent.get(),
            walk_finished,
            link: self.link.snapshot(),
            bound: self.bound.now(),
            current: self.current.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// What the link says about itself; gauges, set by whoever owns the link.
#[derive(Debug, Default)]
pub struct LinkFigures {
    /// Smoothed round trip, in microseconds.
    pub rtt_micros: Count,
    /// Packets sent over all lanes.
    pub packets_sent: Count,
    /// Packets declared lost.
    pub packets_lost: Count,
    /// Congestion window, in bytes.
    pub congestion_window: Count,
    /// Connections in use; 0 before the first.
    pub connections: Count,
    /// 1 if the lane is TCP.
    pub is_tcp: Count,
    /// 1 if the lane goes through the pipe of another program.
    pub is_pipe: Count,
    /// 1 if what is sent leaves the path to others.
    pub gives_way: Count,
    /// The rate of an earlier lane that this one began with, in bytes per second; 0 if there was none.
    pub remembered_rate: Count,
}

impl LinkFigures {
    fn snapshot(&self) -> LinkSnapshot {
        LinkSnapshot {
            rtt: Duration::from_micros(self.rtt_micros.get()),
            packets_sent: self.packets_sent.get(),
            packets_lost: self.packets_lost.get(),
            congestion_window: self.congestion_window.get(),
            connections: self.connections.get(),
            is_tcp: self.is_tcp.get() == 1,
            is_pipe: self.is_pipe.get() == 1,
            gives_way: self.gives_way.get() == 1,
            remembered_rate: self.remembered_rate.get(),
        }
    }
}

/// [`Counters`] as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of Counters, documented there")]
pub struct Snapshot {
    pub entries: u64,
    pub files_total: u64,
    pub files_done: u64,
    pub files_skipped: u64,
    pub files_failed: u64,
    pub bytes_total: u64,
    pub bytes_acknowledged: u64,
    pub bytes_sent: u64,
    /// The totals are final.
    pub walk_finished: bool,
    pub link: LinkSnapshot,
    /// What holds the job back now.
    pub bound: Bound,
    /// The file that is being carried.
    pub current: Option<Arc<[u8]>>,
}

impl Snapshot {
    /// Bytes that still have to arrive, once the walk has seen everything.
    #[must_use]
    pub fn bytes_left(&self) -> Option<u64> {
        self.walk_finished.then(|| self.bytes_total.saturating_sub(self.bytes_acknowledged))
    }
}

/// [`LinkFigures`] as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of LinkFigures, documented there")]
pub struct LinkSnapshot {
    pub rtt: Duration,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub congestion_window: u64,
    pub connections: u64,
    pub is_tcp: bool,
    pub is_pipe: bool,
    pub gives_way: bool,
    pub remembered_rate: u64,
}

impl LinkSnapshot {
    /// Lost packets among those sent, in 0..=1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.packets_sent == 0 {
            return 0.0;
        }
        (self.packets_lost as f64 / self.packets_sent as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests;
