//! Outlets alone, with records made by hand and time that is told.

use super::*;
use crate::record::Carrier;

fn opened(connection: u32, name: &str, carrier: Carrier) -> Record<'_> {
    Record::ChannelOpened { channel: 1, connection, carrier, name }
}

fn data(connection: u32, offset: u64, bytes: &[u8]) -> Record<'_> {
    Record::ChannelData { channel: 1, connection, offset, bytes }
}

fn closed(connection: u32, length: u64, is_whole: bool) -> Record<'static> {
    Record::ChannelClosed { channel: 1, connection, length, is_whole }
}

/// A target that accepts one connection.
fn target() -> (TcpListener, SocketAddr) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = target.local_addr().unwrap();
    (target, to)
}

const SECOND: Duration = Duration::from_secs(1);

use crate::record::Record;

#[test]
fn what_comes_before_its_name_waits_for_it() {
    let (target, to) = target();
    let outlets = Outlets::start(vec![outlet("a", "tcp", to, "")]).unwrap();
    let now = Instant::now();
    outlets.take(&data(9, 5, b" world"), now);
    outlets.take(&data(9, 0, b"hello"), now);
    outlets.take(&opened(9, "a", Carrier::Tcp), now);
    outlets.take(&closed(9, 11, true), now);
    // What comes again begins nothing.
    for record in [opened(9, "a", Carrier::Tcp), data(9, 0, b"hello"), closed(9, 11, true)] {
        outlets.take(&record, now);
    }
    assert_eq!(read_all(target.accept().unwrap().0), (b"hello world".to_vec(), true));
    assert_eq!(outlets.counters()[0].connections, 1);
    // One without bytes is handed on too.
    outlets.take(&opened(10, "a", Carrier::Tcp), now);
    outlets.take(&closed(10, 0, true), now);
    assert_eq!(read_all(target.accept().unwrap().0), (Vec::new(), true));
}

#[test]
fn a_connection_that_its_sender_reset_is_reset() {
    let (target, to) = target();
    let outlets = Outlets::start(vec![outlet("a", "tcp", to, "")]).unwrap();
    let now = Instant::now();
    outlets.take(&opened(9, "a", Carrier::Tcp), now);
    outlets.take(&data(9, 0, b"hello"), now);
    let (mut stream, _) = target.accept().unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    outlets.take(&closed(9, 5, false), now);
    assert_eq!(read_all(stream), (Vec::new(), false));
    wait_until("it ends", || outlets.counters()[0].open == 0);
    assert_eq!(outlets.counters()[0].broken, 1);
}

/// A connection of which nothing is heard any more is reset after `silence`, and not before.
fn check_silence(
    outlets: &Outlets,
    target: &TcpListener,
    number: u32,
    began: Instant,
    silence: Duration,
) {
    let (stream, _) = target.accept().unwrap();
    outlets.tick(began + silence - Duration::from_millis(1));
    assert_eq!(outlets.counters()[0].open, 1, "connection {number}");
    outlets.tick(began + silence);
    assert!(!read_all(stream).1);
    wait_until("it ends", || outlets.counters()[0].open == 0);
}

#[test]
fn a_connection_that_is_not_named_any_more_has_ended() {
    let (target, to) = target();
    let outlets = Outlets::start(vec![outlet("a", "tcp", to, "")]).unwrap();
    let now = Instant::now();
    outlets.take(&opened(9, "a", Carrier::Tcp), now);
    outlets.take(&data(9, 0, b"hello"), now);
    check_silence(&outlets, &target, 9, now, SECOND * 15);
    // In another session sooner, unless it is named in that too.
    for number in [10, 11] {
        outlets.take(&opened(number, "a", Carrier::Tcp), now);
        outlets.take(&data(number, 0, b"hello"), now);
    }
    outlets.session_began(now + SECOND);
    outlets.take(&opened(11, "a", Carrier::Tcp), now + SECOND * 2);
    outlets.tick(now + SECOND * 4);
    wait_until("one ends", || outlets.counters()[0].open == 1);
    assert_eq!(outlets.counters()[0].broken, 2);
    outlets.take(&closed(11, 5, true), now + SECOND * 4);
    let ends: Vec<_> = (0..2).map(|_| read_all(target.accept().unwrap().0).1).collect();
    assert_eq!(ends.iter().filter(|is_closed| **is_closed).count(), 1);
}

