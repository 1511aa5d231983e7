//! Where arriving bytes live until they are verified: a private directory beneath the destination, so
//! that publishing is a rename on the same filesystem. Nothing in it ever bears a final name, and
//! nothing reaches a final name that has not been proven whole.

mod follow;
mod map;
mod partial;
mod publish;
mod sweep;
mod table;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::attributes::{Attributes, Kind, Timestamp};
use crate::dir::{Dir, Follow, TEMPORARY_PREFIX, Temporary};
use crate::error::{Action, FilesError, Result, StagingDefect};
use crate::file::File;
use crate::path::{Name, RelPath, is_invisible};

pub use map::{Map, MapError, MapHeader, parse_map};
pub use partial::Partial;
pub use publish::{PublishOptions, Published};
pub use sweep::Swept;

/// The name of the staging directory, directly beneath the destination's root.
pub const STAGING_NAME: &str = ".haul";

/// The largest file that is staged: 16 TiB. A file's size comes from a peer and sizes the table of its
/// chunks, so it is capped.
pub const MAX_FILE_SIZE: u64 = 1 << 44;

/// How often somebody else may get in the way before a call gives up.
const TRIES: usize = 16;

/// Whether a name is kept for this program's own use in a destination, so that a peer must neither
/// write nor read it. Case and invisible characters do not count, as on case-folding filesystems.
pub fn is_reserved(name: &Name) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_ascii() {
        let begins = |prefix: &str| {
            let head = bytes.get(..prefix.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        return bytes.eq_ignore_ascii_case(STAGING_NAME.as_bytes()) || begins(TEMPORARY_PREFIX);
    }
    let plain = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !is_invisible(*character))
        .collect::<String>()
        .to_ascii_lowercase();
    plain == STAGING_NAME || plain.starts_with(TEMPORARY_PREFIX)
}

/// Which partial file is meant: who sends it, and where below the destination it will go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartialKey {
    /// The sender's public key.
    pub peer: [u8; 32],
    /// The path below the destination's root.
    pub path: RelPath,
}

