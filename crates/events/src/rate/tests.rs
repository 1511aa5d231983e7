//! Rates in virtual time.

use super::*;

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[track_caller]
fn check(rate: &Rate, now: f64, expected: f64) {
    let got = rate.bytes_per_s(s(now));
    assert!((got - expected).abs() <= expected.abs() * 0.02 + 1e-9, "{got}, not {expected}");
}

/// 1000 B/s until `end`, fed every 10 ms.
fn steady(end: f64) -> Rate {
    let mut rate = Rate::default();
    let steps = (end * 100.0) as u64;
    (0..=steps).for_each(|i| rate.observe(Duration::from_millis(i * 10), i * 10));
    rate
}

#[test]
fn nothing_is_known_from_less_than_two_samples() {
    let mut rate = Rate::default();
    check(&rate, 1.0, 0.0);
    rate.observe(s(1.0), 100);
    check(&rate, 1.0, 0.0);
    assert_eq!(rate.time_left(s(1.0), 1), None);
    assert_eq!(rate.time_left(s(1.0), 0), Some(Duration::ZERO));
}

#[test]
fn a_steady_stream() {
    for end in [0.5, 5.0, 60.0] {
        check(&steady(end), end, 1000.0);
    }
    let left = steady(20.0).time_left(s(20.0), 30_000).unwrap();
    assert!((s(29.0)..s(31.0)).contains(&left), "{left:?}");
}

#[test]
fn a_stalled_stream_slows_down_to_nothing() {
    let rate = steady(20.0);
    check(&rate, 22.5, 500.0);
    check(&rate, 25.0, 0.0);
    assert_eq!(rate.time_left(s(30.0), 1), None);
}

#[test]
fn a_change_is_all_seen_after_a_window() {
    let mut rate = steady(20.0);
    for i in 1..=50 {
        rate.observe(s(20.0 + f64::from(i) * 0.1), 20_000 + i64::from(i) as u64 * 500);
    }
    check(&rate, 25.0, 5000.0);
}

#[test]
fn going_back_starts_afresh_and_memory_is_bounded() {
    let mut rate = steady(20.0);
    assert!(rate.samples.len() <= 2 * SAMPLES as usize + 3, "{}", rate.samples.len());
    rate.observe(s(20.5), 5);
    check(&rate, 20.5, 0.0);
    rate.observe(s(21.5), 105);
    check(&rate, 21.5, 100.0);
}
