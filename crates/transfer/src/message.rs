//! The messages of the transfer protocol and their bytes (`docs/formats/protocol.md`). Pure: it reads
//! and writes byte strings and nothing else. Whatever decodes here is within its caps and its names
//! cannot climb; whether a message fits the moment it arrives in is decided by the machines.

mod entry;
pub(crate) mod inbox;
mod opening;
mod parcel;
mod third;

pub use entry::{ENTRY_COST, Entry, EntryKind, MAX_XATTRS, Xattr};
pub use inbox::{
    Fault, MAX_CODE, MAX_DATASET_NAME, MAX_INBOX, MAX_LABEL, MAX_TEXTS, Offer, Waiting,
};
pub use opening::{
    Compression, Deletion, Existing, Extent, Granted, Listed, MAX_LIST, MAX_MEASURE_SECONDS,
    Measured, Opening, Order, RefuseCode, list_cost,
};
pub use parcel::{BundleItem, ParcelHead, ZERO_COST};
pub use third::{
    Finished, Go, LinkNews, MAX_PATIENCE_SECONDS, MAX_PIPE, Progress, Report, Stopped, Stretch,
};

use crate::delta::{EXPONENTS, Piece, longest};
use events::{Bound, BoundKind};
use files::{Digest, MAX_PATH, RelPath};
use link::wire::{Decoder, Encoder, WireError};

/// The highest version of the protocol that this code speaks.
pub const VERSION: u64 = 1;
/// The most bytes that a message may have; a control frame holds one message.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most that unfinished entries may cost (`Entry::cost`): some 14,000 files of ordinary names. A
/// target with many peers grants each of them less.
pub const MAX_WINDOW: u64 = 4 << 20;
/// The least that a target grants: room for one entry of the largest kind, and its replacement.
pub const MIN_WINDOW: u64 = 192 << 10;
/// The most ranges of missing chunks that one need may list; more are joined by the target.
pub const MAX_RANGES: usize = 1000;
/// The longest free text that a message may carry.
pub const MAX_TEXT: usize = 1024;
/// The longest text of an outcome: a target keeps many of them.
pub const MAX_OUTCOME_TEXT: usize = 256;
/// The largest file that a peer may offer: more than any file system of today holds in one file.
pub const MAX_FILE_SIZE: u64 = 1 << 50;
/// Free space that the writers of list messages keep below `MAX_MESSAGE`.
const ROOM: usize = 4096;

/// What a source says to its target once a transfer is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceMessage {
    /// Entries, in the order of their indexes.
    Offer(Vec<Entry>),
    /// All children of this folder have been offered.
    Leave {
        /// The folder.
        index: u64,
        /// Whether the source could read all of it.
        complete: bool,
    },
    /// What was offered cannot be read any more, or was found changed.
    Withdraw {
        /// The entry.
        index: u64,
        /// Why, in words.
        reason: String,
        /// It was not offered anew: this is how it ends.
        last: bool,
    },
    /// The whole file was read unchanged and has this digest.
    Sum {
        /// The entry.
        index: u64,
        /// Its digest.
        digest: Digest,
    },
    /// The digest that the target named is the source's too.
    Same {
        /// The entry.
        index: u64,
    },
    /// Nothing more will be offered.
    End {
        /// How many entries have been offered.
        entries: u64,
        /// How many things the source could not read or offer.
        problems: u64,
    },
    /// So many outcomes have been processed.
    Seen {
        /// Their number since the transfer began.
        outcomes: u64,
    },
    /// What holds the transfer back, as far as the source can tell.
    Bound(Bound),
    /// Something could not be read or is not copied, and was never offered.
    Problem {
        /// What, as it is shown to people.
        path: String,
        /// Why, in words.
        reason: String,
    },
}

