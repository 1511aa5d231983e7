//! What a client of dync and a server say to each other: messages of several frames, the first of which names the
//! message (`docs/formats/dync.md`). Pure. Reading is strict about lengths and about text that matters, and nothing a
//! peer may send makes it panic; what a client's frames hold is shared, not copied.

use bytes::Bytes;
use thiserror::Error;

/// The most bytes of a file's name; what datasets may be called is the desk's to judge.
pub const MAX_NAME: usize = 1024;
/// The most bytes of a text in an error, either way. Longer ones are cut.
pub const MAX_ERROR_TEXT: usize = 2048;
/// The most frames of a message: those of a last chunk.
pub const MAX_FRAMES: usize = 5;
/// What the frames of a message may have beside a chunk's data or the metadata.
pub const MESSAGE_OVERHEAD: usize = 8192;

/// The bit in the flags of a chunk that says that it is the last.
const LAST: u32 = 1;

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// It wants to hand in a file.
    PostFile {
        /// What the file is called, as the client says it: not a path that could be used.
        name: String,
        /// Text that should be a JSON object; nothing of it was looked at.
        metadata: String,
    },
    /// A piece of the file.
    PostChunk {
        /// Where it belongs.
        seek: u64,
        /// Its bytes.
        data: Bytes,
        /// If it is the last: the SHA-256 of the whole file.
        last: Option<[u8; 32]>,
    },
    /// It has heard nothing for a while.
    QueryStatus,
    /// It gives up.
    Error {
        /// Its number for what went wrong.
        code: u32,
        /// Its words, cut and with what is no UTF-8 replaced; not escaped.
        text: String,
    },
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// The file is taken in.
    UploadApproved {
        /// How many chunks the client may send.
        credit: u32,
        /// The most bytes of one.
        chunk_bytes: u32,
        /// How many it is to keep in case that they are asked for again.
        max_queue: u32,
    },
    /// So many chunks more may be sent. None at all says that the server is there.
    TransferCredit(u32),
    /// The client is to go on from here.
    StatusReport {
        /// Where.
        seek: u64,
        /// How many chunks it may send.
        credit: u32,
    },
    /// The file is published.
    UploadFinished(String),
    /// It is not taken, or no more.
    Error {
        /// As in HTTP.
        code: u32,
        /// What is wrong, and what would help.
        text: String,
    },
}

/// Why a client's message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// No message has this first frame.
    #[error("no such message")]
    Unknown,
    /// There are more or fewer frames than the message has.
    #[error("{message} has {count} frames")]
    Frames {
        /// Which message.
        message: &'static str,
        /// How many came.
        count: usize,
    },
    /// A frame has not the length that it must have, or is longer than it may be.
    #[error("{field} has {len} bytes")]
    Length {
        /// Which frame.
        field: &'static str,
        /// How many bytes came.
        len: usize,
    },
    /// A text is no UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
}

impl ClientMessage {
    /// Reads the frames of a message. `max_metadata` is the most bytes of metadata; how large a chunk may be the caller
    /// knows.
    pub fn read(frames: &[Bytes], max_metadata: usize) -> Result<Self, WireError> {
        let Some((command, rest)) = frames.split_first() else { return Err(WireError::Unknown) };
        let frames = |message, most_and_least: std::ops::RangeInclusive<usize>| {
            let count = frames.len();
            most_and_least
                .contains(&count)
                .then_some(())
                .ok_or(WireError::Frames { message, count })
        };
        match command.as_ref() {
            b"post-file" => {
                frames("post-file", 4..=4)?;
                u32_of(&rest[0], "flags")?;
                let name = text_of(&rest[1], "the file's name", MAX_NAME)?;
                let metadata = text_of(&rest[2], "the metadata", max_metadata)?;
                Ok(Self::PostFile { name, metadata })
            }
            b"post-chunk" => {
                frames("post-chunk", 4..=5)?;
                let flags = u32_of(&rest[0], "flags")?;
                let seek = u64::from_be_bytes(array_of(&rest[1], "seek")?);
                let data = rest[2].clone();
                let last = match (flags & LAST != 0, rest.get(3)) {
                    (true, Some(sum)) => Some(array_of(sum, "the checksum")?),
                    (true, None) => {
                        return Err(WireError::Frames { message: "a last post-chunk", count: 4 });
                    }
                    (false, _) => None,
                };
                Ok(Self::PostChunk { seek, data, last })
            }
            b"query-status" => {
                frames("query-status", 1..=1)?;
                Ok(Self::QueryStatus)
            }
            b"error" => {
                frames("error", 3..=3)?;
                let code = u32_of(&rest[0], "the code")?;
                let shown = &rest[1][..rest[1].len().min(MAX_ERROR_TEXT)];
                Ok(Self::Error { code, text: String::from_utf8_lossy(shown).into_owned() })
            }
            _ => Err(WireError::Unknown),
        }
    }

    /// The frames of the message, as a client writes them.
    pub fn write(&self) -> Vec<Bytes> {
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        match self {
            Self::PostFile { name, metadata } => {
                vec![word("post-file"), number(0), bytes(name), bytes(metadata)]
            }
            Self::PostChunk { seek, data, last } => {
                let flags = number(if last.is_some() { LAST } else { 0 });
                let seek = Bytes::copy_from_slice(&seek.to_be_bytes());
                let mut frames = vec![word("post-chunk"), flags, seek, data.clone()];
                frames.extend(last.map(|sum| Bytes::copy_from_slice(&sum)));
                frames
            }
            Self::QueryStatus => vec![word("query-status")],
            Self::Error { code, text } => vec![word("error"), number(*code), bytes(text)],
        }
    }
}

impl ServerMessage {
    /// An error of this kind; the text is cut where it is longer than a client need bear.
    pub fn error(code: u32, text: &str) -> Self {
        let mut end = text.len().min(MAX_ERROR_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Error { code, text: text[..end].to_owned() }
    }

    /// The frames of the message.
    pub fn write(&self) -> Vec<Bytes> {
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        match self {
            Self::UploadApproved { credit, chunk_bytes, max_queue } => {
                vec![
                    word("upload-approved"),
                    number(*credit),
                    number(*chunk_bytes),
                    number(*max_queue),
                ]
            }
            Self::TransferCredit(amount) => vec![word("transfer-credit"), number(*amount)],
            Self::StatusReport { seek, credit } => {
                let seek = Bytes::copy_from_slice(&seek.to_be_bytes());
                vec![word("status-report"), seek, number(*credit)]
            }
            Self::UploadFinished(id) => vec![word("upload-finished"), bytes(id)],
            Self::Error { code, text } => vec![word("error"), number(*code), bytes(text)],
        }
    }
}

fn number(value: u32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn array_of<const N: usize>(frame: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    frame.try_into().map_err(|_| WireError::Length { field, len: frame.len() })
}

fn u32_of(frame: &[u8], field: &'static str) -> Result<u32, WireError> {
    array_of(frame, field).map(u32::from_be_bytes)
}

fn text_of(frame: &[u8], field: &'static str, most: usize) -> Result<String, WireError> {
    if frame.len() > most {
        return Err(WireError::Length { field, len: frame.len() });
    }
    std::str::from_utf8(frame).map(str::to_owned).map_err(|_| WireError::Text(field))
}

#[cfg(test)]
mod tests;
