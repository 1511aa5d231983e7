use super::*;

fn ran(ended: Ended, said: &[u8]) -> Ran {
    Ran { ended, output: Vec::new(), said: said.to_vec() }
}

#[test]
fn only_0_and_2xx_are_done_and_say_yes() {
    let check = |ended: Ended, is_done: bool, answer: Answer| {
        let ran = ran(ended.clone(), b"because\n");
        assert_eq!((ran.is_done(), ran.answer()), (is_done, answer), "{ended:?}");
    };
    let no = || Answer::No("because".to_owned());
    check(Ended::Exited(0), true, Answer::Yes);
    check(Ended::Exited(1), false, no());
    check(Ended::Exited(2), false, Answer::Unable);
    check(Ended::Exited(127), false, Answer::Unable);
    check(Ended::Signalled(9), false, Answer::Unable);
    check(Ended::Answered(200), true, Answer::Yes);
    check(Ended::Answered(204), true, Answer::Yes);
    check(Ended::Answered(199), false, Answer::Unable);
    check(Ended::Answered(302), false, Answer::Unable);
    check(Ended::Answered(400), false, no());
    check(Ended::Answered(422), false, no());
    check(Ended::Answered(429), false, Answer::Unable);
    check(Ended::Answered(500), false, Answer::Unable);
    check(Ended::TimedOut("no answer"), false, Answer::Unable);
    check(Ended::Failed("gone".to_owned()), false, Answer::Unable);
    assert!(ran(Ended::Answered(302), b"").words().contains("leads elsewhere"));
}

#[test]
fn a_reason_is_one_clean_short_line() {
    let check = |said: &[u8], expected: &str| {
        assert_eq!(ran(Ended::Exited(1), said).answer(), Answer::No(expected.to_owned()));
    };
    check(b"no such sample\nTraceback\n", "no such sample");
    check(b"\n \r\n  no such sample\r\n", "no such sample");
    check(b"a\x1b[31mb\tc\x07", "a [31mb c");
    check("x\u{202e}y\u{200b}z C:\\tmp".as_bytes(), "x y z C:\\tmp");
    check(b"\xff\xfe", "\u{fffd}\u{fffd}");
    check(b"", "the inbox does not take it, and gives no reason");
    check(b"\x07\x08\n", "the inbox does not take it, and gives no reason");
    let long = "ä".repeat(1_000);
    check(long.as_bytes(), &long[..MAX_REASON]);
}

#[test]
fn waits_grow_to_an_hour_and_end_in_somebodys_hands() {
    let mut full = 10_000;
    for tries in 1..20 {
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let Next::At(next) = after_failure(tries, 20, random, 5) else { panic!("stuck") };
            assert!((full / 2..=full).contains(&(next - 5)), "{tries} {random} {next}");
        }
        full = (full * 2).min(3_600_000);
    }
    assert_eq!(after_failure(1, 20, u64::MAX, 0), Next::At(10_000));
    assert_eq!(after_failure(1, 20, 0, 0), Next::At(5_000));
    assert_eq!(after_failure(19, 20, u64::MAX, 0), Next::At(3_600_000));
    assert_eq!(after_failure(20, 20, 0, 0), Next::Stuck);
    assert_eq!(after_failure(0, 0, 0, 0), Next::Stuck);
    assert_eq!(after_failure(u32::MAX - 1, u32::MAX, u64::MAX, i64::MAX), Next::At(i64::MAX));
}

#[test]
fn secrets_are_taken_out_of_what_is_kept() {
    let secrets = [b"s3cret!".to_vec(), b"abc".to_vec()];
    let shown = redacted(b"with s3cret!s3cret! and abc".to_vec(), &secrets);
    assert_eq!(shown, b"with (secret)(secret) and abc");
    assert_eq!(redacted(b"s3cre".to_vec(), &secrets), b"s3cre");
}
