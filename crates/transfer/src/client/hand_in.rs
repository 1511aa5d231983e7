//! The dialling side of handing in a dataset (`docs/formats/inbox.md`): offers it, waits for its turn, and puts its files,
//! over as many lanes as it takes.

use std::time::Duration;

use events::Event;
use files::Digest;
use link::{Lane, PublicKey};
use tree::TreeDigests;

use super::drive::{Job, drive};
use super::{Connect, JobOptions, JobReport, hex, inventory, new_id, start_sender};
use crate::host::SourceRoot;
use crate::message::inbox::parts;
use crate::message::{Fault, Offer, Opening, Order};
use crate::receipt::{DatasetStatement, Receipt, ReceiptError, Statement};
use crate::send::{Sender, Start};
use crate::session::{self, Control};
use crate::{Totals, TransferError, Violation};

/// How long a server may be silent that lets us wait: it speaks every ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest schema or receipt that is taken.
const MAX_TEXT: usize = 4 << 20;

/// What is to be handed in.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What is offered; [`Offer::upload`] is of [`upload_id`](super::hand_in) for this server, or of chance.
    pub offer: Offer,
    /// One JSON object.
    pub metadata: Vec<u8>,
    /// Who hands it in: the receipt must say so.
    pub by: PublicKey,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// The dataset's id at the server.
    pub dataset: String,
    /// The server had published it already; nothing was sent now.
    pub before: bool,
    /// What was counted, and the receipt.
    pub report: JobReport,
}

/// What a server says of an offer that it was only to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It would be taken.
    Fits {
        /// What one should know.
        notes: Vec<String>,
    },
    /// Its metadata would not.
    Unfit {
        /// The first faults.
        faults: Vec<Fault>,
        /// How many more there are.
        more: u64,
    },
}

