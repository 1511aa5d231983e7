//! Files of the target folder that may be what others are to become: found by their size and time, hashed, and copied
//! into staging like what comes over a link.

use std::time::Instant;

use tree::{Step, Walk, WalkOptions, WalkRoot};

use super::*;
use crate::target::Filled;
use crate::twins::{LEAST_TWIN, Stamp};

/// Bytes that are copied before others get their turn.
const TURN: u64 = 32 << 20;

/// What looking at one entry may take, and what is granted in any case: a disk that takes longer is not waited for.
const PER_ENTRY: Duration = Duration::from_micros(20);
const IN_ANY_CASE: Duration = Duration::from_secs(1);

/// A walk through the target folder that goes on when it is worth it.
#[derive(Default)]
pub(super) enum Listing {
    #[default]
    NotBegun,
    At(Box<Walk>),
    /// Nothing is left, or there was nothing before.
    Over,
}

impl Disk {
    pub(super) fn twins(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<File>>> {
        self.twins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at so many entries more. What this transfer has made itself is known already.
    pub(super) fn list_twins(&self, most: u64) -> JobResult {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Listing::NotBegun, Some(base)) = (&*listing, &self.base) {
            let options = WalkOptions { one_file_system: true, ..WalkOptions::default() };
            let walk = Walk::new(base.clone(), WalkRoot::Inside(RelPath::root()), options);
            *listing = walk.map_or(Listing::Over, |walk| Listing::At(Box::new(walk)));
        }
        let (mut looked, mut found) = (0, Vec::new());
        let until = Instant::now() + IN_ANY_CASE + PER_ENTRY * u32::try_from(most).unwrap_or(0);
        while let Listing::At(walk) = &mut *listing
            && looked < most
        {
            looked += 1;
            match walk.next() {
                Some(Step::Leaf(entry)) => {
                    let Attributes { kind, size, mtime, .. } = entry.attributes;
                    if kind == Kind::File && size >= LEAST_TWIN {
                        found.push((Stamp { size, mtime }, entry.path));
                    }
                }
                Some(Step::Enter(entry)) if self.fresh().contains(&entry.path) => {
                    walk.skip_directory();
                }
                Some(_) => {}
                None => *listing = Listing::Over,
            }
            if Instant::now() > until {
                looked = most;
            }
        }
        JobResult::TwinsListed { looked, found, is_all: !matches!(*listing, Listing::At(_)) }
    }

    /// The digest of a file that still looks as when it was listed, if it may be used: its peer may put something in its
    /// place, and a copy shows nobody what the file itself does not show.
    pub(super) fn hash_twin(&self, placed: &Placed, from: &RelPath) -> Option<Digest> {
        let entry = &placed.entry;
        self.admission.admit(entry, from).ok()?;
        let folder = self.folder(&from.parent()?).ok()?;
        let file = folder.open_file(&RelPath::from(from.file_name()?), Follow::Never).ok()?;
        let before = file.attributes().ok()?;
        let is_shown = self.mode(entry) & 0o044 & !before.mode == 0;
        if entry.size() != Some(before.size) || entry.mtime != before.mtime || !is_shown {
            return None;
        }
        let digest = file.digest().ok()?;
        if !file.attributes().ok()?.unchanged_since(&before) {
            return None;
        }
        self.twins().insert(entry.index, Arc::new(file));
        Some(digest)
    }

    /// Makes a small file, or a part of a large one that is open, of the one that was hashed. It is proven in the end like
    /// everything that arrives.
    pub(super) fn fill(&self, placed: &Placed, digest: Digest) -> Result<Filled, Failed> {
        let size = placed.entry.size().unwrap_or_default();
        let twin = self.twins().get(&placed.entry.index).cloned();
        if size <= CHUNK {
            return self.fill_small(placed, twin.as_deref(), digest);
        }
        let sparse = matches!(placed.entry.kind, EntryKind::File { sparse: true, .. });
        let mut filled = Filled::Whole;
        self.with_partial(placed.entry.index, |partial| {
            let missing: Vec<_> = partial.missing().collect();
            let mut chunks = missing.iter().cloned().flatten();
            for (number, chunk) in chunks.by_ref().enumerate() {
                if number as u64 * CHUNK >= TURN {
                    filled = Filled::Partly;
                    break;
                }
                let taken = match &twin {
                    Some(twin) => take_over(partial, twin, chunk, sparse),
                    None => Ok(false),
                };
                if !taken? {
                    let missing =
                        partial.missing().map(|range| (range.start, range.end - range.start));
                    filled = Filled::Lacks(missing.collect());
                    break;
                }
            }
            Ok(())
        })?;
        Ok(filled)
    }

    fn fill_small(
        &self,
        placed: &Placed,
        twin: Option<&File>,
        digest: Digest,
    ) -> Result<Filled, Failed> {
        let size = placed.entry.size().unwrap_or_default();
        let (mut data, hash) = (Vec::new(), ChunkHash::from_bytes(*digest.as_bytes()));
        let read = twin.map(|twin| twin.read_chunk_hashed(size, 0, &mut data));
        if !matches!(read, Some(Ok(found)) if found == hash) {
            return Ok(Filled::Lacks(Vec::new()));
        }
        self.write_small(placed, &data, &hash, &mut Nearest::default())?;
        Ok(Filled::Published)
    }
}

/// Takes one chunk over. False if the other file cannot be read any more; an error if this one cannot be written.
fn take_over(partial: &Partial, twin: &File, chunk: u64, sparse: bool) -> Result<bool, FilesError> {
    let taken = if sparse {
        let mut data = Vec::new();
        match twin.read_chunk(partial.size(), chunk, &mut data) {
            Ok(()) => partial.write_proven(chunk, &data, true).map(drop),
            Err(error) => Err(error),
        }
    } else {
        partial.take_over(chunk, twin)
    };
    match taken {
        Ok(()) => Ok(true),
        Err(error) if error.is_disk_full() || error.is_read_only() => Err(error),
        Err(_) => Ok(false),
    }
}
