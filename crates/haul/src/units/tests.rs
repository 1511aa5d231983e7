use std::time::Duration;

use super::*;

#[test]
fn rates_are_read() {
    let check = |text: &str, expected: Result<u64, UnitError>| {
        assert_eq!(parse_rate(text), expected, "{text}");
    };
    check("10MB", Ok(10_000_000));
    check("10MB/s", Ok(10_000_000));
    check("500k", Ok(500_000));
    check("1.5G", Ok(1_500_000_000));
    check("4KiB", Ok(4096));
    check("7B", Ok(7));
    check("800 B", Ok(800));
    check("10000", Ok(10_000));
    check("5kB", Ok(5000));
    for unitless in ["7", "800", "9999", "9999/s", "12.5"] {
        check(unitless, Err(UnitError::Unitless));
    }
    check("0", Err(UnitError::Zero));
    check("0.1", Err(UnitError::Zero));
    for wrong in ["", "fast", "10 apples", "-1", "1e400", "99999999999999999999999", "1..2MB"] {
        check(wrong, Err(UnitError::Bytes));
    }
}

#[test]
fn durations_are_read() {
    let check = |text: &str, expected: Result<u64, UnitError>| {
        assert_eq!(parse_duration(text), expected.map(Duration::from_secs), "{text}");
    };
    check("90", Ok(90));
    check("30s", Ok(30));
    check("5m", Ok(300));
    check("2h", Ok(7200));
    check("1d", Ok(86_400));
    for wrong in ["", "m", "5 m", "-3s", "5w", "18446744073709551615d"] {
        check(wrong, Err(UnitError::Duration));
    }
}

#[test]
fn figures_are_shown() {
    assert_eq!(bytes(999), "999 B");
    assert_eq!(bytes(1_500), "1.5 kB");
    assert_eq!(bytes(999_960), "1.0 MB");
    assert_eq!(bytes(u64::MAX), "18.4 EB");
    assert_eq!(duration(Duration::from_millis(430)), "0.4 s");
    assert_eq!(duration(Duration::from_secs(187)), "3m07s");
    assert_eq!(duration(Duration::from_secs(7500)), "2h05m");
    assert_eq!(count(1, "file"), "1 file");
    assert_eq!(count(0, "file"), "0 files");
}
