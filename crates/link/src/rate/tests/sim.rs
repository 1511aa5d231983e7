//! A link in virtual time with several senders on it, which pace and detect losses as the QUIC library
//! does. Loss, queue, delay and jitter are those of `badlink`; a policer stands before them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use badlink::model::{Fate, Link, Nanos, Profile};

use super::control::Control;
use super::cubic::Cubic;
use super::pauses::Pauses;
use super::{Pace, PathMemory};

pub(super) const MS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MS;
/// The UDP payload of a packet, and what it has on the wire.
pub(super) const PAYLOAD: u64 = 1452;
const WIRE: usize = 1480;
const ACK_WIRE: usize = 68;
const MAX_ACK_DELAY: Nanos = 25 * MS;
const SAMPLE_EVERY: Nanos = 2 * MS;

/// What a flow is governed by.
#[derive(Debug)]
pub(super) enum Governor {
    Ours(Box<Control>),
    /// TCP as it is usual.
    Cubic(Cubic),
}

/// A sender and its receiver.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) governor: Governor,
    start: Nanos,
    stop: Nanos,
    /// Sends for so long, then pauses for so long.
    bursts: Option<(Nanos, Nanos)>,
    /// Between two times one of so many of its packets is lost.
    pub(super) trouble: Option<(Nanos, Nanos, u64)>,
    first_pn: u64,
    sent: VecDeque<Option<Nanos>>,
    in_flight: u64,
    srtt: f64,
    var: f64,
    latest: f64,
    largest_acked: Option<u64>,
    tokens: f64,
    capacity: f64,
    refilled: Nanos,
    last_window: u64,
    limited: bool,
    probes: u32,
    pto_count: u32,
    timer: [Nanos; 3],
    pending: Vec<u64>,
    ack_armed: bool,
    pub(super) sent_packets: u64,
    /// Packets delivered, per tenth of a second.
    pub(super) delivered: Vec<u32>,
    /// Packets dropped for whatever reason.
    pub(super) dropped: u64,
    /// Packets sent and dropped since the warm-up.
    pub(super) late_sent: u64,
    pub(super) late_dropped: u64,
}

impl Flow {
    pub(super) fn new(governor: Governor, start: Nanos, stop: Nanos) -> Self {
        Self {
            governor,
            start,
            stop,
            bursts: None,
            trouble: None,
            first_pn: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            srtt: 0.0,
            var: 0.0,
            latest: 0.0,
            largest_acked: None,
            tokens: 0.0,
            capacity: 10.0 * PAYLOAD as f64,
            refilled: 0,
            last_window: 0,
            limited: false,
            probes: 0,
            pto_count: 0,
            timer: [0; 3],
            pending: Vec::new(),
            ack_armed: false,
            sent_packets: 0,
            delivered: Vec::new(),
            dropped: 0,
            late_sent: 0,
            late_dropped: 0,
        }
    }

    pub(super) fn ours(pace: Pace, known: Option<PathMemory>) -> Self {
        let control = Control::new(pace, PAYLOAD as u16, known);
        Self::new(Governor::Ours(Box::new(control)), 0, Nanos::MAX)
    }

    pub(super) fn cubic() -> Self {
        let cubic = Cubic {
            window: 10.0,
            threshold: f64::INFINITY,
            most: 10.0,
            since: None,
            additive: 10.0,
            recovery: 0,
        };
        Self::new(Governor::Cubic(cubic), 0, Nanos::MAX)
    }

    pub(super) fn from(mut self, start: Nanos, stop: Nanos) -> Self {
        (self.start, self.stop) = (start, stop);
        self
    }

    pub(super) fn in_bursts(mut self, on: Nanos, off: Nanos) -> Self {
        self.bursts = Some((on, off));
        self
    }

    pub(super) fn control(&self) -> &Control {
        match &self.governor {
            Governor::Ours(control) => control,
            Governor::Cubic(_) => panic!("asked a foreign flow for our controller"),
        }
    }

    fn has_data(&self, now: Nanos) -> bool {
        now >= self.start
            && now < self.stop
            && self.bursts.is_none_or(|(on, off)| (now - self.start) % (on + off) < on)
    }

    fn window(&self) -> u64 {
        match &self.governor {
            Governor::Ours(control) => control.window(),
            Governor::Cubic(cubic) => (cubic.window * PAYLOAD as f64) as u64,
        }
    }

    fn packet_threshold(&self) -> u64 {
        if matches!(self.governor, Governor::Ours(_)) { 128 } else { 3 }
    }

    fn smoothed(&self) -> f64 {
        if self.srtt > 0.0 { self.srtt } else { 0.1e9 }
    }

