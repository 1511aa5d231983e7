use super::*;
use crate::scratch::Random;

#[test]
fn runs_of_missing_chunks_follow_what_comes_and_goes() {
    let mut table = ChunkTable::new(3000 * CHUNK + 1);
    let mut model = vec![false; 3001];
    let mut random = Random(11);
    let hash = ChunkHash::from_bytes([9; 32]);
    for step in 0..4_000 {
        let index = random.below(3001);
        let is_coming = random.below(3) > 0;
        match is_coming {
            true => table.insert(index, hash),
            false => table.remove(index),
        }
        model[index as usize] = is_coming;
        if step % 400 == 0 {
            let missing: Vec<u64> = table.missing().flatten().collect();
            let expected: Vec<u64> = (0..3001).filter(|at| !model[*at as usize]).collect();
            assert_eq!(missing, expected);
            let bytes: u64 = (0..3001)
                .filter(|at| model[*at as usize])
                .map(|at| if at == 3000 { 1 } else { CHUNK })
                .sum();
            assert_eq!(table.bytes(), bytes);
        }
    }
    (0..3001).for_each(|index| table.insert(index, hash));
    assert!(table.is_complete() && table.missing().next().is_none() && table.digest().is_some());
    table.remove(3000);
    assert_eq!((table.is_complete(), table.digest()), (false, None));
}

#[test]
fn an_announced_size_takes_little_memory_and_bad_indices_none() {
    let mut table = ChunkTable::new(crate::MAX_FILE_SIZE);
    assert_eq!(table.pages.len(), 16_384);
    table.insert(1 << 24, ChunkHash::from_bytes([0; 32]));
    table.insert(u64::MAX, ChunkHash::from_bytes([0; 32]));
    table.remove(u64::MAX);
    assert_eq!((table.bytes(), table.pages.iter().flatten().count()), (0, 0));
    assert_eq!(ChunkTable::new(0).digest(), Some(Digest::of(b"")));
}
