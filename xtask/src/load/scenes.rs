//! Who hands in what, and what must be so at the end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::data::Noise;

/// The scenes, by their words on the command line.
pub const PARTS: [&str; 3] = [FILES, DATASETS, BESIDE];
const FILES: &str = "files";
const DATASETS: &str = "datasets";
const BESIDE: &str = "beside";

/// By what `--quick` divides sizes.
const QUICK: u64 = 32;

/// Mixed files are shorter than this; half of all are shorter than its root.
const MIXED_BITS: u64 = 22;
/// How much a mixed file has on average, as a bound for the room on the disk.
const MIXED_MEAN: u64 = 1 << 18;

/// Files that a client of the first two scenes has.
const EACH: usize = 100;

/// A large upload, and how many.
const LARGE: u64 = 2 << 30;
const LARGE_COUNT: usize = 5;
/// How many of them are carried at once; the others wait.
pub const LARGE_ACTIVE: usize = 2;
/// With little data, a large upload must still take longer than many small ones.
const LARGE_LIMIT: &str = "4MB";

/// A small upload, who hands in how many of them.
const SMALL: u64 = 1 << 20;
const SMALL_CLIENTS: usize = 20;
const SMALL_EACH: usize = 10;

/// One scene.
#[derive(Debug)]
pub struct Scene {
    /// Its word on the command line.
    pub word: &'static str,
    /// What it is, for people.
    pub title: String,
    /// How many keys there are.
    pub clients: usize,
    /// How many uploads one client carries at once.
    pub at_once: usize,
    quick: bool,
}

/// What is handed in at once.
#[derive(Debug, Clone)]
pub struct Upload {
    /// By which client.
    pub client: usize,
    /// Large or small.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// A file or a folder.
    pub source: PathBuf,
    /// How much it is.
    pub bytes: u64,
    /// At most so many bytes each second, in haul's words.
    pub limit: Option<&'static str>,
}

/// A kind of upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of all sizes.
    Mixed,
    /// Is to pass beside large ones.
    Small,
    /// Takes long.
    Large,
}

impl Kind {
    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

impl Scene {
    /// The scene of this word.
    pub fn of(word: &str, quick: bool) -> Self {
        let (word, title, clients, at_once) = match word {
            FILES => (FILES, format!("50 clients, each one dataset of {EACH} files"), 50, 1),
            DATASETS => (DATASETS, format!("10 clients, each {EACH} datasets of one file"), 10, 4),
            _ => {
                let small = SMALL_CLIENTS * SMALL_EACH;
                let size = |bytes: u64| if quick { bytes / QUICK } else { bytes } >> 10;
                let (large_size, small_size) = (size(LARGE), size(SMALL));
                let title = format!(
                    "{LARGE_COUNT} uploads of {large_size} KiB, {LARGE_ACTIVE} of them at a time, and {small} of \
                     {small_size} KiB by {SMALL_CLIENTS} other clients"
                );
                (BESIDE, title, LARGE_COUNT + SMALL_CLIENTS, SMALL_EACH)
            }
        };
        Self { word, title, clients, at_once, quick }
    }

    /// Whether small uploads are held against large ones.
    pub fn is_beside(&self) -> bool {
        self.word == BESIDE
    }

    /// Lines of the table `[inboxes]`.
    pub fn budgets(&self) -> String {
        match self.is_beside() {
            true => format!("keep_free = \"1MB\"\nactive = {LARGE_ACTIVE}\nsmall = \"2MB\""),
            false => "keep_free = \"1MB\"\nactive = 8".to_owned(),
        }
    }

    fn size(&self, bytes: u64) -> u64 {
        if self.quick { bytes / QUICK } else { bytes }
    }

    /// What all uploads have together at most.
    fn payload(&self) -> u64 {
        match self.word {
            BESIDE => {
                self.size(LARGE) * LARGE_COUNT as u64
                    + self.size(SMALL) * (SMALL_CLIENTS * SMALL_EACH) as u64
            }
            _ => self.size(MIXED_MEAN) * (self.clients * EACH) as u64,
        }
    }

    /// What sources and store need of the disk at most.
    pub fn bytes(&self) -> u64 {
        let payload = self.payload();
        match self.word {
            BESIDE => payload * 2 - self.size(LARGE) * (LARGE_COUNT as u64 - 1),
            _ => payload * 2,
        }
    }

    /// Writes the sources, and says what is to be handed in.
    pub fn lay(&self, folder: &Path) -> Result<Vec<Upload>> {
        let mut uploads = Vec::new();
        match self.word {
            BESIDE => {
                // One file is enough for all: each upload is of another key, and nothing is linked.
                let (source, kind, bytes) = (folder.join("large"), Kind::Large, self.size(LARGE));
                noise(0).write(&source, bytes)?;
                let limit = self.quick.then_some(LARGE_LIMIT);
                for client in 0..LARGE_COUNT {
                    let (name, source) = (format!("large-{client}"), source.clone());
                    uploads.push(Upload { client, kind, name, source, bytes, limit });
                }
                let (kind, bytes, limit) = (Kind::Small, self.size(SMALL), None);
                for client in LARGE_COUNT..LARGE_COUNT + SMALL_CLIENTS {
                    for number in 0..SMALL_EACH {
                        let name = format!("small-{client}-{number}");
                        let source = folder.join(&name);
                        noise(uploads.len()).write(&source, bytes)?;
                        uploads.push(Upload { client, kind, name, source, bytes, limit });
                    }
                }
            }
            word => {
                for client in 0..self.clients {
                    let name = format!("run-{client}");
                    let run = folder.join(&name);
                    fs::create_dir(&run).with_context(|| format!("make {}", run.display()))?;
                    let (kind, limit, mut noise) = (Kind::Mixed, None, noise(client));
                    let mut files = Vec::new();
                    for number in 0..EACH {
                        let bits = noise.below(MIXED_BITS + 1);
                        let bytes = self.size(noise.below(1 << bits));
                        let name = format!("file-{number:03}");
                        let source = run.join(&name);
                        noise.write(&source, bytes)?;
                        files.push(Upload { client, kind, name, source, bytes, limit });
                    }
                    if word == DATASETS {
                        uploads.append(&mut files);
                    } else {
                        let bytes = files.iter().map(|file| file.bytes).sum();
                        uploads.push(Upload { client, kind, name, source: run, bytes, limit });
                    }
                }
            }
        }
        Ok(uploads)
    }
}

/// Noise of its own for each.
fn noise(number: usize) -> Noise {
    Noise::new((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
