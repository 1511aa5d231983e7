//! The options of `haul cp`: what each of them changes, and what it must leave alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use testkit::daemon::Daemon;
use testkit::tree::{Growth, assert_same, differences, entries, set_mode, set_time, write};

use crate::pair::{Pair, number};

/// The files below a folder.
fn names(root: &Path) -> Vec<String> {
    let files = entries(root).into_iter().filter(|(_, meta)| meta.is_file());
    files.map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn rules_leave_out_and_take() {
    let pair = Pair::new("rules");
    for path in
        ["a.o", "b.c", "keep.o", "target/x", "src/target/y", "src/z.o", "src/old/w", "old/v"]
    {
        let path = pair.local("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, b"content");
    }
    for (at, (options, expected)) in [
        (vec!["--exclude", "*.o"], vec!["b.c", "old/v", "src/old/w", "src/target/y", "target/x"]),
        (
            vec!["--include", "keep.o", "--exclude", "*.o", "--exclude", "target"],
            vec!["b.c", "keep.o", "old/v", "src/old/w"],
        ),
        // The first that matches decides.
        (
            vec![
                "--exclude",
                "*.o",
                "--include",
                "keep.o",
                "--exclude",
                "src/",
                "--exclude",
                "target/",
            ],
            vec!["b.c", "old/v"],
        ),
        // Anchored paths begin with the name of the source's folder.
        (
            vec!["--exclude", "/tree/old/", "--exclude", "*.o", "--exclude", "target/"],
            vec!["b.c", "src/old/w"],
        ),
        (
            vec!["--exclude", "**/src/**", "--exclude", "*.o", "--exclude", "target"],
            vec!["b.c", "old/v"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let target = pair.served(format!("case-{at}"));
        fs::create_dir(&target).unwrap();
        let far = pair.at(format!("data/case-{at}"));
        pair.copy_json_with(&options, pair.local("tree"), &far);
        assert_eq!(names(&target.join("tree")), expected, "{options:?} pushed");
        // Pulled, the other end walks; the rules mean the same.
        let here = pair.scratch.folder(format!("here-{at}"));
        fs::rename(pair.local("tree"), pair.served("tree")).unwrap();
        pair.copy_json_with(&options, pair.at("data/tree"), &here);
        fs::rename(pair.served("tree"), pair.local("tree")).unwrap();
        assert_eq!(names(&here.join("tree")), expected, "{options:?} pulled");
    }
}

#[test]
fn a_rule_that_cannot_be_used_is_a_mistake_of_usage() {
    let pair = Pair::new("bad-rule");
    write(&pair.local("file"), b"x");
    let words =
        ["--exclude".into(), "[a".into(), pair.local("file").into_os_string(), pair.at("data")];
    pair.copy(&words).expect_code(2).expect_says(&["[a"]);
}

#[test]
fn checksum_finds_what_size_and_time_hide() {
    let pair = Pair::new("checksum");
    let (source, served) = (pair.local("file"), pair.served("file"));
    write(&source, b"the right content");
    write(&served, b"the wrong content");
    for path in [&source, &served] {
        set_time(path, 1_500_000_000, 7);
        set_mode(path, 0o644);
    }
    let without = pair.copy_json(&source, pair.at("data"));
    assert_eq!(number(&without, "skipped"), 1, "{without}");
    assert_eq!(fs::read(&served).unwrap(), b"the wrong content");
    let with = pair.copy_json_with(&["--checksum"], &source, pair.at("data"));
    assert_eq!(number(&with, "files"), 1, "{with}");
    assert_eq!(fs::read(&served).unwrap(), b"the right content");
    let again = pair.copy_json_with(&["--checksum"], &source, pair.at("data"));
    assert_eq!((number(&again, "skipped"), number(&again, "bytes_sent")), (1, 0), "{again}");
}

#[test]
fn what_is_to_be_left_alone_is_so_when_it_is_compared_by_content_too() {
    let pair = Pair::new("checksum-existing");
    let (source, served) = (pair.local("file"), pair.served("file"));
    for (how, time, code) in [("skip", 7, 0), ("skip", 8, 0), ("fail", 7, 1), ("fail", 8, 1)] {
        write(&source, b"the new content");
        write(&served, b"the old content");
        set_time(&source, 1_500_000_000, 7);
        set_time(&served, 1_500_000_000, time);
        let words = ["--checksum", "--existing", how].map(Into::into).into_iter();
        let words: Vec<std::ffi::OsString> =
            words.chain([source.clone().into_os_string(), pair.at("data")]).collect();
        pair.copy(&words).expect_code(code);
        assert_eq!(fs::read(&served).unwrap(), b"the old content", "{how} {time}");
    }
}

#[test]
fn existing_files_are_treated_as_asked() {
    let pair = Pair::new("existing");
    let source = pair.scratch.folder("tree");
    for name in ["same", "other", "new"] {
        write(&source.join(name), name.as_bytes());
        set_time(&source.join(name), 1_600_000_000, 0);
    }
    for (how, code, other, counts) in [
        ("overwrite", 0, "other", (2, 1, 0)),
        ("skip", 0, "theirs", (1, 2, 0)),
        ("fail", 1, "theirs", (1, 1, 1)),
        ("rename", 0, "other", (2, 1, 0)),
    ] {
        let target = pair.served("tree");
        let _ = fs::remove_dir_all(&target);
        fs::create_dir(&target).unwrap();
        write(&target.join("other"), b"theirs");
        write(&target.join("same"), b"same");
        set_time(&target.join("same"), 1_600_000_000, 0);
        set_mode(
            &target.join("same"),
            fs::metadata(source.join("same")).unwrap().permissions().mode() & 0o7777,
        );
        let words = [
            "--json".into(),
            "--existing".into(),
            how.into(),
            source.clone().into_os_string(),
            pair.at("data"),
        ];
        let ended = pair.copy(&words).expect_code(code);
        let line: Value = serde_json::from_str(&ended.last_line()).unwrap();
        let found = ["files", "skipped", "failed"].map(|key| number(&line, key));
        assert_eq!(found, [counts.0, counts.1, counts.2], "{how}: {line}");
        assert_eq!(fs::read(target.join("other")).unwrap(), other.as_bytes(), "{how}");
        assert_eq!(fs::read(target.join("new")).unwrap(), b"new", "{how}");
        let kept = fs::read(target.join("other.~1~")).ok();
        let expected = (how == "rename").then(|| b"theirs".to_vec());
        assert_eq!(kept, expected, "{how}");
        if how == "fail" {
            ended.expect_says(&["other"]);
        }
    }
}

#[test]
fn extras_are_deleted_only_within_the_guard() {
    let pair = Pair::new("extras");
    let source = pair.local("tree");
    Growth::small(21, 20).grow(&source);
    pair.copy_json(&source, pair.at("data"));
    let target = pair.served("tree");
    let beside = pair.served("beside");
    write(&beside, b"not in the folder that is copied");
    fs::create_dir(target.join("extra folder")).unwrap();
    write(&target.join("extra folder/inside"), b"extra");
    write(&target.join("extra"), b"extra");
    write(&target.join("extra.keep"), b"extra");
    // Without the option everything stays.
    pair.copy_json(&source, pair.at("data"));
    assert!(target.join("extra").exists());
    // A dry run says and does nothing.
    pair.copy_json_with(&["--delete-extra", "--dry-run"], &source, pair.at("data"));
    assert!(target.join("extra").exists());
    pair.copy_json_with(&["--delete-extra", "--exclude", "*.keep"], &source, pair.at("data"));
    assert!(target.join("extra.keep").exists(), "what rules leave out is protected");
    assert!(!target.join("extra").exists() && !target.join("extra folder").exists());
    fs::remove_file(target.join("extra.keep")).unwrap();
    assert_same(&source, &target);
    assert!(beside.exists(), "what lies beside the folder is none of the copy's business");

    // An empty source by mistake: more than half would go.
    for (path, meta) in entries(&source).into_iter().rev() {
        let path = source.join(path);
        if meta.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let before = names(&target);
    let words = ["--delete-extra".into(), source.clone().into_os_string(), pair.at("data")];
    let ended = pair.copy(&words);
    assert_ne!(ended.code, Some(0), "{}", ended.told());
    ended.expect_says(&["more than half", "--delete-extra=all"]);
    assert_eq!(names(&target), before, "the guard let something go");
    pair.copy_json_with(&["--delete-extra=all"], &source, pair.at("data"));
    assert_same(&source, &target);
}

#[test]
fn a_dry_run_changes_nothing_at_either_end() {
    let pair = Pair::new("dry");
    let (source, empty) = (pair.local("tree"), pair.scratch.folder("empty"));
    Growth { large: vec![2 << 20], ..Growth::small(22, 50) }.grow(&source);
    let words = ["--dry-run".into(), source.clone().into_os_string(), pair.at("data")];
    pair.copy(&words).expect_code(0).expect_says(&["large-0"]);
    assert_eq!(differences(&empty, &pair.served("")), Vec::<String>::new());
    let line = pair.copy_json_with(&["--dry-run"], &source, pair.at("data"));
    assert_eq!(number(&line, "bytes_sent"), 0, "{line}");
    assert_eq!(line["receipt"], Value::Null, "{line}");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_why() {
    let pair = Pair::new("dry-why");
    let (near, far) = (pair.local("tree"), pair.served("tree"));
    for folder in [&near, &far] {
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for file in ["same", "size", "time", "mode", "sub/content", "kind"] {
            write(&folder.join(file), file.as_bytes());
            set_mode(&folder.join(file), 0o644);
            set_time(&folder.join(file), 1_700_000_000, 0);
        }
    }
    write(&far.join("size"), b"longer");
    set_time(&far.join("time"), 1_600_000_000, 0);
    set_mode(&far.join("mode"), 0o600);
    write(&far.join("sub/content"), b"SUB/CONTENT");
    set_time(&far.join("sub/content"), 1_700_000_000, 0);
    std::fs::remove_file(far.join("kind")).unwrap();
    std::os::unix::fs::symlink("x", far.join("kind")).unwrap();
    std::fs::create_dir(near.join("new")).unwrap();
    write(&near.join("new/file"), b"new");
    write(&far.join("extra"), b"extra");
    let before = entries(&far).len();
    let planned = |options: &[&str], from: &Path, to: std::ffi::OsString| {
        let mut words: Vec<std::ffi::OsString> = vec!["--json".into(), "-n".into()];
        words.extend(options.iter().map(Into::into));
        words.extend([from.as_os_str().to_owned(), to]);
        let text = pair.copy(&words).expect_code(0).text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut found: Vec<String> = lines
            .filter_map(|line| match line["event"].as_str()? {
                "planned" => Some(format!(
                    "{} {}",
                    line["path"].as_str()?.trim_start_matches("tree/"),
                    line["why"].as_str()?
                )),
                "extra" => {
                    Some(format!("{} extra", line["path"].as_str()?.trim_start_matches("tree/")))
                }
                _ => None,
            })
            .collect();
        found.sort();
        found
    };
    let always = ["kind kind", "mode mode", "new new", "new/file new", "size size", "time time"];
    let push = |options: &[&str]| planned(options, &near, pair.at("data"));
    assert_eq!(push(&[]), always);
    let mut with_extra = always.to_vec();
    with_extra.insert(0, "extra extra");
    assert_eq!(push(&["--delete-extra"]), with_extra);
    // By content the one with another content differs too, and the others only in what they are.
    let by_content = ["kind kind", "new new", "new/file new", "size size", "sub/content content"];
    assert_eq!(push(&["--checksum"]), by_content);
    let here = pair.local("here");
    std::fs::create_dir(&here).unwrap();
    let words = [pair.at("data/tree/sub"), here.clone().into_os_string()];
    let ended = pair.copy(&[&["-n".into()][..], &words].concat()).expect_code(0);
    ended.expect_says(&["would copy sub (", "would copy sub/content (11 B): it is new"]);
    assert_eq!(entries(&far).len(), before, "nothing was changed");
    // And for real, with a line for what went.
    let real =
        pair.copy(&["-v".into(), "--delete-extra".into(), near.into_os_string(), pair.at("data")]);
    real.expect_code(0).expect_says(&["removed tree/extra"]);
    assert!(!far.join("extra").exists());
}

#[test]
fn json_ends_with_exactly_the_documented_keys() {
    let pair = Pair::new("json");
    let source = pair.local("file");
    write(&source, b"content");
    let ended = pair
        .copy(&["--json".into(), source.clone().into_os_string(), pair.at("data")])
        .expect_code(0);
    let text = ended.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys =
        |line: &Value| -> BTreeSet<String> { line.as_object().unwrap().keys().cloned().collect() };
    let expected = |words: &[&str]| -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    };
    assert_eq!(keys(&lines[0]), expected(&["event", "sources", "target"]), "{text}");
    assert_eq!(
        keys(lines.last().unwrap()),
        expected(&[
            "event",
            "files",
            "bytes",
            "bytes_sent",
            "skipped",
            "failed",
            "seconds",
            "receipt",
            "verified",
            "differing"
        ]),
        "{text}"
    );
    let file = lines.iter().find(|line| line["event"] == "file").unwrap();
    assert_eq!(keys(file), expected(&["event", "path", "bytes", "how", "digest"]), "{text}");
    // What fails is told in the same form.
    let ended = pair
        .copy(&["--json".into(), source.into_os_string(), pair.at("data/none/x")])
        .expect_code(2);
    let line: Value = serde_json::from_str(&ended.last_line()).unwrap();
    assert_eq!(keys(&line), expected(&["event", "code", "text", "hint"]), "{line}");
    assert_eq!((line["event"].as_str(), line["code"].as_u64()), (Some("error"), Some(2)), "{line}");
}

#[test]
fn quiet_says_nothing_and_verbose_names_files() {
    let pair = Pair::new("quiet");
    let source = pair.local("some file");
    write(&source, b"content");
    let ended =
        pair.copy(&["-q".into(), source.clone().into_os_string(), pair.at("data")]).expect_code(0);
    assert_eq!((ended.text().as_str(), ended.errors.as_str()), ("", ""));
    let ended =
        pair.copy(&["-v".into(), source.into_os_string(), pair.at("data/again")]).expect_code(0);
    ended.expect_says(&["copied some file", "receipt"]);
}

#[test]
fn names_with_control_characters_are_escaped_wherever_they_are_shown() {
    let pair = Pair::new("escaped");
    let source = pair.scratch.folder("tree");
    write(&source.join("evil\x1b[31m\n\u{202e}name"), b"content");
    for option in ["-v", "--json"] {
        let target = pair.at(format!("data/with{option}"));
        let ended =
            pair.copy(&[option.into(), source.clone().into_os_string(), target]).expect_code(0);
        let all = ended.text() + &ended.errors + &pair.daemon.log();
        assert!(all.contains("evil"), "{all}");
        assert!(!all.contains('\x1b') && !all.contains('\u{202e}'), "{all:?}");
    }
}

#[test]
fn a_limit_holds() {
    let pair = Pair::new("limit");
    let source = pair.local("file");
    write(&source, &testkit::tree::Random::new(23).bytes(3 << 20));
    let line = pair.copy_json_with(&["--limit", "2MB"], &source, pair.at("data"));
    let seconds = line["seconds"].as_f64().unwrap();
    // A burst of one parcel goes at once; the rest is 2 MiB at 2 MB/s.
    assert!(seconds >= 0.9, "3 MiB at 2 MB/s took {seconds} s");
}

#[test]
fn set_id_bits_are_taken_only_where_the_export_allows_it() {
    let pair = Pair::new("setid");
    let source = pair.local("tool");
    write(&source, b"content");
    set_mode(&source, 0o4755);
    let config = pair.local("haul.toml");
    let text = format!("[[export]]\nname = \"data\"\npath = {:?}\nsetid = true\n", pair.served(""));
    write(&config, text.as_bytes());
    let words = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let generous = Daemon::start(pair.far.command(words));
    pair.near.trust(&pair.far, generous.address());
    assert!(generous.log().contains("set-id bits"), "{}", generous.log());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (to, options, target, expected) in [
        (&pair.daemon, vec!["--setid"], "a", 0o755),
        (&generous, vec![], "b", 0o755),
        (&generous, vec!["--setid"], "c", 0o4755),
    ] {
        pair.copy_json_with(&options, &source, to.at(format!("data/{target}")));
        assert_eq!(mode(&pair.served(target)), expected, "{target}");
    }
    // Who copies to a folder of its own needs nobody's leave, pulled or within one machine.
    for (from, target) in [(pair.at("data/c"), "pulled"), (pair.served("c").into(), "here")] {
        pair.copy_json_with(&["--setid"], from, pair.local(target));
        assert_eq!(mode(&pair.local(target)), 0o4755, "{target}");
    }
}