    /// As the library's pacer does it; gives when to come back.
    fn pace(&mut self, now: Nanos) -> Option<Nanos> {
        let (window, rtt, need) = (self.window(), self.smoothed(), PAYLOAD as f64);
        if matches!(self.governor, Governor::Cubic(_)) {
            return None;
        }
        if window != self.last_window {
            let burst = window as f64 * 2e6 / rtt;
            self.capacity = burst.clamp(10.0 * need, 256.0 * need);
            self.tokens = self.tokens.min(self.capacity);
            self.last_window = window;
        }
        if self.tokens >= need {
            return None;
        }
        let elapsed = (now - self.refilled) as f64 / rtt;
        self.tokens = (self.tokens + window as f64 * 1.25 * elapsed).min(self.capacity);
        self.refilled = now;
        if self.tokens >= need {
            return None;
        }
        let wait = rtt * (self.capacity.max(need) - self.tokens) / window as f64 * 0.8;
        // The runtime's timers fire at whole milliseconds.
        Some((now + wait as Nanos).div_ceil(MS) * MS)
    }
}

/// Throws away what comes faster than `rate` bytes per second after `burst` bytes.
#[derive(Debug, Clone)]
pub(super) struct Policer {
    pub(super) rate: f64,
    pub(super) burst: f64,
    pub(super) tokens: f64,
    pub(super) then: Nanos,
}

impl Policer {
    pub(super) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: burst, then: 0 }
    }

    fn passes(&mut self, now: Nanos, len: usize) -> bool {
        let past = (now - self.then) as f64 / SECOND as f64;
        self.then = now;
        self.tokens = (self.tokens + past * self.rate).min(self.burst);
        let passes = self.tokens >= len as f64;
        if passes {
            self.tokens -= len as f64;
        }
        passes
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive {
        flow: usize,
        pn: u64,
    },
    Acks {
        flow: usize,
        pns: Vec<u64>,
    },
    AckTimer {
        flow: usize,
    },
    /// A timer of the sender: 0 pacing, 1 loss, 2 probe.
    Timer {
        flow: usize,
        kind: usize,
    },
    Change {
        at: usize,
    },
}

/// The link and all that uses it.
#[derive(Debug)]
pub(super) struct Sim {
    pub(super) flows: Vec<Flow>,
    forward: Link,
    back: Link,
    profile: Profile,
    pub(super) policer: Option<Policer>,
    /// How the machines of senders and of receivers are held up.
    pub(super) pauses: [Option<Pauses>; 2],
    /// Profiles that the link gets, both ways, and when.
    pub(super) changes: Vec<(Nanos, Profile)>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    order: u64,
    now: Nanos,
    /// From here on losses and queues count.
    warm: Nanos,
    /// How long a packet waited in the queue and for jitter, with the time.
    pub(super) waits: Vec<(Nanos, Nanos)>,
    debug: bool,
}

impl Sim {
    pub(super) fn new(profile: Profile, seed: u64, warm: Nanos) -> Self {
        Self {
            flows: Vec::new(),
            forward: Link::new(profile.clone(), seed),
            back: Link::new(profile.clone(), seed ^ 0x5555_aaaa),
            profile,
            policer: None,
            pauses: [None, None],
            changes: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            now: 0,
            warm,
            waits: Vec::new(),
            debug: std::env::var_os("RATE_TRACE").is_some(),
        }
    }

    fn push(&mut self, at: Nanos, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    pub(super) fn run(&mut self, end: Nanos) {
        for flow in 0..self.flows.len() {
            let start = self.flows[flow].start;
            self.flows[flow].timer[0] = start;
            self.push(start, Event::Timer { flow, kind: 0 });
        }
        for at in 0..self.changes.len() {
            self.push(self.changes[at].0, Event::Change { at });
        }
        let mut traced = 0;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            let machine =
                usize::from(matches!(event, Event::Arrive { .. } | Event::AckTimer { .. }));
            match self.pauses[machine].as_mut().and_then(|pauses| pauses.held(at)) {
                // What waits together is handled in its order.
                Some(until) if !matches!(event, Event::Change { .. }) => self.hold(until, event),
                _ => self.handle(event),
            }
            if self.debug && at >= traced {
                traced = at + 50 * MS;
                self.trace();
            }
        }
    }

    fn hold(&mut self, until: Nanos, event: Event) {
        if let Event::Timer { flow, kind } = event {
            if self.flows[flow].timer[kind] != self.now {
                return;
            }
            self.flows[flow].timer[kind] = until;
        }
        self.push(until, event);
    }

