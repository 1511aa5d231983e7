//! Our own rate control for QUIC lanes: how many bytes may be under way, judged by what arrives.
//!
//! [`control`] decides and is pure: it is told when packets were sent, acknowledged and lost, and knows no
//! clock, socket or library. [`adapter`] gives it to the QUIC library. The design, its constants and where
//! they come from are in `docs/decisions/rate-control.md`.

// A file that is included by path, as examples include this one, looks for its modules beside itself.
#[path = "rate/adapter.rs"]
mod adapter;
#[path = "rate/compete.rs"]
mod compete;
#[path = "rate/control.rs"]
mod control;
#[path = "rate/loss.rs"]
mod loss;
#[path = "rate/memory.rs"]
mod memory;
#[path = "rate/round.rs"]
mod round;

pub(crate) use adapter::{RateFactory, control_of};
pub use control::Bound;
pub use memory::PathMemory;

/// How much of a path a lane may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// As much as is there, with short queues, and a fair part where others send too.
    #[default]
    Fair,
    /// Only what nobody else wants: it gives way to any queue.
    Background,
    /// So many bytes of UDP payload per second, whatever is lost. Nothing is sent into a path that
    /// acknowledges nothing.
    Fixed(u64),
}

#[cfg(test)]
#[path = "rate/tests/cubic.rs"]
mod cubic;
#[cfg(test)]
#[path = "rate/tests/pauses.rs"]
mod pauses;
#[cfg(test)]
#[path = "rate/tests/sim.rs"]
mod sim;
#[cfg(test)]
#[path = "rate/tests.rs"]
mod tests;
