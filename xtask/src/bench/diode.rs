//! `cargo xtask bench diode`: what `haul diode` carries across a link with no way back, at what cost, and
//! beside others; how long messages of channels take while files flow; and a tree of a million files. Both
//! ends are on this machine, in two network namespaces from one of which nothing leads back.

mod channels;
mod ends;
mod grid;
mod link;
mod million;
mod page;
mod pass;
mod rivals;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

pub use channels::{DiodeChannels, STAMP, TAKE, stamp, take};
pub use grid::DiodeGrid;
pub use million::DiodeMillion;
pub use rivals::DiodeRivals;

use super::archive::{Archive, Figures, Record};
use super::data::Place;
use super::warden::Warden;
use super::{Words, copy, machine};
use crate::steps;
use link::Setting;

/// Where the figures are kept.
const PAGE: &str = "docs/benchmarks-diode.md";

/// How often each pass runs when nobody says otherwise.
pub const DEFAULT_RUNS: usize = 3;

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench diode [--runs N] [--quick] [--parts PARTS] [--haul FILE] [--page FILE]
  --runs N         how often each pass runs (3; 1 with --quick)
  --quick          little data, to see that it works
  --parts PARTS    grid, rivals, channels, million, with commas between
  --haul FILE      measure another build
  --page FILE      write the page and its figures there, whatever was run";

/// The parts, in the order of the page.
const PARTS: [&str; 4] = [GRID, RIVALS, CHANNELS, MILLION];
const GRID: &str = "grid";
const RIVALS: &str = "rivals";
const CHANNELS: &str = "channels";
const MILLION: &str = "million";

/// The most that one part copies at once, for the choice of the disk.
const LARGEST: u64 = 3 << 30;

/// What all parts are run with.
#[derive(Debug)]
struct Track<'a> {
    /// The haul that is measured.
    haul: PathBuf,
    /// Who cleans up.
    warden: &'a Warden,
    /// Where the data is.
    place: &'a Place,
    /// How often each pass runs.
    runs: usize,
    /// Little data.
    quick: bool,
}

/// Runs the bench, prints its figures and writes the page.
pub fn run(words: &Words) -> Result<ExitCode> {
    let parts = words.list("--parts");
    if let Some(word) = parts.iter().find(|word| !PARTS.contains(&word.as_str())) {
        bail!("{word} is no part; they are {}", PARTS.join(", "));
    }
    machine::need_root()?;
    machine::install(&link::TOOLS);
    machine::install(&rivals::PACKAGES);
    link::need_tools()?;
    let haul = copy::haul(words.haul.as_deref())?;
    let warden = Warden::start()?;
    let place = Place::find(&warden, if words.quick { 1 << 28 } else { LARGEST })?;
    let is_kept = !words.quick && words.haul.is_none();
    let page = words.page.clone().or_else(|| is_kept.then(|| steps::root().join(PAGE)));
    let (machine, disk) = (machine::describe(), place.describe());
    let archive = match page.as_ref().filter(|_| is_kept) {
        Some(page) => Archive::read(&page.with_extension("json"), &machine, &disk)?,
        None => Archive { machine, disk, ..Archive::default() },
    };
    let mut versions = machine::versions_of_haul(&haul);
    versions.extend(rivals::versions());
    let mut record = Record::new(words.runs, versions, archive);
    if page.is_some() {
        record.warn_of_changes();
    }
    // What the kernel queues between two devices that are joined is no part of what is measured.
    let _backlog = link::let_queue(&warden);
    let track =
        Track { haul, warden: &warden, place: &place, runs: words.runs, quick: words.quick };
    for part in PARTS {
        if !parts.is_empty() && !parts.iter().any(|word| word == part) {
            continue;
        }
        let busy = machine::load();
        let mut missing = Vec::new();
        let figures = match part {
            GRID => Figures::DiodeGrid(track.grid()?),
            RIVALS => {
                let losses = rivals::LOSSES;
                let rates = track.rates(&record.archive, Setting::SEGMENTS, &losses)?;
                Figures::DiodeRivals(track.rivals(&rates, &mut missing)?)
            }
            CHANNELS => {
                let rates = track.rates(&record.archive, Setting::FAST, &[0])?;
                Figures::DiodeChannels(track.channels(rates[0])?)
            }
            _ => Figures::DiodeMillion(track.million()?),
        };
        missing.extend(busy.map(|load| format!("{part} began on a machine that was busy: {load}")));
        record.add(part, figures, missing);
        println!("{}", page::section(part, &record.archive));
        if let Some(page) = &page {
            page::write(page, &record)?;
        }
    }
    match &page {
        Some(page) => {
            eprintln!("written: {}", page.display());
            record.warn_of_changes();
        }
        None => eprintln!("little data, or another haul: {PAGE} stays as it was"),
    }
    Ok(ExitCode::SUCCESS)
}
