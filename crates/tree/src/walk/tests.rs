//! Walks over odd trees.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::filter::Rule;
use crate::scratch::Scratch;

fn path(bytes: impl AsRef<[u8]>) -> RelPath {
    RelPath::parse(bytes.as_ref()).unwrap()
}

fn inside() -> WalkRoot {
    WalkRoot::Inside(RelPath::root())
}

fn walk(scratch: &Scratch, start: WalkRoot, rules: &[Rule]) -> Walk {
    let filter = Filter::new(rules.to_vec()).unwrap();
    let options = WalkOptions { filter, ..WalkOptions::default() };
    Walk::new(scratch.dir(), start, options).unwrap()
}

/// A step in one line: `+dir`, `-dir`, `?dir` (left incomplete), `file`, `link -> target`, `!problem`.
fn line(step: &Step) -> String {
    match step {
        Step::Enter(entry) => format!("+{}", entry.path),
        Step::Leave { path, complete: true } => format!("-{path}"),
        Step::Leave { path, complete: false } => format!("?{path}"),
        Step::Leaf(entry) => match (&entry.link_target, entry.attributes.kind) {
            (Some(target), _) => format!("{} -> {}", entry.path, target.escape_ascii()),
            (None, Kind::Other) => format!("{} (other)", entry.path),
            (None, _) => entry.path.to_string(),
        },
        Step::Problem { path, .. } => format!("!{path}"),
    }
}

/// The steps, sorted, because the disk lists in any order; that they nest is checked on the way.
fn steps(walk: impl Iterator<Item = Step>) -> Vec<String> {
    let mut within: Vec<RelPath> = Vec::new();
    let mut lines = Vec::new();
    for step in walk {
        let parent = within.last();
        match &step {
            Step::Enter(entry) | Step::Leaf(entry) => {
                assert!(parent.is_none() || entry.path.parent().as_ref() == parent, "{step:?}");
            }
            Step::Leave { path, .. } => assert_eq!(Some(path), parent),
            Step::Problem { .. } => {}
        }
        match &step {
            Step::Enter(entry) => within.push(entry.path.clone()),
            Step::Leave { .. } => drop(within.pop()),
            _ => {}
        }
        lines.push(line(&step));
    }
    assert!(within.is_empty(), "not left: {within:?}");
    lines.sort();
    lines
}

#[test]
fn every_kind_of_entry() {
    let scratch = Scratch::new();
    scratch.write("a/b/file", "x").make_dir("empty").fifo("fifo");
    scratch.symlink("loop", "loop").symlink("a/up", "..").symlink("out", "/etc");
    scratch.write(b"\xff\n", "x");
    let expected = [
        "+.",
        "+a",
        "+a/b",
        "+empty",
        "-.",
        "-a",
        "-a/b",
        "-empty",
        "\\xff\\n",
        "a/b/file",
        "a/up -> ..",
        "fifo (other)",
        "loop -> loop",
        "out -> /etc",
    ];
    assert_eq!(steps(walk(&scratch, inside(), &[])), expected);
}

#[test]
fn attributes_are_those_of_the_entry() {
    let scratch = Scratch::new();
    scratch.write("file", "12345").chmod("file", 0o640);
    let found = walk(&scratch, inside(), &[]).find_map(|step| match step {
        Step::Leaf(entry) => Some(entry.attributes),
        _ => None,
    });
    let attributes = found.unwrap();
    assert_eq!((attributes.size, attributes.mode & 0o7777), (5, 0o640));
    assert_eq!(attributes.mtime.seconds, 1_700_000_000);
}

#[test]
fn starts_inside_or_at_an_entry() {
    let scratch = Scratch::new();
    scratch.write("a/b/file", "x").symlink("link", "a");
    let at = |name: &str| WalkRoot::Entry(Name::new(name).unwrap());
    for (start, expected) in [
        (WalkRoot::Inside(path("a")), &["+.", "+b", "-.", "-b", "b/file"][..]),
        (WalkRoot::Inside(path("link/b")), &["+.", "-.", "file"]),
        (at("a"), &["+a", "+a/b", "-a", "-a/b", "a/b/file"]),
        (at("link"), &["link -> a"]),
    ] {
        assert_eq!(steps(walk(&scratch, start, &[])), expected);
    }
    for missing in [WalkRoot::Inside(path("b")), at("b"), WalkRoot::Inside(path("a/b/file"))] {
        assert!(Walk::new(scratch.dir(), missing, WalkOptions::default()).is_err());
    }
}

