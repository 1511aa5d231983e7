//! The rows of the grid on the page: all of them beside each other, and each with all its programs.

use std::fmt::Write;

use super::cells::{align, cpu, faster, memory, ranged, speed};
use crate::bench::contender::Program;
use crate::bench::grid::{Aim, AsWhat};
use crate::bench::plot::shown as figure;
use crate::bench::race::{Entry, RowResult};
use crate::bench::stats::Spread;

/// All rows, with what haul is to reach in each.
pub fn summary(rows: &[RowResult]) -> String {
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

/// Whether haul reaches an aim, in plain words.
pub fn verdict(result: &RowResult, aim: &Aim) -> String {
    let haul = result.of(aim.program);
    let (name, other) = match aim.as_what {
        AsWhat::Limit => ("the limit".to_owned(), result.row.limit_seconds),
        AsWhat::Program(program) => {
            // In its better way of sending.
            let entry = result.of(program);
            let name = entry.map_or(program.name().to_owned(), |entry| entry.contender.name());
            (name, entry.map(|entry| entry.wall().median))
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

/// One row with all programs.
pub fn table(result: &RowResult) -> String {
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

/// One row with what is needed to read and repeat it.
pub fn section(result: &RowResult, origin: &str) -> String {
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
