//! What the results of disk jobs mean for the entries they were for, and how entries end.

use files::{CHUNK, Digest, RelPath, chunk_count};

use super::entries::{Missing, State};
use super::{
    Failed, Found, Job, JobResult, MAX_REPEATS, MAX_SHARED, MAX_SHARED_BYTES, Opened, Output,
    Target,
};
use crate::message::{EntryKind, Existing, Need, Outcome, RefuseCode, Why, pack};

impl Target {
    /// Takes the result of a disk job.
    pub fn job_done(&mut self, result: JobResult) {
        self.jobs_running = self.jobs_running.saturating_sub(1);
        match result {
            JobResult::Examined(list) => {
                self.examining = false;
                for (index, found) in list {
                    self.examined(index, found);
                }
            }
            JobResult::Hashed { index, result, adopted } => self.hashed(index, result, adopted),
            JobResult::Adopted { index, result } => self.adopted(index, result),
            JobResult::Opened { index, result } => self.opened(index, result),
            JobResult::Small(list) => {
                for (index, len, result) in list {
                    self.count_stored(len);
                    match result {
                        Ok(digest) => self.end_entry(index, Outcome::Copied(digest)),
                        Err(failed) => self.entry_failed(index, failed),
                    }
                }
            }
            JobResult::Chunks { index, len, result, .. } => {
                self.count_stored(len);
                self.chunks_written(index, result);
            }
            JobResult::Signed { index, link, pieces, next } => {
                self.signed(index, link, &pieces, next);
            }
            JobResult::Unpatched { index, chunk, len } => {
                self.count_stored(len);
                self.unpatched(index, chunk);
            }
            JobResult::TwinsListed { looked, found, is_all } => {
                self.twins_listed(looked, &found, is_all);
            }
            JobResult::TwinHashed { index, from, digest } => self.twin_hashed(index, &from, digest),
            JobResult::Filled { index, result } => self.filled(index, result),
            JobResult::Published { index, result } => self.published(index, result),
            JobResult::Linked { index, result } => match result {
                Ok(()) => self.end_entry(index, Outcome::Made),
                // A link may be impossible (another file system, too many): then the content will do.
                Err(_) => self.want_content(index),
            },
            JobResult::FolderFinished { index, result } => self.folder_finished(index, result),
            JobResult::Finished(result) => self.job_finished(result),
            JobResult::Discarded => {}
        }
    }

    /// What came over an earlier connection is finished first, and is no news on this one.
    fn count_stored(&mut self, len: u64) {
        let earlier = len.min(self.earlier);
        self.earlier -= earlier;
        self.stored += len - earlier;
    }

    fn examined(&mut self, index: u64, found: Found) {
        if let Some(folder) = self.folders.get_mut(&index) {
            folder.examined = true;
            match found {
                Found::Failed(failed) => folder.failure = Some(failed),
                Found::WouldMake(_) => folder.would_make = true,
                _ => {}
            }
            self.finish_folder_if_done(index);
            return;
        }
        let Some(file) = self.files.get_mut(&index) else { return };
        if file.withdrawn {
            return self.end_entry(index, Outcome::Withdrawn);
        }
        match found {
            Found::Different { same_size: true } => file.why = Why::Time,
            Found::Different { same_size: false } => file.why = Why::Size,
            _ => {}
        }
        let hard_link = match file.placed.entry.kind {
            EntryKind::HardLink { to, .. } => Some(to),
            _ => None,
        };
        match found {
            Found::Failed(failed) => self.entry_failed(index, failed),
            Found::Made => self.end_entry(index, Outcome::Made),
            Found::Unchanged(digest) => self.end_entry(index, Outcome::Unchanged(digest)),
            Found::Left => self.exists(index),
            Found::WouldMake(why) => self.end_entry(index, Outcome::Planned(why)),
            Found::SameStamp if !self.options.checksum && hard_link.is_none() => {
                self.hash_existing(index, true);
            }
            Found::SameStamp if hard_link.is_none() || self.options.reread => {
                self.hash_existing(index, false);
            }
            // Whether it is the same inode is only seen when the link is made.
            Found::SameStamp if self.options.dry_run => self.end_entry(index, Outcome::Made),
            Found::Different { same_size: true }
                if self.options.checksum && (hard_link.is_none() || self.options.reread) =>
            {
                self.hash_existing(index, false);
            }
            Found::Different { .. }
                if matches!(self.options.existing, Existing::Skip | Existing::Fail) =>
            {
                self.exists(index);
            }
            _ => match hard_link {
                Some(to) => self.link(index, to),
                None => self.want_content(index),
            },
        }
    }

