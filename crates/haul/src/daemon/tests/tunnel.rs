//! Tunnels to a daemon, and what a peer may and may not do with one; and pipes to a source whose orchestrator lies.

use link::pipe::{Tunnel, TunnelOptions};
use link::{DialOptions, HostCheck, Target};
use testkit::hostile::AnyHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use super::*;

const OPEN: [u8; 9] = [1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A daemon and the orchestrator O, which it lists with these options.
fn stage(name: &str, options: &str) -> (Served, Identity) {
    let (served, o) = (Served::start(name), identity());
    served.allow(&[format!("{options}{}", line(&o))]);
    (served, o)
}

async fn tunnel(served: &Served, who: &Identity) -> Peer {
    let mut peer = served.dial(who).await.unwrap();
    let answer = peer.ask(&Opening::Tunnel).await.unwrap();
    assert!(matches!(answer, Opening::Accept { .. }), "{answer:?}");
    peer
}

/// Carries a pipe through the messages of a peer, for as long as it is polled.
async fn carry(mut peer: Peer, pipe: DuplexStream) {
    let (mut from, mut into) = split(pipe);
    let mut bytes = vec![0; 60_000];
    loop {
        tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(length @ 1..) => peer.frame(&bytes[..length]).await.unwrap(),
                _ => return,
            },
            frame = peer.receive() => match frame {
                Ok(frame) => into.write_all(&frame).await.unwrap(),
                Err(_) => return,
            },
        }
    }
}

/// Dials the daemon through a tunnel of O as somebody; gives the lane, or why there is none.
async fn through(served: &Served, o: &Identity, who: &Identity) -> Result<(), String> {
    let (here, there) = duplex(100_000);
    let carrying = tokio::spawn(carry(tunnel(served, o).await, there));
    let (read, write) = split(here);
    let tunnel = Tunnel::enter(read, write, TunnelOptions::default()).await.unwrap();
    let entry = tunnel.address();
    let target = Target::new(&entry.ip().to_string(), entry.port()).unwrap();
    let carrier = Some(tunnel.carrier().clone());
    let options = DialOptions { kind: LaneKind::Tcp, carrier, ..DialOptions::default() };
    let check: &dyn HostCheck = &AnyHost;
    let lane = link::dial(&target, who, check, &options).await.unwrap();
    assert_eq!(*lane.peer(), served.identity.public_key());
    let welcomed = tokio::time::timeout(PATIENCE, lane.welcomed()).await.unwrap();
    carrying.abort();
    welcomed.map_err(|error| error.to_string())
}

#[test]
fn only_who_may_write_carries_tunnels() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-rights", "");
        tunnel(&served, &o).await;
        for options in ["read-only ", "read-only,path=\"data/inbox\" "] {
            served.allow(&[format!("{options}{}", line(&o))]);
            let answer = served.ask(&o, &Opening::Tunnel).await;
            assert_refused(&answer, RefuseCode::Denied, "may only read");
        }
        served.allow(&[format!("write-only {}", line(&o))]);
        tunnel(&served, &o).await;
        // A guest may do what was granted and nothing else.
        let guest = identity();
        served.grant(&o, &guest, &order("data/x"), 9).await;
        let answer = served.ask(&guest, &Opening::Tunnel).await;
        assert_refused(&answer, RefuseCode::Denied, "nothing here but");
    });
}

#[test]
fn few_tunnels_at_once() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-count", "");
        let others = [identity(), identity()];
        served.allow(&[line(&o), line(&others[0]), line(&others[1])]);
        let mut held = vec![tunnel(&served, &o).await, tunnel(&served, &o).await];
        assert_refused(&served.ask(&o, &Opening::Tunnel).await, RefuseCode::Busy, "tunnels");
        held.push(tunnel(&served, &others[0]).await);
        held.push(tunnel(&served, &others[0]).await);
        let answer = served.ask(&others[1], &Opening::Tunnel).await;
        assert_refused(&answer, RefuseCode::Busy, "tunnels");
        // Whoever leaves makes room.
        held.clear();
        let end = Instant::now() + PATIENCE;
        while let Opening::Refuse { text, .. } = served.ask(&o, &Opening::Tunnel).await {
            assert!(Instant::now() < end, "{text}");
        }
    });
}

/// A tunnel comes out at an address of the daemon's own machine, and that is worth nothing.
#[test]
fn a_tunnel_is_no_way_around_the_list() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-list", "");
        let (stranger, friend) = (identity(), identity());
        let refused = through(&served, &o, &stranger).await.unwrap_err();
        assert!(refused.contains("not in authorized_keys"), "{refused}");
        // Where O is, is where they come from: here the loopback.
        let from = |from: &str| format!("from={from} {}", line(&friend));
        served.allow(&[line(&o), from("192.0.2.1")]);
        let refused = through(&served, &o, &friend).await.unwrap_err();
        assert!(refused.contains("127.0.0.1"), "{refused}");
        served.allow(&[line(&o), from("127.0.0.1")]);
        through(&served, &o, &friend).await.unwrap();
        // A guest that was granted something comes in by it.
        served.grant(&o, &stranger, &order("data/x"), 9).await;
        through(&served, &o, &stranger).await.unwrap();
    });
}

#[test]
fn a_tunnel_ends_with_the_right_to_it() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-revoked", "");
        let mut peer = tunnel(&served, &o).await;
        // It is alive: its first ping comes.
        assert_eq!(peer.receive().await.unwrap()[0], 6);
        served.allow(&[format!("read-only {}", line(&o))]);
        let end = peer.closed().await;
        assert!(matches!(&end, End::Closed(3, reason) if reason.contains("changed")), "{end:?}");
    });
}

