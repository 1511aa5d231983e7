//! Hints that something in a tree has changed, from inotify. They only say where to look: a hint may be
//! missing, late, or mean nothing, and a scan is what finds out.
//!
//! Each folder takes a watch of the kernel and an entry here; beyond the number that is allowed, the rest
//! is left to scans. A folder that moves within the tree keeps its watch; one that moves out loses it.
//! Where the kernel lost events, or much moved out at once, all watches are made anew.

mod folders;

use std::collections::{BTreeSet, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use files::{Dir, Fault, FilesError, Follow, Kind, MAX_DEPTH, Name, RelPath, is_reserved};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;

use crate::filter::{Filter, Verdict};
use folders::Folders;

/// So long must nothing happen before a hint is given.
pub const QUIET: Duration = Duration::from_millis(100);
/// So long is that waited for.
pub const MOST_QUIET: Duration = Duration::from_secs(2);
/// Folders in a hint; of more it is said that everything may have changed.
pub const MOST_HINTS: usize = 10_000;

/// Bytes of events that are read at once.
const BUFFER: usize = 1 << 16;
/// Folders that may move out of the tree between two hints; each is looked for among all.
const MOST_MOVED_OUT: usize = 64;

/// What is watched in each folder.
const FLAGS: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ONLYDIR);

/// Either half of a move.
const MOVED: ReadFlags = ReadFlags::MOVED_FROM.union(ReadFlags::MOVED_TO);

/// Where something may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing that was seen.
    Nothing,
    /// In these folders: directly in them, in folders new in them, or their own attributes.
    Folders(Vec<RelPath>),
    /// Anywhere.
    Everything,
}

/// Why a tree is not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Its root cannot be opened or listed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The kernel gives no watches: too many programs have some, or `/proc` is missing.
    #[error("cannot watch for changes")]
    Inotify(#[source] std::io::Error),
}

impl WatchError {
    /// What the failure means for a retry. Scans do without watches.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Files(error) => error.fault(),
            Self::Inotify(_) => Fault::Transient,
        }
    }
}

impl From<Errno> for WatchError {
    fn from(error: Errno) -> Self {
        Self::Inotify(error.into())
    }
}

/// Watches over the folders of a tree.
pub struct Watch {
    root: Dir,
    filter: Filter,
    most_folders: usize,
    inotify: OwnedFd,
    folders: Folders,
    is_whole: bool,
    /// Watches of folders in which something has happened since the last hint.
    touched: HashSet<i32>,
    is_everything: bool,
    /// When the first and the last of it happened.
    since: Option<(Instant, Instant)>,
    /// Folders that have moved out since the last hint.
    moved_out: usize,
    /// A folder has moved since the last hint, so what was told of what is in it, or at its new path, may
    /// have been looked for where something else is.
    has_moved: bool,
    /// Folders in which another one was looked for since the last hint.
    to_look_again: HashSet<i32>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// An event, as far as it matters.
struct Seen {
    watch: i32,
    what: ReadFlags,
    cookie: u32,
    /// Not there for what happens to the watched folder itself.
    name: Option<Name>,
}

impl Watch {
    /// Watches `root` and the folders below it that the filter lets through, at most `most_folders`. A
    /// scan that begins later sees what happened while the watches were being made.
    ///
    /// # Errors
    /// When the root cannot be watched. Folders that cannot be opened are left to scans.
    pub fn new(root: &Dir, filter: &Filter, most_folders: usize) -> Result<Self, WatchError> {
        let mut watch = Self {
            root: root.clone(),
            filter: filter.clone(),
            most_folders,
            inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            folders: Folders::default(),
            is_whole: true,
            touched: HashSet::new(),
            is_everything: false,
            since: None,
            moved_out: 0,
            has_moved: false,
            to_look_again: HashSet::new(),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        };
        watch.begin()?;
        Ok(watch)
    }

    /// Whether every folder is watched. Otherwise there are more than allowed, by the caller or by the
    /// kernel (`fs.inotify.max_user_watches`), or some could not be opened.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many folders are watched.
    #[must_use]
    pub fn folders(&self) -> usize {
        self.folders.len()
    }

    /// Waits until something has changed and it has been quiet for [`QUIET`], or was not quiet for
    /// [`MOST_QUIET`]. At the timeout it says what there is to say.
    ///
    /// # Errors
    /// When the root cannot be watched again after events were lost; then the watch is of no more use.
    pub fn wait(&mut self, timeout: Duration) -> Result<Hint, WatchError> {
        let deadline = Instant::now() + timeout;
        loop {
            let quiet = |(first, last): (Instant, Instant)| (last + QUIET).min(first + MOST_QUIET);
            let until = self.since.map_or(deadline, |since| deadline.min(quiet(since)));
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // Also where no time is left, for something may have happened before.
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&left)) {
                Ok(0) => return self.hint(),
                Ok(_) => self.read()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_late = self.since.is_some_and(|(first, _)| first.elapsed() > MOST_QUIET);
            if is_late || Instant::now() >= deadline {
                return self.hint();
            }
        }
    }

