//! Copies to and from a login: ssh starts `haul over-ssh` at the other end, the two exchange one-time keys
//! over that pipe, and lanes go directly over QUIC or TCP, or through the pipe where neither gets through
//! (`docs/formats/link.md`, "Through a pipe"). Who may log in may do what the login may.

pub mod far;
mod login;
pub mod near;
pub mod ssh;
mod turn;

/// The command that ssh starts at the other end.
const COMMAND: &str = "over-ssh";
