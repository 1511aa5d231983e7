//! The queue of uploads: whose turn it is, and how long it takes until it is somebody else's. It is pure: times are
//! durations since any fixed start, and the shell carries bytes, holds connections and counts files. Who may hand
//! in, and whether it fits the disk, is decided before (`rights.rs`).
//!
//! Turns are of two kinds, for large and for small uploads. A small one takes a large one's turn if no large one
//! could; never the other way round. Within a kind turns go round the *clients* (`fair.rs`). An upload whose
//! connection broke while it waited keeps its place for a while and is passed over meanwhile. One that has begun and
//! has no connection gives its turn up after [`Budgets::idle`], and goes on at once when it is back, as long as fewer
//! than twice as many as there are turns are carried; else it is the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use events::Rate;
use thiserror::Error;

use crate::Budgets;

mod fair;
mod line;
mod standing;
mod turns;

use fair::{Account, Round, Tag, cost};
use line::{Line, Spot};
pub use standing::{Reason, Standing};

/// How long one looks back for the rate at which uploads drain.
const DRAIN_WINDOW: Duration = Duration::from_secs(60);

/// Names an upload: whose, and which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadKey {
    /// [`crate::Client::id`].
    pub client: Arc<str>,
    /// The client's id for it.
    pub upload: [u8; 16],
}

/// What wants a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Which upload.
    pub key: UploadKey,
    /// The bytes that were declared.
    pub bytes: u64,
    /// A number for the disk on which it lands.
    pub disk: usize,
}

/// What became of a ticket that entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It has a place. Its turn, which may come at once, is told by [`Admission::poll_output`].
    Waits,
    /// It has a turn from before, and may go on.
    HasTurn,
}

/// Why a ticket gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// Too many wait.
    #[error("{0} uploads wait already, which is the most; try again later")]
    Full(usize),
    /// Too many of this client wait.
    #[error(
        "{0} uploads of this key wait already, which is the most; send the others when these are done"
    )]
    FullForClient(usize),
    /// The same upload is under way with another size or on another disk.
    #[error("this upload was offered before with another size, and is under way; let it end first")]
    Differs,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// It is this upload's turn: say so, and then [`Admission::began`] or [`Admission::left`].
    Admitted(UploadKey),
    /// This upload has no place and no turn any more; if its client comes back, it enters anew.
    Dropped(UploadKey),
}

/// The two kinds of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Large,
    Small,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has a place; in the line while somebody is there.
    Waits,
    /// May begin.
    Called,
    /// Has begun, and has a connection or had one a moment ago.
    Carried,
    /// Has begun, and has given its turn up.
    Dormant,
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    disk: usize,
    kind: Kind,
    state: State,
    /// Connections that wait for it.
    present: u32,
    spot: Spot,
    /// Its tag is not moved before this one.
    earliest: Tag,
    /// Its client has paid for its turn.
    is_paid: bool,
    /// Bytes that have arrived.
    stored: u64,
    /// When something is done about it unless somebody comes.
    deadline: Option<Duration>,
    /// The place that was told last.
    told: Option<(u64, Reason)>,
}

#[derive(Debug, Default)]
struct ClientState {
    large: Account,
    small: Account,
    /// How many of its uploads are known here.
    tickets: usize,
    /// How many of them wait.
    waiting: usize,
    /// Those that gave up their turn, by their numbers, longest ago first.
    dormant: BTreeSet<u64>,
}

impl ClientState {
    fn account_of(&self, kind: Kind) -> &Account {
        match kind {
            Kind::Large => &self.large,
            Kind::Small => &self.small,
        }
    }

    fn account(&mut self, kind: Kind) -> &mut Account {
        match kind {
            Kind::Large => &mut self.large,
            Kind::Small => &mut self.small,
        }
    }

    fn carried(&self) -> Tag {
        self.large.carried.max(self.small.carried)
    }
}