    fn trace(&self) {
        for (index, flow) in self.flows.iter().enumerate() {
            let window = flow.window();
            let now = self.now / MS;
            let seen = match &flow.governor {
                Governor::Ours(control) => {
                    let view = control.view();
                    format!(
                        "{:?} rate {:.2} base {:.1} queue {:.1} loss {:.3} {}",
                        view.bound,
                        view.delivery_rate as f64 / 1e6,
                        view.base_rtt.as_secs_f64() * 1e3,
                        view.queue_delay.as_secs_f64() * 1e3,
                        view.path_loss,
                        view.policed,
                    )
                }
                Governor::Cubic(_) => "cubic".to_owned(),
            };
            eprintln!("{now} {index} window {window} flight {} {seen}", flow.in_flight);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { flow, pn } => self.arrive(flow, pn),
            Event::Acks { flow, pns } => self.acks(flow, &pns),
            Event::AckTimer { flow } => {
                self.flows[flow].ack_armed = false;
                self.send_acks(flow);
            }
            Event::Timer { flow, kind } => {
                // A timer that was moved is void.
                if self.flows[flow].timer[kind] != self.now {
                    return;
                }
                self.flows[flow].timer[kind] = 0;
                match kind {
                    1 => self.detect_losses(flow),
                    2 => {
                        self.flows[flow].probes = 2;
                        self.flows[flow].pto_count += 1;
                    }
                    _ => {}
                }
                self.send(flow);
            }
            Event::Change { at } => {
                self.profile = self.changes[at].1.clone();
                self.forward.set_profile(self.profile.clone());
                self.back.set_profile(self.profile.clone());
            }
        }
    }

    fn arm(&mut self, flow: usize, kind: usize, at: Nanos) {
        if self.flows[flow].timer[kind] != at {
            self.flows[flow].timer[kind] = at;
            self.push(at, Event::Timer { flow, kind });
        }
    }

    fn send(&mut self, index: usize) {
        let now = self.now;
        let mut blocked = false;
        loop {
            let flow = &mut self.flows[index];
            if !flow.has_data(now) && flow.probes == 0 {
                break;
            }
            if flow.srtt == 0.0 && flow.in_flight > 0 && flow.probes == 0 {
                // The handshake takes a round trip.
                blocked = true;
                break;
            }
            if flow.probes == 0 {
                if flow.in_flight + PAYLOAD >= flow.window() {
                    blocked = true;
                    break;
                }
                if let Some(at) = flow.pace(now) {
                    blocked = true;
                    self.arm(index, 0, at);
                    break;
                }
            } else {
                flow.probes -= 1;
            }
            self.send_one(index);
        }
        let flow = &mut self.flows[index];
        flow.limited = !blocked;
        if !blocked && now < flow.stop {
            let next = match flow.bursts {
                _ if now < flow.start => flow.start,
                Some((on, off)) => {
                    let cycle = on + off;
                    flow.start + ((now - flow.start) / cycle + 1) * cycle
                }
                None => flow.stop,
            };
            self.arm(index, 0, next);
        }
        let flow = &mut self.flows[index];
        if flow.in_flight > 0 {
            let pto = flow.smoothed() + 4.0 * flow.var.max(0.25e6) + MAX_ACK_DELAY as f64;
            let at = now + (pto * f64::from(1 << flow.pto_count.min(6))) as Nanos;
            self.arm(index, 2, at);
        }
    }

    fn send_one(&mut self, index: usize) {
        let (now, warm) = (self.now, self.warm);
        let flow = &mut self.flows[index];
        let pn = flow.first_pn + flow.sent.len() as u64;
        flow.sent.push_back(Some(now));
        flow.in_flight += PAYLOAD;
        flow.tokens = (flow.tokens - PAYLOAD as f64).max(0.0);
        flow.sent_packets += 1;
        flow.late_sent += u64::from(now >= warm);
        if let Governor::Ours(control) = &mut flow.governor {
            control.on_sent(Duration::from_nanos(now), PAYLOAD);
        }
        let lost = |(from, to, every)| (from..to).contains(&now) && pn.is_multiple_of(every);
        let passes = !flow.trouble.is_some_and(lost)
            && self.policer.as_mut().is_none_or(|policer| policer.passes(now, WIRE));
        let fate = if passes { self.forward.admit(now, WIRE) } else { Fate::QueueFull };
        if let Fate::Delivered { at, .. } = fate {
            let wait = at.saturating_sub(now + self.profile.delay);
            if self.waits.last().is_none_or(|(then, _)| now - then >= SAMPLE_EVERY) {
                self.waits.push((now, wait));
            }
            self.push(at, Event::Arrive { flow: index, pn });
        } else {
            let flow = &mut self.flows[index];
            flow.dropped += 1;
            flow.late_dropped += u64::from(now >= warm);
        }
    }

    fn arrive(&mut self, index: usize, pn: u64) {
        let slot = (self.now / (SECOND / 10)) as usize;
        let flow = &mut self.flows[index];
        if flow.delivered.len() <= slot {
            flow.delivered.resize(slot + 1, 0);
        }
        flow.delivered[slot] += 1;
        flow.pending.push(pn);
        if flow.pending.len() >= 2 {
            self.send_acks(index);
        } else if !flow.ack_armed {
            flow.ack_armed = true;
            self.push(self.now + MAX_ACK_DELAY, Event::AckTimer { flow: index });
        }
    }

