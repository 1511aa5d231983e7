//! What tests of the sender share: a line that keeps what it is given, and a reader that holds the key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use link::PublicKey;

use super::line::{Given, Line};
use crate::announce::Announcement;
use crate::block::Restorer;
use crate::frame::{Check, Class, HEADER, Header};
use crate::intake::{Intake, Taken};
use crate::intervals::Intervals;
use crate::key::DiodeKey;
use crate::record::Records;
use crate::replay::Replay;
use crate::session::Opener;
use crate::symbol::{ObjectKind, SymbolHead};

/// A line that keeps what it is given, and loses some of it.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(crate) is_new: Arc<AtomicBool>,
}

impl Kept {
    /// What it was given since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

impl Line for Kept {
    fn frame_bytes(&self) -> usize {
        1472
    }

    fn overhead(&self) -> usize {
        28
    }

    fn has_one_size(&self) -> bool {
        true
    }

    fn most_batch(&self) -> usize {
        20 * 1472
    }

    fn send(&mut self, frames: &[u8], frame: usize) -> Given {
        self.frames.lock().unwrap().extend(frames.chunks(frame).map(<[u8]>::to_vec));
        if self.is_new.swap(false, Ordering::Relaxed) { Given::Anew } else { Given::All }
    }
}

/// What somebody makes of frames who holds the key, each of which must be the sender's.
pub(crate) struct Reader<'a> {
    sender: PublicKey,
    key: &'a DiodeKey,
    session: Option<(Opener, Replay)>,
    intake: Intake,
    restorer: Restorer,
    pub(crate) classes: Vec<Class>,
    pub(crate) sessions: Vec<u64>,
    pub(crate) records: Vec<String>,
    pub(crate) blocks: BTreeMap<(u64, u32), Vec<u8>>,
    pub(crate) pages: Vec<u64>,
    /// Symbols of files, and of these how many were of no use.
    pub(crate) symbols: (u64, u64),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(sender: PublicKey, key: &'a DiodeKey) -> Self {
        Self {
            sender,
            key,
            session: None,
            intake: Intake::new(1 << 30, Intervals::default(), []),
            restorer: Restorer::default(),
            classes: Vec::new(),
            sessions: Vec::new(),
            records: Vec::new(),
            blocks: BTreeMap::new(),
            pages: Vec::new(),
            symbols: (0, 0),
        }
    }

    pub(crate) fn read(&mut self, frames: &[Vec<u8>]) {
        let check = Check::of_announcements(&self.sender);
        for frame in frames {
            let head = frame.first_chunk::<HEADER>().unwrap();
            let header = Header::read(head).unwrap();
            assert_eq!(header.frame_length(), frame.len());
            self.classes.push(header.class);
            if header.class == Class::Announcement {
                assert!(Header::is_checked(head, &check));
                let told = Announcement::read(&frame[HEADER..], &self.sender).unwrap();
                assert!(told.is_in(&header));
                if self.session.as_ref().is_none_or(|(opener, _)| opener.id() != told.id) {
                    let secret = told.open(self.key).unwrap();
                    self.session = Some((Opener::new(told.id, &secret), Replay::new(0)));
                    self.sessions.push(told.epoch);
                }
                continue;
            }
            let Some((opener, replay)) = &mut self.session else { continue };
            assert!(opener.believes(&header, head) && replay.take(header.number));
            let mut frame = frame.clone();
            let payload = opener.open(&header, &mut frame).unwrap();
            match header.class {
                Class::Control | Class::Stream => {
                    for record in Records::of(payload) {
                        self.records.push(format!("{:?}", record.unwrap()));
                    }
                }
                Class::Filler => assert!(payload.iter().all(|byte| *byte == 0)),
                _ => {
                    let (head, layout, symbol) = SymbolHead::read(payload).unwrap();
                    self.symbols.0 += 1;
                    match self.intake.take(&head, layout, symbol) {
                        Taken::Block(assembly) => {
                            let block = assembly.finish(&mut self.restorer).unwrap();
                            if head.kind == ObjectKind::Page && head.block == 0 {
                                self.pages.push(head.object);
                            }
                            self.blocks.insert((head.object, head.block), block);
                        }
                        Taken::Known => self.symbols.1 += 1,
                        _ => {}
                    }
                }
            }
        }
    }

    /// A whole object, if it has come.
    pub(crate) fn object(&self, object: u64) -> Option<Vec<u8>> {
        let blocks = self.blocks.range((object, 0)..=(object, u32::MAX));
        let bytes: Vec<u8> = blocks.flat_map(|(_, block)| block.iter().copied()).collect();
        (!bytes.is_empty()).then_some(bytes)
    }
}
