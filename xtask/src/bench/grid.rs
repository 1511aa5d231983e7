//! The rows of the grid: which link, which work, what the link can carry at most, and what haul is to
//! reach there.

use std::time::Duration;

use badlink::{Change, Settings};

use super::contender::Program;
use super::data::Load;

/// A link of the grid. Loss, delay and queue are those of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A pair of virtual Ethernet devices.
    Clean,
    /// An office network of 1 Gbit/s.
    Lan,
    /// A line of 1 Gbit/s on which 2 % get lost.
    Lossy,
    /// A long line without loss.
    Wan0,
    /// The same with 1 % loss.
    Wan1,
    /// A very long line with 5 % loss.
    Bad5,
    /// Loss in bursts, jitter and reordering.
    Wifi,
}

/// What a haul that is as fast as it is to be reaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    /// How many times as fast.
    pub factor: f64,
    /// As what.
    pub as_what: AsWhat,
    /// Which haul: one that meets the host for the first time, or one that knows it.
    pub program: Program,
}

/// What an aim is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AsWhat {
    /// What the link can carry.
    Limit,
    /// One program.
    Program(Program),
    /// Whichever rival is fastest.
    BestRival,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridRow {
    /// As on the command line.
    pub number: u32,
    /// Over what.
    pub link: LinkKind,
    /// What is copied.
    pub load: Load,
    /// Seconds that the payload takes on the link at best; none where the machine is the limit.
    pub limit_seconds: Option<f64>,
    /// What haul is to reach.
    pub aims: &'static [Aim],
    /// Whether haul runs a second time with what it has learnt of the host.
    pub again: bool,
}

impl LinkKind {
    /// The word for it in commands and titles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Lan => "lan",
            Self::Lossy => "lossy",
            Self::Wan0 => "wan0",
            Self::Wan1 => "wan1",
            Self::Bad5 => "bad5",
            Self::Wifi => "wifi",
        }
    }

    /// The words of `badlink` for it; none for a clean pair of devices.
    pub fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Clean => return None,
            Self::Lan => "rate=1gbit delay=500us queue=1MB",
            Self::Lossy => "rate=1gbit delay=20ms queue=5MB loss=2%",
            Self::Wan0 => "rate=200mbit delay=50ms queue=2.5MB",
            Self::Wan1 => "rate=200mbit delay=50ms queue=2.5MB loss=1%",
            Self::Bad5 => "rate=100mbit delay=100ms queue=2.5MB loss=5%",
            Self::Wifi => {
                // Bursts of 10 packets on average, and 0.204 / (0.204 + 10) = 2 % of all.
                "rate=200mbit delay=15ms jitter=5ms queue=1MB burst-loss=0.204%,10% \
                 reorder=0.5% reorder-by=2ms"
            }
        })
    }

    /// What it is, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Clean => "a clean pair of virtual devices",
            Self::Lan => "1 Gbit/s, 1 ms round trip, queue 1 MB, no loss",
            Self::Lossy => "1 Gbit/s, 40 ms round trip, queue 5 MB, 2 % loss each way",
            Self::Wan0 => "200 Mbit/s, 100 ms round trip, queue 2.5 MB, no loss",
            Self::Wan1 => "200 Mbit/s, 100 ms round trip, queue 2.5 MB, 1 % loss each way",
            Self::Bad5 => "100 Mbit/s, 200 ms round trip, queue 2.5 MB, 5 % loss each way",
            Self::Wifi => {
                "200 Mbit/s, 30 ± 10 ms round trip, queue 1 MB, each way 2 % loss in bursts of \
                 about 10 packets and 0.5 % reordered by 2 ms"
            }
        }
    }

    /// What the words say.
    pub fn settings(self) -> Option<Settings> {
        let mut settings = Settings::default();
        for word in self.words()?.split_whitespace() {
            let change = Change::parse(word).expect("a test reads the words of every link");
            settings.apply(&change).expect("a change that was read can be made");
        }
        Some(settings)
    }

    /// Bits per second; none where the machine is the limit.
    pub fn rate(self) -> Option<f64> {
        self.settings()?.profiles[0].rate
    }

    /// Whether haul goes over TCP, as it does below 5 ms (`docs/decisions/lanes.md`); else over QUIC.
    pub fn is_near(self) -> bool {
        self.round_trip_ms() < 5
    }

    /// The round trip in milliseconds, as programs are told that want to know.
    pub fn round_trip_ms(self) -> u64 {
        match self.settings() {
            Some(settings) => (settings.profiles[0].delay * 2).div_ceil(1_000_000),
            None => 1,
        }
    }
}

