use super::*;
use crate::bench::archive::Part;
use crate::bench::data::Load;
use crate::bench::diode::link::Setting;
use crate::bench::diode::million::Generation;

fn cost(wall: f64) -> Measurement {
    Measurement { wall, cpu: (1.0, 2.0), memory: (100 << 20, 200 << 20) }
}

fn pass(wall: f64, lost_files: u64) -> Pass {
    Pass {
        cost: cost(wall),
        lost_files,
        frames: 1000,
        dropped: 5,
        lost_link: 5,
        lost_kernel: 0,
        lost_program: 0,
        lost_disk: 0,
        blocks: (3, 1),
        back: 0,
    }
}

fn archive(lost_files: u64) -> Archive {
    let (load, segments) = (Load::Large { bytes: 1 << 30 }, Setting::SEGMENTS);
    let found = |setting, rate| Found { setting, rate, tried: vec![(700, Some("x".to_owned()))] };
    let cell = |setting, per_mille, rate, passes| Cell { setting, load, per_mille, rate, passes };
    let grid = DiodeGrid {
        found: vec![found(Setting::FAST, 600), found(segments, 300)],
        cells: vec![
            cell(Setting::FAST, 0, 600, vec![pass(2.0, 0), pass(2.1, 0), pass(2.2, 0)]),
            cell(segments, 20, 250, vec![pass(4.0, lost_files)]),
        ],
        buffer: 64 << 20,
    };
    let generation = Generation { cost: cost(50.0), scanned: Some(9.0), sent_bytes: 5, same: 7 };
    let million = DiodeMillion {
        load: Load::Many { folders: 1000, each: 1000, bytes: 96 },
        rate: 25,
        lost: vec![(50, "5 files lost".to_owned())],
        first: generation.clone(),
        look: cost(4.0),
        changes: 1000,
        second: generation,
    };
    let part = |figures| Part {
        day: "2026-01-02".to_owned(),
        runs: 3,
        versions: vec!["haul 1 (abc)".to_owned(), "udpcast 1".to_owned()],
        missing: vec!["lidi is not installed".to_owned()],
        figures,
    };
    let mut archive = Archive::default();
    archive.parts.insert(GRID.to_owned(), part(Figures::DiodeGrid(grid)));
    archive.parts.insert(MILLION.to_owned(), part(Figures::DiodeMillion(million)));
    archive
}

#[test]
fn the_page_says_what_is_reached_and_what_is_not_measured() {
    let record = Record::new(3, Vec::new(), archive(0));
    let text = page(&record);
    for part in [
        "Not measured yet: rivals, channels.",
        "- Yes: at least 450 MB/s with packets of 1,500 bytes and no loss of ours: 511 MB/s, 0 packets",
        "- Yes: no file lost in one pass with up to 2 % of all packets lost: 0",
        "less than 300 MiB on each side: 100 and 200 MiB",
        "packets of 1,500 bytes, each for itself: **300 MB/s**. Tried: 700 (x).",
        " 250, lower |",
        "at 25 MB/s with packets of 1,500 bytes; not at 50 MB/s (5 files lost).",
        "- udpcast 1\n",
        "- Note: lidi is not installed\n",
        "Measured on 2026-01-02 with haul 1 (abc). Runs of each: 3.",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Every path that the page names is one that is written.
    assert!(text.contains("(plots/diode.svg)") && text.contains("(benchmarks-diode.json)"));
    assert!(plot(grid(&record.archive).unwrap()).svg().contains("2 % lost"));
}

#[test]
fn a_lost_file_is_said_first() {
    let text = page(&Record::new(3, Vec::new(), archive(2)));
    assert!(text.contains("- **No**: no file lost in one pass with up to 2 %"), "{text}");
    let row = text.lines().find(|line| line.contains(" 250, lower |")).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert_eq!(cells[3..6], ["250, lower", "-", "2"], "{row}");
}

#[test]
fn figures_are_read_again_as_they_were_written() {
    let folder = std::env::temp_dir().join(format!("haul-bench-diode-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let page = folder.join("page.md");
    let record = Record::new(3, Vec::new(), archive(0));
    write(&page, &record).unwrap();
    let again = Archive::read(&page.with_extension("json"), &[], "").unwrap();
    assert_eq!(section(GRID, &again), section(GRID, &record.archive));
    assert_eq!(section(MILLION, &again), section(MILLION, &record.archive));
    fs::remove_dir_all(&folder).unwrap();
}
