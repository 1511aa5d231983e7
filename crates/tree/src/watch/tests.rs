//! Watches over real folders. Nothing here depends on how fast the kernel tells.

use std::fs;

use super::*;
use crate::filter::Rule;
use crate::scratch::Scratch;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn watch(scratch: &Scratch, rules: Vec<Rule>, most_folders: usize) -> Watch {
    Watch::new(&scratch.dir(), &Filter::new(rules).unwrap(), most_folders).unwrap()
}

/// Waits until these folders have been hinted at, in one hint or in several, and returns all that were.
fn hinted(watch: &mut Watch, expected: &[&str]) -> BTreeSet<RelPath> {
    let (mut found, begun) = (BTreeSet::new(), Instant::now());
    while !expected.iter().all(|text| found.contains(&path(text))) {
        assert!(begun.elapsed() < Duration::from_secs(60), "only {found:?} of {expected:?}");
        match watch.wait(Duration::from_secs(10)).unwrap() {
            Hint::Folders(folders) => found.extend(folders),
            Hint::Nothing => {}
            Hint::Everything => panic!("everything, after {found:?}"),
        }
    }
    found
}

/// Waits until everything may have changed.
fn everything(watch: &mut Watch) {
    let begun = Instant::now();
    while watch.wait(Duration::from_secs(10)).unwrap() != Hint::Everything {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

/// Exactly these folders.
fn check(watch: &mut Watch, expected: &[&str]) {
    let found = hinted(watch, expected);
    assert_eq!(found, expected.iter().map(|text| path(text)).collect());
}

#[test]
fn each_change_hints_at_its_folder() {
    let scratch = Scratch::new();
    scratch.write("a/b/file", "x").write("a/other", "x").make_dir("c");
    let mut watch = watch(&scratch, Vec::new(), 100);
    assert!(watch.is_whole());
    assert_eq!(watch.folders(), 4);
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), Hint::Nothing);
    fs::write(scratch.at("a/b/file"), "changed").unwrap();
    check(&mut watch, &["a/b"]);
    fs::write(scratch.at("c/new"), "").unwrap();
    check(&mut watch, &["c"]);
    fs::remove_file(scratch.at("a/other")).unwrap();
    check(&mut watch, &["a"]);
    fs::rename(scratch.at("c/new"), scratch.at("a/b/new")).unwrap();
    check(&mut watch, &["a/b", "c"]);
    scratch.chmod("a/b/new", 0o600);
    check(&mut watch, &["a/b"]);
    // The folder's own attributes, which both it and the one above are told of.
    scratch.chmod("c", 0o700);
    check(&mut watch, &["", "c"]);
    // A file that is kept open.
    let file = fs::OpenOptions::new().append(true).open(scratch.at("a/b/file")).unwrap();
    std::io::Write::write_all(&mut &file, b"more").unwrap();
    check(&mut watch, &["a/b"]);
}

#[test]
fn new_folders_are_watched_with_what_is_in_them() {
    let scratch = Scratch::new();
    let mut watch = watch(&scratch, Vec::new(), 100);
    scratch.make_dir("a/b/c");
    hinted(&mut watch, &["", "a", "a/b", "a/b/c"]);
    assert_eq!(watch.folders(), 4);
    fs::write(scratch.at("a/b/c/file"), "").unwrap();
    hinted(&mut watch, &["a/b/c"]);
    fs::remove_dir_all(scratch.at("a/b")).unwrap();
    hinted(&mut watch, &["a"]);
    assert_eq!(watch.folders(), 2);
}

