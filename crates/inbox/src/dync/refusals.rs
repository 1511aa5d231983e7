//! Connections that were refused before anything was said over them, as a log has them: the first from an address for each
//! cause at once; while it goes on, one in a while with how many there were.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Between two that are told, at first...
const PAUSE: Duration = Duration::from_secs(60);
/// ...and when it goes on for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Addresses and causes that are remembered.
const MOST: usize = 256;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Its key is not among the clients', or may not be used from there or now.
    Key,
    /// Its identity is one that ZeroMQ keeps for itself.
    Identity,
    /// What it said was no handshake, or it ended early.
    Handshake,
}

impl Cause {
    /// The cause that is meant by what the library says, unless somebody else tells of it.
    pub(super) fn of(reason: &str) -> Option<Self> {
        match reason {
            // Told by whoever judges the keys, who knows more.
            reason if reason.contains("CURVE authentication failed") => None,
            reason if reason.contains("invalid peer identity") => Some(Self::Identity),
            _ => Some(Self::Handshake),
        }
    }
}

#[derive(Debug)]
struct Told {
    at: Duration,
    pause: Duration,
    /// How many were not told since.
    untold: u64,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: BTreeMap<(Option<IpAddr>, Cause), Told>,
    /// How many were not told because too many addresses are remembered.
    beyond: u64,
}

impl Refusals {
    /// One more. If it is to be told, how many were not told before it.
    pub(super) fn another(
        &mut self,
        now: Duration,
        address: Option<IpAddr>,
        cause: Cause,
    ) -> Option<u64> {
        let of = (address, cause);
        if let Some(told) = self.told.get_mut(&of) {
            let since = now.saturating_sub(told.at);
            if since < told.pause {
                told.untold += 1;
                return None;
            }
            let goes_on = since < told.pause * 2;
            let pause = if goes_on { (told.pause * 2).min(LONGEST_PAUSE) } else { PAUSE };
            let untold = told.untold;
            *told = Told { at: now, pause, untold: 0 };
            return Some(untold + std::mem::take(&mut self.beyond));
        }
        if self.told.len() >= MOST {
            self.told.retain(|_, told| now.saturating_sub(told.at) < told.pause);
        }
        if self.told.len() >= MOST {
            self.beyond += 1;
            return None;
        }
        self.told.insert(of, Told { at: now, pause: PAUSE, untold: 0 });
        Some(std::mem::take(&mut self.beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn the_first_is_told_and_then_one_in_a_while() {
        let mut refusals = Refusals::default();
        let mut at = |s| refusals.another(Duration::from_secs(s), HERE, Cause::Key);
        let told: Vec<_> = [0, 1, 59, 60, 61, 179, 180, 181, 2000].map(&mut at).to_vec();
        assert_eq!(
            told,
            [Some(0), None, None, Some(2), None, None, Some(2), None, Some(1)],
            "the pause doubles while it goes on"
        );
        assert_eq!(at(2060), Some(0), "and begins anew");
        let other = refusals.another(Duration::from_secs(2060), HERE, Cause::Identity);
        assert_eq!(other, Some(0), "another cause");
        assert_eq!(refusals.another(Duration::from_secs(2060), None, Cause::Key), Some(0));
    }

    #[test]
    fn what_many_addresses_cause_is_bounded() {
        let mut refusals = Refusals::default();
        let of = |n: u32| Some(IpAddr::V4(n.into()));
        let now = Duration::from_secs(1);
        let told = (0..1000).filter(|n| refusals.another(now, of(*n), Cause::Handshake).is_some());
        assert_eq!(told.count(), MOST);
        let later = refusals.another(now + PAUSE, of(5000), Cause::Handshake);
        assert_eq!((later, refusals.told.len()), (Some(744), 1));
    }
}