impl PartialKey {
    /// The common part of the names of its files: 64 hex digits.
    fn stem(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("haul 2026 name of a partial file");
        hasher.update(&self.peer).update(self.path.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// The staging directory of one destination. Shared by threads; several processes may use one too.
pub struct Staging {
    root: Dir,
    /// Made when first needed.
    area: Mutex<Option<Dir>>,
    /// What a file made in the area with each of the 512 modes has got: see `Creation`.
    creation: [AtomicU8; 512],
}

/// Whether a file that is made with a mode has it. It depends on the umask and on what access lists
/// the area passes on, so it is looked at once for each mode and holds as long as the area does.
struct Creation;

impl Creation {
    const UNKNOWN: u8 = 0;
    const EXACT: u8 = 1;
    const CUT: u8 = 2;
}

impl Staging {
    /// Prepares to stage beneath `root`. Makes nothing yet, but refuses a staging directory that
    /// exists and is a link, a file, or another user's.
    pub fn open(root: &Dir) -> Result<Staging> {
        let creation = [const { AtomicU8::new(Creation::UNKNOWN) }; 512];
        let staging = Staging { root: root.clone(), area: Mutex::new(None), creation };
        match staging.enter() {
            Err(error) if error.is_not_found() => {}
            result => drop(result?),
        }
        Ok(staging)
    }

    /// The directory that files are published beneath.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Opens the partial file of `key`, and resumes it if it was begun with the same size and time.
    ///
    /// What it holds is read and hashed again, for a power cut may have lost pages; this takes as long
    /// as reading the file. [`FilesError::Busy`] if it is open elsewhere.
    pub fn partial(&self, key: &PartialKey, size: u64, mtime: Timestamp) -> Result<Partial> {
        let shown = || self.root.join_for_message(&key.path);
        if size > MAX_FILE_SIZE {
            return Err(FilesError::TooLarge { path: shown(), limit: MAX_FILE_SIZE });
        }
        if !mtime.is_valid() {
            return Err(FilesError::io(Action::Create, &shown(), rustix::io::Errno::INVAL));
        }
        for _ in 0..TRIES {
            match Partial::open(&self.area()?, key, shown(), size, mtime) {
                Ok(Some(partial)) => return Ok(partial),
                Ok(None) => {}
                Err(error) if error.is_not_found() => self.forget_area(),
                Err(error) => return Err(error),
            }
        }
        Err(FilesError::Busy { path: shown() })
    }

    /// Publishes a small file from memory. The caller has verified the bytes.
    pub fn small(
        &self,
        data: &[u8],
        into: &Dir,
        name: &Name,
        options: &PublishOptions,
    ) -> Result<Published> {
        // Its age alone keeps a sweep away: it lives for an instant.
        let mode = options.mode_at_creation();
        // Otherwise the mode is what the umask leaves; the directory around it keeps others out.
        let mut temporary = self.temporary(into, name, mode.unwrap_or(0o666))?;
        temporary.file().write_all_at(data, 0)?;
        let has_mode = match mode {
            Some(mode) => self.was_made_with(mode, temporary.file())?,
            None => false,
        };
        publish::publish_temporary(&mut temporary, has_mode, (into, name), options)
    }

    /// Whether a file that was made in the area with this mode has it.
    fn was_made_with(&self, mode: u32, file: &File) -> Result<bool> {
        let Some(creation) = self.creation.get(mode as usize) else { return Ok(false) };
        if creation.load(Ordering::Relaxed) == Creation::UNKNOWN {
            let is_exact = file.attributes()?.mode == mode;
            let known = if is_exact { Creation::EXACT } else { Creation::CUT };
            creation.store(known, Ordering::Relaxed);
        }
        Ok(creation.load(Ordering::Relaxed) == Creation::EXACT)
    }

    /// Removes the staging directory if nothing is left in it; it comes back when needed.
    pub fn tidy(&self) -> Result<()> {
        let mut area = self.area.lock().unwrap_or_else(PoisonError::into_inner);
        *area = None;
        match self.root.remove_dir(&staging_name()) {
            Err(error) if error.is_not_found() || error.is_not_empty() => Ok(()),
            result => result,
        }
    }

    /// As [`Staging::tidy`], when staging is done with.
    pub fn close(self) -> Result<()> {
        self.tidy()
    }

    fn temporary(&self, into: &Dir, name: &Name, mode: u32) -> Result<Temporary> {
        let mut tries = 0;
        loop {
            let shown = into.join_for_message(&RelPath::from(name));
            match Temporary::new(&self.area()?, "", sweep::TEMPORARY_SUFFIX, mode, shown) {
                Err(error) if error.is_not_found() && tries < TRIES => {
                    tries += 1;
                    self.forget_area();
                }
                result => return result,
            }
        }
    }

    /// The staging directory, made if need be.
    fn area(&self) -> Result<Dir> {
        let mut area = self.area.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*area {
            return Ok(dir.clone());
        }
        let mut tries = 0;
        let dir = loop {
            match self.enter() {
                Err(error) if error.is_not_found() && tries < TRIES => {
                    tries += 1;
                    match self.root.make_dir(&staging_name(), 0o700) {
                        Err(error) if !error.is_already_exists() => return Err(error),
                        _ => {}
                    }
                }
                result => break result?,
            }
        };
        Ok(area.insert(dir).clone())
    }

    /// Another process may tidy the directory away while this one holds it; then it is made anew.
    fn forget_area(&self) {
        *self.area.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.creation
            .iter()
            .for_each(|creation| creation.store(Creation::UNKNOWN, Ordering::Relaxed));
    }

    /// Opens the staging directory that exists, after making sure that it is ours and nobody else's.
    fn enter(&self) -> Result<Dir> {
        let path = RelPath::from(staging_name());
        let refuse =
            |defect| Err(FilesError::Staging { path: self.root.join_for_message(&path), defect });
        let kind = self.root.attributes_of(&path)?.kind;
        if kind != Kind::Directory {
            return refuse(StagingDefect::NotADirectory(kind));
        }
        let dir = self.root.open_dir(&path, Follow::Never)?;
        let Attributes { uid, mode, .. } = dir.attributes()?;
        if uid != rustix::process::geteuid().as_raw() {
            return refuse(StagingDefect::OwnedBy(uid));
        }
        if mode & 0o777 != 0o700 {
            dir.set_own_mode(0o700)?;
        }
        Ok(dir)
    }
}

fn staging_name() -> Name {
    Name::own(STAGING_NAME.to_owned())
}

#[cfg(test)]
mod tests;
