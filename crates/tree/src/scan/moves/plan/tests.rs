//! Moves in order, on trees in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// A tree: `name/` for folders. What it holds is known by where it was.
fn tree(entries: &[&str]) -> BTreeMap<RelPath, Kind> {
    let entry = |text: &&str| match text.strip_suffix('/') {
        Some(folder) => (path(folder), Kind::Directory),
        None => (path(text), Kind::File),
    };
    entries.iter().map(entry).collect()
}

/// Plans the moves and carries them out one after another; the lines are `from > to`, with `!` where
/// something is replaced.
fn check(entries: &[&str], pairs: &[(&str, &str)]) -> Vec<String> {
    let before = tree(entries);
    let pair = |(from, to): &(&str, &str)| {
        let from = path(from);
        Pair { kind: before[&from], from, to: path(to) }
    };
    let pairs: Vec<Pair> = pairs.iter().map(pair).collect();
    let look = |path: &RelPath| Ok::<_, Infallible>(before.get(path).copied());
    let Ok(moves) = plan(pairs.clone(), look);
    // Each entry with where it was, at where it is.
    let mut now: BTreeMap<RelPath, (RelPath, Kind)> =
        before.iter().map(|(path, kind)| (path.clone(), (path.clone(), *kind))).collect();
    for Moved { from, to, kind, replaces } in &moves {
        assert!(!to.starts_with(from) && !from.starts_with(to), "{from} > {to}");
        let there = now.remove(to);
        assert_eq!(there.is_some(), *replaces, "{from} > {to}");
        assert!(there.is_none_or(|there| there.1 == Kind::File && *kind == Kind::File));
        let above = to.parent().and_then(|above| now.get(&above));
        assert!(above.is_none_or(|above| above.1 == Kind::Directory), "{from} > {to}");
        let moved: Vec<RelPath> =
            now.keys().filter(|path| path.starts_with(from)).cloned().collect();
        assert!(moved.contains(from), "{from} is not there for {to}");
        for path in moved {
            let rest = path.names().skip(from.depth());
            let new = { rest }.fold(to.clone(), |path, name| path.join(&name).unwrap());
            let entry = now.remove(&path).unwrap();
            now.insert(new, entry);
        }
    }
    // Whatever has moved is where it was to be.
    for (at, (origin, _)) in &now {
        if let Some(pair) = pairs.iter().find(|pair| pair.from == *origin) {
            assert!(*at == pair.to || at == origin || !moves.iter().any(|moved| moved.to == *at));
        }
    }
    let mark = |replaces| if replaces { " !" } else { "" };
    moves.iter().map(|m| format!("{} > {}{}", m.from, m.to, mark(m.replaces))).collect()
}

#[test]
fn moves_that_wait_for_each_other() {
    let rotated = check(
        &["log", "log.1", "log.2"],
        &[("log", "log.1"), ("log.1", "log.2"), ("log.2", "log.3")],
    );
    assert_eq!(rotated, ["log.2 > log.3", "log.1 > log.2", "log > log.1"]);
    // The last one was overwritten.
    let rotated = check(&["log", "log.1", "log.2"], &[("log", "log.1"), ("log.1", "log.2")]);
    assert_eq!(rotated, ["log.1 > log.2 !", "log > log.1"]);
}

#[test]
fn folders_and_what_is_in_them() {
    let entries = ["a/", "a/b/", "a/b/c", "a/d", "z/"];
    for (pairs, expected) in [
        (&[("a", "z/a")][..], &["a > z/a"][..]),
        // A file that moved within a folder that moved, and one that moved out of it.
        (&[("a", "e"), ("a/d", "e/f")], &["a > e", "e/d > e/f"]),
        (&[("a", "e"), ("a/d", "d")], &["a/d > d", "a > e"]),
        // A folder goes into what was in it.
        (&[("a/b", "f"), ("a", "f/a")], &["a/b > f", "a > f/a"]),
        // Into a folder that is new.
        (&[("a/d", "new/folder/d")], &["a/d > new/folder/d"]),
        // Over a file in a folder that is on its way into a new one.
        (
            &[("a", "new/a"), ("z", "new/z"), ("a/b/c", "new/a/d")],
            &["a > new/a", "new/a/b/c > new/a/d !", "z > new/z"],
        ),
        // A file goes into a folder that is still to come, and another one takes its place.
        (
            &[("a/d", "new/d/e"), ("a/b/c", "a/d"), ("z", "new/d")],
            &["z > new/d", "a/d > new/d/e", "a/b/c > a/d"],
        ),
        // The name is used again, by something that was in it.
        (&[("a", "e"), ("a/b", "a")], &["a > e", "e/b > a"]),
    ] {
        assert_eq!(check(&entries, pairs), expected, "{pairs:?}");
    }
}

#[test]
fn what_needs_a_detour_is_left_out() {
    let entries = ["a/", "a/b/", "c/", "x", "y"];
    for (pairs, expected) in [
        // Two files change places: one can move, and the other comes anew.
        (&[("x", "y"), ("y", "x")][..], &["y > x !"][..]),
        (&[("a", "c"), ("c", "a")], &[]),
        (&[("a", "a/b/a")], &[]),
        (&[("a/b", "a"), ("a", "a/b")], &[]),
        // A folder in place of another one that is gone, and a file in place of a folder.
        (&[("a", "c")], &[]),
        (&[("x", "c")], &[]),
        (&[("a", "x")], &[]),
        // Below a file.
        (&[("a", "x/a")], &[]),
    ] {
        assert_eq!(check(&entries, pairs), expected, "{pairs:?}");
    }
}

#[test]
fn many_that_wait_in_a_row() {
    let name = |number: usize| format!("image-{number:06}");
    let names: Vec<String> = (0..20_000).map(name).collect();
    let before: BTreeMap<RelPath, Kind> =
        names.iter().map(|name| (path(name), Kind::File)).collect();
    let pairs: Vec<Pair> = (0..20_000)
        .map(|n| Pair { from: path(&name(n)), to: path(&name(n + 1)), kind: Kind::File })
        .collect();
    let mut looks = 0;
    let Ok(moves) = plan(pairs, |path| {
        looks += 1;
        Ok::<_, Infallible>(before.get(path).copied())
    });
    assert_eq!(moves.len(), 20_000);
    assert!(moves.iter().all(|moved| !moved.replaces));
    assert_eq!(
        (moves[0].from.clone(), moves[0].to.clone()),
        (path(&name(19_999)), path(&name(20_000)))
    );
    assert!(looks <= 60_000, "{looks} looks");
}
