//! What holds a transfer back, in words: a few for the progress line, and a sentence with what to do
//! about it. Pure; every statement holds the figure that it rests on.

use std::time::Duration;

use events::{Bound, BoundKind};

use crate::units;

/// Which part of a transfer this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// It sends.
    Source,
    /// It receives.
    Target,
    /// Both.
    Both,
    /// It has the copy made by two others.
    Neither,
}

impl Here {
    /// The end of the source, as `CPU here` or `CPU there`.
    fn source(self) -> &'static str {
        match self {
            Self::Source | Self::Both => "here",
            Self::Target => "there",
            Self::Neither => "at the source",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Target | Self::Both => "here",
            Self::Source => "there",
            Self::Neither => "at the target",
        }
    }
}

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

/// Thousandths of a core as cores.
pub fn cores(thousandths: u64) -> String {
    format!("{:.1} cores", thousandths as f64 / 1000.0)
}

/// A few words with the figure, to stand behind `by`; nothing while nothing is known. A figure of zero is one
/// that is not known.
pub fn words(bound: Bound, here: Here) -> Option<String> {
    if bound.kind == BoundKind::Unknown {
        return None;
    }
    if bound.figure == 0 {
        return Some(kind_words(bound.kind, here));
    }
    let figure = bound.figure;
    let rate = || units::rate(figure as f64);
    let kind = kind_words(bound.kind, here);
    Some(match bound.kind {
        BoundKind::Unknown => return None,
        BoundKind::Limit => format!("the limit of {}", rate()),
        BoundKind::PathLoss => format!("{kind} {}", percent(figure as f64 / 1e6)),
        BoundKind::SourceDisk | BoundKind::TargetDisk | BoundKind::Policer | BoundKind::Path => {
            format!("{kind} at {}", rate())
        }
        BoundKind::Walk => format!("{kind} ({} per second)", entries(figure)),
        BoundKind::SourceCpu | BoundKind::TargetCpu => format!("{kind} ({})", cores(figure)),
        BoundKind::PeerWindow | BoundKind::SocketBuffer => {
            format!("{kind} ({} of the time)", percent(figure as f64 / 1e3))
        }
        BoundKind::RoundTrips => format!("{kind} ({} ms each)", millis(figure)),
        BoundKind::Finishing => format!("{kind} ({figure} left)"),
    })
}

/// A kind alone, for shares of time and where there is no room for its figure.
pub fn kind_words(kind: BoundKind, here: Here) -> String {
    match kind {
        BoundKind::Unknown => "nothing that is known",
        BoundKind::Walk => "walking the tree",
        BoundKind::SourceDisk => "the sending disk",
        BoundKind::SourceCpu => return format!("CPU {}", here.source()),
        BoundKind::TargetDisk => "the receiving disk",
        BoundKind::TargetCpu => return format!("CPU {}", here.target()),
        BoundKind::Limit => "a limit",
        BoundKind::PathLoss => "path loss",
        BoundKind::Policer => "a policer",
        BoundKind::Path => "the path",
        BoundKind::PeerWindow => "the receiver's window",
        BoundKind::SocketBuffer => "socket buffers",
        BoundKind::RoundTrips => "waiting for answers",
        BoundKind::Finishing => "finishing files",
    }
    .to_owned()
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Microseconds as milliseconds, with the digits that say something.
pub fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1e3;
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.0}") }
}

/// The name of a kind in JSON.
pub fn name(kind: BoundKind) -> &'static str {
    match kind {
        BoundKind::Unknown => "unknown",
        BoundKind::Walk => "walk",
        BoundKind::SourceDisk => "source_disk",
        BoundKind::SourceCpu => "source_cpu",
        BoundKind::TargetDisk => "target_disk",
        BoundKind::TargetCpu => "target_cpu",
        BoundKind::Limit => "limit",
        BoundKind::PathLoss => "path_loss",
        BoundKind::Policer => "policer",
        BoundKind::Path => "path",
        BoundKind::PeerWindow => "peer_window",
        BoundKind::SocketBuffer => "socket_buffer",
        BoundKind::RoundTrips => "round_trips",
        BoundKind::Finishing => "finishing",
    }
}

