//! Assembly from chunks in any order, and every way in which a parcel can lie.

use super::*;

fn stream(head: &[u8], body: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
    [&length(head), &length(body), head, body].concat()
}

/// Places pieces of `bytes`, cut at `cuts`, in an order that `seed` shuffles.
fn assemble(bytes: &[u8], cuts: &[usize], seed: u64) -> Result<(Vec<u8>, Vec<u8>), Lie> {
    let mut borders: Vec<usize> = cuts.iter().copied().chain([0, bytes.len()]).collect();
    borders.sort_unstable();
    let mut pieces: Vec<&[usize]> = borders.windows(2).collect();
    let mut state = seed;
    for index in (1..pieces.len()).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        pieces.swap(index, (state >> 33) as usize % (index + 1));
    }
    let mut assembly = Assembly::new(16, 64);
    for piece in pieces {
        let chunk = &bytes[piece[0]..piece[1]];
        assembly.place(piece[0] as u64, chunk)?;
        assert!(assembly.head.capacity() <= 16 && assembly.body.capacity() <= 64);
        assert!(assembly.early.capacity() <= 2 * (16 + 64));
    }
    assembly.finish()
}

#[test]
fn any_order_gives_the_whole() {
    for (head, body) in [(0, 0), (0, 64), (16, 0), (1, 1), (16, 64), (7, 30)] {
        let head: Vec<u8> = (0..head).collect();
        let body: Vec<u8> = (100..100 + body).collect();
        let bytes = stream(&head, &body);
        for seed in 0..200u64 {
            let cut = |factor: u64| (seed * factor) as usize % (bytes.len() + 1);
            let cuts = [cut(1), cut(7), cut(13), cut(31), cut(57)];
            let got = assemble(&bytes, &cuts, seed);
            assert_eq!(got, Ok((head.clone(), body.clone())), "seed {seed}");
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(assemble(&bytes, &every, 1), Ok((head, body)));
    }
}

/// Repair symbols stand in for what is missing, also when the lengths come last.
#[test]
fn a_parcel_with_repair_symbols_needs_not_all_of_itself() {
    let (head, body): (Vec<u8>, Vec<u8>) = (vec![3; 30], (0..90_000).map(|n| n as u8).collect());
    let repair = repair_of(&head, &body, 4).unwrap();
    let first = 4 << HEAD_BITS | 30;
    let lengths = [(first as u32).to_be_bytes(), 90_000u32.to_be_bytes()].concat();
    let bytes = [&lengths, &head[..], &body, &repair].concat();
    for lengths_last in [false, true] {
        let mut assembly = Assembly::new(64, 100_000);
        let mut pieces: Vec<_> = bytes.chunks(1000).enumerate().collect();
        // Two symbols, and the ends of two others, are lost with it.
        pieces.remove(4);
        if lengths_last {
            pieces.rotate_left(1);
        }
        let enough =
            pieces.iter().any(|(nth, piece)| assembly.place(*nth as u64 * 1000, piece).unwrap());
        // The lengths bring what came before them along.
        assert!(enough || assembly.place(0, &[]).unwrap(), "lengths last: {lengths_last}");
        assert_eq!(assembly.finish(), Ok((head.clone(), body.clone())));
    }
}

/// Whoever keeps the lengths back and sends crumbs cannot have a list kept of them.
#[test]
fn crumbs_without_a_beginning_are_bounded() {
    let mut assembly = Assembly::new(1 << 16, 1 << 20);
    let mut place = |nth: u64| assembly.place(100 + 2 * nth, &[1]);
    assert!((0..MOST_EARLY as u64).all(|nth| place(nth) == Ok(false)));
    assert_eq!(place(MOST_EARLY as u64), Err(Lie::TooManyPieces));
}

#[test]
fn lies_are_found_in_any_order() {
    let honest = stream(&[1; 16], &[2; 64]);
    let with = |at: usize, value: u32| {
        let mut bytes = honest.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    for (bytes, lie) in [
        (with(0, 17), Lie::HeadTooLong { length: 17, cap: 16 }),
        (with(0, u32::MAX), Lie::HeadTooLong { length: MOST_HEAD as u64, cap: 16 }),
        (with(0, 900 << 20 | 16), Lie::TooMuchRepair),
        (with(4, 65), Lie::BodyTooLong { length: 65, cap: 64 }),
        (with(4, u32::MAX), Lie::BodyTooLong { length: u64::from(u32::MAX), cap: 64 }),
        (with(0, 15), Lie::TrailingBytes),
        (with(4, 63), Lie::TrailingBytes),
        (honest[..honest.len() - 1].to_vec(), Lie::EndsEarly),
        (honest[..10].to_vec(), Lie::EndsEarly),
        (honest[..7].to_vec(), Lie::EndsEarly),
        (Vec::new(), Lie::EndsEarly),
    ] {
        for seed in 0..20 {
            let cuts = [3, 8, 9, 40].map(|cut| cut.min(bytes.len()));
            assert_eq!(assemble(&bytes, &cuts, seed).as_ref(), Err(&lie), "seed {seed}");
        }
    }
    let behind = (8 + 16 + 64 + most_repair(16 + 64)) as u64;
    let far = Assembly::new(16, 64).place(behind, b"x");
    assert!(far.is_err(), "a byte behind every limit is not kept");
    assert!(Assembly::new(16, 64).place(u64::MAX, b"x").is_err());
}
