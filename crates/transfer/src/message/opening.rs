//! The messages that open a transfer: who speaks which version, what is asked for, and the answer.

use files::RelPath;
use link::wire::{Decoder, Encoder, WireError};
use link::{Pace, PublicKey};

use super::inbox::{self, Fault, Offer, Waiting};
use super::{MAX_MESSAGE, MAX_TEXT, capped, list};

mod order;
mod seen;

pub use order::{Compression, Deletion, Existing, Order};
pub use seen::{Listed, Measured};

const MAGIC: &[u8; 4] = b"haul";
const MAX_SOFTWARE: usize = 64;
pub(super) const MAX_PATH: usize = 4096;
/// The most paths that one request may ask for.
pub const MAX_SOURCES: usize = 4096;
/// The longest time for which one request may have the link measured, in seconds.
pub const MAX_MEASURE_SECONDS: u64 = 10;

/// The most that the names of one request may cost its reader, in bytes; with many peers it is less.
pub const MAX_LIST: usize = 16 << 20;
/// What a name costs beside its bytes, which are there twice for a moment: as they came, and sorted.
const LIST_COST: usize = 48;

/// What these names cost who reads them.
pub fn list_cost<'a>(paths: impl Iterator<Item = &'a [u8]>) -> usize {
    paths.map(|path| 2 * path.len() + LIST_COST).sum()
}

/// Messages before and beside a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The dialler's first word.
    Hello {
        /// The lowest version spoken.
        lowest: u64,
        /// The highest version spoken.
        highest: u64,
        /// Name and version of the program, for logs.
        software: String,
    },
    /// The answer to Hello.
    Welcome {
        /// The version that both will speak.
        version: u64,
        /// Name and version of the program, for logs.
        software: String,
    },
    /// No.
    Refuse {
        /// The kind of reason.
        code: RefuseCode,
        /// The reason in words, and what to do.
        text: String,
    },
    /// The dialler has data to give.
    Put {
        /// Names the transfer across connections.
        id: [u8; 16],
        /// Whether this goes on with a transfer that was cut.
        resume: bool,
        /// How many outcomes the source has seen.
        seen: u64,
        /// What the target is to do.
        order: Order,
    },
    /// The dialler wants data.
    Get {
        /// Names the transfer across connections.
        id: [u8; 16],
        /// Whether this goes on with a transfer that was cut.
        resume: bool,
        /// What unfinished entries may cost.
        window: u64,
        /// How hard the source is to push; a rate is the most, never more than the source allows.
        pace: Pace,
        /// What matters of it to a source: filter rules and attributes asked for.
        order: Order,
        /// Paths as the user typed them.
        sources: Vec<Vec<u8>>,
        /// What of the one folder that is asked for.
        extent: Extent,
    },
    /// The dialler wants to see a folder, or all exports when the path is empty.
    List {
        /// The path as the user typed it.
        path: Vec<u8>,
    },
    /// Yes.
    Accept {
        /// Whether a cut transfer goes on.
        resumed: bool,
        /// How many outcomes the source has seen, if the one who answers is the source.
        seen: u64,
        /// What unfinished entries may cost, if the one who answers is the target.
        window: u64,
        /// As in [`Granted::named`], if the one who answers is the target.
        named: bool,
    },
    /// A part of a folder's listing.
    Listing {
        /// What is in it.
        entries: Vec<Listed>,
        /// Whether this is the last part.
        last: bool,
    },
    /// The dialler wants to see what the link carries, with bytes that mean nothing.
    Measure {
        /// Whether the dialler sends; otherwise the other end does.
        up: bool,
        /// For how long, from 1 to [`MAX_MEASURE_SECONDS`].
        seconds: u64,
    },
    /// What the end that was dialled has seen of a measurement that is over.
    Measured(Measured),
    /// The dialler wants these sent to a third machine, which it names when it has heard what they weigh.
    Send {
        /// What the target is to do.
        order: Order,
        /// Paths as the user typed them.
        sources: Vec<Vec<u8>>,
    },
    /// The dialler wants another machine to write here what the dialler itself could.
    Grant {
        /// That machine's key, 32 bytes as they are in keys.
        to: PublicKey,
        /// The most bytes of content.
        bytes: u64,
        /// For how long it is wanted, at least 1.
        seconds: u64,
        /// What may be done, to the letter.
        order: Order,
    },
    /// The answer to that.
    Granted(Granted),
    /// The dialler has data to give, in somebody else's name.
    PutGranted {
        /// By what right.
        grant: [u8; 32],
        /// Names the transfer across connections.
        id: [u8; 16],
        /// Whether this goes on with a transfer that was cut.
        resume: bool,
        /// How many outcomes the source has seen.
        seen: u64,
        /// What the target is to do.
        order: Order,
    },
    /// After Get: a part of the list of what is wanted.
    Names {
        /// Paths below the folder that is asked for.
        paths: Vec<RelPath>,
        /// Whether this is the last part.
        last: bool,
    },
    /// The dialler wants to carry connections of others to the one that it has dialled: after Accept, messages both
    /// ways are bytes of a pipe.
    Tunnel,
    /// The dialler wants to hand in a dataset, or to know whether it might; its metadata follow in Parts.
    Offer(Offer),
    /// A part of a text that was announced.
    Part {
        /// Whether this is the last part.
        last: bool,
        /// At most 61,440 bytes, which fit into a frame.
        bytes: Vec<u8>,
    },
    /// The dialler wants to know what an inbox wants of metadata; the answer is Parts.
    AskSchema {
        /// Of which inbox; empty for the only one.
        inbox: String,
    },
    /// The dialler, whose key need not be known, asks to be let in.
    Enrol {
        /// What the operator has given out for it, or nothing.
        code: Vec<u8>,
        /// Who it says that it is.
        label: String,
    },
    /// The answer to that.
    Enrolled {
        /// Whether it is let in from now on; otherwise the operator will look at it.
        admitted: bool,
        /// What follows from it, in words.
        text: String,
    },
    /// The metadata are not taken.
    Unfit {
        /// Why not.
        faults: Vec<Fault>,
        /// How many faults there are beside these.
        more: u64,
    },
    /// What was to be checked would be taken now.
    Fits {
        /// What the client should know.
        notes: Vec<String>,
    },
    /// It is not its turn yet.
    Waiting(Waiting),
    /// It is its turn: Put is to follow.
    Admitted {
        /// What the dataset is from now on.
        dataset: String,
        /// What the client should know.
        notes: Vec<String>,
    },
    /// This upload was published before; Parts follow, which are its receipt.
    Finished {
        /// As what.
        dataset: String,
    },
}