/// The queue of a server. See the module's words for its rules.
#[derive(Debug)]
pub struct Admission {
    budgets: Budgets,
    held: BTreeMap<UploadKey, Held>,
    clients: BTreeMap<Arc<str>, ClientState>,
    /// Clients that have nothing here and still owe, by up to when they are paid.
    debtors: BTreeSet<(Tag, Arc<str>)>,
    lines: BTreeMap<(Kind, usize), Line>,
    /// Who waits or gave up its turn, by the number that it got then.
    by_number: BTreeMap<u64, UploadKey>,
    /// Those of them that gave up their turn.
    dormant: BTreeSet<u64>,
    next_number: u64,
    large_round: Round,
    small_round: Round,
    /// Called or carried: large, small.
    taken: (usize, usize),
    under_way: BTreeSet<UploadKey>,
    waiting: usize,
    full_disks: BTreeSet<usize>,
    deadlines: BTreeSet<(Duration, UploadKey)>,
    gaps: BTreeSet<(Kind, Arc<str>)>,
    outputs: VecDeque<Output>,
    drained: u64,
    drain: Rate,
    changed: bool,
    next_look: Duration,
}

impl Admission {
    /// A queue in which nobody waits. There is one turn at least.
    pub fn new(mut budgets: Budgets) -> Self {
        budgets.active = budgets.active.max(1);
        Self {
            budgets,
            held: BTreeMap::new(),
            clients: BTreeMap::new(),
            debtors: BTreeSet::new(),
            lines: BTreeMap::new(),
            by_number: BTreeMap::new(),
            dormant: BTreeSet::new(),
            next_number: 0,
            large_round: Round::default(),
            small_round: Round::default(),
            taken: (0, 0),
            under_way: BTreeSet::new(),
            waiting: 0,
            full_disks: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            gaps: BTreeSet::new(),
            outputs: VecDeque::new(),
            drained: 0,
            drain: Rate::new(DRAIN_WINDOW),
            changed: false,
            next_look: Duration::ZERO,
        }
    }

    /// Somebody is there with a ticket and wants a turn. One that was here before returns to its place. Each time
    /// counts as one connection, which [`Self::left`] takes off again.
    pub fn enter(&mut self, now: Duration, ticket: Ticket) -> Result<Entered, NoPlace> {
        let same = |held: &Held| (held.bytes, held.disk) == (ticket.bytes, ticket.disk);
        match self.held.get(&ticket.key) {
            Some(held) if same(held) => {
                let entered = self.came_back(now, &ticket.key);
                return Ok(entered.unwrap_or(Entered::Waits));
            }
            Some(held) if held.state != State::Waits => return Err(NoPlace::Differs),
            Some(_) => self.ended(now, &ticket.key),
            None => {}
        }
        if self.waiting >= self.budgets.waiting {
            return Err(NoPlace::Full(self.waiting));
        }
        let client = &ticket.key.client;
        let own = self.clients.get(client).map_or(0, |client| client.waiting);
        if own >= self.budgets.waiting_per_client {
            return Err(NoPlace::FullForClient(own));
        }
        let is_small = ticket.bytes <= self.budgets.small_bytes;
        // Where there are no turns for small ones, they wait for those that there are, with the others.
        let kind = match is_small && self.budgets.small_active > 0 {
            true => Kind::Small,
            false => Kind::Large,
        };
        let held = Held {
            bytes: ticket.bytes,
            disk: ticket.disk,
            kind,
            state: State::Waits,
            present: 1,
            spot: (0, 0),
            earliest: self.round(kind).next(),
            is_paid: false,
            stored: 0,
            deadline: None,
            told: None,
        };
        let state = self.clients.entry(client.clone()).or_default();
        self.debtors.remove(&(state.carried(), client.clone()));
        state.tickets += 1;
        let last = state.account(kind).waiting.last().copied();
        let last_cost = last.map_or(0, |spot| self.cost_at(spot));
        let round = self.round(kind);
        let tag = self.clients[client].account_of(kind).due(round, last_cost);
        self.held.insert(ticket.key.clone(), held);
        self.wait(&ticket.key, tag);
        self.call(now);
        Ok(Entered::Waits)
    }

