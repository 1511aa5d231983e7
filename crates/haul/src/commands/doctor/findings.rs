//! From what was measured to what is said of it. Pure: facts go in, sentences and JSON come out, and no
//! sentence says more than a figure in it.

use std::time::Duration;

use events::{Bound, BoundKind};
use link::LaneKind;
use serde_json::{Value, json};
use transfer::bound::is_standing_queue;
use transfer::message::Measured;

use super::facts::{Direction, Facts, LaneFacts};
use crate::bounds::{self, Here, millis};
use crate::render::{clean, json as events_json};
use crate::units;

/// Loss from which it is worth a word.
const NOTABLE_LOSS: f64 = 0.005;
/// Clocks further apart than this, in seconds, make `expires` and receipts misleading.
const CLOCKS_APART: i64 = 5;
/// Round trips under load that are so much longer than idle ones annoy whoever else uses the link.
const LONG_QUEUE_MICROS: u64 = 100_000;
/// A processor that leaves less than this share of its cores free has none left.
const BUSY: f64 = 0.9;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub topic: &'static str,
    /// What was found, with its figures.
    pub text: String,
    /// What to change.
    pub advice: Option<String>,
}

impl Finding {
    fn new(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, text: text.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// For a person: the statement, and below it what to do.
    pub fn words(&self) -> String {
        const INDENT: &str = "\n            ";
        let mut text = format!("{:<12}{}", self.topic, clean(&self.text).replace('\n', INDENT));
        if let Some(advice) = &self.advice {
            text.push_str(&format!("{INDENT}-> {}", clean(advice).replace('\n', INDENT)));
        }
        text
    }
}

/// All that can be said so far. More facts add statements at the end.
pub fn of(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let addresses = match facts.addresses.is_empty() {
        true => "the name leads to no address".to_owned(),
        false => facts.addresses.join(", "),
    };
    found.push(Finding::new("host", format!("{}: {addresses}", facts.host)));
    if let Some(key) = &facts.key {
        found.push(Finding::new("key", format!("{key}, which is known here; it lets this key in")));
    }
    found.extend(facts.access.as_ref().map(access));
    if facts.key.is_some() {
        found.extend(facts.warnings.iter().map(|text| socket(text)));
    }
    found.extend(facts.lanes.iter().map(lane));
    for (up, seen) in [(true, &facts.up), (false, &facts.down)] {
        let topic = topic(up);
        match seen {
            Some(Ok(seen)) => found.push(direction(seen)),
            Some(Err(why)) => {
                found.push(Finding::new(topic, format!("could not be measured: {why}")));
            }
            None => {}
        }
    }
    if !facts.is_complete {
        return found;
    }
    if let Some(offset) = facts.clock_offset {
        found.push(clock(offset));
    }
    if let Some(speeds) = &facts.speeds {
        let text = format!(
            "one core here hashes {} (BLAKE3) and encrypts {} (AES-128-GCM)",
            units::rate(speeds.hash),
            units::rate(speeds.cipher)
        );
        found.push(Finding::new("CPU", text));
    }
    found.push(disk(facts));
    found.extend([true, false].into_iter().filter_map(|up| verdict(facts, up)));
    found
}

fn topic(up: bool) -> &'static str {
    if up { "to there" } else { "from there" }
}

fn access(seen: &Result<String, String>) -> Finding {
    match seen {
        Ok(text) => Finding::new("access", text),
        Err(why) => Finding::new("access", why).advise(
            "whoever runs that machine decides: `haul key list` shows there what this key may do",
        ),
    }
}

/// A warning says in its first line what is short, and in the others what to run.
fn socket(text: &str) -> Finding {
    let (what, commands) = text.split_once('\n').unwrap_or((text, ""));
    let finding = Finding::new("sockets", what.trim_end_matches(':'));
    if commands.is_empty() { finding } else { finding.advise(commands.trim()) }
}

fn lane(lane: &LaneFacts) -> Finding {
    let topic = lane.kind.title();
    match &lane.reached {
        Ok(reached) => Finding::new(
            topic,
            format!(
                "gets through to {}: let in after {:.1} ms, round trip {:.1} ms",
                reached.address,
                reached.handshake.as_secs_f64() * 1e3,
                reached.rtt.as_secs_f64() * 1e3
            ),
        ),
        Err(why) => {
            let protocol = if lane.kind == LaneKind::Quic { "UDP" } else { "TCP" };
            Finding::new(topic, format!("does not get through: {why}"))
                .advise(format!("let {protocol} through to that port in every firewall on the way"))
        }
    }
}

fn cpu(seen: &Measured) -> String {
    format!("{:.1} of {}", seen.cpu as f64 / 1e3, units::count(seen.cores, "core"))
}

