//! What a crash may leave in a target: under every final name the whole new file, the whole old one, or
//! nothing, and nothing else anywhere. It looks at the disk alone and knows nothing of how haul works.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::tree::entries;

/// The two states between which a target is while it is copied to.
#[derive(Clone, Debug)]
pub struct Between {
    old: PathBuf,
    new: PathBuf,
}

/// What was found in a target, if all of it is as it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files that are as in the new tree.
    pub new: usize,
    /// Files that are as in the old tree.
    pub old: usize,
}

impl Between {
    /// Of a target that began as `old` and is to become `new`.
    pub fn new(old: impl Into<PathBuf>, new: impl Into<PathBuf>) -> Self {
        Self { old: old.into(), new: new.into() }
    }

    /// Looks at every entry of the target.
    ///
    /// # Errors
    /// The first entry that is neither old nor new, in words.
    pub fn check(&self, target: &Path) -> Result<Found, String> {
        let mut found = Found::default();
        for (path, meta) in entries(target) {
            let (old, new) = (self.old.join(&path), self.new.join(&path));
            let shown = path.display();
            if meta.is_dir() {
                if !old.is_dir() && !new.is_dir() {
                    return Err(format!("{shown}: a folder that is in neither tree"));
                }
                continue;
            }
            if !meta.is_file() {
                return Err(format!("{shown}: neither a file nor a folder"));
            }
            // The other side may live and publish what it has while this looks: content and time must be
            // those of one file, whatever has its name a moment later.
            let read = || -> io::Result<(Vec<u8>, SystemTime)> {
                let mut file = File::open(target.join(&path))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok((bytes, file.metadata()?.modified()?))
            };
            let (at_target, time) = read().map_err(|error| format!("{shown}: {error}"))?;
            let same = |tree: &Path| fs::read(tree).is_ok_and(|bytes| bytes == at_target);
            if same(&new) {
                let wanted = fs::metadata(&new).map_err(|error| format!("{shown}: {error}"))?;
                // A file of its final name has its final time too, or the next run would not know it.
                if !same(&old) && wanted.modified().ok() != Some(time) {
                    return Err(format!("{shown}: the new content with another time"));
                }
                found.new += 1;
            } else if same(&old) {
                found.old += 1;
            } else {
                let len = at_target.len();
                return Err(format!(
                    "{shown}: {len} bytes that are neither the old file nor the new"
                ));
            }
        }
        Ok(found)
    }
}

/// How many kills a crash test makes: `HAUL_CRASH_RUNS`, or the number given here.
pub fn runs(otherwise: u32) -> u32 {
    let wanted = std::env::var("HAUL_CRASH_RUNS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(otherwise)
}

/// The seed of a test that draws: `HAUL_TEST_SEED`, or the number given here. It is printed, so that a
/// failure can be repeated.
pub fn seed(otherwise: u64) -> u64 {
    let wanted = std::env::var("HAUL_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = wanted.unwrap_or(otherwise);
    eprintln!("seed: HAUL_TEST_SEED={seed}");
    seed
}
