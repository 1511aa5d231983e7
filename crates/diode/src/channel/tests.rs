mod outlets;
mod path;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::rig::Random;
use path::{Fate, Path};

/// How long anything may take before it counts as not happening.
const DEADLINE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(20);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(TICK);
    }
}

fn inlet(number: u16, name: &str, scheme: &str) -> ChannelIn {
    // The port is the system's choice.
    let mut channel = ChannelIn::parse(&format!("{name}={scheme}://127.0.0.1:1"), number).unwrap();
    match &mut channel.at {
        Address::Udp(target) | Address::Tcp(target) | Address::TcpListen(target) => target.port = 0,
    }
    channel
}

fn outlet(name: &str, scheme: &str, to: SocketAddr, more: &str) -> ChannelOut {
    ChannelOut::parse(&format!("{name}={scheme}://{to}{more}")).unwrap()
}

fn outlet_that_listens(name: &str, more: &str) -> ChannelOut {
    let mut channel = ChannelOut::parse(&format!("{name}=tcp-listen://127.0.0.1:1{more}")).unwrap();
    if let Address::TcpListen(target) = &mut channel.to {
        target.port = 0;
    }
    channel
}

fn some_bytes(random: &mut Random, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).map(|_| (random.below(usize::MAX) as u64).to_be_bytes());
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(length);
    bytes
}

/// Everything that a connection brings, and whether it was closed rather than reset.
fn read_all(mut stream: TcpStream) -> (Vec<u8>, bool) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut bytes = Vec::new();
    let is_closed = stream.read_to_end(&mut bytes).is_ok();
    (bytes, is_closed)
}

#[test]
fn channels_are_read_as_they_are_written() {
    let channel = ChannelIn::parse("log=tcp://127.0.0.1:5000", 7).unwrap();
    assert_eq!((channel.number, channel.name.as_str()), (7, "log"));
    assert_eq!(channel.at.to_string(), "tcp-listen://127.0.0.1:5000");
    let channel = ChannelIn::parse("video=udp://224.1.1.1%eth0:5001", 8).unwrap();
    assert_eq!(channel.at.to_string(), "udp://224.1.1.1%eth0:5001");
    let channel = ChannelOut::parse("a=b=udp://host:1").unwrap_err();
    assert!(matches!(channel, ChannelError::Address { .. }), "{channel}");
    let channel = ChannelOut::parse("log=tcp://host:1,resume").unwrap();
    assert_eq!((channel.goes_on, channel.hops), (true, None));
    let channel = ChannelOut::parse("video=udp://224.1.1.2:5002,ttl=4").unwrap();
    assert_eq!((channel.goes_on, channel.hops), (false, Some(4)));
    for wrong in ["", "tcp://host:1", "=tcp://host:1", "a\u{1b}=tcp://host:1", "a=tcp://host"] {
        assert!(ChannelIn::parse(wrong, 1).is_err(), "{wrong}");
        assert!(ChannelOut::parse(wrong).is_err(), "{wrong}");
    }
    for wrong in ["log=tcp://host:1,", "log=tcp://host:1,ttl=256", "log=tcp://host:1,again"] {
        assert!(matches!(ChannelOut::parse(wrong), Err(ChannelError::Option { .. })), "{wrong}");
    }
    let twice = vec![outlet_that_listens("a", ""), outlet_that_listens("a", "")];
    assert!(matches!(Outlets::start(twice), Err(ChannelError::Twice { .. })));
    let twice = vec![inlet(1, "a", "udp"), inlet(1, "b", "udp")];
    let path = Path::new(1, Fate::Late);
    assert!(matches!(Inlets::start(twice, path.sink()), Err(ChannelError::Twice { .. })));
}

