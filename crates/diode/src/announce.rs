//! Announcements: what a sender says each second so that a receiver which has just begun, or begun again, can read
//! the rest. The session's secret is sealed for each receiver; the signature says who speaks. Whoever steals a
//! receiver's key can read, and spoil what other receivers get, but publish nothing there: manifests are signed.

use link::{Identity, PublicKey};
use thiserror::Error;

use crate::frame::Header;
use crate::key::{DiodeKey, DiodePublicKey};
use crate::session::{SessionId, SessionSecret};

const VERSION: u8 = 1;

/// The version of one for a session whose payloads are neither encrypted nor authenticated.
const PLAIN: u8 = 2;

/// What a signature is made over besides the announcement.
const SIGNED: &[u8] = b"haul diode announcement";

/// Bytes before the parts, of a part, and of the signature.
const HEAD: usize = 1 + 16 + 8 + 32 + 8 + 8;
const PART: usize = 4 + 32 + 48;
const SIGNATURE: usize = 64;

/// So many receivers fit one announcement, which fits a datagram.
pub const MOST_RECEIVERS: usize = 12;

/// Bytes of the longest announcement.
pub const MOST_ANNOUNCEMENT: usize = HEAD + 2 + MOST_RECEIVERS * PART + SIGNATURE;

/// An announcement whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The session.
    pub id: SessionId,
    /// Larger than that of every session of this sender before.
    pub epoch: u64,
    /// Who speaks.
    pub sender: PublicKey,
    /// The sender's clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// The number of the packet that it is in.
    pub number: u64,
    /// Whether the session's payloads are neither encrypted nor authenticated.
    pub is_plain: bool,
    /// What the parts are bound to.
    info: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    hint: [u8; 4],
    encapsulated: [u8; 32],
    sealed: [u8; 48],
}

/// Why an announcement is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnnouncementError {
    /// Its length is not what it says.
    #[error("the announcement is cut short or too long")]
    Length,
    /// Of a version that we do not know.
    #[error("the announcement has version {0}, and we know only {VERSION}")]
    Version(u8),
    /// The signature is not the sender's.
    #[error("the announcement is not signed by who it says")]
    Signature,
    /// A receiver's key is no key.
    #[error("a receiver's key is no X25519 key")]
    ReceiverKey,
}

/// What all receivers are told of a session: one announcement for each dozen of them, for the packets from `number` on.
pub fn announce(
    identity: &Identity,
    (id, secret): (SessionId, &SessionSecret),
    epoch: u64,
    time_ms: u64,
    number: u64,
    receivers: &[DiodePublicKey],
) -> Result<Vec<Vec<u8>>, AnnouncementError> {
    announce_as(VERSION, identity, (id, secret), (epoch, time_ms, number), receivers)
}

/// The same, of a session whose payloads are neither encrypted nor authenticated.
pub(crate) fn announce_plain(
    identity: &Identity,
    session: (SessionId, &SessionSecret),
    epoch: u64,
    time_ms: u64,
    number: u64,
    receivers: &[DiodePublicKey],
) -> Result<Vec<Vec<u8>>, AnnouncementError> {
    announce_as(PLAIN, identity, session, (epoch, time_ms, number), receivers)
}

fn announce_as(
    version: u8,
    identity: &Identity,
    (id, secret): (SessionId, &SessionSecret),
    (epoch, time_ms, number): (u64, u64, u64),
    receivers: &[DiodePublicKey],
) -> Result<Vec<Vec<u8>>, AnnouncementError> {
    receivers
        .chunks(MOST_RECEIVERS)
        .zip(number..)
        .map(|(some, number)| {
            let mut bytes = vec![version];
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&epoch.to_be_bytes());
            bytes.extend_from_slice(identity.public_key().as_bytes());
            bytes.extend_from_slice(&time_ms.to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
            let info = bytes.clone();
            bytes.extend_from_slice(&(some.len() as u16).to_be_bytes());
            for receiver in some {
                let sealed = receiver.seal(&secret.0, &info);
                let (encapsulated, sealed) = sealed.ok_or(AnnouncementError::ReceiverKey)?;
                bytes.extend_from_slice(&receiver.0[..4]);
                bytes.extend_from_slice(&encapsulated);
                bytes.extend_from_slice(&sealed);
            }
            let signature = identity.sign(&[SIGNED, &bytes].concat());
            bytes.extend_from_slice(&signature);
            Ok(bytes)
        })
        .collect()
}

