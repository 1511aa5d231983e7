//! The target's shell: one loop that takes an event, changes the machine, and carries out what it asks. It
//! outlives the lanes it runs on, and its disk jobs go on while there is none. The loop itself never
//! touches the disk; parcels wait for it in bounded memory, and the credit is held back meanwhile.

pub(crate) mod disk;
mod handing;
mod parcels;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use events::Event;
use files::{CHUNK, Name, RelPath};
use link::{
    ControlReceiver, ControlSender, Identity, LARGEST_SHARE, Lane, LinkError, ParcelError,
    PublicKey,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::bound::{Figures, Side};
use crate::buffers::Buffers;
use crate::client::hex;
use crate::compress::unpacked;
use crate::host::{Landing, Refusal};
use crate::lane_io::{Incoming, OUTGOING, Outgoing, queues, why_ended};
use crate::message::{
    Entry, MAX_WINDOW, MIN_WINDOW, Order, Outcome, ParcelHead, RefuseCode, SourceMessage,
    TargetMessage,
};
use crate::observe::Observer;
use crate::receipt::{MAX_ROOTS, Statement};
use crate::record::add_record;
use crate::send::{ALIVE, STALL, TICK, report_link};
use crate::target::{Job, JobResult, Output, Taken, Target, TargetOptions};
use crate::tell::{Watch, tell_extras, tell_outcome};
use crate::{Totals, TransferError, Violation};
use disk::Disk;
use handing::take_over;
use parcels::{Arrived, accept_parcels};
use tree::{TreeDigest, TreeDigests};

/// Disk jobs that run at once.
const DISK_THREADS: usize = 6;
/// The least and the most payload that may be on its way or waiting for the disk. The least is also
/// about what is lost when a process is killed.
const LEAST_CREDIT: u64 = 6 << 20;
const MOST_CREDIT: u64 = 64 << 20;
/// What is granted however small the peer's share of the memory: two parcels, or nothing would move.
const LEAST_SHARE: u64 = 2 << 20;
/// A link that carries more bytes per second is faster than one core of most machines cuts a file into pieces and a
/// disk reads them.
const FAST: f64 = 400e6;

/// What a transfer at its target begins with.
pub(crate) struct ReceiveOptions {
    pub(crate) id: [u8; 16],
    pub(crate) landing: Landing,
    pub(crate) order: Order,
    pub(crate) source: PublicKey,
    /// Who signs the receipt.
    pub(crate) identity: Arc<Identity>,
    /// Bytes of memory that the peer may take here.
    pub(crate) share: u64,
    pub(crate) limit_bytes_per_s: Option<u64>,
    pub(crate) watch: Watch,
}

/// A transfer at its target.
pub(crate) struct Receiver {
    machine: Target,
    disk: Arc<Disk>,
    /// What was found beside what was offered, at the end.
    extras: Arc<OnceLock<Vec<RelPath>>>,
    disk_room: Arc<Semaphore>,
    /// For the bodies of parcels.
    buffers: Arc<Buffers>,
    /// Disk jobs under way or waiting for their turn.
    running: JoinSet<JobResult>,
    window: u64,
    watch: Watch,
    tree: TreeDigest,
    roots: Vec<String>,
    root_count: u64,
    began: u64,
    id: [u8; 16],
    source: PublicKey,
    identity: Arc<Identity>,
    landing: Landing,
    order: Order,
    receipt: Option<Vec<u8>>,
    failure: Option<Refusal>,
    stored_before: u64,
    /// The body of a parcel whose file is not decided yet.
    held: Vec<u8>,
    credit: u64,
    /// Payload bytes per second that the source may send.
    limit: Option<u64>,
    measured: (Instant, u64),
    /// Bytes of bodies that came over all links, and at the last measurement.
    arrived: (u64, u64),
    /// What the credit of this connection counts beyond these.
    spared: u64,
}

impl Receiver {
    /// Opens the target folder. The machine waits for a lane.
    pub(crate) fn start(options: ReceiveOptions) -> Result<Self, Refusal> {
        let ReceiveOptions {
            id,
            landing,
            order,
            source,
            identity,
            share,
            limit_bytes_per_s,
            watch,
        } = options;
        let order = landing.narrowed(order)?;
        let window = window_of(share);
        let disk = Disk::open(landing.clone(), &order, *source.as_bytes())?;
        let options = TargetOptions::of(&order, landing.rename_top.clone(), window);
        let (delta, max_bytes) = (options.delta && landing.may_read, landing.max_bytes);
        let options = TargetOptions { delta, max_bytes, ..options };
        let limit = limit_bytes_per_s.into_iter().chain(landing.max_rate_bytes_per_s).min();
        Ok(Self {
            limit,
            machine: Target::new(options, share.clamp(LEAST_SHARE, LEAST_CREDIT)),
            disk: Arc::new(disk),
            extras: Arc::default(),
            disk_room: Arc::new(Semaphore::new(DISK_THREADS)),
            buffers: Arc::default(),
            running: JoinSet::new(),
            window,
            watch,
            tree: TreeDigest::new(),
            roots: Vec::new(),
            root_count: 0,
            began: now(),
            id,
            source,
            identity,
            landing,
            order,
            receipt: None,
            failure: None,
            stored_before: 0,
            held: Vec::new(),
            credit: share.clamp(LEAST_SHARE, LEAST_CREDIT),
            measured: (Instant::now(), 0),
            arrived: (0, 0),
            spared: 0,
        })
    }

    /// What it grants for unfinished entries.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Whether the one source gets a name here that is not its own.
    pub(crate) fn is_named(&self) -> bool {
        self.landing.rename_top.is_some()
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.machine.totals()
    }

    /// The digest of what stands here.
    pub(crate) fn tree(&self) -> TreeDigests {
        self.tree.finish()
    }

    /// The receipt, once the job is over.
    pub(crate) fn receipt(&self) -> Option<&Vec<u8>> {
        self.receipt.as_ref()
    }

    /// Runs on a lane until the source has the receipt or the lane fails. `seen` is how many outcomes
    /// the source has processed.
    pub(crate) async fn run(
        &mut self,
        lane: &Lane,
        control: (ControlSender, ControlReceiver),
        seen: u64,
    ) -> Result<(), TransferError> {
        let violation =
            |violation| TransferError::Violation { peer: lane.peer_name().clone(), violation };
        self.machine.link_up(seen).map_err(violation)?;
        if !self.may_go_on() {
            let text = "another run of the same transfer has taken over".to_owned();
            return Err(Refusal { code: RefuseCode::Cancelled, text }.into());
        }
        let result = self.run_on(lane, queues(control, OUTGOING)).await;
        self.link_lost();
        result
    }

    /// The lane was taken away, also in the middle of `run`.
    pub(crate) fn link_lost(&mut self) {
        self.stored_before += self.machine.stored();
        self.machine.link_lost();
        self.held = Vec::new();
        if let Some(intake) = &self.landing.intake {
            intake.link(false);
        }
    }

    /// Ends it before its time: begins nothing more and waits for what is under way on the disk, so that
    /// nothing of it comes after what another run does.
    pub(crate) async fn settle(&mut self) {
        self.disk_room.close();
        while self.running.join_next().await.is_some() {}
    }

    /// Rises whenever something was achieved.
    pub(crate) fn progress(&self) -> u64 {
        let totals = self.machine.totals();
        self.stored_before + self.machine.stored() + totals.bytes_ended + totals.folders
    }

    /// Why the job as a whole failed, when it did.
    pub(crate) fn failure(&self) -> Option<Refusal> {
        self.failure.clone()
    }

    async fn run_on(
        &mut self,
        lane: &Lane,
        (outgoing, mut incoming): (Outgoing, Incoming),
    ) -> Result<(), TransferError> {
        let (mut parcels, _accepting) = accept_parcels(lane, self.buffers.clone());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut heard = Instant::now();
        // Made once: each making and asking takes the connection's lock.
        let mut closed = std::pin::pin!(lane.closed());
        let began = heard;
        let mut told = heard;
        let mut observer = Observer::new(Side::Target);
        self.measured = (heard, 0);
        self.spared = 0;
        self.raise_ceiling(heard);
        loop {
            while outgoing.has_room() {
                let Some(output) = self.machine.poll_output() else { break };
                self.carry_out(output, &outgoing);
            }
            observer.waits(self.machine.waits_for(DISK_THREADS));
            tokio::select! {
                frame = incoming.recv() => {
                    heard = Instant::now();
                    match frame {
                        Ok(None) if self.is_over() => return Ok(()),
                        // Why the lane ended is known better below.
                        Ok(None) | Err(_) => return self.ended(why_ended(lane).await),
                        Ok(Some(frame)) => self.message(lane, &frame, &mut observer)?,
                    }
                }
                Some(arrived) = parcels.recv() => {
                    heard = Instant::now();
                    self.parcel(lane, arrived)?;
                }
                Some(result) = self.running.join_next(), if !self.running.is_empty() => {
                    match result {
                        Ok(result) => self.job_done(result),
                        Err(error) => return Err(broken(&error).into()),
                    }
                }
                () = outgoing.room(), if !outgoing.has_room() => {}
                error = &mut closed => return self.ended(error),
                _ = tick.tick() => {
                    self.adapt_credit(lane);
                    self.buffers.trim();
                    self.raise_ceiling(began);
                    if told.elapsed() > ALIVE {
                        told = Instant::now();
                        self.machine.say_alive();
                    }
                    self.report(lane);
                    let news = observer.tick(self.figures(), lane, &self.watch);
                    if let Some(bound) = news.filter(|_| outgoing.has_room()) {
                        outgoing.send(TargetMessage::Bound(bound).encode());
                    }
                    if self.machine.is_working() || self.limit.is_some() {
                        heard = Instant::now();
                    }
                    if heard.elapsed() > STALL {
                        let seconds = STALL.as_secs();
                        return Err(TransferError::Stalled { peer: lane.peer_name().clone(), seconds });
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.receipt.is_some() || self.failure.is_some()
    }

    /// The source closes the lane in peace when it has the last words; otherwise they will be repeated.
    fn ended(&self, error: LinkError) -> Result<(), TransferError> {
        match error {
            LinkError::Closed { code: 0, .. } if self.is_over() => Ok(()),
            LinkError::Closed { peer, code: 0, .. } => Err(TransferError::Abandoned { peer }),
            error => Err(error.into()),
        }
    }

    fn job_done(&mut self, result: JobResult) {
        match &result {
            JobResult::Finished(Ok(receipt)) => {
                self.receipt = Some(receipt.clone());
                let extras = self.extras.get().cloned().unwrap_or_default();
                tell_extras(&self.watch, &extras);
                self.machine.tell_extras(extras);
            }
            JobResult::Finished(Err(failed)) => {
                self.failure = Some(Refusal { code: failed.code, text: failed.text.clone() });
            }
            _ => {}
        }
        self.machine.job_done(result);
    }

    fn figures(&self) -> Figures {
        Figures {
            carried: self.machine.received(),
            stored: self.machine.stored(),
            entries: self.watch.counters.entries.get(),
            unfinished: self.machine.unfinished(),
            limit: self.limit.unwrap_or(0),
            ..Figures::default()
        }
    }

    fn message(
        &mut self,
        lane: &Lane,
        frame: &[u8],
        observer: &mut Observer,
    ) -> Result<(), TransferError> {
        let peer = || lane.peer_name().clone();
        let mut message = SourceMessage::decode(frame)
            .map_err(|error| TransferError::Unreadable { peer: peer(), error })?;
        if let SourceMessage::Bound(bound) = message {
            observer.told(bound);
        }
        if let SourceMessage::Problem { path, reason } = &message {
            self.watch.counters.files_failed.add(1);
            let (path, reason) = (path.clone().into_bytes(), reason.clone());
            self.watch.sink.emit_with(|| Event::FileFailed { path, reason });
        }
        if let SourceMessage::Offer(entries) = &mut message {
            for entry in entries.iter_mut() {
                entry.owner = entry.owner.filter(|_| self.order.owner);
                if !self.order.xattrs {
                    entry.xattrs.clear();
                }
            }
            self.note_offers(entries);
        }
        self.machine
            .message(message)
            .map_err(|violation| TransferError::Violation { peer: peer(), violation })
    }

    /// What a pull's progress needs to know of an offer.
    fn note_offers(&mut self, entries: &[Entry]) {
        let counters = &self.watch.counters;
        for entry in entries {
            counters.entries.add(1);
            if let Some(size) = entry.size() {
                counters.files_total.add(1);
                counters.bytes_total.add(size);
            }
        }
    }

    fn parcel(&mut self, lane: &Lane, arrived: Arrived) -> Result<(), TransferError> {
        let peer = || lane.peer_name().clone();
        let (head, body) = match arrived {
            Ok(parcel) => parcel,
            Err(ParcelError::Link(error)) => return Err(error.into()),
            // Given up by a source that saw the lane die; it will come again.
            Err(ParcelError::Abandoned { .. }) => return Ok(()),
            Err(_) => {
                let violation = Violation("a parcel of wrong lengths");
                return Err(TransferError::Violation { peer: peer(), violation });
            }
        };
        let head = ParcelHead::decode(&head, body.len())
            .map_err(|error| TransferError::Unreadable { peer: peer(), error })?;
        self.watch.counters.bytes_sent.add(body.len() as u64);
        let (head, raw) = head.unwrapped();
        let (cost, came) = (head.cost(raw.unwrap_or(body.len() as u64)), body.len() as u64);
        self.arrived.0 += came;
        self.spared += cost.saturating_sub(came);
        let taken = self
            .machine
            .parcel(&head, raw.unwrap_or(body.len() as u64))
            .map_err(|violation| TransferError::Violation { peer: peer(), violation })?;
        match taken {
            Taken::Do(job) => self.spawn(job, body, raw),
            Taken::Hold => self.held = body,
            Taken::Drop => self.buffers.give(body),
        }
        Ok(())
    }

    fn carry_out(&mut self, output: Output, control: &Outgoing) {
        match output {
            Output::Send(message) => control.send(message.encode()),
            Output::Do(Job::Finish { failures }) => self.finish(failures),
            Output::Do(job) => self.spawn(job, Vec::new(), None),
            Output::DoHeld(job) => {
                let body = std::mem::take(&mut self.held);
                self.spawn(job, body, None);
            }
            Output::DropHeld => self.held = Vec::new(),
            Output::Ended { entry, path, outcome, linked } => {
                if entry.parent == 0 {
                    self.note_root(&entry.name);
                }
                self.tell_intake(&path, &entry, &outcome, linked);
                add_record(&mut self.tree, self.order.setid, &path, &entry, &outcome, linked);
                if !entry.is_folder() || matches!(outcome, Outcome::Planned(_)) {
                    tell_outcome(&self.watch, path.as_bytes(), entry.size(), &outcome);
                }
            }
        }
    }

    /// The receipt lists what was sent, not what lies in it; contents have no name of their own.
    fn note_root(&mut self, name: &Name) {
        if self.order.contents {
            return;
        }
        self.root_count += 1;
        if self.roots.len() < MAX_ROOTS {
            self.roots.push(name.to_string());
        }
    }

    /// Does a job on the disk, with a body that is unpacked to `raw` bytes if that is given.
    fn spawn(&mut self, job: Job, body: Vec<u8>, raw: Option<u64>) {
        let (disk, room) = (self.disk.clone(), self.disk_room.clone());
        let buffers = self.buffers.clone();
        self.running.spawn(async move {
            // Closed when the transfer is over before its time: then nothing more is begun.
            let Ok(_permit) = room.acquire_owned().await else { return JobResult::Discarded };
            let run = move || {
                let body = match raw {
                    Some(raw) => unpacked(body, raw, &buffers),
                    None => body,
                };
                let result = disk.run(job, &body);
                buffers.give(body);
                result
            };
            match tokio::task::spawn_blocking(run).await {
                Ok(result) => result,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
    }

    fn finish(&mut self, failures: bool) {
        let disk = self.disk.clone();
        let statement = self.statement();
        let identity = self.identity.clone();
        let dry_run = self.order.dry_run;
        let told = self.extras.clone();
        let intake = self.landing.intake.clone();
        self.running.spawn_blocking(move || {
            let result = disk.finish(failures).and_then(|extras| {
                let removed = extras.len() as u64;
                let _ = told.set(extras);
                let statement = Statement { removed, ended: now(), ..statement };
                match intake {
                    Some(intake) => take_over(&*intake, statement, failures, &identity),
                    None if dry_run => Ok(Vec::new()),
                    None => Ok(statement.sign(&identity)),
                }
            });
            JobResult::Finished(result)
        });
    }

    fn statement(&self) -> Statement {
        Statement {
            transfer: hex(&self.id),
            source: self.source,
            target: self.identity.public_key(),
            path: self.landing.shown.clone(),
            began: self.began,
            ended: 0,
            durable: self.order.durable,
            roots: self.roots.clone(),
            root_count: self.root_count,
            tree: self.tree.finish(),
            totals: *self.machine.totals(),
            removed: 0,
            dataset: None,
        }
    }

    /// A window of what the link carries in two round trips, with the least that keeps a disk busy and
    /// the most that this peer's share of the memory allows.
    fn adapt_credit(&mut self, lane: &Lane) {
        let (then, received) = self.measured;
        let elapsed = then.elapsed();
        if elapsed < Duration::from_millis(200) {
            return;
        }
        let rate = (self.machine.received() - received) as f64 / elapsed.as_secs_f64();
        self.measured = (Instant::now(), self.machine.received());
        // The smallest: what is queued on the way would make the window feed on itself.
        let trip = lane.stats().min_rtt.as_secs_f64();
        let wanted = LEAST_CREDIT + (rate * trip * 3.0) as u64;
        let most = lane.memory_share().clamp(LEAST_SHARE, MOST_CREDIT);
        // It only grows: a rate that was held back by the credit says nothing about the link.
        self.credit = self.credit.max(wanted).min(most);
        self.machine.set_window(self.credit);
        // What is made of an older file says nothing of the link.
        let (arrived, before) = self.arrived;
        self.machine.set_fast((arrived - before) as f64 / elapsed.as_secs_f64() > FAST);
        self.arrived.1 = arrived;
    }

    /// Lets the payload of this connection grow no faster than the limit, after one parcel that may
    /// come at once.
    fn raise_ceiling(&mut self, began: Instant) {
        if let Some(limit) = self.limit {
            let due = limit as f64 * began.elapsed().as_secs_f64();
            self.machine.set_ceiling((CHUNK + self.spared).saturating_add(due as u64));
        }
    }

    fn report(&self, lane: &Lane) {
        let counters = &self.watch.counters;
        let totals = self.machine.totals();
        let known = totals.bytes_ended - totals.bytes_copied;
        let stored = self.stored_before + self.machine.stored();
        let acknowledged = (known + stored).max(totals.bytes_ended);
        self.landing.intake.iter().for_each(|intake| intake.progress(acknowledged));
        counters.bytes_acknowledged.set(acknowledged.min(counters.bytes_total.get()));
        report_link(counters, lane);
    }
}

/// What a peer with this share of the memory is granted for unfinished entries: an eighth of the largest
/// share, and less by the square. A window stays what it was when further peers come, so those of the
/// first must leave them room.
fn window_of(share: u64) -> u64 {
    let share = share.min(LARGEST_SHARE);
    (share * share / LARGEST_SHARE / 8).clamp(MIN_WINDOW, MAX_WINDOW)
}

/// A disk job that panicked: what it was for has no outcome, so the transfer cannot go on.
fn broken(error: &tokio::task::JoinError) -> Refusal {
    Refusal { code: RefuseCode::Disk, text: format!("internal error: {error}") }
}

/// Seconds since 1970; a clock before that counts as 0.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_those_who_come_one_after_another_stay_small_together() {
        assert_eq!(window_of(LARGEST_SHARE), MAX_WINDOW);
        assert_eq!(window_of(u64::MAX), MAX_WINDOW);
        assert_eq!(window_of(0), MIN_WINDOW);
        let total = 4 * LARGEST_SHARE;
        let windows: u64 = (1..=100).map(|peers| window_of(total / peers)).sum();
        assert!(windows < 60 << 20, "{windows} bytes");
    }
}
