//! Trees measured and compared.

use std::fs;

use super::*;
use crate::filter::{Filter, Rule};
use crate::scratch::Scratch;

/// A tree with one of everything.
fn sample() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("dir/big", vec![7; 300_000]).write("dir/small", "small").make_dir("empty");
    scratch.symlink("link", "dir/small").write(b"\xff", "");
    scratch.chmod("dir", 0o755).chmod("empty", 0o755);
    settle(&scratch);
    scratch
}

/// The same tree, made in another order.
fn twin() -> Scratch {
    let scratch = Scratch::new();
    scratch.write(b"\xff", "").symlink("link", "dir/small").make_dir("empty");
    scratch.write("dir/small", "small").write("dir/big", vec![7; 300_000]);
    scratch.chmod("dir", 0o755).chmod("empty", 0o755);
    settle(&scratch);
    scratch
}

/// Gives folders and links one time again, which they lose to whatever is done in or to them.
fn settle(scratch: &Scratch) {
    for path in ["dir", "empty", "link"] {
        if fs::symlink_metadata(scratch.at(path)).is_ok_and(|found| !found.is_file()) {
            scratch.touch(path, 1_700_000_000);
        }
    }
}

fn measured(scratch: &Scratch) -> Measured {
    tree_digest_of(&scratch.dir(), &MeasureOptions::default()).unwrap()
}

