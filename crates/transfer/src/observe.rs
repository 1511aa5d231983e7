//! The part of both shells that finds out what holds the transfer back: it reads the clocks and the
//! lane's figures for the pure `bound`, and tells the verdict to whoever looks at this end.

use std::time::Duration;

use events::{Bound, BoundKind, Event};
use link::Lane;
use tokio::time::Instant;

use crate::bound::{Figures, Link, Meter, Side, Teller, Wait};
use crate::cpu::CpuClock;
use crate::tell::Watch;

/// A change is told as an event when the last one is so long ago.
const CALM: Duration = Duration::from_secs(1);

/// Watches one lane of a transfer.
pub(crate) struct Observer {
    began: Instant,
    ticked: Duration,
    meter: Meter,
    teller: Teller,
    cpu: CpuClock,
    rtt: Duration,
    emitted: Option<(Duration, BoundKind)>,
}

impl Observer {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            began: Instant::now(),
            ticked: Duration::ZERO,
            meter: Meter::new(side, Duration::ZERO),
            teller: Teller::default(),
            cpu: CpuClock::new(),
            rtt: Duration::ZERO,
            emitted: None,
        }
    }

    /// How much unacknowledged payload need not be waiting.
    pub(crate) fn flight(&self) -> u64 {
        self.meter.flight(self.rtt)
    }

    /// What the loop waits for from now on. Asked in every turn, so the clock is read only for a change.
    pub(crate) fn waits(&mut self, wait: Wait) {
        if self.meter.wait() != wait {
            self.meter.waits(self.began.elapsed(), wait);
        }
    }

    /// The share of the last lap in which the link was waited for, or a rate that somebody set for it.
    pub(crate) fn link_share(&self) -> f64 {
        self.meter.lap_share(&[Wait::Link, Wait::Window, Wait::Limit])
    }

    /// The share of the last lap in which reading was waited for, and all that is done with what was read.
    pub(crate) fn read_share(&self) -> f64 {
        self.meter.lap_share(&[Wait::Read])
    }

    /// What the other end says.
    pub(crate) fn told(&mut self, bound: Bound) {
        self.meter.told(bound);
    }

    /// Takes the figures, to which it adds those of the processor and the lane. Gives what the other
    /// end is to be told.
    pub(crate) fn tick(&mut self, figures: Figures, lane: &Lane, watch: &Watch) -> Option<Bound> {
        let now = self.began.elapsed();
        let link = Link::from(&lane.stats());
        self.rtt = link.rtt;
        let bound = self.meter.tick(now, Figures { cpu: self.cpu.read(), link, ..figures });
        watch.counters.bound.note(bound, now.saturating_sub(self.ticked));
        self.ticked = now;
        let is_new = match self.emitted {
            None => true,
            Some((then, kind)) => kind != bound.kind && now >= then + CALM,
        };
        let is_new = is_new && bound.kind != BoundKind::Unknown;
        if is_new {
            self.emitted = Some((now, bound.kind));
            watch.sink.emit_with(|| Event::Bounded { bound });
        }
        self.teller.next(now, self.meter.news(bound))
    }
}
