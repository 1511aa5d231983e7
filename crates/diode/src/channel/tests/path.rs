//! A path between inlets and outlets, in memory: each record goes out three times, as a sender does, and copies of it are
//! lost, come twice and overtake one another, by a seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::channel::{ChannelCounters, Outlets, StreamSink};
use crate::record::{Record, Records};
use crate::rig::Random;

/// When copies go out.
const COPIES: [u64; 3] = [0, 20, 60];

/// Bytes of a record.
const MOST_RECORD: usize = 1400;

/// What becomes of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A copy of each arrives, sooner or later.
    Late,
    /// Of one in 25 with data none arrives.
    Lost,
}

pub(super) struct Path(Arc<Way>);

struct Way {
    fate: Fate,
    state: Mutex<State>,
    stop: AtomicBool,
}

struct State {
    random: Random,
    /// What is under way, by when it arrives.
    records: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
}

impl StreamSink for Way {
    fn push(&self, record: &[u8], may_wait: bool) -> bool {
        assert!(record.len() <= MOST_RECORD);
        loop {
            let mut state = self.state.lock().unwrap();
            if state.records.len() < 20_000 {
                state.push(record, self.fate);
                return true;
            }
            drop(state);
            if !may_wait || self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn most_record(&self) -> usize {
        MOST_RECORD
    }
}

impl State {
    fn push(&mut self, record: &[u8], fate: Fate) {
        let is_data = Records::of(record).any(|record| {
            matches!(record, Ok(Record::ChannelData { .. } | Record::ChannelPiece { .. }))
        });
        if fate == Fate::Lost && is_data && self.random.below(25) == 0 {
            return;
        }
        let kept = self.random.below(COPIES.len());
        for (at, late) in COPIES.into_iter().enumerate() {
            if at != kept && self.random.below(100) < 20 {
                continue;
            }
            for _ in 0..1 + usize::from(self.random.below(20) == 0) {
                let micros = late * 1000 + self.random.below(5000) as u64;
                self.count += 1;
                let arrives = Instant::now() + Duration::from_micros(micros);
                self.records.insert((arrives, self.count), record.to_vec());
            }
        }
    }
}

impl Path {
    pub(super) fn new(seed: u64, fate: Fate) -> Self {
        let state = State { random: Random(seed), records: BTreeMap::new(), count: 0 };
        Self(Arc::new(Way { fate, state: Mutex::new(state), stop: AtomicBool::new(false) }))
    }

    pub(super) fn sink(&self) -> Arc<dyn StreamSink> {
        self.0.clone()
    }

    /// Loses whatever is under way.
    pub(super) fn lose_all(&self) {
        self.0.state.lock().unwrap().records.clear();
    }

    /// Delivers to these outlets from now on.
    pub(super) fn carry_to(&self, outlets: Outlets) -> Carrying {
        let (way, outlets) = (self.0.clone(), Arc::new(outlets));
        let own = outlets.clone();
        let thread = std::thread::spawn(move || {
            while !way.stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                let mut state = way.state.lock().unwrap();
                let later = state.records.split_off(&(now, u64::MAX));
                let due = std::mem::replace(&mut state.records, later);
                drop(state);
                for bytes in due.into_values() {
                    for record in Records::of(&bytes) {
                        own.take(&record.unwrap(), now);
                    }
                }
                own.tick(now);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Carrying { way: self.0.clone(), outlets, thread: Some(thread) }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Delivers until it is dropped.
pub(super) struct Carrying {
    way: Arc<Way>,
    outlets: Arc<Outlets>,
    thread: Option<JoinHandle<()>>,
}

impl Carrying {
    pub(super) fn counters(&self) -> Vec<ChannelCounters> {
        self.outlets.counters()
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.way.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}