    /// Somebody is there again for an upload that entered before; nothing, if it is not known any more.
    pub fn came_back(&mut self, now: Duration, key: &UploadKey) -> Option<Entered> {
        let held = self.held.get_mut(key)?;
        match held.state {
            State::Waits => {
                held.present += 1;
                if held.present == 1 {
                    let (spot, bytes, line) = (held.spot, held.bytes, (held.kind, held.disk));
                    self.lines.entry(line).or_default().insert(spot, bytes);
                    self.set_deadline(key, None);
                    self.changed = true;
                    self.call(now);
                }
                Some(Entered::Waits)
            }
            State::Called => {
                held.present += 1;
                Some(Entered::HasTurn)
            }
            State::Carried => Some(Entered::HasTurn),
            State::Dormant => Some(self.return_to_turn(now, key)),
        }
    }

    /// The client of an upload that gave its turn up is back: it goes on, or is the next.
    fn return_to_turn(&mut self, now: Duration, key: &UploadKey) -> Entered {
        if self.wake(key) {
            // Until its transfer has a lane again, it is as one that has just lost it.
            self.set_deadline(key, Some(now.saturating_add(self.budgets.idle)));
            return Entered::HasTurn;
        }
        self.forget_dormant(key);
        let Some(held) = self.held.get_mut(key) else { return Entered::Waits };
        held.present = 1;
        let kind = held.kind;
        let tag = self.round(kind).now();
        self.wait(key, tag);
        self.call(now);
        Entered::Waits
    }

    /// A connection that waited for this upload is gone. When it was the last one, the place is kept for
    /// [`Budgets::keep_place`].
    pub fn left(&mut self, now: Duration, key: &UploadKey) {
        let Some(held) = self.held.get_mut(key) else { return };
        if !matches!(held.state, State::Waits | State::Called) || held.present == 0 {
            return;
        }
        held.present -= 1;
        if held.present > 0 {
            return;
        }
        match held.state {
            State::Waits => {
                let (spot, line) = (held.spot, (held.kind, held.disk));
                self.leave_line(line, spot);
            }
            _ => {
                let tag = held.spot.0;
                self.give_turn_back(key);
                self.wait(key, tag);
            }
        }
        self.set_deadline(key, Some(now.saturating_add(self.budgets.keep_place)));
        self.call(now);
    }

    /// The upload whose turn it was has begun. False, if it was not its turn or somebody else has begun it.
    pub fn began(&mut self, key: &UploadKey) -> bool {
        let Some(held) = self.held.get_mut(key) else { return false };
        if held.state != State::Called {
            return false;
        }
        held.state = State::Carried;
        held.present = 0;
        self.set_deadline(key, None);
        true
    }

    /// The transfer of an upload that has begun has a lane from now on, or has lost it. Whether it may go on; if not,
    /// its client has to enter again and is the next.
    pub fn link(&mut self, now: Duration, key: &UploadKey, up: bool) -> bool {
        let Some(held) = self.held.get(key) else { return false };
        match (held.state, up) {
            (State::Carried, true) => self.set_deadline(key, None),
            (State::Carried, false) => {
                self.set_deadline(key, Some(now.saturating_add(self.budgets.idle)));
            }
            (State::Dormant, true) => return self.wake(key),
            (State::Dormant, false) => {}
            (State::Waits | State::Called, _) => return false,
        }
        true
    }

    /// Of this upload so many bytes have arrived, in all.
    pub fn progress(&mut self, now: Duration, key: &UploadKey, stored: u64) {
        if let Some(held) = self.held.get_mut(key) {
            self.drained += stored.saturating_sub(held.stored);
            held.stored = held.stored.max(stored);
        }
        self.drain.observe(now, self.drained);
    }

    /// This upload is over, however it ended and however far it came.
    pub fn ended(&mut self, now: Duration, key: &UploadKey) {
        self.remove(key);
        self.call(now);
    }

    /// A disk has no room for more, or has room again. Uploads to it that wait are passed over meanwhile. Whether that is
    /// news.
    pub fn disk_is_full(&mut self, now: Duration, disk: usize, is_full: bool) -> bool {
        let is_new = match is_full {
            true => self.full_disks.insert(disk),
            false => self.full_disks.remove(&disk),
        };
        self.changed |= is_new;
        self.call(now);
        is_new
    }

