//! A session's keys, and frames sealed and opened with them.
//! A frame is bound to its session and its number: moved to another place it does not open.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;

use crate::announce::MOST_ANNOUNCEMENT;
use crate::frame::{Check, Class, HEADER, Header, MOST_FRAME, MOST_PACKETS, TAG};

/// What tells a session from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// What the header of its frames holds of it.
    pub fn short(&self) -> [u8; 4] {
        [self.0[0], self.0[1], self.0[2], self.0[3]]
    }
}

/// What only a sender and its receivers know: 32 bytes from which the keys of a session follow.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(pub(crate) [u8; 32]);

impl SessionSecret {
    /// A new session by the system's randomness; None if it gives none.
    pub(crate) fn generate() -> Option<(SessionId, Self)> {
        let (mut id, mut secret) = ([0; 16], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).ok()?;
        Some((SessionId(id), Self(secret)))
    }

    fn keys(&self, id: SessionId) -> Keys {
        let secret = Salt::new(HKDF_SHA256, &id.0).extract(&self.0);
        let (mut data, mut nonce, mut header) = ([0; 32], [0; 12], [0; 16]);
        let expand = |info: &[u8], into: &mut [u8]| {
            let length = Length(into.len());
            let info = [info];
            let bytes = secret.expand(&info, length).expect("it is shorter than 255 hashes");
            bytes.fill(into).expect("the length is the same");
        };
        expand(b"haul diode data", &mut data);
        expand(b"haul diode nonce", &mut nonce);
        expand(b"haul diode header", &mut header);
        let data = UnboundKey::new(&AES_256_GCM, &data).expect("an AES-256 key has 32 bytes");
        Keys {
            data: LessSafeKey::new(data),
            nonce,
            check: Check::new(&header),
            id,
            is_plain: false,
        }
    }
}

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret")
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

struct Keys {
    data: LessSafeKey,
    nonce: [u8; 12],
    check: Check,
    id: SessionId,
    /// Payloads are neither encrypted nor authenticated.
    is_plain: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.id)
    }
}

impl Keys {
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.nonce;
        for (byte, mixed) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= mixed;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Why a payload cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// A frame holds no more than [`MOST_FRAME`] bytes.
    #[error("a payload of {0} bytes fits no frame")]
    TooLong(usize),
    /// Announcements are signed and not sealed: see [`Sealer::announce`].
    #[error("an announcement is not sealed")]
    Announcement,
    /// The session has sent all that it may; another must begin.
    #[error("the session has sent all packets that it may")]
    Exhausted,
}

/// Makes the frames of a session, each with a number of its own.
#[derive(Debug)]
pub struct Sealer {
    keys: Keys,
    next: u64,
    sealed: u64,
}

impl Sealer {
    /// Begins a session, with what its receivers are to be told of it. None if the system gives no randomness. There is no
    /// other way to one, since two of a session would use its numbers twice.
    pub fn begin() -> Option<(Self, SessionId, SessionSecret)> {
        let (id, secret) = SessionSecret::generate()?;
        Some((Self::of(id, &secret), id, secret))
    }

    /// Such a session, from its first packet on.
    pub(crate) fn of(id: SessionId, secret: &SessionSecret) -> Self {
        Self { keys: secret.keys(id), next: 0, sealed: 0 }
    }

    /// As [`Self::begin`], with payloads that are neither encrypted nor authenticated. For measurements only.
    pub(crate) fn begin_plain() -> Option<(Self, SessionId, SessionSecret)> {
        let (mut sealer, id, secret) = Self::begin()?;
        sealer.keys.is_plain = true;
        Some((sealer, id, secret))
    }

    /// The number of the next packet.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// How many packets there were.
    pub(crate) fn sealed(&self) -> u64 {
        self.sealed
    }

    /// As if all numbers below this one had been used.
    pub(crate) fn skip_to(&mut self, number: u64) {
        self.next = self.next.max(number);
    }

    /// Appends a frame with this payload.
    pub fn seal(
        &mut self,
        class: Class,
        payload: &[u8],
        frames: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.seal_parts(class, &[payload], frames)
    }

    /// Appends a frame whose payload is these parts, one behind the other.
    pub fn seal_parts(
        &mut self,
        class: Class,
        parts: &[&[u8]],
        frames: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + TAG;
        if length > MOST_FRAME - HEADER {
            return Err(SealError::TooLong(length - TAG));
        }
        if class == Class::Announcement {
            return Err(SealError::Announcement);
        }
        let header = self.header(class, length)?;
        frames.reserve(HEADER + length);
        frames.extend_from_slice(&header);
        let start = frames.len();
        parts.iter().for_each(|part| frames.extend_from_slice(part));
        if self.keys.is_plain {
            frames.extend_from_slice(&[0; TAG]);
            return Ok(());
        }
        // The number is in the header and never comes again.
        let number = self.next - 1;
        let tag = self.keys.data.seal_in_place_separate_tag(
            self.keys.nonce(number),
            Aad::from(&header[..]),
            &mut frames[start..],
        );
        frames.extend_from_slice(tag.expect("it is shorter than 64 GiB").as_ref());
        Ok(())
    }

    /// Appends an announcement, which is not sealed.
    pub fn announce(
        &mut self,
        announcement: &[u8],
        check: &Check,
        frames: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if announcement.len() > MOST_ANNOUNCEMENT {
            return Err(SealError::TooLong(announcement.len()));
        }
        let length = announcement.len() as u16;
        let header = self.next_header(Class::Announcement, length)?;
        frames.extend_from_slice(&header.encode(check));
        frames.extend_from_slice(announcement);
        Ok(())
    }

