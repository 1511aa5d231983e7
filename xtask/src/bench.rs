//! Benches: haul beside other programs on the same machine and the same link. Each bench is a module of
//! its own under `bench/`; here is only the choice between them.

mod archive;
mod contender;
pub mod copy;
pub mod data;
mod diode;
mod field;
mod grid;
mod inbox;
pub mod machine;
pub mod page;
pub mod peers;
mod plot;
pub mod processes;
mod race;
mod scale;
mod sharing;
pub mod stats;
pub mod warden;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// How often each program runs when nobody says otherwise; the median of five bears two disturbed runs.
const DEFAULT_RUNS: usize = 5;

/// Runs the bench that the words name.
pub fn run(words: &[String]) -> Result<ExitCode> {
    match words.split_first() {
        Some((name, rest)) if name == "copy" => {
            copy::run(&Words::parse(rest, copy::USAGE, &["--rows", "--only"], DEFAULT_RUNS)?)
        }
        Some((name, rest)) if name == "diode" => {
            diode::run(&Words::parse(rest, diode::USAGE, &["--parts"], diode::DEFAULT_RUNS)?)
        }
        Some((name, rest)) if name == "inbox" => {
            inbox::run(&Words::parse(rest, inbox::USAGE, &["--rows"], DEFAULT_RUNS)?)
        }
        Some((name, [])) if name == warden::WORD => {
            warden::watch(std::io::stdin().lock());
            Ok(ExitCode::SUCCESS)
        }
        Some((name, rest)) if name == sharing::SINK => sharing::sink(rest),
        Some((name, rest)) if name == sharing::POUR => sharing::pour(rest),
        Some((name, rest)) if name == diode::STAMP => diode::stamp(rest),
        Some((name, rest)) if name == diode::TAKE => diode::take(rest),
        Some((other, _)) => bail!("{other} is no bench\n{}", usage()),
        None => bail!("a bench is missing\n{}", usage()),
    }
}

fn usage() -> String {
    [copy::USAGE, diode::USAGE, inbox::USAGE].join("\n")
}

/// What the benches are told on the command line.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// How often each program runs.
    runs: usize,
    /// Little data, and no page: to see that it works.
    quick: bool,
    /// The program to measure; none to build and measure this checkout's.
    haul: Option<PathBuf>,
    /// Where the page is written, whatever was run.
    page: Option<PathBuf>,
    /// The words of each option that takes a list of them.
    lists: BTreeMap<String, Vec<String>>,
}

impl Words {
    fn parse(words: &[String], usage: &'static str, lists: &[&str], runs: usize) -> Result<Self> {
        let mut parsed = Self::default();
        let mut told = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().context(usage);
            match word.as_str() {
                "--quick" => parsed.quick = true,
                "--haul" => parsed.haul = Some(value()?.into()),
                "--page" => parsed.page = Some(value()?.into()),
                "--runs" => {
                    let count: usize = value()?.parse().context(usage)?;
                    if count == 0 {
                        bail!("at least one run is needed; {usage}");
                    }
                    told = Some(count);
                }
                name if lists.contains(&name) => {
                    parsed.lists.insert(name.to_owned(), list(value()?));
                }
                other => bail!("{other} is unknown; {usage}"),
            }
        }
        parsed.runs = told.unwrap_or(if parsed.quick { 1 } else { runs });
        Ok(parsed)
    }

    /// The words of an option that takes a list; none if it was not given.
    fn list(&self, name: &str) -> Vec<String> {
        self.lists.get(name).cloned().unwrap_or_default()
    }
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(str::to_owned).collect()
}
