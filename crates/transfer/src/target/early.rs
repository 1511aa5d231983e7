//! The parcel that came before anybody asked for it: what becomes of it once its file is decided.

use files::chunk_len;

use super::entries::State;
use super::{Failed, Held, Job, Output, Target};
use crate::message::{EntryKind, RefuseCode};

impl Target {
    /// What to do with the parcel that is held, if that is known by now.
    pub(super) fn settle_held(&mut self) -> Option<Output> {
        let Held { index, hash, len } = *self.held.as_ref()?;
        let Some(file) = self.files.get_mut(&index) else {
            // Not offered yet, or ended without it.
            return (index <= self.highest || self.finishing).then(|| self.drop_held(len));
        };
        let size = file.placed.entry.size().unwrap_or_default();
        let fits = chunk_len(size, 0).map(|chunk| chunk as u64) == Some(len);
        let wanted = match &mut file.state {
            State::Wanted => true,
            State::Receiving { missing, .. } if fits => missing.take(0, 1),
            State::Receiving { .. } => true,
            _ => return None,
        };
        if !wanted {
            return Some(self.drop_held(len));
        }
        if !fits {
            // The source will not send it again, so the file cannot be finished.
            if matches!(file.state, State::Receiving { .. }) {
                self.jobs.push_back(Job::Discard { index, remove: false });
                self.close_large();
            }
            let text = "its beginning came with another length than was offered".to_owned();
            self.entry_failed(index, Failed { code: RefuseCode::Protocol, text });
            return Some(self.drop_held(len));
        }
        let job = match &mut file.state {
            State::Receiving { writing, .. } => {
                *writing += 1;
                let sparse = matches!(file.placed.entry.kind, EntryKind::File { sparse: true, .. });
                Job::WriteChunk { index, chunk: 0, hash, len, sparse }
            }
            state => {
                *state = State::Busy;
                Job::WriteSmall(vec![(file.placed.clone(), len, hash)])
            }
        };
        self.held = None;
        self.jobs_running += 1;
        Some(Output::DoHeld(job))
    }

    fn drop_held(&mut self, len: u64) -> Output {
        self.held = None;
        self.stored += len;
        Output::DropHeld
    }
}
