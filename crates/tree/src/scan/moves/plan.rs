//! Puts moves in an order in which each can be carried out where the ones before it have left things.
//! Pure: what the snapshot has at a path is asked of the caller.
//!
//! A move goes to where the entry is in the end, so it waits until what is still in the way there, at the
//! path itself or at a folder above it, has moved on, and until the folders above that move there have
//! come. From then on nothing above it moves any more, and it stays where it was put. A move that waits
//! for itself is left out.

use std::collections::HashMap;

use files::{Kind, RelPath};

use super::Moved;

/// Where an entry was before any move, and where it is after all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) from: RelPath,
    pub(super) to: RelPath,
    pub(super) kind: Kind,
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// It waits for those that were begun after it.
    Begun,
    Done,
    LeftOut,
}

/// What a move needs first.
enum Need {
    /// Nothing; it takes the place of a file that is gone.
    Nothing { replaces: bool },
    /// Another move.
    Move(usize),
    /// What cannot be.
    Impossible,
}

struct Planner<'a, L> {
    pairs: &'a [Pair],
    states: Vec<State>,
    /// By where they were.
    by_from: HashMap<&'a RelPath, usize>,
    /// By where they are in the end.
    by_to: HashMap<&'a RelPath, usize>,
    look: L,
    moves: Vec<Moved>,
}

/// The moves of `pairs`, whose `from` and whose `to` differ from each other, in order. `look` says what is
/// at a path before all of them.
pub(super) fn plan<E>(
    mut pairs: Vec<Pair>,
    look: impl FnMut(&RelPath) -> Result<Option<Kind>, E>,
) -> Result<Vec<Moved>, E> {
    // Folders before what goes into them.
    pairs.sort_by(|a, b| a.to.cmp(&b.to));
    let mut planner = Planner {
        pairs: &pairs,
        states: vec![State::Waiting; pairs.len()],
        by_from: pairs.iter().enumerate().map(|(index, pair)| (&pair.from, index)).collect(),
        by_to: pairs.iter().enumerate().map(|(index, pair)| (&pair.to, index)).collect(),
        look,
        moves: Vec::new(),
    };
    for index in 0..pairs.len() {
        planner.carry_out(index)?;
    }
    Ok(planner.moves)
}

impl<'a, L, E> Planner<'a, L>
where
    L: FnMut(&RelPath) -> Result<Option<Kind>, E>,
{
    /// Carries out a move, and before it those that it needs.
    fn carry_out(&mut self, first: usize) -> Result<(), E> {
        // No recursion: a thousand files renumbered by one wait for each other in a row.
        let mut begun = vec![first];
        while let Some(&index) = begun.last() {
            if matches!(self.states[index], State::Done | State::LeftOut) {
                begun.pop();
                continue;
            }
            self.states[index] = State::Begun;
            match self.need(index)? {
                Need::Nothing { replaces } => self.apply(index, replaces),
                Need::Move(other) if self.states[other] == State::Waiting => begun.push(other),
                Need::Move(_) | Need::Impossible => self.states[index] = State::LeftOut,
            }
        }
        Ok(())
    }

    /// What must happen before a move, as things are.
    fn need(&mut self, index: usize) -> Result<Need, E> {
        let pair = &self.pairs[index];
        let mut path = RelPath::root();
        for name in pair.to.names() {
            let Ok(next) = path.join(&name) else { return Ok(Need::Impossible) };
            path = next;
            let is_last = path == pair.to;
            if let Some(&other) = self.by_to.get(&path)
                && !is_last
                && self.is_pending(other)
            {
                return Ok(Need::Move(other));
            }
            // Where there is nothing, something below may have been put there all the same: the folder is
            // a new one, that comes later.
            let Some(origin) = self.origin(&path) else { continue };
            let Some(kind) = (self.look)(&origin)? else { continue };
            if let Some(&other) = self.by_from.get(&origin)
                && self.is_pending(other)
            {
                return Ok(Need::Move(other));
            }
            match (is_last, kind) {
                (false, Kind::Directory) => {}
                (true, Kind::File | Kind::Symlink) if pair.kind == Kind::File => {
                    return Ok(Need::Nothing { replaces: true });
                }
                _ => return Ok(Need::Impossible),
            }
        }
        Ok(Need::Nothing { replaces: false })
    }

    fn apply(&mut self, index: usize, replaces: bool) {
        let pair = &self.pairs[index];
        self.states[index] = State::LeftOut;
        if let Some(from) = self.place(&pair.from) {
            self.states[index] = State::Done;
            self.moves.push(Moved { from, to: pair.to.clone(), kind: pair.kind, replaces });
        }
    }

    fn is_pending(&self, index: usize) -> bool {
        matches!(self.states[index], State::Waiting | State::Begun)
    }

    fn is_done(&self, index: &usize) -> bool {
        self.states[*index] == State::Done
    }

    /// Where an entry is now that was at `origin`. A move that is done has brought it to where it stays,
    /// so the innermost one decides.
    fn place(&self, origin: &RelPath) -> Option<RelPath> {
        let done = |path: &RelPath| self.by_from.get(path).copied().filter(|i| self.is_done(i));
        match innermost(origin, done) {
            Some((index, rest)) => self.pairs[index].to.join_path(&rest).ok(),
            None => Some(origin.clone()),
        }
    }

    /// Where an entry was that would now be at `path`; `None` if what was there has moved on.
    fn origin(&self, path: &RelPath) -> Option<RelPath> {
        let done = |path: &RelPath| self.by_to.get(path).copied().filter(|i| self.is_done(i));
        let origin = match innermost(path, done) {
            Some((index, rest)) => self.pairs[index].from.join_path(&rest).ok()?,
            None => path.clone(),
        };
        (self.place(&origin).as_ref() == Some(path)).then_some(origin)
    }
}

/// The move that `find` knows of a path or of the innermost folder around it, and what follows that
/// folder in the path.
fn innermost(path: &RelPath, find: impl Fn(&RelPath) -> Option<usize>) -> Option<(usize, RelPath)> {
    let mut head = path.clone();
    loop {
        if let Some(index) = find(&head) {
            let mut rest = path.names().skip(head.depth());
            let rest = rest.try_fold(RelPath::root(), |rest, name| rest.join(&name)).ok()?;
            return Some((index, rest));
        }
        head = head.parent()?;
    }
}

#[cfg(test)]
mod tests;
