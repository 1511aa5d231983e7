//! The real program, end to end: copies between machines of their own on the loopback, every error that a
//! user can meet, links that misbehave, and crashes. One program, because linking is what costs.

mod across;
mod bounds;
mod copy;
mod crash;
mod diode;
mod diode_events;
mod diode_full;
mod diode_kills;
mod diode_oneway;
mod diode_rehearse;
mod doctor;
mod enrol;
mod errors;
mod folders;
mod globs;
mod hostile;
mod inbox;
#[cfg(feature = "dync")]
mod inbox_dync;
mod inbox_edges;
mod inbox_kills;
mod inbox_load;
mod keys;
mod links;
mod lists;
mod names;
mod options;
mod over_ssh;
mod pace;
mod pair;
mod paths;
mod remotes;
mod third;
mod third_via;
mod verify;
