//! Listing a directory as the disk gives it: unsorted, without `.` and `..`, some kilobytes at a time.

use std::ffi::CString;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::Dir;
use crate::attributes::Kind;
use crate::error::{Action, FilesError, Result};
use crate::path::Name;

/// What [`Dir::entries`] returns. After an error it ends.
pub struct Entries {
    listing: rustix::fs::Dir,
    path: PathBuf,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    name: CString,
    kind: Option<Kind>,
}

impl Entry {
    /// The name as the disk gives it.
    pub fn bytes(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// The name, checked; a damaged or foreign filesystem can hold some that are none.
    pub fn name(&self) -> Result<Name> {
        Name::new(self.bytes())
            .map_err(|source| FilesError::Name { bytes: self.bytes().to_vec(), source })
    }

    /// What the entry was when it was listed; `None` on filesystems that do not say.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }
}

impl Entries {
    pub(super) fn new(dir: &Dir) -> Result<Entries> {
        let listing = dir
            .reopen()
            .and_then(rustix::fs::Dir::new)
            .map_err(|error| dir.error(Action::List, error))?;
        Ok(Entries { listing, path: dir.path().to_owned() })
    }
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            let entry = match self.listing.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(FilesError::io(Action::List, &self.path, error))),
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => None,
                known => Some(Kind::from_type(known)),
            };
            return Some(Ok(Entry { name: entry.file_name().to_owned(), kind }));
        }
    }
}
