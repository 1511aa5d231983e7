//! What processes cost, as `/proc` tells it: processor time and memory of a process and of everything
//! that it started. Figures of a process that is gone are in the sums of whoever waited for it.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Linux counts in hundredths of a second towards programs, on every processor that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often memory is looked at. A process that grows within the last such time before its end may
/// have had more than is reported.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// The fields of `/proc/PID/stat` behind the name, counted from the state as 0 (proc_pid_stat(5)).
mod field {
    pub const USER: usize = 11;
    pub const SYSTEM: usize = 12;
    pub const WAITED_USER: usize = 13;
    pub const WAITED_SYSTEM: usize = 14;
    pub const START: usize = 19;
}

/// When a process was started, in ticks since the machine was; none when it is gone.
pub fn start_time(id: u32) -> Option<u64> {
    stat(&id.to_string())?.get(field::START).copied()
}

/// Seconds of processor time of a process and of all that it started and waited for.
pub fn cpu_seconds(id: u32) -> f64 {
    let fields = stat(&id.to_string()).unwrap_or_default();
    let all = [field::USER, field::SYSTEM, field::WAITED_USER, field::WAITED_SYSTEM];
    sum(&fields, &all)
}

/// Seconds of processor time of everything that this program started and waited for.
pub fn own_children_seconds() -> f64 {
    let fields = stat("self").unwrap_or_default();
    sum(&fields, &[field::WAITED_USER, field::WAITED_SYSTEM])
}

/// The processes that a process started and that are still there.
pub fn children(id: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Forgets the peak of a process's memory, so that the next one is that of the next run.
pub fn forget_peak(id: u32) {
    // Without the right to do it the peak is that of all runs so far, which is still true.
    let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
}

/// Ends a process at once.
pub fn kill(id: u32) {
    signal(id, "-KILL");
}

/// Sends a signal, as `kill` names it.
pub fn signal(id: u32, signal: &str) {
    let mut command = Command::new("kill");
    // It fails when the process has ended already.
    let _ = command.args([signal, &id.to_string()]).stderr(Stdio::null()).status();
}

/// Watches the memory of two families of processes, and ends the first when it takes too long.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    peaks: Arc<Mutex<Peaks>>,
    thread: Option<JoinHandle<()>>,
}

/// The largest resident sizes seen, by process, of the near family and of the far one.
#[derive(Debug, Default)]
struct Peaks {
    near: HashMap<u32, u64>,
    far: HashMap<u32, u64>,
}

impl Watch {
    /// Watches `near` and its descendants, and likewise `far`. After `at_most`, `near` is ended.
    pub fn start(near: u32, far: Option<u32>, at_most: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peaks = Arc::new(Mutex::new(Peaks::default()));
        let (stopped, shared) = (stop.clone(), peaks.clone());
        let deadline = Instant::now() + at_most;
        let thread = thread::spawn(move || {
            let mut last = false;
            while !last {
                // One more look after the end: a daemon's peak is exact then.
                last = stopped.load(Ordering::Relaxed);
                let mut peaks = shared.lock().unwrap_or_else(PoisonError::into_inner);
                look(near, &mut peaks.near);
                if let Some(far) = far {
                    look(far, &mut peaks.far);
                }
                drop(peaks);
                if !last && Instant::now() > deadline {
                    kill(near);
                    return;
                }
                if !last {
                    thread::park_timeout(SAMPLE_EVERY);
                }
            }
        });
        Self { stop, peaks, thread: Some(thread) }
    }

    /// Ends it; the sums of the peaks, near and far, in bytes.
    pub fn finish(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A look cannot panic; if it did, the peaks so far are still true.
            let _ = thread.join();
        }
        let peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        (peaks.near.values().sum(), peaks.far.values().sum())
    }
}

fn look(root: u32, peaks: &mut HashMap<u32, u64>) {
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if let Some(bytes) = peak_bytes(id) {
            let peak = peaks.entry(id).or_default();
            *peak = bytes.max(*peak);
        }
        open.extend(children(id));
    }
}

/// The largest resident size that a process has had; none for one that is gone.
pub fn peak_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn sum(fields: &[u64], wanted: &[usize]) -> f64 {
    wanted.iter().filter_map(|at| fields.get(*at)).sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// The fields behind the name, which itself may hold anything. What is no number counts as 0.
fn stat(process: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(fields(&text))
}

fn fields(text: &str) -> Vec<u64> {
    let behind = text.rsplit_once(") ").map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests;
