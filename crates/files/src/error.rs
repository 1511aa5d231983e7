//! What can go wrong on disk. Each error says what was attempted and on which path, escaped for
//! showing; the operating system's reason is its source.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::attributes::Kind;
use crate::path::{NameError, escape, escape_path};

pub(crate) type Result<T, E = FilesError> = std::result::Result<T, E>;

/// What a failure means for whoever decides whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// May succeed unchanged when tried again a little later.
    Transient,
    /// Will fail again until somebody changes something.
    Permanent,
    /// Bytes are not what they should be.
    Corrupt,
    /// Not allowed, by the system or by our own rules.
    Denied,
}

/// What was attempted on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Open,
    Read,
    Write,
    List,
    ReadAttributes,
    SetMode,
    SetTimes,
    SetOwner,
    ReadXattrs,
    SetXattr,
    ReadLink,
    MakeDirectory,
    MakeSymlink,
    MakeHardLink,
    Create,
    Rename,
    Unlink,
    RemoveDirectory,
    Lock,
    Publish,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Open => "open",
            Action::Read => "read",
            Action::Write => "write to",
            Action::List => "list the directory",
            Action::ReadAttributes => "read the attributes of",
            Action::SetMode => "set the permissions of",
            Action::SetTimes => "set the times of",
            Action::SetOwner => "set the owner of",
            Action::ReadXattrs => "read the extended attributes of",
            Action::SetXattr => "set an extended attribute of",
            Action::ReadLink => "read the link",
            Action::MakeDirectory => "make the directory",
            Action::MakeSymlink => "make the symbolic link",
            Action::MakeHardLink => "make the hard link",
            Action::Create => "create",
            Action::Rename => "rename",
            Action::Unlink => "remove",
            Action::RemoveDirectory => "remove the directory",
            Action::Lock => "lock",
            Action::Publish => "publish",
        })
    }
}

/// Why the staging directory is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagingDefect {
    /// It is not a directory but this.
    NotADirectory(Kind),
    /// It belongs to this user id, not to ours.
    OwnedBy(u32),
}

impl fmt::Display for StagingDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StagingDefect::NotADirectory(kind) => write!(f, "it is {kind}"),
            StagingDefect::OwnedBy(uid) => write!(f, "it belongs to user {uid}"),
        }
    }
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A call to the operating system failed.
    #[error("cannot {action} {}", escape_path(path))]
    Io {
        /// What was attempted.
        action: Action,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A regular file was needed.
    #[error("{} is {kind}, not a regular file", escape_path(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there instead.
        kind: Kind,
    },
    /// A file to be published meets a directory of its name, which is never removed for it.
    #[error("cannot publish {}: a directory of that name is in the way", escape_path(path))]
    DirectoryInTheWay {
        /// The path of the directory.
        path: PathBuf,
    },
    /// A file is larger than the reader allows.
    #[error("{} is larger than {limit} bytes", escape_path(path))]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file ended early or changed its size while it was read.
    #[error("{} changed while it was read", escape_path(path))]
    ChangedWhileRead {
        /// The path.
        path: PathBuf,
    },
    /// Another process, or another part of this one, holds the partial file.
    #[error("{} is already being received", escape_path(path))]
    Busy {
        /// The path below the destination.
        path: PathBuf,
    },
    /// The bytes of a chunk do not have the hash that was promised.
    #[error("chunk {index} of {} does not match its hash", escape_path(path))]
    WrongHash {
        /// The path below the destination.
        path: PathBuf,
        /// Which chunk.
        index: u64,
    },
    /// A chunk lies beyond the file, or has another length than its place demands.
    #[error("{len} bytes are not chunk {index} of {}", escape_path(path))]
    WrongChunk {
        /// The path below the destination.
        path: PathBuf,
        /// Which chunk.
        index: u64,
        /// How many bytes came.
        len: usize,
    },
    /// Publishing was asked for before all chunks were there.
    #[error("cannot publish {}: it has not wholly arrived", escape_path(path))]
    Incomplete {
        /// The path below the destination.
        path: PathBuf,
    },
    /// The staging directory could be somebody's trap.
    #[error("the staging directory {} is not safe to use: {defect}", escape_path(path))]
    Staging {
        /// The path of the staging directory.
        path: PathBuf,
        /// What is wrong with it.
        defect: StagingDefect,
    },
    /// The disk did not take what was written. Final: what was staged is discarded.
    #[error("cannot make {} durable", escape_path(path))]
    Sync {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An extended attribute outside `user.` was to be set on a received file.
    #[error("refused to set the extended attribute {} on {}", escape(name), escape_path(path))]
    XattrRefused {
        /// The attribute's name.
        name: Vec<u8>,
        /// The path of the file.
        path: PathBuf,
    },
    /// Removing a tree met another filesystem mounted inside it.
    #[error("will not remove {}: another filesystem is mounted there", escape_path(path))]
    MountInTheWay {
        /// The mount point.
        path: PathBuf,
    },
    /// A tree on disk is deeper than a removal follows.
    #[error("the tree {} is too deep", escape_path(path))]
    TooDeep {
        /// The path of the tree.
        path: PathBuf,
    },
    /// A directory was refilled as fast as it was emptied.
    #[error("cannot remove {}: it is being filled by somebody else", escape_path(path))]
    Refilled {
        /// The path of the directory.
        path: PathBuf,
    },
    /// Bytes that should name something do not.
    #[error("the name {} is not allowed", escape(bytes))]
    Name {
        /// The bytes.
        bytes: Vec<u8>,
        /// Why not.
        source: NameError,
    },
}

