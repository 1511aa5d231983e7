//! The two-way transfer protocol: what one machine offers another and how it arrives, specified in
//! `docs/formats/protocol.md`. Decisions are taken in two pure machines (`source`, `target`) that a test
//! drives without disk, clock or network; the shells (`send`, `receive`) carry them out. Which command or
//! daemon uses it, and what a receiving folder's policy is, this crate does not know.

pub mod bound;
mod buffers;
mod chance;
pub mod client;
mod compress;
mod cpu;
pub mod delta;
mod effort;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod host;
mod lane_io;
pub mod measure;
pub mod message;
mod observe;
pub mod receipt;
mod receive;
pub mod reception;
mod record;
#[cfg(test)]
mod rig;
mod send;
pub mod serve;
mod session;
pub mod source;
pub mod target;
mod tell;
mod totals;
pub mod twins;

pub use error::TransferError;
pub use totals::Totals;

/// A rule of the protocol that the peer broke; the link is closed with these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer broke the protocol: {0}")]
pub struct Violation(pub &'static str);

/// An error of the disk in words, without the path, which whoever reads them knows.
pub(crate) fn words(error: &files::FilesError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
