//! Running a program as a hook. It gets its object on standard input and a small environment, in a process group of its
//! own, which ends with it: whatever it leaves behind is killed when it exits, or when its time is up. Nothing that a
//! program does, or does not do, with its pipes holds the server up.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::{ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use files::{Dir, escape_path};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::Job;
use super::tail::Tail;
use super::value::{self, causes};
use super::verdict::{Ended, Ran, redacted};
use crate::options::HookCommand;

/// How much of the beginning of standard error is kept for the reason that a client is told.
const SAID: usize = 4 * 1024;
/// How much is read of what a program that has ended left in each of its pipes.
const LEFT: usize = 1 << 20;
/// How long a killed program may take to be gone. One that the kernel does not let go is left behind.
const GONE: Duration = Duration::from_secs(5);

/// Runs it, until it exits or its time is up.
pub(super) async fn run(job: &Job<'_>, command: &HookCommand) -> Ran {
    let (environment, secrets) = match environment(job, command) {
        Ok(environment) => environment,
        Err(reason) => return Ran::failed(reason),
    };
    match started(job, command, environment) {
        Ok(running) => {
            let ran = running.until_it_ends(job.body.as_bytes(), job.hook.timeout).await;
            let output = redacted(ran.output, &secrets);
            Ran { output, said: redacted(ran.said, &secrets), ..ran }
        }
        Err(reason) => Ran::failed(reason),
    }
}

type Environment = Vec<(OsString, OsString)>;

/// All variables, and the values that must not be shown.
fn environment(
    job: &Job<'_>,
    command: &HookCommand,
) -> Result<(Environment, Vec<Vec<u8>>), String> {
    use std::os::unix::ffi::OsStringExt as _;

    let around = job.surroundings;
    let mut variables: Environment = vec![
        ("PATH".into(), around.path.clone().into()),
        ("HOME".into(), around.home.clone().into()),
        ("LANG".into(), around.lang.clone().into()),
    ];
    let mut secrets = Vec::new();
    for (name, value) in &command.environment {
        let (value, is_secret) = value::read(value)?;
        if is_secret {
            secrets.push(value.clone());
        }
        variables.push((name.into(), OsString::from_vec(value)));
    }
    variables.push(("HAUL_EVENT".into(), job.event.into()));
    variables.push(("HAUL_INBOX".into(), job.inbox.into()));
    if let Some(dataset) = job.dataset {
        variables.push(("HAUL_DATASET_ID".into(), dataset.into()));
    }
    if let Some(path) = job.path {
        variables.push(("HAUL_DATASET_PATH".into(), path.into()));
    }
    Ok((variables, secrets))
}

fn started(
    job: &Job<'_>,
    command: &HookCommand,
    environment: Environment,
) -> Result<Running, String> {
    let Some((program, arguments)) = command.arguments.split_first() else {
        return Err("there is no program to run".to_owned());
    };
    let folder = job.path.unwrap_or(std::path::Path::new("/"));
    // The system would say the same of a folder and of a program that is missing.
    Dir::open_ambient(folder).map_err(|error| causes(&error))?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let program = escape_path(program.as_ref());
    let child = child.map_err(|error| format!("cannot start {program}: {error}"))?;
    Running::new(child).map_err(|error| format!("cannot watch {program}: {error}"))
}

/// A program that was started and not waited for: as long as that is so, nobody else can get its number, and its group
/// can be killed by it. Dropped, the group is killed, and tokio collects the child.
struct Running {
    child: Child,
    group: Option<Pid>,
    exited: oneshot::Receiver<()>,
    watcher: Option<JoinHandle<()>>,
}

impl Running {
    fn new(child: Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (tell, exited) = oneshot::channel();
        let mut running = Self { child, group: id, exited, watcher: None };
        let Some(id) = id else { return Ok(running) };
        let watch = move || {
            let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(id), wait), Err(rustix::io::Errno::INTR)) {}
            let _ = tell.send(());
        };
        running.watcher = Some(std::thread::Builder::new().name("hook".to_owned()).spawn(watch)?);
        Ok(running)
    }

    async fn until_it_ends(mut self, body: &[u8], most: Duration) -> Ran {
        let deadline = Instant::now().checked_add(most);
        let deadline =
            deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        let mut heard = Heard::default();
        let (mut input, mut at) = (self.child.stdin.take(), 0);
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut out_bytes, mut err_bytes) = ([0; 8_192], [0; 8_192]);
        let in_time = loop {
            tokio::select! {
                biased;
                _ = &mut self.exited => break true,
                () = sleep_until(deadline) => break false,
                got = read(&mut out, &mut out_bytes), if out.is_some() => match got {
                    0 => out = None,
                    len => heard.output(&out_bytes[..len]),
                },
                got = read(&mut err, &mut err_bytes), if err.is_some() => match got {
                    0 => err = None,
                    len => heard.error(&err_bytes[..len]),
                },
                written = write(&mut input, &body[at..]), if input.is_some() => {
                    at += written;
                    // All is said, or nobody listens any more.
                    if written == 0 || at == body.len() {
                        input = None;
                    }
                }
            }
        };
        drop(input);
        self.kill();
        let status = if in_time { self.status().await } else { self.status_of_killed().await };
        // Who could still write is gone, but for what left the group by itself, which is not waited for.
        left(out.as_ref(), |bytes| heard.output(bytes));
        left(err.as_ref(), |bytes| heard.error(bytes));
        let ended = match status {
            _ if !in_time => Ended::TimedOut("it was killed"),
            Ok(status) => ended(status),
            Err(error) => Ended::Failed(format!("cannot learn how it ended: {error}")),
        };
        Ran { ended, output: heard.tail.into_bytes(), said: heard.said }
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            // It fails where all of the group has gone already, which is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// How it ended, once it has. From here on its number may be somebody else's.
    async fn status(&mut self) -> io::Result<ExitStatus> {
        self.group = None;
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        self.child.wait().await
    }

    async fn status_of_killed(&mut self) -> io::Result<ExitStatus> {
        match timeout(GONE, &mut self.exited).await {
            Ok(_) => self.status().await,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program wrote.
#[derive(Default)]
struct Heard {
    tail: Tail,
    said: Vec<u8>,
}

impl Heard {
    fn output(&mut self, bytes: &[u8]) {
        self.tail.push(bytes);
    }

    fn error(&mut self, bytes: &[u8]) {
        let room = SAID.saturating_sub(self.said.len());
        self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.tail.push(bytes);
    }
}

/// 0 at the end; an error is an end too.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, bytes: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(bytes).await.unwrap_or(0),
        None => 0,
    }
}

/// 0 if nobody reads any more.
async fn write(pipe: &mut Option<ChildStdin>, bytes: &[u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.write(bytes).await.unwrap_or(0),
        None => 0,
    }
}

/// A pipe that answers at once, also that there is nothing.
trait Pipe: AsFd {}
impl Pipe for ChildStdout {}
impl Pipe for ChildStderr {}

/// What is in a pipe now.
fn left(pipe: Option<&impl Pipe>, mut take: impl FnMut(&[u8])) {
    let Some(pipe) = pipe else { return };
    let (mut bytes, mut most) = ([0; 8_192], LEFT);
    while most > 0 {
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return,
            Ok(len) => {
                take(&bytes[..len]);
                most = most.saturating_sub(len);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;

    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signalled(signal),
        (None, None) => Ended::Failed(status.to_string()),
    }
}

#[cfg(test)]
mod tests;
