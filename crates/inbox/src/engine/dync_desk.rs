//! The inboxes as the listener for dync clients asks them. A client of dync hands in one file whose size it does not
//! say: room is reserved, and the quota asked, as it grows.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::{Follow, Name, RelPath, Sha256};
use link::PublicKey;
use transfer::Totals;
use transfer::host::{Intake, Standing};
use transfer::message;
use transfer::receipt::Statement;
use tree::{Body, Record, TreeDigest};

use super::{Answer, Inboxes, Place, Upload, at_store, refused_place};
use crate::Client;
use crate::admission::UploadKey;
use crate::dync::desk::{Desk, FileSink, Found, Offer, Refusal, Ticket, UploadId};
use crate::dync::single::{Single, SingleError, SinglePlace};
use crate::rights;

/// By how much the room that is reserved grows.
const STEP: u64 = 64 << 20;
/// The name of the record of how much of the file is durable.
const RECORD: &str = "arrived";

/// The desk of a server's inboxes.
pub struct DyncDesk {
    inboxes: Inboxes,
    /// Places of uploads that have not begun, each kept by the ticket that the listener has.
    places: Mutex<BTreeMap<UploadId, Arc<Kept>>>,
}

/// A place until its turn, and whose it is.
struct Kept {
    client: Client,
    place: Mutex<Option<Place>>,
}

/// Gives the place back if it was not used.
struct Guard(Arc<Kept>);

impl Drop for Guard {
    fn drop(&mut self) {
        let place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(place);
    }
}

impl DyncDesk {
    /// Over these inboxes.
    pub fn new(inboxes: Inboxes) -> Self {
        Self { inboxes, places: Mutex::default() }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<UploadId, Arc<Kept>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self, client: &Client, upload: UploadId, place: Place) -> Ticket {
        let turns = place.turns();
        let kept = Kept { client: client.clone(), place: Mutex::new(Some(place)) };
        let kept = Arc::new(kept);
        let mut places = self.places();
        // Those whose tickets are gone hold nothing.
        places.retain(|_, kept| Arc::strong_count(kept) > 1);
        places.insert(upload, kept.clone());
        Ticket { turns, guard: Box::new(Guard(kept)) }
    }
}

impl Desk for DyncDesk {
    fn offer(&self, client: &Client, offer: Offer) -> Result<Ticket, Refusal> {
        if Name::new(&offer.name).is_err() {
            return Err(Refusal::new(422, "the name is none that a file can have"));
        }
        let wanted = message::Offer {
            upload: offer.upload.0,
            inbox: String::new(),
            name: offer.name,
            metadata_len: offer.metadata.len() as u64,
            files: 1,
            bytes: 0,
            content: None,
            check: false,
        };
        match self.inboxes.offer_open(client, &wanted, offer.metadata.as_bytes())? {
            Answer::Queued(place) => Ok(self.ticket(client, offer.upload, place)),
            Answer::Finished { dataset, .. } => {
                Err(Refusal::new(409, format!("this upload is dataset {dataset} already")))
            }
        }
    }

    fn find(&self, client: &Client, upload: UploadId) -> Found {
        let key = UploadKey { client: client.id.as_str().into(), upload: upload.0 };
        if let Some(known) = self.inboxes.known(&key) {
            return match self.inboxes.enter(known) {
                Ok(place) => Found::Unfinished(self.ticket(client, upload, place)),
                Err(_) => Found::Unknown,
            };
        }
        match self.inboxes.find_published(client, upload.0) {
            Some(dataset) => Found::Finished(dataset.to_string()),
            None => Found::Unknown,
        }
    }

