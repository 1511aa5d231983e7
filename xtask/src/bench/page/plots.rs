//! The rows of the grid as plots.

use crate::bench::contender::Program;
use crate::bench::plot::{Bar, Group, Kind, Plot};
use crate::bench::race::{Entry, RowResult};

fn kind(program: Program) -> Kind {
    match program {
        program if program.is_haul() => Kind::Haul,
        program if program.is_rival() => Kind::Rival,
        _ => Kind::Yardstick,
    }
}

/// The programs of one row.
pub fn row_plot(result: &RowResult) -> Plot {
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
pub fn summary_plot(rows: &[RowResult]) -> Plot {
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

/// A bar of haul without a range.
pub fn haul_bar(label: String, value: f64) -> Bar {
    Bar { label, value, range: None, note: None, kind: Kind::Haul }
}
