//! One upload: where it stands, which chunk comes next, and what its client may still send. It counts chunks and
//! offsets and sees no bytes. What it has of the credit of all uploads its owner keeps in step.

use std::collections::VecDeque;
use std::time::Duration;

use super::Limits;
use crate::dync::wire::ServerMessage;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The desk was asked whether it takes the file.
    Asked,
    /// The desk was asked what it knows of an upload that this machine knows nothing of.
    Sought,
    /// It waits for its turn, or for its file to be opened.
    Waiting,
    /// Chunks come.
    Running,
    /// The last chunk has come.
    Finishing,
}

/// What becomes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the next one, and there is credit for it.
    Taken,
    /// It was here before, or is not wanted now.
    Dropped,
    /// Something before it is missing: the client is to be told where to go on.
    Ahead,
    /// It is the next one, and more than the client was allowed to send.
    Beyond,
}

/// One upload. Credit and queue are in chunks.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: [u8; 32],
    pub(super) identity: Vec<u8>,
    /// Tells this upload from one with the same id that was closed before.
    pub(super) round: u64,
    pub(super) stage: Stage,
    pub(super) since: Duration,
    /// When its client was last heard of.
    pub(super) heard: Duration,
    /// Whether its client has been told that the file is taken in.
    pub(super) approved: bool,
    /// Where the next chunk belongs.
    pub(super) taken: u64,
    /// How much of it the disk has for good.
    durable: u64,
    /// Where those chunks end that are taken and not durable.
    ends: VecDeque<u64>,
    /// Chunks taken that do not count as written: the disk has them not yet, or the rate of the key.
    pub(super) pending: u32,
    /// Chunks that the client may still send.
    pub(super) outstanding: u32,
    /// The client is past the next chunk, and must be told to go back before it gets credit.
    pub(super) lost: bool,
    /// What the client was last told to go back to.
    reported: Option<u64>,
    /// Chunks that came since and were of no use.
    useless: u32,
    /// Whether it is known here that the client has sent a chunk. One that has not has nothing to go back in, and falls
    /// over a report.
    sends: bool,
    /// How often the client was given a single chunk's credit to see which.
    trials: u32,
    /// The most credit that it may have, whatever its share would be.
    window: Option<u32>,
}

impl Upload {
    pub(super) fn new(key: [u8; 32], identity: &[u8], round: u64, now: Duration) -> Self {
        Self {
            key,
            identity: identity.to_vec(),
            round,
            stage: Stage::Asked,
            since: now,
            heard: now,
            approved: false,
            taken: 0,
            durable: 0,
            ends: VecDeque::new(),
            pending: 0,
            outstanding: 0,
            lost: false,
            reported: None,
            useless: 0,
            sends: false,
            trials: 0,
            window: None,
        }
    }

    /// How much of all credit it has.
    pub(super) fn holds(&self) -> u32 {
        self.outstanding + self.pending
    }

    /// Its file is open, with so many bytes in it, and it may have so much credit.
    pub(super) fn opened(&mut self, durable: u64, window: Option<u32>) {
        self.window = window;
        (self.stage, self.taken, self.durable) = (Stage::Running, durable, durable);
        self.sends |= durable > 0;
        // Whoever has sent something before goes back to where the file ends.
        self.lost |= self.sends;
    }

    /// It was there before this machine. `sends` if that shows by a chunk.
    pub(super) fn sought(&mut self, sends: bool) {
        (self.stage, self.approved) = (Stage::Sought, true);
        (self.lost, self.sends) = (sends, sends);
        self.trials = 1;
    }

