use super::*;
use crate::spool::Scratch;
use crate::state::{own_name, path_of};

/// Everything is allowed.
struct All;

impl Rights for All {
    fn sees(&self, _path: &RelPath) -> bool {
        true
    }

    fn takes(&self, _path: &RelPath) -> bool {
        true
    }
}

/// Only what begins so, and what leads there.
struct Only(&'static str);

impl Rights for Only {
    fn sees(&self, path: &RelPath) -> bool {
        self.takes(path) || self.0.as_bytes().starts_with(path.as_bytes())
    }

    fn takes(&self, path: &RelPath) -> bool {
        path.as_bytes().starts_with(self.0.as_bytes())
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn write(dir: &Dir, at: &str) {
    let at = path(at);
    let folder = dir.make_dir_all(&at.parent().unwrap(), 0o755).unwrap();
    folder.write_private(&at.file_name().unwrap(), b"x").unwrap();
}

fn link(dir: &Dir, at: &str, target: &str) {
    let at = path(at);
    let folder = dir.make_dir_all(&at.parent().unwrap(), 0o755).unwrap();
    folder.make_symlink(target.as_bytes(), &at.file_name().unwrap()).unwrap();
}

fn tree() -> Scratch {
    let scratch = Scratch::in_temporary("haul-glob-test-").unwrap();
    let dir = scratch.dir();
    for file in [
        "logs/b.gz",
        "logs/a.gz",
        "logs/.hidden.gz",
        "logs/plain",
        "logs/old/c.gz",
        "logs/old/deep/d.gz",
        "logs/.cache/e.gz",
        ".haul/f.gz",
        "other/a.gz",
    ] {
        write(dir, file);
    }
    link(dir, "logs/to-file.gz", "../other/a.gz");
    link(dir, "logs/dangling.gz", "nowhere");
    link(dir, "logs/outside.gz", "/etc/passwd");
    link(dir, "to-logs", "logs");
    link(dir, "up", "../..");
    link(dir, "to-reserved", ".haul");
    link(dir, "logs/old/deep/circle", "../../old");
    scratch
}

fn found(tree: &Scratch, pattern: &str, rights: &dyn Rights) -> Result<Vec<String>, Refusal> {
    let glob = Glob::parse(pattern.as_bytes()).unwrap();
    let found = expand(tree.dir(), &glob, rights, &mut Budget::default())?;
    Ok(found.iter().map(|found| format!("{}={}", found.name, found.path)).collect())
}

#[test]
fn patterns_find_what_is_there_and_nothing_outside() {
    let tree = tree();
    let check = |pattern: &str, expected: &[&str]| {
        assert_eq!(found(&tree, pattern, &All).unwrap(), expected, "{pattern}");
    };
    check(
        "logs/*.gz",
        &[
            "a.gz=logs/a.gz",
            "b.gz=logs/b.gz",
            // Links that lead nowhere or out are links.
            "dangling.gz=logs/dangling.gz",
            "outside.gz=logs/outside.gz",
            "to-file.gz=other/a.gz",
        ],
    );
    check("logs/.*", &[".cache=logs/.cache", ".hidden.gz=logs/.hidden.gz"]);
    check("to-l*/[ab].gz", &["a.gz=logs/a.gz", "b.gz=logs/b.gz"]);
    check("*/old/", &["old=logs/old", "old=logs/old"]);
    check("o?her", &["other=other"]);
    check("logs/*/", &["old=logs/old"]);
    check("logs/pl\\ain", &["plain=logs/plain"]);
    check("up/*", &[]);
    check("logs/plain/*", &[]);
    check("none/*", &[]);
    check(".*/*", &[]);
    check(".haul/*", &[]);
    check("to-reserved/*", &[]);
    check("logs/**/[cd].gz", &["c.gz=logs/old/c.gz", "d.gz=logs/old/deep/d.gz"]);
    check("**/deep", &["deep=logs/old/deep"]);
    check("logs/old/deep/circle/deep/circle/*.gz", &["c.gz=logs/old/c.gz"]);
}

#[test]
fn what_may_not_be_seen_does_not_match() {
    let tree = tree();
    let names = |pattern: &str, rights: &dyn Rights| found(&tree, pattern, rights).unwrap();
    assert_eq!(names("*", &Only("logs/old")), Vec::<String>::new());
    assert_eq!(names("*/*", &Only("logs/old")), ["old=logs/old"]);
    assert_eq!(names("logs/*", &Only("other")), Vec::<String>::new(), "not even through a link");
    assert_eq!(names("*/*", &Only("other")), ["a.gz=other/a.gz"]);
}

#[test]
fn a_search_ends() {
    let tree = tree();
    let glob = Glob::parse(b"**/*").unwrap();
    for budget in [
        Budget { looked: 5, ..Budget::default() },
        Budget { held: 3, ..Budget::default() },
        Budget { found: 2, ..Budget::default() },
    ] {
        let mut budget = budget;
        let refused = expand(tree.dir(), &glob, &All, &mut budget).unwrap_err();
        assert!(refused.text.contains("--exclude"), "{}", refused.text);
    }
    // Links in a circle: as far as a path can be deep, and no farther.
    let circle = Scratch::in_temporary("haul-glob-test-").unwrap();
    for name in ["a", "b"] {
        circle.dir().make_symlink(b".", &own_name(name)).unwrap();
    }
    let deep = Glob::parse(format!("{}none", "*/".repeat(40)).as_bytes()).unwrap();
    let mut budget = Budget { looked: 20_000, ..Budget::default() };
    let refused = expand(circle.dir(), &deep, &All, &mut budget).unwrap_err();
    assert!(refused.text.contains("too many"), "{}", refused.text);
    assert!(circle.dir().attributes_of(&path_of("a")).is_ok());
}
