//! The rules of the house that a machine can see. It reads the files that git knows or would add, and
//! reports each finding with its place and what to do; it never changes a file. A warning is a place to
//! look and does not fail the check.

mod floors;
mod pages;
mod sources;
mod tokens;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::steps;

/// One file of the project.
#[derive(Debug, Clone)]
pub struct File {
    /// From the root of the workspace, with `/` between the components.
    pub path: String,
    /// The content, for what is text.
    pub text: Option<String>,
}

/// All files of the project, in the order of their paths.
#[derive(Debug, Default, Clone)]
pub struct Project {
    files: Vec<File>,
}

/// A place that breaks a rule or deserves a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    message: String,
    is_warning: bool,
}

/// `cargo xtask tidy`.
pub fn run(words: &[String]) -> Result<ExitCode> {
    if let [word, ..] = words {
        bail!("{word} is unknown; usage: cargo xtask tidy");
    }
    check()?;
    println!("tidy: every rule holds");
    Ok(ExitCode::SUCCESS)
}

/// Reports every finding; any that is more than a warning is an error.
pub fn check() -> Result<()> {
    let project = Project::read(&steps::root())?;
    let findings = findings(&project);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let broken = findings.iter().filter(|finding| !finding.is_warning).count();
    if broken > 0 {
        bail!("tidy: {broken} places break a rule");
    }
    Ok(())
}

fn findings(project: &Project) -> Vec<Finding> {
    let mut findings = floors::check(project);
    findings.extend(sources::check(project));
    findings.extend(pages::check(project));
    findings
}

impl Project {
    /// Reads what git tracks and what it would add; files that are ignored are nobody's business here.
    fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root);
        let output = git.output().context("ask git which files belong to the project")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let names = String::from_utf8(output.stdout)
            .context("a tracked file has a name that is not UTF-8")?;
        let mut names: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let mut files = Vec::new();
        for name in names {
            // A tracked file may have been removed from the work tree, and a link may lead nowhere.
            let Ok(bytes) = fs::read(root.join(name)) else { continue };
            files.push(File { path: name.to_owned(), text: String::from_utf8(bytes).ok() });
        }
        Ok(Self { files })
    }

    /// The content of a text file.
    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// Whether there is a file of that path, or a folder.
    fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|file| {
            file.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Path and content of every text file.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into(), is_warning: false }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::new(path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_warning { "warning: " } else { "" };
        write!(out, "{}:{}: {mark}{}", self.path, self.line, self.message)
    }
}

#[cfg(test)]
mod tests;
