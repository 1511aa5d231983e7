//! A connection that begins as any other, and may be asked to give way to others while it lives: a peer
//! says only in its request how hard it wants to be sent to. It can never ask for more than what is fair.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use crate::PathMemory;
use crate::rate::{Pace, RateFactory};

/// The wish that a connection give way, which is not taken back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners(Arc<AtomicBool>);

impl Manners {
    pub(crate) fn give_way(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn gives_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Controllers that follow this wish, of a path of which this is known.
    pub(crate) fn factory(&self, known: Option<PathMemory>) -> impl ControllerFactory + 'static {
        Factory { manners: self.clone(), known }
    }
}

struct Factory {
    manners: Manners,
    known: Option<PathMemory>,
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let known = self.known;
        let inner = Arc::new(RateFactory { pace: Pace::Fair, known }).build(now, mtu);
        Box::new(Polite { inner, manners: self.manners.clone(), known, mtu, since: None })
    }
}

/// A controller that is replaced by one that gives way as soon as that is wished.
struct Polite {
    inner: Box<dyn Controller>,
    manners: Manners,
    known: Option<PathMemory>,
    mtu: u16,
    /// Since when it gives way. What was sent before means nothing to the new one.
    since: Option<Instant>,
}

impl Polite {
    fn turn(&mut self, now: Instant) {
        if self.since.is_none() && self.manners.gives_way() {
            let factory = RateFactory { pace: Pace::Background, known: self.known };
            self.inner = Arc::new(factory).build(now, self.mtu);
            self.since = Some(now);
        }
    }

    fn knows(&self, sent: Instant) -> bool {
        self.since.is_none_or(|since| sent >= since)
    }
}

impl Controller for Polite {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.turn(now);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        if self.knows(sent) {
            self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        if self.knows(sent) {
            self.inner.on_congestion_event(now, sent, persistent, lost);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (inner, manners) = (self.inner.clone_box(), self.manners.clone());
        Box::new(Self { inner, manners, known: self.known, mtu: self.mtu, since: self.since })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    /// Whoever looks for a controller of ours finds the one that is in force.
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate::control_of;

    #[test]
    fn it_gives_way_when_that_is_wished_and_forgets_what_was_before() {
        let (manners, start) = (Manners::default(), Instant::now());
        let mut polite = Arc::new(manners.factory(None)).build(start, 1200);
        let at = |ms| start + Duration::from_millis(ms);
        polite.on_sent(at(1), 1200, 0);
        let fair = polite.window();
        manners.give_way();
        polite.on_sent(at(50), 1200, 1);
        assert!(polite.window() <= fair / 2, "{} after {fair}", polite.window());
        assert!(control_of(polite.clone_box()).is_some(), "its figures can be asked for");
        // What answers a packet from before would pass for a path that is short or loses.
        let since = Some(at(50));
        let turned = Polite { inner: polite, manners, known: None, mtu: 1200, since };
        assert!(!turned.knows(at(49)) && turned.knows(at(50)));
    }
}
