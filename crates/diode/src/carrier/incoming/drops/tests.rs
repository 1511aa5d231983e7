use std::net::UdpSocket;

use super::*;

#[test]
fn the_tables_row_is_found() {
    let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
  100: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 0\n\
  200: 00000000:1388 00000000:0000 07 00000000:00033300 00:00000000 00000000     0        0 5678 2 0000000000000000 4711\n\
  300: 00000000:1389 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9 2 0000000000000000 -2\n\
  400: cut";
    assert_eq!(drops_of(table, 1234), Some(0));
    assert_eq!(drops_of(table, 5678), Some(4711));
    assert_eq!(drops_of(table, 9), Some(u32::MAX - 1));
    assert_eq!(drops_of(table, 567), None);
}

#[test]
fn what_the_kernel_drops_is_counted() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(receiver) = UdpSocket::bind(address) else { continue };
        receiver.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(0).unwrap();
        let mut drops = Drops::of(&receiver, address.starts_with('[')).unwrap();
        drops.ask();
        assert_eq!(drops.count(), 0);
        let sender = UdpSocket::bind(address).unwrap();
        let to = receiver.local_addr().unwrap();
        const SENT: u64 = 200;
        for _ in 0..SENT {
            sender.send_to(&[7; 1000], to).unwrap();
        }
        let mut received = 0;
        while receiver.recv(&mut [0; 1000]).is_ok() {
            received += 1;
        }
        drops.ask();
        assert_eq!(drops.count() + received, SENT, "{address}");
        assert!(drops.count() > 0, "{address}");
    }
}
