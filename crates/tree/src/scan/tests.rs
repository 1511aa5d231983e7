//! Scans of real trees, and what becomes of their changes where they are carried out.

mod rig;

use std::fs;

use files::{Kind, Name};

use super::listing::Children;
use super::*;
use crate::filter::{Filter, Rule};
use crate::scratch::Random;
use crate::settle::unfinished_names;
use crate::watch::{Hint, Watch};
use rig::{Rig, path};

static STOP: AtomicBool = AtomicBool::new(false);

/// Names whose order as bytes is not that of the paths that they are in.
const NAMES: [&[u8]; 9] =
    [b"a", b"a-", b"a.b", b"\x01", b"b", "\u{e9}".as_bytes(), b"ab", b"\xff", b"z"];

/// Changes a tree at random, and says in which folders something may be other than it was, as a watch
/// would. With `links` it also gives files second names, of whose changes a watch does not know.
fn disturb(rig: &mut Rig, random: &mut Random, touched: &mut BTreeSet<RelPath>, links: bool) {
    let folders = rig.paths(|kind| kind == Kind::Directory);
    let all = rig.paths(|_| true);
    let folder = random.pick(&[folders, vec![RelPath::root()]].concat()).clone();
    let new = folder.join(&Name::new(random.pick(&NAMES)).unwrap()).unwrap();
    let old = (!all.is_empty()).then(|| random.pick(&all).clone());
    let mut touch = |path: &RelPath| touched.extend([path.parent().unwrap(), path.clone()]);
    let is_free = !all.contains(&new);
    match (random.below(12), old) {
        (0..=3, _) if is_free => {
            touch(&new);
            rig.write(&new, random.below(3000));
        }
        (4, _) if is_free => {
            touch(&new);
            rig.make_dir(&new);
        }
        (5, _) if is_free => {
            touch(&new);
            rig.symlink(&new, &random.next().to_string());
        }
        (6, Some(old)) if rig.kind(&old) == Some(Kind::File) => {
            touch(&old);
            rig.write(&old, random.below(3000));
        }
        (7, Some(old)) => {
            touch(&old);
            rig.remove(&old);
        }
        (8, Some(old)) if rig.kind(&old) != Some(Kind::Symlink) => {
            touch(&old);
            rig.chmod(&old, 0o700 | random.below(0o100) as u32);
        }
        (9, Some(old)) if links && is_free && rig.kind(&old) == Some(Kind::File) => {
            rig.hard_link(&old, &new);
        }
        (_, Some(old)) if !new.starts_with(&old) && !old.starts_with(&new) => {
            let is_file = rig.kind(&old) == Some(Kind::File);
            // Over a file that is there, or to a free place.
            if is_free || (is_file && rig.kind(&new) == Some(Kind::File)) {
                touch(&old);
                touch(&new);
                // A watch goes with its folder.
                let below = touched.iter().filter(|path| path.starts_with(&old));
                let below: Vec<RelPath> = below.map(|path| rig::moved(path, &old, &new)).collect();
                touched.extend(below);
                rig.rename(&old, &new);
            }
        }
        _ => {}
    }
}

/// Where a scan is told to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Everywhere,
    WhereSomethingWasDone,
    ByAWatch,
}

/// Disturbs a tree, scans it and carries the changes out, many times over.
fn check_random(seed: u64, told: Told) -> usize {
    let mut rig = Rig::new();
    let mut watch = Watch::new(&rig.tree(), &Filter::default(), 1000).unwrap();
    let mut random = Random(seed);
    let mut moved = 0;
    for _ in 0..12 {
        let mut touched = BTreeSet::new();
        for _ in 0..random.below(25) {
            disturb(&mut rig, &mut random, &mut touched, told == Told::Everywhere);
        }
        let extent = match told {
            Told::Everywhere => Extent::All,
            Told::WhereSomethingWasDone => Extent::Folders(touched.into_iter().collect()),
            // All of it is there to be read.
            Told::ByAWatch => match watch.wait(Duration::ZERO).unwrap() {
                Hint::Nothing => Extent::Folders(Vec::new()),
                Hint::Folders(folders) => Extent::Folders(folders),
                Hint::Everything => panic!("seed {seed}: so little happened"),
            },
        };
        // In so little memory everything is sorted on disk.
        let options = ScanOptions { memory: 1 << (8 + 12 * random.below(2)), ..rig::at_once() };
        let scan = rig.scan(&extent, &options);
        moved += rig.carry_out(&scan, 1 + random.below(30));
        assert_eq!(scan.summary().problem_count, 0);
        rig.check(&format!("seed {seed}"));
        let again = rig.scan(&Extent::All, &options);
        assert!(again.changes().unwrap().next().is_none(), "seed {seed}: changes for ever");
        assert!(again.moves(&STOP).unwrap().is_empty(), "seed {seed}: moves for ever");
    }
    moved
}

