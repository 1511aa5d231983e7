//! Files of the target folder by size and time, so that content which is there under another name need not be sent.
//! They only suggest where to look: what a file holds, its digest says. Pure, and bounded: of too many files the
//! smallest are forgotten, since they are what costs least to send.

use std::collections::BTreeMap;

use files::{Name, RelPath, Timestamp};

/// Files below this are not looked for: at 10 Mbit/s one takes about as long as a round trip to ask for its digest, and
/// on faster links less.
pub const LEAST_TWIN: u64 = 64 << 10;

/// What one entry takes beside its names.
const ENTRY: usize = 160;

/// What makes two files look alike. A rename keeps it, and so does a copy that keeps times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When the content last changed.
    pub mtime: Timestamp,
}

/// See the module's text. Of files that have stamp and name in common it knows the last one.
#[derive(Debug)]
pub struct Twins {
    /// The folder of each.
    places: BTreeMap<(Stamp, Name), RelPath>,
    bytes: usize,
    most: usize,
}

impl Twins {
    /// Nothing yet; at most about so many bytes of memory.
    pub fn new(most: usize) -> Self {
        Self { places: BTreeMap::new(), bytes: 0, most }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Remembers a file at this path below the target folder.
    pub fn insert(&mut self, stamp: Stamp, path: &RelPath) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if stamp.size < LEAST_TWIN {
            return;
        }
        let key = (stamp, name);
        self.bytes += cost(&key.1, &parent);
        if let Some(before) = self.places.insert(key.clone(), parent) {
            self.bytes -= cost(&key.1, &before);
        }
        while self.bytes > self.most {
            let Some(((_, name), parent)) = self.places.pop_first() else { break };
            self.bytes -= cost(&name, &parent);
        }
    }

    /// Forgets the one of this stamp and the name that the path ends with.
    pub fn remove(&mut self, stamp: Stamp, path: &RelPath) {
        let Some(name) = path.file_name() else { return };
        if let Some(((_, name), parent)) = self.places.remove_entry(&(stamp, name)) {
            self.bytes -= cost(&name, &parent);
        }
    }

    /// A file of this stamp: one of this name before all others, for a folder that was renamed may hold many that were
    /// made in the same moment.
    pub fn find(&self, stamp: Stamp, name: &Name) -> Option<RelPath> {
        let key = (stamp, name.clone());
        let of_name = self.places.get_key_value(&key);
        let mut before = self.places.range(..&key).rev().take(1);
        let mut behind = self.places.range(&key..).take(1);
        let ((found, name), parent) = of_name
            .or_else(|| behind.find(|((found, _), _)| *found == stamp))
            .or_else(|| before.find(|((found, _), _)| *found == stamp))?;
        debug_assert_eq!(*found, stamp);
        parent.join(name).ok()
    }
}

fn cost(name: &Name, parent: &RelPath) -> usize {
    ENTRY + name.as_bytes().len() + parent.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64, seconds: i64) -> Stamp {
        Stamp { size: LEAST_TWIN + size, mtime: Timestamp { seconds, nanos: 7 } }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn find(twins: &Twins, stamp: Stamp, name: &str) -> Option<String> {
        Some(twins.find(stamp, &Name::new(name).unwrap())?.to_string())
    }

    #[test]
    fn the_same_name_goes_first_and_any_other_will_do() {
        let mut twins = Twins::new(1 << 20);
        for (size, name) in [(1, "b/one"), (1, "c/two"), (2, "a/two"), (0, "a/zero")] {
            twins.insert(stamp(size, 5), &path(name));
        }
        for (size, seconds, name, found) in [
            (1, 5, "two", Some("c/two")),
            (1, 5, "one", Some("b/one")),
            (1, 5, "zzz", Some("c/two")),
            (1, 5, "aaa", Some("b/one")),
            (2, 5, "one", Some("a/two")),
            (2, 6, "two", None),
            (3, 5, "two", None),
        ] {
            let place = find(&twins, stamp(size, seconds), name);
            assert_eq!(place.as_deref(), found, "{name} of {size} at {seconds}");
        }
        twins.remove(stamp(1, 5), &path("two"));
        assert_eq!(find(&twins, stamp(1, 5), "two").as_deref(), Some("b/one"));
        // What is too small to be worth it is not remembered.
        let small = Stamp { size: LEAST_TWIN - 1, ..stamp(0, 5) };
        twins.insert(small, &path("small"));
        assert_eq!(find(&twins, small, "small"), None);
    }

    #[test]
    fn of_too_many_the_largest_stay() {
        let mut twins = Twins::new(20_000);
        for number in 0..10_000_u64 {
            twins.insert(stamp(number * 7919 % 10_000, 5), &path(&format!("folder/{number}")));
            assert!(twins.bytes <= 20_000);
        }
        assert!(twins.places.len() > 90, "{}", twins.places.len());
        let least = twins.places.keys().map(|(stamp, _)| stamp.size - LEAST_TWIN).min();
        assert!(least > Some(9_850), "{least:?}");
        // The same one again takes no more room.
        let before = (twins.places.len(), twins.bytes);
        twins.insert(stamp(9_999, 5), &path("folder/again"));
        let again = twins.bytes;
        twins.insert(stamp(9_999, 5), &path("other!/again"));
        assert_eq!(twins.bytes, again);
        assert!(twins.bytes <= 20_000, "{before:?}");
        for key in twins.places.keys().cloned().collect::<Vec<_>>() {
            twins.remove(key.0, &RelPath::from(&key.1));
        }
        assert_eq!((twins.bytes, twins.is_empty()), (0, true));
    }
}
