use super::rows::verdict;
use super::*;
use crate::bench::contender::{Congestion, Contender, Program};
use crate::bench::grid::{Aim, AsWhat, GridRow};
use crate::bench::race::{Entry, Measurement, Stopped};

fn entry(program: Program, walls: &[f64]) -> Entry {
    let mut entry = Entry::new(Contender { program, congestion: Congestion::Own });
    let measurement = |wall| Measurement { wall, cpu: (0.5, 0.25), memory: (2 << 20, 3 << 20) };
    entry.measurements = walls.iter().copied().map(measurement).collect();
    entry
}

fn result(row: GridRow, entries: Vec<Entry>) -> RowResult {
    RowResult { row, entries, unread: 0 }
}

fn cells(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn a_table_has_medians_ratios_and_what_was_stopped() {
    let mut stopped = entry(Program::Scp, &[]);
    stopped.stopped = Some(Stopped { after: 40.02, percent: 12.4 });
    let entries = vec![
        entry(Program::Haul, &[2.0, 4.0, 9.0]),
        entry(Program::Uftp, &[8.0, 8.0, 8.0]),
        stopped,
        entry(Program::Qcp, &[]),
    ];
    let text = table(&result(GRID[4], entries));
    let cells = cells(&text);
    assert_eq!(cells[2][..3], ["haul cp", "4.00 [2.00-9.00]", "52.5"]);
    assert_eq!(cells[2][4..], ["0.50 + 0.25", "2 + 3", "3"]);
    assert!(cells[3][3].starts_with("2.00 ["), "{}", cells[3][3]);
    assert_eq!(cells[4], ["scp", "> 40 (12 %)", "-", "-", "-", "-", "1"]);
    // One that never ran has no line.
    assert_eq!(cells.len(), 5);
}

#[test]
fn a_rival_that_is_better_is_named_and_a_yardstick_is_none() {
    let rows = [result(
        GRID[0],
        vec![
            entry(Program::Haul, &[2.0]),
            entry(Program::RsyncDaemon, &[1.0]),
            entry(Program::Scp, &[4.0]),
            entry(Program::BareTls, &[0.5]),
        ],
    )];
    let text = better_rivals(&rows);
    assert!(text.contains("rsync daemon, not encrypted takes 1.00 s, haul 2.00 s"), "{text}");
    assert!(!text.contains("scp") && !text.contains("bare") && !text.contains("Nowhere"), "{text}");
    let rows = [result(GRID[0], vec![entry(Program::Haul, &[1.0]), entry(Program::Scp, &[4.0])])];
    assert!(better_rivals(&rows).contains("Nowhere"));
    // Without figures of haul nothing may look like a victory.
    let rows = [result(GRID[0], vec![entry(Program::Scp, &[4.0])])];
    assert!(better_rivals(&rows).contains("haul has no figures"));
}

#[test]
fn targets_are_met_missed_or_not_measured() {
    // The limit of this row is 105 MB at 23.7 MB/s, 4.43 s.
    let entries = vec![entry(Program::Haul, &[4.6]), entry(Program::HaulAgain, &[5.0])];
    let row = &result(GRID[6], entries);
    assert_eq!(verdict(row, &row.row.aims[0]), "met: 0.96, wanted 0.90 x the limit");
    assert_eq!(verdict(row, &row.row.aims[1]), "missed: 0.89, wanted 0.95 x the limit, host known");
    let aim = Aim { as_what: AsWhat::BestRival, ..row.row.aims[0] };
    assert_eq!(verdict(row, &aim), "not measured: wanted 0.90 x the best rival");
}

#[test]
fn commands_are_shown_without_the_folders_of_this_run() {
    let mut command = Command::new("/somewhere/release/haul");
    command.args(["cp", "/tmp/x-1/source/large", "two words"]);
    assert_eq!(shown(&command, Path::new("/tmp/x-1")), "haul cp $D/source/large 'two words'");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "haulbench1-0a", "/somewhere/release/haul", "cp"]);
    let expected = "ip netns exec $A haul cp";
    assert_eq!(shown(&command, Path::new("/tmp/x-1")), expected);
}

#[test]
fn rows_without_figures_are_named() {
    let all: Vec<RowResult> = GRID.iter().map(|row| result(*row, Vec::new())).collect();
    assert_eq!(lacking(&all), "");
    assert_eq!(lacking(&all[1..8]), "Not measured yet: rows 1, 9.\n\n");
}
