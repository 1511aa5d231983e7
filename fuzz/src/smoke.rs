//! The smoke run: for each target the kept corpus, then damaged inputs for some seconds. A target runs
//! in a child process with bounded memory, and every input lies in a file before it is tried, so that a
//! panic, a stack overflow, an endless loop and a greedy allocation all leave the input that caused them.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::Target;
use crate::mutate::Mutator;

/// The address space of a target's process. A length that is trusted before it was checked ends here.
const MEMORY_BYTES: u64 = 1 << 30;

/// How long a target may go on after its time: what takes longer hangs.
const GRACE: Duration = Duration::from_secs(20);

/// What a smoke run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long each target gets damaged inputs, after its corpus.
    pub seconds: u64,
    /// Decides the damaged inputs.
    pub seed: u64,
}

/// Where a target's kept inputs lie.
pub fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept inputs of a target in the order of their names, which is the same everywhere.
pub fn corpus(target: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = corpus_folder(target);
    let entries =
        fs::read_dir(&folder).with_context(|| format!("read the corpus {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let read = |path: PathBuf| {
        let bytes =
            fs::read(&path).with_context(|| format!("read the input {}", path.display()))?;
        Ok((path, bytes))
    };
    paths.into_iter().map(read).collect()
}

/// Runs one target in a child process and says how many inputs it took. An input that it fails on is
/// kept, and the error names it and the command that tries it again.
pub fn watch(name: &str, options: &Options) -> Result<u64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let running = folder.join(format!("{name}.running"));
    let kept = folder.join(format!("{name}-seed-{}-{}", options.seed, std::process::id()));
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args([
        "--inside",
        name,
        "--seconds",
        &options.seconds.to_string(),
        "--seed",
        &options.seed.to_string(),
    ]);
    command.arg("--running").arg(&running);
    supervise(command, Duration::from_secs(options.seconds) + GRACE, &running, &kept).with_context(
        || {
            format!(
                "{name} with seed {}; its input is tried again by\n    \
             cargo run -p fuzz --bin fuzz-smoke -- --replay {} {name}",
                options.seed,
                kept.display()
            )
        },
    )
}

/// Sees to it that a command ends well and in time; what it was trying when it did not is kept.
fn supervise(mut command: Command, time: Duration, running: &Path, kept: &Path) -> Result<u64> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the target's process")?;
    let (status, output) = wait(child, time)?;
    let how = match status {
        Some(status) if status.success() => {
            fs::remove_file(running).with_context(|| format!("remove {}", running.display()))?;
            return output.trim().parse().context("read how many inputs the target took");
        }
        Some(status) => format!("failed ({status})"),
        None => format!("did not come to an end in {} s", time.as_secs()),
    };
    fs::rename(running, kept)
        .with_context(|| format!("the target {how}, and {} is lost", running.display()))?;
    bail!("the target {how}")
}

/// Waits for the end of a child, or ends it after a time; the status is absent in that case.
fn wait(mut child: Child, time: Duration) -> Result<(Option<ExitStatus>, String)> {
    let deadline = Instant::now() + time;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok((None, String::new()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    Ok((Some(output.status), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// What the child process does: the corpus, then damaged inputs until the time is over. Says how many
/// inputs it took; a failing input ends the process instead.
pub fn run(name: &str, target: Target, options: &Options, running: &Path) -> Result<u64> {
    limit_memory()?;
    let mut file = File::create(running).with_context(|| format!("make {}", running.display()))?;
    let corpus: Vec<Vec<u8>> = corpus(name)?.into_iter().map(|(_, bytes)| bytes).collect();
    let mut taken = 0;
    let mut attempt = |input: &[u8]| -> Result<()> {
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        file.write_all(input)?;
        target(input);
        taken += 1;
        Ok(())
    };
    for input in &corpus {
        attempt(input)?;
    }
    let mut mutator = Mutator::new(options.seed);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        attempt(&mutator.next_input(&corpus))?;
    }
    Ok(taken)
}

fn limit_memory() -> Result<()> {
    let limit = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    setrlimit(Resource::As, limit).context("limit the memory of the target's process")
}

#[cfg(test)]
mod tests;
