//! What was decided about clients and their datasets, and by whom: one line of JSON each in `audit.jsonl`, on the disk
//! before the decision takes effect. Lines are only added. A file that has grown large is set aside under a number and
//! none is ever deleted. Several processes may write, one after another by a lock.
//!
//! What a client can cause as often as it likes, refusals and requests, is written up to a limit, and beyond it counted
//! (`audit/limit.rs`), so that nobody can fill the disk.

mod limit;
mod line;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use files::{Dir, File, FilesError, Name, RelPath};
use jiff::Timestamp;
use thiserror::Error;

use limit::Limit;
pub use line::{AuditEvent, Dataset, Who};

/// The file that is written to.
const FILE: &str = "audit.jsonl";
/// What its writers lock.
const LOCK: &str = "audit.lock";
/// A file that has so many bytes is set aside.
const LARGE: u64 = 16 << 20;
/// So many bytes at a time are looked through for the end of the last whole line.
const BLOCK: u64 = 16 * 1024;
/// How much of a torn line is kept.
const TORN: usize = 1_024;
/// How long another process may hold the lock. It does so for one line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why something could not be written. What was to be decided must not take effect then.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The disk would not have it.
    #[error("cannot write to the audit log")]
    Files(#[from] FilesError),
    /// Another process does not let go of it.
    #[error("the audit log {0} is held by another process: see which one has its lock, audit.lock")]
    Busy(String),
}

/// The log of decisions.
#[derive(Debug)]
pub struct Audit {
    dir: Dir,
    large: u64,
    limits: Mutex<Limits>,
}

#[derive(Debug, Default)]
struct Limits {
    refusals: Limit,
    requests: Limit,
}

impl Audit {
    /// Opens the log in this folder, makes it if need be, and repairs what a crash left of its last line.
    pub fn open(dir: &Dir) -> Result<Self, AuditError> {
        let audit = Self { dir: dir.clone(), large: LARGE, limits: Mutex::default() };
        let _lock = audit.lock()?;
        audit.repair(Timestamp::now())?;
        Ok(audit)
    }

    /// Writes a line, which is on the disk when this returns. What is beyond a limit is counted and not written.
    pub fn record(&self, event: &AuditEvent<'_>) -> Result<(), AuditError> {
        self.record_at(event, Timestamp::now())
    }

    /// Tells how much was left out because of limits, once the time of these is over. It is also told with the next
    /// line, so this is for times in which nothing happens.
    pub fn tell_left_out(&self) -> Result<(), AuditError> {
        self.write_left_out(Timestamp::now())
    }

    fn record_at(&self, event: &AuditEvent<'_>, now: Timestamp) -> Result<(), AuditError> {
        self.write_left_out(now)?;
        let is_written = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let now_ms = now.as_millisecond();
            match event {
                AuditEvent::OfferRefused { who, .. } => limits.refusals.admits(who.key, now_ms),
                AuditEvent::Requested { who } => {
                    let address = who.address.map(|address| address.ip().to_string());
                    limits.requests.admits(&address.unwrap_or_default(), now_ms)
                }
                _ => true,
            }
        };
        if is_written { self.write(&[line::of(event, now)], now) } else { Ok(()) }
    }

    fn write_left_out(&self, now: Timestamp) -> Result<(), AuditError> {
        let mut lines = Vec::new();
        {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let Limits { refusals, requests } = &mut *limits;
            for (what, limit) in [("offers refused", refusals), ("requests", requests)] {
                let left_out = limit.left_out(now.as_millisecond());
                lines
                    .extend(left_out.map(|(count, since)| line::left_out(what, count, since, now)));
            }
        }
        if lines.is_empty() { Ok(()) } else { self.write(&lines, now) }
    }

    fn write(&self, lines: &[String], now: Timestamp) -> Result<(), AuditError> {
        let _lock = self.lock()?;
        // An earlier write may have failed half way, in this process or in another one.
        self.repair(now)?;
        self.set_aside_if_large()?;
        for line in lines {
            self.dir.append_line(&name(FILE), line.as_bytes())?;
        }
        Ok(())
    }

    /// Held until it is dropped.
    fn lock(&self) -> Result<File, AuditError> {
        let file = self.dir.open_private(&name(LOCK))?;
        let until = Instant::now() + PATIENCE;
        while !file.try_lock()? {
            if Instant::now() > until {
                let folder = files::escape_path(self.dir.path()).to_string();
                return Err(AuditError::Busy(folder));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(file)
    }

    /// Puts a line that says so in place of one that was cut short, with the beginning of what is there of it.
    fn repair(&self, now: Timestamp) -> Result<(), AuditError> {
        let file = self.dir.open_private(&name(FILE))?;
        let size = file.attributes()?.size;
        let end = end_of_lines(&file, size)?;
        if end == size {
            return Ok(());
        }
        let mut torn = vec![0; usize::try_from(size - end).unwrap_or(TORN).min(TORN)];
        file.read_exact_at(&mut torn, end)?;
        let mut line = line::repaired(&torn, size - end, now).into_bytes();
        line.push(b'\n');
        file.write_all_at(&line, end)?;
        file.set_len(end + line.len() as u64)?;
        Ok(file.sync()?)
    }

    fn set_aside_if_large(&self) -> Result<(), AuditError> {
        let attributes = self.dir.attributes_of(&RelPath::from(&name(FILE)))?;
        if attributes.size < self.large {
            return Ok(());
        }
        let mut last = 0;
        for entry in self.dir.entries()? {
            last = last.max(number(entry?.bytes()).unwrap_or(0));
        }
        let aside = name(&format!("audit-{}.jsonl", last.saturating_add(1)));
        self.dir.rename(&name(FILE), (&self.dir, &aside), files::Replace::No)?;
        // The next line makes the file anew, and then brings both names to the disk.
        Ok(())
    }
}

/// Where the last whole line ends.
fn end_of_lines(file: &File, size: u64) -> Result<u64, FilesError> {
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(if end == size { 1 } else { BLOCK });
        let mut block = vec![0; (end - start) as usize];
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The number of a file that was set aside.
fn number(file: &[u8]) -> Option<u64> {
    std::str::from_utf8(file).ok()?.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("letters, digits, a dash and a dot make a name")
}

#[cfg(test)]
mod tests;
