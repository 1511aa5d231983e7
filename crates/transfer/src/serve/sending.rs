//! Copies between two other machines, as the daemon at their source sees them: it says what the sources weigh,
//! sends them where it is told to, and reports to whoever told it, for as long as that one is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::{Counters, Event, Sink};
use link::pipe::Tunnel;
use link::{
    DialOptions, HostCheck, HostRefused, Lane, LaneKind, LinkChoice, LinkError, Pace, PublicKey,
    Target, TransportOptions, close_code,
};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::tunnel::{self, Ends, left};
use super::turns::Turn;
use super::{GOODBYE, QUEUE, Server, blocking};
use crate::client::{self, Connect, JobOptions, JobReport, Way};
use crate::host::{Host, Refusal, SourceRoot};
use crate::lane_io::{Incoming, Outgoing, queues};
use crate::message::{
    Finished, Go, LinkNews, Opening, Order, Progress, RefuseCode, Report, Stopped, Stretch,
};
use crate::send::{STALL, weigh};
use crate::session::Control;
use crate::source::Walked;
use crate::{TransferError, Violation};

/// How long the orchestrator has, once it has heard what the sources weigh: it dials the target meanwhile.
const GO_WITHIN: Duration = Duration::from_secs(120);
/// How often it is told how far things are.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How long a lane through a pipe may be silent before it counts as over, once all was said.
const FAREWELL: Duration = Duration::from_millis(50);
/// News that may wait to be told. Of failures beyond them only the number is told, with the totals.
const WAITING: usize = 256;

impl Server {
    /// Checks that this peer may have these sources, and that it has not too much sent already.
    pub(super) async fn begin_sending(
        &self,
        lane: &Lane,
        order: &Order,
        paths: Vec<Vec<u8>>,
    ) -> Result<Sending, Refusal> {
        let turn = self.sending.take(lane.peer())?;
        let (host, asking, order) = (self.host.clone(), lane.clone(), order.clone());
        let sources = blocking(move || host.sources(&asking, &paths, &order)).await?;
        Ok(Sending { host: self.host.clone(), sources, _turn: turn })
    }
}

/// What this machine is to send to another one.
pub(super) struct Sending {
    host: Arc<dyn Host>,
    sources: Vec<SourceRoot>,
    _turn: Turn,
}

impl Sending {
    /// Weighs, waits for the word to go, sends, and tells of it. Whatever ends the lane ends the copy.
    pub(super) async fn carry_out(
        self,
        lane: &Lane,
        mut control: Control,
        order: Order,
    ) -> Result<(), TransferError> {
        let accept = Opening::Accept { resumed: false, seen: 0, window: 0, named: false };
        control.0.send(&accept.encode()).await?;
        let (outgoing, mut incoming) = queues(control, QUEUE);
        tokio::select! {
            () = self.weigh(&order, &outgoing) => {}
            error = leaves(&mut incoming, lane) => return Err(error),
        }
        let go = hear_go(&mut incoming, lane).await?;
        let (tunnel, Ends { mut from, mut into }) = match go.choice {
            LinkChoice::Only(LaneKind::Pipe) => {
                let (tunnel, ends) = tunnel::enter().await?;
                (Some(tunnel), ends)
            }
            _ => (None, Ends::closed()),
        };
        let mut leaving = std::pin::pin!(async {
            match &tunnel {
                Some(tunnel) => tokio::select! {
                    error = tunnel::pass_in(&mut incoming, &mut into, lane) => error,
                    end = tunnel.closed() => tunnel::ended(end, lane),
                },
                None => leaves(&mut incoming, lane).await,
            }
        });
        let (news, mut told) = News::new();
        let counters = news.counters.clone();
        let mut sending = std::pin::pin!(self.send(order, &go, tunnel.as_ref(), &news));
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ended = loop {
            // While a peer does not read it is told nothing, and the copy goes on.
            let has_room = outgoing.has_room();
            tokio::select! {
                ended = &mut sending => break ended,
                Some(report) = told.recv(), if has_room => outgoing.send(report.encode()),
                _ = tick.tick(), if has_room => outgoing.send(progress(&counters).encode()),
                Some(bytes) = tunnel::next(&mut from), if has_room => {
                    outgoing.send(Report::Pipe(bytes).encode());
                }
                () = outgoing.room(), if !has_room => {}
                error = &mut leaving => return Err(error),
            }
        };
        let mut last = Vec::new();
        while let Ok(report) = told.try_recv() {
            last.push(report);
        }
        last.push(progress(&counters));
        last.extend(last_words(ended, news.has_been_up()));
        let tell = async {
            // The farewell of the lane to the target goes before the last words.
            while let Ok(Some(bytes)) = timeout(FAREWELL, tunnel::next(&mut from)).await {
                outgoing.room().await;
                outgoing.send(Report::Pipe(bytes).encode());
            }
            for report in last {
                outgoing.room().await;
                outgoing.send(report.encode());
            }
        };
        tokio::select! {
            told = timeout(STALL, tell) => {
                let stalled = |_| stalled(lane);
                told.map_err(stalled)?;
            }
            error = &mut leaving => return Err(error),
        }
        // What waits goes out, and then the stream ends.
        drop(outgoing);
        let _ = timeout(GOODBYE, lane.closed()).await;
        Ok(())
    }

