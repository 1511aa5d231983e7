//! The inboxes of a server put together: an offer is judged, gets a place in the queue, is carried when it is its turn,
//! and is published, whatever way it came (`docs/formats/inbox.md`). Calls block on the disk, except where it says
//! otherwise; one server has one of these.

mod door;
#[cfg(feature = "dync")]
mod dync_desk;
mod hooked;
mod housekeeping;
mod reception;
mod room;
mod turns;
mod upload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use files::Digest;
use link::{Identity, PublicKey};
use tokio::sync::watch;
use transfer::host::Refusal;
use transfer::message::{Offer, RefuseCode};
use transfer::reception::{Turn, Turned};

use door::Door;
pub use door::DoorError;
#[cfg(feature = "dync")]
pub use dync_desk::DyncDesk;
use hooked::Hooked;
pub use hooked::Told;
pub use reception::Reception;
use turns::Turns;
pub use upload::Upload;
use upload::{Alone, Known};

use crate::admission::{NoPlace, Ticket, UploadKey};
use crate::audit::AuditEvent;
use crate::catalogue::{CatalogueError, DatasetRow, UploadId};
use crate::rights::Reserve;
use crate::store::{OfferRecord, Root, SchemaRecord, StoreError};
use crate::{Client, DatasetId, InboxesOptions, Metadata, check_name};

/// Told what an operator should know; may be called from any thread.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Why the inboxes of a server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An inbox itself.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A root.
    #[error("the inbox {inbox} cannot be opened")]
    Root {
        /// Which inbox has it.
        inbox: String,
        /// Why not.
        source: StoreError,
    },
}

/// The inboxes of a server.
#[derive(Clone)]
pub struct Inboxes(Arc<Inner>);

struct Inner {
    doors: Vec<Door>,
    roots: Vec<Root>,
    /// Who signs here.
    identity: Arc<Identity>,
    turns: Turns,
    keep_free_bytes: u64,
    /// Up to how many bytes an upload is small.
    small_bytes: u64,
    /// Uploads that may be unfinished: of one client, and of all.
    most_unfinished: (usize, usize),
    /// Taken for as long as it is decided whether an offer is taken in: what was counted holds until it is.
    entering: Mutex<()>,
    uploads: Mutex<Uploads>,
    tell: Tell,
    hooked: Hooked,
    /// What has waited for its client before that has waited for nothing.
    started: SystemTime,
}

#[derive(Default)]
struct Uploads {
    known: BTreeMap<UploadKey, Arc<Known>>,
    reserve: Reserve<UploadKey>,
}

/// Whether the size of what is offered is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Told,
    Open,
}

/// What becomes of an offer.
pub enum Answer {
    /// It was published before.
    Finished {
        /// The dataset.
        dataset: DatasetId,
        /// Its signed receipt.
        receipt: Vec<u8>,
    },
    /// It has a place in the queue.
    Queued(Place),
}

/// A place in the queue. Dropped, it is kept for a while for who comes back.
pub struct Place {
    inboxes: Inboxes,
    known: Arc<Known>,
    /// Which place of the upload it is.
    number: u64,
    turns: watch::Receiver<Turn>,
    notes: Vec<String>,
    has_begun: bool,
}

impl Inboxes {
    /// Opens all roots and brings them into order after whatever ended the server before.
    pub fn open(
        options: InboxesOptions,
        identity: Arc<Identity>,
        told: Told,
    ) -> Result<Self, OpenError> {
        let InboxesOptions { inboxes, budgets } = options;
        let (keep_free_bytes, small_bytes) = (budgets.keep_free_bytes, budgets.small_bytes);
        let most_unfinished = (budgets.unfinished_per_client, budgets.unfinished);
        let mut roots: Vec<Root> = Vec::new();
        let mut doors = Vec::new();
        for inbox in inboxes {
            let wrong = |source| OpenError::Root { inbox: inbox.name.clone(), source };
            let disk = match housekeeping::find_root(&roots, &inbox.path).map_err(wrong)? {
                Some(disk) => disk,
                None => {
                    roots.push(Root::open(&inbox.path).map_err(wrong)?);
                    roots.len() - 1
                }
            };
            let root = roots[disk].clone();
            doors.push(Door::open(inbox, root, disk)?);
        }
        let (turns, hooked) = (Turns::new(budgets), Hooked::new(told.clone(), roots.len()));
        let inner = Inner {
            doors,
            roots,
            identity,
            turns,
            keep_free_bytes,
            small_bytes,
            most_unfinished,
            entering: Mutex::default(),
            uploads: Mutex::default(),
            tell: told.tell.clone(),
            hooked,
            started: SystemTime::now(),
        };
        let opened = Self(Arc::new(inner));
        opened.tidy_up()?;
        Ok(opened)
    }

