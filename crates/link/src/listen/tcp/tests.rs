//! Peers that misbehave over TCP: each is found out, and costs nobody else anything.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::slots::MOST_TCP_HANDSHAKES;
use super::*;
use crate::lane::MAX_FRAME;
use crate::lane::tcp::frame::{FrameError, Frames, PARCEL_START_BYTES, ParcelStart};
use crate::rig::{PATIENCE, Rig, dial_options};
use crate::{DialOptions, LaneKind, ListenOptions, ParcelError};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the test hangs")
}

fn rig(options: ListenOptions) -> Rig {
    Rig::of(LaneKind::Tcp, options)
}

/// A connection with a key that has said nothing more.
async fn connect(rig: &Rig, identity: &Identity) -> Secured {
    let socket = TcpStream::connect(rig.listener.local_addr()).await.unwrap();
    let config = Arc::new(tls::tcp_client_config(identity).unwrap());
    handshake::dial(socket, config).await.unwrap()
}

/// A connection with a key that says what it likes.
async fn raw(rig: &Rig, identity: &Identity, lane: u8, number: u16) -> Secured {
    let mut secured = connect(rig, identity).await;
    let hello = Hello { lane: [lane; 16], number }.encode();
    secured.writer.write(&mut [&hello]).await.unwrap();
    secured
}

/// A lane of the friend's with one data connection.
async fn raw_lane(rig: &Rig) -> (Secured, Secured, Lane) {
    raw_lane_of(rig, 1).await
}

async fn raw_lane_of(rig: &Rig, lane: u8) -> (Secured, Secured, Lane) {
    let control = raw(rig, &rig.friend, lane, 0).await;
    let data = raw(rig, &rig.friend, lane, 1).await;
    (control, data, rig.listener.accept().await.unwrap())
}

async fn say(connection: &mut Secured, frame: &Frame) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    connection.writer.write(&mut [&bytes]).await.unwrap();
}

/// With which code and reason the listener closes.
async fn last_word(connection: &mut Secured) -> (u32, String) {
    let (mut frames, mut said) = (Frames::default(), None);
    while said.is_none() {
        assert!(connection.reader.fill(false).await.unwrap(), "it ends without a word");
        let ready = connection.reader.ready().unwrap();
        let length = ready.len();
        let take = |frame| {
            if let Frame::Close { code, reason } = frame {
                said = Some((code, String::from_utf8(reason).unwrap()));
            }
            Ok(())
        };
        frames.feed::<FrameError>(ready, take).unwrap();
        connection.reader.consume(length);
    }
    said.unwrap()
}

/// Whether the listener closes a connection without a word.
async fn is_dropped(connection: &mut Secured) -> bool {
    !matches!(within(connection.reader.fill(false)).await, Ok(true))
}

async fn parcel(data: &mut Secured, number: u64, head: u32, body: u32, bytes: usize) {
    let start = ParcelStart { head, body, number }.encode();
    data.writer.write(&mut [&start, &vec![5; bytes]]).await.unwrap();
}

