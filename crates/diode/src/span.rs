//! In which order the symbols of blocks go out. The symbols of one block are spread evenly over a span of time, many
//! blocks at once, so that an outage takes a few of each and no more than their repair symbols replace.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::block::Layout;

/// The share of the repair symbols that an outage may take; the rest is for losses one by one.
pub(crate) const FOR_OUTAGE: f64 = 2.0 / 3.0;

/// For how long the symbols of a block are spread: so that an outage of this length takes no more of them than the repair
/// symbols replace, with a third of these to spare.
pub fn span(layout: Layout, repair: usize, outage: Duration) -> Duration {
    let symbols = (layout.source() + repair) as f64;
    outage.mul_f64(symbols / (FOR_OUTAGE * repair.max(1) as f64))
}

/// Blocks under way, and when their next symbols are due. Times are since any start.
#[derive(Debug)]
pub struct Spread<B> {
    /// By the time at which its next symbol is due.
    due: BinaryHeap<Reverse<Due>>,
    blocks: Vec<Option<Running<B>>>,
    free: Vec<usize>,
    /// Symbols per second that all of them make together.
    demand: f64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    block: usize,
}

#[derive(Debug)]
struct Running<B> {
    block: B,
    next: usize,
    symbols: usize,
    every: Duration,
}

impl<B> Default for Spread<B> {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), blocks: Vec::new(), free: Vec::new(), demand: 0.0 }
    }
}

impl<B: Clone> Spread<B> {
    /// Whether so many symbols per second leave room for another block. One may always begin.
    pub fn has_room(&self, symbols_per_s: f64) -> bool {
        self.due.is_empty() || self.demand < symbols_per_s
    }

    /// How many blocks are under way.
    pub fn blocks(&self) -> usize {
        self.due.len()
    }

    /// Begins a block of so many symbols, the first of which is due at once.
    pub fn begin(&mut self, now: Duration, block: B, symbols: usize, over: Duration) {
        if symbols == 0 {
            return;
        }
        let every = over / u32::try_from(symbols).unwrap_or(u32::MAX);
        let running = Running { block, next: 0, symbols, every };
        self.demand += rate_of(every);
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.blocks.push(None);
                self.blocks.len() - 1
            }
        };
        self.blocks[at] = Some(running);
        self.due.push(Reverse(Due { at: now, block: at }));
    }

    /// When the next symbol is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    /// The block of the next symbol that is due by now, and which it is. A sender that was held up sends what has become
    /// due meanwhile in the order in which it did.
    pub fn next(&mut self, now: Duration) -> Option<(B, usize)> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(Due { at, block: index }) = self.due.pop()?;
        let running = self.blocks[index].as_mut()?;
        let (block, symbol) = (running.block.clone(), running.next);
        running.next += 1;
        if running.next < running.symbols {
            self.due.push(Reverse(Due { at: at + running.every, block: index }));
        } else {
            self.demand = (self.demand - rate_of(running.every)).max(0.0);
            self.blocks[index] = None;
            self.free.push(index);
        }
        Some((block, symbol))
    }
}

fn rate_of(every: Duration) -> f64 {
    1.0 / every.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BLOCK;

    const MS: Duration = Duration::from_millis(1);

    /// Sends blocks at a rate, and gives what went out when.
    fn sent(
        layout: Layout,
        repair: usize,
        per_s: f64,
        blocks: usize,
    ) -> Vec<(Duration, usize, usize)> {
        let over = span(layout, repair, 50 * MS);
        let (mut spread, mut begun, mut out) = (Spread::default(), 0, Vec::new());
        for slot in 0.. {
            let now = Duration::from_secs_f64(slot as f64 / per_s);
            while begun < blocks && spread.has_room(per_s) {
                spread.begin(now, begun, layout.source() + repair, over);
                begun += 1;
            }
            match spread.next(now) {
                Some((block, symbol)) => out.push((now, block, symbol)),
                None if spread.blocks() == 0 && begun == blocks => return out,
                None => {}
            }
        }
        unreachable!("slots do not end")
    }

    #[test]
    fn no_outage_of_the_length_asked_for_costs_a_block() {
        // 1 Gbit/s in packets of 1,500 bytes, and 100 Mbit/s in such of 9,000.
        for (symbol, per_s, share) in
            [(1408, 83_333.0, 0.15), (8908, 1388.0, 0.2), (1408, 8333.0, 0.1)]
        {
            let layout = Layout::new(BLOCK, symbol).unwrap();
            let repair = layout.repair_to_send(share);
            let blocks = 150;
            let out = sent(layout, repair, per_s, blocks);
            let mut seen = vec![vec![false; layout.source() + repair]; blocks];
            for (_, block, symbol) in &out {
                assert!(!std::mem::replace(&mut seen[*block][*symbol], true), "twice");
            }
            assert!(seen.iter().flatten().all(|seen| *seen), "each symbol goes out");
            let end = out.last().unwrap().0;
            let mut from = Duration::ZERO;
            while from < end {
                let mut lost = vec![0; blocks];
                for (_, block, _) in
                    out.iter().filter(|(at, ..)| (from..from + 50 * MS).contains(at))
                {
                    lost[*block] += 1;
                }
                let worst = *lost.iter().max().unwrap();
                assert!(worst * 10 <= repair * 8, "{worst} of {repair} at {from:?}");
                from += 37 * MS;
            }
            // And the link is not left idle while there are blocks to begin.
            let last = out.iter().find(|(_, block, _)| *block == blocks - 1).unwrap().0;
            let before = out.iter().filter(|(at, ..)| *at < last).count();
            let busy = before as f64 / (last.as_secs_f64() * per_s);
            assert!(busy > 0.95, "{busy:.2} of the rate");
        }
    }

    #[test]
    fn what_is_due_goes_in_its_order_after_a_pause() {
        let mut spread = Spread::default();
        assert_eq!(spread.next(MS), None);
        spread.begin(Duration::ZERO, 'a', 3, 30 * MS);
        spread.begin(5 * MS, 'b', 2, 10 * MS);
        spread.begin(5 * MS, 'c', 0, 10 * MS);
        assert_eq!(spread.next(Duration::ZERO), Some(('a', 0)));
        assert_eq!(spread.next(4 * MS), None);
        assert_eq!(spread.next_due(), Some(5 * MS));
        let rest: Vec<_> = std::iter::from_fn(|| spread.next(100 * MS)).collect();
        assert_eq!(rest, [('b', 0), ('a', 1), ('b', 1), ('a', 2)]);
        assert!(spread.blocks() == 0 && spread.has_room(0.0));
    }
}
