//! Whether a transfer that runs would do better over the other kind of lane. A move is a trial: the
//! goodput after it is held against the one before, and what was better is gone back to. A transfer
//! moves for this reason at most twice.

use link::{LaneKind, NEAR};

use std::time::Duration;

/// Seconds in a row that must speak for the other kind.
const CONVINCED: u32 = 3;
/// Seconds that a trial runs, of which the first is not counted.
const TRIAL: u32 = 4;
/// A job that ends sooner is not worth a move.
const WORTH: f64 = 10.0;
/// Loss that TCP suffers from over a long path.
const LOSSY: f64 = 0.003;
/// Goodput, in bytes per second, above which the processor time that QUIC takes may be what bounds.
const FAST: f64 = 60e6;

/// One second of a transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    pub(super) kind: LaneKind,
    /// The least round-trip time.
    pub(super) rtt: Duration,
    /// The share of packets lost in this second.
    pub(super) loss: f64,
    /// Bytes that arrived in this second.
    pub(super) goodput: f64,
    /// Bytes that are still to come, if that is known.
    pub(super) left: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    /// Counting seconds that speak for the other kind.
    #[default]
    Watching,
    /// Moved, with this goodput before.
    Trial {
        before: f64,
        seconds: u32,
        sum: f64,
    },
    Settled,
}

/// Watches one transfer.
#[derive(Debug, Default)]
pub(super) struct Mover {
    state: State,
    /// Seconds that have spoken for the other kind one after another, and their goodput summed up.
    in_a_row: u32,
    sum: f64,
}

impl Mover {
    /// Takes a second of the transfer; the kind of lane to move to, if any.
    pub(super) fn second(&mut self, second: Second) -> Option<LaneKind> {
        let other = match second.kind {
            LaneKind::Quic => LaneKind::Tcp,
            LaneKind::Tcp => LaneKind::Quic,
            // It is the last resort, and nothing else got through.
            LaneKind::Pipe => return None,
        };
        match &mut self.state {
            State::Settled => None,
            State::Watching => {
                if !speaks_for_other(&second) {
                    (self.in_a_row, self.sum) = (0, 0.0);
                    return None;
                }
                self.in_a_row += 1;
                self.sum += second.goodput;
                let goodput = self.sum / f64::from(self.in_a_row);
                let left = second.left.map_or(f64::INFINITY, |left| left as f64 / goodput.max(1.0));
                (self.in_a_row >= CONVINCED && left > WORTH).then_some(other)
            }
            State::Trial { before, seconds, sum } => {
                *seconds += 1;
                if *seconds > 1 {
                    *sum += second.goodput;
                }
                if *seconds < TRIAL {
                    return None;
                }
                let back = *sum / f64::from(TRIAL - 1) < *before * 0.95;
                self.state = State::Settled;
                back.then_some(other)
            }
        }
    }

    /// The transfer goes on over another lane because this said so.
    pub(super) fn moved(&mut self) {
        if matches!(self.state, State::Watching) && self.in_a_row > 0 {
            let before = self.sum / f64::from(self.in_a_row);
            self.state = State::Trial { before, seconds: 0, sum: 0.0 };
        }
    }

    /// The other kind does not get through, or the lane was changed for another reason.
    pub(super) fn settle(&mut self) {
        self.state = State::Settled;
    }
}

fn speaks_for_other(second: &Second) -> bool {
    let near = second.rtt < NEAR;
    match second.kind {
        LaneKind::Tcp => !near && second.loss >= LOSSY,
        LaneKind::Quic => near && second.loss < LOSSY && second.goodput > FAST,
        LaneKind::Pipe => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(kind: LaneKind, rtt_ms: u64, loss: f64, goodput: f64) -> Second {
        Second { kind, rtt: Duration::from_millis(rtt_ms), loss, goodput, left: None }
    }

    #[test]
    fn loss_on_a_long_path_speaks_against_tcp() {
        let mut mover = Mover::default();
        let lossy = second(LaneKind::Tcp, 80, 0.01, 2e6);
        assert_eq!(mover.second(lossy), None);
        assert_eq!(mover.second(lossy), None);
        assert_eq!(mover.second(lossy), Some(LaneKind::Quic));
        mover.moved();
        let better = second(LaneKind::Quic, 80, 0.01, 20e6);
        for _ in 0..20 {
            assert_eq!(mover.second(better), None);
        }
    }

    #[test]
    fn what_was_better_is_gone_back_to_and_that_is_the_end() {
        let mut mover = Mover::default();
        let near = second(LaneKind::Quic, 1, 0.0, 400e6);
        let moves: Vec<_> = (0..3).map(|_| mover.second(near)).collect();
        assert_eq!(moves, [None, None, Some(LaneKind::Tcp)]);
        mover.moved();
        let worse = second(LaneKind::Tcp, 1, 0.0, 300e6);
        let moves: Vec<_> = (0..4).map(|_| mover.second(worse)).collect();
        assert_eq!(moves, [None, None, None, Some(LaneKind::Quic)]);
        mover.moved();
        for _ in 0..20 {
            assert_eq!(mover.second(near), None);
        }
    }

    #[test]
    fn short_jobs_and_calm_paths_stay() {
        let mut mover = Mover::default();
        for _ in 0..10 {
            assert_eq!(mover.second(second(LaneKind::Tcp, 80, 0.0, 2e6)), None);
            assert_eq!(mover.second(second(LaneKind::Quic, 80, 0.05, 2e6)), None);
            let left = Some(10_000_000);
            let ends = Second { left, ..second(LaneKind::Tcp, 80, 0.05, 2e6) };
            assert_eq!(mover.second(ends), None);
        }
    }
}
