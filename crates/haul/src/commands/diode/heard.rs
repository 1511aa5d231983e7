//! What a receiver's events say to people, and to programs.

use diode::DiodeEvent;
use files::RelPath;
use serde_json::json;

use super::telling::Teller;
use crate::units;

pub fn tell(teller: &Teller, event: &DiodeEvent) {
    match event {
        // The command says so itself.
        DiodeEvent::Started | DiodeEvent::Stopped => {}
        event => {
            let is_told = tell_of_sender(teller, event)
                || tell_of_tree(teller, event)
                || tell_of_disk(teller, event);
            if !is_told {
                teller.say(&format!("{event:?}"));
            }
        }
    }
}

fn shown(path: &RelPath) -> String {
    files::escape(path.as_bytes()).to_string()
}

/// What comes over the link, and what is not taken of it. Whether it was that.
fn tell_of_sender(teller: &Teller, event: &DiodeEvent) -> bool {
    match event {
        DiodeEvent::SenderStarted { version, .. } => {
            let text = format!("the sender has started (version {version})");
            teller.tell("sender_started", &text, false, json!({ "version": version }));
        }
        DiodeEvent::SenderStopped { .. } => {
            teller.tell(
                "sender_stopped",
                "the sender has stopped, as it was asked to",
                false,
                json!({}),
            );
        }
        DiodeEvent::SessionBegan { sender, epoch } => {
            let key = sender.fingerprint();
            let fields = json!({ "sender": key, "epoch": epoch });
            teller.tell("session", &format!("a session of {key} began"), false, fields);
        }
        DiodeEvent::PlainSession { sender } => {
            let key = sender.fingerprint();
            let text = format!(
                "WARNING: this session of {key} is neither encrypted nor authenticated, as --insecure-plain allows: \
                 anybody on the way can read it, and put streams of his own into it"
            );
            teller.tell("plain_session", &text, true, json!({ "sender": key }));
        }
        DiodeEvent::HeartbeatLost { silent_for } => {
            let text =
                format!("nothing was heard of the sender for {}", units::duration(*silent_for));
            teller.tell("heartbeat_lost", &text, true, json!({ "seconds": silent_for.as_secs() }));
        }
        DiodeEvent::HeartbeatBack { silent_for } => {
            let text = format!("the sender is heard again, after {}", units::duration(*silent_for));
            teller.tell("heartbeat_back", &text, false, json!({ "seconds": silent_for.as_secs() }));
        }
        DiodeEvent::SenderSetBack { generation, base, known } => {
            let text = format!(
                "the sender's memory was set back: its generation {generation} builds on {base}, and {known} is here; \
                 nothing of it is taken until it tells the whole tree, as `haul diode resend --full` has it do there"
            );
            let fields = json!({ "generation": generation, "base": base, "known": known });
            teller.tell("sender_set_back", &text, true, fields);
        }
        DiodeEvent::Refused { why, count } => {
            let text = format!("{} not taken: {why}", units::count(*count, "frame"));
            let fields = json!({ "why": why.to_string(), "count": count });
            teller.tell("refused", &text, true, fields);
        }
        _ => return false,
    }
    true
}

/// What becomes of the tree. Whether it was that.
fn tell_of_tree(teller: &Teller, event: &DiodeEvent) -> bool {
    match event {
        DiodeEvent::Generation { number, files, bytes, removed, tally } => {
            let text = format!(
                "generation {number}: {} with {}, {removed} removed; in the tree {} the same, {} different, \
                 {} extra, {} missing",
                units::count(*files, "file"),
                units::bytes(*bytes),
                tally.same,
                tally.different,
                tally.extra,
                tally.missing
            );
            let fields = json!({ "generation": number, "files": files, "bytes": bytes, "removed": removed,
                "same": tally.same, "different": tally.different, "extra": tally.extra,
                "missing": tally.missing });
            teller.tell("generation", &text, tally.missing + tally.different > 0, fields);
        }
        DiodeEvent::FileFailed { path, reason } => {
            let text = format!("{}: {reason}; what was there before is as it was", shown(path));
            teller.tell(
                "file_failed",
                &text,
                true,
                json!({ "path": shown(path), "reason": reason }),
            );
        }
        DiodeEvent::Missing { generation, files } => {
            let text = format!(
                "generation {generation} has ended, and {} did not arrive: haul diode want",
                units::count(*files, "file")
            );
            teller.tell(
                "missing",
                &text,
                true,
                json!({ "generation": generation, "files": files }),
            );
        }
        DiodeEvent::Quarantined { path } => {
            let text = format!("{} is in quarantine", shown(path));
            teller.tell("quarantined", &text, false, json!({ "path": shown(path) }));
        }
        DiodeEvent::BrakePulled { generation, removes, of } => {
            let text = format!(
                "the brake holds generation {generation}, which would remove {removes} of {of} entries: look at \
                 the other side, then: haul diode release"
            );
            let fields = json!({ "generation": generation, "removes": removes, "of": of });
            teller.tell("brake", &text, true, fields);
        }
        DiodeEvent::BrakeReleased { generation } => {
            let text = format!("generation {generation} may remove what it was to");
            teller.tell("brake_released", &text, false, json!({ "generation": generation }));
        }
        _ => return false,
    }
    true
}

/// What becomes of the disk. Whether it was that.
fn tell_of_disk(teller: &Teller, event: &DiodeEvent) -> bool {
    match event {
        DiodeEvent::DiskFull => {
            let text = "the disk is full: what arrives now is lost, and will be on the want-list";
            teller.tell("disk_full", text, true, json!({}));
        }
        DiodeEvent::DiskHasRoom => {
            teller.tell("disk_has_room", "there is room on the disk again", false, json!({}))
        }
        DiodeEvent::DiskTooSlow { blocks } => {
            let text = format!(
                "the disk is slower than the link: {} were lost, and are on the want-list; a lower --rate at \
                 the sender helps",
                units::count(*blocks, "block")
            );
            teller.tell("disk_too_slow", &text, true, json!({ "blocks": blocks }));
        }
        DiodeEvent::JournalFailed { reason } => {
            let text = format!(
                "the journal cannot be kept, and nothing is published until it can: {reason}"
            );
            teller.tell("journal_failed", &text, true, json!({ "reason": reason }));
        }
        _ => return false,
    }
    true
}
