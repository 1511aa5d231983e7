//! How the tree on disk compares with the journal: by kind, size, time and mode, without reading content, which was
//! verified before it got its name.

use files::{Attributes, Dir, Follow, Kind, RelPath, is_reserved};

use super::journal::{Entry, View, What};
use crate::event::Tally;

/// Goes through the whole tree once. What cannot be looked at counts as missing.
pub(super) fn compare(root: &Dir, view: &View) -> Tally {
    let mut tally = Tally::default();
    let mut found = 0;
    let mut folders = vec![RelPath::root()];
    while let Some(folder) = folders.pop() {
        let Ok(dir) = root.open_dir(&folder, Follow::Never) else { continue };
        let Ok(entries) = dir.entries() else { continue };
        for name in entries.flatten().filter_map(|entry| entry.name().ok()) {
            if is_reserved(&name) {
                continue;
            }
            let (Ok(path), Ok(attributes)) =
                (folder.join(&name), dir.attributes_of(&RelPath::from(&name)))
            else {
                continue;
            };
            if attributes.kind == Kind::Directory {
                folders.push(path.clone());
            }
            match view.entry(&path) {
                Ok(Some(entry)) => {
                    found += 1;
                    let target = || dir.read_link(&name).unwrap_or_default();
                    let is_same = !entry.is_wanted && agrees(&entry, &attributes, target);
                    *(if is_same { &mut tally.same } else { &mut tally.different }) += 1;
                }
                Ok(None) | Err(_) => tally.extra += 1,
            }
        }
    }
    tally.missing = view.entries().unwrap_or(0).saturating_sub(found);
    tally
}

fn agrees(entry: &Entry, found: &Attributes, target: impl FnOnce() -> Vec<u8>) -> bool {
    let mode = |told: u16| found.mode & 0o777 == u32::from(told) & 0o777;
    match &entry.what {
        What::Folder { told } => found.kind == Kind::Directory && mode(told.mode),
        What::File { told, size, .. } => {
            let stamp = (found.kind, found.size, found.mtime);
            stamp == (Kind::File, *size, told.mtime) && mode(told.mode)
        }
        What::Symlink { target: told, .. } => found.kind == Kind::Symlink && target() == *told,
        What::HardLink { .. } => found.kind == Kind::File,
    }
}
