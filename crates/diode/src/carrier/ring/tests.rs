use super::*;
use crate::rig::Random;

/// A message of these datagrams, which all have one size but the last, in a slot.
fn message(slot: &mut Storage, datagrams: &[Vec<u8>]) -> Message {
    let bytes = datagrams.concat();
    slot.room()[..bytes.len()].copy_from_slice(&bytes);
    Message { length: bytes.len(), stride: datagrams[0].len() }
}

/// Datagrams of one size, the last shorter now and then.
fn some_datagrams(random: &mut Random) -> Vec<Vec<u8>> {
    let size = [1, 100, 1472, 1472, 8972, 65_507][random.below(6)];
    let count = (1 + random.below(64)).min(65_507 / size);
    let mut datagrams: Vec<Vec<u8>> =
        (0..count).map(|_| vec![random.below(256) as u8; size]).collect();
    if random.below(10) == 0 {
        return vec![Vec::new()];
    }
    if random.below(3) == 0
        && let Some(last) = datagrams.last_mut()
    {
        last.truncate(1 + random.below(size));
    }
    datagrams
}

fn take_all(ring: &Arc<Ring>) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    while let Some((held, buffer)) = ring.take(Duration::ZERO) {
        assert_eq!(held, Held::Datagrams);
        let mut datagrams = Datagrams(buffer);
        let (count, bytes) = (datagrams.count(), datagrams.bytes());
        let before = taken.len();
        taken.extend(datagrams.iter_mut().map(|datagram| datagram.to_vec()));
        assert_eq!(taken.len() - before, count);
        assert_eq!(taken[before..].iter().map(Vec::len).sum::<usize>(), bytes);
    }
    taken
}

#[test]
fn datagrams_of_any_sizes_come_out_as_they_went_in() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let ring = Ring::new(usize::MAX / 2);
        let mut slots: Vec<Storage> = (0..4).map(|_| Storage::new()).collect();
        let (mut given, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let count = 1 + random.below(4);
            let sets: Vec<_> = (0..count).map(|_| some_datagrams(&mut random)).collect();
            let messages: Vec<_> =
                slots.iter_mut().zip(&sets).map(|(slot, set)| message(slot, set)).collect();
            assert_eq!(ring.give(&mut slots, &messages), 0);
            given.extend(sets.into_iter().flatten());
            if random.below(3) == 0 {
                taken.extend(take_all(&ring));
            }
        }
        taken.extend(take_all(&ring));
        assert!(taken == given, "seed {seed}");
    }
}

#[test]
fn what_does_not_fit_is_counted_and_memory_is_bounded() {
    let ring = Ring::new(0);
    let mut slots = [Storage::new()];
    let mut random = Random(7);
    let (mut given, mut dropped) = (0, 0);
    for _ in 0..1000 {
        let set = some_datagrams(&mut random);
        let message = message(&mut slots[0], &set);
        given += set.len();
        dropped += ring.give(&mut slots, &[message]);
    }
    assert!(dropped > 0);
    assert_eq!(ring.state().made, LEAST_BUFFERS);
    assert_eq!(take_all(&ring).len(), given - dropped);
    let all_free = ring.state().free.len();
    assert_eq!(all_free, LEAST_BUFFERS);
    // There is room again.
    let message = message(&mut slots[0], &[vec![1; 20_000]]);
    assert_eq!(ring.give(&mut slots, &[message]), 0);
    assert_eq!(take_all(&ring), [vec![1; 20_000]]);
}

#[test]
fn single_datagrams_share_buffers() {
    let ring = Ring::new(0);
    let mut slots = [Storage::new()];
    for number in 0..LEAST_BUFFERS * 40 {
        let message = message(&mut slots[0], &[vec![number as u8; 1472 - number % 2]]);
        assert_eq!(ring.give(&mut slots, &[message]), 0, "datagram {number}");
    }
    assert_eq!(take_all(&ring).len(), LEAST_BUFFERS * 40);
}

#[test]
fn tiny_datagrams_take_no_memory_without_bound() {
    let ring = Ring::new(0);
    let mut slots = [Storage::new()];
    let empty = message(&mut slots[0], &[Vec::new()]);
    for _ in 0..LEAST_BUFFERS * MOST_DATAGRAMS {
        assert_eq!(ring.give(&mut slots, &[empty]), 0);
    }
    assert_eq!(ring.give(&mut slots, &[empty]), 1);
    assert_eq!(take_all(&ring).len(), LEAST_BUFFERS * MOST_DATAGRAMS);
}

#[test]
fn a_stream_waits_for_room_and_for_the_end() {
    let ring = Ring::new(0);
    for at in 0..LEAST_BUFFERS {
        let mut storage = ring.wait_for_room().unwrap();
        storage.room()[0] = at as u8;
        ring.give_stream(storage, 1, at == 0);
    }
    let other = ring.clone();
    let waiting = std::thread::spawn(move || other.wait_for_room().map(|_| ()));
    let (held, buffer) = ring.take(Duration::ZERO).unwrap();
    assert_eq!((held, &*buffer), (Held::Stream { is_new: true }, &[0_u8][..]));
    drop(buffer);
    assert_eq!(waiting.join().unwrap(), Some(()));
    // Its memory was not given back, so the next one waits until the end.
    let other = ring.clone();
    let waiting = std::thread::spawn(move || other.wait_for_room().map(|_| ()));
    let (held, _buffer) = ring.take(Duration::ZERO).unwrap();
    assert_eq!(held, Held::Stream { is_new: false });
    ring.close();
    assert_eq!(waiting.join().unwrap(), None);
}
