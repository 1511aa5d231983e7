use super::*;

#[test]
fn the_words_of_a_link_say_what_it_is() {
    for row in GRID {
        let Some(settings) = row.link.settings() else {
            assert_eq!((row.link, row.limit_seconds), (LinkKind::Clean, None));
            continue;
        };
        // A limit is what is left of the rate for the payload, so it lies a little below.
        let (rate, limit) = (row.link.rate().unwrap() / 8.0, row.limit_rate().unwrap());
        assert!(limit < rate, "{}", row.title());
        let lost = settings.profiles[0].loss;
        // Many small files take round trips, so only one file says something of the rate.
        if matches!(row.load, Load::Large { .. }) {
            assert!(limit > rate * (0.93 - lost), "{}", row.title());
        }
    }
    assert_eq!(LinkKind::Wan0.round_trip_ms(), 100);
    assert_eq!(LinkKind::Lan.round_trip_ms(), 1);
    assert_eq!((LinkKind::Lossy.round_trip_ms(), LinkKind::Lossy.rate()), (40, Some(1e9)));
}

#[test]
fn a_small_row_has_the_limit_of_the_whole_one() {
    for row in GRID {
        let (whole, small) = (row.limit_rate(), row.small().limit_rate());
        match (whole, small) {
            (Some(whole), Some(small)) => assert!((whole / small - 1.0).abs() < 1e-9),
            other => assert_eq!(other, (None, None)),
        }
    }
}
