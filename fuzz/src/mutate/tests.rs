//! The stream of inputs is what its seed says, and it reaches what it is meant to reach.

use super::*;

fn inputs(seed: u64, corpus: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut mutator = Mutator::new(seed);
    (0..count).map(|_| mutator.next_input(corpus)).collect()
}

#[test]
fn a_seed_decides_every_input() {
    let corpus = vec![b"one two three".to_vec(), vec![0x80, 0x80, 1, 5, 6]];
    assert_eq!(inputs(7, &corpus, 500), inputs(7, &corpus, 500));
    assert_ne!(inputs(7, &corpus, 500), inputs(8, &corpus, 500));
}

#[test]
fn an_empty_corpus_and_an_empty_input_are_no_obstacle() {
    assert!(inputs(1, &[], 2_000).iter().any(|input| !input.is_empty()));
    assert!(inputs(1, &[Vec::new()], 2_000).iter().any(|input| !input.is_empty()));
}

#[test]
fn inputs_stay_below_the_cap_and_are_mostly_new() {
    let corpus = vec![vec![1; MAX_INPUT_BYTES + 10], vec![2; 40]];
    let made = inputs(3, &corpus, 500);
    assert!(made.iter().all(|input| input.len() <= MAX_INPUT_BYTES));
    let unchanged = made.iter().filter(|input| corpus.contains(input)).count();
    assert!(unchanged < 50, "{unchanged} of 500 inputs were left as they were");
}

#[test]
fn a_length_byte_is_turned_into_the_largest_number_soon() {
    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let made = inputs(1, &[b"\x04haul".to_vec()], 20_000);
    assert!(made.iter().any(|input| input.starts_with(&largest) && input.ends_with(b"haul")));
}
