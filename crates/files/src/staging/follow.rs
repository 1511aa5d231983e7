//! The SHA-256 of a file that is arriving: the sum follows the chunks as they come to stand, in their order, so that
//! it is nearly done when the last one is written. Whoever has just written a chunk sums up what is next; one thread at
//! a time, and the others do not wait.

use std::sync::{Mutex, PoisonError, TryLockError};

use crate::error::Result;
use crate::sha256::{RunningSha256, Sha256};

/// Chunks that one writer reads back and sums up before it returns to its own work.
const AT_ONCE: u64 = 16;

/// The sum so far.
pub(super) struct Follow(Mutex<Front>);

struct Front {
    running: RunningSha256,
    /// The first chunk that is not in it.
    next: u64,
}

impl Follow {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Front { running: RunningSha256::new(), next: 0 }))
    }

    /// A chunk stands, whose bytes these are. `read` reads one that stands into the buffer, or says that it does not
    /// stand yet.
    pub(super) fn stands(
        &self,
        index: u64,
        data: &[u8],
        read: impl Fn(u64, &mut Vec<u8>) -> Result<bool>,
    ) -> Result<()> {
        let mut front = match self.0.try_lock() {
            Ok(front) => front,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever is at it may or may not see this chunk; the end reads what was left.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let mut buffer = Vec::new();
        for _ in 0..AT_ONCE {
            if front.next == index {
                front.running.update(data);
            } else if read(front.next, &mut buffer)? {
                front.running.update(&buffer);
            } else {
                break;
            }
            front.next += 1;
        }
        Ok(())
    }

    /// The sum over all chunks, which all stand.
    pub(super) fn finish(
        &self,
        count: u64,
        read: impl Fn(u64, &mut Vec<u8>) -> Result<bool>,
    ) -> Result<Option<Sha256>> {
        let mut front = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        while front.next < count {
            if !read(front.next, &mut buffer)? {
                return Ok(None);
            }
            front.running.update(&buffer);
            front.next += 1;
        }
        Ok(Some(front.running.clone().finish()))
    }
}
