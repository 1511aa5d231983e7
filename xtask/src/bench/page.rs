//! The figures as tables and plots, on the terminal and as a page of the documentation: medians with the
//! range, each program beside haul, and in plain words whether haul reaches what it is to reach.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{Archive, Figures, Part, SCALE, SHARING};
use super::contender::Program;
use super::data::grouped;
use super::field::Programs;
use super::grid::{Aim, AsWhat, GRID};
use super::machine;
use super::plot::{Bar, Group, Kind, Plot, shown as figure};
use super::race::{Entry, Measurement, RowResult};
use super::scale::{Clients, Scale};
use super::sharing::{self, Shared};
use super::stats::{Spread, mean, percentile};

mod words;

use words::{HOW, HOW_SCALE, HOW_SHARING, REPEAT};

/// All that this run of the bench, and those before, found out.
#[derive(Debug)]
pub struct Report {
    runs: usize,
    day: String,
    versions: Vec<String>,
    archive: Archive,
}

impl Report {
    /// What is known before the first run.
    pub fn new(runs: usize, programs: &Programs, archive: Archive) -> Self {
        Self {
            runs,
            day: machine::output(Command::new("date").args(["-u", "+%F"])).unwrap_or_default(),
            versions: machine::versions(programs),
            archive,
        }
    }

    /// Takes what was measured, in place of what was known of the same part.
    pub fn add(&mut self, name: &str, figures: Figures, missing: Vec<String>) {
        let (day, versions) = (self.day.clone(), self.versions.clone());
        let part = Part { day, runs: self.runs, versions, missing, figures };
        self.archive.parts.insert(name.to_owned(), part);
    }

    /// One row with what is needed to read it.
    pub fn row(&self, result: &RowResult) -> String {
        let row = &result.row;
        format!(
            "\n{}. {}, median of {} [range]\n\n{}",
            row.number,
            row.title(),
            self.runs,
            table(result)
        )
    }

    /// Writes the page, its figures beside it, and its plots into a folder beside it.
    pub fn write(&self, page: &Path) -> Result<()> {
        self.archive.write(&page.with_extension("json"))?;
        let plots = page.parent().unwrap_or(Path::new("")).join("plots");
        fs::create_dir_all(&plots).with_context(|| format!("make {}", plots.display()))?;
        for (name, plot) in self.plots() {
            let path = plots.join(name);
            fs::write(&path, plot.svg()).with_context(|| format!("write {}", path.display()))?;
        }
        fs::write(page, self.page()).with_context(|| format!("write {}", page.display()))
    }

    /// The page of the documentation.
    pub fn page(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\nThis page is written by `cargo xtask bench copy`, last on {}. It holds haul \
             against other programs on nine rows of links and work, says where another one is better, and \
             shows how haul's cost grows and how it shares a link. The figures of single runs are in \
             [benchmarks.json](benchmarks.json).\n\n",
            self.day
        );
        let rows = self.archive.rows();
        page += &lacking(&rows);
        if !rows.is_empty() {
            page += &summary(&rows);
            page += &better_rivals(&rows);
        }
        page += &format!("## How it is measured\n\n{HOW}");
        let _ = write!(
            page,
            "- Source and target lie on {}.\n\n## Machine and programs\n\n",
            self.archive.disk
        );
        for line in &self.archive.machine {
            let _ = writeln!(page, "- {line}");
        }
        for line in self.archive.lines(|part| part.versions.get(1..).unwrap_or_default()) {
            let _ = writeln!(page, "- {line}");
        }
        for reason in self.archive.lines(|part| &part.missing) {
            let _ = writeln!(page, "- Without figures: {}", reason.replace('\n', " "));
        }
        for result in &rows {
            page += &section(result, &self.archive.origin(&result.row.number.to_string()));
        }
        let of = |name| self.archive.origin(name);
        page += &self.archive.scale().map(|it| scale_section(it, &of(SCALE))).unwrap_or_default();
        let sharing = self.archive.sharing().map(|it| sharing_section(it, &of(SHARING)));
        page + &sharing.unwrap_or_default() + REPEAT
    }

    fn plots(&self) -> Vec<(String, Plot)> {
        let (mut plots, rows) = (Vec::new(), self.archive.rows());
        if !rows.is_empty() {
            plots.push(("summary.svg".to_owned(), summary_plot(&rows)));
        }
        for result in &rows {
            plots.push((format!("row-{}.svg", result.row.number), row_plot(result)));
        }
        let scale = self.archive.scale().map(scale_plot);
        plots.extend(scale.map(|plot| ("scale.svg".to_owned(), plot)));
        let sharing = self.archive.sharing().map(sharing_plot);
        plots.extend(sharing.map(|plot| ("sharing.svg".to_owned(), plot)));
        plots
    }
}

