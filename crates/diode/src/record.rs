//! Records: what control and stream frames hold. Each has a kind and a length, so that a reader passes over those
//! that a later version has made up.

use link::{Identity, PublicKey, is_unprintable};
use thiserror::Error;

/// Bytes before the content of a record.
const HEAD: usize = 3;

/// The longest text in a record, in bytes.
const MOST_TEXT: usize = 255;

/// What the signature of a generation's end is made over besides its content.
const SIGNED: &[u8] = b"haul diode generation";

/// Bytes of a generation's end without its signature.
const GENERATION: usize = 8 + 8 + 4 + 32 + 5 * 8;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// The sender is there.
    Heartbeat(Heartbeat),
    /// A generation has been sent once.
    GenerationEnded(GenerationEnd),
    /// The sender has begun.
    Started {
        /// Its clock, in milliseconds since 1970.
        time_ms: u64,
        /// Its version, for people.
        version: &'a str,
    },
    /// The sender ends, as it was asked to.
    Stopping {
        /// Its clock, in milliseconds since 1970.
        time_ms: u64,
        /// Its version, for people.
        version: &'a str,
    },
    /// The session is neither encrypted nor authenticated; said with each heartbeat.
    Plain,
    /// A connection of a channel begins.
    ChannelOpened {
        /// The channel's number.
        channel: u16,
        /// The connection's number in the channel.
        connection: u32,
        /// What it carries.
        carrier: Carrier,
        /// The channel's name.
        name: &'a str,
    },
    /// Bytes of a connection, or a datagram.
    ChannelData {
        /// The channel's number.
        channel: u16,
        /// The connection's number in the channel.
        connection: u32,
        /// Where the bytes begin in the connection, or which datagram it is.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A piece of a datagram that does not fit one frame.
    ChannelPiece {
        /// The channel's number.
        channel: u16,
        /// The connection's number in the channel.
        connection: u32,
        /// Which datagram it is.
        number: u64,
        /// Where the piece begins in the datagram.
        at: u16,
        /// Bytes of the whole datagram.
        total: u16,
        /// The piece.
        bytes: &'a [u8],
    },
    /// A connection has ended.
    ChannelClosed {
        /// The channel's number.
        channel: u16,
        /// The connection's number in the channel.
        connection: u32,
        /// How many bytes or datagrams it had.
        length: u64,
        /// Whether it ended as its sender wanted.
        is_whole: bool,
    },
    /// How far a rehearsal is, in a frame of filler.
    Rehearsal(RehearsalStep),
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A stream of bytes.
    Tcp,
    /// Datagrams, each on its own.
    Udp,
}

/// What the sender says of itself each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// The last generation that it has sent once.
    pub generation: u64,
    /// How many frames of this session it has sent.
    pub frames: u64,
    /// Bytes per second that it may send.
    pub rate: u64,
    /// Seconds until it scans again.
    pub next_scan_s: u32,
}

/// A step of a rehearsal: frames that mean nothing, one behind the other at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RehearsalStep {
    /// Its number, from 1.
    pub step: u16,
    /// How many steps there will be, or were if it was stopped.
    pub steps: u16,
    /// Bytes per second that were asked for, with the headers of packets.
    pub rate: u64,
    /// The number of its first frame.
    pub first: u64,
    /// One more than that of its last frame; 0 while it goes on.
    pub end: u64,
    /// Microseconds since it began, or that it took.
    pub micros: u64,
    /// Bytes of a packet with its headers; 0 in a stream.
    pub packet: u16,
}

impl RehearsalStep {
    /// Whether this is the end of the last step.
    pub fn is_last_end(&self) -> bool {
        self.end != 0 && self.step == self.steps
    }
}

/// What a generation comes to, signed by the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationEnd {
    /// Its number.
    pub generation: u64,
    /// The generation that it builds on; 0 if its manifest is full.
    pub base: u64,
    /// How many pages its manifest has.
    pub pages: u32,
    /// The BLAKE3 of the last page.
    pub last_page: [u8; 32],
    /// Files that it brings.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Entries that it removes.
    pub removed: u64,
    /// Entries that the tree has then.
    pub entries: u64,
    /// No later generation names an object below this one for the first time: what is older and was not named is of no use.
    pub open: u64,
    signature: [u8; 64],
}

