//! What is told at the end of a copy. Pure.

use std::time::Duration;

use events::LinkSnapshot;
use transfer::Totals;

use crate::bounds::{self, Here};
use crate::units;

/// What the link did.
pub(super) fn link_words(link: &LinkSnapshot, here: Here, sent: u64, elapsed: Duration) -> String {
    let mut text = format!(
        "link: {}, {}",
        match (link.is_tcp, link.is_pipe) {
            (_, true) => "a pipe",
            (true, false) => "TCP",
            (false, false) => "QUIC",
        },
        units::count(link.connections, "connection"),
    );
    // How the other end sends is not known here.
    let sends = here != Here::Target;
    if sends && link.gives_way {
        text.push_str(", giving way to others");
    }
    text.push_str(&format!(
        "; {} sent at {}; loss {}, round trip {:.1} ms",
        units::bytes(sent),
        units::rate(sent as f64 / elapsed.as_secs_f64().max(0.001)),
        bounds::percent(link.loss()),
        link.rtt.as_secs_f64() * 1000.0,
    ));
    if sends && link.remembered_rate > 0 {
        let rate = units::rate(link.remembered_rate as f64);
        text.push_str(&format!("; begun with the {rate} of an earlier copy"));
    }
    text
}

/// The last line of a copy.
pub(super) fn summary(
    t: &Totals,
    dry_run: bool,
    elapsed: Duration,
    receipt: Option<&str>,
) -> String {
    let mut parts = vec![if dry_run {
        {
            let entries = if t.planned == 1 { "entry" } else { "entries" };
            format!("would copy {} {entries}; nothing was changed", t.planned)
        }
    } else {
        let rate = t.bytes_copied as f64 / elapsed.as_secs_f64().max(0.001);
        format!(
            "copied {}, {} in {} ({})",
            units::count(t.copied, "file"),
            units::bytes(t.bytes_copied),
            units::duration(elapsed),
            units::rate(rate)
        )
    }];
    let further = [("unchanged", t.unchanged), ("skipped", t.skipped), ("failed", t.failed)];
    let further = further.iter().filter(|(_, number)| *number > 0);
    parts.extend(further.map(|(word, number)| format!("{number} {word}")));
    if let Some(receipt) = receipt {
        parts.push(format!("receipt {receipt}"));
    }
    parts.join("; ")
}
#[cfg(test)]
mod tests;
