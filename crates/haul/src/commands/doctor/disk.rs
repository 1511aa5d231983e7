//! How fast a disk of this machine is: a scratch folder in the place that was named gets one large file
//! and many small ones, and goes again whatever happens.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use files::{Dir, Follow};
use rustix::fs::{Advice, fadvise};

use super::facts::Disk;
use crate::spool::{self, Scratch};
use crate::state::path_of;
use crate::units;

/// The large file: more than disks keep in memory of their own, and soon written.
const LARGE: u64 = 256_000_000;
/// Small files, and the size of one.
const SMALL: u32 = 2_000;
const SMALL_BYTES: u64 = 4096;
/// The large file's name.
const NAME: &str = "large";

/// Ends the measuring thread when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Measures the disk under this folder.
pub async fn measure(path: PathBuf) -> Result<Disk, String> {
    let stopped = Arc::new(AtomicBool::new(false));
    let _stop = Stop(stopped.clone());
    let measured = tokio::task::spawn_blocking(move || try_disk(&path, &stopped)).await;
    let measured = measured.map_err(|error| error.to_string())?;
    measured.map_err(|error| crate::report::explain(&error).line())
}

fn try_disk(path: &Path, stopped: &AtomicBool) -> Result<Disk> {
    let shown = files::escape_path(path).to_string();
    let dir = Dir::open_ambient(path)?;
    let free = dir.free_bytes()?;
    if free < 2 * LARGE {
        bail!(
            "only {} are free in {shown}, and {} are needed",
            units::bytes(free),
            units::bytes(2 * LARGE)
        );
    }
    let scratch = Scratch::below(dir, path, ".haul-doctor-")?;
    let began = Instant::now();
    spool::fill(scratch.dir(), NAME, Filler { left: LARGE, stopped })?;
    let file = scratch.dir().open_file(&path_of(NAME), Follow::Never)?;
    file.sync()?;
    let write = LARGE as f64 / began.elapsed().as_secs_f64();
    // Without it the bytes come from memory; a file system that has no such thing says so in its rate.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let began = Instant::now();
    let mut block = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < LARGE && !stopped.load(Ordering::Relaxed) {
        match file.read_at(&mut block, offset)? {
            0 => break,
            len => offset += len as u64,
        }
    }
    let read = offset as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for number in 0..SMALL {
        spool::fill(scratch.dir(), &number.to_string(), Filler { left: SMALL_BYTES, stopped })?;
    }
    let files = f64::from(SMALL) / began.elapsed().as_secs_f64();
    scratch.remove()?;
    Ok(Disk { path: shown, write, read, files })
}

/// Bytes that a disk cannot make smaller, until enough have come or nobody wants them any more.
struct Filler<'a> {
    left: u64,
    stopped: &'a AtomicBool,
}

impl Read for Filler<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("interrupted"));
        }
        let len = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        // The same in each block but for a number: no file system finds equal blocks.
        for (at, piece) in buffer[..len].chunks_mut(8).enumerate() {
            let word = (self.left ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        self.left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_a_rate_and_nothing_is_left() {
        let scratch = Scratch::in_temporary("haul-doctor-test-").unwrap();
        let found = try_disk(scratch.path(), &AtomicBool::new(false)).unwrap();
        assert!(found.write > 0.0 && found.read > 0.0 && found.files > 0.0, "{found:?}");
        assert_eq!(scratch.dir().entries().unwrap().count(), 0);
        let stopped = try_disk(scratch.path(), &AtomicBool::new(true)).unwrap_err();
        assert!(format!("{stopped:#}").contains("interrupted"), "{stopped:#}");
        assert_eq!(scratch.dir().entries().unwrap().count(), 0);
        let missing = try_disk(&scratch.path().join("none"), &AtomicBool::new(false));
        assert!(missing.is_err());
    }
}
