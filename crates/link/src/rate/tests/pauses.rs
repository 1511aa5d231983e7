//! A machine that has other work to do: at random times it handles nothing for a while.

use badlink::Nanos;

use crate::rig::Random;

/// When a machine is held up, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Pauses {
    every: Nanos,
    length: (Nanos, Nanos),
    random: Random,
    from: Nanos,
    until: Nanos,
    /// The time was read before this pause and the packets after it, as a receive loop does.
    stale: bool,
}

impl Pauses {
    /// Pauses of between `shortest` and `longest`, each after some `every` on average.
    pub(super) fn new(every: Nanos, shortest: Nanos, longest: Nanos, seed: u64) -> Self {
        let (from, until, stale) = (0, 0, false);
        Self { every, length: (shortest, longest), random: Random(seed), from, until, stale }
    }

    /// Until when the machine is held up at `now`, if it is.
    pub(super) fn held(&mut self, now: Nanos) -> Option<Nanos> {
        while now > self.until {
            let wait = -(1.0 - self.unit()).ln() * self.every as f64;
            let span = (self.length.1 - self.length.0) as f64;
            self.from = self.until + wait as Nanos;
            self.until = self.from + self.length.0 + (span * self.unit()) as Nanos + 1;
            self.stale = self.unit() < 0.25;
        }
        (now >= self.from && now < self.until).then_some(self.until)
    }

    /// The time that is taken for `now`.
    pub(super) fn stamp(&self, now: Nanos) -> Nanos {
        if self.stale && now == self.until { self.from } else { now }
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.random.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
