//! What arrived of a rehearsal: a bit for each packet number, and how far each step went, as its sender said in frames
//! that arrived. What did not arrive follows when all is over. Times are since any start.

use std::collections::BTreeMap;
use std::time::Duration;

use super::MOST_STEPS;
use crate::record::RehearsalStep;

/// So many packets are counted: what comes behind them is not.
const MOST_COUNTED: u64 = 1 << 28;

/// So many packets in a row that were lost, and this time of them, are an outage; fewer are lost one by one.
const LEAST_OUTAGE: (u64, Duration) = (4, Duration::from_millis(1));

/// Losses are told apart in time by this, or more in a long step.
const SLOT: Duration = Duration::from_millis(5);
const MOST_SLOTS: u64 = 1 << 16;

/// How many datagrams the kernel may have joined, and dropped as one packet.
const MOST_JOINED: u64 = 64;

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The first number of the first step that was heard; its bit is the first.
    origin: Option<u64>,
    bits: Vec<u64>,
    /// One more than the highest number that arrived.
    end: u64,
    steps: BTreeMap<u16, Heard>,
    /// Drops by kernel and program, as they were told last.
    dropped: Option<(u64, u64)>,
    is_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    said: RehearsalStep,
    arrived: u64,
    bytes: u64,
    frame: usize,
    began: Duration,
    ended: Duration,
    doubled: u64,
    late: u64,
    latest: u64,
    by_kernel: u64,
    by_program: u64,
}

impl Counts {
    /// A frame with this number has arrived, for the first time.
    pub(crate) fn arrived(&mut self, number: u64, frame: usize, now: Duration) {
        let Some(origin) = self.origin.filter(|origin| *origin <= number) else { return };
        let at = number - origin;
        if at >= MOST_COUNTED {
            return;
        }
        let word = (at / 64) as usize;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (at % 64);
        let behind = self.end.saturating_sub(number + 1);
        self.end = self.end.max(number + 1);
        let Some(heard) = self.step_of(number) else { return };
        heard.arrived += 1;
        heard.bytes += frame as u64;
        heard.frame = heard.frame.max(frame);
        heard.ended = now;
        if behind > 0 {
            heard.late += 1;
            heard.latest = heard.latest.max(behind);
        }
    }

    /// One with this number came that had come before.
    pub(crate) fn doubled(&mut self, number: u64) {
        if let Some(heard) = self.step_of(number) {
            heard.doubled += 1;
        }
    }

    /// One with this number came, and could not be taken here.
    pub(crate) fn not_taken(&mut self, number: u64) {
        if let Some(heard) = self.step_of(number) {
            heard.by_program += 1;
        }
    }

    /// The frame with this number says so of a step. What no sender says is passed over. Whether a step has begun or
    /// ended by it.
    pub(crate) fn says(&mut self, number: u64, said: RehearsalStep, now: Duration) -> bool {
        let RehearsalStep { step, steps, rate, first, end, .. } = said;
        let is_sound = (1..=steps).contains(&step)
            && usize::from(steps) <= MOST_STEPS
            && rate > 0
            && first <= number
            && (end == 0 || (first + 1..=number).contains(&end));
        // Steps follow one another.
        let before = self.steps.range(..step).next_back();
        let after = self.steps.range(step + u16::from(is_sound)..).next();
        let is_in_turn = before.is_none_or(|(_, before)| before.said.first < first)
            && after.is_none_or(|(_, after)| first < after.said.first && end <= after.said.first);
        if !is_sound || !is_in_turn {
            return false;
        }
        let origin = *self.origin.get_or_insert(first);
        self.is_over |= said.is_last_end() && origin <= first;
        match self.steps.get_mut(&step) {
            None => {
                let heard = Heard {
                    said,
                    arrived: 0,
                    bytes: 0,
                    frame: 0,
                    began: now,
                    ended: now,
                    doubled: 0,
                    late: 0,
                    latest: 0,
                    by_kernel: 0,
                    by_program: 0,
                };
                self.steps.insert(step, heard);
                true
            }
            Some(heard) if heard.said.first == first && heard.said.end == 0 => {
                if end != 0 || said.micros > heard.said.micros {
                    heard.said = said;
                }
                end != 0
            }
            Some(_) => false,
        }
    }

