//! `cargo xtask bench copy`: one large file and many small ones, copied on loopback by haul and by what
//! people use now, in turns. Only the copying is timed; that the copy is identical is checked after every
//! single run, and a program whose copy is not is out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::contender::{Contender, Far, Field};
use super::data::{Load, Place};
use super::page::{self, Report, Row, Table};
use super::processes::{self, Watch};
use super::warden::Warden;
use crate::steps;

/// Where the figures are kept.
const PAGE: &str = "docs/benchmarks.md";

/// The longest that one copy may take.
const RUN_AT_MOST: Duration = Duration::from_secs(600);

/// The longest that the far end may take to end a session after the copy is done.
const SETTLE_AT_MOST: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct CopyBench {
    /// How often each program copies each load.
    pub runs: usize,
    /// Little data, and no page: to see that it works.
    pub quick: bool,
    /// The program to measure; none to build and measure this checkout's.
    pub haul: Option<PathBuf>,
}

/// What one copy cost.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Seconds from the start of the command to its end.
    pub wall: f64,
    /// Seconds of processor time on the near and the far end.
    pub cpu: (f64, f64),
    /// Peak resident bytes of all processes on the near and the far end.
    pub memory: (u64, u64),
}

/// Runs the bench, prints the tables and writes the page.
pub fn run(bench: &CopyBench) -> Result<ExitCode> {
    let (haul, bare) = programs(bench.haul.as_deref())?;
    let loads = loads(bench.quick);
    let warden = Warden::start()?;
    let bytes = loads.iter().map(|load| load.bytes()).max().unwrap_or(0);
    let place = Place::find(&warden, bytes)?;
    let field = Field::start(&warden, &haul, &bare, &place)?;
    for reason in &field.missing {
        eprintln!("left out: {reason}");
    }
    let mut report = Report::new(bench, &haul, &place, field.missing.clone());
    let mut lost = Vec::new();
    for load in loads {
        let track = Track { load, field: &field, warden: &warden, place: &place };
        report.tables.push(track.race(bench.runs, &mut lost)?);
    }
    let failed = !lost.is_empty();
    report.missing.extend(lost);
    println!("{}", report.tables());
    if bench.quick || bench.haul.is_some() {
        eprintln!("only a whole run of this checkout's haul writes {PAGE}");
    } else {
        let path = steps::root().join(PAGE);
        fs::write(&path, report.page()).with_context(|| format!("write {PAGE}"))?;
        eprintln!("written: {PAGE}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn loads(quick: bool) -> [Load; 2] {
    if quick {
        [Load::Large { bytes: 128 << 20 }, Load::Many { folders: 10, each: 100 }]
    } else {
        [Load::Large { bytes: 1 << 30 }, Load::Many { folders: 100, each: 100 }]
    }
}

/// Where haul and the bare sender are, after they were built.
fn programs(given: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    if given.is_none() {
        steps::succeed(steps::cargo(&["build", "--release", "--quiet", "-p", "haul"]))?;
    }
    let bare = ["build", "--release", "--quiet", "-p", "link", "--example", "bare_sender"];
    steps::succeed(steps::cargo(&bare))?;
    // Wherever cargo builds to, this program is there too, as `debug/xtask` or `release/xtask`.
    let program = std::env::current_exe().context("find this program")?;
    let folder = program.ancestors().nth(2).context("this program is not where cargo builds")?;
    let haul = match given {
        // The current folder is that of the user, and `fs::canonicalize` says too if it is not there.
        Some(path) => fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?,
        None => folder.join("release/haul"),
    };
    let bare = folder.join("release/examples/bare_sender");
    for path in [&haul, &bare] {
        if !path.is_file() {
            bail!("{} was built elsewhere", path.display());
        }
    }
    Ok((haul, bare))
}

/// One load, and all that it is copied with.
struct Track<'a> {
    load: Load,
    field: &'a Field,
    warden: &'a Warden,
    place: &'a Place,
}

impl Track<'_> {
    /// Every program in turn, as often as wanted, after one turn that does not count. A program that
    /// fails is out; why is added to `lost`.
    fn race(&self, runs: usize, lost: &mut Vec<String>) -> Result<Table> {
        eprintln!("\n== {}", self.load.describe());
        self.load.write(&self.place.source())?;
        let mut rows: Vec<Row> = Contender::of(self.load).map(Row::new).collect();
        for run in 0..=runs {
            // Turned around each time, so that nobody always comes after the same other one.
            rows.reverse();
            rows.retain_mut(|row| match self.turn(row, run) {
                Ok(took_part) => took_part,
                Err(error) => {
                    let name = row.contender.name();
                    eprintln!("error: {name}: {error:#}");
                    lost.push(format!("{name} failed on {}: {error:#}", self.load.describe()));
                    false
                }
            });
        }
        let order: Vec<Contender> = Contender::of(self.load).collect();
        rows.sort_by_key(|row| order.iter().position(|it| *it == row.contender));
        let source = self.place.source().join(self.load.name());
        match source.is_dir() {
            true => fs::remove_dir_all(&source),
            false => fs::remove_file(&source),
        }
        .with_context(|| format!("remove {}", source.display()))?;
        Ok(Table { load: self.load, rows })
    }

    /// One copy; whether the program is there. Run 0 warms up and does not count.
    fn turn(&self, row: &mut Row, run: usize) -> Result<bool> {
        // What a program that failed left behind must not look like this one's copy.
        self.place.clear()?;
        let contender = row.contender;
        let Some(start) = self.field.prepare(contender, self.load, self.warden, self.place)? else {
            return Ok(false);
        };
        row.command = page::shown(&start.command, self.place.path());
        let measurement = self.measure(start.command, start.far)?;
        if contender.leaves_a_copy() {
            self.place.check_and_clear(self.load)?;
        }
        let warm_up = if run == 0 { ", warming up" } else { "" };
        eprintln!("{}: {:.3} s{warm_up}", contender.name(), measurement.wall);
        if run > 0 {
            row.measurements.push(measurement);
        }
        Ok(true)
    }

    fn measure(&self, mut command: Command, far: Far) -> Result<Measurement> {
        let log = self.place.private().join("client.log");
        let open = || File::create(&log).with_context(|| format!("make {}", log.display()));
        let errors = open()?;
        command.stdout(errors.try_clone()?).stderr(errors);
        let far_id = match &far {
            Far::None => None,
            Far::Daemon(id) => Some(*id),
            Far::Once(process) => Some(process.id()),
        };
        if let Far::Daemon(id) = far {
            processes::forget_peak(id);
        }
        let far_before = far_id.map_or(0.0, processes::cpu_seconds);
        let near_before = processes::own_children_seconds();
        let began = Instant::now();
        let mut client = self.warden.spawn(&mut command)?;
        let watch = Watch::start(client.id(), far_id, RUN_AT_MOST);
        let status = client.wait()?;
        let wall = began.elapsed().as_secs_f64();
        let near_cpu = processes::own_children_seconds() - near_before;
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("{status}: {}", said.trim());
        }
        let (memory, far_cpu) = match far {
            Far::None => (watch.finish(), 0.0),
            Far::Daemon(id) => {
                settle(id)?;
                (watch.finish(), processes::cpu_seconds(id) - far_before)
            }
            Far::Once(mut process) => {
                let memory = watch.finish();
                let before = processes::own_children_seconds();
                let status = process.wait()?;
                if !status.success() {
                    bail!("the receiver: {status}");
                }
                (memory, processes::own_children_seconds() - before)
            }
        };
        Ok(Measurement { wall, cpu: (near_cpu, far_cpu), memory })
    }
}

/// Waits until a daemon has no process for a session left: only what it waited for is in its figures.
fn settle(id: u32) -> Result<()> {
    let deadline = Instant::now() + SETTLE_AT_MOST;
    while !processes::children(id).is_empty() {
        if Instant::now() > deadline {
            bail!("the far end does not end its session");
        }
        thread::sleep(Duration::from_millis(2));
    }
    // A daemon without processes for sessions ends them in its own time, which belongs to the run.
    thread::sleep(Duration::from_millis(50));
    Ok(())
}
