//! The dialling side of a job: connects, opens a transfer, goes on with it through cuts, and begins anew
//! when the other end was restarted.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use events::{Counters, Sink};
use files::RelPath;
use link::{Identity, Lane, Pace};
use tree::Selection;

use crate::host::{Landing, Refusal, SourceRoot};
use crate::message::{Extent, Listed, MAX_LIST, Opening, Order, RefuseCode, list_cost, pack};
use crate::receipt::{Receipt, ReceiptError};
use crate::receive::{ReceiveOptions, Receiver};
use crate::send::{Sender, Start};
use crate::session;
use crate::tell::Watch;
use crate::{Totals, TransferError};
use tree::TreeDigests;

mod asked;
mod drive;
mod enrol;
mod hand_in;
mod inventory;
mod mover;
mod silence;
mod third;

use asked::Asked;
pub use drive::{Connect, Connecting, Way};
use drive::{Job, drive};
pub use enrol::enrol;
pub use hand_in::{Dataset, HandedIn, Judged, check, hand_in, schema, upload_id};
pub use inventory::{Inventory, Unfit, inventory};
pub use third::{Between, third};

/// Told of each lane when it is no longer used, while its figures can still be read.
pub type LaneEnded = Arc<dyn Fn(&Lane) + Send + Sync>;

/// What a job needs besides what is to be copied.
#[derive(Clone)]
pub struct JobOptions {
    /// How long a link may be down before the job gives up.
    pub give_up_after: Duration,
    /// Payload bytes per second, if limited.
    pub limit_bytes_per_s: Option<u64>,
    /// How hard the source is to push. Lanes over QUIC that are dialled have it in their own options; this
    /// is what a peer is asked for, and what holds over TCP, where a rate is a limit.
    pub pace: Pace,
    /// Whether the transfer may go on over another kind of lane while it runs, if that does better.
    pub may_move: bool,
    /// See the type.
    pub lane_ended: Option<LaneEnded>,
    /// Told what happens.
    pub sink: Sink,
    /// Counted in.
    pub counters: Arc<Counters>,
}

impl JobOptions {
    /// Everything is found and counted again; what was sent was sent.
    fn begin_anew(&self) {
        let counters = &self.counters;
        for count in [
            &counters.entries,
            &counters.files_total,
            &counters.bytes_total,
            &counters.files_done,
            &counters.files_skipped,
            &counters.files_failed,
        ] {
            count.set(0);
        }
    }

    fn watch(&self) -> Watch {
        Watch { sink: self.sink.clone(), counters: self.counters.clone() }
    }
}

/// How a job ended.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// What was counted.
    pub totals: Totals,
    /// Payload bytes put on the link, those sent again included.
    pub bytes_sent: u64,
    /// The signed receipt; none in a dry run.
    pub receipt: Option<Vec<u8>>,
    /// The transfer's id.
    pub id: [u8; 16],
    /// Over all that stands at the target.
    pub tree: TreeDigests,
    /// Of a put: the target has said that the last name of its path is the name that the one source got.
    pub named: bool,
}

/// Copies local files to a peer.
pub async fn put(
    connect: Connect,
    sources: Vec<SourceRoot>,
    order: Order,
    options: JobOptions,
) -> Result<JobReport, TransferError> {
    put_by(None, connect, sources, order, options).await
}

/// By what right a source puts something in the name of somebody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted {
    /// The grant.
    pub(crate) grant: [u8; 32],
    /// The second half of the transfer's id.
    pub(crate) run: [u8; 8],
}

/// The same by the right of somebody else.
pub(crate) async fn put_by(
    by: Option<Granted>,
    connect: Connect,
    sources: Vec<SourceRoot>,
    order: Order,
    options: JobOptions,
) -> Result<JobReport, TransferError> {
    let id = id_of_put(&sources, &order, by);
    let sender = start_sender(&sources, &order, &options);
    let (options, tried) = (options.clone(), false);
    let putting = Putting { sources, order, options: options.clone(), by, id, tried, sender };
    drive(connect, &options, putting).await
}

/// What is wanted of a peer.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Paths as the user typed them.
    pub paths: Vec<Vec<u8>>,
    /// Of the one folder among them, which ends in `/.`, only this. It takes memory at the peer, so a long
    /// list may be refused.
    pub only: Option<Arc<Selection>>,
}

impl From<Vec<Vec<u8>>> for Wanted {
    fn from(paths: Vec<Vec<u8>>) -> Self {
        Self { paths, only: None }
    }
}

impl Wanted {
    fn extent(&self) -> Extent {
        match &self.only {
            None => Extent::All,
            Some(list) if list.is_whole() => Extent::ListedWhole,
            Some(_) => Extent::Listed,
        }
    }

    /// The list, in as many messages as it takes.
    fn names(&self) -> Vec<Opening> {
        let Some(list) = &self.only else { return Vec::new() };
        let paths: Vec<RelPath> =
            list.iter().filter_map(|path| RelPath::parse(path).ok()).collect();
        let mut parts = pack(paths, |path| path.as_bytes().len() + 3);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let count = parts.len();
        let part = |(number, paths)| Opening::Names { paths, last: number + 1 == count };
        parts.into_iter().enumerate().map(part).collect()
    }
}