    /// How many packets kernel and program have dropped since any start: what is more than before is of the step that was
    /// heard last.
    pub(crate) fn dropped(&mut self, by_kernel: u64, by_program: u64) {
        let before = self.dropped.replace((by_kernel, by_program)).unwrap_or_default();
        if let Some(mut last) = self.steps.last_entry() {
            let last = last.get_mut();
            last.by_kernel += by_kernel.saturating_sub(before.0);
            last.by_program += by_program.saturating_sub(before.1);
        }
    }

    /// Forgets all but what was dropped before: it counts for nobody.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { dropped: self.dropped, ..Self::default() };
    }

    /// Whether a step has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.origin.is_some()
    }

    /// Whether the end of the last step was heard.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is known of the steps that were heard of, in their order.
    pub(crate) fn reports(&self) -> Vec<StepReport> {
        self.steps.values().map(|heard| self.report(heard)).collect()
    }

    fn step_of(&mut self, number: u64) -> Option<&mut Heard> {
        let mut steps = self.steps.values_mut().rev();
        let heard = steps.find(|heard| heard.said.first <= number)?;
        (heard.said.end == 0 || number < heard.said.end).then_some(heard)
    }

    fn has(&self, number: u64) -> bool {
        let at = number - self.origin.unwrap_or(number);
        self.bits.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn report(&self, heard: &Heard) -> StepReport {
        let said = &heard.said;
        // Of a step whose end is not known that counts which was heard, up to the next one.
        let next = self.steps.range(said.step + 1..).next().map(|(_, next)| next.said.first);
        let counted = self.origin.map_or(0, |origin| origin.saturating_add(MOST_COUNTED));
        let end = match said.end {
            0 => self.end.min(next.unwrap_or(u64::MAX)),
            end => end,
        };
        let end = end.min(counted).max(said.first);
        let sent = end - said.first;
        let packet = if said.packet == 0 { heard.frame } else { usize::from(said.packet) };
        let took = Duration::from_micros(said.micros);
        let reached = (sent as u128 * packet as u128 * 1_000_000) / u128::from(said.micros.max(1));
        let reached = match said.end {
            0 => said.rate,
            _ => u64::try_from(reached).unwrap_or(u64::MAX),
        };
        let per_s = reached.max(1) as f64 / packet.max(1) as f64;
        let for_packets = |packets: u64| Duration::from_secs_f64(packets as f64 / per_s);
        let slot = (per_s * SLOT.as_secs_f64()).ceil().max(1.0) as u64;
        let slot = slot.max(sent / MOST_SLOTS + 1);
        let mut report = StepReport {
            step: said.step,
            rate: said.rate,
            reached,
            arriving: 0,
            took,
            packet: said.packet,
            frame: heard.frame,
            is_whole: said.end != 0 && end == said.end,
            sent,
            lost: 0,
            outages: 0,
            in_outages: 0,
            runs: 0,
            run_median: 0,
            run_99: 0,
            longest_run: 0,
            longest_outage: Duration::ZERO,
            late: heard.late,
            latest: heard.latest,
            doubled: heard.doubled,
            by_kernel: heard.by_kernel,
            by_program: heard.by_program,
            slot,
            slots: vec![Slot::default(); sent.div_ceil(slot) as usize],
        };
        let passed = heard.ended.saturating_sub(heard.began).as_secs_f64();
        if heard.arrived > 1 && passed > 0.0 {
            let arrived = (heard.arrived - 1) as f64 * packet as f64;
            report.arriving = (arrived / passed) as u64;
        }
        let mut runs = BTreeMap::<u64, u64>::new();
        let mut from = said.first;
        while let Some(lost) = (from..end).find(|number| !self.has(*number)) {
            let found = (lost..end).find(|number| self.has(*number)).unwrap_or(end);
            let run = found - lost;
            *runs.entry(run).or_default() += 1;
            let lasted = for_packets(run);
            let is_outage = run >= LEAST_OUTAGE.0 && lasted >= LEAST_OUTAGE.1;
            if is_outage {
                report.outages += 1;
                report.in_outages += run;
                report.longest_outage = report.longest_outage.max(lasted);
            }
            for number in lost..found {
                let slot = &mut report.slots[((number - said.first) / slot) as usize];
                match is_outage {
                    true => slot.in_outages += 1,
                    false => slot.one_by_one += 1,
                }
            }
            report.lost += run;
            from = found;
        }
        report.runs = runs.values().sum();
        report.run_median = percentile(&runs, report.runs, 0.5);
        report.run_99 = percentile(&runs, report.runs, 0.99);
        report.longest_run = runs.last_key_value().map_or(0, |(run, _)| *run);
        report
    }
}

