//! How haul shares a link: two transfers and one plain TCP flow with CUBIC, each for itself, and what a
//! ping through the same link feels of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use badlink::{Change, End, Pair, PairOptions, Settings};
use serde::{Deserialize, Serialize};

use super::data::{Load, allocated};
use super::machine;
use super::peers::{HaulServer, silent};
use super::race::Bench;
use super::stats::{mean, percentile};
use super::warden::Process;

/// The hidden words that make this program the ends of a plain TCP flow.
pub const SINK: &str = "sink";
/// See [`SINK`].
pub const POUR: &str = "pour";

/// The link, in the words of `badlink`.
pub const WORDS: &str = "rate=100mbit delay=20ms queue=500KB";

/// Where the plain flow goes.
const PORT: u16 = 5001;

/// How often the sink says how much came.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// Seconds between two pings.
const PING_EVERY: f64 = 0.05;

/// What was found out with one pace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shared {
    /// What haul was told; none where it cannot be told.
    pub pace: Option<String>,
    /// Bytes per second of each transfer.
    pub transfers: [f64; 2],
    /// Bytes per second of the plain flow.
    pub flow: f64,
    /// Round trips in milliseconds on the idle link.
    pub idle: Vec<f64>,
    /// And while all three send.
    pub busy: Vec<f64>,
    /// Pings without an answer while all three send.
    pub lost: usize,
}

impl Shared {
    /// By how many milliseconds the mean and the 95th percentile rose.
    pub fn rise(&self) -> (f64, f64) {
        let high = |figures: &[f64]| percentile(figures, 0.95);
        (mean(&self.busy) - mean(&self.idle), high(&self.busy) - high(&self.idle))
    }

    /// All three together, in bytes per second.
    pub fn sum(&self) -> f64 {
        self.transfers.iter().sum::<f64>() + self.flow
    }
}

/// Runs it with each pace that haul knows; nothing without ping.
pub fn run(bench: &Bench<'_>, missing: &mut Vec<String>) -> Result<Option<Vec<Shared>>> {
    if machine::find("ping").is_none() {
        missing.push("ping is not installed, so how the link is shared is not measured".to_owned());
        return Ok(None);
    }
    eprintln!("\n== sharing a link");
    let knows = bench.programs.haul_help.contains("--pace");
    let paces: &[Option<&str>] = if knows { &[Some("fair"), Some("background")] } else { &[None] };
    paces.iter().map(|pace| share(bench, *pace)).collect::<Result<Vec<_>>>().map(Some)
}

fn share(bench: &Bench<'_>, pace: Option<&str>) -> Result<Shared> {
    let place = bench.place;
    place.clear()?;
    let mut settings = Settings::default();
    for word in WORDS.split_whitespace() {
        settings.apply(&Change::parse(word)?)?;
    }
    let pair =
        bench.warden.pair(PairOptions { model: Some(settings), ..PairOptions::default() })?;
    pair.set_sysctl(End::A, "net.ipv4.tcp_congestion_control", "cubic")?;
    // Enough for one transfer alone on the link for the whole time.
    let (settle, seconds): (f64, f64) = if bench.quick { (1.0, 3.0) } else { (5.0, 20.0) };
    let load = Load::Large { bytes: (12.5e6 * (settle + seconds)) as u64 };
    load.write(&place.source())?;
    let source = place.source().join(load.name());
    let idle = ping(&pair, seconds.min(5.0))?.0;

    let targets = ["one", "two"].map(|name| place.target().join(name));
    let mut servers = Vec::new();
    for target in &targets {
        fs::create_dir(target).with_context(|| format!("make {}", target.display()))?;
        let haul = &bench.programs.haul;
        servers.push(HaulServer::start(bench.warden, haul, &pair, place, 1, target)?);
    }
    let log = place.private().join("sink.log");
    let mut flow = flow(bench, &pair, &log)?;
    for server in &servers {
        let mut command = pair.command(End::A, &bench.programs.haul);
        command.args(["cp", "-q"]).arg(&source);
        command.args(pace.map(|pace| ["--pace", pace]).into_iter().flatten());
        command.arg(format!("{}:target/", server.address)).env("HAUL_HOME", &server.homes[0]);
        let client = place.private().join("sharing.log");
        flow.push(bench.warden.spawn(silent(&mut command, &client)?)?);
    }
    thread::sleep(Duration::from_secs_f64(settle));
    let count = || [allocated(&targets[0]), allocated(&targets[1]), poured(&log)];
    let (before, began) = (count(), Instant::now());
    let (busy, lost) = ping(&pair, seconds)?;
    let (after, took) = (count(), began.elapsed().as_secs_f64());
    let rate = |at: usize| after[at].saturating_sub(before[at]) as f64 / took;
    let shared = Shared {
        pace: pace.map(str::to_owned),
        transfers: [rate(0), rate(1)],
        flow: rate(2),
        idle,
        busy,
        lost,
    };
    drop((flow, servers));
    drop(pair);
    place.clear()?;
    place.clear_source()?;
    let megabytes = [shared.transfers[0], shared.transfers[1], shared.flow].map(|rate| rate / 1e6);
    eprintln!("{}: {megabytes:.2?} MB/s, ping +{:.1} ms", pace.unwrap_or("-"), shared.rise().0);
    Ok(shared)
}

