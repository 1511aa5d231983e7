//! What a file has in common with an older one: the target says of which pieces the older one is made, and the source
//! sends of each chunk what is not among them. Pieces end where their content says, so that what is inserted moves no
//! later border. Pure; whatever a mark proves too little of, the hash of the chunk proves.

use std::collections::HashMap;
use std::ops::Range;

use fastcdc::v2020::FastCDC;
use files::{CHUNK, Digest};

/// Files below this are not looked at for pieces: what travels whole costs less than a round trip.
pub const LEAST_BASIS: u64 = 64 << 10;

/// The average length of pieces is two to the power of one of these.
pub const EXPONENTS: std::ops::RangeInclusive<u8> = 13..=18;

/// The most pieces that a source takes, of all files that it sends at a time.
pub const MOST_PIECES: usize = 1 << 18;

/// The most ops that make one chunk.
pub const MOST_OPS: usize = 2048;

/// A chunk of which less than one part in so many is known is sent as it is.
const LEAST_KNOWN: u64 = 16;

/// One piece of an older file; its place follows from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes.
    pub len: u64,
    /// The first 8 bytes of its BLAKE3, the most significant first.
    pub mark: u64,
}

/// A part of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Bytes of the older file.
    Copy {
        /// Where they begin in it.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The next bytes of the body.
    Literal {
        /// How many.
        len: u64,
    },
}

impl Op {
    /// How many bytes it makes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Copy { len, .. } | Self::Literal { len } => *len,
        }
    }

    /// No op is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of the body it takes.
    pub fn literal(&self) -> u64 {
        match self {
            Self::Copy { .. } => 0,
            Self::Literal { len } => *len,
        }
    }
}

/// How long pieces of a file of this size are on average: as short as may be, since that is what a change costs, but so
/// that they are not too many to tell.
pub fn exponent_for(size: u64) -> u8 {
    let is_enough = |exponent: &u8| size >> exponent <= MOST_PIECES as u64 / 2;
    EXPONENTS.clone().find(is_enough).unwrap_or(*EXPONENTS.end())
}

/// The least and the most that a piece may have.
fn bounds(exponent: u8) -> (usize, usize, usize) {
    let average = 1 << exponent;
    (average / 4, average, average * 4)
}

/// The longest piece.
pub fn longest(exponent: u8) -> u64 {
    4 << exponent
}

fn cutter(bytes: &[u8], exponent: u8) -> FastCDC<'_> {
    let (least, average, most) = bounds(exponent);
    FastCDC::new(bytes, least, average, most)
}

fn mark(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes);
    u64::from_be_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

/// Cuts bytes of a file that begin where a piece begins. Whether they end where the file does; if not, the last piece
/// is left out, since it may go on.
pub fn pieces(bytes: &[u8], exponent: u8, is_end: bool) -> Vec<Piece> {
    let cutter = cutter(bytes, exponent);
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (_, end) = cutter.cut(at, bytes.len() - at);
        let end = end.clamp(at + 1, bytes.len());
        if end == bytes.len() && !is_end {
            break;
        }
        all.push(Piece { len: (end - at) as u64, mark: mark(&bytes[at..end]) });
        at = end;
    }
    all
}

/// The pieces of an older file, by their marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    exponent: u8,
    places: HashMap<u64, (u64, u32)>,
    end: u64,
}

impl Basis {
    /// One without pieces.
    pub fn new(exponent: u8) -> Self {
        Self { exponent, places: HashMap::new(), end: 0 }
    }

    /// Takes the piece behind the last one.
    pub fn push(&mut self, piece: Piece) {
        // Of several that are the same, the first: a disk reads ahead.
        self.places.entry(piece.mark).or_insert((self.end, piece.len as u32));
        self.pass(piece);
    }

    /// Passes over the piece behind the last one, which is not remembered.
    pub fn pass(&mut self, piece: Piece) {
        self.end = self.end.saturating_add(piece.len);
    }

    /// How many are remembered.
    pub fn pieces(&self) -> usize {
        self.places.len()
    }