#[test]
fn leaves_out_what_filters_and_reserved_names_say() {
    let scratch = Scratch::new();
    scratch.write("keep/a.o", "").write("keep/a.c", "").write("drop/inside", "");
    scratch.write(".haul/partial", "").write("keep/.haul/partial", "").write("drop2", "");
    let rules = [Rule::include("/keep/a.o"), Rule::exclude("*.o"), Rule::exclude("drop*/")];
    let expected = ["+.", "+keep", "-.", "-keep", "drop2", "keep/a.c", "keep/a.o"];
    assert_eq!(steps(walk(&scratch, inside(), &rules)), expected);
    // The filter is not asked about the start itself.
    let start = WalkRoot::Entry(Name::new("drop").unwrap());
    assert_eq!(steps(walk(&scratch, start, &rules)), ["+drop", "-drop", "drop/inside"]);
}

#[test]
fn a_skipped_directory_has_no_steps() {
    let scratch = Scratch::new();
    scratch.write("a/inside", "").write("b/inside", "");
    let mut walk = walk(&scratch, inside(), &[]);
    let mut lines = Vec::new();
    while let Some(step) = walk.next() {
        if matches!(&step, Step::Enter(entry) if entry.path == path("a")) {
            walk.skip_directory();
        }
        lines.push(line(&step));
    }
    lines.sort();
    assert_eq!(lines, ["+.", "+a", "+b", "-.", "-b", "b/inside"]);
}

#[test]
fn ten_thousand_names_in_one_folder() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    for i in 0..10_000 {
        dir.make_symlink(b"x", &Name::new(i.to_string()).unwrap()).unwrap();
    }
    let found: BTreeSet<String> = walk(&scratch, inside(), &[])
        .filter_map(|step| matches!(step, Step::Leaf(_)).then(|| line(&step)))
        .collect();
    assert_eq!(found.len(), 10_000);
}

