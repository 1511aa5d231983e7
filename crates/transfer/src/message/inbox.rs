//! What is said before a dataset is handed in to an inbox, and what an unknown key may ask
//! (`docs/formats/inbox.md`). The frames are [`super::Opening`]'s.

use files::Digest;
use link::wire::{Decoder, Encoder, WireError};

use super::{MAX_TEXT, capped};

/// The longest name of an inbox.
pub const MAX_INBOX: usize = 64;
/// The longest name of a dataset.
pub const MAX_DATASET_NAME: usize = 255;
/// The most bytes of a text in one Part.
pub const MAX_PART: usize = 60 * 1024;
/// The most faults or notes in one message.
pub const MAX_TEXTS: usize = 100;
/// The most bytes that all texts of one message have, so that it fits into a frame.
const MAX_TEXTS_BYTES: usize = 48 * 1024;
/// The longest code that lets a key in.
pub const MAX_CODE: usize = 64;
/// The longest label of a key that asks to be let in.
pub const MAX_LABEL: usize = 128;
/// The longest id of a dataset.
const MAX_ID: usize = 64;
/// The most that is counted here: sums of it do not overflow.
const MOST: u64 = 1 << 56;

/// What somebody wants to hand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Names the upload across tries; see the format's page.
    pub upload: [u8; 16],
    /// Into which inbox; empty for the only one.
    pub inbox: String,
    /// What the dataset is called.
    pub name: String,
    /// Bytes of the metadata, which follow in Parts.
    pub metadata_len: u64,
    /// How many files there are.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// The content half of the tree digest over all of them, where the client knows it.
    pub content: Option<Digest>,
    /// Only say whether it would be taken.
    pub check: bool,
}

/// What is wrong with metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON pointer; empty for all of it.
    pub path: String,
    /// Why it is not taken.
    pub reason: String,
}

/// How a client that waits stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place, from 1; 0 while it is judged and has none.
    pub position: u64,
    /// How many wait.
    pub length: u64,
    /// In how many seconds it is likely to be its turn.
    pub seconds: Option<u64>,
    /// What it waits for.
    pub reason: String,
}

impl Offer {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.array(&self.upload).text(&self.inbox).text(&self.name).varint(self.metadata_len);
        out.varint(self.files).varint(self.bytes).boolean(self.content.is_some());
        if let Some(content) = &self.content {
            out.array(content.as_bytes());
        }
        out.boolean(self.check);
    }

    pub(super) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        Ok(Self {
            upload: input.array("upload id")?,
            inbox: input.text("inbox", MAX_INBOX)?.to_owned(),
            name: input.text("name of a dataset", MAX_DATASET_NAME)?.to_owned(),
            metadata_len: input.varint_at_most("length of the metadata", MOST)?,
            files: input.varint_at_most("files offered", MOST)?,
            bytes: input.varint_at_most("bytes offered", MOST)?,
            content: match input.boolean("whether the content is known")? {
                true => Some(Digest::from_bytes(input.array("content digest")?)),
                false => None,
            },
            check: input.boolean("check only")?,
        })
    }
}

/// The first of these that fit into one message.
pub(crate) fn fitting(faults: Vec<Fault>) -> Vec<Fault> {
    let mut room = MAX_TEXTS_BYTES;
    let fits = |fault: &Fault| {
        let cost = capped(&fault.path).len() + capped(&fault.reason).len() + 8;
        let has_room = cost <= room;
        room = room.saturating_sub(cost);
        has_room
    };
    faults.into_iter().take(MAX_TEXTS).take_while(fits).collect()
}

pub(super) fn encode_faults(faults: &[Fault], out: &mut Encoder) {
    out.varint(faults.len() as u64);
    for Fault { path, reason } in faults {
        out.text(capped(path)).text(capped(reason));
    }
}

pub(super) fn decode_faults(input: &mut Decoder) -> Result<Vec<Fault>, WireError> {
    let mut faults = Vec::new();
    for _ in 0..input.varint_at_most("faults", MAX_TEXTS as u64)? {
        let path = input.text("place of a fault", MAX_TEXT)?.to_owned();
        let reason = input.text("reason of a fault", MAX_TEXT)?.to_owned();
        faults.push(Fault { path, reason });
    }
    Ok(faults)
}

/// Notes beyond what one message holds are left out: they help, and decide nothing.
pub(super) fn encode_notes(notes: &[String], out: &mut Encoder) {
    let mut room = MAX_TEXTS_BYTES;
    let fits = |note: &&String| {
        let has_room = capped(note).len() + 4 <= room;
        room = room.saturating_sub(capped(note).len() + 4);
        has_room
    };
    let notes: Vec<&String> = notes.iter().take(MAX_TEXTS).take_while(fits).collect();
    out.varint(notes.len() as u64);
    for note in notes {
        out.text(capped(note));
    }
}

pub(super) fn decode_notes(input: &mut Decoder) -> Result<Vec<String>, WireError> {
    let (mut notes, mut room) = (Vec::new(), MAX_TEXTS_BYTES);
    for _ in 0..input.varint_at_most("notes", MAX_TEXTS as u64)? {
        let note = input.text("a note", MAX_TEXT)?;
        room = room.checked_sub(note.len() + 4).ok_or(WireError::invalid("notes"))?;
        notes.push(note.to_owned());
    }
    Ok(notes)
}

/// A part of a text: none may be empty but the last, so that a text has no endless parts.
pub(super) fn decode_part(input: &mut Decoder) -> Result<(bool, Vec<u8>), WireError> {
    let last = input.boolean("last part")?;
    let bytes = input.bytes("a part", MAX_PART)?.to_vec();
    if bytes.is_empty() && !last {
        return Err(WireError::invalid("a part"));
    }
    Ok((last, bytes))
}

/// A text in as many parts as it takes.
pub(crate) fn parts(text: &[u8]) -> Vec<super::Opening> {
    let part = |last, bytes: &[u8]| super::Opening::Part { last, bytes: bytes.to_vec() };
    let count = text.len().div_ceil(MAX_PART).max(1);
    let piece = |number: usize| {
        let end = ((number + 1) * MAX_PART).min(text.len());
        part(number + 1 == count, &text[number * MAX_PART..end])
    };
    (0..count).map(piece).collect()
}

impl Waiting {
    pub(super) fn encode(&self, out: &mut Encoder) {
        let seconds = self.seconds.map_or(0, |seconds| seconds.min(MOST - 1) + 1);
        out.varint(self.position).varint(self.length).varint(seconds).text(capped(&self.reason));
    }

    pub(super) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        Ok(Self {
            position: input.varint_at_most("position", MOST)?,
            length: input.varint_at_most("length of the queue", MOST)?,
            seconds: input.varint_at_most("estimate", MOST)?.checked_sub(1),
            reason: input.text("what is waited for", MAX_TEXT)?.to_owned(),
        })
    }
}

pub(super) fn decode_id(input: &mut Decoder) -> Result<String, WireError> {
    let id = input.text("id of a dataset", MAX_ID)?;
    match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(id.to_owned()),
        false => Err(WireError::invalid("id of a dataset")),
    }
}
