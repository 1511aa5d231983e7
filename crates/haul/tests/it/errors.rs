//! What a user is told when something is in the way: the exit code, a message that names what it is
//! about, and a hint that says what to do. And that the rest of the work is done all the same.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::daemon::{Daemon, Ended, Machine, Running, behind, serve_words};
use testkit::tree::{Growth, Random, Scratch, differences, entries, is_root, set_time, write};

use crate::pair::{Pair, copy_words, data, machine};

/// Who is nobody in particular, on every Linux.
const NOBODY: u32 = 65_534;

/// A refusal names the other machine and comes with a hint.
#[track_caller]
fn refused(pair: &Pair, ended: Ended, parts: &[&str]) {
    let address = pair.daemon.address().to_string();
    let ended = ended.expect_code(3).expect_says(&[&address, "hint: "]);
    ended.expect_says(parts);
}

#[test]
fn an_unknown_host_is_not_talked_to() {
    let pair = Pair::new("unknown-host");
    let address = pair.daemon.address().to_string();
    write(&pair.local("file"), b"content");
    pair.near.run(["key", "revoke", "--host", &address]).expect_code(0);
    let words = [pair.local("file").into_os_string(), pair.at("data")];
    let fingerprint = pair.far.run(["key", "show", "--fingerprint"]).text();
    refused(
        &pair,
        pair.copy(&words),
        &["not known", fingerprint.trim(), "haul key trust", "--accept-new"],
    );
    assert!(entries(&pair.served("")).is_empty());
    // Once accepted it is known.
    let accept: Vec<OsString> =
        std::iter::once("--accept-new".into()).chain(words.clone()).collect();
    pair.copy(&accept).expect_code(0);
    pair.copy(&words).expect_code(0);
}

#[test]
fn a_host_whose_key_has_changed_is_not_talked_to() {
    let pair = Pair::new("changed-host");
    let address = pair.daemon.address();
    write(&pair.local("file"), b"content");
    let other = machine(pair.local("other"));
    pair.near.run(["key", "revoke", "--host", &address.to_string()]).expect_code(0);
    pair.near.trust(&other, address);
    for options in [&[][..], &["--accept-new"][..]] {
        let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
        words.extend([pair.local("file").into_os_string(), pair.at("data")]);
        refused(&pair, pair.copy(&words), &["has changed", "haul key revoke --host"]);
    }
    assert!(entries(&pair.served("")).is_empty());
}

#[test]
fn a_key_that_is_not_allowed_is_turned_away() {
    let pair = Pair::new("not-allowed");
    write(&pair.local("file"), b"content");
    let fingerprint = pair.near.run(["key", "show", "--fingerprint"]).text();
    pair.far.run(["key", "revoke", fingerprint.trim()]).expect_code(0);
    let words = [pair.local("file").into_os_string(), pair.at("data")];
    refused(&pair, pair.copy(&words), &["refuses this key", "haul key allow 'haul-ed25519 "]);
    // The operator is told as well, and with what it takes.
    let line = pair.daemon.wait_for_log("turned", Duration::from_secs(5));
    assert!(line.contains("haul key allow"), "{line}");
    // Allowed while the daemon runs, it works at once.
    pair.far.allow(&pair.near, &[]);
    pair.copy(&words).expect_code(0);
}

#[test]
fn a_key_revoked_in_the_middle_ends_the_copy() {
    let pair = Pair::new("revoked");
    write(&pair.local("file"), &Random::new(41).bytes(20 << 20));
    let words =
        ["--limit".into(), "500k".into(), pair.local("file").into_os_string(), pair.at("data")];
    let running = Running::start(pair.near.command(copy_words(&words)));
    pair.daemon.wait_for_log("connected", Duration::from_secs(20));
    let fingerprint = pair.near.run(["key", "show", "--fingerprint"]).text();
    pair.far.run(["key", "revoke", fingerprint.trim()]).expect_code(0);
    let ended = running.wait_until(Duration::from_secs(25));
    refused(&pair, ended, &["refuses this key"]);
    assert!(entries(&pair.served("")).is_empty());
}