/// Starts the plain flow: its sink, and then its source.
fn flow(bench: &Bench<'_>, pair: &Pair, log: &Path) -> Result<Vec<Process>> {
    let program = std::env::current_exe().context("find this program")?;
    let address = format!("{}:{PORT}", pair.address(End::B));
    let start = |end: End, word: &str, log: &Path| {
        fs::write(log, "").with_context(|| format!("make {}", log.display()))?;
        let mut command = pair.command(end, &program);
        command.args(["bench", word, &address]);
        bench.warden.spawn(silent(&mut command, log)?)
    };
    let mut sink = start(End::B, SINK, log)?;
    super::peers::wait_for(&mut sink, log, || (!fs::read(log).ok()?.is_empty()).then_some(()))?;
    let source = start(End::A, POUR, &bench.place.private().join("pour.log"))?;
    Ok(vec![source, sink])
}

/// How many bytes the sink has said that it has.
fn poured(log: &Path) -> u64 {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The last line may not be whole yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().and_then(|line| line.parse().ok()).unwrap_or(0)
}

/// Round trips in milliseconds, and how many had no answer.
fn ping(pair: &Pair, seconds: f64) -> Result<(Vec<f64>, usize)> {
    let count = (seconds / PING_EVERY).ceil().max(1.0) as usize;
    let mut command: Command = pair.command(End::A, "ping");
    command.args(["-n", "-i", &PING_EVERY.to_string(), "-c", &count.to_string(), "-W", "2"]);
    command.arg(pair.address(End::B).to_string());
    // It fails when all answers are missing, which is a figure too.
    let output = command.output().context("start ping")?;
    let times = times(&String::from_utf8_lossy(&output.stdout));
    let lost = count.saturating_sub(times.len());
    Ok((times, lost))
}

fn times(said: &str) -> Vec<f64> {
    let after = |line: &str| line.split_once(" time=")?.1.split_whitespace().next()?.parse().ok();
    said.lines().filter_map(after).collect()
}

/// The far end of a plain flow: takes one connection and says how many bytes came.
pub fn sink(words: &[String]) -> Result<ExitCode> {
    let [address] = words else { anyhow::bail!("sink needs an address") };
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    let mut output = std::io::stdout();
    writeln!(output, "0")?;
    let mut stream = listener.accept()?.0;
    let (mut buffer, mut bytes, mut told) = (vec![0; 1 << 18], 0, Instant::now());
    loop {
        let read = stream.read(&mut buffer)?;
        bytes += read as u64;
        if read == 0 || told.elapsed() >= TELL_EVERY {
            writeln!(output, "{bytes}")?;
            told = Instant::now();
        }
        if read == 0 {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The near end of a plain flow: sends until it is ended.
pub fn pour(words: &[String]) -> Result<ExitCode> {
    let [address] = words else { anyhow::bail!("pour needs an address") };
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    let buffer = vec![0x5a; 1 << 18];
    loop {
        stream.write_all(&buffer)?;
    }
}

#[cfg(test)]
mod tests;
