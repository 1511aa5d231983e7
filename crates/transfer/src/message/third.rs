//! What is said while bytes go between two other machines: the orchestrator's word to go, and what the
//! source tells it. The requests before are [`super::Opening`]'s.

use events::{Bound, LinkSnapshot};
use files::Digest;
use link::wire::{Decoder, Encoder, WireError};
use link::{LaneKind, LinkChoice, Pace, PublicKey, Target};
use tree::TreeDigests;

use super::opening::{MAX_PATH, decode_pace, encode_pace};
use super::{MAX_MESSAGE, MAX_TEXT, RefuseCode, capped, decode_bound, encode_bound};
use crate::Totals;

/// The longest time for which a source may be asked to wait for a link that is down, in seconds.
pub const MAX_PATIENCE_SECONDS: u64 = 86_400;
/// The largest number in a report: sums of them do not overflow.
const MOST: u64 = (1 << 56) - 1;
/// The most bytes of a pipe in one report.
pub const MAX_PIPE: usize = 60 * 1024;
/// The longest host name, as [`Target`] has it.
const MAX_HOST: usize = 253;

/// Where a source is to send, and by what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// What the target has given for it.
    pub grant: [u8; 32],
    /// The second half of the transfer's id.
    pub run: [u8; 8],
    /// The key of the target.
    pub key: PublicKey,
    /// Where it is.
    pub target: Target,
    /// Which kinds of lane may be used.
    pub choice: LinkChoice,
    /// How hard to push; a rate is the most.
    pub pace: Pace,
    /// Payload bytes per second, if limited.
    pub limit_bytes_per_s: Option<u64>,
    /// How long the link may be down, at most [`MAX_PATIENCE_SECONDS`].
    pub patience_s: u64,
}

impl Go {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(56).array(&self.grant).array(&self.run).array(self.key.as_bytes());
        out.text(&self.target.host).varint(self.target.port.into());
        out.u8(match self.choice {
            LinkChoice::Auto => 0,
            LinkChoice::PreferQuic => 1,
            LinkChoice::Only(LaneKind::Quic) => 2,
            LinkChoice::Only(LaneKind::Tcp) => 3,
            LinkChoice::Only(LaneKind::Pipe) => 4,
        });
        encode_pace(self.pace, &mut out);
        out.varint(self.limit_bytes_per_s.unwrap_or(0));
        out.varint(self.patience_s.min(MAX_PATIENCE_SECONDS));
        out.finish()
    }

    /// Reads a message; anything that the format does not allow is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        if input.u8("message type")? != 56 {
            return Err(WireError::invalid("the word to go"));
        }
        let message = Self {
            grant: input.array("grant")?,
            run: input.array("run")?,
            key: PublicKey(input.array("key of the target")?),
            target: decode_target(&mut input)?,
            choice: match input.u8("kind of link")? {
                0 => LinkChoice::Auto,
                1 => LinkChoice::PreferQuic,
                2 => LinkChoice::Only(LaneKind::Quic),
                3 => LinkChoice::Only(LaneKind::Tcp),
                4 => LinkChoice::Only(LaneKind::Pipe),
                _ => return Err(WireError::invalid("kind of link")),
            },
            pace: decode_pace(&mut input)?,
            limit_bytes_per_s: Some(input.varint("limit")?).filter(|limit| *limit > 0),
            patience_s: input.varint_at_most("patience", MAX_PATIENCE_SECONDS)?,
        };
        input.finish()?;
        Ok(message)
    }
}

/// A host and a port; a host that is written in another way than it is compared in is refused.
fn decode_target(input: &mut Decoder) -> Result<Target, WireError> {
    let host = input.text("host", MAX_HOST)?;
    let port = match u16::try_from(input.varint("port")?) {
        Ok(0) | Err(_) => return Err(WireError::invalid("port")),
        Ok(port) => port,
    };
    match Target::new(host, port) {
        Ok(target) if target.host == host => Ok(target),
        _ => Err(WireError::invalid("host")),
    }
}