/// The figure of a bound in JSON, in the unit that its key names.
pub fn figure(bound: Bound) -> Option<(&'static str, f64)> {
    let figure = bound.figure as f64;
    Some(match bound.kind {
        BoundKind::Unknown => return None,
        BoundKind::Walk => ("entries_per_second", figure),
        BoundKind::SourceDisk
        | BoundKind::TargetDisk
        | BoundKind::Limit
        | BoundKind::Policer
        | BoundKind::Path => ("bytes_per_second", figure),
        BoundKind::SourceCpu | BoundKind::TargetCpu => ("cores", figure / 1e3),
        BoundKind::PathLoss => ("loss", figure / 1e6),
        BoundKind::PeerWindow | BoundKind::SocketBuffer => ("time_share", figure / 1e3),
        BoundKind::RoundTrips => ("seconds", figure / 1e6),
        BoundKind::Finishing => ("entries", figure),
    })
}

/// A whole sentence, with the figure and what to change.
pub fn advice(bound: Bound, here: Here) -> Option<String> {
    let figure = bound.figure;
    let rate = || units::rate(figure as f64);
    let share = || percent(figure as f64 / 1e3);
    Some(match bound.kind {
        BoundKind::Unknown => return None,
        BoundKind::Walk => format!(
            "the walk finds {} per second {}: only a faster disk there helps, or fewer files",
            entries(figure),
            here.source()
        ),
        BoundKind::SourceDisk => format!(
            "the disk {} gives {}: read from a faster one, or see what else uses it",
            here.source(),
            rate()
        ),
        BoundKind::TargetDisk => format!(
            "the disk {} takes {}: write to a faster one, or see what else uses it",
            here.target(),
            rate()
        ),
        BoundKind::SourceCpu => processor(figure, here.source()),
        BoundKind::TargetCpu => processor(figure, here.target()),
        BoundKind::Limit => format!(
            "a limit of {} is set: raise --limit, or a rate of --pace, or max-rate of this key at the other end",
            rate()
        ),
        BoundKind::PathLoss => format!(
            "the path loses {} of the packets: what is lost is sent again; a cable in place of radio, or \
             another route, would help",
            percent(figure as f64 / 1e6)
        ),
        BoundKind::Policer => format!(
            "something on the path drops what is above {}: hold the rate below that, as with --pace {}kB",
            rate(),
            figure * 95 / 100 / 1000
        ),
        BoundKind::Path => {
            format!(
                "the path carries {}: only a faster link or less traffic beside it helps",
                rate()
            )
        }
        BoundKind::PeerWindow => format!(
            "data waited {} of the time for the window that the receiving end grants: that end may have \
             many peers, or small socket buffers",
            share()
        ),
        BoundKind::SocketBuffer => format!(
            "data waited {} of the time for room in the send buffer {}: allow larger ones with\n  \
             sysctl -w net.core.wmem_max=8388608",
            share(),
            here.source()
        ),
        BoundKind::RoundTrips => format!(
            "each answer takes {} ms, and there was nothing to send meanwhile",
            millis(figure)
        ),
        BoundKind::Finishing => {
            "all had been sent, and the last files were being finished and made durable".to_owned()
        }
    })
}

fn processor(thousandths: u64, place: &str) -> String {
    format!(
        "the processor {place} is the limit, with {} in use: see what else runs there, or use a faster machine",
        cores(thousandths)
    )
}

