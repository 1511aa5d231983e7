//! Buffers for payload that are used again: memory fresh from the system is zeroed page by page as it
//! is first touched, which for a chunk costs as much as hashing it. What lies idle here is bounded;
//! what is in use is bounded by those who use it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use files::CHUNK;

/// Idle buffers that are kept.
const MOST_IDLE: usize = 8;
/// Payload below this is cheaper to allocate than to look for.
const LEAST: usize = CHUNK as usize / 8;

/// Buffers of one transfer, each of which can hold a chunk. They go with the transfer.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    /// The fewest that lay here since the last trim: nobody needed those.
    fewest: usize,
}

impl Buffers {
    /// A buffer for `len` bytes, at most a chunk. What it holds, and how much, is of no meaning.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        if len < LEAST {
            return Vec::with_capacity(len);
        }
        let mut idle = self.idle();
        let buffer = idle.buffers.pop();
        idle.fewest = idle.fewest.min(idle.buffers.len());
        drop(idle);
        buffer.unwrap_or_else(|| vec![0; CHUNK as usize])
    }

    /// Takes a buffer back, whatever it holds.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() != CHUNK as usize {
            return;
        }
        let mut idle = self.idle();
        if idle.buffers.len() < MOST_IDLE {
            idle.buffers.push(buffer);
        }
    }

    /// Gives the system back what nobody needed since the last time; to be called now and then.
    pub(crate) fn trim(&self) {
        let mut idle = self.idle();
        let kept = idle.buffers.len() - idle.fewest;
        let unneeded = idle.buffers.split_off(kept);
        idle.fewest = kept;
        drop(idle);
        drop(unneeded);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of a buffer, which comes back when the last copy of it is gone.
    pub(crate) fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() != CHUNK as usize {
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(buffers: &Buffers) -> usize {
        buffers.idle().buffers.len()
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_copy_and_is_used_again() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(CHUNK as usize);
        buffer.truncate(0);
        buffer.extend_from_slice(b"payload");
        let place = buffer.as_ptr();
        let lent = buffers.lend(buffer);
        let part = lent.slice(3..);
        drop(lent);
        assert_eq!((&part[..], idle(&buffers)), (&b"load"[..], 0));
        drop(part);
        assert_eq!(idle(&buffers), 1);
        let again = buffers.take(CHUNK as usize);
        assert_eq!((again.as_ptr(), idle(&buffers)), (place, 0));
    }

    #[test]
    fn what_nobody_needs_goes_back() {
        let buffers = Buffers::default();
        let three: Vec<_> = (0..3).map(|_| buffers.take(CHUNK as usize)).collect();
        three.into_iter().for_each(|buffer| buffers.give(buffer));
        buffers.trim();
        assert_eq!(idle(&buffers), 3, "they were needed until now");
        let one = buffers.take(CHUNK as usize);
        buffers.give(one);
        buffers.trim();
        assert_eq!(idle(&buffers), 1, "one was enough");
        buffers.trim();
        assert_eq!(idle(&buffers), 0);
    }

    #[test]
    fn what_lies_idle_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<_> = (0..3 * MOST_IDLE).map(|_| buffers.take(CHUNK as usize)).collect();
        many.into_iter().for_each(|buffer| drop(buffers.lend(buffer)));
        assert_eq!(idle(&buffers), MOST_IDLE);
        // Neither small ones nor those that have grown are kept.
        let others = [buffers.take(7), Vec::with_capacity(3 * CHUNK as usize)];
        let before = idle(&buffers);
        others.into_iter().for_each(|buffer| buffers.give(buffer));
        assert_eq!(idle(&buffers), before);
    }
}