    /// What has happened since the last hint.
    fn hint(&mut self) -> Result<Hint, WatchError> {
        self.since = None;
        self.moved_out = 0;
        self.look_again();
        let touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.is_everything) {
            self.renew()?;
            return Ok(Hint::Everything);
        }
        // Folders that are not watched any more are spoken for by those that they were in.
        let paths: BTreeSet<RelPath> =
            touched.iter().filter_map(|watch| self.folders.path(*watch)).collect();
        Ok(match paths.len() {
            0 => Hint::Nothing,
            1..=MOST_HINTS => Hint::Folders(paths.into_iter().collect()),
            _ => Hint::Everything,
        })
    }

    /// Looks once more for the folders that were told of, where that may have gone by wrong paths.
    fn look_again(&mut self) {
        let mut again = std::mem::take(&mut self.to_look_again);
        if !std::mem::take(&mut self.has_moved) {
            return;
        }
        // A folder that is found may be the one in which another is to be looked for.
        for _ in 0..MAX_DEPTH {
            let before = self.folders.changes();
            for &watch in &again {
                self.add_below(watch, true);
            }
            if self.folders.changes() == before {
                break;
            }
            again.extend(self.to_look_again.drain());
        }
    }

    /// Drops all watches and makes them anew, for what is there now.
    fn renew(&mut self) -> Result<(), WatchError> {
        self.inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        self.folders = Folders::default();
        self.is_whole = true;
        self.begin()
    }

    fn begin(&mut self) -> Result<(), WatchError> {
        let watch = self.add_watch(&self.root)?;
        self.folders.set_root(watch);
        self.add_below(watch, false);
        Ok(())
    }

    /// A watch of a directory; the one that it has, if it has one.
    fn add_watch(&self, dir: &Dir) -> Result<i32, Errno> {
        // The entry of `/proc` leads to the open directory itself, whatever its path is by now.
        add_watch(&self.inotify, format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()), FLAGS)
    }

    /// Watches all folders below one that is watched. Those below a new folder are hinted at: it may have
    /// the inode of one that a snapshot knows, and then a scan of what it is in would not look into it.
    fn add_below(&mut self, watch: i32, is_new: bool) {
        let mut pending = vec![watch];
        while let Some(above) = pending.pop() {
            let Some((dir, path)) = self.open(above) else { continue };
            let Ok(entries) = dir.entries() else {
                self.is_whole = false;
                continue;
            };
            for entry in entries {
                let Ok(entry) = entry else {
                    self.is_whole = false;
                    break;
                };
                // Where the kind is not told, an attempt to watch finds it out.
                if entry.kind().is_some_and(|kind| kind != Kind::Directory) {
                    continue;
                }
                let Ok(name) = entry.name() else { continue };
                if let Some(new) = self.add((above, &dir, &path), &name) {
                    pending.push(new);
                    if is_new {
                        self.touch(Some(new));
                    }
                }
            }
        }
    }

    /// Opens a watched folder, if it is where it is thought to be; otherwise it is looked for again when
    /// all that has happened is known.
    fn open(&mut self, watch: i32) -> Option<(Dir, RelPath)> {
        let Some(path) = self.folders.path(watch) else {
            self.to_look_again.insert(watch);
            return None;
        };
        let opened = self.root.open_dir(&path, Follow::Never);
        let dir = opened.map_err(|error| self.missed(watch, &error)).ok()?;
        match self.add_watch(&dir) {
            Ok(found) if found == watch => return Some((dir, path)),
            // Another folder is there now.
            Ok(found) => {
                self.to_look_again.insert(watch);
                if !self.folders.contains(found) {
                    self.forget(found);
                }
            }
            Err(_) => self.is_whole = false,
        }
        None
    }

    /// Watches the folder of that name in a watched one, or follows it to there if it was watched; its
    /// watch if it is new and has to be looked into.
    fn add(&mut self, (above, dir, path): (i32, &Dir, &RelPath), name: &Name) -> Option<i32> {
        if self.is_left_out(&path.join(name).ok()?, name, true) {
            return None;
        }
        let opened = dir.open_dir(&RelPath::from(name), Follow::Never);
        let dir = opened.map_err(|error| self.missed(above, &error)).ok()?;
        let Ok(watch) = self.add_watch(&dir) else {
            self.is_whole = false;
            return None;
        };
        let is_new = !self.folders.contains(watch);
        if is_new && self.folders.len() >= self.most_folders {
            self.is_whole = false;
            self.forget(watch);
            return None;
        }
        self.folders.set(watch, above, name);
        is_new.then_some(watch)
    }

    /// Takes note that something in a folder, or the folder, could not be opened.
    fn missed(&mut self, above: i32, error: &FilesError) {
        if error.is_not_found() || error.is_not_a_directory() || error.is_symlink_refused() {
            // Gone again, or never a folder, unless it has moved.
            self.to_look_again.insert(above);
        } else {
            self.is_whole = false;
        }
    }

    /// Reads what events there are.
    fn read(&mut self) -> Result<(), WatchError> {
        loop {
            let mut seen = Vec::new();
            let mut reader = Reader::new(&self.inotify, &mut self.buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name =
                            event.file_name().and_then(|name| Name::new(name.to_bytes()).ok());
                        let (watch, what, cookie) = (event.wd(), event.events(), event.cookie());
                        seen.push(Seen { watch, what, cookie, name });
                    }
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
            self.take(&seen);
            // Somebody may write faster than this reads.
            if self.since.is_some_and(|(first, _)| first.elapsed() > MOST_QUIET) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, seen: &[Seen]) {
        let mut events = seen.iter().peekable();
        while let Some(event) = events.next() {
            if event.what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.is_everything = true;
                self.touch(None);
            } else if event.what.contains(ReadFlags::IGNORED) {
                self.folders.remove(event.watch);
            } else if self.folders.contains(event.watch) {
                let comes_back = events.peek().is_some_and(|next| self.comes_back(event, next));
                self.happened(event, comes_back);
            }
        }
    }

    /// Whether the next event is the other half of a move, to where the tree is watched. The kernel tells
    /// of both in a row; where something came between, the folder is found anew.
    fn comes_back(&self, event: &Seen, next: &Seen) -> bool {
        if !next.what.contains(ReadFlags::MOVED_TO) || next.cookie != event.cookie {
            return false;
        }
        next.name.as_ref().is_some_and(|name| {
            let path = self.path_in(next.watch, name);
            path.is_some_and(|path| !self.is_left_out(&path, name, true))
        })
    }

    /// Takes one event in. `comes_back` says that the next one is the other half of this one.
    fn happened(&mut self, event: &Seen, comes_back: bool) {
        let Some(name) = &event.name else {
            // What is told of the folder itself: its attributes, or that it is gone.
            let is_gone = event.what.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT);
            self.is_everything |= event.what.contains(ReadFlags::UNMOUNT);
            self.is_everything |= is_gone && self.folders.is_root(event.watch);
            if self.is_everything || !is_gone {
                self.touch(Some(event.watch));
            }
            return;
        };
        let is_dir = event.what.contains(ReadFlags::ISDIR);
        if !is_dir && self.touched.contains(&event.watch) {
            self.touch(Some(event.watch));
            return;
        }
        let Some(path) = self.path_in(event.watch, name) else { return };
        if self.is_left_out(&path, name, is_dir) {
            return;
        }
        self.touch(Some(event.watch));
        self.has_moved |= is_dir && event.what.intersects(MOVED);
        if is_dir && event.what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.to_look_again.insert(event.watch);
            if let Some((dir, path)) = self.open(event.watch)
                && let Some(new) = self.add((event.watch, &dir, &path), name)
            {
                self.touch(Some(new));
                self.add_below(new, true);
            }
        } else if is_dir && event.what.contains(ReadFlags::MOVED_FROM) && !comes_back {
            self.moved_out(event.watch, name);
        }
    }

    /// Forgets a folder that has left the tree, with all below it.
    fn moved_out(&mut self, above: i32, name: &Name) {
        self.moved_out += 1;
        if self.moved_out > MOST_MOVED_OUT {
            self.is_everything = true;
            return;
        }
        for watch in self.folders.take_subtree(above, name) {
            self.forget(watch);
        }
    }

    /// Gives a watch back. It may be gone already, with its folder.
    fn forget(&self, watch: i32) {
        let _ = remove_watch(&self.inotify, watch);
    }

    fn touch(&mut self, watch: Option<i32>) {
        let now = Instant::now();
        self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        self.touched.extend(watch);
        self.is_everything |= self.touched.len() > MOST_HINTS;
    }

    fn path_in(&self, above: i32, name: &Name) -> Option<RelPath> {
        self.folders.path(above)?.join(name).ok()
    }

    /// Whether a walk would leave it out.
    fn is_left_out(&self, path: &RelPath, name: &Name, is_dir: bool) -> bool {
        is_reserved(name) || self.filter.matches(path, is_dir) == Verdict::Exclude
    }
}

#[cfg(test)]
mod tests;
