//! Runs a job over as many lanes as it takes: the first that can be had, another when it fails, and
//! another before that when it falls silent or would do better over another kind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use events::{Counters, Event, Sink};
use link::{Backoff, BackoffOptions, Lane, LaneKind, LinkError, Outcome, Step, close_code};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::mover::{Mover, Second};
use super::silence::Silence;
use super::{JobOptions, JobReport, chain, random};
use crate::TransferError;
use crate::message::RefuseCode;

/// What kind of lane is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Whichever gets through and suits the path.
    Any,
    /// This one.
    Only(LaneKind),
}

/// A lane that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Lane, LinkError>> + Send>>;
/// Makes a connection to the peer; called again after each cut, and whenever another lane may do better.
pub type Connect = Arc<dyn Fn(Way) -> Connecting + Send + Sync>;

/// How often a lane's counts are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often the kind of lane is judged.
const JUDGE: Duration = Duration::from_secs(1);
/// How many times longer than usual a silence may have to be. The idle timeout ends a dead lane anyway.
const MOST_PATIENCE: u32 = 16;
/// How long a trial of another kind may take to connect.
const TRIAL: Duration = Duration::from_secs(5);

/// One kind of job.
pub(super) trait Job {
    /// Whether the job goes on where it was over a lane that replaces one which only seems silent.
    const MOVES: bool = true;
    /// Runs on a lane until the job is over or the lane fails.
    async fn attempt(&mut self, lane: &Lane) -> Result<JobReport, TransferError>;
    /// The peer was reached just before, by a job that this one follows: what keeps it away now is a cut.
    fn was_reached(&self) -> bool {
        false
    }
    /// The lane was taken away in the middle of an attempt.
    fn lane_taken(&mut self);
    /// Rises whenever something was achieved.
    fn progress(&self) -> u64;
    /// The other end has forgotten the transfer: begin anew. What was published or staged is kept.
    fn begin_anew(&mut self);
}

/// How an attempt ended.
enum Ended {
    Itself(Box<Result<JobReport, TransferError>>),
    /// Another lane is there, which is to be used, for this reason.
    Replaced(Lane, Why),
}

/// Runs a job over as many lanes as it takes.
pub(super) async fn drive<J: Job>(
    connect: Connect,
    options: &JobOptions,
    mut job: J,
) -> Result<JobReport, TransferError> {
    let start = Instant::now();
    let mut backoff = Backoff::new(BackoffOptions {
        give_up_after: options.give_up_after,
        ..BackoffOptions::default()
    });
    let mut mover = options.may_move.then(Mover::default);
    let mut connected_once = job.was_reached();
    let mut ready = None;
    let mut patience = 1;
    // The last thing that happened was that the other end did not know the transfer.
    let mut anew = false;
    loop {
        let before = job.progress();
        let connected = match ready.take() {
            Some(lane) => Ok(lane),
            None => connect(Way::Any).await,
        };
        let error = match connected {
            Ok(lane) => {
                connected_once = true;
                tell_up(&options.sink, &lane);
                let ended = tokio::select! {
                    result = job.attempt(&lane) => Ended::Itself(Box::new(result)),
                    (fresh, why) =
                        replacement(&lane, &connect, &mut mover, &options.counters, patience),
                        if J::MOVES =>
                    {
                        Ended::Replaced(fresh, why)
                    }
                };
                if let Some(lane_ended) = &options.lane_ended {
                    lane_ended(&lane);
                }
                match ended {
                    Ended::Replaced(fresh, why) => {
                        job.lane_taken();
                        // Leaving a lane that only seemed silent must not become a habit.
                        patience = match why {
                            Why::Silence if job.progress() == before => {
                                (patience * 2).min(MOST_PATIENCE)
                            }
                            _ => 1,
                        };
                        let reason = words(why, &lane);
                        options.sink.emit(&Event::LinkMoved { reason });
                        lane.close(
                            close_code::GOING_AWAY,
                            "the transfer goes on over another lane",
                        );
                        ready = Some(fresh);
                        continue;
                    }
                    Ended::Itself(result) => {
                        close(&lane, &result).await;
                        match *result {
                            Err(error) => error,
                            done => return done,
                        }
                    }
                }
            }
            Err(error) => TransferError::Link(error),
        };
        let achieved = job.progress() > before;
        if let TransferError::Refused { code: RefuseCode::UnknownTransfer, .. } = &error {
            options.sink.emit(&Event::Warning {
                text: "the other end does not know the transfer any more: going through the files again".to_owned(),
            });
            job.begin_anew();
            // Who says so again and again without anything achieved is waited for like any other fault.
            if !std::mem::replace(&mut anew, true) {
                continue;
            }
        } else if achieved {
            anew = false;
        }
        let fault = link_fault(error.fault());
        // A first connection that fails is most likely a wrong address or a daemon that is not
        // running: somebody waits at a terminal, so it is told after a few tries.
        let patient = connected_once || start.elapsed() < Duration::from_secs(3);
        let outcome =
            if achieved { Outcome::LostAfterProgress(fault) } else { Outcome::Failed(fault) };
        let step =
            if patient { backoff.next(start.elapsed(), outcome, random()) } else { Step::GiveUp };
        let Step::Wait(after) = step else {
            return Err(given_up(error, connected_once, start.elapsed()));
        };
        if connected_once {
            options.sink.emit(&Event::LinkLost { reason: chain(&error) });
            options.sink.emit(&Event::LinkRetry { after });
        }
        sleep(after).await;
    }
}

