//! Orders, second tries and numbers, in virtual time.

use super::*;

fn load(size: usize) -> Load {
    Load { head: Bytes::new(), body: vec![1; size].into() }
}

fn number(turn: Turn) -> u64 {
    match turn {
        Turn::Send { number, .. } => number,
        Turn::Wait(_) | Turn::Over => panic!("nothing to send"),
    }
}

fn size(turn: Turn) -> usize {
    match turn {
        Turn::Send { load, .. } => load.body.len(),
        Turn::Wait(_) | Turn::Over => panic!("nothing to send"),
    }
}

#[test]
fn the_lowest_order_goes_first_and_the_forgotten_never() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let _later = queue.push(load(30), 3);
    let _first = queue.push(load(10), 1);
    let (place, _fate) = queue.push(load(20), 2);
    let _same = queue.push(load(11), 1);
    queue.forget(place);
    assert_eq!([1, 1, 1].map(|_| size(queue.turn(1, now))), [10, 11, 30]);
    assert_eq!(queue.turn(1, now), Turn::Wait(None));
    assert_eq!((queue.starved(), queue.has_under_way()), (1, true));
}

#[test]
fn whoever_sent_hears_how_it_ended() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let (_, mut read) = queue.push(load(5), 0);
    let (_, mut refused) = queue.push(load(6), 0);
    assert_eq!([1, 2].map(|on| number(queue.turn(on, now))), [0, 1]);
    assert!(!queue.settle(2, Ok(()), now), "no such parcel");
    assert!(queue.settle(1, Err(55), now) && queue.settle(0, Ok(()), now));
    assert_eq!((read.try_recv(), refused.try_recv()), (Ok(Ok(())), Ok(Err(55))));
    assert!(queue.settle(0, Ok(()), now), "the second acknowledgement of one that was sent twice");
    assert_eq!(queue.acknowledged(), 5);
}

#[test]
fn a_late_parcel_goes_once_more_and_elsewhere() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    let after = |ms| start + Duration::from_millis(ms);
    let fates: Vec<_> = (0..3).map(|order| queue.push(load(1), order)).collect();
    let first = number(queue.turn(1, start));
    assert_eq!(number(queue.turn(2, start)), 1);
    assert!(queue.settle(first, Ok(()), after(100)));
    assert_eq!(number(queue.turn(1, after(100))), 2);
    // 1 is on connection 2, 2 on connection 1; late is three times the usual 100 ms.
    assert_eq!(queue.turn(2, after(150)), Turn::Wait(Some(after(400))));
    assert_eq!(queue.turn(1, after(150)), Turn::Wait(Some(after(300))));
    assert_eq!(number(queue.turn(1, after(300))), 1);
    assert_eq!(queue.turn(1, after(2000)), Turn::Wait(None), "once is enough");
    // Nobody waits for 2 any more, so it is not worth a second try.
    queue.forget(fates[2].0);
    assert_eq!(queue.turn(2, after(2000)), Turn::Wait(None));
}

#[test]
fn numbers_are_remembered_in_bounded_memory() {
    let mut taken = Taken::default();
    for number in [0, 2, 1, 5] {
        assert_eq!(taken.has(number), Ok(false));
        assert!(taken.insert(number));
        assert!(!taken.insert(number));
        assert_eq!(taken.has(number), Ok(true));
    }
    assert_eq!((taken.below, taken.above.len()), (3, 1));
    assert_eq!(taken.has(3 + MOST_AHEAD - 1), Ok(false));
    assert_eq!(taken.has(3 + MOST_AHEAD), Err(TooFarAhead));
    assert_eq!(taken.has(u64::MAX), Err(TooFarAhead));
}

#[test]
fn what_a_lost_connection_had_begun_goes_first_elsewhere() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let fates: Vec<_> = (0..4).map(|order| queue.push(load(order as usize + 1), order)).collect();
    assert_eq!([1, 2, 1].map(|on| number(queue.turn(on, now))), [0, 1, 2]);
    assert!(queue.retire(1, true));
    assert_eq!((queue.turn(1, now), queue.straggler(1, now)), (Turn::Over, Turn::Over));
    // Nobody waits for it any more, but its number must come, and with what it had.
    queue.forget(fates[0].0);
    assert_eq!(queue.turn(2, now), Turn::Send { number: 0, load: load(1) });
    assert!(queue.settle(2, Ok(()), now), "it came over the lost one all the same");
    assert_eq!([2].map(|on| number(queue.turn(on, now))), [3]);
    assert!((0..4).all(|number| queue.settle(number, Ok(()), now)));
    assert_eq!((queue.acknowledged(), queue.has_under_way()), (10, false));
}

#[test]
fn a_connection_that_the_lane_needs_is_not_given_up() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let fates: Vec<_> = (0..2).map(|order| queue.push(load(1), order)).collect();
    assert_eq!([1, 2].map(|on| number(queue.turn(on, now))), [0, 1]);
    assert!(queue.settle(0, Ok(()), now));
    assert!(!queue.retire(1, true), "a parcel arrived over it");
    queue.forget(fates[1].0);
    assert!(!queue.retire(2, true), "its bytes are gone");
    assert!(queue.retire(1, false), "the peer wanted no more of it");
}
