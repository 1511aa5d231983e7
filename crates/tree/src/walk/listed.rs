//! A walk that visits only what a list names, and the folders on the way there. Nothing but these is looked
//! at, however much lies beside them. No link is followed.

use std::collections::VecDeque;
use std::sync::Arc;

use files::{Dir, DirCache, FilesError, Follow, Kind, RelPath, is_reserved};

use super::{Entry, OPEN_LEVELS, Step, Walk, WalkOptions, WalkRoot, look_at};
use crate::filter::{Filter, Verdict};
use crate::selection::Selection;

/// A walk over a list, with the steps of a [`Walk`]. What is listed and cannot be found is a problem, named.
/// No folder is ever left as complete: what is beside the list was not seen.
pub struct ListedWalk {
    folders: DirCache,
    list: Arc<Selection>,
    filter: Filter,
    /// The number of the next path.
    next: usize,
    /// Folders that were entered and not left, below the root.
    entered: Vec<RelPath>,
    ready: VecDeque<Step>,
    /// In a folder that is listed as a whole.
    inner: Option<Walk>,
    /// What of the list lies here comes with the folder, or is left out with it.
    past: Option<RelPath>,
    ended: bool,
}

impl ListedWalk {
    /// A walk below `root`, of which paths are relative to it.
    ///
    /// # Errors
    /// When the root cannot be looked at.
    pub fn new(root: Dir, list: Arc<Selection>, filter: Filter) -> Result<Self, FilesError> {
        let attributes = root.attributes()?;
        let entry = Entry { path: RelPath::root(), attributes, link_target: None };
        Ok(Self {
            folders: DirCache::new(root, Follow::Never, OPEN_LEVELS),
            list,
            filter,
            next: 0,
            entered: Vec::new(),
            ready: VecDeque::from([Step::Enter(entry)]),
            inner: None,
            past: None,
            ended: false,
        })
    }

    /// Goes to the next path of the list, or to the end.
    fn go_on(&mut self) {
        let Some(bytes) = self.list.get(self.next) else {
            self.leave_all(&RelPath::root());
            self.ready.push_back(Step::Leave { path: RelPath::root(), complete: false });
            self.ended = true;
            return;
        };
        let path = RelPath::parse(bytes).unwrap_or_default();
        self.next += 1;
        if self.past.as_ref().is_some_and(|past| path.starts_with(past)) {
            return;
        }
        if path.is_root() {
            // The root was entered. As a whole, it is every entry that it has.
            if self.list.is_whole() {
                self.walk_whole(&path);
            }
            return;
        }
        self.leave_all(&path);
        if let Err(error) = self.come_to(&path) {
            self.ready.push_back(Step::Problem { path, error });
        }
    }

    /// Leaves the folders that the path does not lie in.
    fn leave_all(&mut self, path: &RelPath) {
        while let Some(last) = self.entered.pop_if(|last| !path.starts_with(last)) {
            self.ready.push_back(Step::Leave { path: last, complete: false });
        }
    }

    /// Enters the folders on the way to a path, and tells what is there. Where there is nothing, nothing is
    /// entered.
    fn come_to(&mut self, path: &RelPath) -> Result<(), FilesError> {
        let mut at = self.entered.last().cloned().unwrap_or_default();
        let mut met = Vec::new();
        let depth = at.depth();
        for name in path.names().skip(depth) {
            // Says of what is no folder that it is none, or that it is a link.
            let parent = self.folders.get(&at)?;
            // A part of a path is no longer than the path.
            at = at.join(&name).unwrap_or_default();
            let (attributes, link_target) = look_at(&parent, name.clone())?;
            let is_folder = attributes.kind == Kind::Directory;
            // Whoever made the list was told that such names are not copied.
            if is_reserved(&name) || self.filter.matches(&at, is_folder) == Verdict::Exclude {
                self.past = Some(at);
                return Ok(());
            }
            met.push(Entry { path: at.clone(), attributes, link_target });
        }
        let is_whole = |entry: &Entry| {
            entry.attributes.kind == Kind::Directory && entry.path == *path && self.list.is_whole()
        };
        let whole = met.pop_if(|last| is_whole(last));
        for entry in met {
            if entry.attributes.kind == Kind::Directory {
                self.entered.push(entry.path.clone());
                self.ready.push_back(Step::Enter(entry));
            } else {
                self.ready.push_back(Step::Leaf(entry));
            }
        }
        if whole.is_some() {
            self.walk_whole(path);
        }
        Ok(())
    }

    fn walk_whole(&mut self, path: &RelPath) {
        let options = WalkOptions { filter: self.filter.clone(), ..WalkOptions::default() };
        let start = WalkRoot::Beneath(path.clone());
        match Walk::new(self.folders.root().clone(), start, options) {
            Ok(walk) => self.inner = Some(walk),
            Err(error) => self.ready.push_back(Step::Problem { path: path.clone(), error }),
        }
        self.past = Some(path.clone());
    }
}

impl Iterator for ListedWalk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            if let Some(walk) = &mut self.inner {
                match walk.next() {
                    None => self.inner = None,
                    // The root was entered already, and is left at the end.
                    Some(Step::Enter(entry)) if entry.path.is_root() => {}
                    Some(Step::Leave { path, .. }) if path.is_root() => {}
                    Some(step) => return Some(step),
                }
                continue;
            }
            if self.ended {
                return None;
            }
            self.go_on();
        }
    }
}

#[cfg(test)]
mod tests;
