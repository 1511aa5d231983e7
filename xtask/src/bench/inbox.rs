//! `cargo xtask bench inbox`: how fast datasets are handed in, with all that an inbox does before it says that they
//! are published, beside scp. Both ends are on this machine, in two network namespaces, and what arrives lies on
//! a real disk.

mod page;
mod rows;
mod turn;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::archive::{Archive, Figures, Record};
use super::data::Place;
use super::warden::Warden;
use super::{Words, copy, machine};
use crate::steps;
use rows::{Line, ROWS};

pub use rows::InboxFigures;

/// Where the figures are kept.
const PAGE: &str = "docs/benchmarks-inbox.md";

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench inbox [--runs N] [--quick] [--rows ROWS] [--haul FILE] [--page FILE]
  --runs N         how often each program copies (5, on links 3; 1 with --quick)
  --quick          little data, to see that it works
  --rows ROWS      file, many, lan, lossy, with commas between
  --haul FILE      measure another build
  --page FILE      write the page and its figures there, whatever was run";

/// What all rows are run with.
#[derive(Debug)]
struct Track<'a> {
    /// The haul that is measured.
    haul: PathBuf,
    /// Who cleans up.
    warden: &'a Warden,
    /// Where the data is.
    place: &'a Place,
    /// How often each program runs.
    runs: usize,
    /// Little data.
    quick: bool,
}

/// Runs the bench, prints its figures and writes the page.
pub fn run(words: &Words) -> Result<ExitCode> {
    let wanted = words.list("--rows");
    if let Some(word) = wanted.iter().find(|word| !ROWS.iter().any(|row| row.word == **word)) {
        bail!("{word} is no row; they are {}", ROWS.map(|row| row.word).join(", "));
    }
    machine::need_root()?;
    machine::install(&turn::RIVALS);
    let haul = copy::haul(words.haul.as_deref())?;
    let warden = Warden::start()?;
    let rows =
        ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|it| it == row.word));
    let rows: Vec<_> = rows.map(|row| if words.quick { row.small() } else { *row }).collect();
    let largest = rows.iter().map(|row| row.load.bytes()).max().unwrap_or(0);
    let place = Place::on_disk(&warden, largest * 2)?;
    let is_kept = !words.quick && words.haul.is_none();
    let page = words.page.clone().or_else(|| is_kept.then(|| steps::root().join(PAGE)));
    let (machine, disk) = (machine::describe(), place.describe());
    let archive = match page.as_ref().filter(|_| is_kept) {
        Some(page) => Archive::read(&page.with_extension("json"), &machine, &disk)?,
        None => Archive { machine, disk, ..Archive::default() },
    };
    let mut versions = machine::versions_of_haul(&haul);
    versions.push(machine::version_of_ssh());
    let mut record = Record::new(words.runs, versions, archive);
    if page.is_some() {
        record.warn_of_changes();
    }
    let track =
        Track { haul, warden: &warden, place: &place, runs: words.runs, quick: words.quick };
    let mut failed = false;
    for row in rows {
        let busy = machine::load();
        let mut missing = Vec::new();
        let figures = track.race(row, &mut missing)?;
        failed |= !figures.lines.iter().any(|line: &Line| line.program.is_put());
        missing.extend(
            busy.map(|load| format!("{} began on a machine that was busy: {load}", row.word)),
        );
        record.add(row.word, Figures::Inbox(figures), missing);
        println!("{}", page::section(&row, &record.archive));
        if let Some(page) = &page {
            page::write(page, &record)?;
        }
    }
    println!("{}", page::verdicts(&record.archive));
    match &page {
        Some(page) => {
            eprintln!("written: {}", page.display());
            record.warn_of_changes();
        }
        None => eprintln!("little data, or another haul: {PAGE} stays as it was"),
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
