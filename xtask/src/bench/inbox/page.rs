//! The figures as a page of the documentation, and each row on the terminal.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::rows::{InboxFigures, InboxProgram, InboxRow, ROWS};
use crate::bench::archive::{Archive, Figures, Record};
use crate::bench::page::cells::{align, cpu, memory, ranged};
use crate::bench::page::changed;
use crate::bench::plot::shown as figure;
use crate::bench::race::Measurement;
use crate::bench::stats::Spread;

/// What is to be reached at 1 Gbit/s, in MB/s.
const AIM_LAN: f64 = 110.0;

/// Which part of that is to be left where packets get lost.
const AIM_LOSSY: f64 = 0.85;

/// What the README of dync tells of its own tests, in MB/s: at 1 Gbit/s, and at 10 Gbit/s.
const FORERUNNER: [f64; 2] = [120.0, 200.0];

/// Writes the page, and its figures beside it.
pub fn write(page: &Path, record: &Record) -> Result<()> {
    record.archive.write(&page.with_extension("json"))?;
    fs::write(page, self::page(record)).with_context(|| format!("write {}", page.display()))
}

/// The page.
fn page(record: &Record) -> String {
    let archive = &record.archive;
    let mut page = format!(
        "# How fast datasets are handed in\n\nThis page is written by `cargo xtask bench inbox`, last on {}. The \
         figures of single runs are in [benchmarks-inbox.json](benchmarks-inbox.json); copies without an inbox are \
         on [another page](benchmarks.md).\n\n",
        record.day
    );
    page += &changed(archive, str::to_owned);
    let lacking: Vec<&str> = ROWS.iter().map(|row| row.word).collect();
    let lacking: Vec<&str> =
        lacking.into_iter().filter(|word| !archive.parts.contains_key(*word)).collect();
    if !lacking.is_empty() {
        let _ = write!(page, "Not measured yet: {}.\n\n", lacking.join(", "));
    }
    page += &verdicts(archive);
    let _ = write!(page, "## How it is measured\n\n{HOW}");
    let _ =
        write!(page, "- Source and target lie on {}.\n\n## Machine and programs\n\n", archive.disk);
    for line in &archive.machine {
        let _ = writeln!(page, "- {line}");
    }
    for line in archive.lines(|part| part.versions.get(1..).unwrap_or_default()) {
        let _ = writeln!(page, "- {line}");
    }
    for reason in archive.lines(|part| &part.missing) {
        let _ = writeln!(page, "- Note: {}", reason.replace('\n', " "));
    }
    for row in &ROWS {
        page += &section(row, archive);
    }
    page + REPEAT
}

/// One row, as it is on the page.
pub fn section(row: &InboxRow, archive: &Archive) -> String {
    let Some(figures) = figures(row.word, archive) else { return String::new() };
    // With little data the page can be looked at as well.
    let row = InboxRow { load: figures.load, ..*row };
    let origin = archive.origin(row.word);
    let mut text = format!("\n## {}\n\n{origin} The link: {}.", row.title(), row.link.describe());
    if figures.unread > 0 {
        let _ = write!(
            text,
            " The machine was too slow for {} packets of all runs, which were lost beside what the link loses.",
            figures.unread
        );
    }
    let _ = write!(text, "\n\n{}\nCommands:\n\n", table(figures));
    for line in figures.lines.iter().filter(|line| !line.command.is_empty()) {
        let _ = writeln!(text, "    {}", line.command);
    }
    text
}

fn figures<'a>(word: &str, archive: &'a Archive) -> Option<&'a InboxFigures> {
    match &archive.parts.get(word)?.figures {
        Figures::Inbox(figures) => Some(figures),
        _ => None,
    }
}

