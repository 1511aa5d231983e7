//! What was learnt of the paths to hosts: how fast the last transfer went, so that the next one starts
//! there. One small file for each host in the state folder. It only makes copies faster: what cannot be
//! read or written is left alone.

use std::sync::{Arc, Mutex, PoisonError};

use files::{Dir, RelPath};
use link::{Lane, PathMemory, Target};
use transfer::client::LaneEnded;

use crate::address::bare;
use crate::state::{Places, own_name};

/// The folder that the files are in.
const FOLDER: &str = "paths";
/// More is no line of ours.
const MAX_BYTES: u64 = 1024;

/// What is remembered of one host.
#[derive(Clone)]
pub struct PathStore {
    dir: Option<Dir>,
    host: String,
}

impl PathStore {
    /// Opens what is remembered of this host.
    pub fn open(places: &Places, target: &Target) -> Self {
        Self { dir: places.state(FOLDER).ok(), host: bare(target) }
    }

    /// The path as it was last time.
    pub fn load(&self) -> Option<PathMemory> {
        let path = RelPath::from(own_name(&self.file_name()));
        let bytes = self.dir.as_ref()?.read_small(&path, MAX_BYTES).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (host, memory) = text.trim_end().split_once('\n')?;
        (host == self.host).then(|| PathMemory::parse(memory)).flatten()
    }

    /// Remembers the path as it is now.
    pub fn save(&self, memory: &PathMemory) {
        let Some(dir) = &self.dir else { return };
        let text = format!("{}\n{}\n", self.host, memory.to_line());
        // Only the next copy's first moments depend on it.
        let _ = dir.write_private(&own_name(&self.file_name()), text.as_bytes());
    }

    /// Remembers what each lane has learnt when it ends.
    pub fn watch(self) -> LaneEnded {
        let last = Mutex::new(None);
        Arc::new(move |lane: &Lane| {
            let Some(memory) = lane.learned() else { return };
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref() != Some(&memory) {
                self.save(&memory);
                *last = Some(memory);
            }
        })
    }

    /// Hosts may have names that no file can have.
    fn file_name(&self) -> String {
        let digest = files::Digest::of(self.host.as_bytes()).to_string();
        digest.chars().take(32).collect()
    }
}

#[cfg(test)]
mod tests;
