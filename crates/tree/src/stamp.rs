//! What is remembered of an entry, and what a change of it means. Pure: the stamps come from the disk,
//! the comparison and the bytes they are stored as are decided here.
//!
//! Neither the number of the filesystem nor, alone, that of the inode decides anything: the first
//! changes over a reboot on many machines, the second on some network filesystems.

use files::{Attributes, Kind, RelPath, Timestamp};

use crate::varint::{Reader, put, put_signed};

/// The attributes of an entry by which a change of it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What the entry is.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky, `0o7777`.
    pub mode: u32,
    /// When the content last changed, as far as its owner says.
    pub mtime: Timestamp,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many names the inode has.
    pub links: u64,
    /// The filesystem.
    pub device: u64,
    /// The inode on that filesystem.
    pub inode: u64,
    /// When the inode last changed; set by the kernel alone.
    pub ctime: Timestamp,
}

/// What is known of an entry: how it was when it was last taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its attributes then.
    pub stamp: Stamp,
    /// Where it pointed, for symbolic links.
    pub link_target: Option<Vec<u8>>,
    /// What the owner of the snapshot keeps with it.
    pub note: Vec<u8>,
}

/// An entry as a scan has found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the scanned folder.
    pub path: RelPath,
    /// Its attributes; a link's own.
    pub stamp: Stamp,
    /// Where it points, for symbolic links.
    pub link_target: Option<Vec<u8>>,
}

/// How much of an entry has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    Nothing,
    /// Permissions, owner, times, extended attributes or the number of names.
    Attributes,
    /// The bytes of a file, the target of a link.
    Content,
    /// It is another kind of entry.
    Kind,
}

impl From<&Attributes> for Stamp {
    fn from(attributes: &Attributes) -> Self {
        let Attributes { kind, size, mode, mtime, uid, gid, links, device, inode, ctime, .. } =
            *attributes;
        Self { kind, size, mode, mtime, uid, gid, links, device, inode, ctime }
    }
}

impl Stamp {
    /// Whether a file of this stamp has the content that it had then, as far as its attributes tell.
    #[must_use]
    pub fn is_content_of(&self, now: &Attributes) -> bool {
        self.has_content_of(&Self::from(now))
    }

    fn has_content_of(&self, now: &Self) -> bool {
        self.size == now.size && self.mtime == now.mtime && !self.is_replaced_by(now)
    }

    /// Whether another file has taken the place of the one that had this stamp.
    pub(crate) fn is_replaced_by(&self, now: &Self) -> bool {
        self.kind != now.kind || (self.inode != now.inode && self.ctime != now.ctime)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::File => 1,
            Kind::Directory => 2,
            Kind::Symlink => 3,
            Kind::Other => 4,
        });
        put(out, self.size);
        put(out, self.mode.into());
        put_time(out, self.mtime);
        put(out, self.uid.into());
        put(out, self.gid.into());
        put(out, self.links);
        put(out, self.device);
        put(out, self.inode);
        put_time(out, self.ctime);
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = match reader.byte()? {
            1 => Kind::File,
            2 => Kind::Directory,
            3 => Kind::Symlink,
            4 => Kind::Other,
            _ => return None,
        };
        Some(Self {
            kind,
            size: reader.number()?,
            mode: reader.small()?,
            mtime: time(reader)?,
            uid: reader.small()?,
            gid: reader.small()?,
            links: reader.number()?,
            device: reader.number()?,
            inode: reader.number()?,
            ctime: time(reader)?,
        })
    }
}

impl Known {
    /// What has changed since.
    ///
    /// A file that has the size, the mtime and the inode that it had is taken for unchanged whatever
    /// its ctime, for that also changes with its mode, its owner and its name. On a filesystem whose
    /// inodes have no lasting numbers, it is the ctime that vouches for the file.
    pub(crate) fn difference(&self, now: &Stamp, link_target: Option<&[u8]>) -> Difference {
        let was = &self.stamp;
        if was.kind != now.kind {
            return Difference::Kind;
        }
        let has_content = match was.kind {
            Kind::File => was.size != now.size || was.mtime != now.mtime || was.is_replaced_by(now),
            Kind::Symlink => self.link_target.as_deref() != link_target,
            Kind::Directory | Kind::Other => false,
        };
        let attributes = |stamp: &Stamp| {
            (stamp.mode, stamp.uid, stamp.gid, stamp.mtime, stamp.ctime, stamp.links)
        };
        match has_content {
            true => Difference::Content,
            false if attributes(was) != attributes(now) => Difference::Attributes,
            false => Difference::Nothing,
        }
    }

    /// Appends the bytes that it is stored as; see `docs/formats/snapshot.md`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode(&self.stamp, self.link_target.as_deref(), out);
        out.extend_from_slice(&self.note);
    }

    /// Reads what [`Known::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (stamp, link_target) = decode(&mut reader)?;
        Some(Self { stamp, link_target, note: reader.0.to_vec() })
    }
}

impl Found {
    /// What there is to remember of it.
    #[must_use]
    pub fn known(&self, note: Vec<u8>) -> Known {
        Known { stamp: self.stamp, link_target: self.link_target.clone(), note }
    }
}

/// Appends a stamp and where the link points, if it is one.
pub(crate) fn encode(stamp: &Stamp, link_target: Option<&[u8]>, out: &mut Vec<u8>) {
    stamp.encode(out);
    put(out, link_target.map_or(0, |target| target.len() as u64 + 1));
    out.extend_from_slice(link_target.unwrap_or_default());
}

/// Reads what [`encode`] wrote and leaves what follows.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<(Stamp, Option<Vec<u8>>)> {
    let stamp = Stamp::decode(reader)?;
    let link_target = match reader.number()? {
        0 => None,
        more => Some(reader.bytes(usize::try_from(more - 1).ok()?)?.to_vec()),
    };
    Some((stamp, link_target))
}

pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_signed(out, time.seconds);
    put(out, time.nanos.into());
}

pub(crate) fn time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    let time = Timestamp { seconds: reader.signed()?, nanos: reader.small()? };
    time.is_valid().then_some(time)
}

#[cfg(test)]
pub(crate) mod tests;
