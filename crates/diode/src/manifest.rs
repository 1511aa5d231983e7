//! Pages of a manifest: what a generation brings and removes, signed, each bound to the one before it.
//! A page that is read holds only paths that cannot climb out and numbers that can be true.

use files::{MAX_FILE_SIZE, Name, RelPath, Timestamp, is_reserved};
use link::{Identity, PublicKey};
use thiserror::Error;

const VERSION: u8 = 1;

/// What a page's signature is made over besides the epoch floor and the page.
const SIGNED: &[u8] = b"haul diode manifest";

/// Bytes before the entries, and of the signature behind them.
const HEAD: usize = 1 + 8 + 8 + 4 + 32;
const SIGNATURE: usize = 64;

/// The longest page, unpacked.
pub const MOST_PAGE: usize = 16 << 20;

/// The longest target of a symlink, and the longest value of an extended attribute.
const MOST_TARGET: usize = 4095;
const MOST_VALUE: usize = 65_536;

/// How many extended attributes an entry may have, and how many entries a page.
const MOST_XATTRS: usize = 256;
const MOST_ENTRIES: usize = 1 << 18;

/// A page: the entries are applied in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The generation that it is of, from 1.
    pub generation: u64,
    /// The generation that it builds on; 0 if the manifest is full, and what it does not name is removed.
    pub base: u64,
    /// Which page of the generation, from 0.
    pub page: u32,
    /// The BLAKE3 of the page before it as it was signed; zeros for page 0.
    pub before: [u8; 32],
    /// What is brought and removed.
    pub entries: Vec<Change>,
}

/// One entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder is there.
    Folder {
        /// Where.
        path: RelPath,
        /// Its attributes.
        attributes: Told,
    },
    /// A file is there.
    File {
        /// Where.
        path: RelPath,
        /// Its attributes.
        attributes: Told,
        /// Bytes.
        size: u64,
        /// The BLAKE3 of its content.
        digest: [u8; 32],
        /// The object that holds the content, and where in it that begins.
        object: u64,
        /// Where in the object the content begins.
        offset: u64,
    },
    /// A symbolic link is there.
    Symlink {
        /// Where.
        path: RelPath,
        /// When it was made.
        mtime: Timestamp,
        /// What it says; never followed by the receiver.
        target: Vec<u8>,
    },
    /// Another name of a file.
    HardLink {
        /// Where.
        path: RelPath,
        /// The file.
        file: RelPath,
    },
    /// A file, or a folder with all that is in it, has another path.
    Moved {
        /// The path before.
        from: RelPath,
        /// The path now.
        to: RelPath,
    },
    /// A file, or a folder with all that is in it, is gone.
    Removed {
        /// The path before.
        path: RelPath,
    },
}

/// What is told of a file or folder besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Permission bits, `0o7777`.
    pub mode: u16,
    /// When it was changed last.
    pub mtime: Timestamp,
    /// User and group, if they are told.
    pub owner: Option<(u32, u32)>,
    /// All extended attributes, name and value, if they are told.
    pub xattrs: Option<Vec<(Name, Vec<u8>)>>,
}

