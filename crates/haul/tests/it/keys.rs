//! `haul key`, `haul ls` and `haul try`: what they print, what they change, and that nothing is left
//! behind where nothing should be.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use testkit::tree::{Growth, Scratch, entries, write};

use crate::pair::{Pair, data, machine};

#[test]
fn a_key_is_made_once_and_for_its_owner_alone() {
    let scratch = Scratch::new("key");
    let one = machine(scratch.join("home"));
    let line = one.key_line();
    assert!(line.starts_with("haul-ed25519 "), "{line}");
    assert_eq!(one.key_line(), line);
    let fingerprint = one.run(["key", "show", "--fingerprint"]).expect_code(0).text();
    assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
    let mode = |path: &str| fs::metadata(scratch.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("home"), mode("home/id_ed25519")), (0o700, 0o600));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let scratch = Scratch::new("open-key");
    let one = machine(scratch.join("home"));
    one.key_line();
    let key = scratch.join("home/id_ed25519");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let path = key.to_str().unwrap();
    one.run(["key", "show"]).expect_code(3).expect_says(&[path, "hint: chmod 600"]);
}

#[test]
fn keys_are_allowed_listed_and_revoked() {
    let scratch = Scratch::new("allow");
    let (one, two) = (machine(scratch.join("one")), machine(scratch.join("two")));
    let line = two.key_line();
    let bare = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let named = format!("{bare} two's laptop");
    one.run(["key", "allow", "--read-only", "--path", "data/sub", &named]).expect_code(0);
    let list = || one.run(["key", "list"]).expect_code(0).text();
    let fingerprint = two.run(["key", "show", "--fingerprint"]).text();
    for part in [fingerprint.trim(), "two's laptop", "read-only", "data/sub"] {
        assert!(list().contains(part), "'{part}' is missing in {}", list());
    }
    one.run(["key", "allow", &named]).expect_code(2).expect_says(&["already", "hint: "]);
    one.run(["key", "allow", "nonsense"]).expect_code(2).expect_says(&["no key line", "hint: "]);
    one.run(["key", "revoke", "nobody"]).expect_code(1).expect_says(&["nobody", "hint: "]);
    one.run(["key", "revoke", "two's laptop"]).expect_code(0);
    assert!(!list().contains(fingerprint.trim()), "{}", list());
    // From standard input, and by fingerprint.
    one.run_with(["key", "allow", "-"], format!("{line}\n").as_bytes()).expect_code(0);
    assert!(list().contains(fingerprint.trim()), "{}", list());
    one.run(["key", "revoke", fingerprint.trim()]).expect_code(0);
    assert!(!list().contains(fingerprint.trim()), "{}", list());
    one.run(["key", "trust", "host.example", &line]).expect_code(0);
    assert!(list().contains("host.example"), "{}", list());
    one.run(["key", "revoke", "--host", "host.example"]).expect_code(0);
    assert!(!list().contains("host.example"), "{}", list());
    one.run(["key", "revoke", "--host", "host.example"])
        .expect_code(1)
        .expect_says(&["host.example"]);
}

#[test]
fn ls_shows_exports_and_folders() {
    let pair = Pair::new("ls");
    let other = pair.scratch.folder("other");
    write(&other.join("file b"), b"12345");
    write(&other.join("evil\x1bname"), b"");
    fs::create_dir(other.join("folder a")).unwrap();
    let mut read_only = other.clone().into_os_string();
    read_only.push(":ro=archive");
    let daemon = pair.far.serve(&[data(&pair.served("")), read_only]);
    pair.near.trust(&pair.far, daemon.address());
    let host = daemon.address().to_string();
    let ls = |words: &[&str]| {
        pair.near.run(std::iter::once("ls").chain(words.iter().copied())).expect_code(0).text()
    };
    let names: Vec<String> = ls(&[&host]).lines().map(str::to_owned).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("data") && names[1].contains("archive"), "{names:?}");
    let far = daemon.at("archive").into_string().unwrap();
    let listed = ls(&[&far]);
    assert!(listed.contains("file b") && listed.contains("folder a"), "{listed}");
    assert!(!listed.contains('\x1b'), "{listed:?}");
    assert!(ls(&["-l", &far]).contains('5'), "the size is missing");
    let json = ls(&["--json", &far]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let file = lines.iter().find(|line| line["name"] == "file b").unwrap();
    let keys: BTreeSet<&str> = file.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["kind", "name", "bytes", "mode", "mtime"]));
    assert_eq!((file["kind"].as_str(), file["bytes"].as_u64()), (Some("file"), Some(5)));
    let none = daemon.at("archive/none").into_string().unwrap();
    pair.near.run(["ls", &none]).expect_code(2).expect_says(&["none"]);
    let none = daemon.at("nothing").into_string().unwrap();
    pair.near.run(["ls", &none]).expect_code(2).expect_says(&["nothing", "data", "archive"]);
}

#[test]
fn try_shows_a_copy_and_leaves_nothing_behind() {
    let scratch = Scratch::new("try");
    let (tree, temporary) = (scratch.join("tree"), scratch.folder("temporary"));
    Growth { large: vec![3 << 20], odd: true, ..Growth::small(31, 100) }.grow(&tree);
    let one = machine(scratch.join("home"));
    let mut command = one.command(["try", tree.to_str().unwrap()]);
    command.env("TMPDIR", &temporary);
    let ended = testkit::daemon::Running::start(command).wait().expect_code(0);
    ended.expect_says(&["signature is good", "lost by chance"]);
    assert!(entries(&temporary).is_empty(), "{:?}", entries(&temporary));
    assert!(!scratch.join("home").exists(), "a trial has keys of its own");
}

#[test]
fn help_and_version_are_there() {
    let scratch = Scratch::new("help");
    let one = machine(scratch.join("home"));
    for words in [vec!["--help"], vec!["cp", "--help"], vec!["serve", "-h"], vec!["--version"]] {
        let text = one.run(&words).expect_code(0).text();
        assert!(text.contains("haul"), "{words:?}: {text}");
    }
    assert!(!scratch.join("home").exists(), "asking for help makes no key");
}
