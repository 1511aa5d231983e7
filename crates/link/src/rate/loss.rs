//! Which losses are the path's own and which we cause.
//!
//! A path that loses at random loses the same share at any rate; a policer or a short buffer loses only
//! what is sent above its rate. So when more is lost than was expected, and no queue explains it, the
//! window is cut by just that share and the next rounds tell: loss that stays is the path's, loss that goes
//! was ours.

/// The most loss that is taken for the path's own.
const MOST_PATH_LOSS: f64 = 0.2;

/// Whoever takes loss for a full queue has about 1.22 packets / sqrt(loss) under way (Mathis et al., 1997). Where a path
/// loses at least this by itself and holds so many times as many packets, they hold no queue.
const LOSSY: f64 = 0.005;
const LOSS_BOUND: f64 = 1.22;
const BEYOND: f64 = 3.0;

/// Loss above expectation that is not worth an experiment.
const SLACK: f64 = 0.02;

/// Fewer packets than this say nothing about loss.
const ENOUGH_PACKETS: f64 = 48.0;

/// Losses come in clumps. How large these are is learnt from blocks of so many bytes, with such a weight for each.
const BLOCK: (f64, f64) = (96.0 * 1024.0, 0.04);

/// So many clumps must be expected before a test can show that loss is gone, unless it takes so many rounds.
const CLUMPS: f64 = 8.0;
const LONGEST_TEST: u32 = 16;

/// The weight of a round in the loss of the last ones.
const LATELY: f64 = 0.25;

/// A lane that wore down to this share of the window at which a policer was seen saw none.
const NO_POLICER: f64 = 0.9;

/// How many rounds the rate is held after a policer showed itself, at first and at most.
const HOLD: (u32, u32) = (8, 32);

/// After so many rounds without excess the path no longer counts as policed.
const POLICED_FOR: u32 = 60;

/// How much the window is cut to find out whether loss that was taken for the path's is ours.
const CHECK: f64 = 0.85;

/// Path loss above this is checked where no queue was ever seen, and again after so many rounds.
const CHECK_ABOVE: f64 = 0.03;
const CHECK_AGAIN: u32 = 40;

/// So many rounds in a row must lose too much before the window is cut; one where a policer is known.
const SUSPICIOUS: u32 = 3;

/// So many rounds after a cut the flow is even again, and so many more are looked at.
const SETTLING: u32 = 3;

/// A policed lane whose window grew by this much without excess is policed no longer.
const OUTGROWN: f64 = 1.15;

/// The queue that stands on the path, against the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Nearly none: loss is the path's, a policer's or a short buffer's.
    Empty,
    /// About the target.
    Standing,
    /// So long that it may overflow.
    Long,
}

/// What the loss of a round asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Go,
    /// Multiply the window by this and wait.
    Cut(f64),
    /// Keep the window.
    Hold,
    /// The cut was in vain; the window from before it may come back.
    Restore(f64),
    /// Send just what is delivered.
    Deliver,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    path: Option<f64>,
    /// How far the loss of a round usually is from the path's.
    deviation: f64,
    test: Option<Test>,
    /// The path's loss was never seen at a lower rate.
    unchecked: bool,
    since_check: u32,
    suspicious: u32,
    hold: u32,
    next_hold: u32,
    since_excess: u32,
    /// The window at which a policer was seen.
    policed: Option<f64>,
    clumps: Clumps,
    /// The loss of the last rounds.
    lately: f64,
    // Bytes since the last verdict, until they are enough for one.
    acked: f64,
    lost: f64,
}

/// How much of what is lost is lost together: the variance of the loss of a block against its mean, in bytes.
#[derive(Debug, Clone, Default)]
struct Clumps {
    total: f64,
    lost: f64,
    blocks: f64,
    mean: f64,
    mean_of_squares: f64,
}

impl Clumps {
    fn add(&mut self, acked: f64, lost: f64) {
        self.total += acked + lost;
        self.lost += lost;
        if self.total < BLOCK.0 {
            return;
        }
        self.blocks += 1.0;
        let weight = BLOCK.1.max(1.0 / self.blocks);
        self.mean += weight * (self.lost - self.mean);
        self.mean_of_squares += weight * (self.lost.powi(2) - self.mean_of_squares);
        (self.total, self.lost) = (0.0, 0.0);
    }

    /// In packets, 1 where each is lost on its own.
    fn size(&self, mtu: f64) -> f64 {
        let variance = self.mean_of_squares - self.mean.powi(2);
        (variance / self.mean.max(1.0) / mtu).max(1.0)
    }
}