#[test]
fn connections_cross_byte_by_byte() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = target.local_addr().unwrap();
        let path = Path::new(seed, Fate::Late);
        let inlets =
            Inlets::start(vec![inlet(3, "a", "tcp"), inlet(4, "b", "tcp")], path.sink()).unwrap();
        // One connects out, and to the other programs connect.
        let outlets =
            Outlets::start(vec![outlet_that_listens("b", ""), outlet("a", "tcp", to, "")]).unwrap();
        let door = outlets.place(0);
        let carrying = path.carry_to(outlets);
        let lengths = [0, 1, 1000, 200_000, 2_000_000];
        let connections: Vec<Vec<u8>> =
            lengths.map(|length| some_bytes(&mut random, length)).to_vec();
        let mut threads = Vec::new();
        for (place, at) in inlets.places.iter().zip(0..) {
            for bytes in connections.clone() {
                let place = *place;
                let mut random = Random(seed + at);
                threads.push(std::thread::spawn(move || {
                    let mut stream = TcpStream::connect(place).unwrap();
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (piece, later) =
                            rest.split_at(rest.len().min(1 + random.below(100_000)));
                        stream.write_all(piece).unwrap();
                        rest = later;
                    }
                }));
            }
        }
        let mut reading = Vec::new();
        for _ in &connections {
            reading.push(target.accept().unwrap().0);
            reading.push(TcpStream::connect(door).unwrap());
        }
        let reading: Vec<_> =
            reading.into_iter().map(|stream| std::thread::spawn(|| read_all(stream))).collect();
        let mut read: Vec<_> = reading.into_iter().map(|thread| thread.join().unwrap()).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        read.sort_by_key(|(bytes, _)| bytes.len());
        let mut expected: Vec<_> =
            connections.iter().chain(&connections).map(|bytes| (bytes.clone(), true)).collect();
        expected.sort_by_key(|(bytes, _)| bytes.len());
        let told = |ends: &[(Vec<u8>, bool)]| {
            ends.iter().map(|(bytes, is_closed)| (bytes.len(), *is_closed)).collect::<Vec<_>>()
        };
        assert!(read == expected, "seed {seed}: {:?}, {:?}", told(&read), carrying.counters());
        let total = lengths.iter().sum::<usize>() as u64;
        let all = lengths.len() as u64;
        wait_until("the figures agree", || {
            let settled = |counters: &[ChannelCounters]| {
                counters
                    .iter()
                    .all(|of| (of.open, of.connections, of.broken, of.bytes) == (0, all, 0, total))
            };
            settled(&inlets.counters()) && settled(&carrying.counters())
        });
        assert!(carrying.counters().iter().all(|of| of.lost_bytes == 0), "seed {seed}");
    }
}

#[test]
fn a_connection_with_a_gap_is_reset_and_never_bridged() {
    for (seed, goes_on) in (0..3).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut random = Random(seed);
        let more = if goes_on { ",resume" } else { "" };
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = target.local_addr().unwrap();
        let path = Path::new(seed, Fate::Lost);
        let inlets = Inlets::start(vec![inlet(3, "a", "tcp")], path.sink()).unwrap();
        let outlets = Outlets::start(vec![outlet("a", "tcp", to, more)]).unwrap();
        let carrying = path.carry_to(outlets);
        let bytes = some_bytes(&mut random, 400_000);
        let mut stream = TcpStream::connect(inlets.places[0]).unwrap();
        stream.write_all(&bytes).unwrap();
        drop(stream);
        let mut pieces = Vec::new();
        target.set_nonblocking(true).unwrap();
        wait_until("the connection ends", || {
            while let Ok((stream, _)) = target.accept() {
                stream.set_nonblocking(false).unwrap();
                pieces.push(read_all(stream));
            }
            let counters = &carrying.counters()[0];
            counters.connections == 1 && counters.open == 0
        });
        let counters = carrying.counters().remove(0);
        assert!(counters.broken == 1 && counters.lost_bytes > 0, "seed {seed}: {counters:?}");
        assert!(!goes_on || pieces.len() > 1, "seed {seed}: {}", pieces.len());
        assert!(goes_on || pieces.len() <= 1, "seed {seed}: {}", pieces.len());
        // What a reset connection had not read yet is gone, so each piece may end early.
        let mut from = 0;
        let last = pieces.len();
        for (at, (piece, is_closed)) in pieces.iter().enumerate() {
            assert!(!is_closed || (goes_on && at + 1 == last), "seed {seed}: piece {at}");
            let Some(first) = piece.get(..16.min(piece.len())).filter(|first| first.len() == 16)
            else {
                continue;
            };
            let rest = &bytes[from..];
            let found = rest.windows(16).position(|window| window == first);
            let begin = from + found.expect("bytes that were sent, after those before");
            assert!(goes_on || begin == 0, "seed {seed}");
            assert!(bytes[begin..].starts_with(piece), "seed {seed}: piece {at}");
            from = begin + piece.len();
        }
    }
}

