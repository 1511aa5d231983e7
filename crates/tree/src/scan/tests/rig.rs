//! A tree on disk, a snapshot of it, and a receiver: a map that gets only what scans give out. If it ends
//! up as the tree is, nothing was missed, and nothing given out that could not be carried out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use files::{Dir, Follow, Kind, Name, RelPath, Timestamp};

use super::super::*;
use super::STOP;
use crate::scratch::Scratch;
use crate::stamp::{Found, Stamp};
use crate::walk::{Step, Walk, WalkRoot};

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Options of a scan for which nothing is too young.
pub(super) fn at_once() -> ScanOptions {
    ScanOptions { settle: Duration::ZERO, ..ScanOptions::default() }
}

/// What the receiver has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Folder,
    File(Vec<u8>),
    Link(Vec<u8>),
}

pub(super) struct Rig {
    scratch: Scratch,
    pub(super) snapshot: Snapshot,
    pub(super) receiver: BTreeMap<RelPath, Held>,
    /// Files whose content was read for the receiver.
    pub(super) sent: usize,
    /// So that each write has a time and a content of its own: the clock of files ticks too slowly.
    writes: i64,
}

impl Rig {
    pub(super) fn new() -> Self {
        let scratch = Scratch::new();
        scratch.make_dir("tree").make_dir("state").make_dir("work");
        let state = scratch.dir().open_dir(&path("state"), Follow::Never).unwrap();
        let snapshot = Snapshot::open(&state, &Name::new("tree.redb").unwrap()).unwrap();
        Self { scratch, snapshot, receiver: BTreeMap::new(), sent: 0, writes: 0 }
    }

    pub(super) fn tree(&self) -> Dir {
        self.scratch.dir().open_dir(&path("tree"), Follow::Never).unwrap()
    }

    pub(super) fn work(&self) -> Dir {
        self.scratch.dir().open_dir(&path("work"), Follow::Never).unwrap()
    }

    pub(super) fn at(&self, path: &RelPath) -> PathBuf {
        self.scratch.at([b"tree/", path.as_bytes()].concat())
    }

    pub(super) fn write(&mut self, path: &RelPath, len: usize) {
        self.writes += 1;
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let mut content = format!("{} ", self.writes).into_bytes();
        content.resize(content.len() + len, b'.');
        fs::write(at, content).unwrap();
        // In the last minutes, so that the tests of settling find it young.
        let seconds = Timestamp::from(SystemTime::now()).seconds - 300;
        let nanos = u32::try_from(self.writes).unwrap();
        let above = self.tree().open_dir(&path.parent().unwrap(), Follow::Never).unwrap();
        above.set_times(&path.file_name().unwrap(), Timestamp { seconds, nanos }).unwrap();
    }

    pub(super) fn make_dir(&self, path: &RelPath) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    pub(super) fn symlink(&self, path: &RelPath, target: &str) {
        symlink(target, self.at(path)).unwrap();
    }

    pub(super) fn hard_link(&self, old: &RelPath, new: &RelPath) {
        fs::hard_link(self.at(old), self.at(new)).unwrap();
    }

