//! Runs the fuzz targets without coverage guidance, on any toolchain: corpus first, then seeded damage.
//! `cargo xtask fuzz` starts it; `--replay` tries one kept input alone, which is how a failure is studied.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fuzz::smoke::{self, Options};

const USAGE: &str = "usage: fuzz-smoke [--seconds S] [--seed N] [--replay FILE] [TARGET]";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if let Some(running) = &arguments.running {
        let (name, target) = arguments.one()?;
        println!("{}", smoke::run(name, target, &arguments.options, running)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(input) = &arguments.replay {
        let (_, target) = arguments.one()?;
        target(&std::fs::read(input).with_context(|| format!("read {}", input.display()))?);
        return Ok(ExitCode::SUCCESS);
    }
    watch_all(&arguments)
}

fn watch_all(arguments: &Arguments) -> Result<ExitCode> {
    let mut failed = false;
    for (name, _) in fuzz::TARGETS {
        if arguments.name.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let start = Instant::now();
        match smoke::watch(name, &arguments.options) {
            Ok(inputs) => {
                println!("{name}: {inputs} inputs in {:.1} s", start.elapsed().as_secs_f64())
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Arguments {
    options: Options,
    replay: Option<PathBuf>,
    /// Set in the child process: where the input lies while it is tried.
    running: Option<PathBuf>,
    name: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let options = Options { seconds: 2, seed: 1 };
        let mut arguments = Self { options, replay: None, running: None, name: None };
        while let Some(word) = words.next() {
            let mut value =
                || words.next().with_context(|| format!("{word} needs a value; {USAGE}"));
            match word.as_str() {
                "--seconds" => arguments.options.seconds = value()?.parse().context(USAGE)?,
                "--seed" => arguments.options.seed = value()?.parse().context(USAGE)?,
                "--replay" => arguments.replay = Some(value()?.into()),
                "--running" => arguments.running = Some(value()?.into()),
                "--inside" => arguments.name = Some(value()?),
                name if fuzz::target(name).is_some() => arguments.name = Some(name.to_owned()),
                other => bail!(
                    "{other} is no option and no target; {USAGE}; the targets are {}",
                    names()
                ),
            }
        }
        Ok(arguments)
    }

    fn one(&self) -> Result<(&str, fuzz::Target)> {
        let name =
            self.name.as_deref().with_context(|| format!("name a target, one of {}", names()))?;
        Ok((name, fuzz::target(name).with_context(|| format!("{name} is none of {}", names()))?))
    }
}

fn names() -> String {
    fuzz::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