/// Why bytes are no page.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PageError {
    /// Longer than [`MOST_PAGE`], or too short for a head and a signature.
    #[error("a page of a manifest has {0} bytes")]
    Length(usize),
    /// The signature is not the sender's, or made for another epoch floor.
    #[error("a page of a manifest is not signed by its sender")]
    Signature,
    /// A generation that builds on itself or a later one, or a page that is bound to none.
    #[error("a page of a manifest does not say where it belongs")]
    Place,
    /// Of a version or with a kind of entry that we do not know.
    #[error("a page of a manifest has {what} {number}, which is not known")]
    Unknown {
        /// What is not known.
        what: &'static str,
        /// Its number.
        number: u8,
    },
    /// An entry ends after the page.
    #[error("entry {0} of a manifest's page is cut short")]
    Short(usize),
    /// An entry with something that cannot be.
    #[error("entry {entry} of a manifest's page has a wrong {what}")]
    Entry {
        /// Which entry, from 0.
        entry: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl Page {
    /// The page with its signature, which holds for receivers that know the sender by a line of this epoch. An error if no
    /// receiver would take it.
    pub fn sign(&self, identity: &Identity, floor: u64) -> Result<Vec<u8>, PageError> {
        let mut bytes = self.encode();
        if bytes.len() + SIGNATURE > MOST_PAGE {
            return Err(PageError::Length(bytes.len() + SIGNATURE));
        }
        Self::parse(&bytes)?;
        let signature = identity.sign(&signed(floor, &bytes));
        bytes.extend_from_slice(&signature);
        Ok(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.base.to_be_bytes());
        bytes.extend_from_slice(&self.page.to_be_bytes());
        bytes.extend_from_slice(&self.before);
        for entry in &self.entries {
            entry.encode(&mut bytes);
        }
        bytes
    }

    /// Reads a page that this sender has signed. Nothing of it is looked at before the signature fits.
    pub fn read(bytes: &[u8], sender: &PublicKey, floor: u64) -> Result<Self, PageError> {
        let length = PageError::Length(bytes.len());
        if bytes.len() > MOST_PAGE {
            return Err(length);
        }
        let (said, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(length)?;
        if !sender.verify(&signed(floor, said), signature) {
            return Err(PageError::Signature);
        }
        Self::parse(said)
    }

    fn parse(said: &[u8]) -> Result<Self, PageError> {
        let mut rest = Rest { bytes: said, entry: 0 };
        let head = said.first_chunk::<HEAD>().ok_or(PageError::Length(said.len()))?;
        if head[0] != VERSION {
            return Err(PageError::Unknown { what: "version", number: head[0] });
        }
        rest.take(1)?;
        let (generation, base) = (rest.u64()?, rest.u64()?);
        let (page, before) = (rest.u32()?, rest.array()?);
        if generation == 0 || base >= generation || (page == 0) != (before == [0; 32]) {
            return Err(PageError::Place);
        }
        let mut entries = Vec::new();
        while !rest.bytes.is_empty() {
            if rest.entry == MOST_ENTRIES {
                return Err(rest.wrong("number"));
            }
            entries.push(Change::read(&mut rest)?);
            rest.entry += 1;
        }
        Ok(Self { generation, base, page, before, entries })
    }

    /// What the next page of the generation is bound to.
    pub fn digest(bytes: &[u8]) -> [u8; 32] {
        blake3::hash(bytes).into()
    }
}

fn signed(floor: u64, bytes: &[u8]) -> Vec<u8> {
    [SIGNED, &floor.to_be_bytes(), bytes].concat()
}

impl Change {
    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Folder { path, attributes } => {
                bytes.push(1);
                put_short(path.as_bytes(), bytes);
                attributes.encode(bytes);
            }
            Self::File { path, attributes, size, digest, object, offset } => {
                bytes.push(2);
                put_short(path.as_bytes(), bytes);
                attributes.encode(bytes);
                bytes.extend_from_slice(&size.to_be_bytes());
                bytes.extend_from_slice(digest);
                bytes.extend_from_slice(&object.to_be_bytes());
                bytes.extend_from_slice(&offset.to_be_bytes());
            }
            Self::Symlink { path, mtime, target } => {
                bytes.push(3);
                put_short(path.as_bytes(), bytes);
                put_time(*mtime, bytes);
                put_short(target, bytes);
            }
            Self::HardLink { path, file } => {
                bytes.push(4);
                put_short(path.as_bytes(), bytes);
                put_short(file.as_bytes(), bytes);
            }
            Self::Moved { from, to } => {
                bytes.push(5);
                put_short(from.as_bytes(), bytes);
                put_short(to.as_bytes(), bytes);
            }
            Self::Removed { path } => {
                bytes.push(6);
                put_short(path.as_bytes(), bytes);
            }
        }
    }

    fn read(rest: &mut Rest<'_>) -> Result<Self, PageError> {
        let kind = rest.take(1)?[0];
        Ok(match kind {
            1 => Self::Folder { path: rest.path()?, attributes: Told::read(rest)? },
            2 => {
                let (path, attributes) = (rest.path()?, Told::read(rest)?);
                let (size, digest) = (rest.u64()?, rest.array()?);
                let (object, offset) = (rest.u64()?, rest.u64()?);
                if size > MAX_FILE_SIZE || offset.checked_add(size).is_none() {
                    return Err(rest.wrong("size"));
                }
                Self::File { path, attributes, size, digest, object, offset }
            }
            3 => {
                let (path, mtime) = (rest.path()?, rest.time()?);
                let target = rest.short()?;
                if !(1..=MOST_TARGET).contains(&target.len()) || target.contains(&0) {
                    return Err(rest.wrong("target"));
                }
                Self::Symlink { path, mtime, target: target.to_vec() }
            }
            4 => {
                let (path, file) = (rest.path()?, rest.path()?);
                if path == file {
                    return Err(rest.wrong("link"));
                }
                Self::HardLink { path, file }
            }
            5 => {
                let (from, to) = (rest.path()?, rest.path()?);
                if to.starts_with(&from) || from.starts_with(&to) {
                    return Err(rest.wrong("move"));
                }
                Self::Moved { from, to }
            }
            6 => Self::Removed { path: rest.path()? },
            number => return Err(PageError::Unknown { what: "an entry of kind", number }),
        })
    }
}

