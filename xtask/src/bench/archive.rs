//! What earlier runs found out, so that one row can be measured again and the page still has all of them.
//! Figures of another machine, or of another kind of disk, are not put beside those of this one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::data::Load;
use super::diode::{DiodeChannels, DiodeGrid, DiodeMillion, DiodeRivals};
use super::grid::{GRID, GridRow};
use super::inbox::InboxFigures;
use super::machine::{self, CHANGED};
use super::race::{Entry, RowResult};
use super::scale::Scale;
use super::sharing::Shared;

/// The word for growth among the parts.
pub const SCALE: &str = "scale";
/// The word for sharing among the parts.
pub const SHARING: &str = "sharing";

/// All parts of the page that were measured.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Archive {
    /// The machine, in lines.
    pub machine: Vec<String>,
    /// What the data lay on.
    pub disk: String,
    /// By the number of the row, or by word.
    pub parts: BTreeMap<String, Part>,
}

/// One row or section, measured in one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// When, as year, month and day.
    pub day: String,
    /// How often each program copied.
    pub runs: usize,
    /// The programs, with haul first.
    pub versions: Vec<String>,
    /// Programs without figures, and why.
    pub missing: Vec<String>,
    /// What was measured.
    pub figures: Figures,
}

/// The figures of a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figures {
    /// Of a row of the grid.
    Row {
        /// The work that it was measured with.
        load: Load,
        /// The programs.
        entries: Vec<Entry>,
        /// Packets that the emulator dropped.
        unread: u64,
    },
    /// How cost grows.
    Scale(Scale),
    /// How a link is shared.
    Sharing(Vec<Shared>),
    /// What a diode carries.
    DiodeGrid(DiodeGrid),
    /// What others carry across one.
    DiodeRivals(DiodeRivals),
    /// How long messages of channels take beside files.
    DiodeChannels(Vec<DiodeChannels>),
    /// A tree of a million files.
    DiodeMillion(DiodeMillion),
    /// Of a row of the bench of inboxes.
    Inbox(InboxFigures),
}

/// What this run of a bench finds out, and what those before did.
#[derive(Debug)]
pub struct Record {
    /// How often each program runs.
    pub runs: usize,
    /// Today, as year, month and day.
    pub day: String,
    /// The programs, with haul first.
    pub versions: Vec<String>,
    /// All that is known.
    pub archive: Archive,
}

impl Record {
    /// What is known before the first run.
    pub fn new(runs: usize, versions: Vec<String>, archive: Archive) -> Self {
        let day = machine::output(Command::new("date").args(["-u", "+%F"])).unwrap_or_default();
        Self { runs, day, versions, archive }
    }

    /// Takes what was measured, in place of what was known of the same part.
    pub fn add(&mut self, name: &str, figures: Figures, missing: Vec<String>) {
        let (day, versions) = (self.day.clone(), self.versions.clone());
        let part = Part { day, runs: self.runs, versions, missing, figures };
        self.archive.parts.insert(name.to_owned(), part);
    }

    /// Whether what is measured now has changes that no commit holds.
    pub fn is_changed(&self) -> bool {
        self.versions.first().is_some_and(|haul| haul.contains(CHANGED))
    }

    /// Nobody can repeat what no commit holds: it is said before hours are spent, after, and on the page.
    pub fn warn_of_changes(&self) {
        if self.is_changed() {
            eprintln!(
                "\nWARNING: this tree has changes outside docs/ that are not committed.\n\
                 WARNING: The page says so in its first lines. Commit, and measure anew.\n"
            );
        }
    }
}

/// An archive whose parts may be of an older bench.
#[derive(Debug, Deserialize)]
struct Stored {
    machine: Vec<String>,
    disk: String,
    parts: BTreeMap<String, serde_json::Value>,
}

impl Archive {
    /// What was measured on this machine; nothing if there is no such file. Parts in a form that is no
    /// longer understood are left out, and told.
    pub fn read(path: &Path, machine: &[String], disk: &str) -> Result<Self> {
        let empty = || Self { machine: machine.to_vec(), disk: disk.to_owned(), ..Self::default() };
        if !path.exists() {
            return Ok(empty());
        }
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let stored: Stored =
            serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
        if stored.machine != machine || stored.disk != disk {
            eprintln!("{} is of another machine: its figures are left out", path.display());
            return Ok(empty());
        }
        let mut archive = empty();
        for (name, part) in stored.parts {
            match serde_json::from_value(part) {
                Ok(part) => {
                    archive.parts.insert(name, part);
                }
                Err(error) => eprintln!(
                    "warning: {}: the figures of {name} are of an older bench and left out: {error}",
                    path.display()
                ),
            }
        }
        Ok(archive)
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// The rows of the grid that are there, and are of the work that they are of today.
    pub fn rows(&self) -> Vec<RowResult> {
        GRID.iter().filter_map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &GridRow) -> Option<RowResult> {
        match &self.parts.get(&row.number.to_string())?.figures {
            Figures::Row { load, entries, unread } => {
                // With little data the page can be looked at as well.
                let row = [*row, row.small()].into_iter().find(|row| row.load == *load)?;
                Some(RowResult { row, entries: entries.clone(), unread: *unread })
            }
            _ => None,
        }
    }

    /// How cost grows, with the work that it is measured with today.
    pub fn scale(&self) -> Option<&Scale> {
        match &self.parts.get(SCALE)?.figures {
            Figures::Scale(scale) if scale.is_of_today() => Some(scale),
            _ => None,
        }
    }

    /// How a link is shared.
    pub fn sharing(&self) -> Option<&[Shared]> {
        match &self.parts.get(SHARING)?.figures {
            Figures::Sharing(shared) => Some(shared),
            _ => None,
        }
    }

    /// The parts that were measured with changes that no commit holds.
    pub fn changed(&self) -> Vec<&str> {
        let of_it = |part: &Part| part.versions.first().is_some_and(|haul| haul.contains(CHANGED));
        self.parts.iter().filter(|(_, part)| of_it(part)).map(|(name, _)| name.as_str()).collect()
    }

    /// When and with what a part was measured, for people.
    pub fn origin(&self, name: &str) -> String {
        let Some(part) = self.parts.get(name) else { return String::new() };
        let haul = part.versions.first().map_or("haul", String::as_str);
        format!("Measured on {} with {haul}.", part.day)
    }

    /// Every line that `of` a part has, once.
    pub fn lines(&self, of: impl Fn(&Part) -> &[String]) -> Vec<&str> {
        let mut lines: Vec<&str> = Vec::new();
        for line in self.parts.values().flat_map(|part| of(part).iter()) {
            if !lines.contains(&line.as_str()) {
                lines.push(line);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests;