    fn open(&self, upload: UploadId) -> Result<Box<dyn FileSink>, Refusal> {
        let kept = self.places().remove(&upload);
        let place = kept
            .as_ref()
            .and_then(|kept| kept.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (Some(kept), Some(place)) = (kept, place) else {
            return Err(Refusal::new(429, "this upload has no turn: offer it again"));
        };
        let upload = place.begin()?;
        Ok(Box::new(Arriving::open(self.inboxes.clone(), kept.client.clone(), upload)?))
    }

    fn abandon(&self, upload: UploadId, reason: &str) {
        self.places().remove(&upload);
        self.inboxes.abandon(upload.0, reason);
    }
}

/// One file on its way in.
struct Arriving {
    inboxes: Inboxes,
    client: Client,
    upload: Upload,
    single: Single,
    /// The file's name in the dataset.
    name: Name,
    /// Up to how many bytes there is room and right.
    granted: u64,
    began: u64,
}

impl Arriving {
    fn open(inboxes: Inboxes, client: Client, upload: Upload) -> Result<Self, Refusal> {
        let (dir, folder) = upload.place();
        let name = Name::new(&upload.offer().name)
            .map_err(|_| Refusal::new(422, "the name is none that a file can have"))?;
        let most_bytes = inboxes.most_bytes(&upload.offer().inbox);
        let files = dir.open_dir(&folder, Follow::Never);
        let files = files.map_err(|error| Refusal::from(at_store(&error.into())))?;
        let record = Name::new(RECORD).expect("a plain name");
        let place =
            SinglePlace { dir: files, name: name.clone(), records: dir, record, most_bytes };
        let single = Single::open(place).map_err(refused)?;
        if !upload.link(true) {
            return Err(Refusal::new(
                429,
                "the turn went to somebody else meanwhile: offer it again",
            ));
        }
        Ok(Self { inboxes, client, upload, single, name, granted: 0, began: now() })
    }

    /// Room and right for so many bytes in all.
    fn grant(&mut self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= self.granted {
            return Ok(());
        }
        let more = bytes.saturating_add(STEP);
        // Where a whole step is too much it is asked for what there is, each time.
        let granted = match self.inboxes.grow(&self.client, &self.upload, (bytes, more)) {
            Ok(()) => more,
            Err(_) => {
                self.inboxes.grow(&self.client, &self.upload, (bytes, bytes))?;
                bytes
            }
        };
        self.granted = granted;
        Ok(())
    }
}

impl FileSink for Arriving {
    fn durable(&self) -> u64 {
        self.single.durable()
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.grant(at.saturating_add(bytes.len() as u64))?;
        self.single.write(at, bytes).map_err(refused)
    }

    fn sync(&mut self) -> Result<u64, Refusal> {
        let durable = self.single.sync().map_err(refused)?;
        self.upload.progress(durable);
        Ok(durable)
    }

