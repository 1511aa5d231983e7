//! Benches: haul beside other programs on the same machine and the same link. Each bench is a module of
//! its own under `bench/`; here is only the choice between them.

mod archive;
mod contender;
mod copy;
mod data;
mod field;
mod grid;
mod machine;
mod page;
mod peers;
mod plot;
mod processes;
mod race;
mod scale;
mod sharing;
mod stats;
mod warden;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use copy::CopyBench;

const USAGE: &str = "\
usage: cargo xtask bench copy [--runs N] [--quick] [--rows ROWS] [--only PROGRAMS] [--haul FILE] [--page FILE]
  --runs N         how often each program copies (5; 1 with --quick)
  --quick          little data, to see that it works
  --rows ROWS      1 to 9, scale, sharing, with commas between
  --only PROGRAMS  haul, rsync, rsync-ssh, rsync-daemon, scp, scp-aes, qcp, rclone, uftp, bare-tls,
                   bare-quic, cp, with commas between
  --haul FILE      measure another build
  --page FILE      write the page, its plots and its figures there, whatever was run";

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
        Some((name, rest)) if name == sharing::SINK => sharing::sink(rest),
        Some((name, rest)) if name == sharing::POUR => sharing::pour(rest),
        Some((other, _)) => bail!("{other} is no bench\n{USAGE}"),
        None => bail!("a bench is missing\n{USAGE}"),
    }
}

fn parse(words: &[String]) -> Result<CopyBench> {
    let mut bench = CopyBench::default();
    let mut runs = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().context(USAGE);
        match word.as_str() {
            "--quick" => bench.quick = true,
            "--haul" => bench.haul = Some(value()?.into()),
            "--page" => bench.page = Some(value()?.into()),
            "--rows" => bench.rows = list(value()?),
            "--only" => bench.only = list(value()?),
            "--runs" => {
                let count: usize = value()?.parse().context(USAGE)?;
                if count == 0 {
                    bail!("at least one run is needed; {USAGE}");
                }
                runs = Some(count);
            }
            other => bail!("{other} is unknown; {USAGE}"),
        }
    }
    bench.runs = runs.unwrap_or(if bench.quick { 1 } else { DEFAULT_RUNS });
    Ok(bench)
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(str::to_owned).collect()
}
