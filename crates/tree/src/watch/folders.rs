//! The folders that are watched, each known by its watch and by the folder that it is in, so that one
//! that moves takes along all below it by a single change. Pure.

use std::collections::{HashMap, HashSet};

use files::{MAX_DEPTH, Name, RelPath};

/// Watched folders.
#[derive(Default)]
pub(super) struct Folders {
    root: Option<i32>,
    /// What each folder but the root is in, and its name there.
    places: HashMap<i32, (i32, Name)>,
    changes: u64,
}

impl Folders {
    pub(super) fn set_root(&mut self, watch: i32) {
        self.root = Some(watch);
    }

    pub(super) fn is_root(&self, watch: i32) -> bool {
        self.root == Some(watch)
    }

    /// Says where a folder is, a new one or one that has moved. The root stays where it is.
    pub(super) fn set(&mut self, watch: i32, above: i32, name: &Name) {
        let place = (above, name.clone());
        if !self.is_root(watch) && self.places.get(&watch) != Some(&place) {
            self.places.insert(watch, place);
            self.changes += 1;
        }
    }

    /// How often a folder was put somewhere where it had not been.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn contains(&self, watch: i32) -> bool {
        self.is_root(watch) || self.places.contains_key(&watch)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() + usize::from(self.root.is_some())
    }

    /// Where a folder is; `None` if it, or one that it is in, is not watched.
    pub(super) fn path(&self, watch: i32) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = watch;
        while !self.is_root(at) {
            let (above, name) = self.places.get(&at)?;
            // Bounds the way where folders were moved so fast that they seem to be in each other.
            if names.len() == MAX_DEPTH {
                return None;
            }
            names.push(name);
            at = *above;
        }
        names.into_iter().rev().try_fold(RelPath::root(), |path, name| path.join(name)).ok()
    }

    /// Forgets one folder. Those below it have no path from then on.
    pub(super) fn remove(&mut self, watch: i32) {
        self.places.remove(&watch);
        if self.is_root(watch) {
            self.root = None;
        }
    }

    /// Forgets the folder of that name and all below it, and says what their watches were. It looks at
    /// all folders.
    pub(super) fn take_subtree(&mut self, above: i32, name: &Name) -> Vec<i32> {
        let here = |place: &(i32, Name)| place.0 == above && place.1 == *name;
        let top = self.places.iter().find(|(_, place)| here(place)).map(|(watch, _)| *watch);
        let Some(top) = top else { return Vec::new() };
        // Whether each folder is below the one that goes, found out once for all on the way up.
        let mut gone = HashSet::from([top]);
        let mut stays = HashSet::new();
        for &watch in self.places.keys() {
            let (mut at, mut way) = (watch, Vec::new());
            while !gone.contains(&at) && !stays.contains(&at) && way.len() <= MAX_DEPTH {
                way.push(at);
                match self.places.get(&at) {
                    Some((above, _)) => at = *above,
                    None => break,
                }
            }
            if gone.contains(&at) { gone.extend(way) } else { stays.extend(way) }
        }
        self.places.retain(|watch, _| !gone.contains(watch));
        gone.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn path(text: &str) -> Option<RelPath> {
        Some(RelPath::parse(text.as_bytes()).unwrap())
    }

    /// `a`, `a/b`, `a/b/c` and `d` as 1 to 4 in the root, which is 0.
    fn folders() -> Folders {
        let mut folders = Folders::default();
        folders.set_root(0);
        for (watch, above, text) in [(1, 0, "a"), (2, 1, "b"), (3, 2, "c"), (4, 0, "d")] {
            folders.set(watch, above, &name(text));
        }
        folders
    }

    #[test]
    fn a_folder_that_moves_takes_along_what_is_below_it() {
        let mut folders = folders();
        assert_eq!((folders.path(0), folders.path(3)), (path(""), path("a/b/c")));
        folders.set(2, 4, &name("e"));
        assert_eq!((folders.path(2), folders.path(3)), (path("d/e"), path("d/e/c")));
        assert_eq!(folders.len(), 5);
    }

    #[test]
    fn a_folder_that_goes_takes_along_what_is_below_it() {
        let mut folders = folders();
        let mut gone = folders.take_subtree(1, &name("b"));
        gone.sort_unstable();
        assert_eq!(gone, [2, 3]);
        assert_eq!((folders.len(), folders.path(1), folders.path(3)), (3, path("a"), None));
        assert!(folders.take_subtree(1, &name("b")).is_empty());
        assert!(!folders.contains(2) && folders.contains(4));
    }

    #[test]
    fn what_is_in_itself_has_no_path() {
        let mut folders = folders();
        folders.set(1, 3, &name("a"));
        assert_eq!(folders.path(1), None);
        assert_eq!(folders.take_subtree(0, &name("d")), [4]);
        folders.remove(0);
        assert_eq!((folders.path(4), folders.path(0), folders.contains(0)), (None, None, false));
    }
}
