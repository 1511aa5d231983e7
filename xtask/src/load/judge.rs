//! What was seen, as tables, and what of it is not as it should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::clients::Seen;
use super::scenes::Kind;
use crate::bench::machine;
use crate::bench::page::cells::align;
use crate::bench::peers::INBOX;
use crate::bench::stats::{Spread, percentile};

/// The most memory that the server may take.
const MEMORY: u64 = 256 << 20;

/// The median wait of small uploads is at most this part of that of large ones.
const WAIT_PART: f64 = 0.25;

/// So many failures are told one by one.
const TOLD: usize = 5;

/// A line for each kind: how long it waited, and how long it took in all.
pub fn tables(seen: &[Seen]) -> String {
    let head = [
        "Uploads",
        "Count",
        "Waited, s: median",
        "90 %",
        "longest",
        "Start to published, s: median",
        "90 %",
        "longest",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for kind in [Kind::Mixed, Kind::Small, Kind::Large] {
        let own = || seen.iter().filter(move |seen| seen.kind == kind);
        if own().next().is_none() {
            continue;
        }
        let three = |figures: Vec<f64>| {
            let longest = figures.iter().copied().fold(f64::NAN, f64::max);
            let ninety = percentile(&figures, 0.9);
            [Spread::of(figures).median, ninety, longest].map(|figure| format!("{figure:.2}"))
        };
        let mut line = vec![kind.name().to_owned(), own().count().to_string()];
        line.extend(three(own().filter_map(Seen::waited).collect()));
        line.extend(three(own().filter_map(Seen::took).collect()));
        lines.push(line);
    }
    align(&lines)
}

/// What is not as it should be.
pub fn problems(seen: &[Seen], peak: u64, beside: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let failed: Vec<&Seen> = seen.iter().filter(|seen| seen.failure.is_some()).collect();
    for seen in failed.iter().take(TOLD) {
        let why = seen.failure.as_deref().unwrap_or_default();
        problems.push(format!("{} was not published: {why}", seen.name));
    }
    if failed.len() > TOLD {
        problems.push(format!("and {} more were not published", failed.len() - TOLD));
    }
    if peak >= MEMORY {
        problems.push(format!(
            "the server took {} MiB of memory, and may take less than {}",
            peak >> 20,
            MEMORY >> 20
        ));
    }
    if beside {
        problems.extend(starved(seen));
    }
    problems
}

/// Whether small uploads waited behind large ones.
fn starved(seen: &[Seen]) -> Vec<String> {
    let of = |kind, figure: fn(&Seen) -> Option<f64>| -> Vec<f64> {
        seen.iter().filter(|seen| seen.kind == kind).filter_map(figure).collect()
    };
    let last = |kind| of(kind, |seen| seen.published).into_iter().reduce(f64::max);
    let mut problems = Vec::new();
    match last(Kind::Small).zip(last(Kind::Large)) {
        Some((small, large)) if small < large => {}
        Some((small, large)) => problems.push(format!(
            "the last small upload was published after {small:.1} s, the last large one after {large:.1} s"
        )),
        None => problems.push("no small or no large upload was published".to_owned()),
    }
    let median = |kind| Spread::of(of(kind, Seen::waited)).median;
    let (small, large) = (median(Kind::Small), median(Kind::Large));
    // What is no number is not below anything.
    if small.is_nan() || large.is_nan() || small > large * WAIT_PART {
        problems.push(format!(
            "half of the small uploads waited {small:.2} s and more, half of the large ones {large:.2} s and more"
        ));
    }
    problems
}

/// The folder of a dataset in the store of the bench's inbox.
pub fn folder_of(root: &Path, id: &str) -> Result<PathBuf> {
    let store = root.join("store").join(INBOX);
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()
    };
    let start = format!("{id}-");
    for month in list(&store)? {
        for dataset in list(&month)? {
            let name = dataset.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&start) {
                return Ok(dataset);
            }
        }
    }
    bail!("it has no folder in {}", store.display())
}

/// The digests of the sources, each made once, with a program that is not haul.
#[derive(Debug, Default)]
pub struct Digests {
    known: BTreeMap<PathBuf, String>,
}

impl Digests {
    /// The lines of `manifest.sha256` of a dataset of this name with this source, in the order of the paths. Folders
    /// have no folders in them.
    pub fn manifest(&mut self, name: &str, source: &Path) -> Result<Vec<String>> {
        let mut files = vec![(source.to_owned(), name.to_owned())];
        if source.is_dir() {
            files.clear();
            for entry in fs::read_dir(source)? {
                let path = entry?.path();
                let below = path.file_name().unwrap_or_default().to_string_lossy();
                let below = format!("{name}/{below}");
                files.push((path, below));
            }
            files.sort();
        }
        let unknown: Vec<&PathBuf> =
            files.iter().map(|(path, _)| path).filter(|it| !self.known.contains_key(*it)).collect();
        if !unknown.is_empty() {
            let said = machine::output(Command::new("sha256sum").arg("--").args(&unknown))?;
            for (path, line) in unknown.into_iter().zip(said.lines()) {
                let digest = line.split(' ').next().unwrap_or_default();
                self.known.insert(path.clone(), digest.to_owned());
            }
        }
        let line = |(path, shown): &(PathBuf, String)| -> Result<String> {
            let digest = self.known.get(path).context("a digest is missing")?;
            Ok(format!("{digest}  files/{shown}"))
        };
        files.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests;
