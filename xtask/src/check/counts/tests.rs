//! The summaries are the runners' own words.

use super::*;

fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
    Some(Counts { passed, failed, skipped, incomplete: false })
}

#[test]
fn nextest() {
    let check = |line: &str, expected| {
        assert_eq!(Counts::of_nextest(&format!("noise\n{line}\nmore\n")), expected)
    };
    check("     Summary [   0.500s] 12 tests run: 12 passed, 0 skipped", counts(12, 0, 0));
    check(
        "     Summary [   1.2s] 11 tests run: 9 passed (2 slow, 1 flaky), 2 failed, 3 skipped",
        counts(9, 2, 3),
    );
    check(
        "     Summary [   1.2s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped",
        counts(1, 2, 0),
    );
    check(
        "     Summary [   1.2s] 3/9 tests run: 2 passed, 1 exec failed, 4 skipped",
        counts(2, 1, 4),
    );
    check("error: could not compile `haul`", None);
    check("     Summary [   1.2s] something new", None);
}

#[test]
fn libtest() {
    let check = |text: &str, expected| assert_eq!(Counts::of_libtest(text), expected);
    let first = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s";
    let second = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.00s";
    check(first, counts(5, 0, 3));
    check(&format!("running 9 tests\n{first}\nrunning 4 tests\n{second}\n"), counts(8, 1, 3));
    check("error: could not compile `haul`", None);
}

#[test]
fn what_is_incomplete_says_so() {
    let mut sum = Counts { passed: 2, ..Counts::default() };
    assert_eq!(sum.to_string(), "2 passed, 0 failed, 0 skipped");
    sum.add(Counts { incomplete: true, failed: 1, ..Counts::default() });
    assert!(sum.to_string().contains("stopped before its end"));
    assert!(sum.to_string().ends_with("2 passed, 1 failed, 0 skipped"));
}
