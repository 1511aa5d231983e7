//! An upload while it is here: taken in, carried by one attempt at a time, and published or given up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::{Dir, RelPath};
use jiff::Timestamp;
use link::Identity;
use tokio::sync::watch;
use transfer::host::{Admission, Intake, Landing, Refusal, Standing};
use transfer::message::{Entry, EntryKind, Offer, RefuseCode};
use transfer::receipt::{DatasetStatement, Statement};
use transfer::reception::Turn;

use super::housekeeping::touch;
use super::{Inboxes, Place, at_catalogue, at_store, duplicate};
use crate::admission::UploadKey;
use crate::catalogue::DatasetRow;
use crate::store::{Facts, Incoming, OfferRecord, Publication, StoreError};
use crate::{DatasetId, Duplicates};

/// An upload that was taken in and is not over.
pub(crate) struct Known {
    pub(crate) key: UploadKey,
    pub(crate) offer: OfferRecord,
    pub(crate) incoming: Incoming,
    /// Which attempt may write.
    attempt: AtomicU64,
    /// Published or given up.
    has_ended: AtomicBool,
    /// What has arrived is not what was offered: the next attempt begins with nothing.
    is_spoilt: AtomicBool,
    /// It stands in the store, and its row in the catalogue is lacking.
    is_placed: AtomicBool,
    /// An attempt is under way.
    is_carried: AtomicBool,
    was_warned_of: AtomicBool,
    /// Of one whose size was not told: up to how many bytes it may grow by now.
    pub(super) grown: AtomicU64,
    /// Held while an attempt publishes, so that another waits for what comes of it.
    publishing: Mutex<()>,
}

impl Known {
    pub(crate) fn new(offer: OfferRecord, incoming: Incoming) -> Self {
        let key = UploadKey { client: offer.client.as_str().into(), upload: offer.upload.0 };
        Self {
            key,
            offer,
            incoming,
            attempt: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            is_spoilt: AtomicBool::new(false),
            is_placed: AtomicBool::new(false),
            is_carried: AtomicBool::new(false),
            was_warned_of: AtomicBool::new(false),
            grown: AtomicU64::new(0),
            publishing: Mutex::default(),
        }
    }

    /// Whether it is offered again as it was offered first.
    pub(crate) fn fits(&self, offer: &Offer, metadata: &str, inbox: &str) -> bool {
        let known = &self.offer;
        (known.name.as_str(), known.inbox.as_str()) == (offer.name.as_str(), inbox)
            && (known.files, known.bytes) == (offer.files, offer.bytes)
            && known.metadata == metadata
    }

    /// Nothing of what is under way writes to it any more.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The bytes that it may have.
    pub(super) fn bytes(&self) -> u64 {
        self.offer.bytes.max(self.grown.load(Ordering::Acquire))
    }

    /// Whether an attempt is under way.
    pub(super) fn is_carried(&self) -> bool {
        self.is_carried.load(Ordering::Acquire)
    }

    /// True once.
    pub(super) fn is_first_warning(&self) -> bool {
        !self.was_warned_of.swap(true, Ordering::AcqRel)
    }

