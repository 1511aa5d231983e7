//! What is told of a measurement, and a line of a listing: answers that carry figures.

use events::Bound;
use files::{Name, Timestamp};
use link::wire::{Decoder, Encoder, WireError};

use crate::message::entry::decode_time;
use crate::message::{decode_bound, encode_bound};

/// What one end has seen of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Payload bytes that were carried in the steady part of it.
    pub bytes: u64,
    /// How long that part was, in microseconds.
    pub micros: u64,
    /// Processor time of the whole process in the meantime, in thousandths of a core.
    pub cpu: u64,
    /// Cores that the process may use.
    pub cores: u64,
    /// The round trip under load, in microseconds; for the end that sent.
    pub rtt_micros: u64,
    /// The smallest round trip seen, in microseconds.
    pub idle_rtt_micros: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Of those, packets lost.
    pub lost_packets: u64,
    /// What held the bytes back; for the end that sent.
    pub bound: Bound,
    /// Bytes per second that the end that was dialled allows this key, or 0.
    pub limit: u64,
    /// That end's clock, in seconds since 1970.
    pub clock: u64,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `d`, `f`, `l` or `o` for folder, file, symbolic link, other; `e` for an export.
    pub kind: u8,
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// When it last changed.
    pub mtime: Timestamp,
}

impl Measured {
    pub(super) fn encode(&self, out: &mut Encoder) {
        let Self { bytes, micros, cpu, cores, rtt_micros, idle_rtt_micros, .. } = self;
        for number in [bytes, micros, cpu, cores, rtt_micros, idle_rtt_micros] {
            out.varint(*number);
        }
        out.varint(self.sent_packets).varint(self.lost_packets);
        encode_bound(out, self.bound);
        out.varint(self.limit).varint(self.clock);
    }

    pub(super) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        Ok(Self {
            bytes: input.varint("bytes carried")?,
            micros: input.varint("time measured")?,
            cpu: input.varint("processor time")?,
            cores: input.varint("cores")?,
            rtt_micros: input.varint("round trip")?,
            idle_rtt_micros: input.varint("smallest round trip")?,
            sent_packets: input.varint("packets sent")?,
            lost_packets: input.varint("packets lost")?,
            bound: decode_bound(input)?,
            limit: input.varint("rate allowed")?,
            clock: input.varint("clock")?,
        })
    }
}

impl Listed {
    /// An upper bound of the bytes that this takes in a message.
    pub fn encoded_len(&self) -> usize {
        64 + self.name.as_bytes().len()
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(self.kind).bytes(self.name.as_bytes()).varint(self.size).varint(self.mode.into());
        out.signed(self.mtime.seconds).varint(self.mtime.nanos.into());
    }

    pub(super) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let kind = input.u8("listed kind")?;
        if !b"dfloe".contains(&kind) {
            return Err(WireError::invalid("listed kind"));
        }
        Ok(Self {
            kind,
            name: Name::new(input.bytes("listed name", 255)?)
                .map_err(|_| WireError::invalid("listed name"))?,
            size: input.varint("listed size")?,
            mode: input.varint_at_most("listed mode", 0o7777)? as u32,
            mtime: decode_time(input)?,
        })
    }
}