    fn finish(self: Box<Self>, sha256: [u8; 32]) -> Result<String, Refusal> {
        let Self { inboxes, upload, single, name, began, .. } = *self;
        let done = match single.finish(&sha256) {
            Ok(done) => done,
            Err(error) => {
                if let SingleError::Sha256 { .. } = error {
                    // It would be wrong again: its client begins anew.
                    inboxes.abandon(upload.offer().upload.0, &error.to_string());
                }
                return Err(refused(error));
            }
        };
        let path = RelPath::from(&name);
        let sha256 = Some(Sha256::from_bytes(sha256));
        upload.stands(Standing {
            path: path.clone(),
            size: done.bytes,
            digest: done.digest,
            sha256,
        });
        let mut tree = TreeDigest::new();
        let body = Body::File { size: done.bytes, content: done.digest };
        tree.add(&Record { path: &path, body, mode: None, mtime: None });
        let totals = Totals {
            copied: 1,
            bytes_copied: done.bytes,
            bytes_present: done.bytes,
            bytes_ended: done.bytes,
            ..Totals::default()
        };
        let identity = inboxes.identity();
        let key: PublicKey = identity.public_key();
        // A client of dync has no key that could stand here: the server states what it has taken, and metadata.json
        // says of whom.
        let statement = Statement {
            transfer: upload.offer().upload.to_string(),
            source: key,
            target: key,
            path: String::new(),
            began,
            ended: now(),
            durable: true,
            roots: vec![name.to_string()],
            root_count: 1,
            tree: tree.finish(),
            totals,
            removed: 0,
            dataset: None,
        };
        let dataset = upload.dataset();
        upload.finish(statement, &identity, false)?;
        Ok(dataset.to_string())
    }
}

fn refused(error: SingleError) -> Refusal {
    match error {
        SingleError::Files(error) => at_store(&error.into()).into(),
        SingleError::TooLarge { .. } => Refusal::new(413, error.to_string()),
        SingleError::Sha256 { .. } => Refusal::new(422, error.to_string()),
        _ => Refusal::new(500, error.to_string()),
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Inboxes {
    /// As an offer, of something whose size nobody knows.
    fn offer_open(
        &self,
        client: &Client,
        offer: &message::Offer,
        metadata: &[u8],
    ) -> Result<Answer, transfer::reception::Turned> {
        let answer = self.offer_as(client, offer, metadata, super::Size::Open);
        if let Err(turned) = &answer {
            self.audit_refusal(client, offer, turned);
        }
        answer
    }

    /// A place for an upload that is known.
    fn enter(&self, known: Arc<super::upload::Known>) -> Result<Place, transfer::host::Refusal> {
        let ticket = self.ticket_of(&known, super::Size::Open);
        let turns = self.0.turns.enter(ticket).map_err(refused_place)?;
        let (inboxes, number) = (self.clone(), known.next_place());
        Ok(Place { inboxes, known, number, turns, notes: Vec::new(), has_begun: false })
    }

    fn find_published(&self, client: &Client, upload: [u8; 16]) -> Option<crate::DatasetId> {
        let upload = UploadId(upload);
        let found = |root: &crate::Root| root.catalogue().of_upload(&client.id, &upload).ok()?;
        self.0.roots.iter().find_map(found).map(|row| row.id)
    }

    /// The most bytes of a dataset in this inbox.
    fn most_bytes(&self, inbox: &str) -> u64 {
        let door = self.0.doors.iter().find(|door| door.options.name == inbox);
        door.and_then(|door| door.options.max_dataset_bytes).unwrap_or(files::MAX_FILE_SIZE)
    }

    /// Room and right for an upload of which so many bytes are there or come now, and that may grow to so many.
    fn grow(
        &self,
        client: &Client,
        upload: &Upload,
        (arrived, bytes): (u64, u64),
    ) -> Result<(), Refusal> {
        let _entering = self.entering();
        let known = upload.known();
        let mut usage = self.usage(client)?;
        // All but this one.
        usage.incoming_datasets = usage.incoming_datasets.saturating_sub(1);
        usage.incoming_bytes = usage.incoming_bytes.saturating_sub(known.bytes());
        let right = rights::check(&client.rights, &known.offer.inbox, bytes, usage);
        right.map_err(|error| Refusal::new(413, error.to_string()))?;
        let door = self.door_of(known)?;
        let free = door.root.free_bytes().map_err(|error| Refusal::from(at_store(&error)))?;
        let mut uploads = self.uploads();
        if known.has_ended() {
            return Err(Refusal::new(409, "this upload has ended"));
        }
        // What has arrived is taken off what is free already, but for a part that is not on the disk yet.
        let arrived = arrived.saturating_sub(STEP);
        uploads.reserve.release(&known.key);
        if !uploads.reserve.fits(
            door.disk,
            free.saturating_add(arrived),
            self.0.keep_free_bytes,
            bytes,
        ) {
            return Err(Refusal::new(507, "the disk of this inbox has no room for more"));
        }
        uploads.reserve.hold(known.key.clone(), door.disk, bytes);
        uploads.reserve.stored(&known.key, arrived);
        known.grown.store(bytes, Ordering::Release);
        Ok(())
    }

    /// The client of an upload has given up, or sent what cannot be taken.
    fn abandon(&self, upload: [u8; 16], reason: &str) {
        // Nobody else's upload is meant, whatever id it chose.
        let is_it = |key: &UploadKey| key.upload == upload && key.client.starts_with("dync:");
        let known =
            self.uploads().known.iter().find(|(key, _)| is_it(key)).map(|(_, known)| known.clone());
        if let Some(known) = known {
            // Behind what an attempt at it still has at the disk. What cannot be removed now expires.
            let alone = known.alone();
            if !known.has_ended() {
                let _ = self.reject(&known, &alone, reason);
            }
        }
    }
}
