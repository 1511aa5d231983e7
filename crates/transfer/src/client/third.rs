//! A copy between two other machines, as the one sees it that has it done: it asks the source what there is,
//! asks the target for a grant, tells the source to go, and hears how it goes. It believes the source nothing about
//! the target: what proves the copy is the receipt that the target has signed, by a key that was seen here.

use std::net::SocketAddr;
use std::time::Duration;

use events::Event;
use link::{
    ControlReceiver, ControlSender, Lane, LaneKind, LinkChoice, LinkError, PublicKey, Target,
};
use tokio::time::{Instant, timeout};

use super::drive::{Connect, Job, Way, drive};
use super::{JobOptions, JobReport, check_fits, hex};
use crate::chance::chance;
use crate::host::Refusal;
use crate::lane_io::why_ended;
use crate::message::{
    Finished, Go, Granted, LinkNews, MAX_MESSAGE, MAX_PATIENCE_SECONDS, Opening, Order, Progress,
    RefuseCode, Report, Stopped, Stretch, capped,
};
use crate::receipt::{Receipt, ReceiptError};
use crate::send::STALL;
use crate::session::Control;
use crate::{TransferError, Violation, session};

/// How long a grant is asked for.
const GRANT_SECONDS: u64 = 3600;
/// What a grant allows beyond what was found, for files grow: an eighth, and this.
const SLACK: u64 = 16 << 20;
/// How often a target that knows no grant is asked for another while nothing gets better.
const MOST_GRANTS: u32 = 3;

/// The two machines.
#[derive(Clone)]
pub struct Between {
    /// Connects to the source.
    pub source: Connect,
    /// Connects to the target.
    pub target: Connect,
    /// Where the source finds the target.
    pub at: Target,
    /// Which kinds of lane the source may use; a pipe goes through here.
    pub choice: LinkChoice,
}

/// Has `paths` of the source copied to the target, which the order names.
pub async fn third(
    between: Between,
    paths: Vec<Vec<u8>>,
    order: Order,
    options: JobOptions,
) -> Result<JobReport, TransferError> {
    let connect = between.source.clone();
    let third = Third {
        between,
        paths,
        order,
        options: options.clone(),
        tried: false,
        reached: 0,
        granted: (0, 0),
        sent_before: 0,
        sent: 0,
    };
    // Which kind of lane is used to talk with the source does not matter.
    let driven = JobOptions { may_move: false, ..options };
    drive(connect, &driven, third).await
}

struct Third {
    between: Between,
    paths: Vec<Vec<u8>>,
    order: Order,
    options: JobOptions,
    tried: bool,
    /// The most that was ever acknowledged: what is only found again is no progress.
    reached: u64,
    /// How many grants turned out to be unknown since then, and how far things were.
    granted: (u32, u64),
    /// Payload that earlier tries have sent, and this one.
    sent_before: u64,
    sent: u64,
}

/// The target, as it was found here.
struct Found {
    key: PublicKey,
    address: SocketAddr,
    granted: Granted,
}

impl Job for Third {
    /// Another lane is another conversation, and the source begins anew: only when this one is lost.
    const MOVES: bool = false;