#[test]
fn a_program_that_is_too_slow_loses_its_connection_and_makes_nobody_wait() {
    let (target, to) = target();
    let outlets = Outlets::start(vec![outlet("a", "tcp", to, "")]).unwrap();
    let now = Instant::now();
    outlets.take(&opened(9, "a", Carrier::Tcp), now);
    let piece = vec![7; 60_000];
    let mut offset = 0;
    // It reads nothing, and still the connection takes what the system and a bounded queue hold.
    while outlets.counters()[0].lost_bytes == 0 && offset < 1 << 30 {
        outlets.take(&data(9, offset, &piece), now);
        offset += piece.len() as u64;
        if offset % (60_000 * 16) == 0 {
            outlets.tick(now);
        }
    }
    assert!(offset > 16 << 20 && offset < 1 << 30, "{offset}");
    wait_until("it ends", || outlets.counters()[0].open == 0);
    assert_eq!(outlets.counters()[0].broken, 1);
    drop(target);
}

#[test]
fn a_program_that_is_not_there_yet_is_waited_for() {
    let (target, to) = target();
    drop(target);
    let outlets = Outlets::start(vec![outlet("a", "tcp", to, "")]).unwrap();
    let now = Instant::now();
    outlets.take(&opened(9, "a", Carrier::Tcp), now);
    outlets.take(&data(9, 0, b"hello"), now);
    outlets.take(&closed(9, 5, true), now);
    std::thread::sleep(TICK);
    let target = TcpListener::bind(to).unwrap();
    assert_eq!(read_all(target.accept().unwrap().0), (b"hello".to_vec(), true));
}

#[test]
fn programs_get_connections_in_their_order() {
    let outlets = Outlets::start(vec![outlet_that_listens("a", "")]).unwrap();
    let now = Instant::now();
    for number in 0..5 {
        outlets.take(&opened(number, "a", Carrier::Tcp), now);
        outlets.take(&data(number, 0, &[number as u8]), now);
        outlets.take(&closed(number, 1, true), now);
    }
    for number in 0..5 {
        let stream = TcpStream::connect(outlets.place(0)).unwrap();
        assert_eq!(read_all(stream), (vec![number], true));
    }
}

#[test]
fn whoever_makes_up_connections_gets_no_memory_for_them() {
    let (_target, to) = target();
    let outlets = Outlets::start(vec![outlet("a", "udp", to, ""), outlet("b", "tcp", to, "")]);
    let outlets = outlets.unwrap();
    let now = Instant::now();
    for number in 0..10_000 {
        outlets.take(&opened(number, "nowhere", Carrier::Tcp), now);
        outlets.take(&opened(number + 100_000, "a", Carrier::Udp), now);
        // The right name, but not for what it carries.
        outlets.take(&opened(number + 200_000, "a", Carrier::Tcp), now);
        outlets.take(&data(number + 300_000, 77, &[7; 50_000]), now);
    }
    let (links, held) = outlets.held();
    assert!(links <= 16 * MOST_CONNECTIONS && held <= (64 << 20) + 50_000, "{links}, {held}");
    let counters = outlets.counters().remove(0);
    assert_eq!(counters.open, MOST_CONNECTIONS as u64);
    assert!(counters.refused > 0 && outlets.unclaimed() > 0);
    // All of it passes.
    outlets.tick(now + SECOND * 15);
    assert_eq!(outlets.held(), (0, 0));
    assert_eq!(outlets.counters()[0].open, 0);
}