    /// Walks the sources and says what it has found: now and then, and at the end.
    async fn weigh(&self, order: &Order, outgoing: &Outgoing) {
        let mut steps = weigh(self.sources.clone(), order.clone());
        let (mut entries, mut bytes) = (0u64, 0u64);
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                step = steps.recv() => match step {
                    Some(Walked::Leaf(found)) => {
                        entries += 1;
                        if found.attributes.kind == files::Kind::File {
                            bytes = bytes.saturating_add(found.attributes.size);
                        }
                    }
                    Some(Walked::Enter(_)) => entries += 1,
                    // What cannot be read weighs nothing, and is named when it is to be sent.
                    Some(Walked::Finished) | None => break,
                    Some(_) => {}
                },
                _ = tick.tick(), if outgoing.has_room() => {
                    outgoing.send(Report::Weighed { entries, bytes, last: false }.encode());
                }
            }
        }
        outgoing.room().await;
        outgoing.send(Report::Weighed { entries, bytes, last: true }.encode());
    }

    async fn send(
        &self,
        order: Order,
        go: &Go,
        tunnel: Option<&Tunnel>,
        news: &Arc<News>,
    ) -> Result<JobReport, TransferError> {
        let identity = self.host.identity();
        if go.key == identity.public_key() {
            let text = "source and target are the same machine".to_owned();
            return Err(Refusal { code: RefuseCode::Denied, text }.into());
        }
        // A peer may ask for less than what is fair and not for more.
        let (pace, rate) = match go.pace {
            Pace::Fixed(rate) => (Pace::Fair, Some(rate)),
            pace => (pace, None),
        };
        let transport = TransportOptions { pace, ..TransportOptions::default() };
        let carrier = tunnel.map(|tunnel| tunnel.carrier().clone());
        let dial = DialOptions { transport, carrier, ..DialOptions::default() };
        // The target's name is for whoever carries the pipe.
        let (target, choice) = match tunnel.map(Tunnel::address) {
            Some(entry) => (
                Target { host: entry.ip().to_string(), port: entry.port() },
                LinkChoice::Only(LaneKind::Tcp),
            ),
            None => (go.target.clone(), go.choice),
        };
        let check = Only(go.key);
        let connect: Connect = Arc::new(move |way| {
            let (target, identity, dial) = (target.clone(), identity.clone(), dial.clone());
            let choice = match (choice, way) {
                (LinkChoice::Auto, Way::Only(kind)) => LinkChoice::Only(kind),
                (choice, _) => choice,
            };
            Box::pin(async move { link::reach(&target, &identity, &check, &dial, choice).await })
        });
        let options = JobOptions {
            give_up_after: Duration::from_secs(go.patience_s),
            limit_bytes_per_s: go.limit_bytes_per_s.into_iter().chain(rate).min(),
            pace,
            may_move: go.choice == LinkChoice::Auto && pace == Pace::Fair,
            lane_ended: None,
            sink: news.clone().sink(),
            counters: news.counters.clone(),
        };
        let by = client::Granted { grant: go.grant, run: go.run };
        client::put_by(Some(by), connect, self.sources.clone(), order, options).await
    }
}

/// Waits for the end of the orchestrator, who has nothing to say.
async fn leaves(incoming: &mut Incoming, lane: &Lane) -> TransferError {
    match incoming.recv().await {
        Ok(Some(_)) => {
            let violation = Violation("nothing is to be said while a copy is sent");
            TransferError::Violation { peer: lane.peer_name().clone(), violation }
        }
        Ok(None) | Err(_) => left(lane).await,
    }
}

async fn hear_go(incoming: &mut Incoming, lane: &Lane) -> Result<Go, TransferError> {
    let heard = timeout(GO_WITHIN, incoming.recv()).await;
    let silent = || LinkError::TimedOut { peer: lane.peer_name().clone() };
    match heard.map_err(|_| silent())? {
        Ok(Some(frame)) => Go::decode(&frame)
            .map_err(|error| TransferError::Unreadable { peer: lane.peer_name().clone(), error }),
        Ok(None) | Err(_) => Err(left(lane).await),
    }
}

fn stalled(lane: &Lane) -> TransferError {
    TransferError::Stalled { peer: lane.peer_name().clone(), seconds: STALL.as_secs() }
}

