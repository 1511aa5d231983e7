//! The cells that several tables of the page have, and the table around them.

use std::fmt::Write;

use crate::bench::race::{Entry, Measurement, RowResult};
use crate::bench::stats::Spread;

/// Millions of bytes per second, by the median time.
pub fn speed(result: &RowResult, entry: &Entry) -> f64 {
    result.row.load.bytes() as f64 / 1e6 / entry.wall().median
}

/// How many times as fast the one is as the other.
pub fn faster(one: &Entry, other: &Entry) -> String {
    ranged(Spread::ratio(&other.walls(), &one.walls()))
}

/// A ratio, and between which most such ratios lie.
pub fn ranged(ratio: Spread) -> String {
    if !ratio.median.is_finite() {
        return "-".to_owned();
    }
    format!("{:.2} [{:.2}-{:.2}]", ratio.median, ratio.least, ratio.most)
}

/// One figure of a run.
pub type Figure = fn(&Measurement) -> f64;

/// Seconds of processor time, near and far.
pub fn cpu(of: impl Fn(Figure) -> f64) -> String {
    format!("{:.2} + {:.2}", of(|m| m.cpu.0), of(|m| m.cpu.1))
}

/// Mebibytes, near and far.
pub fn memory(of: impl Fn(Figure) -> f64) -> String {
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    let (near, far) = (of(|m| m.memory.0 as f64), of(|m| m.memory.1 as f64));
    format!("{:.0} + {:.0}", mebibytes(near), mebibytes(far))
}

/// A Markdown table whose columns are as wide in the source as on the page.
pub fn align(lines: &[Vec<String>]) -> String {
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
