//! The figures of each side, as `status --json`, the history and the last event tell them.

use std::sync::{Arc, Weak};

use diode::{
    Carrier, ChannelCounters, Control, InMeter, Inlets, OutMeter, Outlets, ReceiveStatus, Refusal,
    SendStatus, StatusHandle,
};
use serde_json::{Map, Value, json};

use super::home::now_ms;

/// Where a receiver's figures are read.
#[derive(Clone)]
pub struct Received {
    status: StatusHandle,
    meter: InMeter,
    outlets: Option<Arc<Outlets>>,
    began_ms: u64,
}

impl Received {
    pub fn new(status: StatusHandle, meter: InMeter, outlets: Option<Arc<Outlets>>) -> Self {
        Self { status, meter, outlets, began_ms: now_ms() }
    }

    pub fn status(&self) -> ReceiveStatus {
        self.status.read()
    }

    pub fn told(&self) -> Value {
        let status = self.status();
        let (link, tree) = (&status.link, &status.tree);
        let refused: Map<String, Value> = Refusal::ALL
            .iter()
            .zip(link.refused)
            .filter(|(_, count)| *count > 0)
            .map(|(why, count)| (why.to_string(), count.into()))
            .collect();
        let counters = self.meter.counters();
        // What the kernel or we dropped did come over the link.
        let dropped = counters.dropped_by_kernel + counters.dropped_by_us;
        let mut told = json!({
            "side": "recv", "began_ms": self.began_ms, "generation": tree.generation,
            "complete": tree.complete, "entries": tree.entries, "missing": tree.wanted,
            "quarantined": tree.quarantined, "held_back": tree.held_back, "published": tree.published,
            "published_bytes": tree.published_bytes, "removed": tree.removed, "failed": tree.failed,
            "sender_set_back": tree.set_back, "disk_full": tree.is_full, "silent": link.is_silent,
            "insecure_plain": link.is_plain, "frames": link.frames, "bytes": link.bytes,
            "skipped_bytes": link.skipped_bytes, "blocks": link.blocks, "restored": link.restored,
            "dropped_disk_too_slow": link.dropped, "refused": refused,
            "lost_link": link.lost.saturating_sub(dropped),
            "dropped_kernel": counters.dropped_by_kernel, "dropped_program": counters.dropped_by_us,
            "receive_buffer": counters.buffer_granted, "connected": counters.is_connected,
            "connections": counters.connections, "link_errors": counters.errors,
            "last_link_error": counters.last_error,
        });
        if let Some((generation, tally)) = &tree.tally {
            told["compared"] = json!({ "generation": generation, "same": tally.same,
                "different": tally.different, "extra": tally.extra, "missing": tally.missing });
        }
        if let Some(beat) = &link.heartbeat {
            told["sender"] = json!({ "generation": beat.generation, "frames": beat.frames,
                "rate": beat.rate, "next_scan_s": beat.next_scan_s });
        }
        if let Some(outlets) = &self.outlets {
            told["channels"] = channels(&outlets.counters());
            told["channels_unclaimed"] = outlets.unclaimed().into();
        }
        told
    }
}

/// Where a sender's figures are read. It does not keep the channels open.
#[derive(Clone)]
pub struct Sent {
    control: Arc<Control>,
    meter: OutMeter,
    inlets: Weak<Inlets>,
    began_ms: u64,
}

impl Sent {
    pub fn new(control: Arc<Control>, meter: OutMeter, inlets: &Arc<Inlets>) -> Self {
        Self { control, meter, inlets: Arc::downgrade(inlets), began_ms: now_ms() }
    }

    pub fn told(&self) -> Value {
        self.told_of(&self.control.status())
    }

    /// The same with figures of the tree that were read before.
    pub fn told_of(&self, status: &SendStatus) -> Value {
        let SendStatus { rate, generation, entries, files, bytes, removed, .. } = status;
        let counters = self.meter.counters();
        let mut told = json!({
            "side": "send", "began_ms": self.began_ms, "rate": rate, "generation": generation,
            "entries": entries, "files": files, "bytes": bytes, "removed": removed,
            "first_bytes": status.first_bytes, "again_bytes": status.again_bytes,
            "other_bytes": status.other_bytes, "waiting": status.waiting, "repeats": status.repeats,
            "unsettled": status.unsettled, "problems": status.problems,
            "next_scan_s": status.next_scan_s, "insecure_plain": status.is_plain,
            "connected": counters.is_connected, "connections": counters.connections,
            "unsent": counters.unsent, "link_errors": counters.errors,
            "last_link_error": counters.last_error,
        });
        if let Some(inlets) = self.inlets.upgrade() {
            let counters = inlets.counters();
            if !counters.is_empty() {
                told["channels"] = channels(&counters);
            }
        }
        told
    }
}

fn channels(counters: &[ChannelCounters]) -> Value {
    let told = counters.iter().map(|channel| {
        let carrier = match channel.carrier {
            Carrier::Tcp => "tcp",
            Carrier::Udp => "udp",
        };
        json!({ "name": channel.name, "carrier": carrier, "open": channel.open,
            "connections": channel.connections, "broken": channel.broken, "refused": channel.refused,
            "bytes": channel.bytes, "datagrams": channel.datagrams, "dropped": channel.dropped,
            "lost_datagrams": channel.lost_datagrams, "lost_bytes": channel.lost_bytes })
    });
    Value::Array(told.collect())
}
