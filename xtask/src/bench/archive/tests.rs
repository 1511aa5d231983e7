use super::*;
use crate::bench::contender::{Congestion, Contender, Program};
use crate::bench::race::{Measurement, Stopped};

fn archive() -> Archive {
    let contender = Contender { program: Program::RsyncDaemon, congestion: Congestion::Bbr };
    let mut entry = Entry::new(contender);
    entry.measurements.push(Measurement { wall: 1.5, cpu: (0.5, 0.25), memory: (1, 2) });
    let mut stopped = Entry::new(Contender { program: Program::Scp, ..contender });
    stopped.stopped = Some(Stopped { after: 40.0, percent: 7.5 });
    let figures = Figures::Row { load: GRID[6].load, entries: vec![entry, stopped], unread: 3 };
    let part = Part {
        day: "2026-01-01".to_owned(),
        runs: 5,
        versions: vec!["haul 1 (abc)".to_owned()],
        missing: vec!["no qcp".to_owned()],
        figures,
    };
    let parts = BTreeMap::from([("7".to_owned(), part)]);
    Archive { machine: vec!["two cores".to_owned()], disk: "tmpfs".to_owned(), parts }
}

#[test]
fn what_was_written_comes_back_on_the_same_machine_only() {
    let path = std::env::temp_dir().join(format!("haul-xtask-archive-{}", std::process::id()));
    let machine = ["two cores".to_owned()];
    archive().write(&path).unwrap();
    let same = Archive::read(&path, &machine, "tmpfs").unwrap();
    let other = Archive::read(&path, &machine, "ext4").unwrap();
    std::fs::remove_file(&path).unwrap();
    let nothing = Archive::read(&path, &machine, "tmpfs").unwrap();
    assert!(other.parts.is_empty() && nothing.parts.is_empty());
    assert_eq!(other.disk, "ext4");
    let [row] = &same.rows()[..] else { panic!("there is one row") };
    assert_eq!((row.row.number, row.unread), (7, 3));
    assert_eq!(row.entries[0].walls(), [1.5]);
    assert_eq!(row.entries[0].contender.name(), "rsync daemon, not encrypted, BBR");
    assert_eq!(row.entries[1].stopped, Some(Stopped { after: 40.0, percent: 7.5 }));
    assert_eq!(same.origin("7"), "Measured on 2026-01-01 with haul 1 (abc).");
    assert_eq!(same.lines(|part| &part.missing), ["no qcp"]);
}

#[test]
fn a_row_of_other_work_is_not_shown() {
    let mut archive = archive();
    let part = archive.parts.remove("7").unwrap();
    archive.parts.insert("1".to_owned(), part);
    assert!(archive.rows().is_empty());
}

#[test]
fn figures_in_an_older_form_are_left_out_and_the_others_stay() {
    let path = std::env::temp_dir().join(format!("haul-xtask-older-{}", std::process::id()));
    let mut stored = serde_json::to_value(archive()).unwrap();
    let mut older = stored["parts"]["7"].clone();
    older["figures"] = serde_json::json!({ "sharing": [{ "pace": "fair", "flow": 1.0 }] });
    stored["parts"][SHARING] = older;
    fs::write(&path, stored.to_string()).unwrap();
    let read = Archive::read(&path, &["two cores".to_owned()], "tmpfs");
    fs::remove_file(&path).unwrap();
    let read = read.unwrap();
    assert!(read.sharing().is_none());
    assert_eq!(read.rows().len(), 1);
}
