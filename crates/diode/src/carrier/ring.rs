//! What lies between the thread that drains a socket and the one that works on what came: a bounded queue of buffers
//! that are used again and again. Datagrams never wait for room: those for which there is none are dropped and counted.
//! A stream does wait, and so does its sender.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a buffer: the kernel joins datagrams up to the longest IP packet, and cuts what does not fit.
pub(super) const BUFFER: usize = 64 * 1024;

/// What is shorter than this is copied behind what waits already, so that single datagrams do not take a buffer each.
const SHORT: usize = BUFFER / 4;

/// Datagrams in a buffer at most, so that tiny ones do not take more memory than a buffer has.
const MOST_DATAGRAMS: usize = 4096;

/// The fewest buffers that a ring works with.
const LEAST_BUFFERS: usize = 64;

/// Memory for bytes that have come.
pub(super) struct Storage {
    bytes: Box<[u8]>,
    /// How many of them have come.
    length: usize,
    /// Where each datagram ends.
    ends: Vec<u32>,
}

impl Storage {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER].into_boxed_slice(), length: 0, ends: Vec::new() }
    }

    /// All of the memory, to receive into.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn clear(&mut self) {
        self.length = 0;
        self.ends.clear();
    }

    /// Notes that `length` bytes have come after what is there, as datagrams of `stride` bytes but for the last.
    fn came(&mut self, length: usize, stride: usize) {
        let end = self.length + length;
        loop {
            self.length = end.min(self.length + stride.max(1));
            self.ends.push(self.length as u32);
            if self.length == end {
                return;
            }
        }
    }
}

/// One received message: datagrams of the same size one behind the other, the last of which may be shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub length: usize,
    pub stride: usize,
}

impl Message {
    pub(super) fn datagrams(&self) -> usize {
        self.length.div_ceil(self.stride.max(1)).max(1)
    }
}

/// What kind of bytes a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Datagrams,
    Stream { is_new: bool },
}

/// The queue, and the buffers that are free.
pub(super) struct Ring {
    state: Mutex<State>,
    /// Something has come, or nothing will any more.
    came: Condvar,
    /// A buffer is free, or nobody wants it any more.
    freed: Condvar,
    /// Buffers that may exist.
    most: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Held, Storage)>,
    free: Vec<Storage>,
    made: usize,
    taker_waits: bool,
    is_closed: bool,
}

impl Ring {
    /// A ring of at most so many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let most = (bytes / BUFFER).max(LEAST_BUFFERS);
        Arc::new(Self {
            state: Mutex::default(),
            came: Condvar::new(),
            freed: Condvar::new(),
            most,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Buffers move in and out whole, so what is behind the lock holds also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is wanted.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.came.notify_all();
        self.freed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Takes what has come into these slots, which get other memory where theirs is kept. Gives how many datagrams were
    /// dropped, because whoever is to work on them is too slow.
    pub(super) fn give(&self, slots: &mut [Storage], messages: &[Message]) -> usize {
        let mut dropped = 0;
        let mut state = self.state();
        for (slot, message) in slots.iter_mut().zip(messages) {
            let kept = match message.length {
                0..SHORT => state.append(slot, message, self.most),
                _ => state.swap(slot, message, self.most),
            };
            if !kept {
                dropped += message.datagrams();
            }
        }
        let wake = state.taker_waits && !state.queue.is_empty();
        drop(state);
        if wake {
            self.came.notify_one();
        }
        dropped
    }

    /// Memory to read a stream into, as soon as there is some; None once nothing more is wanted.
    pub(super) fn wait_for_room(&self) -> Option<Storage> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(storage) = state.take_free(self.most) {
                return Some(storage);
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes memory into which so many bytes of a stream have come.
    pub(super) fn give_stream(&self, mut storage: Storage, length: usize, is_new: bool) {
        storage.length = length.min(storage.bytes.len());
        let mut state = self.state();
        state.queue.push_back((Held::Stream { is_new }, storage));
        let wake = state.taker_waits;
        drop(state);
        if wake {
            self.came.notify_one();
        }
    }

    /// Memory that was not needed.
    pub(super) fn give_back(&self, mut storage: Storage) {
        storage.clear();
        self.state().free.push(storage);
        self.freed.notify_one();
    }

    /// What came first; None if nothing does within this time.
    pub(super) fn take(self: &Arc<Self>, timeout: Duration) -> Option<(Held, Buffer)> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            if let Some((held, storage)) = state.queue.pop_front() {
                return Some((held, Buffer { storage: Some(storage), ring: self.clone() }));
            }
            let left =
                until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if state.is_closed || left.is_zero() {
                return None;
            }
            state.taker_waits = true;
            let waited = self.came.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.taker_waits = false;
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} buffers)", self.most)
    }
}

