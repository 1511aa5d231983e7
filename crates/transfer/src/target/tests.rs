//! What a target machine says to a source that breaks a rule, and what such a source can make it keep.

mod twins;

use files::Timestamp;

use super::*;
use crate::message::{MIN_WINDOW, RefuseCode};

fn entry(index: u64, parent: u64, name: &str, kind: EntryKind) -> Entry {
    Entry {
        index,
        parent,
        name: Name::new(name).unwrap(),
        kind,
        mode: 0o644,
        mtime: Timestamp::default(),
        owner: None,
        xattrs: Vec::new(),
    }
}

fn file(index: u64, name: &str, size: u64) -> Entry {
    entry(index, 0, name, EntryKind::File { size, sparse: false, shared: false })
}

fn target(order: &Order) -> Target {
    let mut target = Target::new(TargetOptions::of(order, None, MIN_WINDOW), 2 << 20);
    target.link_up(0).unwrap();
    target
}

/// Takes everything out; gives the jobs and the needs.
fn drain(target: &mut Target) -> (Vec<Job>, Vec<Need>) {
    let (mut jobs, mut needs) = (Vec::new(), Vec::new());
    while let Some(output) = target.poll_output() {
        match output {
            Output::Do(job) | Output::DoHeld(job) => jobs.push(job),
            Output::Send(TargetMessage::Need(list)) => needs.extend(list),
            Output::Send(_) | Output::Ended { .. } | Output::DropHeld => {}
        }
    }
    (jobs, needs)
}

fn offer(target: &mut Target, entries: Vec<Entry>) -> Result<(), Violation> {
    target.message(SourceMessage::Offer(entries))
}

/// Answers the one examination that is under way.
fn examined(target: &mut Target, found: &Found) {
    let (jobs, _) = drain(target);
    let [Job::Examine(list)] = jobs.as_slice() else { panic!("{jobs:?}") };
    let list = list.iter().map(|placed| (placed.entry.index, found.clone())).collect();
    target.job_done(JobResult::Examined(list));
}

#[test]
fn content_is_asked_for_once_on_each_link() {
    let mut target = target(&Order::default());
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    examined(&mut target, &Found::Nothing);
    assert_eq!(drain(&mut target).1.len(), 1);
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    assert_eq!(drain(&mut target).1.len(), 0);
    target.link_lost();
    target.link_up(0).unwrap();
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    assert_eq!(drain(&mut target).1.len(), 1);
}

/// A disk job may end while there is no link: nothing is asked before the source has offered again.
#[test]
fn nothing_is_asked_between_two_links() {
    let mut target = target(&Order::default());
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    let (jobs, _) = drain(&mut target);
    assert_eq!(jobs.len(), 1);
    target.link_lost();
    target.job_done(JobResult::Examined(vec![(1, Found::Nothing)]));
    target.link_up(0).unwrap();
    assert_eq!(drain(&mut target).1.len(), 0);
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    assert_eq!(drain(&mut target).1.len(), 1);
}

/// What the disk still writes for a link that is gone is no news on the next one.
#[test]
fn bytes_of_an_earlier_link_are_not_counted_on_the_next() {
    let mut target = target(&Order::default());
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    examined(&mut target, &Found::Nothing);
    drain(&mut target);
    let hash = files::ChunkHash::from_bytes([1; 32]);
    let item = crate::message::BundleItem { index: 1, len: 5, hash };
    let taken = target.parcel(&ParcelHead::Bundle(vec![item]), 5).unwrap();
    assert!(matches!(taken, Taken::Do(_)), "it is to be written: {taken:?}");
    target.link_lost();
    target.link_up(0).unwrap();
    let failed = Failed { code: RefuseCode::Disk, text: String::new() };
    target.job_done(JobResult::Small(vec![(1, 5, Err(failed))]));
    assert_eq!((target.received(), target.stored()), (0, 0));
}

