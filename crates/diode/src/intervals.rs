//! A set of numbers that mostly follow one another, kept as ranges: what is done of ten million objects takes a few
//! of them.

use std::collections::BTreeMap;

/// Numbers, as ranges from a first to a last one, both within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    /// All numbers from a first to a last one.
    pub fn from_range(first: u64, last: u64) -> Self {
        Self(if first <= last { BTreeMap::from([(first, last)]) } else { BTreeMap::new() })
    }

    /// Adds all numbers from a first to a last one.
    pub fn insert_range(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        let before = self.0.range(..=first).next_back().map(|(from, to)| (*from, *to));
        if let Some((from, to)) = before.filter(|(_, to)| *to >= first || to + 1 == first) {
            (first, last) = (from, last.max(to));
        }
        // Those that begin within, or right behind, become one with it.
        while let Some((from, to)) =
            self.0.range(first..=last.saturating_add(1)).next().map(|(a, b)| (*a, *b))
        {
            self.0.remove(&from);
            last = last.max(to);
        }
        self.0.insert(first, last);
    }

    /// Adds a number. False if it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        let last = after.unwrap_or(number);
        match before {
            Some((first, end)) if end + 1 == number => self.0.insert(first, last),
            _ => self.0.insert(number, last),
        };
        true
    }

    /// Takes a number out. False if it was not there.
    pub fn remove(&mut self, number: u64) -> bool {
        let found = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = found.filter(|(_, last)| *last >= number) else { return false };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
        true
    }

    /// Whether all numbers up to `last` are there.
    pub fn has_all_to(&self, last: u64) -> bool {
        self.0.first_key_value().is_some_and(|(first, end)| *first == 0 && *end >= last)
    }

    /// Whether a number is there.
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// The ranges in order: the first and the last number of each.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// The numbers below `end` that are not there, as ranges.
    pub fn gaps(&self, end: u64) -> Vec<(u64, u64)> {
        let (mut gaps, mut from) = (Vec::new(), 0);
        for (first, last) in self.ranges().take_while(|(first, _)| *first < end) {
            if first > from {
                gaps.push((from, first - 1));
            }
            from = last.saturating_add(1);
        }
        if from < end {
            gaps.push((from, end - 1));
        }
        gaps
    }

    /// How many ranges it takes.
    pub fn pieces(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Random;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_set() {
        for seed in 0..50_u64 {
            let mut random = Random(seed);
            let (mut intervals, mut set) = (Intervals::default(), BTreeSet::new());
            for _ in 0..300 {
                let number = random.below(200) as u64;
                if random.below(20) == 0 {
                    let last = number + random.below(12) as u64;
                    intervals.insert_range(number, last);
                    set.extend(number..=last);
                } else if random.below(4) == 0 {
                    assert_eq!(intervals.remove(number), set.remove(&number), "{number}");
                } else {
                    assert_eq!(intervals.insert(number), set.insert(number), "{number}");
                }
            }
            for number in 0..220 {
                assert_eq!(intervals.contains(number), set.contains(&number), "{number}");
            }
            let gaps: Vec<u64> = intervals.gaps(205).iter().flat_map(|(a, b)| *a..=*b).collect();
            let missing: Vec<u64> = (0..205).filter(|number| !set.contains(number)).collect();
            assert_eq!(gaps, missing);
            let kept: Vec<u64> = intervals.ranges().flat_map(|(a, b)| a..=b).collect();
            assert!(kept.iter().eq(&set));
            let ranges: Vec<_> = intervals.ranges().collect();
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        }
    }

    #[test]
    fn numbers_in_order_take_one_range_up_to_the_last_there_is() {
        let mut intervals = Intervals::default();
        for number in (0..10_000).chain([u64::MAX, u64::MAX - 1]) {
            assert!(intervals.insert(number));
        }
        assert!(!intervals.insert(u64::MAX) && intervals.contains(u64::MAX));
        assert_eq!(intervals.pieces(), 2);
        let mut ranges = Intervals::from_range(5, 4);
        ranges.insert_range(u64::MAX - 1, u64::MAX);
        ranges.insert_range(0, 9999);
        assert_eq!(ranges, intervals);
        assert_eq!(intervals.gaps(10_000), []);
        assert_eq!(intervals.gaps(10_002), [(10_000, 10_001)]);
    }
}
