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
        let reached = race(&peer, &addresses, &options, deadline, |address| {
            attempt(peer.clone(), address, config.clone(), options.clone())
        });
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
    let reached = race(&peer, &addresses, &options, deadline, |address| {
        attempt(peer.clone(), address, config.clone(), options.clone())
    });
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
