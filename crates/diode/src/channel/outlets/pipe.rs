//! The bytes of one connection on their way to the thread that hands them on: a bounded queue. Who puts them in never
//! waits; a program that is too slow loses the connection, or a part of it that it is told of by a reset.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Figures;

/// Bytes of a connection that may wait.
const MOST_WAITING: usize = 16 << 20;

/// Bytes of all connections that may wait.
const MOST_OF_ALL: usize = 128 << 20;

/// Small pieces are put together up to this size.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    goes_on: bool,
    figures: Arc<Figures>,
    /// Bytes of all pipes that wait.
    all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Whether it ended as its sender wanted, once it has.
    ended: Option<bool>,
    is_dead: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Cut,
}

/// What comes out.
pub(super) enum Next {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// Bytes are missing here.
    Cut,
    /// Nothing more comes; whether that is what the sender wanted.
    End(bool),
    /// Nobody wants it any more.
    Dead,
    /// Nothing yet.
    Nothing,
}

impl Pipe {
    pub(super) fn new(goes_on: bool, figures: Arc<Figures>, all: Arc<AtomicUsize>) -> Arc<Self> {
        let (state, changed) = Default::default();
        Arc::new(Self { state, changed, goes_on, figures, all })
    }

    /// One that takes nothing.
    pub(super) fn dead() -> Arc<Self> {
        let pipe = Self::new(false, Arc::default(), Arc::default());
        pipe.die();
        pipe
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Pieces move in and out whole, so what is behind the lock holds also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, bytes: Vec<u8>) {
        let length = bytes.len();
        let mut state = self.state();
        if state.is_dead || state.ended.is_some() {
            Figures::add(&self.figures.lost_bytes, length);
            return;
        }
        let others = self.all.load(Ordering::Relaxed);
        if state.bytes + length > MOST_WAITING || others + length > MOST_OF_ALL {
            self.empty(&mut state);
            if !self.goes_on {
                Figures::add(&self.figures.lost_bytes, length);
                state.is_dead = true;
                self.changed.notify_all();
                return;
            }
            state.pieces.push_back(Piece::Cut);
        }
        state.bytes += length;
        self.all.fetch_add(length, Ordering::Relaxed);
        match state.pieces.back_mut() {
            Some(Piece::Bytes(last)) if last.len() + length <= PIECE => last.extend(bytes),
            _ => state.pieces.push_back(Piece::Bytes(bytes)),
        }
        self.changed.notify_all();
    }

    /// Bytes are missing here.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        if !state.is_dead && state.ended.is_none() {
            state.pieces.push_back(Piece::Cut);
        }
        self.changed.notify_all();
    }

    /// Nothing more comes.
    pub(super) fn end(&self, is_whole: bool) {
        self.state().ended.get_or_insert(is_whole);
        self.changed.notify_all();
    }

    /// Nobody takes any more.
    pub(super) fn die(&self) {
        let mut state = self.state();
        self.empty(&mut state);
        state.is_dead = true;
        self.changed.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// What comes next, or nothing within this time.
    pub(super) fn next(&self, timeout: Duration) -> Next {
        let is_idle =
            |state: &mut State| state.pieces.is_empty() && state.ended.is_none() && !state.is_dead;
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, timeout, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.is_dead {
            return Next::Dead;
        }
        match (state.pieces.pop_front(), state.ended) {
            (Some(Piece::Bytes(bytes)), _) => {
                state.bytes -= bytes.len();
                self.all.fetch_sub(bytes.len(), Ordering::Relaxed);
                Next::Bytes(bytes)
            }
            (Some(Piece::Cut), _) => Next::Cut,
            (None, Some(is_whole)) => Next::End(is_whole),
            (None, None) => Next::Nothing,
        }
    }

    fn empty(&self, state: &mut State) {
        Figures::add(&self.figures.lost_bytes, state.bytes);
        self.all.fetch_sub(state.bytes, Ordering::Relaxed);
        state.pieces.clear();
        state.bytes = 0;
    }
}