#[test]
fn a_key_may_do_only_what_its_line_says() {
    for (name, options, push, pull) in [
        ("key-ro", &["--read-only"][..], Some("may only read"), None),
        ("key-wo", &["--write-only"][..], None, Some("may only write")),
        ("key-path", &["--path", "data/mine"][..], Some("data/mine"), Some("data/mine")),
        ("key-old", &["--expires", "2020-01-31"][..], Some("expired"), Some("expired")),
        ("key-from", &["--from", "10.0.0.0/8"][..], Some("127.0.0.1"), Some("127.0.0.1")),
    ] {
        let pair = Pair::with(name, options);
        write(&pair.local("file"), b"content");
        write(&pair.served("there"), b"content");
        let pushed = pair.copy(&[pair.local("file").into_os_string(), pair.at("data/new")]);
        let pulled = pair.copy(&[pair.at("data/there"), pair.local("here").into_os_string()]);
        for (ended, refusal) in [(pushed, push), (pulled, pull)] {
            match refusal {
                Some(text) => refused(&pair, ended, &[text]),
                None => drop(ended.expect_code(0)),
            }
        }
        assert_eq!(pair.served("new").exists(), push.is_none(), "{name}");
        assert_eq!(pair.local("here").exists(), pull.is_none(), "{name}");
    }
}

/// Pieces of an older version tell what is in it.
#[test]
fn a_key_that_may_only_write_is_told_nothing_of_what_is_there() {
    let size = 3_000_000;
    for (name, options, is_whole) in
        [("key-pieces", &[][..], false), ("key-no-pieces", &["--write-only"][..], true)]
    {
        let pair = Pair::with(name, options);
        let mut bytes = Random::new(5).bytes(size);
        write(&pair.served("file"), &bytes);
        // The clock of files is coarse: else both may be of the same moment.
        set_time(&pair.served("file"), 1_500_000_000, 0);
        bytes[2_000_000] ^= 1;
        write(&pair.local("file"), &bytes);
        let words = ["--json".into(), pair.local("file").into_os_string(), pair.at("data/file")];
        let told = pair.copy(&words).expect_code(0).text();
        let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let sent = last["bytes_sent"].as_u64().unwrap();
        assert_eq!(sent >= size as u64, is_whole, "{name}: {sent} bytes");
        assert_eq!(fs::read(pair.served("file")).unwrap(), bytes);
    }
}

/// That a file is there under another name tells what is there as well.
#[test]
fn a_key_that_may_only_write_is_asked_for_everything() {
    let size = 300_000;
    for (name, options, is_whole) in [
        ("key-twin", &[][..], false),
        ("key-twin-below", &["--path", "data/mine", "--path", "data/ours"][..], true),
        ("key-no-twin", &["--write-only"][..], true),
    ] {
        let pair = Pair::with(name, options);
        fs::create_dir(pair.served("mine")).unwrap();
        for file in [pair.served("theirs"), pair.local("mine/file")] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            write(&file, &Random::new(5).bytes(size));
            set_time(&file, 1_500_000_000, 5);
        }
        // The first file goes out unasked.
        write(&pair.local("ours"), &Random::new(6).bytes(size));
        let sources = ["ours", "mine"].map(|name| pair.local(name).into_os_string());
        let words = [&["--json".into()][..], &sources, &[pair.at("data")]].concat();
        let told = pair.copy(&words).expect_code(0).text();
        let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let sent = last["bytes_sent"].as_u64().unwrap();
        assert_eq!(sent >= 2 * size as u64, is_whole, "{name}: {sent} bytes");
        assert_eq!(fs::read(pair.served("mine/file")).unwrap(), Random::new(5).bytes(size));
    }
}

/// A digest of what is there would tell it to whoever can guess it.
#[test]
fn a_key_that_may_only_write_gets_nothing_compared() {
    let pair = Pair::with("key-digest", &["--write-only"]);
    let file = pair.local("file");
    write(&file, b"a guess");
    write(&pair.served("file"), b"secrets");
    let words = |option: &str| [option.into(), file.clone().into_os_string(), pair.at("data/")];
    for option in ["--checksum", "--verify"] {
        let ended = pair.copy(&words(option)).expect_code(3);
        ended.expect_says(&["may only write", "compared by content"]);
    }
    pair.copy(&words("--fsync")).expect_code(0);
}

