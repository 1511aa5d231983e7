use std::net::Ipv4Addr;

use bytes::Bytes;
use tokio::io::{BufReader, DuplexStream, duplex, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::frame::{HEAD_BYTES, Head, MOST_CONNECTIONS, WINDOW};
use super::*;
use crate::rig::{Expect, PATIENCE, Random, dial_options, target};
use crate::{
    AuthorizedKeys, Denied, DialOptions, Gatekeeper, HostCheck, HostRefused, LaneKind,
    ListenOptions, Listener, Permissions, TransportOptions,
};

const JOB: Job = Job { command: [3; 16], run: [4; 16], again: true };

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

#[tokio::test]
async fn two_ends_get_to_know_each_other_behind_what_a_shell_prints() {
    let (near, far) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (here, there) = duplex(4096);
    let (near_key, far_key) = (near.public_key(), far.public_key());
    let listener = tokio::spawn(async move {
        let (mut read, mut write) = split(there);
        write.write_all(b"Welcome to haulp haulpip!\n").await.unwrap();
        let guest = await_greeting(&mut read, &mut write, &far).await.unwrap();
        assert_eq!((guest.ports, guest.keys.peer), (Some((7, 9)), near_key));
        assert_eq!(guest.job, JOB);
        guest.serve(&mut write, 8, Some("::1".parse().unwrap())).await.unwrap();
        write.write_all(b"behind").await.unwrap();
        guest.keys
    });
    let (read, mut write) = split(here);
    let mut read = BufReader::new(read);
    let served = within(greet(&mut read, &mut write, &near, JOB, Some((7, 9)))).await.unwrap();
    assert_eq!((served.port, served.address), (8, Some("::1".parse().unwrap())));
    let keys = listener.await.unwrap();
    assert_eq!(served.keys.peer, far_key);
    assert_eq!(served.keys.peer_one_time, keys.one_time.public_key());
    assert_eq!(served.keys.one_time.public_key(), keys.peer_one_time);
    assert_ne!(served.keys.peer_one_time, far_key);
    let mut rest = [0; 6];
    read.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"behind");
}

/// How a dialer takes what comes out of its pipe.
async fn greeted_by(bytes: &[u8]) -> PipeError {
    let identity = Identity::generate().unwrap();
    let mut nowhere = tokio::io::sink();
    within(greet(&mut &*bytes, &mut nowhere, &identity, JOB, None)).await.unwrap_err()
}

#[tokio::test]
async fn what_is_no_greeting_is_told_as_what_it_is() {
    let error = greeted_by(b"sh: haul: not found\n").await;
    assert!(matches!(&error, PipeError::Ended { noise } if noise == "sh: haul: not found"));
    let error = greeted_by(&vec![b'x'; 100_000]).await;
    assert!(matches!(&error, PipeError::NotHaul { noise } if noise.len() <= 300), "{error}");
    let error = greeted_by(b"haulpipe\xff\xff").await;
    assert!(matches!(error, PipeError::Unreadable(_)), "{error}");
    let error = greeted_by(b"haulpipe\x00\x05").await;
    assert!(matches!(error, PipeError::Io(_)), "cut short: {error}");
    let mut refusal = Vec::new();
    refuse(&mut refusal, "no home\u{1b}[31m").await.unwrap();
    let error = greeted_by(&refusal).await;
    assert!(matches!(&error, PipeError::Refused { reason } if reason == "no home_[31m"), "{error}");
}

#[tokio::test]
async fn a_listener_says_that_it_speaks_another_version() {
    let identity = Identity::generate().unwrap();
    let mut answer = Vec::new();
    let greeting = [MAGIC.as_slice(), &[0, 2, 7, 9]].concat();
    let error = await_greeting(&mut greeting.as_slice(), &mut answer, &identity).await.unwrap_err();
    assert!(matches!(error, PipeError::Version));
    assert!(matches!(greeted_by(&answer).await, PipeError::Refused { .. }));
    let noise = [b"x", MAGIC.as_slice()].concat();
    let error = await_greeting(&mut noise.as_slice(), &mut answer, &identity).await.unwrap_err();
    assert!(matches!(error, PipeError::NotHaul { .. }), "a dialer prints nothing before");
}

fn all() -> TunnelOptions {
    TunnelOptions::default()
}

/// A tunnel over a pipe in memory, to a listener of whatever is sent.
async fn tunnel() -> (Tunnel, Tunnel, TcpListener) {
    tunnel_with(all()).await
}

