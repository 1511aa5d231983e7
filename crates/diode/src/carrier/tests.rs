mod appliance;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use link::Target;

use super::*;
use crate::frame::Class;
use crate::resync::Resync;
use crate::rig::Random;
use crate::session::{Opener, Sealer};
use appliance::Appliance;

/// How long anything may take before it counts as not happening.
const DEADLINE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(50);

fn target(host: &str, port: u16) -> Target {
    Target { host: host.to_owned(), port }
}

fn going() -> Arc<AtomicBool> {
    Arc::default()
}

fn udp_pair(host: &str, packet: usize, options: &InOptions) -> (Outgoing, Incoming) {
    let incoming = Incoming::open(&Address::Udp(target(host, 0)), options).unwrap();
    let port = incoming.local().unwrap().port();
    let options = OutOptions { packet, ..OutOptions::default() };
    let outgoing = Outgoing::open(&Address::Udp(target(host, port)), &options, going()).unwrap();
    (outgoing, incoming)
}

/// A batch of frames with their number in front, the last of them perhaps shorter.
fn batch(random: &mut Random, frame: usize, count: usize, first: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame * count);
    for number in (first..).take(count) {
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.resize(bytes.len() + frame - 8, number as u8);
    }
    if random.below(2) == 0 {
        bytes.truncate(bytes.len() - random.below(frame - 8));
    }
    bytes
}

fn take_datagrams(incoming: &mut Incoming) -> Vec<Vec<u8>> {
    match incoming.next(TICK) {
        Some(Arrival::Datagrams(mut datagrams)) => {
            datagrams.iter_mut().map(|datagram| datagram.to_vec()).collect()
        }
        Some(other) => panic!("{other:?}"),
        None => Vec::new(),
    }
}

#[test]
fn datagrams_arrive_as_they_were_sent() {
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    let hosts = ["127.0.0.1", "::1"].into_iter().take(1 + usize::from(has_ipv6));
    for (host, packet) in hosts.flat_map(|host| [512, 1500, 9000, 65_535].map(|size| (host, size)))
    {
        let (mut outgoing, mut incoming) = udp_pair(host, packet, &InOptions::default());
        let frame = outgoing.frame_bytes();
        assert_eq!(frame, packet - if host == "::1" { 48 } else { 28 });
        assert!(outgoing.most_batch() >= frame && outgoing.most_batch() <= 65_535);
        let (mut random, mut first) = (Random(packet as u64), 0);
        for _ in 0..20 {
            let count = 1 + random.below((2_000_000 / packet).min(100));
            let sent = batch(&mut random, frame, count, first);
            assert_eq!(outgoing.send(&sent, frame).unwrap(), Sent::All);
            let (mut received, began) = (Vec::new(), Instant::now());
            while received.len() < count && began.elapsed() < DEADLINE {
                received.extend(take_datagrams(&mut incoming));
            }
            let expected: Vec<_> = sent.chunks(frame).map(<[u8]>::to_vec).collect();
            assert!(received == expected, "{host}, {packet}: {} of {count}", received.len());
            first += count as u64;
        }
        let (sent, received) = (outgoing.counters(), incoming.counters());
        assert_eq!((sent.frames, sent.bytes), (first, received.bytes));
        assert_eq!((sent.errors, sent.unsent, sent.is_connected), (0, 0, true));
        assert_eq!(received.datagrams, first);
        assert_eq!((received.dropped_by_us, received.dropped_by_kernel), (0, 0));
    }
}

