//! The model's arithmetic, without a packet.

use super::*;

const MS: Nanos = 1_000_000;

fn at(at: Nanos) -> Fate {
    Fate::Delivered { at, flip: None, duplicate: false, late: false }
}

fn lost_of(profile: Profile, packets: u32) -> f64 {
    let mut link = Link::new(profile, 7);
    let lost = (0..packets)
        .filter(|&i| !matches!(link.admit(i.into(), 1000), Fate::Delivered { .. }))
        .count();
    lost as f64 / f64::from(packets)
}

#[test]
fn loss_ratio() {
    assert_eq!(lost_of(Profile::default(), 1000), 0.0);
    let lost = lost_of(Profile { loss: 0.02, ..Profile::default() }, 200_000);
    assert!((0.019..0.021).contains(&lost), "{lost}");
}

#[test]
fn burst_loss_ratio() {
    let ge = GilbertElliott {
        good_to_bad: 0.01,
        bad_to_good: 0.19,
        loss_in_bad: 1.0,
        loss_in_good: 0.0,
    };
    let lost = lost_of(Profile { burst_loss: Some(ge), ..Profile::default() }, 400_000);
    assert!((0.047..0.053).contains(&lost), "{lost}"); // 0.01 / (0.01 + 0.19)
}

#[test]
fn rate_and_tail_drop() {
    // 8 Mbit/s: 1 ms for 1000 bytes; room for 3 packets, the one being sent included.
    let profile =
        Profile { rate: Some(8e6), queue: Some(3000), delay: 5 * MS, ..Profile::default() };
    let mut link = Link::new(profile, 1);
    let fates: Vec<_> = (0..4).map(|_| link.admit(0, 1000)).collect();
    assert_eq!(fates, [at(6 * MS), at(7 * MS), at(8 * MS), Fate::QueueFull]);
    assert_eq!(link.admit(MS, 1000), at(9 * MS));
}

#[test]
fn jitter_keeps_order_and_reorder_does_not() {
    let jitter = Profile { delay: 10 * MS, jitter: 5 * MS, ..Profile::default() };
    for (profile, ordered) in
        [(jitter.clone(), true), (Profile { reorder: 0.1, reorder_by: 20 * MS, ..jitter }, false)]
    {
        let mut link = Link::new(profile, 3);
        let times: Vec<_> = (0..1000)
            .map(|i| match link.admit(i * MS / 10, 100) {
                Fate::Delivered { at, .. } => at,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(times.is_sorted(), ordered);
    }
}

#[test]
fn same_seed_same_fates() {
    let fates = |seed| {
        let mut link = Link::new(Profile { loss: 0.5, ..Profile::default() }, seed);
        (0..100).map(|i| link.admit(i, 10)).collect::<Vec<_>>()
    };
    assert_eq!(fates(1), fates(1));
    assert_ne!(fates(1), fates(2));
}

#[test]
fn a_new_profile_does_not_overtake_and_a_cleared_link_does_not_wait() {
    let mut link = Link::new(Profile { delay: 100 * MS, ..Profile::default() }, 1);
    assert_eq!(link.admit(0, 10), at(100 * MS));
    link.set_profile(Profile::default());
    assert_eq!(link.admit(MS, 10), at(100 * MS));
    link.clear();
    assert_eq!(link.admit(2 * MS, 10), at(2 * MS));
}

#[test]
fn absurd_settings_do_not_overflow() {
    let profile = Profile {
        delay: Nanos::MAX,
        jitter: Nanos::MAX,
        reorder: 1.0,
        reorder_by: Nanos::MAX,
        corrupt: 1.0,
        rate: Some(0.0),
        ..Profile::default()
    };
    let mut link = Link::new(profile, 1);
    for len in [0, 1, 65_507] {
        link.admit(Nanos::MAX, len);
    }
}

#[test]
fn a_policer_grants_its_burst_and_then_its_rate() {
    // 8 Mbit/s: 1000 bytes in each millisecond.
    let police = Some(Policer { rate: 8e6, burst: 3000 });
    let mut link = Link::new(Profile { police, ..Profile::default() }, 1);
    let fates: Vec<_> = (0..4).map(|_| link.admit(0, 1000)).collect();
    assert_eq!(fates, [at(0), at(0), at(0), Fate::Policed]);
    assert_eq!(link.admit(MS / 2, 1000), Fate::Policed);
    assert_eq!(link.admit(MS, 1000), at(MS));
    // A long silence earns no more than the bucket holds.
    let passed = (0..9).filter(|_| link.admit(900 * MS, 1000) != Fate::Policed).count();
    assert_eq!(passed, 3);
    // What a policer drops does not use up the rate behind it.
    let rate = Some(8e6);
    link.set_profile(Profile {
        police: Some(Policer { rate: 0.0, burst: 0 }),
        rate,
        ..Profile::default()
    });
    assert_eq!(link.admit(901 * MS, 1000), Fate::Policed);
    link.set_profile(Profile { rate, ..Profile::default() });
    assert_eq!(link.admit(902 * MS, 1000), at(903 * MS));
}
