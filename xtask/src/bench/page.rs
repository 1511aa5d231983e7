//! The figures as tables, on the terminal and as a page of the documentation: medians with the range,
//! and each program's time beside that of haul and that of the bare sender.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::contender::Contender;
use super::copy::{CopyBench, Measurement};
use super::data::{Load, Place};
use super::machine;

/// All that a run of the bench found out.
#[derive(Debug)]
pub struct Report {
    runs: usize,
    day: String,
    machine: Vec<String>,
    versions: Vec<String>,
    disk: String,
    /// Programs without figures, and why.
    pub missing: Vec<String>,
    /// One for each load.
    pub tables: Vec<Table>,
}

/// The figures of one load.
#[derive(Debug)]
pub struct Table {
    /// What was copied.
    pub load: Load,
    /// One for each program.
    pub rows: Vec<Row>,
}

/// The figures of one program.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub contender: Contender,
    /// What was run, for people.
    pub command: String,
    /// One for each run.
    pub measurements: Vec<Measurement>,
}

/// A median and the range around it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Row {
    /// A program that has not run yet.
    pub fn new(contender: Contender) -> Self {
        Self { contender, command: String::new(), measurements: Vec::new() }
    }

    fn spread(&self, figure: impl Fn(&Measurement) -> f64) -> Spread {
        Spread::of(self.measurements.iter().map(figure).collect())
    }

    fn wall(&self) -> Spread {
        self.spread(|measurement| measurement.wall)
    }
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = match figures.len() {
            0 => f64::NAN,
            length if length % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
            _ => figures[middle],
        };
        let end = |figure: Option<&f64>| figure.copied().unwrap_or(f64::NAN);
        Self { median, least: end(figures.first()), most: end(figures.last()) }
    }
}

impl Report {
    /// What is known before the first run.
    pub fn new(bench: &CopyBench, haul: &Path, place: &Place, missing: Vec<String>) -> Self {
        Self {
            runs: bench.runs,
            day: machine::output(Command::new("date").args(["-u", "+%F"])).unwrap_or_default(),
            machine: machine::describe(),
            versions: machine::versions(haul),
            disk: place.describe(),
            missing,
            tables: Vec::new(),
        }
    }

    /// The tables with what is needed to read them.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            text += &format!("\n{}, median of {} [range]\n\n", table.load.describe(), self.runs);
            text += &table.markdown();
        }
        for reason in &self.missing {
            text += &format!("\nWithout figures: {reason}\n");
        }
        text + &format!("\nData on {}.\n", self.disk)
    }

    /// The page of the documentation.
    pub fn page(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\nThis page is written by `cargo xtask bench copy --runs {}`, last on {}. \
             It compares copies on the loopback of one machine, which shows what the programs cost and \
             says nothing about a link that loses packets or is long.\n\n\
             ## How it is measured\n\n",
            self.runs, self.day
        );
        page += HOW;
        let _ = write!(
            page,
            "- Source and target lie on {}.\n- {} runs of each program, in turns, after one that does \
             not count.\n\n## Machine and programs\n\n",
            self.disk, self.runs
        );
        for line in self.machine.iter().chain(&self.versions) {
            let _ = writeln!(page, "- {line}");
        }
        for reason in &self.missing {
            let _ = writeln!(page, "- Without figures: {}", reason.replace('\n', " "));
        }
        for table in &self.tables {
            let title = table.load.describe();
            let _ = write!(page, "\n## Copying {title}\n\n{}\nCommands:\n\n", table.markdown());
            for row in &table.rows {
                let _ = writeln!(page, "    {}", row.command);
            }
        }
        page += REPEAT;
        page
    }
}

const HOW: &str = "\
- Time is from the start of the command to its end, the connection included. Daemons run beforehand.
- CPU is user and system time of all processes on each side, near (the command) + far (the daemon and
  its sessions), in steps of 10 ms.
- Memory is the sum of the peak resident sizes of all processes of a side, near + far. It is sampled
  every 20 ms, so the peak of a process that ends may be a little higher.
- Brackets hold the least and the most of all runs. The ratios are of the median times: above 1 the
  program took longer than haul, or than the bare sender with haul's settings.
- Every copy is compared with its source byte by byte after the run, and then removed.
- sshd serves with its built-in sftp, a fresh host key and otherwise its defaults. The daemon of rsync
  does not encrypt; haul and ssh do.
- The bare sender is `crates/link/examples/bare_sender.rs`: the QUIC library with the settings of haul's
  lanes or with its own defaults, one connection, 1 MiB on each stream, one thread on each side. It
  hashes nothing, verifies nothing and resumes nothing; what haul takes longer is the price of that.
- Nothing calls fsync; haul does with `--fsync`.
";

const REPEAT: &str = "
## Repeat it

On a machine that does nothing else:

    cargo xtask bench copy

It needs no root and leaves nothing behind. `--runs N` sets the number of runs; `--quick` copies little,
to see that it works, and `--haul FILE` measures another build; neither writes this page. Programs that
are not installed are named and left out.
";

impl Table {
    fn markdown(&self) -> String {
        let (unit, amount) = self.load.unit();
        let median = |contender| {
            let row = self.rows.iter().find(|row| row.contender == contender);
            row.map_or(f64::NAN, |row| row.wall().median)
        };
        let haul = median(Contender::Haul);
        // The bare sender carries one file only, so only that table has a column for it.
        let bare = Contender::of(self.load).find(|it| *it == Contender::BareFile).map(median);
        let mut head = vec!["Program", "Seconds", unit, "Time / haul"];
        head.extend(bare.map(|_| "Time / bare"));
        head.extend(["CPU s, near + far", "Memory MiB, near + far"]);
        let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for row in &self.rows {
            let wall = row.wall();
            let near_cpu = row.spread(|m| m.cpu.0).median;
            let far_cpu = row.spread(|m| m.cpu.1).median;
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let near = row.spread(|m| mebibytes(m.memory.0)).median;
            let far = row.spread(|m| mebibytes(m.memory.1)).median;
            let mut cells = vec![
                row.contender.name().to_owned(),
                format!("{:.2} [{:.2}-{:.2}]", wall.median, wall.least, wall.most),
                format!("{:.0}", amount / wall.median),
                ratio(wall.median, haul),
            ];
            cells.extend(bare.map(|bare| ratio(wall.median, bare)));
            cells.push(format!("{near_cpu:.2} + {far_cpu:.2}"));
            cells.push(format!("{near:.0} + {far:.0}"));
            lines.push(cells);
        }
        align(&lines)
    }
}

fn ratio(figure: f64, base: f64) -> String {
    let ratio = figure / base;
    if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() }
}

/// A Markdown table whose columns are as wide in the source as on the page.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Figures stand to the right, so that digits of one weight are below each other.
            let _ = match column {
                0 => write!(text, "| {cell:<width$} "),
                _ => write!(text, "| {cell:>width$} "),
            };
        }
        text += "|\n";
        if at == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                let _ = match column {
                    0 => write!(text, "| {dashes}- "),
                    _ => write!(text, "| {dashes}: "),
                };
            }
            text += "|\n";
        }
    }
    text
}

/// A command as one would type it, with the folder of the bench as `$D` and programs by their names.
pub fn shown(command: &Command, folder: &Path) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| {
            let word = word.to_string_lossy();
            let quoted = if word.contains(' ') { format!("'{word}'") } else { word.into_owned() };
            quoted.replace(&*folder.to_string_lossy(), "$D")
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
