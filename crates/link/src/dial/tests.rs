//! The order in which addresses are tried.

use super::*;
use crate::ListenOptions;
use crate::rig::{PATIENCE, Rig, any_port};

#[test]
fn families_take_turns() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let check = |found: &[&str], expected: &[&str]| {
        let order = by_turns(found.iter().map(|text| address(text)).collect());
        assert_eq!(order, expected.iter().map(|text| address(text)).collect::<Vec<_>>());
    };
    check(&[], &[]);
    check(&["1.1.1.1:1", "1.1.1.2:1"], &["1.1.1.1:1", "1.1.1.2:1"]);
    check(
        &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"],
        &["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"],
    );
    check(&["1.1.1.1:1", "[::1]:1", "[::2]:1"], &["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
    let many: Vec<SocketAddr> =
        (1..100).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
    assert_eq!(by_turns(many).len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn a_silent_address_does_not_hold_up_the_next() {
    let rig = Rig::new(ListenOptions::default());
    let silent = tokio::net::UdpSocket::bind(any_port()).await.unwrap().local_addr().unwrap();
    let listening = rig.listener.local_addr();
    let options =
        DialOptions { next_address_after: Duration::from_millis(20), ..DialOptions::default() };
    let config = client_config(&rig.friend).unwrap();
    let peer = PeerName::new("host:1");
    for addresses in [[silent, listening], [listening, silent]] {
        let deadline = Instant::now() + PATIENCE;
        let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
        let reached = attempts
            .first(|address, _| attempt(peer.clone(), address, config.clone(), options.clone()));
        let reached = reached.await.unwrap();
        assert_eq!(reached.connection.remote_address(), listening);
    }
}

#[tokio::test]
async fn an_error_says_more_than_silence() {
    let rig = Rig::new(ListenOptions { max_connections: 0, ..ListenOptions::default() });
    let silent = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let silent = silent.local_addr().unwrap();
    let options =
        DialOptions { next_address_after: Duration::from_millis(20), ..DialOptions::default() };
    let config = client_config(&rig.friend).unwrap();
    let deadline = Instant::now() + Duration::from_millis(300);
    let addresses = [rig.listener.local_addr(), silent];
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
    let reached = attempts
        .first(|address, _| attempt(peer.clone(), address, config.clone(), options.clone()));
    let error = reached.await.err().unwrap();
    assert!(matches!(error, LinkError::Busy { .. }), "{error:?}");
}

#[tokio::test]
async fn over_tcp_nobody_and_silence_are_told_apart() {
    let me = Identity::generate().unwrap();
    let check = crate::rig::Expect(me.public_key());
    let options = DialOptions {
        kind: LaneKind::Tcp,
        deadline: Duration::from_millis(300),
        ..DialOptions::default()
    };
    // Takes the connection, and says nothing.
    let silent = std::net::TcpListener::bind(any_port()).unwrap();
    let address = silent.local_addr().unwrap();
    let error = dial(&crate::rig::target(address), &me, &check, &options).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{error:?}");
    drop(silent);
    let error = dial(&crate::rig::target(address), &me, &check, &options).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error:?}");
    assert!(error.fault().is_transient() && error.peer().is_some());
    // A server of another protocol.
    let other = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let address = other.local_addr().unwrap();
    let answering = async {
        let (mut socket, _) = other.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"220 mail ready\r\n").await.unwrap();
        std::future::pending::<()>().await
    };
    let target = crate::rig::target(address);
    let error = tokio::select! {
        dialed = dial(&target, &me, &check, &options) => dialed.unwrap_err(),
        () = answering => unreachable!(),
    };
    assert!(matches!(error, LinkError::Incompatible { .. }), "{error:?}");
}

/// Runs attempts of which the given one answers and the others stay silent, and says how many were begun.
async fn answers_at(which: u32, addresses: &[SocketAddr], kind: LaneKind) -> (u32, Duration) {
    let again_after = Duration::from_millis(200);
    let options = DialOptions { kind, again_after, ..DialOptions::default() };
    let began = Instant::now();
    let deadline = began + options.deadline;
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses, options: &options, deadline };
    let begun = std::sync::Mutex::new(Vec::new());
    let reached = attempts.first(|address, _| {
        let mut begun = begun.lock().unwrap();
        begun.push(address);
        let number = begun.len() as u32 - 1;
        async move {
            if number != which {
                std::future::pending::<()>().await;
            }
            Ok(address)
        }
    });
    let ended = reached.await;
    let begun = begun.into_inner().unwrap();
    assert_eq!(ended.is_ok(), begun.len() as u32 > which);
    // Each has its turn before one has another.
    let turns = addresses.iter().cycle().take(begun.len());
    assert!(begun.iter().eq(turns), "{begun:?}");
    (begun.len() as u32, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_asked_again_at_growing_intervals_and_not_for_ever() {
    let addresses = [any_port()];
    let (begun, took) = answers_at(2, &addresses, LaneKind::Quic).await;
    assert!(begun == 3 && (445..460).contains(&took.as_millis()), "{begun}, {took:?}");
    let (begun, took) = answers_at(2, &addresses, LaneKind::Tcp).await;
    assert!(begun == 3 && (890..910).contains(&took.as_millis()), "{begun}, {took:?}");
    let (begun, took) = answers_at(99, &addresses, LaneKind::Quic).await;
    assert!(begun == 11 && took >= DialOptions::default().deadline, "{begun}, {took:?}");
    let two = ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap());
    let (begun, took) = answers_at(3, &two, LaneKind::Quic).await;
    assert!(begun == 4 && (690..710).contains(&took.as_millis()), "{begun}, {took:?}");
}

/// So many milliseconds after the beginning of all an attempt ends, and has this error if any.
type Ending = (u64, Option<fn(PeerName) -> LinkError>);

/// How attempts end of which each goes by the script, how many were begun, and when that was over. Those beyond the
/// script stay silent.
async fn after(script: &'static [Ending]) -> (Result<u32, LinkError>, u32, Duration) {
    let addresses = [any_port()];
    let options = DialOptions::default();
    let began = Instant::now();
    let deadline = began + options.deadline;
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
    let begun = std::sync::atomic::AtomicU32::new(0);
    let reached = attempts.first(|_, _| {
        let number = begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let peer = peer.clone();
        async move {
            let Some((millis, error)) = script.get(number as usize) else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(began + Duration::from_millis(*millis)).await;
            error.map_or(Ok(number), |error| Err(error(peer)))
        }
    });
    (reached.await, begun.into_inner(), began.elapsed())
}

fn busy(peer: PeerName) -> LinkError {
    LinkError::Busy { peer }
}

fn incompatible(peer: PeerName) -> LinkError {
    LinkError::Incompatible { peer, detail: "another protocol".to_owned() }
}

fn no_socket(_: PeerName) -> LinkError {
    let source = std::io::Error::other("no descriptor is left");
    LinkError::Socket { action: "open", local: any_port(), source }
}

const NEVER: u64 = 1_000_000;

#[tokio::test(start_paused = true)]
async fn an_address_that_answered_with_an_error_is_not_asked_again() {
    // Who is too busy for a second may be about to answer the first.
    let (reached, begun, _) = after(&[(400, None), (0, Some(busy))]).await;
    assert!(matches!(reached, Ok(0)) && begun == 2, "{reached:?}, {begun}");
    let (reached, begun, _) = after(&[(400, None), (0, Some(incompatible))]).await;
    let is_final = matches!(reached, Err(LinkError::Incompatible { .. }));
    assert!(is_final && begun == 2, "{reached:?}, {begun}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_our_own_ends_no_attempt_that_runs() {
    let (reached, begun, _) = after(&[(400, None), (0, Some(no_socket))]).await;
    assert!(matches!(reached, Ok(0)) && begun == 2, "{reached:?}, {begun}");
    // Nor does it say why the host did not answer, unless nothing else was tried.
    let (reached, ..) = after(&[(NEVER, None), (0, Some(no_socket))]).await;
    assert!(matches!(reached, Err(LinkError::NoAnswer { .. })), "{reached:?}");
    let (reached, begun, took) = after(&[(0, Some(no_socket))]).await;
    assert!(matches!(reached, Err(LinkError::Socket { .. })), "{reached:?}");
    assert!(begun == 1 && took < Duration::from_millis(10), "{begun}, {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_for_good_ends_all_attempts_also_after_another() {
    // The third is begun after 563 ms.
    let (reached, begun, took) =
        after(&[(NEVER, None), (600, Some(busy)), (700, Some(incompatible))]).await;
    assert!(matches!(reached, Err(LinkError::Incompatible { .. })), "{reached:?}");
    assert!(begun == 3 && (700..710).contains(&took.as_millis()), "{begun}, {took:?}");
    // What had ended already, and is heard of behind it, changes nothing.
    let (reached, ..) = after(&[(NEVER, None), (700, Some(incompatible)), (700, Some(busy))]).await;
    assert!(matches!(reached, Err(LinkError::Incompatible { .. })), "{reached:?}");
}

/// Runs attempts of which those at the first address tell of an answer after so many milliseconds, and end five
/// seconds later; says how many were begun at each address.
async fn answered_after(millis: u64, addresses: &[SocketAddr]) -> Vec<usize> {
    let options = DialOptions::default();
    let deadline = Instant::now() + options.deadline;
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses, options: &options, deadline };
    let begun = std::sync::Mutex::new(Vec::new());
    let reached = attempts.first(|address, progress| {
        begun.lock().unwrap().push(address);
        let answers = address == addresses[0];
        async move {
            tokio::time::sleep(Duration::from_millis(if answers { millis } else { NEVER })).await;
            progress.made();
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(())
        }
    });
    reached.await.unwrap();
    let begun = begun.into_inner().unwrap();
    let at = |address| begun.iter().filter(|begun| *begun == address).count();
    addresses.iter().map(at).collect()
}

#[tokio::test(start_paused = true)]
async fn an_address_that_has_answered_is_slow_and_not_silent() {
    let two = ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap());
    assert_eq!(answered_after(100, &two[..1]).await, [1]);
    assert_eq!(answered_after(600, &two[..1]).await, [3], "after 0, 250 and 563 ms");
    assert_eq!(answered_after(100, &two).await, [1, 8], "the other is asked in its stead");
}

/// A host whose kernel takes connections, and that finishes no handshake, as while it is held up.
#[tokio::test]
async fn over_tcp_a_host_that_is_slow_is_not_asked_again() {
    let host = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let target = crate::rig::target(host.local_addr().unwrap());
    let me = Identity::generate().unwrap();
    let check = crate::rig::Expect(me.public_key());
    let options = DialOptions {
        kind: LaneKind::Tcp,
        deadline: Duration::from_secs(2),
        again_after: Duration::from_millis(100),
        ..DialOptions::default()
    };
    let mut met = Vec::new();
    let error = tokio::select! {
        dialed = dial(&target, &me, &check, &options) => dialed.unwrap_err(),
        () = async {
            while let Ok(one) = host.accept().await {
                met.push(one);
            }
        } => unreachable!(),
    };
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{error:?}");
    // One for control and one or two for data; another where this machine was held up before it saw the answer.
    assert!((2..5).contains(&met.len()), "{} connections", met.len());
}

#[tokio::test(start_paused = true)]
async fn after_an_error_the_next_address_is_tried_at_once() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap());
    let options = DialOptions::default();
    let began = Instant::now();
    let deadline = began + options.deadline;
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
    let reached = attempts.first(|address, _| {
        let peer = peer.clone();
        async move {
            match address {
                first if first == addresses[0] => std::future::pending().await,
                second if second == addresses[1] => Err(LinkError::Busy { peer }),
                _ => Ok(()),
            }
        }
    });
    assert!(reached.await.is_ok());
    let took = began.elapsed().as_millis();
    assert!((250..260).contains(&took), "{took} ms");
}

