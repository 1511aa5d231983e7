//! The key that makes a host a receiver, and the lines that are carried by hand between two hosts.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use link::{PublicKey, is_unprintable};
use ring::digest;
use thiserror::Error;

/// The word that a line begins with.
const LINE: &str = "haul-diode-1";

/// Bytes in a line's base64: two keys and an epoch.
const LINE_BYTES: usize = 32 + 32 + 8;

/// The longest line, with a name that somebody wrote.
const MAX_LINE_BYTES: usize = 1024;

/// The secret half: what opens the sessions that senders announce for us.
pub struct DiodeKey {
    secret: <X25519HkdfSha256 as hpke::Kem>::PrivateKey,
    public: DiodePublicKey,
}

impl DiodeKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Panics
    ///
    /// If the system gives none.
    pub fn generate() -> Self {
        let (secret, public) = X25519HkdfSha256::gen_keypair();
        Self { secret, public: DiodePublicKey(public.to_bytes().into()) }
    }

    /// Reads what [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        type Secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
        let secret = Secret::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
        let public = DiodePublicKey(X25519HkdfSha256::sk_to_pk(&secret).to_bytes().into());
        Ok(Self { secret, public })
    }

    /// The secret: whoever reads it can read what is sent to us.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.secret.to_bytes().into()
    }

    /// The half that senders know us by.
    pub fn public_key(&self) -> DiodePublicKey {
        self.public
    }

    /// Opens what was sealed for this key.
    pub(crate) fn open(
        &self,
        encapsulated: &[u8; 32],
        sealed: &[u8],
        info: &[u8],
    ) -> Option<Vec<u8>> {
        type Encapsulated = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;
        let encapsulated = Encapsulated::from_bytes(encapsulated).ok()?;
        hpke::single_shot_open::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.secret,
            &encapsulated,
            info,
            sealed,
            b"",
        )
        .ok()
    }
}

impl std::fmt::Debug for DiodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiodeKey({:?})", self.public)
    }
}

/// An X25519 public key (RFC 7748): for whom sessions are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiodePublicKey(pub [u8; 32]);

impl DiodePublicKey {
    /// Seals a message for the holder of this key, bound to `info` (RFC 9180, base mode): what it is encapsulated by,
    /// and the sealed message. None if this is no key.
    pub(crate) fn seal(&self, message: &[u8], info: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
        type Key = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
        let key = Key::from_bytes(&self.0).ok()?;
        let (encapsulated, sealed) = hpke::single_shot_seal::<
            AesGcm128,
            HkdfSha256,
            X25519HkdfSha256,
        >(&OpModeS::Base, &key, info, message, b"")
        .ok()?;
        Some((encapsulated.to_bytes().into(), sealed))
    }
}

/// What two hosts are told of each other by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustLine {
    /// What signs.
    pub identity: PublicKey,
    /// For whom sessions are sealed.
    pub receives: DiodePublicKey,
    /// As a sender it begins no session of a lower epoch.
    pub epoch: u64,
    /// Its name, for people.
    pub name: String,
}

/// Why a key or a line is none. The text is not repeated, which may hold control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Longer than any honest line.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The first word is another.
    #[error("the line does not begin with {LINE}")]
    OtherType,
    /// The second word is not base64 of two keys and an epoch.
    #[error("the line holds no two keys in base64")]
    NotAKey,
    /// The name holds characters that could forge a line or confuse a terminal.
    #[error("the name holds control characters")]
    ControlCharacter,
}

impl TrustLine {
    /// The line, without a line end. Characters that could forge a line become `_` in the name.
    pub fn to_line(&self) -> String {
        let bytes = self.to_bytes();
        let name: String =
            self.name.trim().chars().map(|c| if is_unprintable(c) { '_' } else { c }).collect();
        format!("{LINE} {} {name}", STANDARD.encode(bytes)).trim_end().to_owned()
    }

