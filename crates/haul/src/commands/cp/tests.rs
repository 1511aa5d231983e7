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
fn receipts_are_named_by_time_and_transfer() {
    assert_eq!(receipt_name("0123abcd4567", 0), "1970-01-01T000000Z-0123abcd.json");
    assert_eq!(receipt_name("../..", u64::MAX), format!("{}-.json", u64::MAX));
}
