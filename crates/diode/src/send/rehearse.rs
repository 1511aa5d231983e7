//! The sending side of a rehearsal: a session of nothing but filler, at one rate after the other. The engine sends it as it
//! sends everything; the ledger is opened so that no sender runs beside it, and nothing is written there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use files::Dir;
use link::Identity;

use super::engine::{Engine, Speaker};
use super::ledger::Ledger;
use super::outbox::Outbox;
use super::steps::{Steps, Turn};
use super::{Control, EngineOptions, Epochs, Line, SendError};
use crate::key::DiodePublicKey;
use crate::record::RehearsalStep;

/// What is tried, and for whom.
#[derive(Clone)]
pub struct RehearseOptions {
    /// Who signs.
    pub identity: Arc<Identity>,
    /// Who can read it.
    pub receivers: Vec<DiodePublicKey>,
    /// Bytes per second, one after the other; at most [`crate::MOST_STEPS`].
    pub rates: Vec<u64>,
    /// How long each is tried.
    pub each: Duration,
    /// Is told each step when it begins, without an end, and when it has ended.
    pub on_step: Arc<dyn Fn(&RehearsalStep) + Send + Sync>,
}

impl std::fmt::Debug for RehearseOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rates, each, .. } = self;
        f.debug_struct("RehearseOptions").field("rates", rates).field("each", each).finish()
    }
}

/// Sends a rehearsal over this line, until its end or until it is told to stop, which it says. `state` and `epochs` are
/// those of the sender for which it is; an error if that runs.
pub fn rehearse<L: Line>(
    line: L,
    state: &Dir,
    epochs: Epochs,
    options: RehearseOptions,
    stop: &Arc<AtomicBool>,
) -> Result<(), SendError> {
    if options.receivers.is_empty() {
        return Err(SendError::NoReceivers);
    }
    let _alone = Ledger::open(state)?;
    let frame = line.frame_bytes();
    let packet = if line.has_one_size() { frame + line.overhead() } else { 0 };
    let packet = u16::try_from(packet).unwrap_or(u16::MAX);
    let mut rates = options.rates.clone();
    rates.truncate(crate::MOST_STEPS);
    let steps = Steps::new(rates, options.each, packet, frame);
    let control = Arc::new(Control::new(steps.rate()));
    let RehearseOptions { identity, receivers, on_step, .. } = options;
    let speaker = Speaker { identity, receivers, epochs };
    let engine_options = EngineOptions { stream_again: Vec::new(), ..EngineOptions::default() };
    let mut engine =
        Engine::new(line, Arc::new(Outbox::default()), control, speaker, engine_options)?;
    let end = Arc::new(AtomicBool::new(false));
    engine.rehearse(Conductor { steps, on_step, stop: stop.clone(), end: end.clone() });
    engine.run(&end)?;
    Ok(())
}

/// What the engine asks what to send.
pub(crate) struct Conductor {
    steps: Steps,
    on_step: Arc<dyn Fn(&RehearsalStep) + Send + Sync>,
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Conductor {
    /// Fills the payload of the frame with this number, and gives the rate from now on.
    pub(crate) fn fill(
        &mut self,
        now: Duration,
        number: u64,
        most: usize,
        payload: &mut Vec<u8>,
    ) -> u64 {
        if self.stop.load(Ordering::Relaxed) {
            self.steps.stop();
        }
        match self.steps.fill(now, number, most, payload) {
            Turn::Same => {}
            Turn::Step(step) => (self.on_step)(&step),
            Turn::Over => self.end.store(true, Ordering::Relaxed),
        }
        self.steps.rate()
    }
}

impl std::fmt::Debug for Conductor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conductor({:?})", self.steps)
    }
}
