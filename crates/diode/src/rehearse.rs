//! What a receiver makes of a rehearsal: what arrived of each step, and which options of a sender suit the link.

mod advice;
mod count;
#[cfg(test)]
mod tests;

pub use advice::{Advice, BufferAdvice, Recommended, Verdict, advise};
pub(crate) use count::Counts;
pub use count::StepReport;

/// A rehearsal has no more steps.
pub const MOST_STEPS: usize = 64;