impl Told {
    /// Appends it as it stands in a page.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.mode.to_be_bytes());
        put_time(self.mtime, bytes);
        let xattrs = self.xattrs.as_ref();
        bytes.push(u8::from(self.owner.is_some()) | u8::from(xattrs.is_some()) << 1);
        if let Some((user, group)) = self.owner {
            bytes.extend_from_slice(&user.to_be_bytes());
            bytes.extend_from_slice(&group.to_be_bytes());
        }
        bytes.extend_from_slice(&(xattrs.map_or(0, Vec::len) as u16).to_be_bytes());
        for (name, value) in xattrs.into_iter().flatten() {
            put_short(name.as_bytes(), bytes);
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }

    /// Reads what [`Self::encode`] gave, and gives back what follows it.
    pub(crate) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = Rest { bytes, entry: 0 };
        let told = Self::read(&mut rest).ok()?;
        Some((told, rest.bytes))
    }

    fn read(rest: &mut Rest<'_>) -> Result<Self, PageError> {
        let mode = u16::from_be_bytes(rest.array()?);
        if mode > 0o7777 {
            return Err(rest.wrong("mode"));
        }
        let mtime = rest.time()?;
        let (has_owner, has_xattrs) = match rest.take(1)?[0] {
            what @ 0..4 => (what & 1 != 0, what & 2 != 0),
            _ => return Err(rest.wrong("owner")),
        };
        let owner = if has_owner { Some((rest.u32()?, rest.u32()?)) } else { None };
        let count = usize::from(u16::from_be_bytes(rest.array()?));
        if count > MOST_XATTRS || count > 0 && !has_xattrs {
            return Err(rest.wrong("number of attributes"));
        }
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let name = rest.short()?;
            let name = Name::new(name).map_err(|_| rest.wrong("attribute"))?;
            let length = rest.u32()? as usize;
            if length > MOST_VALUE {
                return Err(rest.wrong("attribute"));
            }
            xattrs.push((name, rest.take(length)?.to_vec()));
        }
        Ok(Self { mode, mtime, owner, xattrs: has_xattrs.then_some(xattrs) })
    }
}

/// Bytes with their length, u16, before them.
fn put_short(short: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(short.len() as u16).to_be_bytes());
    bytes.extend_from_slice(short);
}

fn put_time(time: Timestamp, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&time.seconds.to_be_bytes());
    bytes.extend_from_slice(&time.nanos.to_be_bytes());
}

