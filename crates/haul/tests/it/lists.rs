//! `--files-from`: what a list names is copied with its folders, and nothing else, whichever way.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use testkit::tree::{entries, write};

use crate::pair::{Pair, copy_words, finished, number};

fn names(folder: &Path) -> Vec<String> {
    let listed = entries(folder).into_iter();
    let mut names: Vec<String> =
        listed.map(|(path, _)| path.to_str().unwrap().to_owned()).collect();
    names.retain(|name| !name.starts_with(".haul"));
    names.sort();
    names
}

/// A folder with more than is listed.
fn sources(folder: &Path) {
    for file in ["a/one", "a/two", "a/b/three", "c/four", "c/d/five", "six", "odd\nname"] {
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        write(&folder.join(file), file.as_bytes());
    }
}

/// Pushed, pulled and within one machine: the list, its options, and what is there then.
fn each_way(
    pair: &Pair,
    number: usize,
    options: &[&str],
    list: &str,
    code: i32,
) -> Vec<Vec<String>> {
    let file = pair.local("list");
    write(&file, list.as_bytes());
    let run = |source: OsString, target: OsString, target_path: PathBuf| {
        let mut words: Vec<&OsStr> = vec!["--files-from".as_ref(), file.as_os_str()];
        words.extend(options.iter().map(AsRef::<OsStr>::as_ref));
        words.extend([source.as_os_str(), target.as_os_str()]);
        pair.copy(&words).expect_code(code);
        names(&target_path)
    };
    let near = pair.local("src/");
    let target = |way: &str| format!("{way}-{number}");
    let (here, pulled) = (pair.local(target("here")), pair.local(target("pulled")));
    let pushed = target("pushed");
    vec![
        run(near.clone().into(), pair.at(format!("data/{pushed}")), pair.served(&pushed)),
        run(pair.at("data/src"), pulled.clone().into(), pulled),
        run(near.into(), here.clone().into(), here),
    ]
}

#[test]
fn a_list_brings_what_it_names_with_its_folders() {
    let pair = Pair::new("lists");
    sources(&pair.local("src"));
    sources(&pair.served("src"));
    let mut next = 0;
    let mut check = |options: &[&str], list: &str, expected: &[&str]| {
        next += 1;
        for found in each_way(&pair, next, options, list, 0) {
            assert_eq!(found, expected, "{options:?} {list:?}");
        }
    };
    check(
        &[],
        "a/b/three\n./six\n/c/d/five\n\nsix\n",
        &["a", "a/b", "a/b/three", "c", "c/d", "c/d/five", "six"],
    );
    check(&["-0"], "odd\nname\0a/one\0", &["a", "a/one", "odd\nname"]);
    check(&[], "a\nc/\n", &["a", "c"]);
    check(
        &["-r"],
        "a\nc/d\n",
        &["a", "a/b", "a/b/three", "a/one", "a/two", "c", "c/d", "c/d/five"],
    );
    check(&["-r", "--exclude", "two"], "a\n", &["a", "a/b", "a/b/three", "a/one"]);
}

#[test]
fn what_is_listed_and_missing_fails_by_name_and_the_rest_is_copied() {
    let pair = Pair::new("lists-missing");
    sources(&pair.local("src"));
    sources(&pair.served("src"));
    for found in each_way(&pair, 1, &[], "six\na/none\nnone/x\nsix/below\n", 1) {
        assert_eq!(found, ["six"]);
    }
    write(&pair.local("list"), b"six\nsix/below\n");
    let list = pair.local("list");
    let here = pair.local("named");
    let words = ["--files-from".as_ref(), list.as_os_str(), &pair.at("data/src"), here.as_os_str()];
    pair.copy(&words).expect_code(1).expect_says(&["six/below", "1 failed"]);
    let words: Vec<OsString> =
        vec!["--files-from".into(), "-".into(), pair.local("src").into(), pair.at("data/named")];
    let ended = pair.near.run_with(copy_words(&words), b"a/one\na/none\n");
    ended.expect_code(1).expect_says(&["a/none", "copied 1 file", "1 failed"]);
    assert_eq!(names(&pair.served("named")), ["a", "a/one"]);
}

#[test]
fn a_list_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let pair = Pair::new("lists-refused");
    sources(&pair.local("src"));
    let (src, to, list) = (pair.local("src"), pair.at("data/new"), pair.local("list"));
    let check = |list_says: &str, words: &[&OsStr], says: &[&str]| {
        write(&list, list_says.as_bytes());
        let mut all: Vec<&OsStr> = vec!["--files-from".as_ref(), list.as_os_str()];
        all.extend(words);
        pair.copy(&all).expect_code(2).expect_says(says);
        assert!(!pair.served("new").exists());
    };
    check("six\n../x\n", &[src.as_os_str(), to.as_os_str()], &["name 2: '../x'"]);
    check("six\n", &[src.as_os_str(), src.as_os_str(), to.as_os_str()], &["one SOURCE"]);
    check(
        "six\n",
        &["--delete-extra".as_ref(), src.as_os_str(), to.as_os_str()],
        &["--delete-extra"],
    );
    let six = src.join("six");
    check("x\n", &[six.as_os_str(), to.as_os_str()], &["Not a directory"]);
    fs::remove_file(&list).unwrap();
    pair.copy(&["--files-from".as_ref(), list.as_os_str(), src.as_os_str(), to.as_os_str()])
        .expect_code(2)
        .expect_says(&["cannot read the list"]);
}

#[test]
fn a_long_list_travels_in_parts_and_one_too_long_is_refused() {
    let pair = Pair::new("lists-long");
    let served = pair.served("src");
    fs::create_dir_all(&served).unwrap();
    let mut list = String::new();
    for number in 0..3000 {
        let name = format!("{number:04}-with-a-name-that-takes-some-room");
        if number % 100 == 0 {
            write(&served.join(&name), b"x");
        }
        list.push_str(&name);
        list.push('\n');
    }
    let file = pair.local("list");
    write(&file, list.as_bytes());
    let here = pair.local("here");
    let from = pair.at("data/src");
    let run = |json: &str| {
        pair.copy(&[
            "--files-from".as_ref(),
            file.as_os_str(),
            json.as_ref(),
            &from,
            here.as_os_str(),
        ])
    };
    let end = finished(&run("--json").expect_code(1));
    assert_eq!((number(&end, "files"), number(&end, "failed")), (30, 2970));
    let long: String = (0..400_000).map(|number| format!("{number}\n")).collect();
    write(&file, long.as_bytes());
    run("-q").expect_code(2).expect_says(&["too long", "several runs"]);
}
