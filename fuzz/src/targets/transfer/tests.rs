//! The corpus of the target machine reaches what it was written for: an input that a change of the
//! protocol has made meaningless would find nothing any more.

use super::*;

fn check(input: &[u8], copied: u64, unchanged: u64, links: u64, finished: bool) {
    let world = play(input);
    let totals = world.target.totals();
    assert_eq!((totals.copied, totals.unchanged, totals.links), (copied, unchanged, links));
    assert_eq!(world.target.is_finished(), finished);
}

#[test]
fn the_corpus_goes_deep() {
    check(include_bytes!("../../../corpus/transfer_target_machine/whole"), 2, 0, 0, true);
    check(include_bytes!("../../../corpus/transfer_target_machine/links"), 1, 0, 2, true);
    check(include_bytes!("../../../corpus/transfer_target_machine/same-stamp"), 0, 1, 0, false);
    check(include_bytes!("../../../corpus/transfer_target_machine/cut"), 1, 0, 0, false);
    check(include_bytes!("../../../corpus/transfer_target_machine/twins"), 2, 0, 0, true);
}
