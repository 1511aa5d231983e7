//! The server of these tests: this test program once more, told by its environment to serve.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use files::Dir;
use inbox::dync::keys::KeyFolder;
use inbox::dync::listener::{ListenOptions, Listener};
use link::Inboxes;

use crate::desk::FolderDesk;

const SERVE: &str = "HAUL_DYNC_SERVE";
const PORT: &str = "HAUL_DYNC_PORT";

/// Serves if the environment says so, until it is killed or its input ends; a test of nothing otherwise.
#[test]
fn serves_if_it_is_told_to() {
    let Some(root) = std::env::var_os(SERVE).map(PathBuf::from) else { return };
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let keys = Dir::open_ambient(&root.join("keys")).unwrap();
        let keys = KeyFolder::new(keys, Inboxes::All);
        let options = ListenOptions::new(SocketAddr::from(([127, 0, 0, 1], port)));
        let desk = FolderDesk::new(&root);
        let notice = |notice| eprintln!("{notice:?}");
        let listener = Listener::start(options, keys, desk, notice).await.unwrap();
        println!("\nport {}", listener.address().port());
        std::io::stdout().flush().unwrap();
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
        ended.await.unwrap();
        listener.stop().await;
    });
    std::process::exit(0);
}

/// A server with its folder, which goes with it.
pub struct Server {
    pub root: PathBuf,
    pub port: u16,
    child: Child,
}

impl Server {
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("haul-dync-test-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("keys/clients")).unwrap();
        let (child, port) = serve(&root, 0);
        Self { root, port, child }
    }

    /// Kills it with what it has in memory, and starts it again at the same place.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.port) = serve(&self.root, self.port);
    }

    /// Lets it end, as an operator does.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most bytes that an unfinished upload has durably.
    pub fn most_durable(&self) -> u64 {
        let mut most = 0;
        for entry in fs::read_dir(self.root.join("incoming")).unwrap().flatten() {
            let Ok(record) = fs::read_to_string(entry.path().join("record")) else { continue };
            let number = record.trim().rsplit(' ').next().unwrap();
            most = most.max(number.parse().unwrap());
        }
        most
    }

    /// What was published under this id: name, metadata and content.
    pub fn published(&self, id: &str) -> (String, String, Vec<u8>) {
        let folder = self.root.join("store").join(id);
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let content = fs::read(folder.join("files/data")).unwrap();
        assert_eq!(text("digest"), files::Digest::of(&content).to_string());
        (text("name"), text("metadata"), content)
    }

    pub fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.root.join(folder)).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn serve(root: &Path, port: u16) -> (Child, u16) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::serves_if_it_is_told_to", "--nocapture"])
        .env(SERVE, root)
        .env(PORT, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines
        .find_map(|line| line.unwrap().strip_prefix("port ").map(|port| port.parse().unwrap()))
        .expect("it says where it listens");
    (child, port)
}

/// Waits for something that comes about, however long it takes on a busy machine.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
