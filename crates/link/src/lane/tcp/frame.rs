//! What the connections of a lane say to each other beside the parcels' bytes (`docs/formats/link.md`).
//! Pure: bytes in and out, every length bounded before it is believed.

use thiserror::Error;

use super::super::MAX_FRAME;

/// The version that every connection begins with.
const VERSION: u8 = 1;

/// The length of a hello.
pub(crate) const HELLO_BYTES: usize = 1 + 16 + 2;

/// Kind and length before each frame.
const HEADER_BYTES: usize = 5;

/// The longest reason of a close.
const MAX_REASON: usize = 1024;

/// The most numbers in one frame.
const MOST_NUMBERS: usize = 512;

/// Which lane a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Chosen by the dialer, by chance.
    pub(crate) lane: [u8; 16],
    /// 0 for the control connection.
    pub(crate) number: u16,
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(&self.lane);
        bytes[17..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// None if it is of another version.
    pub(crate) fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let [VERSION, lane @ .., high, low] = bytes else { return None };
        Some(Self { lane: *lane, number: u16::from_be_bytes([*high, *low]) })
    }
}

/// What a parcel begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParcelStart {
    pub(crate) head: u32,
    pub(crate) body: u32,
    /// Counts the parcels of one direction, from 0.
    pub(crate) number: u64,
}

/// The length of a parcel's start.
pub(crate) const PARCEL_START_BYTES: usize = 16;

impl ParcelStart {
    pub(crate) fn encode(&self) -> [u8; PARCEL_START_BYTES] {
        let mut bytes = [0; PARCEL_START_BYTES];
        bytes[..4].copy_from_slice(&self.head.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.body.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; PARCEL_START_BYTES]) -> Self {
        let four = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|index| bytes[at + index]));
        let number = u64::from(four(8)) << 32 | u64::from(four(12));
        Self { head: four(0), body: four(4), number }
    }

    /// How many bytes follow.
    pub(crate) fn content(&self) -> u64 {
        u64::from(self.head) + u64::from(self.body)
    }
}

/// One frame of the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The listener admits the dialer.
    Welcome,
    /// A frame of a control stream.
    Control { stream: u32, bytes: Vec<u8> },
    /// Nothing follows on a control stream.
    ControlEnd { stream: u32 },
    /// The peer has taken so much more of a control stream.
    Credit { stream: u32, bytes: u32 },
    /// Parcels that were read whole.
    Read { numbers: Vec<u64> },
    /// A parcel that is not wanted.
    Refused { number: u64, code: u32 },
    /// Is anybody there?
    Ping,
    /// Yes.
    Pong,
    /// The listener could use another data connection; the dialer has opened so many so far.
    More { connections: u16 },
    /// The lane ends.
    Close { code: u32, reason: Vec<u8> },
}

/// A frame that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a frame of kind {0} is not known")]
    Unknown(u8),
    #[error("a frame of kind {kind} with {length} bytes")]
    Length { kind: u8, length: u64 },
}

impl Frame {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0, 0, 0]);
        match self {
            Self::Welcome | Self::Ping | Self::Pong => {}
            Self::Control { stream, bytes } => {
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::ControlEnd { stream } => out.extend_from_slice(&stream.to_be_bytes()),
            Self::Credit { stream, bytes } => {
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(&bytes.to_be_bytes());
            }
            Self::Read { numbers } => {
                numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
            }
            Self::Refused { number, code } => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&code.to_be_bytes());
            }
            Self::More { connections } => out.extend_from_slice(&connections.to_be_bytes()),
            Self::Close { code, reason } => {
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&reason[..reason.len().min(MAX_REASON)]);
            }
        }
        let length = (out.len() - start - HEADER_BYTES) as u32;
        out[start + 1..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads the numbers of parcels in frames of a bounded length each.
    pub(crate) fn reads(numbers: &[u64]) -> impl Iterator<Item = Self> + '_ {
        numbers.chunks(MOST_NUMBERS).map(|some| Self::Read { numbers: some.to_vec() })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Welcome => 1,
            Self::Control { .. } => 2,
            Self::ControlEnd { .. } => 3,
            Self::Credit { .. } => 4,
            Self::Read { .. } => 5,
            Self::Refused { .. } => 6,
            Self::Ping => 7,
            Self::Pong => 8,
            Self::More { .. } => 9,
            Self::Close { .. } => 10,
        }
    }

    /// The lengths that a kind may have.
    fn lengths(kind: u8) -> Result<(usize, usize), FrameError> {
        match kind {
            1 | 7 | 8 => Ok((0, 0)),
            2 => Ok((4, 4 + MAX_FRAME)),
            3 => Ok((4, 4)),
            4 => Ok((8, 8)),
            5 => Ok((8, 8 * MOST_NUMBERS)),
            6 => Ok((12, 12)),
            9 => Ok((2, 2)),
            10 => Ok((4, 4 + MAX_REASON)),
            _ => Err(FrameError::Unknown(kind)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        let wrong = FrameError::Length { kind, length: payload.len() as u64 };
        let four = |at: usize| {
            let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or(wrong)
        };
        Ok(match kind {
            1 => Self::Welcome,
            2 => Self::Control { stream: four(0)?, bytes: payload[4..].to_vec() },
            3 => Self::ControlEnd { stream: four(0)? },
            4 => Self::Credit { stream: four(0)?, bytes: four(4)? },
            5 => {
                let (numbers, []) = payload.as_chunks::<8>() else { return Err(wrong) };
                Self::Read { numbers: numbers.iter().map(|n| u64::from_be_bytes(*n)).collect() }
            }
            6 => {
                let number = u64::from(four(0)?) << 32 | u64::from(four(4)?);
                Self::Refused { number, code: four(8)? }
            }
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::More { connections: u16::from_be_bytes([payload[0], payload[1]]) },
            10 => Self::Close { code: four(0)?, reason: payload[4..].to_vec() },
            _ => return Err(FrameError::Unknown(kind)),
        })
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    arrived: Vec<u8>,
}

impl Frames {
    /// Takes bytes in and calls `each` for every frame that is whole. What is kept is less than one frame.
    pub(crate) fn feed<E: From<FrameError>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        self.arrived.extend_from_slice(bytes);
        let mut start = 0;
        while let Some([kind, length @ ..]) = self.arrived[start..].first_chunk::<HEADER_BYTES>() {
            let (least, most) = Frame::lengths(*kind)?;
            let length = u32::from_be_bytes(*length);
            if !(least..=most).contains(&(length as usize)) {
                let (kind, length) = (*kind, u64::from(length));
                return Err(FrameError::Length { kind, length }.into());
            }
            let end = start + HEADER_BYTES + length as usize;
            let Some(payload) = self.arrived.get(start + HEADER_BYTES..end) else { break };
            each(Frame::decode(*kind, payload)?)?;
            start = end;
        }
        self.arrived.drain(..start);
        Ok(())
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
