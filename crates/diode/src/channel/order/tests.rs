use super::*;
use crate::rig::Random;

/// What a path does to numbered things: some are lost, some come twice or three times, and most come out of order.
fn carried(random: &mut Random, count: usize, lost_percent: usize) -> Vec<usize> {
    let mut arrivals = Vec::new();
    for item in 0..count {
        for copy in [0, 20, 60] {
            if random.below(100) >= lost_percent {
                arrivals.push((item + copy + random.below(15), item));
            }
        }
    }
    arrivals.sort_unstable_by_key(|(at, _)| *at);
    arrivals.into_iter().map(|(_, item)| item).collect()
}

/// Pieces of these lengths, one after the other: where each begins, and its bytes.
fn pieces(random: &mut Random, count: usize) -> Vec<(u64, Vec<u8>)> {
    let mut at = 0;
    let piece = |at: &mut u64, random: &mut Random| {
        let bytes: Vec<u8> = (0..1 + random.below(100)).map(|_| random.below(256) as u8).collect();
        let offset = *at;
        *at += bytes.len() as u64;
        (offset, bytes)
    };
    (0..count).map(|_| piece(&mut at, random)).collect()
}

#[test]
fn bytes_come_out_in_order_and_once() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let pieces = pieces(&mut random, 200);
        let whole: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let (mut order, mut out) = (StreamOrder::default(), Vec::new());
        let mut now = Instant::now();
        let arrivals = carried(&mut random, pieces.len(), 30);
        let mut has_come = vec![false; pieces.len()];
        let ends_at = random.below(arrivals.len());
        for (at, item) in arrivals.iter().enumerate() {
            let (offset, bytes) = &pieces[*item];
            // Now and then two at once, as if they had been cut elsewhere.
            let mut bytes = bytes.clone();
            if random.below(5) == 0
                && let Some((_, more)) = pieces.get(item + 1)
            {
                bytes.extend(more);
                has_come[item + 1] = true;
            }
            has_come[*item] = true;
            order.take(*offset, &bytes, now, |bytes| out.extend_from_slice(bytes)).unwrap();
            if at == ends_at {
                order.end(whole.len() as u64, now);
            }
            assert!(whole.starts_with(&out), "seed {seed}");
            assert_eq!(order.next(), out.len() as u64);
            now += Duration::from_micros(100);
        }
        let missing = has_come.iter().position(|come| !come);
        let upto = missing.map_or(whole.len(), |item| pieces[item].0 as usize);
        assert!(out.len() == upto, "seed {seed}: {} of {upto}", out.len());
        assert_eq!(order.is_done(), missing.is_none(), "seed {seed}");
        assert!(!order.has_lost(now), "seed {seed}");
        assert_eq!(order.has_lost(now + LOST_AFTER), missing.is_some(), "seed {seed}");
        // Whoever wants the rest gets it, with the gaps told.
        let mut gaps = 0;
        while !order.is_done() {
            let before = order.next();
            gaps += order.skip(|bytes| out.extend_from_slice(bytes));
            assert!(order.next() > before);
        }
        assert_eq!(out.len() as u64 + gaps, whole.len() as u64, "seed {seed}");
        assert_eq!(order.held_bytes(), 0);
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut order = StreamOrder::default();
    let now = Instant::now();
    let mut at = 1;
    while order.take(at, &[0; 100_000], now, |_| panic!("it is not in order")).is_ok() {
        at += 100_000;
        assert!(order.held_bytes() <= MOST_HELD);
    }
    assert!(order.held_bytes() > MOST_HELD - 100_000);
    // The end of the numbers is no place for a byte.
    assert_eq!(order.take(u64::MAX, &[0; 2], now, |_| panic!("it is nowhere")), Ok(()));
    let mut given = 0;
    assert_eq!(order.take(0, &[7], now, |bytes| given += bytes.len()), Ok(()));
    assert_eq!((given as u64, order.held_bytes()), (at, 0));
}

#[test]
fn an_empty_connection_ends() {
    let mut order = StreamOrder::default();
    order.end(0, Instant::now());
    assert!(order.is_done());
    assert!(!order.has_lost(Instant::now() + LOST_AFTER));
}

