//! What the disk says about an entry besides its content. Plain data, read from one `stat` call, and
//! the comparisons that decide whether a file is still the one that was seen before.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device; never copied.
    Other,
}

impl Kind {
    pub(crate) fn from_type(file_type: FileType) -> Kind {
        match file_type {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::File => "a regular file",
            Kind::Directory => "a directory",
            Kind::Symlink => "a symbolic link",
            Kind::Other => "a device, fifo or socket",
        })
    }
}

/// A moment as files carry it: seconds since 1970, which may be negative, and nanoseconds on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999, added to the seconds.
    pub nanos: u32,
}

impl Timestamp {
    /// `None` if the nanoseconds make a second or more.
    pub const fn new(seconds: i64, nanos: u32) -> Option<Timestamp> {
        if nanos < 1_000_000_000 { Some(Timestamp { seconds, nanos }) } else { None }
    }

    /// Whether the nanoseconds are in range. The fields are public, and the kernel gives values
    /// beyond the range a meaning of its own ("now", "leave"), so every setter asks.
    pub const fn is_valid(&self) -> bool {
        self.nanos < 1_000_000_000
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let whole = |part: Duration| i64::try_from(part.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp { seconds: whole(after), nanos: after.subsec_nanos() },
            Err(error) => {
                let before = error.duration();
                match before.subsec_nanos() {
                    0 => Timestamp { seconds: -whole(before), nanos: 0 },
                    nanos => Timestamp {
                        seconds: (-whole(before)).saturating_sub(1),
                        nanos: 1_000_000_000 - nanos,
                    },
                }
            }
        }
    }
}

/// The attributes of one entry at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
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
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
}

impl Attributes {
    // The fields of `Stat` have other widths on other architectures, hence the casts.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn from_stat(stat: &Stat) -> Attributes {
        Attributes {
            kind: Kind::from_type(FileType::from_raw_mode(stat.st_mode as _)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode as u32 & 0o7777,
            mtime: Timestamp { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            uid: stat.st_uid as u32,
            gid: stat.st_gid as u32,
            links: stat.st_nlink as u64,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            ctime: Timestamp { seconds: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        }
    }

    /// Whether the file takes less space than its size: it has holes, or the filesystem compresses.
    pub fn is_sparse(&self) -> bool {
        self.kind == Kind::File && self.blocks.saturating_mul(512) < self.size
    }

    /// Whether size and modification time agree: the usual guess that the content is the same.
    pub fn same_content_stamp(&self, other: &Attributes) -> bool {
        self.size == other.size && self.mtime == other.mtime
    }

    /// Whether this is the same inode, not touched since `earlier` was taken. A writer can reset the
    /// modification time but not the change time, so this sees what the stamp misses.
    pub fn unchanged_since(&self, earlier: &Attributes) -> bool {
        self.same_content_stamp(earlier)
            && self.ctime == earlier.ctime
            && self.is_same_inode(earlier)
    }

    pub(crate) fn is_same_inode(&self, other: &Attributes) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}
