//! How hard a source compresses: more while the link is what everything waits for, less as soon as reading and
//! compressing is. Pure: it is told what the last lap of the loop was spent on.

use std::time::Duration;

use link::NEAR;

use crate::message::Compression;

/// The highest effort.
pub(crate) const HARDEST: usize = 5;

/// What `--compress=always` begins with, and never goes below.
const ALWAYS: usize = 2;

/// What a lane to a far peer begins with: such a link nearly always carries less than a processor compresses at this
/// level of Zstandard (3), and a small copy is over before the effort has risen. Where that is wrong it is 0 after as many
/// laps.
const FAR: usize = 2;

/// The link is what is waited for from this share of a lap on, and reading from this one.
const LINK: f64 = 0.5;
const READ: f64 = 0.3;

/// So many laps in a row the link is waited for before the effort rises.
const BEFORE: u32 = 2;

/// After an effort was too much it is not tried again for so many laps.
const PAUSE: u32 = 30;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Effort {
    compression: Compression,
    now: usize,
    waited: u32,
    pause: u32,
}

impl Effort {
    pub(crate) fn new(compression: Compression) -> Self {
        let now = if compression == Compression::Always { ALWAYS } else { 0 };
        Self { compression, now, waited: 0, pause: 0 }
    }

    /// The effort, from 0, nothing, to [`HARDEST`].
    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// A lane begins whose smallest round trip is so long, or nothing if that is not known. What was too much a while ago
    /// is not tried on it.
    pub(crate) fn lane(&mut self, min_rtt: Duration) -> usize {
        if self.compression == Compression::Auto && self.pause == 0 && min_rtt >= NEAR {
            self.now = self.now.max(FAR);
        }
        self.waited = 0;
        self.now
    }

    /// A lap is over, in which these shares of the time were spent in waiting for the link and for what is read.
    pub(crate) fn lap(&mut self, link: f64, read: f64) -> usize {
        let least = match self.compression {
            Compression::Never => return 0,
            Compression::Auto => 0,
            Compression::Always => ALWAYS,
        };
        self.pause = self.pause.saturating_sub(1);
        if read >= READ {
            if self.now > least {
                self.now -= 1;
                self.pause = PAUSE;
            }
            self.waited = 0;
        } else if link >= LINK {
            self.waited += 1;
            if self.waited >= BEFORE && self.pause == 0 && self.now < HARDEST {
                self.now += 1;
                self.waited = 0;
            }
        } else {
            self.waited = 0;
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_while_the_link_is_waited_for_and_falls_when_reading_is() {
        let mut effort = Effort::new(Compression::Auto);
        assert_eq!(effort.now(), 0);
        assert_eq!(effort.lap(0.9, 0.0), 0, "one lap says little");
        let rising: Vec<_> = (0..10).map(|_| effort.lap(0.9, 0.0)).collect();
        assert_eq!(rising, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(effort.lap(0.9, 0.0), HARDEST);
        assert_eq!(effort.lap(0.2, 0.6), 4);
        // What was too much is left alone for a while.
        let before = (0..PAUSE).take_while(|_| effort.lap(0.9, 0.0) == 4).count();
        assert_eq!((before, effort.now()), (PAUSE as usize - 1, 5));
        for _ in 0..9 {
            effort.lap(0.0, 1.0);
        }
        assert_eq!(effort.now(), 0);
    }

    #[test]
    fn on_a_fast_link_nothing_is_compressed() {
        let mut effort = Effort::new(Compression::Auto);
        // Now the one and now the other, as where both are about as fast.
        for lap in 0..100 {
            let (link, read) = if lap % 2 == 0 { (0.6, 0.2) } else { (0.2, 0.6) };
            assert_eq!(effort.lap(link, read), 0, "lap {lap}");
        }
    }

    #[test]
    fn to_a_far_peer_it_begins_higher_and_falls_as_fast() {
        let mut near = Effort::new(Compression::Auto);
        for rtt in [Duration::ZERO, NEAR - Duration::from_micros(1)] {
            assert_eq!(near.lane(rtt), 0, "{rtt:?}");
        }
        let mut far = Effort::new(Compression::Auto);
        assert_eq!(far.lane(NEAR), FAR);
        let rising: Vec<_> = (0..4).map(|_| far.lap(0.9, 0.0)).collect();
        assert_eq!(rising, [2, 3, 3, 4]);
        assert_eq!(far.lane(NEAR), 4, "what was found on the lane before stays");
        // The processor is what everything waits for, from the beginning.
        let mut far = Effort::new(Compression::Auto);
        far.lane(NEAR * 20);
        assert_eq!((far.lap(0.0, READ), far.lap(0.1, 1.0)), (1, 0));
        assert_eq!(far.lane(NEAR), 0, "it was too much just now");
        assert!((0..PAUSE - 1).all(|_| far.lap(0.9, 0.0) == 0));
        assert_eq!(far.lane(NEAR * 20), 0);
        assert_eq!(far.lap(0.0, 0.0), 0);
        assert_eq!(far.lane(NEAR), FAR);
    }

    #[test]
    fn what_was_asked_for_holds() {
        let mut never = Effort::new(Compression::Never);
        let mut always = Effort::new(Compression::Always);
        assert_eq!((never.lane(NEAR * 9), always.lane(NEAR * 9)), (0, ALWAYS));
        for _ in 0..20 {
            assert_eq!(never.lap(1.0, 0.0), 0);
            assert_eq!(always.lap(0.0, 1.0), ALWAYS);
        }
    }
}
