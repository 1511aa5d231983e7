//! The connections that the other side has told of, and how far each has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::pipe::Pipe;
use super::{FORGOTTEN_AFTER, Figures, Key, Onward, Outlet, Outlets, SESSION_NAMES_WITHIN};
use crate::channel::order::{DatagramOrder, StreamOrder};
use crate::channel::{MOST_CONNECTIONS, carrier_of};
use crate::record::Carrier;

/// Connections of all channels that are remembered, those that have ended among them.
const MOST_LINKS: usize = 16 * MOST_CONNECTIONS;

/// Bytes of a connection that may come before its name.
const MOST_UNNAMED: usize = 8 << 20;

/// Bytes of all connections that may wait for what is missing before them.
const MOST_HELD: usize = 64 << 20;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<Key, Link>,
    /// Bytes that wait for what is missing before them.
    held: usize,
    session: Option<Instant>,
    unclaimed: u64,
}

#[derive(Debug)]
struct Link {
    /// When it was last named; before it is, when it was first heard of.
    named: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What came before its name, and how many bytes that is.
    Unnamed(Vec<(Place, Vec<u8>)>, usize),
    /// A connection, which leads to an outlet.
    Tcp(usize, Tcp),
    /// Datagrams, which lead to an outlet.
    Udp(usize, DatagramOrder),
    /// It leads nowhere, or has ended. What comes late of it must not begin it anew.
    Over,
}

/// Where bytes belong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// At an offset of a connection, or as a whole datagram of that number.
    Whole(u64),
    /// In a datagram: its number, where they begin in it, and its length.
    Piece(u64, u16, u16),
}

#[derive(Debug, Default)]
struct Tcp {
    order: StreamOrder,
    pipe: Option<Arc<Pipe>>,
    /// Whether its sender ended it as it wanted.
    is_whole: bool,
}

impl Links {
    pub(super) fn session_began(&mut self, now: Instant) {
        self.session = Some(now);
    }

