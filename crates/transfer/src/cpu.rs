//! The processor time that this process and this machine use, from the system's own clocks.

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::bound::Cpu;

/// The machine's figures count in hundredths of a second, so looking more often tells nothing new.
const MACHINE_EVERY: Duration = Duration::from_millis(300);

/// Reads the clocks. The thread's counts only as long as the same thread asks.
#[derive(Debug)]
pub(crate) struct CpuClock {
    asked_by: ThreadId,
    /// What the kernel tells of that thread, where it does.
    sched: Option<OwnedFd>,
    thread: Duration,
    /// What was counted of all threads that asked.
    counted: Duration,
    cores: u32,
    /// What the kernel tells of the whole machine, where it does.
    stat: Option<OwnedFd>,
    machine: (Duration, Duration),
    looked: Option<Instant>,
}

impl CpuClock {
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let sched = open("/proc/thread-self/schedstat");
        Self {
            asked_by: thread::current().id(),
            thread: wanted(sched.as_ref()),
            sched,
            counted: Duration::ZERO,
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            stat: open("/proc/stat"),
            machine: Default::default(),
            looked: None,
        }
    }

    pub(crate) fn read(&mut self) -> Cpu {
        if thread::current().id() == self.asked_by {
            let now = wanted(self.sched.as_ref());
            self.counted += now.saturating_sub(self.thread);
            self.thread = now;
        } else {
            *self = Self { counted: self.counted, machine: self.machine, ..Self::new() };
        }
        if self.looked.is_none_or(|then| then.elapsed() >= MACHINE_EVERY) {
            self.looked = Some(Instant::now());
            let machine = self.stat.as_ref().and_then(machine);
            self.machine = machine.unwrap_or(self.machine);
        }
        Cpu {
            process: read(ClockId::ProcessCPUTime),
            thread: self.counted,
            cores: self.cores,
            machine: self.machine,
        }
    }
}

fn read(clock: ClockId) -> Duration {
    // Neither clock runs before the process does, so the time is never negative.
    clock_gettime(clock).try_into().unwrap_or_default()
}

fn open(path: &str) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// What this thread has run and has waited for a core: one that always does either has too little.
fn wanted(sched: Option<&OwnedFd>) -> Duration {
    let waited = sched.and_then(|sched| first_bytes(sched, waited)).unwrap_or_default();
    read(ClockId::ThreadCPUTime) + waited
}

fn machine(stat: &OwnedFd) -> Option<(Duration, Duration)> {
    first_bytes(stat, parse)
}

/// Reads the beginning of one of the kernel's files.
fn first_bytes<T>(file: &OwnedFd, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut line = [0; 256];
    let len = rustix::io::pread(file, &mut line, 0).ok()?;
    parse(std::str::from_utf8(&line[..len]).ok()?)
}

/// Nanoseconds on a core and in waiting for one, and how often it got one.
fn waited(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// The first line: time in user, nice, system, idle, iowait, irq, softirq and steal, over all cores.
fn parse(text: &str) -> Option<(Duration, Duration)> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    // What guests use is in the user's time already.
    let ticks: Vec<u64> = numbers.take(8).map_while(|number| number.parse().ok()).collect();
    let idle = ticks.get(3)?.checked_add(*ticks.get(4)?)?;
    let all = ticks.iter().try_fold(0u64, |sum, ticks| sum.checked_add(*ticks))?;
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(10));
    Some((time(all - idle), time(all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_the_machine() {
        let seconds = Duration::from_secs;
        let text = "cpu  100 0 200 500 100 0 50 50 7 7\ncpu0 1 2 3\n";
        assert_eq!(parse(text), Some((seconds(4), seconds(10))));
        assert_eq!(waited("1000 2000 3\n"), Some(Duration::from_nanos(2000)));
        assert_eq!(waited("1000"), None);
        for wrong in ["", "cpu", "cpu  1 2 3 4", "intr 1 2 3 4 5 6 7 8", "cpu  a b c d e"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn work_is_counted() {
        let mut clock = CpuClock::new();
        let before = clock.read();
        let mut sum = 0u64;
        // As long as the clocks take to move, whoever else uses the processor.
        loop {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            let now = clock.read();
            if now.thread > before.thread && now.process > before.process {
                assert!(now.cores > 0);
                return;
            }
        }
    }
}
