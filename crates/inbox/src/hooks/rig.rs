//! What the tests of hooks share: folders that go away, hooks that are shell scripts, and a server whose answers
//! are scripts too.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::verdict::Ran;
use super::{Job, Surroundings};
use crate::options::{HookAction, HookCommand, HookOptions, Webhook};

/// Longer than any test takes.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// A folder of its own for one test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("haul-hooks-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What a file holds; nothing if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Looks until something is so; a test whose machine never gets there fails.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came: {what}");
}

/// The same for a runtime that has to go on meanwhile.
pub(super) async fn until_async(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {what}");
}

/// Whether a process runs; one that has ended and was not collected does not.
pub(super) fn runs(process: &str) -> bool {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next())
        .is_some_and(|state| state != 'Z')
}

/// A hook that is a shell script.
pub(super) fn sh(name: &str, script: &str) -> HookOptions {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let command = HookCommand { arguments, ..HookCommand::default() };
    HookOptions { timeout: LONG, ..HookOptions::new(name, HookAction::Command(command)) }
}

/// A hook that posts.
pub(super) fn posts(name: &str, webhook: Webhook) -> HookOptions {
    HookOptions { timeout: LONG, ..HookOptions::new(name, HookAction::Webhook(webhook)) }
}

/// Runs a hook once, for the dataset `0id` in this folder.
pub(super) async fn run(hook: &HookOptions, path: &Path, body: &str) -> Ran {
    let surroundings = Surroundings::default();
    let job = Job {
        hook,
        event: "published",
        inbox: "ngs",
        dataset: Some("0id"),
        path: Some(path),
        body,
        surroundings: &surroundings,
    };
    job.run().await
}

/// A server that does with each connection what its script says.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// It reads a request whole, keeps it, and calls the script with what it has of the client.
    pub(super) fn new(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        let mut server = Self::raw(move |stream| {
            let request = request(stream);
            kept.lock().unwrap().push(request);
            script(stream);
        });
        server.requests = requests;
        server
    }

    /// It calls the script with each client.
    pub(super) fn raw(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let script = Arc::new(script);
        let serve = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (mut stream, script) = (stream.unwrap(), script.clone());
                std::thread::spawn(move || script(&mut stream));
            }
        };
        Self { address, requests: Arc::default(), is_over, thread: Some(std::thread::spawn(serve)) }
    }

    /// One that says the same to everybody.
    pub(super) fn saying(answer: &'static str) -> Self {
        Self::new(move |stream| {
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    pub(super) fn webhook(&self) -> Webhook {
        Webhook { address: format!("http://{}/path?query", self.address), ..Webhook::default() }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads head and body of a request.
fn request(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        all.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&all).to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; len.and_then(|len| len.trim().parse().ok()).unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    all.extend_from_slice(&body);
    String::from_utf8_lossy(&all).into_owned()
}
