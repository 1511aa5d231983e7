//! The processor time that this process uses, from the system's own clocks.

use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::bound::Cpu;

/// Reads the clocks. The thread's counts only as long as the same thread asks.
#[derive(Debug)]
pub(crate) struct CpuClock {
    asked_by: ThreadId,
    thread: Duration,
    /// What was counted of all threads that asked.
    counted: Duration,
    cores: u32,
}

impl CpuClock {
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            asked_by: thread::current().id(),
            thread: read(ClockId::ThreadCPUTime),
            counted: Duration::ZERO,
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn read(&mut self) -> Cpu {
        let (asks, now) = (thread::current().id(), read(ClockId::ThreadCPUTime));
        if asks == self.asked_by {
            self.counted += now.saturating_sub(self.thread);
        }
        (self.asked_by, self.thread) = (asks, now);
        Cpu { process: read(ClockId::ProcessCPUTime), thread: self.counted, cores: self.cores }
    }
}

fn read(clock: ClockId) -> Duration {
    // Neither clock runs before the process does, so the time is never negative.
    clock_gettime(clock).try_into().unwrap_or_default()
}