fn differences(a: &Scratch, b: &Scratch) -> Vec<String> {
    let comparison = compare(&a.dir(), &b.dir(), &CompareOptions::default()).unwrap();
    assert!(!comparison.cut_short);
    let mut lines: Vec<_> = comparison.differences.iter().map(Difference::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn the_same_tree_has_the_same_digest() {
    let (a, b) = (measured(&sample()), measured(&twin()));
    assert_eq!(a.digest.finish(), b.digest.finish());
    assert_eq!(a.problem_count, 0);
    let counts = TreeCounts { files: 3, bytes: 300_005, directories: 2, symlinks: 1, others: 0 };
    assert_eq!(a.counts, counts);
    assert_eq!(a.digest.finish().records, 6);
}

#[test]
fn the_digest_is_that_of_the_records() {
    let scratch = Scratch::new();
    scratch.write("a", "content");
    let mut expected = TreeDigest::new();
    expected.add(&Record {
        path: &RelPath::parse(b"a").unwrap(),
        body: Body::File { size: 7, content: files::Digest::of(b"content") },
        mode: Some(0o644),
        mtime: Some(files::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
    });
    assert_eq!(measured(&scratch).digest.finish(), expected.finish());
    let bare = MeasureOptions { modes: false, mtimes: false, ..MeasureOptions::default() };
    let bare = tree_digest_of(&scratch.dir(), &bare).unwrap().digest.finish();
    assert_eq!(bare.content, expected.finish().content);
    assert_ne!(bare.attributes, expected.finish().attributes);
}

#[test]
fn special_files_are_counted_and_filters_obeyed() {
    let scratch = Scratch::new();
    scratch.write("a", "a").fifo("fifo");
    let only_a = measured(&scratch);
    assert_eq!((only_a.counts.others, only_a.digest.finish().records), (1, 1));
    scratch.write("b", "b");
    let filter = Filter::new(vec![Rule::exclude("b")]).unwrap();
    let walk = WalkOptions { filter, ..WalkOptions::default() };
    let options = MeasureOptions { walk, ..MeasureOptions::default() };
    let filtered = tree_digest_of(&scratch.dir(), &options).unwrap();
    assert_eq!(filtered.digest.finish(), only_a.digest.finish());
}

/// Changes the twin in one way; the comparison must say so in these lines, and the digest of the
/// content must see it or not.
#[track_caller]
fn check(content: bool, lines: &[&str], change: impl FnOnce(&Scratch)) {
    let (a, b) = (sample(), twin());
    change(&b);
    settle(&b);
    assert_eq!(differences(&a, &b), lines);
    let (a, b) = (measured(&a).digest.finish(), measured(&b).digest.finish());
    assert_eq!(a.content != b.content, content);
    assert_eq!(a.attributes != b.attributes, !lines.is_empty());
}

#[test]
fn every_difference_is_found() {
    check(false, &[], |_| {});
    // The first byte of a block.
    check(true, &["dir/big: the contents differ from byte 131072 on"], |b| {
        let mut bytes = vec![7; 300_000];
        bytes[131_072] = 8;
        b.write("dir/big", bytes);
    });
    check(true, &["dir/small: 5 bytes here and 6 there"], |b| {
        b.write("dir/small", "small!");
    });
    check(false, &["dir/small: mode 0644 here and 0600 there"], |b| {
        b.chmod("dir/small", 0o600);
    });
    check(false, &["empty: mode 0755 here and 0700 there"], |b| {
        b.chmod("empty", 0o700);
    });
    let times = "\\xff: modified at 1700000000.000000000 here and 5.000000000 there";
    check(false, &[times], |b| {
        b.touch(b"\xff", 5);
    });
    check(true, &["link: points to 'dir/small' here and to 'dir/big' there"], |b| {
        fs::remove_file(b.at("link")).unwrap();
        b.symlink("link", "dir/big");
    });
    check(true, &["dir: missing in the second tree"], |b| {
        fs::remove_dir_all(b.at("dir")).unwrap();
    });
    check(true, &["more: missing in the first tree"], |b| {
        b.write("more/a", "").write("more/b", "");
    });
    check(true, &["dir: a directory here and a symbolic link there"], |b| {
        fs::rename(b.at("dir"), b.at("empty/.haul")).unwrap();
        b.symlink("dir", "empty/.haul");
    });
    check(true, &["empty: a directory here and a regular file there"], |b| {
        fs::remove_dir(b.at("empty")).unwrap();
        b.write("empty", "");
    });
}

#[test]
fn times_of_folders_and_links_are_compared_too() {
    let (a, b) = (sample(), twin());
    assert_eq!(differences(&a, &b), Vec::<String>::new());
    b.touch("empty", 6).touch("link", 7);
    let lines = [
        "empty: modified at 1700000000.000000000 here and 6.000000000 there",
        "link: modified at 1700000000.000000000 here and 7.000000000 there",
    ];
    assert_eq!(differences(&a, &b), lines);
}

#[test]
fn options_leave_attributes_out() {
    let (a, b) = (sample(), twin());
    b.chmod("dir/small", 0o600).touch("dir/big", 5);
    let options = CompareOptions { modes: false, mtimes: false, ..CompareOptions::default() };
    let comparison = compare(&a.dir(), &b.dir(), &options).unwrap();
    assert!(comparison.is_same(), "{comparison:?}");
    assert_eq!((comparison.entries, comparison.bytes), (6, 300_005));
}

#[test]
fn differences_are_capped() {
    let (a, b) = (Scratch::new(), Scratch::new());
    for i in 0..20 {
        a.write(format!("{i}"), "");
    }
    for (most, cut_short) in [(0, true), (7, true), (20, false)] {
        let options = CompareOptions { most, ..CompareOptions::default() };
        for (a, b) in [(&a, &b), (&b, &a)] {
            let comparison = compare(&a.dir(), &b.dir(), &options).unwrap();
            assert_eq!(comparison.differences.len(), most);
            assert_eq!(comparison.cut_short, cut_short);
            assert!(!comparison.is_same());
        }
    }
}

#[test]
fn names_are_escaped_in_print() {
    let (a, b) = (Scratch::new(), Scratch::new());
    a.write(b"\x1b[31m", "");
    assert_eq!(differences(&a, &b), ["\\x1b[31m: missing in the second tree"]);
}

#[test]
fn a_tree_is_measured_under_the_name_it_was_sent_by() {
    let outer = Scratch::new();
    outer.write("old/dir/file", "content").symlink("old/link", "dir").write("lone", "x");
    let options = MeasureOptions::default();
    let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
    let entry = |name: &str| WalkRoot::Entry(files::Name::new(name).unwrap());
    let digest = |dir: &Dir, start: WalkRoot, place: &str| {
        let found = tree_digest_as(dir, start, &path(place), &options).unwrap();
        assert_eq!(found.problem_count, 0);
        found.digest.finish()
    };
    let dir = outer.dir();
    let inner = dir.open_dir(&path("old"), Follow::Never).unwrap();
    let whole = || WalkRoot::Inside(RelPath::root());

    // The folder itself, seen from above, from inside, and by a path.
    let by_name = digest(&dir, entry("old"), "old");
    assert_eq!(by_name.records, 4);
    assert_eq!(digest(&inner, whole(), "old"), by_name);
    assert_eq!(digest(&dir, WalkRoot::Inside(path("old")), "old"), by_name);
    assert_ne!(digest(&inner, whole(), "new"), by_name);
    // What is in it has no record for the folder.
    assert_eq!(digest(&inner, whole(), "").records, 3);
    assert_eq!(
        digest(&inner, whole(), ""),
        tree_digest_of(&inner, &options).unwrap().digest.finish()
    );
    // A file under another name, and parts that make the whole.
    let mut parts = tree_digest_as(&dir, entry("old"), &path("old"), &options).unwrap();
    parts.merge(tree_digest_as(&dir, entry("lone"), &path("lone"), &options).unwrap());
    assert_eq!(parts.digest.finish(), tree_digest_of(&dir, &options).unwrap().digest.finish());
    assert_eq!(parts.counts, tree_digest_of(&dir, &options).unwrap().counts);
    assert_ne!(digest(&dir, entry("lone"), "other"), digest(&dir, entry("lone"), "lone"));
}