impl State {
    /// Memory that is free: what was used last comes first, since it is still in the processor's caches.
    fn take_free(&mut self, most: usize) -> Option<Storage> {
        if let Some(storage) = self.free.pop() {
            return Some(storage);
        }
        (self.made < most).then(|| {
            self.made += 1;
            Storage::new()
        })
    }

    /// Copies a short message behind what waits already, or into memory of its own.
    fn append(&mut self, slot: &Storage, message: &Message, most: usize) -> bool {
        let bytes = &slot.bytes[..message.length];
        let last = self.queue.back_mut();
        let room = last.filter(|(held, last)| {
            *held == Held::Datagrams
                && last.length + bytes.len() <= last.bytes.len()
                && last.ends.len() + message.datagrams() <= MOST_DATAGRAMS
        });
        let storage = match room {
            Some((_, last)) => last,
            None => {
                let Some(free) = self.take_free(most) else { return false };
                self.queue.push_back((Held::Datagrams, free));
                let Some((_, last)) = self.queue.back_mut() else { return false };
                last
            }
        };
        let at = storage.length;
        storage.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        storage.came(message.length, message.stride);
        true
    }

    /// Keeps the memory of a long message and leaves other in its place.
    fn swap(&mut self, slot: &mut Storage, message: &Message, most: usize) -> bool {
        let Some(free) = self.take_free(most) else { return false };
        let mut storage = std::mem::replace(slot, free);
        storage.came(message.length.min(BUFFER), message.stride);
        self.queue.push_back((Held::Datagrams, storage));
        true
    }
}

/// Bytes that have come. Their memory is used again when this is dropped, so it is not to be kept for long.
pub struct Buffer {
    storage: Option<Storage>,
    ring: Arc<Ring>,
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.storage.as_ref().map_or(&[], |storage| &storage.bytes[..storage.length])
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.storage.as_mut().map_or(&mut [], |storage| &mut storage.bytes[..storage.length])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(storage) = self.storage.take() {
            self.ring.give_back(storage);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

/// Datagrams that have come, in the order in which they did.
#[derive(Debug)]
pub struct Datagrams(pub(super) Buffer);

impl Datagrams {
    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.storage.as_ref().map_or(0, |storage| storage.ends.len())
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// One after the other, to be opened in place.
    pub fn iter_mut(&mut self) -> DatagramsMut<'_> {
        match &mut self.0.storage {
            Some(storage) => {
                let rest = &mut storage.bytes[..storage.length];
                DatagramsMut { rest, at: 0, ends: storage.ends.iter() }
            }
            None => DatagramsMut { rest: &mut [], at: 0, ends: [].iter() },
        }
    }
}

impl<'a> IntoIterator for &'a mut Datagrams {
    type Item = &'a mut [u8];
    type IntoIter = DatagramsMut<'a>;

    fn into_iter(self) -> DatagramsMut<'a> {
        self.iter_mut()
    }
}

/// Datagrams one after the other.
#[derive(Debug)]
pub struct DatagramsMut<'a> {
    rest: &'a mut [u8],
    at: u32,
    ends: std::slice::Iter<'a, u32>,
}

impl<'a> Iterator for DatagramsMut<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<&'a mut [u8]> {
        let end = *self.ends.next()?;
        let rest = std::mem::take(&mut self.rest);
        let (datagram, rest) = rest.split_at_mut((end - self.at) as usize);
        (self.rest, self.at) = (rest, end);
        Some(datagram)
    }
}

#[cfg(test)]
mod tests;
