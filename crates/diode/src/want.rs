//! The want-list: what a receiver lacks, as text that is carried back by hand, signed, so that a sender can be made to
//! send nothing by a stranger.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use link::{Identity, PublicKey};
use thiserror::Error;

/// The first line.
const LINE: &str = "haul-diode-want-1";

/// What the signature is made over besides the list.
const SIGNED: &[u8] = b"haul diode want";

/// How many ranges of each kind a list may have: a list of all of them is 45 MB of text.
pub const MOST_RANGES: usize = 1 << 20;

/// Bytes before the ranges, of a range, and of the signature.
const HEAD: usize = 32 + 32 + 8 + 8;
const RANGE: usize = 8 + 4 + 4;
const SIGNATURE: usize = 64;

/// Characters in a line of base64.
const WIDTH: usize = 76;

/// What is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantList {
    /// Who lacks it.
    pub receiver: PublicKey,
    /// Who is to send it.
    pub sender: PublicKey,
    /// When the list was made, in milliseconds since 1970.
    pub time_ms: u64,
    /// The last generation of which the receiver has the whole manifest; 0 if none.
    pub generation: u64,
    /// Pages of manifests: of a generation, some pages.
    pub pages: Vec<Range>,
    /// Blocks of objects: of an object, some blocks.
    pub blocks: Vec<Range>,
}

/// Some successive pages of a generation, or blocks of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The generation or object.
    pub of: u64,
    /// The first of them.
    pub first: u32,
    /// How many, at least one.
    pub count: u32,
}

/// Why a text is no want-list for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WantError {
    /// The first line is another.
    #[error("the file does not begin with {LINE}")]
    OtherType,
    /// It is not base64, or cut short, or too long.
    #[error("the want-list is damaged: it is no base64 of a whole list")]
    Damaged,
    /// Signed by somebody else than the receiver that it names, or changed.
    #[error("the want-list is not signed by the receiver that it names")]
    Signature,
    /// From a receiver that we do not send to.
    #[error("the want-list is from a receiver that is not trusted here")]
    Stranger,
    /// For another sender.
    #[error("the want-list asks another sender")]
    OtherSender,
    /// A range that holds nothing or goes beyond the numbers that there are.
    #[error("the want-list asks for what cannot be")]
    Range,
}

impl WantList {
    /// The text, which ends with a line end. What is beyond [`MOST_RANGES`] has to wait for another list.
    pub fn to_text(&self, identity: &Identity) -> String {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.receiver.as_bytes());
        bytes.extend_from_slice(self.sender.as_bytes());
        bytes.extend_from_slice(&self.time_ms.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        for ranges in [&self.pages, &self.blocks] {
            let ranges = &ranges[..ranges.len().min(MOST_RANGES)];
            bytes.extend_from_slice(&(ranges.len() as u32).to_be_bytes());
            for range in ranges {
                bytes.extend_from_slice(&range.of.to_be_bytes());
                bytes.extend_from_slice(&range.first.to_be_bytes());
                bytes.extend_from_slice(&range.count.to_be_bytes());
            }
        }
        let signature = identity.sign(&[SIGNED, &bytes].concat());
        bytes.extend_from_slice(&signature);
        let base64 = STANDARD.encode(bytes);
        let mut text = format!("{LINE}\n");
        for line in base64.as_bytes().chunks(WIDTH) {
            text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            text.push('\n');
        }
        text
    }