const fn aim(factor: f64, as_what: AsWhat) -> Aim {
    Aim { factor, as_what, program: Program::Haul }
}

const LARGE: Load = Load::Large { bytes: 1 << 30 };
const LONG: Load = Load::Large { bytes: 210_000_000 };
const SHORT: Load = Load::Large { bytes: 105_000_000 };
const MANY: Load = Load::Many { folders: 100, each: 100, bytes: 4096 };

/// The rows, in their order.
pub const GRID: [GridRow; 9] = [
    row(
        1,
        LinkKind::Clean,
        LARGE,
        None,
        &[
            aim(1.2, AsWhat::Program(Program::RsyncDaemon)),
            aim(0.9, AsWhat::Program(Program::BareTls)),
        ],
    ),
    row(2, LinkKind::Clean, MANY, None, &[aim(1.0, AsWhat::Program(Program::RsyncDaemon))]),
    row(3, LinkKind::Lan, LARGE, Some(1073.74 / 120.0), &[aim(0.96, AsWhat::Limit)]),
    row(4, LinkKind::Lan, MANY, Some(40.96 / 120.0), &[aim(1.2, AsWhat::BestRival)]),
    row(5, LinkKind::Wan0, LONG, Some(210.0 / 24.0), &[aim(0.94, AsWhat::Limit)]),
    row(6, LinkKind::Wan0, MANY, Some(1.7), &[aim(1.5, AsWhat::BestRival)]),
    GridRow {
        again: true,
        ..row(
            7,
            LinkKind::Wan1,
            SHORT,
            Some(105.0 / 23.7),
            &[
                aim(0.90, AsWhat::Limit),
                Aim { factor: 0.95, as_what: AsWhat::Limit, program: Program::HaulAgain },
            ],
        )
    },
    row(8, LinkKind::Bad5, SHORT, Some(105.0 / 11.4), &[aim(0.87, AsWhat::Limit)]),
    row(9, LinkKind::Wifi, SHORT, Some(105.0 / 23.5), &[aim(0.93, AsWhat::Limit)]),
];

const fn row(
    number: u32,
    link: LinkKind,
    load: Load,
    limit_seconds: Option<f64>,
    aims: &'static [Aim],
) -> GridRow {
    GridRow { number, link, load, limit_seconds, aims, again: false }
}

impl GridRow {
    /// The same with little data: to see that it works.
    pub fn small(self) -> Self {
        let load = match self.load {
            Load::Large { bytes } => Load::Large { bytes: bytes / 32 },
            Load::Many { bytes, .. } => Load::Many { folders: 5, each: 100, bytes },
        };
        let part = load.bytes() as f64 / self.load.bytes() as f64;
        Self { load, limit_seconds: self.limit_seconds.map(|seconds| seconds * part), ..self }
    }

    /// What it is, for people.
    pub fn title(&self) -> String {
        format!("{}: {}", self.link.name(), self.load.describe())
    }

    /// When a run is stopped.
    pub fn at_most(&self, quick: bool) -> Duration {
        let seconds = match self.limit_seconds {
            _ if quick => 10.0,
            Some(limit) => (limit * 4.0).clamp(20.0, 40.0),
            None => 40.0,
        };
        Duration::from_secs_f64(seconds)
    }

    /// Bytes per second that the link can carry.
    pub fn limit_rate(&self) -> Option<f64> {
        Some(self.load.bytes() as f64 / self.limit_seconds?)
    }
}

#[cfg(test)]
mod tests;
