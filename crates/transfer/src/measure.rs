//! What a link carries, without disks: one end sends bytes that mean nothing for some seconds, the other
//! drops them as they come. Either end says what it has seen. Nothing is stored, and what either can make
//! the other keep is what a transfer's parcels take on their way.

mod allowance;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use events::{Bound, BoundKind};
use files::CHUNK;
use link::{Lane, LaneStats, LinkError, ParcelError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::bound::{Cpu, Figures, Link, Meter, Side, Wait};
use crate::cpu::CpuClock;
use crate::message::{MAX_MESSAGE, Measured, Opening};
use crate::send::TICK;
use crate::send::limit::Limit;
use crate::session::{self, Control};
use crate::{TransferError, Violation};

pub(crate) use allowance::Allowances;

/// Parcels under way at once.
const PARCELS: usize = 16;
/// The smallest parcel: a slow link carries some of them in a second.
const LEAST_PARCEL: u64 = 16 << 10;
/// How long beyond the time asked for the last words may take.
const GRACE: Duration = Duration::from_secs(15);
/// How long beyond it filler is taken that was on its way.
const OVERTIME: Duration = Duration::from_secs(2);

/// What both ends have seen of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// What this end has seen.
    pub here: Measured,
    /// What the end that was dialled has seen.
    pub there: Measured,
}

/// Measures one direction on a lane of its own: `up` is from here to the peer. At most
/// [`crate::message::MAX_MEASURE_SECONDS`].
pub async fn measure(lane: &Lane, up: bool, seconds: u64) -> Result<Measurement, TransferError> {
    let (mut control, answer) = session::ask(lane, &Opening::Measure { up, seconds }).await?;
    if !matches!(answer, Opening::Accept { resumed: false, .. }) {
        return Err(session::unexpected(lane, answer));
    }
    let time = Duration::from_secs(seconds);
    if up {
        let here = give(lane, time, None).await?;
        control.0.finish().await?;
        let there = last_word(lane, &mut control, GRACE).await?;
        return Ok(Measurement { here, there });
    }
    let (here, there) = take(lane, time, None, last_word(lane, &mut control, time + GRACE)).await?;
    Ok(Measurement { here, there })
}

/// The daemon's part, after it has accepted: it sends unless `up` is set.
pub(crate) async fn answer(
    lane: &Lane,
    control: &mut Control,
    up: bool,
    seconds: u64,
) -> Result<(), TransferError> {
    let time = Duration::from_secs(seconds);
    let rate = lane.permissions().and_then(|allowed| allowed.max_rate_bytes_per_s);
    let seen = match up {
        true => take(lane, time, rate, end_of(lane, control, time + GRACE)).await?.0,
        false => give(lane, time, rate).await?,
    };
    let seen = Measured { limit: rate.unwrap_or(0), ..seen };
    control.0.send(&Opening::Measured(seen).encode()).await?;
    Ok(())
}

async fn last_word(
    lane: &Lane,
    control: &mut Control,
    patience: Duration,
) -> Result<Measured, TransferError> {
    match session::read(lane, &mut control.1, patience).await? {
        Opening::Measured(measured) => Ok(measured),
        other => Err(session::unexpected(lane, other)),
    }
}

/// Waits until the dialler has ended its half of the control stream.
async fn end_of(
    lane: &Lane,
    control: &mut Control,
    patience: Duration,
) -> Result<(), TransferError> {
    let late = |_| LinkError::TimedOut { peer: lane.peer_name().clone() };
    match timeout(patience, control.1.recv(MAX_MESSAGE)).await.map_err(late)?? {
        None => Ok(()),
        Some(_) => Err(violation(lane, "a message in the middle of a measurement")),
    }
}

fn violation(lane: &Lane, rule: &'static str) -> TransferError {
    TransferError::Violation { peer: lane.peer_name().clone(), violation: Violation(rule) }
}

/// Sends for so long, no faster than `rate`.
async fn give(lane: &Lane, time: Duration, rate: Option<u64>) -> Result<Measured, TransferError> {
    let limit = rate.map(|rate| Arc::new(Limit::new(rate)));
    let filler = filler();
    let mut log = Log::new(Side::Source, lane);
    let mut sending: JoinSet<Result<u64, LinkError>> = JoinSet::new();
    let (mut carried, mut order) = (0, 0);
    let mut closed = std::pin::pin!(lane.closed());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while log.elapsed() < time {
        while sending.len() < PARCELS {
            // About a twentieth of a second each, so that slow links finish some as well.
            let per_second = carried as f64 / log.elapsed().as_secs_f64().max(0.1);
            let len = ((per_second / 20.0) as u64).clamp(LEAST_PARCEL, CHUNK);
            let (lane, body, limit) = (lane.clone(), filler.slice(..len as usize), limit.clone());
            sending.spawn(async move {
                if let Some(limit) = limit {
                    limit.take(len).await;
                }
                lane.send_parcel(Bytes::new(), body, order).await.map(|()| len)
            });
            order += 1;
        }
        tokio::select! {
            Some(sent) = sending.join_next() => match sent {
                Ok(Ok(len)) => carried += len,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {}
            },
            error = &mut closed => return Err(error.into()),
            _ = tick.tick() => {
                let held = limit.as_ref().is_some_and(|limit| limit.holds_back());
                log.tick(lane, carried, if held { Wait::Limit } else { Wait::Link }, rate);
            }
        }
    }
    log.tick(lane, carried, Wait::Link, rate);
    Ok(log.measured(lane))
}

