//! Parcels: a head and a body on a stream of their own, so that one lost packet holds up one parcel.
//! On the wire: the head's length and the body's, four bytes each with the most significant first, then
//! both. A parcel is read in whatever order its bytes arrive, into memory that grows with what arrived.
//! The upper 12 bits of the first length say how many repair symbols follow (`coded`), mostly none.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};

use super::coded::{Coded, SYMBOL, most_repair, repair_for, repair_of};
use super::control::write_error;
use super::{Connected, QuicLane};
use crate::{LinkError, ParcelError, PeerName};

/// The two lengths that a parcel begins with.
const LENGTHS_BYTES: usize = 8;

/// Bits of the head's length; those above it hold the number of repair symbols.
const HEAD_BITS: u32 = 20;
/// The longest head.
pub(in super::super) const MOST_HEAD: usize = (1 << HEAD_BITS) - 1;

/// The code on a stream whose sender gave it up.
const ABANDONED: VarInt = VarInt::from_u32(0);
/// The code of a receiver that has enough of a parcel with repair symbols.
const ENOUGH: VarInt = VarInt::from_u32(1);

/// Pieces that may come before the lengths; an honest sender's are of a packet each.
const MOST_EARLY: usize = 8192;

/// Below this share of lost packets there is little to make up for.
const LEAST_LOSS: f64 = 0.0005;
/// Below this round-trip time sending again is as good.
const LEAST_TRIP: Duration = Duration::from_millis(5);

impl QuicLane {
    pub(in super::super) async fn send_parcel(
        &self,
        head: Bytes,
        body: Bytes,
        order: u64,
        redundantly: bool,
    ) -> Result<(), LinkError> {
        let lane = &*self.connected;
        let repair = if redundantly { self.repair(&head, &body) } else { None };
        let opened = self.connection().open_uni().await;
        let stream = opened.map_err(|error| lane.error(error))?;
        let mut sending = Sending { stream, settled: false };
        // It fails only on a stream that has ended, which writing will find out.
        let _ = sending.stream.set_priority(-i32::try_from(order).unwrap_or(i32::MAX));
        let mut start = BytesMut::with_capacity(LENGTHS_BYTES + head.len());
        // The caller has checked that both lengths fit.
        let symbols = repair.as_ref().map_or(0, |repair| (repair.len() / SYMBOL) as u32);
        start.extend_from_slice(&(symbols << HEAD_BITS | head.len() as u32).to_be_bytes());
        start.extend_from_slice(&(body.len() as u32).to_be_bytes());
        start.extend_from_slice(&head);
        let is_coded = repair.is_some();
        let mut chunks = [start.freeze(), body, repair.unwrap_or_default().into()];
        match sending.stream.write_all_chunks(&mut chunks).await {
            // It had enough before all was written.
            Err(WriteError::Stopped(ENOUGH)) if is_coded => {
                sending.settled = true;
                return Ok(());
            }
            written => written.map_err(|error| write_error(lane, error))?,
        }
        // It fails only when the peer has stopped the stream, which is what is asked next.
        let _ = sending.stream.finish();
        let stopped = sending.stream.stopped().await;
        sending.settled = true;
        let peer = || lane.name.clone();
        match stopped {
            Ok(None) => Ok(()),
            Ok(Some(ENOUGH)) if is_coded => Ok(()),
            Ok(Some(code)) => {
                Err(LinkError::StreamStopped { peer: peer(), code: code.into_inner() })
            }
            Err(StoppedError::ConnectionLost(error)) => Err(lane.error(error)),
            Err(StoppedError::ZeroRttRejected) => Err(LinkError::ClosedHere { peer: peer() }),
        }
    }

    /// Repair symbols for a parcel, if the path loses enough to be worth them.
    fn repair(&self, head: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let stats = self.stats();
        if stats.path_loss < LEAST_LOSS || stats.rtt < LEAST_TRIP {
            return None;
        }
        let count = repair_for(head.len() + body.len(), stats.path_loss);
        repair_of(head, body, count)
    }

    pub(in super::super) async fn accept_parcel(&self) -> Result<Arriving, LinkError> {
        // The welcome is the first of the peer's streams, and another task reads it.
        self.settled().await;
        let accepted = self.connection().accept_uni().await;
        let stream = accepted.map_err(|error| self.connected.error(error))?;
        Ok(Arriving { lane: self.connected.clone(), stream })
    }
}

/// A stream that is reset, and not quietly ended, if it is dropped halfway.
struct Sending {
    stream: SendStream,
    settled: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.settled {
            // It fails only on a stream that has ended already.
            let _ = self.stream.reset(ABANDONED);
        }
    }
}

