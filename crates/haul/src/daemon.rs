//! A daemon: a listener, the server of what peers ask, and the watch over lanes whose key has lost its
//! right to be there. `haul serve` runs one until it is stopped; `haul try` runs one for a moment.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use events::Sink;
use link::pipe::Carrier;
use link::{
    Denied, Gatekeeper, Identity, Lane, LinkError, ListenOptions, Listener, Permissions, Warning,
    close_code,
};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use transfer::host::Host;
use transfer::reception::Reception;
use transfer::serve::{GrantBook, KEEP, OwnListener, Server, ServerOptions};

use crate::enrolment::Enrolment;
use crate::trust::{Door, LiveKeys, Log, STAY, StrangerPlace};

/// How often the lanes are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long peers are given to hear that the daemon goes.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a daemon needs.
pub struct DaemonOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who it is, and who signs.
    pub identity: Arc<Identity>,
    /// Which folders, and who may what in them.
    pub host: Arc<dyn Host>,
    /// Told what happens.
    pub sink: Sink,
    /// The pipe that peers may come through, if there is one.
    pub carrier: Option<Carrier>,
    /// Its inboxes, if it has any.
    pub reception: Option<Arc<dyn Reception>>,
}

/// A daemon that listens.
pub struct Daemon {
    listener: Listener,
    server: Arc<Server>,
    door: Option<Arc<Door>>,
    log: Log,
    guests: watch::Sender<Guests>,
    /// How long transfers wait for who dialled.
    keep: Duration,
}

impl Daemon {
    /// Opens the socket; peers are served once [`Daemon::run`] is polled. Must be called within a
    /// tokio runtime.
    pub fn bind(
        options: DaemonOptions,
        gatekeeper: Arc<dyn Gatekeeper>,
    ) -> Result<Self, LinkError> {
        Self::open(options, gatekeeper, None, GrantBook::default(), Arc::new(|_| {}))
    }

    /// The same with keys that may be revoked while their lanes are open, and a desk for those that are not known.
    pub(crate) fn bind_live(
        options: DaemonOptions,
        keys: Arc<LiveKeys>,
        desk: Option<Arc<Enrolment>>,
        log: Log,
    ) -> Result<Self, LinkError> {
        let grants = GrantBook::default();
        let door = Arc::new(Door::new(keys, grants.clone()).with_desk(desk));
        Self::open(options, door.clone(), Some(door), grants, log)
    }

    fn open(
        options: DaemonOptions,
        gatekeeper: Arc<dyn Gatekeeper>,
        door: Option<Arc<Door>>,
        grants: GrantBook,
        log: Log,
    ) -> Result<Self, LinkError> {
        let DaemonOptions { listen, identity, host, sink, carrier, reception } = options;
        // Who takes grants also takes those who come by them, through whoever was granted them.
        let tunnels = door.is_some().then(|| carrier.clone().unwrap_or_default());
        let carrier = tunnels.clone().or(carrier);
        let options = ListenOptions { carrier, ..ListenOptions::default() };
        let listener = Listener::bind(listen, &identity, gatekeeper, options)?;
        let address = reached_from_here(listener.local_addr());
        let own = tunnels.map(|carrier| OwnListener { address, carrier });
        let server = Server::open(ServerOptions { host, sink, book: grants, own, reception });
        let (guests, _) = watch::channel(Guests { lanes: 0, parted: true });
        Ok(Self { listener, server, door, log, guests, keep: KEEP })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// What the operator should know about the socket.
    pub fn warnings(&self) -> &[Warning] {
        self.listener.warnings()
    }

    /// Who is being served.
    pub(crate) fn guests(&self) -> watch::Receiver<Guests> {
        self.guests.subscribe()
    }

    /// Serves until `stop` is done; then peers are told, and what has arrived is kept.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut guests = Served::new();
        let mut watch = tokio::time::interval(WATCH_EVERY);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                lane = self.listener.accept() => match lane {
                    Ok(lane) => self.welcome(lane, &mut guests),
                    Err(_closed) => break,
                },
                Some(ended) = guests.tasks.join_next_with_id() => guests.part(ended, &self.log),
                _ = watch.tick() => {
                    self.server.sweep(self.keep);
                    if let Some(door) = &self.door {
                        guests.check(|peer, remote| door.check(peer, remote.ip()));
                    }
                },
                () = &mut stop => break,
            }
            self.guests.send_if_modified(|count| {
                let now = Guests { lanes: guests.lanes.len(), parted: guests.parted };
                std::mem::replace(count, now) != now
            });
        }
        self.listener.close("the daemon is being stopped", FAREWELL).await;
        // Whoever is still at the disk may finish what it holds; the link is gone for all of them.
        let last = async { while guests.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, last).await;
    }
}

