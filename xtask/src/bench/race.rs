//! One row of the grid: every program in turn, again and again, and what each copy cost. Only the copying
//! is timed; that the copy is identical is checked after every single run, and a program whose copy is not
//! is out.

use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use badlink::PairOptions;
use serde::{Deserialize, Serialize};

use super::contender::{Contender, Program};
use super::data::Place;
use super::field::{Far, Field, Programs, Start};
use super::grid::{GridRow, LinkKind};
use super::page::shown;
use super::processes::{self, Watch};
use super::stats::Spread;
use super::warden::Warden;

/// The longest that the far end may take to end a session after the copy is done.
const SETTLE_AT_MOST: Duration = Duration::from_secs(10);

/// On a link, a rival that takes so many times as long as the fastest one runs once only.
const SLOW: f64 = 1.3;

/// What the whole bench is run with.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// Who cleans up.
    pub warden: &'a Warden,
    /// Where the data is.
    pub place: &'a Place,
    /// How often each program copies.
    pub runs: usize,
    /// Little data.
    pub quick: bool,
    /// The programs that take part; all if there are none.
    pub only: &'a [String],
}

/// What one copy cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Measurement {
    /// Seconds from the start of the command to its end.
    pub wall: f64,
    /// Seconds of processor time on the near and the far end.
    pub cpu: (f64, f64),
    /// Peak resident bytes of all processes on the near and the far end.
    pub memory: (u64, u64),
}

/// A copy that was stopped because it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// When, in seconds.
    pub after: f64,
    /// How much of it was there, in percent.
    pub percent: f64,
}

/// The figures of one program in one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub contender: Contender,
    /// What was run, for people.
    pub command: String,
    /// One for each run that counts.
    pub measurements: Vec<Measurement>,
    /// It took too long.
    pub stopped: Option<Stopped>,
    /// It is slower than others by far, and runs no more.
    pub slow: bool,
}

/// The figures of one row.
#[derive(Debug)]
pub struct RowResult {
    /// Which.
    pub row: GridRow,
    /// One for each program.
    pub entries: Vec<Entry>,
    /// Packets that the emulator dropped because the machine was too slow for it.
    pub unread: u64,
}

/// How a copy ended.
#[derive(Debug)]
pub enum Ended {
    /// It is there.
    Done(Measurement),
    /// It took too long.
    Stopped(Stopped),
}

impl Measurement {
    /// Seconds of processor time on both ends.
    pub fn cpu_sum(&self) -> f64 {
        self.cpu.0 + self.cpu.1
    }

    /// Peak resident bytes on both ends.
    pub fn memory_sum(&self) -> u64 {
        self.memory.0 + self.memory.1
    }
}

impl Entry {
    /// A program that has not run yet.
    pub fn new(contender: Contender) -> Self {
        let (command, measurements) = (String::new(), Vec::new());
        Self { contender, command, measurements, stopped: None, slow: false }
    }

    /// All times.
    pub fn walls(&self) -> Vec<f64> {
        self.measurements.iter().map(|measurement| measurement.wall).collect()
    }

    /// One figure of all runs.
    pub fn spread(&self, figure: impl Fn(&Measurement) -> f64) -> Spread {
        Spread::of(self.measurements.iter().map(figure).collect())
    }

    /// Seconds of processor time of all runs, both ends together.
    pub fn cpu_sums(&self) -> Vec<f64> {
        self.measurements.iter().map(Measurement::cpu_sum).collect()
    }

    /// The times.
    pub fn wall(&self) -> Spread {
        self.spread(|measurement| measurement.wall)
    }
}

impl RowResult {
    /// The figures of a program, in its fastest way of sending, if it has any.
    pub fn of(&self, program: Program) -> Option<&Entry> {
        self.fastest(|it| it == program)
    }

    /// The fastest rival.
    pub fn best_rival(&self) -> Option<&Entry> {
        self.fastest(Program::is_rival)
    }

    fn fastest(&self, which: impl Fn(Program) -> bool) -> Option<&Entry> {
        let measured = |entry: &&Entry| !entry.measurements.is_empty();
        let wanted = self.entries.iter().filter(|entry| which(entry.contender.program));
        wanted.filter(measured).min_by(|a, b| a.wall().median.total_cmp(&b.wall().median))
    }
}

