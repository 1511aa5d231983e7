//! What happens at either end of a diode that somebody should hear of. Counters say the rest. Paths are bytes and texts
//! are raw: whoever shows an event escapes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use files::RelPath;
use link::PublicKey;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiodeEvent {
    /// This end has begun.
    Started,
    /// This end ends, as it was asked to.
    Stopped,
    /// The sender says that it has begun.
    SenderStarted {
        /// Its clock, in milliseconds since 1970.
        time_ms: u64,
        /// Its version.
        version: String,
    },
    /// The sender says that it ends.
    SenderStopped {
        /// Its clock, in milliseconds since 1970.
        time_ms: u64,
        /// Its version.
        version: String,
    },
    /// A sender's session is followed: from here on its frames are read.
    SessionBegan {
        /// Who sends.
        sender: PublicKey,
        /// The session's epoch.
        epoch: u64,
    },
    /// The session that began is neither encrypted nor authenticated, which was allowed.
    PlainSession {
        /// Who sends.
        sender: PublicKey,
    },
    /// Nothing was heard of the sender.
    HeartbeatLost {
        /// For how long.
        silent_for: Duration,
    },
    /// The sender is heard again.
    HeartbeatBack {
        /// How long it was not.
        silent_for: Duration,
    },
    /// A generation has ended, and this is what the tree came to. It comes again when what was missing has arrived.
    Generation {
        /// Its number.
        number: u64,
        /// Files that it brought.
        files: u64,
        /// Bytes of these.
        bytes: u64,
        /// Entries that it removed.
        removed: u64,
        /// How the tree on disk compares with what was sent.
        tally: Tally,
    },
    /// A file could not be published; the version before is as it was.
    FileFailed {
        /// Which.
        path: RelPath,
        /// Why.
        reason: String,
    },
    /// A generation has ended, and so many of its files have not arrived.
    Missing {
        /// The generation.
        generation: u64,
        /// How many files.
        files: u64,
    },
    /// Something was taken out of the tree and is kept for a while.
    Quarantined {
        /// Where it was.
        path: RelPath,
    },
    /// A generation removes so much that nothing of it is removed before somebody agrees.
    BrakePulled {
        /// The generation.
        generation: u64,
        /// Entries that it removes.
        removes: u64,
        /// Entries that there were.
        of: u64,
    },
    /// Somebody agreed to what a generation removes.
    BrakeReleased {
        /// The generation.
        generation: u64,
    },
    /// The disk is full: what arrives now is lost, and on the want-list.
    DiskFull,
    /// There is room on the disk again.
    DiskHasRoom,
    /// The disk was slower than the link: so many blocks were lost, and are on the want-list.
    DiskTooSlow {
        /// Since this was said last.
        blocks: u64,
    },
    /// The journal could not be kept; nothing is published until it can.
    JournalFailed {
        /// Why.
        reason: String,
    },
    /// The sender builds on a generation that is older than what came from it before: its memory was set back. Nothing of
    /// that is taken until it tells the whole tree.
    SenderSetBack {
        /// The generation that is not taken.
        generation: u64,
        /// What it builds on.
        base: u64,
        /// What is here.
        known: u64,
    },
    /// What arrived was not taken.
    Refused {
        /// Why not.
        why: Refusal,
        /// How often since this was said last.
        count: u64,
    },
}

/// How a tree on disk compares with what was sent. Entries are files, folders and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// As they should be.
    pub same: u64,
    /// There, but otherwise: an older version, or changed by somebody else.
    pub different: u64,
    /// On disk, and never sent, or removed and left.
    pub extra: u64,
    /// Sent, and not on disk.
    pub missing: u64,
}

/// Why something that arrived was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// No frame of ours: another format, or noise.
    NoFrame,
    /// A frame of a session that is not followed.
    UnknownSession,
    /// A session that is older than one that was followed, or another one of the same epoch.
    OldSession,
    /// A frame that was taken before, or may have been.
    Replayed,
    /// A number so far ahead that nobody signed for it.
    TooFarAhead,
    /// A frame that does not open: changed on its way, or forged.
    Forged,
    /// An announcement that none of the trusted senders has signed.
    Stranger,
    /// A payload that cannot be read.
    Unreadable,
    /// A page or an end of a generation that its sender has not signed so.
    Unsigned,
    /// Files from a sender whose tree this is not.
    OtherSender,
    /// The state folder did not say in time that it remembers.
    Unremembered,
    /// A page of a generation that is older than what is here.
    OldGeneration,
    /// A session that is neither encrypted nor authenticated, where that was not allowed.
    Plain,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::NoFrame,
        Self::UnknownSession,
        Self::OldSession,
        Self::Replayed,
        Self::TooFarAhead,
        Self::Forged,
        Self::Stranger,
        Self::Unreadable,
        Self::Unsigned,
        Self::OtherSender,
        Self::Unremembered,
        Self::OldGeneration,
        Self::Plain,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFrame => "not one of our frames",
            Self::UnknownSession => "of a session that was not announced",
            Self::OldSession => "an old session announced again",
            Self::Replayed => "received before",
            Self::TooFarAhead => "a number that nobody signed for",
            Self::Forged => "changed on the way, or forged",
            Self::Stranger => "announced by somebody who is not trusted",
            Self::Unreadable => "not readable",
            Self::Unsigned => "a manifest that its sender has not signed",
            Self::OtherSender => "files of another sender",
            Self::Unremembered => "the state folder is too slow",
            Self::OldGeneration => "a manifest that is older than what is here",
            Self::Plain => {
                "a session that is neither encrypted nor authenticated (--insecure-plain)"
            }
        })
    }
}

/// Whom events are told.
pub type OnEvent = Arc<dyn Fn(&DiodeEvent) + Send + Sync>;
