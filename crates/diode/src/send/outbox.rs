//! What waits to go out, between those that make it and the engine that sends it: records, blocks by class, and what has
//! gone out. Who makes blocks faster than the link carries them waits here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::block::Layout;
use crate::frame::Class;
use crate::symbol::SymbolHead;

/// Blocks of a class that may wait. What they spread over is under way, and does not count.
const MOST_BLOCKS: usize = 16;

/// Bytes of stream records that may wait.
const MOST_STREAM: usize = 4 << 20;

/// Buffers that are kept to be used again, so that no block costs fresh memory: as many as were under way, whose blocks
/// begin and end in waves, and a few when nothing is.
const MOST_SPARE: usize = 4096;
const IDLE_SPARE: usize = 32;

/// A block that is to go out, with its repair symbols.
#[derive(Debug)]
pub(crate) struct OutBlock {
    /// What its frames are for.
    pub(crate) class: Class,
    /// The head of each of its symbols but for their number.
    pub(crate) head: SymbolHead,
    pub(crate) layout: Layout,
    /// The block.
    pub(crate) source: Vec<u8>,
    /// The repair symbols that are sent.
    pub(crate) repair: Vec<u8>,
}

impl OutBlock {
    /// How many symbols go out.
    pub(crate) fn symbols(&self) -> usize {
        self.layout.source() + self.repair.len() / self.layout.symbol()
    }

    /// The bytes of a symbol that are there, and how many zeros follow them.
    pub(crate) fn symbol(&self, at: usize) -> (&[u8], usize) {
        let size = self.layout.symbol();
        match at.checked_sub(self.layout.source()) {
            Some(repair) => (&self.repair[repair * size..][..size], 0),
            None => {
                let rest = &self.source[at * size..];
                let bytes = &rest[..rest.len().min(size)];
                (bytes, size - bytes.len())
            }
        }
    }
}

/// The last symbol of a block has gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) object: u64,
    pub(crate) block: u32,
}