/// What a target says to its source once a transfer is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetMessage {
    /// Contents that the target wants.
    Need(Vec<Need>),
    /// What became of entries.
    Outcomes {
        /// The number of the first outcome in the list, counted from 0.
        first: u64,
        /// Index and result.
        list: Vec<(u64, Outcome)>,
    },
    /// How much the source may have sent on this connection, and how much of it is stored.
    Credit {
        /// Bytes that may be sent.
        allowed: u64,
        /// Bytes that have been stored.
        stored: u64,
    },
    /// The job is over, and this says how, signed.
    Receipt(Vec<u8>),
    /// Missed outcomes have been repeated; offers may be made.
    Ready,
    /// The target gives up.
    Abort {
        /// The kind of reason.
        code: RefuseCode,
        /// The reason in words.
        text: String,
    },
    /// What holds the target back, if anything does.
    Bound(Bound),
    /// The pieces of an older file follow the next need of this one, which may be made of them.
    Older {
        /// The entry.
        index: u64,
        /// The average length of the pieces, as an exponent of two.
        exponent: u8,
    },
    /// Pieces of that older file, in its order.
    Pieces {
        /// The entry.
        index: u64,
        /// The pieces.
        list: Vec<Piece>,
        /// These are the last ones.
        last: bool,
    },
    /// The digests of these files are to be said: the target may have their content under other names.
    Ask(Vec<u64>),
    /// Paths below the target folder that the source does not have: removed, or in a dry run to be.
    Extras(Vec<RelPath>),
}

/// One file whose content the target wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The entry.
    pub index: u64,
    /// What the target has under that name, when the source is to compare first.
    pub have: Option<Digest>,
    /// Chunks that are missing, as first and count. A file of one chunk travels whole and lists none; a
    /// larger one that lists none waits for its sum only.
    pub ranges: Vec<(u64, u64)>,
}

/// How one entry ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Content arrived, was verified and stands under its final name.
    Copied(Digest),
    /// What was there is the same, and was read to be sure of its digest.
    Unchanged(Digest),
    /// A folder, a symbolic link or a hard link stands.
    Made,
    /// Something different exists and the order says to leave it.
    Skipped,
    /// It could not be done.
    Failed {
        /// The kind of reason.
        code: RefuseCode,
        /// The reason in words.
        text: String,
    },
    /// The source took its offer back.
    Withdrawn,
    /// Dry run: the entry would have been copied or made.
    Planned(Why),
}

/// Why a dry run would do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing has the name.
    New,
    /// What is there has another size.
    Size,
    /// The same size and another time.
    Time,
    /// Another content.
    Content,
    /// Other permissions.
    Mode,
    /// What is there is of another kind.
    Kind,
}

const REASONS: [Why; 6] = [Why::New, Why::Size, Why::Time, Why::Content, Why::Mode, Why::Kind];

impl Why {
    /// In one word, as `docs/formats/events.md` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Size => "size",
            Self::Time => "time",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Kind => "kind",
        }
    }
}

impl SourceMessage {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Offer(entries) => {
                out.u8(16).varint(entries.len() as u64);
                for entry in entries {
                    entry.encode(&mut out);
                }
            }
            Self::Leave { index, complete } => {
                out.u8(17).varint(*index).boolean(*complete);
            }
            Self::Withdraw { index, reason, last } => {
                out.u8(18).varint(*index).text(capped(reason)).boolean(*last);
            }
            Self::Sum { index, digest } => {
                out.u8(19).varint(*index).array(digest.as_bytes());
            }
            Self::Same { index } => {
                out.u8(20).varint(*index);
            }
            Self::End { entries, problems } => {
                out.u8(21).varint(*entries).varint(*problems);
            }
            Self::Seen { outcomes } => {
                out.u8(22).varint(*outcomes);
            }
            Self::Bound(bound) => encode_bound(out.u8(23), *bound),
            Self::Problem { path, reason } => {
                out.u8(24).text(capped(path)).text(capped(reason));
            }
        }
        out.finish()
    }

    /// Reads a message; anything that this page does not allow is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let message = match input.u8("message type")? {
            16 => Self::Offer(list(&mut input, "entries", Entry::decode)?),
            17 => Self::Leave {
                index: input.varint("folder index")?,
                complete: input.boolean("complete")?,
            },
            18 => Self::Withdraw {
                index: input.varint("withdrawn index")?,
                reason: input.text("reason", MAX_TEXT)?.to_owned(),
                last: input.boolean("last")?,
            },
            19 => Self::Sum {
                index: input.varint("summed index")?,
                digest: Digest::from_bytes(input.array("digest")?),
            },
            20 => Self::Same { index: input.varint("same index")? },
            21 => Self::End {
                entries: input.varint("entries offered")?,
                problems: input.varint("problems")?,
            },
            22 => Self::Seen { outcomes: input.varint("outcomes seen")? },
            23 => Self::Bound(decode_bound(&mut input)?),
            24 => Self::Problem {
                path: input.text("path of a problem", MAX_TEXT)?.to_owned(),
                reason: input.text("reason", MAX_TEXT)?.to_owned(),
            },
            _ => return Err(WireError::invalid("source message type")),
        };
        input.finish()?;
        Ok(message)
    }
}

