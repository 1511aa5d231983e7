//! `cargo xtask bench copy`: the grid, haul beside every rival on nine rows of links and work; how haul's
//! cost grows with files and clients; and how it shares a link. Both ends are on this machine, in two
//! network namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::contender::Program;
use super::data::Place;
use super::field::Programs;
use super::grid::{GRID, GridRow};
use super::page::Report;
use super::race::Bench;
use super::warden::{Sysctl, Warden, sysctl_path};
use super::{machine, scale, sharing};
use crate::steps;

/// Where the figures are kept.
const PAGE: &str = "docs/benchmarks.md";

/// The kernel lets namespaces use these only.
const ALLOWED: &str = "net.ipv4.tcp_allowed_congestion_control";

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct CopyBench {
    /// How often each program copies.
    pub runs: usize,
    /// Little data, and no page: to see that it works.
    pub quick: bool,
    /// The program to measure; none to build and measure this checkout's.
    pub haul: Option<PathBuf>,
    /// The rows and sections, by number or by name; none for all.
    pub rows: Vec<String>,
    /// The programs that take part; none for all.
    pub only: Vec<String>,
    /// Where the page is written, whatever was run.
    pub page: Option<PathBuf>,
}

impl CopyBench {
    /// Checks the words for rows and programs.
    pub fn check(&self) -> Result<()> {
        let known = |word: &String| {
            ["scale", "sharing"].contains(&word.as_str())
                || GRID.iter().any(|row| row.number.to_string() == *word)
        };
        if let Some(word) = self.rows.iter().find(|word| !known(word)) {
            bail!("{word} is no row; they are 1 to {}, scale and sharing", GRID.len());
        }
        match self.only.iter().find(|word| !Program::any_is_meant_by(word)) {
            Some(word) => bail!("{word} is no program of the bench"),
            None => Ok(()),
        }
    }

    fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|word| word == row)
    }

    /// Everything that the page tells of.
    fn is_whole(&self) -> bool {
        !self.quick && self.haul.is_none() && self.rows.is_empty() && self.only.is_empty()
    }
}

/// Runs the bench, prints the tables and writes the page.
pub fn run(bench: &CopyBench) -> Result<ExitCode> {
    bench.check()?;
    if machine::output(Command::new("id").arg("-u"))? != "0" {
        bail!("network namespaces need root: run this bench as root");
    }
    machine::install_rivals();
    let programs = programs(bench.haul.as_deref())?;
    let warden = Warden::start()?;
    let rows = GRID.iter().filter(|row| bench.wants(&row.number.to_string()));
    let rows: Vec<GridRow> = rows.map(|row| if bench.quick { row.small() } else { *row }).collect();
    let largest = rows.iter().map(|row| row.load.bytes()).max().unwrap_or(0);
    let place = Place::find(&warden, largest.max(if bench.quick { 0 } else { 1 << 30 }))?;
    let mut report = Report::new(bench.runs, &programs, &place);
    let _allowed = allow_congestion(&warden, &mut report.missing)?;
    let track = Bench {
        programs: &programs,
        warden: &warden,
        place: &place,
        runs: bench.runs,
        quick: bench.quick,
        only: &bench.only,
    };
    let before = report.missing.len();
    for row in rows {
        let result = track.race(row, &mut report.missing)?;
        println!("{}", report.row(&result));
        report.rows.push(result);
    }
    if bench.wants("scale") {
        report.scale = Some(scale::run(&track, &mut report.missing)?);
    }
    if bench.wants("sharing") {
        report.sharing = sharing::run(&track, &mut report.missing)?;
    }
    println!("{}", report.page());
    let page = match &bench.page {
        Some(page) => Some(page.clone()),
        None => bench.is_whole().then(|| steps::root().join(PAGE)),
    };
    match page {
        Some(page) => {
            report.write(&page)?;
            eprintln!("written: {}", page.display());
        }
        None => eprintln!("only a whole run of this checkout's haul writes {PAGE}"),
    }
    let failed = report.missing[before..].iter().any(|reason| reason.starts_with("haul"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Lets namespaces use CUBIC and BBR until the guard is dropped. What the kernel does not have is told.
fn allow_congestion(warden: &Warden, missing: &mut Vec<String>) -> Result<Sysctl> {
    let available = fs::read_to_string(sysctl_path("net.ipv4.tcp_available_congestion_control"))
        .context("ask for the ways of congestion control")?;
    let allowed = machine::sysctl(ALLOWED).unwrap_or_default();
    let mut words: Vec<&str> = allowed.split_whitespace().collect();
    for word in ["cubic", "bbr"] {
        if !available.split_whitespace().any(|it| it == word) {
            missing.push(format!("this kernel has no {word}: TCP with it does not run"));
        } else if !words.contains(&word) {
            words.push(word);
        }
    }
    warden.sysctl(ALLOWED, &words.join(" "))
}

/// Where haul and the bare senders are, after they were built, and qcp, if it is to be had.
fn programs(given: Option<&Path>) -> Result<Programs> {
    if given.is_none() {
        steps::succeed(steps::cargo(&["build", "--release", "--quiet", "-p", "haul"]))?;
    }
    let bare = ["build", "--release", "--quiet", "-p", "link", "--examples"];
    steps::succeed(steps::cargo(&bare))?;
    // Wherever cargo builds to, this program is there too, as `debug/xtask` or `release/xtask`.
    let program = std::env::current_exe().context("find this program")?;
    let folder = program.ancestors().nth(2).context("this program is not where cargo builds")?;
    let haul = match given {
        // The current folder is that of the user, and `fs::canonicalize` says too if it is not there.
        Some(path) => fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?,
        None => folder.join("release/haul"),
    };
    let bare_quic = folder.join("release/examples/bare_sender");
    let bare_tls = folder.join("release/examples/bare_tls");
    for path in [&haul, &bare_quic, &bare_tls] {
        if !path.is_file() {
            bail!("{} was built elsewhere", path.display());
        }
    }
    let haul_help = machine::output(Command::new(&haul).args(["cp", "--help"]))?;
    let qcp = machine::find("qcp").or_else(|| build_qcp(&folder.join("rivals")));
    Ok(Programs { haul, bare_quic, bare_tls, qcp, haul_help })
}

/// Builds qcp into a folder beside what cargo builds, once.
fn build_qcp(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("bin/qcp");
    if !program.is_file() {
        eprintln!("building qcp for comparison; this takes some minutes once");
        let mut command = steps::cargo(&["install", "--quiet", "--locked", "qcp", "--root"]);
        command.arg(folder);
        if let Err(error) = steps::succeed(command) {
            eprintln!("warning: {error:#}");
        }
    }
    program.is_file().then_some(program)
}
