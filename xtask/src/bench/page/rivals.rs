//! Where another program is better than haul: in time, in processor time and in memory. All of it is
//! generated from the figures, so that nobody forgets to say it.

use std::fmt::Write;

use super::cells::{align, memory, ranged};
use super::words::{HOW_CPU, HOW_MEMORY};
use crate::bench::contender::Program;
use crate::bench::plot::shown as figure;
use crate::bench::race::{Entry, RowResult};
use crate::bench::stats::Spread;

/// A copy is to have less memory than this on each side.
pub const MEMORY_AIM: u64 = 100 << 20;

/// Processor time comes in steps of 10 ms on each side: two sums that are no further apart are the same.
const CPU_STEP: f64 = 0.02;

/// The section.
pub fn better_rivals(rows: &[RowResult]) -> String {
    let mut text = "## Where a rival is better\n\n".to_owned();
    text += &list(rows, faster_ones, "Nowhere in these rows: no rival's median is below haul's.");
    let _ = write!(text, "\n### Processor time\n\n{HOW_CPU}\n{}\n", cpu_table(rows));
    text += &list(rows, cheaper_ones, "Nowhere in these rows: no rival that encrypts takes less.");
    let _ = write!(text, "\n### Memory\n\n{HOW_MEMORY}\n{}\n", memory_table(rows));
    text += &list(rows, smaller_ones, "Nowhere in these rows: no rival that encrypts has less.");
    text + "\n"
}

/// One line for each row of which `of` has something to say.
fn list(rows: &[RowResult], of: impl Fn(&RowResult, &Entry) -> Vec<String>, none: &str) -> String {
    let mut text = String::new();
    for result in rows {
        let row = &result.row;
        let said = match result.of(Program::Haul) {
            Some(haul) => of(result, haul),
            // Without figures of haul nothing may look like a victory.
            None => vec!["haul has no figures".to_owned()],
        };
        if !said.is_empty() {
            let _ = writeln!(text, "- Row {}, {}: {}.", row.number, row.title(), said.join("; "));
        }
    }
    match text.is_empty() {
        true => format!("{none}\n"),
        false => text,
    }
}

fn faster_ones(result: &RowResult, haul: &Entry) -> Vec<String> {
    let (haul_median, walls) = (haul.wall().median, haul.walls());
    let rivals = measured(result, Program::is_rival);
    let faster = rivals.filter(|entry| entry.wall().median < haul_median);
    let said = faster.map(|entry| {
        format!(
            "{} takes {:.2} s, haul {haul_median:.2} s, which is {} times as long",
            entry.contender.name(),
            entry.wall().median,
            ranged(Spread::ratio(&walls, &entry.walls())),
        )
    });
    said.collect()
}

fn cheaper_ones(result: &RowResult, haul: &Entry) -> Vec<String> {
    let rivals = measured(result, Program::is_encrypting_rival);
    let cheaper = rivals.filter(|entry| is_dearer(haul, entry));
    let said = cheaper.map(|entry| {
        format!(
            "{} takes {:.2} CPU s{}, haul {:.2}, {} times as much",
            entry.contender.name(),
            cpu_median(entry),
            runs(entry),
            cpu_median(haul),
            ranged(Spread::ratio(&haul.cpu_sums(), &entry.cpu_sums())),
        )
    });
    said.collect()
}

fn smaller_ones(result: &RowResult, haul: &Entry) -> Vec<String> {
    let sum = |entry: &Entry| entry.spread(|it| it.memory_sum() as f64).median;
    let mebibytes = |entry: &Entry| sum(entry) / f64::from(1 << 20);
    let rivals = measured(result, Program::is_encrypting_rival);
    let smaller = rivals.filter(|entry| sum(entry) < sum(haul)).map(|entry| {
        format!(
            "{} has {:.0} MiB on both sides{}, haul {:.0}",
            entry.contender.name(),
            mebibytes(entry),
            runs(entry),
            mebibytes(haul),
        )
    });
    smaller.collect()
}

