//! Names and relative paths as bytes. A `Name` is one component that cannot be `.`, `..` or hold a
//! slash; a `RelPath` is made of names only, so nothing built from it can climb out of the directory
//! it is used in. This module is pure: it asks no disk whether anything exists.

mod escape;

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

pub(crate) use escape::is_invisible;
pub use escape::{Escaped, escape, escape_json, escape_path};

/// The longest name in bytes; the limit of every Linux filesystem.
pub const MAX_NAME: usize = 255;
/// The longest relative path in bytes, as `PATH_MAX`.
pub const MAX_PATH: usize = 4096;
/// The greatest number of names in a relative path; bounds the walk and its open handles.
pub const MAX_DEPTH: usize = 256;

/// Why bytes are no name or no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name, or one component of a path, has no bytes.
    #[error("a name is empty")]
    Empty,
    /// A name is longer than [`MAX_NAME`].
    #[error("a name is longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// A name holds a slash.
    #[error("a name holds a slash")]
    Slash,
    /// A name or path holds a NUL byte.
    #[error("a name holds a NUL byte")]
    Nul,
    /// A name is `.` or `..`.
    #[error("a name is '.' or '..'")]
    Dots,
    /// A path begins with a slash.
    #[error("a path is absolute")]
    Absolute,
    /// A path is longer than [`MAX_PATH`].
    #[error("a path is longer than {MAX_PATH} bytes")]
    PathTooLong,
    /// A path has more than [`MAX_DEPTH`] names.
    #[error("a path is deeper than {MAX_DEPTH} names")]
    TooDeep,
}

fn check_name(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        b"" => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Dots),
        _ if bytes.contains(&0) => Err(NameError::Nul),
        _ if bytes.contains(&b'/') => Err(NameError::Slash),
        _ if bytes.len() > MAX_NAME => Err(NameError::NameTooLong),
        _ => Ok(()),
    }
}

/// One path component: 1 to 255 bytes, no slash, no NUL, neither `.` nor `..`; need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks the bytes and takes a copy of them.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Name, NameError> {
        let bytes = bytes.as_ref();
        check_name(bytes)?;
        Ok(Name(bytes.into()))
    }

    /// For names that this crate makes itself out of hex digits and fixed words.
    pub(crate) fn own(text: String) -> Name {
        debug_assert!(check_name(text.as_bytes()).is_ok());
        Name(text.into_bytes().into())
    }

    /// The bytes as they stand on disk and on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as the operating system's string type.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Display for Name {
    /// Escaped as by [`escape`], so it is safe in a terminal or log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", escape(&self.0))
    }
}

/// Names joined by `/`, relative to some directory; the empty path is that directory itself.
///
/// At most [`MAX_PATH`] bytes and [`MAX_DEPTH`] names. The order is that of a walk which visits a
/// directory before what it holds and siblings by their bytes: names are compared one by one, so
/// `a/b` comes before `a-b`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The directory itself.
    pub fn root() -> RelPath {
        RelPath::default()
    }

    /// Reads a path strictly, as it comes from a peer or from disk: no empty component, hence no
    /// leading, trailing or doubled slash. No bytes at all are the root.
    pub fn parse(bytes: &[u8]) -> Result<RelPath, NameError> {
        if bytes.is_empty() {
            return Ok(RelPath::root());
        }
        if bytes.len() > MAX_PATH {
            return Err(NameError::PathTooLong);
        }
        if bytes[0] == b'/' {
            return Err(NameError::Absolute);
        }
        let mut depth = 0;
        for component in bytes.split(|byte| *byte == b'/') {
            check_name(component)?;
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(NameError::TooDeep);
        }
        Ok(RelPath(bytes.into()))
    }

    /// Reads a path as a person types it: `//`, `./` and a trailing slash are dropped. `..` and a
    /// leading slash are refused as in [`RelPath::parse`], for what they mean depends on the disk.
    pub fn parse_user(bytes: &[u8]) -> Result<RelPath, NameError> {
        if bytes.len() > 4 * MAX_PATH {
            return Err(NameError::PathTooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(NameError::Absolute);
        }
        let kept: Vec<&[u8]> = bytes
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .collect();
        RelPath::parse(&kept.join(&b'/'))
    }

    /// This path with one more name.
    pub fn join(&self, name: &Name) -> Result<RelPath, NameError> {
        self.join_bytes(&name.0, 1)
    }

    /// This path followed by another.
    pub fn join_path(&self, tail: &RelPath) -> Result<RelPath, NameError> {
        match tail.is_root() {
            true => Ok(self.clone()),
            false => self.join_bytes(&tail.0, tail.depth()),
        }
    }

    /// `tail` are names joined by slashes, `depth` of them.
    fn join_bytes(&self, tail: &[u8], depth: usize) -> Result<RelPath, NameError> {
        if self.is_root() {
            return Ok(RelPath(tail.into()));
        }
        if self.0.len() + 1 + tail.len() > MAX_PATH {
            return Err(NameError::PathTooLong);
        }
        if self.depth() + depth > MAX_DEPTH {
            return Err(NameError::TooDeep);
        }
        Ok(RelPath([&self.0, &b"/"[..], tail].concat().into()))
    }

    /// The path without its last name; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(RelPath(self.0[..cut].into()))
    }

    /// The last name; `None` for the root.
    pub fn file_name(&self) -> Option<Name> {
        self.components().next_back().map(|bytes| Name(bytes.into()))
    }

    /// The names from the first to the last.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = Name> + '_ {
        self.components().map(|bytes| Name(bytes.into()))
    }

    /// The bytes as they stand on the wire, without leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the empty path.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names the path has.
    pub fn depth(&self) -> usize {
        match self.is_root() {
            true => 0,
            false => 1 + self.0.iter().filter(|byte| **byte == b'/').count(),
        }
    }

    /// Whether this path is `head` or lies below it; compares whole names, so `ab` is not below `a`.
    pub fn starts_with(&self, head: &RelPath) -> bool {
        match self.0.strip_prefix(&*head.0) {
            Some(rest) => head.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }

    /// Whether the first name of this path is `name`.
    pub fn begins_with(&self, name: &Name) -> bool {
        match self.0.strip_prefix(&*name.0) {
            Some(rest) => rest.first().is_none_or(|byte| *byte == b'/'),
            None => false,
        }
    }

    pub(crate) fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// As the operating system's path type, for the calls inside this crate.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl From<Name> for RelPath {
    fn from(name: Name) -> RelPath {
        RelPath(name.0)
    }
}

impl From<&Name> for RelPath {
    fn from(name: &Name) -> RelPath {
        RelPath(name.0.clone())
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &RelPath) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &RelPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    /// Escaped as by [`escape`]; the root shows as `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { escape(&self.0).fmt(f) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

#[cfg(test)]
mod tests;
