//! The relay with real sockets. Whatever is waited for is a condition with a deadline.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::pump::LARGEST_DATAGRAM;
use super::*;
use crate::model::{Fate, Link, Nanos};

const MS: Nanos = 1_000_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// A client and a target with a relay between them.
struct Bench {
    relay: Relay,
    client: UdpSocket,
    target: UdpSocket,
}

impl Bench {
    fn new(set: impl FnOnce(&mut RelayOptions)) -> Self {
        let target = socket();
        let mut options = RelayOptions::new(target.local_addr().unwrap());
        set(&mut options);
        Self { relay: Relay::start(options).unwrap(), client: socket(), target }
    }

    async fn send(&self, payload: &[u8]) {
        self.client.send_to(payload, self.relay.local_addr()).await.unwrap();
    }

    /// Sends and waits until the relay has taken it in, so that no kernel buffer overflows.
    async fn send_counted(&self, payload: &[u8]) {
        let before = self.relay.stats().to_target.packets;
        self.send(payload).await;
        until(|| self.relay.stats().to_target.packets > before).await;
    }

    /// One datagram to the target and its echo back; gives the address that the target saw.
    async fn round_trip(&self, payload: &[u8]) -> SocketAddr {
        self.send(payload).await;
        let (seen, from) = receive_one(&self.target).await;
        assert_eq!(seen, payload);
        self.target.send_to(payload, from).await.unwrap();
        let (seen, relay) = receive_one(&self.client).await;
        assert_eq!((seen.as_slice(), relay), (payload, self.relay.local_addr()));
        from
    }
}

fn socket() -> UdpSocket {
    open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

async fn receive_one(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let received = tokio::time::timeout(DEADLINE, socket.recv_from(&mut buffer)).await;
    let (len, from) = received.expect("a datagram within the deadline").unwrap();
    buffer.truncate(len);
    (buffer, from)
}

async fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "the condition did not come true");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn carries_both_ways_and_every_length() {
    let bench = Bench::new(|options| options.mtu = None);
    for len in [0, 1, 1472, 1473, LARGEST_DATAGRAM] {
        bench.round_trip(&vec![7; len]).await;
    }
    let stats = bench.relay.stats();
    for direction in [stats.to_target, stats.to_client] {
        let bytes = 1 + 1472 + 1473 + LARGEST_DATAGRAM as u64;
        let expected = DirectionStats {
            packets: 5,
            bytes,
            delivered: 5,
            delivered_bytes: bytes,
            ..DirectionStats::default()
        };
        assert_eq!(direction, expected);
    }
    bench.relay.close().await;
}

#[tokio::test]
async fn drops_what_is_longer_than_the_mtu() {
    let bench = Bench::new(|_| {});
    bench.send_counted(&[1; 1473]).await;
    bench.round_trip(&[2; 1472]).await;
    assert_eq!(bench.relay.stats().to_target.too_large, 1);
}

#[tokio::test]
async fn every_client_has_its_own_way() {
    let bench = Bench::new(|options| options.max_clients = 3);
    let clients: Vec<_> = (0..3).map(|_| socket()).collect();
    let mut seen = BTreeSet::new();
    for (i, client) in clients.iter().enumerate() {
        client.send_to(&[i as u8], bench.relay.local_addr()).await.unwrap();
        let (payload, from) = receive_one(&bench.target).await;
        assert_eq!(payload, [i as u8]);
        assert!(seen.insert(from), "{from} twice");
        bench.target.send_to(&payload, from).await.unwrap();
    }
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(receive_one(client).await.0, [i as u8]);
    }
    // A fourth takes the place of the first, which comes back from another address.
    bench.round_trip(b"fourth").await;
    clients[0].send_to(b"back", bench.relay.local_addr()).await.unwrap();
    let (_, from) = receive_one(&bench.target).await;
    assert!(!seen.contains(&from));
    assert_eq!(lock(&bench.relay.pump).clients.len(), 3);
}

