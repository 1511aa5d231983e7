//! Open handles of directories below one root, so that a tree of many small files does not resolve
//! the same parents again and again. Holds at most its capacity and forgets the least recently used.

use std::collections::{BTreeMap, HashMap};

use super::{Dir, Follow};
use crate::error::Result;
use crate::path::RelPath;

/// A cache of directory handles below a root.
///
/// A handle stays valid when its directory is renamed or removed by somebody else; then it still
/// means the old one. [`DirCache::forget`] after a rename or removal of one's own.
pub struct DirCache {
    root: Dir,
    follow: Follow,
    capacity: usize,
    handles: HashMap<RelPath, (Dir, u64)>,
    /// From the time of last use to the path; times are unique.
    by_use: BTreeMap<u64, RelPath>,
    clock: u64,
}

impl DirCache {
    /// A cache of at most `capacity` handles, besides the root's.
    pub fn new(root: Dir, follow: Follow, capacity: usize) -> DirCache {
        let (handles, by_use) = (HashMap::new(), BTreeMap::new());
        DirCache { root, follow, capacity, handles, by_use, clock: 0 }
    }

    /// The directory that all paths are relative to.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The handle of a directory that exists.
    pub fn get(&mut self, path: &RelPath) -> Result<Dir> {
        if let Some(dir) = self.lookup(path) {
            return Ok(dir);
        }
        let dir = self.root.open_dir(path, self.follow)?;
        self.insert(path, &dir);
        Ok(dir)
    }

    /// The handle of a directory, made with its parents if missing; never through a link.
    pub fn get_or_make(&mut self, path: &RelPath, mode: u32) -> Result<Dir> {
        if let Some(dir) = self.lookup(path) {
            return Ok(dir);
        }
        let dir = self.root.make_dir_all(path, mode)?;
        self.insert(path, &dir);
        Ok(dir)
    }

    /// Drops the handles of a path and of all below it.
    pub fn forget(&mut self, path: &RelPath) {
        let by_use = &mut self.by_use;
        self.handles.retain(|held, (_, used)| {
            let is_kept = !held.starts_with(path);
            if !is_kept {
                by_use.remove(used);
            }
            is_kept
        });
    }

    /// How many handles are held.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    fn lookup(&mut self, path: &RelPath) -> Option<Dir> {
        if path.is_root() {
            return Some(self.root.clone());
        }
        let (dir, used) = self.handles.get_mut(path)?;
        self.clock += 1;
        if let Some(path) = self.by_use.remove(used) {
            self.by_use.insert(self.clock, path);
        }
        *used = self.clock;
        Some(dir.clone())
    }

    fn insert(&mut self, path: &RelPath, dir: &Dir) {
        if self.capacity == 0 || path.is_root() {
            return;
        }
        while self.handles.len() >= self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.handles.remove(&oldest);
        }
        self.clock += 1;
        self.handles.insert(path.clone(), (dir.clone(), self.clock));
        self.by_use.insert(self.clock, path.clone());
    }
}
