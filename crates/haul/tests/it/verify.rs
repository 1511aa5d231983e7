//! `haul cp --verify`: what was copied is read again at both ends, and what is not the same is named.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::daemon::{Ended, Running};
use testkit::tree::{Growth, assert_same, entries, set_mode, set_time, write};

use crate::pair::{Pair, copy_words, data, number};

/// `haul cp --json --verify` with these words.
fn copy(pair: &Pair, options: &[&str], from: &OsString, to: &OsString) -> Ended {
    let mut words: Vec<OsString> = vec!["--json".into(), "--verify".into()];
    words.extend(options.iter().map(Into::into));
    words.extend([from.clone(), to.clone()]);
    pair.copy(&words)
}

/// What was named as different, with why, and the line at the end.
#[track_caller]
fn told(ended: &Ended) -> (Vec<String>, Value) {
    let text = ended.text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut named = Vec::new();
    let mut last = Value::Null;
    for line in lines {
        if line["event"] == "differs" {
            named.push(format!(
                "{} {}",
                line["path"].as_str().unwrap(),
                line["why"].as_str().unwrap()
            ));
        }
        last = line;
    }
    assert_eq!(last["event"], "finished", "{}", ended.told());
    assert_eq!(last["differing"], named.len(), "{}", ended.told());
    named.sort();
    (named, last)
}

/// A copy that is found to be good, and lands where it should.
#[track_caller]
fn check_good(pair: &Pair, options: &[&str], from: OsString, to: OsString, landed: (&Path, &Path)) {
    let ended = copy(pair, options, &from, &to).expect_code(0);
    let (named, line) = told(&ended);
    assert_eq!((named.len(), &line["verified"]), (0, &Value::Bool(true)), "{}", ended.told());
    assert!(line["receipt"].is_string(), "the receipt is that of the copy: {line}");
    check_same(landed.0, landed.1);
}

#[track_caller]
fn check_same(first: &Path, second: &Path) {
    if first.is_dir() {
        return assert_same(first, second);
    }
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{second:?}");
}

/// A tree with all that can be in one.
fn grow(root: &Path) {
    Growth { large: vec![(3 << 20) + 5], ..Growth::small(31, 40) }.grow(root);
    write(&root.join("first"), b"two names");
    fs::hard_link(root.join("first"), root.join("second")).unwrap();
    symlink("first", root.join("link")).unwrap();
    write(&root.join("empty"), b"");
}

/// Changes a byte and nothing that shows without reading.
fn alter(path: &Path, at: u64) {
    use std::os::unix::fs::MetadataExt;
    let before = fs::metadata(path).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    drop(file);
    set_time(path, before.mtime(), before.mtime_nsec() as u32);
    assert_eq!(fs::metadata(path).unwrap().len(), before.len());
}

