//! Control streams: frames in order, each a length of four bytes and that many bytes.
//! Both halves can be cancelled at any await without losing or breaking a frame, so they may stand in a
//! `select!`.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

use super::super::{MAX_FRAME, MAX_UNSENT};
use super::{Connected, QuicLane};
use crate::LinkError;

/// Control frames overtake every parcel: a parcel's priority is never above zero.
const CONTROL_PRIORITY: i32 = 1;

/// The length before each frame, most significant byte first.
const LENGTH_BYTES: usize = 4;

impl QuicLane {
    pub(in super::super) async fn open_control(&self) -> Result<(Sender, Receiver), LinkError> {
        let opened = self.connection().open_bi().await;
        let (send, receive) = opened.map_err(|error| self.connected.error(error))?;
        Ok(self.control(send, receive))
    }

    pub(in super::super) async fn accept_control(&self) -> Result<(Sender, Receiver), LinkError> {
        let accepted = self.connection().accept_bi().await;
        let (send, receive) = accepted.map_err(|error| self.connected.error(error))?;
        Ok(self.control(send, receive))
    }

    fn control(&self, send: SendStream, receive: RecvStream) -> (Sender, Receiver) {
        // It fails only on a stream that has ended, which the first frame will find out.
        let _ = send.set_priority(CONTROL_PRIORITY);
        let lane = self.connected.clone();
        let sender = Sender { lane: lane.clone(), stream: send, unsent: BytesMut::new() };
        (sender, Receiver { lane, stream: receive, arrived: BytesMut::new() })
    }
}

/// The sending half of a control stream.
#[derive(Debug)]
pub(crate) struct Sender {
    lane: Arc<Connected>,
    stream: SendStream,
    /// What is left of frames whose sending was cancelled; it goes out before anything else.
    unsent: BytesMut,
}

impl Sender {
    /// Sends one frame. When it is cancelled, the frame counts as accepted, and what is left of it goes
    /// out with the next call; [`LinkError::TooLong`] says that too much was left in this way.
    pub(in super::super) async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let too_long = |length: usize, cap: usize| LinkError::TooLong {
            peer: self.lane.name.clone(),
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
    pub(in super::super) async fn finish(&mut self) -> Result<(), LinkError> {
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
pub(crate) struct Receiver {
    lane: Arc<Connected>,
    stream: RecvStream,
    /// What has arrived of the next frames.
    arrived: BytesMut,
}

impl Receiver {
    /// The next frame, of at most `max` bytes, or nothing once the peer has finished. Memory grows with
    /// what arrives and not with what a length promises.
    pub(in super::super) async fn recv(
        &mut self,
        max: usize,
    ) -> Result<Option<Vec<u8>>, LinkError> {
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
                None => return Err(LinkError::CutShort { peer: self.lane.name.clone() }),
            }
        }
    }

    fn take_frame(&mut self, max: usize) -> Result<Option<Vec<u8>>, LinkError> {
        let Some(length) = self.arrived.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if u64::from(length) > max as u64 {
            let peer = self.lane.name.clone();
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

pub(super) fn write_error(lane: &Connected, error: WriteError) -> LinkError {
    let peer = lane.name.clone();
    match error {
        WriteError::Stopped(code) => LinkError::StreamStopped { peer, code: code.into_inner() },
        WriteError::ConnectionLost(error) => lane.error(error),
        // Both mean that this side ended the stream before.
        WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::ClosedHere { peer },
    }
}

fn read_error(lane: &Connected, error: ReadError) -> LinkError {
    let peer = lane.name.clone();
    match error {
        ReadError::Reset(code) => LinkError::StreamReset { peer, code: code.into_inner() },
        ReadError::ConnectionLost(error) => lane.error(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            LinkError::ClosedHere { peer }
        }
    }
}
