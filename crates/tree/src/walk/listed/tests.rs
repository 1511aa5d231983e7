use super::*;
use crate::filter::Rule;
use crate::scratch::Scratch;
use crate::selection::TooLong;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn tree() -> Scratch {
    let scratch = Scratch::new();
    for file in ["a/x", "a/b/y", "a/b/c/z", "d/e/w", "top", ".haul/s"] {
        scratch.write(file, b"x");
    }
    scratch.make_dir("f").symlink("link", "a");
    scratch
}

/// The steps in their order: `+folder`, `-folder`, `file`, `!problem`.
fn steps(scratch: &Scratch, paths: &[&str], whole: bool, rules: Vec<Rule>) -> Vec<String> {
    let paths = paths.iter().map(|text| Ok::<_, TooLong>(path(text)));
    let list = Arc::new(Selection::of(paths, whole, 10_000).unwrap());
    let filter = Filter::new(rules).unwrap();
    let walk = ListedWalk::new(scratch.dir(), list, filter).unwrap();
    walk.map(|step| match step {
        Step::Enter(entry) => format!("+{}", entry.path),
        Step::Leaf(entry) => entry.path.to_string(),
        Step::Leave { path, complete } => {
            assert!(whole || !complete, "{path}: what is beside the list was not seen");
            format!("-{path}")
        }
        Step::Problem { path, .. } => format!("!{path}"),
    })
    .collect()
}

#[test]
fn what_is_listed_is_visited_and_nothing_else() {
    let tree = tree();
    let root = RelPath::root().to_string();
    let check = |paths: &[&str], whole: bool, expected: &[&str]| {
        let mut all = vec![format!("+{root}")];
        all.extend(expected.iter().map(|step| (*step).to_owned()));
        all.push(format!("-{root}"));
        assert_eq!(steps(&tree, paths, whole, Vec::new()), all, "{paths:?}");
    };
    check(&[], false, &[]);
    check(&["top", "a/b/y", "a/x"], false, &["+a", "+a/b", "a/b/y", "-a/b", "a/x", "-a", "top"]);
    check(
        &["a/b/c/z", "d/e/w"],
        false,
        &[
            "+a", "+a/b", "+a/b/c", "a/b/c/z", "-a/b/c", "-a/b", "-a", "+d", "+d/e", "d/e/w",
            "-d/e", "-d",
        ],
    );
    check(&["a", "f"], false, &["+a", "-a", "+f", "-f"]);
    check(&["", "top"], false, &["top"]);
    check(&["d", "d/e", "d/e/w"], true, &["+d", "+d/e", "d/e/w", "-d/e", "-d"]);
    check(
        &["a/b/c", "a/x"],
        true,
        &["+a", "+a/b", "+a/b/c", "a/b/c/z", "-a/b/c", "-a/b", "a/x", "-a"],
    );
    check(&["link"], true, &["link"]);
    // What is not there is named, and brings no folder with it.
    check(
        &["none", "a/none", "a/b/none/x", "top/x", "link/x", "top"],
        false,
        &["!a/b/none/x", "!a/none", "!link/x", "!none", "top", "!top/x"],
    );
    check(&[".haul/s", "top"], false, &["top"]);
}

#[test]
fn the_whole_root_is_all_that_it_has() {
    let tree = tree();
    let mut found = steps(&tree, &["", "top"], true, Vec::new());
    let of_walk = Walk::new(tree.dir(), WalkRoot::Inside(RelPath::root()), WalkOptions::default());
    assert_eq!(found.len(), of_walk.unwrap().count());
    found.sort();
    found.dedup();
    assert!(found.contains(&"a/b/c/z".to_owned()) && found.contains(&"link".to_owned()));
}

#[test]
fn rules_hold_for_what_is_listed_too() {
    let tree = tree();
    let rules = vec![Rule::exclude("b"), Rule::exclude("top")];
    let found = steps(&tree, &["a/b/y", "a/x", "top"], false, rules.clone());
    assert_eq!(found[1..found.len() - 1], ["+a", "a/x", "-a"]);
    let found = steps(&tree, &["a", "top"], true, rules);
    assert_eq!(found[1..found.len() - 1], ["+a", "a/x", "-a"]);
}
