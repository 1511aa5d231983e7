//! Which folder a target means: the cases of `cp -r` as a table, and each of them pushed, pulled and
//! copied within one machine.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use testkit::tree::{entries, write};

use crate::pair::Pair;

/// What one case expects.
enum Then {
    /// These files, each holding what the source of its last name holds.
    Has(&'static [&'static str]),
    /// The exit code, and words of the message.
    Fails(i32, &'static str),
}

use Then::{Fails, Has};

/// Sources below `from/`, the target below `to/`, what is at the target before, and what is there then.
/// A name before that ends in a slash is a folder.
type Case = (&'static [&'static str], &'static str, &'static [&'static str], Then);

const CASES: &[Case] = &[
    // A folder.
    (&["dir"], "new", &[], Has(&["new/a", "new/sub/b"])),
    (&["dir"], "old", &["old/"], Has(&["old/dir/a", "old/dir/sub/b"])),
    (&["dir"], "old/", &["old/"], Has(&["old/dir/a", "old/dir/sub/b"])),
    (&["dir/"], "new", &[], Has(&["new/a", "new/sub/b"])),
    (&["dir/"], "old", &["old/"], Has(&["old/dir/a", "old/dir/sub/b"])),
    (
        &["dir"],
        "old",
        &["old/", "old/dir/", "old/dir/kept"],
        Has(&["old/dir/a", "old/dir/kept", "old/dir/sub/b"]),
    ),
    (&["dir"], "", &[], Has(&["dir/a", "dir/sub/b"])),
    (&["dir"], "none/new", &[], Fails(2, "new")),
    (&["dir"], "new/", &[], Fails(2, "new")),
    // What is in a folder.
    (&["dir/."], "new", &[], Has(&["new/a", "new/sub/b"])),
    (&["dir/."], "new/", &[], Has(&["new/a", "new/sub/b"])),
    (&["dir/."], "old", &["old/"], Has(&["old/a", "old/sub/b"])),
    (&["dir/."], "old", &["old"], Fails(2, "folder is needed")),
    // A file.
    (&["file"], "new", &[], Has(&["new"])),
    (&["file"], "old", &["old"], Has(&["old"])),
    (&["file"], "old", &["old/"], Has(&["old/file"])),
    (&["file"], "old/", &["old/"], Has(&["old/file"])),
    (&["file"], "old/new", &["old/"], Has(&["old/new"])),
    (&["file"], "new/", &[], Fails(2, "does not exist")),
    (&["file"], "none/new", &[], Fails(2, "does not exist")),
    // Several sources.
    (&["file", "dir"], "old", &["old/"], Has(&["old/dir/a", "old/dir/sub/b", "old/file"])),
    (&["file", "dir"], "old/", &["old/"], Has(&["old/dir/a", "old/dir/sub/b", "old/file"])),
    (&["file", "dir"], "", &[], Has(&["dir/a", "dir/sub/b", "file"])),
    (&["file", "dir"], "new", &[], Fails(2, "does not exist")),
    (&["file", "dir"], "old", &["old"], Fails(2, "folder is needed")),
    (&["file", "twin/file"], "old", &["old/"], Fails(2, "one would replace the other")),
    (&["file", "dir/."], "old", &["old/"], Fails(2, "must be the only one")),
    (&["none"], "old", &["old/"], Fails(2, "none")),
    // A folder where a file is, and the other way around: named, and nothing is lost.
    (&["dir"], "old", &["old"], Fails(1, "old")),
    (&["file"], "old", &["old/", "old/file/", "old/file/kept"], Fails(1, "file")),
];

/// Which end is far away.
#[derive(Clone, Copy, Debug)]
enum Way {
    Push,
    Pull,
    Here,
}

fn sources(from: &Path) {
    for (path, content) in
        [("file", "file"), ("dir/a", "a"), ("dir/sub/b", "b"), ("twin/file", "twin")]
    {
        let path = from.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, content.as_bytes());
    }
}

