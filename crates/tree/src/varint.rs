//! Numbers in as few bytes as they need (LEB128; signed ones zigzag), and a reader of what was written
//! so. Pure; a reader answers `None` to what it cannot read, whatever the bytes.

/// Appends a number, seven bits to a byte, the least significant first.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; those near zero are short, whatever their sign.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value.wrapping_shl(1) ^ (value >> 63)) as u64);
}

/// Reads from the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that must fit the type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut numbers: Vec<u64> = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1]).collect();
        numbers.push(u64::MAX);
        let mut bytes = Vec::new();
        for &number in &numbers {
            put(&mut bytes, number);
            put_signed(&mut bytes, number as i64);
        }
        let mut reader = Reader(&bytes);
        for &number in &numbers {
            assert_eq!(reader.number(), Some(number));
            assert_eq!(reader.signed(), Some(number as i64));
        }
        assert_eq!((reader.number(), reader.byte(), reader.bytes(1)), (None, None, None));
    }

    #[test]
    fn small_numbers_are_short_whatever_their_sign() {
        for value in [-64, -1, 0, 63] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, value);
            assert_eq!(bytes.len(), 1, "{value}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in [&b""[..], b"\x80", &[0x80; 11], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"] {
            assert_eq!(Reader(bytes).number(), None, "{bytes:?}");
        }
        assert_eq!(Reader(b"\x80\x02").small::<u8>(), None);
        assert_eq!(Reader(b"\xff\x01").small::<u8>(), Some(255));
    }
}