impl Daemon {
    /// Serves a lane. Those of unknown keys are few and do not last.
    fn welcome(&self, lane: Lane, guests: &mut Served) {
        let is_stranger = lane.permissions().is_some_and(|allowed| allowed.is_stranger);
        let place = match &self.door {
            Some(door) if is_stranger => match door.strangers().take(lane.remote_address().ip()) {
                Some(place) => Some(place),
                None => {
                    lane.close(close_code::BUSY, "too many unknown keys ask here just now");
                    return;
                }
            },
            _ => None,
        };
        guests.welcome(lane, &self.server, &self.log, place);
    }
}

/// Where this machine itself reaches a listener: one at any address takes IPv4 of the loopback too.
fn reached_from_here(local: SocketAddr) -> SocketAddr {
    match local.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, local.port()).into(),
        false => local,
    }
}

/// Who is being served, for whoever waits for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guests {
    /// How many lanes there are.
    pub(crate) lanes: usize,
    /// Whether the last lane that ended was closed by its peer because all was done, or there was none yet.
    pub(crate) parted: bool,
}

/// The lanes that are being served.
struct Served {
    tasks: JoinSet<bool>,
    lanes: HashMap<Id, Guest>,
    parted: bool,
}

struct Guest {
    lane: Lane,
    /// Whether it has asked for something, and the log names it.
    is_told: Arc<AtomicBool>,
}

impl Served {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), lanes: HashMap::new(), parted: true }
    }

    /// Serves a lane. It is told of when its first request comes, for of the kinds of lane that a dialler
    /// tries at once all but one are closed without a word.
    fn welcome(
        &mut self,
        lane: Lane,
        server: &Arc<Server>,
        log: &Log,
        place: Option<StrangerPlace>,
    ) {
        let is_told = Arc::new(AtomicBool::new(false));
        let (told, log, asking) = (is_told.clone(), log.clone(), lane.clone());
        let asked = move || {
            let comment = asking.permissions().map_or("", |allowed| allowed.comment.as_str());
            let comment = files::escape(comment.as_bytes());
            log(&format!("{} connected over {} ({comment})", asking.peer_name(), asking.kind()));
            told.store(true, Ordering::Relaxed);
        };
        let (serving, serves) = (Arc::clone(server).serve(lane.clone(), asked), lane.clone());
        let task = self.tasks.spawn(async move {
            let Some(_place) = place else { return serving.await };
            let served = tokio::time::timeout(STAY, serving).await;
            if served.is_err() {
                serves.close(close_code::GOING_AWAY, "an unknown key may not stay longer");
            }
            served.unwrap_or(false)
        });
        self.lanes.insert(task.id(), Guest { lane, is_told });
    }

    fn part(&mut self, ended: Result<(Id, bool), tokio::task::JoinError>, log: &Log) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(Guest { lane, is_told }) = self.lanes.remove(&id) else { return };
        self.parted = matches!(ended, Ok((_, true)));
        match ended {
            Err(error) if error.is_panic() => {
                log(&format!("{}: the lane ended by a fault of this program", lane.peer_name()));
            }
            _ if is_told.load(Ordering::Relaxed) => log(&format!("{} left", lane.peer_name())),
            _ => {}
        }
    }

    /// Closes lanes whose key may no longer do what they were opened for. Where it may do something
    /// else now, the peer comes back by itself and finds that in force.
    fn check(&self, allowed: impl Fn(&link::PublicKey, SocketAddr) -> Result<Permissions, Denied>) {
        for Guest { lane, .. } in self.lanes.values() {
            match allowed(lane.peer(), lane.remote_address()) {
                Err(denied) => lane.close(close_code::REFUSED, &denied.reason),
                // A stranger that was let in just now reads its answer and goes by itself.
                Ok(_) if lane.permissions().is_some_and(|then| then.is_stranger) => {}
                Ok(now) if lane.permissions().is_some_and(|then| *then != now) => {
                    lane.close(close_code::GOING_AWAY, "the permissions of this key were changed");
                }
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