    pub(super) fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.links.len(), self.held)
    }

    /// A connection was named, perhaps not for the first time.
    pub(super) fn opened(
        &mut self,
        all: &Outlets,
        key: Key,
        carrier: Carrier,
        name: &str,
        now: Instant,
    ) {
        let is_new = self.change(key, now, |link, _| {
            link.named = now;
            matches!(link.state, State::Unnamed(..))
        });
        if is_new != Some(true) {
            return;
        }
        let leads_to = |outlet: &Outlet| {
            outlet.channel.name == name && carrier_of(&outlet.channel.to) == carrier
        };
        let state = match all.outlets.iter().position(leads_to) {
            Some(at) => all.outlets[at].begin(at, carrier),
            None => {
                self.unclaimed += 1;
                State::Over
            }
        };
        let before = self.change(key, now, |link, _| std::mem::replace(&mut link.state, state));
        if let Some(State::Unnamed(waiting, _)) = before {
            for (place, bytes) in waiting {
                self.data(all, key, place, &bytes, now);
            }
        }
    }

    pub(super) fn data(
        &mut self,
        all: &Outlets,
        key: Key,
        place: Place,
        bytes: &[u8],
        now: Instant,
    ) {
        self.change(key, now, |link, held| {
            let has_room = held + bytes.len() <= MOST_HELD;
            match (&mut link.state, place) {
                (State::Unnamed(waiting, length), _) => {
                    if has_room && *length + bytes.len() <= MOST_UNNAMED {
                        // One without bytes takes memory too.
                        *length += bytes.len().max(64);
                        waiting.push((place, bytes.to_vec()));
                    }
                }
                (State::Udp(at, order), Place::Whole(number)) => {
                    if order.take(number, now) {
                        all.outlets[*at].send(bytes);
                    }
                }
                (State::Udp(at, order), Place::Piece(number, begin, total)) => {
                    if held + usize::from(total) <= MOST_HELD
                        && let Some(whole) = order.take_piece(number, begin, total, bytes, now)
                    {
                        all.outlets[*at].send(&whole);
                    }
                }
                (State::Tcp(at, tcp), Place::Whole(offset)) => {
                    let outlet = &all.outlets[*at];
                    let has_room = has_room || offset <= tcp.order.next();
                    if !has_room || !tcp.take(offset, bytes, now, outlet, all) {
                        // Too much waits for what is missing: it will not come any more.
                        tcp.gap(outlet, all);
                        tcp.take(offset, bytes, now, outlet, all);
                    }
                    link.settle(all);
                }
                // A connection has no pieces.
                (State::Tcp(..), Place::Piece(..)) | (State::Over, _) => {}
            }
        });
    }

    pub(super) fn closed(
        &mut self,
        all: &Outlets,
        key: Key,
        length: u64,
        is_whole: bool,
        now: Instant,
    ) {
        self.change(key, now, |link, _| match &mut link.state {
            State::Udp(..) => link.end(all),
            State::Tcp(_, tcp) => {
                tcp.is_whole = is_whole;
                tcp.order.end(length, now);
                link.settle(all);
            }
            State::Unnamed(..) | State::Over => {}
        });
    }

    pub(super) fn tick(&mut self, all: &Outlets, now: Instant) {
        let session = self.session;
        let keys: Vec<Key> = self.links.keys().copied().collect();
        for key in keys {
            let is_forgotten = self.change(key, now, |link, _| {
                if link.is_forgotten(session, now) {
                    link.end(all);
                    return true;
                }
                link.tick(all, now);
                false
            });
            if is_forgotten == Some(true) {
                self.links.remove(&key);
            }
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, all: &Outlets) {
        self.links.values_mut().for_each(|link| link.end(all));
        self.links.clear();
        self.held = 0;
    }

    /// Changes the connection of that key, which may be new, told how many bytes wait in all. None if there are too many
    /// connections.
    fn change<T>(
        &mut self,
        key: Key,
        now: Instant,
        change: impl FnOnce(&mut Link, usize) -> T,
    ) -> Option<T> {
        if !self.links.contains_key(&key) && self.links.len() >= MOST_LINKS {
            let over = self.links.iter().find(|(_, link)| matches!(link.state, State::Over));
            let over = over.map(|(key, _)| *key)?;
            self.links.remove(&over);
        }
        let new = || Link { named: now, state: State::Unnamed(Vec::new(), 0) };
        let link = self.links.entry(key).or_insert_with(new);
        let before = link.held();
        let result = change(link, self.held);
        self.held = self.held + link.held() - before;
        Some(result)
    }
}

impl Link {
    fn is_forgotten(&self, session: Option<Instant>, now: Instant) -> bool {
        let is_of_before = session.is_some_and(|began| {
            self.named < began && now.saturating_duration_since(began) >= SESSION_NAMES_WITHIN
        });
        is_of_before || now.saturating_duration_since(self.named) >= FORGOTTEN_AFTER
    }

    /// Bytes that wait.
    fn held(&self) -> usize {
        match &self.state {
            State::Unnamed(_, length) => *length,
            State::Tcp(_, tcp) => tcp.order.held_bytes(),
            State::Udp(_, order) => order.held_bytes(),
            State::Over => 0,
        }
    }

    fn tick(&mut self, all: &Outlets, now: Instant) {
        match &mut self.state {
            State::Udp(at, order) => {
                order.tick(now);
                all.outlets[*at].lost_datagrams(order.take_lost());
            }
            State::Tcp(at, tcp) => {
                while tcp.order.has_lost(now) && !tcp.is_dead() {
                    tcp.gap(&all.outlets[*at], all);
                }
                self.settle(all);
            }
            State::Unnamed(..) | State::Over => {}
        }
    }