    fn send_acks(&mut self, index: usize) {
        if self.flows[index].pending.is_empty() {
            return;
        }
        // What a lost acknowledgement held is in the next one too.
        if let Fate::Delivered { at, .. } = self.back.admit(self.now, ACK_WIRE) {
            let pns = std::mem::take(&mut self.flows[index].pending);
            self.push(at, Event::Acks { flow: index, pns });
        }
    }

    fn acks(&mut self, index: usize, pns: &[u64]) {
        let now = self.pauses[0].as_ref().map_or(self.now, |pauses| pauses.stamp(self.now));
        let flow = &mut self.flows[index];
        let limited = flow.limited;
        let mut newest = None;
        for &pn in pns {
            let Some(slot) = pn.checked_sub(flow.first_pn) else { continue };
            let Some(sent) = flow.sent.get_mut(slot as usize).and_then(Option::take) else {
                continue;
            };
            flow.in_flight -= PAYLOAD;
            newest = newest.max(Some((pn, sent)));
            match &mut flow.governor {
                Governor::Ours(control) => control.on_ack(
                    Duration::from_nanos(now),
                    Duration::from_nanos(sent),
                    PAYLOAD,
                    limited,
                ),
                Governor::Cubic(cubic) => cubic.acked(now),
            }
        }
        let Some((pn, sent)) = newest else { return };
        if let Governor::Ours(control) = &mut flow.governor {
            control.on_acks_end(Duration::from_nanos(now), flow.in_flight);
        }
        if flow.largest_acked.is_none_or(|largest| pn > largest) {
            flow.largest_acked = Some(pn);
            let rtt = (now - sent) as f64;
            flow.latest = rtt;
            if flow.srtt == 0.0 {
                (flow.srtt, flow.var) = (rtt, rtt / 2.0);
            } else {
                flow.var += ((flow.srtt - rtt).abs() - flow.var) / 4.0;
                flow.srtt += (rtt - flow.srtt) / 8.0;
            }
        }
        flow.pto_count = 0;
        self.detect_losses(index);
        self.send(index);
    }

    fn detect_losses(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let Some(largest) = flow.largest_acked else { return };
        let delay = (flow.srtt.max(flow.latest) * 1.125).max(MS as f64) as Nanos;
        let (mut lost, mut latest, mut next) = (0, 0, None);
        let threshold = flow.packet_threshold();
        for (slot, packet) in flow.sent.iter_mut().enumerate() {
            let pn = flow.first_pn + slot as u64;
            if pn >= largest {
                break;
            }
            let Some(sent) = *packet else { continue };
            if now - sent >= delay || largest >= pn + threshold {
                lost += PAYLOAD;
                latest = sent;
                *packet = None;
            } else {
                next = Some(sent + delay);
                break;
            }
        }
        while flow.sent.front().is_some_and(Option::is_none) {
            flow.sent.pop_front();
            flow.first_pn += 1;
        }
        if lost > 0 {
            flow.in_flight -= lost;
            match &mut flow.governor {
                Governor::Ours(control) => {
                    control.on_loss(Duration::from_nanos(now), Duration::from_nanos(latest), lost);
                }
                Governor::Cubic(cubic) => cubic.lost(now, latest),
            }
        }
        if let Some(at) = next {
            self.arm(index, 1, at.max(now + 1));
        }
    }

    /// Bytes of payload that a flow got through per second, between two times.
    pub(super) fn goodput(&self, flow: usize, from: Nanos, to: Nanos) -> f64 {
        let tenth = SECOND / 10;
        let range = (from / tenth) as usize..(to / tenth) as usize;
        let packets: u64 = range
            .map(|at| u64::from(self.flows[flow].delivered.get(at).copied().unwrap_or(0)))
            .sum();
        (packets * PAYLOAD) as f64 / ((to - from) as f64 / SECOND as f64)
    }

    /// How long a share of packets waits in milliseconds, between two times.
    pub(super) fn wait(&self, share: f64, from: Nanos, to: Nanos) -> f64 {
        let mut waits: Vec<Nanos> = self
            .waits
            .iter()
            .filter(|(at, _)| (from..to).contains(at))
            .map(|(_, wait)| *wait)
            .collect();
        waits.sort_unstable();
        let at = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits.get(at).map_or(0.0, |wait| *wait as f64 / MS as f64)
    }

    /// The share of packets sent since the warm-up that did not arrive.
    pub(super) fn loss(&self, flow: usize) -> f64 {
        self.flows[flow].late_dropped as f64 / self.flows[flow].late_sent.max(1) as f64
    }
}