    pub(super) fn chmod(&self, path: &RelPath, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn rename(&self, from: &RelPath, to: &RelPath) {
        let to = self.at(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.at(from), to).unwrap();
    }

    pub(super) fn remove(&self, path: &RelPath) {
        match self.kind(path) {
            Some(Kind::Directory) => fs::remove_dir_all(self.at(path)).unwrap(),
            _ => fs::remove_file(self.at(path)).unwrap(),
        }
    }

    pub(super) fn remove_tree(&self) {
        fs::remove_dir_all(self.at(&RelPath::root())).unwrap();
    }

    pub(super) fn kind(&self, path: &RelPath) -> Option<Kind> {
        Some(self.tree().attributes_of(path).ok()?.kind)
    }

    /// What is on disk, in tree order.
    fn found(&self) -> Vec<Found> {
        let walk =
            Walk::new(self.tree(), WalkRoot::Inside(RelPath::root()), WalkOptions::default());
        let mut found: Vec<Found> = walk
            .unwrap()
            .filter_map(|step| match step {
                Step::Enter(entry) | Step::Leaf(entry) => Some(Found {
                    stamp: Stamp::from(&entry.attributes),
                    path: entry.path,
                    link_target: entry.link_target,
                }),
                Step::Leave { .. } => None,
                Step::Problem { path, error } => panic!("{path}: {error}"),
            })
            .filter(|found| !found.path.is_root())
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    pub(super) fn paths(&self, is_wanted: impl Fn(Kind) -> bool) -> Vec<RelPath> {
        let found = self.found().into_iter();
        found.filter(|found| is_wanted(found.stamp.kind)).map(|found| found.path).collect()
    }

    pub(super) fn scan(&self, extent: &Extent, options: &ScanOptions) -> Scan {
        let (tree, work) = (self.tree(), self.work());
        scan(&tree, extent, &self.snapshot, &work, options, SystemTime::now(), &STOP).unwrap()
    }

    /// Scans everything and carries it out.
    pub(super) fn take_over(&mut self) {
        let scan = self.scan(&Extent::All, &at_once());
        self.carry_out(&scan, 100);
    }

    /// Carries out what a scan gives out, in the snapshot and at the receiver, and commits after each
    /// `batch` of changes. Says how many moves there were.
    pub(super) fn carry_out(&mut self, scan: &Scan, batch: usize) -> usize {
        let moves = scan.moves(&STOP).unwrap();
        let write = self.snapshot.write().unwrap();
        let mut tree = write.tree().unwrap();
        for moved in &moves {
            assert!(tree.rename(&moved.from, &moved.to).unwrap() > 0, "{moved:?}");
            receive_move(&mut self.receiver, moved);
        }
        drop(tree);
        write.commit().unwrap();
        let mut changes = scan.changes().unwrap();
        let mut last = None;
        loop {
            let write = self.snapshot.write().unwrap();
            let mut tree = write.tree().unwrap();
            let mut count = 0;
            for change in changes.by_ref().take(batch) {
                let change = change.unwrap();
                let path = match &change {
                    Change::Added(found) => found.path.clone(),
                    Change::Changed { entry, .. } => entry.path.clone(),
                    Change::Removed { path, .. } => path.clone(),
                };
                assert!(last.as_ref().is_none_or(|last| *last <= path), "{path} after {last:?}");
                last = Some(path);
                match &change {
                    Change::Added(found) => tree.put(&found.path, &found.known(vec![1])).unwrap(),
                    Change::Changed { entry, before, .. } => {
                        assert_eq!(before.note, [1]);
                        tree.put(&entry.path, &entry.known(vec![1])).unwrap();
                    }
                    Change::Removed { path, .. } => {
                        assert!(tree.remove(path).unwrap() > 0);
                    }
                }
                self.receive(change);
                count += 1;
            }
            drop(tree);
            write.commit().unwrap();
            if count < batch {
                return moves.len();
            }
        }
    }

    fn receive(&mut self, change: Change) {
        let held = match change {
            Change::Removed { path, .. } => {
                assert!(self.receiver.contains_key(&path), "{path} is not there to be removed");
                self.receiver.retain(|held, _| !held.starts_with(&path));
                return;
            }
            Change::Changed { entry, content: false, .. } => {
                assert!(self.receiver.contains_key(&entry.path), "{}", entry.path);
                return;
            }
            Change::Added(found) => {
                assert!(!self.receiver.contains_key(&found.path), "{} twice", found.path);
                found
            }
            Change::Changed { entry, .. } => entry,
        };
        let above = held.path.parent().unwrap();
        let is_in_folder = above.is_root() || self.receiver.get(&above) == Some(&Held::Folder);
        assert!(is_in_folder, "{} comes before its folder", held.path);
        let value = self.hold(&held);
        self.sent += usize::from(matches!(value, Held::File(_)));
        self.receiver.insert(held.path, value);
    }

    /// What the tree has there now.
    fn hold(&self, found: &Found) -> Held {
        match (found.stamp.kind, &found.link_target) {
            (Kind::Directory, _) => Held::Folder,
            (Kind::Symlink, Some(target)) => Held::Link(target.clone()),
            _ => Held::File(fs::read(self.at(&found.path)).unwrap()),
        }
    }

    /// That snapshot and receiver are as the tree is.
    pub(super) fn check(&self, context: &str) {
        let found = self.found();
        let known = self.snapshot.read().unwrap().all().unwrap().map(|item| {
            let (path, known) = item.unwrap();
            Found { path, stamp: known.stamp, link_target: known.link_target }
        });
        let known: Vec<Found> = known.collect();
        for (known, found) in known.iter().zip(&found) {
            // The size of a folder means nothing, and may change within one tick of the clock of files.
            let mut known = known.clone();
            if known.stamp.kind == Kind::Directory {
                known.stamp.size = found.stamp.size;
            }
            assert_eq!(known, *found, "{context}: the snapshot");
        }
        assert_eq!(known.len(), found.len(), "{context}: the snapshot");
        let held = found.iter().map(|found| (found.path.clone(), self.hold(found)));
        assert!(self.receiver == held.collect(), "{context}: the receiver");
    }
}

/// Where a path is once `from` has become `to`.
pub(super) fn moved(path: &RelPath, from: &RelPath, to: &RelPath) -> RelPath {
    let mut rest = path.names().skip(from.depth());
    rest.try_fold(to.clone(), |path, name| path.join(&name)).unwrap()
}

fn receive_move(receiver: &mut BTreeMap<RelPath, Held>, moved: &Moved) {
    let Moved { from, to, replaces, .. } = moved;
    assert!(!from.starts_with(to) && !to.starts_with(from), "{moved:?}");
    let there = receiver.remove(to);
    assert_eq!(there.is_some(), *replaces, "{moved:?}");
    assert_ne!(there, Some(Held::Folder), "{moved:?}");
    let entries: Vec<_> = receiver.extract_if(.., |path, _| path.starts_with(from)).collect();
    assert!(entries.iter().any(|(path, _)| path == from), "{moved:?}");
    for (path, held) in entries {
        receiver.insert(self::moved(&path, from, to), held);
    }
}
