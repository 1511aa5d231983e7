//! Benches: haul beside other programs on the same machine and the same link. Each bench is a module of
//! its own under `bench/`; here is only the choice between them.

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench copy";

/// Runs the bench that the words name.
pub fn run(words: &[String]) -> Result<ExitCode> {
    match words.split_first() {
        Some((name, rest)) if name == "copy" => copy(rest),
        Some((other, _)) => bail!("{other} is no bench\n{USAGE}"),
        None => bail!("a bench is missing\n{USAGE}"),
    }
}

fn copy(_words: &[String]) -> Result<ExitCode> {
    bail!("the copy bench has not been written yet")
}