    /// Reads a text, whose lines may have been broken anew, that one of these receivers has signed for this sender.
    pub fn parse(
        text: &str,
        sender: &PublicKey,
        receivers: &[PublicKey],
    ) -> Result<Self, WantError> {
        let text = text.trim_start();
        let rest = text.strip_prefix(LINE).filter(|rest| rest.starts_with(char::is_whitespace));
        let rest = rest.ok_or(WantError::OtherType)?;
        let most = (HEAD + 2 * (4 + MOST_RANGES * RANGE) + SIGNATURE) / 3 * 4 + 4;
        let base64: String = rest.chars().filter(|c| !c.is_whitespace()).take(most + 1).collect();
        if base64.len() > most {
            return Err(WantError::Damaged);
        }
        let bytes = STANDARD.decode(base64).map_err(|_| WantError::Damaged)?;
        let (said, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(WantError::Damaged)?;
        let (head, rest) = said.split_first_chunk::<HEAD>().ok_or(WantError::Damaged)?;
        let receiver = PublicKey(std::array::from_fn(|at| head[at]));
        if !receivers.contains(&receiver) {
            return Err(WantError::Stranger);
        }
        if head[32..64] != *sender.as_bytes() {
            return Err(WantError::OtherSender);
        }
        if !receiver.verify(&[SIGNED, said].concat(), signature) {
            return Err(WantError::Signature);
        }
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
        let (pages, rest) = ranges(rest)?;
        let (blocks, rest) = ranges(rest)?;
        if !rest.is_empty() {
            return Err(WantError::Damaged);
        }
        Ok(Self {
            receiver,
            sender: *sender,
            time_ms: number(64),
            generation: number(72),
            pages,
            blocks,
        })
    }
}

/// The ranges that a count before them announces, and what follows.
fn ranges(bytes: &[u8]) -> Result<(Vec<Range>, &[u8]), WantError> {
    let (count, rest) = bytes.split_first_chunk::<4>().ok_or(WantError::Damaged)?;
    let count = u32::from_be_bytes(*count) as usize;
    if count > MOST_RANGES {
        return Err(WantError::Damaged);
    }
    let (ranges, rest) = rest.split_at_checked(count * RANGE).ok_or(WantError::Damaged)?;
    let read = |range: &[u8]| {
        let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| range[at + byte]));
        let of = u64::from(number(0)) << 32 | u64::from(number(4));
        let (first, count) = (number(8), number(12));
        let holds = count > 0 && first.checked_add(count - 1).is_some();
        holds.then_some(Range { of, first, count }).ok_or(WantError::Range)
    };
    let ranges: Result<Vec<_>, _> = ranges.chunks_exact(RANGE).map(read).collect();
    Ok((ranges?, rest))
}

/// Puts single numbers in order together to ranges.
pub fn to_ranges(of: u64, numbers: impl IntoIterator<Item = u32>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.first + (last.count - 1) == number.wrapping_sub(1) && number > 0 => {
                last.count += 1;
            }
            _ => ranges.push(Range { of, first: number, count: 1 }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, identity: &Identity) -> Result<WantList, WantError> {
        WantList::parse(text, &PublicKey([4; 32]), &[PublicKey([5; 32]), identity.public_key()])
    }

    fn list(identity: &Identity) -> WantList {
        WantList {
            receiver: identity.public_key(),
            sender: PublicKey([4; 32]),
            time_ms: 1_700_000_000_000,
            generation: 12,
            pages: vec![Range { of: 13, first: 0, count: 2 }],
            blocks: to_ranges(1 << 40, [0, 1, 2, 7, 9, 10, u32::MAX - 1, u32::MAX]),
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written_however_its_lines_are_broken() {
        let identity = Identity::generate().unwrap();
        let list = list(&identity);
        assert_eq!(list.blocks.len(), 4);
        let text = list.to_text(&identity);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(parse(&text, &identity), Ok(list.clone()));
        assert_eq!(parse(&text.replace('\n', "\r\n  "), &identity), Ok(list));
    }

    #[test]
    fn what_is_changed_damaged_or_anothers_is_refused() {
        let identity = Identity::generate().unwrap();
        let text = list(&identity).to_text(&identity);
        for (at, c) in text.char_indices().skip(LINE.len() + 1).filter(|(_, c)| *c != '\n') {
            let other = if c == 'A' { 'B' } else { 'A' };
            let mut changed = text.clone();
            changed.replace_range(at..at + 1, &other.to_string());
            assert!(parse(&changed, &identity).is_err(), "character {at}");
            assert!(parse(&text[..at], &identity).is_err(), "{at} characters");
        }
        let other = Identity::generate().unwrap();
        let forged = list(&identity).to_text(&other);
        assert_eq!(parse(&forged, &identity), Err(WantError::Signature));
        assert_eq!(parse(&text, &other), Err(WantError::Stranger));
        let asked = WantList::parse(&text, &PublicKey([6; 32]), &[identity.public_key()]);
        assert_eq!(asked, Err(WantError::OtherSender));
        assert_eq!(parse("haul-diode-want-12\n", &identity), Err(WantError::OtherType));
        assert_eq!(parse("", &identity), Err(WantError::OtherType));
        for range in
            [Range { of: 1, first: 1, count: 0 }, Range { of: 1, first: 2, count: u32::MAX }]
        {
            let wrong = WantList { blocks: vec![range], ..list(&identity) };
            assert_eq!(parse(&wrong.to_text(&identity), &identity), Err(WantError::Range));
        }
    }
}