/// How long packets wait on the way under load.
fn queue_micros(sender: &Measured) -> u64 {
    sender.rtt_micros.saturating_sub(sender.idle_rtt_micros)
}

fn direction(seen: &Direction) -> Finding {
    let sender = seen.sender();
    let text = format!(
        "{} over {} ({}, packets of {} bytes); loss {}; round trip {} ms idle, {} ms under load; \
         CPU {} here, {} there",
        units::rate(seen.rate()),
        seen.kind.title(),
        units::count(seen.connections.into(), "connection"),
        seen.mtu,
        bounds::percent(seen.loss()),
        millis(sender.idle_rtt_micros),
        millis(sender.rtt_micros),
        cpu(&seen.here),
        cpu(&seen.there),
    );
    let finding = Finding::new(topic(seen.up), text);
    let mut advice = loss(seen);
    let queue = queue_micros(sender);
    if queue >= LONG_QUEUE_MICROS {
        advice.push(format!(
            "a queue of {} ms builds up under load, and whoever shares the link waits as long: a --limit \
             below {} avoids it",
            millis(queue),
            units::rate(seen.rate())
        ));
    }
    if advice.is_empty() { finding } else { finding.advise(advice.join("\n")) }
}

fn clock(offset: i64) -> Finding {
    let seconds = units::count(offset.unsigned_abs(), "second");
    let text = match offset {
        0 => "the clocks here and there agree to the second".to_owned(),
        1.. => format!("the clock there is {seconds} ahead of the one here"),
        _ => format!("the clock there is {seconds} behind the one here"),
    };
    let finding = Finding::new("clock", text);
    if offset.abs() <= CLOCKS_APART {
        return finding;
    }
    finding.advise("keys expire by it and receipts bear its time: set both clocks, as by NTP")
}

fn disk(facts: &Facts) -> Finding {
    match &facts.disk {
        None => Finding::new("disk", "not measured; --disk PATH measures one of this machine"),
        Some(Err(why)) => Finding::new("disk", format!("could not be measured: {why}")),
        Some(Ok(disk)) => Finding::new(
            "disk",
            format!(
                "{}: writes {} with fsync, reads {}, creates {:.0} small files per second",
                disk.path,
                units::rate(disk.write),
                units::rate(disk.read),
                disk.files
            ),
        ),
    }
}

/// What held the bytes back in one direction. A receiver without processor time looks from the other end
/// like a path that carries no more.
pub fn link_bound(seen: &Direction) -> Bound {
    let (sender, receiver) = (seen.sender(), seen.receiver());
    let busy = |end: &Measured| end.cores > 0 && end.cpu as f64 >= BUSY * 1e3 * end.cores as f64;
    match (sender.bound.kind, receiver.bound.kind) {
        // Without a rate that was set more would move, however busy a processor is.
        (BoundKind::Limit, _) => sender.bound,
        (_, BoundKind::Limit) => receiver.bound,
        (BoundKind::SourceCpu, _) => sender.bound,
        (_, BoundKind::TargetCpu) => receiver.bound,
        _ if busy(receiver) => Bound::new(BoundKind::TargetCpu, receiver.cpu),
        _ => sender.bound,
    }
}

/// What bounds a copy in one direction: the link, or a disk here that is slower.
fn verdict(facts: &Facts, up: bool) -> Option<Finding> {
    let seen = if up { &facts.up } else { &facts.down };
    let seen = seen.as_ref()?.as_ref().ok()?;
    let (here, way) = match up {
        true => (Here::Source, "a copy to there"),
        false => (Here::Target, "a copy from there"),
    };
    let of_disk = facts.disk.as_ref().and_then(|disk| disk.as_ref().ok());
    let of_disk = of_disk.map(|disk| match up {
        true => Bound::new(BoundKind::SourceDisk, disk.read as u64),
        false => Bound::new(BoundKind::TargetDisk, disk.write as u64),
    });
    let of_link = link_bound(seen);
    let bound = of_disk.filter(|disk| (disk.figure as f64) < seen.rate()).unwrap_or(of_link);
    let rate = match bound.kind {
        BoundKind::SourceDisk | BoundKind::TargetDisk => bound.figure as f64,
        _ => seen.rate(),
    };
    let unmeasured = match of_disk {
        Some(_) => "the disk there was not measured",
        None => "the disks were not measured",
    };
    let Some(words) = bounds::words(bound, here) else {
        let text = format!("{way} makes {}; what bounds it did not show", units::rate(rate));
        return Some(Finding::new("bound", text));
    };
    let makes = match bound.kind {
        // It is the figure itself.
        BoundKind::SourceDisk | BoundKind::TargetDisk => String::new(),
        _ => format!(", and makes {}", units::rate(rate)),
    };
    let text = format!("{way} is bound by {words}{makes} ({unmeasured})");
    let finding = Finding::new("bound", text);
    let mut advice: Vec<String> = bounds::advice(bound, here).into_iter().collect();
    if bound.kind == BoundKind::SourceCpu {
        advice.extend(both_processors(seen));
    }
    Some(if advice.is_empty() { finding } else { finding.advise(advice.join("\n")) })
}

