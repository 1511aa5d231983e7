//! Whom this machine trusts, as the link asks: the keys of hosts that are dialled, and the keys that
//! may connect. The list of the latter is read again whenever its file has changed, so that an added
//! key works and a revoked one stops working without a restart.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use files::{Attributes, Dir};
use jiff::Timestamp;
use link::{
    AuthorizedKeys, Denied, Gatekeeper, HostCheck, HostRefused, KnownHosts, Lookup, Permissions,
    PublicKey, Target,
};
use transfer::grant::Granter;
use transfer::serve::GrantBook;

use crate::enrolment::Enrolment;
use crate::state::{self, AUTHORIZED_KEYS, path_of};

mod strangers;

pub use strangers::{Place as StrangerPlace, STAY, Strangers};

/// The same unknown key is not logged again within this time.
const QUIET: Duration = Duration::from_secs(60);
/// Unknown keys remembered for that; beyond them all may be logged again.
const MAX_REMEMBERED: usize = 256;

/// Checks hosts against `known_hosts`.
pub struct KnownHostCheck(pub KnownHosts);

impl HostCheck for KnownHostCheck {
    fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        let target = Target { host: host.to_owned(), port };
        match self.0.lookup(&target, key) {
            Lookup::Known => Ok(()),
            Lookup::Changed { expected } => Err(HostRefused::Changed { expected }),
            Lookup::Unknown => Err(HostRefused::Unknown),
        }
    }
}

/// Accepts one key: that of a daemon in this process.
pub struct Pinned(pub PublicKey);

impl HostCheck for Pinned {
    fn check(&self, _host: &str, _port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        if *key == self.0 {
            return Ok(());
        }
        Err(HostRefused::Other { reason: "it is not the daemon of this process".to_owned() })
    }
}

/// Admits one key, to everything.
pub struct OneKey(pub PublicKey);

impl Gatekeeper for OneKey {
    fn admit(&self, peer: &PublicKey, _remote: SocketAddr) -> Result<Permissions, Denied> {
        if *peer == self.0 {
            return Ok(Permissions::unrestricted());
        }
        Err(Denied::new("this daemon serves its own process only"))
    }
}

/// Told what an operator should know; may be called from any thread.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Admits the keys of an `authorized_keys` file as it is at that moment.
pub struct LiveKeys {
    dir: Dir,
    log: Log,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    keys: AuthorizedKeys,
    /// What the file looked like when it was read; none if there was none.
    stamp: Option<Attributes>,
    is_read: bool,
    refused: HashMap<PublicKey, Instant>,
}

impl LiveKeys {
    /// Keys of the file in this folder.
    pub fn new(dir: Dir, log: Log) -> Self {
        Self { dir, log, loaded: Mutex::default() }
    }

    /// How many keys may connect now.
    pub fn count(&self) -> usize {
        self.current().keys.keys().len()
    }

    /// What a key may do now, asked without a connection and without a line in the log.
    pub fn check(&self, peer: &PublicKey, remote: IpAddr) -> Result<Permissions, Denied> {
        self.current().keys.check(peer, remote, Timestamp::now())
    }

    /// The list, read again if the file is another one than before.
    fn current(&self) -> MutexGuard<'_, Loaded> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.dir.attributes_of(&path_of(AUTHORIZED_KEYS)).ok();
        let same = match (&loaded.stamp, &stamp) {
            (Some(old), Some(new)) => new.unchanged_since(old),
            (None, None) => true,
            _ => false,
        };
        if loaded.is_read && same {
            return loaded;
        }
        match state::read_list(&self.dir, AUTHORIZED_KEYS) {
            Ok(text) => {
                loaded.keys = AuthorizedKeys::parse(&text);
                for problem in loaded.keys.problems() {
                    (self.log)(&format!(
                        "{AUTHORIZED_KEYS} line {}: {}; the line admits nobody",
                        problem.line, problem.reason
                    ));
                }
            }
            Err(error) => {
                // A list that cannot be read admits nobody, rather than those of yesterday.
                loaded.keys = AuthorizedKeys::default();
                (self.log)(&format!("nobody may connect: {error:#}"));
            }
        }
        loaded.stamp = stamp;
        loaded.is_read = true;
        loaded
    }
}