#[test]
fn each_datagram_is_new_once_and_what_stays_away_is_counted() {
    for seed in 0..300 {
        let mut random = Random(seed);
        const COUNT: usize = 500;
        let (mut order, mut new) = (DatagramOrder::default(), vec![0; COUNT]);
        let mut now = Instant::now();
        for item in carried(&mut random, COUNT, 30) {
            new[item] += u32::from(order.take(item as u64, now));
            now += Duration::from_micros(100);
            order.tick(now);
        }
        assert!(new.iter().all(|times| *times <= 1), "seed {seed}");
        assert_eq!(order.take_lost(), 0, "seed {seed}");
        if seed % 2 == 0 {
            order.tick(now + LOST_AFTER);
        } else {
            order.end();
        }
        // Nobody knows of those after the last that came.
        let last = new.iter().rposition(|times| *times == 1).unwrap();
        let missing = new[..last].iter().filter(|times| **times == 0).count();
        assert_eq!(order.take_lost(), missing as u64, "seed {seed}");
        for item in 0..=last {
            assert!(!order.take(item as u64, now + LOST_AFTER), "seed {seed}, {item}");
        }
    }
}

#[test]
fn pieces_become_the_datagram_once() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let total = 1 + random.below(65_535);
        let datagram: Vec<u8> = (0..total).map(|_| random.below(256) as u8).collect();
        let size = 1 + random.below(total);
        let cut: Vec<(usize, &[u8])> =
            datagram.chunks(size).enumerate().map(|(at, bytes)| (at * size, bytes)).collect();
        let (mut order, mut whole) = (DatagramOrder::default(), Vec::new());
        let now = Instant::now();
        let arrivals = carried(&mut random, cut.len(), 10);
        for item in &arrivals {
            let (at, bytes) = cut[*item];
            whole.extend(order.take_piece(3, at as u16, total as u16, bytes, now));
        }
        let has_all = (0..cut.len()).all(|item| arrivals.contains(&item));
        assert_eq!(whole.len(), usize::from(has_all), "seed {seed}");
        assert!(whole.iter().all(|whole| *whole == datagram), "seed {seed}");
        order.tick(now + LOST_AFTER);
        assert!(order.partial.is_empty() && order.held_bytes() == 0);
    }
}

#[test]
fn what_a_datagram_takes_is_bounded() {
    let (mut order, now) = (DatagramOrder::default(), Instant::now());
    for number in 0..10_000 {
        assert_eq!(order.take_piece(number, 0, u16::MAX, &[7], now), None);
    }
    assert_eq!(order.held_bytes(), order.partial.len() * usize::from(u16::MAX));
    assert!(order.held_bytes() <= MOST_PARTIAL && order.partial.len() > 200);
    // Pieces that fit nowhere.
    assert_eq!(order.take_piece(20_000, 65_535, u16::MAX, &[7], now), None);
    assert_eq!(order.take_piece(20_000, 5, 6, &[7, 8], now), None);
    assert_eq!(order.take_piece(9_999, 1, 2, &[7], now), None);
    for number in 0..10_000 {
        assert!(order.take(number * 2, now));
    }
    assert!(order.missing.len() <= MOST_GAPS);
    assert!(order.take(u64::MAX - 1, now) && !order.take(u64::MAX, now));
    order.tick(now + LOST_AFTER);
    assert_eq!((order.take_lost(), order.missing.len()), (u64::MAX - 1 - 10_000, 0));
}

#[test]
fn a_receiver_that_comes_late_misses_nothing_that_it_could_have() {
    let (mut order, now) = (DatagramOrder::default(), Instant::now());
    assert!(order.take(1_000_000, now));
    assert!(order.take(1_000_002, now));
    assert!(!order.take(5, now));
    order.tick(now + LOST_AFTER);
    assert_eq!(order.take_lost(), 1);
    let mut order = DatagramOrder::default();
    assert!(order.take(2, now) && order.take(0, now));
    order.tick(now + LOST_AFTER);
    assert_eq!(order.take_lost(), 1);
}
