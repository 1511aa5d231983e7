//! Where another program is better than haul.

use std::fmt::Write;

use super::cells::ranged;
use crate::bench::contender::Program;
use crate::bench::race::RowResult;
use crate::bench::stats::Spread;

/// Generated from the figures, so that nobody forgets to say it.
pub fn better_rivals(rows: &[RowResult]) -> String {
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
