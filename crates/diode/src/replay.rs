//! Which packets of a session have been taken already. None is taken twice, and none that is so old that
//! nobody knows.

/// How far behind the newest packet one may be, in packets: more than any reordering, and than what waits in
/// the receiver's own queues.
pub const WINDOW: u64 = 1 << 18;

const WORDS: usize = (WINDOW / 64) as usize;

/// The memory of one session.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Below this none is taken.
    floor: u64,
    /// One more than the highest that was taken.
    end: u64,
    /// A bit for each of the last numbers, at the number modulo the window.
    taken: Box<[u64]>,
}

impl Replay {
    /// Takes no packet below `floor`: one of a session that was followed before a restart, or 0.
    pub fn new(floor: u64) -> Self {
        Self { floor, end: floor, taken: vec![0; WORDS].into_boxed_slice() }
    }

    /// Whether a packet of this number may still be taken. Cheap, so that a replayed one costs no decryption.
    pub fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return number < u64::MAX;
        }
        number >= self.floor && self.end - number <= WINDOW && !self.bit(number)
    }

    /// Takes a packet that was proven to be the sender's. False if it was taken before, or may have been.
    pub fn take(&mut self, number: u64) -> bool {
        if !self.is_new(number) {
            return false;
        }
        if number >= self.end {
            // What lies between has not come, and has the places of what is too old now.
            if number - self.end >= WINDOW {
                self.taken.fill(0);
            } else {
                (self.end..number).for_each(|missing| self.set(missing, false));
            }
            self.end = number + 1;
        }
        self.set(number, true);
        true
    }

    /// One more than the highest number that was taken: what a restart must not fall behind.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn bit(&self, number: u64) -> bool {
        let at = number % WINDOW;
        self.taken[(at / 64) as usize] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, number: u64, taken: bool) {
        let at = number % WINDOW;
        let word = &mut self.taken[(at / 64) as usize];
        *word = *word & !(1 << (at % 64)) | u64::from(taken) << (at % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Random;

    #[test]
    fn each_number_is_taken_once_in_any_order() {
        let mut replay = Replay::new(0);
        for number in [5, 0, 4, 1, 70, 69, 64, 63, 2, 3] {
            assert!(replay.is_new(number) && replay.take(number), "{number}");
            assert!(!replay.is_new(number) && !replay.take(number), "{number} again");
        }
        assert_eq!(replay.end(), 71);
    }

    #[test]
    fn what_is_too_old_is_refused_and_what_is_not_is_still_taken() {
        let mut replay = Replay::new(0);
        assert!(replay.take(10) && replay.take(10 + WINDOW));
        assert!(!replay.take(10) && !replay.take(9));
        assert!(replay.take(11 + WINDOW));
        assert!(!replay.take(11), "it fell out of the window");
        assert!(replay.take(12));
        // A long gap forgets all before it.
        assert!(replay.take(1 << 40));
        assert!(!replay.take(12 + WINDOW));
        assert!(replay.take((1 << 40) - 1) && !replay.take(1 << 40));
    }

    #[test]
    fn after_a_restart_nothing_below_the_floor_is_taken() {
        let mut replay = Replay::new(1000);
        assert!(!replay.take(999) && replay.take(1001) && replay.take(1000) && !replay.take(1000));
        assert!(!Replay::new(0).take(u64::MAX), "nothing comes after it");
    }

    /// Against a memory that forgets nothing.
    #[test]
    fn it_agrees_with_a_set() {
        let mut seed = Random(3);
        let mut random = |limit: u64| seed.below(limit as usize) as u64;
        let (mut replay, mut set, mut top) = (Replay::new(0), std::collections::HashSet::new(), 0);
        for _ in 0..200_000 {
            let number = match random(100) {
                0 => top + random(3 * WINDOW),
                1..50 => top + random(8),
                _ => top.saturating_sub(random(2 * WINDOW)),
            };
            let known = number < top && top - number > WINDOW || set.contains(&number);
            assert_eq!(replay.take(number), !known, "{number} after {top}");
            set.insert(number);
            top = top.max(number + 1);
        }
    }
}