    async fn attempt(&mut self, lane: &Lane) -> Result<JobReport, TransferError> {
        if std::mem::replace(&mut self.tried, true) {
            self.options.begin_anew();
        }
        self.sent_before = self.sent_before.saturating_add(std::mem::take(&mut self.sent));
        let (order, sources) = (self.order.clone(), self.paths.clone());
        let request = Opening::Send { order: order.clone(), sources };
        check_fits(&request)?;
        let ((mut to_source, reports), answer) = session::ask(lane, &request).await?;
        let Opening::Accept { .. } = answer else {
            return Err(session::unexpected(lane, answer));
        };
        let mut source = Source { lane, reports };
        let bytes = source.weigh(&self.options).await?;
        let found = self.grant(lane, bytes, &order).await?;
        // By now the target has, or has not, what its path names; another try must mean the same.
        self.order.named |= found.granted.named;
        let run = chance().map_err(|error| {
            let text = format!("the system has no randomness to give: {error}");
            Refusal { code: RefuseCode::Busy, text }
        })?;
        if !self.is_through_here() {
            to_source.send(&self.go(&found, run).encode()).await?;
            let finished = self.follow(&mut source, &found, None).await?;
            return self.conclude(&mut source, &found, run, finished).await;
        }
        let (target, (to_target, from_target)) = self.tunnel().await?;
        to_source.send(&self.go(&found, run).encode()).await?;
        let (mut forth, mut back) = (
            Carrying { lane: target.clone(), to: to_target },
            Carrying { lane: lane.clone(), to: to_source },
        );
        // Neither direction waits for the other.
        let finished = tokio::select! {
            finished = self.follow(&mut source, &found, Some(&mut forth)) => finished?,
            error = carry_back(&target, from_target, &mut back) => return Err(error),
        };
        let concluded = self.conclude(&mut source, &found, run, finished).await;
        target.close(link::close_code::DONE, "done");
        concluded
    }

    fn lane_taken(&mut self) {}

    fn progress(&self) -> u64 {
        self.reached
    }

    fn begin_anew(&mut self) {}
}

impl Third {
    /// Whether the two cannot reach each other, and what goes between them goes through here.
    fn is_through_here(&self) -> bool {
        self.between.choice == LinkChoice::Only(LaneKind::Pipe)
    }

    /// Asks the target to let the source write.
    async fn grant(
        &self,
        source: &Lane,
        bytes: u64,
        order: &Order,
    ) -> Result<Found, TransferError> {
        let bytes = bytes.saturating_add(bytes / 8).saturating_add(SLACK);
        let (to, order) = (*source.peer(), order.clone());
        let request = Opening::Grant { to, bytes, seconds: GRANT_SECONDS, order };
        check_fits(&request)?;
        let (lane, _control, answer) = self.ask_target(&request).await?;
        let Opening::Granted(granted) = answer else {
            return Err(session::unexpected(&lane, answer));
        };
        let (key, address) = (*lane.peer(), lane.remote_address());
        lane.close(link::close_code::DONE, "done");
        Ok(Found { key, address, granted })
    }

    /// Has the target take what the source has for it.
    async fn tunnel(&self) -> Result<(Lane, Control), TransferError> {
        let (lane, control, answer) = self.ask_target(&Opening::Tunnel).await?;
        match answer {
            Opening::Accept { .. } => Ok((lane, control)),
            answer => Err(session::unexpected(&lane, answer)),
        }
    }