impl TargetMessage {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Need(needs) => {
                out.u8(32).varint(needs.len() as u64);
                for need in needs {
                    need.encode(&mut out);
                }
            }
            Self::Outcomes { first, list } => {
                out.u8(33).varint(*first).varint(list.len() as u64);
                for (index, outcome) in list {
                    out.varint(*index);
                    outcome.encode(&mut out);
                }
            }
            Self::Credit { allowed, stored } => {
                out.u8(34).varint(*allowed).varint(*stored);
            }
            Self::Receipt(receipt) => {
                out.u8(35).bytes(receipt);
            }
            Self::Ready => {
                out.u8(36);
            }
            Self::Abort { code, text } => {
                out.u8(37).u8(code.to_byte()).text(capped(text));
            }
            Self::Bound(bound) => encode_bound(out.u8(38), *bound),
            Self::Extras(paths) => {
                out.u8(42).varint(paths.len() as u64);
                for path in paths {
                    out.bytes(path.as_bytes());
                }
            }
            Self::Older { index, exponent } => {
                out.u8(39).varint(*index).u8(*exponent);
            }
            Self::Pieces { index, list, last } => {
                out.u8(40).varint(*index).boolean(*last).varint(list.len() as u64);
                for piece in list {
                    out.varint(piece.len).array(&piece.mark.to_be_bytes());
                }
            }
            Self::Ask(list) => {
                out.u8(41).varint(list.len() as u64);
                for index in list {
                    out.varint(*index);
                }
            }
        }
        out.finish()
    }

    /// Reads a message; anything that this page does not allow is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let message = match input.u8("message type")? {
            32 => Self::Need(list(&mut input, "needs", Need::decode)?),
            33 => Self::Outcomes {
                first: input.varint("first outcome")?,
                list: list(&mut input, "outcomes", |input| {
                    Ok((input.varint("outcome index")?, Outcome::decode(input)?))
                })?,
            },
            34 => Self::Credit {
                allowed: input.varint("credit allowed")?,
                stored: input.varint("credit stored")?,
            },
            35 => Self::Receipt(input.bytes("receipt", MAX_MESSAGE)?.to_vec()),
            36 => Self::Ready,
            37 => Self::Abort {
                code: RefuseCode::from_byte(input.u8("abort code")?)?,
                text: input.text("abort text", MAX_TEXT)?.to_owned(),
            },
            38 => Self::Bound(decode_bound(&mut input)?),
            39 => {
                let index = input.varint("index of an older file")?;
                let exponent = input.u8("length of pieces")?;
                if !EXPONENTS.contains(&exponent) {
                    return Err(WireError::invalid("length of pieces"));
                }
                Self::Older { index, exponent }
            }
            40 => Self::Pieces {
                index: input.varint("index of pieces")?,
                last: input.boolean("last pieces")?,
                list: list(&mut input, "pieces", Piece::decode)?,
            },
            41 => Self::Ask(list(&mut input, "digests", |input| input.varint("digest's index"))?),
            42 => Self::Extras(list(&mut input, "extras", |input| {
                let path = RelPath::parse(input.bytes("path of an extra", MAX_PATH)?);
                path.map_err(|_| WireError::invalid("path of an extra"))
            })?),
            _ => return Err(WireError::invalid("target message type")),
        };
        input.finish()?;
        Ok(message)
    }
}

impl Piece {
    fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let len = input.varint_at_most("length of a piece", longest(*EXPONENTS.end()))?;
        if len == 0 {
            return Err(WireError::invalid("length of a piece"));
        }
        Ok(Self { len, mark: u64::from_be_bytes(input.array("mark of a piece")?) })
    }
}

/// How many pieces fit one message.
pub const MOST_PIECES_AT_ONCE: usize = 4000;