/// The same where the listener's end allows so much.
async fn tunnel_with(options: TunnelOptions) -> (Tunnel, Tunnel, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (here, there) = duplex(64 * 1024);
    let (read, write) = split(there);
    let far = Tunnel::leave(read, write, listener.local_addr().unwrap(), &Carrier::new(), options);
    let (read, write) = split(here);
    (Tunnel::enter(read, write, all()).await.unwrap(), far, listener)
}

/// A connection into the tunnel, as its own dialer makes one.
async fn enter(tunnel: &Tunnel) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    // For as long as the test lasts.
    std::mem::forget(tunnel.carrier().note(socket.local_addr().unwrap(), None));
    socket.connect(tunnel.address()).await.unwrap()
}

#[tokio::test]
async fn nobody_else_gets_into_a_tunnel() {
    let (near, _far, listener) = tunnel().await;
    for _ in 0..2 * MOST_CONNECTIONS {
        let mut stranger = TcpStream::connect(near.address()).await.unwrap();
        assert!(!matches!(within(stranger.read(&mut [0; 1])).await, Ok(1..)));
    }
    let _ours = enter(&near).await;
    within(listener.accept()).await.unwrap();
}

/// A pipe that carries so many bytes a second, the other way at once.
fn slow_pipe(bytes_per_s: u64) -> (DuplexStream, DuplexStream) {
    let (near, from_near) = duplex(4096);
    let (to_far, far) = duplex(4096);
    tokio::spawn(async move {
        let ((mut a, mut b), (mut c, mut d)) = (split(from_near), split(to_far));
        let back = tokio::io::copy(&mut c, &mut b);
        let forth = async {
            let mut buffer = [0; 1024];
            loop {
                let read = a.read(&mut buffer).await?;
                if read == 0 {
                    return d.shutdown().await;
                }
                let micros = 1_000_000 * read as u64 / bytes_per_s;
                tokio::time::sleep(Duration::from_micros(micros)).await;
                d.write_all(&buffer[..read]).await?;
            }
        };
        let _ = tokio::join!(back, forth);
    });
    (near, far)
}