    /// Asks the target one thing. A lane that was dialled early may be gone by now.
    async fn ask_target(
        &self,
        request: &Opening,
    ) -> Result<(Lane, Control, Opening), TransferError> {
        let mut again = true;
        loop {
            let lane = (self.between.target)(Way::Any).await?;
            match session::ask(&lane, request).await {
                Ok((control, answer)) => return Ok((lane, control, answer)),
                Err(TransferError::Link(error)) if again && error.fault().is_transient() => {
                    again = false;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn go(&self, found: &Found, run: [u8; 8]) -> Go {
        let patience = self.options.give_up_after.as_secs().min(MAX_PATIENCE_SECONDS);
        Go {
            grant: found.granted.grant,
            run,
            key: found.key,
            target: self.between.at.clone(),
            choice: self.between.choice,
            pace: self.options.pace,
            limit_bytes_per_s: self.options.limit_bytes_per_s,
            patience_s: patience,
        }
    }

    /// Hears how it goes, to its end, and carries forth what goes through here.
    async fn follow(
        &mut self,
        source: &mut Source<'_>,
        found: &Found,
        mut forth: Option<&mut Carrying>,
    ) -> Result<Finished, TransferError> {
        let sink = self.options.sink.clone();
        let mut told = Instant::now();
        loop {
            match source.report().await? {
                Report::Progress(progress) => {
                    let since = told.elapsed();
                    told = Instant::now();
                    self.show(&progress, since);
                }
                Report::FileFailed { path, reason } => {
                    sink.emit(&Event::FileFailed { path, reason });
                }
                Report::LinkNews(news, kind) => sink.emit(&match news {
                    LinkNews::Up => Event::LinkUp {
                        peer: found.key.fingerprint(),
                        address: found.address,
                        kind: kind.title(),
                    },
                    LinkNews::Moved => {
                        let reason = "another kind may do better between the two".to_owned();
                        Event::LinkMoved { reason }
                    }
                    LinkNews::Lost => {
                        let target = &self.between.at;
                        let source = source.lane.peer_name();
                        Event::LinkLost { reason: format!("between {source} and {target}") }
                    }
                }),
                Report::Finished(finished) => return Ok(finished),
                Report::Stopped(stopped) => return Err(self.stopped(source.lane, stopped)),
                Report::Pipe(bytes) => match &mut forth {
                    Some(forth) => forth.carry(&bytes).await?,
                    None => return Err(source.violation("bytes of a pipe that there is not")),
                },
                Report::Weighed { .. } | Report::Proof(_) => {
                    return Err(source.violation("a report out of its turn"));
                }
            }
        }
    }

    fn show(&mut self, progress: &Progress, since: Duration) {
        let counters = &self.options.counters;
        for (count, now) in [
            (&counters.entries, progress.entries),
            (&counters.files_total, progress.files_total),
            (&counters.bytes_total, progress.bytes_total),
            (&counters.files_done, progress.files_done),
            (&counters.files_skipped, progress.files_skipped),
            (&counters.files_failed, progress.files_failed),
            (&counters.bytes_acknowledged, progress.bytes_acknowledged.min(progress.bytes_total)),
            (&counters.bytes_sent, self.sent_before.saturating_add(progress.bytes_sent)),
            (&counters.link.rtt_micros, progress.link.rtt.as_micros() as u64),
            (&counters.link.packets_sent, progress.link.packets_sent),
            (&counters.link.packets_lost, progress.link.packets_lost),
            (&counters.link.connections, progress.link.connections),
            (&counters.link.is_tcp, progress.link.is_tcp.into()),
            (&counters.link.is_pipe, progress.link.is_pipe.into()),
        ] {
            count.set(now);
        }
        if progress.walk_finished {
            counters.finish_walk();
        }
        if counters.bound.now() != progress.bound {
            self.options.sink.emit(&Event::Bounded { bound: progress.bound });
        }
        counters.bound.note(progress.bound, since);
        self.sent = progress.bytes_sent;
        let achieved = progress.bytes_acknowledged.saturating_add(progress.files_done);
        self.reached = self.reached.max(achieved);
    }

    /// The error that ends this try, and maybe the job.
    fn stopped(&mut self, source: &Lane, mut stopped: Stopped) -> TransferError {
        if stopped.at == Stretch::Target && stopped.code == RefuseCode::UnknownGrant {
            let (times, at) = &mut self.granted;
            *times = if *at < self.reached { 1 } else { *times + 1 };
            *at = self.reached;
            if *times > MOST_GRANTS {
                stopped.code = RefuseCode::Denied;
            }
        }
        if stopped.at == Stretch::Unreached && self.is_through_here() {
            // It was reached from here, and the way from here was lost.
            (stopped.at, stopped.code) = (Stretch::LinkLost, RefuseCode::Busy);
        }
        let (source_host, target_host) = (source.peer_name().clone(), self.between.at.to_string());
        TransferError::Elsewhere { source_host, target_host, stopped }
    }

    /// Takes the receipt and holds it against all that is known here.
    async fn conclude(
        &self,
        source: &mut Source<'_>,
        found: &Found,
        run: [u8; 8],
        finished: Finished,
    ) -> Result<JobReport, TransferError> {
        let Report::Proof(receipt) = source.report().await? else {
            return Err(source.violation("a report out of its turn"));
        };
        let Finished { id, totals, bytes_sent, tree } = finished;
        let receipt = (!self.order.dry_run).then_some(receipt);
        if let Some(receipt) = &receipt {
            let shown = found.granted.shown.as_str();
            let expected =
                Expected { source: *source.lane.peer(), target: found.key, run, finished, shown };
            expected.check(receipt, self.order.durable).map_err(|error| {
                TransferError::BadReceipt { peer: source.lane.peer_name().clone(), error }
            })?;
        }
        let bytes_sent = self.sent_before.saturating_add(bytes_sent);
        Ok(JobReport { totals, bytes_sent, receipt, id, tree, named: found.granted.named })
    }
}

/// What a receipt must say.
struct Expected<'a> {
    /// Where the target has said that the copy lands.
    shown: &'a str,
    source: PublicKey,
    target: PublicKey,
    run: [u8; 8],
    finished: Finished,
}

impl Expected<'_> {
    fn check(&self, receipt: &[u8], durable: bool) -> Result<(), ReceiptError> {
        let statement = Receipt::verify(receipt)?.statement;
        let Finished { id, totals, tree, .. } = &self.finished;
        for (holds, what) in [
            (statement.target == self.target, "signer"),
            (statement.source == self.source, "source"),
            (capped(&statement.path) == self.shown, "path"),
            (statement.transfer == hex(id) && id.ends_with(&self.run), "transfer"),
            (statement.tree.content == tree.content, "tree digest"),
            (statement.durable == durable, "durability"),
            (statement.totals.failed <= totals.failed, "count of failures"),
        ] {
            if !holds {
                return Err(ReceiptError::Mismatch(what));
            }
        }
        Ok(())
    }
}

/// One direction of a pipe that goes through here.
struct Carrying {
    lane: Lane,
    to: ControlSender,
}

impl Carrying {
    /// Passes bytes on; it waits while the peer does not take them, and not for ever.
    async fn carry(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        let taken = timeout(STALL, self.to.send(bytes)).await;
        let peer = || self.lane.peer_name().clone();
        let stalled = |_| TransferError::Stalled { peer: peer(), seconds: STALL.as_secs() };
        Ok(taken.map_err(stalled)??)
    }
}

/// Carries what the target says in a pipe to the source, until one of the two is gone.
async fn carry_back(
    target: &Lane,
    mut from: ControlReceiver,
    back: &mut Carrying,
) -> TransferError {
    loop {
        let bytes = match from.recv(MAX_MESSAGE).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(_) => return why_ended(target).await.into(),
        };
        if let Err(error) = back.carry(&bytes).await {
            return error;
        }
    }
}

/// The source, on the lane on which it was asked.
struct Source<'a> {
    lane: &'a Lane,
    reports: ControlReceiver,
}

