//! The header of a frame, and the check that lets a reader believe a length before the payload is there.
//! The check keeps a reader from being led astray by noise; what proves a frame is the tag of its payload.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128, Block};

use crate::announce::MOST_ANNOUNCEMENT;

/// What every frame begins with.
pub const MARKER: [u8; 4] = [0x9d, 0x48, 0xb1, 0x7e];

/// Bytes of a header: the marker, what the check is made of, and the check.
pub const HEADER: usize = 24;

/// Bytes of the tag behind a sealed payload (AES-GCM).
pub const TAG: usize = 16;

/// The longest frame, with its header.
pub const MOST_FRAME: usize = 65_535;

/// A session has no more packets than this; then another begins. AES-GCM is far from its limits there, and whoever has a
/// session's keys cannot push its numbers to where none is left.
pub const MOST_PACKETS: u64 = 1 << 36;

const VERSION: u8 = 1;

/// What a frame is for. Lower ones go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Tells who speaks and how to read the others. It is not sealed.
    Announcement = 0,
    /// Heartbeats and ends of generations.
    Control = 1,
    /// Bytes of channels, which wait for no file.
    Stream = 2,
    /// Pages of manifests.
    Page = 3,
    /// Files that are new or have changed.
    New = 4,
    /// Files of a first pass over a tree.
    Bulk = 5,
    /// What went across before.
    Repeat = 6,
    /// To be thrown away.
    Filler = 7,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Announcement,
        Self::Control,
        Self::Stream,
        Self::Page,
        Self::New,
        Self::Bulk,
        Self::Repeat,
        Self::Filler,
    ];
}

/// A header whose marker, version and length are possible. Whether it is true says [`Header::is_checked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub class: Class,
    /// Bytes behind the header, with the tag.
    pub length: u16,
    /// The first bytes of the session's id.
    pub session: [u8; 4],
    /// The number of the packet in its session.
    pub number: u64,
}

impl Header {
    /// The header's bytes, with their check.
    pub fn encode(&self, check: &Check) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4] = VERSION << 4 | self.class as u8;
        bytes[6..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.session);
        bytes[12..20].copy_from_slice(&self.number.to_be_bytes());
        let check = check.of(&bytes);
        bytes[20..].copy_from_slice(&check);
        bytes
    }

    /// Reads a header: None for another marker, version or class, and for a length or a number that no frame has.
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let version = bytes[4] >> 4;
        if bytes[..4] != MARKER || version != VERSION || bytes[5] != 0 {
            return None;
        }
        let class = *Class::ALL.get(usize::from(bytes[4] & 0x0f))?;
        let length = u16::from_be_bytes([bytes[6], bytes[7]]);
        // The check of announcements is no secret, so what it makes one believe is little.
        let lengths = match class {
            Class::Announcement => 1..=MOST_ANNOUNCEMENT,
            _ => TAG..=MOST_FRAME - HEADER,
        };
        if !lengths.contains(&usize::from(length)) {
            return None;
        }
        let session = [bytes[8], bytes[9], bytes[10], bytes[11]];
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[12..20]);
        let number = u64::from_be_bytes(number);
        (number < MOST_PACKETS).then_some(Self { class, length, session, number })
    }

    /// Whether the check of these bytes was made with this key.
    pub fn is_checked(bytes: &[u8; HEADER], check: &Check) -> bool {
        check.of(bytes) == bytes[20..]
    }

    /// Bytes of the whole frame.
    pub fn frame_length(&self) -> usize {
        HEADER + usize::from(self.length)
    }
}

/// The key of a check.
pub struct Check(Aes128);

impl Check {
    /// From a session's header key.
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        Self(Aes128::new(&(*key).into()))
    }

    /// The one of announcements, which whoever knows the sender's public key can compute: it keeps noise out,
    /// and nobody else.
    pub fn of_announcements(sender: &link::PublicKey) -> Self {
        let key = blake3::derive_key("haul diode announcement", sender.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&key[..16]);
        Self::new(&short)
    }

    /// The first bytes of AES-128 over bytes 4 to 19 of a header.
    fn of(&self, header: &[u8; HEADER]) -> [u8; 4] {
        let mut block = [0; 16];
        block.copy_from_slice(&header[4..20]);
        let mut block = Block::from(block);
        self.0.encrypt_block(&mut block);
        [block[0], block[1], block[2], block[3]]
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Check")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { class: Class::Bulk, length: 1100, session: [1, 2, 3, 4], number: 0x0102_0304 }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let check = Check::new(&[7; 16]);
        for class in Class::ALL {
            let header = Header { class, ..header() };
            let bytes = header.encode(&check);
            assert_eq!(Header::read(&bytes), Some(header));
            assert!(Header::is_checked(&bytes, &check));
            assert!(!Header::is_checked(&bytes, &Check::new(&[8; 16])));
        }
    }

    #[test]
    fn no_flipped_bit_passes_the_check() {
        let check = Check::new(&[7; 16]);
        let bytes = header().encode(&check);
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = Header::read(&flipped).is_some() && Header::is_checked(&flipped, &check);
            assert!(!read, "bit {bit}");
        }
    }

    #[test]
    fn the_check_is_a_block_of_aes() {
        // FIPS 197, appendix C.1.
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let mut header = [0; HEADER];
        for (at, byte) in header[4..20].iter_mut().enumerate() {
            *byte = (at * 0x11) as u8;
        }
        assert_eq!(Check::new(&key).of(&header), [0x69, 0xc4, 0xe0, 0xd8]);
    }

    #[test]
    fn lengths_that_no_frame_has_are_refused() {
        let check = Check::new(&[7; 16]);
        let read = |class, length| {
            Header::read(&Header { class, length, ..header() }.encode(&check)).is_some()
        };
        assert!(!read(Class::Control, 15) && read(Class::Control, 16));
        assert!(!read(Class::Announcement, 0) && read(Class::Announcement, 1));
        assert!(read(Class::Announcement, 1147) && !read(Class::Announcement, 1148));
        let late = Header { number: MOST_PACKETS, ..header() }.encode(&check);
        assert_eq!(Header::read(&late), None);
        assert!(read(Class::Bulk, 65_511) && !read(Class::Bulk, 65_512));
    }
}