/// What one end sends arrives at the other, whole and in order, on many connections at once, of which one
/// is not read for as long as the others run.
#[tokio::test]
async fn connections_do_not_hold_each_other_up() {
    const LENGTH: usize = 3 * WINDOW / 2;
    let (near, _far, listener) = tunnel().await;
    let mut stuck = enter(&near).await;
    let (mut unread, _) = within(listener.accept()).await.unwrap();
    let filling = tokio::spawn(async move {
        stuck.write_all(&Random(99).bytes(4 * WINDOW)).await.unwrap();
        stuck.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stuck.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let mut running = JoinSet::new();
    for seed in 0..4 {
        let socket = enter(&near).await;
        running.spawn(async move {
            let (mut read, mut write) = socket.into_split();
            write.write_all(&[seed as u8]).await.unwrap();
            let sending = tokio::spawn(async move {
                write.write_all(&Random(seed).bytes(LENGTH)).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            sending.await.unwrap();
            assert!(got == Random(seed + 10).bytes(LENGTH), "{seed}: {} bytes", got.len());
        });
        let (socket, _) = within(listener.accept()).await.unwrap();
        running.spawn(async move {
            let (mut read, mut write) = socket.into_split();
            let seed = u64::from(read.read_u8().await.unwrap());
            let sending = tokio::spawn(async move {
                write.write_all(&Random(seed + 10).bytes(LENGTH)).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            sending.await.unwrap();
            assert!(got == Random(seed).bytes(LENGTH), "{seed}: {} bytes", got.len());
        });
    }
    within(async { while running.join_next().await.is_some_and(|done| done.is_ok()) {} }).await;
    assert!(running.is_empty(), "one has failed");
    assert!(!filling.is_finished(), "nobody has read it");
    let mut got = Vec::new();
    within(unread.read_to_end(&mut got)).await.unwrap();
    assert!(got == Random(99).bytes(4 * WINDOW));
    unread.write_all(b"thanks").await.unwrap();
    drop(unread);
    assert_eq!(within(filling).await.unwrap(), b"thanks");
    assert!(near.carrier().trip().is_some(), "no round trip was measured");
}

#[tokio::test]
async fn a_pipe_that_breaks_ends_its_connections() {
    let (near, far, listener) = tunnel().await;
    let mut socket = enter(&near).await;
    let (mut peer, _) = within(listener.accept()).await.unwrap();
    drop(far);
    assert!(matches!(within(near.closed()).await, TunnelEnd::Lost(_)));
    assert!(!near.is_open());
    let mut nothing = [0; 1];
    assert!(!matches!(within(socket.read(&mut nothing)).await, Ok(1..)));
    assert!(!matches!(within(peer.read(&mut nothing)).await, Ok(1..)));
    let (near, far, _listener) = tunnel().await;
    near.bye().await;
    assert_eq!(within(far.closed()).await, TunnelEnd::Bye);
}

#[tokio::test]
async fn what_nobody_listens_for_is_reset() {
    let (near, far, listener) = tunnel().await;
    drop(listener);
    let mut socket = enter(&near).await;
    assert!(!matches!(within(socket.read(&mut [0; 1])).await, Ok(1..)));
    assert!(near.is_open() && far.is_open());
}

/// How the listener's end takes the frames of a peer that says what it likes.
async fn taken(bytes: &[u8]) -> TunnelEnd {
    let (mut here, there) = duplex(1024);
    let (read, write) = split(there);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let far = Tunnel::leave(read, write, listener.local_addr().unwrap(), &Carrier::new(), all());
    let bytes = bytes.to_vec();
    let writing = async {
        let _ = here.write_all(&bytes).await;
        // Nothing is read, and nothing more comes.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = writing => unreachable!(),
        end = within(far.closed()) => end,
    }
}

#[tokio::test]
async fn a_peer_that_lies_is_left() {
    let frames = |heads: &[Head]| heads.iter().flat_map(|head| head.encode()).collect::<Vec<u8>>();
    let open = Head::Open { connection: 0 };
    let too_much = [
        frames(&[open]),
        // The kernel takes some of it, which is then allowed again.
        (0..8 * WINDOW / frame::MOST_DATA).fold(Vec::new(), |mut all, _| {
            all.extend(Head::Data { connection: 0, length: frame::MOST_DATA }.encode());
            all.resize(all.len() + frame::MOST_DATA, 0);
            all
        }),
    ]
    .concat();
    let cases = [
        vec![9; HEAD_BYTES],
        frames(&[Head::End { connection: 0 }]),
        frames(&[open, open]),
        frames(&[open, Head::Credit { connection: 0, bytes: 1 }]),
        frames(&vec![Head::Ping { number: 1 }; 3000]),
        frames(&(0..3000).map(|connection| Head::Open { connection }).collect::<Vec<_>>()),
        too_much,
    ];
    for (number, case) in cases.iter().enumerate() {
        let end = taken(case).await;
        assert!(matches!(end, TunnelEnd::Violation(_)), "case {number}: {end:?}");
    }
}

#[tokio::test]
async fn no_more_connections_than_there_are_places() {
    no_more_than(MOST_CONNECTIONS, all()).await;
    no_more_than(3, TunnelOptions { most_connections: 3, ..all() }).await;
}

async fn no_more_than(most: usize, options: TunnelOptions) {
    let (near, _far, listener) = tunnel_with(options).await;
    let mut open = Vec::new();
    for _ in 0..most {
        let socket = enter(&near).await;
        open.push((socket, within(listener.accept()).await.unwrap()));
    }
    let mut more = enter(&near).await;
    assert!(!matches!(within(more.read(&mut [0; 1])).await, Ok(1..)));
    drop(open.pop());
    // A place is free as soon as both ends know of it.
    within(async {
        loop {
            let mut more = enter(&near).await;
            more.write_all(b"x").await.unwrap();
            tokio::select! {
                accepted = listener.accept() => break accepted.map(drop).unwrap(),
                _ended = async { more.read(&mut [0; 1]).await } => {}
            }
        }
    })
    .await;
}

/// Admits one key, and knows another by it.
struct Known(PublicKey, PublicKey);

impl Gatekeeper for Known {
    fn admit(&self, peer: &PublicKey, _remote: SocketAddr) -> Result<Permissions, Denied> {
        match *peer == self.0 {
            true => Ok(Permissions::unrestricted()),
            false => Err(Denied::new("not the key of this pipe")),
        }
    }

    fn stands_for(&self, _peer: &PublicKey) -> PublicKey {
        self.1
    }
}

impl HostCheck for Known {
    fn check(&self, _host: &str, _port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        match *key == self.0 {
            true => Ok(()),
            false => Err(HostRefused::Changed { expected: vec![self.0] }),
        }
    }

    fn stands_for(&self, _key: &PublicKey) -> PublicKey {
        self.1
    }
}

#[tokio::test]
async fn a_lane_goes_through_and_is_known_by_its_identities() {
    let [near, far, near_once, far_once] = [(); 4].map(|()| Identity::generate().unwrap());
    let carrier = Carrier::new();
    let options = ListenOptions { carrier: Some(carrier.clone()), ..ListenOptions::default() };
    let gatekeeper = Arc::new(Known(near_once.public_key(), near.public_key()));
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(any, &far_once, gatekeeper, options).unwrap();
    let (here, there) = duplex(64 * 1024);
    let (read, write) = split(there);
    let _far = Tunnel::leave(read, write, listener.local_addr(), &carrier, all());
    let (read, write) = split(here);
    let tunnel = Tunnel::enter(read, write, all()).await.unwrap();
    let options = DialOptions {
        kind: LaneKind::Tcp,
        carrier: Some(tunnel.carrier().clone()),
        name: Some(crate::PeerName::new("me@there")),
        ..dial_options()
    };
    let check = Known(far_once.public_key(), far.public_key());
    let address = target(tunnel.address());
    let lane = within(crate::dial(&address, &near_once, &check, &options)).await.unwrap();
    within(lane.welcomed()).await.unwrap();
    let served = within(listener.accept()).await.unwrap();
    for (lane, peer) in [(&lane, &far), (&served, &near)] {
        assert_eq!((lane.kind(), *lane.peer()), (LaneKind::Pipe, peer.public_key()));
        assert_eq!(lane.peer_name().key(), Some(lane.peer()));
    }
    assert_eq!(lane.peer_name().address(), "me@there");
    let body = Random(5).bytes(3_000_000);
    let sending = lane.send_parcel(Bytes::from_static(b"head"), body.clone().into(), 0);
    let receiving = async {
        let parcel = served.accept_parcel().await.unwrap();
        parcel.read(16, 4_000_000).await.unwrap()
    };
    let (sent, (head, got)) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    assert!(head == *b"head" && got == body);
    // Who comes by another way has another kind of lane, and other keys are not let in.
    let direct = DialOptions { carrier: None, ..options.clone() };
    let there = target(listener.local_addr());
    let lane = within(crate::dial(&there, &near_once, &check, &direct)).await.unwrap();
    assert_eq!(lane.kind(), LaneKind::Tcp);
    let stranger = within(crate::dial(&address, &near, &check, &options)).await.unwrap();
    assert!(within(stranger.welcomed()).await.is_err(), "the identity itself is not admitted");
    let wrong = Expect(far.public_key());
    assert!(within(crate::dial(&address, &near_once, &wrong, &options)).await.is_err());
}

/// All connections share the pipe, so a lane hears nothing of its peer for a long time while much is sent.
#[tokio::test]
async fn a_lane_outlives_a_pipe_that_is_slow() {
    let [near, far, near_once, far_once] = [(); 4].map(|()| Identity::generate().unwrap());
    let carrier = Carrier::new();
    // Whoever hears nothing for so long gives an ordinary lane up.
    let impatient = TransportOptions {
        idle_timeout: Duration::from_millis(800),
        keep_alive: Duration::from_millis(200),
        ..TransportOptions::default()
    };
    let options = ListenOptions {
        carrier: Some(carrier.clone()),
        transport: impatient.clone(),
        ..ListenOptions::default()
    };
    let gatekeeper = Arc::new(Known(near_once.public_key(), near.public_key()));
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(any, &far_once, gatekeeper, options).unwrap();
    let (here, there) = slow_pipe(200_000);
    let (read, write) = split(there);
    let _far = Tunnel::leave(read, write, listener.local_addr(), &carrier, all());
    let (read, write) = split(here);
    let tunnel = Tunnel::enter(read, write, all()).await.unwrap();
    let options = DialOptions {
        kind: LaneKind::Tcp,
        carrier: Some(tunnel.carrier().clone()),
        transport: impatient,
        ..dial_options()
    };
    let check = Known(far_once.public_key(), far.public_key());
    let address = target(tunnel.address());
    let lane = within(crate::dial(&address, &near_once, &check, &options)).await.unwrap();
    within(lane.welcomed()).await.unwrap();
    let served = within(listener.accept()).await.unwrap();
    let body = Random(6).bytes(900_000);
    let sending = lane.send_parcel(Bytes::new(), body.clone().into(), 0);
    let receiving = async { served.accept_parcel().await.unwrap().read(16, 1_000_000).await };
    let (sent, got) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    assert!(got.unwrap().1 == body);
}

/// Asks the lines of an `authorized_keys` file.
struct Listed(AuthorizedKeys);

impl Gatekeeper for Listed {
    fn admit(&self, peer: &PublicKey, remote: SocketAddr) -> Result<Permissions, Denied> {
        self.0.check(peer, remote.ip(), jiff::Timestamp::UNIX_EPOCH)
    }
}

/// What comes out of a tunnel has an address of the listener's machine, and no right that goes with it.
#[tokio::test]
async fn who_comes_out_of_a_tunnel_is_where_its_other_end_is() {
    let check = async |from: &str, origin: Option<&str>, comes_in: bool| {
        let (host, friend) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let line = format!("from={from} {}", friend.public_key().to_line("friend"));
        let gatekeeper = Arc::new(Listed(AuthorizedKeys::parse(&line)));
        let carrier = Carrier::new();
        let options = ListenOptions { carrier: Some(carrier.clone()), ..ListenOptions::default() };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Listener::bind(any, &host, gatekeeper, options).unwrap();
        let origin: Option<SocketAddr> = origin.map(|origin| origin.parse().unwrap());
        let (here, there) = duplex(64 * 1024);
        let (read, write) = split(there);
        let options = TunnelOptions { origin, ..all() };
        let far = Tunnel::leave(read, write, listener.local_addr(), &carrier, options);
        let (read, write) = split(here);
        let tunnel = Tunnel::enter(read, write, all()).await.unwrap();
        let options = DialOptions {
            kind: LaneKind::Tcp,
            carrier: Some(tunnel.carrier().clone()),
            ..dial_options()
        };
        let address = target(tunnel.address());
        let pinned = Expect(host.public_key());
        let lane = within(crate::dial(&address, &friend, &pinned, &options)).await.unwrap();
        let welcomed = within(lane.welcomed()).await;
        assert_eq!(welcomed.is_ok(), comes_in, "{from} {origin:?}: {welcomed:?}");
        if !comes_in {
            return;
        }
        let served = within(listener.accept()).await.unwrap();
        assert_eq!(served.kind(), LaneKind::Pipe);
        if let Some(origin) = origin {
            assert_eq!(served.remote_address(), origin);
            assert_eq!(served.peer_name().address(), origin.to_string());
        }
        // Its data connections are let in by the same address.
        let sending = lane.send_parcel(Bytes::from_static(b"head"), Bytes::from(vec![7; 9]), 0);
        let receiving = async { served.accept_parcel().await.unwrap().read(16, 16).await.unwrap() };
        let (sent, (_, body)) = within(async { tokio::join!(sending, receiving) }).await;
        sent.unwrap();
        assert_eq!(body, [7; 9].as_slice());
        // When it is over nothing is left of it that another connection could be taken for.
        drop((lane, served, tunnel, far));
        within(async {
            while !carrier.ways.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    check("127.0.0.1", None, true).await;
    check("127.0.0.0/8,::1/128", Some("192.0.2.7:4000"), false).await;
    check("192.0.2.0/24", Some("192.0.2.7:4000"), true).await;
    check("192.0.2.0/24", None, false).await;
    check("2001:db8::/32", Some("[2001:db8::1]:4000"), true).await;
}

/// The line of a connection goes with it, and not with another one that has its address by then.
#[test]
fn a_line_is_taken_back_by_whoever_wrote_it() {
    let carrier = Carrier::new();
    let from: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let origins: [SocketAddr; 2] =
        ["192.0.2.7:1", "192.0.2.8:1"].map(|origin| origin.parse().unwrap());
    let first = carrier.of_one_tunnel().note(from, Some(origins[0]));
    let second = carrier.of_one_tunnel().note(from, Some(origins[1]));
    drop(first);
    let mapped: SocketAddr = "[::ffff:127.0.0.1]:4000".parse().unwrap();
    assert_eq!(carrier.carries(mapped).map(|(_, origin)| origin), Some(origins[1]));
    drop(second);
    assert!(carrier.carries(from).is_none());
}
