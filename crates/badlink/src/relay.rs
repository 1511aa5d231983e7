//! A UDP relay in process: between clients and one target, a bad link for each direction.
//!
//! One task owns all sockets. Each turn of it holds the lock, sends what is due, takes in a bounded
//! batch from every socket and lets go; a control call is a change under the same lock, so it holds
//! from the moment it returns. Memory is bounded: clients by number, packets under way by bytes.

mod pump;

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::model::Profile;
pub use crate::wire::DirectionStats;
use pump::{Dark, Pump, nanos, open, upstream_address};

/// Where a relay listens, where it sends, and what it does on the way.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where clients reach the relay; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where their datagrams go.
    pub target: SocketAddr,
    /// The link from the clients to the target.
    pub to_target: Profile,
    /// The link from the target to the clients.
    pub to_client: Profile,
    /// All chance comes from here.
    pub seed: u64,
    /// Longer UDP payloads are dropped, as a path drops them during MTU discovery; `None` passes
    /// all that UDP can carry.
    pub mtu: Option<usize>,
    /// A client beyond this number takes the place of the one silent for longest.
    pub max_clients: usize,
    /// Bytes that may be under way in each direction; more are counted as queue-full.
    pub under_way_bytes: usize,
}

impl RelayOptions {
    /// A perfect link to `target` from a free port of 127.0.0.1, with an Ethernet MTU.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            target,
            to_target: Profile::default(),
            to_client: Profile::default(),
            seed: 0,
            mtu: Some(1500 - 28),
            max_clients: 64,
            under_way_bytes: 64 << 20,
        }
    }
}

/// What became of all datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// From clients to the target.
    pub to_target: DirectionStats,
    /// From the target to clients.
    pub to_client: DirectionStats,
}

/// Why a relay did not start or could not change its sockets.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Called outside of a tokio runtime.
    #[error("a relay needs a tokio runtime with IO and time")]
    NoRuntime,
    /// The listening socket could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A socket towards the target could not be opened.
    #[error("cannot open a socket towards {target}")]
    Upstream {
        /// Towards whom.
        target: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running relay; dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    local_addr: SocketAddr,
    pump: Arc<Mutex<Pump>>,
    runtime: Handle,
    task: JoinHandle<()>,
}

impl Relay {
    /// Opens the socket and starts the relay's task on the current runtime.
    ///
    /// # Errors
    /// Without a runtime, or when `listen` is not to be had.
    pub fn start(options: RelayOptions) -> Result<Self, RelayError> {
        let runtime = Handle::try_current().map_err(|_| RelayError::NoRuntime)?;
        let listen = options.listen;
        let listen_failed = |source| RelayError::Listen { address: listen, source };
        let socket = open(listen).map_err(listen_failed)?;
        let local_addr = socket.local_addr().map_err(listen_failed)?;
        let pump = Arc::new(Mutex::new(Pump::new(socket, options)));
        let shared = Arc::clone(&pump);
        // The turns are bounded by BATCH, so tokio's own budget would only starve the last sockets.
        let task = runtime.spawn(tokio::task::unconstrained(poll_fn(move |cx| {
            lock(&shared).turn(cx);
            Poll::<()>::Pending
        })));
        Ok(Self { local_addr, pump, runtime, task })
    }

    /// Where clients reach the relay.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        let pump = lock(&self.pump);
        RelayStats { to_target: pump.to_target.stats, to_client: pump.to_client.stats }
    }

    /// Changes what the links do from the next datagram on.
    pub fn set_profiles(&self, to_target: Profile, to_client: Profile) {
        let mut pump = lock(&self.pump);
        pump.to_target.set_profile(to_target);
        pump.to_client.set_profile(to_client);
    }

    /// Cuts the wire: nothing passes until `restore`, and what is under way is lost.
    pub fn cut(&self) {
        lock(&self.pump).darken(Dark::UntilRestored);
    }

    /// Mends the wire, also before the end of a blackout.
    pub fn restore(&self) {
        lock(&self.pump).dark = Dark::Never;
    }

    /// Cuts the wire for so long; it mends by itself.
    pub fn blackout(&self, duration: Duration) {
        let mut pump = lock(&self.pump);
        let until = pump.now().saturating_add(nanos(duration));
        pump.darken(Dark::Until(until));
    }

    /// Gives every client a new socket towards the target, as a NAT does that has forgotten them:
    /// the target sees them come from new addresses, and what it sends to the old ones is lost.
    ///
    /// # Errors
    /// When the system gives no more sockets; some clients may have moved then.
    pub fn rebind(&self) -> Result<(), RelayError> {
        let _runtime = self.runtime.enter();
        lock(&self.pump).rebind()
    }

    /// Sends to another target from now on, and listens to no other: it restarted elsewhere.
    ///
    /// # Errors
    /// When the new target needs other sockets and the system gives none.
    pub fn retarget(&self, target: SocketAddr) -> Result<(), RelayError> {
        let _runtime = self.runtime.enter();
        let mut pump = lock(&self.pump);
        let same_socket = upstream_address(pump.target) == upstream_address(target);
        pump.target = target;
        if same_socket { Ok(()) } else { pump.rebind() }
    }

    /// Ends the relay and returns when its sockets are closed.
    pub async fn close(mut self) {
        self.task.abort();
        // The only outcome is that the task was cancelled.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
/// A panic under the lock is the relay's end, but not that of whoever asks for its figures.
fn lock(pump: &Mutex<Pump>) -> MutexGuard<'_, Pump> {
    pump.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
