//! Control streams: frames in order, each a length of four bytes and that many bytes.
//! Both halves can be cancelled at any await without losing or breaking a frame, so they may stand in a
//! `select!`.

use bytes::{Buf as _, BufMut as _, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

use super::Lane;
use crate::LinkError;

/// The longest frame that is sent.
pub const MAX_FRAME: usize = 64 * 1024;

/// How much of cancelled frames is kept for the next call.
const MAX_UNSENT: usize = 16 * MAX_FRAME;

/// Control frames overtake every parcel: a parcel's priority is never above zero.
const CONTROL_PRIORITY: i32 = 1;

/// The length before each frame, most significant byte first.
const LENGTH_BYTES: usize = 4;

impl Lane {
    /// Opens a control stream. The peer sees it when the first frame arrives.
    pub async fn open_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) =
            self.connection().open_bi().await.map_err(|error| self.error(error))?;
        Ok(self.control(send, receive))
    }

    /// Waits for the peer to open a control stream.
    pub async fn accept_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) =
            self.connection().accept_bi().await.map_err(|error| self.error(error))?;
        Ok(self.control(send, receive))
    }

    fn control(&self, send: SendStream, receive: RecvStream) -> (ControlSender, ControlReceiver) {
        // It fails only on a stream that has ended, which the first frame will find out.
        let _ = send.set_priority(CONTROL_PRIORITY);
        let sender = ControlSender { lane: self.clone(), stream: send, unsent: BytesMut::new() };
        let receiver =
            ControlReceiver { lane: self.clone(), stream: receive, arrived: BytesMut::new() };
        (sender, receiver)
    }
}

/// The sending half of a control stream. Dropping it ends the stream as `finish` does.
#[derive(Debug)]
pub struct ControlSender {
    lane: Lane,
    stream: SendStream,
    /// What is left of frames whose sending was cancelled; it goes out before anything else.
    unsent: BytesMut,
}

impl ControlSender {
    /// Sends one frame. When it is cancelled, the frame counts as accepted, and what is left of it goes
    /// out with the next call; [`LinkError::TooLong`] says that too much was left in this way.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let too_long = |length: usize, cap: usize| LinkError::TooLong {
            peer: self.lane.peer_name().clone(),
            length: length as u64,
            cap: cap as u64,
        };
        if frame.len() > MAX_FRAME {
            return Err(too_long(frame.len(), MAX_FRAME));
        }
        if self.unsent.len() > MAX_UNSENT {
            return Err(too_long(self.unsent.len(), MAX_UNSENT));
        }
        self.unsent.put_u32(frame.len() as u32);
        self.unsent.put_slice(frame);
        self.flush().await
    }

    /// Says that no frame follows.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        // It fails only on a stream that has ended already.
        let _ = self.stream.finish();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.unsent.is_empty() {
            let sent = self
                .stream
                .write(&self.unsent)
                .await
                .map_err(|error| write_error(&self.lane, error))?;
            self.unsent.advance(sent);
        }
        Ok(())
    }
}

/// The receiving half of a control stream.
#[derive(Debug)]
pub struct ControlReceiver {
    lane: Lane,
    stream: RecvStream,
    /// What has arrived of the next frames.
    arrived: BytesMut,
}

impl ControlReceiver {
    /// The next frame, of at most `max` bytes, or nothing once the peer has finished. Memory grows with
    /// what arrives and not with what a length promises.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            if let Some(frame) = self.take_frame(max)? {
                return Ok(Some(frame));
            }
            // A chunk is no longer than this, so `arrived` never holds more than two frames.
            let chunk = self.stream.read_chunk(max.saturating_add(LENGTH_BYTES), true).await;
            match chunk.map_err(|error| read_error(&self.lane, error))? {
                Some(chunk) => {
                    self.lane.note_read(chunk.bytes.len());
                    self.arrived.extend_from_slice(&chunk.bytes);
                }
                None if self.arrived.is_empty() => return Ok(None),
                None => return Err(LinkError::CutShort { peer: self.lane.peer_name().clone() }),
            }
        }
    }

    fn take_frame(&mut self, max: usize) -> Result<Option<Vec<u8>>, LinkError> {
        let Some(length) = self.arrived.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if u64::from(length) > max as u64 {
            let peer = self.lane.peer_name().clone();
            return Err(LinkError::TooLong { peer, length: u64::from(length), cap: max as u64 });
        }
        let end = LENGTH_BYTES + length as usize;
        if self.arrived.len() < end {
            return Ok(None);
        }
        let frame = self.arrived[LENGTH_BYTES..end].to_vec();
        self.arrived.advance(end);
        Ok(Some(frame))
    }
}

pub(super) fn write_error(lane: &Lane, error: WriteError) -> LinkError {
    let peer = lane.peer_name().clone();
    match error {
        WriteError::Stopped(code) => LinkError::StreamStopped { peer, code: code.into_inner() },
        WriteError::ConnectionLost(error) => lane.error(error),
        // Both mean that this side ended the stream before.
        WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::ClosedHere { peer },
    }
}

fn read_error(lane: &Lane, error: ReadError) -> LinkError {
    let peer = lane.peer_name().clone();
    match error {
        ReadError::Reset(code) => LinkError::StreamReset { peer, code: code.into_inner() },
        ReadError::ConnectionLost(error) => lane.error(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            LinkError::ClosedHere { peer }
        }
    }
}