/// A grant as the one who asked for it hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// By what it is used.
    pub grant: [u8; 32],
    /// Within which time it must be used.
    pub seconds: u64,
    /// The last name of the target path is the name that the one source gets; see [`Order::named`].
    pub named: bool,
    /// Where the copy lands, as the target names it.
    pub shown: String,
}

/// How much of a folder is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// All that is in it.
    #[default]
    All,
    /// What Names list, which follow; of folders among them nothing but themselves.
    Listed,
    /// The same, of folders with all that is in them.
    ListedWhole,
}

/// Why something is refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseCode {
    /// No common version.
    Version,
    /// A rule of the protocol was broken.
    Protocol,
    /// The peer may not do that.
    Denied,
    /// No such export, file or folder.
    NotFound,
    /// A folder is needed, or must not be.
    NotAFolder,
    /// The disk is full, read-only or failing.
    Disk,
    /// Somebody else is at it.
    Busy,
    /// The transfer to be resumed is not known here.
    UnknownTransfer,
    /// The user or operator ended it.
    Cancelled,
    /// Something different has the name.
    Exists,
    /// The content is not what was promised.
    Corrupt,
    /// A grant that is not known, was used or is for something else.
    UnknownGrant,
    /// More bytes than were allowed.
    TooMuch,
}

const CODES: [RefuseCode; 13] = [
    RefuseCode::Version,
    RefuseCode::Protocol,
    RefuseCode::Denied,
    RefuseCode::NotFound,
    RefuseCode::NotAFolder,
    RefuseCode::Disk,
    RefuseCode::Busy,
    RefuseCode::UnknownTransfer,
    RefuseCode::Cancelled,
    RefuseCode::Exists,
    RefuseCode::Corrupt,
    RefuseCode::UnknownGrant,
    RefuseCode::TooMuch,
];

