//! A folder for one test, removed at its end, and what tests put into it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use files::{Dir, RelPath, Timestamp};

/// A new empty folder.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("haul-tree-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn dir(&self) -> Dir {
        Dir::open_ambient(&self.0).unwrap()
    }

    pub(crate) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.0.join(OsStr::from_bytes(path.as_ref()))
    }

    pub(crate) fn make_dir(&self, path: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    /// Writes a file of mode 0644 and a fixed time, with the folders that it needs.
    pub(crate) fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> &Self {
        let at = self.at(&path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, content).unwrap();
        self.chmod(&path, 0o644).touch(path, 1_700_000_000)
    }

    pub(crate) fn symlink(&self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &Self {
        symlink(OsStr::from_bytes(target.as_ref()), self.at(path)).unwrap();
        self
    }

    pub(crate) fn fifo(&self, path: impl AsRef<[u8]>) -> &Self {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, self.at(path), kind, mode, 0).unwrap();
        self
    }

    pub(crate) fn chmod(&self, path: impl AsRef<[u8]>, mode: u32) -> &Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn touch(&self, path: impl AsRef<[u8]>, seconds: i64) -> &Self {
        let path = RelPath::parse(path.as_ref()).unwrap();
        let dir = self.dir().open_dir(&path.parent().unwrap(), files::Follow::Never).unwrap();
        dir.set_times(&path.file_name().unwrap(), Timestamp { seconds, nanos: 0 }).unwrap();
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `remove_dir_all` holds a descriptor for each level, and some tests go a thousand deep.
        let _ = Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

/// SplitMix64: small, seeded, and good enough to vary tests.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
