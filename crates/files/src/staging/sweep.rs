//! Clearing away what was never finished: partial files and temporary ones whose sender did not come
//! back. Whatever somebody holds open is left alone, and so is everything whose name is not ours.

use std::time::{Duration, SystemTime};

use super::partial::is_still_named;
use super::{PartialKey, Staging};
use crate::attributes::{Attributes, Timestamp};
use crate::dir::{Dir, Follow};
use crate::error::Result;
use crate::path::{Name, RelPath};

const DATA_SUFFIX: &str = ".part";
const MAP_SUFFIX: &str = ".map";
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

pub(super) fn data_name(stem: &str) -> Name {
    Name::own(format!("{stem}{DATA_SUFFIX}"))
}

pub(super) fn map_name(stem: &str) -> Name {
    Name::own(format!("{stem}{MAP_SUFFIX}"))
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Partial and temporary files removed.
    pub removed: u64,
    /// Files that somebody is working on.
    pub busy: u64,
    /// Files not old enough.
    pub young: u64,
    /// Files that could not be looked at or removed.
    pub failed: u64,
}

enum Fate {
    Removed,
    Busy,
    Young,
    Gone,
}

impl Staging {
    /// Removes the partial file of `key` without looking at what it holds. `false` if there is none, or somebody holds it.
    pub fn forget(&self, key: &PartialKey) -> Result<bool> {
        let area = match self.enter() {
            Err(error) if error.is_not_found() => return Ok(false),
            result => result?,
        };
        let stem = key.stem();
        let any = match found(&area, &map_name(&stem))? {
            Some(_) => map_name(&stem),
            None => data_name(&stem),
        };
        let now = Timestamp { seconds: i64::MAX, nanos: 0 };
        Ok(matches!(sweep_pair(&area, &stem, &any, now)?, Fate::Removed))
    }

    /// Removes partial and temporary files that nobody holds and nothing was added to for
    /// `older_than`. The age is that of the inode's change time, which no attribute from a peer sets.
    pub fn sweep(&self, older_than: Duration) -> Result<Swept> {
        let mut swept = Swept::default();
        let area = match self.enter() {
            Err(error) if error.is_not_found() => return Ok(swept),
            result => result?,
        };
        let oldest = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        for entry in area.entries()? {
            match sweep_entry(&area, &entry?.name()?, Timestamp::from(oldest)) {
                Ok(Some(Fate::Removed)) => swept.removed += 1,
                Ok(Some(Fate::Busy)) => swept.busy += 1,
                Ok(Some(Fate::Young)) => swept.young += 1,
                Ok(Some(Fate::Gone) | None) => {}
                Err(_) => swept.failed += 1,
            }
        }
        Ok(swept)
    }
}

fn sweep_entry(area: &Dir, name: &Name, oldest: Timestamp) -> Result<Option<Fate>> {
    let Ok(text) = str::from_utf8(name.as_bytes()) else { return Ok(None) };
    let is_hex = |stem: &str, len| stem.len() == len && stem.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(stem) = text.strip_suffix(MAP_SUFFIX).filter(|stem| is_hex(stem, 64)) {
        return sweep_pair(area, stem, name, oldest).map(Some);
    }
    if let Some(stem) = text.strip_suffix(DATA_SUFFIX).filter(|stem| is_hex(stem, 64)) {
        // With a map, the map decides.
        return match found(area, &map_name(stem))? {
            Some(_) => Ok(None),
            None => sweep_pair(area, stem, name, oldest).map(Some),
        };
    }
    match text.strip_suffix(TEMPORARY_SUFFIX).filter(|stem| is_hex(stem, 16)) {
        Some(_) => sweep_temporary(area, name, oldest).map(Some),
        None => Ok(None),
    }
}

/// Removes data and map under the map's lock, which is made for it if the map is missing: otherwise
/// somebody could resume the data between the look at it and its removal.
fn sweep_pair(area: &Dir, stem: &str, aged: &Name, oldest: Timestamp) -> Result<Fate> {
    let Some(attributes) = found(area, aged)? else { return Ok(Fate::Gone) };
    if attributes.ctime > oldest {
        return Ok(Fate::Young);
    }
    let map_name = map_name(stem);
    let map = area.create_file(&map_name, rustix::fs::OFlags::empty(), 0o600)?;
    if !map.try_lock()? || !is_still_named(area, &map_name, &map)? {
        return Ok(Fate::Busy);
    }
    match area.unlink(&data_name(stem)) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    area.unlink(&map_name)?;
    Ok(Fate::Removed)
}

fn sweep_temporary(area: &Dir, name: &Name, oldest: Timestamp) -> Result<Fate> {
    let Some(attributes) = found(area, name)? else { return Ok(Fate::Gone) };
    if attributes.ctime > oldest {
        return Ok(Fate::Young);
    }
    match area.open_file(&RelPath::from(name), Follow::Never) {
        Ok(file) if !file.try_lock()? => return Ok(Fate::Busy),
        Err(error) if error.is_not_found() => return Ok(Fate::Gone),
        // One of mode 0 cannot be opened by its owner, and nobody can be at work on it for long.
        _ => {}
    }
    match area.unlink(name) {
        Err(error) if error.is_not_found() => Ok(Fate::Gone),
        result => result.map(|()| Fate::Removed),
    }
}

fn found(area: &Dir, name: &Name) -> Result<Option<Attributes>> {
    match area.attributes_of(&RelPath::from(name)) {
        Ok(attributes) => Ok(Some(attributes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
