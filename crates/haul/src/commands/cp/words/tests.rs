use std::time::Duration;

use transfer::Totals;

use super::*;

#[test]
fn the_summary_names_what_happened() {
    let totals = Totals { copied: 2, bytes_copied: 3_000_000, unchanged: 5, ..Totals::default() };
    assert_eq!(
        summary(&totals, false, Duration::from_secs(2), Some("r.json")),
        "copied 2 files, 3.0 MB in 2.0 s (1.5 MB/s); 5 unchanged; receipt r.json"
    );
    let planned = Totals { planned: 3, ..Totals::default() };
    let text = summary(&planned, true, Duration::ZERO, None);
    assert_eq!(text, "would copy 3 entries; nothing was changed");
}

#[test]
fn the_link_is_told_as_it_was_used() {
    let link = LinkSnapshot {
        rtt: Duration::from_micros(41_200),
        packets_sent: 1000,
        packets_lost: 20,
        connections: 1,
        ..LinkSnapshot::default()
    };
    let check = |link: LinkSnapshot, here, expected: &str| {
        assert_eq!(link_words(&link, here, 3_000_000, Duration::from_secs(2)), expected);
    };
    let plain = "link: QUIC, 1 connection; 3.0 MB sent at 1.5 MB/s; loss 2.0%, round trip 41.2 ms";
    check(link, Here::Source, plain);
    let polite = LinkSnapshot { gives_way: true, is_tcp: true, connections: 2, ..link };
    check(
        polite,
        Here::Source,
        "link: TCP, 2 connections, giving way to others; 3.0 MB sent at 1.5 MB/s; loss 2.0%, round \
         trip 41.2 ms",
    );
    let known = LinkSnapshot { remembered_rate: 11_300_000, ..link };
    check(known, Here::Source, &format!("{plain}; begun with the 11.3 MB/s of an earlier copy"));
    // What this end would do if it sent says nothing of the one that does.
    let pulled = LinkSnapshot { gives_way: true, remembered_rate: 11_300_000, ..link };
    check(pulled, Here::Target, plain);
}
