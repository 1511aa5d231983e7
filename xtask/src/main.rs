//! All automation of the project: `cargo xtask` lists it. Nothing here ships; what a machine can check
//! is checked here, so that it need not be remembered.

mod bench;
mod check;
mod crash;
mod fuzz;
mod hostile;
mod load;
mod pyzmq;
mod steps;
mod tidy;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--only STEP] [--no-install]   the whole check: formatting, lints, tests, docs, tidy, fuzz smoke
  ci                                  the same
  tidy                                the rules of the house that a machine can see
  crash [-n N]                        kill haul N times in the middle of a copy, and each end of a diode as often, and
                                      look at what is left
  fuzz [--seconds S] [--seed N] [--guided] [TARGET]
                                      hostile bytes for one target or for all
  hostile [-n N]                      N packets of somebody without the keys, a million unless told otherwise, for a
                                      receiver of a diode
  load inbox [--quick]                many clients at one inbox: everything arrives, little memory, nobody starves
  bench copy                          copies measured side by side with other programs
  bench diode                         what a link with no way back carries
  bench inbox                         datasets handed in, beside scp";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = words.split_first() else {
        bail!("a command is missing\n{USAGE}");
    };
    match command.as_str() {
        "test" | "ci" => check::run(rest),
        "tidy" => tidy::run(rest),
        "crash" => crash::run(rest),
        "fuzz" => fuzz::run(rest),
        "hostile" => hostile::run(rest),
        "load" => load::run(rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("{other} is no command\n{USAGE}"),
    }
}
