//! Steps of a command: each is announced, timed and remembered, and a failed one does not keep the
//! others from telling what they have to tell.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    // `cargo run` says where the package is now; a binary started by hand knows where it was built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let mut folder = PathBuf::from(package);
    folder.pop();
    folder
}

/// The cargo that runs this, called from the root of the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command whose output the user sees; its failure is an error.
pub fn succeed(mut command: Command) -> Result<()> {
    let shown = show(&command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command, shows both its outputs as they come and hands them back as one text together with
/// whether it succeeded. Lines of the two outputs may interleave; no line is torn.
pub fn observe(mut command: Command) -> Result<(bool, String)> {
    let shown = show(&command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    let errors = child.stderr.take().context("take the error output")?;
    let errors = thread::spawn(move || echo(errors, std::io::stderr()));
    let output = echo(child.stdout.take().context("take the output")?, std::io::stdout())?;
    let errors = errors.join().expect("the echo thread does not panic")?;
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    Ok((status.success(), output + &errors))
}

fn echo(from: impl std::io::Read, mut to: impl Write) -> Result<String> {
    let mut text = String::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? != 0 {
        to.write_all(&line)?;
        text.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(text)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The steps of one command, in the order in which they ran.
#[derive(Debug, Default)]
pub struct Steps {
    failed: Vec<String>,
}

impl Steps {
    /// Runs one step, says what it is, how it ended and how long it took.
    pub fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let result = step();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(value) => {
                eprintln!("== {name}: ok, {seconds:.1} s");
                Some(value)
            }
            Err(error) => {
                eprintln!("error: {error:#}\n== {name}: FAILED, {seconds:.1} s");
                self.failed.push(name.to_owned());
                None
            }
        }
    }

    /// The names of the steps that failed.
    pub fn failed(&self) -> &[String] {
        &self.failed
    }
}