/// What comes before its file is decided, or even offered, waits for that and is used at once.
#[test]
fn an_early_parcel_waits_for_its_file() {
    let hash = files::ChunkHash::from_bytes([1; 32]);
    let early = |index| ParcelHead::Early { index, hash };
    let mut target = target(&Order::default());
    drain(&mut target);
    assert_eq!(target.parcel(&early(1), 5), Ok(Taken::Hold));
    assert_eq!(target.poll_output(), None, "nothing was offered yet");
    assert_eq!(target.parcel(&early(2), 5), Err(Violation("a second early parcel")));
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    examined(&mut target, &Found::Nothing);
    let (jobs, _) = drain(&mut target);
    assert!(matches!(jobs.as_slice(), [Job::WriteSmall(files)] if files[0].1 == 5), "{jobs:?}");
}

#[test]
fn an_early_parcel_is_dropped_when_its_file_needs_none() {
    let hash = files::ChunkHash::from_bytes([1; 32]);
    let mut target = target(&Order::default());
    drain(&mut target);
    target.parcel(&ParcelHead::Early { index: 1, hash }, 5).unwrap();
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    examined(&mut target, &Found::Unchanged(Digest::from_bytes([2; 32])));
    let outputs: Vec<_> = std::iter::from_fn(|| target.poll_output()).collect();
    assert!(outputs.contains(&Output::DropHeld), "{outputs:?}");
    assert_eq!(target.stored(), 5, "its credit comes back");
}

/// A source that lies about the length of what it sends early cannot finish that file.
#[test]
fn an_early_parcel_of_a_wrong_length_fails_its_file() {
    let hash = files::ChunkHash::from_bytes([1; 32]);
    for size in [5, 3 << 20] {
        let mut target = target(&Order { whole: true, ..Order::default() });
        drain(&mut target);
        offer(&mut target, vec![file(1, "a", size)]).unwrap();
        examined(&mut target, &Found::Nothing);
        if size > 5 {
            drain(&mut target);
            let result = Ok(Opened { ranges: vec![(0, 3)], older: None });
            target.job_done(JobResult::Opened { index: 1, result });
        }
        target.parcel(&ParcelHead::Early { index: 1, hash }, 7).unwrap();
        drain(&mut target);
        assert_eq!(target.totals().failed, 1, "size {size}");
    }
}

/// A dry run must not take content, also not after a comparison.
#[test]
fn a_dry_run_asks_for_nothing() {
    let order = Order { dry_run: true, checksum: true, ..Order::default() };
    let mut target = target(&order);
    offer(&mut target, vec![file(1, "a", 5), file(2, "b", 5 << 20)]).unwrap();
    examined(&mut target, &Found::Different { same_size: true });
    let digest = Digest::from_bytes([1; 32]);
    for index in 1..=2 {
        let result = Ok(digest);
        target.job_done(JobResult::Hashed { index, result, adopted: false });
    }
    let (jobs, needs) = drain(&mut target);
    assert_eq!(needs.iter().map(|need| need.have).collect::<Vec<_>>(), [Some(digest); 2]);
    assert_eq!(jobs.len(), 2, "two files are hashed: {jobs:?}");
    let hash = files::ChunkHash::from_bytes([1; 32]);
    let item = crate::message::BundleItem { index: 1, len: 5, hash };
    let refused = target.parcel(&ParcelHead::Bundle(vec![item]), 5);
    assert_eq!(refused, Err(Violation("data that was not asked for")));
    for index in 1..=2 {
        let other = Digest::from_bytes([2; 32]);
        target.message(SourceMessage::Sum { index, digest: other }).unwrap();
    }
    assert_eq!(target.totals().planned, 2);
}

