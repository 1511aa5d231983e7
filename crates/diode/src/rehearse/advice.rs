//! Which rate, repair and outage suit a link, after what a rehearsal has shown of it. A block's symbols are spread evenly
//! over its span, so of each stretch of that length the block loses the same share as the link does.

use std::time::Duration;

use super::StepReport;
use crate::block::{BLOCK, Layout};
use crate::frame::{HEADER, TAG};
use crate::receive::{USUAL_MEMORY, put_together};
use crate::span::{FOR_OUTAGE, span};
use crate::symbol::SYMBOL_HEAD;

/// What a sender does unless told otherwise. Less is not advised after a rehearsal of minutes, in which little happens.
const USUAL_REPAIR: u32 = 15;
const USUAL_OUTAGE: Duration = Duration::from_millis(50);

/// Outages that are advised, in milliseconds.
const OUTAGES: [u64; 11] = [50, 100, 150, 200, 300, 500, 1000, 1500, 2000, 3000, 5000];

/// An outage is provided for that is so much longer than the longest that was seen.
const LONGER: f64 = 1.5;

/// A sender that comes to less of a rate has not tried it: at low rates it is late by a little each time that it sleeps.
const LEAST_REACHED: f64 = 0.8;

/// One that comes to less than this has tried what it came to.
const NEARLY_REACHED: f64 = 0.97;

/// Of a thousand packets so many may be dropped by the machine that listens.
const MOST_HERE: u64 = 1;

/// A rate loses more because it is higher if it loses so many times as much as a lower one, and so much more.
const MORE_TIMES: f64 = 2.0;
const MORE: f64 = 0.005;

/// Losses one by one vary by chance: so many standard deviations are provided for, and so many symbols.
const DEVIATIONS: f64 = 6.0;
const SPARE: f64 = 3.0;

/// What the worst stretch has lost one by one may be exceeded by this.
const WORSE: f64 = 1.25;

/// The most memory for blocks that is advised.
const MOST_MEMORY: u64 = 4 << 30;
const MEMORY_STEP: u64 = 64 << 20;

/// What is to be said of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What is lost is mended.
    Carried,
    /// The sender did not come to it.
    NotReached,
    /// This machine dropped packets: its kernel, or this program.
    DroppedHere,
    /// The link, or an appliance in it, takes less: lower rates lose much less.
    Saturated,
    /// More is lost than repair symbols replace.
    NotMended,
}

/// What to do after a rehearsal.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// What is to be said of each step.
    pub verdicts: Vec<Verdict>,
    /// How to send; None if no rate will do.
    pub recommended: Option<Recommended>,
    /// What to do about the receive buffer.
    pub buffer: Option<BufferAdvice>,
}

/// How to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommended {
    /// Which of the reports it follows.
    pub report: usize,
    /// Bytes per second, with the headers of packets: what was asked for, or if the sender did not quite come to that, what
    /// it came to.
    pub rate: u64,
    /// Percent of repair symbols.
    pub repair: u32,
    /// An outage of this length costs nothing.
    pub outage: Duration,
    /// Whether it still does not when the losses one by one come on top of it.
    pub has_spare: bool,
    /// Bytes of a packet with its headers; None for a stream.
    pub packet: Option<u16>,
    /// Bytes that the receiver needs for its blocks, if it is more than it takes unless told otherwise.
    pub memory: Option<u64>,
}

/// What to do about the kernel's receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferAdvice {
    /// The kernel granted less than was asked for: `net.core.rmem_max` is to be this.
    Limit(usize),
    /// It dropped packets all the same: ask for this.
    Larger(usize),
}

/// What follows from these steps. `asked` and `granted` are bytes of the kernel's receive buffer, 0 for a stream.
pub fn advise(reports: &[StepReport], asked: usize, granted: usize) -> Advice {
    let mut verdicts: Vec<Verdict> = Vec::new();
    for (at, report) in reports.iter().enumerate() {
        verdicts.push(verdict(report, &reports[..at]));
    }
    let carried = |at: &usize| verdicts[*at] == Verdict::Carried;
    // What happened at a lower rate may happen at this one.
    let recommended = (0..reports.len()).rev().filter(carried).find_map(|at| {
        let seen: Vec<_> = (0..=at).filter(carried).map(|at| &reports[at]).collect();
        let options = options(&seen, &reports[at])?;
        Some(Recommended { report: at, ..options })
    });
    let dropped = reports.iter().any(|report| report.by_kernel > 0);
    let buffer = match (granted < asked, dropped) {
        (true, _) => Some(BufferAdvice::Limit(asked)),
        (false, true) if asked > 0 => Some(BufferAdvice::Larger(asked.saturating_mul(2))),
        _ => None,
    };
    Advice { verdicts, recommended, buffer }
}

