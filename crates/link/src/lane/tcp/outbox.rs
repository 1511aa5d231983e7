//! What the control connection has yet to say, in the order in which it matters.
//! Everything in it is bounded: control frames by the peer's credit, acknowledgements by a count, and the
//! rest by being the same however often it is said.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::frame::Frame;

/// How many answers about parcels a peer may leave unread before it counts as broken.
const MOST_ANSWERS: usize = 64 * 1024;

/// How many bytes of control frames go into one write, so that answers do not wait for all of them.
const BATCH: usize = 64 * 1024;

/// The box and the bell.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    said: Mutex<Said>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Said {
    welcome: bool,
    ping: bool,
    pong: bool,
    read: Vec<u64>,
    refused: Vec<(u64, u32)>,
    credits: BTreeMap<u32, u32>,
    more: Option<u16>,
    control: VecDeque<Frame>,
    close: Option<(u32, Vec<u8>)>,
    closing: bool,
}

/// What a batch was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// There is nothing to say.
    Empty,
    /// More may follow.
    Some,
    /// The close is in it, and nothing may follow.
    Last,
}

impl Outbox {
    pub(crate) fn welcome(&self) {
        self.say(|said| said.welcome = true);
    }

    pub(crate) fn ping(&self) {
        self.say(|said| said.ping = true);
    }

    pub(crate) fn pong(&self) {
        self.say(|said| said.pong = true);
    }

    pub(crate) fn more(&self, connections: u16) {
        self.say(|said| said.more = Some(connections));
    }

    pub(crate) fn credit(&self, stream: u32, bytes: u32) {
        self.say(|said| *said.credits.entry(stream).or_default() += bytes);
    }

    /// A frame or the end of a control stream; the caller has credit for it.
    pub(crate) fn control(&self, frame: Frame) {
        self.say(|said| said.control.push_back(frame));
    }

    /// A parcel was read. False if the peer does not take our answers.
    pub(crate) fn read(&self, number: u64) -> bool {
        self.say(|said| {
            said.read.push(number);
            said.read.len() <= MOST_ANSWERS
        })
    }

    /// A parcel is not wanted. False if the peer does not take our answers.
    pub(crate) fn refused(&self, number: u64, code: u32) -> bool {
        self.say(|said| {
            said.refused.push((number, code));
            said.refused.len() <= MOST_ANSWERS
        })
    }

    /// The last word. What was said before goes out before it.
    pub(crate) fn close(&self, code: u32, reason: &[u8]) {
        self.say(|said| {
            if !said.closing {
                (said.closing, said.close) = (true, Some((code, reason.to_vec())));
            }
        });
    }

    /// Encodes the next batch.
    pub(crate) fn take(&self, out: &mut Vec<u8>) -> Batch {
        let mut said = self.lock();
        let before = out.len();
        for (flag, frame) in [
            (std::mem::take(&mut said.welcome), Frame::Welcome),
            (std::mem::take(&mut said.pong), Frame::Pong),
            (std::mem::take(&mut said.ping), Frame::Ping),
        ] {
            if flag {
                frame.encode(out);
            }
        }
        Frame::reads(&std::mem::take(&mut said.read)).for_each(|frame| frame.encode(out));
        for (number, code) in std::mem::take(&mut said.refused) {
            Frame::Refused { number, code }.encode(out);
        }
        for (stream, bytes) in std::mem::take(&mut said.credits) {
            Frame::Credit { stream, bytes }.encode(out);
        }
        if let Some(connections) = said.more.take() {
            Frame::More { connections }.encode(out);
        }
        while out.len() - before < BATCH {
            let Some(frame) = said.control.pop_front() else { break };
            frame.encode(out);
        }
        if said.control.is_empty()
            && let Some((code, reason)) = said.close.take()
        {
            Frame::Close { code, reason }.encode(out);
            return Batch::Last;
        }
        if out.len() == before { Batch::Empty } else { Batch::Some }
    }

    /// Waits until something was said since the last wait.
    pub(crate) async fn wait(&self) {
        self.bell.notified().await;
    }

    fn say<T>(&self, change: impl FnOnce(&mut Said) -> T) -> T {
        let result = change(&mut self.lock());
        self.bell.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        // Nothing under the lock can panic halfway through a change, so a poisoned lock is still whole.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_overtake_control_frames_and_the_close_is_last() {
        let outbox = Outbox::default();
        let long = Frame::Control { stream: 0, bytes: vec![1; 60 * 1024] };
        (0..3).for_each(|_| outbox.control(long.clone()));
        outbox.close(3, b"bye");
        outbox.close(4, b"too late");
        assert!(outbox.read(9));
        let mut out = Vec::new();
        assert_eq!(outbox.take(&mut out), Batch::Some);
        assert!(outbox.read(10));
        assert_eq!(outbox.take(&mut out), Batch::Last);
        let (mut frames, mut got) = (super::super::frame::Frames::default(), Vec::new());
        frames
            .feed::<super::super::frame::FrameError>(&out, |frame| {
                got.push(frame);
                Ok(())
            })
            .unwrap();
        let expected = [
            Frame::Read { numbers: vec![9] },
            long.clone(),
            long.clone(),
            Frame::Read { numbers: vec![10] },
            long,
            Frame::Close { code: 3, reason: b"bye".to_vec() },
        ];
        assert!(got == expected);
        assert_eq!(outbox.take(&mut Vec::new()), Batch::Empty);
    }

    #[test]
    fn a_peer_that_takes_no_answers_is_found_out() {
        let outbox = Outbox::default();
        assert!((0..MOST_ANSWERS as u64).all(|number| outbox.read(number)));
        assert!(!outbox.read(0));
        for _ in 0..1000 {
            outbox.ping();
            outbox.pong();
            outbox.more(2);
            outbox.credit(1, 1);
        }
        assert_eq!(outbox.lock().credits.len(), 1);
    }
}
