//! What is copied: one large file of noise, and many small ones; and whether it arrived. The noise comes
//! from a seed, so that every run of the bench copies the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::machine;
use super::warden::{Folder, Warden};

/// What one measurement copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// One file.
    Large {
        /// Its length.
        bytes: u64,
    },
    /// Folders of small files.
    Many {
        /// How many folders.
        folders: u32,
        /// How many files in each.
        each: u32,
        /// The length of each.
        bytes: u64,
    },
}

const SEED: u64 = 0x6861_756c;

impl Load {
    /// The name of the file or folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large { .. } => "large",
            Self::Many { .. } => "many",
        }
    }

    /// What it is, for people.
    pub fn describe(self) -> String {
        match self {
            Self::Large { bytes } if bytes % (1 << 30) == 0 => {
                format!("one file of {} GiB", bytes >> 30)
            }
            Self::Large { bytes } => format!("one file of {:.0} MB", bytes as f64 / 1e6),
            Self::Many { folders, each, bytes } => {
                format!("{} files of {bytes} bytes in {folders} folders", grouped(folders * each))
            }
        }
    }

    /// How many bytes it has.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Large { bytes } => bytes,
            Self::Many { folders, each, bytes } => u64::from(folders * each) * bytes,
        }
    }

    /// How many files it has.
    pub fn files(self) -> u64 {
        match self {
            Self::Large { .. } => 1,
            Self::Many { folders, each, .. } => u64::from(folders * each),
        }
    }

    /// How many bytes it takes on a disk that is memory: every file has whole pages, and an inode. So files
    /// of 256 bytes take as much as those of 4096.
    pub fn space(self) -> u64 {
        const PAGE: u64 = 4096;
        const INODE: u64 = 1024;
        self.files() * ((self.bytes() / self.files().max(1)).next_multiple_of(PAGE) + INODE)
    }

    /// Writes it into a folder.
    pub fn write(self, folder: &Path) -> Result<()> {
        let path = folder.join(self.name());
        let mut noise = Noise::new(SEED);
        match self {
            Self::Large { bytes } => noise.write(&path, bytes),
            Self::Many { folders, each, bytes } => {
                for folder in 0..folders {
                    let folder = path.join(format!("folder-{folder:03}"));
                    fs::create_dir_all(&folder)
                        .with_context(|| format!("make {}", folder.display()))?;
                    for file in 0..each {
                        noise.write(&folder.join(format!("file-{file:03}")), bytes)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Where the data is: a folder for what is copied, one for where to, and one for keys and logs.
#[derive(Debug)]
pub struct Place {
    folder: Folder,
}

impl Place {
    /// Takes memory for disk where there is room for `bytes` of source and of target, else the folder for
    /// temporary files.
    pub fn find(warden: &Warden, bytes: u64) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        // The programs need memory too, and other programs are not to be pushed out of theirs.
        let wanted = bytes * 2 + (1 << 30);
        let base = if room(memory) >= wanted && machine::memory_available() >= wanted {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        if base != memory && room(&base) < wanted {
            bail!("neither {} nor {} has room for the copies", memory.display(), base.display());
        }
        Self::make(warden, &base)
    }

    /// Takes a folder on a disk that is no memory and has room for `bytes` of source and target together: what is
    /// to be durable costs there what it costs.
    pub fn on_disk(warden: &Warden, bytes: u64) -> Result<Self> {
        let wanted = bytes + (1 << 30);
        let folders = [std::env::temp_dir(), "/var/tmp".into(), super::copy::build_folder()?];
        let is_disk = |folder: &PathBuf| {
            let kind = df(folder, "fstype").unwrap_or_default();
            !["tmpfs", "ramfs", "overlay", ""].contains(&kind.as_str())
        };
        match folders.iter().find(|folder| is_disk(folder) && room(folder) >= wanted) {
            Some(base) => Self::make(warden, base),
            None => {
                let names = folders.map(|folder| folder.display().to_string()).join(", ");
                bail!("none of {names} lies on a disk with {:.1} GB free", wanted as f64 / 1e9)
            }
        }
    }

    fn make(warden: &Warden, base: &Path) -> Result<Self> {
        let name = format!("haul-bench-{}", std::process::id());
        let place = Self { folder: warden.folder(&base.join(name))? };
        for folder in [place.source(), place.target(), place.private()] {
            fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(place)
    }

    /// What is copied.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Where to.
    pub fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// Keys, configuration and logs.
    pub fn private(&self) -> PathBuf {
        self.folder.path().join("private")
    }

    /// Whether a load and its copy have room: where the disk is memory, programs need some beside it.
    pub fn holds(&self, load: Load) -> bool {
        let wanted = 2 * load.space() + (1 << 30);
        let inodes =
            df(self.path(), "iavail").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        room(self.path()).min(machine::memory_available()) >= wanted && inodes > 2 * load.files()
    }

    /// An empty folder for keys, configuration and logs, in place of the one that had the name before.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.private().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// All of it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The kind of file system and where it is mounted.
    pub fn describe(&self) -> String {
        let kind = df(self.folder.path(), "fstype").unwrap_or_else(|| "unknown".to_owned());
        let mount = df(self.folder.path(), "target").unwrap_or_else(|| "?".to_owned());
        format!("{kind} at {mount}")
    }

    /// Compares a copy with its source, byte by byte, and removes it.
    pub fn check_and_clear(&self, load: Load) -> Result<()> {
        let (source, copy) = (self.source().join(load.name()), self.target().join(load.name()));
        let files = compare(&source, &copy)?;
        if files == 0 {
            bail!("{} holds no file", copy.display());
        }
        self.clear()
    }

    /// Removes all that was to be copied.
    pub fn clear_source(&self) -> Result<()> {
        empty(&self.source())
    }

    /// How many bytes of the target are on the disk, whatever the names of the files are meanwhile.
    pub fn arrived(&self) -> u64 {
        allocated(&self.target())
    }

    /// Writes what is not yet on the disk, of whomever: no run is to pay for what was written before it.
    pub fn sync(&self) -> Result<()> {
        machine::output(Command::new("sync").arg("-f").arg(self.path())).map(|_| ())
    }

    /// Empties the target.
    pub fn clear(&self) -> Result<()> {
        empty(&self.target())
    }
}

fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// How many bytes the files below a folder take.
pub fn allocated(folder: &Path) -> u64 {
    let Ok(list) = fs::read_dir(folder) else { return 0 };
    // What goes away while it is looked at does not count.
    list.flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| match found.is_dir() {
            true => allocated(&path),
            false => found.blocks() * 512,
        })
        .sum()
}

/// A number with commas between thousands.
pub fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The only folder that is in a folder.
pub fn only_folder(folder: &Path) -> Result<PathBuf> {
    let list = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut folders = Vec::new();
    for entry in list {
        let path = entry?.path();
        folders.extend(path.is_dir().then_some(path));
    }
    match <[PathBuf; 1]>::try_from(folders) {
        Ok([only]) => Ok(only),
        Err(folders) => bail!("{} holds {} folders and not one", folder.display(), folders.len()),
    }
}

/// Compares two trees by names and content; how many files there are.
pub fn compare(source: &Path, copy: &Path) -> Result<u64> {
    if !source.is_dir() {
        compare_files(source, copy)?;
        return Ok(1);
    }
    let names = |folder: &Path| -> Result<Vec<_>> {
        let list = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        let mut names =
            list.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, std::io::Error>>()?;
        names.sort_unstable();
        Ok(names)
    };
    let expected = names(source)?;
    if names(copy)? != expected {
        bail!("{} does not hold what {} holds", copy.display(), source.display());
    }
    let mut files = 0;
    for name in expected {
        files += compare(&source.join(&name), &copy.join(&name))?;
    }
    Ok(files)
}

fn compare_files(source: &Path, copy: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
    let (mut one, mut other) = (open(source)?, open(copy)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        bail!("{} has not the length of {}", copy.display(), source.display());
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(());
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            bail!("{} is not {}", copy.display(), source.display());
        }
    }
}

/// Xorshift64: fast, from a seed, and nothing that a program could compress.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    /// Noise from a seed; none is like the noise of another seed.
    pub fn new(seed: u64) -> Self {
        // It stays at zero forever.
        Self(seed.max(1))
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.step() % limit.max(1)
    }

    fn step(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Writes a file of noise.
    pub fn write(&mut self, path: &Path, bytes: u64) -> Result<()> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let mut file = BufWriter::with_capacity(bytes.min(1 << 20) as usize, file);
        for _ in 0..bytes / 8 {
            file.write_all(&self.step().to_le_bytes())?;
        }
        let rest = (bytes % 8) as usize;
        if rest > 0 {
            file.write_all(&self.step().to_le_bytes()[..rest])?;
        }
        file.flush().with_context(|| format!("write {}", path.display()))
    }
}

/// How many bytes a file system has room for; none where that is not known.
fn room(path: &Path) -> u64 {
    let kibibytes = df(path, "avail").and_then(|text| text.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn df(path: &Path, column: &str) -> Option<String> {
    let mut command = Command::new("df");
    let output = command.arg(format!("--output={column}")).arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().nth(1)?.trim().to_owned())
}

#[cfg(test)]
mod tests;
