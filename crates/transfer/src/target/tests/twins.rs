//! What a target makes of files that it has under other names, and how little it does in vain.

use super::*;
use crate::target::Filled;
use crate::twins::{LEAST_TWIN, Stamp};

const SIZE: u64 = 100_000;
const LARGE: u64 = 3 * files::CHUNK;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn stamp(size: u64) -> Stamp {
    Stamp { size, mtime: Timestamp::default() }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// What a target asks its disk and its source for, in the order in which it does.
#[derive(Debug, PartialEq)]
enum Said {
    List(u64),
    Hash(u64, String),
    Fill(u64),
    Open(u64),
    Publish(u64),
    Forget(u64),
    Ask(Vec<u64>),
    Need(u64),
    Other,
}

fn said(target: &mut Target) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some(output) = target.poll_output() {
        match output {
            Output::Do(job) => all.push(match job {
                Job::ListTwins { most } => Said::List(most),
                Job::HashTwin { placed, from } => Said::Hash(placed.entry.index, from.to_string()),
                Job::Fill { placed, .. } => Said::Fill(placed.entry.index),
                Job::Open { placed, .. } => Said::Open(placed.entry.index),
                Job::Publish { placed, .. } => Said::Publish(placed.entry.index),
                Job::ForgetTwin { index } => Said::Forget(index),
                _ => Said::Other,
            }),
            Output::Send(TargetMessage::Ask(list)) => all.push(Said::Ask(list)),
            Output::Send(TargetMessage::Need(list)) => {
                all.extend(list.iter().map(|need| Said::Need(need.index)));
            }
            _ => {}
        }
    }
    all
}

/// A target that was offered these files, has none of them, and has looked at its folder, in which these lie.
fn listed(offered: Vec<Entry>, there: &[(u64, &str)]) -> Target {
    let mut target = target(&Order::default());
    offer(&mut target, offered).unwrap();
    examined(&mut target, &Found::Nothing);
    assert_eq!(said(&mut target), [Said::List(4096)]);
    let found = there.iter().map(|(size, name)| (stamp(*size), path(name))).collect();
    target.job_done(JobResult::TwinsListed { looked: 5, found, is_all: true });
    target
}

fn hashed(target: &mut Target, index: u64, from: &str, digest: Option<Digest>) {
    target.job_done(JobResult::TwinHashed { index, from: path(from), digest });
}

fn filled(target: &mut Target, index: u64, filled: Filled) {
    target.job_done(JobResult::Filled { index, result: Ok(filled) });
}

fn sum(target: &mut Target, index: u64, digest: Digest) -> Result<(), Violation> {
    target.message(SourceMessage::Sum { index, digest })
}

#[test]
fn a_file_that_is_there_under_another_name_is_made_of_it() {
    let mut target = listed(vec![file(1, "a", SIZE)], &[(SIZE, "b/c")]);
    assert_eq!(said(&mut target), [Said::Hash(1, "b/c".into()), Said::Ask(vec![1])]);
    sum(&mut target, 1, digest(1)).unwrap();
    assert_eq!(said(&mut target), []);
    hashed(&mut target, 1, "b/c", Some(digest(1)));
    assert_eq!(said(&mut target), [Said::Fill(1)]);
    filled(&mut target, 1, Filled::Published);
    assert_eq!(said(&mut target), [Said::Forget(1)]);
    assert_eq!(target.totals().copied, 1);
}

#[test]
fn a_large_one_is_staged_and_published_like_what_arrives() {
    let mut target = listed(vec![file(1, "a", LARGE)], &[(LARGE, "b/c")]);
    said(&mut target);
    hashed(&mut target, 1, "b/c", Some(digest(1)));
    assert_eq!(said(&mut target), []);
    sum(&mut target, 1, digest(1)).unwrap();
    assert_eq!(said(&mut target), [Said::Open(1)]);
    let result = Ok(Opened { ranges: vec![(0, 3)], older: None });
    target.job_done(JobResult::Opened { index: 1, result });
    assert_eq!(said(&mut target), [Said::Fill(1)]);
    filled(&mut target, 1, Filled::Partly);
    assert_eq!(said(&mut target), [Said::Fill(1)]);
    filled(&mut target, 1, Filled::Whole);
    assert_eq!(said(&mut target), [Said::Forget(1), Said::Publish(1)]);
    target.job_done(JobResult::Published { index: 1, result: Ok(Some(digest(1))) });
    said(&mut target);
    assert_eq!(target.totals().copied, 1);
}

