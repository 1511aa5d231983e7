//! Hostile bytes for everything that reads them: each target feeds one reader with bytes that a peer, a
//! disk or a user may have written, and fails by a panic. The targets are plain functions, so the same
//! table serves the smoke run on any machine, the replay of the corpus, and libFuzzer.

pub mod mutate;
pub mod smoke;
mod targets;

/// A function that must not panic, whatever the bytes are.
pub type Target = fn(&[u8]);

/// Every target under the name of its corpus folder; `README.md` says what each one holds.
pub const TARGETS: &[(&str, Target)] =
    &[("files_path", targets::files::path), ("link_wire", targets::link::wire)];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