impl RefuseCode {
    pub(super) fn to_byte(self) -> u8 {
        1 + CODES.iter().position(|code| *code == self).expect("all codes are listed") as u8
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, WireError> {
        let place = usize::from(byte).checked_sub(1).ok_or(WireError::invalid("refuse code"))?;
        CODES.get(place).copied().ok_or(WireError::invalid("refuse code"))
    }
}

impl Opening {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Hello { lowest, highest, software } => {
                out.u8(1).array(MAGIC).varint(*lowest).varint(*highest).text(software);
            }
            Self::Welcome { version, software } => {
                out.u8(2).varint(*version).text(software);
            }
            Self::Refuse { code, text } => {
                out.u8(3).u8(code.to_byte()).text(capped(text));
            }
            Self::Put { id, resume, seen, order } => {
                out.u8(4).array(id).boolean(*resume).varint(*seen);
                order.encode(&mut out);
            }
            Self::Get { id, resume, window, pace, order, sources, extent } => {
                out.u8(5).array(id).boolean(*resume).varint(*window);
                encode_pace(*pace, &mut out);
                order.encode(&mut out);
                encode_sources(sources, &mut out);
                out.u8(*extent as u8);
            }
            Self::List { path } => {
                out.u8(6).bytes(path);
            }
            Self::Accept { resumed, seen, window, named } => {
                out.u8(7).boolean(*resumed).varint(*seen).varint(*window).boolean(*named);
            }
            Self::Listing { entries, last } => {
                out.u8(8).varint(entries.len() as u64);
                for entry in entries {
                    entry.encode(&mut out);
                }
                out.boolean(*last);
            }
            Self::Measure { up, seconds } => {
                out.u8(9).boolean(*up).varint(*seconds);
            }
            Self::Measured(measured) => measured.encode(out.u8(10)),
            Self::Send { order, sources } => {
                order.encode(out.u8(48));
                encode_sources(sources, &mut out);
            }
            Self::Grant { to, bytes, seconds, order } => {
                out.u8(49).array(to.as_bytes()).varint(*bytes).varint(*seconds);
                order.encode(&mut out);
            }
            Self::Granted(Granted { grant, seconds, named, shown }) => {
                out.u8(50).array(grant).varint(*seconds).boolean(*named).text(capped(shown));
            }
            Self::PutGranted { grant, id, resume, seen, order } => {
                out.u8(51).array(grant).array(id).boolean(*resume).varint(*seen);
                order.encode(&mut out);
            }
            Self::Names { paths, last } => {
                out.u8(11).boolean(*last).varint(paths.len() as u64);
                for path in paths {
                    out.bytes(path.as_bytes());
                }
            }
            Self::Tunnel => {
                out.u8(52);
            }
            Self::Offer(offer) => offer.encode(out.u8(80)),
            Self::Part { last, bytes } => {
                out.u8(81).boolean(*last).bytes(bytes);
            }
            Self::AskSchema { inbox } => {
                out.u8(82).text(inbox);
            }
            Self::Enrol { code, label } => {
                out.u8(83).bytes(code).text(label);
            }
            Self::Enrolled { admitted, text } => {
                out.u8(84).boolean(*admitted).text(capped(text));
            }
            Self::Unfit { faults, more } => {
                inbox::encode_faults(faults, out.u8(85));
                out.varint(*more);
            }
            Self::Fits { notes } => inbox::encode_notes(notes, out.u8(86)),
            Self::Waiting(waiting) => waiting.encode(out.u8(87)),
            Self::Admitted { dataset, notes } => {
                inbox::encode_notes(notes, out.u8(88).text(dataset));
            }
            Self::Finished { dataset } => {
                out.u8(89).text(dataset);
            }
        }
        out.finish()
    }

    /// Reads a message; anything that the format does not allow is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let message = match input.u8("message type")? {
            1 => {
                if &input.array::<4>("magic")? != MAGIC {
                    return Err(WireError::invalid("magic"));
                }
                let message = Self::Hello {
                    lowest: input.varint("lowest version")?,
                    highest: input.varint("highest version")?,
                    software: input.text("software", MAX_SOFTWARE)?.to_owned(),
                };
                // A later version may say more here; who speaks only this one need not read it.
                return Ok(message);
            }
            2 => Self::Welcome {
                version: input.varint("version")?,
                software: input.text("software", MAX_SOFTWARE)?.to_owned(),
            },
            3 => Self::Refuse {
                code: RefuseCode::from_byte(input.u8("refuse code")?)?,
                text: input.text("refuse text", MAX_TEXT)?.to_owned(),
            },
            4 => Self::Put {
                id: input.array("transfer id")?,
                resume: input.boolean("resume")?,
                seen: input.varint("outcomes seen")?,
                order: Order::decode(&mut input)?,
            },
            5 => Self::Get {
                id: input.array("transfer id")?,
                resume: input.boolean("resume")?,
                window: input.varint("window")?,
                pace: decode_pace(&mut input)?,
                order: Order::decode(&mut input)?,
                sources: decode_sources(&mut input)?,
                extent: match input.u8("extent")? {
                    0 => Extent::All,
                    1 => Extent::Listed,
                    2 => Extent::ListedWhole,
                    _ => return Err(WireError::invalid("extent")),
                },
            },
            6 => Self::List { path: input.bytes("path", MAX_PATH)?.to_vec() },
            7 => Self::Accept {
                resumed: input.boolean("resumed")?,
                seen: input.varint("outcomes seen")?,
                window: input.varint("window")?,
                named: input.boolean("whether the path is a name")?,
            },
            8 => Self::Listing {
                entries: list(&mut input, "listed entries", Listed::decode)?,
                last: input.boolean("last")?,
            },
            9 => Self::Measure {
                up: input.boolean("direction")?,
                seconds: match input.varint_at_most("seconds", MAX_MEASURE_SECONDS)? {
                    0 => return Err(WireError::invalid("seconds")),
                    seconds => seconds,
                },
            },
            10 => Self::Measured(Measured::decode(&mut input)?),
            48 => Self::Send {
                order: Order::decode(&mut input)?,
                sources: decode_sources(&mut input)?,
            },
            49 => Self::Grant {
                to: PublicKey(input.array("key of the source")?),
                bytes: input.varint("bytes granted")?,
                seconds: match input.varint("seconds of a grant")? {
                    0 => return Err(WireError::invalid("seconds of a grant")),
                    seconds => seconds,
                },
                order: Order::decode(&mut input)?,
            },
            50 => Self::Granted(Granted {
                grant: input.array("grant")?,
                seconds: input.varint("seconds of a grant")?,
                named: input.boolean("whether the path is a name")?,
                shown: input.text("path shown", MAX_TEXT)?.to_owned(),
            }),
            51 => Self::PutGranted {
                grant: input.array("grant")?,
                id: input.array("transfer id")?,
                resume: input.boolean("resume")?,
                seen: input.varint("outcomes seen")?,
                order: Order::decode(&mut input)?,
            },
            11 => Self::Names {
                last: input.boolean("last names")?,
                paths: list(&mut input, "names", decode_listed_path)?,
            },
            52 => Self::Tunnel,
            80 => Self::Offer(Offer::decode(&mut input)?),
            81 => {
                let (last, bytes) = inbox::decode_part(&mut input)?;
                Self::Part { last, bytes }
            }
            82 => Self::AskSchema { inbox: input.text("inbox", inbox::MAX_INBOX)?.to_owned() },
            83 => Self::Enrol {
                code: input.bytes("code", inbox::MAX_CODE)?.to_vec(),
                label: input.text("label", inbox::MAX_LABEL)?.to_owned(),
            },
            84 => Self::Enrolled {
                admitted: input.boolean("admitted")?,
                text: input.text("words", MAX_TEXT)?.to_owned(),
            },
            85 => Self::Unfit {
                faults: inbox::decode_faults(&mut input)?,
                more: input.varint("further faults")?,
            },
            86 => Self::Fits { notes: inbox::decode_notes(&mut input)? },
            87 => Self::Waiting(Waiting::decode(&mut input)?),
            88 => Self::Admitted {
                dataset: inbox::decode_id(&mut input)?,
                notes: inbox::decode_notes(&mut input)?,
            },
            89 => Self::Finished { dataset: inbox::decode_id(&mut input)? },
            _ => return Err(WireError::invalid("opening message type")),
        };
        input.finish()?;
        Ok(message)
    }

    /// Whether the message fits into one frame: a command line can name more than one frame holds.
    pub fn fits(&self) -> bool {
        self.encode().len() <= MAX_MESSAGE
    }
}

