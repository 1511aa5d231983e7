//! The catalogue: one SQLite database beside the store, of which all but the outbox can be made again from it.

pub mod outbox;