fn check(way: Way) {
    let pair = Pair::new("folders");
    let (from, to) = match way {
        Way::Push => (pair.local("from"), pair.served("to")),
        Way::Pull => (pair.served("from"), pair.local("to")),
        Way::Here => (pair.local("from"), pair.local("to")),
    };
    sources(&from);
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).unwrap();
        if let Err(why) = run(&pair, way, (&from, &to), case) {
            let (named, target, before, _) = case;
            wrong.push(format!("{number}: {named:?} to '{target}' over {before:?}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
}

fn run(pair: &Pair, way: Way, (from, to): (&Path, &Path), case: &Case) -> Result<(), String> {
    let (named, target, before, then) = case;
    for path in *before {
        match path.strip_suffix('/') {
            Some(folder) => fs::create_dir(to.join(folder)).unwrap(),
            None => write(&to.join(path), path.as_bytes()),
        }
    }
    let local = |below: &str, base: &Path| OsString::from(format!("{}/{below}", base.display()));
    let mut words: Vec<OsString> = named
        .iter()
        .map(|name| match way {
            Way::Pull => pair.at(format!("data/from/{name}")),
            Way::Push | Way::Here => local(name, from),
        })
        .collect();
    words.push(match way {
        Way::Push if target.is_empty() => pair.at("data/to"),
        Way::Push => pair.at(format!("data/to/{target}")),
        Way::Pull | Way::Here if target.is_empty() => to.as_os_str().to_owned(),
        Way::Pull | Way::Here => local(target, to),
    });
    let ended = pair.copy(&words);
    let there: Vec<(String, Vec<u8>)> = entries(to)
        .into_iter()
        .filter(|(_, meta)| meta.is_file())
        .map(|(path, _)| (path.to_str().unwrap().to_owned(), fs::read(to.join(&path)).unwrap()))
        .collect();
    match then {
        Has(files) => {
            let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
            if ended.code != Some(0) || names != *files {
                return Err(format!("{names:?} in place of {files:?}\n{}", ended.told()));
            }
            for (name, content) in &there {
                let own = name.rsplit('/').next().unwrap();
                let wanted = match own {
                    "kept" => name.as_bytes(),
                    "new" | "old" => b"file",
                    own => own.as_bytes(),
                };
                if content != wanted {
                    return Err(format!("{name} holds {:?}", String::from_utf8_lossy(content)));
                }
            }
        }
        Fails(code, words) => {
            if ended.code != Some(*code) || !ended.errors.contains(words) {
                return Err(format!("no exit {code} with '{words}'\n{}", ended.told()));
            }
            // Whatever was there before is there still.
            for path in before.iter().filter(|path| !path.ends_with('/')) {
                if fs::read(to.join(path)).ok().as_deref() != Some(path.as_bytes()) {
                    return Err(format!("{path} was there and is not any more"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn pushed_as_cp_would() {
    check(Way::Push);
}

#[test]
fn pulled_as_cp_would() {
    check(Way::Pull);
}

#[test]
fn copied_here_as_cp_would() {
    check(Way::Here);
}

#[test]
fn far_paths_mean_exports() {
    let pair = Pair::new("far-paths");
    let file = pair.local("file");
    write(&file, b"content");
    let absolute = pair.served("by absolute path");
    for (path, lands) in [
        // Only one folder is exported, so its name can be left out.
        (OsString::new(), "file"),
        ("one".into(), "one"),
        ("data/two".into(), "two"),
        ("data".into(), "file"),
        ("./data/three".into(), "three"),
        (absolute.clone().into_os_string(), "by absolute path"),
        ("data/a b\tc".into(), "a b\tc"),
    ] {
        let _ = fs::remove_file(pair.served(lands));
        pair.copy(&[file.clone().into_os_string(), pair.at(&path)]).expect_code(0);
        assert_eq!(fs::read(pair.served(lands)).unwrap(), b"content", "{path:?}");
    }
    let address = pair.daemon.address();
    let url = format!("haul://{address}/data/by%20url");
    pair.copy(&[file.clone().into_os_string(), url.into()]).expect_code(0);
    assert_eq!(fs::read(pair.served("by url")).unwrap(), b"content");
}

#[test]
fn a_folder_is_not_copied_into_itself() {
    let pair = Pair::new("into-itself");
    let tree = pair.scratch.folder("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    write(&tree.join("a"), b"a");
    let link = pair.scratch.join("link");
    std::os::unix::fs::symlink(tree.join("sub"), &link).unwrap();
    let before = entries(&tree).len();
    for (source, target) in [
        ("tree", "tree/sub"),
        ("tree", "tree/new"),
        ("tree/.", "tree/sub/new"),
        ("tree", "tree/sub/deep"),
        ("tree/sub", "tree/sub"),
        ("tree", "link"),
    ] {
        let words = ["-r".into(), pair.scratch.join(source), pair.scratch.join(target)];
        let ended = pair.copy(&words).expect_code(2);
        let shown = pair.scratch.join(source);
        let said = format!("cannot copy a directory, '{}', into itself, '", shown.display());
        ended.expect_says(&[&said]);
        assert_eq!(entries(&tree).len(), before, "{source} to {target}: something was written");
    }
    // Beside it, and a part of it to above it, there is nothing wrong.
    pair.copy(&[tree.clone(), pair.scratch.join("beside")]).expect_code(0);
    pair.copy(&[tree.join("sub/deep"), tree]).expect_code(0);
}

#[test]
fn a_whole_export_is_pulled_however_it_is_named() {
    let pair = Pair::new("whole-export");
    fs::create_dir(pair.served("sub")).unwrap();
    write(&pair.served("sub/a"), b"a");
    write(&pair.served(".hidden"), b"h");
    let absolute = pair.served("").display().to_string();
    for (number, (typed, below)) in [
        ("", "data"),
        ("./", "data"),
        ("data", "data"),
        ("data/", "data"),
        (".", ""),
        ("data/.", ""),
        (absolute.trim_end_matches('/'), "served"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = pair.scratch.folder(format!("to-{number}"));
        pair.copy(&[pair.at(typed), to.clone().into_os_string()]).expect_code(0);
        assert_eq!(fs::read(to.join(below).join("sub/a")).unwrap(), b"a", "'{typed}'");
        assert_eq!(fs::read(to.join(below).join(".hidden")).unwrap(), b"h", "'{typed}'");
    }
}