#[tokio::test]
async fn garbage_and_silence_hold_no_place() {
    let rig = rig(ListenOptions {
        max_handshakes_per_address: 3,
        handshake_deadline: Duration::from_millis(300),
        ..ListenOptions::default()
    });
    let mut knocking = Vec::new();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", &[0x16, 3, 1]] {
        let mut socket = TcpStream::connect(rig.listener.local_addr()).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        knocking.push(socket);
    }
    for mut socket in knocking {
        // An alert may come first; then it ends, one way or the other.
        let mut rest = Vec::new();
        let _ = within(socket.read_to_end(&mut rest)).await;
    }
    assert_eq!(rig.doorkeeper.asked(), 0, "nobody has shown a key");
    // Their places are free, or will be in a moment.
    let lane = within(async {
        loop {
            match rig.dial(&dial_options()).await {
                Ok(lane) => return lane,
                Err(LinkError::Busy { .. } | LinkError::Reset { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let _lane = lane.await;
}

#[tokio::test]
async fn a_hello_must_come_in_time_and_of_this_version() {
    let rig = rig(ListenOptions {
        handshake_deadline: Duration::from_millis(300),
        ..ListenOptions::default()
    });
    let config = Arc::new(tls::tcp_client_config(&rig.friend).unwrap());
    let socket = TcpStream::connect(rig.listener.local_addr()).await.unwrap();
    let mut silent = within(handshake::dial(socket, config.clone())).await.unwrap();
    assert!(is_dropped(&mut silent).await);
    let socket = TcpStream::connect(rig.listener.local_addr()).await.unwrap();
    let mut other = within(handshake::dial(socket, config)).await.unwrap();
    let mut hello = Hello { lane: [1; 16], number: 0 }.encode();
    hello[0] = 9;
    other.writer.write(&mut [&hello]).await.unwrap();
    assert_eq!(within(last_word(&mut other)).await.0, close_code::PROTOCOL);
    assert_eq!(rig.doorkeeper.asked(), 0);
}

#[tokio::test]
async fn only_its_own_key_joins_a_lane() {
    let rig = rig(ListenOptions::default());
    let stranger = Identity::generate().unwrap();
    let (_control, mut data, lane) = within(raw_lane(&rig)).await;
    let mut foreign = within(raw(&rig, &stranger, 1, 2)).await;
    assert!(is_dropped(&mut foreign).await);
    // Nor does a lane of the same number begin.
    let mut second = within(raw(&rig, &rig.friend, 1, 0)).await;
    assert_eq!(within(last_word(&mut second)).await.0, close_code::PROTOCOL);
    within(parcel(&mut data, 0, 2, 3, 5)).await;
    let read = within(async { lane.accept_parcel().await.unwrap().read(10, 10).await }).await;
    assert_eq!(read.unwrap(), (vec![5; 2], vec![5; 3]));
}

#[tokio::test]
async fn data_may_come_before_control_but_not_for_long_and_not_many() {
    let rig = rig(ListenOptions::default());
    let mut early = within(raw(&rig, &rig.friend, 1, 1)).await;
    within(parcel(&mut early, 0, 0, 3, 3)).await;
    let _control = within(raw(&rig, &rig.friend, 1, 0)).await;
    let lane = within(rig.listener.accept()).await.unwrap();
    let read = within(async { lane.accept_parcel().await.unwrap().read(10, 10).await }).await;
    assert_eq!(read.unwrap().1, [5; 3]);
    // For a lane that never comes only so many wait, and those are dropped too.
    let mut waiting = Vec::new();
    for number in 1..=MOST_HELD_PER_KEY as u16 + 1 {
        waiting.push(within(raw(&rig, &rig.friend, 9, number)).await);
    }
    let mut surplus = waiting.pop().unwrap();
    assert!(is_dropped(&mut surplus).await);
    for connection in &mut waiting {
        assert!(is_dropped(connection).await);
    }
}

#[tokio::test]
async fn what_no_peer_may_say_ends_the_lane() {
    let window = (crate::lane::tcp::control_window() / MAX_FRAME) as u32;
    let long = |stream| Frame::Control { stream, bytes: vec![0; MAX_FRAME] };
    let cases: [(&str, Vec<Frame>); 9] = [
        ("an acknowledgement of nothing", vec![Frame::Read { numbers: vec![0] }]),
        ("a refusal of nothing", vec![Frame::Refused { number: 7, code: 1 }]),
        ("credit for nothing", vec![long(0), Frame::Credit { stream: 0, bytes: 1 }]),
        ("more than the window", (0..=window).map(|_| long(0)).collect()),
        ("a stream of ours", vec![long(1)]),
        ("a stream out of turn", vec![long(2)]),
        ("three streams", [0, 2, 4].map(|stream| Frame::Control { stream, bytes: vec![] }).into()),
        ("a second end", [0, 0].map(|stream| Frame::ControlEnd { stream }).into()),
        ("a welcome from a dialer", vec![Frame::Welcome]),
    ];
    for (what, frames) in cases {
        let rig = rig(ListenOptions::default());
        let (mut control, _data, lane) = within(raw_lane(&rig)).await;
        for frame in &frames {
            within(say(&mut control, frame)).await;
        }
        assert_eq!(within(last_word(&mut control)).await.0, close_code::PROTOCOL, "{what}");
        let error = within(lane.closed()).await;
        assert!(matches!(error, LinkError::Transport { .. }), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn frames_of_impossible_lengths_and_forged_records_end_the_lane() {
    for bytes in [&[2, 255, 255, 255, 255][..], &[99, 0, 0, 0, 0]] {
        let rig = rig(ListenOptions::default());
        let (mut control, _data, lane) = within(raw_lane(&rig)).await;
        control.writer.write(&mut [bytes]).await.unwrap();
        assert_eq!(within(last_word(&mut control)).await.0, close_code::PROTOCOL);
        assert!(matches!(within(lane.closed()).await, LinkError::Transport { .. }));
    }
    for record in [&[23, 3, 3, 0, 30][..], &[23, 3, 3, 255, 255], &[22, 3, 3, 0, 30]] {
        let rig = rig(ListenOptions::default());
        let (_control, data, lane) = within(raw_lane(&rig)).await;
        let bytes = [record, &[0; 30]].concat();
        data.writer.socket().try_write(&bytes).unwrap();
        let error = within(lane.closed()).await;
        assert!(matches!(error, LinkError::Transport { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn numbers_of_connections_and_parcels_are_held_to() {
    for number in [1, 17, u16::MAX] {
        let rig = rig(ListenOptions::default());
        let (mut control, _data, _lane) = within(raw_lane(&rig)).await;
        let _again = within(raw(&rig, &rig.friend, 1, number)).await;
        assert_eq!(within(last_word(&mut control)).await.0, close_code::PROTOCOL, "{number}");
    }
    let rig = rig(ListenOptions::default());
    let (mut control, mut data, _lane) = within(raw_lane(&rig)).await;
    within(parcel(&mut data, u64::MAX, 0, 0, 0)).await;
    assert_eq!(within(last_word(&mut control)).await.0, close_code::PROTOCOL);
}

#[tokio::test]
async fn lengths_that_lie_are_found_and_the_next_parcel_comes() {
    let rig = rig(ListenOptions::default());
    let (_control, mut data, lane) = within(raw_lane(&rig)).await;
    within(parcel(&mut data, 0, 101, 0, 101)).await;
    within(parcel(&mut data, 1, 0, 1001, 1001)).await;
    within(parcel(&mut data, 2, 1, 1, 2)).await;
    // The same number once more is not given out again.
    within(parcel(&mut data, 2, 1, 1, 2)).await;
    within(parcel(&mut data, 3, 0, u32::MAX, 10)).await;
    let next = || async { lane.accept_parcel().await.unwrap().read(100, 1000).await };
    assert!(matches!(
        within(next()).await,
        Err(ParcelError::HeadTooLong { length: 101, cap: 100, .. })
    ));
    assert!(matches!(
        within(next()).await,
        Err(ParcelError::BodyTooLong { length: 1001, cap: 1000, .. })
    ));
    assert_eq!(within(next()).await.unwrap(), (vec![5], vec![5]));
    assert!(matches!(within(next()).await, Err(ParcelError::BodyTooLong { .. })));
    // The rest of the last never comes: the connection ends within it, and with it the lane.
    data.writer.finish().await.unwrap();
    assert!(matches!(within(lane.closed()).await, LinkError::Reset { .. }));
}

#[tokio::test]
async fn a_share_bounds_connections_and_the_parcels_that_are_read_at_once() {
    let rig = rig(ListenOptions { memory_budget: 4 << 20, ..ListenOptions::default() });
    let (_control, mut data, lane) = within(raw_lane(&rig)).await;
    let mut other = within(raw(&rig, &rig.friend, 1, 2)).await;
    connections(&lane, 2).await;
    let mut surplus = within(raw(&rig, &rig.friend, 1, 3)).await;
    assert!(is_dropped(&mut surplus).await, "two are all that this share holds");
    // Another peer takes half of the memory, and what is left holds the buffers and one parcel.
    let (_control, _data, beside) = within(raw_lane_of(&rig, 2)).await;
    assert_eq!((lane.memory_share(), beside.memory_share()), (2 << 20, 2 << 20));
    within(parcel(&mut data, 0, 0, 4, 2)).await;
    let first = within(lane.accept_parcel()).await.unwrap();
    within(parcel(&mut other, 1, 0, 4, 4)).await;
    let second = tokio::time::timeout(Duration::from_millis(100), lane.accept_parcel()).await;
    assert!(second.is_err(), "one parcel is all that this share holds");
    drop(first);
    let second = within(lane.accept_parcel()).await.unwrap();
    assert_eq!(within(second.read(0, 4)).await.unwrap().1, [5; 4]);
}

#[tokio::test]
async fn strangers_wait_for_no_lane_and_keep_nobody_from_waiting() {
    let crowd = MOST_HELD + 8;
    let options =
        ListenOptions { max_handshakes_per_address: 2 * crowd, ..ListenOptions::default() };
    let rig = rig(options);
    let mut strangers = Vec::new();
    for _ in 0..crowd {
        let stranger = Identity::generate().unwrap();
        let mut knocking = within(raw(&rig, &stranger, 1, 1)).await;
        // It may be closed already.
        let _ = knocking.writer.write(&mut [&[5; 1000]]).await;
        strangers.push(knocking);
    }
    within(async {
        while rig.doorkeeper.asked() < crowd {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut early = within(raw(&rig, &rig.friend, 1, 1)).await;
    within(parcel(&mut early, 0, 0, 3, 3)).await;
    within(async {
        while rig.doorkeeper.asked() == crowd {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let _control = within(raw(&rig, &rig.friend, 1, 0)).await;
    let lane = within(rig.listener.accept()).await.unwrap();
    let read = within(async { lane.accept_parcel().await.unwrap().read(10, 10).await }).await;
    assert_eq!(read.unwrap().1, [5; 3]);
    for stranger in &mut strangers {
        assert!(is_dropped(stranger).await);
    }
}

#[tokio::test]
async fn whoever_is_silent_longest_makes_room() {
    let rig = rig(ListenOptions {
        max_handshakes_per_address: 10_000,
        // The test is over before.
        handshake_deadline: PATIENCE * 2,
        ..ListenOptions::default()
    });
    let mut silent = Vec::new();
    for _ in 0..MOST_TCP_HANDSHAKES {
        silent.push(within(TcpStream::connect(rig.listener.local_addr())).await.unwrap());
    }
    let _lane = within(rig.dial(&dial_options())).await.unwrap();
    let mut gone = [0; 1];
    assert!(!matches!(within(silent[0].read(&mut gone)).await, Ok(1..)), "the oldest is gone");
}

/// Peers that are turned away and stay as long as they may.
#[tokio::test]
async fn whoever_is_turned_away_makes_room() {
    let rig = rig(ListenOptions {
        max_handshakes_per_address: 10_000,
        handshake_deadline: PATIENCE * 2,
        ..ListenOptions::default()
    });
    let stranger = Identity::generate().unwrap();
    let mut crowd = Vec::new();
    for _ in 0..MOST_TCP_HANDSHAKES {
        crowd.push(within(connect(&rig, &stranger)).await);
    }
    for one in &mut crowd {
        one.writer.write(&mut [&Hello { lane: [1; 16], number: 0 }.encode()]).await.unwrap();
    }
    within(async {
        while rig.doorkeeper.asked() < MOST_TCP_HANDSHAKES {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let lane = within(rig.dial(&dial_options())).await.unwrap();
    within(lane.welcomed()).await.unwrap();
}

#[tokio::test]
async fn a_crowd_of_connections_keeps_no_lane_from_its_first() {
    let rig = rig(ListenOptions { max_data_connections: 3, ..ListenOptions::default() });
    let (_control, _data, greedy) = within(raw_lane(&rig)).await;
    let mut held = Vec::new();
    for number in 2..=4 {
        held.push(within(raw(&rig, &rig.friend, 1, number)).await);
    }
    connections(&greedy, 4).await;
    let mut surplus = within(raw(&rig, &rig.friend, 1, 5)).await;
    assert!(is_dropped(&mut surplus).await, "three are the limit");
    let (_control, mut data, lane) = within(raw_lane_of(&rig, 2)).await;
    within(parcel(&mut data, 0, 0, 3, 3)).await;
    let read = within(async { lane.accept_parcel().await.unwrap().read(10, 10).await }).await;
    assert_eq!(read.unwrap().1, [5; 3]);
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_a_vanished_one_at_once() {
    let transport = TransportOptions {
        idle_timeout: Duration::from_millis(400),
        ..TransportOptions::default()
    };
    let rig = rig(ListenOptions { transport, ..ListenOptions::default() });
    // This one answers no ping.
    let (_control, _data, lane) = within(raw_lane(&rig)).await;
    assert!(matches!(within(lane.closed()).await, LinkError::TimedOut { .. }));
    let (control, _data, lane) = within(raw_lane_of(&rig, 2)).await;
    drop(control);
    assert!(matches!(within(lane.closed()).await, LinkError::Reset { .. }));
    // Whoever follows the protocol stays, though it says nothing by itself.
    let quiet = TransportOptions {
        keep_alive: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(400),
        ..TransportOptions::default()
    };
    let options = DialOptions { transport: quiet, ..dial_options() };
    let (dialed, admitted) = (within(rig.dial(&options)).await.unwrap(), rig.listener.accept());
    let _admitted = within(admitted).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_millis(1200), dialed.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn keys_change_in_the_middle_of_a_parcel() {
    let rig = rig(ListenOptions::default());
    let (_control, mut data, lane) = within(raw_lane(&rig)).await;
    data.writer.sealer().change_keys_every(3);
    for number in 0..3 {
        let sending = parcel(&mut data, number, 0, 1 << 20, 1 << 20);
        let reading = async { lane.accept_parcel().await.unwrap().read(0, 1 << 20).await };
        let ((), read) = within(async { tokio::join!(sending, reading) }).await;
        assert!(read.unwrap().1 == vec![5; 1 << 20]);
    }
}

/// The end of a control connection is seen in two ways at once, and which comes first is chance.
#[tokio::test]
async fn a_lane_ends_well_however_its_end_is_seen() {
    let (host, friend) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let answering = server_config(&host).unwrap();
    let dialing = Arc::new(tls::tcp_client_config(&friend).unwrap());
    let listener = TcpListener::bind(crate::rig::any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..64 {
        let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (dialed, (accepted, _)) = (dialed.unwrap(), accepted.unwrap());
        let (peer, control) = tokio::join!(
            handshake::dial(dialed, dialing.clone()),
            handshake::answer(accepted, answering.clone())
        );
        let congestion = crate::Congestion::Rate;
        let pulse = Pulse { keep_alive: PATIENCE, idle_timeout: PATIENCE, congestion };
        let account = Account::new(SMALLEST_SHARE);
        let (session, joining) = Session::new(PeerName::new(address), false, pulse, account);
        let running = tokio::spawn(session.clone().run(control.unwrap(), joining, 1, None));
        drop(peer.unwrap());
        within(running).await.expect("no panic");
        assert!(session.end().is_some());
    }
}

/// Both ends of one connection: the dialer's, and the listener's.
async fn two_ends() -> (Secured, Secured) {
    let (host, friend) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let answering = server_config(&host).unwrap();
    let dialing = Arc::new(tls::tcp_client_config(&friend).unwrap());
    let listener = TcpListener::bind(crate::rig::any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (dialer, listener) = tokio::join!(
        handshake::dial(dialed.unwrap(), dialing),
        handshake::answer(accepted.unwrap().0, answering)
    );
    (dialer.unwrap(), listener.unwrap())
}

#[tokio::test]
async fn a_peer_that_is_turned_away_is_not_listened_to_for_long() {
    let (mut peer, mut here) = within(two_ends()).await;
    // It stays and says nothing more, so only the limit ends the wait for it.
    let flood = vec![0; FAREWELL_BYTES + 1];
    let talking = async { peer.writer.write(&mut [&flood]).await };
    let leaving = say_farewell(&mut here, close_code::BUSY, "full");
    let (said, left) = within(async { tokio::join!(talking, leaving) }).await;
    assert!(said.is_ok() && left.is_ok());
    assert_eq!(within(last_word(&mut peer)).await, (close_code::BUSY, "full".to_owned()));
}

#[tokio::test]
async fn a_reader_takes_turns_even_when_all_is_there() {
    let (mut peer, mut here) = within(two_ends()).await;
    peer.writer.write(&mut [&[1]]).await.unwrap();
    within(here.reader.socket().readable()).await.unwrap();
    let turned = std::future::poll_fn(|context| {
        let mut spent = 0;
        while std::pin::pin!(tokio::task::coop::consume_budget()).poll(context).is_ready() {
            spent += 1;
            assert!(spent < 100_000, "a task has a budget");
        }
        let filled = std::pin::pin!(here.reader.fill(false)).poll(context);
        std::task::Poll::Ready(filled.is_pending())
    });
    assert!(turned.await, "it goes on without a budget");
    assert!(within(here.reader.fill(false)).await.unwrap());
}

#[tokio::test]
async fn records_that_hold_nothing_come_to_an_end() {
    let (mut peer, mut here) = within(two_ends()).await;
    for (empty, fine) in [(64, true), (65, false)] {
        peer.writer.write_empty(empty).await.unwrap();
        peer.writer.write(&mut [&[7]]).await.unwrap();
        let filled = within(here.reader.fill(false)).await;
        assert_eq!(filled.is_ok(), fine, "{filled:?}");
        here.reader.consume(1);
    }
}

/// Waits until a lane has so many data connections.
async fn connections(lane: &Lane, wanted: u32) {
    within(async {
        while lane.stats().connections != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_data_connection_that_carried_nothing_may_go() {
    let rig = rig(ListenOptions::default());
    let (_control, first, lane) = within(raw_lane(&rig)).await;
    connections(&lane, 1).await;
    let mut second = within(raw(&rig, &rig.friend, 1, 2)).await;
    connections(&lane, 2).await;
    // It is begun on the first, which never takes it, and goes over the second instead.
    let body = vec![9; 8 << 20];
    let sending = lane.send_parcel(vec![8].into(), body.into(), 0);
    let losing = async {
        assert!(first.reader.socket().readable().await.is_ok());
        drop(first);
        let start = second.reader.read_exact::<PARCEL_START_BYTES>().await.unwrap();
        let start = ParcelStart::decode(&start);
        assert_eq!((start.number, start.head, start.body), (0, 1, 8 << 20));
        second
    };
    tokio::select! {
        sent = sending => panic!("nobody has acknowledged it: {sent:?}"),
        mut second = within(losing) => {
            connections(&lane, 1).await;
            parcel(&mut second, 0, 1, 1, 2).await;
            let read = within(async { lane.accept_parcel().await.unwrap().read(9, 9).await });
            assert_eq!(read.await.unwrap(), (vec![5], vec![5]));
            // The last one, and one that has carried something, takes the lane with it.
            drop(second);
        }
    }
    assert!(matches!(within(lane.closed()).await, LinkError::Reset { .. }));
}

#[tokio::test]
async fn a_data_connection_that_the_peer_ends_gives_its_place_back() {
    let rig = rig(ListenOptions { max_data_connections: 1, ..ListenOptions::default() });
    let (_control, _first, lane) = within(raw_lane(&rig)).await;
    let mut second = within(raw(&rig, &rig.friend, 1, 2)).await;
    connections(&lane, 2).await;
    let mut surplus = within(raw(&rig, &rig.friend, 1, 3)).await;
    assert!(is_dropped(&mut surplus).await, "one beside the first is the limit");
    within(parcel(&mut second, 0, 0, 1, 1)).await;
    within(async { lane.accept_parcel().await.unwrap().read(9, 9).await }).await.unwrap();
    second.writer.finish().await.unwrap();
    // Nothing is sent on it any more either.
    assert!(is_dropped(&mut second).await);
    let mut third = within(raw(&rig, &rig.friend, 1, 4)).await;
    within(parcel(&mut third, 1, 0, 1, 1)).await;
    let read = within(async { lane.accept_parcel().await.unwrap().read(9, 9).await }).await;
    assert_eq!(read.unwrap().1, [5]);
}

#[tokio::test]
async fn a_flood_of_pings_takes_turns() {
    let (mut peer, here) = within(two_ends()).await;
    let congestion = crate::Congestion::Rate;
    let pulse = Pulse { keep_alive: PATIENCE, idle_timeout: PATIENCE, congestion };
    let address = crate::rig::any_port();
    let account = Account::new(SMALLEST_SHARE);
    let (session, _joining) = Session::new(PeerName::new(address), false, pulse, account);
    // Two records of as many as fit, which two reads bring.
    let mut pings = Vec::new();
    (0..6000).for_each(|_| Frame::Ping.encode(&mut pings));
    peer.writer.write(&mut [&pings]).await.unwrap();
    within(here.reader.socket().readable()).await.unwrap();
    tokio::task::yield_now().await;
    let mut hearing = std::pin::pin!(crate::lane::tcp::listen_to(session, here.reader));
    let left = std::future::poll_fn(|context| {
        assert!(hearing.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(tokio::task::coop::has_budget_remaining())
    });
    assert!(!left.await, "it goes on for as long as pings come");
}
