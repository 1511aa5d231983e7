//! The TCP half of a listener: each connection says which lane it belongs to, and the gatekeeper is asked
//! before anything is kept for it: for the first of a lane, and for one that came before that. What is held
//! for a peer until then is one handshake's small buffers, for as long as a handshake may take.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Door, Slot};
use crate::error::{close_code, reason_bytes};
use crate::lane::tcp::frame::{Frame, HELLO_BYTES, Hello};
use crate::lane::tcp::handshake::{self, Secured};
use crate::lane::tcp::session::{Joining, Pulse, Session};
use crate::lane::tcp::{first_connections, stream};
use crate::lane::{Path, TcpLane, canonical};
use crate::memory::{Account, SMALLEST_SHARE};
use crate::pipe::{Carrier, PIPE_PATIENCE};
use crate::{Identity, Lane, LinkError, PeerName, PublicKey, TransportOptions, tls};

/// How long a data connection waits for the control connection of its lane, which it may overtake.
const HOLD: Duration = Duration::from_secs(2);

/// How many times longer a handshake through a pipe may take.
const PIPE_TIMES: u32 = 6;

/// How many data connections wait so, of one key and of all.
const MOST_HELD_PER_KEY: usize = 4;
const MOST_HELD: usize = 64;

/// How long telling a peer why it is turned away may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much is taken from a peer meanwhile.
const FAREWELL_BYTES: usize = 64 * 1024;

/// How long accepting rests when the system has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

pub(super) fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, LinkError> {
    let config = tls::tcp_server_config(identity);
    config.map(Arc::new).map_err(|error| LinkError::Setup { detail: error.to_string() })
}

/// Where a peer is, and the tunnel that it comes through, if it does.
type Whence = (SocketAddr, Option<Carrier>);

/// What the tasks behind the TCP socket share.
struct TcpDoor {
    door: Arc<Door>,
    tls: Arc<ServerConfig>,
    transport: TransportOptions,
    carrier: Option<Carrier>,
    lanes: Lanes,
}

/// Takes connections in until `gone` says that the listener goes, then ends every lane. Returns when the
/// peers could hear so.
pub(super) async fn keep(
    door: Arc<Door>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    (transport, carrier): (TransportOptions, Option<Carrier>),
    mut gone: watch::Receiver<Option<String>>,
) {
    let here = Arc::new(TcpDoor { door, tls, transport, carrier, lanes: Lanes::default() });
    let mut visits = JoinSet::new();
    let reason = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, remote)) => here.receive(socket, remote, &mut visits),
                // A connection that was gone before it was accepted, or no descriptor left for it.
                Err(_) => tokio::time::sleep(OUT_OF_DESCRIPTORS).await,
            },
            Some(_ended) = visits.join_next() => {}
            reason = going(&mut gone) => break reason,
        }
    };
    drop(listener);
    here.lanes.close(&reason);
    while visits.join_next().await.is_some() {}
}

/// Waits until the listener goes, and says why.
async fn going(gone: &mut watch::Receiver<Option<String>>) -> String {
    let reason = gone.wait_for(Option::is_some).await;
    reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
}

impl TcpDoor {
    fn receive(self: &Arc<Self>, socket: TcpStream, remote: SocketAddr, visits: &mut JoinSet<()>) {
        let remote = canonical(remote);
        // What comes out of a tunnel has an address of this machine, and is where its other end is.
        let carried = self.carrier.as_ref().and_then(|carrier| carrier.carries(remote));
        let (carrier, remote) = match carried {
            Some((carrier, origin)) => (Some(carrier), origin),
            None => (None, remote),
        };
        // Without a slot the connection is closed before anything was said, which means: busy.
        let Some((slot, ended)) = self.door.slots.take_handshake(remote.ip()) else { return };
        let visit = self.clone().visit(socket, (remote, carrier), slot);
        visits.spawn(async move {
            // Whoever is part of no lane yet may have to make room at any time: its place is another's then.
            tokio::select! {
                () = ended.wait() => {}
                () = visit => {}
            }
        });
    }

    /// One connection, from its handshake to its end.
    async fn visit(self: Arc<Self>, socket: TcpStream, (remote, carrier): Whence, slot: Slot) {
        stream::tune(&socket, self.transport.congestion, self.transport.idle_timeout);
        let meeting = async {
            let mut secured = handshake::answer(socket, self.tls.clone()).await.ok()?;
            let hello = secured.reader.read_exact::<HELLO_BYTES>().await.ok()?;
            Some((secured, hello))
        };
        // What comes through a pipe may wait behind other things.
        let times = if carrier.is_some() { PIPE_TIMES } else { 1 };
        let met = timeout(self.door.handshake_deadline * times, meeting).await;
        let Ok(Some((secured, hello))) = met else { return };
        let Some(key) = secured.key else { return };
        match Hello::decode(&hello) {
            None => turn_away(secured, close_code::PROTOCOL, "another version of haul").await,
            Some(Hello { lane, number: 0 }) => {
                self.admit(secured, lane, key, (remote, carrier), slot).await
            }
            Some(Hello { lane, number }) => {
                self.join(secured, (lane, number), key, remote, slot).await
            }
        }
    }