#[derive(Debug, Clone)]
struct Test {
    since: f64,
    window: f64,
    loss: f64,
    /// The loss of the rounds before, where that was less: the round that gave cause was a bad one.
    usual: f64,
    cut: f64,
    check: bool,
    acked: f64,
    lost: f64,
    rounds: u32,
}

impl Losses {
    pub(super) fn expecting(loss: f64) -> Self {
        Self { path: Some(loss.clamp(0.0, MOST_PATH_LOSS)), ..Self::default() }
    }

    /// The share that the path loses by itself.
    pub(super) fn path(&self) -> f64 {
        self.path.unwrap_or(0.0)
    }

    /// Whether nobody who takes loss for a full queue can hold one on a path of so many packets.
    pub(super) fn lossy(&self, packets: f64) -> bool {
        self.path() > LOSSY && packets > BEYOND * LOSS_BOUND / self.path().sqrt()
    }

    pub(super) fn policed(&self) -> bool {
        self.policed.is_some()
    }

    pub(super) fn testing(&self) -> bool {
        self.test.is_some()
    }

    /// The start ended without a queue, so its losses may have been ours.
    pub(super) fn doubt(&mut self) {
        self.unchecked = true;
    }

    pub(super) fn acked(&mut self, sent: f64, bytes: f64) {
        self.acked += bytes;
        self.clumps.add(bytes, 0.0);
        if let Some(test) = self.test.as_mut().filter(|test| sent >= test.since) {
            test.acked += bytes;
        }
    }

    pub(super) fn lost(&mut self, sent: f64, bytes: f64) {
        self.lost += bytes;
        self.clumps.add(0.0, bytes);
        if let Some(test) = self.test.as_mut().filter(|test| sent >= test.since) {
            test.lost += bytes;
        }
    }

    /// Forgets what was counted but not judged, as after an outage.
    pub(super) fn forget_round(&mut self) {
        (self.acked, self.lost) = (0.0, 0.0);
        self.test = None;
    }

    /// More than the path's own loss, by more than chance explains: what a start-up ends at.
    pub(super) fn excess(&self, loss: f64, packets: f64) -> bool {
        packets >= ENOUGH_PACKETS && loss > self.path() + self.margin(packets)
    }

    /// The same on a path that is known, of `packets` of a size.
    pub(super) fn overflow(&self, loss: f64, packets: f64, mtu: f64) -> bool {
        self.excess(loss, packets)
            && loss > self.path() + self.margin(packets / self.clumps.size(mtu))
    }

    /// How much more than the path's own loss chance explains in so many packets, or clumps of them.
    fn margin(&self, packets: f64) -> f64 {
        let path = self.path();
        let chance = 3.0 * (path * (1.0 - path) / packets.max(1.0)).sqrt();
        SLACK.max(chance).max(2.5 * self.deviation)
    }

    /// Takes a part of a round's loss for the path's, since no queue stood that could have overflown.
    pub(super) fn meet(&mut self, loss: f64) {
        self.blend(loss, 0.2);
    }

    /// Takes this round's loss for the path's, as while the queue is known to be empty.
    pub(super) fn learn(&mut self, mtu: f64) {
        let total = self.acked + self.lost;
        if total >= ENOUGH_PACKETS * mtu {
            let loss = (self.lost / total).min(MOST_PATH_LOSS);
            self.path = Some(self.path.map_or(loss, |path| path.min(loss)));
            (self.acked, self.lost) = (0.0, 0.0);
        }
    }