    /// The average length of its pieces, as an exponent of two.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }

    /// What has to be known of a file of this size to say what makes this part of it: pieces that reach over its ends,
    /// and some before, from where on borders do not depend on where one began to look.
    pub fn span(&self, part: &Range<u64>, size: u64) -> Range<u64> {
        let longest = longest(self.exponent);
        part.start.saturating_sub(longest)..size.min(part.end.saturating_add(longest))
    }

    /// What makes a part of a file whose size this is, given the bytes of its span. None if hardly anything is known.
    pub fn ops(&self, span: &[u8], part: &Range<u64>, size: u64) -> Option<Vec<Op>> {
        let Range { start, end } = self.span(part, size);
        let cutter = cutter(span, self.exponent);
        let mut ops = Ops { all: Vec::new(), known: 0 };
        let (mut at, mut done) = (0, part.start);
        while at < span.len() && done < part.end {
            let (_, next) = cutter.cut(at, span.len() - at);
            let next = next.clamp(at + 1, span.len());
            let (from, to) = (start + at as u64, start + next as u64);
            // One that ends with the span may go on behind it.
            let is_whole = next < span.len() || end == size;
            if to > part.start {
                let place = if is_whole { self.places.get(&mark(&span[at..next])) } else { None };
                let until = to.min(part.end);
                match place.filter(|(_, len)| u64::from(*len) == to - from) {
                    Some((offset, _)) => ops.copy(offset + (done - from), until - done),
                    None => ops.literal(until - done),
                }
                done = until;
            }
            at = next;
        }
        if done < part.end {
            ops.literal(part.end - done);
        }
        let is_worth_it = ops.known >= (part.end - part.start) / LEAST_KNOWN;
        (is_worth_it && ops.all.len() <= MOST_OPS).then_some(ops.all)
    }
}

struct Ops {
    all: Vec<Op>,
    known: u64,
}

impl Ops {
    fn copy(&mut self, from: u64, more: u64) {
        self.known += more;
        if let Some(Op::Copy { offset, len }) = self.all.last_mut()
            && *offset + *len == from
        {
            *len += more;
            return;
        }
        self.all.push(Op::Copy { offset: from, len: more });
    }

    fn literal(&mut self, more: u64) {
        if let Some(Op::Literal { len }) = self.all.last_mut() {
            *len += more;
            return;
        }
        self.all.push(Op::Literal { len: more });
    }
}

/// The literals of a part, one behind the other.
pub fn literals(ops: &[Op], part: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(ops.iter().map(|op| op.literal() as usize).sum());
    let mut at = 0;
    for op in ops {
        let next = (at + op.len() as usize).min(part.len());
        if let Op::Literal { .. } = op {
            body.extend_from_slice(&part[at..next]);
        }
        at = next;
    }
    body
}