    /// Something different has the name and the order says to leave it.
    pub(super) fn exists(&mut self, index: u64) {
        if self.options.existing == Existing::Fail {
            let text = "something different exists under this name".to_owned();
            return self.entry_failed(index, Failed { code: RefuseCode::Exists, text });
        }
        self.end_entry(index, Outcome::Skipped);
    }

    fn hash_existing(&mut self, index: u64, adopt: bool) {
        let Some(file) = self.files.get_mut(&index) else { return };
        if self.options.dry_run && adopt {
            // Reading whole trees to say what would be done is too dear: the digest is left out.
            return self.end_entry(index, Outcome::Unchanged(Digest::from_bytes([0; 32])));
        }
        file.state = State::Busy;
        self.jobs.push_back(Job::HashExisting { placed: file.placed.clone(), adopt });
    }

    fn hashed(&mut self, index: u64, result: Result<Digest, Failed>, adopted: bool) {
        let Some(file) = self.files.get_mut(&index) else { return };
        if file.withdrawn {
            return self.end_entry(index, Outcome::Withdrawn);
        }
        match result {
            Ok(digest) if adopted => self.end_entry(index, Outcome::Unchanged(digest)),
            Ok(have) => {
                file.state = State::Comparing { have };
                self.ask(Need { index, have: Some(have), ranges: Vec::new() });
            }
            Err(failed) if self.options.reread => self.entry_failed(index, failed),
            // What stands there cannot be read; it is replaced, unless that fails as well.
            Err(_) => self.want_content(index),
        }
    }

    fn adopted(&mut self, index: u64, result: Result<(), Failed>) {
        let Some(file) = self.files.get(&index) else { return };
        match (result, file.compared) {
            (Ok(()), Some(digest)) => self.end_entry(index, Outcome::Unchanged(digest)),
            (Ok(()), None) => {}
            (Err(failed), _) => self.entry_failed(index, failed),
        }
    }

    pub(super) fn want_content(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        if file.withdrawn {
            return self.end_entry(index, Outcome::Withdrawn);
        }
        if self.options.dry_run {
            let why = file.why;
            return self.end_entry(index, Outcome::Planned(why));
        }
        if self.seek(index) {
            return;
        }
        if let Err(failed) = self.claim(index) {
            return self.entry_failed(index, failed);
        }
        let Some(file) = self.files.get_mut(&index) else { return };
        if file.placed.entry.size().unwrap_or_default() <= CHUNK {
            file.state = State::Wanted;
            self.ask(Need { index, have: None, ranges: Vec::new() });
        } else {
            file.state = State::WaitingForSlot;
            self.waiting_open.push_back(index);
        }
    }

    /// Takes a file's size from the bytes that may be stored here, before any of it is asked for.
    pub(super) fn claim(&mut self, index: u64) -> Result<(), Failed> {
        let Some(file) = self.files.get_mut(&index) else { return Ok(()) };
        let size = file.placed.entry.size().unwrap_or_default();
        let claimed = self.claimed.saturating_add(size);
        if let Some(most) = self.options.max_bytes.filter(|most| claimed > *most) {
            let text =
                format!("only {most} bytes may be stored by this copy, and it is one too many");
            return Err(Failed { code: RefuseCode::TooMuch, text });
        }
        self.claimed = claimed;
        file.claimed += size;
        Ok(())
    }

    /// Gives back what of a file that the source takes back has not come.
    pub(super) fn unclaim(&mut self, index: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let unused = file.unused_claim();
        file.claimed -= unused;
        self.claimed -= unused;
    }

