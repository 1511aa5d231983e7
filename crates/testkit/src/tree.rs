//! Trees to copy, grown from a seed with everything odd that a disk can hold, and the comparison of two of
//! them byte by byte. It shares no code with what is tested but the comparison's walk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use files::Dir;
use tree::{CompareOptions, compare};

/// A folder of its own for one test, gone at its end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder among the temporary files.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = format!("haul-it-{}-{number}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("make a folder for the test");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.join(below)
    }

    /// A folder in it, made.
    pub fn folder(&self, below: impl AsRef<Path>) -> PathBuf {
        let path = self.join(below);
        fs::create_dir_all(&path).expect("make a folder for the test");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("HAUL_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.0.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// SplitMix64: small, seeded, and good enough to vary tests.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Draws from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.draw().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// What to grow.
#[derive(Clone, Debug)]
pub struct Growth {
    /// All chance comes from here.
    pub seed: u64,
    /// How many small files.
    pub files: usize,
    /// Small files are shorter than this; most of them are much shorter.
    pub most_bytes: u64,
    /// The sizes of large files.
    pub large: Vec<u64>,
    /// With everything odd: holes, links, names, modes, times, depth.
    pub odd: bool,
}

impl Growth {
    /// A plain tree of small files.
    pub fn small(seed: u64, files: usize) -> Self {
        Self { seed, files, most_bytes: 8 * 1024, large: Vec::new(), odd: false }
    }

    /// Grows it in a new folder.
    pub fn grow(&self, root: &Path) {
        fs::create_dir_all(root).expect("make the root of a tree");
        let mut random = Random::new(self.seed);
        let mut folders = vec![root.to_owned()];
        for number in 0..self.files / 40 {
            let parent = &folders[random.below(folders.len() as u64) as usize];
            let folder = parent.join(format!("folder {number}"));
            fs::create_dir(&folder).expect("make a folder");
            folders.push(folder);
        }
        for number in 0..self.files {
            let folder = &folders[random.below(folders.len() as u64) as usize];
            let most = match number % 10 {
                0 => 2,
                1..8 => self.most_bytes / 8 + 1,
                _ => self.most_bytes,
            };
            let size = random.below(most);
            let path = folder.join(format!("file-{number}"));
            write(&path, &random.bytes(size as usize));
            if self.odd {
                set_mode(&path, random.below(0o1000) as u32);
            }
            set_time(
                &path,
                1_000_000_000 + random.below(700_000_000) as i64,
                random.below(1_000_000_000) as u32,
            );
        }
        for (number, size) in self.large.iter().enumerate() {
            write(&root.join(format!("large-{number}")), &random.bytes(*size as usize));
        }
        if self.odd {
            odd(&root.join("odd"), &mut random);
        }
    }
}

/// One of everything.
fn odd(root: &Path, random: &mut Random) {
    let file = |name: &[u8], bytes: &[u8]| {
        let path = root.join(OsStr::from_bytes(name));
        write(&path, bytes);
        path
    };
    fs::create_dir(root).expect("make a folder");
    file(b"empty", b"");
    file(b"one", b"1");
    // Around the sizes of chunks and bundles.
    for size in [65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 2_097_152] {
        file(format!("size-{size}").as_bytes(), &random.bytes(size));
    }
    for name in [
        b"not-utf8-\xff\xfe\x80".as_slice(),
        b"control-\x01\x07\x1b[31m\x7f",
        b"line\nfeed",
        b"tab\tand\rreturn",
        b" blanks ",
        b"-dash",
        b"--exclude",
        b"a:b",
        b"back\\slash",
        b"quo\"te'`$(true)",
        b"...",
        b"..a",
        b"*?[a]",
        "bidi-\u{202e}gnp.exe".as_bytes(),
        "\u{e4}\u{308}".as_bytes(),
        [b'x'; 255].as_slice(),
    ] {
        file(name, &random.bytes(100));
    }
    holes(root, random);
    links(root, random);
    let mut deep = root.join("deep");
    fs::create_dir(&deep).expect("make a folder");
    for level in 0..80 {
        deep.push(format!("level {level}"));
        fs::create_dir(&deep).expect("make a folder");
    }
    write(&deep.join("bottom"), b"at the bottom");
    fs::create_dir(root.join("empty folder")).expect("make a folder");
    for (at, (seconds, nanos)) in
        [(0, 0), (0, 1), (-1, 999_999_999), (-2_000_000_000, 5), (4_102_444_800, 123_456_789)]
            .into_iter()
            .enumerate()
    {
        let path = file(format!("time-{at}").as_bytes(), b"when");
        set_time(&path, seconds, nanos);
    }
    for mode in [0o000, 0o111, 0o200, 0o400, 0o444, 0o600, 0o640, 0o755, 0o777] {
        let path = file(format!("mode-{mode:03o}").as_bytes(), b"who");
        set_mode(&path, mode);
        let folder = root.join(format!("folder-mode-{mode:03o}"));
        fs::create_dir(&folder).expect("make a folder");
        write(&folder.join("inside"), b"in");
        set_mode(&folder, mode);
    }
}

fn holes(root: &Path, random: &mut Random) {
    let all = File::create(root.join("sparse-all")).expect("make a file");
    all.set_len(3 << 20).expect("stretch a file");
    let mut some = File::create(root.join("sparse-some")).expect("make a file");
    for offset in [0, 1 << 20, (5 << 20) + 123] {
        some.seek(SeekFrom::Start(offset)).expect("seek");
        some.write_all(&random.bytes(5000)).expect("write");
    }
    some.set_len(8 << 20).expect("stretch a file");
}

fn links(root: &Path, random: &mut Random) {
    let shared = root.join("shared");
    write(&shared, &random.bytes(3000));
    fs::create_dir(root.join("far")).expect("make a folder");
    for name in ["shared too", "far/shared three"] {
        fs::hard_link(&shared, root.join(name)).expect("make a hard link");
    }
    let large = root.join("shared large");
    write(&large, &random.bytes(2_500_000));
    fs::hard_link(&large, root.join("far/shared large too")).expect("make a hard link");
    let long = "l".repeat(1000);
    for (name, target) in [
        ("link-file", "shared"),
        ("link-folder", "far"),
        ("link-up", "../../../.."),
        ("link-absolute", "/etc/passwd"),
        ("link-nowhere", "no/such/thing"),
        ("link-loop", "link-loop"),
        ("link-long", long.as_str()),
    ] {
        symlink(target, root.join(name)).expect("make a link");
    }
    symlink(OsStr::from_bytes(b"\xff\n"), root.join("link-bytes")).expect("make a link");
}

/// Makes or replaces a file.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Sets permission bits; one who is not root keeps the right to read, or nothing could be copied.
pub fn set_mode(path: &Path, mode: u32) {
    let needed = match (is_root(), path.is_dir()) {
        (true, _) => 0,
        (false, true) => 0o700,
        (false, false) => 0o400,
    };
    fs::set_permissions(path, Permissions::from_mode(mode | needed)).expect("set a mode");
}

/// Sets the modification time, in seconds since 1970 (also before) and nanoseconds after that.
pub fn set_time(path: &Path, seconds: i64, nanos: u32) {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    let time: SystemTime = time + Duration::from_nanos(nanos.into());
    let file = File::open(path).expect("open a file");
    file.set_times(FileTimes::new().set_modified(time)).expect("set a time");
}

/// Whether nothing is forbidden to this process.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where two trees differ, in content, kind, mode, time, link target or which names share a file. What
/// haul keeps for itself is left out. Trees that change meanwhile are told as different.
pub fn differences(first: &Path, second: &Path) -> Vec<String> {
    let open = |path: &Path| {
        Dir::open_ambient(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let options = CompareOptions { most: 20, ..CompareOptions::default() };
    let found = compare(&open(first), &open(second), &options).expect("both roots can be read");
    let mut all: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    if all.is_empty() {
        match (shared(first), shared(second)) {
            (Ok(a), Ok(b)) if a == b => {}
            (a, b) => all.push(format!("hard links are {a:?} here and {b:?} there")),
        }
    }
    all
}

/// Fails the test if two trees differ.
#[track_caller]
pub fn assert_same(first: &Path, second: &Path) {
    let found = differences(first, second);
    let (a, b) = (first.display(), second.display());
    assert!(found.is_empty(), "{a} and {b} differ:\n{}", found.join("\n"));
}

/// The names that share a file, for every file that has several.
fn shared(root: &Path) -> io::Result<Vec<Vec<PathBuf>>> {
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for (path, meta) in listed(root)? {
        if meta.is_file() && meta.nlink() > 1 {
            groups.entry(meta.ino()).or_default().push(path);
        }
    }
    let mut groups: Vec<Vec<PathBuf>> = groups.into_values().collect();
    groups.sort();
    Ok(groups)
}

/// What all files below a folder take on the disk, staging folders too, while they come and go.
pub fn allocated(root: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let bytes = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => allocated(&path),
        Ok(meta) if meta.is_file() => meta.blocks() * 512,
        _ => 0,
    };
    paths.map(bytes).sum()
}

/// Everything below a folder, relative to it and sorted, without what haul keeps in its staging folders.
pub fn entries(root: &Path) -> Vec<(PathBuf, Metadata)> {
    listed(root).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`entries`], where something may vanish meanwhile.
fn listed(root: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| named(&folder, error))? {
            let path = entry.map_err(|error| named(&folder, error))?.path();
            if path.file_name() == Some(OsStr::new(".haul")) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).map_err(|error| named(&path, error))?;
            if meta.is_dir() {
                pending.push(path.clone());
            }
            let below = path.strip_prefix(root).expect("it is below").to_owned();
            all.push((below, meta));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// The bytes of all files, each name counted once.
pub fn total_bytes(root: &Path) -> u64 {
    entries(root).iter().filter(|(_, meta)| meta.is_file()).map(|(_, meta)| meta.len()).sum()
}
