//! Delays, patience, and what ends it.

use super::*;

const LOST: Outcome = Outcome::Failed(Fault::Transient);

fn wait(step: Step) -> Duration {
    match step {
        Step::Wait(wait) => wait,
        Step::GiveUp => panic!("gave up"),
    }
}

#[test]
fn delays_double_up_to_the_longest() {
    for (random, percent) in [(u64::MAX, 100), (0, 50), (u64::MAX / 2, 75)] {
        let mut backoff = Backoff::new(BackoffOptions::default());
        for full in [250, 500, 1000, 2000, 2000, 2000] {
            let got = wait(backoff.next(Duration::ZERO, LOST, random)).as_micros();
            let expected = full * 10 * percent;
            assert!(got.abs_diff(expected) <= 1, "{got} {expected}");
        }
    }
}

#[test]
fn patience_ends_and_progress_renews_it() {
    let give_up_after = Duration::from_secs(10);
    let mut backoff = Backoff::new(BackoffOptions { give_up_after, ..BackoffOptions::default() });
    let mut now = Duration::from_secs(100);
    let mut attempts = 0;
    while let Step::Wait(wait) = backoff.next(now, LOST, u64::MAX) {
        now += wait;
        attempts += 1;
    }
    assert_eq!(now, Duration::from_secs(110), "the last attempt is at the end of the patience");
    assert!((5..20).contains(&attempts), "{attempts}");
    assert_eq!(backoff.next(now, LOST, 0), Step::GiveUp);
    let renewed = backoff.next(now, Outcome::LostAfterProgress(Fault::Transient), u64::MAX);
    assert_eq!(renewed, Step::Wait(Duration::from_millis(250)));
}

#[test]
fn only_transient_faults_are_worth_it() {
    for fault in [Fault::Denied, Fault::Permanent, Fault::Corrupt] {
        for outcome in [Outcome::Failed(fault), Outcome::LostAfterProgress(fault)] {
            assert_eq!(
                Backoff::new(BackoffOptions::default()).next(Duration::ZERO, outcome, 0),
                Step::GiveUp
            );
        }
    }
}

#[test]
fn many_attempts_do_not_overflow() {
    let options = BackoffOptions {
        longest: Duration::MAX,
        give_up_after: Duration::MAX,
        ..BackoffOptions::default()
    };
    let mut backoff = Backoff::new(options);
    for _ in 0..100 {
        wait(backoff.next(Duration::ZERO, LOST, u64::MAX));
    }
}