/// What held a job back for which part of its time, as `the path 80%, finishing files 9%`: the kinds that had at
/// least a twentieth of it, the longest first.
pub fn shares(times: &[(BoundKind, Duration)], here: Here) -> Option<String> {
    let known: Vec<_> = times.iter().filter(|(kind, _)| *kind != BoundKind::Unknown).collect();
    let all: f64 = known.iter().map(|(_, time)| time.as_secs_f64()).sum();
    if all <= 0.0 {
        return None;
    }
    let parts: Vec<String> = known
        .iter()
        .map(|(kind, time)| (kind, time.as_secs_f64() / all))
        .filter(|(_, share)| *share >= 0.05)
        .map(|(kind, share)| format!("{} {:.0}%", kind_words(*kind, here), share * 100.0))
        .collect();
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use events::BOUND_KINDS;

    use super::*;

    #[test]
    fn every_kind_has_words_a_figure_and_advice() {
        for kind in BOUND_KINDS {
            let bound = Bound::new(kind, 1000);
            let is_known = kind != BoundKind::Unknown;
            for here in [Here::Source, Here::Target, Here::Both, Here::Neither] {
                assert_eq!(words(bound, here).is_some(), is_known, "{kind:?}");
                assert_eq!(advice(bound, here).is_some(), is_known, "{kind:?}");
            }
            assert_eq!(figure(bound).is_some(), is_known, "{kind:?}");
        }
    }

    #[test]
    fn words_hold_the_figure_and_name_ends_as_seen_from_here() {
        let check = |kind, figure, here, expected: &str| {
            assert_eq!(words(Bound::new(kind, figure), here).unwrap(), expected);
        };
        let source = |kind, figure, expected| check(kind, figure, Here::Source, expected);
        source(BoundKind::Walk, 1200, "walking the tree (1200 entries per second)");
        source(BoundKind::SourceDisk, 258_200_000, "the sending disk at 258.2 MB/s");
        source(BoundKind::SourceCpu, 1100, "CPU here (1.1 cores)");
        check(BoundKind::SourceCpu, 1100, Here::Target, "CPU there (1.1 cores)");
        source(BoundKind::TargetDisk, 20_000_000, "the receiving disk at 20.0 MB/s");
        source(BoundKind::TargetCpu, 1900, "CPU there (1.9 cores)");
        check(BoundKind::TargetCpu, 1900, Here::Both, "CPU here (1.9 cores)");
        source(BoundKind::Limit, 50_000, "the limit of 50.0 kB/s");
        source(BoundKind::PathLoss, 50_000, "path loss 5.0%");
        source(BoundKind::Policer, 12_500_000, "a policer at 12.5 MB/s");
        source(BoundKind::Path, 23_000_000, "the path at 23.0 MB/s");
        source(BoundKind::PeerWindow, 800, "the receiver's window (80% of the time)");
        source(BoundKind::SocketBuffer, 60, "socket buffers (6.0% of the time)");
        source(BoundKind::RoundTrips, 50_400, "waiting for answers (50 ms each)");
        source(BoundKind::RoundTrips, 800, "waiting for answers (0.80 ms each)");
        source(BoundKind::Finishing, 7, "finishing files (7 left)");
    }

    #[test]
    fn a_figure_that_is_not_known_is_not_shown() {
        for kind in BOUND_KINDS.into_iter().filter(|kind| *kind != BoundKind::Unknown) {
            let words = words(Bound::new(kind, 0), Here::Source).unwrap();
            assert!(!words.contains(|character: char| character.is_ascii_digit()), "{words}");
        }
    }

    #[test]
    fn shares_name_what_mattered() {
        let seconds = |kind, seconds| (kind, Duration::from_secs(seconds));
        let times = [
            seconds(BoundKind::Path, 80),
            seconds(BoundKind::Unknown, 40),
            seconds(BoundKind::Walk, 19),
            seconds(BoundKind::Finishing, 1),
        ];
        let text = shares(&times, Here::Source).unwrap();
        assert_eq!(text, "the path 80%, walking the tree 19%");
        assert_eq!(shares(&times[1..2], Here::Source), None);
    }
}
