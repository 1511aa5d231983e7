//! One process serves a job at a time. When a command is run again while what served its first run still
//! waits for it to come back, that one is ended, or the two would be in each other's way.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use files::{Digest, Dir, File, Name, RelPath};
use link::pipe::{Guest, Job};
use rustix::process::{Pid, Signal, kill_process};

use crate::report::{Code, Failure};
use crate::state::{Places, own_name};

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
    name: Name,
    _lock: File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Under the lock, so nobody has it in use; a file that stays does no harm.
        let _ = self.dir.unlink(&self.name);
    }
}

/// Whether a guest may be served.
#[derive(Debug)]
pub enum Taken {
    /// Yes, and until this is dropped nobody else with the same job. None where it does not matter, or where
    /// no lock can be made: to have no room for one must not keep anybody from fetching what is there.
    Yes(Option<Turn>),
    /// Another run of the same command has begun meanwhile.
    Superseded,
}

/// Takes the turn for this guest's job, from an earlier run if there is one. It may block for seconds.
pub fn take(places: &Places, guest: &Guest) -> Result<Taken> {
    let Job { command, run, again } = guest.job;
    if command == [0; 16] {
        return Ok(Taken::Yes(None));
    }
    let Ok(dir) = places.state(FOLDER) else { return Ok(Taken::Yes(None)) };
    let whole = [guest.keys.peer.as_bytes().as_slice(), &command].concat();
    let name: String = Digest::of(&whole).to_string().chars().take(32).collect();
    let name = own_name(&name);
    let run: String = run.iter().map(|byte| format!("{byte:02x}")).collect();
    let began = Instant::now();
    let mut asked = None;
    loop {
        match try_take(&dir, &name, &run) {
            Ok(Some(lock)) => return Ok(Taken::Yes(Some(Turn { dir, name, _lock: lock }))),
            Ok(None) => {}
            Err(_) => return Ok(Taken::Yes(None)),
        }
        let waited = began.elapsed();
        if waited > PATIENCE + GONE {
            let text = "an earlier run of this command is still being served and does not end";
            return Err(Failure::new(Code::Refused, text).into());
        }
        let signal = if waited < PATIENCE { Signal::TERM } else { Signal::KILL };
        if let Some((holder, of)) = holder(&dir, &name) {
            if again && of != run {
                return Ok(Taken::Superseded);
            }
            if asked != Some(signal) {
                // It may have gone by itself.
                let _ = kill_process(holder, signal);
                asked = Some(signal);
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// The lock with our number and the run in it; none while another process has it.
fn try_take(dir: &Dir, name: &Name, run: &str) -> Result<Option<File>> {
    let file = dir.open_private(name)?;
    if !file.try_lock()? {
        return Ok(None);
    }
    // Whoever had it may have removed it between our two steps.
    let found = file.attributes()?;
    match dir.attributes_of(&RelPath::from(name)) {
        Ok(named) if (named.device, named.inode) == (found.device, found.inode) => {}
        _ => return Ok(None),
    }
    file.set_len(0)?;
    file.write_all_at(format!("{} {run}", std::process::id()).as_bytes(), 0)?;
    Ok(Some(file))
}

/// The process that says that it has the lock, and the run that it serves.
fn holder(dir: &Dir, name: &Name) -> Option<(Pid, String)> {
    let text = String::from_utf8(dir.read_small(&RelPath::from(name), 64).ok()?).ok()?;
    let (pid, run) = text.split_once(' ')?;
    let pid = Pid::from_raw(pid.parse().ok()?)?;
    // A number can be another process's by now.
    let command = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    let command = File::open_ambient(Path::new(&command)).ok()?.read_whole(64 * 1024).ok()?;
    let is_ours = command.split(|byte| *byte == 0).any(|word| word == super::COMMAND.as_bytes());
    is_ours.then(|| (pid, run.to_owned()))
}
