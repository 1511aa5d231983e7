//! Machines for end-to-end tests: the real program with a `HAUL_HOME` of its own, run to its end, held as
//! a child, or serving. Nothing is shared between machines but the folders that a test names, every
//! run has a deadline, and every child dies with the test.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No run of the program in a test takes longer, also on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(240);
/// A daemon that is not listening by then never will be.
const STARTUP: Duration = Duration::from_secs(30);

/// One machine: the program and where it keeps its key and its state.
#[derive(Clone, Debug)]
pub struct Machine {
    binary: PathBuf,
    home: PathBuf,
}

impl Machine {
    /// A machine whose home is `home`, which need not exist.
    pub fn new(binary: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), home: home.into() }
    }

    /// Where it keeps its key and its state.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The program with these words, ready to be started: no input, both outputs taken.
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env("HAUL_HOME", &self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Ended {
        Running::start(self.command(words)).wait()
    }

    /// Runs the program to its end with this on its standard input.
    pub fn run_with<W: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = W>,
        input: &[u8],
    ) -> Ended {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let mut pipe = running.child.stdin.take().expect("the input was piped");
        // A program that ends early leaves the rest unread, which the test sees by its exit code.
        let input = input.to_vec();
        let writing = thread::spawn(move || drop(pipe.write_all(&input)));
        let ended = running.wait();
        writing.join().expect("writing to a pipe does not panic");
        ended
    }

    /// The line by which others know this machine.
    pub fn key_line(&self) -> String {
        self.run(["key", "show"]).expect_code(0).text().trim().to_owned()
    }

    /// Lets another machine connect to the daemon of this one, with options of `key allow`.
    pub fn allow(&self, other: &Machine, options: &[&str]) {
        let line = other.key_line();
        let words = ["key", "allow"].into_iter().chain(options.iter().copied());
        self.run(words.chain([line.as_str()])).expect_code(0);
    }

    /// Takes down the key of `other` for this address.
    pub fn trust(&self, other: &Machine, address: SocketAddr) {
        self.run(["key", "trust", &address.to_string(), &other.key_line()]).expect_code(0);
    }

    /// Serves exports (as `--export` takes them) on a free port of 127.0.0.1.
    pub fn serve<W: AsRef<OsStr>>(&self, exports: &[W]) -> Daemon {
        self.serve_at("127.0.0.1:0".parse().expect("an address"), exports)
    }

    /// Serves exports on an address of its own choice.
    pub fn serve_at<W: AsRef<OsStr>>(&self, listen: SocketAddr, exports: &[W]) -> Daemon {
        Daemon::start(self.command(serve_words(listen, exports)))
    }
}

/// The words of `haul serve`.
pub fn serve_words<W: AsRef<OsStr>>(listen: SocketAddr, exports: &[W]) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        vec!["serve".into(), "--listen".into(), listen.to_string().into()];
    for export in exports {
        words.extend(["--export".into(), export.as_ref().to_owned()]);
    }
    words
}

/// The same command, started by another program that executes what stands behind its own words.
pub fn behind(program: &str, words: &[&OsStr], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(words).arg(command.get_program()).args(command.get_args());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    outer
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: String,
}

impl Ended {
    /// Fails the test, with all that was said, if the program ended in another way.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        self
    }

    /// Fails the test unless every one of these is in what was said on standard error.
    #[track_caller]
    pub fn expect_says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.errors.contains(part), "'{part}' is missing in\n{}", self.told());
        }
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The last line on standard output, which for `--json` is how the job ended.
    #[track_caller]
    pub fn last_line(&self) -> String {
        let text = self.text();
        text.lines().last().unwrap_or_else(|| panic!("no output\n{}", self.told())).to_owned()
    }

    /// Everything, for the message of a failed test.
    pub fn told(&self) -> String {
        let output = self.text();
        let start = output.len().saturating_sub(2000);
        let output = output.get(start..).unwrap_or(&output);
        format!("exit {:?}\nstdout: …{output}\nstderr: {}", self.code, self.errors)
    }
}

/// The program as a child; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Option<JoinHandle<Vec<u8>>>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts a command whose outputs are piped.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().map(drain);
        let errors = child.stderr.take().map(drain);
        Self { child, output, errors }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill a child");
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("signal a child");
    }

    /// Waits for its end; one that takes too long is killed and fails the test.
    pub fn wait(self) -> Ended {
        self.wait_until(DEADLINE)
    }

    /// The same with a deadline of the test's own.
    pub fn wait_until(mut self, deadline: Duration) -> Ended {
        let status = wait(&mut self.child, deadline);
        let take = |reader: &mut Option<JoinHandle<Vec<u8>>>| match reader.take() {
            Some(reader) => reader.join().expect("reading a pipe does not panic"),
            None => Vec::new(),
        };
        let output = take(&mut self.output);
        let errors = String::from_utf8_lossy(&take(&mut self.errors)).into_owned();
        let ended = Ended { code: status.and_then(|status| status.code()), output, errors };
        assert!(status.is_some(), "it did not end within {deadline:?}\n{}", ended.told());
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child; after the deadline it is killed and there is no status.
fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // What came before the pipe broke is what there is to see.
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// A running `haul serve`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Daemon {
    /// Starts a command that serves, and waits until it says where it listens.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        drop(child.stdout.take());
        let log = Arc::new(Log::default());
        let errors = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let filled = Arc::clone(&log);
        thread::spawn(move || {
            for line in errors.split(b'\n').map_while(Result::ok) {
                let mut text = filled.text.lock().expect("no panic under this lock");
                text.0.push_str(&String::from_utf8_lossy(&line));
                text.0.push('\n');
                filled.grown.notify_all();
            }
            filled.text.lock().expect("no panic under this lock").1 = true;
            filled.grown.notify_all();
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        // Built first, so that the child goes when the wait fails.
        let mut daemon = Self { child, address: any, log };
        let line = daemon.wait_for_log("listening on ", STARTUP);
        let (_, address) = line.split_once("listening on ").expect("it was looked for");
        daemon.address = address.trim().parse().expect("an address is behind it");
        daemon
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of a path there, as SOURCE or TARGET.
    pub fn at(&self, path: impl AsRef<OsStr>) -> OsString {
        far(self.address, path)
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        self.log.text.lock().expect("no panic under this lock").0.clone()
    }

    /// Waits for a line with this in it.
    #[track_caller]
    pub fn wait_for_log(&self, part: &str, at_most: Duration) -> String {
        let end = Instant::now() + at_most;
        let mut text = self.log.text.lock().expect("no panic under this lock");
        loop {
            if let Some(line) = text.0.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !text.1, "no '{part}' in the daemon's log:\n{}", text.0);
            text = self.log.grown.wait_timeout(text, left).expect("no panic under this lock").0;
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(mut self) {
        self.child.kill().expect("kill a child");
        self.child.wait().expect("wait for a child");
    }

    /// Asks it to stop and gives its exit code.
    pub fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("signal a child");
        wait(&mut self.child, STARTUP).and_then(|status| status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of a path on another machine, as SOURCE or TARGET.
pub fn far(address: SocketAddr, path: impl AsRef<OsStr>) -> OsString {
    let mut word = OsString::from(match address {
        SocketAddr::V4(address) => format!("{}:{}:", address.ip(), address.port()),
        SocketAddr::V6(address) => format!("[{}]:{}:", address.ip(), address.port()),
    });
    word.push(path.as_ref());
    word
}
