use super::rows::verdict;
use super::*;
use crate::bench::archive::{Figures, Part};
use crate::bench::contender::{Congestion, Contender, Program};
use crate::bench::data::Load;
use crate::bench::grid::{Aim, AsWhat, GridRow};
use crate::bench::machine;
use crate::bench::race::{Entry, Measurement, Stopped};
use crate::bench::scale::Scale;

/// A program with runs that took so long, and cost the same.
pub fn entry(program: Program, walls: &[f64]) -> Entry {
    let mut entry = Entry::new(Contender { program, congestion: Congestion::Own });
    let measurement = |wall| Measurement { wall, cpu: (0.5, 0.25), memory: (2 << 20, 3 << 20) };
    entry.measurements = walls.iter().copied().map(measurement).collect();
    entry
}

/// A row of these.
pub fn result(row: GridRow, entries: Vec<Entry>) -> RowResult {
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
fn targets_are_met_missed_or_not_measured() {
    // The limit of this row is 105 MB at 23.7 MB/s, 4.43 s.
    let entries = vec![entry(Program::Haul, &[4.6]), entry(Program::HaulAgain, &[5.0])];
    let row = &result(GRID[6], entries);
    assert_eq!(verdict(row, &row.row.aims[0]), "met: 0.96, wanted 0.90 x the limit");
    assert_eq!(verdict(row, &row.row.aims[1]), "missed: 0.89, wanted 0.95 x the limit, host known");
    // Of two ways of sending, the better one counts.
    let mut better = entry(Program::RsyncDaemon, &[2.0]);
    better.contender.congestion = Congestion::Cubic;
    let mut worse = entry(Program::RsyncDaemon, &[4.0]);
    worse.contender.congestion = Congestion::Bbr;
    let clean = result(GRID[0], vec![entry(Program::Haul, &[2.0]), worse, better]);
    let said = "missed: 1.00, wanted 1.20 x rsync daemon, not encrypted, CUBIC";
    assert_eq!(verdict(&clean, &clean.row.aims[0]), said);
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

/// An archive with every part, of which each row has no entries.
fn archive() -> Archive {
    let part = |figures| Part {
        day: "2026-01-01".to_owned(),
        runs: 5,
        versions: vec!["haul 1 (abc)".to_owned()],
        missing: Vec::new(),
        figures,
    };
    let mut archive = Archive::default();
    for row in GRID {
        let figures = Figures::Row { load: row.load, entries: Vec::new(), unread: 0 };
        archive.parts.insert(row.number.to_string(), part(figures));
    }
    let scale = Figures::Scale(Scale { files: Vec::new(), clients: Vec::new() });
    archive.parts.insert(SCALE.to_owned(), part(scale));
    archive.parts.insert(SHARING.to_owned(), part(Figures::Sharing(Vec::new())));
    archive
}

#[test]
fn parts_without_figures_are_named() {
    let mut archive = archive();
    assert_eq!(lacking(&archive), "");
    for name in ["1", "9", SCALE, SHARING] {
        archive.parts.remove(name);
    }
    assert_eq!(
        lacking(&archive),
        "Not measured yet: row 1, row 9, how cost grows, how a link is shared.\n\n"
    );
}

#[test]
fn growth_of_other_files_is_not_measured() {
    let mut archive = archive();
    let load = Load::Many { folders: 1, each: 1000, bytes: 256 };
    let cost = Measurement { wall: 1.0, cpu: (0.5, 0.25), memory: (2 << 20, 3 << 20) };
    let scale = Scale { files: vec![(load, cost)], clients: Vec::new() };
    archive.parts.get_mut(SCALE).unwrap().figures = Figures::Scale(scale);
    assert_eq!(lacking(&archive), "Not measured yet: how cost grows.\n\n");
}

#[test]
fn parts_that_no_commit_holds_are_named_loudly() {
    let mut archive = archive();
    assert_eq!(changed(&archive, title), "");
    for name in ["3", SHARING] {
        archive.parts.get_mut(name).unwrap().versions[0] = "haul 1 (abc and changes)".to_owned();
    }
    let said = changed(&archive, title);
    assert!(
        said.starts_with("**Warning") && said.contains("row 3, how a link is shared"),
        "{said}"
    );
    let versions = |of: &str| vec![of.to_owned()];
    let report = Report::new(Record::new(5, versions("haul 1 (abc)"), archive.clone()));
    let page = report.page();
    let (warning, summary) = (page.find("**Warning"), page.find("## Summary"));
    assert!(warning.is_some() && warning < summary, "{page}");
    assert!(!report.record.is_changed());
    let changed = format!("haul 1 (abc{})", machine::CHANGED);
    assert!(Record::new(5, versions(&changed), archive).is_changed());
}