    fn header(&mut self, class: Class, length: usize) -> Result<[u8; HEADER], SealError> {
        let header = self.next_header(class, length as u16)?;
        Ok(header.encode(&self.keys.check))
    }

    fn next_header(&mut self, class: Class, length: u16) -> Result<Header, SealError> {
        if self.next >= MOST_PACKETS {
            return Err(SealError::Exhausted);
        }
        let header = Header { class, length, session: self.keys.id.short(), number: self.next };
        self.next += 1;
        self.sealed += 1;
        Ok(header)
    }
}

/// Opens the frames of a session.
#[derive(Debug)]
pub struct Opener {
    keys: Keys,
}

impl Opener {
    /// For a session whose announcement was accepted.
    pub fn new(id: SessionId, secret: &SessionSecret) -> Self {
        Self { keys: secret.keys(id) }
    }

    /// For a session that was announced as plain, which is to be taken only where somebody has asked for that.
    pub(crate) fn plain(id: SessionId, secret: &SessionSecret) -> Self {
        let mut opener = Self::new(id, secret);
        opener.keys.is_plain = true;
        opener
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.keys.id
    }

    /// Whether a header belongs to this session and its length may be believed.
    pub fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool {
        header.class != Class::Announcement
            && header.session == self.keys.id.short()
            && Header::is_checked(bytes, &self.keys.check)
    }

    /// The payload of a frame, in place; None if it is not what the sender has sealed under this number. The
    /// bytes are spoiled then.
    pub fn open<'a>(&self, header: &Header, frame: &'a mut [u8]) -> Option<&'a mut [u8]> {
        if frame.len() != header.frame_length() {
            return None;
        }
        let (head, sealed) = frame.split_at_mut(HEADER);
        if self.keys.is_plain {
            // No tag covers the header here.
            let is_ours = head.first_chunk().is_some_and(|head| self.believes(header, head));
            let length = sealed.len().checked_sub(TAG).filter(|_| is_ours)?;
            return Some(&mut sealed[..length]);
        }
        let aad = Aad::from(&*head);
        self.keys.data.open_in_place(self.keys.nonce(header.number), aad, sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> (Sealer, Opener) {
        let (sealer, id, secret) = Sealer::begin().unwrap();
        (sealer, Opener::new(id, &secret))
    }

    fn open(opener: &Opener, frame: &[u8]) -> Option<(Header, Vec<u8>)> {
        let bytes: [u8; HEADER] = frame.get(..HEADER)?.try_into().unwrap();
        let header = Header::read(&bytes).filter(|header| opener.believes(header, &bytes))?;
        let mut frame = frame.to_vec();
        let payload = opener.open(&header, &mut frame)?.to_vec();
        Some((header, payload))
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let (mut sealer, opener) = session();
        let mut frames = Vec::new();
        sealer.seal(Class::New, b"first", &mut frames).unwrap();
        let first = frames.len();
        sealer.seal(Class::Filler, b"", &mut frames).unwrap();
        let (header, payload) = open(&opener, &frames[..first]).unwrap();
        assert_eq!((header.number, header.class, &payload[..]), (0, Class::New, &b"first"[..]));
        let (header, payload) = open(&opener, &frames[first..]).unwrap();
        assert_eq!((header.number, header.class, &payload[..]), (1, Class::Filler, &b""[..]));
        for bit in 0..first * 8 {
            let mut flipped = frames[..first].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&opener, &flipped).is_none(), "bit {bit}");
        }
        for length in 0..first {
            assert!(open(&opener, &frames[..length]).is_none(), "{length} bytes");
        }
        // The head of one with the body of another.
        let mut spliced = frames[..HEADER].to_vec();
        spliced.extend_from_slice(&frames[first + HEADER..]);
        assert!(open(&opener, &spliced).is_none());
        let (_, other) = session();
        assert!(open(&other, &frames[..first]).is_none());
    }

    #[test]
    fn what_is_plain_opens_only_for_who_takes_it_for_plain() {
        let (mut sealer, id, secret) = Sealer::begin_plain().unwrap();
        let mut frame = Vec::new();
        sealer.seal(Class::New, b"in the clear", &mut frame).unwrap();
        assert_eq!(frame[HEADER..][..12], *b"in the clear");
        assert!(open(&Opener::new(id, &secret), &frame).is_none());
        let plain = Opener::plain(id, &secret);
        assert_eq!(open(&plain, &frame).unwrap().1, b"in the clear");
        // The header is checked all the same, and what is sealed is nothing that is plain.
        for byte in 4..HEADER {
            let mut flipped = frame.clone();
            flipped[byte] ^= 1;
            assert!(open(&plain, &flipped).is_none(), "byte {byte}");
        }
        let (mut sealer, id, secret) = Sealer::begin().unwrap();
        let mut frame = Vec::new();
        sealer.seal(Class::New, b"secret", &mut frame).unwrap();
        assert_ne!(open(&Opener::plain(id, &secret), &frame).unwrap().1, b"secret");
    }

    #[test]
    fn a_session_ends_before_its_numbers_do() {
        let (mut sealer, _) = session();
        sealer.next = MOST_PACKETS - 1;
        let mut frames = Vec::new();
        sealer.seal(Class::Filler, b"", &mut frames).unwrap();
        assert_eq!(sealer.seal(Class::Filler, b"", &mut frames), Err(SealError::Exhausted));
        let sealed = sealer.seal(Class::Announcement, b"", &mut frames);
        assert_eq!(sealed, Err(SealError::Announcement));
        let long = vec![0; MOST_FRAME - HEADER - TAG + 1];
        assert_eq!(sealer.seal(Class::Bulk, &long, &mut frames), Err(SealError::TooLong(65_496)));
    }
}