fn progress(counters: &Counters) -> Report {
    let now = counters.snapshot();
    Report::Progress(Progress {
        entries: now.entries,
        files_total: now.files_total,
        bytes_total: now.bytes_total,
        walk_finished: now.walk_finished,
        files_done: now.files_done,
        files_skipped: now.files_skipped,
        files_failed: now.files_failed,
        bytes_acknowledged: now.bytes_acknowledged,
        bytes_sent: now.bytes_sent,
        link: now.link,
        bound: now.bound,
    })
}

/// What is said last: the sums and the receipt, or why there are none.
fn last_words(ended: Result<JobReport, TransferError>, has_been_up: bool) -> Vec<Report> {
    match ended {
        Ok(JobReport { totals, bytes_sent, receipt, id, tree, .. }) => {
            let finished = Finished { id, totals, bytes_sent, tree };
            vec![Report::Finished(finished), Report::Proof(receipt.unwrap_or_default())]
        }
        Err(error) => vec![Report::Stopped(stopped(&error, has_been_up))],
    }
}

/// What the orchestrator may know of an error. Of the network of this machine it is told nothing: not whether a
/// name is known or a port is closed, and not which key was shown instead of the one that it named.
fn stopped(error: &TransferError, has_been_up: bool) -> Stopped {
    let link = match has_been_up {
        true => Stopped { at: Stretch::LinkLost, code: RefuseCode::Busy, text: String::new() },
        false => {
            Stopped { at: Stretch::Unreached, code: RefuseCode::NotFound, text: String::new() }
        }
    };
    let target = |code, text: &str| Stopped { at: Stretch::Target, code, text: text.to_owned() };
    let source = |code, text: &str| Stopped { at: Stretch::Source, code, text: text.to_owned() };
    match error {
        TransferError::Link(LinkError::Refused { .. }) => target(
            RefuseCode::UnknownGrant,
            "it does not let the source in, and knows no grant for it",
        ),
        // The target has ended it for good, and says why.
        TransferError::Link(LinkError::Closed { code, reason, .. })
            if has_been_up && *code >= u64::from(close_code::FIRST_FREE) =>
        {
            target(RefuseCode::Cancelled, reason)
        }
        TransferError::Link(_)
        | TransferError::GaveUp { .. }
        | TransferError::Stalled { .. }
        | TransferError::Abandoned { .. } => link,
        TransferError::Refused { code, text, .. } => target(*code, text),
        TransferError::Violation { .. } | TransferError::Unreadable { .. } => {
            target(RefuseCode::Protocol, "it broke the protocol")
        }
        TransferError::BadReceipt { error, .. } => target(RefuseCode::Corrupt, &error.to_string()),
        TransferError::Here(refusal) => source(refusal.code, &refusal.text),
        TransferError::Files(error) => source(RefuseCode::Disk, &crate::words(error)),
        TransferError::Elsewhere { .. }
        | TransferError::Unfit { .. }
        | TransferError::Cancelled => source(RefuseCode::Cancelled, "it was ended"),
    }
}

/// Accepts one key.
#[derive(Clone, Copy)]
struct Only(PublicKey);

impl HostCheck for Only {
    fn check(&self, _host: &str, _port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        if *key == self.0 {
            return Ok(());
        }
        Err(HostRefused::Other { reason: "it is not the machine that was named".to_owned() })
    }
}

/// What there is to tell of a copy that runs.
struct News {
    counters: Arc<Counters>,
    reports: mpsc::Sender<Report>,
    /// The link has stood.
    up: AtomicBool,
    /// The kind of the lane in use.
    kind: Mutex<LaneKind>,
}

impl News {
    fn new() -> (Arc<Self>, mpsc::Receiver<Report>) {
        let (reports, told) = mpsc::channel(WAITING);
        let (up, kind) = Default::default();
        (Arc::new(Self { counters: Counters::new(), reports, up, kind }), told)
    }

    fn has_been_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    fn sink(self: Arc<Self>) -> Sink {
        Sink::new(move |event| {
            if let Some(report) = self.report(event) {
                // Where nobody reads, what does not fit is not told.
                let _ = self.reports.try_send(report);
            }
        })
    }

    /// What is told of an event. Of the link only what it does: texts and addresses would say more of this
    /// network.
    fn report(&self, event: &Event) -> Option<Report> {
        // One store is never half done.
        let mut used = self.kind.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match event {
            Event::FileFailed { path, reason } => {
                let (path, reason) = (path.clone(), reason.clone());
                return Some(Report::FileFailed { path, reason });
            }
            Event::LinkUp { kind, .. } => {
                self.up.store(true, Ordering::Relaxed);
                let kinds = [LaneKind::Quic, LaneKind::Tcp, LaneKind::Pipe];
                *used = kinds.into_iter().find(|known| known.title() == *kind).unwrap_or_default();
                LinkNews::Up
            }
            Event::LinkMoved { .. } => LinkNews::Moved,
            Event::LinkLost { .. } => LinkNews::Lost,
            _ => return None,
        };
        Some(Report::LinkNews(news, *used))
    }
}
