//! An upload while it is here: taken in, carried by one attempt at a time, and published or given up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use files::{Digest, Dir, RelPath};
use jiff::Timestamp;
use link::Identity;
use tokio::sync::watch;
use transfer::host::{Admission, Intake, Landing, Refusal, Standing};
use transfer::message::{Entry, EntryKind, Offer, RefuseCode};
use transfer::receipt::{DatasetStatement, Statement};
use transfer::reception::Turn;

use super::{Inboxes, Place, aside, at_catalogue, at_store, duplicate};
use crate::admission::UploadKey;
use crate::catalogue::DatasetRow;
use crate::store::{Facts, Incoming, OfferRecord, Publication, StoreError};
use crate::{DatasetId, Duplicates};

/// Folders that a dataset may have beside what its files account for.
const FOLDERS: u64 = 100_000;

/// An upload that was taken in and is not over.
pub(crate) struct Known {
    pub(crate) key: UploadKey,
    pub(crate) offer: OfferRecord,
    pub(crate) incoming: Incoming,
    /// How many places its client has had: only the last may begin. One whose connection is dead, and nobody has noticed,
    /// would take over from who is there.
    places: AtomicU64,
    /// Which attempt may write.
    attempt: AtomicU64,
    /// Published or given up.
    has_ended: AtomicBool,
    /// What has arrived is not what was offered: the next attempt begins with nothing.
    is_spoilt: AtomicBool,
    /// It stands in the store, and its row in the catalogue is lacking.
    is_placed: AtomicBool,
    /// Which attempt is under way, if that is the one that may write.
    carried: AtomicU64,
    /// Held while an attempt gets or loses its turn: one that ends late must not take that of the next.
    turn: Mutex<()>,
    was_warned_of: AtomicBool,
    /// Bytes that were there when it was looked at last, if it was: before the attempt that runs.
    arrived: Mutex<Option<u64>>,
    /// Of one whose size was not told: up to how many bytes it may grow by now.
    pub(super) grown: AtomicU64,
    /// Held to be read by each job at the disk, and to be written by what must be alone with the upload: publishing it,
    /// giving it up, and letting another attempt write.
    gate: RwLock<()>,
}

/// Shows that nobody else is at an upload.
pub(crate) type Alone<'a> = RwLockWriteGuard<'a, ()>;

impl Known {
    /// An upload of which so many bytes are there, if that is known.
    pub(crate) fn new(offer: OfferRecord, incoming: Incoming, arrived: Option<u64>) -> Self {
        let key = UploadKey { client: offer.client.as_str().into(), upload: offer.upload.0 };
        Self {
            key,
            offer,
            incoming,
            places: AtomicU64::new(0),
            attempt: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            is_spoilt: AtomicBool::new(false),
            is_placed: AtomicBool::new(false),
            carried: AtomicU64::new(0),
            turn: Mutex::default(),
            was_warned_of: AtomicBool::new(false),
            arrived: Mutex::new(arrived),
            grown: AtomicU64::new(0),
            gate: RwLock::default(),
        }
    }

    /// Whether it is offered again as it was offered first.
    pub(crate) fn fits(&self, offer: &Offer, metadata: &str, inbox: &str) -> bool {
        let known = &self.offer;
        // One that is not told now may be the same.
        let contents = known.content.zip(offer.content);
        (known.name.as_str(), known.inbox.as_str()) == (offer.name.as_str(), inbox)
            && (known.files, known.bytes) == (offer.files, offer.bytes)
            && known.metadata_digest == Digest::of(metadata.as_bytes())
            && contents.is_none_or(|(before, now)| before == now)
    }

