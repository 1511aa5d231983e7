//! Connections that were refused before anything was said over them, as a log has them: the first from an address for each
//! cause at once; while it goes on, one in a while with how many there were; and never more than some in a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Between two that are told of one address and cause, at first...
const PAUSE: Duration = Duration::from_secs(60);
/// ...and when it goes on for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Addresses and causes that are remembered.
const MOST: usize = 256;
/// What is told within a minute, of one address...
const MOST_OF_ONE: usize = 3;
/// ...and of all.
const MOST_TOLD: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// This key is not among the clients', or may not be used from there or now.
    Key([u8; 32]),
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

/// What is told with a refusal: how many were not told before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Untold {
    /// Of the same address and cause.
    pub(super) same: u64,
    /// Of others, because there were too many.
    pub(super) others: u64,
}

#[derive(Debug)]
struct Told {
    at: Duration,
    pause: Duration,
    untold: u64,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: BTreeMap<(Option<IpAddr>, Cause), Told>,
    /// How many were not told of those that are not remembered.
    others: u64,
    /// When the minute began, and how many were told in it.
    minute: (Duration, u32),
}

impl Refusals {
    /// One more; something, if it is to be told.
    pub(super) fn another(
        &mut self,
        now: Duration,
        address: Option<IpAddr>,
        cause: Cause,
    ) -> Option<Untold> {
        if now.saturating_sub(self.minute.0) >= MINUTE {
            self.minute = (now, 0);
        }
        let of = (address.map(network), cause);
        let is_loud = self.minute.1 >= MOST_TOLD || self.told_of(now, of.0) >= MOST_OF_ONE;
        let mut pause = PAUSE;
        let mut same = 0;
        if let Some(told) = self.told.get_mut(&of) {
            let since = now.saturating_sub(told.at);
            if since < told.pause || is_loud {
                told.untold += 1;
                return None;
            }
            if since < told.pause * 2 {
                pause = (told.pause * 2).min(LONGEST_PAUSE);
            }
            same = told.untold;
        } else if is_loud {
            self.others += 1;
            return None;
        } else if self.told.len() >= MOST {
            self.forget_one();
        }
        self.told.insert(of, Told { at: now, pause, untold: 0 });
        self.minute.1 += 1;
        Some(Untold { same, others: std::mem::take(&mut self.others) })
    }

    /// How many causes of an address were told within a minute: keys cost nothing.
    fn told_of(&self, now: Duration, address: Option<IpAddr>) -> usize {
        let causes = self.told.range((address, Cause::Key([0; 32]))..);
        causes
            .take_while(|((of, _), _)| *of == address)
            .filter(|(_, told)| now.saturating_sub(told.at) < MINUTE)
            .count()
    }

    /// Whoever was told longest ago is told as a new one if it comes again.
    fn forget_one(&mut self) {
        let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(of, _)| *of);
        if let Some(told) = oldest.and_then(|of| self.told.remove(&of)) {
            self.others += told.untold;
        }
    }
}

/// An address, or the network that one machine has of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !0 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const KEY: Cause = Cause::Key([1; 32]);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn same(same: u64) -> Option<Untold> {
        Some(Untold { same, others: 0 })
    }

    #[test]
    fn the_first_is_told_and_then_one_in_a_while() {
        let mut refusals = Refusals::default();
        let mut at = |seconds| refusals.another(s(seconds), HERE, KEY);
        let told: Vec<_> = [0, 1, 59, 60, 61, 179, 180, 181, 2000].map(&mut at).to_vec();
        // The pause doubles while it goes on.
        let expected = [same(0), None, None, same(2), None, None, same(2), None, same(1)];
        assert_eq!(told, expected);
        assert_eq!(at(2060), same(0), "and begins anew");
        for cause in [Cause::Identity, Cause::Key([2; 32])] {
            assert_eq!(refusals.another(s(2060), HERE, cause), same(0), "another cause");
        }
        assert_eq!(refusals.another(s(2060), None, KEY), same(0));
        let six = |text: &str| Some(text.parse().unwrap());
        assert_eq!(refusals.another(s(2060), six("2001:db8::1"), KEY), same(0));
        assert_eq!(refusals.another(s(2060), six("2001:db8::2"), KEY), None, "the same machine");
    }

    #[test]
    fn one_address_hides_no_other() {
        let mut refusals = Refusals::default();
        let mut key = [0; 32];
        let mut told = 0;
        for n in 0..6000u32 {
            key[..4].copy_from_slice(&n.to_be_bytes());
            let now = Duration::from_millis(10 * u64::from(n));
            told += usize::from(refusals.another(now, HERE, Cause::Key(key)).is_some());
        }
        assert_eq!(told, MOST_OF_ONE);
        let there = Some("192.0.2.1".parse().unwrap());
        assert!(refusals.another(s(59), there, KEY).is_some());
    }

    #[test]
    fn what_many_addresses_cause_is_bounded() {
        let mut refusals = Refusals::default();
        let of = |n: u32| Some(IpAddr::V4(n.into()));
        let mut told = 0;
        for n in 0..100_000 {
            let now = Duration::from_millis(10 * u64::from(n));
            told += u32::from(refusals.another(now, of(n), Cause::Handshake).is_some());
        }
        assert_eq!(told, 17 * MOST_TOLD, "1,000 seconds of it");
        assert_eq!(refusals.told.len(), MOST);
        let later = refusals.another(s(2000), HERE, KEY).unwrap();
        assert!(later.same == 0 && later.others > 1000, "{later:?}");
    }
}