/// Attempts that are begun before the first has answered, all of which a host may answer.
#[tokio::test]
async fn attempts_that_lose_leave_only_lanes_that_end() {
    const ALL: usize = 3;
    let rig = Rig::new(ListenOptions::default());
    let target = crate::rig::target(rig.listener.local_addr());
    let check = crate::rig::Expect(rig.host.public_key());
    let again_after = Duration::from_millis(1);
    let options = DialOptions { again_after, ..DialOptions::default() };
    let config = client_config(&rig.friend).unwrap();
    let (peer, deadline) = (PeerName::new(&target), Instant::now() + PATIENCE);
    let host = Host { target: &target, peer: peer.clone(), check: &check, deadline };
    let addresses = [rig.listener.local_addr()];
    let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
    let begun = std::sync::atomic::AtomicUsize::new(0);
    // Each is held up until the host has let in all of them.
    let (let_in, _) = tokio::sync::watch::channel(0);
    let reaching = attempts.first(|address, _| {
        let number = begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let reaching = attempt(peer.clone(), address, config.clone(), options.clone());
        let mut let_in = let_in.subscribe();
        async move {
            if number >= ALL {
                std::future::pending::<()>().await;
            }
            let reached = reaching.await;
            let_in.wait_for(|count| *count == ALL).await.unwrap();
            reached
        }
    });
    let accepting = async {
        let mut lanes = Vec::new();
        while lanes.len() < ALL {
            lanes.push(
                tokio::time::timeout(PATIENCE, rig.listener.accept()).await.unwrap().unwrap(),
            );
            let_in.send_replace(lanes.len());
        }
        lanes
    };
    let (reached, lanes) = tokio::join!(reaching, accepting);
    let dialed = quic_lane(&host, reached.unwrap(), &options).unwrap();
    dialed.welcomed().await.unwrap();
    let sending = dialed.send_parcel(bytes::Bytes::from_static(b"head"), bytes::Bytes::new(), 0);
    let coming = async {
        let mut came = 0;
        for lane in &lanes {
            let parcel = tokio::time::timeout(PATIENCE, lane.accept_parcel()).await.unwrap();
            came += usize::from(parcel.is_ok());
        }
        came
    };
    let (sent, came) = tokio::join!(sending, coming);
    sent.unwrap();
    assert_eq!(came, 1, "of {ALL} lanes");
}