/// How many parcels are read at once: no more than the rate carries in a second, but always one, since
/// each is read before its turn is waited for.
fn parcels_at(rate: Option<u64>) -> usize {
    rate.map_or(PARCELS, |rate| (rate / CHUNK).clamp(1, PARCELS as u64) as usize)
}

/// Takes what comes for so long, no faster than `rate`, and then waits until `done` is ready.
async fn take<T>(
    lane: &Lane,
    time: Duration,
    rate: Option<u64>,
    done: impl Future<Output = Result<T, TransferError>>,
) -> Result<(Measured, T), TransferError> {
    let limit = rate.map(|rate| Arc::new(Limit::new(rate)));
    let mut log = Log::new(Side::Target, lane);
    let mut taking: JoinSet<Result<u64, ParcelError>> = JoinSet::new();
    let (mut carried, parcels) = (0, parcels_at(rate));
    let mut done = std::pin::pin!(done);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let is_over = log.elapsed() >= time + OVERTIME;
        if is_over {
            // Whoever still sends is not read from: that is what nobody has asked for.
            taking.abort_all();
        }
        tokio::select! {
            end = &mut done => {
                let end = end?;
                log.tick(lane, carried, Wait::Source, rate);
                return Ok((log.measured(lane), end));
            }
            parcel = lane.accept_parcel(), if taking.len() < parcels && !is_over => {
                let (parcel, limit) = (parcel?, limit.clone());
                taking.spawn(async move {
                    let (_, body) = parcel.read(0, CHUNK as usize).await?;
                    let len = body.len() as u64;
                    drop(body);
                    if let Some(limit) = limit {
                        limit.take(len).await;
                    }
                    Ok(len)
                });
            }
            Some(taken) = taking.join_next(), if !taking.is_empty() => match taken {
                Ok(Ok(len)) => carried += len,
                // The time was over in the middle of it.
                Ok(Err(ParcelError::Abandoned { .. })) | Err(_) => {}
                Ok(Err(ParcelError::Link(error))) => return Err(error.into()),
                Ok(Err(_)) => return Err(violation(lane, "a parcel of wrong lengths")),
            },
            _ = tick.tick() => {
                let held = limit.as_ref().is_some_and(|limit| limit.holds_back());
                log.tick(lane, carried, if held { Wait::Limit } else { Wait::Source }, rate);
            }
        }
    }
}

/// Bytes that no link can make smaller.
fn filler() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(CHUNK as usize);
    while bytes.len() < CHUNK as usize {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// One look at a measurement that runs.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    carried: u64,
    cpu: Cpu,
    rtt: Duration,
}

/// What is noted while a measurement runs: a look in each tick, so their number is bounded by its time.
struct Log {
    began: Instant,
    first: LaneStats,
    meter: Meter,
    clock: CpuClock,
    looks: Vec<Look>,
    bound: Bound,
}

impl Log {
    fn new(side: Side, lane: &Lane) -> Self {
        Self {
            began: Instant::now(),
            first: lane.stats(),
            meter: Meter::new(side, Duration::ZERO),
            clock: CpuClock::new(),
            looks: Vec::new(),
            bound: Bound::default(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn tick(&mut self, lane: &Lane, carried: u64, wait: Wait, rate: Option<u64>) {
        let (at, stats, cpu) = (self.elapsed(), lane.stats(), self.clock.read());
        self.meter.waits(at, wait);
        let limit = rate.unwrap_or(0);
        let link = Link::from(&stats);
        let figures = Figures { carried, limit, cpu, link, ..Figures::default() };
        let bound = self.meter.tick(at, figures);
        if bound.kind != BoundKind::Unknown {
            self.bound = bound;
        }
        self.looks.push(Look { at, carried, cpu, rtt: stats.rtt });
    }

    /// The second half of the time in which something moved: by then a link runs as it can.
    fn measured(&self, lane: &Lane) -> Measured {
        let (Some(first), Some(last)) = (self.looks.first(), self.looks.last()) else {
            return Measured::default();
        };
        let end = self.looks.iter().find(|look| look.carried == last.carried).unwrap_or(last);
        let half = first.at + end.at.saturating_sub(first.at) / 2;
        let from = self.looks.iter().rfind(|look| look.at <= half).unwrap_or(first);
        let time = end.at.saturating_sub(from.at);
        let steady: Vec<&Look> =
            self.looks.iter().filter(|look| from.at < look.at && look.at <= end.at).collect();
        let rtt: Duration = steady.iter().map(|look| look.rtt).sum();
        let used = end.cpu.process.saturating_sub(from.cpu.process).as_secs_f64();
        let now = lane.stats();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Measured {
            bytes: end.carried - from.carried,
            micros: micros(time),
            cpu: (used / time.as_secs_f64().max(1e-6) * 1000.0) as u64,
            cores: end.cpu.cores.into(),
            rtt_micros: micros(rtt / u32::try_from(steady.len()).unwrap_or(u32::MAX).max(1)),
            idle_rtt_micros: micros(now.min_rtt),
            sent_packets: now.sent_packets.saturating_sub(self.first.sent_packets),
            lost_packets: now.lost_packets.saturating_sub(self.first.lost_packets),
            bound: self.bound,
            limit: 0,
            clock: crate::receive::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_ahead_of_its_turn_is_at_most_a_second() {
        assert_eq!(parcels_at(None), PARCELS);
        for rate in [1, 100_000, 1 << 20, 5_000_000, 1 << 40] {
            let ahead = parcels_at(Some(rate)) as u64 * CHUNK;
            assert!(ahead <= rate.max(CHUNK), "{ahead} bytes at {rate}");
        }
        assert_eq!(parcels_at(Some(1 << 40)), PARCELS);
    }
}
