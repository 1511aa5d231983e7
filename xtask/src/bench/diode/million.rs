//! A tree of a million files: how long it takes to find out what is there, what both ends remember of it in
//! memory, and what one more generation with a few changes costs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Track;
use super::ends::{Ends, Running};
use super::link::{Link, Setting};
use super::pass::{Sent, pass};
use crate::bench::data::Load;
use crate::bench::race::Measurement;

/// Rates that are tried until everything arrives, in megabytes per second. What files cost is to be seen, and
/// a receiver can write so many of them a second and no more; nobody tells the sender.
const RATES: [u32; 6] = [50, 25, 12, 6, 3, 1];

/// Files that change, each in a folder of its own.
const CHANGES: u32 = 1000;

/// What was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiodeMillion {
    /// The tree.
    pub load: Load,
    /// In megabytes per second.
    pub rate: u32,
    /// Higher rates, and what was wrong.
    pub lost: Vec<(u32, String)>,
    /// From nothing to a copy.
    pub first: Generation,
    /// A look at the tree when nothing has changed, and its end.
    pub look: Measurement,
    /// Files that changed.
    pub changes: u64,
    /// And what became of them.
    pub second: Generation,
}

/// One generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Generation {
    /// Until the receiver's tree was complete.
    pub cost: Measurement,
    /// Seconds until the sender knew all that had changed; none if it did not say.
    pub scanned: Option<f64>,
    /// Bytes that went out, with headers and repair.
    pub sent_bytes: u64,
    /// Entries of the copy that are as they should be: files, folders and links.
    pub same: u64,
}

impl Track<'_> {
    /// Runs all of it.
    pub fn million(&self) -> Result<DiodeMillion> {
        let (folders, each) = if self.quick { (10, 100) } else { (1000, 1000) };
        let load = Load::Many { folders, each, bytes: 96 };
        eprintln!("\n== {}", load.describe());
        if !self.place.holds(load) {
            bail!("there is no room for {} and a copy", load.describe());
        }
        self.lay(load)?;
        let link = Link::make(self.warden, Setting::FAST)?;
        let mut lost = Vec::new();
        for rate in RATES {
            self.place.clear()?;
            let ends = Ends::new(self, &link)?;
            let mut receiver = ends.receive(&[])?;
            let first = self.send_once(&ends, &mut receiver, rate, Some(1))?;
            if !first.is_complete {
                let fault = pass(&ends.status()?, &first, load, (0, 0)).fault(0);
                let fault = fault.unwrap_or_else(|| "the copy is not the same".to_owned());
                eprintln!("{rate} MB/s: {fault}");
                lost.push((rate, fault));
                continue;
            }
            let number = number(&first)?;
            let first = generation(&first)?;
            eprintln!("the first generation at {rate} MB/s: {:.1} s", first.cost.wall);
            let told = self.go_on((&ends, receiver), load, number, (rate, lost, first))?;
            self.place.clear_source()?;
            return Ok(told);
        }
        bail!("files are lost at {} MB/s too", RATES[RATES.len() - 1])
    }

    /// A look at what has not changed since the generation of this number, and one with some changes.
    fn go_on(
        &self,
        (ends, mut receiver): (&Ends<'_>, Running),
        load: Load,
        number: u64,
        (rate, lost, first): (u32, Vec<(u32, String)>, Generation),
    ) -> Result<DiodeMillion> {
        let Load::Many { folders, .. } = load else { bail!("one file is not many") };
        let look = self.send_once(ends, &mut receiver, rate, None)?;
        let look = ended(&look).context("the sender did not say that it ended")?;
        eprintln!("a look at it: {:.1} s", look.wall);
        let changes = CHANGES.min(folders);
        for folder in 0..changes {
            let path = self.file(load, folder);
            fs::write(&path, format!("changed {folder}"))
                .with_context(|| format!("write {}", path.display()))?;
        }
        let second = self.send_once(ends, &mut receiver, rate, Some(number + 1))?;
        let second = generation(&second).with_context(|| receiver.said())?;
        eprintln!("{changes} changes: {:.1} s", second.cost.wall);
        receiver.stop()?;
        self.place.check_and_clear(load)?;
        let changes = u64::from(changes);
        Ok(DiodeMillion { load, rate, lost, first, look, changes, second })
    }

    fn file(&self, load: Load, folder: u32) -> PathBuf {
        let folder = format!("folder-{folder:03}");
        self.place.source().join(load.name()).join(folder).join("file-007")
    }
}

/// The number of the generation that became complete.
fn number(sent: &Sent) -> Result<u64> {
    let event = sent.event.as_ref().context("the tree did not become complete")?;
    event["generation"].as_u64().context("the receiver did not say which generation is complete")
}

fn generation(sent: &Sent) -> Result<Generation> {
    let Some(event) = &sent.event else { bail!("the tree did not become complete") };
    let stopped = sent.events.iter().find(|(_, event)| event["event"] == "stopped");
    let (_, stopped) = stopped.context("the sender did not say that it ended")?;
    let bytes = ["first_bytes", "again_bytes", "other_bytes"];
    Ok(Generation {
        cost: sent.cost,
        scanned: sent.events.iter().find(|(_, it)| it["event"] == "generation").map(|(at, _)| *at),
        sent_bytes: bytes.iter().filter_map(|name| stopped[name].as_u64()).sum(),
        same: event["same"].as_u64().unwrap_or(0),
    })
}

/// A run that found nothing: its time is that of the sender.
fn ended(sent: &Sent) -> Option<Measurement> {
    let stopped = sent.events.iter().find(|(_, event)| event["event"] == "stopped");
    stopped.map(|(at, _)| Measurement { wall: *at, ..sent.cost })
}

#[cfg(test)]
mod tests;
