//! The byte codec that messages are written with: fixed order, no tags, one way to write each value.
//! It is pure and knows no message. Every decoder call names the field it reads, so that an error says
//! which one was wrong, and no length read from the wire sizes a buffer before it was held against a cap.

use thiserror::Error;

/// The longest a LEB128 number of 64 bits can be.
pub const MAX_VARINT_BYTES: usize = 10;

/// Writes values one after another into a growing buffer.
#[derive(Debug, Default, Clone)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An encoder that has written nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.out.push(value);
        self
    }

    /// Writes a truth value as 0 or 1.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Writes an unsigned number as LEB128, seven bits to a byte, lowest first.
    pub fn varint(&mut self, value: u64) -> &mut Self {
        let mut rest = value;
        while rest >= 0x80 {
            self.out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
        self
    }

    /// Writes a signed number, zigzag first so that small negative numbers stay short.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)) as u64)
    }

    /// Writes a length and that many bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// Writes text as `bytes` of UTF-8.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Writes bytes whose number both sides know, without a length.
    pub fn array<const N: usize>(&mut self, value: &[u8; N]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads values one after another from a message.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder at the first byte of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Reads one byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        let (first, rest) =
            self.rest.split_first().ok_or(WireError { field, problem: WireProblem::EndsEarly })?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads a truth value; anything but 0 and 1 is refused.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError { field, problem: WireProblem::NotBoolean(other) }),
        }
    }

    /// Reads a LEB128 number; one written longer than it need be is refused, so that a message has
    /// one form only and its digest or signature cannot be dodged by writing it differently.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, WireError> {
        let mut value = 0u64;
        for index in 0..MAX_VARINT_BYTES {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the 64th bit alone.
            if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                return Err(WireError { field, problem: WireProblem::NumberTooLarge });
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    return Err(WireError { field, problem: WireProblem::NotCanonical });
                }
                return Ok(value);
            }
        }
        Err(WireError { field, problem: WireProblem::NumberTooLarge })
    }

    /// Reads a number and refuses one above `cap`, for counts and sizes that will be looped over.
    pub fn varint_at_most(&mut self, field: &'static str, cap: u64) -> Result<u64, WireError> {
        let value = self.varint(field)?;
        if value > cap {
            return Err(WireError { field, problem: WireProblem::AboveCap { value, cap } });
        }
        Ok(value)
    }

    /// Reads a zigzag number.
    pub fn signed(&mut self, field: &'static str) -> Result<i64, WireError> {
        let value = self.varint(field)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a length, which must not exceed `cap`, and that many bytes of the message.
    pub fn bytes(&mut self, field: &'static str, cap: usize) -> Result<&'a [u8], WireError> {
        let length = self.varint_at_most(field, cap as u64)?;
        let length = usize::try_from(length)
            .map_err(|_| WireError { field, problem: WireProblem::NumberTooLarge })?;
        self.take(field, length)
    }

    /// Reads `bytes` that must be UTF-8.
    pub fn text(&mut self, field: &'static str, cap: usize) -> Result<&'a str, WireError> {
        let bytes = self.bytes(field, cap)?;
        std::str::from_utf8(bytes).map_err(|_| WireError { field, problem: WireProblem::NotText })
    }

    /// Reads exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.take(field, N)?;
        Ok(bytes.try_into().expect("take gave N bytes"))
    }

    /// Ends the message; bytes that nobody asked for are refused.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(WireError { field: "end of message", problem: WireProblem::Trailing(self.rest.len()) })
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], WireError> {
        if length > self.rest.len() {
            return Err(WireError { field, problem: WireProblem::EndsEarly });
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }
}

/// A message that does not say what its kind must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("field {field}: {problem}")]
pub struct WireError {
    /// The field that was being read.
    pub field: &'static str,
    /// What was wrong with it.
    pub problem: WireProblem,
}

impl WireError {
    /// An error of a message's own making, for a value that decodes but must not be.
    pub fn invalid(field: &'static str) -> Self {
        Self { field, problem: WireProblem::Invalid }
    }

    /// Damaged or hostile bytes: the same message read again is as wrong.
    pub fn fault(&self) -> crate::Fault {
        crate::Fault::Corrupt
    }
}

/// What was wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireProblem {
    /// The message ends before the field does.
    #[error("the message ends early")]
    EndsEarly,
    /// A number was written longer than it need be.
    #[error("the number is not in its shortest form")]
    NotCanonical,
    /// A number does not fit in 64 bits.
    #[error("the number does not fit in 64 bits")]
    NumberTooLarge,
    /// A number or a length is above what the field may have.
    #[error("{value} is above the limit of {cap}")]
    AboveCap {
        /// What the message said.
        value: u64,
        /// What the field may have.
        cap: u64,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("{0} is neither 0 nor 1")]
    NotBoolean(u8),
    /// Text that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotText,
    /// The field decodes, and its value is one that it must not have.
    #[error("the value is not allowed")]
    Invalid,
    /// Bytes are left over.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

#[cfg(test)]
mod tests;
