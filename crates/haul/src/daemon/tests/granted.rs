//! What a target takes in the name of others.

use super::*;

/// A target, the orchestrator O, which it lists, and the source a, which it does not.
fn stage(name: &str) -> (Served, Identity, Identity) {
    let (served, o, a) = (Served::start(name), identity(), identity());
    served.allow(&[line(&o)]);
    (served, o, a)
}

/// Whether this key is let in at all.
async fn is_let_in(served: &Served, who: &Identity) -> bool {
    match served.dial(who).await {
        Ok(_) => true,
        Err(LinkError::Refused { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// One small file, from its offer to its end.
fn one_file(name: &str, content: &[u8]) -> Vec<Step> {
    vec![
        offer(vec![file(1, 0, name, content.len() as u64)]),
        Step::AwaitNeed(1),
        bundle(1, content),
        Step::AwaitOutcome(1),
        Step::Say(SourceMessage::End { entries: 1, problems: 0 }),
    ]
}

#[test]
fn a_grant_lets_an_unlisted_key_do_what_was_granted_and_nothing_else() {
    runtime().block_on(async {
        let (served, o, a) = stage("granted");
        let order = order("data/new");
        assert!(!is_let_in(&served, &a).await);
        let granted = served.grant(&o, &a, &order, 1000).await;
        assert_eq!((granted.seconds, granted.named), (3600, true));
        assert_eq!(granted.shown, "data/new");
        let (id, sources) = ([9; 16], vec![b"data".to_vec()]);
        for request in [
            Opening::List { path: Vec::new() },
            Opening::Measure { up: true, seconds: 1 },
            Opening::Put { id, resume: false, seen: 0, order: order.clone() },
            Opening::Get {
                id,
                resume: false,
                window: 1 << 20,
                pace: Pace::Fair,
                order: order.clone(),
                sources: sources.clone(),
                extent: Extent::All,
            },
            Opening::Send { order: order.clone(), sources },
            grant(&o, &order, 1),
        ] {
            assert_refused(&served.ask(&a, &request).await, RefuseCode::Denied, "granted to it");
        }
        let mut peer = served.dial(&a).await.unwrap();
        let answer = peer.ask(&put_granted(&granted, &order, 1)).await.unwrap();
        assert!(matches!(answer, Opening::Accept { resumed: false, .. }), "{answer:?}");
        let heard = peer.play(&one_file("any", b"hello"), PATIENCE).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
        assert_eq!(std::fs::read(served.data("new")).unwrap(), b"hello");
        // The peer has left with its last words, and then its key means nothing again.
        let end = Instant::now() + PATIENCE;
        while is_let_in(&served, &a).await {
            assert!(Instant::now() < end, "the grant is still good for something");
        }
        let log = served.log.lock().unwrap().clone();
        assert!(log.contains("has granted a copy to data/new"), "{log}");
        assert!(log.contains("began a copy to data/new that was granted to it"), "{log}");
    });
}

#[test]
fn a_grant_that_is_replayed_is_refused() {
    runtime().block_on(async {
        let (served, o, a) = stage("replayed");
        let order = order("data/new");
        let granted = served.grant(&o, &a, &order, 1000).await;
        let resume = |grant, id| {
            let order = order.clone();
            Opening::PutGranted { grant, id: [id; 16], resume: true, seen: 0, order }
        };
        let mut first = served.dial(&a).await.unwrap();
        let answer = first.ask(&put_granted(&granted, &order, 1)).await.unwrap();
        assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
        // While it runs: by another run, and by resuming what is not there or is another's.
        let again = served.ask(&a, &put_granted(&granted, &order, 2)).await;
        assert_refused(&again, RefuseCode::UnknownGrant, "used already");
        for request in [resume(granted.grant, 2), resume([0; 32], 1)] {
            let answer = served.ask(&a, &request).await;
            assert_refused(&answer, RefuseCode::UnknownTransfer, "not known");
        }
        // To go on over another lane is no second use.
        let mut second = served.dial(&a).await.unwrap();
        let answer = second.ask(&resume(granted.grant, 1)).await.unwrap();
        assert!(matches!(answer, Opening::Accept { resumed: true, .. }), "{answer:?}");
        let heard = second.play(&one_file("any", b"hello"), PATIENCE).await;
        assert_eq!(heard.end, End::Receipt, "{heard:?}");
        // When it is over, and another grant lets the key in.
        served.grant(&o, &a, &self::order("data/other"), 1000).await;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = served.ask(&a, &put_granted(&granted, &order, 3)).await;
            match &answer {
                // The farewell is still under way.
                Opening::Refuse { text, .. } if text.contains("used already") => {
                    assert!(Instant::now() < end, "{text}");
                }
                answer => break assert_refused(answer, RefuseCode::UnknownGrant, "not known"),
            }
        }
    });
}

#[test]
fn a_grant_is_of_no_use_to_another_key() {
    runtime().block_on(async {
        let (served, o, a) = stage("another-key");
        let (listed, stranger) = (identity(), identity());
        served.allow(&[line(&o), line(&listed)]);
        let order = order("data/new");
        let granted = served.grant(&o, &a, &order, 1000).await;
        assert!(!is_let_in(&served, &stranger).await);
        // Not even to one that may write here itself, nor to the one who asked for it.
        for other in [&listed, &o] {
            let answer = served.ask(other, &put_granted(&granted, &order, 1)).await;
            assert_refused(&answer, RefuseCode::UnknownGrant, "not known");
        }
        // It is as good as before for whom it is for.
        let answer = served.ask(&a, &put_granted(&granted, &order, 1)).await;
        assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
    });
}

#[test]
fn a_grant_is_for_one_path_and_one_order() {
    runtime().block_on(async {
        let (served, o, a) = stage("another-path");
        let good = order("data/new");
        let granted = served.grant(&o, &a, &good, 1000).await;
        for other in [
            order("data/other"),
            order("data"),
            Order { existing: Existing::Rename, ..good.clone() },
            Order { contents: true, ..good.clone() },
            Order { setid: true, ..good.clone() },
        ] {
            let answer = served.ask(&a, &put_granted(&granted, &other, 1)).await;
            assert_refused(&answer, RefuseCode::UnknownGrant, "another copy");
        }
        let answer = served.ask(&a, &put_granted(&granted, &good, 1)).await;
        assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
    });
}

#[test]
fn a_grant_is_over_after_its_hour() {
    runtime().block_on(async {
        let (served, o, a) = stage("its-hour");
        let listed = identity();
        served.allow(&[line(&o), line(&listed)]);
        let order = order("data/new");
        // Who wanted longer has an hour.
        let unlisted = served.grant(&o, &a, &order, 1000).await;
        let granted = served.grant(&o, &listed, &order, 1000).await;
        served.clock.store(3599, Ordering::Relaxed);
        assert!(is_let_in(&served, &a).await);
        served.clock.store(3600, Ordering::Relaxed);
        assert!(!is_let_in(&served, &a).await);
        let answer = served.ask(&listed, &put_granted(&granted, &order, 1)).await;
        assert_refused(&answer, RefuseCode::UnknownGrant, "time");
        // Another one lets the key in, and does not bring the first one back.
        served.grant(&o, &a, &self::order("data/x"), 1).await;
        let answer = served.ask(&a, &put_granted(&unlisted, &order, 1)).await;
        assert_refused(&answer, RefuseCode::UnknownGrant, "not known");
    });
}

#[test]
fn a_grant_is_for_so_many_bytes() {
    runtime().block_on(async {
        let (served, o, a) = stage("more-bytes");
        let order = Order { contents: true, ..order("data/into") };
        let granted = served.grant(&o, &a, &order, 10).await;
        let mut peer = served.dial(&a).await.unwrap();
        peer.ask(&put_granted(&granted, &order, 1)).await.unwrap();
        let script = vec![
            offer(vec![file(1, 0, "six", 6), file(2, 0, "five", 5), file(3, 0, "four", 4)]),
            Step::AwaitOutcome(2),
            Step::AwaitNeed(1),
            bundle(1, b"sixsix"),
            Step::AwaitNeed(3),
            bundle(3, b"four"),
            Step::AwaitOutcome(1),
            Step::AwaitOutcome(3),
            // What was not asked for is not taken either.
            bundle(2, b"five!"),
        ];
        let heard = peer.play(&script, PATIENCE).await;
        let sent_away = matches!(&heard.end, End::Closed(2, why) if why.contains("unknown file"));
        assert!(sent_away, "{heard:?}");
        let failed = Outcome::Failed {
            code: RefuseCode::TooMuch,
            text: "only 10 bytes may be stored by this copy, and it is one too many".to_owned(),
        };
        assert_eq!(heard.outcomes.get(&2), Some(&failed));
        assert_eq!(std::fs::read(served.data("into/six")).unwrap(), b"sixsix");
        assert_eq!(std::fs::read(served.data("into/four")).unwrap(), b"four");
        assert!(!served.data("into/five").exists());
    });
}

#[test]
fn no_grant_outlives_a_restart() {
    runtime().block_on(async {
        let (mut served, o, a) = stage("restarted");
        let order = order("data/new");
        let granted = served.grant(&o, &a, &order, 1000).await;
        served.restart().await;
        assert!(!is_let_in(&served, &a).await);
        served.grant(&o, &a, &self::order("data/x"), 1).await;
        let answer = served.ask(&a, &put_granted(&granted, &order, 1)).await;
        assert_refused(&answer, RefuseCode::UnknownGrant, "not known");
    });
}

#[test]
fn nobody_grants_what_is_not_its_own() {
    runtime().block_on(async {
        let (served, o, a) = stage("not-its-own");
        let reads = format!("read-only {}", line(&o));
        let elsewhere = format!("path=\"data/inbox\" {}", line(&o));
        for (line, words) in [(&reads, "only read"), (&elsewhere, "may not use")] {
            served.allow(std::slice::from_ref(line));
            let answer = served.ask(&o, &grant(&a, &order("data/new"), 1)).await;
            assert_refused(&answer, RefuseCode::Denied, words);
            assert!(!is_let_in(&served, &a).await);
        }
        served.allow(&[line(&o)]);
        for target in ["data/../..", "data/no/where", "/etc/x"] {
            let answer = served.ask(&o, &grant(&a, &order(target), 1)).await;
            assert_refused(&answer, RefuseCode::NotFound, "");
        }
    });
}

#[test]
fn a_grant_is_worth_what_its_giver_may_do_at_that_moment() {
    runtime().block_on(async {
        let (served, o, a) = stage("live-rights");
        let order = order("data/new");
        let granted = served.grant(&o, &a, &order, 1000).await;
        // Revoked before it is used, and let in again with less.
        served.allow(&[]);
        assert!(!is_let_in(&served, &a).await);
        served.allow(&[format!("path=\"data/inbox\" {}", line(&o))]);
        let answer = served.ask(&a, &put_granted(&granted, &order, 1)).await;
        assert_refused(&answer, RefuseCode::Denied, "may not use");
        served.allow(&[line(&o)]);
        // That it was refused has used it up.
        assert!(!is_let_in(&served, &a).await);
        // Revoked while it runs, whether the source is listed or not.
        for listed in [false, true] {
            let lines = if listed { vec![line(&a)] } else { Vec::new() };
            served.allow(&[vec![line(&o)], lines.clone()].concat());
            let granted = served.grant(&o, &a, &order, 1000).await;
            let mut peer = served.dial(&a).await.unwrap();
            let answer = peer.ask(&put_granted(&granted, &order, 1)).await.unwrap();
            assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
            served.allow(&lines);
            let End::Closed(_, why) = peer.closed().await else { panic!("it goes on") };
            assert!(why.contains("not in authorized_keys") || why.contains("granted"), "{why}");
        }
    });
}

#[test]
fn what_the_list_says_of_a_key_is_not_undone_by_a_grant() {
    runtime().block_on(async {
        let (served, o, a) = stage("barred");
        let order = order("data/new");
        served.allow(&[line(&o), format!("expires=\"2020-01-01T00:00:00Z\" {}", line(&a))]);
        let granted = served.grant(&o, &a, &order, 1000).await;
        assert!(!is_let_in(&served, &a).await);
        // A key that may only read is let in as that, and may use the grant.
        served.allow(&[line(&o), format!("read-only {}", line(&a))]);
        let list = served.ask(&a, &Opening::List { path: Vec::new() }).await;
        assert!(matches!(list, Opening::Listing { .. }), "{list:?}");
        let put = Opening::Put { id: [9; 16], resume: false, seen: 0, order: order.clone() };
        assert_refused(&served.ask(&a, &put).await, RefuseCode::Denied, "only read");
        let answer = served.ask(&a, &put_granted(&granted, &order, 1)).await;
        assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
    });
}

#[test]
fn one_who_asks_for_grants_without_end_has_a_few() {
    runtime().block_on(async {
        let (served, o, a) = stage("many-grants");
        let order = order("data/new");
        let mut all = Vec::new();
        for _ in 0..3 * PER_KEY {
            all.push(served.grant(&o, &a, &order, 1).await);
        }
        let oldest = served.ask(&a, &put_granted(&all[2 * PER_KEY - 1], &order, 1)).await;
        assert_refused(&oldest, RefuseCode::UnknownGrant, "not known");
        let kept = served.ask(&a, &put_granted(&all[2 * PER_KEY], &order, 1)).await;
        assert!(matches!(kept, Opening::Accept { .. }), "{kept:?}");
    });
}
