//! The thread that reads the link: from frames to blocks and records. It never waits for the disk where files go; what
//! the disk is too slow for is dropped by the block, and taken again when it comes again. Time is handed in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant, SystemTime};

use super::ChannelSink;
use super::note::{Feedback, Job, Note, PAGE_OBJECT};
use super::sessions::{Opened, Sessions};
use super::status::{LinkStatus, Shared};
use crate::block::Assembly;
use crate::event::{DiodeEvent, Refusal};
use crate::frame::{Class, HEADER, Header};
use crate::intake::{BlockId, Intake, Taken};
use crate::record::{GenerationEnd, Record, Records};
use crate::resync::Judge;
use crate::symbol::{ObjectKind, SymbolHead};

/// Without a heartbeat for so long the sender counts as silent; it sends one each second.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// A block that got no symbol for so long goes to the disk.
const IDLE_MS: u64 = 1000;

/// What is refused or dropped is told so often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// More does not wait for the disk: one that is slower than the link for so long will not make up for it.
const MOST_WAITING: usize = 256 << 20;

/// Pages may wait when nothing else may any more.
const FOR_PAGES: usize = 32 << 20;

pub(super) struct Work {
    pub(super) sessions: Sessions,
    /// Which of the senders the tree is of.
    pub(super) tree: usize,
    pub(super) intake: Intake,
    pub(super) jobs: Sender<Job>,
    pub(super) notes: Sender<Note>,
    pub(super) feedback: Receiver<Feedback>,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Option<Box<dyn ChannelSink>>,
    /// Bytes that may wait for the disk in any case, and together with the blocks that are put together.
    pub(super) least_waiting: usize,
    pub(super) most_in_memory: usize,
    pub(super) link: LinkStatus,
    pub(super) clock: Clock,
}

/// What was when.
pub(super) struct Clock {
    pub(super) now: Instant,
    began: Instant,
    heard: Option<Instant>,
    told: Instant,
    told_refused: [u64; Refusal::ALL.len()],
    told_dropped: u64,
    ends: HashMap<u64, GenerationEnd>,
    /// When the sender said that it ends, on its own clock; it is silent then.
    stopped: Option<u64>,
    gap: Gap,
}

/// What was sent and not taken, counted between heartbeats of one session.
#[derive(Default)]
struct Gap {
    /// The epoch of the session, frames that were sent and frames that were taken at the last heartbeat.
    last: Option<(u64, u64, u64)>,
    /// Frames may come a little later than the heartbeat that counts them.
    lost: i64,
}

impl Gap {
    /// How many frames are lost so far, at a heartbeat after `sent` of them, when `taken` were taken.
    fn at(&mut self, epoch: u64, sent: u64, taken: u64) -> u64 {
        if let Some((of, sent_then, taken_then)) = self.last.replace((epoch, sent, taken))
            && of == epoch
        {
            let since =
                |now: u64, then: u64| i64::try_from(now.saturating_sub(then)).unwrap_or(i64::MAX);
            self.lost = self.lost.saturating_add(since(sent, sent_then) - since(taken, taken_then));
        }
        u64::try_from(self.lost).unwrap_or(0)
    }
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        let (told_refused, told_dropped) = ([0; Refusal::ALL.len()], 0);
        Self {
            now,
            began: now,
            heard: None,
            told: now,
            told_refused,
            told_dropped,
            ends: HashMap::new(),
            stopped: None,
            gap: Gap::default(),
        }
    }
}

impl Work {
    /// Takes one datagram, whose bytes are spoiled.
    pub(super) fn datagram(&mut self, frame: &mut [u8]) {
        let header = frame.first_chunk::<HEADER>().and_then(Header::read);
        match header.filter(|header| header.frame_length() == frame.len()) {
            Some(header) => drop(self.frame(&header, frame)),
            None => self.refuse(Refusal::NoFrame),
        }
    }

    /// Takes a frame whose length is that of its header. Whether it was one to be taken.
    fn frame(&mut self, header: &Header, frame: &mut [u8]) -> bool {
        let bytes = frame.len() as u64;
        match self.sessions.open(header, frame, self.clock.now) {
            Ok(Opened::Payload { sender, payload }) => {
                if sender == self.tree {
                    self.payload(header.class, payload);
                } else if header.class != Class::Filler {
                    self.refuse(Refusal::OtherSender);
                }
            }
            Ok(Opened::Announced) => {}
            Ok(Opened::Began { sender, epoch, is_plain }) => {
                self.link.session = Some((sender, epoch));
                self.link.is_plain = is_plain;
                if let Some(sink) = &mut self.sink {
                    sink.session_began(self.clock.now);
                }
                self.shared.tell(&DiodeEvent::SessionBegan { sender, epoch });
                if is_plain {
                    self.shared.tell(&DiodeEvent::PlainSession { sender });
                }
            }
            Err(why) => {
                self.refuse(why);
                return false;
            }
        }
        self.link.frames += 1;
        self.link.bytes += bytes;
        true
    }