    /// Keeps the queue's time and the house in order, for as long as it is polled.
    pub async fn run(&self) {
        tokio::join!(self.0.turns.run(), self.keep_house(), self.run_hooks());
    }

    /// The most bytes of metadata that any inbox takes.
    pub fn most_metadata(&self) -> u64 {
        self.0.doors.iter().map(|door| door.options.max_metadata_bytes).max().unwrap_or(0)
    }

    /// The inboxes and where they are, for logs.
    pub fn list(&self) -> impl Iterator<Item = &crate::InboxOptions> {
        self.0.doors.iter().map(|door| &door.options)
    }

    /// What an inbox wants of metadata, as JSON text: its schema, or one that any object fits.
    pub fn schema(&self, client: &Client, inbox: &str) -> Result<Vec<u8>, Refusal> {
        let door = self.door(client, inbox)?;
        Ok(match door.schema(&*self.0.tell) {
            Some(schema) => schema.text().to_vec(),
            None => b"{ \"type\": \"object\" }".to_vec(),
        })
    }

    /// Whether an offer would be taken now, and what the client should know. Nothing is kept.
    pub fn check(
        &self,
        client: &Client,
        offer: &Offer,
        metadata: &[u8],
    ) -> Result<Vec<String>, Turned> {
        let door = self.door(client, &offer.inbox)?;
        if let Some((row, _)) = self.published(door, client, offer, metadata)? {
            return Ok(vec![format!("it was handed in before, as dataset {}", row.id)]);
        }
        let (metadata, _) = self.judge(door, offer, metadata)?;
        self.ask_hook(door, client, offer, metadata.text())?;
        let _entering = self.entering();
        if self.known(&key_of(client, offer)).is_some() {
            return Ok(vec!["a part of it has arrived already".to_owned()]);
        }
        self.find_room(door, client, offer, None)
    }

    /// Takes an offer in, or says why not.
    pub fn offer(&self, client: &Client, offer: &Offer, metadata: &[u8]) -> Result<Answer, Turned> {
        let answer = self.offer_as(client, offer, metadata, Size::Told);
        if let Err(turned) = &answer {
            self.audit_refusal(client, offer, turned);
        }
        answer
    }

    fn offer_as(
        &self,
        client: &Client,
        offer: &Offer,
        metadata: &[u8],
        size: Size,
    ) -> Result<Answer, Turned> {
        let door = self.door(client, &offer.inbox)?;
        if let Some((row, receipt)) = self.published(door, client, offer, metadata)? {
            return Ok(Answer::Finished { dataset: row.id, receipt });
        }
        let (metadata, schema) = self.judge(door, offer, metadata)?;
        let key = key_of(client, offer);
        let is_new = self
            .known(&key)
            .is_none_or(|known| !known.fits(offer, metadata.text(), &door.options.name));
        if is_new {
            self.ask_hook(door, client, offer, metadata.text())?;
        }
        let _entering = self.entering();
        let (known, notes) = match self.known(&key) {
            Some(known) if known.fits(offer, metadata.text(), &door.options.name) => {
                (known, vec!["what has arrived of it is kept".to_owned()])
            }
            // It is offered as something else than before: then it is something else.
            Some(known) => {
                let Some(alone) = known.alone_now() else {
                    let text =
                        "an earlier try of this upload is being ended or published: offer it again";
                    return Err(Refusal { code: RefuseCode::Busy, text: text.to_owned() }.into());
                };
                // What has arrived is not given up for an offer that would be refused.
                self.find_room(door, client, offer, Some(&known))?;
                self.reject(&known, &alone, "offered anew with other metadata or files")?;
                drop(alone);
                self.take_in(door, client, offer, metadata, schema)?
            }
            None => {
                // It may have been published a moment ago.
                if let Some((row, receipt)) =
                    self.published(door, client, offer, metadata.text().as_bytes())?
                {
                    return Ok(Answer::Finished { dataset: row.id, receipt });
                }
                self.take_in(door, client, offer, metadata, schema)?
            }
        };
        match self.0.turns.enter(self.ticket_of(&known, size)) {
            Ok(turns) => {
                let (inboxes, number) = (self.clone(), known.next_place());
                let place = Place { inboxes, known, number, turns, notes, has_begun: false };
                Ok(Answer::Queued(place))
            }
            Err(no_place) => {
                // Nothing of it is here: it does not wait on the disk for a place that it has not got.
                if is_new && let Some(alone) = known.alone_now() {
                    self.reject(&known, &alone, "there was no place in the queue")?;
                }
                Err(refused_place(no_place).into())
            }
        }
    }

