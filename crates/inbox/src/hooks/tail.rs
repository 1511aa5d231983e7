//! What is kept of a stream that may have no end: its last bytes, and how many came before them. It is pure.

/// How much of what a hook writes or answers is kept.
pub(super) const KEPT: usize = 16 * 1024;

/// The last [`KEPT`] bytes of what was pushed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// How many came before.
    lost: u64,
}

impl Tail {
    pub(super) fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        // Moved only now and then, so that a stream of single bytes does not move all of it for each.
        if self.bytes.len() > 4 * KEPT {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..excess);
        self.lost += excess as u64;
    }

    /// What is left of it, with a line in front where something was lost.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.cut();
        match self.lost {
            0 => self.bytes,
            lost => [format!("({lost} bytes before this)\n").as_bytes(), &self.bytes].concat(),
        }
    }
}

#[cfg(test)]
mod tests;