pub(super) fn encode_pace(pace: Pace, out: &mut Encoder) {
    match pace {
        Pace::Fair => out.u8(0),
        Pace::Background => out.u8(1),
        Pace::Fixed(rate) => out.u8(2).varint(rate),
    };
}

pub(super) fn decode_pace(input: &mut Decoder) -> Result<Pace, WireError> {
    match input.u8("pace")? {
        0 => Ok(Pace::Fair),
        1 => Ok(Pace::Background),
        2 => match input.varint("rate")? {
            0 => Err(WireError::invalid("rate")),
            rate => Ok(Pace::Fixed(rate)),
        },
        _ => Err(WireError::invalid("pace")),
    }
}

fn encode_sources(sources: &[Vec<u8>], out: &mut Encoder) {
    out.varint(sources.len() as u64);
    for source in sources {
        out.bytes(source);
    }
}

fn decode_listed_path(input: &mut Decoder) -> Result<RelPath, WireError> {
    let path = RelPath::parse(input.bytes("a listed path", MAX_PATH)?);
    let path = path.map_err(|_| WireError::invalid("a listed path"))?;
    let is_reserved = path.names().any(|name| files::is_reserved(&name));
    if is_reserved { Err(WireError::invalid("a listed path")) } else { Ok(path) }
}

fn decode_sources(input: &mut Decoder) -> Result<Vec<Vec<u8>>, WireError> {
    let mut sources = Vec::new();
    for _ in 0..input.varint_at_most("sources", MAX_SOURCES as u64)? {
        sources.push(input.bytes("source path", MAX_PATH)?.to_vec());
    }
    Ok(sources)
}
