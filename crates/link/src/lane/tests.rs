//! Frames, parcels, moves and silence over real connections on loopback.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use quinn::VarInt;

use super::*;
use crate::rig::{PATIENCE, Random, Relay, Rig, both_kinds, dial_options};
use crate::{DialOptions, Fault, ListenOptions, ParcelError, TransportOptions};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the test hangs")
}

both_kinds! {
    control_frames_come_in_order_and_end
    a_frame_may_be_cancelled_and_still_comes_whole
    a_thousand_parcels_arrive_whole_both_ways
    a_share_of_one_parcel_still_carries_many
    dropping_tells_the_other_side
}

async fn control_frames_come_in_order_and_end(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    let (mut send, mut receive) = within(dialed.open_control()).await.unwrap();
    let long = vec![9; MAX_FRAME];
    assert!(matches!(send.send(&vec![0; MAX_FRAME + 1]).await, Err(LinkError::TooLong { .. })));
    let sending = async {
        for frame in [&b""[..], b"one", &long, b"two"] {
            send.send(frame).await.unwrap();
        }
        send.finish().await.unwrap();
    };
    let answering = async {
        let (mut send, mut receive) = admitted.accept_control().await.unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = receive.recv(MAX_FRAME).await.unwrap() {
            frames.push(frame);
        }
        assert_eq!(frames, [b"".to_vec(), b"one".to_vec(), long.clone(), b"two".to_vec()]);
        send.send(b"too long for the other side").await.unwrap();
        (send, receive)
    };
    let (_, _streams) = within(async { tokio::join!(sending, answering) }).await;
    let error = within(receive.recv(5)).await.unwrap_err();
    assert!(matches!(error, LinkError::TooLong { length: 27, cap: 5, .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Corrupt);
}

async fn a_frame_may_be_cancelled_and_still_comes_whole(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    let (mut send, _receive) = within(dialed.open_control()).await.unwrap();
    let frames: Vec<Vec<u8>> = (0..40u8).map(|value| vec![value; MAX_FRAME]).collect();
    // More than the stream's window, so that sending stops within a frame. Every call is dropped at
    // its first await; the next one goes on where it was cut.
    let sending = async {
        for frame in &frames {
            tokio::select! {
                biased;
                sent = send.send(frame) => sent.unwrap(),
                _ = std::future::ready(()) => {}
            }
            tokio::task::yield_now().await;
        }
        send.finish().await.unwrap();
    };
    let receiving = async {
        let (_send, mut receive) = admitted.accept_control().await.unwrap();
        let mut frames = Vec::new();
        loop {
            tokio::select! {
                biased;
                frame = receive.recv(MAX_FRAME) => match frame.unwrap() {
                    Some(frame) => frames.push(frame),
                    None => return frames,
                },
                _ = tokio::task::yield_now() => {}
            }
        }
    };
    let ((), received) = within(async { tokio::join!(sending, receiving) }).await;
    assert_eq!(received.len(), frames.len());
    assert!(received == frames);
}

async fn still_open(lane: &Lane) -> bool {
    tokio::time::timeout(Duration::from_millis(20), lane.closed()).await.is_err()
}

#[tokio::test]
async fn a_frame_that_ends_early_is_an_error() {
    let rig = Rig::new(ListenOptions::default());
    let (raw, admitted) = within(rig.raw()).await;
    for (bytes, reset) in
        [(&[0, 0, 0][..], false), (&[0, 0, 0, 5, 1, 2], false), (&[0, 0, 0, 5, 1, 2], true)]
    {
        let connection = raw.connection.as_ref().unwrap();
        let (mut send, _receive) = within(connection.open_bi()).await.unwrap();
        within(send.write_all(bytes)).await.unwrap();
        let (_send, mut receive) = within(admitted.accept_control()).await.unwrap();
        if reset {
            send.reset(VarInt::from_u32(77)).unwrap();
        } else {
            send.finish().unwrap();
        }
        let error = within(receive.recv(MAX_FRAME)).await.unwrap_err();
        match reset {
            true => assert!(matches!(error, LinkError::StreamReset { code: 77, .. }), "{error:?}"),
            false => assert!(matches!(error, LinkError::CutShort { .. }), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn each_lie_of_a_parcel_is_found() {
    let rig = Rig::new(ListenOptions::default());
    let (raw, admitted) = within(rig.raw()).await;
    let parcel = |head: u32, body: u32, bytes: usize| {
        [&head.to_be_bytes()[..], &body.to_be_bytes(), &vec![5; bytes]].concat()
    };
    type Expected = fn(&ParcelError) -> bool;
    let cases: [(Vec<u8>, Expected); 9] = [
        (parcel(101, 0, 101), |e| {
            matches!(e, ParcelError::HeadTooLong { length: 101, cap: 100, .. })
        }),
        (parcel(u32::MAX, 0, 0), |e| matches!(e, ParcelError::HeadTooLong { .. })),
        (parcel(0, 1001, 1001), |e| {
            matches!(e, ParcelError::BodyTooLong { length: 1001, cap: 1000, .. })
        }),
        (parcel(0, u32::MAX, 0), |e| matches!(e, ParcelError::BodyTooLong { .. })),
        (parcel(10, 10, 21), |e| matches!(e, ParcelError::TrailingBytes { .. })),
        (parcel(10, 10, 19), |e| matches!(e, ParcelError::EndsEarly { .. })),
        (parcel(10, 10, 0), |e| matches!(e, ParcelError::EndsEarly { .. })),
        (vec![0; 7], |e| matches!(e, ParcelError::EndsEarly { .. })),
        (parcel(0, 0, 100_000), |e| {
            matches!(e, ParcelError::TrailingBytes { .. } | ParcelError::BodyTooLong { .. })
        }),
    ];
    let connection = raw.connection.as_ref().unwrap();
    for (index, (bytes, expected)) in cases.iter().enumerate() {
        let mut stream = within(connection.open_uni()).await.unwrap();
        within(stream.write_all(bytes)).await.unwrap();
        stream.finish().unwrap();
        let error = within(admitted.accept_parcel()).await.unwrap().read(100, 1000);
        let error = within(error).await.unwrap_err();
        assert!(expected(&error), "case {index}: {error:?}");
        assert!(error.is_violation());
        assert!(error.to_string().contains(&rig.friend.public_key().fingerprint()));
    }
    let mut stream = within(connection.open_uni()).await.unwrap();
    within(stream.write_all(&parcel(10, 10, 5))).await.unwrap();
    let arriving = within(admitted.accept_parcel()).await.unwrap();
    stream.reset(VarInt::from_u32(9)).unwrap();
    let error = within(arriving.read(100, 1000)).await.unwrap_err();
    assert!(matches!(error, ParcelError::Abandoned { code: 9, .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Transient);
    // After all that the lane still works.
    let mut stream = within(connection.open_uni()).await.unwrap();
    within(stream.write_all(&parcel(2, 3, 5))).await.unwrap();
    stream.finish().unwrap();
    let whole = within(async { admitted.accept_parcel().await.unwrap().read(100, 1000).await });
    assert_eq!(whole.await.unwrap(), (vec![5; 2], vec![5; 3]));
}

/// Sends parcels of sizes and contents that `seed` gives, sixteen at a time, and checks that each arrives
/// once and whole. `halfway` is called when half of them have arrived.
async fn exchange(
    from: &Lane,
    to: &Lane,
    count: u64,
    largest: u64,
    seed: u64,
    halfway: impl FnOnce(),
) {
    let body_of = move |order: u64| {
        let mut random = Random(seed ^ (order << 20));
        let length = random.below(largest + 1) as usize;
        random.bytes(length)
    };
    let sending = async {
        let mut under_way = tokio::task::JoinSet::new();
        for order in 0..count {
            if under_way.len() == 16 {
                under_way.join_next().await.unwrap().unwrap();
            }
            let lane = from.clone();
            under_way.spawn(async move {
                let head = Bytes::copy_from_slice(&order.to_be_bytes());
                lane.send_parcel(head, body_of(order).into(), order).await.unwrap();
            });
        }
        while let Some(sent) = under_way.join_next().await {
            sent.unwrap();
        }
    };
    let receiving = async {
        let mut halfway = Some(halfway);
        let mut missing: std::collections::BTreeSet<u64> = (0..count).collect();
        let mut under_way = tokio::task::JoinSet::new();
        for started in 0..count {
            if started == count / 2 {
                halfway.take().expect("half is reached once")();
            }
            let parcel = to.accept_parcel().await.unwrap();
            under_way.spawn(parcel.read(8, largest as usize));
            if under_way.len() == 16 {
                let (head, body) = under_way.join_next().await.unwrap().unwrap().unwrap();
                let order = u64::from_be_bytes(head.try_into().unwrap());
                assert!(missing.remove(&order), "parcel {order} came twice (seed {seed})");
                assert!(body == body_of(order), "parcel {order} is damaged (seed {seed})");
            }
        }
        while let Some(read) = under_way.join_next().await {
            let (head, body) = read.unwrap().unwrap();
            let order = u64::from_be_bytes(head.try_into().unwrap());
            assert!(
                missing.remove(&order) && body == body_of(order),
                "parcel {order} (seed {seed})"
            );
        }
        assert!(missing.is_empty(), "{missing:?} (seed {seed})");
    };
    within(async { tokio::join!(sending, receiving) }).await;
}

async fn a_thousand_parcels_arrive_whole_both_ways(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    exchange(&dialed, &admitted, 1000, 30_000, 1, || {}).await;
    exchange(&admitted, &dialed, 100, 100_000, 2, || {}).await;
    exchange(&dialed, &admitted, 4, 2 * 1024 * 1024, 3, || {}).await;
    let stats = dialed.stats();
    assert!(stats.sent_bytes > 14_000_000 && stats.sent_packets > 0, "{stats:?}");
    assert!(stats.rtt > Duration::ZERO && stats.congestion_window > 0, "{stats:?}");
}

async fn a_share_of_one_parcel_still_carries_many(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions { memory_budget: 1, ..ListenOptions::default() });
    let (dialed, admitted) = within(rig.pair()).await;
    assert_eq!(admitted.memory_share(), crate::SMALLEST_SHARE);
    exchange(&dialed, &admitted, 8, 2 * 1024 * 1024, 4, || {}).await;
}

#[tokio::test]
async fn parcels_survive_loss() {
    let rig = Rig::new(ListenOptions::default());
    let relay = Relay::new(rig.listener.local_addr(), 10, Duration::from_millis(5), 5).await;
    let dialed = within(rig.dial_at(relay.address, &dial_options())).await.unwrap();
    let admitted = within(rig.listener.accept()).await.unwrap();
    exchange(&dialed, &admitted, 40, 200_000, 6, || {}).await;
    assert!(dialed.stats().lost_packets > 0);
}

#[tokio::test]
async fn a_lane_moves_to_a_fresh_socket_in_mid_transfer() {
    let rig = Rig::new(ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    let before = admitted.remote_address();
    exchange(&dialed, &admitted, 64, 200_000, 7, || dialed.rebind().unwrap()).await;
    assert_ne!(admitted.remote_address().port(), before.port());
    assert!(matches!(admitted.rebind(), Err(LinkError::CannotRebind { .. })));
}

#[tokio::test]
async fn a_path_that_shrinks_does_not_end_the_lane() {
    let rig = Rig::new(ListenOptions::default());
    let relay = Relay::new(rig.listener.local_addr(), 0, Duration::from_millis(1), 8).await;
    let dialed = within(rig.dial_at(relay.address, &dial_options())).await.unwrap();
    let admitted = within(rig.listener.accept()).await.unwrap();
    within(async {
        while dialed.stats().mtu <= 1452 {
            let parcel = dialed.send_parcel(Bytes::new(), Bytes::from(vec![1; 10_000]), 0);
            let (sent, got) = tokio::join!(parcel, async {
                admitted.accept_parcel().await.unwrap().read(0, 10_000).await
            });
            sent.unwrap();
            got.unwrap();
        }
    })
    .await;
    relay.largest.store(1400, Ordering::SeqCst);
    exchange(&dialed, &admitted, 20, 100_000, 9, || {}).await;
    let stats = dialed.stats();
    assert!(stats.black_holes > 0 && stats.mtu <= 1400, "{stats:?}");
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let transport = TransportOptions {
        idle_timeout: Duration::from_millis(400),
        ..TransportOptions::default()
    };
    let rig = Rig::new(ListenOptions { transport: transport.clone(), ..ListenOptions::default() });
    let relay = Relay::new(rig.listener.local_addr(), 0, Duration::ZERO, 10).await;
    let options = DialOptions { transport, ..dial_options() };
    let dialed = within(rig.dial_at(relay.address, &options)).await.unwrap();
    let admitted = within(rig.listener.accept()).await.unwrap();
    relay.silent.store(true, Ordering::SeqCst);
    for lane in [&dialed, &admitted] {
        let error = within(lane.closed()).await;
        assert!(matches!(error, LinkError::TimedOut { .. }), "{error:?}");
        assert_eq!(error.fault(), Fault::Transient);
    }
    let error = within(dialed.send_parcel(Bytes::new(), Bytes::new(), 0)).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error:?}");
}

async fn dropping_tells_the_other_side(kind: LaneKind) {
    let rig = Rig::of(kind, ListenOptions::default());
    let (dialed, admitted) = within(rig.pair()).await;
    // A parcel that is dropped halfway is abandoned, not ended; over TCP, where it cannot be cut out of
    // its connection, it comes whole.
    let body = Bytes::from(vec![1; 8 * 1024 * 1024]);
    let mut sending = Box::pin(dialed.send_parcel(Bytes::from_static(b"head"), body.clone(), 1));
    let arriving = tokio::select! {
        _ = &mut sending => panic!("nobody read it"),
        arriving = within(admitted.accept_parcel()) => arriving.unwrap(),
    };
    drop(sending);
    match (kind, within(arriving.read(100, 16 << 20)).await) {
        (LaneKind::Quic, Err(ParcelError::Abandoned { .. })) => {}
        (LaneKind::Tcp, Ok((head, got))) => assert!(head == b"head" && got == body),
        (_, other) => panic!("{:?}", other.map(|(head, body)| (head, body.len()))),
    }
    // A parcel that is not wanted stops its sender.
    let mut sending = Box::pin(dialed.send_parcel(Bytes::from_static(b"head"), body, 2));
    tokio::select! {
        _ = &mut sending => panic!("nobody read it"),
        arriving = within(admitted.accept_parcel()) => arriving.unwrap().refuse(55),
    }
    let error = within(sending).await.unwrap_err();
    assert!(matches!(error, LinkError::StreamStopped { code: 55, .. }), "{error:?}");
    // The last handle closes the lane; a stream counts as one.
    let (stream, _) = within(dialed.open_control()).await.unwrap();
    drop(dialed);
    tokio::task::yield_now().await;
    assert!(still_open(&admitted).await);
    drop(stream);
    let error = within(admitted.closed()).await;
    assert!(matches!(error, LinkError::Closed { code: 0, .. }), "{error:?}");
}
