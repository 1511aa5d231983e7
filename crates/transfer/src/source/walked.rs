//! What the walk of a source tells the machine, and how far it may go ahead of the target. Steps that
//! came when there was no room for what they found wait in their order.

use files::{Attributes, Kind, Name, RelPath};

use super::{Output, Source};
use crate::message::{ENTRY_COST, SourceMessage, Xattr};

/// Outputs that may wait while the walk goes on.
const MAX_WAITING: usize = 4096;

/// Where a file of the source is: which of the sources named, and the path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which of the sources that were named.
    pub source: usize,
    /// The path below that source's folder handle.
    pub path: RelPath,
}

/// Something the walk found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// The name under which it is offered.
    pub name: Name,
    /// What the disk says of it.
    pub attributes: Attributes,
    /// What a symbolic link says.
    pub link_target: Option<Vec<u8>>,
    /// User and group, if they are to be carried.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes, if they are to be carried.
    pub xattrs: Vec<Xattr>,
}

/// One step of the walk.
#[derive(Debug, Clone)]
pub enum Walked {
    /// A folder, whose children follow.
    Enter(Found),
    /// A folder that is not offered itself: its children lie in the target folder.
    EnterContents,
    /// A file or link.
    Leaf(Found),
    /// The folder entered last has been read.
    Leave {
        /// Whether all of it could be read.
        complete: bool,
    },
    /// Something could not be read or is of a kind that is not copied.
    Problem {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// There is nothing more.
    Finished,
}

impl Source {
    /// How many steps of the walk may be taken now: half of the window, less what unfinished entries
    /// cost. The other half is for files that change while they are read and are offered anew.
    pub fn walk_room(&self) -> usize {
        // Problems cost nothing of the window, and wait here until the link has taken them.
        if self.finished_walk || !self.steps.is_empty() || self.outputs.len() > MAX_WAITING {
            return 0;
        }
        let room = (self.window / 2).saturating_sub(self.live_cost);
        // One entry may cost more than the half when nothing else is under way.
        let steps = room / (2 * ENTRY_COST as u64);
        if self.leaves == 0 { steps.max(1) as usize } else { steps as usize }
    }

    /// Takes one step of the walk, which may wait here until there is room in the window.
    pub fn walked(&mut self, step: Walked) {
        self.steps.push_back(step);
        self.take_steps();
    }

    pub(super) fn take_steps(&mut self) {
        while let Some(step) = self.steps.front() {
            let fits = self.skipping > 0 || self.has_room(step);
            // Where all that is unfinished are the folders around this step, nothing will ever end.
            let never =
                !fits && self.live.len() == self.stack.iter().filter(|at| **at != 0).count();
            if !fits && !never {
                return;
            }
            match self.steps.pop_front() {
                Some(step) if never || self.skipping > 0 => self.skip(step, never),
                Some(step) => self.take_step(step),
                None => return,
            }
        }
    }

    /// Leaves out what the target's window can never take, and all that lies in it.
    fn skip(&mut self, step: Walked, tell: bool) {
        let place = match step {
            Walked::Enter(found) => {
                self.skipping += 1;
                found.place
            }
            Walked::Leaf(found) => found.place,
            Walked::Leave { .. } => {
                self.skipping -= 1;
                return;
            }
            other => return self.take_step(other),
        };
        if tell {
            let reason = "it lies too deep for the memory that the target grants now".to_owned();
            self.problem(place.path.to_string(), reason);
        }
    }

    /// Where only folders are unfinished, which wait for what is in them, the reserve is open to the
    /// next entry and its replacement.
    fn has_room(&self, step: &Walked) -> bool {
        let (Walked::Enter(found) | Walked::Leaf(found)) = step else { return true };
        let cost = self.cost_of(found);
        self.live.is_empty()
            || self.live_cost + cost <= self.window / 2
            || (self.leaves == 0 && self.live_cost + 2 * cost <= self.window)
    }

    /// What the entry will cost (`Entry::cost`), before it is made.
    fn cost_of(&self, found: &Found) -> u64 {
        let name = found.name.as_bytes().len();
        let above = self.stack.last().and_then(|index| self.live.get(index));
        let path = above.map_or(0, |folder| folder.path_len + 1) + name;
        let kind = match found.attributes.kind {
            Kind::Directory => 2 * path,
            _ => found.link_target.as_ref().map_or(0, Vec::len),
        };
        let xattrs: usize = found.xattrs.iter().map(|x| 32 + x.name.len() + x.value.len()).sum();
        (ENTRY_COST + name + kind + xattrs) as u64
    }

    fn take_step(&mut self, step: Walked) {
        match step {
            Walked::Enter(found) => {
                let index = self.offer(found, None, 0);
                self.stack.push(index);
            }
            Walked::EnterContents => self.stack.push(0),
            Walked::Leaf(found) => {
                self.totals.bytes_found += found.attributes.size;
                self.offer(found, None, 0);
            }
            Walked::Leave { complete } => self.leave(complete),
            Walked::Problem { path, reason } => self.problem(path, reason),
            Walked::Finished => {
                self.finished_walk = true;
                self.send_end();
            }
        }
    }

    fn problem(&mut self, path: String, reason: String) {
        self.problems += 1;
        self.totals.failed += 1;
        let (told, why) = (path.clone(), reason.clone());
        self.send(SourceMessage::Problem { path: told, reason: why });
        self.outputs.push_back(Output::Problem { path, reason });
    }

    fn leave(&mut self, complete: bool) {
        let Some(index) = self.stack.pop() else { return };
        if index == 0 {
            self.contents_left = Some(complete);
        } else if let Some(live) = self.live.get_mut(&index) {
            live.left = Some(complete);
        }
        self.send_offers();
        self.send(SourceMessage::Leave { index, complete });
    }
}
