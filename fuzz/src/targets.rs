//! The targets, one file for each crate whose readers they feed. A target asserts more than the absence
//! of panics where it can: what was read and is written again must be the same bytes.

pub mod diode;
pub mod files;
pub mod haul;
pub mod inbox;
pub mod link;
pub mod transfer;
pub mod tree;
