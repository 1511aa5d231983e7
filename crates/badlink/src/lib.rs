//! Links that misbehave on purpose, from a seed.
//!
//! [`model`] decides what happens to each packet: pure arithmetic on virtual time. [`relay`] carries
//! real UDP datagrams through two such models, one for each direction, inside the process.
//! [`namespaces`] carries all packets between two network namespaces through the same models, for
//! programs that are tested as they are; it needs root. Neither knows what it carries, and the same
//! seed and the same packets give the same fates. [`words`] has the settings as people write them.

pub mod model;
pub mod namespaces;
pub mod relay;
mod wire;
pub mod words;

pub use model::{GilbertElliott, Nanos, Policer, Profile};
pub use namespaces::{End, Pair, PairError, PairOptions, PairStats};
pub use relay::{DirectionStats, Relay, RelayError, RelayOptions, RelayStats};
pub use words::{Change, Settings};
