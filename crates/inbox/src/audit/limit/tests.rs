use super::*;

/// As a log uses it.
fn admits(limit: &mut Limit, client: &str, now_ms: i64) -> bool {
    assert_eq!(limit.left_out(now_ms), None);
    limit.admits(client, now_ms)
}

#[test]
fn each_client_and_all_together_have_their_share() {
    let mut limit = Limit::default();
    let loud = (0..1_000).filter(|_| admits(&mut limit, "loud", 5)).count();
    assert_eq!(loud, MOST_OF_ONE as usize);
    assert!(admits(&mut limit, "quiet", 6));
    let others = (0..10_000).filter(|number| admits(&mut limit, &number.to_string(), 7)).count();
    assert_eq!(loud + 1 + others, MOST as usize);
    assert!(!admits(&mut limit, "quiet", 8));
    assert!(limit.of_one.len() <= MOST as usize);

    let left_out = 980 + (10_000 - others as u64) + 1;
    assert_eq!(limit.left_out(5 + WINDOW_MS - 1), None);
    assert_eq!(limit.left_out(5 + WINDOW_MS), Some((left_out, 5)));
    assert_eq!(limit.left_out(5 + WINDOW_MS), None);
    assert!(admits(&mut limit, "loud", 5 + WINDOW_MS));
}

#[test]
fn a_clock_that_is_set_back_begins_anew() {
    let mut limit = Limit::default();
    for _ in 0..=MOST_OF_ONE {
        limit.admits("loud", 1_000_000);
    }
    assert_eq!(limit.left_out(10), Some((1, 1_000_000)));
    assert!(limit.admits("loud", 10));
    // An hour in which nothing was left out is no news.
    assert_eq!(limit.left_out(10 + WINDOW_MS), None);
    assert!(limit.since_ms.is_none());
}