    fn ticket_of(&self, known: &Known, size: Size) -> Ticket {
        let bytes = match size {
            Size::Told => known.offer.bytes,
            // Whatever may become large has a turn of those that are.
            Size::Open => self.0.small_bytes.saturating_add(1),
        };
        let door = self.0.doors.iter().find(|door| door.options.name == known.offer.inbox);
        Ticket { key: known.key.clone(), bytes, disk: door.map_or(0, |door| door.disk) }
    }

    /// Who signs here.
    pub fn identity(&self) -> Arc<Identity> {
        self.0.identity.clone()
    }

    fn entering(&self) -> MutexGuard<'_, ()> {
        self.0.entering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.0.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, key: &UploadKey) -> Option<Arc<Known>> {
        self.uploads().known.get(key).cloned()
    }

    /// The inbox that is meant, if this client may use it. Others are not told of.
    fn door(&self, client: &Client, inbox: &str) -> Result<&Door, Refusal> {
        let may = |door: &&Door| client.rights.inboxes.hold(&door.options.name);
        let allowed: Vec<&Door> = self.0.doors.iter().filter(may).collect();
        let names = || {
            let names: Vec<&str> = allowed.iter().map(|door| door.options.name.as_str()).collect();
            names.join(", ")
        };
        if allowed.is_empty() {
            let text = "this key may not hand in anything here".to_owned();
            return Err(Refusal { code: RefuseCode::Denied, text });
        }
        match (inbox, allowed.as_slice()) {
            ("", [only]) => Ok(only),
            ("", _) => {
                let text = format!("name an inbox with --inbox: {}", names());
                Err(Refusal { code: RefuseCode::NotFound, text })
            }
            _ => allowed.iter().find(|door| door.options.name == inbox).copied().ok_or_else(|| {
                let text = format!(
                    "there is no inbox '{}' for this key; it may use {}",
                    files::escape(inbox.as_bytes()),
                    names()
                );
                Refusal { code: RefuseCode::NotFound, text }
            }),
        }
    }

    /// The dataset that this very upload became, with its receipt, if the answer to it was lost.
    fn published(
        &self,
        door: &Door,
        client: &Client,
        offer: &Offer,
        metadata: &[u8],
    ) -> Result<Option<(DatasetRow, Vec<u8>)>, Refusal> {
        let catalogue = door.root.catalogue();
        let row = catalogue.of_upload(&client.id, &UploadId(offer.upload)).map_err(at_catalogue)?;
        let is_it = |row: &DatasetRow| {
            row.name == offer.name
                && row.inbox == door.options.name
                && row.metadata_digest == Digest::of(metadata)
        };
        let Some(row) = row.filter(is_it) else { return Ok(None) };
        Ok(door.root.receipt(&row).ok().map(|receipt| (row, receipt)))
    }

    /// Judges what is offered by what it is, not by what is here.
    fn judge(
        &self,
        door: &Door,
        offer: &Offer,
        metadata: &[u8],
    ) -> Result<(Metadata, Option<SchemaRecord>), Turned> {
        let options = &door.options;
        if let Err(error) = check_name(&offer.name) {
            let text = format!("the name of the dataset is not taken: {error}");
            return Err(Refusal { code: RefuseCode::Denied, text }.into());
        }
        if offer.files == 0 {
            let text = "a dataset has at least one file".to_owned();
            return Err(Refusal { code: RefuseCode::Denied, text }.into());
        }
        let too_much = |text: String| Err(Refusal { code: RefuseCode::TooMuch, text }.into());
        if offer.files > options.max_files {
            let (files, most) = (offer.files, options.max_files);
            return too_much(format!(
                "{files} files are more than this inbox takes, which is {most}"
            ));
        }
        if let Some(most) = options.max_dataset_bytes.filter(|most| offer.bytes > *most) {
            let bytes = offer.bytes;
            return too_much(format!(
                "{bytes} bytes are more than this inbox takes, which is {most}"
            ));
        }
        let metadata = Metadata::read(metadata, options.max_metadata_bytes)
            .map_err(|faults| Turned::Unfit { faults, more: 0 })?;
        let Some(schema) = door.schema(&*self.0.tell) else { return Ok((metadata, None)) };
        let (faults, more) = schema.judge(metadata.value());
        if !faults.is_empty() {
            return Err(Turned::Unfit { faults, more });
        }
        let record = SchemaRecord {
            name: schema.name().map(str::to_owned),
            version: schema.version().map(str::to_owned),
            digest: schema.digest(),
        };
        Ok((metadata, Some(record)))
    }

    fn take_in(
        &self,
        door: &Door,
        client: &Client,
        offer: &Offer,
        metadata: Metadata,
        schema: Option<SchemaRecord>,
    ) -> Result<(Arc<Known>, Vec<String>), Turned> {
        let notes = self.find_room(door, client, offer, None)?;
        let offered = jiff::Timestamp::now();
        let millis = u64::try_from(offered.as_millisecond()).unwrap_or(0);
        let record = OfferRecord {
            id: DatasetId::new(millis, chance()),
            upload: UploadId(offer.upload),
            inbox: door.options.name.clone(),
            name: offer.name.clone(),
            client: client.id.clone(),
            label: client.label.clone(),
            address: client.address.map(|address| address.to_string()),
            offered,
            files: offer.files,
            bytes: offer.bytes,
            content: offer.content,
            metadata_digest: Digest::of(metadata.text().as_bytes()),
            schema,
            program: concat!("haul ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let incoming =
            door.root.take_in(&record, metadata.text()).map_err(|error| at_store(&error))?;
        let known = Arc::new(Known::new(record, incoming, Some(0)));
        let mut uploads = self.uploads();
        uploads.reserve.hold(known.key.clone(), door.disk, offer.bytes);
        uploads.known.insert(known.key.clone(), known.clone());
        drop(uploads);
        (self.0.tell)(&format!(
            "{} offers {} to inbox {}, as dataset {}",
            files::escape(client.label.as_bytes()),
            files::escape(offer.name.as_bytes()),
            door.options.name,
            known.offer.id
        ));
        Ok((known, notes))
    }

    /// An upload that was taken in will not be published.
    fn reject(&self, known: &Known, alone: &Alone<'_>, reason: &str) -> Result<(), Refusal> {
        let (who, dataset) = (hooked::who_of(&known.offer), hooked::dataset_of(&known.offer));
        self.audit(&AuditEvent::Rejected { who, dataset, reason });
        self.forget(known, alone, reason)
    }

    /// Nothing more comes of an upload. What it was is kept, with the reason.
    fn forget(&self, known: &Known, alone: &Alone<'_>, reason: &str) -> Result<(), Refusal> {
        known.end(alone);
        self.0.turns.ended(&known.key);
        let mut uploads = self.uploads();
        uploads.reserve.release(&known.key);
        uploads.known.remove(&known.key);
        drop(uploads);
        known.incoming.discard(reason, jiff::Timestamp::now()).map_err(|error| at_store(&error))?;
        let left = known.incoming.clone();
        // Nobody waits for this; what cannot be removed now is at the next start.
        aside(move || drop(left.clear()));
        Ok(())
    }

    /// Who signs here.
    pub fn key(&self) -> PublicKey {
        self.0.identity.public_key()
    }
}

/// Does what blocks on a thread that may, where there are any. Nobody waits for it.
fn aside(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

fn key_of(client: &Client, offer: &Offer) -> UploadKey {
    UploadKey { client: client.id.as_str().into(), upload: offer.upload }
}

fn refused_place(no_place: NoPlace) -> Refusal {
    Refusal { code: RefuseCode::Busy, text: no_place.to_string() }
}

fn duplicate(inbox: &str, row: &DatasetRow) -> Refusal {
    let text = format!(
        "inbox {inbox} has this content already, as dataset {} ({}), published {}",
        row.id,
        files::escape(row.name.as_bytes()),
        row.published
    );
    Refusal { code: RefuseCode::Exists, text }
}

/// The standard library keys its hash maps with the system's randomness.
fn chance() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

/// A client hears that the store failed, and not where on this machine it lies.
fn at_store(error: &StoreError) -> Refusal {
    let text = match error {
        StoreError::Files(error) if error.is_disk_full() => "the disk of this inbox is full",
        StoreError::Catalogue(_) => "the catalogue of this inbox cannot be used",
        StoreError::Receipt(reason) => {
            return Refusal { code: RefuseCode::Corrupt, text: reason.clone() };
        }
        StoreError::Content(_) | StoreError::Size { .. } | StoreError::Missing(_) => {
            let text = format!("what has arrived is not whole: {error}");
            return Refusal { code: RefuseCode::Corrupt, text };
        }
        _ => "the disk of this inbox fails",
    };
    Refusal { code: RefuseCode::Disk, text: text.to_owned() }
}

fn at_catalogue(_: CatalogueError) -> Refusal {
    let text = "the catalogue of this inbox cannot be used".to_owned();
    Refusal { code: RefuseCode::Disk, text }
}

#[cfg(test)]
mod tests;
