//! Sees to it that nothing of a bench outlives it. Every process is started through a `Warden`, which
//! ends it when its guard is dropped; and a second process waits at the end of a pipe for the case that
//! the bench itself is ended, by Ctrl-C or worse, and then does what the guards could not do.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use badlink::{Pair, PairOptions};

use super::processes;

/// The hidden word that makes this program the process at the end of the pipe.
pub const WORD: &str = "warden";

/// Starts processes and remembers them in a place that survives this one.
#[derive(Debug, Clone)]
pub struct Warden {
    other_end: Arc<Mutex<OtherEnd>>,
}

/// The process at the other end. There is a pipe until it is dropped.
#[derive(Debug)]
struct OtherEnd {
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Warden {
    /// Starts the process at the other end.
    pub fn start() -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        // Ctrl-C goes to a whole process group; this process must be in one of its own to outlive it.
        command.args(["bench", WORD]).stdin(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("start the warden")?;
        let pipe = Some(child.stdin.take().context("take the warden's pipe")?);
        Ok(Self { other_end: Arc::new(Mutex::new(OtherEnd { pipe, process: child })) })
    }

    /// Makes a folder that is removed with all that is in it.
    pub fn folder(&self, path: &Path) -> Result<Folder> {
        self.make(path, Removal::Whole)
    }

    /// Makes a folder of the system that is removed if it is empty: if it is not, somebody else uses it.
    pub fn shared_folder(&self, path: &Path) -> Result<Folder> {
        self.make(path, Removal::IfEmpty)
    }

    /// Joins two network namespaces that are removed at the end, also at a bad one.
    pub fn pair(&self, options: PairOptions) -> Result<Pair> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let names = ["a", "b"].map(|end| format!("haulbench{process}-{number}{end}"));
        // Told first: nobody else takes names with this process's number.
        for name in &names {
            self.tell(&format!("namespace {name}"))?;
        }
        Pair::start(PairOptions { names: Some(names), ..options })
            .context("join two network namespaces")
    }

    /// Writes a kernel parameter, which has its old value again once the guard is dropped.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<Sysctl> {
        let path = sysctl_path(key);
        let old = fs::read_to_string(&path).with_context(|| format!("read {key}"))?;
        let guard = Sysctl { path, old: old.trim().to_owned() };
        self.tell(&format!("sysctl {} {}", guard.path.display(), guard.old))?;
        fs::write(&guard.path, value).with_context(|| format!("set {key} to {value}"))?;
        Ok(guard)
    }

    fn make(&self, path: &Path, removal: Removal) -> Result<Folder> {
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        // The guard exists first, so that a warden that cannot be told leaves no folder behind.
        let folder = Folder { path: path.to_owned(), removal };
        self.tell(&format!("{} {}", removal.word(), path.display()))?;
        Ok(folder)
    }

    /// Starts a process that ends with its guard.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        let process = Process { child, program, reaped: false, warden: self.clone() };
        let id = process.id();
        // A process that has ended already needs no warden.
        if let Some(started) = processes::start_time(id) {
            self.tell(&format!("process {id} {started}"))?;
        }
        Ok(process)
    }

    fn tell(&self, line: &str) -> Result<()> {
        let mut other_end = self.other_end.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = other_end.pipe.as_mut().context("the warden has no pipe")?;
        writeln!(pipe, "{line}").context("tell the warden")
    }
}

impl Drop for OtherEnd {
    fn drop(&mut self) {
        // The end of the pipe is what ends the process.
        drop(self.pipe.take());
        // It fails only when somebody else has waited for it.
        let _ = self.process.wait();
    }
}

/// A process of the bench; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
    reaped: bool,
    warden: Warden,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it prints, if that was to come through a pipe and was not taken yet.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().with_context(|| format!("wait for {}", self.program))?;
        self.gone();
        Ok(status)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("ask for {}", self.program))?;
        if status.is_some() {
            self.gone();
        }
        Ok(status)
    }

    fn gone(&mut self) {
        if !self.reaped {
            self.reaped = true;
            // A warden that cannot be told sees by the start time that the process is another one.
            let _ = self.warden.tell(&format!("gone {}", self.child.id()));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            // Both fail only when the process has ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.gone();
        }
    }
}

/// A folder of the bench; dropping it removes it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    removal: Removal,
}

/// A kernel parameter of the machine that the bench has changed; dropping it changes it back.
#[derive(Debug)]
pub struct Sysctl {
    path: PathBuf,
    old: String,
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.old) {
            eprintln!("warning: {} could not be changed back: {error}", self.path.display());
        }
    }
}

/// The file of a kernel parameter.
pub fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// How much of a folder is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Whole,
    IfEmpty,
}

impl Removal {
    fn word(self) -> &'static str {
        match self {
            Self::Whole => "folder",
            Self::IfEmpty => "shared-folder",
        }
    }

    fn remove(self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Whole => fs::remove_dir_all(path),
            Self::IfEmpty => fs::remove_dir(path),
        }
    }
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.removal.remove(&self.path) {
            eprintln!("warning: {} could not be removed: {error}", self.path.display());
        }
    }
}

/// The other end: takes down what it is told until the pipe closes, and then ends and removes what is
/// left. In a bench that ended well nothing is.
pub fn watch(told: impl BufRead) {
    let mut alive: HashMap<u32, u64> = HashMap::new();
    let (mut folders, mut namespaces, mut sysctls) = (Vec::new(), Vec::new(), Vec::new());
    for line in told.lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("folder", path)) => folders.push((Removal::Whole, PathBuf::from(path))),
            Some(("shared-folder", path)) => folders.push((Removal::IfEmpty, PathBuf::from(path))),
            Some(("namespace", name)) => namespaces.push(name.to_owned()),
            Some(("sysctl", rest)) => {
                sysctls.extend(
                    rest.split_once(' ').map(|(path, old)| (path.to_owned(), old.to_owned())),
                );
            }
            Some(("process", rest)) => {
                let numbers = rest.split_once(' ');
                if let Some((Ok(id), Ok(started))) =
                    numbers.map(|(id, started)| (id.parse(), started.parse()))
                {
                    alive.insert(id, started);
                }
            }
            Some(("gone", id)) => {
                alive.retain(|known, _| known.to_string() != id);
            }
            _ => {}
        }
    }
    for (id, started) in alive {
        // Ids are used again; only the process that was started then may be ended.
        if processes::start_time(id) == Some(started) {
            processes::kill(id);
        }
    }
    for name in namespaces {
        remove_namespace(&name);
    }
    // The first value told is the oldest; what the guards have changed back is so already.
    for (path, old) in sysctls.into_iter().rev() {
        let current = fs::read_to_string(&path).unwrap_or_default();
        if current.trim() != old {
            let _ = fs::write(path, old);
        }
    }
    for (removal, folder) in folders {
        // It is gone already when the bench ended by itself.
        let _ = removal.remove(&folder);
    }
}

/// Ends what runs in a namespace and removes it, if it is there still.
fn remove_namespace(name: &str) {
    if !Path::new("/run/netns").join(name).exists() {
        return;
    }
    let ip = |words: &[&str]| Command::new("ip").args(words).stderr(Stdio::null()).output();
    if let Ok(output) = ip(&["netns", "pids", name]) {
        for id in String::from_utf8_lossy(&output.stdout).lines() {
            id.trim().parse().into_iter().for_each(processes::kill);
        }
    }
    // It fails when the bench has removed it meanwhile.
    let _ = ip(&["netns", "delete", name]);
}

#[cfg(test)]
mod tests;