/// What a source tells the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What was found of the sources.
    Weighed {
        /// Entries of any kind.
        entries: u64,
        /// The content of all files.
        bytes: u64,
        /// This is all.
        last: bool,
    },
    /// How far it is.
    Progress(Progress),
    /// A file will not arrive.
    FileFailed {
        /// Relative to the job's root.
        path: Vec<u8>,
        /// Why, in words.
        reason: String,
    },
    /// The link to the target.
    LinkNews(LinkNews, LaneKind),
    /// It is over, and this was counted.
    Finished(Finished),
    /// What the target has signed of it; empty for a dry run.
    Proof(Vec<u8>),
    /// It has ended before its time.
    Stopped(Stopped),
    /// Bytes for the target, of the pipe that the orchestrator carries: 1 to [`MAX_PIPE`].
    Pipe(Vec<u8>),
}

/// Counts of a copy that runs, as [`events::Counters`] has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields are those of events::Counters, documented there")]
pub struct Progress {
    pub entries: u64,
    pub files_total: u64,
    pub bytes_total: u64,
    pub walk_finished: bool,
    pub files_done: u64,
    pub files_skipped: u64,
    pub files_failed: u64,
    pub bytes_acknowledged: u64,
    pub bytes_sent: u64,
    /// Of the link between source and target; what is not in the message is 0.
    pub link: LinkSnapshot,
    /// What holds it back.
    pub bound: Bound,
}

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkNews {
    /// It stands.
    Up,
    /// Another lane is used, of this kind.
    Moved,
    /// It was lost and is tried again.
    Lost,
}

const KINDS: [LaneKind; 3] = [LaneKind::Quic, LaneKind::Tcp, LaneKind::Pipe];

const NEWS: [LinkNews; 3] = [LinkNews::Up, LinkNews::Moved, LinkNews::Lost];

/// What the source has counted in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The transfer's id.
    pub id: [u8; 16],
    /// How many entries ended how.
    pub totals: Totals,
    /// Payload bytes put on the link, those sent again included.
    pub bytes_sent: u64,
    /// Over all that stands at the target, as the source has summed it up.
    pub tree: TreeDigests,
}

/// Why there is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Stopped {
    /// Where the reason lies.
    pub at: Stretch,
    /// Of what kind it is.
    pub code: RefuseCode,
    /// In words; nothing for the link.
    pub text: String,
}

/// A part of the way from a source to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// The source itself.
    Source,
    /// The target has said it.
    Target,
    /// The target was never reached.
    Unreached,
    /// The link was there, and did not come back.
    LinkLost,
}

const STRETCHES: [Stretch; 4] =
    [Stretch::Source, Stretch::Target, Stretch::Unreached, Stretch::LinkLost];

/// The number of a value in a list that holds all of them.
fn place<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|known| known == value).expect("all values are listed") as u8
}

fn listed<T: Copy>(all: &[T], number: u8, field: &'static str) -> Result<T, WireError> {
    all.get(usize::from(number)).copied().ok_or(WireError::invalid(field))
}

/// Writes numbers that somebody has counted.
fn counts(out: &mut Encoder, numbers: &[u64]) {
    for number in numbers {
        out.varint((*number).min(MOST));
    }
}

fn count(input: &mut Decoder, field: &'static str) -> Result<u64, WireError> {
    input.varint_at_most(field, MOST)
}

impl Report {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Weighed { entries, bytes, last } => {
                counts(out.u8(64), &[*entries, *bytes]);
                out.boolean(*last);
            }
            Self::Progress(progress) => progress.encode(out.u8(65)),
            Self::FileFailed { path, reason } => {
                out.u8(66).bytes(&path[..path.len().min(MAX_PATH)]).text(capped(reason));
            }
            Self::LinkNews(news, kind) => {
                out.u8(67).u8(place(&NEWS, news)).u8(place(&KINDS, kind));
            }
            Self::Finished(finished) => finished.encode(out.u8(68)),
            Self::Proof(receipt) => {
                out.u8(69).bytes(receipt);
            }
            Self::Stopped(Stopped { at, code, text }) => {
                out.u8(70).u8(place(&STRETCHES, at)).u8(code.to_byte()).text(capped(text));
            }
            Self::Pipe(bytes) => {
                out.u8(71).bytes(bytes);
            }
        }
        out.finish()
    }

    /// Reads a message; anything that the format does not allow is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Decoder::new(bytes);
        let message = match input.u8("message type")? {
            64 => Self::Weighed {
                entries: count(&mut input, "entries weighed")?,
                bytes: count(&mut input, "bytes weighed")?,
                last: input.boolean("last")?,
            },
            65 => Self::Progress(Progress::decode(&mut input)?),
            66 => Self::FileFailed {
                path: input.bytes("path", MAX_PATH)?.to_vec(),
                reason: input.text("reason", MAX_TEXT)?.to_owned(),
            },
            67 => Self::LinkNews(
                listed(&NEWS, input.u8("news of the link")?, "news of the link")?,
                listed(&KINDS, input.u8("kind of lane")?, "kind of lane")?,
            ),
            68 => Self::Finished(Finished::decode(&mut input)?),
            69 => Self::Proof(input.bytes("receipt", MAX_MESSAGE)?.to_vec()),
            70 => Self::Stopped(Stopped {
                at: listed(&STRETCHES, input.u8("where it stopped")?, "where it stopped")?,
                code: RefuseCode::from_byte(input.u8("code")?)?,
                text: input.text("why it stopped", MAX_TEXT)?.to_owned(),
            }),
            71 => match input.bytes("bytes of a pipe", MAX_PIPE)? {
                [] => return Err(WireError::invalid("bytes of a pipe")),
                bytes => Self::Pipe(bytes.to_vec()),
            },
            _ => return Err(WireError::invalid("report type")),
        };
        input.finish()?;
        Ok(message)
    }
}