#[test]
fn a_key_with_a_path_works_below_it_alone() {
    let pair = Pair::with("key-below", &["--path", "data/mine"]);
    fs::create_dir(pair.served("mine")).unwrap();
    fs::create_dir(pair.served("theirs")).unwrap();
    write(&pair.local("file"), b"content");
    let file = pair.local("file").into_os_string();
    pair.copy(&[file.clone(), pair.at("data/mine/")]).expect_code(0);
    assert!(pair.served("mine/file").exists());
    for path in ["data/theirs/", "data/mine/../theirs/", "data/mine2", "data"] {
        let ended = pair.copy(&[file.clone(), pair.at(path)]);
        assert_ne!(ended.code, Some(0), "{path}: {}", ended.told());
    }
    let listed = pair.near.run(["ls".into(), pair.at("data")]).expect_code(0).text();
    assert!(listed.contains("mine") && !listed.contains("theirs"), "{listed}");
    assert!(entries(&pair.served("theirs")).is_empty() && !pair.served("file").exists());
}

#[test]
fn a_read_only_export_takes_nothing() {
    let mut pair = Pair::new("ro-export");
    write(&pair.local("file"), b"content");
    write(&pair.served("there"), b"content");
    let mut export = pair.served("").into_os_string();
    export.push(":ro=data");
    pair.daemon = pair.far.serve(&[export]);
    pair.near.trust(&pair.far, pair.daemon.address());
    let ended = pair.copy(&[pair.local("file").into_os_string(), pair.at("data")]);
    refused(&pair, ended, &["data", "read-only"]);
    pair.copy(&[pair.at("data/there"), pair.local("here").into_os_string()]).expect_code(0);
}

#[test]
fn nothing_leads_out_of_an_export() {
    let pair = Pair::new("out");
    let outside = pair.scratch.folder("outside");
    write(&outside.join("secret"), b"secret");
    symlink(&outside, pair.served("absolute")).unwrap();
    symlink("../outside", pair.served("relative")).unwrap();
    symlink("../outside/secret", pair.served("file")).unwrap();
    let tree = pair.scratch.folder("tree");
    write(&tree.join("planted"), b"planted");
    let before = fs::metadata(&outside).unwrap();
    for path in
        ["absolute/", "relative/", "absolute/new", "relative/new", "absolute", "relative", "file"]
    {
        let far = pair.at(format!("data/{path}"));
        let ended = pair.copy(&[tree.join("planted").into_os_string(), far]);
        refused(&pair, ended, &["symbolic link"]);
    }
    for path in
        ["absolute/secret", "relative/secret", "file", "../outside/secret", "relative/../secret"]
    {
        let ended =
            pair.copy(&[pair.at(format!("data/{path}")), pair.local("here").into_os_string()]);
        assert!(matches!(ended.code, Some(2 | 3)), "{path}: {}", ended.told());
        assert!(!pair.local("here").exists(), "{path} was read");
    }
    // A folder of the copy whose name is a link out at the target stays out.
    let deep = pair.scratch.folder("deep");
    fs::create_dir(deep.join("absolute")).unwrap();
    write(&deep.join("absolute/planted"), b"planted");
    write(&deep.join("fine"), b"fine");
    let words = [deep.join(".").into_os_string(), pair.at("data")];
    pair.copy(&words).expect_code(1).expect_says(&["absolute"]);
    assert_eq!(fs::read(pair.served("fine")).unwrap(), b"fine");
    let names: Vec<_> = entries(&outside).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [Path::new("secret")]);
    assert_eq!(fs::metadata(&outside).unwrap().mtime_nsec(), before.mtime_nsec());
}

#[test]
fn haul_keeps_its_own_folder_to_itself() {
    let pair = Pair::new("reserved");
    fs::create_dir_all(pair.served(".haul")).unwrap();
    write(&pair.local("file"), b"content");
    for path in ["data/.haul/x", "data/.haul", "data/.HAUL/x", "data/.haul-tmp-1"] {
        let ended = pair.copy(&[pair.local("file").into_os_string(), pair.at(path)]);
        assert!(matches!(ended.code, Some(1 | 3)), "{path}: {}", ended.told());
    }
    assert!(!pair.served(".haul/x").exists() && !pair.served(".haul-tmp-1").exists());
}

