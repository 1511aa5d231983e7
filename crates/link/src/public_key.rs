//! The public half of an identity: an Ed25519 key, its fingerprint, its line of text, its DER.
//! The key is 32 bytes and nothing more; every reader here accepts exactly one spelling.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest;
use ring::signature::{ED25519, UnparsedPublicKey};
use thiserror::Error;

/// The word that a key line begins with.
pub const KEY_TYPE: &str = "haul-ed25519";

/// The longest key line that is read: a key, and a comment that somebody wrote by hand.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// What stands before the 32 key bytes in the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The length of such a SubjectPublicKeyInfo.
pub const SPKI_BYTES: usize = SPKI_PREFIX.len() + 32;

/// An Ed25519 public key: who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether `signature` over `message` was made by the holder of this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// The 32 bytes of the key (RFC 8032).
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint as ssh prints one: `SHA256:` and the unpadded base64 of the SHA-256 of the
    /// key in DER form.
    pub fn fingerprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.to_spki());
        format!("SHA256:{}", STANDARD_NO_PAD.encode(hash.as_ref()))
    }

    /// The key in base64, the second word of a key line.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads the second word of a key line.
    pub fn from_base64(text: &str) -> Result<Self, KeyLineError> {
        // 32 bytes are 44 characters; anything else is not decoded at all.
        if text.len() != 44 {
            return Err(KeyLineError::NotAKey);
        }
        let bytes = STANDARD.decode(text).map_err(|_| KeyLineError::NotAKey)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyLineError::NotAKey)?))
    }

    /// The line `haul-ed25519 <base64> comment`, without a line end. Characters that could forge a
    /// line or confuse a terminal become `_` in the comment.
    pub fn to_line(&self, comment: &str) -> String {
        let comment: String =
            comment.trim().chars().map(|c| if is_unprintable(c) { '_' } else { c }).collect();
        let line = format!("{KEY_TYPE} {} {comment}", self.to_base64());
        line.trim_end().to_owned()
    }

    /// Reads `haul-ed25519 <base64> comment` and gives the key and the comment.
    pub fn parse_line(line: &str) -> Result<(Self, String), KeyLineError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(KeyLineError::TooLong);
        }
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        let (kind, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if kind != KEY_TYPE {
            return Err(KeyLineError::OtherType);
        }
        let rest = rest.trim_start_matches([' ', '\t']);
        let (key, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let key = Self::from_base64(key)?;
        let comment = comment.trim_start_matches([' ', '\t']);
        if comment.chars().any(is_unprintable) {
            return Err(KeyLineError::ControlCharacter);
        }
        Ok((key, comment.to_owned()))
    }

    /// The key as SubjectPublicKeyInfo in DER (RFC 8410), which is what the handshake carries.
    pub fn to_spki(&self) -> [u8; SPKI_BYTES] {
        let mut spki = [0; SPKI_BYTES];
        spki[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
        spki[SPKI_PREFIX.len()..].copy_from_slice(&self.0);
        spki
    }

    /// Reads the DER form. DER has one spelling for an Ed25519 key, so all bytes but the key's are
    /// compared and not parsed.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let key = der.strip_prefix(&SPKI_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// Why a text is no key line. It does not repeat the text, which may hold control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyLineError {
    /// Longer than any honest line.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The first word is not `haul-ed25519`.
    #[error("the line does not begin with {KEY_TYPE}")]
    OtherType,
    /// The second word is not the base64 of 32 bytes.
    #[error("the key is not 32 bytes in base64")]
    NotAKey,
    /// The comment holds control characters or marks that change the direction of text.
    #[error("the comment holds control characters")]
    ControlCharacter,
}

/// Whether a character must not reach a file of lines or a terminal as it is: controls, and the marks
/// that reorder what is shown around them.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