/// Names an upload, the same for the same files: `stamp` is that of their inventory.
pub fn upload_id(server: &PublicKey, inbox: &str, name: &str, stamp: &Digest) -> [u8; 16] {
    let mut bytes = server.as_bytes().to_vec();
    for part in [inbox.as_bytes(), name.as_bytes(), stamp.as_bytes()] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    *Digest::of(&bytes).as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// What an inbox wants of metadata, as JSON text.
pub async fn schema(lane: &Lane, inbox: &str) -> Result<Vec<u8>, TransferError> {
    let request = Opening::AskSchema { inbox: inbox.to_owned() };
    let (mut control, first) = session::ask(lane, &request).await?;
    read_parts(lane, &mut control, Some(first)).await
}

/// Whether an offer would be taken; nothing is kept of it there.
pub async fn check(lane: &Lane, dataset: &Dataset) -> Result<Judged, TransferError> {
    let offer = Offer { check: true, ..dataset.offer.clone() };
    let parts = parts(&dataset.metadata);
    let (mut control, mut answer) = session::ask_with(lane, &Opening::Offer(offer), &parts).await?;
    loop {
        match answer {
            Opening::Fits { notes } => return Ok(Judged::Fits { notes }),
            Opening::Unfit { faults, more } => return Ok(Judged::Unfit { faults, more }),
            // It takes long to judge.
            Opening::Waiting(_) => {}
            other => return Err(session::unexpected(lane, other)),
        }
        answer = session::read(lane, &mut control.1, PATIENCE).await?;
    }
}

/// Hands a dataset in, through cuts and new starts of the server. `order` says how files are sent; where they go is the
/// server's to say.
pub async fn hand_in(
    connect: Connect,
    dataset: Dataset,
    sources: Vec<SourceRoot>,
    order: Order,
    options: JobOptions,
) -> Result<HandedIn, TransferError> {
    let order = Order { target: Vec::new(), into_folder: true, durable: true, ..order };
    let sender = start_sender(&sources, &order, &options);
    let told = std::sync::Arc::default();
    let job = HandingIn {
        sources,
        order,
        options: options.clone(),
        id: id_of(&dataset),
        dataset,
        sender,
        tried: false,
        told: std::sync::Arc::clone(&told),
    };
    let report = drive(connect, &options, job).await?;
    let (dataset, before) = told.lock().map(|told| told.clone()).unwrap_or_default();
    Ok(HandedIn { dataset, before, report })
}

/// Names a transfer: every run of the same upload has the same first half, so that of two the later one goes on.
fn id_of(dataset: &Dataset) -> [u8; 16] {
    let job = dataset.offer.upload.first_chunk().expect("an upload id has 16 bytes");
    new_id(u64::from_le_bytes(*job))
}

struct HandingIn {
    dataset: Dataset,
    sources: Vec<SourceRoot>,
    order: Order,
    options: JobOptions,
    id: [u8; 16],
    sender: Sender,
    /// Offers of entries have been made; they are repeated when the target is ready.
    tried: bool,
    /// The dataset's id, and whether it was there before.
    told: std::sync::Arc<std::sync::Mutex<(String, bool)>>,
}

impl Job for HandingIn {
    async fn attempt(&mut self, lane: &Lane) -> Result<JobReport, TransferError> {
        let seen = self.sender.seen();
        if self.sender.is_accepted() {
            let request = Opening::Put { id: self.id, resume: true, seen, order: self.order() };
            let (control, answer) = session::ask(lane, &request).await?;
            let window = match answer {
                Opening::Accept { resumed: true, window, .. } => window,
                answer => return Err(session::unexpected(lane, answer)),
            };
            return self.run(lane, control, Start::Resumed { window }).await;
        }
        let mut control = match self.offer(lane).await? {
            Answered::Admitted(control) => control,
            Answered::Before(receipt) => return self.published_before(lane, receipt).await,
        };
        let request = Opening::Put { id: self.id, resume: false, seen, order: self.order() };
        control.0.send(&request.encode()).await?;
        let window = match session::read(lane, &mut control.1, PATIENCE).await? {
            Opening::Accept { resumed: false, window, .. } => window,
            answer => return Err(session::unexpected(lane, answer)),
        };
        let start = match std::mem::replace(&mut self.tried, true) {
            true => Start::Resumed { window },
            false => Start::Ahead { window: Some(window) },
        };
        self.run(lane, control, start).await
    }

    fn lane_taken(&mut self) {
        self.sender.link_lost();
    }

    fn progress(&self) -> u64 {
        self.sender.progress()
    }

    fn begin_anew(&mut self) {
        self.id = id_of(&self.dataset);
        self.tried = false;
        self.options.begin_anew();
        let bytes_sent = self.sender.bytes_sent();
        self.sender = start_sender(&self.sources, &self.order, &self.options);
        self.sender.sent_before(bytes_sent);
    }
}

/// What a server says to an offer in the end.
enum Answered {
    Admitted(Control),
    /// The receipt of what was published before.
    Before(Vec<u8>),
}

impl HandingIn {
    fn order(&self) -> Order {
        self.order.clone()
    }

    /// Offers it, and waits for its turn.
    async fn offer(&self, lane: &Lane) -> Result<Answered, TransferError> {
        let request = Opening::Offer(self.dataset.offer.clone());
        let parts = parts(&self.dataset.metadata);
        let (mut control, mut answer) = session::ask_with(lane, &request, &parts).await?;
        let sink = &self.options.sink;
        loop {
            match answer {
                Opening::Waiting(waiting) => sink.emit(&Event::Waiting {
                    position: waiting.position,
                    length: waiting.length,
                    seconds: waiting.seconds,
                    reason: waiting.reason,
                }),
                Opening::Unfit { faults, more } => {
                    let peer = lane.peer_name().clone();
                    return Err(TransferError::Unfit { peer, faults, more });
                }
                Opening::Finished { dataset } => {
                    self.tell(dataset, true);
                    return Ok(Answered::Before(read_parts(lane, &mut control, None).await?));
                }
                Opening::Admitted { dataset, notes } => {
                    self.tell(dataset.clone(), false);
                    sink.emit(&Event::Admitted { dataset, notes });
                    return Ok(Answered::Admitted(control));
                }
                other => return Err(session::unexpected(lane, other)),
            }
            answer = session::read(lane, &mut control.1, PATIENCE).await?;
        }
    }

    fn tell(&self, dataset: String, before: bool) {
        if let Ok(mut told) = self.told.lock() {
            *told = (dataset, before);
        }
    }

    async fn run(
        &mut self,
        lane: &Lane,
        control: Control,
        start: Start,
    ) -> Result<JobReport, TransferError> {
        let receipt = self.sender.run(lane, control, start).await?;
        let tree = self.sender.tree();
        self.check_run(&receipt, lane, &tree)
            .map_err(|error| TransferError::BadReceipt { peer: lane.peer_name().clone(), error })?;
        Ok(JobReport {
            totals: self.sender.totals(),
            bytes_sent: self.sender.bytes_sent(),
            receipt: Some(receipt),
            id: self.id,
            tree,
            named: false,
        })
    }

    /// The answer to an earlier try was lost. Whether it is about what is here now only reading it can tell.
    async fn published_before(
        &self,
        lane: &Lane,
        receipt: Vec<u8>,
    ) -> Result<JobReport, TransferError> {
        let (sources, order) = (self.sources.clone(), self.order());
        let read = tokio::task::spawn_blocking(move || inventory(&sources, &order, true));
        let found = read.await.map_err(|_| TransferError::Cancelled)??;
        let content = found.content.unwrap_or(found.stamp);
        let bad = |error| TransferError::BadReceipt { peer: lane.peer_name().clone(), error };
        let statement = self.check(&receipt, lane, &content).map_err(bad)?;
        let totals = Totals {
            unchanged: found.files,
            bytes_present: found.bytes,
            bytes_ended: found.bytes,
            ..Totals::default()
        };
        let tree = statement.tree;
        Ok(JobReport {
            totals,
            bytes_sent: 0,
            receipt: Some(receipt),
            id: self.id,
            tree,
            named: false,
        })
    }

    fn check_run(
        &self,
        receipt: &[u8],
        lane: &Lane,
        tree: &TreeDigests,
    ) -> Result<(), ReceiptError> {
        let offer = &self.dataset.offer;
        // A server may say of a file what it likes: what was read here before it was offered is what it must have.
        let content = offer.content.unwrap_or(tree.content);
        let statement = self.check(receipt, lane, &content)?;
        if statement.transfer != hex(&self.id) {
            return Err(ReceiptError::Mismatch("transfer"));
        }
        // A dataset is published as a whole, so nothing is signed of which a part is lacking.
        let totals = self.sender.totals();
        let lacking = totals.failed + totals.skipped + totals.planned;
        let files = tree.records.checked_sub(totals.folders);
        match lacking == 0 && files == Some(offer.files) {
            true => Ok(()),
            false => Err(ReceiptError::Mismatch("number of files")),
        }
    }

    /// The receipt must be the server's own, for this dataset, these metadata and this content.
    fn check(
        &self,
        receipt: &[u8],
        lane: &Lane,
        content: &Digest,
    ) -> Result<Statement, ReceiptError> {
        let statement = Receipt::verify(receipt)?.statement;
        if statement.target != *lane.peer() {
            return Err(ReceiptError::Mismatch("signer"));
        }
        if statement.source != self.dataset.by {
            return Err(ReceiptError::Mismatch("source"));
        }
        if statement.tree.content != *content {
            return Err(ReceiptError::Mismatch("tree digest"));
        }
        if !statement.durable {
            return Err(ReceiptError::Mismatch("durability"));
        }
        let told = self.told.lock().map(|told| told.0.clone()).unwrap_or_default();
        let offer = &self.dataset.offer;
        let is_ours = |dataset: &DatasetStatement| {
            dataset.id == told
                && dataset.name == offer.name
                && (offer.inbox.is_empty() || dataset.inbox == offer.inbox)
                && dataset.metadata == Digest::of(&self.dataset.metadata)
        };
        match statement.dataset.as_ref().is_some_and(is_ours) {
            true => Ok(statement),
            false => Err(ReceiptError::Mismatch("dataset")),
        }
    }
}

/// Reads a text that comes in parts, of which the first may be there.
async fn read_parts(
    lane: &Lane,
    control: &mut Control,
    mut first: Option<Opening>,
) -> Result<Vec<u8>, TransferError> {
    let mut text = Vec::new();
    loop {
        let next = match first.take() {
            Some(first) => first,
            None => session::read(lane, &mut control.1, PATIENCE).await?,
        };
        let Opening::Part { last, bytes } = next else {
            return Err(session::unexpected(lane, next));
        };
        text.extend_from_slice(&bytes);
        if text.len() > MAX_TEXT {
            let violation = Violation("a text that is too long");
            return Err(TransferError::Violation { peer: lane.peer_name().clone(), violation });
        }
        if last {
            return Ok(text);
        }
    }
}