#[test]
fn wrong_paths_are_named() {
    let pair = Pair::new("wrong-path");
    write(&pair.local("file"), b"content");
    let file = || pair.local("file").into_os_string();
    for (words, parts) in [
        (vec![file(), pair.at("data/no/such/folder")], ["no/such/folder", "hint: "]),
        (
            vec![pair.at("data/nothing"), pair.local("").into_os_string()],
            ["data/nothing", "hint: "],
        ),
        (vec![pair.local("none").into_os_string(), pair.at("data")], ["none", "does not exist"]),
        (vec![file(), pair.at("/etc/passwd")], ["/etc/passwd", "exports here: data"]),
    ] {
        pair.copy(&words).expect_code(2).expect_says(&parts);
    }
    // With two exports the first name must be one of them.
    let other = pair.scratch.folder("other");
    let daemon = pair.far.serve(&[data(&pair.served("")), other.into_os_string()]);
    pair.near.trust(&pair.far, daemon.address());
    let ended = pair.copy(&[file(), daemon.at("nothing/x")]).expect_code(2);
    ended.expect_says(&["no export 'nothing'", "data", "other"]);
}

#[test]
fn mistakes_of_usage_are_told_before_anything_is_dialled() {
    let scratch = Scratch::new("usage");
    let one = machine(scratch.join("home"));
    let file = scratch.join("file");
    write(&file, b"content");
    let file = file.to_str().unwrap();
    for (words, part) in [
        (vec![], "Usage"),
        (vec!["cp"], "TARGET"),
        (vec!["cp", file], "TARGET"),
        (vec!["nonsense"], "nonsense"),
        (vec!["cp", "--nonsense", file, "h:x"], "--nonsense"),
        (vec!["cp", "--limit", "fast", file, "h:x"], "fast"),
        (vec!["cp", "--give-up-after", "soon", file, "h:x"], "soon"),
        (vec!["cp", "--existing", "maybe", file, "h:x"], "maybe"),
        (vec!["cp", "--json", "--quiet", file, "h:x"], "--quiet"),
        (vec!["cp", "a:x", "b:y", "."], "one machine"),
        (vec!["cp", "haul://user@host/x", "."], "user"),
        (vec!["cp", "-", "host:"], "name"),
        (vec!["cp", "-", file, "host:"], "standard input"),
        (vec!["cp", "host:x", "host:y", "-"], "one file"),
        (vec!["cp", "host:x", "--json", "-"], "standard output"),
        (vec!["cp", "host:99999:x", "."], "port"),
        (vec!["cp", "", "host:"], "empty"),
        (vec!["serve", "--listen", "127.0.0.1:0"], "nothing to serve"),
        (vec!["serve", "--export", "/no/such/folder"], "folder"),
        (vec!["serve", "--listen", "here", "--export", "/"], "here"),
    ] {
        let ended = one.run(&words);
        assert_eq!(ended.code, Some(2), "{words:?}\n{}", ended.told());
        assert!(ended.errors.contains(part), "{words:?}: no '{part}' in {}", ended.told());
    }
}

#[test]
fn a_busy_port_is_told_with_its_number() {
    let pair = Pair::new("busy");
    let address = pair.daemon.address();
    let words = serve_words(address, &[data(&pair.served(""))]);
    let ended = pair.far.run(words).expect_code(2);
    ended.expect_says(&[&address.to_string(), "hint: ", &address.port().to_string(), "--listen"]);
}

#[test]
fn where_nobody_serves_the_link_is_given_up() {
    let scratch = Scratch::new("nobody");
    let one = machine(scratch.join("home"));
    write(&scratch.join("file"), b"content");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Nothing answers, and then nothing is there at all.
    for socket in [Some(socket), None] {
        let words = [
            "--give-up-after".into(),
            "1s".into(),
            scratch.join("file").into_os_string(),
            testkit::daemon::far(address, "data"),
        ];
        let ended =
            Running::start(one.command(copy_words(&words))).wait_until(Duration::from_secs(30));
        let ended = ended.expect_code(4);
        ended.expect_says(&[
            &address.to_string(),
            "refuses TCP, and no connection over QUIC (UDP) came about within ",
            "hint: ",
            "haul serve",
        ]);
        drop(socket);
    }
}

