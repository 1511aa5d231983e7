//! Events as lines of JSON (`docs/formats/events.md`). Paths are escaped, because JSON holds no bytes.

use std::time::Duration;

use events::{Bound, Event, How};
use serde_json::{Value, json};
use transfer::client::HandedIn;
use transfer::message::Fault;

use super::bar::Figures;
use crate::bounds;
use crate::report::Report;

/// What a finished job came to.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Files copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Payload bytes put on the link.
    pub bytes_sent: u64,
    /// Files that were there already, and entries left alone because something different exists.
    pub skipped: u64,
    /// Entries that failed.
    pub failed: u64,
    /// From start to end.
    pub elapsed: Duration,
    /// Where the receipt is.
    pub receipt: Option<String>,
    /// Whether a second reading found all the same, if there was one.
    pub verified: Option<bool>,
    /// How many entries it found not to be.
    pub differing: Option<u64>,
}

/// The job as it is now.
pub fn progress(figures: &Figures, elapsed: Duration) -> String {
    let now = &figures.snapshot;
    json!({
        "event": "progress",
        "seconds": seconds(elapsed),
        "files": now.files_done,
        "files_total": now.files_total,
        "bytes": now.bytes_acknowledged,
        "bytes_total": now.bytes_total,
        "bytes_sent": now.bytes_sent,
        "total_is_final": now.walk_finished,
        "bytes_per_second": figures.rate as u64,
        "seconds_left": figures.left.map(seconds),
        "loss": now.link.loss(),
        "rtt_ms": now.link.rtt.as_micros() as f64 / 1000.0,
        "bound": bound(now.bound),
        "current": now.current.as_deref().map(shown),
        "verifying": figures.verifying,
    })
    .to_string()
}

/// The line of an event; none for those that are told otherwise.
pub fn event(event: &Event) -> Option<String> {
    let value = match event {
        Event::FileDone { path, size, how, digest } => json!({
            "event": "file",
            "path": shown(path),
            "bytes": size,
            "how": how_word(*how),
            "digest": digest.map(|digest| files::Digest::from_bytes(digest).to_string()),
        }),
        Event::Planned { path, size, why } => {
            json!({ "event": "planned", "path": shown(path), "bytes": size, "why": why })
        }
        Event::Extra { path } => json!({ "event": "extra", "path": shown(path) }),
        Event::FileFailed { path, reason } => {
            json!({ "event": "file_failed", "path": shown(path), "reason": reason })
        }
        Event::LinkUp { peer, address, kind } => {
            let address = address.to_string();
            json!({ "event": "link_up", "peer": peer, "address": address, "kind": kind })
        }
        Event::LinkMoved { reason } => json!({ "event": "link_moved", "reason": reason }),
        Event::LinkLost { reason } => json!({ "event": "link_lost", "reason": reason }),
        Event::LinkRetry { after } => json!({ "event": "link_retry", "seconds": seconds(*after) }),
        Event::Bounded { bound: now } => json!({ "event": "bound", "bound": bound(*now) }),
        Event::Waiting { position, length, seconds, reason } => json!({
            "event": "waiting", "position": position, "length": length,
            "seconds_left": seconds, "reason": shown(reason.as_bytes()),
        }),
        Event::Admitted { dataset, notes } => json!({
            "event": "admitted", "dataset": dataset,
            "notes": notes.iter().map(|note| shown(note.as_bytes())).collect::<Vec<_>>(),
        }),
        Event::Warning { text } => json!({ "event": "warning", "text": text }),
        // The command tells beginning and end itself, for it knows the receipt's place.
        _ => return None,
    };
    Some(value.to_string())
}

/// What a second reading found to differ; `why` is a word of `docs/formats/events.md`.
pub fn differs(path: &[u8], why: &str, reason: Option<&str>) -> String {
    json!({ "event": "differs", "path": shown(path), "why": why, "reason": reason }).to_string()
}

/// The beginning of a job.
pub fn started(sources: &[String], target: &str) -> String {
    json!({ "event": "started", "sources": sources, "target": target }).to_string()
}

/// The end of a job that was carried out.
pub fn finished(end: &Finished) -> String {
    json!({
        "event": "finished",
        "files": end.files,
        "bytes": end.bytes,
        "bytes_sent": end.bytes_sent,
        "skipped": end.skipped,
        "failed": end.failed,
        "seconds": seconds(end.elapsed),
        "receipt": end.receipt,
        "verified": end.verified,
        "differing": end.differing,
    })
    .to_string()
}

/// What a server says of an offer that it was only to check.
pub fn fits(notes: &[String]) -> String {
    let notes: Vec<Value> = notes.iter().map(|note| shown(note.as_bytes())).collect();
    json!({ "event": "fits", "notes": notes }).to_string()
}

/// Why metadata are not taken.
pub fn unfit(faults: &[Fault], more: u64) -> String {
    let fault = |fault: &Fault| json!({ "path": shown(fault.path.as_bytes()), "reason": shown(fault.reason.as_bytes()) });
    let faults: Vec<Value> = faults.iter().map(fault).collect();
    json!({ "event": "unfit", "faults": faults, "more": more }).to_string()
}

/// A dataset that is published.
pub fn handed_in(done: &HandedIn, elapsed: Duration, receipt: Option<String>) -> String {
    let t = &done.report.totals;
    json!({
        "event": "published",
        "dataset": done.dataset,
        "before": done.before,
        "files": t.copied + t.unchanged,
        "bytes": t.bytes_present.max(t.bytes_copied),
        "bytes_sent": done.report.bytes_sent,
        "seconds": seconds(elapsed),
        "receipt": receipt,
    })
    .to_string()
}

/// The end of a job that was not carried out.
pub fn failed(report: &Report) -> String {
    json!({
        "event": "error",
        "code": report.code as u8,
        "text": report.line(),
        "hint": report.hint,
    })
    .to_string()
}

/// One line of a listing.
pub fn listed(entry: &transfer::message::Listed) -> String {
    let kind = super::table::kind_word(entry.kind);
    json!({
        "kind": kind,
        "name": shown(entry.name.as_bytes()),
        "bytes": entry.size,
        "mode": format!("{:04o}", entry.mode),
        "mtime": entry.mtime.seconds,
    })
    .to_string()
}

/// What holds a job back, with its figure under a key that names the unit; null while nothing is known.
pub fn bound(bound: Bound) -> Value {
    let Some((unit, figure)) = bounds::figure(bound) else { return Value::Null };
    json!({ "by": bounds::name(bound.kind), unit: figure })
}

fn how_word(how: How) -> &'static str {
    match how {
        How::Copied => "copied",
        How::Resumed => "resumed",
        How::Unchanged => "unchanged",
        How::Linked => "made",
        _ => "done",
    }
}

fn shown(path: &[u8]) -> Value {
    files::escape(path).to_string().into()
}

/// Milliseconds are exact enough, and more digits only look so.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}
