//! A source and a target in virtual time, without disk, clock or network. A seed decides the tree, how
//! long everything takes, what fails, what changes while it is read, and when the link is cut.

mod pair;
mod world;

use pair::{Pair, Plan};
use world::Rng;

use super::*;

/// Runs one seed; a failure names it.
fn check(seed: u64, plan: impl FnOnce(&mut Rng) -> Plan) {
    let mut rng = Rng::new(seed);
    let plan = plan(&mut rng);
    let pair = std::panic::AssertUnwindSafe(|| Pair::new(rng, plan).run());
    if let Err(panic) = std::panic::catch_unwind(pair) {
        eprintln!("the seed that failed is {seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn all_ends_well_on_a_link_that_holds() {
    (0..1500).for_each(|seed| check(seed, |rng| Plan { cuts: 0, ..Plan::draw(rng) }));
}

#[test]
fn all_ends_well_through_cuts() {
    (10_000..13_000).for_each(|seed| check(seed, Plan::draw));
}

#[test]
fn all_ends_well_when_everything_goes_wrong() {
    (20_000..21_000).for_each(|seed| {
        check(seed, |rng| Plan { trouble: 6, cuts: 8, ..Plan::draw(rng) });
    });
}

/// Long names, link targets and attributes make entries dear; the source must not offer more of them
/// than the target's least window takes.
#[test]
fn dear_entries_stay_within_the_window() {
    (30_000..30_200).for_each(|seed| {
        check(seed, |rng| Plan { dear: true, window: MIN_WINDOW, ..Plan::draw(rng) });
    });
}