#[test]
fn a_source_that_vanishes_is_named_and_the_rest_arrives() {
    let pair = Pair::new("vanishes");
    let source = pair.local("tree");
    Growth::small(42, 40).grow(&source);
    let victim = source.join("victim");
    write(&victim, &Random::new(43).bytes(12 << 20));
    let words = ["--limit".into(), "6MB".into(), source.clone().into_os_string(), pair.at("data")];
    let running = Running::start(pair.near.command(copy_words(&words)));
    let staged = || -> u64 {
        let Ok(entries) = fs::read_dir(pair.served(".haul")) else { return 0 };
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.blocks() * 512)
            .sum()
    };
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while staged() < 2 << 20 {
        assert!(std::time::Instant::now() < end, "nothing arrives");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Changed first, or whoever has it open would see it whole to the end.
    fs::File::options().write(true).open(&victim).unwrap().set_len(9 << 20).unwrap();
    fs::remove_file(&victim).unwrap();
    running.wait().expect_code(1).expect_says(&["tree/victim"]);
    let left = differences(&source, &pair.served("tree"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_source_that_changes_arrives_as_it_was_or_as_it_is_but_never_mixed() {
    let pair = Pair::new("changes");
    let source = pair.local("file");
    let (old, new) = (Random::new(44).bytes(12 << 20), Random::new(45).bytes(12 << 20));
    write(&source, &old);
    let words = ["--limit".into(), "6MB".into(), source.clone().into_os_string(), pair.at("data")];
    let running = Running::start(pair.near.command(copy_words(&words)));
    pair.daemon.wait_for_log("began", Duration::from_secs(20));
    // Never shorter in between: a short file that holds still for a moment is as good as any.
    fs::File::options().write(true).open(&source).unwrap().write_all(&new).unwrap();
    running.wait().expect_code(0);
    let there = fs::read(pair.served("file")).unwrap();
    assert!(there == old || there == new, "{} bytes of neither version", there.len());
    pair.copy_json(&source, pair.at("data"));
    assert!(fs::read(pair.served("file")).unwrap() == new);
}

#[test]
fn a_source_that_changes_again_and_again_arrives_once_it_holds_still() {
    let pair = Pair::new("restless");
    let source = pair.local("file");
    // Longer than what is read at once under such a limit.
    let mut content = Random::new(47).bytes(12 << 20);
    write(&source, &content);
    let words = ["--limit".into(), "6MB".into(), source.clone().into_os_string(), pair.at("data")];
    let running = Running::start(pair.near.command(copy_words(&words)));
    pair.daemon.wait_for_log("began", Duration::from_secs(20));
    for number in 1..=12 {
        content[..8].copy_from_slice(&u64::to_le_bytes(number));
        fs::File::options().write(true).open(&source).unwrap().write_all(&content[..8]).unwrap();
        std::thread::sleep(Duration::from_millis(25));
    }
    running.wait().expect_code(0);
    assert!(fs::read(pair.served("file")).unwrap() == content);
}

#[test]
fn a_source_that_never_holds_still_is_named_and_the_rest_arrives() {
    let pair = Pair::new("never-still");
    let source = pair.local("tree");
    Growth::small(60, 20).grow(&source);
    let log = source.join("log");
    // Under such a limit no reading of it ends within a second, however long the one who writes waits for a core.
    write(&log, &Random::new(48).bytes(12 << 20));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(&log).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                log.write_all(b"a line\n").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let words =
            ["--limit".into(), "6MB".into(), source.clone().into_os_string(), pair.at("data")];
        let ended = Running::start(pair.near.command(copy_words(&words))).wait();
        is_over.store(true, Ordering::Relaxed);
        ended.expect_code(1).expect_says(&["tree/log", "it changed each time that it was read"]);
    });
    fs::remove_file(&log).unwrap();
    let left = differences(&source, &pair.served("tree"));
    assert!(left.is_empty(), "{left:?}");
}

/// A command as somebody who may not read and write everything.
fn as_nobody(command: std::process::Command) -> std::process::Command {
    if !is_root() {
        return command;
    }
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(OsStr::new);
    behind("setpriv", &words, &command)
}

/// Gives a tree to the one who is nobody in particular, where that can be done.
fn give_away(path: &Path) {
    if !is_root() {
        return;
    }
    let _ = fs::create_dir(path);
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    for (below, meta) in entries(path) {
        if !meta.is_symlink() {
            chown(path.join(below), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_arrives() {
    let pair = Pair::new("unreadable");
    let source = pair.local("tree");
    Growth::small(46, 20).grow(&source);
    for name in ["locked file", "locked folder"] {
        let path = source.join(name);
        match name {
            "locked file" => write(&path, b"content"),
            _ => fs::create_dir(&path).unwrap(),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    give_away(&source);
    give_away(pair.near.home());
    let words = [source.clone().into_os_string(), pair.at("data")];
    let command = as_nobody(pair.near.command(copy_words(&words)));
    let ended = Running::start(command).wait().expect_code(1);
    ended.expect_says(&["locked file", "locked folder"]);
    let copied = entries(&pair.served("tree")).iter().filter(|(_, meta)| meta.is_file()).count();
    assert_eq!(copied, 20);
    assert!(!pair.served("tree/locked file").exists());
    fs::set_permissions(source.join("locked folder"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut pair = Pair::new("unwritable");
    write(&pair.local("file"), b"content");
    let locked = pair.scratch.folder("served/locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    give_away(&pair.served(""));
    give_away(pair.far.home());
    let words = serve_words("127.0.0.1:0".parse().unwrap(), &[data(&pair.served(""))]);
    pair.daemon = Daemon::start(as_nobody(pair.far.command(words)));
    pair.near.trust(&pair.far, pair.daemon.address());
    let ended = pair.copy(&[pair.local("file").into_os_string(), pair.at("data/locked/file")]);
    assert!(matches!(ended.code, Some(1 | 3)), "{}", ended.told());
    ended.expect_says(&["file: ", "ermission"]);
    // The daemon goes on, and so does everybody else.
    pair.copy(&[pair.local("file").into_os_string(), pair.at("data")]).expect_code(0);
}

/// A command in a mount namespace of its own, which needs root, where a small filesystem lies over `folder`.
fn on_small_disk(
    folder: &Path,
    options: &str,
    command: &std::process::Command,
) -> std::process::Command {
    let script = "mount -t tmpfs -o \"$2\" none \"$1\" && shift 2 && exec \"$@\"";
    let words = ["-m", "sh", "-c", script, "sh"].map(OsStr::new);
    let words: Vec<&OsStr> =
        words.into_iter().chain([folder.as_os_str(), options.as_ref()]).collect();
    behind("unshare", &words, command)
}

/// A daemon of `far` whose export is a small filesystem, known to `near`.
fn serve_small(near: &Machine, far: &Machine, folder: &Path, options: &str) -> Daemon {
    let words = serve_words("127.0.0.1:0".parse().unwrap(), &[data(folder)]);
    let daemon = Daemon::start(on_small_disk(folder, options, &far.command(words)));
    near.trust(far, daemon.address());
    daemon
}

#[test]
fn needs_root_a_full_disk_is_told_and_the_rest_arrives() {
    let mut pair = Pair::new("full");
    pair.daemon = serve_small(&pair.near, &pair.far, &pair.served(""), "size=8m");
    let source = pair.local("tree");
    Growth { large: vec![12 << 20], ..Growth::small(47, 40) }.grow(&source);
    let ended = pair.copy(&[source.clone().into_os_string(), pair.at("data")]).expect_code(5);
    ended.expect_says(&["large-0: ", "disk is full", "1 failed", "hint: "]);
    let there = Path::new("/proc").join(pair.daemon.pid().to_string()).join("root");
    let there = there.join(pair.served("tree").strip_prefix("/").unwrap());
    // All but the large one.
    assert_eq!(differences(&source, &there).len(), 1, "{:?}", differences(&source, &there));
    assert!(!there.join("large-0").exists());
    // The daemon is well, and what there is room for goes on.
    write(&pair.local("file"), b"content");
    pair.copy(&[pair.local("file").into_os_string(), pair.at("data")]).expect_code(0);
}

#[test]
fn needs_root_a_full_disk_here_is_told() {
    let pair = Pair::new("full-here");
    let small = pair.scratch.folder("small");
    Growth { large: vec![12 << 20], ..Growth::small(48, 20) }.grow(&pair.served("tree"));
    let words = [pair.at("data/tree"), small.clone().into_os_string()];
    let command = pair.near.command(copy_words(&words));
    let ended = Running::start(on_small_disk(&small, "size=8m", &command)).wait().expect_code(5);
    ended.expect_says(&["large-0: ", "disk is full", "1 failed", "hint: "]);
}

#[test]
fn needs_root_a_read_only_disk_is_told() {
    let mut pair = Pair::new("ro-disk");
    pair.daemon = serve_small(&pair.near, &pair.far, &pair.served(""), "ro");
    write(&pair.local("file"), b"content");
    let ended = pair.copy(&[pair.local("file").into_os_string(), pair.at("data")]).expect_code(5);
    ended.expect_says(&["file: ", "Read-only"]);
}