/// Which rows have no figures yet; nothing if all have.
fn lacking(rows: &[RowResult]) -> String {
    let measured = |number| rows.iter().any(|result| result.row.number == number);
    let numbers = GRID.iter().map(|row| row.number).filter(|number| !measured(*number));
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    match numbers.is_empty() {
        true => String::new(),
        false => format!("Not measured yet: rows {}.\n\n", numbers.join(", ")),
    }
}

fn summary(rows: &[RowResult]) -> String {
    let head = [
        "Row",
        "haul MB/s",
        "Best rival",
        "MB/s",
        "haul / rival",
        "Limit MB/s",
        "haul / limit",
        "Target",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for result in rows {
        let row = &result.row;
        let (haul, rival) = (result.of(Program::Haul), result.best_rival());
        let limit = row.limit_rate();
        let to_limit = haul.zip(limit).map(|(haul, limit)| speed(result, haul) / (limit / 1e6));
        lines.push(vec![
            format!("{}. {}", row.number, row.title()),
            haul.map_or("-".to_owned(), |haul| figure(speed(result, haul))),
            rival.map_or("-".to_owned(), |rival| rival.contender.name()),
            rival.map_or("-".to_owned(), |rival| figure(speed(result, rival))),
            haul.zip(rival).map_or("-".to_owned(), |(haul, rival)| faster(haul, rival)),
            limit.map_or("-".to_owned(), |limit| figure(limit / 1e6)),
            to_limit.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.aims.iter().map(|aim| verdict(result, aim)).collect::<Vec<_>>().join("; "),
        ]);
    }
    format!(
        "## Summary\n\nMB = 10^6 bytes of verified data, from the start of the command to its end. A \
         ratio above 1 means that haul is faster; brackets hold 95 % of the ratios that the runs \
         allow.\n\n{}\n![haul and the best rival of each row](plots/summary.svg)\n\n",
        align(&lines)
    )
}

/// Generated from the figures, so that nobody forgets to say it.
fn better_rivals(rows: &[RowResult]) -> String {
    let mut text = "## Where a rival is better\n\n".to_owned();
    let mut any = false;
    for result in rows {
        let Some(haul) = result.of(Program::Haul) else {
            any = true;
            let row = &result.row;
            let _ = writeln!(text, "- Row {}, {}: haul has no figures.", row.number, row.title());
            continue;
        };
        let faster_ones = result.entries.iter().filter(|entry| {
            entry.contender.program.is_rival() && entry.wall().median < haul.wall().median
        });
        for entry in faster_ones {
            any = true;
            let ratio = Spread::ratio(&haul.walls(), &entry.walls());
            let _ = writeln!(
                text,
                "- Row {}, {}: {} takes {:.2} s, haul {:.2} s, which is {} times as long.",
                result.row.number,
                result.row.title(),
                entry.contender.name(),
                entry.wall().median,
                haul.wall().median,
                ranged(ratio),
            );
        }
    }
    if !any {
        text += "Nowhere in these rows: no rival's median is below haul's.\n";
    }
    text + "\n"
}

/// Millions of bytes per second, by the median time.
fn speed(result: &RowResult, entry: &Entry) -> f64 {
    result.row.load.bytes() as f64 / 1e6 / entry.wall().median
}

/// How many times as fast the one is as the other.
fn faster(one: &Entry, other: &Entry) -> String {
    ranged(Spread::ratio(&other.walls(), &one.walls()))
}

fn ranged(ratio: Spread) -> String {
    if !ratio.median.is_finite() {
        return "-".to_owned();
    }
    format!("{:.2} [{:.2}-{:.2}]", ratio.median, ratio.least, ratio.most)
}

/// Whether haul reaches an aim, in plain words.
fn verdict(result: &RowResult, aim: &Aim) -> String {
    let haul = result.of(aim.program);
    let (name, other) = match aim.as_what {
        AsWhat::Limit => ("the limit".to_owned(), result.row.limit_seconds),
        AsWhat::Program(program) => {
            let entry = result.of(program);
            (program.name().to_owned(), entry.map(|entry| entry.wall().median))
        }
        AsWhat::BestRival => {
            let entry = result.best_rival();
            ("the best rival".to_owned(), entry.map(|entry| entry.wall().median))
        }
    };
    let known = if aim.program == Program::HaulAgain { ", host known" } else { "" };
    let wanted = format!("{:.2} x {name}{known}", aim.factor);
    match haul.zip(other) {
        Some((haul, other)) => {
            let ratio = other / haul.wall().median;
            let word = if ratio >= aim.factor { "met" } else { "missed" };
            format!("{word}: {ratio:.2}, wanted {wanted}")
        }
        None => format!("not measured: wanted {wanted}"),
    }
}

fn table(result: &RowResult) -> String {
    let head = [
        "Program",
        "Seconds",
        "MB/s",
        "Time / haul",
        "CPU s, near + far",
        "Memory MiB, near + far",
        "Runs",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let haul = result.of(Program::Haul).map(Entry::walls).unwrap_or_default();
    for entry in &result.entries {
        let name = entry.contender.name();
        if entry.measurements.is_empty() {
            if let Some(stopped) = entry.stopped {
                let seconds = format!("> {:.0} ({:.0} %)", stopped.after.floor(), stopped.percent);
                let mut cells = vec![name, seconds];
                cells.extend(["-", "-", "-", "-", "1"].map(str::to_owned));
                lines.push(cells);
            }
            continue;
        }
        let wall = entry.wall();
        lines.push(vec![
            name,
            format!("{:.2} [{:.2}-{:.2}]", wall.median, wall.least, wall.most),
            figure(speed(result, entry)),
            ranged(Spread::ratio(&entry.walls(), &haul)),
            cpu(|of| entry.spread(of).median),
            memory(|of| entry.spread(of).median),
            entry.measurements.len().to_string(),
        ]);
    }
    align(&lines)
}

type Figure = fn(&Measurement) -> f64;

fn cpu(of: impl Fn(Figure) -> f64) -> String {
    format!("{:.2} + {:.2}", of(|m| m.cpu.0), of(|m| m.cpu.1))
}

fn memory(of: impl Fn(Figure) -> f64) -> String {
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    let (near, far) = (of(|m| m.memory.0 as f64), of(|m| m.memory.1 as f64));
    format!("{:.0} + {:.0}", mebibytes(near), mebibytes(far))
}

fn section(result: &RowResult, origin: &str) -> String {
    let row = &result.row;
    let mut text = format!(
        "\n## {}. {}\n\n{origin} The link: {}.",
        row.number,
        row.title(),
        row.link.describe()
    );
    if let Some(limit) = row.limit_rate() {
        let _ = write!(
            text,
            " The payload can be there in {:.2} s at best, {} MB/s.",
            row.limit_seconds.unwrap_or(f64::NAN),
            figure(limit / 1e6)
        );
    }
    if let Some(words) = row.link.words() {
        let options: Vec<String> =
            words.split_whitespace().map(|word| format!("--{}", word.replace('=', " "))).collect();
        let _ = write!(text, " It is made as by `badlink {}`.", options.join(" "));
    }
    if result.unread > 0 {
        let _ = write!(
            text,
            " The machine was too slow for {} packets of all runs, which were lost beside what the link loses.",
            result.unread
        );
    }
    let _ = write!(
        text,
        "\n\n{}\n![MB/s of each program](plots/row-{}.svg)\n\nCommands:\n\n",
        table(result),
        row.number
    );
    for entry in &result.entries {
        if !entry.command.is_empty() {
            let _ = writeln!(text, "    {}", entry.command);
        }
    }
    text
}

fn scale_section(scale: &Scale, origin: &str) -> String {
    let head = [
        "Files",
        "Seconds",
        "Microseconds per file",
        "CPU s, near + far",
        "Memory MiB, near + far",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (load, cost) in &scale.files {
        let files = load.files();
        lines.push(vec![
            grouped(files as u32),
            format!("{:.2}", cost.wall),
            figure(cost.wall * 1e6 / files as f64),
            cpu(|of| of(cost)),
            memory(|of| of(cost)),
        ]);
    }
    let files = align(&lines);
    let head = [
        "Clients",
        "Seconds",
        "MB/s together",
        "CPU s, near + far",
        "Memory MiB, one client + daemon",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for clients in &scale.clients {
        let cost = &clients.cost;
        lines.push(vec![
            clients.count.to_string(),
            format!("{:.2}", cost.wall),
            figure(clients.bytes() as f64 / 1e6 / cost.wall),
            cpu(|of| of(cost)),
            memory(|of| of(cost)),
        ]);
    }
    format!(
        "\n## Cost as work grows\n\n{HOW_SCALE}{origin}\n\n{files}\nClients at once against one daemon, each with {}:\n\n{}\n\
         ![time per file and speed of all clients](plots/scale.svg)\n",
        Clients::describe(),
        align(&lines)
    )
}

fn sharing_section(shared: &[Shared], origin: &str) -> String {
    let head = [
        "haul cp",
        "Transfers MB/s",
        "TCP MB/s",
        "Shares %",
        "Ping idle ms",
        "Rise, mean",
        "Rise, 95th percentile",
        "Pings lost",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for it in shared {
        let sum = it.sum();
        let shares = [it.transfers[0], it.transfers[1], it.flow]
            .map(|rate| format!("{:.0}", 100.0 * rate / sum));
        let (rise, high) = it.rise();
        lines.push(vec![
            it.pace.as_ref().map_or("as it is".to_owned(), |pace| format!("--pace {pace}")),
            format!("{:.2}, {:.2}", it.transfers[0] / 1e6, it.transfers[1] / 1e6),
            format!("{:.2}", it.flow / 1e6),
            shares.join(", "),
            format!("{:.1} / {:.1}", mean(&it.idle), percentile(&it.idle, 0.95)),
            format!("{rise:.1} ms"),
            format!("{high:.1} ms"),
            format!("{} of {}", it.lost, it.lost + it.busy.len()),
        ]);
    }
    let options: Vec<String> = sharing::WORDS
        .split_whitespace()
        .map(|word| format!("--{}", word.replace('=', " ")))
        .collect();
    format!(
        "\n## Sharing a link\n\n{HOW_SHARING}{origin} The link is made as by `badlink {}`.\n\n{}\n\
         ![rates on the shared link](plots/sharing.svg)\n",
        options.join(" "),
        align(&lines)
    )
}

fn kind(program: Program) -> Kind {
    match program {
        program if program.is_haul() => Kind::Haul,
        program if program.is_rival() => Kind::Rival,
        _ => Kind::Yardstick,
    }
}

fn row_plot(result: &RowResult) -> Plot {
    let bytes = result.row.load.bytes() as f64 / 1e6;
    // A copy without a network would make all other bars short.
    let drawn = |entry: &&Entry| entry.contender.program != Program::Cp;
    let bars = result.entries.iter().filter(drawn).filter_map(|entry| {
        let wall = entry.wall();
        let (value, range, note) = match entry.stopped {
            _ if !entry.measurements.is_empty() => {
                (bytes / wall.median, Some((bytes / wall.most, bytes / wall.least)), None)
            }
            Some(stopped) => {
                let value = bytes * stopped.percent / 100.0 / stopped.after;
                let note = format!("stopped at {:.0} s", stopped.after);
                (value, None, Some(note))
            }
            None => return None,
        };
        let program = entry.contender.program;
        Some(Bar { label: entry.contender.name(), value, range, note, kind: kind(program) })
    });
    let limit = result.row.limit_rate().map(|limit| (limit / 1e6, "limit of the link".to_owned()));
    Plot {
        title: format!("{}. {}", result.row.number, result.row.title()),
        unit: "MB/s, longer is better".to_owned(),
        groups: vec![Group { heading: String::new(), bars: bars.collect() }],
        limit,
    }
}

/// Each row in percent of its limit, or of a yardstick where the machine is the limit.
fn summary_plot(rows: &[RowResult]) -> Plot {
    let groups = rows.iter().map(|result| {
        let yardstick = result.of(Program::BareTls).or_else(|| result.of(Program::Cp));
        let (base, name) = match (result.row.limit_seconds, yardstick) {
            (Some(limit), _) => (limit, String::new()),
            (None, Some(yardstick)) => {
                (yardstick.wall().median, format!(" (100 % is {})", yardstick.contender.name()))
            }
            (None, None) => (f64::NAN, String::new()),
        };
        let bar = |entry: &Entry| {
            let wall = entry.wall();
            let percent = |seconds: f64| 100.0 * base / seconds;
            let program = entry.contender.program;
            Bar {
                label: entry.contender.name(),
                value: percent(wall.median),
                range: Some((percent(wall.most), percent(wall.least))),
                note: None,
                kind: kind(program),
            }
        };
        let wanted = [result.of(Program::Haul), result.of(Program::HaulAgain), result.best_rival()];
        Group {
            heading: format!("{}. {}{name}", result.row.number, result.row.title()),
            bars: wanted.into_iter().flatten().map(bar).collect(),
        }
    });
    Plot {
        title: "haul and the best rival of each row".to_owned(),
        unit: "% of what the link can carry, or of a yardstick; longer is better".to_owned(),
        groups: groups.collect(),
        limit: Some((100.0, "100 %".to_owned())),
    }
}

fn haul_bar(label: String, value: f64) -> Bar {
    Bar { label, value, range: None, note: None, kind: Kind::Haul }
}

fn scale_plot(scale: &Scale) -> Plot {
    let files = scale.files.iter().map(|(load, cost)| {
        let files = load.files();
        haul_bar(format!("{} files", grouped(files as u32)), cost.wall * 1e6 / files as f64)
    });
    Plot {
        title: "Time per file as files grow".to_owned(),
        unit: "microseconds per file of 256 bytes, shorter is better".to_owned(),
        groups: vec![Group { heading: String::new(), bars: files.collect() }],
        limit: None,
    }
}

fn sharing_plot(shared: &[Shared]) -> Plot {
    let groups = shared.iter().map(|it| {
        let heading =
            it.pace.as_ref().map_or("haul cp".to_owned(), |pace| format!("haul cp --pace {pace}"));
        let flow =
            Bar { kind: Kind::Rival, ..haul_bar("TCP flow with CUBIC".to_owned(), it.flow / 1e6) };
        let transfer = |at: usize| haul_bar(format!("transfer {}", at + 1), it.transfers[at] / 1e6);
        Group { heading, bars: vec![transfer(0), transfer(1), flow] }
    });
    Plot {
        title: "Two transfers and one TCP flow on 100 Mbit/s, 40 ms round trip".to_owned(),
        unit: "MB/s".to_owned(),
        groups: groups.collect(),
        limit: Some((12.5, "the link".to_owned())),
    }
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

/// A command as one would type it, with the folder of the bench as `$D`, the near namespace as `$A` and
/// programs by their names.
pub fn shown(command: &Command, folder: &Path) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    if let [ip, netns, exec, near, _, ..] = &mut words[..]
        && [&*ip, &*netns, &*exec] == ["ip", "netns", "exec"]
    {
        *near = "$A".to_owned();
    }
    for word in &mut words {
        // Where a program was built or installed is of no use to a reader.
        let path = Path::new(&*word);
        let name = path.file_name().filter(|_| path.is_absolute() && !path.starts_with(folder));
        if let Some(name) = name.filter(|_| path != Path::new("/dev/null")) {
            *word = name.to_string_lossy().into_owned();
        }
    }
    let quoted =
        |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let line = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    line.replace(&*folder.to_string_lossy(), "$D")
}

#[cfg(test)]
mod tests;