#[test]
fn what_is_another_file_after_all_is_asked_for() {
    for (size, theirs, ours) in [
        (SIZE, digest(1), Some(digest(2))),
        (SIZE, digest(1), None),
        (LARGE, digest(1), Some(digest(2))),
    ] {
        let mut target = listed(vec![file(1, "a", size)], &[(size, "b")]);
        said(&mut target);
        hashed(&mut target, 1, "b", ours);
        sum(&mut target, 1, theirs).unwrap();
        let next = if size == SIZE { Said::Need(1) } else { Said::Open(1) };
        assert_eq!(said(&mut target), [Said::Forget(1), next]);
    }
    // One that is gone when it is to be copied.
    let mut target = listed(vec![file(1, "a", LARGE)], &[(LARGE, "b")]);
    said(&mut target);
    hashed(&mut target, 1, "b", Some(digest(1)));
    sum(&mut target, 1, digest(1)).unwrap();
    said(&mut target);
    let result = Ok(Opened { ranges: vec![(0, 3)], older: None });
    target.job_done(JobResult::Opened { index: 1, result });
    said(&mut target);
    filled(&mut target, 1, Filled::Lacks(vec![(1, 2)]));
    assert_eq!(said(&mut target), [Said::Forget(1), Said::Need(1)]);
}

#[test]
fn what_is_not_worth_it_is_not_looked_for() {
    let mut target = target(&Order { whole: true, ..Order::default() });
    offer(&mut target, vec![file(1, "a", SIZE)]).unwrap();
    examined(&mut target, &Found::Nothing);
    assert_eq!(said(&mut target), [Said::Need(1)]);
    let mut target = super::target(&Order::default());
    let hard = EntryKind::HardLink { to: 1, size: SIZE };
    offer(&mut target, vec![file(1, "a", LEAST_TWIN - 1), entry(2, 0, "b", hard)]).unwrap();
    examined(&mut target, &Found::Nothing);
    assert_eq!(said(&mut target), [Said::Need(1)]);
    // Nothing of this size and time is there.
    let offered = vec![file(1, "a", SIZE), file(2, "b", SIZE + 2)];
    let mut target = listed(offered, &[(SIZE + 1, "b")]);
    assert_eq!(said(&mut target), [Said::Need(1), Said::Need(2)]);
    // On a fast link.
    let mut target = super::target(&Order::default());
    target.set_fast(true);
    offer(&mut target, vec![file(1, "a", SIZE)]).unwrap();
    examined(&mut target, &Found::Nothing);
    assert_eq!(said(&mut target), [Said::Need(1)]);
}

/// More content pays for more looking, and one file not for a tree without end.
#[test]
fn a_large_tree_is_looked_at_as_far_as_it_is_worth_it() {
    let mut target = target(&Order::default());
    let mut looked = 0;
    for (index, size, most) in
        [(1, SIZE, 4096 + 6), (2, 8 << 20, 512), (3, 1 << 30, 65_536), (4, SIZE, 6)]
    {
        offer(&mut target, vec![file(index, &index.to_string(), size)]).unwrap();
        examined(&mut target, &Found::Nothing);
        let before = looked;
        loop {
            let said = said(&mut target);
            let Some(Said::List(count)) = said.first() else { break };
            assert!((1..=4096).contains(count));
            looked += count;
            let found = Vec::new();
            target.job_done(JobResult::TwinsListed { looked: *count, found, is_all: false });
        }
        assert!((looked - before).abs_diff(most) <= 1, "{} for file {index}", looked - before);
    }
}

#[test]
fn files_that_look_alike_wait_for_the_first_of_them() {
    let offered: Vec<_> = (1..=5).map(|index| file(index, &format!("{index}"), SIZE)).collect();
    let mut target = listed(offered.clone(), &[]);
    assert_eq!(said(&mut target), [Said::Need(1)]);
    let hash = ChunkHash::from_bytes([1; 32]);
    let item = crate::message::BundleItem { index: 1, len: SIZE, hash };
    target.parcel(&ParcelHead::Bundle(vec![item]), SIZE).unwrap();
    target.job_done(JobResult::Small(vec![(1, SIZE, Ok(digest(1)))]));
    // One is weighed for all of them.
    assert_eq!(said(&mut target), [Said::Hash(2, "1".into()), Said::Ask(vec![2])]);
    sum(&mut target, 2, digest(1)).unwrap();
    hashed(&mut target, 2, "1", Some(digest(1)));
    let hash = |index| Said::Hash(index, "1".into());
    let expected = [Said::Fill(2), hash(3), hash(4), hash(5), Said::Ask(vec![3, 4, 5])];
    assert_eq!(said(&mut target), expected);

    // They are not alike: nobody else is weighed.
    let mut target = listed(offered, &[(SIZE, "x")]);
    assert_eq!(said(&mut target), [Said::Hash(1, "x".into()), Said::Ask(vec![1])]);
    sum(&mut target, 1, digest(1)).unwrap();
    hashed(&mut target, 1, "x", Some(digest(2)));
    let said = said(&mut target);
    assert_eq!(said[0], Said::Forget(1));
    assert_eq!(said[1..], [1, 2, 3, 4, 5].map(Said::Need));
}