#[test]
fn folders_that_move_are_followed() {
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    scratch.make_dir("a/b/c").make_dir("d");
    elsewhere.make_dir("in/below");
    let mut watch = watch(&scratch, Vec::new(), 100);
    fs::rename(scratch.at("a/b"), scratch.at("d/e")).unwrap();
    hinted(&mut watch, &["a", "d"]);
    fs::write(scratch.at("d/e/c/file"), "").unwrap();
    check(&mut watch, &["d/e/c"]);
    assert_eq!(watch.folders(), 5);
    // Out of the tree, and another one of its name made in the same moment.
    fs::rename(scratch.at("d/e"), elsewhere.at("e")).unwrap();
    fs::create_dir(scratch.at("d/e")).unwrap();
    hinted(&mut watch, &["d"]);
    assert_eq!(watch.folders(), 4);
    fs::write(elsewhere.at("e/c/file2"), "").unwrap();
    fs::write(scratch.at("d/e/file"), "").unwrap();
    check(&mut watch, &["d/e"]);
    // Into the tree.
    fs::rename(elsewhere.at("in"), scratch.at("in")).unwrap();
    hinted(&mut watch, &[""]);
    fs::write(scratch.at("in/below/file"), "").unwrap();
    check(&mut watch, &["in/below"]);
}

#[test]
fn what_is_left_out_gives_no_hint() {
    let scratch = Scratch::new();
    scratch.make_dir("a").make_dir("cache/deep").make_dir(".haul/partial");
    let rules = vec![Rule::exclude("*.part"), Rule::exclude("/cache")];
    let mut watch = watch(&scratch, rules, 100);
    assert_eq!(watch.folders(), 2);
    for left_out in ["a/x.part", "cache/deep/x", ".haul/x", "a/.haul-tmp-1"] {
        fs::write(scratch.at(left_out), "").unwrap();
    }
    // A folder that moves to where nothing is watched is gone.
    scratch.make_dir("a/moves");
    hinted(&mut watch, &["a"]);
    assert_eq!(watch.folders(), 3);
    fs::rename(scratch.at("a/moves"), scratch.at("cache/moves")).unwrap();
    check(&mut watch, &["a"]);
    assert_eq!(watch.folders(), 2);
    fs::write(scratch.at("cache/moves/file"), "").unwrap();
    fs::rename(scratch.at("a/x.part"), scratch.at("a/x")).unwrap();
    check(&mut watch, &["a"]);
}

#[test]
fn no_more_folders_than_allowed() {
    let scratch = Scratch::new();
    for number in 0..20 {
        scratch.make_dir(format!("folder-{number}"));
    }
    let mut watch = watch(&scratch, Vec::new(), 10);
    assert!(!watch.is_whole());
    assert_eq!(watch.folders(), 10);
    // What is in the root is still told of.
    fs::write(scratch.at("file"), "").unwrap();
    check(&mut watch, &[""]);
}

#[test]
fn where_too_much_happens_everything_may_have_changed() {
    let scratch = Scratch::new();
    let elsewhere = Scratch::new();
    for number in 0..=MOST_MOVED_OUT {
        scratch.make_dir(format!("folder-{number}"));
    }
    let mut watch = watch(&scratch, Vec::new(), 1000);
    for number in 0..=MOST_MOVED_OUT {
        let folder = format!("folder-{number}");
        fs::rename(scratch.at(&folder), elsewhere.at(&folder)).unwrap();
    }
    scratch.make_dir("new");
    everything(&mut watch);
    // The watches are those of what is there now.
    assert_eq!(watch.folders(), 2);
    fs::write(scratch.at("new/file"), "").unwrap();
    check(&mut watch, &["new"]);
}

#[test]
fn lost_events_mean_everything() {
    let scratch = Scratch::new();
    scratch.make_dir("a");
    let mut watch = watch(&scratch, Vec::new(), 100);
    // The kernel keeps a number of events; one that is like the one before it does not count.
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    if most > 100_000 {
        println!("skipped: the kernel keeps {most} events");
        return;
    }
    let (one, other) = (scratch.at("a/one"), scratch.at("a/other"));
    for _ in 0..=most / 2 {
        fs::write(&one, "").unwrap();
        fs::rename(&one, &other).unwrap();
    }
    scratch.make_dir("new");
    everything(&mut watch);
    assert_eq!(watch.folders(), 3);
    fs::write(scratch.at("new/file"), "").unwrap();
    check(&mut watch, &["new"]);
}