    /// Judges at the end of a round.
    pub(super) fn judge(&mut self, now: f64, window: f64, mtu: f64, queue: Queue) -> Verdict {
        self.since_excess = self.since_excess.saturating_add(1);
        let outgrown = self.policed.is_some_and(|then| window > OUTGROWN * then);
        if outgrown || self.since_excess > POLICED_FOR {
            self.policed = None;
            self.next_hold = 0;
        }
        if self.test.is_some() {
            return self.judge_test(now, window, mtu);
        }
        let total = self.acked + self.lost;
        let packets = total / mtu;
        if packets < ENOUGH_PACKETS {
            return self.go();
        }
        let loss = self.lost / total;
        (self.acked, self.lost) = (0.0, 0.0);
        self.lately += LATELY * (loss - self.lately);
        if self.hold > 0 && self.hold + 2 > self.next_hold {
            // What is missing now was sent before the verdict.
            return self.go();
        }
        if queue != Queue::Empty {
            self.suspicious = 0;
            self.unchecked = false;
            self.since_check = 0;
            if queue == Queue::Standing {
                // It may have overflown for others.
                let much = loss > self.path() + self.margin(packets / self.clumps.size(mtu));
                self.blend(loss, if much { 0.03 } else { 0.1 });
            }
            return self.go();
        }
        self.since_check += 1;
        if self.path() > CHECK_ABOVE && (self.unchecked || self.since_check > CHECK_AGAIN) {
            return self.begin_test(now, window, loss, CHECK, true);
        }
        let clump = self.clumps.size(mtu);
        if loss > self.path() + self.margin(packets / clump) && self.path() < MOST_PATH_LOSS {
            if self.policed.is_some_and(|then| window < NO_POLICER * then) {
                // What a policer lets through does not wear down.
                (self.policed, self.hold, self.next_hold) = (None, 0, 0);
                self.blend(loss, 0.5);
                return Verdict::Go;
            }
            self.suspicious += 1;
            if self.suspicious < SUSPICIOUS && self.policed.is_none() {
                return Verdict::Hold;
            }
            let cut = 0.97 * (1.0 - loss) / (1.0 - self.path());
            return self.begin_test(now, window, loss, cut.max(0.5), false);
        }
        self.suspicious = 0;
        self.deviation += 0.1 * ((loss - self.path()).abs() - self.deviation);
        // A policed lane that grows causes losses; they must not be learnt bit by bit.
        if self.hold > 0 {
            self.blend(loss, 0.2);
        } else if self.policed.is_none() || loss < self.path() {
            self.blend(loss, 0.1);
        }
        self.go()
    }

    fn begin_test(&mut self, now: f64, window: f64, loss: f64, cut: f64, check: bool) -> Verdict {
        let usual = if self.policed.is_some() { loss } else { loss.min(self.lately) };
        let (acked, lost, rounds) = (0.0, 0.0, 0);
        let test = Test { since: now, window, loss, usual, cut, check, acked, lost, rounds };
        self.test = Some(test);
        self.unchecked = false;
        (self.since_check, self.suspicious) = (0, 0);
        Verdict::Cut(cut)
    }

    fn go(&mut self) -> Verdict {
        if self.hold > 0 {
            self.hold -= 1;
            return Verdict::Hold;
        }
        Verdict::Go
    }

    fn judge_test(&mut self, now: f64, window: f64, mtu: f64) -> Verdict {
        let clump = self.clumps.size(mtu);
        let Some(test) = self.test.as_mut() else { return Verdict::Go };
        test.rounds += 1;
        if test.rounds == SETTLING {
            // Only now the gaps that the cut left have closed.
            (test.since, test.acked, test.lost) = (now, 0.0, 0.0);
        }
        let total = test.acked + test.lost;
        let enough = test.loss * total >= CLUMPS * clump * mtu || test.rounds >= LONGEST_TEST;
        if test.rounds < 2 * SETTLING || total <= 0.0 || !enough {
            return Verdict::Hold;
        }
        let after = test.lost / total;
        let test = test.clone();
        self.test = None;
        (self.acked, self.lost) = (0.0, 0.0);
        // What would be lost now if all beyond a rate were thrown away.
        let rest = if test.check { 0.0 } else { self.path() };
        let expected = (1.0 - (1.0 - test.loss) / test.cut).max(rest);
        if after > 0.5 * (test.usual + expected) {
            self.path = Some(after.min(test.loss).min(MOST_PATH_LOSS));
            return Verdict::Restore(test.window);
        }
        if test.check {
            self.path = Some(0.0);
        } else {
            self.blend(after, 0.2);
        }
        self.policed = Some(self.policed.map_or(window, |then| then.max(window)));
        self.since_excess = 0;
        self.next_hold = (self.next_hold * 2).clamp(HOLD.0, HOLD.1);
        self.hold = self.next_hold;
        Verdict::Deliver
    }

    /// Follows the loss of a round that nothing speaks against.
    fn blend(&mut self, loss: f64, step: f64) {
        let path = self.path.unwrap_or(loss);
        self.path = Some((path + step * (loss - path)).min(MOST_PATH_LOSS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_lossy_where_who_takes_loss_for_a_full_queue_has_a_third_of_what_it_holds() {
        // What it loses by itself, and 3 x 1.22 / sqrt(loss) packets.
        for (path, bound) in [(0.0051, 51.2), (0.01, 36.6), (0.02, 25.9), (0.2, 8.18)] {
            let losses = Losses::expecting(path);
            assert!(losses.lossy(1.01 * bound), "{path}, {bound} packets");
            assert!(!losses.lossy(0.99 * bound), "{path}, {bound} packets");
        }
        for little in [Losses::default(), Losses::expecting(0.0), Losses::expecting(LOSSY)] {
            assert!(!little.lossy(1e9), "{little:?}");
        }
    }
}