/// Paths that are too long for this side cost as much of the window as others.
#[test]
fn endless_folders_too_deep_are_a_breach() {
    let mut target = target(&Order::default());
    let long = "n".repeat(255);
    let breach = (1..10_000).find_map(|index| {
        let parent = u64::min(index - 1, 20);
        let name = if index <= 20 { long.clone() } else { format!("{index}") };
        let result = offer(&mut target, vec![entry(index, parent, &name, EntryKind::Folder)]);
        drain(&mut target);
        result.err()
    });
    assert_eq!(breach, Some(Violation("too many unfinished entries")));
    assert!(target.folders.len() < 2000);
}

/// The names that deletion needs are bounded over all folders, and a folder that exceeds it is kept whole.
#[test]
fn names_kept_for_deletion_are_bounded() {
    let mut target = target(&Order { deletion: Deletion::All, ..Order::default() });
    let long = "n".repeat(200);
    let cap = 32 * MIN_WINDOW as usize;
    for index in 1..60_000u64 {
        let kind = EntryKind::Symlink { target: b"x".to_vec() };
        offer(&mut target, vec![entry(index, 0, &format!("{index}{long}"), kind)]).unwrap();
        examined(&mut target, &Found::Made);
        drain(&mut target);
        target.message(SourceMessage::Seen { outcomes: index }).unwrap();
        assert!(target.names_bytes <= cap);
    }
    assert!(target.folders[&0].names.is_none(), "too many names to call anything an extra");
}

#[test]
fn what_has_ended_is_not_taken_twice() {
    let mut target = target(&Order::default());
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    let failed = Failed { code: RefuseCode::Denied, text: String::new() };
    examined(&mut target, &Found::Failed(failed));
    drain(&mut target);
    let before = *target.totals();
    // All of this may be on the way when the entry ends.
    offer(&mut target, vec![file(1, "a", 5)]).unwrap();
    let digest = Digest::from_bytes([1; 32]);
    target.message(SourceMessage::Sum { index: 1, digest }).unwrap();
    target
        .message(SourceMessage::Withdraw { index: 1, reason: String::new(), last: false })
        .unwrap();
    assert_eq!((*target.totals(), drain(&mut target)), (before, (Vec::new(), Vec::new())));
    let unknown =
        target.message(SourceMessage::Withdraw { index: 2, reason: String::new(), last: false });
    assert_eq!(unknown, Err(Violation("unknown entry withdrawn")));
}

#[test]
fn a_target_says_what_it_waits_for() {
    use crate::bound::Wait;
    let mut target = target(&Order { whole: true, ..Order::default() });
    assert_eq!(target.waits_for(6), Wait::Source);
    offer(&mut target, vec![file(1, "a", 1 << 20)]).unwrap();
    examined(&mut target, &Found::Nothing);
    drain(&mut target);
    assert_eq!(target.waits_for(6), Wait::Source, "it has asked");
    let hash = ChunkHash::from_bytes([1; 32]);
    let item = crate::message::BundleItem { index: 1, len: 1 << 20, hash };
    target.parcel(&ParcelHead::Bundle(vec![item]), 1 << 20).unwrap();
    assert_eq!(target.waits_for(6), Wait::Store, "half of the window waits for the disk");
    let digest = Digest::from_bytes([1; 32]);
    target.job_done(JobResult::Small(vec![(1, 1 << 20, Ok(digest))]));
    assert_eq!(target.unfinished(), 0);
    target.set_ceiling(1 << 20);
    assert_eq!(target.waits_for(6), Wait::Limit);
    target.message(SourceMessage::End { entries: 1, problems: 0 }).unwrap();
    drain(&mut target);
    assert_eq!(target.waits_for(6), Wait::Finishing);
}

/// A target that may store 10 MiB.
fn small_target() -> Target {
    let options = TargetOptions::of(&Order { whole: true, ..Order::default() }, None, MIN_WINDOW);
    let options = TargetOptions { max_bytes: Some(10 << 20), ..options };
    let mut target = Target::new(options, 2 << 20);
    target.link_up(0).unwrap();
    target
}