#[test]
fn what_is_carried_out_makes_the_same_tree() {
    let moved: usize = (0..30).map(|seed| check_random(seed, Told::Everywhere)).sum();
    assert!(moved > 100, "only {moved} moves");
}

#[test]
fn folders_that_were_hinted_at_are_enough() {
    let moved: usize = (100..130).map(|seed| check_random(seed, Told::WhereSomethingWasDone)).sum();
    assert!(moved > 100, "only {moved} moves");
}

#[test]
fn a_watch_says_where_to_look() {
    let moved: usize = (200..230).map(|seed| check_random(seed, Told::ByAWatch)).sum();
    assert!(moved > 100, "only {moved} moves");
}

#[test]
fn moves_cost_no_content() {
    let mut rig = Rig::new();
    for file in ["d/one", "d/sub/two", "d/sub/three", "log", "log.1", "log.2", "alone"] {
        rig.write(&path(file), 100);
    }
    rig.take_over();
    for (from, to) in [
        ("d/sub/two", "d/sub/renamed"),
        ("d", "new/place/d"),
        ("new/place/d/one", "one"),
        ("log.1", "log.2"),
        ("log", "log.1"),
        ("alone", "new/alone"),
    ] {
        rig.rename(&path(from), &path(to));
    }
    // The names are used again.
    rig.write(&path("log"), 70);
    rig.write(&path("d/one"), 70);
    let scan = rig.scan(&Extent::All, &rig::at_once());
    let moves = scan.moves(&STOP).unwrap();
    let lines: BTreeSet<String> =
        moves.iter().map(|moved| format!("{} > {}", moved.from, moved.to)).collect();
    let expected = [
        "alone > new/alone",
        "d > new/place/d",
        "log > log.1",
        "log.1 > log.2",
        "new/place/d/sub/two > new/place/d/sub/renamed",
    ];
    // Where the file went that left the folder depends on which of the two goes first.
    assert!(expected.iter().all(|line| lines.contains(*line)), "{lines:?}");
    assert!(lines.contains("d/one > one") || lines.contains("new/place/d/one > one"), "{lines:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
    rig.carry_out(&scan, 1);
    rig.check("moves");
    assert_eq!(rig.sent, 7 + 2, "only the two new files were to be sent");
}

#[test]
fn gone_folders_are_named_once() {
    let mut rig = Rig::new();
    for file in ["a/b/c/file", "a/b/file", "a-", "keep"] {
        rig.write(&path(file), 10);
    }
    rig.take_over();
    rig.remove(&path("a"));
    let scan = rig.scan(&Extent::All, &rig::at_once());
    assert_eq!((scan.summary().removed, scan.summary().added), (5, 0));
    let changes: Vec<Change> = scan.changes().unwrap().map(Result::unwrap).collect();
    let [Change::Removed { path: gone, was }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((gone, was.stamp.kind), (&path("a"), Kind::Directory));
}

#[test]
fn kinds_change() {
    let mut rig = Rig::new();
    for file in ["folder/file", "folder/sub/file", "file"] {
        rig.write(&path(file), 10);
    }
    rig.symlink(&path("link"), "file");
    rig.take_over();
    for gone in ["folder", "file", "link"] {
        rig.remove(&path(gone));
    }
    rig.write(&path("folder"), 20);
    rig.write(&path("file/in/it"), 20);
    rig.make_dir(&path("link"));
    let scan = rig.scan(&Extent::All, &rig::at_once());
    let line = |change: Change| match change {
        Change::Removed { path, .. } => format!("-{path}"),
        Change::Added(found) => format!("+{}", found.path),
        Change::Changed { entry, .. } => format!("={}", entry.path),
    };
    let lines: Vec<String> = scan.changes().unwrap().map(|change| line(change.unwrap())).collect();
    let expected =
        ["-file", "+file", "+file/in", "+file/in/it", "-folder", "+folder", "-link", "+link"];
    assert_eq!(lines, expected);
    rig.carry_out(&scan, 2);
    rig.check("kinds");
}

#[test]
fn unsettled_files_wait() {
    let mut rig = Rig::new();
    rig.write(&path("old"), 10);
    rig.write(&path("gone"), 10);
    rig.write(&path("folder/moved"), 10);
    rig.take_over();
    let before = rig.snapshot.get(&path("old")).unwrap().unwrap();
    rig.write(&path("old"), 20);
    rig.write(&path("folder/new"), 20);
    rig.remove(&path("gone"));
    rig.rename(&path("folder/moved"), &path("folder/here"));
    let settle = Duration::from_secs(3600);
    let options = ScanOptions { settle, ..rig::at_once() };
    let begun = SystemTime::now();
    let scan = rig.scan(&Extent::All, &options);
    let summary = scan.summary();
    assert_eq!((summary.unsettled.files, summary.added), (3, 0));
    assert_eq!(summary.unsettled.folders, BTreeSet::from([path(""), path("folder")]));
    let (first, last) = summary.unsettled.until.unwrap();
    assert!(first <= last && last <= SystemTime::now() + settle);
    assert!(first >= begun + settle - Duration::from_secs(600));
    // A name that was changed is young, but its file is not another one.
    let moves = scan.moves(&STOP).unwrap();
    assert_eq!(moves.len(), 1);
    assert_eq!((&moves[0].from, &moves[0].to), (&path("folder/moved"), &path("folder/here")));
    assert_eq!(rig.carry_out(&scan, 1), 1);
    let known = |text: &str| rig.snapshot.get(&path(text)).unwrap();
    assert_eq!(known("gone"), None);
    assert_eq!(known("folder/new"), None);
    assert_eq!(known("old").unwrap(), before);
    assert_eq!(known("folder/here").unwrap().note, [1]);
    // Later they are carried, and nothing else is.
    let later = scan_at(&rig, &options, SystemTime::now() + 2 * settle);
    assert_eq!(later.summary().unsettled, Unsettled::default());
    rig.carry_out(&later, 1);
    rig.check("settled");
    assert_eq!(rig.sent, 3 + 2);
    // Files that were carried are not young again when the clock or the option says so.
    let again = scan_at(&rig, &options, SystemTime::now());
    assert_eq!(again.summary().unsettled.files, 0);
}

fn scan_at(rig: &Rig, options: &ScanOptions, now: SystemTime) -> Scan {
    let (tree, work) = (rig.tree(), rig.work());
    scan(&tree, &Extent::All, &rig.snapshot, &work, options, now, &STOP).unwrap()
}

#[test]
fn what_is_left_out_counts_as_gone_and_is_not_listed() {
    let mut rig = Rig::new();
    for file in ["a/file", "a/film.part", "b/file", ".haul/x"] {
        rig.write(&path(file), 10);
    }
    let all = rig.scan(&Extent::All, &rig::at_once());
    rig.carry_out(&all, 9);
    assert_eq!(rig.snapshot.entries().unwrap(), 5);
    let filter = Filter::new([vec![Rule::exclude("/b")], unfinished_names()].concat()).unwrap();
    let walk = WalkOptions { filter, one_file_system: true };
    let options = ScanOptions { walk, ..rig::at_once() };
    // Also where a hint speaks of it.
    let folders = ["b", "b/file", ".haul", "a/nothing/here"].map(path).to_vec();
    let scan = rig.scan(&Extent::Folders(folders), &options);
    assert_eq!((scan.summary().removed, scan.summary().counts.files), (1, 1));
    let scan = rig.scan(&Extent::All, &options);
    assert_eq!((scan.summary().removed, scan.summary().counts.files), (3, 1));
}

#[test]
fn hints_at_what_is_not_there_stand_for_what_is_above() {
    let mut rig = Rig::new();
    for file in ["a/b/c/file", "d/file"] {
        rig.write(&path(file), 10);
    }
    rig.take_over();
    rig.remove(&path("a/b"));
    rig.write(&path("d/file"), 20);
    rig.write(&path("new/deep/file"), 20);
    // The folder that is gone; one in a new one; nothing of the third.
    let folders = ["a/b/c", "new/deep"].map(path).to_vec();
    let scan = rig.scan(&Extent::Folders(folders), &rig::at_once());
    let line = |change: Change| match change {
        Change::Removed { path, .. } => format!("-{path}"),
        Change::Added(found) => format!("+{}", found.path),
        Change::Changed { entry, .. } => format!("={}", entry.path),
    };
    let lines: Vec<String> = scan.changes().unwrap().map(|change| line(change.unwrap())).collect();
    assert_eq!(lines, ["=a", "-a/b", "+new", "+new/deep", "+new/deep/file"]);
    // A hint at a file stands for its folder.
    let scan = rig.scan(&Extent::Folders(vec![path("d/file")]), &rig::at_once());
    let lines: Vec<String> = scan.changes().unwrap().map(|change| line(change.unwrap())).collect();
    assert_eq!(lines, ["=d/file"]);
}

/// What a scan says that knew all, part or nothing of what `folder` holds, and met none of it.
fn gone_where(children: Children) -> Vec<String> {
    let mut rig = Rig::new();
    for file in ["a", "folder/b", "folder/sub/c", "z"] {
        rig.write(&path(file), 10);
    }
    rig.take_over();
    let known = |text: &str| rig.snapshot.get(&path(text)).unwrap().unwrap().stamp;
    let entries = [("a", Children::Unknown), ("folder", children)];
    let entries = entries.map(|(text, children)| (path(text), known(text), children));
    let listing = listing::made_by_hand(&rig.work(), &entries);
    let mut join = Join::new(&listing, &rig.snapshot, Depth::Topmost).unwrap();
    let mut gone = Vec::new();
    while let Some(event) = join.step().unwrap() {
        if let Event::Gone { key, .. } = event {
            gone.push(key::path(key).unwrap().to_string());
        }
    }
    gone
}

#[test]
fn nothing_is_gone_that_was_not_looked_for() {
    assert_eq!(gone_where(Children::Wholly), ["folder/b", "folder/sub", "z"]);
    assert_eq!(gone_where(Children::Partly), ["z"]);
    assert_eq!(gone_where(Children::Unknown), ["z"]);
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let mut rig = Rig::new();
    for file in ["closed/inside", "open/inside"] {
        rig.write(&path(file), 10);
    }
    rig.take_over();
    rig.chmod(&path("closed"), 0);
    if fs::read_dir(rig.at(&path("closed"))).is_ok() {
        println!("skipped: permissions do not bind this user");
        return;
    }
    let scan = rig.scan(&Extent::All, &rig::at_once());
    let summary = scan.summary();
    assert_eq!((summary.removed, summary.changed, summary.incomplete), (0, 1, 1));
    assert_eq!(summary.problems[0].path, path("closed"));
    rig.chmod(&path("closed"), 0o755);
}

#[test]
fn a_scan_can_be_stopped_and_fails_with_its_root() {
    let mut rig = Rig::new();
    rig.write(&path("a"), 10);
    let stop = AtomicBool::new(true);
    let (tree, work, options) = (rig.tree(), rig.work(), rig::at_once());
    let now = SystemTime::now();
    for extent in [Extent::All, Extent::Folders(vec![path("")])] {
        let error = scan(&tree, &extent, &rig.snapshot, &work, &options, now, &stop).err().unwrap();
        assert!(matches!(error, ScanError::Stopped) && error.fault() == Fault::Transient);
    }
    let nothing =
        scan(&tree, &Extent::Folders(Vec::new()), &rig.snapshot, &work, &options, now, &STOP);
    assert!(nothing.unwrap().changes().unwrap().next().is_none());
    rig.remove_tree();
    let error = scan(&tree, &Extent::All, &rig.snapshot, &work, &options, now, &STOP);
    // An unlinked folder can still be listed: there is nothing in it.
    assert_eq!(error.unwrap().summary().counts.files, 0);
}
