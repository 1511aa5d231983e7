//! Both ends of `haul diode` in their namespaces, with fresh keys, and what they tell.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use badlink::End;
use serde_json::Value;

use super::Track;
use super::link::Link;
use crate::bench::peers::{silent, wait_for};
use crate::bench::warden::Process;
use crate::bench::{machine, processes};

/// Where the receiver listens.
const PORT: u16 = 4286;

/// How long a receiver may take until it has stopped.
const STOP_AT_MOST: Duration = Duration::from_secs(30);

/// Two machines that trust each other.
#[derive(Debug)]
pub struct Ends<'a> {
    track: &'a Track<'a>,
    link: &'a Link,
    low: PathBuf,
    high: PathBuf,
}

/// One end while it runs.
#[derive(Debug)]
pub struct Running {
    /// The program.
    pub process: Process,
    log: PathBuf,
    read: u64,
    rest: Vec<u8>,
}

impl<'a> Ends<'a> {
    /// Makes two homes and has their keys exchanged.
    pub fn new(track: &'a Track<'a>, link: &'a Link) -> Result<Self> {
        let (low, high) = (track.place.fresh("low")?, track.place.fresh("high")?);
        let ends = Self { track, link, low, high };
        let key = |home: &Path, words: &[&str]| {
            let mut command = Command::new(&track.haul);
            command.args(["diode", "key"]).args(words).env("HAUL_HOME", home);
            machine::output(&mut command)
        };
        key(&ends.high, &["trust", &key(&ends.low, &["show"])?])?;
        key(&ends.low, &["trust", &key(&ends.high, &["show"])?])?;
        Ok(ends)
    }

    fn url(&self) -> String {
        format!("udp://{}:{PORT}", self.link.pair.address(End::B))
    }

    /// Starts the receiver, into the target, and waits until it listens.
    pub fn receive(&self, options: &[&str]) -> Result<Running> {
        let mut command = self.link.pair.command(End::B, &self.track.haul);
        command.args(["diode", "recv", "--from", &self.url(), "--into"]);
        command.arg(self.track.place.target()).args(options);
        let mut running = self.start(command, &self.high)?;
        let log = running.log.clone();
        let listens = || {
            let said = std::fs::read_to_string(&log).ok()?;
            said.contains("receiving from").then_some(())
        };
        wait_for(&mut running.process, &log, listens).context("start haul diode recv")?;
        Ok(running)
    }

    /// What sends the source at so many megabytes a second.
    pub fn sender(&self, rate: u32, options: &[&str]) -> Command {
        let mut command = self.link.pair.command(End::A, &self.track.haul);
        command.args(["diode", "send"]).arg(self.track.place.source());
        command.args(["--to", &self.url(), "--rate", &format!("{rate}MB")]);
        command.args(["--packet", &self.link.setting.packet.to_string(), "--settle", "0"]);
        command.args(options);
        command
    }

    /// Starts a sender.
    pub fn send(&self, rate: u32, options: &[&str]) -> Result<Running> {
        self.start(self.sender(rate, options), &self.low)
    }

    fn start(&self, mut command: Command, home: &Path) -> Result<Running> {
        let log = home.join("bench.log");
        File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command.arg("--json").env("HAUL_HOME", home);
        let process = self.track.warden.spawn(silent(&mut command, &log)?)?;
        Ok(Running { process, log, read: 0, rest: Vec::new() })
    }

    /// The receiver's figures.
    pub fn status(&self) -> Result<Value> {
        let mut command = Command::new(&self.track.haul);
        command.args(["diode", "status", "--json"]).env("HAUL_HOME", &self.high);
        let said = machine::output(&mut command)?;
        let status: Value = serde_json::from_str(&said).context("read the receiver's status")?;
        match status.get("recv") {
            Some(recv) if recv.is_object() => Ok(recv.clone()),
            _ => bail!("the receiver says nothing of itself: {said}"),
        }
    }
}

impl Running {
    /// What it has told since it was asked last.
    pub fn news(&mut self) -> Result<Vec<Value>> {
        let mut file =
            File::open(&self.log).with_context(|| format!("open {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        self.read += file.read_to_end(&mut new)? as u64;
        self.rest.extend_from_slice(&new);
        Ok(whole_lines(&mut self.rest))
    }

    /// Everything it has said, for a message.
    pub fn said(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = said.len().saturating_sub(2000);
        said.get(from..).unwrap_or(&said).to_owned()
    }

    /// Stops it as Ctrl-C does.
    pub fn stop(mut self) -> Result<()> {
        processes::signal(self.process.id(), "-INT");
        let deadline = Instant::now() + STOP_AT_MOST;
        while self.process.ended()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not stop: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Takes the lines that have ended, and reads those that are events; what is not was said by another.
fn whole_lines(bytes: &mut Vec<u8>) -> Vec<Value> {
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let whole: Vec<u8> = bytes.drain(..=end).collect();
    let lines = whole.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Whether a receiver tells that a generation, or a later one, is complete. Numbers are times in milliseconds, so a small
/// one stands for any.
pub fn completes(event: &Value, generation: u64) -> bool {
    let is = |name: &str| event[name].as_u64() == Some(0);
    event["event"] == "generation"
        && event["generation"].as_u64().is_some_and(|number| number >= generation)
        && is("missing")
        && is("different")
}

#[cfg(test)]
mod tests;
