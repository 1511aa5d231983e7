//! `cargo xtask bench copy`: the grid, haul beside every rival on nine rows of links and work; how haul's
//! cost grows with files and clients; and how it shares a link. Both ends are on this machine, in two
//! network namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::archive::{Archive, Figures, Record, SCALE, SHARING};
use super::contender::Program;
use super::data::Place;
use super::field::Programs;
use super::grid::{GRID, GridRow};
use super::page::Report;
use super::race::{Bench, RowResult};
use super::warden::{Sysctl, Warden, sysctl_path};
use super::{Words, machine, scale, sharing};
use crate::steps;

/// Where the figures are kept.
const PAGE: &str = "docs/benchmarks.md";

/// The kernel lets namespaces use these only.
const ALLOWED: &str = "net.ipv4.tcp_allowed_congestion_control";

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench copy [--runs N] [--quick] [--rows ROWS] [--only PROGRAMS] [--haul FILE] [--page FILE]
  --runs N         how often each program copies (5; 1 with --quick)
  --quick          little data, to see that it works
  --rows ROWS      1 to 9, scale, sharing, with commas between
  --only PROGRAMS  haul, rsync, rsync-ssh, rsync-daemon, scp, scp-aes, qcp, rclone, uftp, bare-tls,
                   bare-quic, cp, with commas between
  --haul FILE      measure another build
  --page FILE      write the page, its plots and its figures there, whatever was run";

/// What to run.
#[derive(Debug, Clone, Default)]
struct CopyBench {
    /// How often each program copies.
    runs: usize,
    /// Little data, and no page: to see that it works.
    quick: bool,
    /// The program to measure; none to build and measure this checkout's.
    haul: Option<PathBuf>,
    /// The rows and sections, by number or by name; none for all.
    rows: Vec<String>,
    /// The programs that take part; none for all.
    only: Vec<String>,
    /// Where the page is written, whatever was run.
    page: Option<PathBuf>,
}

impl CopyBench {
    fn new(words: &Words) -> Self {
        Self {
            runs: words.runs,
            quick: words.quick,
            haul: words.haul.clone(),
            rows: words.list("--rows"),
            only: words.list("--only"),
            page: words.page.clone(),
        }
    }

    /// Checks the words for rows and programs.
    fn check(&self) -> Result<()> {
        let known = |word: &String| {
            [SCALE, SHARING].contains(&word.as_str())
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

    /// Whether the page is to tell of it.
    fn is_kept(&self) -> bool {
        !self.quick && self.haul.is_none() && self.only.is_empty()
    }
}

/// Runs the bench, prints the tables and writes the page.
pub fn run(words: &Words) -> Result<ExitCode> {
    let bench = CopyBench::new(words);
    bench.check()?;
    machine::need_root()?;
    machine::install(&machine::RIVALS);
    let programs = programs(bench.haul.as_deref())?;
    let warden = Warden::start()?;
    let rows = GRID.iter().filter(|row| bench.wants(&row.number.to_string()));
    let rows: Vec<GridRow> = rows.map(|row| if bench.quick { row.small() } else { *row }).collect();
    let largest = rows.iter().map(|row| row.load.bytes()).max().unwrap_or(0);
    let place = Place::find(&warden, largest.max(if bench.quick { 0 } else { 1 << 30 }))?;
    let page = match &bench.page {
        Some(page) => Some(page.clone()),
        None => bench.is_kept().then(|| steps::root().join(PAGE)),
    };
    let (machine, disk) = (machine::describe(), place.describe());
    let archive = match page.as_ref().filter(|_| bench.is_kept()) {
        Some(page) => Archive::read(&page.with_extension("json"), &machine, &disk)?,
        None => Archive { machine, disk, ..Archive::default() },
    };
    let mut course = Course {
        report: Report::new(Record::new(bench.runs, machine::versions(&programs), archive)),
        page,
        everywhere: Vec::new(),
        failed: false,
    };
    course.warn_of_changes();
    let _allowed = allow_congestion(&warden, &mut course.everywhere)?;
    let track = Bench {
        programs: &programs,
        warden: &warden,
        place: &place,
        runs: bench.runs,
        quick: bench.quick,
        only: &bench.only,
    };
    for row in rows {
        let mut missing = Vec::new();
        let result = track.race(row, &mut missing)?;
        println!("{}", course.report.row(&result));
        let RowResult { row, entries, unread } = result;
        let figures = Figures::Row { load: row.load, entries, unread };
        course.take(&row.number.to_string(), figures, missing)?;
    }
    if bench.wants(SCALE) {
        let mut missing = Vec::new();
        let scale = scale::run(&track, &mut missing)?;
        course.take(SCALE, Figures::Scale(scale), missing)?;
    }
    if bench.wants(SHARING) {
        let mut missing = Vec::new();
        match sharing::run(&track, &mut missing)? {
            Some(shared) => course.take(SHARING, Figures::Sharing(shared), missing)?,
            None => missing.iter().for_each(|reason| eprintln!("left out: {reason}")),
        }
    }
    match &course.page {
        Some(page) => {
            eprintln!("written: {}", page.display());
            course.warn_of_changes();
        }
        None => {
            println!("{}", course.report.page());
            eprintln!(
                "a part of the programs, little data or another haul: {PAGE} stays as it was"
            );
        }
    }
    Ok(if course.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was found out on the way.
struct Course {
    report: Report,
    page: Option<PathBuf>,
    /// What is missing wherever it is measured.
    everywhere: Vec<String>,
    failed: bool,
}

impl Course {
    fn warn_of_changes(&self) {
        if self.page.is_some() {
            self.report.record.warn_of_changes();
        }
    }

    /// Keeps what was measured at once: a run that is stopped later has not run for nothing.
    fn take(&mut self, name: &str, figures: Figures, mut missing: Vec<String>) -> Result<()> {
        self.failed |= missing.iter().any(|reason| reason.starts_with("haul"));
        missing.extend(self.everywhere.iter().cloned());
        self.report.record.add(name, figures, missing);
        match &self.page {
            Some(page) => self.report.write(page),
            None => Ok(()),
        }
    }
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

/// Where cargo builds.
pub fn build_folder() -> Result<PathBuf> {
    // Wherever cargo builds to, this program is there too, as `debug/xtask` or `release/xtask`.
    let program = std::env::current_exe().context("find this program")?;
    let folder = program.ancestors().nth(2).context("this program is not where cargo builds")?;
    Ok(folder.to_owned())
}

/// Where haul is: another build, or this checkout's, after it was built.
pub fn haul(given: Option<&Path>) -> Result<PathBuf> {
    // The current folder is that of the user, and `fs::canonicalize` says too if it is not there.
    if let Some(path) = given {
        return fs::canonicalize(path).with_context(|| format!("find {}", path.display()));
    }
    steps::succeed(steps::cargo(&["build", "--release", "--quiet", "-p", "haul"]))?;
    Ok(build_folder()?.join("release/haul"))
}

/// Where haul and the bare senders are, after they were built, and qcp, if it is to be had.
fn programs(given: Option<&Path>) -> Result<Programs> {
    let haul = haul(given)?;
    let bare = ["build", "--release", "--quiet", "-p", "link", "--examples"];
    steps::succeed(steps::cargo(&bare))?;
    let folder = build_folder()?;
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
