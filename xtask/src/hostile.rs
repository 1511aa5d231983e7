//! Hostile packets at length: what the suite of the `diode` crate tries with some thousands, with a million, and with
//! nothing else in the process, so that its memory can be held to a bound.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::check::Counts;
use crate::steps;

const USAGE: &str = "usage: cargo xtask hostile [-n N]";

/// How many packets there are when nobody says otherwise.
const DEFAULT_PACKETS: u64 = 1_000_000;

/// Gives a receiver of a diode so many bad packets as the words say.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let packets = match words {
        [] => DEFAULT_PACKETS,
        [flag, count] if flag == "-n" => count.parse().context(USAGE)?,
        _ => bail!("{USAGE}"),
    };
    let mut command = steps::cargo(&["test", "--release", "-p", "diode", "--lib", "--"]);
    command
        .args(["bad_packets", "--nocapture", "--test-threads=1"])
        .env("HAUL_HOSTILE_PACKETS", packets.to_string());
    let (success, output) = steps::observe(command)?;
    let counts = Counts::of_libtest(&output).unwrap_or_default();
    if success && counts.passed == 0 {
        bail!("no test of the `diode` crate has `bad_packets` in its name");
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