/// Copies files of a peer to a local folder; `identity` signs the receipt.
pub async fn get(
    connect: Connect,
    wanted: impl Into<Wanted>,
    landing: Landing,
    order: Order,
    identity: Arc<Identity>,
    options: JobOptions,
) -> Result<JobReport, TransferError> {
    let wanted = wanted.into();
    let asked = Asked::new(&wanted.paths, landing.admission.clone()).listed(wanted.only.clone());
    let landing = Landing { admission: Arc::new(asked), ..landing };
    let getting = Getting {
        wanted,
        landing,
        order,
        identity,
        options: options.clone(),
        id: new_id(random()),
        receiver: None,
    };
    drive(connect, &options, getting).await
}

/// Lists a folder of a peer, or its exports when the path is empty.
pub async fn list(lane: &Lane, path: &[u8]) -> Result<Vec<Listed>, TransferError> {
    /// A listing is for a person; beyond this it is a tree to be copied.
    const MOST: usize = 1_000_000;
    let (mut control, mut answer) =
        session::ask(lane, &Opening::List { path: path.to_vec() }).await?;
    let mut all = Vec::new();
    loop {
        let Opening::Listing { entries, last } = answer else {
            return Err(session::unexpected(lane, answer));
        };
        all.extend(entries);
        if last || all.len() > MOST {
            return Ok(all);
        }
        answer = session::read(lane, &mut control.1, Duration::from_secs(30)).await?;
    }
}

struct Putting {
    sources: Vec<SourceRoot>,
    order: Order,
    options: JobOptions,
    by: Option<Granted>,
    id: [u8; 16],
    /// Offers have been made; they are repeated when the target is ready.
    tried: bool,
    sender: Sender,
}

fn start_sender(sources: &[SourceRoot], order: &Order, options: &JobOptions) -> Sender {
    let limit = options.limit_bytes_per_s;
    let rate = match options.pace {
        Pace::Fixed(rate) => Some(rate),
        Pace::Fair | Pace::Background => None,
    };
    Sender::start(sources.to_vec(), order.clone(), limit, options.watch()).limited_over_tcp(rate)
}

impl Job for Putting {
    async fn attempt(&mut self, lane: &Lane) -> Result<JobReport, TransferError> {
        let seen = self.sender.seen();
        let (id, resume, order) = (self.id, self.sender.is_accepted(), self.order.clone());
        let request = match self.by {
            None => Opening::Put { id, resume, seen, order },
            Some(Granted { grant, .. }) => Opening::PutGranted { grant, id, resume, seen, order },
        };
        let receipt = if self.tried {
            let (control, answer) = session::ask(lane, &request).await?;
            let window = match answer {
                Opening::Accept { resumed, window, named, .. } if resumed == resume => {
                    self.sender.named(named);
                    window
                }
                answer => return Err(session::unexpected(lane, answer)),
            };
            self.sender.run(lane, control, Start::Resumed { window }).await?
        } else {
            let control = session::ask_ahead(lane, &request).await?;
            self.tried = true;
            self.sender.run(lane, control, Start::Ahead { window: None }).await?
        };
        let receipt = (!self.order.dry_run).then_some(receipt);
        if let Some(receipt) = &receipt {
            self.check(lane, receipt).map_err(|error| TransferError::BadReceipt {
                peer: lane.peer_name().clone(),
                error,
            })?;
        }
        let (totals, bytes_sent) = (self.sender.totals(), self.sender.bytes_sent());
        let (tree, named) = (self.sender.tree(), self.sender.is_named());
        Ok(JobReport { totals, bytes_sent, receipt, id, tree, named })
    }

    fn was_reached(&self) -> bool {
        self.order.reread
    }

    fn lane_taken(&mut self) {
        self.sender.link_lost();
    }

    fn progress(&self) -> u64 {
        self.sender.progress()
    }

    fn begin_anew(&mut self) {
        self.id = id_of_put(&self.sources, &self.order, self.by);
        self.tried = false;
        self.options.begin_anew();
        let bytes_sent = self.sender.bytes_sent();
        // By now the target has what its path names; what is granted is so for the order as it was.
        self.order.named |= self.sender.is_named() && self.by.is_none();
        self.sender = start_sender(&self.sources, &self.order, &self.options);
        self.sender.sent_before(bytes_sent);
    }
}

impl Putting {
    /// The receipt must be the peer's own, for this transfer, and for the tree that was sent.
    fn check(&self, lane: &Lane, receipt: &[u8]) -> Result<(), ReceiptError> {
        let statement = Receipt::verify(receipt)?.statement;
        if statement.target != *lane.peer() {
            return Err(ReceiptError::Mismatch("signer"));
        }
        if statement.transfer != hex(&self.id) {
            return Err(ReceiptError::Mismatch("transfer"));
        }
        if statement.tree.content != self.sender.tree().content {
            return Err(ReceiptError::Mismatch("tree digest"));
        }
        if statement.durable != self.order.durable {
            return Err(ReceiptError::Mismatch("durability"));
        }
        Ok(())
    }
}

