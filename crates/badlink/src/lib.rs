//! Links that misbehave on purpose, from a seed.
//!
//! [`model`] decides what happens to each packet: pure arithmetic on virtual time. [`relay`] carries
//! real UDP datagrams through two such models, one for each direction, inside the process. Neither
//! knows what it carries, and the same seed and the same packets give the same fates.

pub mod model;
pub mod relay;

pub use model::{GilbertElliott, Nanos, Profile};
pub use relay::{DirectionStats, Relay, RelayError, RelayOptions, RelayStats};
