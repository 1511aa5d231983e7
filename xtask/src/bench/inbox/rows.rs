//! The rows of the bench: which link, which dataset, who takes part, and what became of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::data::Load;
use crate::bench::grid::LinkKind;
use crate::bench::race::{Measurement, Stopped};
use crate::bench::stats::Spread;

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InboxRow {
    /// As on the command line.
    pub word: &'static str,
    /// Over what.
    pub link: LinkKind,
    /// What is handed in.
    pub load: Load,
}

/// A way to get files there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InboxProgram {
    /// `haul put`, until the dataset is published.
    Put,
    /// `haul cp --fsync` to an export: the same without an inbox.
    Copy,
    /// `scp`, and then `sync` at the receiver.
    ScpSynced,
    /// The same with the cipher that is fastest where the processor does AES.
    ScpAesSynced,
    /// `scp` alone, which leaves it to the kernel when anything is on the disk.
    Scp,
}

/// The figures of one program in one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Which.
    pub program: InboxProgram,
    /// What was run, for people.
    pub command: String,
    /// One for each run that counts.
    pub measurements: Vec<Measurement>,
    /// It took too long.
    pub stopped: Option<Stopped>,
}

/// The figures of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InboxFigures {
    /// What was handed in.
    pub load: Load,
    /// The programs.
    pub lines: Vec<Line>,
    /// Packets that the emulator dropped because the machine was too slow for it.
    pub unread: u64,
}

/// The rows, in their order.
pub const ROWS: [InboxRow; 4] = [
    InboxRow { word: "file", link: LinkKind::Clean, load: LARGE },
    InboxRow {
        word: "many",
        link: LinkKind::Clean,
        load: Load::Many { folders: 10, each: 100, bytes: 1 << 20 },
    },
    InboxRow { word: "lan", link: LinkKind::Lan, load: LARGE },
    InboxRow { word: "lossy", link: LinkKind::Lossy, load: LARGE },
];

const LARGE: Load = Load::Large { bytes: 2 << 30 };

/// How often each program runs on a link that takes its time.
const RUNS_ON_LINK: usize = 3;

/// No run takes longer.
const AT_MOST: Duration = Duration::from_secs(120);
const AT_MOST_QUICK: Duration = Duration::from_secs(20);

impl InboxRow {
    /// The same with little data: to see that it works.
    pub fn small(self) -> Self {
        let load = match self.load {
            Load::Large { bytes } => Load::Large { bytes: bytes / 32 },
            Load::Many { folders, each, bytes } => Load::Many { folders, each, bytes: bytes / 32 },
        };
        Self { load, ..self }
    }

    /// What it is, for people.
    pub fn title(&self) -> String {
        format!("{}: {}", self.word, self.load.describe())
    }

    /// Who takes part. Where packets get lost the cipher does not matter, and the disk little.
    pub fn programs(&self) -> &'static [InboxProgram] {
        use InboxProgram::{Copy, Put, Scp, ScpAesSynced, ScpSynced};
        match self.link {
            LinkKind::Lossy => &[Put, Copy, ScpSynced],
            _ => &[Put, Copy, ScpSynced, ScpAesSynced, Scp],
        }
    }

    /// How often a program runs, of so many that are wanted: what waits for lost packets runs once.
    pub fn runs(&self, program: InboxProgram, wanted: usize) -> usize {
        match self.link {
            LinkKind::Clean => wanted,
            LinkKind::Lossy if !program.is_haul() => 1,
            _ => wanted.min(RUNS_ON_LINK),
        }
    }

    /// When a run is stopped.
    pub fn at_most(quick: bool) -> Duration {
        if quick { AT_MOST_QUICK } else { AT_MOST }
    }
}

impl InboxProgram {
    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "haul put",
            Self::Copy => "haul cp --fsync, no inbox",
            Self::ScpSynced => "scp, then sync",
            Self::ScpAesSynced => "scp, aes128-gcm, then sync",
            Self::Scp => "scp alone, not durable",
        }
    }

    /// Whether it hands in a dataset.
    pub fn is_put(self) -> bool {
        self == Self::Put
    }

    /// Whether it is haul.
    pub fn is_haul(self) -> bool {
        matches!(self, Self::Put | Self::Copy)
    }

    /// Whether it is another program after which everything is on the disk.
    pub fn is_durable_rival(self) -> bool {
        matches!(self, Self::ScpSynced | Self::ScpAesSynced)
    }
}

impl Line {
    /// A program that has not run yet.
    pub fn new(program: InboxProgram) -> Self {
        Self { program, command: String::new(), measurements: Vec::new(), stopped: None }
    }

    /// All times.
    pub fn walls(&self) -> Vec<f64> {
        self.measurements.iter().map(|measurement| measurement.wall).collect()
    }
}

impl InboxFigures {
    /// The figures of a program, if it has any.
    pub fn of(&self, program: InboxProgram) -> Option<&Line> {
        let line = self.lines.iter().find(|line| line.program == program);
        line.filter(|line| !line.measurements.is_empty())
    }

    /// Millions of bytes per second of a program: the median, the least and the most.
    pub fn speed(&self, line: &Line) -> Spread {
        let bytes = self.load.bytes() as f64 / 1e6;
        Spread::of(line.walls().into_iter().map(|wall| bytes / wall).collect())
    }

    /// The fastest of those after which everything is on the disk.
    pub fn best_rival(&self) -> Option<&Line> {
        let rivals = self.lines.iter().filter(|line| line.program.is_durable_rival());
        rivals
            .filter(|line| !line.measurements.is_empty())
            .max_by(|a, b| self.speed(a).median.total_cmp(&self.speed(b).median))
    }
}
