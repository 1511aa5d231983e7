//! Walks the sources on a thread of its own and turns what it meets into steps for the machine. The
//! channel between them is short: the walk goes no further ahead than the window of the target.

use std::sync::Arc;

use files::{Dir, FilesError, Follow, Kind, Name, RelPath, escape};
use tokio::sync::mpsc::{self, Sender};
use tree::{Filter, ListedWalk, Step, Walk, WalkOptions, WalkRoot};

use super::reader::Reader;
use crate::host::SourceRoot;
use crate::message::{MAX_XATTRS, Order, Xattr};
use crate::source::{Found, Place, Walked};

/// Steps that the walk may be ahead of whoever takes them.
const STEPS_AHEAD: usize = 1024;

/// Begins to walk all sources; the steps, of which the last is the walk's end. It stops early when nobody
/// listens any more.
pub(crate) fn start(
    sources: Vec<SourceRoot>,
    order: Order,
    reader: Arc<Reader>,
) -> mpsc::Receiver<Walked> {
    let (told, steps) = mpsc::channel(STEPS_AHEAD);
    // A thread of its own, because it waits for the target more than for the disk.
    let spawned = std::thread::Builder::new().name("walk".to_owned()).spawn(move || {
        walk_all(&sources, &order, &reader, &told);
    });
    // Without the thread the channel ends at once, which is told as a problem. The thread ends with the
    // channel, at the latest when it has its next step to tell.
    drop(spawned);
    steps
}

/// The steps of a walk of which only the sums are wanted.
pub(crate) fn weigh(sources: Vec<SourceRoot>, order: Order) -> mpsc::Receiver<Walked> {
    let reader = Arc::new(Reader::new(sources.len(), false));
    start(sources, Order { xattrs: false, ..order }, reader)
}

/// Walks all sources and ends.
fn walk_all(sources: &[SourceRoot], order: &Order, reader: &Arc<Reader>, steps: &Sender<Walked>) {
    // The rules were checked when the order was read or built.
    let filter = Filter::new(order.rules.clone()).unwrap_or_default();
    for (number, source) in sources.iter().enumerate() {
        let walker = Walker { number, source, order, steps };
        if walker.walk(&filter, reader).is_err() {
            return;
        }
    }
    // Whoever listened may have given up; then nobody is to be told.
    let _ = steps.blocking_send(Walked::Finished);
}

struct Walker<'a> {
    number: usize,
    source: &'a SourceRoot,
    order: &'a Order,
    steps: &'a Sender<Walked>,
}

/// A walk of either kind.
type Steps = Box<dyn Iterator<Item = Step>>;

/// Nobody listens any more.
struct Unheard;

impl Walker<'_> {
    fn walk(&self, filter: &Filter, reader: &Reader) -> Result<(), Unheard> {
        let (root, walk) = match self.begin(filter) {
            Ok(begun) => begun,
            Err(error) => return self.problem(&self.source.path, &error),
        };
        reader.set_root(self.number, root.clone());
        for step in walk {
            self.step(&root, step)?;
        }
        Ok(())
    }

    /// The folder that paths are relative to, and the walk in it.
    fn begin(&self, filter: &Filter) -> Result<(Dir, Steps), FilesError> {
        let options = WalkOptions { filter: filter.clone(), ..WalkOptions::default() };
        let SourceRoot { root, path, name, only, .. } = self.source;
        if let Some(list) = only {
            let folder = root.open_dir(path, Follow::Never)?;
            let walk = ListedWalk::new(folder.clone(), list.clone(), filter.clone())?;
            return Ok((folder, Box::new(walk)));
        }
        match (path.parent(), path.file_name(), name) {
            (Some(parent), Some(last), Some(_)) => {
                let parent = root.open_dir(&parent, Follow::Never)?;
                Ok((parent.clone(), Box::new(Walk::new(parent, WalkRoot::Entry(last), options)?)))
            }
            _ => {
                let folder = root.open_dir(path, Follow::Never)?;
                let start = WalkRoot::Inside(RelPath::root());
                Ok((folder.clone(), Box::new(Walk::new(folder, start, options)?)))
            }
        }
    }

    fn step(&self, root: &Dir, step: Step) -> Result<(), Unheard> {
        match step {
            Step::Enter(entry) if entry.path.is_root() && self.source.name.is_none() => {
                self.send(Walked::EnterContents)
            }
            Step::Enter(entry) => match self.found(root, entry) {
                Some(found) => self.send(Walked::Enter(found)),
                None => Ok(()),
            },
            Step::Leaf(entry) if entry.attributes.kind == Kind::Other => {
                self.send(Walked::Problem {
                    path: self.shown(&entry.path),
                    reason: "it is a device, socket or fifo, which are not copied".to_owned(),
                })
            }
            Step::Leaf(entry) => match self.found(root, entry) {
                Some(found) => self.send(Walked::Leaf(found)),
                None => Ok(()),
            },
            Step::Leave { complete, .. } => self.send(Walked::Leave { complete }),
            Step::Problem { path, error } => self.problem(&path, &error),
        }
    }

    fn found(&self, root: &Dir, entry: tree::Entry) -> Option<Found> {
        // The source itself goes by the name under which it was asked for.
        let top = entry.path.is_root() || (entry.path.depth() == 1 && self.is_entry());
        let name = if top { self.source.name.clone() } else { entry.path.file_name() }?;
        let xattrs = if self.order.xattrs { xattrs_of(root, &entry.path) } else { Vec::new() };
        let attributes = entry.attributes;
        Some(Found {
            owner: self.order.owner.then_some((attributes.uid, attributes.gid)),
            place: Place { source: self.number, path: entry.path },
            name,
            attributes,
            link_target: entry.link_target,
            xattrs,
        })
    }

    /// Whether the walk began at an entry of a folder, and its paths begin with that entry's name.
    fn is_entry(&self) -> bool {
        self.source.name.is_some() && !self.source.path.is_root()
    }

    fn shown(&self, path: &RelPath) -> String {
        if path.is_root() {
            return escape(self.source.path.as_bytes()).to_string();
        }
        path.to_string()
    }

    fn problem(&self, path: &RelPath, error: &FilesError) -> Result<(), Unheard> {
        self.send(Walked::Problem { path: self.shown(path), reason: crate::words(error) })
    }

    fn send(&self, step: Walked) -> Result<(), Unheard> {
        self.steps.blocking_send(step).map_err(|_| Unheard)
    }
}

/// The user's attributes of an entry, as many as a message may carry. What cannot be read is left out,
/// as `cp -a` does where a file system has none.
fn xattrs_of(root: &Dir, path: &RelPath) -> Vec<Xattr> {
    let read = || -> Option<Vec<Xattr>> {
        let name: Name = path.file_name()?;
        let parent = root.open_dir(&path.parent()?, Follow::Never).ok()?;
        let mut room = MAX_XATTRS;
        let mut xattrs = Vec::new();
        for key in parent.xattr_names(&name).ok()? {
            if !key.starts_with(b"user.") {
                continue;
            }
            let Some(value) = parent.xattr(&name, &key).ok().flatten() else { continue };
            let Some(left) = room.checked_sub(key.len() + value.len()) else { break };
            room = left;
            xattrs.push(Xattr { name: key, value });
        }
        Some(xattrs)
    };
    read().unwrap_or_default()
}
