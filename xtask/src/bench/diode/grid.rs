//! The highest rate that arrives whole without a loss of ours, for each setting of the link, and what one
//! pass at that rate comes to when packets are lost on the way.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::link::{Link, Setting};
use super::pass::Pass;
use super::{GRID, Track};
use crate::bench::archive::{Archive, Figures};
use crate::bench::data::Load;

/// The rates that are tried, in megabytes per second.
const STEPS: [u32; 22] = [
    10, 25, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700, 750, 800, 850,
    900, 1000, 1200,
];

/// How often a rate may fail before it counts as too high: one failure may be somebody else's.
const TRIES: usize = 2;

/// By how many steps a cell may go below the rate of its setting.
const LOWER: usize = 3;

/// Packets of a thousand that are lost.
pub const LOSSES: [u32; 5] = [0, 1, 5, 10, 20];

/// Everything that was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiodeGrid {
    /// The highest rate of each setting.
    pub found: Vec<Found>,
    /// What was carried.
    pub cells: Vec<Cell>,
    /// The receive buffer that the kernel granted, in bytes.
    pub buffer: u64,
}

/// How the highest rate was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// For what.
    pub setting: Setting,
    /// In megabytes per second.
    pub rate: u32,
    /// All that was tried: the rate, and why it was too high, if it was.
    pub tried: Vec<(u32, Option<String>)>,
}

/// All passes of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// Over what.
    pub setting: Setting,
    /// What.
    pub load: Load,
    /// Packets of a thousand that are lost on purpose.
    pub per_mille: u32,
    /// In megabytes per second.
    pub rate: u32,
    /// What each came to.
    pub passes: Vec<Pass>,
}

impl DiodeGrid {
    /// The highest rate of a setting.
    pub fn rate(&self, setting: Setting) -> Option<u32> {
        self.found.iter().find(|found| found.setting == setting).map(|found| found.rate)
    }

    /// The rate at which one file was carried with so many of a thousand packets lost.
    fn rate_with(&self, setting: Setting, per_mille: u32) -> Option<u32> {
        let is_it = |cell: &&Cell| {
            cell.setting == setting && cell.per_mille == per_mille && cell.load.files() == 1
        };
        self.cells.iter().find(is_it).map(|cell| cell.rate)
    }
}

impl Track<'_> {
    fn large(&self) -> Load {
        Load::Large { bytes: if self.quick { 64 << 20 } else { 1 << 30 } }
    }

    fn many(&self) -> Load {
        Load::Many { folders: 10, each: if self.quick { 20 } else { 1000 }, bytes: 4096 }
    }

    /// All settings, loads and losses.
    pub fn grid(&self) -> Result<DiodeGrid> {
        eprintln!("\n== grid");
        let (large, many) = (self.large(), self.many());
        self.lay(large)?;
        let mut grid = DiodeGrid { found: Vec::new(), cells: Vec::new(), buffer: 0 };
        for setting in Setting::ALL {
            let (found, passes) = self.highest(setting, large)?;
            let rate = found.rate;
            grid.cells.push(Cell { setting, load: large, per_mille: 0, rate, passes });
            grid.found.push(found);
            let losses = LOSSES.iter().filter(|loss| **loss > 0 && !setting.offload);
            for loss in losses {
                grid.cells.push(self.cell(setting, large, *loss, rate)?);
            }
        }
        self.lay(many)?;
        for setting in Setting::ALL {
            let rate = grid.rate(setting).unwrap_or(STEPS[0]);
            for loss in LOSSES.iter().filter(|loss| **loss == 0 || !setting.offload) {
                grid.cells.push(self.cell(setting, many, *loss, rate)?);
            }
        }
        grid.buffer = self.buffer()?;
        self.place.clear_source()?;
        Ok(grid)
    }

    /// The rate at which a large file passes with each of these losses: as it was found before, or found now
    /// without a loss.
    pub fn rates(&self, archive: &Archive, setting: Setting, losses: &[u32]) -> Result<Vec<u32>> {
        let known = archive.parts.get(GRID).and_then(|part| match &part.figures {
            Figures::DiodeGrid(grid) => {
                losses.iter().map(|loss| grid.rate_with(setting, *loss)).collect()
            }
            _ => None,
        });
        if let Some(rates) = known {
            return Ok(rates);
        }
        eprintln!("\n== rate");
        self.lay(self.large())?;
        let (found, _) = self.highest(setting, self.large())?;
        self.place.clear_source()?;
        Ok(vec![found.rate; losses.len()])
    }

    /// Halves the steps until one is left that arrives whole in every pass.
    fn highest(&self, setting: Setting, load: Load) -> Result<(Found, Vec<Pass>)> {
        let link = Link::make(self.warden, setting)?;
        let mut tried = Vec::new();
        let (mut low, mut high) = (0, STEPS.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let mut fault = None;
            for _ in 0..TRIES {
                fault = self.pass(&link, load, STEPS[middle])?.fault(0);
                eprintln!("{} MB/s: {}", STEPS[middle], fault.as_deref().unwrap_or("whole"));
                if fault.is_none() {
                    break;
                }
            }
            if fault.is_none() {
                low = middle
            } else {
                high = middle
            }
            tried.push((STEPS[middle], fault));
        }
        loop {
            let (passes, fault) = self.passes(&link, load, 0, STEPS[low])?;
            if fault.is_none() || low == 0 {
                let rate = STEPS[low];
                eprintln!("packets of {}: {rate} MB/s", setting.packet);
                return Ok((Found { setting, rate, tried }, passes));
            }
            tried.push((STEPS[low], fault));
            low -= 1;
        }
    }

    /// Passes at a rate, and why one of them was the last, if it was.
    fn passes(
        &self,
        link: &Link,
        load: Load,
        per_mille: u32,
        rate: u32,
    ) -> Result<(Vec<Pass>, Option<String>)> {
        let mut passes = Vec::new();
        for _ in 0..self.runs {
            let pass = self.pass(link, load, rate)?;
            let fault = pass.fault(per_mille);
            eprintln!(
                "{} in packets of {}, {:.1} % lost, {rate} MB/s: {:.2} s{}",
                load.describe(),
                link.setting.packet,
                f64::from(per_mille) / 10.0,
                pass.cost.wall,
                fault.as_deref().map_or_else(String::new, |fault| format!(", {fault}"))
            );
            passes.push(pass);
            if fault.is_some() {
                return Ok((passes, fault));
            }
        }
        Ok((passes, None))
    }

    /// All passes of a cell, at the given rate or at a lower one.
    fn cell(&self, setting: Setting, load: Load, per_mille: u32, rate: u32) -> Result<Cell> {
        let link = Link::make(self.warden, setting)?;
        link.lose(per_mille)?;
        let mut step = STEPS.iter().position(|step| *step == rate).unwrap_or(0);
        let lowest = step.saturating_sub(LOWER);
        loop {
            let (passes, fault) = self.passes(&link, load, per_mille, STEPS[step])?;
            if fault.is_none() || step == lowest {
                return Ok(Cell { setting, load, per_mille, rate: STEPS[step], passes });
            }
            step -= 1;
        }
    }

    fn buffer(&self) -> Result<u64> {
        let link = Link::make(self.warden, Setting::FAST)?;
        let ends = super::ends::Ends::new(self, &link)?;
        let receiver = ends.receive(&[])?;
        let granted = ends.status()?["receive_buffer"].as_u64().unwrap_or(0);
        receiver.stop()?;
        Ok(granted)
    }
}
