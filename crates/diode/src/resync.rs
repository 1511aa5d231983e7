//! Finds frames in a stream of bytes of which any span may be missing.
//! A length is believed only behind a check that fits, and a frame that does not open is left at the byte behind
//! its marker: a frame that begins inside of it is found, and nothing is ever skipped by length.

use std::collections::VecDeque;

use crate::frame::{HEADER, Header, MARKER, MOST_FRAME};

/// Who tells frames from noise.
pub trait Judge {
    /// What is made of a frame.
    type Taken;

    /// Whether the header's check is that of a sender who is listened to, and its number is one that may still be taken.
    /// Without the second, headers that were seen before make one open long frames in vain.
    fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool;

    /// Opens a whole frame, in place; None if it is none. Its bytes may be spoiled either way.
    fn take(&mut self, header: &Header, frame: &mut [u8]) -> Option<Self::Taken>;
}

/// A header whose frame did not open is not believed again while it is one of the last so many.
const REMEMBERED: usize = 64;

/// The bytes that have come and of which nothing was made yet: one frame of the greatest length and what was pushed
/// at once.
#[derive(Debug, Default)]
pub struct Resync {
    bytes: Vec<u8>,
    at: usize,
    scratch: Vec<u8>,
    skipped: u64,
    failed: VecDeque<[u8; HEADER]>,
}

impl Resync {
    /// Adds what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 && (self.at == self.bytes.len() || self.at >= MOST_FRAME) {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes were of no frame.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next frame that the judge takes; None until more bytes have come.
    pub fn next<J: Judge>(&mut self, judge: &mut J) -> Option<J::Taken> {
        self.scan(judge, false)
    }

    /// The next frame of a stream that has ended, in which one that is not whole stays so and may hold others. None
    /// when there is none; then another stream may begin.
    pub fn last<J: Judge>(&mut self, judge: &mut J) -> Option<J::Taken> {
        let taken = self.scan(judge, true);
        if taken.is_none() {
            self.skipped += (self.bytes.len() - self.at) as u64;
            self.bytes.clear();
            self.at = 0;
        }
        taken
    }

    fn scan<J: Judge>(&mut self, judge: &mut J, has_ended: bool) -> Option<J::Taken> {
        loop {
            let rest = &self.bytes[self.at..];
            let found = find_marker(rest);
            self.skipped += found as u64;
            self.at += found;
            let rest = &rest[found..];
            let head = rest.first_chunk::<HEADER>()?;
            let header = Header::read(head).filter(|header| judge.believes(header, head));
            let header = header.filter(|_| !self.failed.contains(head));
            let Some(header) = header else {
                self.skip();
                continue;
            };
            let Some(frame) = rest.get(..header.frame_length()) else {
                if !has_ended {
                    return None;
                }
                self.skip();
                continue;
            };
            // Opening spoils what does not open, and another frame may begin in it.
            self.scratch.clear();
            self.scratch.extend_from_slice(frame);
            let head = *head;
            if let Some(taken) = judge.take(&header, &mut self.scratch) {
                self.at += header.frame_length();
                return Some(taken);
            }
            self.failed.truncate(REMEMBERED - 1);
            self.failed.push_front(head);
            self.skip();
        }
    }

    fn skip(&mut self) {
        self.at += 1;
        self.skipped += 1;
    }
}

/// Where a marker begins, or may begin in what has come of it; the length if nowhere.
fn find_marker(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(next) = bytes[from..].iter().position(|byte| *byte == MARKER[0]) {
        let at = from + next;
        let seen = &bytes[at..bytes.len().min(at + MARKER.len())];
        if MARKER.starts_with(seen) {
            return at;
        }
        from = at + 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Class;
    use crate::rig::Random;
    use crate::session::{Opener, Sealer};

    impl Judge for Opener {
        type Taken = (u64, Vec<u8>);

        fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool {
            Opener::believes(self, header, bytes)
        }

        fn take(&mut self, header: &Header, frame: &mut [u8]) -> Option<(u64, Vec<u8>)> {
            Some((header.number, self.open(header, frame)?.to_vec()))
        }
    }

    /// Frames, where each ends, and what it holds.
    fn stream(random: &mut Random, count: usize) -> (Vec<u8>, Vec<usize>, Vec<Vec<u8>>, Opener) {
        let (mut sealer, id, secret) = Sealer::begin().unwrap();
        let opener = Opener::new(id, &secret);
        let (mut bytes, mut ends, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let length = [0, 1, 100, 1400, 20_000][random.below(5)];
            let payload: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            sealer.seal(Class::Bulk, &payload, &mut bytes).unwrap();
            ends.push(bytes.len());
            payloads.push(payload);
        }
        (bytes, ends, payloads, opener)
    }

    /// What comes out of these bytes, pushed in pieces of any length.
    fn read(
        random: &mut Random,
        bytes: &[u8],
        opener: &mut Opener,
    ) -> (Vec<(u64, Vec<u8>)>, Resync) {
        let (mut resync, mut taken, mut at) = (Resync::default(), Vec::new(), 0);
        while at < bytes.len() {
            let upto = bytes.len().min(at + 1 + random.below(30_000));
            resync.push(&bytes[at..upto]);
            at = upto;
            while let Some(frame) = resync.next(opener) {
                taken.push(frame);
            }
        }
        while let Some(frame) = resync.last(opener) {
            taken.push(frame);
        }
        (taken, resync)
    }

    #[test]
    fn an_intact_stream_comes_out_whole() {
        let mut random = Random(1);
        let (bytes, _, payloads, mut opener) = stream(&mut random, 60);
        let (taken, resync) = read(&mut random, &bytes, &mut opener);
        let expected: Vec<_> = (0..).zip(payloads).collect();
        assert_eq!(taken, expected);
        assert_eq!(resync.skipped(), 0);
    }

    #[test]
    fn every_frame_outside_of_the_damage_is_found() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let (bytes, ends, payloads, mut opener) = stream(&mut random, 30);
            let from = random.below(bytes.len());
            let upto = (from + 1 + random.below(60_000)).min(bytes.len());
            let mut damaged = bytes[..from].to_vec();
            match seed % 3 {
                // A span is missing.
                0 => {}
                // It is noise instead, with true headers in it.
                1 => {
                    for at in from..upto {
                        damaged.push(MARKER[at % 4] ^ u8::from(at % 7 == 0));
                        if at % 999 == 0 {
                            damaged.extend_from_slice(&bytes[..HEADER]);
                        }
                    }
                }
                // A piece of what came before comes again.
                _ => damaged.extend_from_slice(&bytes[from / 2..from]),
            }
            damaged.extend_from_slice(&bytes[upto..]);
            let (taken, resync) = read(&mut random, &damaged, &mut opener);
            let starts = std::iter::once(0).chain(ends.iter().copied());
            for (number, (start, end)) in starts.zip(ends.iter().copied()).enumerate() {
                if end <= from || start >= upto {
                    let found = taken.iter().any(|frame| frame.0 == number as u64);
                    assert!(found, "seed {seed}: frame {number} is missing");
                }
            }
            for (number, payload) in taken {
                assert_eq!(payload, payloads[number as usize], "seed {seed}");
            }
            assert!(resync.bytes.capacity() <= 8 * MOST_FRAME, "it keeps what it has read");
        }
    }
}