    /// A chunk comes. Whoever gets [`Fate::Beyond`] may find credit for it and ask again.
    pub(super) fn chunk(&mut self, seek: u64, len: u32, last: bool) -> Fate {
        self.sends = true;
        if self.stage != Stage::Running {
            self.lost |= self.stage != Stage::Finishing;
            return Fate::Dropped;
        }
        if seek > self.taken {
            self.lost = true;
            return Fate::Ahead;
        }
        if seek < self.taken || (len == 0 && !last) {
            return Fate::Dropped;
        }
        // The empty chunk at the end costs nothing.
        let free = len == 0;
        if self.outstanding == 0 && !free {
            return Fate::Beyond;
        }
        self.outstanding -= u32::from(!free);
        self.pending += u32::from(!free);
        self.taken += u64::from(len);
        if !free {
            self.ends.push_back(self.taken);
        }
        (self.lost, self.reported, self.useless) = (false, None, 0);
        if last {
            self.stage = Stage::Finishing;
        }
        Fate::Taken
    }

    /// Another chunk that is of no use has come; true if they are more than misunderstandings explain.
    pub(super) fn is_flooding(&mut self, limits: &Limits) -> bool {
        self.useless += 1;
        self.useless > limits.window.saturating_mul(4).saturating_add(64)
    }

    /// Whether a client that is ahead is to be told: once for each place, for chunks that it sent before it heard of it are still
    /// to come. Whether that was lost shows when it asks.
    pub(super) fn is_report_due(&self) -> bool {
        self.reported != Some(self.taken)
    }

    /// That report, unless there is no credit to go with it: then it waits for some.
    pub(super) fn report_once(&mut self) -> Option<ServerMessage> {
        (self.outstanding > 0 && self.is_report_due()).then(|| self.report())
    }

    fn report(&mut self) -> ServerMessage {
        self.reported = Some(self.taken);
        self.lost = false;
        ServerMessage::StatusReport { seek: self.taken, credit: self.outstanding }
    }

    /// What a client is told that asks how it stands and can be given no credit; what it was given before it has used
    /// up, or never heard of. Second, how much credit is taken back.
    pub(super) fn answer(&mut self, limits: &Limits) -> (ServerMessage, u32) {
        if self.stage != Stage::Running || self.outstanding == 0 {
            return (ServerMessage::TransferCredit(0), 0);
        }
        if self.sends || self.trials >= limits.trials() {
            return (self.report(), 0);
        }
        // Its chunks were lost, or our word was. The chunk that it sends now shows which; more than one could push out
        // of its memory what it has to go back to.
        self.trials += 1;
        let back = self.outstanding - 1;
        self.outstanding = 1;
        (ServerMessage::TransferCredit(1), back)
    }

    /// The most credit that it may have where this is each one's share.
    pub(super) fn most(&self, share: u32) -> u32 {
        self.window.map_or(share, |window| window.min(share))
    }

    /// How many more chunks it may have on their way, if `free` are left of all credit and `share` is its part.
    pub(super) fn room(&self, limits: &Limits, share: u32, free: u32) -> u32 {
        if self.stage != Stage::Running {
            return 0;
        }
        // What a crash would take must be in the client's memory still, and what is sent in trials beside it.
        let kept = limits.max_queue - limits.max_queue / 4;
        let behind = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let kept = kept.saturating_sub(behind).saturating_sub(self.outstanding);
        let share = self.most(share);
        let share = if self.trials > 0 && !self.sends { 1 } else { share };
        let wanted = share.saturating_sub(self.holds()).min(kept);
        // Nobody stands still because others have everything.
        if self.holds() == 0 { wanted.min(free.max(1)) } else { wanted.min(free) }
    }

    /// Gives it so many chunks more; what the client is told of it, if it is worth a message.
    pub(super) fn grant(&mut self, amount: u32) -> ServerMessage {
        self.outstanding += amount;
        match self.lost {
            true => self.report(),
            false => ServerMessage::TransferCredit(amount),
        }
    }

    /// So many chunks count as written. How many of them were counted before.
    pub(super) fn wrote(&mut self, chunks: u32) -> u32 {
        let counted = chunks.min(self.pending);
        self.pending -= counted;
        counted
    }

    /// So much is on the disk for good.
    pub(super) fn synced(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
        while self.ends.front().is_some_and(|end| *end <= self.durable) {
            self.ends.pop_front();
        }
    }
}
