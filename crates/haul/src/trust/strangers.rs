//! How many unknown keys may be here at once, in all and from one address: they ask to be let in and go. What they may
//! not do is stand in the way of those who are known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lanes of strangers at once. A dialler tries two kinds of lane, so two of these are one stranger.
const MOST: usize = 8;
/// Those of one IPv4 address, or one IPv6 /64.
const MOST_OF_ADDRESS: usize = 4;
/// How long a stranger may take.
pub const STAY: Duration = Duration::from_secs(20);

/// Who is here.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A stranger's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    /// Whether there is no place for one more from this address.
    pub fn are_too_many(&self, address: IpAddr) -> bool {
        let here = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        is_full(&here, link::network_of(address))
    }

    /// A place for one more from this address.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let address = link::network_of(address);
        let mut here = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full(&here, address) {
            return None;
        }
        *here.entry(address).or_default() += 1;
        Some(Place { strangers: self.clone(), address })
    }
}

fn is_full(here: &HashMap<IpAddr, usize>, address: IpAddr) -> bool {
    here.values().sum::<usize>() >= MOST
        || here.get(&address).is_some_and(|count| *count >= MOST_OF_ADDRESS)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&self.address);
            }
        }
    }
}
