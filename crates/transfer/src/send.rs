//! The source's shell: one loop that takes an event, changes the machine, and carries out what it asks.
//! It outlives the lanes it runs on: after a cut it is run again on the next one.

pub(crate) mod limit;
mod reader;
mod top;
mod walker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use events::{Counters, Event};
use files::{Attributes, RelPath};
use link::{ControlReceiver, ControlSender, Lane, LaneKind, LinkError, Pace, PeerName};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tree::{TreeDigest, TreeDigests};

use crate::bound::{Figures, Side, Wait};
use crate::effort::Effort;
use crate::host::SourceRoot;
use crate::lane_io::{Incoming, OUTGOING, Outgoing, queues, why_ended};
use crate::message::{Order, Outcome, SourceMessage, TargetMessage};
use crate::observe::Observer;
use crate::record::add_record;
use crate::session::{Accepted, Answers};
use crate::source::{Job, JobResult, Output, Place, ReadItem, Source, Walked};
use crate::tell::{Watch, tell_extras, tell_outcome};
use crate::{Totals, TransferError};
use limit::Limit;
use reader::{Payload, Reader};
pub(crate) use top::Top;
pub(crate) use walker::weigh;

/// A peer that says nothing for this long while it owes us something is given up on.
pub(crate) const STALL: Duration = Duration::from_secs(120);
/// How often a side that works and has nothing to say says so.
pub(crate) const ALIVE: Duration = Duration::from_secs(15);
/// Payload that may always be read ahead of the link; a peer with a larger share of memory gets more.
const LEAST_UNSENT: u64 = 2 << 20;
/// Files that changed and are looked at, at once.
const MOST_LOOKING: usize = 4;
/// More than a window of most paths: what is further from the end is not sent redundantly.
const MOST_LAST: u64 = 32 << 20;
/// How often link figures are read and silence is checked.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How a source begins on a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// When the target says that it is ready, after a cut.
    Resumed {
        /// What the target grants for unfinished entries.
        window: u64,
    },
    /// At once; without a window, before the target has answered the request.
    Ahead {
        /// As above.
        window: Option<u64>,
    },
}

/// A transfer at its source.
pub(crate) struct Sender {
    machine: Source,
    reader: Arc<Reader>,
    steps: mpsc::Receiver<Walked>,
    results: mpsc::UnboundedReceiver<(JobResult, Option<Payload>)>,
    done: mpsc::UnboundedSender<(JobResult, Option<Payload>)>,
    /// Files that changed and are watched until they hold still.
    looks: JoinSet<(u64, Result<Attributes, String>)>,
    looking: Arc<Semaphore>,
    epoch: u64,
    order_number: u64,
    /// Bytes per second that hold over every lane, and over TCP.
    limits: (Option<u64>, Option<u64>),
    /// What holds on this lane.
    limit: Option<Arc<Limit>>,
    watch: Watch,
    bytes_sent: u64,
    /// Bytes that the disk was asked for, and payload that lanes have carried.
    bytes_read: u64,
    bytes_carried: u64,
    /// Payload read for this lane that the peer's transport has not acknowledged, before it was packed.
    unsent: u64,
    /// Payload read for this lane.
    sent_here: u64,
    /// Stored on earlier connections.
    stored_before: u64,
    setid: bool,
    effort: Effort,
    /// Whether the beginning of the first file may go out unasked.
    early: bool,
    /// The target has taken the transfer on.
    accepted: bool,
    /// The target has said that the last name of its path is the name that the one source gets.
    named: bool,
    tree: TreeDigest,
    tops: Vec<Top>,
    receipt: Option<Vec<u8>>,
}

