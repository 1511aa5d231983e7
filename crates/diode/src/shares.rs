//! Which class sends next: the first that has something, but none that has something gets less than its share.

use crate::frame::Class;

const CLASSES: usize = Class::ALL.len();

/// The least share of what is sent for each class that has something to send, in the order of [`Class::ALL`].
/// An announcement each second needs none, and filler only fills.
const LEAST: [f64; CLASSES] = [0.0, 0.02, 0.2, 0.05, 0.2, 0.05, 0.05, 0.0];

/// A class is owed no more than its share of so many bytes: 100 ms at 1 Gbit/s. One that waited does not flood.
const MOST_OWED: f64 = 12.5e6;

/// What each class is owed, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    owed: [f64; CLASSES],
}

impl Shares {
    /// The class that sends next, of those that have something: the one that is owed most, or else the first.
    pub fn next(&self, has: impl Fn(Class) -> bool) -> Option<Class> {
        let waiting = || Class::ALL.into_iter().filter(|class| has(*class));
        let owed = waiting().filter(|class| self.owed[*class as usize] > 0.0);
        owed.max_by(|a, b| self.owed[*a as usize].total_cmp(&self.owed[*b as usize]))
            .or_else(|| waiting().next())
    }

    /// A class has sent so many bytes, while these had something to send.
    pub fn sent(&mut self, class: Class, bytes: usize, had: impl Fn(Class) -> bool) {
        let bytes = bytes as f64;
        for other in Class::ALL {
            let (owed, least) = (&mut self.owed[other as usize], LEAST[other as usize]);
            // Who has nothing to send is owed nothing.
            *owed = if had(other) { (*owed + least * bytes).min(least * MOST_OWED) } else { 0.0 };
        }
        // What the first gets beyond its share is no debt.
        let owed = &mut self.owed[class as usize];
        *owed = (*owed - bytes).max(-bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 10,000 frames each class gets of those that always have one.
    fn count(shares: &mut Shares, frames: usize, always: &[Class]) -> [usize; CLASSES] {
        let mut count = [0; CLASSES];
        for _ in 0..frames {
            let has = |class| always.contains(&class);
            let class = shares.next(has).unwrap();
            shares.sent(class, 1500, has);
            count[class as usize] += 1;
        }
        count
    }

    #[test]
    fn the_first_goes_first_and_none_starves() {
        let fresh = Shares::default;
        assert_eq!(count(&mut fresh(), 100, &[Class::Repeat])[Class::Repeat as usize], 100);
        let two = count(&mut fresh(), 100, &[Class::New, Class::Filler]);
        assert_eq!(two[Class::New as usize], 100);
        let waiting =
            [Class::Control, Class::Stream, Class::Page, Class::New, Class::Bulk, Class::Repeat];
        let all = count(&mut fresh(), 10_000, &waiting);
        for class in [Class::Stream, Class::Page, Class::New, Class::Bulk, Class::Repeat] {
            let least = (LEAST[class as usize] * 9900.0) as usize;
            assert!(all[class as usize] >= least, "{class:?}: {all:?}");
        }
        assert!(all[Class::Control as usize] > 4000, "{all:?}");
        assert_eq!(fresh().next(|_| false), None);
    }

    #[test]
    fn a_class_that_was_quiet_does_not_flood() {
        let mut shares = Shares::default();
        count(&mut shares, 10_000, &[Class::Stream]);
        let bulk = count(&mut shares, 100, &[Class::Stream, Class::Bulk])[Class::Bulk as usize];
        assert!((4..=6).contains(&bulk), "{bulk}");
    }
}