    /// The first connection of a lane: the gatekeeper is asked, and the lane lives in this task.
    async fn admit(
        &self,
        secured: Secured,
        lane: [u8; 16],
        key: PublicKey,
        (remote, carrier): Whence,
        mut slot: Slot,
    ) {
        let permissions = match self.door.gatekeeper.admit(&key, remote) {
            Ok(permissions) => permissions,
            Err(denied) => {
                return turn_away(secured, close_code::REFUSED, &denied.reason).await;
            }
        };
        if !slot.connect() {
            return turn_away(secured, close_code::BUSY, "no more connections are taken").await;
        }
        let known_as = self.door.gatekeeper.stands_for(&key);
        let name = PeerName::new(remote).with_key(known_as);
        let mut pulse = Pulse::of(&self.transport);
        if carrier.is_some() {
            pulse.idle_timeout = PIPE_PATIENCE;
        }
        let account = Account::new(SMALLEST_SHARE);
        let (session, joining) = Session::new(name.clone(), false, pulse, account.clone());
        session.outbox.welcome();
        let Some(_listed) = self.lanes.enlist(lane, key, &session) else {
            let reason = "a lane of that number lives already";
            return turn_away(secured, close_code::PROTOCOL, reason).await;
        };
        let _place = self.door.budget.join(session.clone(), account.clone());
        let (_over, ended) = watch::channel(());
        let path = TcpLane::new(session.clone(), remote, None, ended).through(carrier);
        let path = Path::Tcp(path);
        let ready = Lane::new(path, name, known_as, Some(permissions), account, Vec::new());
        let first = first_connections(&secured);
        let running = session.run(secured, joining, first, None);
        let announcing = async {
            // If nobody accepts any more, the lane is dropped, which ends it.
            let _ = self.door.lanes.send(ready).await;
        };
        tokio::join!(running, announcing);
    }

    /// A further connection of a lane, which must be the same peer's.
    async fn join(
        &self,
        secured: Secured,
        (lane, number): ([u8; 16], u16),
        key: PublicKey,
        remote: SocketAddr,
        mut slot: Slot,
    ) {
        // Nobody waits here who would not be let in: places to wait are few.
        let may_wait = || self.door.gatekeeper.admit(&key, remote).is_ok();
        let Some(session) = self.lanes.find(lane, key, may_wait).await else { return };
        if session.claim_first() {
            // Each lane has one, so they are counted by their lanes.
            slot.handshake_done();
        } else if !slot.join() {
            return;
        }
        session.attach(Joining { number, secured, held: Some(slot) }).await;
    }
}

/// Tells a peer why it is turned away, and waits a moment until it has heard.
async fn turn_away(mut secured: Secured, code: u32, reason: &str) {
    let _ = timeout(FAREWELL, say_farewell(&mut secured, code, reason)).await;
}

async fn say_farewell(
    secured: &mut Secured,
    code: u32,
    reason: &str,
) -> Result<(), stream::StreamError> {
    let mut close = Vec::new();
    Frame::Close { code, reason: reason_bytes(reason).to_vec() }.encode(&mut close);
    secured.writer.write(&mut [&close]).await?;
    secured.writer.finish().await?;
    // Closing while something unread is there would take our words back.
    let mut taken = 0;
    while taken < FAREWELL_BYTES && secured.reader.fill(false).await? {
        let ready = secured.reader.ready()?.len();
        secured.reader.consume(ready);
        taken += ready;
    }
    Ok(())
}

/// The lanes that live, by the number that their dialers chose.
#[derive(Default)]
struct Lanes {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Default)]
struct Table {
    live: HashMap<[u8; 16], (PublicKey, Arc<Session>)>,
    /// Data connections that wait for their lane, by key.
    held: HashMap<PublicKey, usize>,
    held_in_all: usize,
    closed: bool,
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a lane until the result is dropped; none if its number is taken.
    fn enlist(&self, lane: [u8; 16], key: PublicKey, session: &Arc<Session>) -> Option<Listed<'_>> {
        let mut table = self.lock();
        if table.closed || table.live.contains_key(&lane) {
            return None;
        }
        table.live.insert(lane, (key, session.clone()));
        drop(table);
        self.changed.notify_waiters();
        Some(Listed { lanes: self, lane })
    }

    /// The lane of that number, if it is that key's; it may come within [`HOLD`] if the key `may_wait`.
    async fn find(
        &self,
        lane: [u8; 16],
        key: PublicKey,
        may_wait: impl Fn() -> bool,
    ) -> Option<Arc<Session>> {
        let deadline = Instant::now() + HOLD;
        let mut waiting = None;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            if let Some((owner, session)) = self.lock().live.get(&lane) {
                return (*owner == key).then(|| session.clone());
            }
            if waiting.is_none() {
                if !may_wait() {
                    return None;
                }
                waiting = Some(Held::new(self, key)?);
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    fn close(&self, reason: &str) {
        let mut table = self.lock();
        table.closed = true;
        for (_, session) in table.live.values() {
            session.close(close_code::GOING_AWAY, reason);
        }
    }
}

/// A lane's line in the list.
struct Listed<'a> {
    lanes: &'a Lanes,
    lane: [u8; 16],
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.lanes.lock().live.remove(&self.lane);
    }
}

/// A data connection that waits for its lane.
struct Held<'a> {
    lanes: &'a Lanes,
    key: PublicKey,
}

impl<'a> Held<'a> {
    fn new(lanes: &'a Lanes, key: PublicKey) -> Option<Self> {
        let mut table = lanes.lock();
        let of_key = table.held.get(&key).copied().unwrap_or(0);
        if of_key >= MOST_HELD_PER_KEY || table.held_in_all >= MOST_HELD {
            return None;
        }
        table.held.insert(key, of_key + 1);
        table.held_in_all += 1;
        Some(Self { lanes, key })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut table = self.lanes.lock();
        table.held_in_all -= 1;
        if let Some(count) = table.held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                table.held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