    fn payload(&mut self, class: Class, payload: &[u8]) {
        match class {
            Class::Control | Class::Stream => {
                for record in Records::of(payload) {
                    match record {
                        Ok(record) => self.record(&record),
                        Err(_) => return self.refuse(Refusal::Unreadable),
                    }
                }
            }
            Class::Page | Class::New | Class::Bulk | Class::Repeat => {
                let Ok((mut head, layout, symbol)) = SymbolHead::read(payload) else {
                    return self.refuse(Refusal::Unreadable);
                };
                if head.kind == ObjectKind::Page {
                    head.object |= PAGE_OBJECT;
                }
                let id = BlockId { object: head.object, block: head.block };
                if let Taken::Block(assembly) = self.intake.take(&head, layout, symbol) {
                    self.block(id, head.length, head.kind, assembly);
                }
                self.make_room();
            }
            Class::Filler | Class::Announcement => {}
        }
    }

    /// What does not fit into memory goes to the disk, and what is there and needed comes back.
    fn make_room(&mut self) {
        while let Some(id) = self.intake.recall() {
            self.job(Job::Recall(id));
        }
        while let Some(spilled) = self.intake.spill() {
            self.spill(spilled);
        }
    }

    fn spill(&mut self, spilled: crate::intake::Spilled) {
        match self.shared.charge(spilled.assembly.memory(), self.most_waiting()) {
            Some(_charge) => self.job(Job::Spill { spilled, _charge }),
            None => {
                // What came of it so far is lost; it is not done, and comes again.
                self.intake.is_lost(spilled.id);
                self.intake.reuse(spilled.assembly.into_memory());
            }
        }
    }

    /// What is put together leaves the rest to what waits for the disk.
    fn most_waiting(&self) -> usize {
        let rest = self.most_in_memory.saturating_sub(self.intake.memory());
        rest.min(MOST_WAITING).max(self.least_waiting)
    }

    fn block(&mut self, id: BlockId, length: u64, kind: ObjectKind, assembly: Assembly) {
        let more = if kind == ObjectKind::Page { FOR_PAGES } else { 0 };
        match self.shared.charge(assembly.memory(), self.most_waiting() + more) {
            Some(_charge) => self.job(Job::Block { id, length, kind, assembly, _charge }),
            None => {
                self.link.dropped += 1;
                self.intake.undo(id, length, kind);
                self.intake.reuse(assembly.into_memory());
            }
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Heartbeat(beat) => {
                let last = self.link.heartbeat.replace(*beat);
                let epoch = self.link.session.map_or(0, |(_, epoch)| epoch);
                self.link.lost = self.clock.gap.at(epoch, beat.frames, self.link.frames);
                if last.is_none_or(|last| last.generation != beat.generation) {
                    self.note(Note::Heard(beat.generation));
                }
                self.heard();
            }
            Record::GenerationEnded(end) => {
                // Most are said many times over, and somebody who cannot sign may say another one before.
                if self.clock.ends.len() > 1 << 12 {
                    self.clock.ends.clear();
                }
                if self.clock.ends.get(&end.generation) != Some(end) {
                    self.clock.ends.insert(end.generation, end.clone());
                    self.note(Note::Ended(Box::new(end.clone())));
                }
            }
            Record::Started { time_ms, version } => {
                let (time_ms, version) = (*time_ms, (*version).to_owned());
                self.clock.stopped = None;
                self.shared.tell(&DiodeEvent::SenderStarted { time_ms, version });
            }
            Record::Stopping { time_ms, version } => {
                let (time_ms, version) = (*time_ms, (*version).to_owned());
                // It is said more than once, so that it is heard.
                if self.clock.stopped.replace(time_ms) != Some(time_ms) {
                    self.shared.tell(&DiodeEvent::SenderStopped { time_ms, version });
                }
            }
            // The announcement has said it, which is signed.
            Record::Plain => {}
            Record::ChannelOpened { .. }
            | Record::ChannelData { .. }
            | Record::ChannelPiece { .. }
            | Record::ChannelClosed { .. } => {
                if let Some(sink) = &mut self.sink {
                    sink.take(record, self.clock.now);
                }
            }
            // It is for who listens to a rehearsal.
            Record::Rehearsal(_) => {}
        }
    }

    fn heard(&mut self) {
        self.clock.stopped = None;
        let before = self.clock.heard.replace(self.clock.now);
        if self.link.is_silent {
            self.link.is_silent = false;
            let since = before.unwrap_or(self.clock.began);
            let silent_for = self.clock.now.saturating_duration_since(since);
            self.shared.tell(&DiodeEvent::HeartbeatBack { silent_for });
        }
    }

