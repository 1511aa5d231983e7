//! What kind of failure an error is, which is all that a retry loop needs to know about it.
//! It mirrors the enum of the same name in `files`, which this crate may not import.

/// Whether and how trying again could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The link or the peer was not there; later may be better.
    Transient,
    /// The same attempt will fail the same way until somebody changes something.
    Permanent,
    /// Somebody said no: a key, a policy, an expired line.
    Denied,
    /// What arrived is not what was meant to be sent.
    Corrupt,
}

impl Fault {
    /// Whether reconnecting by itself can help.
    pub fn is_transient(self) -> bool {
        self == Self::Transient
    }
}
