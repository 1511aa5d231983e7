//! The thread that writes blocks: restores what is missing from repair symbols, writes blocks of large objects into the
//! staging and hashes them there, hands small objects and pages on, and keeps what is not whole. It knows no names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use files::{FilesError, Partial, PartialKey, RelPath, Staging, Timestamp, chunk_count};

use super::note::{Feedback, Job, Note};
use super::spill::{MOST_SPILLED, Spill};
use super::status::{Charge, Shared};
use crate::block::{Assembly, BLOCK, Restorer};
use crate::intake::{BlockId, Spilled};
use crate::symbol::ObjectKind;

/// When more than this waits, small objects wait on the disk.
const MOST_UNPACKED: usize = 64 << 20;

/// So many large objects are written at a time; each takes two descriptors, and one that is opened again is read again.
const MOST_OPEN: usize = 128;

pub(super) struct Writer {
    pub(super) staging: Arc<Staging>,
    pub(super) spill: Arc<Spill>,
    /// Whose objects these are.
    pub(super) sender: [u8; 32],
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Sender<Note>,
    pub(super) feedback: Sender<Feedback>,
    pub(super) spilled: HashSet<BlockId>,
    pub(super) open: HashMap<u64, Open>,
    pub(super) restorer: Restorer,
    pub(super) clock: u64,
}

/// A large object that is written.
pub(super) struct Open {
    partial: Partial,
    length: u64,
    used: u64,
}

/// A block that has enough.
struct Whole {
    id: BlockId,
    length: u64,
    kind: ObjectKind,
    assembly: Assembly,
}

/// Under which name an object is staged.
pub(super) fn staging_key(sender: [u8; 32], object: u64) -> PartialKey {
    let path = RelPath::parse(format!("object-{object}").as_bytes()).expect("it is one name");
    PartialKey { peer: sender, path }
}

/// Objects have no time of their own.
pub(super) const NO_TIME: Timestamp = Timestamp { seconds: 0, nanos: 0 };

