//! Fairness between clients: deficit round robin by declared bytes, with the debt kept where the next turn can be
//! read off it. A round is one [`QUANTUM`] further for everybody. A client that was carried more than that in one
//! turn has its next one as many rounds later; whoever is new, or has been away, begins one round from now. So
//! everybody who waits has one turn before anybody has two, a client's thousand uploads are as far apart as their
//! bytes make them, and nobody new comes in before those whose round it is. No round has to be walked: each upload
//! is given the round of its turn, its *tag*, when it enters.

use std::collections::BTreeSet;

use super::line::Spot;

/// When a turn is due, in bytes that everybody has been allowed since the beginning.
pub(super) type Tag = u128;

/// What an upload costs at least, for opening, closing and publishing take time that no byte shows.
pub(super) const QUANTUM: u64 = 64 << 20;
/// What it costs at most: for one upload, however large, its client waits a thousand rounds.
pub(super) const MOST_COST: u64 = 64 << 30;

/// What an upload of so many bytes costs its client.
pub(super) fn cost(bytes: u64) -> Tag {
    Tag::from(bytes.clamp(QUANTUM, MOST_COST))
}

/// The round that it is: it only goes on.
#[derive(Debug, Default)]
pub(super) struct Round(Tag);

impl Round {
    /// When the first upload of a client that owes nothing is due.
    pub(super) fn next(&self) -> Tag {
        self.0 + Tag::from(QUANTUM)
    }

    pub(super) fn now(&self) -> Tag {
        self.0
    }

    /// Somebody's turn came.
    pub(super) fn reach(&mut self, tag: Tag) {
        self.0 = self.0.max(tag);
    }
}

/// One client's account for one kind of turn.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Up to when it is paid by what was carried.
    pub(super) carried: Tag,
    /// Its uploads that wait, be they there or away.
    pub(super) waiting: BTreeSet<Spot>,
}

impl Account {
    /// When one more upload of this client is due; `last_cost` is that of the last that waits.
    pub(super) fn due(&self, round: &Round, last_cost: Tag) -> Tag {
        let behind = self.waiting.last().map_or(0, |(tag, _)| tag + last_cost);
        round.next().max(self.carried).max(behind)
    }

    /// An upload with this tag has its turn; from when on the next is due.
    pub(super) fn charge(&mut self, round: &Round, tag: Tag, cost: Tag) -> Tag {
        // One that was away keeps its place, but rounds that it missed are not caught up with.
        self.carried = self.carried.max(tag).max(round.now()) + cost;
        self.carried
    }

    /// Whether it is like one that was never here.
    pub(super) fn owes_nothing(&self, round: &Round) -> bool {
        self.waiting.is_empty() && self.carried <= round.next()
    }
}
