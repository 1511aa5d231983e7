//! How haul shares a link: two transfers, with and without a plain TCP flow with CUBIC, and that flow
//! alone, each for itself; and what a ping through the same link feels of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use badlink::{Change, End, Pair, PairOptions, Settings};
use serde::{Deserialize, Serialize};

use super::data::{Load, allocated};
use super::machine;
use super::peers::{HaulServer, Serves, Site, silent};
use super::race::Bench;
use super::stats::{mean, percentile};
use super::warden::Process;

/// The hidden words that make this program the ends of a plain TCP flow.
pub const SINK: &str = "sink";
/// See [`SINK`].
pub const POUR: &str = "pour";

/// The link, in the words of `badlink`. The queue holds three bandwidth-delay products, 120 ms: in a
/// shorter one no ping could rise by as much as is asked for.
pub const WORDS: &str = "rate=100mbit delay=20ms queue=1.5MB";

/// Where the plain flow goes.
const PORT: u16 = 5001;

/// How often the sink says how much came.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// Seconds between two pings.
const PING_EVERY: f64 = 0.05;

/// How long all send before bytes are counted, and how long they are counted, in seconds. CUBIC takes about
/// ten from one loss to the next on this link.
const LASTS: (f64, f64) = (5.0, 20.0);

/// Seconds for which the idle link is pinged.
const IDLE: f64 = 2.0;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scene {
    /// The plain flow alone.
    Cubic,
    /// Two transfers with `--pace fair`.
    Fair,
    /// These and the plain flow.
    FairAndCubic,
    /// Two transfers with `--pace background`.
    Background,
    /// These and the plain flow.
    BackgroundAndCubic,
}

/// What was found out in one scene.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shared {
    /// Which.
    pub scene: Scene,
    /// Bytes per second of each transfer, if there are any.
    pub transfers: Vec<f64>,
    /// Bytes per second of the plain flow, if it is there.
    pub flow: Option<f64>,
    /// Round trips in milliseconds on the idle link.
    pub idle: Vec<f64>,
    /// And while these send.
    pub busy: Vec<f64>,
    /// Pings without an answer while these send.
    pub lost: usize,
}

impl Scene {
    /// All, in the order of the page.
    pub const ALL: [Self; 5] =
        [Self::Cubic, Self::Fair, Self::FairAndCubic, Self::Background, Self::BackgroundAndCubic];

    /// What haul is told; none where it does not send.
    pub fn pace(self) -> Option<&'static str> {
        match self {
            Self::Cubic => None,
            Self::Fair | Self::FairAndCubic => Some("fair"),
            Self::Background | Self::BackgroundAndCubic => Some("background"),
        }
    }

    /// Whether the plain flow sends.
    pub fn has_flow(self) -> bool {
        matches!(self, Self::Cubic | Self::FairAndCubic | Self::BackgroundAndCubic)
    }

    /// What it is, for people.
    pub fn describe(self) -> String {
        let flow = if self.has_flow() { " and CUBIC" } else { "" };
        match self.pace() {
            None => "CUBIC alone".to_owned(),
            Some(pace) => format!("two `--pace {pace}`{flow}"),
        }
    }
}

impl Shared {
    /// By how many milliseconds the mean and the 95th percentile rose.
    pub fn rise(&self) -> (f64, f64) {
        let high = |figures: &[f64]| percentile(figures, 0.95);
        (mean(&self.busy) - mean(&self.idle), high(&self.busy) - high(&self.idle))
    }

    /// The rates of all that send, the plain flow last, in bytes per second.
    pub fn rates(&self) -> Vec<f64> {
        self.transfers.iter().copied().chain(self.flow).collect()
    }
}

