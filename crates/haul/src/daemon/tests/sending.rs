//! What a source does for somebody who has things sent elsewhere, and what it does not.

use super::*;

/// A source with a file `data/a` of 5 bytes, and the orchestrator O, which it lists.
fn stage(name: &str) -> (Served, Identity) {
    let (served, o) = (Served::start(name), identity());
    served.allow(&[line(&o)]);
    std::fs::write(served.data("a"), b"hello").unwrap();
    (served, o)
}

fn send(path: &str) -> Opening {
    Opening::Send { order: order("data/x"), sources: vec![path.as_bytes().to_vec()] }
}

fn go(to: SocketAddr, key: PublicKey) -> Go {
    Go {
        grant: [1; 32],
        run: [2; 8],
        key,
        target: Target::new(&to.ip().to_string(), to.port()).unwrap(),
        choice: LinkChoice::Only(LaneKind::Tcp),
        pace: Pace::Fair,
        limit_bytes_per_s: None,
        patience_s: 1,
    }
}

/// Asks for a file to be sent, and hears what it weighs.
async fn weighed(served: &Served, o: &Identity) -> Peer {
    let mut peer = served.dial(o).await.unwrap();
    let answer = peer.ask(&send("data/a")).await.unwrap();
    assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
    loop {
        match report(&mut peer).await {
            Report::Weighed { entries: 1, bytes: 5, last: true } => return peer,
            Report::Weighed { last: false, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn report(peer: &mut Peer) -> Report {
    let frame = tokio::time::timeout(PATIENCE, peer.receive()).await.unwrap().unwrap();
    Report::decode(&frame).unwrap()
}

/// Why it stopped.
async fn stopped(peer: &mut Peer) -> Stopped {
    loop {
        match report(peer).await {
            Report::Stopped(stopped) => return stopped,
            Report::Progress(_) | Report::LinkNews(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_who_may_read_has_things_sent() {
    runtime().block_on(async {
        let (served, o) = stage("who-may-read");
        served.allow(&[format!("write-only {}", line(&o))]);
        assert_refused(&served.ask(&o, &send("data/a")).await, RefuseCode::Denied, "only write");
        served.allow(&[format!("path=\"data/inbox\" {}", line(&o))]);
        assert_refused(&served.ask(&o, &send("data/a")).await, RefuseCode::Denied, "may not use");
        served.allow(&[line(&o)]);
        for path in ["data/missing", "data/../..", "/etc/passwd"] {
            let answer = served.ask(&o, &send(path)).await;
            assert_refused(&answer, RefuseCode::NotFound, "");
        }
    });
}

/// Of a network that is not its own an orchestrator hears the same whatever is there: a closed port, somebody who
/// is not haul, a name that does not exist, a daemon with another key.
#[test]
fn of_what_cannot_be_reached_nothing_is_told_but_that() {
    runtime().block_on(async {
        let (served, o) = stage("unreached");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_at = closed.local_addr().unwrap();
        drop(closed);
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = Served::start("unreached-other");
        let key = identity().public_key();
        let named = Target::new("no-such-host.invalid", 4285).unwrap();
        for (what, go) in [
            ("a closed port", go(closed_at, key)),
            ("a mute one", go(mute.local_addr().unwrap(), key)),
            ("another key", go(other.address, key)),
            ("no host", Go { target: named, ..go(closed_at, key) }),
        ] {
            let mut peer = weighed(&served, &o).await;
            peer.frame(&go.encode()).await.unwrap();
            let stopped = stopped(&mut peer).await;
            let (code, text) = (RefuseCode::NotFound, String::new());
            assert_eq!(stopped, Stopped { at: Stretch::Unreached, code, text }, "{what}");
        }
    });
}

#[test]
fn a_source_sends_nothing_to_itself() {
    runtime().block_on(async {
        let (served, o) = stage("itself");
        let mut peer = weighed(&served, &o).await;
        let go = go(served.address, served.identity.public_key());
        peer.frame(&go.encode()).await.unwrap();
        let stopped = stopped(&mut peer).await;
        assert_eq!((stopped.at, stopped.code), (Stretch::Source, RefuseCode::Denied));
    });
}

#[test]
fn a_target_that_knows_no_grant_is_told_as_that() {
    runtime().block_on(async {
        let (served, o) = stage("no-grant");
        let target = Served::start("no-grant-target");
        let key = target.identity.public_key();
        // Not let in, and let in without a grant.
        for lines in [Vec::new(), vec![line(&served.identity)]] {
            target.allow(&lines);
            let mut peer = weighed(&served, &o).await;
            peer.frame(&go(target.address, key).encode()).await.unwrap();
            let stopped = stopped(&mut peer).await;
            assert_eq!((stopped.at, stopped.code), (Stretch::Target, RefuseCode::UnknownGrant));
        }
    });
}

#[test]
fn whoever_says_what_is_not_asked_is_sent_away() {
    runtime().block_on(async {
        let (served, o) = stage("not-asked");
        let good = go(served.address, identity().public_key()).encode();
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hangs = go(mute.local_addr().unwrap(), identity().public_key()).encode();
        let short = good[..good.len() - 1].to_vec();
        let long = [good.as_slice(), &[0]].concat();
        for (what, frames, words) in [
            ("a request", vec![send("data/a").encode()], "cannot be read"),
            ("nothing", vec![Vec::new()], "cannot be read"),
            ("less than the word", vec![short], "cannot be read"),
            ("more than the word", vec![long], "cannot be read"),
            ("a report", vec![Report::Proof(Vec::new()).encode()], "cannot be read"),
            ("a message full of nothing", vec![vec![56; 64 * 1024]], "cannot be read"),
            ("the word twice", vec![hangs.clone(), hangs], "nothing is to be said"),
        ] {
            let mut peer = weighed(&served, &o).await;
            for frame in &frames {
                peer.frame(frame).await.unwrap();
            }
            let end = peer.closed().await;
            let fine = matches!(&end, End::Closed(2, reason) if reason.contains(words));
            assert!(fine, "{what}: {end:?}");
        }
        // And goes on serving.
        weighed(&served, &o).await;
    });
}

#[test]
fn one_key_has_few_things_sent_at_once() {
    runtime().block_on(async {
        let (served, o) = stage("at-once");
        let other = identity();
        served.allow(&[line(&o), line(&other)]);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(weighed(&served, &o).await);
        }
        let answer = served.ask(&o, &send("data/a")).await;
        assert_refused(&answer, RefuseCode::Busy, "too many");
        weighed(&served, &other).await;
        // Whoever leaves makes room.
        held.clear();
        let end = Instant::now() + PATIENCE;
        while let Opening::Refuse { text, .. } = served.ask(&o, &send("data/a")).await {
            assert!(Instant::now() < end, "{text}");
        }
    });
}

/// A target that takes everything, and the orchestrator leaves in the middle.
#[test]
fn a_copy_ends_with_the_one_who_wanted_it() {
    runtime().block_on(async {
        let (served, o) = stage("it-leaves");
        let target = Served::start("it-leaves-target");
        target.allow(&[line(&o)]);
        // More than the limit lets through while the test runs.
        std::fs::write(served.data("a"), vec![1; 64 << 20]).unwrap();
        let order = order("data/x");
        let granted = target.grant(&o, &served.identity, &order, 65 << 20).await;
        let mut peer = served.dial(&o).await.unwrap();
        let request = Opening::Send { order, sources: vec![b"data/a".to_vec()] };
        peer.ask(&request).await.unwrap();
        while !matches!(report(&mut peer).await, Report::Weighed { last: true, .. }) {}
        let go = Go {
            grant: granted.grant,
            limit_bytes_per_s: Some(1 << 20),
            ..go(target.address, target.identity.public_key())
        };
        peer.frame(&go.encode()).await.unwrap();
        loop {
            match report(&mut peer).await {
                Report::Progress(progress) if progress.bytes_acknowledged > 0 => break,
                Report::Progress(_) | Report::LinkNews(..) => {}
                other => panic!("{other:?}"),
            }
        }
        drop(peer);
        let end = Instant::now() + PATIENCE;
        let name = served.identity.public_key().to_string();
        let has_left =
            |log: &str| log.lines().any(|line| line.contains(&name) && line.ends_with("left"));
        while !has_left(&target.log.lock().unwrap()) {
            assert!(Instant::now() < end, "{}", target.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!target.data("x").exists());
        assert!(target.data(".haul").exists(), "what has arrived is kept");
    });
}
