//! The ends of generations that a sender says: each as soon as it is known, with the heartbeats that follow, and in
//! turn with others from then on.

use std::collections::VecDeque;

use crate::send::control::Control;

/// How many ends are said in turn.
const MOST: usize = 64;

/// An end is said with so many heartbeats, and from then on in turn.
const BEATS: u32 = 10;

/// At a sender's own end, the last so many are said.
const LAST: usize = 16;

/// Records of ends, and with how many heartbeats each of them is still to be said.
#[derive(Debug, Default)]
pub(super) struct Ends {
    known: VecDeque<(Vec<u8>, u32)>,
    /// Whose turn it was.
    turn: usize,
}

impl Ends {
    /// Says what has become known. What is still said with each heartbeat is not pushed out by it, so some may wait.
    pub(super) fn renew(&mut self, control: &Control, records: &mut VecDeque<Vec<u8>>) {
        if !control.has_ends() {
            return;
        }
        let busy = self.known.iter().filter(|(_, left)| *left > 0).count();
        for end in control.take_ends(MOST.saturating_sub(busy)) {
            records.push_back(end.clone());
            // One that is asked for again is said again, and takes no room of others.
            self.known.retain(|(known, _)| *known != end);
            self.known.push_back((end, BEATS));
            if self.known.len() > MOST
                && let Some(said) = self.known.iter().position(|(_, left)| *left == 0)
            {
                self.known.remove(said);
            }
        }
    }

    /// Says one of the old ones with a heartbeat, and all that are new.
    pub(super) fn beat(&mut self, records: &mut VecDeque<Vec<u8>>) {
        self.turn = (self.turn + 1) % self.known.len().max(1);
        let old = self.known.get(self.turn).filter(|(_, left)| *left == 0);
        records.extend(old.map(|(end, _)| end.clone()));
        for (end, left) in self.known.iter_mut().filter(|(_, left)| *left > 0) {
            *left -= 1;
            records.push_back(end.clone());
        }
    }

    /// The last ones, with all that still waited.
    pub(super) fn last(&mut self, control: &Control) -> Vec<Vec<u8>> {
        self.known.extend(control.take_ends(usize::MAX).into_iter().map(|end| (end, 0)));
        let first = self.known.len().saturating_sub(LAST);
        self.known.iter().skip(first).map(|(end, _)| end.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(records: &mut VecDeque<Vec<u8>>) -> Vec<u8> {
        records.drain(..).map(|record| record[0]).collect()
    }

    #[test]
    fn an_end_is_said_at_once_then_with_heartbeats_then_in_turn() {
        let (control, mut records) = (Control::new(1), VecDeque::new());
        let mut ends = Ends::default();
        ends.renew(&control, &mut records);
        assert_eq!(said(&mut records), []);
        control.generation_ended(1, vec![1]);
        ends.renew(&control, &mut records);
        ends.renew(&control, &mut records);
        assert_eq!(said(&mut records), [1]);
        for _ in 0..BEATS {
            ends.beat(&mut records);
            assert_eq!(said(&mut records), [1]);
        }
        control.generation_ended(2, vec![2]);
        ends.renew(&control, &mut records);
        assert_eq!(said(&mut records), [2]);
        for _ in 0..BEATS {
            ends.beat(&mut records);
        }
        let both = said(&mut records);
        let times = |which| both.iter().filter(|said| **said == which).count();
        assert_eq!((times(1), times(2)), (BEATS as usize / 2, BEATS as usize));
    }

    #[test]
    fn what_is_asked_for_again_and_again_holds_nothing_back() {
        let (control, mut records) = (Control::new(1), VecDeque::new());
        let mut ends = Ends::default();
        for _ in 0..2 * MOST {
            control.generation_ended(1, vec![1]);
            ends.renew(&control, &mut records);
            assert_eq!(said(&mut records), [1]);
        }
        control.generation_ended(2, vec![2]);
        ends.renew(&control, &mut records);
        assert_eq!((said(&mut records), ends.known.len()), (vec![2], 2));
    }

    #[test]
    fn what_is_said_with_each_heartbeat_is_not_pushed_out() {
        let (control, mut records) = (Control::new(1), VecDeque::new());
        let mut ends = Ends::default();
        (0..=MOST as u8).for_each(|end| control.generation_ended(end.into(), vec![end]));
        ends.renew(&control, &mut records);
        assert_eq!(said(&mut records), (1..=MOST as u8).collect::<Vec<_>>());
        ends.renew(&control, &mut records);
        assert!(records.is_empty() && control.has_ends());
        for _ in 0..BEATS {
            ends.beat(&mut records);
        }
        records.clear();
        ends.renew(&control, &mut records);
        assert_eq!((said(&mut records), control.has_ends()), (vec![0], false));
        assert_eq!(ends.known.len(), MOST);
        control.generation_ended(99, vec![99]);
        let last: Vec<u8> = ends.last(&control).into_iter().map(|end| end[0]).collect();
        assert_eq!((last.len(), last[LAST - 1], last[LAST - 2]), (LAST, 99, 0));
    }
}