#[test]
fn a_good_copy_is_verified_wherever_it_lands() {
    let pair = Pair::new("verify-good");
    let tree = pair.local("tree");
    grow(&tree);
    let word = |path: &Path| path.as_os_str().to_owned();
    fs::create_dir(pair.served("into")).unwrap();
    let contents = word(&tree.join("."));
    // Pushed: under a new name, which is a folder by the time it is read again; into a folder; what is in it.
    for (from, to, landed) in [
        (word(&tree), "data/new", "new"),
        (word(&tree), "data/into", "into/tree"),
        (word(&tree), "data/into/", "into/tree"),
        (contents.clone(), "data/contents", "contents"),
        (word(&tree.join("first")), "data/file", "file"),
    ] {
        let source = if landed == "file" { tree.join("first") } else { tree.clone() };
        for _ in 0..2 {
            if landed == "new" {
                let _ = fs::remove_dir_all(pair.served("new"));
            }
            check_good(&pair, &[], from.clone(), pair.at(to), (&source, &pair.served(landed)));
        }
    }
    assert!(!pair.served("new/tree").exists(), "it was read where it had landed");
    // Pulled and within this machine.
    let far = pair.served("new");
    check_good(&pair, &[], pair.at("data/new"), word(&pair.local("a")), (&far, &pair.local("a")));
    let into = pair.local("down");
    fs::create_dir(&into).unwrap();
    check_good(&pair, &[], pair.at("data/new"), word(&into), (&far, &into.join("new")));
    let here = pair.local("here");
    check_good(&pair, &[], word(&tree), word(&here), (&tree, &here));
    check_good(
        &pair,
        &["--link", "tcp", "--fsync"],
        contents,
        pair.at("data/tcp"),
        (&tree, &pair.served("tcp")),
    );
    let all = entries(&pair.served("")).into_iter();
    let left: Vec<_> = all.filter(|(path, _)| path.ends_with(".haul")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_only_reading_shows_is_found_at_either_end() {
    for end in ["target", "source"] {
        let pair = Pair::new(&format!("verify-{end}"));
        let (near, far) = (pair.local("tree"), pair.served("tree"));
        grow(&near);
        let from = near.join(".").into_os_string();
        copy(&pair, &[], &from, &pair.at("data/tree")).expect_code(0);
        let altered = if end == "target" { &far } else { &near };
        alter(&altered.join("large-0"), 2 << 20);
        // Both names of it.
        alter(&altered.join("first"), 3);
        let expected = ["first content", "large-0 content", "second content"];
        let before = fs::read(far.join("large-0")).unwrap();
        // By size and time nothing has changed, and so nothing is copied.
        for (from, to) in [
            (from.clone(), pair.at("data/tree")),
            (pair.at("data/tree/."), near.clone().into_os_string()),
            (from.clone(), far.clone().into_os_string()),
        ] {
            let ended = copy(&pair, &[], &from, &to).expect_code(1);
            let (named, line) = told(&ended);
            assert_eq!(named, expected, "{end} {from:?} {to:?}: {}", ended.told());
            assert_eq!(
                (&line["verified"], number(&line, "files")),
                (&Value::Bool(false), 0),
                "{line}"
            );
            assert!(line["receipt"].is_string(), "{line}");
        }
        assert_eq!(fs::read(far.join("large-0")).unwrap(), before, "reading mends nothing");
        let words = ["--verify".into(), from.clone(), pair.at("data/tree")];
        let said = ["differs: large-0: its content differs", "NOT verified: 3 entries differ"];
        pair.copy(&words).expect_code(1).expect_says(&said);
        // What is compared in the copy is mended by it, and then it is the same.
        let ended = copy(&pair, &["--checksum"], &from, &pair.at("data/tree")).expect_code(0);
        assert_eq!(told(&ended).1["verified"], true, "{}", ended.told());
        let words = ["-v".into(), "--verify".into(), from, pair.at("data/tree")];
        pair.copy(&words).expect_code(0).expect_says(&["verified: read ", "all is the same"]);
    }
}

#[test]
fn what_the_copy_leaves_alone_is_named_and_what_it_does_not_cover_is_not() {
    let pair = Pair::new("verify-covers");
    let (near, far) = (pair.local("tree"), pair.served("tree"));
    for folder in [&near, &far] {
        fs::create_dir(folder).unwrap();
        for file in ["same", "size", "content", "time", "mode"] {
            write(&folder.join(file), file.as_bytes());
            set_mode(&folder.join(file), 0o644);
            set_time(&folder.join(file), 1_700_000_000, 0);
        }
    }
    write(&far.join("size"), b"another size");
    write(&far.join("content"), b"CONTENT");
    set_time(&far.join("content"), 1_700_000_000, 0);
    // These are no part of what is compared.
    set_time(&far.join("time"), 1_600_000_000, 0);
    set_mode(&far.join("mode"), 0o600);
    write(&far.join("extra"), b"only there");
    write(&near.join("left.out"), b"only here");
    let options = ["--existing", "skip", "--exclude", "*.out"];
    let ended = copy(&pair, &options, &near.join(".").into_os_string(), &pair.at("data/tree"));
    let (named, line) = told(&ended.expect_code(1));
    assert_eq!(named, ["content content", "size size"], "{line}");
    // What is removed is removed by the copy alone.
    let options = ["--checksum", "--delete-extra", "--exclude", "*.out"];
    let ended = copy(&pair, &options, &near.join(".").into_os_string(), &pair.at("data/tree"));
    let (named, line) = told(&ended.expect_code(0));
    assert_eq!((named.len(), &line["verified"]), (0, &Value::Bool(true)), "{line}");
    assert!(!far.join("extra").exists() && !far.join("left.out").exists());
}

#[test]
fn pipes_and_single_files_are_verified_too() {
    let pair = Pair::new("verify-pipes");
    write(&pair.local("piped"), &testkit::tree::Random::new(32).bytes(2 << 20));
    let input = fs::File::open(pair.local("piped")).unwrap();
    let words = ["cp".into(), "--verify".into(), "-".into(), pair.at("data/piped")];
    let mut command = pair.near.command(words);
    command.stdin(input);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("verified: read 1 file again"), "{said}");
    check_same(&pair.local("piped"), &pair.served("piped"));
    let ended = pair.copy(&["--verify".into(), pair.at("data/piped"), "-".into()]).expect_code(0);
    assert_eq!(ended.output, fs::read(pair.served("piped")).unwrap());
}

/// A daemon that was restarted finds the folder that the copy has begun, and must not put another one into it; nor
/// must the second reading look there.
#[test]
fn a_copy_that_begins_anew_lands_where_it_began() {
    let pair = Pair::new("verify-anew");
    let tree = pair.local("tree");
    Growth { large: vec![6 << 20], ..Growth::small(33, 20) }.grow(&tree);
    let words = ["--json", "--verify", "--limit", "2MB"]
        .map(OsString::from)
        .into_iter()
        .chain([tree.clone().into_os_string(), pair.at("data/new")]);
    let words: Vec<OsString> = words.collect();
    let mut running = Running::start(pair.near.command(copy_words(&words)));
    while !pair.served("new").exists() {
        assert!(running.is_running(), "{}", running.wait().told());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The answer to the request was on its way before the folder was made, and needs no longer than this.
    std::thread::sleep(Duration::from_millis(500));
    let (address, exports) = (pair.daemon.address(), [data(&pair.scratch.join("served"))]);
    pair.daemon.kill();
    let _again = pair.far.serve_at(address, &exports);
    let ended = running.wait().expect_code(0);
    let (named, line) = told(&ended);
    assert!(ended.text().contains("does not know the transfer any more"), "{}", ended.told());
    assert_eq!((named.len(), &line["verified"]), (0, &Value::Bool(true)), "{line}");
    assert_same(&tree, &pair.scratch.join("served/new"));
}

#[test]
fn it_goes_with_no_dry_run() {
    let pair = Pair::new("verify-usage");
    write(&pair.local("file"), b"x");
    let words = ["--verify".into(), "-n".into(), pair.local("file").into(), pair.at("data")];
    pair.copy(&words).expect_code(2).expect_says(&["--verify", "--dry-run"]);
    let words = ["--verify".into(), pair.at("data/file"), "other.invalid:x".into()];
    pair.copy(&words).expect_code(2).expect_says(&["between two other machines"]);
}