/// A parcel of which something has arrived. Dropping it tells the sender to stop.
#[derive(Debug)]
pub(crate) struct Arriving {
    lane: Arc<Connected>,
    stream: RecvStream,
}

impl Arriving {
    pub(in super::super) async fn read(
        mut self,
        max_head: usize,
        max_body: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), ParcelError> {
        let mut assembly = Assembly::new(max_head, max_body);
        let lie = |found: Lie, lane: &Connected| found.into_error(lane.name.clone());
        // The size given here bounds one step; a chunk is what one packet carried.
        while let Some(chunk) =
            self.stream.read_chunk(usize::MAX, false).await.map_err(|error| self.error(error))?
        {
            self.lane.note_read(chunk.bytes.len());
            let placed = assembly.place(chunk.offset, &chunk.bytes);
            if placed.map_err(|found| lie(found, &self.lane))? {
                // It fails only on a stream that has ended already.
                let _ = self.stream.stop(ENOUGH);
                break;
            }
        }
        let finished = match assembly.coded.take() {
            // Decoding takes a millisecond, which others on this thread would wait for.
            Some(coded) => tokio::task::spawn_blocking(move || coded.finish())
                .await
                .unwrap_or(Err(Lie::EndsEarly)),
            None => assembly.finish(),
        };
        finished.map_err(|found| lie(found, &self.lane))
    }

    pub(in super::super) fn refuse(mut self, code: u32) {
        // It fails only on a stream that has ended already.
        let _ = self.stream.stop(VarInt::from_u32(code));
    }

    fn error(&self, error: ReadError) -> ParcelError {
        let peer = self.lane.name.clone();
        match error {
            ReadError::Reset(code) => ParcelError::Abandoned { peer, code: code.into_inner() },
            ReadError::ConnectionLost(error) => self.lane.error(error).into(),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => LinkError::ClosedHere { peer }.into(),
        }
    }
}

/// A way in which a parcel contradicts itself or exceeds its limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lie {
    HeadTooLong { length: u64, cap: usize },
    BodyTooLong { length: u64, cap: usize },
    EndsEarly,
    TrailingBytes,
    TooMuchRepair,
    TooManyPieces,
}

impl Lie {
    fn into_error(self, peer: PeerName) -> ParcelError {
        match self {
            Self::HeadTooLong { length, cap } => ParcelError::HeadTooLong { peer, length, cap },
            Self::BodyTooLong { length, cap } => ParcelError::BodyTooLong { peer, length, cap },
            Self::EndsEarly => ParcelError::EndsEarly { peer },
            Self::TrailingBytes => ParcelError::TrailingBytes { peer },
            Self::TooMuchRepair => ParcelError::TooMuchRepair { peer },
            Self::TooManyPieces => ParcelError::TooManyPieces { peer },
        }
    }
}

/// Puts chunks that come in any order, each byte once, where they belong.
struct Assembly {
    max_head: usize,
    max_body: usize,
    lengths: [u8; LENGTHS_BYTES],
    lengths_arrived: usize,
    /// The two lengths, once all their bytes are there.
    known: Option<(usize, usize)>,
    /// What lies behind the lengths and came before they were known. It is copied, because a chunk of
    /// one byte keeps the memory of the packet that it came in.
    early: Vec<u8>,
    /// Where in it something came, for the count of what has come of each symbol.
    early_ranges: Vec<(usize, usize)>,
    head: Vec<u8>,
    body: Vec<u8>,
    arrived: usize,
    /// Instead of head and body, where repair symbols follow.
    coded: Option<Coded>,
}

impl Assembly {
    fn new(max_head: usize, max_body: usize) -> Self {
        Self {
            max_head,
            max_body,
            lengths: [0; LENGTHS_BYTES],
            lengths_arrived: 0,
            known: None,
            early: Vec::new(),
            early_ranges: Vec::new(),
            head: Vec::new(),
            body: Vec::new(),
            arrived: 0,
            coded: None,
        }
    }

