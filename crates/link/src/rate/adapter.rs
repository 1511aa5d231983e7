//! Puts [`Control`] under the QUIC library.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::Pace;
use super::control::Control;
use super::memory::PathMemory;

/// Makes controllers for the paths of connections.
#[derive(Debug)]
pub(crate) struct RateFactory {
    pub(crate) pace: Pace,
    pub(crate) known: Option<PathMemory>,
}

/// The controller of ours that the library gave, if it is one.
pub(crate) fn control_of(controller: Box<dyn Controller>) -> Option<Control> {
    Some(controller.into_any().downcast::<Adapter>().ok()?.control)
}

impl ControllerFactory for RateFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Adapter { control: Control::new(self.pace, current_mtu, self.known), start: now })
    }
}

/// A [`Control`] that counts time from its making.
#[derive(Debug, Clone)]
struct Adapter {
    control: Control,
    start: Instant,
}

impl Adapter {
    fn at(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.start)
    }
}

impl Controller for Adapter {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.control.on_sent(self.at(now), bytes);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.control.on_ack(self.at(now), self.at(sent), bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _: Option<u64>) {
        self.control.on_acks_end(self.at(now), in_flight);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, _persistent: bool, lost: u64) {
        self.control.on_loss(self.at(now), self.at(sent), lost);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.control.on_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.control.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.control.window();
        metrics.pacing_rate = Some(self.control.view().pacing_rate.saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.control.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