    fn link(&mut self, index: u64, to: u64) {
        let Some(file) = self.files.get_mut(&index) else { return };
        if let Some((path, _)) = self.shared.get(&to) {
            if self.options.dry_run {
                let why = file.why;
                return self.end_entry(index, Outcome::Planned(why));
            }
            file.state = State::Busy;
            let job = Job::Link { placed: file.placed.clone(), to: path.clone() };
            return self.jobs.push_back(job);
        }
        if self.files.contains_key(&to) && to != index {
            if let Some(file) = self.files.get_mut(&index) {
                file.state = State::WaitingForLink;
            }
            return self.waiting_links.entry(to).or_default().push(index);
        }
        self.want_content(index);
    }

    fn opened(&mut self, index: u64, result: Result<Opened, Failed>) {
        let Some(file) = self.files.get_mut(&index) else { return };
        match result {
            Ok(_) if file.withdrawn => {
                self.jobs.push_back(Job::Discard { index, remove: false });
                self.close_large();
                self.end_entry(index, Outcome::Withdrawn);
            }
            Ok(Opened { ranges, older }) => {
                if file.twin.is_some() {
                    return self.fill(index);
                }
                let mut missing = Missing::new(&ranges);
                let ranges = missing.ranges();
                file.state = State::Receiving { missing, writing: 0, sum: None };
                file.older = older;
                self.ask_content(Need { index, have: None, ranges });
            }
            Err(failed) => {
                self.close_large();
                self.entry_failed(index, failed);
            }
        }
    }

