//! How many data connections one direction uses. Pure: times and counts in, a wish out.
//! One more is tried while the sender always has something to send and the peer's window is not what holds
//! it; it stays only if more arrives with it than without. A connection more costs the paths of others, so
//! the first that brings nothing ends the search.

use std::time::Duration;

/// How long a number of connections is watched before it is judged.
const TRIAL: Duration = Duration::from_millis(700);

/// How long a new connection gets to find its rate, at least, and in round trips.
const WARM_UP: Duration = Duration::from_millis(300);
const WARM_UP_TRIPS: u32 = 10;

/// How much more must arrive for one more connection to stay: a tenth.
const GAIN: (u64, u64) = (11, 10);

/// Below this round-trip time a path counts as short.
pub(crate) const SHORT_TRIP: Duration = Duration::from_millis(5);

/// The most connections over short and long paths.
const MOST_SHORT: u16 = 4;
const MOST_LONG: u16 = 16;

/// How many connections a path may have.
pub(crate) fn most(rtt: Duration) -> u16 {
    if rtt < SHORT_TRIP { MOST_SHORT } else { MOST_LONG }
}

/// How many connections a path begins with.
pub(crate) fn first(rtt: Duration) -> u16 {
    if rtt < SHORT_TRIP { 1 } else { 2 }
}

/// What was seen since the last look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// Since the beginning of the lane.
    pub(crate) now: Duration,
    /// Bytes that the peer has acknowledged, since the beginning.
    pub(crate) acknowledged: u64,
    /// Whether something waited to be sent all the time.
    pub(crate) busy: bool,
    /// Whether it was the peer that did not take more.
    pub(crate) peer_limited: bool,
    /// The data connections that are open.
    pub(crate) open: u16,
    /// Whether one was open that is no more.
    pub(crate) lost: bool,
    pub(crate) rtt: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// How many connections new parcels go over.
    pub(crate) using: u16,
    /// Whether another one should be opened.
    pub(crate) open: bool,
}

/// The search for one direction.
#[derive(Debug)]
pub(crate) struct Growth {
    using: u16,
    phase: Phase,
    /// Bytes per second before the last step up, until that step is judged.
    before: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing is watched since the sender has too little to send.
    Idle,
    /// What comes is not yet counted.
    WarmUp { until: Duration },
    /// Counted since.
    Trial { since: Duration, acknowledged: u64 },
    /// Another connection is asked for, and this much came per second without it.
    Asking { until: Duration, rate: u64 },
    /// The number is found.
    Settled,
}

impl Growth {
    pub(crate) fn new(using: u16) -> Self {
        Self { using: using.max(1), phase: Phase::Idle, before: None }
    }

    /// Takes a look in; to be called a few times a second.
    pub(crate) fn look(&mut self, sight: Sight) -> Wish {
        if sight.lost {
            // The peer has no room for more than there are.
            self.using = self.using.min(sight.open).max(1);
            self.phase = Phase::Settled;
        }
        let warm = sight.now + WARM_UP.max(sight.rtt * WARM_UP_TRIPS);
        if !sight.busy || sight.peer_limited {
            // What is measured now says nothing of the path; nor does what was, if no step followed it.
            if !matches!(self.phase, Phase::Settled) {
                self.phase = Phase::Idle;
            }
            return self.wish(false);
        }
        match self.phase {
            Phase::Settled => {}
            Phase::Idle => self.phase = Phase::WarmUp { until: warm },
            Phase::WarmUp { until } if sight.now >= until => {
                let acknowledged = sight.acknowledged;
                self.phase = Phase::Trial { since: sight.now, acknowledged };
            }
            Phase::Trial { since, acknowledged } if sight.now >= since + TRIAL => {
                let millis = (sight.now - since).as_millis().max(1) as u64;
                let rate =
                    sight.acknowledged.saturating_sub(acknowledged).saturating_mul(1000) / millis;
                return self.judge(rate, sight);
            }
            Phase::Asking { rate, .. } if sight.open > self.using => {
                self.using += 1;
                self.before = Some(rate);
                self.phase = Phase::WarmUp { until: warm };
            }
            // It is not to be had.
            Phase::Asking { until, .. } if sight.now >= until => self.phase = Phase::Settled,
            Phase::WarmUp { .. } | Phase::Trial { .. } | Phase::Asking { .. } => {}
        }
        self.wish(false)
    }

    fn judge(&mut self, rate: u64, sight: Sight) -> Wish {
        let before = self.before.take();
        if before.is_some_and(|before| rate.saturating_mul(GAIN.1) < before.saturating_mul(GAIN.0))
        {
            self.using = self.using.saturating_sub(1).max(1);
            self.phase = Phase::Settled;
            return self.wish(false);
        }
        if self.using >= most(sight.rtt) {
            self.phase = Phase::Settled;
            return self.wish(false);
        }
        self.phase = Phase::Asking { until: sight.now + Duration::from_secs(5), rate };
        self.wish(sight.open <= self.using)
    }