/// What is left of a page, and the entry that is read.
struct Rest<'a> {
    bytes: &'a [u8],
    entry: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], PageError> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or(PageError::Short(self.entry))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PageError> {
        let (array, rest) =
            self.bytes.split_first_chunk::<N>().ok_or(PageError::Short(self.entry))?;
        self.bytes = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, PageError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, PageError> {
        self.array().map(u64::from_be_bytes)
    }

    fn short(&mut self) -> Result<&'a [u8], PageError> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }

    /// A path below the tree's root, none of whose names is our own.
    fn path(&mut self) -> Result<RelPath, PageError> {
        let path = RelPath::parse(self.short()?).map_err(|_| self.wrong("path"))?;
        if path.is_root() || path.names().any(|name| is_reserved(&name)) {
            return Err(self.wrong("path"));
        }
        Ok(path)
    }

    fn time(&mut self) -> Result<Timestamp, PageError> {
        let seconds = i64::from_be_bytes(self.array()?);
        Timestamp::new(seconds, self.u32()?).ok_or(self.wrong("time"))
    }

    fn wrong(&self, what: &'static str) -> PageError {
        PageError::Entry { entry: self.entry, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn page() -> Page {
        let mtime = Timestamp { seconds: -5, nanos: 999_999_999 };
        let xattrs = vec![(Name::new("user.note").unwrap(), b"\0\xff".to_vec())];
        let plain = Told { mode: 0o755, mtime, owner: None, xattrs: None };
        let none = Told { xattrs: Some(Vec::new()), ..plain.clone() };
        let told = Told { owner: Some((1000, 100)), xattrs: Some(xattrs), ..plain.clone() };
        let entries = vec![
            Change::Moved { from: path("old"), to: path("a/new") },
            Change::Folder { path: path("a"), attributes: plain },
            Change::Folder { path: path("b"), attributes: none },
            Change::File {
                path: path("a/b"),
                attributes: told,
                size: 1 << 40,
                digest: [7; 32],
                object: 12,
                offset: 99,
            },
            Change::Symlink { path: path("l"), mtime, target: b"../else/where".to_vec() },
            Change::HardLink { path: path("h"), file: path("a/b") },
            Change::Removed { path: RelPath::parse(b"gone \xff").unwrap() },
        ];
        Page { generation: 9, base: 8, page: 1, before: [1; 32], entries }
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let identity = Identity::generate().unwrap();
        let bytes = page().sign(&identity, 5).unwrap();
        assert_eq!(Page::read(&bytes, &identity.public_key(), 5), Ok(page()));
        let empty = Page { entries: Vec::new(), ..page() };
        let bytes = empty.sign(&identity, 5).unwrap();
        assert_eq!(Page::read(&bytes, &identity.public_key(), 5), Ok(empty));
    }

    #[test]
    fn nothing_that_was_changed_or_meant_for_others_is_accepted() {
        let identity = Identity::generate().unwrap();
        let sender = identity.public_key();
        let bytes = page().sign(&identity, 5).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Page::read(&flipped, &sender, 5), Err(PageError::Signature), "bit {bit}");
        }
        assert_eq!(Page::read(&bytes, &sender, 6), Err(PageError::Signature));
        let other = Identity::generate().unwrap().public_key();
        assert_eq!(Page::read(&bytes, &other, 5), Err(PageError::Signature));
    }

    #[test]
    fn no_page_is_signed_that_nobody_would_take() {
        let identity = Identity::generate().unwrap();
        let refused = |page: Page| page.sign(&identity, 0).unwrap_err();
        assert_eq!(refused(Page { base: 9, ..page() }), PageError::Place);
        assert_eq!(refused(Page { page: 0, ..page() }), PageError::Place);
        assert_eq!(refused(Page { before: [0; 32], ..page() }), PageError::Place);
        let entries = vec![Change::HardLink { path: path("a"), file: path("a") }];
        let wrong = |entry, what| PageError::Entry { entry, what };
        assert_eq!(refused(Page { entries, ..page() }), wrong(0, "link"));
        let entries = vec![Change::Removed { path: path("a") }; MOST_ENTRIES + 1];
        assert_eq!(refused(Page { entries, ..page() }), wrong(MOST_ENTRIES, "number"));
        let path = RelPath::parse(&[b'a'; 255]).unwrap();
        let entries = vec![Change::Removed { path }; MOST_PAGE / 256];
        assert!(matches!(refused(Page { entries, ..page() }), PageError::Length(_)));
    }

    /// What a sender that lies may still sign.
    #[test]
    fn what_is_signed_and_wrong_is_refused() {
        let identity = Identity::generate().unwrap();
        let read = |content: &[u8]| {
            let signature = identity.sign(&signed(0, content));
            Page::read(&[content, &signature].concat(), &identity.public_key(), 0)
        };
        let empty = Page { entries: Vec::new(), ..page() }.sign(&identity, 0).unwrap();
        let head = &empty[..HEAD];
        for length in 0..HEAD {
            assert!(read(&head[..length]).is_err(), "{length} bytes");
        }
        let whole = page().sign(&identity, 0).unwrap();
        let whole = &whole[..whole.len() - SIGNATURE];
        let ends: Vec<usize> = (0..=page().entries.len())
            .map(|count| {
                let entries = page().entries[..count].to_vec();
                Page { entries, ..page() }.sign(&identity, 0).unwrap().len() - SIGNATURE
            })
            .collect();
        for length in HEAD..whole.len() {
            let read = read(&whole[..length]);
            assert_eq!(read.is_ok(), ends.contains(&length), "{length} bytes: {read:?}");
        }
        let with = |entry: &[u8]| read(&[head, entry].concat());
        let named = |kind: u8, name: &[u8]| {
            let mut entry = vec![kind];
            put_short(name, &mut entry);
            entry
        };
        let wrong = |what| Err(PageError::Entry { entry: 0, what });
        for name in [&b""[..], b"/etc", b"..", b"a/../b", b"a//b", b"a\0", b"a/", &[b'a'; 256]] {
            assert_eq!(with(&named(6, name)), wrong("path"), "{name:?}");
        }
        assert_eq!(with(&named(6, files::STAGING_NAME.as_bytes())), wrong("path"));
        let mut inside = named(5, b"a");
        put_short(b"a/b", &mut inside);
        assert_eq!(with(&inside), wrong("move"));
        let unknown = Err(PageError::Unknown { what: "an entry of kind", number: 7 });
        assert_eq!(with(&named(7, b"a")), unknown);
        let mut folder = named(1, b"a");
        folder.extend([0x10, 0]);
        assert_eq!(with(&folder), wrong("mode"));
        let mut link = named(3, b"a");
        put_time(Timestamp { seconds: 0, nanos: 1_000_000_000 }, &mut link);
        assert_eq!(with(&link), wrong("time"));
    }
}
