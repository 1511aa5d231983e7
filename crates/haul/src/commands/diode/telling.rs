//! What happens, told: a line for people, a JSON object for programs, and a command of the operator's.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::args::TellingArguments;
use crate::render;

/// Events that wait for the operator's command; more are told as lines only.
const MOST_WAITING: usize = 1000;

/// A command that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells events; cheap to clone.
#[derive(Clone)]
pub struct Teller(Arc<Inner>);

struct Inner {
    json: bool,
    quiet: bool,
    has_command: bool,
    command: Mutex<Option<Runner>>,
}

/// The thread that runs the command, and the events that wait for it.
struct Runner {
    queue: SyncSender<String>,
    thread: JoinHandle<()>,
}

impl Teller {
    pub fn new(arguments: &TellingArguments) -> Result<Self> {
        let command = arguments.on_event.clone().map(start).transpose()?;
        let has_command = command.is_some();
        let command = Mutex::new(command);
        let (json, quiet) = (arguments.json, arguments.quiet);
        Ok(Self(Arc::new(Inner { json, quiet, has_command, command })))
    }

    /// Tells an event: its name, a line that says it, whether it is bad, and its fields.
    pub fn tell(&self, event: &str, text: &str, is_bad: bool, fields: Value) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if self.0.json || self.0.has_command {
            let mut object = Map::new();
            object.insert("event".to_owned(), event.into());
            object.insert("time".to_owned(), now.clone().into());
            object.insert("text".to_owned(), text.into());
            if let Value::Object(fields) = fields {
                object.extend(fields);
            }
            let line = Value::Object(object).to_string();
            let command = self.0.command.lock().unwrap_or_else(PoisonError::into_inner);
            let queued = command.as_ref().map(|runner| runner.queue.try_send(line.clone()));
            drop(command);
            if let Some(Err(TrySendError::Full(_))) = queued {
                render::tell("warning: the command of --on-event is too slow, and misses events");
            }
            if self.0.json {
                render::print_line(&line);
            }
        }
        if !self.0.json && (is_bad || !self.0.quiet) {
            render::tell(&format!("{now} {}", render::clean(text)));
        }
    }

    /// Lets the command have the events that wait for it, for as long as one of them may take. Later ones it does not get.
    pub fn finish(&self) {
        let runner = self.0.command.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Runner { queue, thread }) = runner else { return };
        drop(queue);
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As [`Self::tell`], of something that only people are told.
    pub fn say(&self, text: &str) {
        self.tell("note", text, false, json!({}));
    }
}

/// A thread that runs the command for one event after the other.
fn start(command: PathBuf) -> Result<Runner> {
    let (queue, events) = sync_channel(MOST_WAITING);
    let thread = std::thread::Builder::new()
        .name("on event".to_owned())
        .spawn(move || run(&command, &events))
        .context("cannot start a thread for --on-event")?;
    Ok(Runner { queue, thread })
}

fn run(command: &PathBuf, events: &Receiver<String>) {
    while let Ok(event) = events.recv() {
        if let Err(error) = run_once(command, &event) {
            let shown = files::escape_path(command);
            render::tell(&format!("warning: --on-event {shown}: {error:#}"));
        }
    }
}

fn run_once(command: &PathBuf, event: &str) -> Result<()> {
    let mut child = Command::new(command).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read it is free not to.
        let _ = writeln!(input, "{event}");
    }
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            anyhow::ensure!(status.success(), "it ended with {status}");
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it ran longer than {} s and was ended", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
