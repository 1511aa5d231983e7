//! The whole check, which is also the project's test command: every step runs, however the others end,
//! and the last line gives the tests' counts as the runner counted them.

mod counts;

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub use counts::Counts;

use crate::steps::{self, Steps};
use crate::tools::{self, Tool};
use crate::{fuzz, tidy};

const USAGE: &str = "usage: cargo xtask test [--only STEP] [--no-install]";

/// The steps in the order in which they run: what tells most for least time comes first.
const STEPS: &[&str] = &["fmt", "tidy", "clippy", "tests", "doctests", "docs", "fuzz"];

/// Runs the whole check, or the steps that the words name.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let (only, install) = parse(words)?;
    let start = Instant::now();
    let wanted = |step: &str| only.is_empty() || only.iter().any(|named| named == step);
    let mut steps = Steps::default();
    let mut counts = Counts::default();
    for step in STEPS.iter().copied().filter(|step| wanted(step)) {
        match step {
            "fmt" => steps
                .run(step, || steps::succeed(steps::cargo(&["fmt", "--all", "--", "--check"])))
                .is_some(),
            "tidy" => steps.run(step, tidy::check).is_some(),
            "clippy" => steps.run(step, clippy).is_some(),
            "tests" => steps.run(step, || tests(&mut counts, install)).is_some(),
            "doctests" => steps.run(step, || doctests(&mut counts)).is_some(),
            "docs" => steps.run(step, docs).is_some(),
            _ => steps.run(step, fuzz::smoke).is_some(),
        };
    }
    let ran_tests = wanted("tests") || wanted("doctests");
    Ok(conclude(&steps, counts, ran_tests, start))
}

/// Says how it all ended. The counts come last, for whoever reads only the end.
fn conclude(steps: &Steps, counts: Counts, ran_tests: bool, start: Instant) -> ExitCode {
    println!();
    let seconds = start.elapsed().as_secs_f64();
    if steps.failed().is_empty() {
        println!("every step passed, {seconds:.0} s");
    } else {
        println!("FAILED: {} ({seconds:.0} s)", steps.failed().join(", "));
    }
    if ran_tests {
        println!("{counts}");
    }
    if steps.failed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(words: &[String]) -> Result<(Vec<String>, bool)> {
    let (mut only, mut install) = (Vec::new(), true);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-install" => install = false,
            "--only" => {
                let step = words.next().context(USAGE)?;
                if !STEPS.contains(&step.as_str()) {
                    bail!("{step} is no step; the steps are {}", STEPS.join(", "));
                }
                only.push(step.clone());
            }
            other => bail!("{other} is unknown; {USAGE}"),
        }
    }
    Ok((only, install))
}

fn clippy() -> Result<()> {
    steps::succeed(steps::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn docs() -> Result<()> {
    let mut command = steps::cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    steps::succeed(command)
}

fn tests(counts: &mut Counts, install: bool) -> Result<()> {
    let missing = tools::provide(install)?;
    for Tool { program, package, marker, trial } in &missing {
        let why = if trial.is_empty() { "" } else { ", or the right to use it" };
        eprintln!(
            "missing: {program} (Debian: {package}){why}; tests named `{marker}` are skipped"
        );
    }
    let nextest = steps::cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    let (command, read): (Command, fn(&str) -> Option<Counts>) = if nextest {
        (with_nextest(&missing), Counts::of_nextest)
    } else {
        (with_libtest(&missing), Counts::of_libtest)
    };
    count(command, read, counts)
}

fn doctests(counts: &mut Counts) -> Result<()> {
    count(
        steps::cargo(&["test", "--doc", "--workspace", "--no-fail-fast", "--quiet"]),
        Counts::of_libtest,
        counts,
    )
}

fn with_nextest(missing: &[Tool]) -> Command {
    let mut command =
        steps::cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]);
    if !missing.is_empty() {
        let markers: Vec<String> =
            missing.iter().map(|tool| format!("test({})", tool.marker)).collect();
        command.args(["-E", &format!("not ({})", markers.join(" or "))]);
    }
    command
}

fn with_libtest(missing: &[Tool]) -> Command {
    let mut command = steps::cargo(&[
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
        "--",
    ]);
    command.args(missing.iter().flat_map(|tool| ["--skip", tool.marker]));
    command
}

/// Runs a test runner and adds what it counted. A runner that fails without a count did not get to the
/// tests, which must not look like no test having failed.
fn count(command: Command, read: fn(&str) -> Option<Counts>, counts: &mut Counts) -> Result<()> {
    let (success, output) = steps::observe(command)?;
    let Some(counted) = read(&output) else {
        counts.incomplete = true;
        bail!("the test runner gave no summary");
    };
    counts.add(counted);
    if !success || counted.failed > 0 {
        counts.incomplete |= counted.failed == 0;
        bail!("tests: {counted}");
    }
    Ok(())
}
