//! Patterns in far paths: the machine that has the files says what they stand for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::tree::{entries, write};

use crate::pair::{Pair, data};

fn names(folder: &Path) -> Vec<String> {
    let listed = entries(folder).into_iter();
    let mut names: Vec<String> =
        listed.map(|(path, _)| path.to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A folder of logs, and what must not be found.
fn logs(served: &Path) {
    for file in
        ["logs/a.gz", "logs/b.gz", "logs/.c.gz", "logs/d", "more/a.gz", "star*/x", "starfish/y"]
    {
        fs::create_dir_all(served.join(file).parent().unwrap()).unwrap();
        write(&served.join(file), file.as_bytes());
    }
    symlink("/etc/passwd", served.join("logs/out.gz")).unwrap();
}

#[test]
fn patterns_bring_what_they_stand_for() {
    let pair = Pair::new("globs");
    logs(&pair.served(""));
    let check = |number: usize, words: &[&str], expected: &[&str]| {
        let here = pair.scratch.folder(format!("here-{number}"));
        let mut words: Vec<_> = words.iter().map(|word| pair.at(word)).collect();
        words.push(here.clone().into());
        pair.copy(&words).expect_code(0);
        assert_eq!(names(&here), expected, "{words:?}");
    };
    check(0, &["logs/*.gz"], &["a.gz", "b.gz", "out.gz"]);
    check(1, &["data/l?gs/[ab]*"], &["a.gz", "b.gz"]);
    check(2, &["logs/b*", "more/*"], &["a.gz", "b.gz"]);
    check(3, &["mor*/."], &["a.gz"]);
    check(4, &["star*"], &["star*", "star*/x"]);
    check(5, &["star\\*/x"], &["x"]);
    check(6, &["**/[xy]"], &["x", "y"]);
    assert!(fs::symlink_metadata(pair.scratch.join("here-0/out.gz")).unwrap().is_symlink());
}

#[test]
fn patterns_that_cannot_be_served_are_refused_in_words() {
    let pair = Pair::with("globs-refused", &["--path", "data/more"]);
    logs(&pair.served(""));
    let here = pair.scratch.folder("here");
    let check = |words: &[&str], target: &Path, says: &[&str]| {
        let mut words: Vec<_> = words.iter().map(|word| pair.at(word)).collect();
        words.push(target.into());
        pair.copy(&words).expect_code(2).expect_says(says);
        assert_eq!(names(&here), Vec::<String>::new());
    };
    check(&["more/*.zip"], &here, &["no file matches more/*.zip"]);
    // What the key may not use is not there for it.
    check(&["logs/*.gz"], &here, &["no file matches logs/*.gz"]);
    check(&["l*"], &here, &["no file matches l*"]);
    check(&["more/*", "more/a*"], &here, &["called a.gz", "one would replace the other"]);
    check(&["more/*"], &here.join("new"), &["does not exist", "a pattern"]);
    check(&["more/*"], "-".as_ref(), &["only one file"]);
    pair.copy(&[pair.at("m*/a.gz").as_os_str(), here.as_os_str()]).expect_code(0);
    assert_eq!(names(&here), ["a.gz"]);
}

#[test]
fn several_exports_are_names_too() {
    let pair = Pair::new("globs-exports");
    let (one, two) = (pair.scratch.folder("one"), pair.scratch.folder("two"));
    write(&one.join("a"), b"a");
    write(&two.join("b"), b"b");
    let mut words = data(&one);
    words.push("-1");
    let mut more = data(&two);
    more.push("-2");
    let daemon = pair.far.serve(&[words, more]);
    pair.near.trust(&pair.far, daemon.address());
    let here = pair.scratch.folder("here");
    pair.copy(&[daemon.at("data-*").as_os_str(), here.as_os_str()]).expect_code(0);
    assert_eq!(names(&here), ["data-1", "data-1/a", "data-2", "data-2/b"]);
    pair.copy(&[daemon.at("*-2/*").as_os_str(), here.as_os_str()]).expect_code(0);
    assert!(here.join("b").exists());
}
