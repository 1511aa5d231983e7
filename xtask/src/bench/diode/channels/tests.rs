use super::*;

#[test]
fn a_message_that_has_changed_is_seen() {
    let mut bytes = message(300, 77);
    assert_eq!(read(&bytes), Some((300, 77)));
    assert_eq!(read(&bytes[..MESSAGE - 1]), None);
    for at in [0, 7, 16, MESSAGE - 1] {
        bytes[at] ^= 1;
        assert_eq!(read(&bytes), None, "{at}");
        bytes[at] ^= 1;
    }
}

#[test]
fn delays_alone_and_beside_files_are_kept_apart() {
    let alone = (0..100).map(|at| (at, 1000));
    let between = (100..110).map(|at| (at, 900_000));
    let beside = (110..200).map(|at| (at, 3000));
    let mut taken = Taken { tcp: alone.chain(between).chain(beside).collect(), ..Taken::default() };
    taken.tcp[150].1 = 8000;
    taken.udp = taken.tcp[..199].to_vec();
    let (tcp, udp) = told(&taken, 200, 0..100, 110..200).unwrap();
    assert_eq!(tcp, Delays { alone: [1.0; 3], beside: [3.0, 8.0, 8.0], count: 90 });
    assert_eq!(udp.count, 89);
    assert!(told(&taken, 201, 0..100, 110..200).is_err());
    taken.wrong = 1;
    assert!(told(&taken, 200, 0..100, 110..200).is_err());
}

#[test]
fn a_stream_is_taken_in_its_order_and_datagrams_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for number in [0, 1, 3] {
        stream.write_all(&message(number, now())).unwrap();
    }
    drop(stream);
    let (messages, wrong) = take_stream(&listener).unwrap();
    assert_eq!((messages.len(), wrong), (2, 1));
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in [5, 2, 5] {
        from.send_to(&message(number, now()), to.local_addr().unwrap()).unwrap();
    }
    let taken = take_datagrams(&to, Path::new("/")).unwrap();
    assert_eq!((taken.udp.len(), taken.wrong), (2, 1));
}