fn measured(result: &RowResult, which: impl Fn(Program) -> bool) -> impl Iterator<Item = &Entry> {
    let wanted = result.entries.iter().filter(move |entry| which(entry.contender.program));
    wanted.filter(|entry| !entry.measurements.is_empty())
}

/// One run says nothing of its noise.
fn runs(entry: &Entry) -> &'static str {
    if entry.measurements.len() == 1 { " in its only run" } else { "" }
}

fn cpu_median(entry: &Entry) -> f64 {
    entry.spread(|it| it.cpu_sum()).median
}

/// Whether haul takes more processor time, by more than noise.
fn is_dearer(haul: &Entry, rival: &Entry) -> bool {
    let ratio = Spread::ratio(&haul.cpu_sums(), &rival.cpu_sums());
    ratio.least > 1.0 && cpu_median(haul) - cpu_median(rival) > CPU_STEP
}

/// The rival that encrypts as haul does in this row, and takes the least processor time: over QUIC that is
/// qcp, and over TCP any of them.
fn equal_rival(result: &RowResult) -> Option<&Entry> {
    let is_near = result.row.link.is_near();
    let equal = |program: Program| match is_near {
        true => program.is_encrypting_rival(),
        false => program == Program::Qcp,
    };
    measured(result, equal).min_by(|a, b| cpu_median(a).total_cmp(&cpu_median(b)))
}

/// Whether haul takes no more processor time than the rival that encrypts as it does.
pub fn cpu_verdict(haul: Option<&Entry>, rival: Option<&Entry>) -> &'static str {
    match haul.zip(rival) {
        None => "not measured",
        Some((haul, rival)) if cpu_median(haul) <= cpu_median(rival) => "met",
        Some((haul, rival)) if is_dearer(haul, rival) => "missed",
        Some(_) => "missed, within noise",
    }
}

fn cpu_table(rows: &[RowResult]) -> String {
    let head =
        ["Row", "haul over", "CPU s per GiB", "Rival", "CPU s per GiB", "haul / rival", "Aim"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for result in rows {
        let row = &result.row;
        let (haul, rival) = (result.of(Program::Haul), equal_rival(result));
        let gibibytes = row.load.bytes() as f64 / f64::from(1 << 30);
        let per_gibibyte = |entry: Option<&Entry>| {
            entry.map_or("-".to_owned(), |entry| figure(cpu_median(entry) / gibibytes))
        };
        let ratio = haul.zip(rival).map_or("-".to_owned(), |(haul, rival)| {
            ranged(Spread::ratio(&haul.cpu_sums(), &rival.cpu_sums()))
        });
        lines.push(vec![
            format!("{}. {}", row.number, row.title()),
            if row.link.is_near() { "TCP" } else { "QUIC" }.to_owned(),
            per_gibibyte(haul),
            rival.map_or("-".to_owned(), |rival| rival.contender.name() + runs(rival)),
            per_gibibyte(rival),
            ratio,
            cpu_verdict(haul, rival).to_owned(),
        ]);
    }
    align(&lines)
}

/// Whether each side had less memory than it may have, in every run.
pub fn memory_verdict(haul: Option<&Entry>) -> &'static str {
    let Some(haul) = haul else { return "not measured" };
    let is_small = |side: fn(&(u64, u64)) -> u64| {
        haul.measurements.iter().all(|it| side(&it.memory) < MEMORY_AIM)
    };
    if is_small(|memory| memory.0) && is_small(|memory| memory.1) { "met" } else { "missed" }
}

fn memory_table(rows: &[RowResult]) -> String {
    let head = ["Row", "Median MiB, near + far", "Most MiB, near + far", "Aim"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for result in rows {
        let haul = result.of(Program::Haul);
        let cell = |of: fn(Spread) -> f64| {
            haul.map_or("-".to_owned(), |haul| memory(|figure| of(haul.spread(figure))))
        };
        lines.push(vec![
            format!("{}. {}", result.row.number, result.row.title()),
            cell(|spread| spread.median),
            cell(|spread| spread.most),
            memory_verdict(haul).to_owned(),
        ]);
    }
    align(&lines)
}

#[cfg(test)]
mod tests;
