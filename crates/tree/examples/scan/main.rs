//! How long scans take and how much memory, at a number of entries: run it in a release build, with a
//! folder to work in and the number. It makes a tree of empty files there, a thousand to a folder, and
//! prints seconds, those of them that the processor had to work, and the peak of the resident memory: for
//! the first scan, one with nothing changed, one with a hundredth of the files changed, one of a single
//! folder, and one after a tenth of the tree has moved, at a million files; each with its changes taken
//! over into the snapshot.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use files::{Dir, DirCache, Follow, Name, NameError, RelPath, Replace};
use rustix::time::{ClockId, clock_gettime};
use tree::{Change, Extent, ScanOptions, Snapshot, scan};

/// Files in a folder.
const FOLDER: usize = 1000;
/// Changes in a commit.
const BATCH: usize = 10_000;
/// Bytes that a caller keeps with each entry.
const NOTE: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, place, entries] = &words[..] else { return Err("scan FOLDER ENTRIES".into()) };
    let (place, entries) = (Path::new(place), entries.parse::<usize>()?);
    let tree = Dir::create_ambient(&place.join("tree"), 0o755)?;
    let state = Dir::create_ambient(&place.join("state"), 0o700)?;
    let begun = Instant::now();
    let mut folders = DirCache::new(tree.clone(), Follow::Never, 4);
    for number in 0..entries {
        write(&mut folders, number, b"")?;
    }
    println!("made {entries} files: {:.1} s", begun.elapsed().as_secs_f64());
    let name = Name::new("tree.redb")?;
    let snapshot = Snapshot::open(&state, &name)?;
    take("first scan", &tree, &state, &snapshot, &Extent::All)?;
    take("nothing changed", &tree, &state, &snapshot, &Extent::All)?;
    for number in (0..entries).step_by(100) {
        write(&mut folders, number, b"changed")?;
    }
    take("1 % changed", &tree, &state, &snapshot, &Extent::All)?;
    write(&mut folders, 1, b"changed")?;
    let folder = vec![folder(1)?];
    take("one folder", &tree, &state, &snapshot, &Extent::Folders(folder))?;
    tree.rename(&Name::new("group-000")?, (&tree, &Name::new("moved")?), Replace::No)?;
    take("a folder moved", &tree, &state, &snapshot, &Extent::All)?;
    drop(snapshot);
    let begun = Instant::now();
    Snapshot::open(&state, &name)?;
    let size = state.attributes_of(&RelPath::from(&name))?.size;
    println!("opened {} MiB again: {:.2} s", size >> 20, begun.elapsed().as_secs_f64());
    Ok(())
}

fn folder(number: usize) -> Result<RelPath, NameError> {
    let folder = number / FOLDER;
    RelPath::parse(format!("group-{:03}/folder-{folder:06}", folder / 100).as_bytes())
}

fn write(folders: &mut DirCache, number: usize, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = folders.get_or_make(&folder(number)?, 0o755)?;
    let name = Name::new(format!("measurement-{number:09}.dat"))?;
    Ok(folder.open_private(&name)?.write_all_at(content, 0)?)
}

/// Scans, takes the changes over, and prints how long each took.
fn take(
    what: &str,
    tree: &Dir,
    state: &Dir,
    snapshot: &Snapshot,
    extent: &Extent,
) -> Result<(), Box<dyn Error>> {
    let options = ScanOptions { settle: Duration::ZERO, ..ScanOptions::default() };
    let stop = AtomicBool::new(false);
    let begun = Clock::now();
    let scan = scan(tree, extent, snapshot, state, &options, SystemTime::now(), &stop)?;
    let scanned = begun.taken();
    let begun = Clock::now();
    let moves = scan.moves(&stop)?;
    let write = snapshot.write()?;
    for moved in &moves {
        write.tree()?.rename(&moved.from, &moved.to)?;
    }
    write.commit()?;
    let moved = begun.taken();
    let begun = Clock::now();
    let (mut changes, mut count) = (scan.changes()?, 0);
    loop {
        let write = snapshot.write()?;
        let mut entries = write.tree()?;
        let before = count;
        for change in changes.by_ref().take(BATCH) {
            match change? {
                Change::Added(found) | Change::Changed { entry: found, .. } => {
                    entries.put(&found.path, &found.known(vec![7; NOTE]))?;
                }
                Change::Removed { path, .. } => drop(entries.remove(&path)?),
            }
            count += 1;
        }
        drop(entries);
        write.commit()?;
        if count - before < BATCH {
            break;
        }
    }
    println!(
        "{what}: scan {scanned}; {} moves {moved}; {count} changes {}; peak {} MiB",
        moves.len(),
        begun.taken(),
        peak()? >> 10,
    );
    Ok(())
}

/// Time by the clock and of the processor.
struct Clock(Instant, Duration);

impl Clock {
    fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self(Instant::now(), Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32))
    }

    /// What has gone by, as text.
    fn taken(&self) -> String {
        let cpu = Self::now().1 - self.1;
        format!("{:.2} s ({:.2} s CPU)", self.0.elapsed().as_secs_f64(), cpu.as_secs_f64())
    }
}

/// The highest resident memory so far, in KiB.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = Dir::open_ambient(Path::new("/proc/self"))?;
    let status = status.read_small(&RelPath::parse(b"status")?, 1 << 16)?;
    let status = String::from_utf8(status)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(number.parse()?)
}
