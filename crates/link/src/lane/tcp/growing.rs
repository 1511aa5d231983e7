//! Carries out what the search for the number of connections wishes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use super::growth::{self, Growth, Sight};
use super::info;
use super::session::{Extend, MOST_CONNECTIONS, Session, Task};
#[cfg(target_os = "linux")]
use crate::Congestion;

/// The number of connections of the direction in which we send.
pub(super) struct Growing {
    growth: Growth,
    extender: Option<Arc<dyn Extend>>,
    opened: u16,
    starved: u64,
    held: (Duration, Duration),
    /// Whether the kernel's congestion control may be changed while a connection lives.
    may_change: bool,
}

impl Growing {
    pub(super) fn new(first: u16, extender: Option<Arc<dyn Extend>>) -> Self {
        Self {
            growth: Growth::new(first),
            extender,
            opened: first,
            starved: 0,
            held: Default::default(),
            may_change: true,
        }
    }

    /// Sees to it that each connection has the congestion control that suits what was seen of its path.
    #[cfg(target_os = "linux")]
    fn review(&mut self, session: &Session) {
        if session.congestion() == Congestion::Cubic || !self.may_change {
            return;
        }
        self.may_change = session.sockets.review().is_ok();
    }

    pub(super) fn look(&mut self, session: &Arc<Session>, tasks: &mut JoinSet<Task>) {
        if session.sockets.gives_way() {
            // Several would take the part of several.
            if session.using.swap(1, Ordering::Relaxed) != 1 {
                session.bench.notify_waiters();
            }
            return;
        }
        #[cfg(target_os = "linux")]
        self.review(session);
        let (acknowledged, starved, under_way) = {
            let queue = session.queue();
            (queue.acknowledged(), queue.starved(), queue.has_under_way())
        };
        let busy = under_way && starved == self.starved;
        self.starved = starved;
        let figures =
            if busy { info::sum(&session.sockets.live()) } else { info::Figures::default() };
        let (peer, whole) = (figures.peer_limited, figures.busy);
        let held = (peer.saturating_sub(self.held.0), whole.saturating_sub(self.held.1));
        self.held = (peer, whole);
        let wish = self.growth.look(Sight {
            now: session.started.elapsed(),
            acknowledged,
            busy,
            peer_limited: held.0 * 2 > held.1,
            open: session.open_connections(),
            lost: session.has_lost(),
            rtt: figures.min_rtt,
        });
        if session.using.swap(wish.using, Ordering::Relaxed) != wish.using {
            session.bench.notify_waiters();
        }
        if wish.open {
            match self.extender {
                Some(_) => self.open(session, tasks),
                None => session.outbox.more(session.open_connections() + 1),
            }
        }
    }

    /// Opens one more connection, if this is the side that can.
    pub(super) fn open(&mut self, session: &Arc<Session>, tasks: &mut JoinSet<Task>) {
        let rtt = info::sum(&session.sockets.live()).min_rtt;
        if self.opened >= growth::most(rtt).min(MOST_CONNECTIONS) {
            return;
        }
        if let Some(extender) = &self.extender {
            self.opened += 1;
            extender.clone().extend(self.opened, session.clone(), tasks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::tcp::session::Pulse;
    use crate::memory::{Account, LARGEST_SHARE};
    use crate::rig::any_port;
    use crate::{PeerName, TransportOptions};

    #[tokio::test]
    async fn whoever_gives_way_goes_over_one_connection() {
        let pulse = Pulse::of(&TransportOptions::default());
        let account = Account::new(LARGEST_SHARE);
        let (session, _joining) = Session::new(PeerName::new(any_port()), false, pulse, account);
        session.using.store(2, Ordering::Relaxed);
        let (mut growing, mut tasks) = (Growing::new(2, None), JoinSet::new());
        growing.look(&session, &mut tasks);
        assert_eq!(session.using.load(Ordering::Relaxed), 2);
        session.give_way();
        growing.look(&session, &mut tasks);
        assert_eq!(session.using.load(Ordering::Relaxed), 1);
    }
}