/// What has no round trip yet would pass for near, and a far host would be reached by TCP.
#[tokio::test]
async fn a_lane_over_tcp_knows_its_round_trip_from_the_start() {
    let rig = Rig::of(LaneKind::Tcp, ListenOptions::default());
    let target = crate::rig::target(rig.listener.local_addr());
    let check = crate::rig::Expect(rig.host.public_key());
    let options = DialOptions { kind: LaneKind::Tcp, ..DialOptions::default() };
    let dialed = dial(&target, &rig.friend, &check, &options).await.unwrap();
    let stats = dialed.stats();
    assert!(!stats.rtt.is_zero() && !stats.min_rtt.is_zero(), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_that_panic_end_in_an_error_and_not_in_a_loop() {
    let addresses = [any_port()];
    let options = DialOptions::default();
    let began = Instant::now();
    let deadline = began + options.deadline;
    let peer = PeerName::new("host:1");
    let attempts = Attempts { peer: &peer, addresses: &addresses, options: &options, deadline };
    let begun = std::cell::Cell::new(0);
    let reached = attempts.first(|_, _| {
        begun.set(begun.get() + 1);
        async { panic!("as planned") as Result<(), LinkError> }
    });
    let error = reached.await.unwrap_err();
    assert!(matches!(error, LinkError::Setup { .. }), "{error:?}");
    assert!(begun.get() <= 11 && began.elapsed() < options.deadline, "{}", begun.get());
}