    /// Takes what the other threads have to say.
    pub(super) fn listen(&mut self) {
        while let Ok(feedback) = self.feedback.try_recv() {
            let intake = &mut self.intake;
            match feedback {
                Feedback::Lost { id, length, kind } => intake.undo(id, length, kind),
                Feedback::Done { id, length, kind } => intake.mark_done(id, length, kind),
                Feedback::Has { object, length, present } => intake.has(object, length, &present),
                Feedback::Loaded { id, assembly: Some(kept) } => {
                    let whole = intake.merge(id, &kept);
                    intake.reuse(kept.into_memory());
                    if let Some((assembly, length, kind)) = whole {
                        self.block(id, length, kind, assembly);
                    }
                }
                Feedback::Loaded { assembly: None, .. } => {}
                Feedback::NotKept(id) => intake.is_lost(id),
                Feedback::Again(object) => intake.again(object),
                Feedback::Forget(object) => intake.forget(object),
                Feedback::Settled { last, but } => intake.forget_to(last, &but),
                Feedback::Reset(done) => {
                    intake.reset(done);
                    self.clock.ends.clear();
                }
                Feedback::Memory(memory) => intake.reuse(memory),
            }
        }
    }

    /// Time goes by.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        self.clock.now = now;
        self.listen();
        self.sessions.tick(now);
        let ms = now.saturating_duration_since(self.clock.began).as_millis();
        self.intake.at(u64::try_from(ms).unwrap_or(u64::MAX));
        for id in self.intake.idle(IDLE_MS) {
            if let Some(spilled) = self.intake.give_out(id) {
                self.spill(spilled);
            }
        }
        self.make_room();
        if let Some(sink) = &mut self.sink {
            sink.tick(now);
        }
        // Of a sender that was never heard, the silence began with us.
        let heard = self.clock.heard.unwrap_or(self.clock.began);
        let silent_for = now.saturating_duration_since(heard);
        if silent_for >= SILENT_AFTER && !self.link.is_silent && self.clock.stopped.is_none() {
            self.link.is_silent = true;
            self.shared.tell(&DiodeEvent::HeartbeatLost { silent_for });
        }
        self.note(Note::Time(wall));
        self.publish_status();
        if now.saturating_duration_since(self.clock.told) >= TELL_EVERY {
            self.tell_losses();
        }
    }

    fn publish_status(&mut self) {
        self.link.in_memory = self.intake.memory() as u64;
        let mut status = self.shared.status();
        let link = &mut status.link;
        // The others count here themselves.
        for (count, more) in link.refused.iter_mut().zip(&mut self.link.refused) {
            *count += std::mem::take(more);
        }
        let (blocks, restored, refused) = (link.blocks, link.restored, link.refused);
        *link = LinkStatus { blocks, restored, refused, ..self.link.clone() };
    }

    fn tell_losses(&mut self) {
        self.clock.told = self.clock.now;
        let refused = self.shared.status().link.refused;
        for (why, (count, told)) in
            Refusal::ALL.into_iter().zip(refused.into_iter().zip(self.clock.told_refused))
        {
            if count > told {
                self.shared.tell(&DiodeEvent::Refused { why, count: count - told });
            }
        }
        self.clock.told_refused = refused;
        let blocks =
            self.link.dropped - std::mem::replace(&mut self.clock.told_dropped, self.link.dropped);
        if blocks > 0 {
            self.shared.tell(&DiodeEvent::DiskTooSlow { blocks });
        }
    }

    /// Says what is still to be said, and writes down where the sessions stand. Whether that is on the disk.
    pub(super) fn close(&mut self) -> bool {
        self.publish_status();
        self.tell_losses();
        self.sessions.close()
    }

    fn refuse(&mut self, why: Refusal) {
        self.link.refused[why as usize] += 1;
    }

    fn job(&self, job: Job) {
        // A thread that is gone has said so in the status.
        let _ = self.jobs.send(job);
    }

    fn note(&self, note: Note) {
        let _ = self.notes.send(note);
    }
}

impl Judge for Work {
    type Taken = ();

    fn believes(&self, header: &Header, bytes: &[u8; HEADER]) -> bool {
        self.sessions.believes(header, bytes)
    }

    fn take(&mut self, header: &Header, frame: &mut [u8]) -> Option<()> {
        self.frame(header, frame).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_within_a_session_only() {
        let mut gap = Gap::default();
        // It joins late, at the sender's thousandth frame.
        assert_eq!(gap.at(5, 1000, 10), 0);
        assert_eq!(gap.at(5, 1100, 100), 10);
        // Two of those came late.
        assert_eq!(gap.at(5, 1200, 202), 8);
        // The sender begins anew.
        assert_eq!(gap.at(6, 50, 240), 8);
        assert_eq!(gap.at(6, 60, 240), 18);
    }
}
