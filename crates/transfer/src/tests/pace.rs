//! How hard a source pushes: a rate that was asked for holds, and a daemon that is asked to leave the path
//! to others does so on the lane that it sends over.

use events::BoundKind;

use super::*;

both_kinds! {
    a_pull_asks_for_a_pace
    a_pull_in_the_background_gives_way_at_the_daemon
}

/// What held a copy of 6 MB back with this pace, as far as a rate did.
async fn rates_that_held(rig: &Rig, scratch: &Scratch, pace: Pace, pulls: bool) -> Vec<u64> {
    let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
    let told = heard.clone();
    let sink = Sink::new(move |event| match event {
        Event::Bounded { bound } if bound.kind == BoundKind::Limit => {
            told.lock().unwrap().push(bound.figure);
        }
        _ => {}
    });
    let (options, order) = (JobOptions { sink, pace, ..options() }, Order::default());
    let (connect, near) = (rig.connect(), scratch.dir("near"));
    let report = if pulls {
        let (landing, paths) = (landing(&near, b""), vec![b"there".to_vec()]);
        get(connect, paths, landing, order, rig.identity.clone(), options).await
    } else {
        put(connect, vec![source(&near, b"here")], order, options).await
    };
    assert_eq!(report.unwrap().totals.copied, 1);
    heard.lock().unwrap().clone()
}

fn a_pull_asks_for_a_pace(kind: LaneKind) {
    let scratch = Scratch::new(&format!("pace-{kind}"));
    std::fs::write(scratch.path("far/there"), vec![1; 6_000_000]).unwrap();
    std::fs::write(scratch.path("near/here"), vec![2; 6_000_000]).unwrap();
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        let pace = Pace::Fixed(2_000_000);
        let rates = rates_that_held(&rig, &scratch, pace, true).await;
        assert_eq!(rates.first(), Some(&2_000_000), "{rates:?}");
        let rates = rates_that_held(&rig, &scratch, pace, false).await;
        // Over QUIC the rate control keeps it.
        let expected = (kind == LaneKind::Tcp).then_some(&2_000_000);
        assert_eq!(rates.first(), expected, "{rates:?}");
        rig.close().await;
    });
}

/// The pace of the daemon's lane behind a pull with this one.
async fn pace_there(rig: &Rig, scratch: &Scratch, pace: Pace) -> Option<Pace> {
    rates_that_held(rig, scratch, pace, true).await;
    std::fs::remove_file(scratch.path("near/there")).unwrap();
    let lanes = std::mem::take(&mut *rig.lanes.lock().unwrap());
    assert_eq!(lanes.len(), 1);
    lanes[0].stats().pace
}

fn a_pull_in_the_background_gives_way_at_the_daemon(kind: LaneKind) {
    let scratch = Scratch::new(&format!("background-{kind}"));
    std::fs::write(scratch.path("far/there"), vec![1; 6_000_000]).unwrap();
    runtime().block_on(async {
        let rig = Rig::of(kind, scratch.dir("far"));
        assert_eq!(pace_there(&rig, &scratch, Pace::Fair).await, Some(Pace::Fair));
        assert_eq!(pace_there(&rig, &scratch, Pace::Background).await, Some(Pace::Background));
        // Each lane has a pace of its own. No peer has a daemon send at a rate whatever is lost.
        let fixed = Pace::Fixed(100_000_000);
        assert_eq!(pace_there(&rig, &scratch, fixed).await, Some(Pace::Fair));
        rig.close().await;
    });
}
