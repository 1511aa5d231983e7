//! Holds a transfer to a rate that somebody set, whatever the link could carry. Takers are served in
//! the order in which they came; the average is exact, and a burst is one parcel.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub(crate) struct Limit {
    bytes_per_s: u64,
    /// When the next taker may go.
    next: Mutex<Instant>,
}

impl Limit {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), next: Mutex::new(Instant::now()) }
    }

    /// The rate in bytes per second.
    pub(crate) fn per_second(&self) -> u64 {
        self.bytes_per_s
    }

    /// The same limit without the turns that were given away.
    pub(crate) fn afresh(&self) -> Self {
        Self::new(self.bytes_per_s)
    }

    /// Waits until `bytes` may be sent.
    pub(crate) async fn take(&self, bytes: u64) {
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
