//! Fuzzing: seeded damage on any toolchain, or libFuzzer with coverage guidance on the pinned one. The
//! second needs a C++ compiler and is therefore no part of the checks.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::steps;

const USAGE: &str = "usage: cargo xtask fuzz [--seconds S] [--seed N] [--guided] [TARGET]";

/// What makes the compiler count branches and comparisons for libFuzzer. The pass is in every stable
/// compiler; only the sanitizers, which we do without, would need a nightly one.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";

/// How long the smoke run of the whole check gives to each target.
const SMOKE_SECONDS: u64 = 2;

struct Arguments {
    seconds: u64,
    seed: u64,
    guided: bool,
    target: Option<String>,
}

/// Fuzzes what the words say.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let arguments = Arguments::parse(words)?;
    match (&arguments.target, arguments.guided) {
        (Some(target), true) => guided(target, arguments.seconds)?,
        (None, true) => bail!("--guided needs a target; {USAGE}"),
        (target, false) => {
            seeded(arguments.seconds, arguments.seed, target.as_deref(), &["--release"])?
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The short run that is part of the whole check. It uses the build of the tests.
pub fn smoke() -> Result<()> {
    seeded(SMOKE_SECONDS, 1, None, &[])
}

fn seeded(seconds: u64, seed: u64, target: Option<&str>, profile: &[&str]) -> Result<()> {
    let mut command = steps::cargo(&["run", "--quiet", "-p", "fuzz", "--bin", "fuzz-smoke"]);
    // Assertions of the dev profile find more, and a release build tries more inputs: take both.
    command.args(profile).env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
    command
        .args(["--", "--seconds", &seconds.to_string(), "--seed", &seed.to_string()])
        .args(target);
    steps::succeed(command)
}

fn guided(target: &str, seconds: u64) -> Result<()> {
    let root = steps::root();
    let corpus = root.join("fuzz/corpus").join(target);
    if !corpus.is_dir() {
        bail!("{target} has no corpus, so it is no target: {} is missing", corpus.display());
    }
    let crashes = root.join("fuzz/crashes");
    // What libFuzzer finds new goes to a folder of its own: the kept corpus is to stay small.
    let found = crashes.join(format!("{target}.found"));
    fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
    let host = host()?;
    // With a target triple the flags stay away from build scripts and macros, which have no libFuzzer.
    let mut command = steps::cargo(&[
        "run",
        "--release",
        "-p",
        "fuzz",
        "--bin",
        "fuzz-guided",
        "--target",
        &host,
    ]);
    command.args(["--features", "guided", "--"]).arg(&found).arg(&corpus);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{target}-", crashes.display()));
    command.env("RUSTFLAGS", COVERAGE).env("HAUL_FUZZ_TARGET", target);
    steps::succeed(command)
}

/// The triple of this machine, from the compiler itself.
fn host() -> Result<String> {
    let output = std::process::Command::new("rustc").arg("-vV").current_dir(steps::root()).output();
    let output = output.context("ask rustc for its host")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Self> {
        let mut arguments = Self { seconds: 30, seed: 1, guided: false, target: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64> {
                words
                    .next()
                    .context(USAGE)?
                    .parse()
                    .with_context(|| format!("{word} needs a number; {USAGE}"))
            };
            match word.as_str() {
                "--seconds" => arguments.seconds = number()?,
                "--seed" => arguments.seed = number()?,
                "--guided" => arguments.guided = true,
                target if !target.starts_with('-') && arguments.target.is_none() => {
                    arguments.target = Some(target.to_owned());
                }
                other => bail!("{other} is unknown; {USAGE}"),
            }
        }
        Ok(arguments)
    }
}