/// Why bytes are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record is longer than what is there.
    #[error("a record is cut short")]
    Short,
    /// Its content is not what its kind has.
    #[error("a record of kind {0} has a wrong content")]
    Content(u8),
    /// It fits no frame.
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
}

impl GenerationEnd {
    /// Signs what a generation comes to, for receivers that know the sender by a line of this epoch.
    pub fn sign(mut self, identity: &Identity, floor: u64) -> Self {
        self.signature = identity.sign(&self.signed(floor));
        self
    }

    /// One that is not signed yet.
    pub fn unsigned(generation: u64, base: u64) -> Self {
        Self {
            generation,
            base,
            pages: 0,
            last_page: [0; 32],
            files: 0,
            bytes: 0,
            removed: 0,
            entries: 0,
            open: 0,
            signature: [0; 64],
        }
    }

    /// Whether this sender has signed it for this epoch floor.
    pub fn is_signed(&self, sender: &PublicKey, floor: u64) -> bool {
        sender.verify(&self.signed(floor), &self.signature)
    }

    fn signed(&self, floor: u64) -> Vec<u8> {
        [SIGNED, &floor.to_be_bytes(), &self.content()].concat()
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(GENERATION);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.base.to_be_bytes());
        bytes.extend_from_slice(&self.pages.to_be_bytes());
        bytes.extend_from_slice(&self.last_page);
        for number in [self.files, self.bytes, self.removed, self.entries, self.open] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

impl Record<'_> {
    /// Appends the record to a payload, if a reader will take it.
    pub fn encode(&self, payload: &mut Vec<u8>) -> Result<(), RecordError> {
        match self {
            Self::Started { version: text, .. }
            | Self::Stopping { version: text, .. }
            | Self::ChannelOpened { name: text, .. }
                if !is_plain(text) =>
            {
                return Err(RecordError::Content(self.kind()));
            }
            _ => {}
        }
        let start = payload.len();
        payload.extend_from_slice(&[self.kind(), 0, 0]);
        match self {
            Self::Heartbeat(beat) => {
                for number in [beat.time_ms, beat.generation, beat.frames, beat.rate] {
                    payload.extend_from_slice(&number.to_be_bytes());
                }
                payload.extend_from_slice(&beat.next_scan_s.to_be_bytes());
            }
            Self::GenerationEnded(end) => {
                payload.extend_from_slice(&end.content());
                payload.extend_from_slice(&end.signature);
            }
            Self::Started { time_ms, version } | Self::Stopping { time_ms, version } => {
                payload.extend_from_slice(&time_ms.to_be_bytes());
                payload.extend_from_slice(version.as_bytes());
            }
            Self::Plain => {}
            Self::ChannelOpened { channel, connection, carrier, name } => {
                payload.extend_from_slice(&channel.to_be_bytes());
                payload.extend_from_slice(&connection.to_be_bytes());
                payload.push(matches!(carrier, Carrier::Udp).into());
                payload.extend_from_slice(name.as_bytes());
            }
            Self::ChannelData { channel, connection, offset, bytes } => {
                payload.extend_from_slice(&channel.to_be_bytes());
                payload.extend_from_slice(&connection.to_be_bytes());
                payload.extend_from_slice(&offset.to_be_bytes());
                payload.extend_from_slice(bytes);
            }
            Self::ChannelPiece { channel, connection, number, at, total, bytes } => {
                payload.extend_from_slice(&channel.to_be_bytes());
                payload.extend_from_slice(&connection.to_be_bytes());
                payload.extend_from_slice(&number.to_be_bytes());
                payload.extend_from_slice(&at.to_be_bytes());
                payload.extend_from_slice(&total.to_be_bytes());
                payload.extend_from_slice(bytes);
            }
            Self::ChannelClosed { channel, connection, length, is_whole } => {
                payload.extend_from_slice(&channel.to_be_bytes());
                payload.extend_from_slice(&connection.to_be_bytes());
                payload.extend_from_slice(&length.to_be_bytes());
                payload.push((!is_whole).into());
            }
            Self::Rehearsal(step) => {
                payload.extend_from_slice(&step.step.to_be_bytes());
                payload.extend_from_slice(&step.steps.to_be_bytes());
                for number in [step.rate, step.first, step.end, step.micros] {
                    payload.extend_from_slice(&number.to_be_bytes());
                }
                payload.extend_from_slice(&step.packet.to_be_bytes());
            }
        }
        let length = payload.len() - start - HEAD;
        let Ok(short) = u16::try_from(length) else {
            payload.truncate(start);
            return Err(RecordError::TooLong(length));
        };
        payload[start + 1..start + HEAD].copy_from_slice(&short.to_be_bytes());
        Ok(())
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Heartbeat(_) => 1,
            Self::GenerationEnded(_) => 2,
            Self::Started { .. } => 3,
            Self::Stopping { .. } => 4,
            Self::ChannelOpened { .. } => 5,
            Self::ChannelData { .. } => 6,
            Self::ChannelClosed { .. } => 7,
            Self::ChannelPiece { .. } => 8,
            Self::Rehearsal(_) => 9,
            Self::Plain => 10,
        }
    }
}

