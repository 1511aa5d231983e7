//! What holds a transfer back, with the figure that says so. Either end may have found it out; the
//! kinds name the source and the target, not this end and the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits of a packed bound that hold its figure.
const FIGURE_BITS: u32 = 56;

/// The kinds of things that can hold a transfer back. The numbers are those of the wire
/// (`docs/formats/protocol.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BoundKind {
    /// Nothing that is known, or not yet.
    #[default]
    Unknown = 0,
    /// The walk through the source's tree finds entries no faster. Figure: entries per second.
    Walk = 1,
    /// The disk at the source gives no more. Figure: bytes per second read.
    SourceDisk = 2,
    /// The processor at the source. Figure: thousandths of a core in use.
    SourceCpu = 3,
    /// The disk at the target takes no more. Figure: bytes per second stored.
    TargetDisk = 4,
    /// The processor at the target. Figure: thousandths of a core in use.
    TargetCpu = 5,
    /// A rate that somebody set. Figure: that rate in bytes per second.
    Limit = 6,
    /// Packets that the path loses. Figure: lost packets per million.
    PathLoss = 7,
    /// Something on the path that drops what is above a rate. Figure: bytes per second that pass.
    Policer = 8,
    /// What the path carries. Figure: bytes per second.
    Path = 9,
    /// The window that the target's end grants. Figure: thousandths of the time spent waiting for it.
    PeerWindow = 10,
    /// The buffers of a socket at the source. Figure: thousandths of the time spent waiting for it.
    SocketBuffer = 11,
    /// Answers of the other end, one after another. Figure: the round trip in microseconds.
    RoundTrips = 12,
    /// All is sent; the last files are being finished. Figure: entries that are not.
    Finishing = 13,
}

/// All kinds, by their number.
pub const BOUND_KINDS: [BoundKind; 14] = [
    BoundKind::Unknown,
    BoundKind::Walk,
    BoundKind::SourceDisk,
    BoundKind::SourceCpu,
    BoundKind::TargetDisk,
    BoundKind::TargetCpu,
    BoundKind::Limit,
    BoundKind::PathLoss,
    BoundKind::Policer,
    BoundKind::Path,
    BoundKind::PeerWindow,
    BoundKind::SocketBuffer,
    BoundKind::RoundTrips,
    BoundKind::Finishing,
];

impl BoundKind {
    /// The kind of this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        BOUND_KINDS.get(usize::from(code)).copied()
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What holds a transfer back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// What it is.
    pub kind: BoundKind,
    /// How much, in the unit of the kind; at most [`Bound::MOST`].
    pub figure: u64,
}

impl Bound {
    /// The largest figure.
    pub const MOST: u64 = (1 << FIGURE_BITS) - 1;

    /// A bound of this kind; a figure that is too large is cut to the largest.
    #[must_use]
    pub fn new(kind: BoundKind, figure: u64) -> Self {
        Self { kind, figure: figure.min(Self::MOST) }
    }
}

/// The bound in force, and how long each kind has been.
#[derive(Debug, Default)]
pub struct BoundGauge {
    now: AtomicU64,
    micros: [AtomicU64; BOUND_KINDS.len()],
    figures: [AtomicU64; BOUND_KINDS.len()],
}

impl BoundGauge {
    /// This bound has been in force for so long, up to now.
    pub fn note(&self, bound: Bound, lasted: Duration) {
        let packed = u64::from(bound.kind.code()) << FIGURE_BITS | bound.figure.min(Bound::MOST);
        self.now.store(packed, Ordering::Relaxed);
        let micros = u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX);
        let place = usize::from(bound.kind.code());
        self.micros[place].fetch_add(micros, Ordering::Relaxed);
        self.figures[place].store(bound.figure, Ordering::Relaxed);
    }

    /// The bound in force.
    #[must_use]
    pub fn now(&self) -> Bound {
        let packed = self.now.load(Ordering::Relaxed);
        // Only `note` writes it, so the code is that of a kind.
        let kind = BoundKind::from_code((packed >> FIGURE_BITS) as u8).unwrap_or_default();
        Bound { kind, figure: packed & Bound::MOST }
    }

    /// This kind with the figure that it had last.
    #[must_use]
    pub fn last(&self, kind: BoundKind) -> Bound {
        let figure = &self.figures[usize::from(kind.code())];
        Bound::new(kind, figure.load(Ordering::Relaxed))
    }

    /// How long each kind has been in force, those that were not left out, the longest first.
    #[must_use]
    pub fn times(&self) -> Vec<(BoundKind, Duration)> {
        let mut times: Vec<_> = BOUND_KINDS
            .iter()
            .zip(&self.micros)
            .map(|(kind, micros)| (*kind, Duration::from_micros(micros.load(Ordering::Relaxed))))
            .filter(|(_, time)| !time.is_zero())
            .collect();
        times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_gives_back_what_it_was_told() {
        for (number, kind) in BOUND_KINDS.iter().enumerate() {
            assert_eq!(usize::from(kind.code()), number);
            assert_eq!(BoundKind::from_code(kind.code()), Some(*kind));
            for figure in [0, 1, Bound::MOST] {
                let gauge = BoundGauge::default();
                gauge.note(Bound::new(*kind, figure), Duration::ZERO);
                assert_eq!(gauge.now(), Bound { kind: *kind, figure });
            }
        }
        assert_eq!(BoundKind::from_code(BOUND_KINDS.len() as u8), None);
        assert_eq!(Bound::new(BoundKind::Path, u64::MAX).figure, Bound::MOST);
    }

    #[test]
    fn times_add_up_by_kind() {
        let gauge = BoundGauge::default();
        let second = Duration::from_secs(1);
        gauge.note(Bound::new(BoundKind::Path, 5), second);
        gauge.note(Bound::new(BoundKind::TargetDisk, 5), second * 5);
        gauge.note(Bound::new(BoundKind::Path, 7), second);
        let times = gauge.times();
        assert_eq!(times, [(BoundKind::TargetDisk, second * 5), (BoundKind::Path, second * 2)]);
        assert_eq!(gauge.now(), Bound { kind: BoundKind::Path, figure: 7 });
        assert_eq!(gauge.last(BoundKind::TargetDisk).figure, 5);
    }
}
