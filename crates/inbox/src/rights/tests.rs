use super::*;

fn rights(inboxes: Inboxes, bytes: Option<u64>, datasets: Option<u64>) -> InboxRights {
    InboxRights { inboxes, quota_bytes: bytes, quota_datasets: datasets }
}

#[test]
fn quotas_count_what_is_here_and_what_is_coming() {
    let named = || Inboxes::Named(vec!["ngs".to_owned(), "scans".to_owned()]);
    let usage = Usage { bytes: 400, datasets: 2, incoming_bytes: 100, incoming_datasets: 1 };
    let check = |rights: InboxRights, inbox: &str, declared, usage, expected: Option<&str>| {
        let answer = check(&rights, inbox, declared, usage).map_err(|error| error.to_string());
        assert_eq!(answer.err().as_deref(), expected);
    };
    check(rights(Inboxes::All, None, None), "ngs", u64::MAX, usage, None);
    check(rights(named(), None, None), "scans", 1, usage, None);
    check(
        rights(named(), None, None),
        "other",
        1,
        usage,
        Some("this key may not hand in to inbox other; it may to ngs, scans"),
    );
    check(
        rights(Inboxes::None, None, None),
        "ngs",
        1,
        usage,
        Some("this key may not hand in to inbox ngs"),
    );
    check(rights(named(), Some(1000), None), "ngs", 500, usage, None);
    let words = "this dataset has 501 B, but of this key's quota of 1.0 kB only 500 B are left, with 100 B on their way";
    check(rights(named(), Some(1000), None), "ngs", 501, usage, Some(words));
    // A quota that was made smaller than what is there lets nothing in, not even what has no bytes.
    let words = "this dataset has 0 B, but of this key's quota of 499 B only 0 B are left, with 100 B on their way";
    check(rights(named(), Some(499), None), "ngs", 0, usage, Some(words));
    check(rights(named(), None, Some(4)), "ngs", 1, usage, None);
    let words = "this key may have 3 datasets here and has as many, with 1 on their way";
    check(rights(named(), None, Some(3)), "ngs", 1, usage, Some(words));
    let most = Usage { bytes: u64::MAX, incoming_bytes: u64::MAX, ..Usage::default() };
    let words = "this dataset has 1 B, but of this key's quota of 1.0 kB only 0 B are left, with 18.4 EB on their way";
    check(rights(named(), Some(1000), None), "ngs", 1, most, Some(words));
}

#[test]
fn a_disk_holds_room_for_what_was_declared_and_has_not_come() {
    let mut reserve = Reserve::default();
    assert!(reserve.fits(0, 1000, 100, 900) && !reserve.fits(0, 1000, 100, 901));
    assert!(reserve.hold("a", 0, 500) && reserve.hold("b", 1, 300));
    assert!(reserve.fits(0, 1000, 100, 400) && !reserve.fits(0, 1000, 100, 401));
    // What has arrived is not free any more, and is not held twice.
    reserve.stored(&"a", 200);
    assert_eq!((reserve.held(0), reserve.held(1)), (300, 300));
    reserve.stored(&"a", 150);
    assert_eq!(reserve.held(0), 350);
    // More than was declared holds nothing.
    reserve.stored(&"a", 10_000);
    assert_eq!(reserve.held(0), 0);
    assert!(reserve.hold("a", 1, 50));
    assert_eq!((reserve.held(0), reserve.held(1)), (0, 350));
    assert!(!reserve.hold("c", 1, u64::MAX) && !reserve.fits(1, u64::MAX, 1, u64::MAX));
    assert_eq!(reserve.held(1), 350);
    reserve.release(&"a");
    reserve.release(&"b");
    reserve.release(&"c");
    assert_eq!(reserve.held(1), 0);
}