/// The records of a payload, one after the other. Kinds that are not known are passed over.
#[derive(Debug, Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// The records of this payload.
    pub fn of(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Kind 0 fills a frame up to its size.
            let kind = *self.0.first().filter(|kind| **kind != 0)?;
            let rest = std::mem::take(&mut self.0);
            let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else {
                return Some(Err(RecordError::Short));
            };
            let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let Some((content, rest)) = rest.split_at_checked(length) else {
                return Some(Err(RecordError::Short));
            };
            self.0 = rest;
            match read(kind, Content(content)) {
                Some(Some(record)) => return Some(Ok(record)),
                Some(None) => {}
                None => return Some(Err(RecordError::Content(kind))),
            }
        }
    }
}

/// Reads a record's content: None inside if its kind is not known, None outside if it is wrong.
fn read(kind: u8, mut content: Content<'_>) -> Option<Option<Record<'_>>> {
    let record = match kind {
        1 => Record::Heartbeat(Heartbeat {
            time_ms: content.u64()?,
            generation: content.u64()?,
            frames: content.u64()?,
            rate: content.u64()?,
            next_scan_s: u32::from_be_bytes(content.array()?),
        }),
        2 => Record::GenerationEnded(GenerationEnd {
            generation: content.u64()?,
            base: content.u64()?,
            pages: u32::from_be_bytes(content.array()?),
            last_page: content.array()?,
            files: content.u64()?,
            bytes: content.u64()?,
            removed: content.u64()?,
            entries: content.u64()?,
            open: content.u64()?,
            signature: content.array()?,
        }),
        3 => Record::Started { time_ms: content.u64()?, version: content.text()? },
        4 => Record::Stopping { time_ms: content.u64()?, version: content.text()? },
        5 => Record::ChannelOpened {
            channel: u16::from_be_bytes(content.array()?),
            connection: u32::from_be_bytes(content.array()?),
            carrier: if content.flag()? { Carrier::Udp } else { Carrier::Tcp },
            name: content.text()?,
        },
        6 => Record::ChannelData {
            channel: u16::from_be_bytes(content.array()?),
            connection: u32::from_be_bytes(content.array()?),
            offset: content.u64()?,
            bytes: std::mem::take(&mut content.0),
        },
        7 => Record::ChannelClosed {
            channel: u16::from_be_bytes(content.array()?),
            connection: u32::from_be_bytes(content.array()?),
            length: content.u64()?,
            is_whole: !content.flag()?,
        },
        8 => Record::ChannelPiece {
            channel: u16::from_be_bytes(content.array()?),
            connection: u32::from_be_bytes(content.array()?),
            number: content.u64()?,
            at: u16::from_be_bytes(content.array()?),
            total: u16::from_be_bytes(content.array()?),
            bytes: std::mem::take(&mut content.0),
        },
        9 => Record::Rehearsal(RehearsalStep {
            step: u16::from_be_bytes(content.array()?),
            steps: u16::from_be_bytes(content.array()?),
            rate: content.u64()?,
            first: content.u64()?,
            end: content.u64()?,
            micros: content.u64()?,
            packet: u16::from_be_bytes(content.array()?),
        }),
        10 => Record::Plain,
        _ => return Some(None),
    };
    content.0.is_empty().then_some(Some(record))
}

/// What is left of a content.
struct Content<'a>(&'a [u8]);