    /// Ends a connection that has given away everything, or that nobody takes.
    fn settle(&mut self, all: &Outlets) {
        let State::Tcp(at, tcp) = &mut self.state else { return };
        let (is_done, is_whole) = (tcp.order.is_done(), tcp.is_whole);
        // One without any bytes is a connection too.
        if is_done && let Some(pipe) = tcp.pipe(&all.outlets[*at], all) {
            pipe.end(is_whole);
        }
        if is_done || tcp.is_dead() {
            self.state = State::Over;
        }
    }

    /// Ends it before its sender said so, or as nothing but its sender's word ends it.
    fn end(&mut self, all: &Outlets) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Udp(at, mut order) => {
                order.end();
                all.outlets[at].lost_datagrams(order.take_lost());
                all.outlets[at].figures.ends(true);
            }
            State::Tcp(at, tcp) => tcp.give_up(&all.outlets[at]),
            State::Unnamed(..) | State::Over => {}
        }
    }
}

impl Tcp {
    /// Takes bytes and hands on what is in order; false if there is no room for them.
    fn take(
        &mut self,
        offset: u64,
        bytes: &[u8],
        now: Instant,
        outlet: &Outlet,
        all: &Outlets,
    ) -> bool {
        let mut ready = Vec::new();
        let taken = self.order.take(offset, bytes, now, |bytes| ready.extend_from_slice(bytes));
        self.hand_on(ready, outlet, all);
        taken.is_ok()
    }

    /// Bytes are missing for good. The connection goes on behind them if it may, as another; else it is broken, and what
    /// comes of it is lost.
    fn gap(&mut self, outlet: &Outlet, all: &Outlets) {
        let mut ready = Vec::new();
        let missing = self.order.skip(|bytes| ready.extend_from_slice(bytes));
        outlet.lost_bytes(missing);
        if !outlet.channel.goes_on {
            outlet.lost_bytes(ready.len() as u64);
            match &self.pipe {
                Some(pipe) => pipe.end(false),
                None => outlet.figures.ends(false),
            }
            self.pipe = Some(Pipe::dead());
            return;
        }
        if let Some(pipe) = &self.pipe {
            pipe.cut();
        }
        self.hand_on(ready, outlet, all);
    }

    fn hand_on(&mut self, bytes: Vec<u8>, outlet: &Outlet, all: &Outlets) {
        if bytes.is_empty() {
            return;
        }
        match self.pipe(outlet, all) {
            Some(pipe) => pipe.push(bytes),
            None => outlet.lost_bytes(bytes.len() as u64),
        }
    }

    /// Whom to hand bytes on to; there is somebody from the first ones on, unless no thread can be had.
    fn pipe(&mut self, outlet: &Outlet, all: &Outlets) -> Option<&Arc<Pipe>> {
        if self.pipe.is_none()
            && let Onward::Tcp(way) = &outlet.way
        {
            let pipe = all.writers.begin(way, &outlet.figures, outlet.channel.goes_on);
            self.pipe = Some(pipe.unwrap_or_else(|| {
                outlet.figures.ends(false);
                Pipe::dead()
            }));
        }
        self.pipe.as_ref().filter(|pipe| !pipe.is_dead())
    }

    /// Whether nobody takes any more.
    fn is_dead(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.is_dead())
    }

    fn give_up(self, outlet: &Outlet) {
        match &self.pipe {
            Some(pipe) => pipe.end(false),
            None => outlet.figures.ends(false),
        }
    }
}

impl Outlet {
    /// The state of a connection that begins.
    fn begin(&self, at: usize, carrier: Carrier) -> State {
        if self.figures.open.load(Ordering::Relaxed) >= MOST_CONNECTIONS as u64 {
            Figures::add(&self.figures.refused, 1);
            return State::Over;
        }
        self.figures.begins();
        match carrier {
            Carrier::Udp => State::Udp(at, DatagramOrder::default()),
            Carrier::Tcp => State::Tcp(at, Tcp::default()),
        }
    }
}
