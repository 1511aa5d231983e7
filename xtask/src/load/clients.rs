//! The clients: each upload is one `haul put --json`, whose events are noted by our clock as they come.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::scenes::{Kind, LARGE_ACTIVE, Scene, Upload};
use crate::bench::peers::HaulServer;
use crate::bench::processes;
use crate::bench::warden::Warden;

/// No scene takes longer.
const AT_MOST: Duration = Duration::from_secs(1800);

/// What was seen of an upload; times are in seconds since the scene began.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What was handed in.
    pub source: PathBuf,
    /// When its command was started.
    pub began: f64,
    /// When it was told first that it waits, if it was.
    pub waiting: Option<f64>,
    /// When it was its turn.
    pub admitted: Option<f64>,
    /// When it was told that it is published.
    pub published: Option<f64>,
    /// Its id at the server.
    pub dataset: Option<String>,
    /// Why it was not.
    pub failure: Option<String>,
}

impl Seen {
    /// Nothing yet.
    fn new(upload: &Upload, began: f64) -> Self {
        Self {
            kind: upload.kind,
            name: upload.name.clone(),
            source: upload.source.clone(),
            began,
            waiting: None,
            admitted: None,
            published: None,
            dataset: None,
            failure: None,
        }
    }

    /// Takes one line of `--json`; whether it says that it is this upload's turn.
    fn take(&mut self, line: &str, now: f64) -> bool {
        // Most lines are progress, and there are many of them.
        if !["\"waiting\"", "\"admitted\"", "\"published\""].iter().any(|word| line.contains(word))
        {
            return false;
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
        match event["event"].as_str() {
            Some("waiting") => _ = self.waiting.get_or_insert(now),
            Some("admitted") => {
                self.admitted = Some(now);
                return true;
            }
            Some("published") => {
                self.published = Some(now);
                self.dataset = event["dataset"].as_str().map(str::to_owned);
            }
            _ => {}
        }
        false
    }

    /// Seconds in the queue; none if its turn never came.
    pub fn waited(&self) -> Option<f64> {
        let admitted = self.admitted?;
        Some(self.waiting.map_or(0.0, |waiting| admitted - waiting))
    }

    /// Seconds from the start of the command to the dataset.
    pub fn took(&self) -> Option<f64> {
        Some(self.published? - self.began)
    }
}

/// What a client tells the one who looks after all.
enum Told {
    /// It is the turn of an upload.
    Admitted,
    /// An upload has ended.
    Ended(Seen),
}

/// What all clients share.
struct Shared {
    haul: PathBuf,
    address: String,
    private: PathBuf,
    warden: Warden,
    began: Instant,
    running: Mutex<BTreeSet<u32>>,
}

/// Hands everything in, and says what was seen of each upload.
pub fn carry(
    scene: &Scene,
    uploads: Vec<Upload>,
    server: &HaulServer,
    haul: &Path,
    warden: &Warden,
    private: &Path,
) -> Result<Vec<Seen>> {
    let count = uploads.len();
    let shared = Arc::new(Shared {
        haul: haul.to_owned(),
        address: server.address.to_string(),
        private: private.to_owned(),
        warden: warden.clone(),
        began: Instant::now(),
        running: Mutex::default(),
    });
    let (sender, receiver) = channel();
    let (large, others): (Vec<_>, Vec<_>) =
        uploads.into_iter().partition(|upload| upload.kind == Kind::Large);
    let mut seen = Vec::new();
    if !large.is_empty() {
        let wanted = LARGE_ACTIVE.min(large.len());
        start(&shared, &sender, scene, server, large);
        // The small ones are to find the large ones at work and in the queue.
        let mut admitted = 0;
        while admitted < wanted {
            match next(&receiver, &shared)? {
                Told::Admitted => admitted += 1,
                Told::Ended(ended) => match &ended.failure {
                    Some(failure) => bail!("{}: {failure}", ended.name),
                    None => seen.push(ended),
                },
            }
        }
    }
    start(&shared, &sender, scene, server, others);
    drop(sender);
    while seen.len() < count {
        if let Told::Ended(ended) = next(&receiver, &shared)? {
            seen.push(ended);
        }
    }
    Ok(seen)
}

/// What is told next; after too long everything is ended.
fn next(receiver: &Receiver<Told>, shared: &Shared) -> Result<Told> {
    let left = AT_MOST.saturating_sub(shared.began.elapsed());
    match receiver.recv_timeout(left) {
        Ok(told) => Ok(told),
        Err(RecvTimeoutError::Timeout) => {
            let running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.iter().copied().for_each(processes::kill);
            bail!("{} uploads did not end within {} s", running.len(), AT_MOST.as_secs())
        }
        Err(RecvTimeoutError::Disconnected) => bail!("a client was lost"),
    }
}

/// Starts so many threads for each client as it carries uploads at once. Each ends when nothing is left for it.
fn start(
    shared: &Arc<Shared>,
    sender: &Sender<Told>,
    scene: &Scene,
    server: &HaulServer,
    uploads: Vec<Upload>,
) {
    for (client, home) in server.homes.iter().enumerate() {
        let own = uploads.iter().filter(|upload| upload.client == client).cloned();
        let own: VecDeque<Upload> = own.collect();
        let threads = scene.at_once.min(own.len());
        let queue = Arc::new(Mutex::new(own));
        for _ in 0..threads {
            let (shared, sender) = (shared.clone(), sender.clone());
            let (queue, home) = (queue.clone(), home.clone());
            thread::spawn(move || {
                loop {
                    let upload = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(upload) = upload else { return };
                    let seen = shared.put(&upload, &home, &sender);
                    // Nobody listens any more when the scene has failed.
                    if sender.send(Told::Ended(seen)).is_err() {
                        return;
                    }
                }
            });
        }
    }
}

impl Shared {
    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// One upload, to its end.
    fn put(&self, upload: &Upload, home: &Path, sender: &Sender<Told>) -> Seen {
        let mut seen = Seen::new(upload, self.now());
        if let Err(error) = self.follow(upload, home, sender, &mut seen) {
            seen.failure = Some(format!("{error:#}"));
        }
        seen
    }

    fn follow(
        &self,
        upload: &Upload,
        home: &Path,
        sender: &Sender<Told>,
        seen: &mut Seen,
    ) -> Result<()> {
        let log = self.private.join(format!("put-{}-{}.log", upload.client, upload.name));
        let errors = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut command = Command::new(&self.haul);
        command.args(["put", "--json", "-k", "sample:load"]);
        // A folder has its name already, and the name of a single file is that of the dataset.
        if upload.source.is_file() {
            command.args(["-n", &upload.name]);
        }
        command.args(upload.limit.map(|limit| format!("--limit={limit}")));
        command.arg(&self.address).arg(&upload.source).env("HAUL_HOME", home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut process = self.warden.spawn(&mut command)?;
        self.with_running(|running| _ = running.insert(process.id()));
        let output = process.take_output().context("the output was piped")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("read events")?;
            if seen.take(&line, self.now()) {
                // Nobody listens any more when the scene has failed.
                let _ = sender.send(Told::Admitted);
            }
        }
        let id = process.id();
        let status = process.wait();
        self.with_running(|running| _ = running.remove(&id));
        let said = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let status = status?;
        if !status.success() {
            bail!("{status}: {}", said.trim());
        }
        seen.dataset.as_ref().map(|_| ()).context("it ended well and said of no dataset")
    }

    fn with_running(&self, change: impl FnOnce(&mut BTreeSet<u32>)) {
        change(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests;
