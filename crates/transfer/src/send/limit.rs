//! Holds a transfer to a rate that somebody set, whatever the link could carry. Takers are served in
//! the order in which they came; the average is exact, and a burst is one parcel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub(crate) struct Limit {
    bytes_per_s: u64,
    /// When the next taker may go.
    next: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// Somebody who waits for a turn, also when that is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limit {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            next: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The rate in bytes per second.
    pub(crate) fn per_second(&self) -> u64 {
        self.bytes_per_s
    }

    /// Whether somebody waits for a turn.
    pub(crate) fn holds_back(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until `bytes` may be sent.
    pub(crate) async fn take(&self, bytes: u64) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let start = {
            let mut next = self.next.lock().await;
            let start = (*next).max(Instant::now());
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
            *next = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            start
        };
        sleep_until(start).await;
    }
}