impl Sender {
    /// Starts the walk. The machine waits for a lane.
    pub(crate) fn start(
        sources: Vec<SourceRoot>,
        order: Order,
        limit_bytes_per_s: Option<u64>,
        watch: Watch,
    ) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let reader = Arc::new(Reader::new(sources.len(), order.reread));
        let host_limit = sources.iter().filter_map(|source| source.max_rate_bytes_per_s).min();
        let limit = limit_bytes_per_s.into_iter().chain(host_limit).min();
        let setid = order.setid;
        // Otherwise content is not, or hardly ever, what the target will ask for.
        let early = !order.dry_run && !order.checksum;
        let effort = Effort::new(order.compression);
        reader.set_effort(effort.now());
        let tops = sources.iter().map(Top::of).collect();
        let machine = if order.reread { Source::rereading() } else { Source::new() };
        let steps = walker::start(sources, order, reader.clone());
        Self {
            machine,
            reader,
            steps,
            results,
            done,
            looks: JoinSet::new(),
            looking: Arc::new(Semaphore::new(MOST_LOOKING)),
            epoch: 0,
            order_number: 0,
            limits: (limit, None),
            limit: None,
            watch,
            bytes_sent: 0,
            bytes_read: 0,
            bytes_carried: 0,
            unsent: 0,
            sent_here: 0,
            stored_before: 0,
            setid,
            effort,
            early,
            accepted: false,
            named: false,
            tree: TreeDigest::new(),
            tops,
            receipt: None,
        }
    }

    /// The same, with a limit that holds over TCP beside the other.
    pub(crate) fn limited_over_tcp(self, rate: Option<u64>) -> Self {
        Self { limits: (self.limits.0, rate), ..self }
    }

    /// The limit on a new lane: turns that were given away on the last are nobody's any more.
    fn limit_on(&self, kind: LaneKind) -> Option<Arc<Limit>> {
        let of_kind = self.limits.1.filter(|_| kind != LaneKind::Quic);
        let rate = self.limits.0.into_iter().chain(of_kind).min()?;
        Some(Arc::new(Limit::new(rate)))
    }

    pub(crate) fn seen(&self) -> u64 {
        self.machine.seen()
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.machine.totals()
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Whether the target has taken the transfer on.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Takes the target's word for whether its path is a name.
    pub(crate) fn named(&mut self, named: bool) {
        self.named |= named;
    }

    /// Whether the last name of the target path is the name that the one source gets.
    pub(crate) fn is_named(&self) -> bool {
        self.named
    }

    /// Runs on a lane until the receipt comes or the lane fails.
    pub(crate) async fn run(
        &mut self,
        lane: &Lane,
        control: (ControlSender, ControlReceiver),
        start: Start,
    ) -> Result<Vec<u8>, TransferError> {
        self.limit = self.limit_on(lane.kind());
        self.reader.set_effort(self.effort.lane(lane.stats().min_rtt));
        let mut answers = None;
        match start {
            Start::Resumed { window } => self.granted(window),
            Start::Ahead { window } => {
                match window {
                    Some(window) => self.granted(window),
                    None => answers = Some(Answers::default()),
                }
                self.machine.begin_ahead(self.early);
            }
        }
        let result = self.run_on(lane, queues(control, OUTGOING), answers).await;
        self.link_lost();
        result
    }

    fn granted(&mut self, window: u64) {
        self.accepted = true;
        self.machine.set_window(window);
    }

    fn taken_on(&mut self, Accepted { window, named }: Accepted) {
        self.named(named);
        self.granted(window);
    }

    async fn run_on(
        &mut self,
        lane: &Lane,
        (outgoing, mut incoming): (Outgoing, Incoming),
        mut answers: Option<Answers>,
    ) -> Result<Vec<u8>, TransferError> {
        let mut parcels: JoinSet<Result<u64, LinkError>> = JoinSet::new();
        let mut walked = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut heard = Instant::now();
        // Made once: each making and asking takes the connection's lock.
        let mut closed = std::pin::pin!(lane.closed());
        let mut told = heard;
        let mut observer = Observer::new(Side::Source);
        loop {
            // A target may grant what credit it likes and read nothing.
            let mut most = lane.memory_share().max(LEAST_UNSENT);
            if let Some(limit) = &self.limit {
                // What waits for its turn is lost when the lane is, and its turns with it.
                most = most.min(limit.per_second().max(files::CHUNK));
            }
            self.machine.hold_reading(self.unsent >= most);
            while outgoing.has_room() {
                let Some(output) = self.machine.poll_output() else { break };
                self.carry_out(lane.peer_name(), output, &outgoing)?;
            }
            observer.waits(self.waits_for(&observer));
            if let Some(receipt) = self.receipt.take() {
                self.report(lane);
                return Ok(receipt);
            }
            let room = self.machine.walk_room().min(256);
            tokio::select! {
                frame = incoming.recv() => {
                    heard = Instant::now();
                    match frame {
                        Ok(Some(frame)) => match &mut answers {
                            Some(to_come) => {
                                if let Some(accepted) = to_come.take(lane, &frame)? {
                                    self.taken_on(accepted);
                                    answers = None;
                                }
                            }
                            None => self.message(lane, &frame, &mut observer)?,
                        },
                        Ok(None) | Err(_) => return Err(ended(why_ended(lane).await)),
                    }
                }
                count = self.steps.recv_many(&mut walked, room), if room > 0 => {
                    if count == 0 {
                        // The walk says when it is finished; this one broke off.
                        let (path, reason) = (".".to_owned(), "the walk ended early".to_owned());
                        walked.push(Walked::Problem { path, reason });
                        walked.push(Walked::Finished);
                    }
                    walked.drain(..).for_each(|step| self.walked(step));
                }
                Some((result, payload)) = self.results.recv() => {
                    let fresh = result.epoch() == self.epoch;
                    self.machine.job_done(result);
                    if let (Some(payload), true) = (payload, fresh) {
                        self.send(lane, payload, &mut parcels);
                    }
                }
                Some(Ok((index, now))) = self.looks.join_next(), if !self.looks.is_empty() => {
                    self.machine.looked(index, now);
                }
                Some(sent) = parcels.join_next(), if !parcels.is_empty() => {
                    match sent {
                        Ok(Ok(len)) => {
                            self.unsent -= len;
                            self.bytes_carried += len;
                        }
                        Ok(Err(error)) => return Err(self.lane_error(lane, error).await),
                        Err(_) => {}
                    }
                }
                () = outgoing.room(), if !outgoing.has_room() => {}
                error = &mut closed => return Err(ended(error)),
                _ = tick.tick() => {
                    self.report(lane);
                    let news = observer.tick(self.figures(), lane, &self.watch);
                    self.reader.set_effort(self.effort.lap(observer.link_share(), observer.read_share()));
                    if let Some(bound) = news.filter(|_| self.accepted && outgoing.has_room()) {
                        outgoing.send(SourceMessage::Bound(bound).encode());
                    }
                    self.reader.trim();
                    if told.elapsed() > ALIVE {
                        told = Instant::now();
                        self.machine.say_alive();
                    }
                    if heard.elapsed() > STALL {
                        let seconds = STALL.as_secs();
                        return Err(TransferError::Stalled { peer: lane.peer_name().clone(), seconds });
                    }
                }
            }
        }
    }

    /// A parcel's error says less than the lane's own, if that has ended.
    async fn lane_error(&self, lane: &Lane, error: LinkError) -> TransferError {
        match tokio::time::timeout(Duration::from_millis(100), lane.closed()).await {
            Ok(closed) => closed.into(),
            Err(_) => error.into(),
        }
    }

    /// What the loop waits for, now that the machine has nothing more to do.
    fn waits_for(&self, observer: &Observer) -> Wait {
        match &self.limit {
            Some(limit) if limit.holds_back() => Wait::Limit,
            _ => self.machine.waits_for(self.unsent, observer.flight()),
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            read: self.bytes_read,
            carried: self.bytes_carried,
            stored: self.stored_before + self.machine.stored(),
            entries: self.watch.counters.entries.get(),
            unfinished: self.machine.unfinished(),
            limit: self.limit.as_ref().map_or(0, |limit| limit.per_second()),
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
        let message = TargetMessage::decode(frame)
            .map_err(|error| TransferError::Unreadable { peer: peer(), error })?;
        if let TargetMessage::Bound(bound) = message {
            observer.told(bound);
        }
        self.machine
            .message(message)
            .map_err(|violation| TransferError::Violation { peer: peer(), violation })
    }

    fn walked(&mut self, step: Walked) {
        let counters = &self.watch.counters;
        match &step {
            Walked::Leaf(found) => {
                counters.entries.add(1);
                if found.attributes.kind == files::Kind::File {
                    counters.files_total.add(1);
                    counters.bytes_total.add(found.attributes.size);
                }
            }
            Walked::Enter(_) => counters.entries.add(1),
            Walked::Finished => counters.finish_walk(),
            _ => {}
        }
        self.machine.walked(step);
    }

    fn carry_out(
        &mut self,
        peer: &PeerName,
        output: Output,
        control: &Outgoing,
    ) -> Result<(), TransferError> {
        match output {
            Output::Send(message) => control.send(message.encode()),
            Output::Read(job) => self.read(job),
            Output::Look { read, after } => self.look(read, after),
            Output::Forget(index) => self.reader.forget(index),
            Output::Ended { place, entry, outcome, linked } => {
                let path = self.offered_path(&place);
                add_record(&mut self.tree, self.setid, &path, &entry, &outcome, linked);
                let failed = matches!(outcome, Outcome::Failed { .. });
                if !entry.is_folder() || failed || matches!(outcome, Outcome::Planned(_)) {
                    tell_outcome(&self.watch, path.as_bytes(), entry.size(), &outcome);
                }
            }
            Output::Problem { path, reason } => {
                self.watch.counters.files_failed.add(1);
                self.watch.sink.emit(&Event::FileFailed { path: path.into_bytes(), reason });
            }
            Output::Extras(paths) => tell_extras(&self.watch, &paths),
            Output::Receipt(receipt) => self.receipt = Some(receipt),
            Output::Aborted { code, text } => {
                return Err(TransferError::Refused { peer: peer.clone(), code, text });
            }
        }
        Ok(())
    }

    fn read(&mut self, job: Job) {
        self.bytes_read += job.bytes();
        if let Job::Chunk { read, .. } | Job::Early { read, .. } = &job {
            self.watch.counters.set_current(Some(read.place.path.as_bytes()));
        } else if let Job::Bundle { items, .. } = &job
            && let Some(first) = items.first()
        {
            self.watch.counters.set_current(Some(first.place.path.as_bytes()));
        }
        let (reader, done) = (self.reader.clone(), self.done.clone());
        tokio::task::spawn_blocking(move || {
            // The shell may be gone; then nobody wants the result.
            let _ = done.send(reader.read(&job));
        });
    }

    fn look(&mut self, item: ReadItem, after: Duration) {
        let (reader, looking) = (self.reader.clone(), self.looking.clone());
        self.looks.spawn(async move {
            tokio::time::sleep(after).await;
            // It is never closed.
            let _permit = looking.acquire_owned().await;
            let index = item.index;
            let looked = tokio::task::spawn_blocking(move || reader.look(&item)).await;
            (index, looked.unwrap_or_else(|error| Err(error.to_string())))
        });
    }

    fn send(
        &mut self,
        lane: &Lane,
        payload: Payload,
        parcels: &mut JoinSet<Result<u64, LinkError>>,
    ) {
        let (head, body) = payload;
        let len = body.len() as u64;
        self.bytes_sent += len;
        self.watch.counters.bytes_sent.add(len);
        let order = self.order_number;
        self.order_number += 1;
        // What the target counts, whatever of it goes over the link.
        let raw = head.cost(len);
        self.unsent += raw;
        self.sent_here += raw;
        let is_last = self.is_last_stretch(lane);
        let (lane, limit) = (lane.clone(), self.limit.clone());
        parcels.spawn(async move {
            if let Some(limit) = limit {
                limit.take(len).await;
            }
            let head = Bytes::from(head.encode());
            match is_last {
                true => lane.send_parcel_redundantly(head, body, order).await,
                false => lane.send_parcel(head, body, order).await,
            }
            .map(|()| raw)
        });
    }

    /// Whether what is sent now is among what the peer waits for at the end: then what is lost of it
    /// costs a round trip that nothing else fills.
    fn is_last_stretch(&self, lane: &Lane) -> bool {
        let totals = self.machine.totals();
        let spared = totals.bytes_ended - totals.bytes_copied;
        let gone = spared + self.stored_before + self.sent_here;
        let left = totals.bytes_found.saturating_sub(gone);
        // Most are not, and the lane's figures cost a lock.
        self.machine.is_walked() && left <= MOST_LAST && left <= lane.stats().congestion_window
    }

    fn report(&self, lane: &Lane) {
        let counters = &self.watch.counters;
        let totals = self.machine.totals();
        let known = totals.bytes_ended - totals.bytes_copied;
        let stored = self.stored_before + self.machine.stored();
        let acknowledged = (known + stored).max(totals.bytes_ended).min(totals.bytes_found);
        counters.bytes_acknowledged.set(acknowledged.max(counters.bytes_acknowledged.get()));
        report_link(counters, lane);
    }

    /// Rises whenever something was achieved.
    pub(crate) fn progress(&self) -> u64 {
        self.stored_before + self.machine.stored() + self.machine.seen()
    }

    /// Counts what an earlier try has put on the link.
    pub(crate) fn sent_before(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }

    /// The lane was taken away in the middle of `run`.
    pub(crate) fn link_lost(&mut self) {
        self.stored_before += self.machine.stored();
        self.machine.link_lost();
        (self.unsent, self.sent_here) = (0, 0);
        self.epoch += 1;
    }

    /// The digest of what stands at the target, by what it said of each entry.
    pub(crate) fn tree(&self) -> TreeDigests {
        self.tree.finish()
    }

    /// The path under which something is offered.
    fn offered_path(&self, place: &Place) -> RelPath {
        let top = self.tops.get(place.source);
        top.map_or_else(|| place.path.clone(), |top| top.offered(&place.path))
    }
}

/// A lane that the peer closed in peace before the receipt came is not to be dialled again.
fn ended(error: LinkError) -> TransferError {
    match error {
        LinkError::Closed { peer, code: 0, .. } => TransferError::Abandoned { peer },
        error => error.into(),
    }
}

/// Puts the lane's figures where progress is drawn from.
pub(crate) fn report_link(counters: &Counters, lane: &Lane) {
    let stats = lane.stats();
    counters.link.rtt_micros.set(stats.rtt.as_micros() as u64);
    counters.link.packets_sent.set(stats.sent_packets);
    counters.link.packets_lost.set(stats.lost_packets);
    counters.link.congestion_window.set(stats.congestion_window);
    counters.link.connections.set(stats.connections.into());
    counters.link.is_tcp.set(u64::from(stats.kind == LaneKind::Tcp));
    counters.link.is_pipe.set(u64::from(stats.kind == LaneKind::Pipe));
    counters.link.gives_way.set(u64::from(stats.pace == Some(Pace::Background)));
    counters.link.remembered_rate.set(stats.remembered_rate);
}
