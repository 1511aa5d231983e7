//! Clients of dync, a program of 2016 that hands in single files over ZeroMQ with CURVE: they go on as they are, and
//! their files come into the inboxes like any other (`docs/formats/dync.md`). Written from the protocol's text alone.
//!
//! [`wire`] reads and writes messages, [`machine`] decides, [`listener`] has the socket and does what the machine wishes.
//! Whatever keeps the inboxes is a [`desk`]; [`single`] is what it writes a file of unknown size with.

mod carry;
pub mod desk;
pub mod keys;
pub mod listener;
pub mod machine;
mod pace;
mod refusals;
pub mod single;
pub mod wire;
