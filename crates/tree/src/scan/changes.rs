//! What has changed between a snapshot and a listing, one entry after another.

use super::ScanError;
use super::join::{Depth, Event, Join};
use crate::key;
use crate::snapshot::Snapshot;
use crate::sort::Sorted;
use crate::stamp::{Difference, Found, Known};
use files::RelPath;

/// One thing that is not as the snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added(Found),
    /// It is another one, or has other attributes.
    Changed {
        /// How it is now.
        entry: Found,
        /// How it was.
        before: Known,
        /// Its content may be another; otherwise only its attributes are.
        content: bool,
    },
    /// It is gone, with all that was below it.
    Removed {
        /// Where it was.
        path: RelPath,
        /// How it was.
        was: Known,
    },
}

/// The changes that a scan has found, in tree order; see [`Scan::changes`](super::Scan::changes). After
/// an error it ends.
pub struct Changes {
    /// Gone at the end and after an error.
    join: Option<Join>,
    /// What follows from the same event as the last change.
    next: Option<Change>,
}

impl Changes {
    pub(super) fn new(listing: &Sorted, snapshot: &Snapshot) -> Result<Self, ScanError> {
        Ok(Self { join: Some(Join::new(listing, snapshot, Depth::Topmost)?), next: None })
    }

    /// No changes at all.
    pub(super) fn none() -> Self {
        Self { join: None, next: None }
    }
}

impl Iterator for Changes {
    type Item = Result<Change, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(change) = self.next.take() {
            return Some(Ok(change));
        }
        loop {
            let change = match self.join.as_mut()?.step() {
                Ok(Some(event)) => change(event),
                Ok(None) => {
                    self.join = None;
                    return None;
                }
                Err(error) => Err(error),
            };
            match change {
                Ok(None) => {}
                Ok(Some((change, next))) => {
                    self.next = next;
                    return Some(Ok(change));
                }
                Err(error) => {
                    self.join = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// What an event means: nothing, one change, or two.
fn change(event: Event<'_>) -> Result<Option<(Change, Option<Change>)>, ScanError> {
    let path = |key| key::path(key).ok_or(ScanError::Listing);
    Ok(match event {
        // It may be half written, so nothing is said about it yet.
        Event::New { listed, .. } | Event::Both { listed, .. } if listed.settles.is_some() => None,
        Event::New { key, listed } => Some((Change::Added(listed.found(path(key)?)), None)),
        Event::Gone { key, known } => {
            Some((Change::Removed { path: path(key)?, was: known }, None))
        }
        Event::Both { key, listed, known } => {
            let found = |path| listed.found(path);
            match known.difference(&listed.stamp, listed.link_target.as_deref()) {
                Difference::Nothing => None,
                Difference::Kind => {
                    let path = path(key)?;
                    let added = Change::Added(found(path.clone()));
                    Some((Change::Removed { path, was: known }, Some(added)))
                }
                difference => {
                    let content = difference == Difference::Content;
                    let entry = found(path(key)?);
                    Some((Change::Changed { entry, before: known, content }, None))
                }
            }
        }
    })
}