/// Links beside each folder of a deep tree, so that every level has something left to list when the
/// walk comes back to it. By handles, because paths would be walked again for each level.
fn deep(scratch: &Scratch, levels: usize, links: usize) {
    let (name, mut dir) = (Name::new("d").unwrap(), scratch.dir());
    for _ in 0..levels {
        dir.make_dir(&name, 0o755).unwrap();
        dir = dir.open_dir(&RelPath::from(&name), Follow::Never).unwrap();
        for link in 0..links {
            dir.make_symlink(b"x", &Name::new(link.to_string()).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_deep_tree_is_walked_with_few_directories_open() {
    let scratch = Scratch::new();
    deep(&scratch, 200, 10);
    let mut walk = walk(&scratch, inside(), &[]);
    let mut links = BTreeSet::new();
    let mut most_open = 0;
    while let Some(step) = walk.next() {
        let open = walk.levels.iter().filter(|level| matches!(level.listing, Listing::Open(..)));
        most_open = most_open.max(open.count());
        match step {
            Step::Leaf(entry) => assert!(links.insert(entry.path.clone()), "{} twice", entry.path),
            Step::Leave { complete, path } => assert!(complete, "{path}"),
            Step::Enter(_) => {}
            Step::Problem { path, error } => panic!("{path}: {error}"),
        }
    }
    assert_eq!(links.len(), 200 * 10);
    assert_eq!(most_open, OPEN_LEVELS);
}

#[test]
fn what_is_deeper_than_a_path_can_be_is_a_problem() {
    let scratch = Scratch::new();
    deep(&scratch, 1000, 0);
    let mut problems = Vec::new();
    let (mut entered, mut incomplete) = (0, Vec::new());
    for step in walk(&scratch, inside(), &[]) {
        match step {
            Step::Enter(_) => entered += 1,
            Step::Problem { path, error } => problems.push((path, error)),
            Step::Leave { path, complete: false } => incomplete.push(path),
            _ => {}
        }
    }
    assert_eq!(entered, 1 + files::MAX_DEPTH);
    assert_eq!(problems.len(), 1);
    let deepest = problems[0].0.clone();
    assert_eq!(deepest.depth(), files::MAX_DEPTH);
    assert!(matches!(problems[0].1, FilesError::Name { source: NameError::TooDeep, .. }));
    assert_eq!(incomplete, [deepest]);
}

#[test]
fn a_directory_that_changed_while_it_was_closed_is_incomplete() {
    let scratch = Scratch::new();
    deep(&scratch, 100, 1);
    let mut walk = walk(&scratch, inside(), &[]);
    let bottom = walk.find(|step| matches!(step, Step::Leave { .. }));
    assert!(bottom.is_some());
    // The kernel's clock for files ticks every few milliseconds.
    let changed = path("d/d");
    let before = scratch.dir().attributes_of(&changed).unwrap().ctime;
    while scratch.dir().attributes_of(&changed).unwrap().ctime == before {
        fs::write(scratch.at("d/d/new"), "").unwrap();
        fs::remove_file(scratch.at("d/d/new")).unwrap();
    }
    let (mut problems, mut incomplete) = (Vec::new(), Vec::new());
    for step in walk {
        match step {
            Step::Problem { path, error: FilesError::ChangedWhileRead { .. } } => {
                problems.push(path);
            }
            Step::Leave { path, complete: false } => incomplete.push(path),
            Step::Problem { path, error } => panic!("{path}: {error}"),
            _ => {}
        }
    }
    assert_eq!(problems, std::slice::from_ref(&changed));
    assert_eq!(incomplete, [changed]);
}

#[test]
fn a_directory_that_cannot_be_opened_is_incomplete() {
    let scratch = Scratch::new();
    scratch.write("gone/inside", "").write("swapped/inside", "").write("elsewhere/inside", "");
    let mut lines = Vec::new();
    for step in walk(&scratch, inside(), &[]) {
        if let Step::Enter(entry) = &step
            && matches!(entry.path.as_bytes(), b"gone" | b"swapped")
        {
            // Between the look at it and the opening.
            let at = scratch.at(entry.path.as_bytes());
            fs::remove_dir_all(&at).unwrap();
            if entry.path == path("swapped") {
                scratch.symlink("swapped", "elsewhere");
            }
        }
        lines.push(line(&step));
    }
    lines.sort();
    let expected = [
        "!gone",
        "!swapped",
        "+.",
        "+elsewhere",
        "+gone",
        "+swapped",
        "-.",
        "-elsewhere",
        "?gone",
        "?swapped",
        "elsewhere/inside",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_unreadable_directory_is_incomplete() {
    let scratch = Scratch::new();
    scratch.write("closed/inside", "").write("open/inside", "").chmod("closed", 0);
    if fs::read_dir(scratch.at("closed")).is_ok() {
        println!("skipped: permissions do not bind this user");
        return;
    }
    let lines = steps(walk(&scratch, inside(), &[]));
    scratch.chmod("closed", 0o755);
    let expected = ["!closed", "+.", "+closed", "+open", "-.", "-open", "?closed", "open/inside"];
    assert_eq!(lines, expected);
}

#[test]
fn stays_on_one_filesystem() {
    let root = Dir::open_ambient(std::path::Path::new("/")).unwrap();
    let device = |path| root.attributes_of(&path).unwrap().device;
    if device(RelPath::root()) == device(path("proc")) {
        println!("skipped: /proc is not a filesystem of its own here");
        return;
    }
    let filter = Filter::new(vec![Rule::include("/proc"), Rule::exclude("/*")]).unwrap();
    let options = WalkOptions { filter, one_file_system: true };
    let walk = Walk::new(root.clone(), inside(), options).unwrap();
    assert_eq!(steps(walk), ["+.", "+proc", "-.", "?proc"]);
}