    fn chunks_written(&mut self, index: u64, result: Result<(), Failed>) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let State::Receiving { writing, .. } = &mut file.state else { return };
        *writing -= 1;
        match result {
            Ok(()) => self.publish_if_complete(index),
            Err(failed) => {
                // What has been staged stays for another try, unless others need the room.
                let remove = failed.code == RefuseCode::Disk;
                self.jobs.push_back(Job::Discard { index, remove });
                self.close_large();
                self.entry_failed(index, failed);
            }
        }
    }

    fn published(&mut self, index: u64, result: Result<Option<Digest>, Failed>) {
        let Some(file) = self.files.get_mut(&index) else { return };
        let size = file.placed.entry.size().unwrap_or_default();
        match result {
            Ok(Some(digest)) => {
                self.close_large();
                self.end_entry(index, Outcome::Copied(digest));
            }
            Ok(None) if file.repeats < MAX_REPEATS && !file.withdrawn => {
                // All of it was stored, so nothing of its claim can be given back.
                file.claimed = 0;
                file.repeats += 1;
                let ranges = vec![(0, chunk_count(size))];
                file.older = None;
                file.state =
                    State::Receiving { missing: Missing::new(&ranges), writing: 0, sum: None };
                self.ask(Need { index, have: None, ranges });
            }
            Ok(None) => {
                self.jobs.push_back(Job::Discard { index, remove: false });
                self.close_large();
                let text = "what arrived does not have the digest that the source named".to_owned();
                self.entry_failed(index, Failed { code: RefuseCode::Corrupt, text });
            }
            Err(failed) => {
                self.close_large();
                self.entry_failed(index, failed);
            }
        }
    }

    fn folder_finished(&mut self, index: Option<u64>, result: Result<(), Failed>) {
        let Some(index) = index else {
            self.failures |= result.is_err();
            if let Some(top) = self.folders.get_mut(&0) {
                top.finished = true;
            }
            return;
        };
        let would_make = self.folders.get(&index).is_some_and(|folder| folder.would_make);
        match result {
            Ok(()) if would_make => self.end_entry(index, Outcome::Planned(Why::New)),
            Ok(()) => self.end_entry(index, Outcome::Made),
            Err(failed) => {
                let outcome = Outcome::Failed { code: failed.code, text: failed.text };
                self.end_entry(index, outcome);
            }
        }
    }

    /// What is extra at the target and was removed, or would be, is told before the receipt.
    pub fn tell_extras(&mut self, extras: Vec<RelPath>) {
        self.extras = extras;
        if self.ready {
            self.send_extras();
        }
    }

    pub(super) fn send_extras(&mut self) {
        for part in pack(self.extras.clone(), |path| path.as_bytes().len() + 3) {
            self.messages.push_back(crate::message::TargetMessage::Extras(part));
        }
    }

    fn job_finished(&mut self, result: Result<Vec<u8>, Failed>) {
        match result {
            Ok(receipt) => {
                self.receipt = Some(receipt.clone());
                if self.ready {
                    self.flush_outcomes();
                    self.messages.push_back(crate::message::TargetMessage::Receipt(receipt));
                }
            }
            Err(Failed { code, text }) => {
                self.receipt = Some(Vec::new());
                self.messages.push_back(crate::message::TargetMessage::Abort { code, text });
            }
        }
    }

    /// A folder's failure is told when all that was offered in it has an outcome; a file's at once.
    pub(super) fn entry_failed(&mut self, index: u64, failed: Failed) {
        if let Some(folder) = self.folders.get_mut(&index) {
            folder.failure = Some(failed);
            folder.examined = true;
            return self.finish_folder_if_done(index);
        }
        let outcome = match self.files.get(&index) {
            Some(file) if file.withdrawn => Outcome::Withdrawn,
            _ => Outcome::Failed { code: failed.code, text: failed.text },
        };
        self.end_entry(index, outcome);
    }

    /// Ends an entry: forgets it, tells the source, lets its folder and its hard links go on.
    pub(super) fn end_entry(&mut self, index: u64, outcome: Outcome) {
        self.seeker_ends(index, &outcome);
        let (placed, cost, lost) = match self.folders.remove(&index) {
            Some(folder) => {
                self.names_bytes -= folder.names_bytes;
                (folder.placed, folder.cost, None)
            }
            None => match self.files.remove(&index) {
                Some(file) => (Some(file.placed), file.cost, file.lost),
                None => return,
            },
        };
        let Some(placed) = placed else { return };
        self.live_cost = self.live_cost.saturating_sub(cost);
        // A folder is unfinished as long as anything in it is, so the parent is there, except for what
        // came too late.
        let above = self.folders.get(&placed.entry.parent).map(|folder| &folder.source_path);
        let path = above.and_then(|above| above.join(&placed.entry.name).ok());
        let path = path.unwrap_or_else(|| files::RelPath::from(&placed.entry.name));
        self.failures |= matches!(outcome, Outcome::Failed { .. } | Outcome::Withdrawn);
        let entry = placed.entry;
        let mut linked = None;
        match (&entry.kind, &outcome) {
            (EntryKind::File { shared: true, .. }, Outcome::Copied(d) | Outcome::Unchanged(d)) => {
                if let Some(path) = placed.spot.path() {
                    self.remember_shared(index, path, *d);
                }
            }
            (EntryKind::HardLink { to, .. }, Outcome::Made) => {
                linked = self.shared.get(to).map(|(_, digest)| *digest);
            }
            _ => {}
        }
        self.outcomes.push(index, outcome.clone());
        // The source knows; here it is a file that was to come and did not.
        let outcome = match (outcome, lost) {
            (Outcome::Withdrawn, Some(text)) => {
                Outcome::Failed { code: RefuseCode::NotFound, text }
            }
            (outcome, _) => outcome,
        };
        self.totals.count(entry.size(), entry.is_folder(), &outcome);
        let parent = entry.parent;
        self.ended.push_back(Output::Ended { entry, path, outcome, linked });
        for waiting in self.waiting_links.remove(&index).unwrap_or_default() {
            self.link(waiting, index);
        }
        if let Some(folder) = self.folders.get_mut(&parent).filter(|folder| !folder.finishing) {
            folder.pending = folder.pending.saturating_sub(1);
            self.finish_folder_if_done(parent);
        }
    }

    fn remember_shared(&mut self, index: u64, path: files::RelPath, digest: Digest) {
        let bytes = path.as_bytes().len() + 128;
        let room = MAX_SHARED_BYTES.min(4 * self.options.window as usize);
        if self.shared.len() < MAX_SHARED && self.shared_bytes + bytes <= room {
            self.shared_bytes += bytes;
            self.shared.insert(index, (path, digest));
        }
    }
}
