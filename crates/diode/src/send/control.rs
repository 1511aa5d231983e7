//! What others may see and change of a sender while it runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::Class;
use crate::want::WantList;

/// What a sender is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Look at the whole tree now.
    Scan,
    /// Tell the whole tree anew, for receivers that came late or lost something.
    Full,
    /// Send what a receiver lacks.
    Resend(WantList),
}

/// What a sender has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendStatus {
    /// Bytes a second that it may send.
    pub rate: u64,
    /// The last generation that was sent once; 0 if none.
    pub generation: u64,
    /// Entries of the tree that the generations so far tell.
    pub entries: u64,
    /// Files that were brought since the start, and their bytes.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Entries that were removed since the start.
    pub removed: u64,
    /// Bytes of frames with files and pages for the first time, again, and of all others.
    pub first_bytes: u64,
    /// Bytes of frames that went out again.
    pub again_bytes: u64,
    /// Bytes of announcements, records and filler.
    pub other_bytes: u64,
    /// Objects that have not gone out once.
    pub waiting: u64,
    /// Objects that will go out again.
    pub repeats: u64,
    /// Files that were not settled at the last scan.
    pub unsettled: u64,
    /// Entries that could not be read at the last scan.
    pub problems: u64,
    /// Seconds until the next scan.
    pub next_scan_s: u32,
    /// Whether what is sent is neither encrypted nor authenticated.
    pub is_plain: bool,
}

/// An end that is asked for again while it waits among the last so many is not said more often for that.
const MOST_RECENT: usize = 256;

/// The side of a sender that is shared.
#[derive(Debug, Default)]
pub struct Control {
    rate: AtomicU64,
    generation: AtomicU64,
    next_scan_s: AtomicU32,
    first_bytes: AtomicU64,
    again_bytes: AtomicU64,
    other_bytes: AtomicU64,
    has_ends: AtomicBool,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: VecDeque<Request>,
    ends: Vec<Vec<u8>>,
    told: SendStatus,
}

impl Control {
    /// Of a sender that may send so many bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate: AtomicU64::new(rate.max(1)), ..Self::default() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes a second that may go out.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Another rate from now on, in bytes a second.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate.max(1), Ordering::Relaxed);
    }

    /// Asks for something; it is done when what runs now is done.
    pub fn ask(&self, request: Request) {
        self.shared().requests.push_back(request);
    }

    /// What was done so far.
    pub fn status(&self) -> SendStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SendStatus {
            rate: self.rate(),
            generation: self.generation(),
            first_bytes: count(&self.first_bytes),
            again_bytes: count(&self.again_bytes),
            other_bytes: count(&self.other_bytes),
            next_scan_s: self.next_scan_s(),
            ..self.shared().told
        }
    }

    pub(crate) fn next_request(&self) -> Option<Request> {
        self.shared().requests.pop_front()
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut SendStatus)) {
        change(&mut self.shared().told);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What had gone out before a restart: generations up to this one, that tell so many entries.
    pub(crate) fn has_sent(&self, generation: u64, entries: u64) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
        self.shared().told.entries = entries;
    }

    /// A generation has gone out: its end is to be said.
    pub(crate) fn generation_ended(&self, generation: u64, record: Vec<u8>) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
        let ends = &mut self.shared().ends;
        let recent = ends.len().saturating_sub(MOST_RECENT);
        if !ends[recent..].contains(&record) {
            ends.push(record);
            self.has_ends.store(true, Ordering::Relaxed);
        }
    }

    /// Whether ends of generations are to be said.
    pub(crate) fn has_ends(&self) -> bool {
        self.has_ends.load(Ordering::Relaxed)
    }

    /// Ends of generations that are to be said, so many at most: those first that were told or asked for last. After a
    /// restart there may be hundreds of old ones.
    pub(crate) fn take_ends(&self, most: usize) -> Vec<Vec<u8>> {
        let ends = &mut self.shared().ends;
        let first = ends.len().saturating_sub(most);
        self.has_ends.store(first > 0, Ordering::Relaxed);
        ends.split_off(first)
    }

    pub(crate) fn next_scan_s(&self) -> u32 {
        self.next_scan_s.load(Ordering::Relaxed)
    }

    pub(crate) fn set_next_scan_s(&self, seconds: u64) {
        self.next_scan_s.store(seconds.try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(crate) fn count_symbol(&self, class: Class, bytes: usize) {
        let counter = if class == Class::Repeat { &self.again_bytes } else { &self.first_bytes };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_other(&self, bytes: usize) {
        self.other_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