/// A lane that is being made beside the one in use.
struct Another {
    connecting: Connecting,
    began: Instant,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The one in use is silent.
    Silence,
    /// This kind may do better.
    Trial(LaneKind),
}

impl Another {
    /// Begins to make a lane; it counts when the peer has let us in.
    fn begin(connect: &Connect, why: Why) -> Self {
        let connecting = connect(match why {
            Why::Silence => Way::Any,
            Why::Trial(kind) => Way::Only(kind),
        });
        let welcomed = async move {
            let lane = connecting.await?;
            lane.welcomed().await?;
            Ok(lane)
        };
        Self { connecting: Box::pin(welcomed), began: Instant::now(), why }
    }
}

/// Waits until another lane is there that is to be used instead of this one, and why.
async fn replacement(
    lane: &Lane,
    connect: &Connect,
    mover: &mut Option<Mover>,
    counters: &Counters,
    patience: u32,
) -> (Lane, Why) {
    let began = Instant::now();
    let mut silence = Silence::new(patience);
    let mut judged = Judged::now(lane, counters);
    let mut another: Option<Another> = None;
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some((dialled, why)) = answer(&mut another), if another.is_some() => {
                another = None;
                match (dialled, why, &mut *mover) {
                    (Ok(fresh), Why::Trial(_), Some(mover)) => {
                        mover.moved();
                        return (fresh, why);
                    }
                    (Ok(fresh), Why::Silence, mover) => {
                        mover.as_mut().map(Mover::settle);
                        return (fresh, why);
                    }
                    (Err(_), Why::Trial(_), Some(mover)) => mover.settle(),
                    _ => {}
                }
                continue;
            }
        }
        let stats = lane.stats();
        // What is said through a pipe may wait behind what is sent there, and whoever made the pipe watches it.
        let is_silent = stats.kind != LaneKind::Pipe
            && silence.look(began.elapsed(), stats.sent_bytes, stats.heard, stats.rtt);
        match another.as_ref().map(|another| (another.why, another.began)) {
            Some((Why::Silence, _)) if is_silent => {}
            _ if is_silent => another = Some(Another::begin(connect, Why::Silence)),
            // It speaks again.
            Some((Why::Silence, _)) => another = None,
            Some((Why::Trial(_), since)) if since.elapsed() > TRIAL => {
                another = None;
                mover.as_mut().map(Mover::settle);
            }
            _ => {}
        }
        if judged.at.elapsed() < JUDGE || another.is_some() {
            continue;
        }
        let second = judged.second(lane, counters);
        if let Some(kind) = mover.as_mut().and_then(|mover| mover.second(second)) {
            another = Some(Another::begin(connect, Why::Trial(kind)));
        }
    }
}