    fn to_bytes(&self) -> [u8; LINE_BYTES] {
        let mut bytes = [0; LINE_BYTES];
        bytes[..32].copy_from_slice(self.identity.as_bytes());
        bytes[32..64].copy_from_slice(&self.receives.0);
        bytes[64..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    /// What two people compare: `SHA256:` and the unpadded base64 of the SHA-256 of the first word, a blank, and the bytes
    /// of both keys and the epoch. The name is no part of it.
    pub fn fingerprint(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(LINE.as_bytes());
        hash.update(b" ");
        hash.update(&self.to_bytes());
        format!("SHA256:{}", STANDARD_NO_PAD.encode(hash.finish().as_ref()))
    }

    /// Reads such a line.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(KeyError::TooLong);
        }
        let line = line.trim();
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if kind != LINE {
            return Err(KeyError::OtherType);
        }
        let (keys, name) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        let bytes = STANDARD.decode(keys).map_err(|_| KeyError::NotAKey)?;
        let bytes: [u8; LINE_BYTES] = bytes.try_into().map_err(|_| KeyError::NotAKey)?;
        let name = name.trim().to_owned();
        if name.chars().any(is_unprintable) {
            return Err(KeyError::ControlCharacter);
        }
        let part = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        let epoch = u64::from_be_bytes(std::array::from_fn(|byte| bytes[64 + byte]));
        let receives = DiodePublicKey(part(32));
        // Some numbers are no keys, and a sender must not find that out later.
        receives.seal(b"", b"").ok_or(KeyError::NotAKey)?;
        Ok(Self { identity: PublicKey(part(0)), receives, epoch, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_bytes() {
        let key = DiodeKey::generate();
        let again = DiodeKey::from_bytes(&key.to_bytes()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert!(!format!("{key:?}").contains(&format!("{:?}", key.to_bytes())));
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_no_other() {
        let (identity, receives) = (PublicKey([3; 32]), DiodeKey::generate().public_key());
        let line = TrustLine { identity, receives, epoch: 1 << 41, name: "low side".to_owned() };
        let text = line.to_line();
        assert_eq!(TrustLine::parse(&text), Ok(line.clone()));
        assert_eq!(TrustLine::parse(&format!("  {text}\r\n")), Ok(line.clone()));
        // By hand: printf 'haul-diode-1 ' and the 72 bytes, through sha256sum and base64.
        let known = TrustLine { receives: DiodePublicKey([5; 32]), ..line.clone() };
        assert_eq!(known.fingerprint(), "SHA256:aM8aLjxQnm5kr8ffCZ4JA1IqH90MrOK2U2Et55DGLC8");
        for other in [
            TrustLine { identity: PublicKey([4; 32]), ..line.clone() },
            TrustLine { receives: DiodeKey::generate().public_key(), ..line.clone() },
            TrustLine { epoch: 1 << 40, ..line.clone() },
        ] {
            assert_ne!(other.fingerprint(), line.fingerprint());
        }
        let nameless = TrustLine { name: String::new(), ..line.clone() };
        assert_eq!(nameless.fingerprint(), line.fingerprint());
        assert_eq!(TrustLine::parse(&nameless.to_line()), Ok(nameless));
        let forged = TrustLine { name: "a\nhaul-diode-1".to_owned(), ..line.clone() };
        assert!(!forged.to_line().contains('\n'));
        assert_eq!(TrustLine::parse(&text.replace("-1 ", "-2 ")), Err(KeyError::OtherType));
        assert_eq!(TrustLine::parse(&text[..60]), Err(KeyError::NotAKey));
        let none = TrustLine { receives: DiodePublicKey([0; 32]), ..line.clone() };
        assert_eq!(TrustLine::parse(&none.to_line()), Err(KeyError::NotAKey));
        assert_eq!(TrustLine::parse(&format!("{text}\u{1b}[31m")), Err(KeyError::ControlCharacter));
        assert_eq!(TrustLine::parse(&" ".repeat(2000)), Err(KeyError::TooLong));
        assert_eq!(TrustLine::parse(""), Err(KeyError::OtherType));
    }
}
