//! Turns: who gets one, what it costs, and who gives one up.

use std::sync::Arc;
use std::time::Duration;

use super::fair::{Tag, cost};
use super::line::Spot;
use super::{Admission, Kind, Output, State, UploadKey};

impl Admission {
    /// The first that could have a turn of this kind.
    fn first(&self, kind: Kind) -> Option<Spot> {
        let lines = self.lines.range((kind, 0)..=(kind, usize::MAX));
        let open = lines.filter(|((_, disk), _)| !self.full_disks.contains(disk));
        open.filter_map(|(_, line)| line.first()).min()
    }

    /// Whether one more of this kind could be carried if there were `times` as many turns.
    fn has_room(&self, kind: Kind, times: usize) -> bool {
        let (large, small) = self.taken;
        let (turns, small_turns) = (
            self.budgets.active.saturating_mul(times),
            self.budgets.small_active.saturating_mul(times),
        );
        let lent = small.saturating_sub(small_turns);
        let has_large = large + lent < turns;
        match kind {
            Kind::Large => has_large,
            Kind::Small => small < small_turns || has_large,
        }
    }

    /// Gives the turns that are free to those whose they are. Large ones come first: a small one takes their turns
    /// only where no large one could.
    pub(super) fn call(&mut self, now: Duration) {
        for kind in [Kind::Large, Kind::Small] {
            while self.has_room(kind, 1) {
                let Some(spot) = self.first(kind) else { break };
                let Some(key) = self.by_number.get(&spot.1).cloned() else { break };
                self.call_one(&key, now);
            }
        }
        if self.held.is_empty() {
            // Nobody waits and nobody is carried: there is nothing to be fair about.
            self.clients.clear();
            self.debtors.clear();
            self.gaps.clear();
        }
    }

    fn call_one(&mut self, key: &UploadKey, now: Duration) {
        self.unwait(key);
        let Some(held) = self.held.get_mut(key) else { return };
        held.state = State::Called;
        held.told = None;
        let (kind, tag, price, was_paid) = (held.kind, held.spot.0, cost(held.bytes), held.is_paid);
        held.is_paid = true;
        self.take_turn(key, kind);
        self.set_deadline(key, Some(now.saturating_add(self.budgets.idle)));
        self.outputs.push_back(Output::Admitted(key.clone()));
        let round = match kind {
            Kind::Large => &mut self.large_round,
            Kind::Small => &mut self.small_round,
        };
        round.reach(tag);
        let Some(client) = self.clients.get_mut(&key.client) else { return };
        if !was_paid {
            let due = client.account(kind).charge(round, tag, price);
            self.push_back(&key.client, kind, due);
        }
    }

    /// None of this client's uploads that are there is due before `due`, and each only after the one before it.
    /// Those that are away keep what they have until they are back and one of them has had its turn.
    fn push_back(&mut self, client: &Arc<str>, kind: Kind, mut due: Tag) {
        let Some(state) = self.clients.get(client) else { return };
        let waiting = &state.account_of(kind).waiting;
        if waiting.first().is_none_or(|(tag, _)| *tag >= due) {
            return;
        }
        for spot in waiting.iter().copied().collect::<Vec<Spot>>() {
            let Some(key) = self.by_number.get(&spot.1).cloned() else { continue };
            let Some(held) = self.held.get(&key).filter(|held| held.present > 0) else { continue };
            let price = cost(held.bytes);
            if spot.0 >= due {
                return;
            }
            self.move_to(&key, spot, due);
            due += price;
        }
    }

    fn move_to(&mut self, key: &UploadKey, spot: Spot, tag: Tag) {
        let Some(held) = self.held.get_mut(key) else { return };
        let (new, kind) = ((tag, spot.1), held.kind);
        held.spot = new;
        let line = self.lines.get_mut(&(kind, held.disk));
        if let Some(line) = line
            && line.remove(spot)
        {
            line.insert(new, held.bytes);
        }
        if let Some(client) = self.clients.get_mut(&key.client) {
            client.account(kind).waiting.remove(&spot);
            client.account(kind).waiting.insert(new);
        }
        self.changed = true;
    }

    /// Where uploads went without having had their turn, those behind them move up.
    pub(super) fn close_gaps(&mut self) {
        while let Some((kind, client)) = self.gaps.pop_first() {
            let Some(state) = self.clients.get(&client) else { continue };
            let account = state.account_of(kind);
            let mut due = account.carried;
            for spot in account.waiting.iter().copied().collect::<Vec<Spot>>() {
                let Some(key) = self.by_number.get(&spot.1).cloned() else { continue };
                let Some(held) = self.held.get(&key) else { continue };
                let (tag, price) = (spot.0.min(due.max(held.earliest)), cost(held.bytes));
                if tag < spot.0 {
                    self.move_to(&key, spot, tag);
                }
                due = due.max(tag) + price;
            }
        }
    }

    fn take_turn(&mut self, key: &UploadKey, kind: Kind) {
        match kind {
            Kind::Large => self.taken.0 += 1,
            Kind::Small => self.taken.1 += 1,
        }
        self.under_way.insert(key.clone());
    }

    pub(super) fn give_turn_back(&mut self, key: &UploadKey) {
        let Some(held) = self.held.get(key) else { return };
        match held.kind {
            Kind::Large => self.taken.0 -= 1,
            Kind::Small => self.taken.1 -= 1,
        }
        self.under_way.remove(key);
        self.changed = true;
    }

    /// An upload that gave up its turn goes on, if there is room for it beyond the turns.
    pub(super) fn wake(&mut self, key: &UploadKey) -> bool {
        let Some(kind) = self.held.get(key).map(|held| held.kind) else { return false };
        if !self.has_room(kind, 2) {
            return false;
        }
        self.forget_dormant(key);
        if let Some(held) = self.held.get_mut(key) {
            held.state = State::Carried;
        }
        self.take_turn(key, kind);
        true
    }

    pub(super) fn forget_dormant(&mut self, key: &UploadKey) {
        let Some(number) = self.held.get(key).map(|held| held.spot.1) else { return };
        self.by_number.remove(&number);
        self.dormant.remove(&number);
        if let Some(client) = self.clients.get_mut(&key.client) {
            client.dormant.remove(&number);
        }
    }

    /// An upload that has begun and has no lane gives its turn up.
    pub(super) fn fall_asleep(&mut self, key: &UploadKey) {
        self.give_turn_back(key);
        let Some(held) = self.held.get_mut(key) else { return };
        let Some(client) = self.clients.get_mut(&key.client) else { return };
        let number = self.next_number;
        self.next_number += 1;
        held.state = State::Dormant;
        held.deadline = None;
        held.spot.1 = number;
        self.by_number.insert(number, key.clone());
        client.dormant.insert(number);
        self.dormant.insert(number);
        // Who lets many begin and goes would come back with all of them at once.
        let own = (client.dormant.len() > self.budgets.active).then(|| client.dormant.first());
        let of_all = (self.dormant.len() > self.budgets.waiting).then(|| self.dormant.first());
        let oldest = own.or(of_all).flatten();
        if let Some(oldest) = oldest.and_then(|number| self.by_number.get(number)).cloned() {
            self.drop_ticket(&oldest);
        }
    }
}
