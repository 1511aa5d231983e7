use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn id(number: usize) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

fn order(target: &str) -> Order {
    Order { target: target.as_bytes().to_vec(), ..Order::default() }
}

fn terms(granter: u8, to: u8, order: &Order) -> Terms {
    let remote = "10.0.0.1:1".parse().unwrap();
    Terms::new(Granter { key: key(granter), remote }, key(to), order, 100)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is said to who uses a grant so: the grant is for key 2 and the order `a`, given at 10 s for an hour.
fn refused(to: u8, order: &Order, now: Duration, id_used: [u8; 32]) -> Option<String> {
    let mut grants = Grants::default();
    let terms = terms(1, 2, &super::tests::order("a"));
    assert_eq!(grants.give(id(1), terms, HOUR, at(10)), Ok(HOUR));
    match grants.take(&id_used, &key(to), order, now) {
        Ok(taken) => {
            assert_eq!(taken, terms);
            None
        }
        Err(refusal) => {
            assert_eq!(refusal.code, RefuseCode::UnknownGrant);
            Some(refusal.text)
        }
    }
}

#[test]
fn a_grant_is_for_one_key_one_order_and_an_hour() {
    let good = order("a");
    let check = |to, order: &Order, seconds, id, expected: Option<&str>| {
        let told = refused(to, order, at(seconds), id);
        match (&told, expected) {
            (None, None) => {}
            (Some(text), Some(part)) if text.contains(part) => {}
            _ => panic!("{told:?} instead of {expected:?}"),
        }
    };
    check(2, &good, 10, id(1), None);
    check(2, &good, 3609, id(1), None);
    check(2, &good, 3610, id(1), Some("time"));
    check(2, &good, u64::MAX, id(1), Some("time"));
    check(2, &good, 10, id(2), Some("not known"));
    // To another key it is as if there were none.
    check(3, &good, 10, id(1), Some("not known"));
    check(1, &good, 10, id(1), Some("not known"));
    for other in [
        order("b"),
        order("a/"),
        Order { deletion: crate::message::Deletion::All, ..good.clone() },
        Order { named: true, ..good.clone() },
        Order { rules: vec![tree::Rule::exclude("x")], ..good.clone() },
    ] {
        check(2, &other, 10, id(1), Some("another copy"));
    }
}

#[test]
fn a_grant_is_used_once_and_no_restart_outlives_it() {
    let (mut grants, order) = (Grants::default(), order("a"));
    grants.give(id(1), terms(1, 2, &order), HOUR, at(0)).unwrap();
    grants.take(&id(1), &key(2), &order, at(1)).unwrap();
    let again = grants.take(&id(1), &key(2), &order, at(2)).unwrap_err();
    assert!(again.text.contains("used already"), "{again}");
    // What runs under it goes on for as long as it takes, and the key is let in for it.
    assert_eq!(grants.granters_of(&key(2), at(1_000_000)).len(), 1);
    grants.end(&id(1));
    assert!(grants.granters_of(&key(2), at(2)).is_empty());
    assert!(grants.take(&id(1), &key(2), &order, at(2)).is_err());
    // A table that begins anew knows nothing.
    let mut restarted = Grants::default();
    assert!(restarted.take(&id(1), &key(2), &order, at(1)).is_err());
}

#[test]
fn a_misuse_does_not_use_it_up() {
    let (mut grants, good) = (Grants::default(), order("a"));
    grants.give(id(1), terms(1, 2, &good), HOUR, at(0)).unwrap();
    assert!(grants.take(&id(1), &key(3), &good, at(1)).is_err());
    assert!(grants.take(&id(1), &key(2), &order("b"), at(1)).is_err());
    assert!(grants.take(&id(1), &key(2), &good, at(1)).is_ok());
}

#[test]
fn a_key_is_let_in_while_there_is_something_for_it() {
    let (mut grants, order) = (Grants::default(), order("a"));
    assert!(grants.granters_of(&key(2), at(0)).is_empty());
    // Nobody is given more than an hour, and who wants less gets less.
    assert_eq!(grants.give(id(1), terms(1, 2, &order), at(u64::MAX), at(0)), Ok(HOUR));
    assert_eq!(grants.give(id(2), terms(5, 2, &order), at(60), at(0)), Ok(at(60)));
    let keys = |now| {
        let mut keys: Vec<_> =
            grants.granters_of(&key(2), now).iter().map(|granter| granter.key).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(at(59)), [key(1), key(5)]);
    assert_eq!(keys(at(60)), [key(1)]);
    assert_eq!(keys(at(3600)), []);
    assert!(grants.granters_of(&key(1), at(0)).is_empty(), "who grants gets nothing by it");
}

#[test]
fn grants_are_bounded_by_key_and_in_all() {
    let (mut grants, order) = (Grants::default(), order("a"));
    // One key: its oldest open one goes, never one that is in use.
    for number in 0..PER_KEY {
        grants.give(id(number), terms(1, 2, &order), HOUR, at(0)).unwrap();
    }
    grants.take(&id(0), &key(2), &order, at(1)).unwrap();
    for number in PER_KEY..1000 {
        grants.give(id(number), terms(1, 2, &order), HOUR, at(1)).unwrap();
    }
    assert_eq!(grants.known.len(), PER_KEY);
    assert!(grants.known[&id(0)].is_used);
    assert!(grants.take(&id(PER_KEY), &key(2), &order, at(1)).is_err());
    assert!(grants.take(&id(999), &key(2), &order, at(1)).is_ok());
    // All of them in use: no more.
    let mut grants = Grants::default();
    for number in 0..PER_KEY {
        grants.give(id(number), terms(1, 2, &order), HOUR, at(0)).unwrap();
        grants.take(&id(number), &key(2), &order, at(0)).unwrap();
    }
    let refused = grants.give(id(99), terms(1, 2, &order), HOUR, at(0)).unwrap_err();
    assert_eq!(refused.code, RefuseCode::Busy);
    // Another key has room, until there is none in all.
    let mut grants = Grants::default();
    let mut given = 0;
    for granter in 0..100 {
        for number in 0..PER_KEY {
            let id = id(1000 * usize::from(granter) + number);
            given += usize::from(grants.give(id, terms(granter, 2, &order), HOUR, at(0)).is_ok());
        }
    }
    assert_eq!((given, grants.known.len()), (IN_ALL, IN_ALL));
    // What is over makes room.
    assert!(grants.give(id(5), terms(99, 2, &order), HOUR, at(3600)).is_ok());
    assert_eq!(grants.known.len(), 1);
}