    /// The number of one more place.
    pub(super) fn next_place(&self) -> u64 {
        self.places.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Nothing of what is under way writes to it any more.
    pub(crate) fn end(&self, _alone: &Alone<'_>) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Waits until nobody is at it, on a thread that may block.
    pub(super) fn alone(&self) -> Alone<'_> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same without waiting: none if somebody is at it, as while it is published.
    pub(super) fn alone_now(&self) -> Option<Alone<'_>> {
        match self.gate.try_write() {
            Ok(alone) => Some(alone),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The bytes that it may have.
    pub(super) fn bytes(&self) -> u64 {
        let there = match self.is_open() {
            true => self.arrived().unwrap_or(0),
            false => 0,
        };
        self.offer.bytes.max(self.grown.load(Ordering::Acquire)).max(there)
    }

    /// Its size was not told, and it may grow.
    pub(super) fn is_open(&self) -> bool {
        is_open(&self.offer)
    }

    pub(super) fn is_spoilt(&self) -> bool {
        self.is_spoilt.load(Ordering::Acquire) || self.incoming.is_broken()
    }

    /// Nothing of it is there any more.
    pub(super) fn is_emptied(&self) {
        self.is_spoilt.store(false, Ordering::Release);
        *self.arrived() = Some(0);
    }

    fn arrived(&self) -> MutexGuard<'_, Option<u64>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of it is there, to be asked before this attempt begins to write.
    pub(super) fn measure(&self, attempt: u64) -> Result<u64, StoreError> {
        let known = *self.arrived();
        // What is known is from before the first attempt.
        if let Some(there) = known.filter(|_| attempt == 1) {
            return Ok(there);
        }
        let there = self.incoming.arrived()?;
        *self.arrived() = Some(there);
        Ok(there)
    }

    /// The same where nobody has looked yet.
    pub(super) fn measure_if_unknown(&self) -> Option<u64> {
        if self.arrived().is_some() {
            return None;
        }
        let there = self.incoming.arrived().ok()?;
        let mut arrived = self.arrived();
        match *arrived {
            Some(_) => None,
            None => Some(*arrived.insert(there)),
        }
    }

    /// Whether an attempt is under way.
    pub(super) fn is_carried(&self) -> bool {
        let carried = self.carried.load(Ordering::Acquire);
        carried != 0 && carried == self.attempt.load(Ordering::Acquire)
    }

    /// True once.
    pub(super) fn is_first_warning(&self) -> bool {
        !self.was_warned_of.swap(true, Ordering::AcqRel)
    }

    /// Notes that somebody was at it: what is left alone expires.
    fn touch(&self) {
        // Where it cannot be noted it expires earlier, which is told a day before.
        let _ = self.incoming.touch();
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This attempt is over, if it was not before. What it has brought is kept.
    fn retire(&self, attempt: u64) -> bool {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let retired = self.attempt.compare_exchange(attempt, attempt + 1, order.0, order.1);
        retired.is_ok() && !self.has_ended()
    }

    /// Behind what an attempt that is over still has at the disk, nothing of it stays open.
    fn settle(self: &Arc<Self>, attempt: u64) {
        let known = self.clone();
        aside(move || {
            let _alone = known.alone();
            if known.attempt.load(Ordering::Acquire) == attempt + 1 && !known.has_ended() {
                known.touch();
                known.incoming.rest();
            }
        });
    }

    fn is_at(&self, attempt: u64) -> bool {
        self.attempt.load(Ordering::Acquire) == attempt && !self.has_ended()
    }
}

/// Whether the size of what is offered was not told: clients of dync cannot.
pub(super) fn is_open(offer: &OfferRecord) -> bool {
    offer.client.starts_with("dync:")
}

impl Place {
    /// How it stands, now and whenever that changes.
    pub fn turns(&self) -> watch::Receiver<Turn> {
        self.turns.clone()
    }

    /// The dataset's id.
    pub fn dataset(&self) -> DatasetId {
        self.known.offer.id
    }

    /// What the client should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Begins the upload whose turn it is. An earlier attempt at it ends.
    pub fn begin(mut self) -> Result<Upload, Refusal> {
        let known = self.known.clone();
        // Also behind the jobs of an earlier attempt, which may not write after this.
        let alone = known.alone();
        if known.has_ended() {
            let text = "this upload has just ended: offer it again".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        if known.places.load(Ordering::Acquire) != self.number {
            let text = "a later try of this upload has its place".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        if known.is_placed.load(Ordering::Acquire) {
            self.inboxes.enter_placed(&known, &alone)?;
            let text = "this upload has just been published: offer it again".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        let attempt = {
            let _turn = known.turn();
            let attempt = known.attempt.fetch_add(1, Ordering::AcqRel) + 1;
            if !self.inboxes.0.turns.began(&known.key) {
                let text = "the turn went to somebody else meanwhile: offer it again".to_owned();
                return Err(Refusal { code: RefuseCode::Busy, text });
            }
            known.carried.store(attempt, Ordering::Release);
            attempt
        };
        self.has_begun = true;
        let inboxes = self.inboxes.clone();
        let prepared = inboxes.claim(&known, attempt, &alone).and_then(|()| {
            known.touch();
            let restarted = known.incoming.restart_records().and_then(|()| known.incoming.dir());
            restarted.map_err(|error| at_store(&error))
        });
        drop(alone);
        match prepared {
            Ok(dir) => {
                let [is_up, is_done] = [(); 2].map(|()| AtomicBool::new(false));
                Ok(Upload { inboxes, known, dir, attempt, is_up, is_done })
            }
            Err(refusal) => {
                inboxes.attempt_ended(&known, attempt);
                Err(refusal)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.has_begun {
            self.inboxes.0.turns.left(&self.known.key);
        }
    }
}

/// An upload that is carried. Dropped before it is published, it gives its turn back; what has arrived is kept.
pub struct Upload {
    inboxes: Inboxes,
    known: Arc<Known>,
    dir: Dir,
    attempt: u64,
    is_up: AtomicBool,
    /// It was published, or it will never be.
    is_done: AtomicBool,
}

impl Upload {
    /// The dataset's id.
    pub fn dataset(&self) -> DatasetId {
        self.known.offer.id
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// What was offered.
    pub fn offer(&self) -> &OfferRecord {
        &self.known.offer
    }

    /// The folder of the upload, and below it the one for its files.
    pub fn place(&self) -> (Dir, RelPath) {
        (self.dir.clone(), self.known.incoming.files())
    }

    /// Where a transfer of it lands.
    pub fn landing(self, max_rate_bytes_per_s: Option<u64>) -> Landing {
        let (root, folder) = self.place();
        let offer = &self.known.offer;
        Landing {
            root,
            folder,
            make: true,
            rename_top: None,
            shown: self.shown(),
            max_rate_bytes_per_s,
            max_bytes: Some(offer.bytes),
            allow_setid: false,
            allow_owner: false,
            // What is there is the client's own.
            may_read: true,
            admission: Arc::new(OfDatasets {
                entries: AtomicU64::new(0),
                most: self.most_entries(),
            }),
            intake: Some(Arc::new(self)),
        }
    }

    /// How many entries may come: each file some times, where it changes while it is read, and folders.
    fn most_entries(&self) -> u64 {
        self.known.offer.files.saturating_mul(4).saturating_add(FOLDERS)
    }

    /// As receipts and logs name it.
    fn shown(&self) -> String {
        let OfferRecord { inbox, id, .. } = &self.known.offer;
        format!("inbox {inbox}, dataset {id}")
    }

    /// Publishes what stands, as a transfer does at its end: see [`Intake::publish`]. Where the size was told it must be
    /// just what was offered.
    pub fn finish(
        &self,
        statement: Statement,
        identity: &Identity,
        is_told: bool,
    ) -> Result<Vec<u8>, Refusal> {
        let known = &self.known;
        let alone = known.alone();
        if !known.is_at(self.attempt) {
            let text = "another attempt at this upload has taken over".to_owned();
            return Err(Refusal { code: RefuseCode::Cancelled, text });
        }
        let published = self.publish_whole(statement, identity, is_told, &alone);
        self.is_done.store(published.is_ok() || known.has_ended(), Ordering::Release);
        let (row, receipt) = published?;
        known.end(&alone);
        drop(alone);
        self.inboxes.is_published(known, &row);
        Ok(receipt)
    }

    /// Whether what has arrived is what was offered, in numbers.
    fn check_offer(&self, facts: &Facts) -> Result<(), String> {
        let offer = &self.known.offer;
        if (facts.files, facts.bytes) != (offer.files, offer.bytes) {
            return Err(format!(
                "{} files of {} bytes have arrived, and {} of {} were offered: they have changed; hand them in again",
                facts.files, facts.bytes, offer.files, offer.bytes
            ));
        }
        match offer.content.is_some_and(|content| content != facts.content) {
            true => Err("what has arrived has another content than was offered: hand it in again"
                .to_owned()),
            false => Ok(()),
        }
    }

    fn publish_whole(
        &self,
        statement: Statement,
        identity: &Identity,
        is_told: bool,
        alone: &Alone<'_>,
    ) -> Result<(DatasetRow, Vec<u8>), Refusal> {
        let (inner, offer) = (&*self.inboxes.0, &self.known.offer);
        let door = self.inboxes.door_of(&self.known)?;
        let same = door.root.catalogue().of_content(&offer.inbox, &statement.tree.content);
        let same = same.map_err(at_catalogue)?;
        let link_to = match (same, door.options.duplicates) {
            (Some(row), Duplicates::Refuse) => {
                let refusal = duplicate(&offer.inbox, &row);
                // It will never be published, so it does not wait for its client either.
                self.inboxes.reject(&self.known, alone, &refusal.text)?;
                return Err(refusal);
            }
            (Some(row), Duplicates::Link) => Some(row.id),
            _ => None,
        };
        let began = i64::try_from(statement.began).unwrap_or(0);
        let publication = Publication {
            began: Timestamp::from_second(began).unwrap_or_default(),
            content: Some(statement.tree.content),
            link_to,
            ..publication(identity)
        };
        let sign = |facts: &Facts| {
            if is_told {
                self.check_offer(facts)?;
            }
            let dataset = DatasetStatement {
                id: facts.id.to_string(),
                inbox: offer.inbox.clone(),
                name: offer.name.clone(),
                metadata: facts.metadata,
            };
            let path = self.shown();
            Ok(Statement { dataset: Some(dataset), path, ..statement.clone() }.sign(identity))
        };
        let done = self.known.incoming.publish(&publication, sign, |transaction, row| {
            self.inboxes.enter_hooks(door.disk, transaction, row)
        });
        let done = done.map_err(|error| {
            (inner.tell)(&format!("{} could not be published: {}", self.shown(), chain(&error)));
            match error {
                StoreError::Tree | StoreError::Content(_) => {
                    self.known.is_spoilt.store(true, Ordering::Release);
                }
                StoreError::Catalogue(_) => {
                    // Where the disk does not say, nothing is concluded from that.
                    let is_placed = matches!(self.known.incoming.has_dataset(), Ok(false));
                    self.known.is_placed.store(is_placed, Ordering::Release);
                }
                _ => {}
            }
            at_store(&error)
        })?;
        Ok((done.row, done.receipt))
    }
}

impl Inboxes {
    /// An attempt is over, and gives its turn back, unless another has taken over.
    fn attempt_ended(&self, known: &Arc<Known>, attempt: u64) {
        let turn = known.turn();
        let retired = known.retire(attempt);
        if retired {
            self.0.turns.ended(&known.key);
        }
        drop(turn);
        if retired {
            known.settle(attempt);
        }
    }

    /// Enters a dataset in the catalogue that stands in the store already: there the catalogue failed.
    fn enter_placed(&self, known: &Arc<Known>, alone: &Alone<'_>) -> Result<(), Refusal> {
        let disk = self.0.doors.iter().find(|door| door.options.name == known.offer.inbox);
        let disk = disk.map_or(0, |door| door.disk);
        let sign = |_: &Facts| Err("it has its receipt".to_owned());
        let done =
            known.incoming.publish(&publication(&self.0.identity), sign, |transaction, row| {
                self.enter_hooks(disk, transaction, row)
            });
        let done = done.map_err(|error| at_store(&error))?;
        known.end(alone);
        self.is_published(known, &done.row);
        Ok(())
    }
}

/// What this server says of a dataset that it publishes now.
fn publication(identity: &Identity) -> Publication {
    let now = Timestamp::now();
    Publication {
        began: now,
        published: now,
        by: identity.public_key().to_line("").trim_end().to_owned(),
        program: concat!("haul ", env!("CARGO_PKG_VERSION")).to_owned(),
        content: None,
        link_to: None,
    }
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Intake for Upload {
    fn during(&self, job: &mut dyn FnMut()) -> bool {
        let _at_it = self.known.gate.read().unwrap_or_else(PoisonError::into_inner);
        let may = self.known.is_at(self.attempt);
        if may {
            job();
        }
        may
    }

    fn stands(&self, file: Standing) {
        if self.known.is_at(self.attempt) {
            self.known.incoming.note(&file);
        }
    }

    fn link(&self, up: bool) -> bool {
        if self.is_done.load(Ordering::Acquire) {
            // What came of it is still to be told.
            return true;
        }
        let turn = self.known.turn();
        if !self.known.is_at(self.attempt) {
            return false;
        }
        if self.is_up.swap(up, Ordering::AcqRel) != up
            && !self.inboxes.0.turns.link(&self.known.key, up)
        {
            // Others have its turn: its client offers it again, and is the next.
            let retired = self.known.retire(self.attempt);
            drop(turn);
            if retired {
                self.known.settle(self.attempt);
            }
            return false;
        }
        drop(turn);
        if !up {
            let known = self.known.clone();
            aside(move || known.touch());
        }
        true
    }

    fn progress(&self, stored: u64) {
        // What was there before is told only as the client comes to it.
        let stored = stored.max(self.known.arrived().unwrap_or(0));
        self.inboxes.0.turns.progress(&self.known.key, stored);
        self.inboxes.uploads().reserve.stored(&self.known.key, stored);
    }

    fn publish(&self, statement: Statement, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        self.finish(statement, identity, true)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.inboxes.attempt_ended(&self.known, self.attempt);
    }
}

/// Takes files and folders, as many as go with what was offered, and no names that haul keeps for itself.
struct OfDatasets {
    entries: AtomicU64,
    most: u64,
}

impl Admission for OfDatasets {
    fn admit(&self, entry: &Entry, path: &RelPath) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal { code: RefuseCode::Denied, text });
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.most {
            let text = "there are more entries than were offered".to_owned();
            return Err(Refusal { code: RefuseCode::TooMuch, text });
        }
        if let EntryKind::Symlink { .. } = entry.kind {
            return refuse("datasets hold files and folders, and no symbolic links".to_owned());
        }
        if entry.name.as_bytes().iter().any(|byte| byte.is_ascii_control()) {
            return refuse("a name in a dataset holds no control characters".to_owned());
        }
        transfer::host::AdmitAll.admit(entry, path)
    }
}