/// Offers a file, finds nothing there, and says whether its content is asked for; the code, if it failed.
fn wanted(target: &mut Target, index: u64, size: u64) -> Result<(), RefuseCode> {
    offer(target, vec![file(index, &format!("f{index}"), size)]).unwrap();
    let mut examine = None;
    while let Some(output) = target.poll_output() {
        examine = match output {
            Output::Do(job @ Job::Examine(_)) => Some(job),
            _ => examine,
        };
    }
    assert!(examine.is_some(), "it is looked at before anything is decided");
    target.job_done(JobResult::Examined(vec![(index, Found::Nothing)]));
    let mut failed = None;
    while let Some(output) = target.poll_output() {
        match output {
            Output::Ended { outcome: Outcome::Failed { code, .. }, .. } => failed = Some(code),
            Output::Do(Job::Open { .. }) | Output::Send(_) => {}
            other => panic!("{other:?}"),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What would go beyond the bytes that may be stored fails before any of it is asked for, and so before any of it
/// may come: data that was not asked for is a breach.
#[test]
fn more_bytes_than_may_be_stored_are_not_asked_for() {
    let mut target = small_target();
    assert_eq!(wanted(&mut target, 1, 8 << 20), Ok(()));
    assert_eq!(wanted(&mut target, 2, (2 << 20) + 1), Err(RefuseCode::TooMuch));
    assert_eq!(wanted(&mut target, 3, crate::message::MAX_FILE_SIZE), Err(RefuseCode::TooMuch));
    assert_eq!(wanted(&mut target, 4, 1 << 20), Ok(()));
    assert_eq!(wanted(&mut target, 5, 1 << 20), Ok(()));
    assert_eq!(wanted(&mut target, 6, 1), Err(RefuseCode::TooMuch));
    assert_eq!(wanted(&mut target, 7, 0), Ok(()), "what is empty takes nothing");
    let hash = files::ChunkHash::from_bytes([1; 32]);
    let item = crate::message::BundleItem { index: 6, len: 1, hash };
    let sent = target.parcel(&ParcelHead::Bundle(vec![item]), 1);
    assert_eq!(sent, Err(Violation("data of an unknown file")));
}

/// What is taken back gives back what had not come of it, and no more.
#[test]
fn files_that_are_taken_back_give_back_what_never_came() {
    let mut target = small_target();
    let withdraw = |target: &mut Target, index| {
        target
            .message(SourceMessage::Withdraw { index, reason: String::new(), last: false })
            .unwrap();
        drain(target);
    };
    // Not begun: all of it.
    assert_eq!(wanted(&mut target, 1, 1 << 20), Ok(()));
    withdraw(&mut target, 1);
    assert_eq!(target.claimed, 0);
    // Half of its chunks have come.
    assert_eq!(wanted(&mut target, 2, 8 << 20), Ok(()));
    let opened = Opened { ranges: vec![(0, 8)], older: None };
    target.job_done(JobResult::Opened { index: 2, result: Ok(opened) });
    drain(&mut target);
    let hash = files::ChunkHash::from_bytes([1; 32]);
    for chunk in 0..2 {
        let head = ParcelHead::Chunk { index: 2, chunk, hash };
        assert!(matches!(target.parcel(&head, 1 << 20), Ok(Taken::Do(_))));
    }
    withdraw(&mut target, 2);
    assert_eq!(target.claimed, 2 << 20);
    // All of it came, was wrong, and is asked for again.
    assert_eq!(wanted(&mut target, 3, 8 << 20), Ok(()));
    target.job_done(JobResult::Opened {
        index: 3,
        result: Ok(Opened { ranges: vec![], older: None }),
    });
    target.message(SourceMessage::Sum { index: 3, digest: Digest::from_bytes([1; 32]) }).unwrap();
    drain(&mut target);
    target.job_done(JobResult::Published { index: 3, result: Ok(None) });
    drain(&mut target);
    withdraw(&mut target, 3);
    assert_eq!(target.claimed, 10 << 20);
    assert_eq!(wanted(&mut target, 4, 1), Err(RefuseCode::TooMuch));
}