/// Runs every scene; nothing without ping, or with a haul that does not know how to go slower.
pub fn run(bench: &Bench<'_>, missing: &mut Vec<String>) -> Result<Option<Vec<Shared>>> {
    if machine::find("ping").is_none() {
        missing.push("ping is not installed, so how the link is shared is not measured".to_owned());
        return Ok(None);
    }
    if !bench.programs.haul_help.contains("--pace") {
        missing
            .push("this haul knows no --pace, so how it shares a link is not measured".to_owned());
        return Ok(None);
    }
    eprintln!("\n== sharing a link");
    let (settle, seconds) = if bench.quick { (1.0, 3.0) } else { LASTS };
    // Enough for one transfer alone on the link, and for a ping that waits for its last answer.
    let load = Load::Large { bytes: (12.5e6 * (settle + seconds + 4.0)) as u64 };
    load.write(&bench.place.source())?;
    let source = bench.place.source().join(load.name());
    let share = |scene| share(bench, scene, &source, (settle, seconds));
    let shared: Vec<Shared> = Scene::ALL.into_iter().map(share).collect::<Result<_>>()?;
    bench.place.clear_source()?;
    Ok(Some(shared))
}

fn share(
    bench: &Bench<'_>,
    scene: Scene,
    source: &Path,
    (settle, seconds): (f64, f64),
) -> Result<Shared> {
    let place = bench.place;
    place.clear()?;
    let mut settings = Settings::default();
    for word in WORDS.split_whitespace() {
        settings.apply(&Change::parse(word)?)?;
    }
    let pair =
        bench.warden.pair(PairOptions { model: Some(settings), ..PairOptions::default() })?;
    pair.set_sysctl(End::A, "net.ipv4.tcp_congestion_control", "cubic")?;
    let idle = ping(&pair, IDLE)?.0;

    let names: &[&str] = if scene.pace().is_some() { &["one", "two"] } else { &[] };
    let targets: Vec<_> = names.iter().map(|name| place.target().join(name)).collect();
    let mut servers = Vec::new();
    for target in &targets {
        fs::create_dir(target).with_context(|| format!("make {}", target.display()))?;
        let haul = &bench.programs.haul;
        let (far, serves) = (Site::Far(&pair), Serves::Export(target));
        servers.push(HaulServer::start(bench.warden, haul, far, place, 1, serves)?);
    }
    let log = place.private().join("sink.log");
    let mut senders = if scene.has_flow() { flow(bench, &pair, &log)? } else { Vec::new() };
    let client = place.private().join("sharing.log");
    for server in &servers {
        let mut command = pair.command(End::A, &bench.programs.haul);
        command.args(["cp", "-q"]).arg(source);
        command.args(scene.pace().map(|pace| ["--pace", pace]).into_iter().flatten());
        command.arg(format!("{}:target/", server.address)).env("HAUL_HOME", &server.homes[0]);
        senders.push(bench.warden.spawn(silent(&mut command, &client)?)?);
    }
    thread::sleep(Duration::from_secs_f64(settle));
    let count = || -> (Vec<u64>, u64) {
        (targets.iter().map(|target| allocated(target)).collect(), poured(&log))
    };
    let (before, began) = (count(), Instant::now());
    let (busy, lost) = ping(&pair, seconds)?;
    let (after, took) = (count(), began.elapsed().as_secs_f64());
    for sender in &mut senders {
        // Whoever has ended shares nothing: the figures would be those of fewer.
        if let Some(status) = sender.ended()? {
            let said = fs::read_to_string(&client).unwrap_or_default();
            bail!("who was to send with {} is gone: {status}: {}", scene.describe(), said.trim());
        }
    }
    let rate = |(after, before): (&u64, &u64)| after.saturating_sub(*before) as f64 / took;
    let shared = Shared {
        scene,
        transfers: after.0.iter().zip(&before.0).map(rate).collect(),
        flow: scene.has_flow().then(|| rate((&after.1, &before.1))),
        idle,
        busy,
        lost,
    };
    drop((senders, servers));
    drop(pair);
    place.clear()?;
    let megabytes: Vec<f64> = shared.rates().iter().map(|rate| rate / 1e6).collect();
    eprintln!("{}: {megabytes:.2?} MB/s, ping +{:.1} ms", scene.describe(), shared.rise().0);
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
    let [address] = words else { bail!("sink needs an address") };
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
    let [address] = words else { bail!("pour needs an address") };
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    let buffer = vec![0x5a; 1 << 18];
    loop {
        stream.write_all(&buffer)?;
    }
}

#[cfg(test)]
mod tests;
