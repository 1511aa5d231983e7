//! Benches: haul beside other programs on the same machine and the same link. Each bench is a module of
//! its own under `bench/`; here is only the choice between them.

mod contender;
mod copy;
mod data;
mod machine;
mod page;
mod peers;
mod processes;
mod warden;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use copy::CopyBench;

const USAGE: &str = "usage: cargo xtask bench copy [--runs N] [--quick] [--haul FILE]";

/// How often each program runs when nobody says otherwise; the median of five bears two disturbed runs.
const DEFAULT_RUNS: usize = 5;

/// Runs the bench that the words name.
pub fn run(words: &[String]) -> Result<ExitCode> {
    match words.split_first() {
        Some((name, rest)) if name == "copy" => copy::run(&parse(rest)?),
        Some((name, [])) if name == warden::WORD => {
            warden::watch(std::io::stdin().lock());
            Ok(ExitCode::SUCCESS)
        }
        Some((other, _)) => bail!("{other} is no bench\n{USAGE}"),
        None => bail!("a bench is missing\n{USAGE}"),
    }
}

fn parse(words: &[String]) -> Result<CopyBench> {
    let (mut runs, mut quick, mut haul) = (None, false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--haul" => haul = Some(words.next().context(USAGE)?.into()),
            "--runs" => {
                let count: usize = words.next().context(USAGE)?.parse().context(USAGE)?;
                if count == 0 {
                    bail!("at least one run is needed; {USAGE}");
                }
                runs = Some(count);
            }
            other => bail!("{other} is unknown; {USAGE}"),
        }
    }
    let default = if quick { 1 } else { DEFAULT_RUNS };
    Ok(CopyBench { runs: runs.unwrap_or(default), quick, haul })
}
