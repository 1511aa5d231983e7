//! A source and a target in virtual time, without disk, clock or network. A seed decides the tree, how
//! long everything takes, what fails, what changes while it is read, and when the link is cut.

mod pair;
mod world;

use files::{Attributes, Kind, Name, RelPath, Timestamp};
use pair::{Pair, Plan};
use world::Rng;

use super::*;

/// A file of this many bytes.
pub(super) fn leaf(size: u64) -> Found {
    let time = Timestamp { seconds: 1, nanos: 0 };
    let attributes = Attributes {
        kind: Kind::File,
        size,
        mode: 0o644,
        mtime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        links: 1,
        device: 1,
        inode: 1,
        blocks: 0,
    };
    let name = Name::new("a").unwrap();
    let place = Place { source: 0, path: RelPath::from(&name) };
    Found { place, name, attributes, link_target: None, owner: None, xattrs: Vec::new() }
}

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

/// Seeds from this one on, so many or `HAUL_SIMULATION_SEEDS`; `HAUL_SIMULATION_SEED` is tried alone.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    if let Some(seed) = number("HAUL_SIMULATION_SEED") {
        return seed..seed + 1;
    }
    first..first + number("HAUL_SIMULATION_SEEDS").unwrap_or(count)
}

#[test]
fn all_ends_well_on_a_link_that_holds() {
    seeds(0, 800).for_each(|seed| check(seed, |rng| Plan { cuts: 0, ..Plan::draw(rng) }));
}

#[test]
fn all_ends_well_through_cuts() {
    seeds(1 << 32, 1500).for_each(|seed| check(seed, Plan::draw));
}

#[test]
fn all_ends_well_when_everything_goes_wrong() {
    seeds(2 << 32, 600).for_each(|seed| {
        check(seed, |rng| Plan { trouble: 6, cuts: 8, ..Plan::draw(rng) });
    });
}

/// A second reading through cuts: the source takes no word for a file that it did not hash, and yet believes an honest
/// target, also what it repeats on the next link.
#[test]
fn a_second_reading_ends_well_through_cuts() {
    seeds(5 << 32, 600).for_each(|seed| check(seed, |rng| Plan::draw(rng).second_reading()));
}

/// Long names, link targets and attributes make entries dear; the source must not offer more of them
/// than the target's least window takes.
#[test]
fn dear_entries_stay_within_the_window() {
    seeds(3 << 32, 200).for_each(|seed| {
        check(seed, |rng| Plan { dear: true, window: MIN_WINDOW, ..Plan::draw(rng) });
    });
}

/// Folders in folders stay unfinished all the way down. What the window cannot hold is said to be a
/// problem, and the rest is copied.
#[test]
fn a_tree_too_deep_for_the_window_ends_in_words() {
    seeds(4 << 32, 20).for_each(|seed| {
        check(seed, |rng| Plan { chain: 120, window: MIN_WINDOW, ..Plan::draw(rng) });
    });
}

/// A target may ask for the digest of what it might have, once on each link, and gets it.
#[test]
fn digests_are_said_to_whom_asks() {
    let mut source = Source::new();
    source.begin_ahead(false);
    source.walked(Walked::Leaf(leaf(5 * CHUNK)));
    let folder = Attributes { kind: Kind::Directory, ..leaf(0).attributes };
    source.walked(Walked::Enter(Found { attributes: folder, ..leaf(0) }));
    let compares = |source: &mut Source| -> Vec<_> {
        std::iter::from_fn(|| source.poll_output())
            .filter_map(|output| match output {
                Output::Read(Job::Compare { read, have, epoch }) => Some((read.index, have, epoch)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(source.message(TargetMessage::Ask(vec![1])), Ok(()));
    assert_eq!(compares(&mut source), [(1, None, 0)]);
    let digest = Digest::of(b"x");
    source.job_done(JobResult::Compared { index: 1, same: false, digest, epoch: 0 });
    let sum = Output::Send(SourceMessage::Sum { index: 1, digest });
    assert_eq!(source.poll_output(), Some(sum));
    for (list, why) in [
        (vec![1], "a digest that was asked for before"),
        (vec![2], "digest of what is no file"),
        (vec![3], "digest of an unknown entry"),
    ] {
        assert_eq!(source.message(TargetMessage::Ask(list)), Err(Violation(why)));
    }
    // The target made it of what it had, or so it says.
    let copied =
        |digest| TargetMessage::Outcomes { first: 0, list: vec![(1, Outcome::Copied(digest))] };
    let lie = source.message(copied(Digest::of(b"y")));
    assert_eq!(lie, Err(Violation("the target stored another content than was sent")));
}

/// Hashing whole files leaves room for what can be sent meanwhile.
#[test]
fn digests_do_not_hold_up_what_is_sent() {
    let mut source = Source::new();
    source.begin_ahead(false);
    (0..10).for_each(|_| source.walked(Walked::Leaf(leaf(5 * CHUNK))));
    source.message(TargetMessage::Credit { allowed: 9 * CHUNK, stored: 0 }).unwrap();
    source.message(TargetMessage::Ask((1..=9).collect())).unwrap();
    let need = Need { index: 10, have: None, ranges: vec![(0, 5)] };
    source.message(TargetMessage::Need(vec![need])).unwrap();
    let jobs = |source: &mut Source| {
        let jobs: Vec<_> = std::iter::from_fn(|| source.poll_output())
            .filter_map(|output| match output {
                Output::Read(job) => Some(matches!(job, Job::Compare { .. })),
                _ => None,
            })
            .collect();
        (jobs.iter().filter(|compares| **compares).count(), jobs.len())
    };
    assert_eq!(jobs(&mut source), (MAX_COMPARES, MAX_JOBS));
    // The room of one that is done is another one's.
    let digest = Digest::of(b"x");
    source.job_done(JobResult::Compared { index: 1, same: false, digest, epoch: 0 });
    assert_eq!(jobs(&mut source), (1, 1));
    let failure = Failure { reason: "gone".into(), changed_to: None };
    source.job_done(JobResult::Failed { index: 2, failure, unsent: 0, epoch: 0 });
    assert_eq!(jobs(&mut source), (1, 1));
}