impl Progress {
    fn encode(&self, out: &mut Encoder) {
        counts(out, &[self.entries, self.files_total, self.bytes_total]);
        out.boolean(self.walk_finished);
        counts(out, &[self.files_done, self.files_skipped, self.files_failed]);
        counts(out, &[self.bytes_acknowledged, self.bytes_sent]);
        let LinkSnapshot { rtt, packets_sent, packets_lost, connections, .. } = self.link;
        counts(out, &[rtt.as_micros() as u64, packets_sent, packets_lost, connections]);
        let kind = match self.link {
            LinkSnapshot { is_pipe: true, .. } => LaneKind::Pipe,
            LinkSnapshot { is_tcp: true, .. } => LaneKind::Tcp,
            _ => LaneKind::Quic,
        };
        out.u8(place(&KINDS, &kind));
        encode_bound(out, self.bound);
    }

    fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        Ok(Self {
            entries: count(input, "entries")?,
            files_total: count(input, "files")?,
            bytes_total: count(input, "bytes")?,
            walk_finished: input.boolean("walk finished")?,
            files_done: count(input, "files done")?,
            files_skipped: count(input, "files skipped")?,
            files_failed: count(input, "files failed")?,
            bytes_acknowledged: count(input, "bytes acknowledged")?,
            bytes_sent: count(input, "bytes sent")?,
            link: Self::decode_link(input)?,
            bound: decode_bound(input)?,
        })
    }

    fn decode_link(input: &mut Decoder) -> Result<LinkSnapshot, WireError> {
        let rtt = std::time::Duration::from_micros(count(input, "round trip")?);
        let packets_sent = count(input, "packets sent")?;
        let packets_lost = count(input, "packets lost")?;
        let connections = count(input, "connections")?;
        let kind = listed(&KINDS, input.u8("kind of lane")?, "kind of lane")?;
        let (is_tcp, is_pipe) = (kind == LaneKind::Tcp, kind == LaneKind::Pipe);
        let link =
            LinkSnapshot { rtt, packets_sent, packets_lost, connections, ..Default::default() };
        Ok(LinkSnapshot { is_tcp, is_pipe, ..link })
    }
}

impl Finished {
    fn encode(&self, out: &mut Encoder) {
        out.array(&self.id);
        counts(out, &self.totals.numbers());
        counts(out, &[self.bytes_sent]);
        out.array(self.tree.content.as_bytes()).array(self.tree.attributes.as_bytes());
        counts(out, &[self.tree.records]);
    }

    fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let id = input.array("transfer id")?;
        let mut numbers = [0; Totals::NUMBERS];
        for number in &mut numbers {
            *number = count(input, "total")?;
        }
        Ok(Self {
            id,
            totals: Totals::of_numbers(numbers),
            bytes_sent: count(input, "bytes sent")?,
            tree: TreeDigests {
                content: Digest::from_bytes(input.array("digest of contents")?),
                attributes: Digest::from_bytes(input.array("digest of attributes")?),
                records: count(input, "records")?,
            },
        })
    }
}

#[cfg(test)]
mod tests;