impl FilesError {
    pub(crate) fn io(action: Action, path: &Path, source: impl Into<io::Error>) -> FilesError {
        FilesError::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// What the failure means for a retry.
    ///
    /// A full disk counts as permanent: it stays full until somebody acts, and
    /// [`FilesError::is_disk_full`] tells it apart for those who can wait for that.
    pub fn fault(&self) -> Fault {
        match self {
            FilesError::Io { .. } if self.is_other_filesystem() => Fault::Permanent,
            FilesError::Io { .. } => match self.errno() {
                Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP | Errno::XDEV) => {
                    Fault::Denied
                }
                Some(
                    Errno::AGAIN
                    | Errno::INTR
                    | Errno::BUSY
                    | Errno::TXTBSY
                    | Errno::MFILE
                    | Errno::NFILE
                    | Errno::NOMEM
                    | Errno::STALE
                    | Errno::TIMEDOUT,
                ) => Fault::Transient,
                Some(Errno::BADMSG | Errno::UCLEAN) => Fault::Corrupt,
                _ => Fault::Permanent,
            },
            FilesError::Busy { .. }
            | FilesError::Refilled { .. }
            | FilesError::ChangedWhileRead { .. } => Fault::Transient,
            FilesError::WrongHash { .. } | FilesError::WrongChunk { .. } => Fault::Corrupt,
            FilesError::Staging { .. }
            | FilesError::XattrRefused { .. }
            | FilesError::MountInTheWay { .. }
            | FilesError::Name { .. } => Fault::Denied,
            FilesError::NotAFile { .. }
            | FilesError::DirectoryInTheWay { .. }
            | FilesError::TooLarge { .. }
            | FilesError::Incomplete { .. }
            | FilesError::Sync { .. }
            | FilesError::TooDeep { .. } => Fault::Permanent,
        }
    }

    /// No space, no quota, or no inodes left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// The filesystem is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.errno() == Some(Errno::ROFS)
    }

    /// The system's permissions forbid it.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM))
    }

    /// Nothing has that name.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// Something has that name already.
    pub fn is_already_exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }

    /// A directory still holds something.
    pub fn is_not_empty(&self) -> bool {
        // POSIX allows both, and filesystems use both.
        matches!(self, FilesError::Io { action: Action::RemoveDirectory, .. })
            && matches!(self.errno(), Some(Errno::NOTEMPTY | Errno::EXIST))
    }

    /// Something on the path is no directory.
    pub fn is_not_a_directory(&self) -> bool {
        self.errno() == Some(Errno::NOTDIR)
    }

    /// A symbolic link stood in the way, or led out of the directory.
    pub fn is_symlink_refused(&self) -> bool {
        matches!(self.errno(), Some(Errno::LOOP | Errno::XDEV)) && !self.is_other_filesystem()
    }

    /// A rename or hard link would have to cross from one filesystem to another.
    pub fn is_other_filesystem(&self) -> bool {
        matches!(self, FilesError::Io { action: Action::Rename | Action::MakeHardLink, .. })
            && self.errno() == Some(Errno::XDEV)
    }

    /// The operating system's error number, if it gave one.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            FilesError::Io { source, .. } | FilesError::Sync { source, .. } => {
                Errno::from_io_error(source)
            }
            _ => None,
        }
    }
}