    /// Places bytes. True when nothing more is needed, though more may be on its way.
    fn place(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, Lie> {
        let end = offset.saturating_add(bytes.len() as u64);
        let content = self.max_head.saturating_add(self.max_body);
        let limit = LENGTHS_BYTES.saturating_add(content).saturating_add(most_repair(content));
        if end > limit as u64 {
            return Err(Lie::TrailingBytes);
        }
        // The limit fits in a usize, so what lies below it does.
        let offset = offset as usize;
        self.arrived += bytes.len();
        let (of_lengths, rest) =
            bytes.split_at(LENGTHS_BYTES.saturating_sub(offset).min(bytes.len()));
        if !of_lengths.is_empty() {
            self.lengths[offset..offset + of_lengths.len()].copy_from_slice(of_lengths);
            self.lengths_arrived += of_lengths.len();
            if self.lengths_arrived == LENGTHS_BYTES {
                self.learn_lengths()?;
            }
        }
        if rest.is_empty() {
            return Ok(self.coded.as_ref().is_some_and(Coded::is_enough));
        }
        let start = offset + of_lengths.len() - LENGTHS_BYTES;
        match (&mut self.coded, self.known) {
            (Some(coded), _) => coded.place(start, rest),
            (None, Some((head, body))) => self.copy(start, rest, head, body).map(|()| false),
            (None, None) => {
                self.note_early(start, rest.len())?;
                write_at(&mut self.early, start, rest, limit - LENGTHS_BYTES);
                Ok(false)
            }
        }
    }

    fn note_early(&mut self, start: usize, length: usize) -> Result<(), Lie> {
        let count = self.early_ranges.len();
        match self.early_ranges.last_mut() {
            Some((last, before)) if *last + *before == start => *before += length,
            _ if count >= MOST_EARLY => return Err(Lie::TooManyPieces),
            _ => self.early_ranges.push((start, length)),
        }
        Ok(())
    }

    fn learn_lengths(&mut self) -> Result<(), Lie> {
        let number = |at: usize| {
            let bytes = &self.lengths[at..at + 4];
            u32::from_be_bytes(bytes.try_into().expect("four bytes were sliced"))
        };
        let (first, body) = (number(0), number(4));
        let (head, repair) = (first & MOST_HEAD as u32, (first >> HEAD_BITS) as usize);
        if head as usize > self.max_head {
            return Err(Lie::HeadTooLong { length: u64::from(head), cap: self.max_head });
        }
        if body as usize > self.max_body {
            return Err(Lie::BodyTooLong { length: u64::from(body), cap: self.max_body });
        }
        let (head, body) = (head as usize, body as usize);
        self.known = Some((head, body));
        let early_ranges = std::mem::take(&mut self.early_ranges);
        if repair > 0 {
            let mut coded = Coded::new(head, body, repair)?;
            for (start, length) in early_ranges {
                coded.place(start, &self.early[start..start + length])?;
            }
            self.early = Vec::new();
            self.coded = Some(coded);
            return Ok(());
        }
        // Address space and no more: what does not arrive is never touched and takes no memory.
        self.body.reserve_exact(body);
        let early = std::mem::take(&mut self.early);
        self.copy(0, &early, head, body)
    }

    /// Copies bytes from behind the lengths to the head, the body, or both.
    fn copy(&mut self, start: usize, bytes: &[u8], head: usize, body: usize) -> Result<(), Lie> {
        if start + bytes.len() > head + body {
            return Err(Lie::TrailingBytes);
        }
        let (of_head, of_body) = bytes.split_at(head.saturating_sub(start).min(bytes.len()));
        write_at(&mut self.head, start, of_head, head);
        // Where nothing is of the body, this may lie before its beginning, and nothing is written.
        write_at(&mut self.body, (start + of_head.len()).saturating_sub(head), of_body, body);
        Ok(())
    }

    fn finish(self) -> Result<(Vec<u8>, Vec<u8>), Lie> {
        if let Some(coded) = self.coded {
            return coded.finish();
        }
        let Some((head, body)) = self.known else { return Err(Lie::EndsEarly) };
        // Each byte comes once and none lies behind the end, so the sum says that all are there.
        if self.arrived != LENGTHS_BYTES + head + body {
            return Err(Lie::EndsEarly);
        }
        Ok((self.head, self.body))
    }
}

/// Writes at an offset of a buffer that grows to what it needs and never beyond `length`.
fn write_at(buffer: &mut Vec<u8>, offset: usize, bytes: &[u8], length: usize) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if offset == buffer.len() && end <= buffer.capacity() {
        // As it mostly comes: in order, and then nothing need be zeroed first.
        return buffer.extend_from_slice(bytes);
    }
    if end > buffer.len() {
        if end > buffer.capacity() {
            let wanted = (buffer.capacity() * 2).max(end).min(length);
            buffer.reserve_exact(wanted - buffer.len());
        }
        buffer.resize(end, 0);
    }
    buffer[offset..end].copy_from_slice(bytes);
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
