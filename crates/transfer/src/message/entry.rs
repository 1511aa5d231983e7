//! One entry of a tree as a source offers it: a single name below a parent that was offered before.
//! It carries no path of several components, so there is nothing in it that could climb.

use files::{Name, Timestamp};
use link::wire::{Decoder, Encoder, WireError};

use super::MAX_FILE_SIZE;

/// The longest target of a symbolic link: what Linux takes as a path.
const MAX_LINK_TARGET: usize = 4095;
/// The most bytes that all extended attributes of one entry may take.
pub const MAX_XATTRS: usize = 32 * 1024;

/// What any entry costs of the window, whatever it is.
pub const ENTRY_COST: usize = 256;

/// A folder, file or link that the source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; every entry of a transfer has a higher one than those before.
    pub index: u64,
    /// The folder it lies in: 0 is the target folder.
    pub parent: u64,
    /// Its name in that folder.
    pub name: Name,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with set-id and sticky bits as the source has them.
    pub mode: u32,
    /// When its content last changed.
    pub mtime: Timestamp,
    /// User and group, when the order asks for them.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes, when the order asks for them.
    pub xattrs: Vec<Xattr>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its name, such as `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder; its children follow, then Leave.
    Folder,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Whether it has holes that are to stay holes.
        sparse: bool,
        /// Whether hard links to it may follow.
        shared: bool,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, never interpreted.
        target: Vec<u8>,
    },
    /// A further name of a file that was offered before.
    HardLink {
        /// That file's index.
        to: u64,
        /// Its size, for when the link cannot be made and the content is needed.
        size: u64,
    },
}

impl Entry {
    /// The size of a file's content; nothing for other kinds.
    pub fn size(&self) -> Option<u64> {
        match self.kind {
            EntryKind::File { size, .. } | EntryKind::HardLink { size, .. } => Some(size),
            EntryKind::Folder | EntryKind::Symlink { .. } => None,
        }
    }

    /// Whether this is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == EntryKind::Folder
    }

    /// What the entry costs of the window while it is unfinished: about the memory that it takes at
    /// either end. `path_len` is the length of its path below folder 0, in offered names.
    pub fn cost(&self, path_len: usize) -> u64 {
        let kind = match &self.kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::Folder => 2 * path_len,
            _ => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|x| 32 + x.name.len() + x.value.len()).sum();
        (ENTRY_COST + self.name.as_bytes().len() + kind + xattrs) as u64
    }

    /// An upper bound of the bytes that this takes in a message.
    pub fn encoded_len(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink { target } => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|x| x.name.len() + x.value.len() + 6).sum();
        96 + self.name.as_bytes().len() + target + xattrs
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.varint(self.index).varint(self.parent).bytes(self.name.as_bytes());
        match &self.kind {
            EntryKind::Folder => {
                out.u8(0);
            }
            EntryKind::File { size, sparse, shared } => {
                out.u8(1).varint(*size).boolean(*sparse).boolean(*shared);
            }
            EntryKind::Symlink { target } => {
                out.u8(2).bytes(target);
            }
            EntryKind::HardLink { to, size } => {
                out.u8(3).varint(*to).varint(*size);
            }
        }
        out.varint(self.mode.into()).signed(self.mtime.seconds).varint(self.mtime.nanos.into());
        out.boolean(self.owner.is_some());
        if let Some((user, group)) = self.owner {
            out.varint(user.into()).varint(group.into());
        }
        out.varint(self.xattrs.len() as u64);
        for xattr in &self.xattrs {
            out.bytes(&xattr.name).bytes(&xattr.value);
        }
    }

    pub(super) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let index = input.varint("entry index")?;
        let parent = input.varint("parent index")?;
        if index == 0 || parent >= index {
            return Err(WireError::invalid("parent index"));
        }
        let name = Name::new(input.bytes("name", 255)?).map_err(|_| WireError::invalid("name"))?;
        let kind = decode_kind(input, index)?;
        let mode = input.varint_at_most("mode", 0o7777)? as u32;
        let mtime = decode_time(input)?;
        let owner = match input.boolean("owner")? {
            true => Some((
                input.varint_at_most("user", u32::MAX.into())? as u32,
                input.varint_at_most("group", u32::MAX.into())? as u32,
            )),
            false => None,
        };
        let mut xattrs = Vec::new();
        let mut room = MAX_XATTRS;
        for _ in 0..input.varint_at_most("xattrs", 1024)? {
            let name = input.bytes("xattr name", 255)?.to_vec();
            let value = input.bytes("xattr value", room)?.to_vec();
            if name.is_empty() || name.contains(&0) {
                return Err(WireError::invalid("xattr name"));
            }
            room = room
                .checked_sub(name.len() + value.len())
                .ok_or(WireError::invalid("xattr value"))?;
            xattrs.push(Xattr { name, value });
        }
        Ok(Self { index, parent, name, kind, mode, mtime, owner, xattrs })
    }
}

fn decode_kind(input: &mut Decoder, index: u64) -> Result<EntryKind, WireError> {
    Ok(match input.u8("entry kind")? {
        0 => EntryKind::Folder,
        1 => EntryKind::File {
            size: input.varint_at_most("file size", MAX_FILE_SIZE)?,
            sparse: input.boolean("sparse")?,
            shared: input.boolean("shared")?,
        },
        2 => {
            let target = input.bytes("link target", MAX_LINK_TARGET)?.to_vec();
            if target.is_empty() || target.contains(&0) {
                return Err(WireError::invalid("link target"));
            }
            EntryKind::Symlink { target }
        }
        3 => {
            let to = input.varint("hard link's index")?;
            if to == 0 || to >= index {
                return Err(WireError::invalid("hard link's index"));
            }
            EntryKind::HardLink { to, size: input.varint_at_most("file size", MAX_FILE_SIZE)? }
        }
        _ => return Err(WireError::invalid("entry kind")),
    })
}

pub(super) fn decode_time(input: &mut Decoder) -> Result<Timestamp, WireError> {
    Ok(Timestamp {
        seconds: input.signed("mtime seconds")?,
        nanos: input.varint_at_most("mtime nanoseconds", 999_999_999)? as u32,
    })
}
