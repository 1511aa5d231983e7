//! The crash tests at length: haul is killed in the middle of a copy again and again, at either end, and so is each end
//! of a diode. What it leaves must be whole files or none. The tests are among the end-to-end tests of the `haul` crate.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::check::Counts;
use crate::steps;

const USAGE: &str = "usage: cargo xtask crash [-n N]";

/// How many times each test kills haul when nobody says otherwise: the two of a diode, one for each end, 200 times together.
const DEFAULT_RUNS: u32 = 100;

/// Runs the crash tests with so many kills as the words say, of each side of a diode, and of both sides of a copy.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let runs = match words {
        [] => DEFAULT_RUNS,
        [flag, count] if flag == "-n" => count.parse().context(USAGE)?,
        _ => bail!("{USAGE}"),
    };
    // A release build, because a kill must come at the moments at which it comes to users.
    let mut command = steps::cargo(&["test", "--release", "-p", "haul", "--test", "it", "--"]);
    command
        .args(["crash", "--nocapture", "--test-threads=1"])
        .env("HAUL_CRASH_RUNS", runs.to_string());
    let (success, output) = steps::observe(command)?;
    let counts = Counts::of_libtest(&output).unwrap_or_default();
    if success && counts.passed == 0 {
        bail!("no test of the `it` program has `crash` in its name");
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