#[test]
fn every_datagram_that_nobody_took_in_time_is_accounted_for() {
    let options = InOptions { receive_buffer: 1 << 20, ring: 0 };
    let (mut outgoing, mut incoming) = udp_pair("127.0.0.1", 1500, &options);
    let frame = outgoing.frame_bytes();
    let mut random = Random(1);
    const SENT: u64 = 20_000;
    // One by one, since the kernel counts what it joined as one when it drops it.
    for number in 0..SENT {
        let sent = batch(&mut random, frame, 1, number);
        outgoing.send(&sent, frame).unwrap();
    }
    let began = Instant::now();
    let mut taken = 0;
    loop {
        let counters = incoming.counters();
        let lost = counters.dropped_by_us + counters.dropped_by_kernel;
        if taken + lost == SENT {
            assert!(counters.dropped_by_us > 0, "{counters:?}");
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{taken} taken, {counters:?}");
        // Only once the thread that drains the socket has had to do without us.
        if counters.datagrams + counters.dropped_by_kernel >= SENT || taken > 0 {
            taken += take_datagrams(&mut incoming).len() as u64;
        } else {
            std::thread::sleep(TICK);
        }
    }
}

#[test]
fn a_buffer_that_is_not_granted_comes_with_advice() {
    let mut counters = InCounters { buffer_asked: 32 << 20, ..InCounters::default() };
    counters.buffer_granted = 4 << 20;
    assert_eq!(counters.advice().unwrap(), "sysctl -w net.core.rmem_max=33554432");
    counters.buffer_granted = 32 << 20;
    assert_eq!(counters.advice(), None);
    let options = InOptions { receive_buffer: 100_000, ring: 0 };
    let incoming = Incoming::open(&Address::Udp(target("127.0.0.1", 0)), &options).unwrap();
    assert_eq!(incoming.counters().buffer_granted, 100_000);
}

#[test]
fn a_receiver_that_is_not_there_disturbs_nobody() {
    let (mut outgoing, incoming) = udp_pair("127.0.0.1", 1500, &InOptions::default());
    drop(incoming);
    let frame = outgoing.frame_bytes();
    for first in 0..100 {
        let sent = batch(&mut Random(first), frame, 10, first);
        assert_eq!(outgoing.send(&sent, frame).unwrap(), Sent::All);
    }
    let counters = outgoing.counters();
    assert_eq!((counters.frames, counters.errors, counters.unsent), (1000, 0, 0));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let open = |packet| {
        let options = OutOptions { packet, ..OutOptions::default() };
        Outgoing::open(&Address::Udp(target("127.0.0.1", 9)), &options, going())
    };
    assert!(matches!(open(511), Err(CarrierError::Packet { .. })));
    assert!(matches!(open(65_536), Err(CarrierError::Packet { .. })));
    let listen = Address::TcpListen(target("127.0.0.1", 9));
    let error = Outgoing::open(&listen, &OutOptions::default(), going()).unwrap_err();
    assert!(matches!(error, CarrierError::OnlyReceives { .. }), "{error}");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Incoming::open(&Address::Udp(target("127.0.0.1", port)), &InOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("udp://127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_group_is_joined() {
    let group = "239.255.77.9%lo";
    let Ok(incoming) = Incoming::open(&Address::Udp(target(group, 0)), &InOptions::default())
    else {
        panic!("no multicast on the loopback interface");
    };
    let mut incoming = incoming;
    let port = incoming.local().unwrap().port();
    let options = OutOptions { hops: Some(1), ..OutOptions::default() };
    let to = Address::Udp(target(group, port));
    let mut outgoing = Outgoing::open(&to, &options, going()).unwrap();
    let sent = batch(&mut Random(0), 1000, 5, 0);
    assert_eq!(outgoing.send(&sent, 1000).unwrap(), Sent::All);
    let (mut received, began) = (Vec::new(), Instant::now());
    while received.len() < 5 && began.elapsed() < DEADLINE {
        received.extend(take_datagrams(&mut incoming));
    }
    assert_eq!(received.concat(), sent);
}

/// The frames that come out of the bytes of several connections.
#[derive(Default)]
struct Found {
    resync: Resync,
    frames: BTreeMap<u64, Vec<u8>>,
}

impl Found {
    fn push(&mut self, bytes: &[u8], is_new: bool, opener: &mut Opener) {
        if is_new {
            self.end(opener);
        }
        self.resync.push(bytes);
        while let Some((number, payload)) = self.resync.next(opener) {
            self.frames.insert(number, payload);
        }
    }

    fn end(&mut self, opener: &mut Opener) {
        while let Some((number, payload)) = self.resync.last(opener) {
            self.frames.insert(number, payload);
        }
    }
}

/// Sends frames through an appliance that misbehaves by a seed. Everything that it passes on must be found, and nothing
/// else.
fn check_appliance(seed: u64, receiver_listens: bool) {
    const FRAMES: u64 = 1000;
    let incoming = receiver_listens.then(|| {
        let listen = Address::TcpListen(target("127.0.0.1", 0));
        Incoming::open(&listen, &InOptions::default()).unwrap()
    });
    let onward = incoming.as_ref().map(|incoming| incoming.local().unwrap());
    let appliance = Appliance::start(seed, onward);
    let mut incoming = incoming.unwrap_or_else(|| {
        let from = Address::Tcp(target("127.0.0.1", appliance.out_port()));
        Incoming::open(&from, &InOptions::default()).unwrap()
    });
    let into = Address::Tcp(target("127.0.0.1", appliance.in_port()));
    let mut outgoing = Outgoing::open(&into, &OutOptions::default(), going()).unwrap();
    let (mut sealer, id, secret) = Sealer::begin().unwrap();
    let mut random = Random(seed);
    let (mut payloads, mut again) = (BTreeMap::new(), 0);
    while payloads.len() < FRAMES as usize {
        let (mut bytes, count) = (Vec::new(), 1 + random.below(16));
        for _ in 0..count {
            let payload = vec![random.below(256) as u8; 1000 + random.below(15_000)];
            let number = sealer.next_number();
            sealer.seal(Class::Bulk, &payload, &mut bytes).unwrap();
            payloads.insert(number, payload);
        }
        again += u64::from(outgoing.send(&bytes, 16_000).unwrap() == Sent::Again);
    }
    let counters = outgoing.counters();
    assert_eq!(counters.connections, 1 + again, "seed {seed}: {counters:?}");
    assert!(counters.is_connected);
    drop(outgoing);
    let passed = appliance.end();
    let (mut expected, mut opener) = (Found::default(), Opener::new(id, &secret));
    for connection in &passed {
        expected.push(connection, true, &mut opener);
    }
    expected.end(&mut opener);
    let (mut found, mut opener) = (Found::default(), Opener::new(id, &secret));
    let began = Instant::now();
    while found.frames.len() < expected.frames.len() && began.elapsed() < DEADLINE {
        match incoming.next(TICK) {
            Some(Arrival::Stream { bytes, is_new }) => found.push(&bytes, is_new, &mut opener),
            Some(other) => panic!("{other:?}"),
            None => found.end(&mut opener),
        }
    }
    assert!(found.frames == expected.frames, "seed {seed}: {} found", found.frames.len());
    for (number, payload) in &found.frames {
        assert!(payloads.get(number) == Some(payload), "seed {seed}, frame {number}");
    }
    assert!(!found.frames.is_empty(), "seed {seed}");
    assert!(incoming.counters().connections <= passed.len() as u64, "seed {seed}");
}

#[test]
fn a_stream_outlives_an_appliance_that_cuts_swallows_and_resets() {
    for seed in 0..6 {
        check_appliance(seed, seed % 2 == 0);
    }
}

#[test]
fn a_silent_connection_gives_way_and_one_that_speaks_does_not() {
    let listen = Address::TcpListen(target("127.0.0.1", 0));
    let mut incoming = Incoming::open(&listen, &InOptions::default()).unwrap();
    let to = incoming.local().unwrap();
    let first = TcpStream::connect(to).unwrap();
    let mut second = TcpStream::connect(to).unwrap();
    std::io::Write::write_all(&mut second, b"second").unwrap();
    let began = Instant::now();
    let (bytes, is_new) = loop {
        match incoming.next(TICK) {
            Some(Arrival::Stream { bytes, is_new }) => break (bytes.to_vec(), is_new),
            Some(other) => panic!("{other:?}"),
            None => assert!(began.elapsed() < DEADLINE),
        }
    };
    assert_eq!((&bytes[..], is_new), (&b"second"[..], true));
    assert_eq!(incoming.counters().connections, 2);
    drop(first);
    let counters = incoming.counters();
    assert!(counters.is_connected && counters.bytes == 6, "{counters:?}");
}

#[test]
fn a_sender_that_is_to_stop_does_not_wait_for_an_appliance() {
    // One that is not there, and one that reads nothing.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = gone.local_addr().unwrap().port();
    drop(gone);
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [nobody, deaf.local_addr().unwrap().port()] {
        let stop = going();
        let to = Address::Tcp(target("127.0.0.1", port));
        let mut outgoing = Outgoing::open(&to, &OutOptions::default(), stop.clone()).unwrap();
        assert!(!outgoing.counters().is_connected);
        let meter = outgoing.meter();
        let sending = std::thread::spawn(move || {
            let batch = vec![0; 1 << 20];
            (0..1000).find_map(|_| outgoing.send(&batch, 16_000).err())
        });
        let began = Instant::now();
        // It is stuck once it has waited, for room or for an answer.
        while meter.counters().waits + meter.counters().errors < 3 {
            assert!(began.elapsed() < DEADLINE);
            std::thread::sleep(TICK);
        }
        stop.store(true, Ordering::Relaxed);
        let error = sending.join().unwrap();
        assert!(matches!(error, Some(CarrierError::Stopped { .. })), "{error:?}");
    }
}