impl Announcement {
    /// Reads an announcement that this sender has signed. Nothing of it is looked at before the signature fits.
    pub fn read(bytes: &[u8], sender: &PublicKey) -> Result<Self, AnnouncementError> {
        let (said, signature) =
            bytes.split_last_chunk::<SIGNATURE>().ok_or(AnnouncementError::Length)?;
        if !sender.verify(&[SIGNED, said].concat(), signature) {
            return Err(AnnouncementError::Signature);
        }
        let version = *said.first().ok_or(AnnouncementError::Length)?;
        if !matches!(version, VERSION | PLAIN) {
            return Err(AnnouncementError::Version(version));
        }
        let (info, rest) = said.split_at_checked(HEAD).ok_or(AnnouncementError::Length)?;
        let (count, parts) = rest.split_first_chunk::<2>().ok_or(AnnouncementError::Length)?;
        if parts.len() != usize::from(u16::from_be_bytes(*count)) * PART {
            return Err(AnnouncementError::Length);
        }
        if info[25..57] != *sender.as_bytes() {
            return Err(AnnouncementError::Signature);
        }
        let number = |at: usize| u64::from_be_bytes(array(&info[at..]));
        let parts = parts.chunks_exact(PART).map(|part| Part {
            hint: array(part),
            encapsulated: array(&part[4..]),
            sealed: array(&part[36..]),
        });
        Ok(Self {
            id: SessionId(array(&info[1..])),
            epoch: number(17),
            sender: *sender,
            time_ms: number(57),
            number: number(65),
            is_plain: version == PLAIN,
            info: info.to_vec(),
            parts: parts.collect(),
        })
    }

    /// Whether it stands in the packet for which it was made.
    pub fn is_in(&self, header: &Header) -> bool {
        header.number == self.number && header.session == self.id.short()
    }

    /// The session's secret, if it was sealed for this receiver.
    pub fn open(&self, key: &DiodeKey) -> Option<SessionSecret> {
        let mine = self.parts.iter().filter(|part| part.hint == key.public_key().0[..4]);
        mine.filter_map(|part| key.open(&part.encapsulated, &part.sealed, &self.info))
            .find_map(|secret| Some(SessionSecret(secret.try_into().ok()?)))
    }
}

/// The first bytes of a slice that is long enough.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("lengths were checked before")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(count: usize) -> (Identity, SessionSecret, Vec<DiodeKey>, Vec<Vec<u8>>) {
        let identity = Identity::generate().unwrap();
        let (id, secret) = SessionSecret::generate().unwrap();
        let keys: Vec<_> = (0..count).map(|_| DiodeKey::generate()).collect();
        let public: Vec<_> = keys.iter().map(DiodeKey::public_key).collect();
        let said = announce(&identity, (id, &secret), 9, 1_700_000_000_000, 40, &public).unwrap();
        (identity, secret, keys, said)
    }

    #[test]
    fn each_receiver_opens_its_part_and_nobody_else_any() {
        let (identity, secret, keys, said) = announced(14);
        assert_eq!(said.iter().map(Vec::len).collect::<Vec<_>>(), [1147, 307]);
        for (nth, key) in keys.iter().enumerate() {
            for (at, bytes) in said.iter().enumerate() {
                let read = Announcement::read(bytes, &identity.public_key()).unwrap();
                assert_eq!((read.epoch, read.number), (9, 40 + at as u64));
                assert_eq!(read.time_ms, 1_700_000_000_000);
                let expected = (at == nth / MOST_RECEIVERS).then(|| secret.clone());
                assert_eq!(read.open(key), expected, "receiver {nth}");
            }
        }
        let read = Announcement::read(&said[0], &identity.public_key()).unwrap();
        assert_eq!(read.open(&DiodeKey::generate()), None);
    }

    #[test]
    fn nothing_that_was_changed_is_accepted() {
        let (identity, _, _, said) = announced(2);
        let sender = identity.public_key();
        let bytes = &said[0];
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Announcement::read(&flipped, &sender), Err(AnnouncementError::Signature));
        }
        for length in 0..bytes.len() {
            assert!(Announcement::read(&bytes[..length], &sender).is_err(), "{length} bytes");
        }
        let other = Identity::generate().unwrap();
        let forged = Announcement::read(bytes, &other.public_key());
        assert_eq!(forged, Err(AnnouncementError::Signature));
    }

    /// What a holder of the sender's key may still get wrong.
    #[test]
    fn what_is_signed_and_wrong_is_refused() {
        let identity = Identity::generate().unwrap();
        let (_, _, _, said) = announced(1);
        let signed = |bytes: &[u8]| {
            let signature = identity.sign(&[SIGNED, bytes].concat());
            Announcement::read(&[bytes, &signature].concat(), &identity.public_key())
        };
        let body = &said[0][..said[0].len() - SIGNATURE];
        // It names another sender than the one who signed it.
        assert_eq!(signed(body), Err(AnnouncementError::Signature));
        let mut body = body.to_vec();
        body[25..57].copy_from_slice(identity.public_key().as_bytes());
        assert!(signed(&body).is_ok());
        assert_eq!(signed(&body[..body.len() - 1]), Err(AnnouncementError::Length));
        assert_eq!(signed(&[&body[..], &[0]].concat()), Err(AnnouncementError::Length));
        assert_eq!(signed(&[]), Err(AnnouncementError::Length));
        assert!(!signed(&body).unwrap().is_plain);
        body[0] = 2;
        assert!(signed(&body).unwrap().is_plain);
        body[0] = 3;
        assert_eq!(signed(&body), Err(AnnouncementError::Version(3)));
    }
}
