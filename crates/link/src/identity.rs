//! The secret half of who we are: an Ed25519 key made on first use and kept in one PEM file.
//! This module makes and reads the text; the file itself belongs to the caller. The secret never shows
//! in `Debug`, errors or logs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use thiserror::Error;

use crate::PublicKey;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// The longest key file that is read; an Ed25519 key takes about 170 bytes.
pub const MAX_PEM_BYTES: usize = 4096;

/// Our own key pair.
pub struct Identity {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl Identity {
    /// Makes a new key from the system's randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| IdentityError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key file's text: one PEM block with an Ed25519 key in PKCS#8 (RFC 5958, RFC 8410),
    /// with or without the public half, as `generate` and OpenSSL write it.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_PEM_BYTES {
            return Err(IdentityError::TooLong);
        }
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if lines.next() != Some(PEM_BEGIN) {
            return Err(IdentityError::NotPem);
        }
        let mut base64 = String::new();
        loop {
            match lines.next() {
                Some(PEM_END) => break,
                Some(line) => base64.push_str(line),
                None => return Err(IdentityError::NotPem),
            }
        }
        if lines.next().is_some() {
            return Err(IdentityError::NotPem);
        }
        let pkcs8 = STANDARD.decode(base64).map_err(|_| IdentityError::NotPem)?;
        Self::from_pkcs8(&pkcs8)
    }

    /// The text of the key file. It is the secret: whoever reads it can be us.
    pub fn to_pem(&self) -> String {
        let base64 = STANDARD.encode(&self.pkcs8);
        let mut pem = format!("{PEM_BEGIN}\n");
        for line in base64.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str(PEM_END);
        pem.push('\n');
        pem
    }

    /// The half that peers know us by.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// The key in the form that the TLS stack reads.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|_| IdentityError::NotEd25519)?;
        let public = PublicKey(
            pair.public_key().as_ref().try_into().map_err(|_| IdentityError::NotEd25519)?,
        );
        Ok(Self { pair, pkcs8: pkcs8.to_vec(), public })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public.fingerprint())
    }
}

/// Why there is no identity. Nothing of the file's text is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The system gave no randomness.
    #[error("the system gave no randomness to make a key from")]
    NoRandomness,
    /// Longer than any key file.
    #[error("the key file is longer than {MAX_PEM_BYTES} bytes")]
    TooLong,
    /// Not exactly one PEM block.
    #[error("the key file is not one PEM block labelled PRIVATE KEY")]
    NotPem,
    /// PEM, but not an Ed25519 key in PKCS#8.
    #[error("the key file holds no Ed25519 key in PKCS#8 form")]
    NotEd25519,
}

impl IdentityError {
    /// What kind of failure it is.
    pub fn fault(&self) -> crate::Fault {
        match self {
            Self::NoRandomness => crate::Fault::Transient,
            Self::TooLong | Self::NotPem | Self::NotEd25519 => crate::Fault::Permanent,
        }
    }
}

#[cfg(test)]
mod tests;