impl Need {
    fn encode(&self, out: &mut Encoder) {
        out.varint(self.index).boolean(self.have.is_some());
        if let Some(have) = &self.have {
            out.array(have.as_bytes());
        }
        out.varint(self.ranges.len() as u64);
        for (first, count) in &self.ranges {
            out.varint(*first).varint(*count);
        }
    }

    fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let index = input.varint("needed index")?;
        let have = match input.boolean("have")? {
            true => Some(Digest::from_bytes(input.array("digest of what exists")?)),
            false => None,
        };
        let count = input.varint_at_most("ranges", MAX_RANGES as u64)?;
        let mut ranges = Vec::new();
        let mut past = 0;
        for _ in 0..count {
            let first = input.varint("first missing chunk")?;
            let length = input.varint("missing chunks")?;
            let end = first.checked_add(length).ok_or(WireError::invalid("missing chunks"))?;
            // Rising and never touching: one way to say which chunks are missing.
            if length == 0 || (first <= past && !ranges.is_empty()) {
                return Err(WireError::invalid("missing chunks"));
            }
            past = end;
            ranges.push((first, length));
        }
        Ok(Self { index, have, ranges })
    }

    /// An upper bound of the bytes that this takes in a message.
    pub fn encoded_len(&self) -> usize {
        48 + 20 * self.ranges.len()
    }
}

impl Outcome {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Copied(digest) => {
                out.u8(0).array(digest.as_bytes());
            }
            Self::Unchanged(digest) => {
                out.u8(1).array(digest.as_bytes());
            }
            Self::Made => {
                out.u8(2);
            }
            Self::Skipped => {
                out.u8(3);
            }
            Self::Failed { code, text } => {
                out.u8(4).u8(code.to_byte()).text(capped_at(text, MAX_OUTCOME_TEXT));
            }
            Self::Withdrawn => {
                out.u8(5);
            }
            Self::Planned(why) => {
                out.u8(6).u8(*why as u8);
            }
        }
    }

    fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        Ok(match input.u8("outcome")? {
            0 => Self::Copied(Digest::from_bytes(input.array("digest")?)),
            1 => Self::Unchanged(Digest::from_bytes(input.array("digest")?)),
            2 => Self::Made,
            3 => Self::Skipped,
            4 => Self::Failed {
                code: RefuseCode::from_byte(input.u8("failure code")?)?,
                text: input.text("failure text", MAX_OUTCOME_TEXT)?.to_owned(),
            },
            5 => Self::Withdrawn,
            6 => {
                let why = REASONS.get(usize::from(input.u8("reason of a plan")?));
                Self::Planned(*why.ok_or(WireError::invalid("reason of a plan"))?)
            }
            _ => return Err(WireError::invalid("outcome")),
        })
    }

    /// An upper bound of the bytes that this takes in a message.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Failed { .. } => 64 + MAX_OUTCOME_TEXT,
            _ => 64,
        }
    }
}

/// Splits what is to be listed into pieces that each fit into one message.
pub fn pack<T>(items: Vec<T>, encoded_len: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let len = encoded_len(&item);
        if pieces.is_empty() || len > room {
            pieces.push(Vec::new());
            room = MAX_MESSAGE - ROOM;
        }
        room = room.saturating_sub(len);
        pieces.last_mut().expect("one was pushed").push(item);
    }
    pieces
}

/// Reads a list. Its count is not believed: every item takes at least a byte of what is left.
fn list<T>(
    input: &mut Decoder,
    field: &'static str,
    item: impl Fn(&mut Decoder) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = input.varint_at_most(field, input.remaining() as u64)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(input)?);
    }
    Ok(items)
}

fn encode_bound(out: &mut Encoder, bound: Bound) {
    out.u8(bound.kind.code()).varint(bound.figure);
}

fn decode_bound(input: &mut Decoder) -> Result<Bound, WireError> {
    let kind = BoundKind::from_code(input.u8("bound")?).ok_or(WireError::invalid("bound"))?;
    Ok(Bound { kind, figure: input.varint_at_most("figure of a bound", Bound::MOST)? })
}

/// The part of a text that a message may carry, cut at a character's border.
pub(crate) fn capped(text: &str) -> &str {
    capped_at(text, MAX_TEXT)
}

/// The part of a text that has at most `cap` bytes.
pub(crate) fn capped_at(text: &str, cap: usize) -> &str {
    &text[..text.floor_char_boundary(cap)]
}

#[cfg(test)]
mod tests;