    /// What the shell has to do next, if anything.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] or [`Self::changes`] is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let look = self.changed.then_some(self.next_look);
        deadline.into_iter().chain(look).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((at, key)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            match self.held.get(&key).map(|held| held.state) {
                Some(State::Carried) => self.fall_asleep(&key),
                _ => self.drop_ticket(&key),
            }
            self.deadlines.remove(&(at, key));
        }
        self.call(now);
    }

    fn round(&self, kind: Kind) -> &Round {
        match kind {
            Kind::Large => &self.large_round,
            Kind::Small => &self.small_round,
        }
    }

    fn cost_at(&self, spot: Spot) -> Tag {
        let key = self.by_number.get(&spot.1);
        key.and_then(|key| self.held.get(key)).map_or(0, |held| cost(held.bytes))
    }

    /// Gives a ticket that is held a place with this tag.
    fn wait(&mut self, key: &UploadKey, tag: Tag) {
        let Some(held) = self.held.get_mut(key) else { return };
        let Some(client) = self.clients.get_mut(&key.client) else { return };
        let spot = (tag, self.next_number);
        self.next_number += 1;
        held.state = State::Waits;
        held.spot = spot;
        held.earliest = held.earliest.min(tag);
        client.account(held.kind).waiting.insert(spot);
        client.waiting += 1;
        self.waiting += 1;
        self.by_number.insert(spot.1, key.clone());
        if held.present > 0 {
            self.lines.entry((held.kind, held.disk)).or_default().insert(spot, held.bytes);
        }
        self.changed = true;
    }

    /// Takes a ticket's place away, whatever is to become of it.
    fn unwait(&mut self, key: &UploadKey) {
        let Some(held) = self.held.get(key) else { return };
        let (kind, spot, line) = (held.kind, held.spot, (held.kind, held.disk));
        self.leave_line(line, spot);
        self.by_number.remove(&spot.1);
        self.waiting -= 1;
        let Some(client) = self.clients.get_mut(&key.client) else { return };
        client.account(kind).waiting.remove(&spot);
        client.waiting -= 1;
    }

    fn leave_line(&mut self, line: (Kind, usize), spot: Spot) {
        let Some(spots) = self.lines.get_mut(&line) else { return };
        if spots.remove(spot) {
            self.changed = true;
        }
        if spots.len() == 0 {
            self.lines.remove(&line);
        }
    }

    fn set_deadline(&mut self, key: &UploadKey, at: Option<Duration>) {
        let Some(held) = self.held.get_mut(key) else { return };
        if let Some(old) = held.deadline.take() {
            self.deadlines.remove(&(old, key.clone()));
        }
        held.deadline = at;
        if let Some(at) = at {
            self.deadlines.insert((at, key.clone()));
        }
    }

    fn drop_ticket(&mut self, key: &UploadKey) {
        self.remove(key);
        self.outputs.push_back(Output::Dropped(key.clone()));
    }

    fn remove(&mut self, key: &UploadKey) {
        let Some(held) = self.held.get(key) else { return };
        let kind = held.kind;
        match held.state {
            State::Waits => {
                self.unwait(key);
                self.gaps.insert((kind, key.client.clone()));
            }
            State::Called => {
                self.give_turn_back(key);
                self.outputs.retain(|output| *output != Output::Admitted(key.clone()));
            }
            State::Carried => self.give_turn_back(key),
            State::Dormant => self.forget_dormant(key),
        }
        self.set_deadline(key, None);
        self.held.remove(key);
        let Some(client) = self.clients.get_mut(&key.client) else { return };
        client.tickets -= 1;
        if client.tickets > 0 {
            return;
        }
        let carried = client.carried();
        if client.large.owes_nothing(&self.large_round)
            && client.small.owes_nothing(&self.small_round)
        {
            self.clients.remove(&key.client);
            return;
        }
        self.debtors.insert((carried, key.client.clone()));
        if self.debtors.len() > self.budgets.waiting
            && let Some((_, client)) = self.debtors.pop_first()
        {
            self.clients.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests;