    fn wish(&self, open: bool) -> Wish {
        Wish { using: self.using, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the search against a path that gives `rate(using)` bytes per second; the number it ends with,
    /// and how many were opened.
    fn search(rtt_ms: u64, rate: impl Fn(u16) -> u64) -> (u16, u16) {
        let first = first(Duration::from_millis(rtt_ms));
        let (mut growth, mut open, mut acknowledged, mut using) =
            (Growth::new(first), first, 0, first);
        for step in 0..2000u64 {
            acknowledged += rate(using) / 10;
            let wish = growth.look(Sight {
                now: Duration::from_millis(step * 100),
                acknowledged,
                busy: true,
                peer_limited: false,
                open,
                lost: false,
                rtt: Duration::from_millis(rtt_ms),
            });
            using = wish.using;
            open += u16::from(wish.open);
            assert!(using >= 1 && using <= open);
        }
        (using, open)
    }

    #[test]
    fn connections_are_added_while_they_help() {
        let each = |per: u64, limit: u64| move |using: u16| (u64::from(using) * per).min(limit);
        assert_eq!(search(1, each(100_000_000, 100_000_000)), (1, 2));
        assert_eq!(search(1, each(100_000_000, 200_000_000)), (2, 3));
        assert_eq!(search(1, each(100_000_000, u64::MAX)), (4, 4));
        assert_eq!(search(100, each(1_000_000, 8_000_000)), (8, 9));
        assert_eq!(search(100, each(1_000_000, u64::MAX)).0, 11, "one in eleven is below a tenth");
    }

    #[test]
    fn an_idle_or_held_sender_asks_for_nothing() {
        for (busy, peer_limited) in [(false, false), (true, true)] {
            let mut growth = Growth::new(1);
            for step in 0..100 {
                let wish = growth.look(Sight {
                    now: Duration::from_millis(step * 100),
                    acknowledged: step * 1000,
                    busy,
                    peer_limited,
                    open: 1,
                    lost: false,
                    rtt: SHORT_TRIP,
                });
                assert_eq!(wish, Wish { using: 1, open: false });
            }
        }
    }

    #[test]
    fn a_connection_that_cannot_be_had_ends_the_search() {
        let mut growth = Growth::new(1);
        let mut asked = 0;
        for step in 0..1000 {
            let wish = growth.look(Sight {
                now: Duration::from_millis(step * 100),
                acknowledged: step * 1_000_000,
                busy: true,
                peer_limited: false,
                open: 1,
                lost: false,
                rtt: Duration::from_millis(50),
            });
            asked += u32::from(wish.open);
            assert_eq!(wish.using, 1);
        }
        assert_eq!(asked, 1);
    }

    fn at(step: u64, busy: bool, open: u16, acknowledged: u64) -> Sight {
        let now = Duration::from_millis(step * 100);
        Sight {
            now,
            acknowledged,
            busy,
            peer_limited: false,
            open,
            lost: false,
            rtt: SHORT_TRIP / 5,
        }
    }

    #[test]
    fn a_pause_while_asking_is_no_reason_to_go_back() {
        let mut growth = Growth::new(1);
        let mut asked = false;
        for step in 0..1000 {
            let open = if step < 14 { 1 } else { 2 };
            let wish = growth.look(at(step, step != 12, open, step * 1_000_000));
            asked |= wish.open;
            assert!(wish.using >= 1, "nothing is sent from step {step} on");
            assert!(step != 12 || asked, "the pause comes too early to mean anything");
        }
        assert_eq!(growth.using, 1, "the second brought nothing");
    }

    #[test]
    fn the_search_ends_where_a_connection_is_lost() {
        let mut growth = Growth::new(2);
        for step in 0..100 {
            let sight = at(step, true, if step < 50 { 2 } else { 1 }, step * 1_000_000);
            let wish = growth.look(Sight { lost: step >= 50, ..sight });
            assert_eq!(wish.using, if step < 50 { 2 } else { 1 });
            assert!(step < 50 || !wish.open);
        }
        assert_eq!(Growth::new(1).look(Sight { lost: true, ..at(0, true, 0, 0) }).using, 1);
    }

    /// Chance that is the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    #[test]
    fn whatever_happens_one_is_used_and_a_step_down_takes_back_a_step_up() {
        let (mut ups, mut downs) = (0, 0);
        for seed in 0..2000 {
            let mut chance = Chance(seed);
            let first = 1 + chance.below(2) as u16;
            let (mut growth, mut open, mut coming) = (Growth::new(first), 0, first);
            let (mut using, mut acknowledged, mut last_was_up) = (first, 0, false);
            let idle_in = 2 + chance.below(40);
            for step in 0..300 {
                acknowledged += chance.below(1_000_000);
                if coming > 0 && chance.below(4) == 0 {
                    (open, coming) = (open + 1, coming - 1);
                }
                let mut sight = at(step, chance.below(idle_in) != 0, open, acknowledged);
                sight.peer_limited = chance.below(60) == 0;
                let wish = growth.look(sight);
                coming += u16::from(wish.open);
                assert!(wish.using >= 1, "seed {seed}, step {step}");
                if wish.using < using {
                    assert!(last_was_up && wish.using == using - 1, "seed {seed}, step {step}");
                    (last_was_up, downs) = (false, downs + 1);
                } else if wish.using > using {
                    assert!(
                        wish.using == using + 1 && wish.using <= open,
                        "seed {seed}, step {step}"
                    );
                    (last_was_up, ups) = (true, ups + 1);
                }
                using = wish.using;
            }
        }
        assert!(ups > 100 && downs > 100, "{ups} steps up and {downs} down prove nothing");
    }
}