#[tokio::test]
async fn loses_what_the_seed_says() {
    const PACKETS: u64 = 3000;
    for (seed, loss) in [(1, 0.1), (2, 0.1), (3, 0.5)] {
        let lossy = Profile { loss, ..Profile::default() };
        let bench = Bench::new(|options| {
            options.to_target = lossy.clone();
            options.seed = seed;
        });
        for _ in 0..PACKETS {
            bench.send_counted(&[0; 100]).await;
        }
        let mut model = Link::new(lossy, seed);
        let expected = (0..PACKETS).filter(|_| model.admit(0, 100) == Fate::Lost).count() as u64;
        let stats = bench.relay.stats().to_target;
        assert_eq!((stats.packets, stats.lost), (PACKETS, expected), "seed {seed}");
        assert_eq!(stats.delivered, PACKETS - expected);
        let ratio = stats.lost as f64 / PACKETS as f64;
        assert!((ratio - loss).abs() < 0.03, "seed {seed}: {ratio}");
        for _ in 0..stats.delivered {
            receive_one(&bench.target).await;
        }
    }
}

#[tokio::test]
async fn delays_each_way() {
    let bench = Bench::new(|options| {
        options.to_target.delay = 30 * MS;
        options.to_client.delay = 20 * MS;
    });
    let start = Instant::now();
    bench.round_trip(b"there and back").await;
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_rate_is_kept_and_its_queue_overflows() {
    // 8 Mbit/s and room for 20 packets: 20 ms for the 20 that fit, the rest is dropped.
    let bench = Bench::new(|options| {
        options.to_target.rate = Some(8e6);
        options.to_target.queue = Some(20_000);
    });
    let start = Instant::now();
    for _ in 0..60 {
        bench.send(&[0; 1000]).await;
    }
    until(|| bench.relay.stats().to_target.packets == 60).await;
    until(|| {
        let stats = bench.relay.stats().to_target;
        stats.delivered + stats.queue_full == 60
    })
    .await;
    let stats = bench.relay.stats().to_target;
    assert!(stats.queue_full > 0, "{stats:?}");
    let kept = Duration::from_millis(stats.delivered);
    assert!(start.elapsed() >= kept, "{stats:?} after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_wire_passes_nothing_until_it_is_mended() {
    let bench = Bench::new(|_| {});
    let upstream = bench.round_trip(b"before").await;
    bench.relay.cut();
    bench.send_counted(b"lost").await;
    bench.target.send_to(b"lost too", upstream).await.unwrap();
    until(|| bench.relay.stats().to_client.blocked == 1).await;
    bench.relay.restore();
    bench.round_trip(b"after").await;
    assert_eq!(bench.relay.stats().to_target.blocked, 1);
}

#[tokio::test]
async fn a_cut_loses_what_is_under_way() {
    let bench = Bench::new(|options| options.to_target.delay = 3_600_000 * MS);
    bench.send_counted(b"for an hour").await;
    bench.relay.cut();
    bench.relay.restore();
    bench.relay.set_profiles(Profile::default(), Profile::default());
    bench.round_trip(b"at once").await;
    assert_eq!(lock(&bench.relay.pump).to_target.next_due(), None);
    assert_eq!(bench.relay.stats().to_target.blocked, 1);
}

#[tokio::test]
async fn a_blackout_ends_by_itself() {
    let bench = Bench::new(|_| {});
    bench.relay.blackout(Duration::from_millis(40));
    let start = Instant::now();
    bench.send_counted(b"dark").await;
    let blocked = bench.relay.stats().to_target.blocked;
    assert!(blocked == 1 || start.elapsed() >= Duration::from_millis(40));
    until(|| start.elapsed() >= Duration::from_millis(60)).await;
    bench.round_trip(b"light").await;
}

#[tokio::test]
async fn duplicates_and_corrupts() {
    let bench = Bench::new(|options| {
        options.to_target = Profile { duplicate: 1.0, corrupt: 1.0, ..Profile::default() };
    });
    let sent = [0x55; 200];
    bench.send(&sent).await;
    let (first, _) = receive_one(&bench.target).await;
    let (second, _) = receive_one(&bench.target).await;
    assert_eq!(first, second);
    let flipped: u32 = first.iter().zip(sent).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(flipped, 1);
    let stats = bench.relay.stats().to_target;
    assert_eq!((stats.packets, stats.delivered), (1, 2));
    assert_eq!((stats.duplicated, stats.corrupted), (1, 1));
}

#[tokio::test]
async fn reorders() {
    let bench = Bench::new(|options| {
        options.seed = 5;
        options.to_target = Profile { reorder: 0.3, reorder_by: 5 * MS, ..Profile::default() };
    });
    for i in 0..100 {
        bench.send_counted(&[i]).await;
    }
    let mut order = Vec::new();
    for _ in 0..100 {
        order.push(receive_one(&bench.target).await.0[0]);
    }
    assert!(!order.is_sorted());
    order.sort_unstable();
    assert!(order.into_iter().eq(0..100));
    assert!(bench.relay.stats().to_target.reordered > 10);
}

#[tokio::test]
async fn rebind_changes_the_source_address() {
    let bench = Bench::new(|_| {});
    let before = bench.round_trip(b"before").await;
    bench.relay.rebind().unwrap();
    bench.target.send_to(b"to the old address", before).await.unwrap();
    let after = bench.round_trip(b"after").await;
    assert_ne!(before, after);
    assert_eq!(bench.relay.stats().to_client.packets, 2);
}

#[tokio::test]
async fn retarget_speaks_to_the_new_target_only() {
    let mut bench = Bench::new(|_| {});
    let upstream = bench.round_trip(b"old").await;
    let old = std::mem::replace(&mut bench.target, socket());
    bench.relay.retarget(bench.target.local_addr().unwrap()).unwrap();
    old.send_to(b"from the dead", upstream).await.unwrap();
    bench.round_trip(b"new").await;
    // Other sockets are needed from one address family to the other.
    let v6 = open(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    if let Ok(v6) = v6 {
        bench.relay.retarget(v6.local_addr().unwrap()).unwrap();
        bench.target = v6;
        bench.round_trip(b"newer").await;
    }
}

#[tokio::test]
async fn bytes_under_way_are_capped() {
    let bench = Bench::new(|options| {
        options.to_target.delay = 3_600_000 * MS;
        options.under_way_bytes = 10_000;
    });
    for _ in 0..20 {
        bench.send_counted(&[0; 1000]).await;
    }
    let stats = bench.relay.stats().to_target;
    assert_eq!((stats.delivered, stats.queue_full), (0, 11)); // 9 fit with their overhead
    // What has arrived or was lost makes room again.
    bench.relay.cut();
    bench.relay.restore();
    bench.relay.set_profiles(Profile { delay: 1, ..Profile::default() }, Profile::default());
    for _ in 0..20 {
        bench.round_trip(&[0; 1000]).await;
    }
    assert_eq!(bench.relay.stats().to_target.queue_full, 11);
}

#[tokio::test]
async fn a_dropped_relay_frees_its_port() {
    let bench = Bench::new(|_| {});
    bench.round_trip(b"alive").await;
    let address = bench.relay.local_addr();
    drop(bench);
    until(|| std::net::UdpSocket::bind(address).is_ok()).await;
}

#[test]
fn needs_a_runtime() {
    let options = RelayOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    assert!(matches!(Relay::start(options), Err(RelayError::NoRuntime)));
}

/// Not a benchmark, but a floor: a relay that sleeps for each packet would carry 11 Mbit/s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_not_sleep_for_each_packet() {
    const PACKETS: u64 = 20_000;
    const AHEAD: u64 = 64; // what a default socket buffer holds
    let bench = Bench::new(|options| options.to_target.delay = 2 * MS);
    let start = Instant::now();
    let mut received = 0;
    for sent in 1..=PACKETS {
        bench.send(&[0; 1400]).await;
        while sent - received >= AHEAD || (sent == PACKETS && received < PACKETS) {
            receive_one(&bench.target).await;
            received += 1;
        }
    }
    let rate = (PACKETS * 1400 * 8) as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.0} Mbit/s");
    assert!(rate > 50.0, "{rate:.0} Mbit/s");
}