#[test]
fn datagrams_cross_one_by_one() {
    for (seed, fate) in (0..3).flat_map(|seed| [(seed, Fate::Late), (seed, Fate::Lost)]) {
        let mut random = Random(seed);
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&target).set_recv_buffer_size(16 << 20).unwrap();
        target.set_read_timeout(Some(TICK)).unwrap();
        let path = Path::new(seed, fate);
        let inlets = Inlets::start(vec![inlet(3, "a", "udp")], path.sink()).unwrap();
        let to = outlet("a", "udp", target.local_addr().unwrap(), "");
        let carrying = path.carry_to(Outlets::start(vec![to]).unwrap());
        let source = UdpSocket::bind("127.0.0.1:0").unwrap();
        const COUNT: u64 = 300;
        let mut sent = BTreeMap::new();
        for number in 0..COUNT {
            let sizes = [8, 100, 1316, 1472, 1472, 9000, 65_507];
            let size = sizes[random.below(sizes.len())];
            let mut datagram = some_bytes(&mut random, size);
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            source.send_to(&datagram, inlets.places[0]).unwrap();
            sent.insert(number, datagram);
            if number % 20 == 19 {
                let taken = || inlets.counters()[0].datagrams;
                wait_until("the inlet takes them", || taken() == number + 1);
            }
        }
        // One more often, so that those before are known to be missing.
        let (mut received, mut memory) = (BTreeMap::new(), vec![0; 65_536]);
        wait_until("all are accounted for", || {
            let _ = source.send_to(&u64::MAX.to_be_bytes(), inlets.places[0]);
            while let Ok(length) = target.recv(&mut memory) {
                let (datagram, mut number) = (memory[..length].to_vec(), [0; 8]);
                number.copy_from_slice(&datagram[..8]);
                let number = u64::from_be_bytes(number);
                if number != u64::MAX {
                    assert!(received.insert(number, datagram).is_none(), "{number} came twice");
                }
            }
            let lost = carrying.counters()[0].lost_datagrams;
            received.len() as u64 + lost >= COUNT
        });
        for (number, datagram) in &received {
            assert!(sent.get(number) == Some(datagram), "seed {seed}: {number}");
        }
        let counters = carrying.counters().remove(0);
        assert_eq!(counters.dropped, 0, "seed {seed}");
        match fate {
            Fate::Late => assert_eq!(received.len() as u64, COUNT, "seed {seed}: {counters:?}"),
            Fate::Lost => assert!((received.len() as u64) < COUNT, "seed {seed}"),
        }
    }
}

#[test]
fn a_receiver_that_comes_late_takes_part_from_where_it_came() {
    for goes_on in [false, true] {
        let more = if goes_on { ",resume" } else { "" };
        let path = Path::new(1, Fate::Late);
        let inlets = Inlets::start(vec![inlet(3, "a", "tcp")], path.sink()).unwrap();
        let mut stream = TcpStream::connect(inlets.places[0]).unwrap();
        stream.write_all(b"early").unwrap();
        wait_until("the first bytes are away", || inlets.counters()[0].bytes == 5);
        path.lose_all();
        let outlets = Outlets::start(vec![outlet_that_listens("a", more)]).unwrap();
        let door = outlets.place(0);
        let carrying = path.carry_to(outlets);
        stream.write_all(b"late").unwrap();
        wait_until("the gap is noticed", || carrying.counters()[0].lost_bytes > 0);
        stream.write_all(b"r").unwrap();
        drop(stream);
        if goes_on {
            let (bytes, _) = read_all(TcpStream::connect(door).unwrap());
            assert_eq!(bytes, b"later");
        }
        wait_until("it ends", || carrying.counters()[0].open == 0);
        let counters = carrying.counters().remove(0);
        assert_eq!((counters.connections, counters.broken), (1, u64::from(!goes_on)));
    }
}
