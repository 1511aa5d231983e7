//! What the doctor has measured. What is `None` was not asked for or not yet tried; an error says why it
//! could not be measured.

use std::time::Duration;

use link::LaneKind;
use transfer::message::Measured;

/// Everything that was found out so far.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `HOST:PORT`.
    pub host: String,
    /// What the name leads to.
    pub addresses: Vec<String>,
    /// The fingerprint of the host's key, which is known here.
    pub key: Option<String>,
    /// What the sockets here lack.
    pub warnings: Vec<String>,
    /// What this key may see there.
    pub access: Option<Result<String, String>>,
    /// The kinds of lanes that were tried.
    pub lanes: Vec<LaneFacts>,
    /// From here to there.
    pub up: Option<Result<Direction, String>>,
    /// From there to here.
    pub down: Option<Result<Direction, String>>,
    /// Seconds by which the clock there is ahead.
    pub clock_offset: Option<i64>,
    /// What a core of this machine does.
    pub speeds: Option<Speeds>,
    /// The disk that was named.
    pub disk: Option<Result<Disk, String>>,
    /// Nothing more will be measured.
    pub is_complete: bool,
}

/// One kind of lane.
#[derive(Debug, Clone)]
pub struct LaneFacts {
    /// Which.
    pub kind: LaneKind,
    /// How it got through, or why not.
    pub reached: Result<Reached, String>,
}

/// A lane that got through.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Where the host was.
    pub address: String,
    /// From the first packet until we were let in.
    pub handshake: Duration,
    /// The smallest round trip.
    pub rtt: Duration,
}

/// One direction of the link under load.
#[derive(Debug, Clone, Copy)]
pub struct Direction {
    /// From here to there.
    pub up: bool,
    /// What this end has seen.
    pub here: Measured,
    /// What the other end has seen.
    pub there: Measured,
    /// What it went over.
    pub kind: LaneKind,
    /// The size of packets that the path takes.
    pub mtu: u16,
    /// Of the lane.
    pub connections: u32,
}

impl Direction {
    /// The end that has sent; it knows the path.
    pub fn sender(&self) -> &Measured {
        if self.up { &self.here } else { &self.there }
    }

    /// The end that has taken.
    pub fn receiver(&self) -> &Measured {
        if self.up { &self.there } else { &self.here }
    }

    /// Bytes per second: what the receiver has taken, where it was slower than what its transport took.
    pub fn rate(&self) -> f64 {
        let of = |end: &Measured| end.bytes as f64 / (end.micros as f64 / 1e6).max(1e-6);
        let (sent, taken) = (of(self.sender()), of(self.receiver()));
        if taken > 0.0 { sent.min(taken) } else { sent }
    }

    /// The share of packets lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        let sender = self.sender();
        (sender.lost_packets as f64 / sender.sent_packets.max(1) as f64).min(1.0)
    }
}

/// What a core of this machine does, in bytes per second.
#[derive(Debug, Clone, Copy)]
pub struct Speeds {
    /// BLAKE3 of chunks.
    pub hash: f64,
    /// AES-128-GCM of packets.
    pub cipher: f64,
}

/// A disk, in bytes and files per second.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Where.
    pub path: String,
    /// One file, fsync included.
    pub write: f64,
    /// The same file, after the system was told to forget it.
    pub read: f64,
    /// Files of 4 KiB created.
    pub files: f64,
}

impl Facts {
    /// Whether something that was asked for could not be measured.
    pub fn lacks_something(&self) -> bool {
        let lanes = self.lanes.iter().all(|lane| lane.reached.is_err());
        let directions = [&self.up, &self.down].iter().any(|seen| !matches!(seen, Some(Ok(_))));
        lanes
            || directions
            || matches!(self.access, Some(Err(_)))
            || matches!(self.disk, Some(Err(_)))
    }
}