fn table(figures: &InboxFigures) -> String {
    let head = [
        "Program",
        "Seconds",
        "MB/s",
        "Time / haul put",
        "CPU s, near + far",
        "Memory MiB, near + far",
        "Runs",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let put = figures.of(InboxProgram::Put).map(|line| line.walls()).unwrap_or_default();
    for line in &figures.lines {
        let name = line.program.name().to_owned();
        if line.measurements.is_empty() {
            if let Some(stopped) = line.stopped {
                let seconds = format!("> {:.0} ({:.0} %)", stopped.after.floor(), stopped.percent);
                let mut cells = vec![name, seconds];
                cells.extend(["-", "-", "-", "-", "1"].map(str::to_owned));
                lines.push(cells);
            }
            continue;
        }
        let walls = Spread::of(line.walls());
        let median = |of: fn(&Measurement) -> f64| {
            Spread::of(line.measurements.iter().map(of).collect()).median
        };
        lines.push(vec![
            name,
            format!("{:.2} [{:.2}-{:.2}]", walls.median, walls.least, walls.most),
            figure(figures.speed(line).median),
            ranged(Spread::ratio(&line.walls(), &put)),
            cpu(median),
            memory(median),
            line.measurements.len().to_string(),
        ]);
    }
    align(&lines)
}

/// Whether it reaches what it is to reach.
pub fn verdicts(archive: &Archive) -> String {
    let mut lines = Vec::new();
    let mut verdict = |is_so: bool, text: String| {
        lines.push(format!("- {}: {text}", if is_so { "Yes" } else { "**No**" }));
    };
    for row in ["file", "many"] {
        let Some(figures) = figures(row, archive) else { continue };
        let Some((put, rival)) = figures.of(InboxProgram::Put).zip(figures.best_rival()) else {
            continue;
        };
        let ratio = Spread::ratio(&rival.walls(), &put.walls());
        verdict(
            ratio.median >= 1.0,
            format!(
                "{}, published and durable, no slower than {}: {} MB/s and {} MB/s, {} times as fast",
                figures.load.describe(),
                rival.program.name(),
                figure(figures.speed(put).median),
                figure(figures.speed(rival).median),
                ranged(ratio)
            ),
        );
    }
    let speed = |row| {
        let figures = figures(row, archive)?;
        Some(figures.speed(figures.of(InboxProgram::Put)?).median)
    };
    let (file, lan, lossy) = (speed("file"), speed("lan"), speed("lossy"));
    if let Some(lan) = lan {
        verdict(
            lan >= AIM_LAN,
            format!("at least {AIM_LAN} MB/s at 1 Gbit/s and 1 ms: {} MB/s", figure(lan)),
        );
    }
    if let Some((lan, lossy)) = lan.zip(lossy) {
        verdict(
            lossy >= AIM_LOSSY * lan,
            format!(
                "at least {:.0} % of that with a round trip of 40 ms and 2 % of all packets lost: {} MB/s, {:.0} %",
                100.0 * AIM_LOSSY,
                figure(lossy),
                100.0 * lossy / lan
            ),
        );
    }
    if lines.is_empty() {
        return String::new();
    }
    let [gigabit, ten] = FORERUNNER;
    let shown = |speed: Option<f64>| speed.map_or_else(|| "-".to_owned(), figure);
    lines.push(format!(
        "- Beside it, what the README of dync tells of its tests, on machines and disks that it does not name: about \
         {gigabit} MB/s at 1 Gbit/s, here {}, where {:.0} MB/s are what is left of the rate after headers; about {ten} \
         MB/s at 10 Gbit/s, here {} without a limit of the link, both ends on one machine.",
        shown(lan),
        LEFT_OF_GIGABIT,
        shown(file)
    ));
    format!("## What it is to reach\n\n{}\n\n", lines.join("\n"))
}

/// Of 1 Gbit/s, what is left for the payload in packets of 1,500 bytes after the headers of Ethernet, IP, TCP and TLS,
/// in MB/s.
const LEFT_OF_GIGABIT: f64 = 117.5;

/// How all of it is measured.
const HOW: &str = "\
- Both ends are on this machine, in two network namespaces that have nothing in common but the link, and share its
  processors. The first two rows use a pair of virtual devices of the kernel without any limit; the other links are
  made by the `badlink` program of this project, which runs on the same processors. Packets that are due within 80 us of
  each other, or a hundredth of the delay up to 250 us, are handed over together, as network cards do it.
- `haul put` goes to a server that was just started, with an empty inbox, from a client that was never there. Its time
  ends when the dataset is published: every file, the sidecars, all folders and the row in the catalogue are on the
  disk, both digests of every file are made, and the client has the signed receipt.
- `haul cp --fsync` to an export of such a server is the same transfer without an inbox, so that one sees what the
  inbox costs.
- scp leaves to the kernel when anything is written. What is held against haul is scp and then `sync` of what arrived
  (`sync FILE`, or `sync -f` of the file system where there are many), started at once and without the second login
  that it would take. scp alone stands there too. It has the kernel's congestion control, which is named below.
- Time is from the start of the command to its end, the connection included. Programs run in turns, the order turned
  around each time. Rows without a limit begin with a run that does not count. On the link that loses packets, scp
  runs once. A run that takes longer than two minutes is stopped.
- Before each run what is not on the disk yet is written, so that no run pays for another one, and 3 GiB of memory are
  written to and given back: where the machine is a guest, its host may take free memory back.
- Every copy is compared with its source byte by byte after the run, and then removed.
- CPU is user and system time of all processes on each side, near (the command) + far (the daemon and its sessions).
  Memory is the sum of the peak resident sizes of all processes of a side. The emulated link is in neither.
- Brackets hold the least and the most of all runs; those of ratios, 95 % of such ratios when runs are drawn anew.
- MB are 10^6 bytes.
";

/// How to run it again.
const REPEAT: &str = "
## Repeat it

On a machine that does nothing else, as root, with 6 GB free on the disk:

    cargo xtask bench inbox

It takes about half an hour and leaves no namespace, process or setting behind, also when it is interrupted; what was
measured until then is kept. `--rows file,many,lan,lossy` measures these anew and leaves the others as they are; `--runs
N` sets the number of runs; `--quick` and `--haul FILE` do not write this page, unless `--page FILE` says where. Commit
all changes first, or the page begins with a warning. In the commands above, `$D` is the folder of the bench and `$A` the
near namespace.

How an inbox bears many clients at once is checked by `cargo xtask load inbox`.
";

#[cfg(test)]
mod tests;