impl Writer {
    /// Does what it is told until it is told to stop.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Block { id, length, kind, assembly, _charge } => {
                    self.block(Whole { id, length, kind, assembly }, _charge);
                }
                Job::Spill { spilled, _charge } => self.keep(spilled, _charge),
                Job::Recall(id) => {
                    let kept = self.spill.load(id).map(|spilled| spilled.assembly);
                    self.tell(Feedback::Loaded { id, assembly: kept });
                }
                Job::Open { object, length } => {
                    let _ = self.partial(object, length);
                }
                Job::Discard(object) => self.discard(object),
                Job::Settled { last, but } => {
                    let is_settled = |id: &BlockId| id.object <= last && !but.contains(&id.object);
                    self.unspill(is_settled);
                }
                Job::Missing { object, length, reply } => {
                    let _ = reply.send(self.missing(object, length));
                }
                Job::Flush(flush) => self.note(Note::Flush(flush)),
                Job::Stop => break,
            }
        }
        self.note(Note::Stop);
    }

    fn block(&mut self, block: Whole, charge: Charge) {
        let Whole { id, length, kind, assembly } = block;
        let is_restored = assembly.needs_repair();
        let Some(bytes) = assembly.finish(&mut self.restorer) else { return };
        {
            let mut status = self.shared.status();
            status.link.blocks += 1;
            status.link.restored += u64::from(is_restored);
        }
        if self.spilled.remove(&id) {
            self.spill.forget(id);
        }
        match kind {
            ObjectKind::Page => {
                let (object, block) = (id.object, id.block);
                self.note(Note::PagePart { object, length, block, bytes, _charge: charge });
            }
            ObjectKind::Content if length <= BLOCK as u64 => {
                // The keeper is slower than the link. One file is written faster than all that it holds.
                if self.shared.waiting() > MOST_UNPACKED
                    && self.spill.keep_object(id.object, &bytes).is_ok()
                {
                    self.note(Note::Stored(id.object));
                    return self.tell(Feedback::Memory(bytes));
                }
                self.note(Note::Small { object: id.object, bytes, _charge: charge });
            }
            ObjectKind::Content => {
                let stored = self.store(id, length, &bytes);
                self.tell(Feedback::Memory(bytes));
                if let Err(error) = stored {
                    self.shared.disk_is_full(error.is_disk_full());
                    self.tell(Feedback::Lost { id, length, kind });
                } else {
                    self.shared.disk_is_full(false);
                }
            }
        }
    }

    fn store(&mut self, id: BlockId, length: u64, bytes: &[u8]) -> Result<(), FilesError> {
        self.shared.room()?;
        let Some(open) = self.partial(id.object, length)? else { return Ok(()) };
        match open.partial.write_proven(id.block.into(), bytes, true) {
            // Two stories about one block: the file as a whole will say whether the first was true.
            Err(FilesError::WrongHash { .. }) => return Ok(()),
            written => written?,
        };
        if open.partial.complete().is_some() {
            self.hand_on(id.object);
        }
        Ok(())
    }

    /// The staged file of an object, opened if need be. None if it is whole, and handed on.
    fn partial(&mut self, object: u64, length: u64) -> Result<Option<&Open>, FilesError> {
        self.clock += 1;
        let clock = self.clock;
        if self.open.get(&object).is_some_and(|open| open.length != length) {
            // Another story about this object is told now.
            self.open.remove(&object);
        }
        if !self.open.contains_key(&object) {
            if self.open.len() >= MOST_OPEN {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(at, _)| *at);
                oldest.and_then(|oldest| self.open.remove(&oldest));
            }
            self.note(Note::Begun { object, length });
            let key = staging_key(self.sender, object);
            let partial = self.staging.partial(&key, length, NO_TIME)?;
            let present = gaps(partial.missing(), chunk_count(length));
            if !present.is_empty() {
                self.tell(Feedback::Has { object, length, present });
            }
            let is_whole = partial.complete().is_some();
            self.open.insert(object, Open { partial, length, used: clock });
            if is_whole {
                self.hand_on(object);
            }
        }
        Ok(self.open.get_mut(&object).map(|open| {
            open.used = clock;
            &*open
        }))
    }

    fn hand_on(&mut self, object: u64) {
        if let Some(Open { partial, length, .. }) = self.open.remove(&object) {
            self.note(Note::Whole { object, length, partial: Box::new(partial) });
        }
    }

    /// Keeps what came of a block, together with what was kept of it before.
    fn keep(&mut self, mut spilled: Spilled, charge: Charge) {
        let id = spilled.id;
        if self.spilled.contains(&id) {
            let before = self.spill.load(id).map(|before| before.assembly);
            let before = before.filter(|kept| kept.layout() == spilled.assembly.layout());
            for (number, symbol) in before.iter().flat_map(Assembly::symbols) {
                spilled.assembly.add(number, symbol);
            }
        }
        if spilled.assembly.missing() == 0 {
            let Spilled { id, assembly, length, kind } = spilled;
            self.tell(Feedback::Done { id, length, kind });
            self.block(Whole { id, length, kind, assembly }, charge);
            return;
        }
        let has_room = self.spilled.len() < MOST_SPILLED || self.spilled.contains(&id);
        let keep = || self.shared.room().and_then(|()| self.spill.keep(&spilled));
        let kept = if has_room { keep() } else { Ok(()) };
        if has_room && kept.is_ok() {
            self.spilled.insert(id);
        } else {
            self.shared.disk_is_full(kept.is_err_and(|error| error.is_disk_full()));
            self.tell(Feedback::NotKept(id));
        }
        self.tell(Feedback::Memory(spilled.assembly.into_memory()));
    }

    fn discard(&mut self, object: u64) {
        self.open.remove(&object);
        self.unspill(|id| id.object == object);
        // What stays behind is swept away by its age.
        let _ = self.staging.forget(&staging_key(self.sender, object));
    }

    fn unspill(&mut self, is_unwanted: impl Fn(&BlockId) -> bool) {
        let spill = &self.spill;
        self.spilled.retain(|id| {
            let is_unwanted = is_unwanted(id);
            if is_unwanted {
                spill.forget(*id);
            }
            !is_unwanted
        });
    }

    fn missing(&mut self, object: u64, length: u64) -> Vec<(u64, u64)> {
        let all = vec![(0, chunk_count(length).saturating_sub(1))];
        match self.partial(object, length) {
            Ok(Some(open)) => {
                open.partial.missing().map(|range| (range.start, range.end - 1)).collect()
            }
            Ok(None) => Vec::new(),
            Err(_) => all,
        }
    }

    fn note(&self, note: Note) {
        // Without its keeper nothing is published any more, and the receiver says so.
        let _ = self.keeper.send(note);
    }

    fn tell(&self, feedback: Feedback) {
        let _ = self.feedback.send(feedback);
    }
}

/// What lies between ranges that are missing, as ranges of the first and last.
fn gaps(missing: impl Iterator<Item = std::ops::Range<u64>>, count: u64) -> Vec<(u64, u64)> {
    let (mut gaps, mut from) = (Vec::new(), 0);
    for range in missing.chain(std::iter::once(count..count)) {
        if range.start > from {
            gaps.push((from, range.start - 1));
        }
        from = range.end;
    }
    gaps
}
