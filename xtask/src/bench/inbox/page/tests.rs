use super::super::rows::Line;
use super::*;
use crate::bench::archive::Part;
use crate::bench::race::Stopped;

fn line(program: InboxProgram, walls: &[f64]) -> Line {
    let cost =
        |wall: &f64| Measurement { wall: *wall, cpu: (1.0, 2.0), memory: (1 << 20, 2 << 20) };
    Line { measurements: walls.iter().map(cost).collect(), ..Line::new(program) }
}

/// Seconds that the dataset takes at 1 Gbit/s and with packets lost.
fn archive(lan: f64, lossy: f64) -> Archive {
    let part = |row: &InboxRow, lines| Part {
        day: "2026-01-02".to_owned(),
        runs: 3,
        versions: vec!["haul 1 (abc)".to_owned(), "OpenSSH 9".to_owned()],
        missing: vec!["file began on a machine that was busy: a load of 3".to_owned()],
        figures: Figures::Inbox(InboxFigures { load: row.load, lines, unread: 0 }),
    };
    let mut stopped = Line::new(InboxProgram::ScpSynced);
    stopped.stopped = Some(Stopped { after: 120.4, percent: 7.6 });
    let [file, _, near, far] = &ROWS;
    let of_file = vec![
        line(InboxProgram::Put, &[10.0, 11.0, 12.0]),
        line(InboxProgram::ScpSynced, &[22.0]),
        line(InboxProgram::ScpAesSynced, &[16.5]),
        line(InboxProgram::Scp, &[5.0]),
    ];
    let mut archive = Archive::default();
    archive.parts.insert(file.word.to_owned(), part(file, of_file));
    let of_lan = vec![line(InboxProgram::Put, &[lan])];
    archive.parts.insert(near.word.to_owned(), part(near, of_lan));
    let of_lossy = vec![line(InboxProgram::Put, &[lossy]), stopped];
    archive.parts.insert(far.word.to_owned(), part(far, of_lossy));
    archive
}

fn text(lan: f64, lossy: f64) -> String {
    page(&Record::new(3, Vec::new(), archive(lan, lossy)))
}

#[test]
fn the_page_says_what_is_reached_and_what_is_not_measured() {
    let text = text(19.0, 20.0);
    for part in [
        "Not measured yet: many.",
        // The faster of those that are durable, and not the one that is not.
        "- Yes: one file of 2 GiB, published and durable, no slower than scp, aes128-gcm, then sync: 195 MB/s and \
         130 MB/s, 1.50",
        "- Yes: at least 110 MB/s at 1 Gbit/s and 1 ms: 113 MB/s",
        "- Yes: at least 85 % of that with a round trip of 40 ms and 2 % of all packets lost: 107 MB/s, 95 %",
        "about 120 MB/s at 1 Gbit/s, here 113,",
        "> 120 (8 %)",
        "- OpenSSH 9\n",
        "- Note: file began on a machine that was busy",
        "Measured on 2026-01-02 with haul 1 (abc).",
        "(benchmarks-inbox.json)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn what_is_missed_is_said() {
    let text = text(21.0, 60.0);
    for part in ["- **No**: at least 110 MB/s at 1 Gbit/s", "- **No**: at least 85 % of that"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn figures_are_read_again_as_they_were_written() {
    let folder = std::env::temp_dir().join(format!("haul-bench-inbox-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let page = folder.join("page.md");
    let record = Record::new(3, Vec::new(), archive(19.0, 20.0));
    write(&page, &record).unwrap();
    let again = Archive::read(&page.with_extension("json"), &[], "").unwrap();
    for row in &ROWS {
        assert_eq!(section(row, &again), section(row, &record.archive));
    }
    fs::remove_dir_all(&folder).unwrap();
}