/// The outcome of a lane that is being made. Never, if there is none.
async fn answer(another: &mut Option<Another>) -> Option<(Result<Lane, LinkError>, Why)> {
    match another {
        Some(another) => Some(((&mut another.connecting).await, another.why)),
        None => None,
    }
}

/// The counts at the beginning of a second.
struct Judged {
    at: Instant,
    sent: u64,
    lost: u64,
    arrived: u64,
}

impl Judged {
    fn now(lane: &Lane, counters: &Counters) -> Self {
        let stats = lane.stats();
        let (sent, lost) = (stats.sent_packets, stats.lost_packets);
        Self { at: Instant::now(), sent, lost, arrived: counters.bytes_acknowledged.get() }
    }

    /// What has happened since, and begins the next.
    fn second(&mut self, lane: &Lane, counters: &Counters) -> Second {
        let before = std::mem::replace(self, Self::now(lane, counters));
        let sent = self.sent.saturating_sub(before.sent).max(1);
        let lost = self.lost.saturating_sub(before.lost);
        let arrived = self.arrived.saturating_sub(before.arrived);
        Second {
            kind: lane.kind(),
            rtt: lane.stats().min_rtt,
            loss: lost as f64 / sent as f64,
            goodput: arrived as f64 / self.at.duration_since(before.at).as_secs_f64(),
            left: counters.snapshot().bytes_left(),
        }
    }
}

/// Why a lane was left, for the user.
fn words(why: Why, left: &Lane) -> String {
    match why {
        Why::Silence => format!("{} is silent over {}", left.peer_name(), left.kind().title()),
        Why::Trial(kind) => format!("{} may do better than {}", kind.title(), left.kind().title()),
    }
}

/// A transient error at the end means that patience ran out, which is not the same as a refusal.
fn given_up(error: TransferError, connected_once: bool, after: Duration) -> TransferError {
    match error {
        TransferError::Link(last) if connected_once && last.fault() == link::Fault::Transient => {
            TransferError::GaveUp { seconds: after.as_secs(), last }
        }
        error => error,
    }
}

fn link_fault(fault: files::Fault) -> link::Fault {
    match fault {
        files::Fault::Transient => link::Fault::Transient,
        files::Fault::Permanent => link::Fault::Permanent,
        files::Fault::Corrupt => link::Fault::Corrupt,
        files::Fault::Denied => link::Fault::Denied,
    }
}

fn tell_up(sink: &Sink, lane: &Lane) {
    sink.emit(&Event::LinkUp {
        peer: lane.peer().fingerprint(),
        address: lane.remote_address(),
        kind: lane.kind().title(),
    });
    for warning in lane.warnings() {
        sink.emit(&Event::Warning { text: warning.to_string() });
    }
}

async fn close(lane: &Lane, result: &Result<JobReport, TransferError>) {
    match result {
        Err(error) if error.fault() == files::Fault::Corrupt => {
            lane.close(close_code::PROTOCOL, &chain(error));
        }
        // The transfer is to go on over another lane: the other end must not take it for finished.
        Err(_) => lane.close(close_code::GOING_AWAY, "the transfer will go on"),
        Ok(_) => lane.close(close_code::DONE, "done"),
    }
    // The last word need not arrive when all is done: the other end has what it waits for. But it is
    // to leave, and that takes a moment.
    let patience = if result.is_ok() { 10 } else { 500 };
    lane.drained(Duration::from_millis(patience)).await;
}
