//! Names that are meant to do harm: they arrive as they are and are shown escaped. And a folder of an
//! export that is swapped with a symbolic link all the time: what lies outside is neither read nor
//! written.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use testkit::daemon::Ended;
use testkit::names::{hostile_names, unescaped};
use testkit::tree::{assert_same, entries};

use crate::pair::Pair;

/// Nothing that was said may move a cursor or hide.
#[track_caller]
fn assert_harmless(ended: &Ended) {
    for output in [&ended.output[..], ended.errors.as_bytes()] {
        if let Some(found) = unescaped(output) {
            panic!("unescaped: {found}");
        }
    }
}

/// Files, folders and links of all these names.
fn grow(at: &Path) -> usize {
    let mut made = 0;
    fs::create_dir_all(at).unwrap();
    for (number, name) in hostile_names(1).iter().enumerate() {
        let path = at.join(OsStr::from_bytes(name));
        match number % 8 {
            0 => {
                // Not every file system takes every name.
                let Ok(()) = fs::create_dir(&path) else { continue };
                fs::write(path.join(OsStr::from_bytes(name)), b"inner").unwrap();
            }
            1 => {
                let Ok(()) = symlink(OsStr::from_bytes(name), &path) else { continue };
            }
            _ => {
                let Ok(()) = fs::write(&path, name) else { continue };
            }
        }
        made += 1;
    }
    made
}

#[test]
fn names_arrive_as_they_are_and_are_shown_escaped() {
    let pair = Pair::new("names-arrive");
    let made = grow(&pair.local("names"));
    assert!(made >= 250, "only {made} names could be made here");
    let there = pair.copy(&[
        OsStr::new("-v"),
        OsStr::new("-r"),
        pair.local("names").as_os_str(),
        &pair.at("data"),
    ]);
    assert_harmless(&there);
    there.expect_code(0);
    assert_same(&pair.local("names"), &pair.served("names"));
    let again = pair.copy(&[
        OsStr::new("-v"),
        OsStr::new("-r"),
        pair.local("names").as_os_str(),
        &pair.at("data"),
    ]);
    assert_harmless(&again);
    fs::create_dir(pair.local("back")).unwrap();
    let back = pair.copy(&[
        OsStr::new("--json"),
        OsStr::new("-r"),
        &pair.at("data/names"),
        pair.local("back").as_os_str(),
    ]);
    assert_harmless(&back);
    for line in back.text().lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("every line is JSON");
    }
    back.expect_code(0);
    assert_same(&pair.local("names"), &pair.local("back/names"));
    for words in [vec!["ls"], vec!["ls", "--json"]] {
        let mut words: Vec<&OsStr> = words.into_iter().map(OsStr::new).collect();
        let at = pair.at("data/names");
        words.push(&at);
        let listed = pair.near.run(words);
        assert_harmless(&listed);
        listed.expect_code(0);
    }
    assert_eq!(unescaped(pair.daemon.log().as_bytes()), None, "the daemon's log");
}

#[test]
fn errors_name_hostile_names_escaped() {
    let pair = Pair::new("names-errors");
    let names = hostile_names(2);
    for name in names.iter().step_by(9) {
        let missing = [b"data/none/".as_slice(), name].concat();
        let far = pair.at(OsStr::from_bytes(&missing));
        let local = pair.local("nowhere").join(OsStr::from_bytes(name));
        let here = pair.local("here");
        for words in [
            [OsStr::new("cp"), &far, here.as_os_str()],
            [OsStr::new("cp"), local.as_os_str(), &far],
            [OsStr::new("ls"), &far, OsStr::new("--json")],
        ] {
            let ended = pair.near.run(words);
            assert_harmless(&ended);
            assert!(matches!(ended.code, Some(1..=9)), "{}", ended.told());
        }
    }
    assert_eq!(unescaped(pair.daemon.log().as_bytes()), None, "the daemon's log");
}

/// Everything of a tree that can be seen, content included.
fn picture(root: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    entries(root)
        .into_iter()
        .map(|(path, metadata)| {
            let content = fs::read(root.join(&path)).unwrap_or_default();
            let (mode, time) = (metadata.mode(), (metadata.mtime(), metadata.mtime_nsec()));
            format!("{path:?} {mode:o} {time:?} {content:?}")
        })
        .collect()
}

#[test]
fn a_folder_that_is_swapped_with_a_link_leads_nowhere() {
    const FLIPS: u64 = 10_000;
    let pair = Pair::new("names-swaps");
    let canary = pair.local("canary");
    fs::create_dir_all(canary.join("sub")).unwrap();
    for name in ["secret", "sub/secret", "file", "sub/file"] {
        fs::write(canary.join(name), b"CANARY").unwrap();
    }
    for folder in ["here/sub", "new/sub"] {
        let folder =
            if folder.starts_with("here") { pair.served(folder) } else { pair.local(folder) };
        fs::create_dir_all(&folder).unwrap();
        for number in 0..20 {
            fs::write(folder.join(format!("{number}")), b"harmless").unwrap();
        }
        fs::write(folder.join("file"), b"harmless").unwrap();
    }
    symlink(&canary, pair.served("there")).unwrap();
    let before = picture(&canary);
    let (stop, flips) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (here, there) = (pair.served("here"), pair.served("there"));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE).unwrap();
                flips.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + Duration::from_secs(60);
        let mut copies = 0;
        while (copies < 40 || flips.load(Ordering::Relaxed) < FLIPS) && Instant::now() < end {
            copies += 1;
            let out = pair.local(format!("out-{copies}"));
            fs::create_dir(&out).unwrap();
            // What they come to is a matter of luck; what they touch is not.
            let (into, sub) = (pair.at("data/here/"), pair.at("data/here/sub"));
            pair.copy(&[OsStr::new("-r"), pair.local("new/sub").as_os_str(), &into]);
            pair.copy(&[OsStr::new("-r"), &sub, out.as_os_str()]);
            pair.copy(&[OsStr::new("-r"), &pair.at("data"), out.as_os_str()]);
            pair.near.run([OsStr::new("ls"), &sub]);
            for (path, metadata) in entries(&out) {
                if metadata.is_file() {
                    let content = fs::read(out.join(&path)).unwrap();
                    assert_ne!(content, b"CANARY", "{path:?} was read from outside of the export");
                }
                assert_ne!(path.file_name(), Some(OsStr::new("secret")), "{path:?} is of outside");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(copies >= 20, "only {copies} rounds in a minute");
    });
    assert!(flips.into_inner() >= FLIPS, "too few swaps to mean anything");
    assert_eq!(picture(&canary), before, "what lies outside was changed");
    let there = if pair.served("here").is_symlink() { "there" } else { "here" };
    fs::remove_dir_all(pair.served(there)).unwrap();
    pair.copy(&[OsStr::new("-r"), pair.local("new").as_os_str(), &pair.at("data")]).expect_code(0);
}