impl Source<'_> {
    /// The next report; a source that works says something every second.
    async fn report(&mut self) -> Result<Report, TransferError> {
        let peer = || self.lane.peer_name().clone();
        let frame = timeout(STALL, self.reports.recv(MAX_MESSAGE)).await;
        let stalled = |_| TransferError::Stalled { peer: peer(), seconds: STALL.as_secs() };
        let frame = frame.map_err(stalled)??;
        let frame = frame.ok_or_else(|| LinkError::CutShort { peer: peer() })?;
        Report::decode(&frame).map_err(|error| TransferError::Unreadable { peer: peer(), error })
    }

    /// How many bytes there are to be sent.
    async fn weigh(&mut self, options: &JobOptions) -> Result<u64, TransferError> {
        let (mut before, counters) = ((0, 0), &options.counters);
        loop {
            let (entries, bytes, last) = match self.report().await? {
                Report::Weighed { entries, bytes, last } => (entries, bytes, last),
                _ => return Err(self.violation("a report out of its turn")),
            };
            if entries < before.0 || bytes < before.1 {
                return Err(self.violation("what was weighed has become less"));
            }
            before = (entries, bytes);
            counters.entries.set(entries);
            counters.bytes_total.set(bytes);
            if last {
                return Ok(bytes);
            }
        }
    }

    fn violation(&self, rule: &'static str) -> TransferError {
        let violation = Violation(rule);
        TransferError::Violation { peer: self.lane.peer_name().clone(), violation }
    }
}