/// The length that so large a share of the runs does not exceed.
fn percentile(runs: &BTreeMap<u64, u64>, count: u64, share: f64) -> u64 {
    let rank = (count as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (run, times) in runs {
        seen += times;
        if seen >= rank {
            return *run;
        }
    }
    0
}

/// What became of a step. Packets are frames where the carrier is a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u16,
    /// Bytes per second that were asked for, with the headers of packets.
    pub rate: u64,
    /// Bytes per second that the sender came to.
    pub reached: u64,
    /// Bytes per second that arrived; 0 if hardly any packet did.
    pub arriving: u64,
    /// How long it was sent.
    pub took: Duration,
    /// Bytes of a packet with its headers; 0 in a stream.
    pub packet: u16,
    /// Bytes of its largest frame that arrived.
    pub frame: usize,
    /// Whether its end was heard.
    pub is_whole: bool,
    /// Packets that were sent, as far as is known.
    pub sent: u64,
    /// Those of them that did not arrive here.
    pub lost: u64,
    /// Runs of lost packets that are outages: four at least, and a millisecond of them.
    pub outages: u64,
    /// Packets that were lost in these.
    pub in_outages: u64,
    /// Runs of lost packets of any length.
    pub runs: u64,
    /// Packets that half of the runs do not exceed.
    pub run_median: u64,
    /// Packets that 99 of 100 runs do not exceed.
    pub run_99: u64,
    /// Packets of the longest run.
    pub longest_run: u64,
    /// How long the longest outage lasted.
    pub longest_outage: Duration,
    /// Packets that came behind a later one.
    pub late: u64,
    /// By how many numbers at most.
    pub latest: u64,
    /// Packets that came again.
    pub doubled: u64,
    /// Packets that the kernel dropped here. Datagrams that it had joined count as one, so it may be up to 64 times as
    /// many.
    pub by_kernel: u64,
    /// Packets that this program dropped.
    pub by_program: u64,
    /// Packets of a slot.
    pub(super) slot: u64,
    pub(super) slots: Vec<Slot>,
}

/// Packets that were lost in a short time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) in_outages: u32,
    pub(super) one_by_one: u32,
}

impl StepReport {
    /// Packets that were lost one by one, or a few.
    pub fn one_by_one(&self) -> u64 {
        self.lost - self.in_outages
    }

    /// How many of the lost packets this machine may have dropped: no more, and perhaps fewer.
    pub fn lost_here(&self) -> u64 {
        let most = self.by_kernel.saturating_mul(MOST_JOINED).saturating_add(self.by_program);
        most.min(self.lost)
    }

    /// Bytes that a packet takes on the link.
    pub(super) fn on_link(&self) -> usize {
        if self.packet == 0 { self.frame } else { usize::from(self.packet) }
    }

    /// Packets per second that the sender came to.
    pub(super) fn per_s(&self) -> f64 {
        self.reached.max(1) as f64 / self.on_link().max(1) as f64
    }
}
