//! A listing beside a snapshot, both in tree order: what is only in one, what is in both.
//!
//! What the listing does not speak of is passed over: entries in folders of which it does not know every
//! name, and everything in folders that were not listed. So nothing counts as gone that was not looked
//! for and missed.

use super::ScanError;
use super::cursor::Cursor;
use super::listing::{Children, Group, Listed, Listing};
use crate::key;
use crate::snapshot::Snapshot;
use crate::sort::Sorted;
use crate::stamp::Known;
use files::Kind;

/// What a join tells of gone folders, and of those in whose place there is something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only the topmost path of what is gone.
    Topmost,
    /// That and all below it.
    Everything,
}

/// What the join has come to.
pub(super) enum Event<'a> {
    /// The snapshot does not have it.
    New { key: &'a [u8], listed: &'a Listed },
    /// Both have it.
    Both { key: &'a [u8], listed: &'a Listed, known: Known },
    /// It is not there any more.
    Gone { key: &'a [u8], known: Known },
}

/// The two sequences, and where they are.
pub(super) struct Join {
    snapshot: Snapshot,
    listing: Listing,
    cursor: Cursor,
    depth: Depth,
    /// The folders of the listing around its last path, the innermost last: the length of the key, which
    /// is a part of `trail`, and what is known of the names in it.
    around: Vec<(usize, Children)>,
    trail: Vec<u8>,
    /// What is left behind with the next step.
    used: Used,
    /// The cursor was set to the folder that the listing stands at, at which it begins.
    is_at_start: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Used {
    Nothing,
    Listed,
    Both,
    Gone,
}

impl Join {
    pub(super) fn new(
        sorted: &Sorted,
        snapshot: &Snapshot,
        depth: Depth,
    ) -> Result<Self, ScanError> {
        Ok(Self {
            snapshot: snapshot.clone(),
            listing: Listing::new(sorted)?,
            cursor: Cursor::new(snapshot),
            depth,
            around: Vec::new(),
            trail: Vec::new(),
            used: Used::Nothing,
            is_at_start: false,
        })
    }

    /// Goes on to the next path of which there is something to tell; `None` at the end.
    pub(super) fn step(&mut self) -> Result<Option<Event<'_>>, ScanError> {
        loop {
            self.leave()?;
            self.cursor.load()?;
            self.used = match (self.listing.group(), self.cursor.key()) {
                (None, None) => return Ok(None),
                (Some(group), Some(key)) if group.key == key => self.come_to_both(),
                (Some(group), key) if key.is_none_or(|key| group.key.as_slice() < key) => {
                    self.come_to_listed()
                }
                _ => match self.come_to_known()? {
                    Some(used) => used,
                    None => return Ok(None),
                },
            };
            let has_entry = self.listing.group().is_some_and(|group| group.entry.is_some());
            if self.used == Used::Gone || (self.used != Used::Nothing && has_entry) {
                break;
            }
        }
        self.event().map(Some)
    }

    /// What the join stands at.
    fn event(&self) -> Result<Event<'_>, ScanError> {
        let known = |value| Known::decode(value).ok_or_else(|| self.snapshot.damaged());
        let listed = self.listing.group().and_then(|group| group.entry.as_ref().zip(Some(group)));
        let stored = self.cursor.key().zip(self.cursor.value());
        match (self.used, listed, stored) {
            (Used::Listed, Some((listed, group)), _) => Ok(Event::New { key: &group.key, listed }),
            (Used::Both, Some((listed, group)), Some((_, value))) => {
                Ok(Event::Both { key: &group.key, listed, known: known(value)? })
            }
            (Used::Gone, _, Some((key, value))) => Ok(Event::Gone { key, known: known(value)? }),
            // `step` ends only where there is something.
            _ => Err(ScanError::Listing),
        }
    }

    /// Leaves behind what the last step told of.
    fn leave(&mut self) -> Result<(), ScanError> {
        match std::mem::replace(&mut self.used, Used::Nothing) {
            Used::Nothing => {}
            Used::Listed => {
                self.is_at_start = false;
                self.listing.advance()?;
            }
            Used::Both => {
                self.is_at_start = false;
                match self.around.last() {
                    // Of what lies below nothing is known, so it is passed over.
                    Some((_, Children::Unknown)) => self.cursor.leave_subtree(&self.trail)?,
                    _ => self.cursor.advance(),
                }
                self.listing.advance()?;
            }
            Used::Gone => match (self.depth, self.cursor.key()) {
                (Depth::Topmost, Some(key)) => {
                    let gone = key.to_vec();
                    self.cursor.leave_subtree(&gone)?;
                }
                _ => self.cursor.advance(),
            },
        }
        Ok(())
    }

    /// The listing comes first.
    fn come_to_listed(&mut self) -> Used {
        let Some(group) = self.listing.group() else { return Used::Nothing };
        // The snapshot may have been passed over up to somewhere behind the folder, or in front of it.
        if group.is_start && !self.is_at_start {
            self.is_at_start = true;
            self.cursor.seek(&group.key);
            return Used::Nothing;
        }
        enter(&mut self.around, &mut self.trail, group, self.depth);
        Used::Listed
    }

    fn come_to_both(&mut self) -> Used {
        let Some(group) = self.listing.group() else { return Used::Nothing };
        enter(&mut self.around, &mut self.trail, group, self.depth);
        Used::Both
    }

    /// The snapshot comes first; `None` if nothing more can come.
    fn come_to_known(&mut self) -> Result<Option<Used>, ScanError> {
        let Some(known) = self.cursor.key().map(<[u8]>::to_vec) else { return Ok(None) };
        while self.around.last().is_some_and(|&(len, _)| !key::is_below(&known, &self.trail[..len]))
        {
            self.around.pop();
        }
        match self.around.last() {
            Some((_, Children::Wholly)) => return Ok(Some(Used::Gone)),
            // It may or may not be there, and what is below it too.
            Some((_, Children::Partly)) => self.cursor.leave_subtree(&known)?,
            Some(&(len, Children::Unknown)) if len > 0 => {
                self.cursor.seek(&key::after(&self.trail[..len]));
            }
            // Nothing around it was listed.
            Some(_) | None => match self.listing.group() {
                Some(group) => self.cursor.seek(&group.key),
                None => return Ok(None),
            },
        }
        Ok(Some(Used::Nothing))
    }
}

/// Makes a path of the listing the innermost of those around what comes next.
fn enter(around: &mut Vec<(usize, Children)>, trail: &mut Vec<u8>, group: &Group, depth: Depth) {
    while around.last().is_some_and(|&(len, _)| !key::is_below(&group.key, &trail[..len])) {
        around.pop();
    }
    // There is certainly nothing in what is no folder.
    let is_folder = group.entry.as_ref().is_none_or(|entry| entry.stamp.kind == Kind::Directory);
    let children = match depth {
        Depth::Everything if !is_folder => Children::Wholly,
        _ => group.children,
    };
    trail.clear();
    trail.extend_from_slice(&group.key);
    around.push((group.key.len(), children));
}