    fn is_at(&self, attempt: u64) -> bool {
        self.attempt.load(Ordering::Acquire) == attempt && !self.has_ended()
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let publishing = known.publishing();
        if known.has_ended() {
            let text = "this upload has just ended: offer it again".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        if known.is_placed.load(Ordering::Acquire) {
            self.inboxes.enter_placed(&known)?;
            let text = "this upload has just been published: offer it again".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        if !self.inboxes.0.turns.began(&known.key) {
            let text = "the turn went to somebody else meanwhile: offer it again".to_owned();
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        self.has_begun = true;
        let attempt = known.attempt.fetch_add(1, Ordering::AcqRel) + 1;
        known.is_carried.store(true, Ordering::Release);
        touch(&known);
        let restarted = match known.is_spoilt.load(Ordering::Acquire) {
            true => known.incoming.begin_anew(),
            false => known.incoming.restart_records(),
        };
        drop(publishing);
        let (inboxes, is_up) = (self.inboxes.clone(), AtomicBool::new(true));
        let upload = Upload { inboxes, known, attempt, is_up };
        restarted.map_err(|error| at_store(&error))?;
        upload.known.is_spoilt.store(false, Ordering::Release);
        Ok(upload)
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
    attempt: u64,
    is_up: AtomicBool,
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
        (self.known.incoming.dir().clone(), self.known.incoming.files())
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
            admission: Arc::new(OfDatasets),
            intake: Some(Arc::new(self)),
        }
    }

    /// As receipts and logs name it.
    fn shown(&self) -> String {
        let OfferRecord { inbox, id, .. } = &self.known.offer;
        format!("inbox {inbox}, dataset {id}")
    }

    /// Publishes what stands, as a transfer does at its end: see [`Intake::publish`].
    pub fn finish(&self, statement: Statement, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        let known = &self.known;
        let publishing = known.publishing();
        if !known.is_at(self.attempt) {
            let text = "another attempt at this upload has taken over".to_owned();
            return Err(Refusal { code: RefuseCode::Cancelled, text });
        }
        let (row, receipt) = self.publish_whole(statement, identity)?;
        known.end();
        drop(publishing);
        self.inboxes.is_published(known, &row);
        Ok(receipt)
    }

    fn publish_whole(
        &self,
        statement: Statement,
        identity: &Identity,
    ) -> Result<(DatasetRow, Vec<u8>), Refusal> {
        let (inner, offer) = (&*self.inboxes.0, &self.known.offer);
        let door = inner.doors.iter().find(|door| door.options.name == offer.inbox);
        let Some(door) = door else {
            let text = "this inbox is not served any more".to_owned();
            return Err(Refusal { code: RefuseCode::NotFound, text });
        };
        let same = door.root.catalogue().of_content(&offer.inbox, &statement.tree.content);
        let same = same.map_err(at_catalogue)?;
        let link_to = match (same, door.options.duplicates) {
            (Some(row), Duplicates::Refuse) => {
                let refusal = duplicate(&offer.inbox, &row);
                // It will never be published, so it does not wait for its client either.
                self.inboxes.reject(&self.known, &refusal.text)?;
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
                StoreError::Catalogue(_) => self.known.is_placed.store(true, Ordering::Release),
                _ => {}
            }
            at_store(&error)
        })?;
        Ok((done.row, done.receipt))
    }
}

impl Inboxes {
    /// Enters a dataset in the catalogue that stands in the store already: there the catalogue failed.
    fn enter_placed(&self, known: &Arc<Known>) -> Result<(), Refusal> {
        let disk = self.0.doors.iter().find(|door| door.options.name == known.offer.inbox);
        let disk = disk.map_or(0, |door| door.disk);
        let sign = |_: &Facts| Err("it has its receipt".to_owned());
        let done =
            known.incoming.publish(&publication(&self.0.identity), sign, |transaction, row| {
                self.enter_hooks(disk, transaction, row)
            });
        let done = done.map_err(|error| at_store(&error))?;
        known.end();
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
    fn stands(&self, file: Standing) {
        if self.known.is_at(self.attempt) {
            self.known.incoming.note(&file);
        }
    }

    fn link(&self, up: bool) {
        if self.is_up.swap(up, Ordering::AcqRel) != up {
            self.inboxes.0.turns.link(&self.known.key, up);
        }
        if !up {
            touch(&self.known);
        }
    }

    fn progress(&self, stored: u64) {
        self.inboxes.0.turns.progress(&self.known.key, stored);
        self.inboxes.uploads().reserve.stored(&self.known.key, stored);
    }

    fn publish(&self, statement: Statement, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        self.finish(statement, identity)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.known.is_at(self.attempt) {
            self.known.is_carried.store(false, Ordering::Release);
            touch(&self.known);
            self.inboxes.0.turns.ended(&self.known.key);
        }
    }
}

/// Takes files and folders, and no names that haul keeps for itself.
struct OfDatasets;

impl Admission for OfDatasets {
    fn admit(&self, entry: &Entry, path: &RelPath) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal { code: RefuseCode::Denied, text });
        if let EntryKind::Symlink { .. } = entry.kind {
            return refuse("datasets hold files and folders, and no symbolic links".to_owned());
        }
        if entry.name.as_bytes().iter().any(|byte| byte.is_ascii_control()) {
            return refuse("a name in a dataset holds no control characters".to_owned());
        }
        transfer::host::AdmitAll.admit(entry, path)
    }
}