fn verdict(report: &StepReport, lower: &[StepReport]) -> Verdict {
    if report.lost_here() * 1000 > report.sent * MOST_HERE {
        return Verdict::DroppedHere;
    }
    if (report.reached as f64) < report.rate as f64 * LEAST_REACHED {
        return Verdict::NotReached;
    }
    let share = |report: &StepReport| report.one_by_one() as f64 / report.sent.max(1) as f64;
    let least = lower.iter().filter(|lower| lower.sent > 0).map(share).reduce(f64::min);
    if least.is_some_and(|least| share(report) > least * MORE_TIMES + MORE) {
        return Verdict::Saturated;
    }
    match options(&[report], report) {
        Some(_) => Verdict::Carried,
        None => Verdict::NotMended,
    }
}

/// The options that mend all that was seen at the rate of one step, and something to spare if there are such.
fn options(seen: &[&StepReport], at: &StepReport) -> Option<Recommended> {
    let symbol = at.frame.checked_sub(HEADER + TAG + SYMBOL_HEAD)? & !1;
    let layout = Layout::new(BLOCK, symbol).ok()?;
    let nearly = at.reached as f64 >= at.rate as f64 * NEARLY_REACHED;
    let rate = if nearly { at.rate } else { at.reached };
    let most = (100 * layout.repair() / layout.source()) as u32;
    let longest = seen.iter().map(|report| report.longest_outage).max().unwrap_or_default();
    let least_outage = longest.mul_f64(LONGER).max(USUAL_OUTAGE);
    let tries = [true, false].into_iter().flat_map(|has_spare| {
        let outages = OUTAGES.map(Duration::from_millis).into_iter();
        let outages = outages.filter(move |outage| *outage >= least_outage);
        outages.flat_map(move |outage| {
            let repairs = USUAL_REPAIR..=most.max(USUAL_REPAIR);
            repairs.map(move |repair| (has_spare, outage, repair))
        })
    });
    tries.into_iter().find_map(|(has_spare, outage, repair)| {
        let sent = layout.repair_to_send(f64::from(repair) / 100.0);
        let over = span(layout, sent, outage);
        // A slow link takes longer for a block than its span.
        let symbols = (layout.source() + sent) as f64;
        let over = over.max(Duration::from_secs_f64(symbols / at.per_s()));
        let memory = memory(rate, over)?;
        let mends = |report: &&StepReport| mends(report, symbols, sent as f64, over, has_spare);
        seen.iter().all(mends).then_some(Recommended {
            report: 0,
            rate,
            repair,
            outage,
            has_spare,
            packet: (at.packet != 0).then_some(at.packet),
            memory: (memory > USUAL_MEMORY as u64).then_some(memory),
        })
    })
}

/// Bytes of memory that a receiver is to have, where blocks are under way for this time; None if it is too much.
fn memory(rate: u64, over: Duration) -> Option<u64> {
    // A quarter more than is under way, since blocks end neither all at once nor in their order.
    let under_way = rate as f64 * over.as_secs_f64() * 1.25;
    let steps = (1..=MOST_MEMORY / MEMORY_STEP).map(|steps| steps * MEMORY_STEP);
    let is_enough = |memory: &u64| put_together(*memory as usize) as f64 >= under_way;
    steps.into_iter().find(is_enough)
}

/// Whether so many repair symbols are enough for blocks of so many symbols that are spread over this time.
fn mends(report: &StepReport, symbols: f64, repair: f64, over: Duration, has_spare: bool) -> bool {
    let mean = symbols * report.one_by_one() as f64 / report.sent.max(1) as f64;
    let by_chance = match mean > 0.0 {
        true => mean + DEVIATIONS * mean.sqrt() + SPARE,
        false => 0.0,
    };
    let worst = worst(report, over);
    let in_worst = symbols * (worst.0 + WORSE * worst.1);
    let outage = if has_spare { FOR_OUTAGE * repair } else { 0.0 };
    outage.max(symbols * worst.0) + by_chance <= repair && in_worst <= repair
}

/// The shares of packets that were lost in outages, and one by one, in the worst stretch of this length.
fn worst(report: &StepReport, over: Duration) -> (f64, f64) {
    let slot = Duration::from_secs_f64(report.slot as f64 / report.per_s());
    let length = (over.as_secs_f64() / slot.as_secs_f64().max(1e-9)).round().max(1.0);
    // Beyond the step nothing is known: what it lost is spread no thinner than it was.
    let length = (length as usize).min(report.slots.len().max(1));
    let packets = (length as f64 * report.slot as f64).min(report.sent.max(1) as f64);
    let mut sums = (0_u64, 0_u64);
    let mut worst = (0_u64, 0_u64);
    for (at, slot) in report.slots.iter().enumerate() {
        sums.0 += u64::from(slot.in_outages);
        sums.1 += u64::from(slot.one_by_one);
        if let Some(left) = at.checked_sub(length) {
            let left = report.slots[left];
            sums.0 -= u64::from(left.in_outages);
            sums.1 -= u64::from(left.one_by_one);
        }
        if sums.0 + sums.1 > worst.0 + worst.1 {
            worst = sums;
        }
    }
    (worst.0 as f64 / packets, worst.1 as f64 / packets)
}