impl Gatekeeper for LiveKeys {
    fn admit(&self, peer: &PublicKey, remote: SocketAddr) -> Result<Permissions, Denied> {
        let mut loaded = self.current();
        let answer = loaded.keys.check(peer, remote.ip(), Timestamp::now());
        let Err(denied) = &answer else { return answer };
        let is_new = loaded.refused.get(peer).is_none_or(|at| at.elapsed() > QUIET);
        if is_new {
            if loaded.refused.len() >= MAX_REMEMBERED {
                loaded.refused.clear();
            }
            loaded.refused.insert(*peer, Instant::now());
            let known = loaded.keys.keys().iter().any(|(key, _)| key == peer);
            let advice = match known {
                true => String::new(),
                false => format!("; to admit it: haul key allow '{}'", peer.to_line("")),
            };
            (self.log)(&format!("turned {remote} away: {denied}{advice}"));
        }
        answer
    }
}

/// Admits the keys of the list, and whoever else was granted something by one of them, for that alone. Where there is
/// a desk for it, others may come in to ask whether they may.
pub struct Door {
    keys: Arc<LiveKeys>,
    grants: GrantBook,
    desk: Option<Arc<Enrolment>>,
    strangers: Strangers,
}

impl Door {
    /// A door that is kept by this list and this book.
    pub fn new(keys: Arc<LiveKeys>, grants: GrantBook) -> Self {
        Self { keys, grants, desk: None, strangers: Strangers::default() }
    }

    /// The same, with a desk at which unknown keys may ask.
    pub fn with_desk(self, desk: Option<Arc<Enrolment>>) -> Self {
        Self { desk, ..self }
    }

    /// The strangers that it counts.
    pub fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// What a key may do now, asked without a connection and without a line in the log.
    pub fn check(&self, peer: &PublicKey, remote: IpAddr) -> Result<Permissions, Denied> {
        match self.keys.check(peer, remote) {
            Err(_) if self.is_guest(peer) => Ok(Permissions::nothing()),
            Err(_) if self.is_stranger(peer) => Ok(Permissions::stranger()),
            answer => answer,
        }
    }

    /// Whether there is something for this key from somebody who may write here now. What the list says of a key
    /// is not undone by a grant.
    fn is_guest(&self, peer: &PublicKey) -> bool {
        let may_write = |granter: &Granter| {
            let allowed = self.keys.check(&granter.key, granter.remote.ip());
            allowed.is_ok_and(|allowed| allowed.write)
        };
        let granters = self.grants.granters_of(peer);
        granters.iter().any(may_write) && !self.keys.current().keys.names(peer)
    }
}

impl Door {
    /// Whether this key may come in to ask. What the list says of a key, also that it may not come, stands.
    fn is_stranger(&self, peer: &PublicKey) -> bool {
        let is_open = self.desk.as_ref().is_some_and(|desk| desk.is_open());
        is_open && !self.keys.current().keys.names(peer)
    }
}

impl Gatekeeper for Door {
    fn admit(&self, peer: &PublicKey, remote: SocketAddr) -> Result<Permissions, Denied> {
        if self.is_guest(peer) {
            return self.check(peer, remote.ip());
        }
        if self.is_stranger(peer) {
            return match self.strangers.are_too_many(remote.ip()) {
                true => Err(Denied::new(
                    "too many unknown keys ask here just now; try again in a minute",
                )),
                false => Ok(Permissions::stranger()),
            };
        }
        self.keys.admit(peer, remote)
    }
}

#[cfg(test)]
mod tests;
