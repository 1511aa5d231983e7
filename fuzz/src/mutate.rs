//! Damages inputs on purpose, from a seed: flipped bits, edited lengths, boundary numbers, cuts and
//! splices. The same seed and the same corpus give the same inputs in the same order, on any machine.

/// The longest input that is made; the corpus may hold longer ones, which are cut.
pub const MAX_INPUT_BYTES: usize = 16 * 1024;

/// The most changes that one input gets on top of another.
const MAX_CHANGES: u64 = 6;

/// Numbers at which readers go wrong, written in several widths and as varints.
const BOUNDARIES: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    0x7fff,
    0xffff,
    0x1_0000,
    0x10_0000,
    0x10_0001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Pieces that mean something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"haul",
    b"..",
    b".",
    b"/",
    b"//",
    b"../",
    b"\\",
    b"*",
    b"**",
    b"[",
    b"]",
    b"{",
    b"}",
    b"!",
    b"#",
    b":",
    b",",
    b"=",
    b"\"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"-",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xff\xfe",
    b"[::1]:4285",
    b"%",
    b"1e999",
    b"null",
    b"true",
];

/// A stream of damaged inputs.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A stream that the seed decides.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next input: one of the corpus, changed a few times, or now and then plain noise. Without a
    /// corpus everything is noise.
    pub fn next_input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = match corpus {
            [] => self.noise(256),
            _ if self.below(32) == 0 => self.noise(256),
            _ => self.pick(corpus).clone(),
        };
        for _ in 0..=self.below(MAX_CHANGES) {
            self.change(&mut input, corpus);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        match self.below(11) {
            0 => self.flip_bit(input),
            1 => self.nudge_byte(input),
            2 => self.write_boundary(input),
            3 => self.replace_varint(input),
            4 => {
                let word = *self.pick(WORDS);
                self.overwrite(input, word);
            }
            5 => {
                let word = *self.pick(WORDS);
                self.insert(input, word);
            }
            6 => {
                let noise = self.noise(16);
                self.insert(input, &noise);
            }
            7 => input.truncate(self.position(input.len())),
            8 => self.delete_range(input),
            9 => self.repeat_range(input),
            _ => self.splice(input, corpus),
        }
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        let bit = self.below(8);
        if let Some(byte) = self.byte_of(input) {
            *byte ^= 1 << bit;
        }
    }

    /// Lengths and counts are mostly one byte, and wrong by one or two is the cruellest.
    fn nudge_byte(&mut self, input: &mut [u8]) {
        let by = [1, 2, 254, 255][self.below(4) as usize];
        if let Some(byte) = self.byte_of(input) {
            *byte = byte.wrapping_add(by);
        }
    }

    fn write_boundary(&mut self, input: &mut Vec<u8>) {
        let value = *self.pick(BOUNDARIES);
        let width = [1, 2, 4, 8][self.below(4) as usize];
        let little = value.to_le_bytes();
        let mut bytes = little[..width].to_vec();
        if self.below(2) == 0 {
            bytes.reverse();
        }
        self.overwrite(input, &bytes);
    }

    /// Puts another number where a varint seems to begin, and leaves what follows where it was.
    fn replace_varint(&mut self, input: &mut Vec<u8>) {
        let start = self.position(input.len());
        let length =
            input[start..].iter().take(10).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let end = (start + length).min(input.len());
        let mut value = *self.pick(BOUNDARIES);
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        input.splice(start..end, bytes);
    }

    fn overwrite(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        let start = self.position(input.len());
        let end = (start + bytes.len()).min(input.len());
        input.splice(start..end, bytes.iter().copied());
    }

    fn insert(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        let start = self.position(input.len());
        input.splice(start..start, bytes.iter().copied());
    }

    fn delete_range(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.range(input.len());
        input.drain(start..end);
    }

    fn repeat_range(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.range(input.len());
        let piece = input[start..end].to_vec();
        for _ in 0..=self.below(4) {
            input.splice(end..end, piece.iter().copied());
        }
    }

    /// The head of this input and the tail of another.
    fn splice(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        if corpus.is_empty() {
            return;
        }
        let other = self.pick(corpus);
        let tail = self.position(other.len());
        input.truncate(self.position(input.len()));
        input.extend_from_slice(&other[tail..]);
    }

    fn noise(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn byte_of<'a>(&mut self, input: &'a mut [u8]) -> Option<&'a mut u8> {
        let length = input.len() as u64;
        if length == 0 { None } else { input.get_mut(self.below(length) as usize) }
    }

    /// A place in an input of that length, its end included.
    fn position(&mut self, length: usize) -> usize {
        self.below(length as u64 + 1) as usize
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let (one, other) = (self.position(length), self.position(length));
        (one.min(other), one.max(other))
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A number below the bound, which is not zero; the slight bias of the remainder does no harm here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
