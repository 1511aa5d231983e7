//! One process serves a job at a time. When a command is run again while what served its first run still
//! waits for it to come back, that one is ended, or the two would be in each other's way.

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use files::{Dir, Digest};
use link::pipe::Guest;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::report::{Code, Failure};
use crate::state::Places;

/// The folder of the locks.
const FOLDER: &str = "over-ssh";
/// How long an earlier run may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed one may take to go.
const GONE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// The right to serve a job; given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    dir: Dir,
    name: String,
    _lock: std::fs::File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Under the lock, so nobody has it in use; a file that stays does no harm.
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
    }
}

/// Takes the turn for this guest's job, from an earlier run if there is one. It may block for seconds.
pub fn take(places: &Places, guest: &Guest) -> Result<Turn> {
    let dir = places.state(FOLDER)?;
    let whole = [guest.keys.peer.as_bytes().as_slice(), &guest.job].concat();
    let name: String = Digest::of(&whole).to_string().chars().take(32).collect();
    let began = Instant::now();
    let mut asked = None;
    loop {
        if let Some(lock) = try_take(&dir, &name)? {
            return Ok(Turn { dir, name, _lock: lock });
        }
        let waited = began.elapsed();
        let signal = if waited < PATIENCE { Signal::TERM } else { Signal::KILL };
        if waited > PATIENCE + GONE {
            let text = "an earlier run of this command is still being served and does not end";
            return Err(Failure::new(Code::Refused, text).into());
        }
        if asked != Some(signal)
            && let Some(holder) = holder(&dir, &name)
        {
            // It may have gone by itself.
            let _ = kill_process(holder, signal);
            asked = Some(signal);
        }
        std::thread::sleep(LOOK);
    }
}

/// The lock with our number in it; none while another process has it.
fn try_take(dir: &Dir, name: &str) -> Result<Option<std::fs::File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(dir.as_fd(), name, flags, Mode::RUSR | Mode::WUSR);
    let mut file = std::fs::File::from(opened.context("cannot make a lock")?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).context("cannot lock"),
    }
    // Whoever had it may have removed it between our two steps.
    if rustix::fs::fstat(&file).context("cannot look at the lock")?.st_nlink == 0 {
        return Ok(None);
    }
    file.set_len(0).and_then(|()| file.rewind()).context("cannot empty the lock")?;
    write!(file, "{}", std::process::id()).context("cannot write the lock")?;
    Ok(Some(file))
}

/// The process that says that it has the lock.
fn holder(dir: &Dir, name: &str) -> Option<Pid> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(opened).take(32).read_to_string(&mut text).ok()?;
    let pid = Pid::from_raw(text.parse().ok()?)?;
    // A number can be another process's by now.
    let command = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let is_ours = command.split(|byte| *byte == 0).any(|word| word == super::COMMAND.as_bytes());
    is_ours.then_some(pid)
}