impl Bench<'_> {
    /// Whether a program takes part.
    pub fn wants(&self, program: Program) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| program.is_meant_by(word))
    }

    /// Every program in turn, as often as wanted. A program that fails is out; why is added to `lost`.
    pub fn race(&self, row: GridRow, lost: &mut Vec<String>) -> Result<RowResult> {
        eprintln!("\n== {}. {}", row.number, row.title());
        let options = PairOptions { model: row.link.settings(), ..PairOptions::default() };
        let pair = self.warden.pair(options)?;
        let (programs, warden, place) = (self.programs, self.warden, self.place);
        let field = Field::start(programs, warden, place, &pair, row, self.runs)?;
        for reason in &field.missing {
            if !lost.contains(reason) {
                eprintln!("left out: {reason}");
                lost.push(reason.clone());
            }
        }
        row.load.write(&place.source())?;
        let contenders = Contender::of(&row);
        let mut entries: Vec<Entry> = contenders.iter().copied().map(Entry::new).collect();
        entries.retain(|entry| self.wants(entry.contender.program));
        // On a link the first run differs little from the others, and takes long.
        let first = if row.link == LinkKind::Clean { 0 } else { 1 };
        for run in first..=self.runs {
            // Turned around each time, so that nobody always comes after the same other one.
            entries.reverse();
            entries.retain_mut(|entry| {
                if entry.stopped.is_some() || entry.slow {
                    return true;
                }
                // Its first copy is that of a stranger, and so does not count.
                let stranger = run == first && entry.contender.program == Program::HaulAgain;
                let met = if stranger { self.turn(&field, row, entry, 0) } else { Ok(true) };
                let copied = met.and_then(|_| self.turn(&field, row, entry, run));
                copied.unwrap_or_else(|error| {
                    let name = entry.contender.name();
                    eprintln!("error: {name}: {error:#}");
                    lost.push(format!("{name} failed in row {}: {error:#}", row.number));
                    false
                })
            });
            if run == 1 && row.link != LinkKind::Clean {
                mark_slow(&mut entries);
            }
        }
        entries.sort_by_key(|entry| contenders.iter().position(|it| *it == entry.contender));
        drop(field);
        let stats = pair.stop();
        let unread = stats.a_to_b.unread + stats.b_to_a.unread;
        if row.link != LinkKind::Clean {
            eprintln!("link there: {}\nlink back: {}", stats.a_to_b, stats.b_to_a);
        }
        place.clear_source()?;
        Ok(RowResult { row, entries, unread })
    }

    /// One copy; whether the program is there. Run 0 warms up and does not count.
    fn turn(&self, field: &Field<'_>, row: GridRow, entry: &mut Entry, run: usize) -> Result<bool> {
        // What a program that failed left behind must not look like this one's copy.
        self.place.clear()?;
        let contender = entry.contender;
        let Some(start) = field.prepare(contender, run)? else { return Ok(false) };
        entry.command = shown(&start.command, self.place.path());
        let at_most = row.at_most(self.quick);
        let Start { command, far } = start;
        let bytes = row.load.bytes();
        match measure(self.warden, self.place, command, far, at_most, bytes)? {
            Ended::Done(measurement) => {
                self.place.check_and_clear(row.load)?;
                let warm_up = if run == 0 { ", warming up" } else { "" };
                eprintln!("{}: {:.3} s{warm_up}", contender.name(), measurement.wall);
                if run > 0 {
                    entry.measurements.push(measurement);
                }
            }
            Ended::Stopped(stopped) => {
                let Stopped { after, percent } = stopped;
                eprintln!("{}: stopped after {after:.0} s at {percent:.0} %", contender.name());
                entry.stopped = Some(stopped);
            }
        }
        Ok(true)
    }
}

/// Runs one copy to its end, or stops it.
pub fn measure(
    warden: &Warden,
    place: &Place,
    mut command: Command,
    far: Far,
    at_most: Duration,
    bytes: u64,
) -> Result<Ended> {
    let log = place.private().join("client.log");
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
    let mut client = warden.spawn(&mut command)?;
    let watch = Watch::start(client.id(), far_id, at_most);
    let status = client.wait()?;
    let wall = began.elapsed().as_secs_f64();
    let near_cpu = processes::own_children_seconds() - near_before;
    if !status.success() && wall >= at_most.as_secs_f64() {
        let percent = 100.0 * place.arrived() as f64 / bytes.max(1) as f64;
        watch.finish();
        end_sessions(far)?;
        return Ok(Ended::Stopped(Stopped { after: wall, percent: percent.min(100.0) }));
    }
    if !status.success() {
        if let Far::Daemon(_) = far {
            end_sessions(far)?;
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!("{status}: {}", last_line(&said));
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
    Ok(Ended::Done(Measurement { wall, cpu: (near_cpu, far_cpu), memory }))
}

/// What a program that failed said last: the cause, where it names one.
fn last_line(said: &str) -> &str {
    said.trim().lines().last().unwrap_or("it said nothing")
}

/// Rivals that are far from the fastest run no more: the time is better spent on those that are near.
fn mark_slow(entries: &mut [Entry]) {
    let walls = entries.iter().filter(|entry| entry.contender.program.is_rival());
    let fastest = walls.filter_map(|entry| entry.walls().first().copied()).reduce(f64::min);
    let Some(fastest) = fastest else { return };
    for entry in entries {
        let is_slow = entry.walls().first().is_some_and(|wall| *wall > fastest * SLOW);
        entry.slow = is_slow && !entry.contender.program.is_haul();
    }
}

/// Ends what a copy that was stopped, or that failed, left at the far end, so that the next one has the
/// link for itself. A daemon stays; what it started for sessions does not.
fn end_sessions(far: Far) -> Result<()> {
    let Far::Daemon(id) = far else { return Ok(()) };
    let mut open = processes::children(id);
    while let Some(process) = open.pop() {
        open.extend(processes::children(process));
        processes::kill(process);
    }
    settle(id)
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