/// Makes a part from its ops, with `read` for what the older file has. None if they do not fit what came with them.
pub fn apply<E>(
    ops: &[Op],
    body: &[u8],
    whole: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<bool, E> {
    whole.clear();
    let mut rest = body;
    for op in ops {
        let len = op.len().min(CHUNK) as usize;
        let at = whole.len();
        match op {
            Op::Copy { offset, .. } => {
                whole.resize(at + len, 0);
                read(&mut whole[at..], *offset)?;
            }
            Op::Literal { .. } => {
                let Some((now, behind)) = rest.split_at_checked(len) else { return Ok(false) };
                whole.extend_from_slice(now);
                rest = behind;
            }
        }
    }
    Ok(rest.is_empty())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::rig::noise;

    fn basis(old: &[u8]) -> Basis {
        let exponent = exponent_for(old.len() as u64);
        let mut basis = Basis::new(exponent);
        // As the target does: some of it at a time.
        let mut at = 0;
        while at < old.len() {
            let end = old.len().min(at + (3 << 20));
            let pieces = pieces(&old[at..end], exponent, end == old.len());
            at += pieces.iter().map(|piece| piece.len as usize).sum::<usize>();
            pieces.into_iter().for_each(|piece| basis.push(piece));
        }
        assert_eq!(basis.end, old.len() as u64);
        basis
    }

    /// Makes the new file chunk by chunk, and says how many bytes had to be sent.
    fn sent(old: &[u8], new: &[u8]) -> usize {
        let basis = basis(old);
        let (size, mut all, mut whole) = (new.len() as u64, 0, Vec::new());
        for start in (0..size).step_by(CHUNK as usize) {
            let part = start..size.min(start + CHUNK);
            let range = part.start as usize..part.end as usize;
            let span = basis.span(&part, size);
            let span = &new[span.start as usize..span.end as usize];
            let Some(ops) = basis.ops(span, &part, size) else {
                all += range.len();
                continue;
            };
            assert_eq!(ops.iter().map(Op::len).sum::<u64>(), part.end - part.start);
            let body = literals(&ops, &new[range.clone()]);
            all += body.len();
            let read = |bytes: &mut [u8], at: u64| {
                bytes.copy_from_slice(&old[at as usize..at as usize + bytes.len()]);
                Ok::<_, Infallible>(())
            };
            assert_eq!(apply(&ops, &body, &mut whole, read), Ok(true));
            assert!(whole == new[range], "another content at {start}");
            assert_eq!(apply(&ops, &[&body[..], b"x"].concat(), &mut whole, read), Ok(false));
        }
        all
    }

    #[test]
    fn what_did_not_change_is_not_sent() {
        let old = noise(1, 9_500_000);
        assert_eq!(sent(&old, &old), 0);
    }

    #[test]
    fn edits_and_insertions_cost_what_they_are() {
        let old = noise(2, 12_000_000);
        let mut new = old.clone();
        for edit in 0..10 {
            let at = 700_001 + edit * 1_100_003;
            new[at..at + 1024].copy_from_slice(&noise(100 + edit as u64, 1024));
        }
        let cost = sent(&old, &new);
        assert!((10 * 1024..10 * 60_000).contains(&cost), "{cost} bytes");
        let inserted = [&noise(3, 12_345)[..], &new].concat();
        let more = sent(&old, &inserted);
        assert!((cost..cost + 12_345 + 12 * 20_000).contains(&more), "{more} after {cost}");
        let removed = [&old[..3_000_000], &old[3_500_000..]].concat();
        assert!(sent(&old, &removed) < 300_000, "{}", sent(&old, &removed));
    }

    /// Both ends must cut alike, whatever version of the crate each was built with.
    #[test]
    fn cuts_stay_where_they_are() {
        let lens: Vec<u64> =
            pieces(&noise(7, 100_000), 13, true).iter().map(|piece| piece.len).collect();
        assert_eq!(lens, [10549, 14499, 12092, 10857, 3340, 13079, 9370, 12757, 9522, 2257, 1678]);
    }

    #[test]
    fn what_is_new_is_sent_as_it_is() {
        let old = noise(4, 3_000_000);
        let new = noise(5, 3_000_000);
        assert_eq!(sent(&old, &new), new.len());
        assert_eq!(sent(&[], &new), new.len());
        // One that was cut off, and one that goes on.
        assert!(sent(&old, &old[..2_345_678]) < 40_000);
        assert!(sent(&old[..2_345_678], &old) < 654_322 + 40_000);
    }

    #[test]
    fn pieces_are_not_too_many() {
        let exponents: Vec<u8> =
            [1_u64 << 20, 1 << 30, 4 << 30, 16 << 30, 64 << 30, 200 << 30, 1 << 50]
                .map(exponent_for)
                .to_vec();
        assert_eq!(exponents, [13, 13, 15, 17, 18, 18, 18]);
    }

    #[test]
    fn what_a_peer_says_of_an_older_file_is_only_looked_up() {
        let new = noise(6, 1 << 20);
        let mut basis = Basis::new(13);
        for piece in pieces(&new, 13, true) {
            // The right marks, at places that no file has.
            basis.push(Piece { len: u64::from(u32::MAX), ..piece });
        }
        assert_eq!(basis.ops(&new, &(0..1 << 20), 1 << 20), None);
    }
}