fn both_processors(seen: &Direction) -> Option<String> {
    let both = seen.sender().bound.kind == BoundKind::SourceCpu
        && seen.receiver().bound.kind == BoundKind::TargetCpu;
    both.then(|| "both ends are at their processor".to_owned())
}

/// What the loss that was measured means, and what one TCP connection would make of it by the square root
/// law (Mathis et al., 1997). An end without processor time loses packets too, and that is not the path.
fn loss(seen: &Direction) -> Vec<String> {
    let (loss, sender) = (seen.loss(), seen.sender());
    let is_cpu = matches!(link_bound(seen).kind, BoundKind::SourceCpu | BoundKind::TargetCpu);
    if loss < NOTABLE_LOSS || is_cpu {
        return Vec::new();
    }
    let queue = Duration::from_micros(queue_micros(sender));
    let share = bounds::percent(loss);
    if is_standing_queue(queue, Duration::from_micros(sender.idle_rtt_micros)) {
        let queue = millis(queue_micros(sender));
        return vec![format!(
            "{share} of the packets are lost beside a queue of {queue} ms: what overflows there may be a part of it"
        )];
    }
    let mut said = vec![format!("the path loses {share} of the packets")];
    const SEGMENT: f64 = 1448.0;
    let estimate = SEGMENT / (sender.idle_rtt_micros as f64 / 1e6) * (1.5 / loss).sqrt();
    if seen.kind == LaneKind::Quic && estimate < seen.rate() / 2.0 {
        said.push(format!(
            "QUIC is the right link: with such loss and {} ms one TCP connection would make about {}",
            millis(sender.idle_rtt_micros),
            units::rate(estimate)
        ));
    }
    said
}

/// Everything in one object (`docs/formats/events.md`).
pub fn json(facts: &Facts) -> String {
    let links: Vec<Value> = facts.lanes.iter().map(lane_json).collect();
    let findings: Vec<Value> = of(facts)
        .into_iter()
        .map(|found| json!({ "topic": found.topic, "text": found.text, "advice": found.advice }))
        .collect();
    json!({
        "event": "doctor",
        "host": facts.host,
        "addresses": facts.addresses,
        "key": facts.key,
        "warnings": facts.warnings,
        "access": facts.access.as_ref().map(|seen| seen.is_ok()),
        "links": links,
        "to_there": facts.up.as_ref().map(direction_json),
        "from_there": facts.down.as_ref().map(direction_json),
        "clock_ahead_seconds": facts.clock_offset,
        "hash_bytes_per_second": facts.speeds.map(|speeds| speeds.hash as u64),
        "cipher_bytes_per_second": facts.speeds.map(|speeds| speeds.cipher as u64),
        "disk": facts.disk.as_ref().map(|disk| match disk {
            Ok(disk) => json!({
                "path": disk.path,
                "write_bytes_per_second": disk.write as u64,
                "read_bytes_per_second": disk.read as u64,
                "files_per_second": disk.files as u64,
            }),
            Err(why) => json!({ "error": why }),
        }),
        "findings": findings,
    })
    .to_string()
}

fn lane_json(lane: &LaneFacts) -> Value {
    let kind = lane.kind.title().to_lowercase();
    match &lane.reached {
        Ok(reached) => json!({
            "kind": kind,
            "reached": true,
            "address": reached.address,
            "handshake_ms": reached.handshake.as_secs_f64() * 1e3,
            "rtt_ms": reached.rtt.as_secs_f64() * 1e3,
        }),
        Err(why) => json!({ "kind": kind, "reached": false, "error": why }),
    }
}

fn direction_json(seen: &Result<Direction, String>) -> Value {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return json!({ "error": why }),
    };
    let sender = seen.sender();
    json!({
        "kind": seen.kind.title().to_lowercase(),
        "connections": seen.connections,
        "mtu": seen.mtu,
        "bytes_per_second": seen.rate() as u64,
        "loss": seen.loss(),
        "rtt_ms": sender.rtt_micros as f64 / 1e3,
        "idle_rtt_ms": sender.idle_rtt_micros as f64 / 1e3,
        "cpu_cores_here": seen.here.cpu as f64 / 1e3,
        "cores_here": seen.here.cores,
        "cpu_cores_there": seen.there.cpu as f64 / 1e3,
        "cores_there": seen.there.cores,
        "rate_allowed": (seen.there.limit > 0).then_some(seen.there.limit),
        "bound": events_json::bound(link_bound(seen)),
    })
}

#[cfg(test)]
mod tests;
