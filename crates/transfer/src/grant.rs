//! Grants: by what right a machine writes here in somebody else's name (`docs/formats/protocol.md`, Between
//! two other machines). Pure: the caller says what time it is and draws the chance. The table is in memory
//! alone, so a daemon that was restarted knows none of those before; and it is bounded, per key that grants and
//! in all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use files::Digest;
use link::PublicKey;

use crate::host::Refusal;
use crate::message::{Order, RefuseCode};

/// The longest time within which a grant may be used.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Grants that one key may have given here, open or in use.
pub const PER_KEY: usize = 16;
/// Grants of all keys.
pub const IN_ALL: usize = 256;

/// Whose right it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granter {
    /// The key that gave the grant.
    pub key: PublicKey,
    /// Where it was then: it may be admitted from some addresses only.
    pub remote: SocketAddr,
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// By whom.
    pub granter: Granter,
    /// To whom.
    pub to: PublicKey,
    /// The order, of which every word counts.
    order: Digest,
    /// The most bytes of content.
    pub bytes: u64,
}

impl Terms {
    /// Terms for exactly this order.
    pub fn new(granter: Granter, to: PublicKey, order: &Order, bytes: u64) -> Self {
        Self { granter, to, order: order.digest(), bytes }
    }
}

#[derive(Debug)]
struct Grant {
    terms: Terms,
    /// Rises with each grant: the oldest has the lowest.
    number: u64,
    /// Not to be used after this moment.
    until: Duration,
    /// A transfer runs under it, or waits for its dialler.
    is_used: bool,
}

/// The grants of a daemon.
#[derive(Debug, Default)]
pub struct Grants {
    known: HashMap<[u8; 32], Grant>,
    given: u64,
}

impl Grants {
    /// Takes a grant down under `id`, which nobody can guess, and says how long it may be used. All moments
    /// are since the same one.
    pub fn give(
        &mut self,
        id: [u8; 32],
        terms: Terms,
        wanted: Duration,
        now: Duration,
    ) -> Result<Duration, Refusal> {
        self.sweep(now);
        let key = terms.granter.key;
        let of_key = |grant: &Grant| grant.terms.granter.key == key;
        if self.known.values().filter(|grant| of_key(grant)).count() >= PER_KEY {
            let open = self.known.iter().filter(|(_, grant)| of_key(grant) && !grant.is_used);
            let oldest = open.min_by_key(|(_, grant)| grant.number).map(|(id, _)| *id);
            let Some(oldest) = oldest else {
                return Err(busy("too many copies are under way here that this key has granted"));
            };
            self.known.remove(&oldest);
        }
        if self.known.len() >= IN_ALL {
            return Err(busy("too many copies have been granted here: try again later"));
        }
        let time = wanted.min(LONGEST);
        self.given += 1;
        let until = now.saturating_add(time);
        self.known.insert(id, Grant { terms, number: self.given, until, is_used: false });
        Ok(time)
    }

    /// The holder of `key` uses a grant for this order; afterwards it is in use until [`Self::end`]. All that
    /// does not fit is refused with the same code.
    pub fn take(
        &mut self,
        id: &[u8; 32],
        key: &PublicKey,
        order: &Order,
        now: Duration,
    ) -> Result<Terms, Refusal> {
        // Whoever holds another key is not told that there is one.
        let Some(grant) = self.known.get_mut(id).filter(|grant| grant.terms.to == *key) else {
            return Err(unknown("this grant is not known here (any more)"));
        };
        if grant.is_used {
            return Err(unknown("this grant was used already"));
        }
        if now >= grant.until {
            return Err(unknown("the time of this grant is over"));
        }
        if grant.terms.order != order.digest() {
            return Err(unknown("this grant is for another copy"));
        }
        grant.is_used = true;
        Ok(grant.terms)
    }

    /// What was done under a grant is over.
    pub fn end(&mut self, id: &[u8; 32]) {
        self.known.remove(id);
    }

    /// Who has granted something to this key that it may still use, or uses.
    pub fn granters_of(&self, key: &PublicKey, now: Duration) -> Vec<Granter> {
        let counts = |grant: &&Grant| grant.is_used || now < grant.until;
        let to_key = self.known.values().filter(|grant| grant.terms.to == *key);
        to_key.filter(counts).map(|grant| grant.terms.granter).collect()
    }

    /// Forgets what can no longer be used.
    fn sweep(&mut self, now: Duration) {
        self.known.retain(|_, grant| grant.is_used || now < grant.until);
    }
}

fn busy(text: &str) -> Refusal {
    Refusal { code: RefuseCode::Busy, text: text.to_owned() }
}

fn unknown(text: &str) -> Refusal {
    Refusal { code: RefuseCode::UnknownGrant, text: text.to_owned() }
}

#[cfg(test)]
mod tests;