/// The end is near; nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The engine waits for something to send.
    news: Condvar,
    /// Makers wait for room.
    room: Condvar,
    /// The feed waits for what has gone out.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stream: VecDeque<Vec<u8>>,
    stream_bytes: usize,
    blocks: [VecDeque<OutBlock>; Class::ALL.len()],
    /// Blocks that the engine has taken and not sent to their end.
    under_way: usize,
    gone: Vec<Gone>,
    spare: Vec<Vec<u8>>,
    /// Those that held repair symbols, which are shorter.
    spare_repair: Vec<Vec<u8>>,
    is_closed: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record of a channel. One that may not wait is not taken where there is no room for it.
    pub(crate) fn stream(&self, record: &[u8], may_wait: bool) -> bool {
        let mut state = self.state();
        while state.stream_bytes + record.len() > MOST_STREAM && !state.is_closed {
            if !may_wait {
                return false;
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return false;
        }
        state.stream_bytes += record.len();
        state.stream.push_back(record.to_vec());
        drop(state);
        self.news.notify_one();
        true
    }

    /// A block, when there is room for it.
    pub(crate) fn block(&self, block: OutBlock) -> Result<(), Closed> {
        let class = block.class as usize;
        let mut state = self.state();
        while state.blocks[class].len() >= MOST_BLOCKS && !state.is_closed {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return Err(Closed);
        }
        state.blocks[class].push_back(block);
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// An empty buffer for a block, one that was used before if there is one.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.state().spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// The same for the repair symbols of a block.
    pub(crate) fn repair_buffer(&self) -> Vec<u8> {
        let mut buffer = self.state().spare_repair.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// What has gone out since the last call, after waiting for it for a while.
    pub(crate) fn wait_gone(&self, timeout: Duration) -> Vec<Gone> {
        let mut state = self.state();
        if state.gone.is_empty() && !timeout.is_zero() {
            let waited = self.gone.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut state.gone)
    }

    /// Whether nothing waits and nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.stream.is_empty()
            && state.under_way == 0
            && state.blocks.iter().all(VecDeque::is_empty)
    }

    /// Takes nothing more, and lets nobody wait.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.room.notify_all();
        self.news.notify_all();
        self.gone.notify_all();
    }

    /// For the engine: so many of the records of channels that wait.
    pub(crate) fn take_records(&self, stream: &mut VecDeque<Vec<u8>>, most: usize) {
        let mut state = self.state();
        if !state.stream.is_empty() {
            let count = state.stream.len().min(most);
            let taken: usize = state.stream.iter().take(count).map(Vec::len).sum();
            stream.extend(state.stream.drain(..count));
            state.stream_bytes -= taken;
            drop(state);
            self.room.notify_all();
        }
    }

    /// For the engine: the next block of a class that `choose` picks among those that wait.
    pub(crate) fn take_block(
        &self,
        choose: impl FnOnce(&dyn Fn(Class) -> bool) -> Option<Class>,
    ) -> Option<OutBlock> {
        let mut state = self.state();
        let class = choose(&|class| !state.blocks[class as usize].is_empty())?;
        let block = state.blocks[class as usize].pop_front()?;
        state.under_way += 1;
        drop(state);
        self.room.notify_all();
        Some(block)
    }

    /// For the engine: a block has gone out, and its memory may be used again.
    pub(crate) fn has_gone(&self, block: OutBlock) {
        let mut state = self.state();
        state.under_way -= 1;
        state.gone.push(Gone { object: block.head.object, block: block.head.block });
        let State { spare, spare_repair, .. } = &mut *state;
        for (spare, buffer) in [(&mut *spare, block.source), (&mut *spare_repair, block.repair)] {
            if spare.len() < MOST_SPARE {
                spare.push(buffer);
            }
        }
        if state.under_way == 0 && state.blocks.iter().all(VecDeque::is_empty) {
            state.spare.truncate(IDLE_SPARE);
            state.spare_repair.truncate(IDLE_SPARE);
        }
        drop(state);
        self.gone.notify_all();
    }

    /// For the engine: waits until something new is there, or the time is over.
    pub(crate) fn wait_news(&self, timeout: Duration) {
        let state = self.state();
        let is_idle = state.stream.is_empty() && !state.is_closed;
        if is_idle {
            drop(self.news.wait_timeout(state, timeout));
        }
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbol::ObjectKind;

    fn block(class: Class, object: u64, length: usize) -> OutBlock {
        let head = SymbolHead {
            object,
            length: length as u64,
            block: 0,
            symbol: 0,
            kind: ObjectKind::Content,
        };
        let layout = Layout::new(length, 100).unwrap();
        let source: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let repair = crate::block::repair_symbols(layout, &source, 3);
        OutBlock { class, head, layout, source, repair }
    }

    #[test]
    fn symbols_are_those_of_the_block_and_its_repair() {
        let block = block(Class::New, 1, 250);
        assert_eq!(block.symbols(), 6);
        assert_eq!(block.symbol(1), (&block.source[100..200], 0));
        assert_eq!(block.symbol(2), (&block.source[200..], 50));
        assert_eq!(block.symbol(5), (&block.repair[200..], 0));
    }

    #[test]
    fn who_makes_too_much_waits_until_the_engine_has_taken_or_the_end() {
        let outbox = Outbox::default();
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let made = (0..40).take_while(|n| outbox.block(block(Class::New, *n, 10)).is_ok());
                made.count()
            });
            let mut taken = Vec::new();
            while taken.len() < 20 {
                if let Some(block) = outbox.take_block(|_| Some(Class::New)) {
                    taken.push(block.head.object);
                    assert!(!outbox.is_empty());
                    outbox.has_gone(block);
                }
            }
            assert_eq!(taken, (0..20).collect::<Vec<_>>());
            outbox.close();
            assert!((20..=36).contains(&maker.join().unwrap()));
        });
        assert_eq!(outbox.wait_gone(Duration::ZERO).len(), 20);
        assert!(outbox.buffer().capacity() > 0);
    }

    #[test]
    fn a_record_that_may_not_wait_is_dropped_where_there_is_no_room() {
        let outbox = Outbox::default();
        assert!(outbox.stream(&vec![0; MOST_STREAM], false) && !outbox.stream(&[1], false));
        let mut stream = VecDeque::new();
        outbox.take_records(&mut stream, 10);
        assert!(outbox.stream(&[1], true) && stream.len() == 1);
    }
}