struct Getting {
    wanted: Wanted,
    landing: Landing,
    order: Order,
    identity: Arc<Identity>,
    options: JobOptions,
    id: [u8; 16],
    receiver: Option<Receiver>,
}

impl Job for Getting {
    async fn attempt(&mut self, lane: &Lane) -> Result<JobReport, TransferError> {
        let resume = self.receiver.is_some();
        let receiver = match &mut self.receiver {
            Some(receiver) => receiver,
            None => {
                let (landing, order) = (self.landing.clone(), self.order.clone());
                let (identity, watch) = (self.identity.clone(), self.options.watch());
                let (id, peer, share) = (self.id, *lane.peer(), lane.memory_share());
                let limit_bytes_per_s = self.options.limit_bytes_per_s;
                let options = ReceiveOptions {
                    id,
                    landing,
                    order,
                    source: peer,
                    identity,
                    share,
                    limit_bytes_per_s,
                    watch,
                };
                let start = move || Receiver::start(options);
                let started = tokio::task::spawn_blocking(start).await;
                self.receiver.insert(started.map_err(|_| TransferError::Cancelled)??)
            }
        };
        let request = Opening::Get {
            id: self.id,
            resume,
            window: receiver.window(),
            pace: self.options.pace,
            order: Order { target: Vec::new(), ..self.order.clone() },
            sources: self.wanted.paths.clone(),
            extent: self.wanted.extent(),
        };
        check_fits(&request)?;
        if self.wanted.only.as_ref().is_some_and(|list| list_cost(list.iter()) > MAX_LIST) {
            let most = MAX_LIST / 1_000_000;
            let text = format!(
                "the list of names is too long for a copy from another machine, which takes {most} MB of \
                 them: copy in several runs, each with a part of it, or run haul there"
            );
            return Err(Refusal { code: RefuseCode::Exists, text }.into());
        }
        let is_over = receiver.receipt().is_some() || receiver.failure().is_some();
        let names = if resume { Vec::new() } else { self.wanted.names() };
        match session::ask_with(lane, &request, &names).await {
            // The source forgets a transfer once it has the receipt. Its farewell was lost with the last
            // lane, and there is nothing left to do.
            Err(TransferError::Refused { code: RefuseCode::UnknownTransfer, .. }) if is_over => {}
            Err(error) => return Err(error),
            Ok((control, Opening::Accept { resumed, seen, .. })) if resumed == resume => {
                receiver.run(lane, control, seen).await?;
            }
            Ok((_, answer)) => return Err(session::unexpected(lane, answer)),
        }
        if let Some(refusal) = receiver.failure() {
            return Err(refusal.into());
        }
        let receipt = receiver.receipt().filter(|receipt| !receipt.is_empty()).cloned();
        let bytes_sent = self.options.counters.bytes_sent.get();
        let (totals, tree) = (receiver.totals(), receiver.tree());
        Ok(JobReport { totals, bytes_sent, receipt, id: self.id, tree, named: false })
    }

    fn was_reached(&self) -> bool {
        self.order.reread
    }

    fn lane_taken(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.link_lost();
        }
    }

    fn progress(&self) -> u64 {
        self.receiver.as_ref().map_or(0, Receiver::progress)
    }

    fn begin_anew(&mut self) {
        self.id = new_id(random());
        self.options.begin_anew();
        self.receiver = None;
    }
}

/// Names a transfer: 8 bytes for the job, the same for every run of the same copy, and 8 for the run.
/// Only its own peer can resume it, so it need not be secret.
fn new_id(job: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&job.to_le_bytes());
    id[8..].copy_from_slice(&random().to_le_bytes());
    id
}

/// Of a put: what makes it the same copy, and the run, by chance unless whoever grants it has named it.
fn id_of_put(sources: &[SourceRoot], order: &Order, by: Option<Granted>) -> [u8; 16] {
    let mut id = new_id(job_of(sources, order));
    if let Some(Granted { run, .. }) = by {
        id[8..].copy_from_slice(&run);
    }
    id
}

/// A command line can name more than one message holds.
fn check_fits(request: &Opening) -> Result<(), Refusal> {
    if request.fits() {
        return Ok(());
    }
    let text = "too many paths for one request: copy them in several runs".to_owned();
    Err(Refusal { code: RefuseCode::Protocol, text })
}

/// What makes two runs the same copy: the same sources, by what they are on the disk, to the same path.
fn job_of(sources: &[SourceRoot], order: &Order) -> u64 {
    let mut bytes = Vec::new();
    for source in sources {
        let of_root = source.root.attributes().map(|found| (found.device, found.inode));
        let (device, inode) = of_root.unwrap_or_default();
        bytes.extend_from_slice(&device.to_le_bytes());
        bytes.extend_from_slice(&inode.to_le_bytes());
        bytes.extend_from_slice(source.path.as_bytes());
        bytes.push(0);
        for path in source.only.iter().flat_map(|list| list.iter()) {
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
    }
    bytes.extend_from_slice(&order.target);
    let digest = files::Digest::of(&bytes);
    let first = digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The standard library keys its hash maps with the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
