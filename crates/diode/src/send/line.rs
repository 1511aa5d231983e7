//! What frames are given to: a carrier, or a test.

use crate::carrier::{Outgoing, Sent};

/// How giving frames to a line went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// They were given on.
    All,
    /// The line was begun anew, and what was given last may be lost: whoever reads there knows nothing yet.
    Anew,
}

/// A line with no way back.
pub trait Line: Send {
    /// Bytes of a full frame.
    fn frame_bytes(&self) -> usize;

    /// Bytes that a full frame takes on the link besides its own.
    fn overhead(&self) -> usize;

    /// Whether all frames are to be of one size but for announcements: datagrams.
    fn has_one_size(&self) -> bool;

    /// Bytes that are worth one call.
    fn most_batch(&self) -> usize;

    /// Gives frames on that stand one behind the other, each of `frame` bytes but the last, which may be shorter. Waits
    /// while the line has no room, until it is told to stop; what the line loses is nobody's error.
    fn send(&mut self, frames: &[u8], frame: usize) -> Given;
}

impl Line for Outgoing {
    fn frame_bytes(&self) -> usize {
        Outgoing::frame_bytes(self)
    }

    fn overhead(&self) -> usize {
        self.packet_headers().unwrap_or(0)
    }

    fn has_one_size(&self) -> bool {
        self.packet_headers().is_some()
    }

    fn most_batch(&self) -> usize {
        Outgoing::most_batch(self)
    }

    fn send(&mut self, frames: &[u8], frame: usize) -> Given {
        match Outgoing::send(self, frames, frame) {
            Ok(Sent::Again) => Given::Anew,
            // What cannot be sent is lost, as on the link; the carrier counts it.
            Ok(Sent::All) | Err(_) => Given::All,
        }
    }
}