/// The first one is taken back, or fails: the next takes its place.
#[test]
fn nobody_waits_for_what_has_ended() {
    let offered: Vec<_> = (1..=3).map(|index| file(index, &format!("{index}"), SIZE)).collect();
    let withdraw = |index| SourceMessage::Withdraw {
        index,
        reason: "it changed while it was read".into(),
        last: false,
    };
    let mut target = listed(offered.clone(), &[]);
    assert_eq!(said(&mut target), [Said::Need(1)]);
    target.message(withdraw(1)).unwrap();
    assert_eq!(said(&mut target), [Said::Need(2)]);
    target.message(withdraw(3)).unwrap();
    target.message(withdraw(2)).unwrap();
    assert_eq!(said(&mut target), []);
    assert_eq!(target.unfinished(), 0);
    // While it is weighed.
    let mut target = listed(offered, &[(SIZE, "x")]);
    said(&mut target);
    target.message(withdraw(1)).unwrap();
    assert_eq!(said(&mut target), []);
    hashed(&mut target, 1, "x", Some(digest(1)));
    let expected = [Said::Forget(1), Said::Hash(2, "x".into()), Said::Ask(vec![2])];
    assert_eq!(said(&mut target), expected);
}

/// Trees in which sizes and times tell nothing cost a few readings and no more.
#[test]
fn when_nothing_is_alike_nothing_is_looked_for_any_more() {
    let count = 200;
    let names: Vec<String> = (1..=count).map(|index| index.to_string()).collect();
    let offered: Vec<_> =
        (1..=count).map(|index| file(index, &names[index as usize - 1], SIZE + index)).collect();
    let there: Vec<_> =
        (1..=count).map(|index| (SIZE + index, names[index as usize - 1].as_str())).collect();
    // As if they lay elsewhere.
    let elsewhere: Vec<_> =
        there.iter().map(|(size, name)| (*size, format!("old/{name}"))).collect();
    let elsewhere: Vec<_> = elsewhere.iter().map(|(size, name)| (*size, name.as_str())).collect();
    for (is_right, most) in [(true, 64), (false, 8)] {
        let mut target = listed(offered.clone(), &elsewhere);
        let (mut tried, mut needed, mut under_way) = (0, 0, 0);
        let mut hashing = std::collections::VecDeque::new();
        loop {
            for said in said(&mut target) {
                match said {
                    Said::Hash(index, from) => {
                        (tried, under_way) = (tried + 1, under_way + 1);
                        hashing.push_back((index, from));
                    }
                    Said::Fill(index) => filled(&mut target, index, Filled::Published),
                    Said::Forget(_) => under_way -= 1,
                    Said::Need(_) => needed += 1,
                    _ => {}
                }
                assert!(under_way <= most, "{under_way} at a time");
            }
            let Some((index, from)) = hashing.pop_front() else { break };
            sum(&mut target, index, digest(1)).unwrap();
            hashed(&mut target, index, &from, Some(digest(if is_right { 1 } else { 2 })));
        }
        let expected = if is_right { (count, 0) } else { (24, count) };
        assert_eq!((tried, needed), expected);
    }
}

#[test]
fn a_digest_is_asked_for_once_on_each_link_and_taken_once() {
    let offered = vec![file(1, "a", SIZE)];
    let mut target = listed(offered.clone(), &[(SIZE, "b")]);
    said(&mut target);
    offer(&mut target, offered.clone()).unwrap();
    assert_eq!(said(&mut target), []);
    let same = target.message(SourceMessage::Same { index: 1 });
    assert_eq!(same, Err(Violation("same without a comparison")));
    target.link_lost();
    target.link_up(0).unwrap();
    offer(&mut target, offered.clone()).unwrap();
    assert_eq!(said(&mut target), [Said::Ask(vec![1])]);
    sum(&mut target, 1, digest(1)).unwrap();
    let again = sum(&mut target, 1, digest(1));
    assert_eq!(again, Err(Violation("sum of a file that is not being received")));
    // It is known by now, and need not be said again.
    target.link_lost();
    target.link_up(0).unwrap();
    offer(&mut target, offered).unwrap();
    assert_eq!(said(&mut target), []);
    hashed(&mut target, 1, "b", Some(digest(1)));
    assert_eq!(said(&mut target), [Said::Fill(1)]);
}
