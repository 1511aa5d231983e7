//! Real namespaces, real packets. They need root and TUN devices, as their names say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Instant;

use super::end::Namespace;
use super::*;
use crate::model::Profile;

/// Makes something inside of a namespace.
fn inside<T: Send>(pair: &Pair, end: End, make: impl FnOnce() -> io::Result<T> + Send) -> T {
    let namespace: &Namespace = &pair.ends[end as usize];
    namespace.inside("make a socket", make).unwrap()
}

fn pair(settings: Settings) -> Pair {
    Pair::start(PairOptions { model: Some(settings), ..PairOptions::default() }).unwrap()
}

/// A UDP socket of A, and one of B that it is connected to.
fn udp(pair: &Pair) -> (UdpSocket, UdpSocket) {
    let address = (pair.address(End::B), 7000);
    let to = inside(pair, End::B, || UdpSocket::bind(address));
    let from = inside(pair, End::A, || UdpSocket::bind((pair.address(End::A), 0)));
    from.connect(address).unwrap();
    to.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (from, to)
}

/// Waits until the figures say so: they are told some milliseconds late.
fn until(pair: &Pair, what: impl Fn(&PumpStats) -> bool) -> PumpStats {
    let began = Instant::now();
    loop {
        let stats = pair.stats().a_to_b;
        if what(&stats) {
            return stats;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{stats}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

#[test]
fn an_absurd_mtu_is_refused() {
    let options = PairOptions { mtu: 67, ..PairOptions::default() };
    assert!(matches!(Pair::start(options), Err(PairError::Mtu { mtu: 67 })));
}

#[test]
fn protocols_are_recognised() {
    let packet = |len: usize, at: usize, bytes: &[(usize, u8)]| {
        let mut packet = vec![0; len];
        packet[0] = if at == 9 { 0x45 } else { 0x60 };
        for (at, byte) in bytes {
            packet[*at] = *byte;
        }
        pump::protocol(&packet)
    };
    assert_eq!(packet(28, 9, &[(9, 17)]), Some(pump::UDP));
    assert_eq!(packet(40, 9, &[(9, 6)]), Some(pump::TCP));
    assert_eq!(packet(48, 6, &[(6, 17)]), Some(pump::UDP));
    assert_eq!(packet(56, 6, &[(6, 44), (40, 17)]), Some(pump::UDP));
    assert_eq!(packet(60, 6, &[(6, 6)]), Some(pump::TCP));
    for short in [&[][..], &[0x45], &[0x60], &[0x60, 0, 0, 0, 0, 0, 44], &[0x15; 60]] {
        assert_eq!(pump::protocol(short), None, "{short:?}");
    }
}

#[test]
fn needs_tun_packets_pass_both_ways_and_nothing_is_left() {
    let pair = pair(Settings::default());
    let names = [End::A, End::B].map(|end| pair.name(end).to_owned());
    assert!(names.iter().all(|name| exists(name)));
    let address = (pair.address6(End::B), 7000);
    let listener = inside(&pair, End::B, || TcpListener::bind(address));
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        stream.write_all(&text).unwrap();
    });
    let mut stream = inside(&pair, End::A, || TcpStream::connect(address));
    let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    echo.join().unwrap();
    assert!(sent == received);
    let stats = pair.stop();
    assert!(stats.a_to_b.link.delivered_bytes > 200_000, "{}", stats.a_to_b);
    assert!(stats.b_to_a.link.delivered_bytes > 200_000, "{}", stats.b_to_a);
    assert!(!names.iter().any(|name| exists(name)));
}

#[test]
fn needs_tun_changes_hold_from_the_moment_they_return() {
    let mut pair = pair(Settings::default());
    let (from, to) = udp(&pair);
    let mut buffer = [0; 100];
    from.send(b"passes").unwrap();
    assert_eq!(to.recv(&mut buffer).unwrap(), 6);
    for (words, counted) in [
        ("udp-drop", (|stats: &PumpStats| stats.link.filtered) as fn(&PumpStats) -> u64),
        ("down", |stats| stats.link.blocked),
        ("loss=100%", |stats| stats.link.lost),
        ("police=0bit:0B", |stats| stats.link.policed),
    ] {
        let good = pair.settings().unwrap().clone();
        pair.change(&Change::parse(words).unwrap()).unwrap();
        from.send(words.as_bytes()).unwrap();
        // A kernel has packets of its own to send, such as for IPv6.
        until(&pair, |stats| counted(stats) >= 1);
        pair.set(good).unwrap();
        from.send(b"again").unwrap();
        // What was dropped does not come later.
        assert_eq!(to.recv(&mut buffer).unwrap(), 5, "{words}");
    }
}

#[test]
fn needs_tun_one_protocol_alone_is_dropped() {
    let mut pair = pair(Settings::default());
    let (from, to) = udp(&pair);
    pair.change(&Change::DropTcp(true)).unwrap();
    let address = (pair.address(End::B), 7000).into();
    let connecting = || Ok(TcpStream::connect_timeout(&address, Duration::from_millis(300)));
    // What arrives where nobody listens is refused at once.
    let error = inside(&pair, End::A, connecting).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    until(&pair, |stats| stats.link.filtered >= 1);
    from.send(b"passes").unwrap();
    assert_eq!(to.recv(&mut [0; 100]).unwrap(), 6);
    pair.change(&Change::DropTcp(false)).unwrap();
    let error = inside(&pair, End::A, connecting).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn needs_tun_the_model_decides() {
    let mut settings = Settings::both(Profile { duplicate: 1.0, ..Profile::default() });
    settings.set("ba-blocked", "").unwrap();
    settings.set("delay", "30ms").unwrap();
    let pair = pair(settings);
    let (from, to) = udp(&pair);
    let began = Instant::now();
    from.send(b"twice").unwrap();
    let mut buffer = [0; 100];
    for _ in 0..2 {
        assert_eq!(to.recv(&mut buffer).unwrap(), 5);
    }
    assert!(began.elapsed() >= Duration::from_millis(30));
    until(&pair, |stats| stats.link.duplicated >= 1 && stats.under_way == 0);
}

#[test]
fn needs_tun_the_kernel_tells_its_figures_also_at_the_end() {
    let mut pair = pair(Settings::default());
    pair.link.as_mut().unwrap().end();
    // Nobody reads any more, and the queue of a device holds 10,000 packets.
    let (from, _to) = udp(&pair);
    for _ in 0..20_000 {
        // The system may say that it has no room.
        let _ = from.send(&[0; 100]);
    }
    assert!(pair.ends.iter().all(|end| end.unread().is_some()));
    assert!(pair.stats().a_to_b.unread > 0);
    assert!(pair.stop().a_to_b.unread > 0);
}

#[test]
fn needs_tun_a_panic_leaves_no_namespace_and_no_process() {
    let made = std::sync::Mutex::new(None);
    let result = std::panic::catch_unwind(|| {
        let pair = pair(Settings::default());
        let child = pair.command(End::B, "sleep").arg("600").spawn().unwrap();
        *made.lock().unwrap() =
            Some((pair.name(End::A).to_owned(), pair.name(End::B).to_owned(), child));
        panic!("as a failed test does");
    });
    assert!(result.is_err());
    let (a, b, mut child) = made.into_inner().unwrap_or_else(|held| held.into_inner()).unwrap();
    assert!(!exists(&a) && !exists(&b));
    assert!(!child.wait().unwrap().success());
}

#[test]
fn needs_tun_a_clean_joint_is_no_model() {
    let options = PairOptions { model: None, ..PairOptions::default() };
    let mut pair = Pair::start(options).unwrap();
    let (from, to) = udp(&pair);
    from.send(b"passes").unwrap();
    assert_eq!(to.recv(&mut [0; 100]).unwrap(), 6);
    assert!(matches!(pair.change(&Change::Down(true)), Err(PairError::Fixed { .. })));
}

#[test]
fn needs_tun_nothing_leaves_the_far_end_of_one_way_but_what_is_sent_there() {
    let pair =
        Pair::start(PairOptions { model: None, one_way: true, ..PairOptions::default() }).unwrap();
    let (from, to) = udp(&pair);
    for _ in 0..100 {
        from.send(b"there").unwrap();
        assert_eq!(to.recv(&mut [0; 100]).unwrap(), 5);
    }
    assert_eq!((pair.sent(End::A), pair.sent(End::B)), (Some(100), Some(0)));
    to.send_to(b"back", from.local_addr().unwrap()).unwrap();
    assert_eq!(pair.sent(End::B), Some(1));
    let wait = Some(Duration::from_millis(200));
    from.set_read_timeout(wait).unwrap();
    assert!(from.recv(&mut [0; 100]).is_err());
}

#[test]
fn needs_tun_a_name_that_is_taken_is_left_alone() {
    let taken = pair(Settings::default());
    let names = Some([taken.name(End::B).to_owned(), "unused".to_owned()]);
    let second = Pair::start(PairOptions { names, ..PairOptions::default() });
    assert!(matches!(second, Err(PairError::Ip { .. })));
    let (from, to) = udp(&taken);
    from.send(b"still there").unwrap();
    assert_eq!(to.recv(&mut [0; 100]).unwrap(), 11);
}
