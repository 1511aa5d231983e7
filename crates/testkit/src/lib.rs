//! What tests of several crates share: the real program as machines and daemons, trees to copy, and what
//! a crash may leave. Only tests import it.

pub mod crash;
pub mod daemon;
pub mod hostile;
pub mod names;
pub mod tree;