impl<'a> Content<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// The rest, as text that no terminal is confused by.
    fn text(&mut self) -> Option<&'a str> {
        let text = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        is_plain(text).then_some(text)
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= MOST_TEXT && !text.chars().any(is_unprintable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Record<'static>> {
        let beat = Heartbeat { time_ms: 1, generation: 2, frames: 3, rate: 4, next_scan_s: 5 };
        let identity = Identity::generate().unwrap();
        let end = GenerationEnd { pages: 3, files: 4, ..GenerationEnd::unsigned(7, 6) };
        vec![
            Record::Heartbeat(beat),
            Record::GenerationEnded(end.sign(&identity, 5)),
            Record::Started { time_ms: 9, version: "haul 0.1" },
            Record::Stopping { time_ms: 10, version: "" },
            Record::ChannelOpened {
                channel: 1,
                connection: 2,
                carrier: Carrier::Udp,
                name: "syslog",
            },
            Record::ChannelData { channel: 1, connection: 2, offset: 3, bytes: b"\0\x01payload" },
            Record::ChannelClosed { channel: 1, connection: 2, length: 12, is_whole: false },
            Record::ChannelPiece {
                channel: 1,
                connection: 2,
                number: 3,
                at: 1400,
                total: 1472,
                bytes: b"the rest",
            },
            Record::Rehearsal(RehearsalStep {
                step: 1,
                steps: 9,
                rate: 125_000_000,
                first: 4,
                end: 5,
                micros: 6,
                packet: 1500,
            }),
            Record::Plain,
        ]
    }

    fn encoded(records: &[Record<'_>]) -> Vec<u8> {
        let mut payload = Vec::new();
        for record in records {
            record.encode(&mut payload).unwrap();
        }
        payload
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let records = all();
        let mut payload = encoded(&records);
        let read: Result<Vec<_>, _> = Records::of(&payload).collect();
        assert_eq!(read.unwrap(), records);
        // Filled up, and with one of a later version before.
        let mut padded = vec![200, 0, 2, 9, 9];
        padded.append(&mut payload);
        padded.extend([0; 40]);
        let read: Result<Vec<_>, _> = Records::of(&padded).collect();
        assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn whatever_is_cut_or_changed_ends_in_an_error_or_another_record() {
        for record in all() {
            let payload = encoded(std::slice::from_ref(&record));
            for length in 1..payload.len() {
                let read: Vec<_> = Records::of(&payload[..length]).collect();
                assert_eq!(read, [Err(RecordError::Short)], "{record:?}, {length} bytes");
            }
            for bit in 0..payload.len() * 8 {
                let mut flipped = payload.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Records::of(&flipped).count() <= 1 + payload.len() / HEAD);
            }
        }
        let long =
            Record::ChannelData { channel: 1, connection: 2, offset: 3, bytes: &[0; 65_530] };
        let mut payload = vec![7];
        assert_eq!(long.encode(&mut payload), Err(RecordError::TooLong(65_544)));
        assert_eq!(payload, [7]);
        let wrong = Record::Started { time_ms: 9, version: "a\u{1b}[31m" };
        assert_eq!(wrong.encode(&mut payload), Err(RecordError::Content(3)));
        let written = [3, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9, 0x1b];
        assert_eq!(Records::of(&written).next(), Some(Err(RecordError::Content(3))));
    }

    #[test]
    fn the_end_of_a_generation_is_the_senders() {
        let identity = Identity::generate().unwrap();
        let end = GenerationEnd::unsigned(7, 0);
        let sender = identity.public_key();
        assert!(!end.is_signed(&sender, 5));
        let end = end.sign(&identity, 5);
        assert!(end.is_signed(&sender, 5) && !end.is_signed(&sender, 6));
        assert!(!GenerationEnd { removed: 1, ..end.clone() }.is_signed(&sender, 5));
        let other = Identity::generate().unwrap();
        assert!(!end.is_signed(&other.public_key(), 5));
    }
}