#[test]
fn what_is_no_frame_ends_the_tunnel() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-garbage", "");
        let frame = |kind: u8, connection: u8, value: u32| {
            [&[kind, 0, 0, 0, connection][..], &value.to_be_bytes()].concat()
        };
        for (what, messages, words) in [
            ("an empty message", vec![Vec::new()], "without bytes"),
            ("noise", vec![vec![0xaa; 64 * 1024]], "unknown kind"),
            ("a message of the protocol", vec![Opening::Tunnel.encode(), vec![0; 8]], "unknown"),
            ("data of nothing", vec![frame(2, 0, 1), vec![0]], "not opened"),
            ("more than a frame holds", vec![OPEN.to_vec(), frame(2, 0, 65_537)], "length"),
            ("a connection out of order", vec![frame(1, 5, 0)], "not the next"),
            ("a connection twice", vec![OPEN.to_vec(), OPEN.to_vec()], "not the next"),
            ("credit for nothing", vec![OPEN.to_vec(), frame(3, 0, 1)], "credit"),
        ] {
            let mut peer = tunnel(&served, &o).await;
            for message in &messages {
                // It may be closed in the middle.
                if peer.frame(message).await.is_err() {
                    break;
                }
            }
            let end = peer.closed().await;
            let fine = matches!(&end, End::Closed(2, reason) if reason.contains(words));
            assert!(fine, "{what}: {end:?}");
        }
        tunnel(&served, &o).await;
    });
}

/// The next frame of a tunnel that carries no data.
async fn next_frame(peer: &mut Peer, heard: &mut Vec<u8>) -> [u8; 9] {
    while heard.len() < 9 {
        let frame = tokio::time::timeout(PATIENCE, peer.receive()).await.unwrap().unwrap();
        heard.extend(frame);
    }
    heard.drain(..9).collect::<Vec<u8>>().try_into().unwrap()
}

#[test]
fn more_connections_than_three_are_reset_and_what_they_say_is_dropped() {
    runtime().block_on(async {
        let (served, o) = stage("tunnel-places", "");
        let mut peer = tunnel(&served, &o).await;
        let opens: Vec<u8> = (0..200).flat_map(|n| [1, 0, 0, 0, n, 0, 0, 0, 0]).collect();
        peer.frame(&opens).await.unwrap();
        // Megabytes for one that was reset, more than a connection may have under way.
        let data = [&[2, 0, 0, 0, 150, 0, 0, 0xe0, 0][..], &[7; 0xe000][..]].concat();
        for _ in 0..200 {
            peer.frame(&data).await.unwrap();
        }
        peer.frame(&[6, 0, 0, 0, 0, 0, 0, 0, 77]).await.unwrap();
        let (mut heard, mut reset) = (Vec::new(), Vec::new());
        loop {
            match next_frame(&mut peer, &mut heard).await {
                [5, 0, 0, 0, number, ..] => reset.push(number),
                [7, .., 77] => break,
                [6, ..] => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(reset, (3..200).collect::<Vec<u8>>());
    });
}

/// The orchestrator that carries a pipe for a source says what it likes there.
#[test]
fn a_source_takes_nothing_but_frames_through_its_orchestrator() {
    runtime().block_on(async {
        let (served, o) = stage("pipe-garbage", "");
        std::fs::write(served.data("a"), b"hello").unwrap();
        let go = Go {
            grant: [1; 32],
            run: [2; 8],
            key: identity().public_key(),
            target: Target::new("192.0.2.1", 4285).unwrap(),
            choice: LinkChoice::Only(LaneKind::Pipe),
            pace: Pace::Fair,
            limit_bytes_per_s: None,
            patience_s: 60,
        };
        for (what, messages, words) in [
            ("an empty message", vec![Vec::new()], "without bytes"),
            ("noise", vec![vec![0xaa; 64 * 1024]], "unknown kind"),
            ("the word twice", vec![go.encode()], "unknown kind"),
            ("a report", vec![Report::Pipe(OPEN.to_vec()).encode()], "unknown kind"),
            ("a connection", vec![OPEN.to_vec()], "not the next one of the dialer"),
        ] {
            let mut peer = served.dial(&o).await.unwrap();
            let sources = vec![b"data/a".to_vec()];
            let answer = peer.ask(&Opening::Send { order: order("data/x"), sources }).await;
            assert!(matches!(answer, Ok(Opening::Accept { .. })), "{answer:?}");
            let weighed = |frame: &[u8]| Report::decode(frame).unwrap();
            while !matches!(
                weighed(&peer.receive().await.unwrap()),
                Report::Weighed { last: true, .. }
            ) {}
            peer.frame(&go.encode()).await.unwrap();
            // It dials through here, and nowhere else: its first bytes come.
            let mut said = Vec::new();
            while said.iter().all(|bytes: &Vec<u8>| bytes[0] != 1) {
                if let Report::Pipe(bytes) = weighed(&peer.receive().await.unwrap()) {
                    said.extend(bytes.chunks(9).map(<[u8]>::to_vec));
                }
            }
            for message in &messages {
                peer.frame(message).await.unwrap();
            }
            let end = peer.closed().await;
            let fine = matches!(&end, End::Closed(2, reason) if reason.contains(words));
            assert!(fine, "{what}: {end:?}");
        }
    });
}
