//! What happens during a transfer, as typed events, and the counters that progress is drawn from.
//!
//! Events are few and each means something to a person: a file is done, a link is lost. What changes
//! many times a second is a counter, read by whoever draws, whenever they draw. Nothing here knows
//! who listens, and a slow listener is the only thing that can slow a transfer down.

pub mod bound;
pub mod counters;
pub mod event;
pub mod rate;
pub mod units;

pub use bound::{BOUND_KINDS, Bound, BoundGauge, BoundKind};
pub use counters::{Count, Counters, LinkFigures, LinkSnapshot, Snapshot};
pub use event::{Event, How, Outcome, Sink};
pub use rate::Rate;
