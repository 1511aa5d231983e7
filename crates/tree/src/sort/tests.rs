//! Sorting in little memory, against the sort of the standard library.

use super::*;
use crate::scratch::{Random, Scratch};

type Record = (Vec<u8>, Vec<u8>);

fn record(random: &mut Random) -> Record {
    let letters = [b'a', b'b', 0, 0xff];
    let key: Vec<u8> = (0..random.below(12)).map(|_| *random.pick(&letters)).collect();
    let value = (0..random.below(40)).map(|_| random.next() as u8).collect();
    (key, value)
}

fn collect(sorted: &Sorted) -> Vec<Record> {
    let (mut merge, mut found) = (sorted.pass().unwrap(), Vec::new());
    while merge.advance().unwrap() {
        found.push((merge.key().to_vec(), merge.value().to_vec()));
    }
    assert!(!merge.advance().unwrap() && merge.key().is_empty() && merge.value().is_empty());
    found
}

/// Sorts `count` records, and says how many runs there were in the end.
fn check(seed: u64, count: usize, memory: usize) -> usize {
    let scratch = Scratch::new();
    let mut random = Random(seed);
    let mut expected: Vec<Record> = (0..count).map(|_| record(&mut random)).collect();
    let mut sorter = Sorter::new(&scratch.dir(), memory);
    for (key, value) in &expected {
        sorter.push(key, value).unwrap();
    }
    assert!(sorter.runs.len() < MOST_RUNS);
    assert!(sorter.pile.size() <= memory.max(*MEMORY.start()) + 100);
    let sorted = sorter.finish().unwrap();
    let (first, second) = (collect(&sorted), collect(&sorted));
    assert_eq!(first, second, "seed {seed}");
    assert!(first.is_sorted_by_key(|record| &record.0), "seed {seed}");
    // Among equal keys any order will do.
    let mut found = first;
    found.sort();
    expected.sort();
    assert!(found == expected, "seed {seed}: records lost or changed");
    assert_eq!(scratch.dir().entries().unwrap().count(), 0);
    match sorted.parts {
        Parts::Memory(_) => 0,
        Parts::Runs(runs) => runs.len(),
    }
}

#[test]
fn what_fits_stays_in_memory() {
    for (seed, count) in [0, 1, 2, 1000].into_iter().enumerate() {
        assert_eq!(check(seed as u64, count, 1 << 20), 0);
    }
}

#[test]
fn what_does_not_fit_is_merged_from_runs() {
    for seed in 0..20 {
        assert!(check(seed, 2000, 4096) > 10);
    }
}

#[test]
fn runs_are_merged_before_they_are_too_many() {
    // More runs than are allowed, several times over.
    let runs = check(1, 100_000, 4096);
    assert!((MOST_RUNS / 2..=MOST_RUNS).contains(&runs), "{runs} runs");
}

#[test]
fn long_records_and_too_long_ones() {
    let scratch = Scratch::new();
    let mut sorter = Sorter::new(&scratch.dir(), 4096);
    let long = vec![7; MOST_RECORD - 1];
    sorter.push(b"b", &long).unwrap();
    sorter.push(b"a", b"").unwrap();
    sorter.push(&long, b"c").unwrap();
    assert!(matches!(sorter.push(b"ab", &long), Err(FilesError::TooLarge { .. })));
    let found = collect(&sorter.finish().unwrap());
    let expected = [(long.clone(), b"c".to_vec()), (b"a".to_vec(), vec![]), (b"b".to_vec(), long)];
    assert!(found == expected);
}

#[test]
fn a_damaged_run_is_an_error() {
    let scratch = Scratch::new();
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut sorter = Sorter::new(&scratch.dir(), 4096);
        for _ in 0..300 {
            let (key, value) = record(&mut random);
            sorter.push(&key, &value).unwrap();
        }
        let sorted = sorter.finish().unwrap();
        let Parts::Runs(runs) = &sorted.parts else { panic!("nothing was written") };
        let run = random.pick(runs);
        let at = run.start + random.next() % (run.end - run.start);
        run.file.write_all_at(&[random.next() as u8], at).unwrap();
        // It ends, in an error or in other records, and never in a panic.
        let Ok(mut merge) = sorted.pass() else { continue };
        let mut records = 0;
        while matches!(merge.advance(), Ok(true)) && records < 10_000 {
            records += 1;
        }
        assert!(records < 10_000, "seed {seed}");
    }
}
