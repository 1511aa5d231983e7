//! A snapshot against a map in memory, and what is left of it after a kill.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::scratch::{Random, Scratch};
use crate::stamp::Stamp;
use crate::stamp::tests::stamp;
use files::{Fault, Kind};

type Model = BTreeMap<RelPath, Known>;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn path(text: impl AsRef<[u8]>) -> RelPath {
    RelPath::parse(text.as_ref()).unwrap()
}

fn known(size: u64) -> Known {
    Known { stamp: Stamp { size, ..stamp(Kind::File) }, link_target: None, note: vec![1; 9] }
}

fn open(scratch: &Scratch) -> Snapshot {
    Snapshot::open(&scratch.dir(), &name("tree.redb")).unwrap()
}

fn all(snapshot: &Snapshot) -> Vec<(RelPath, Known)> {
    snapshot.read().unwrap().all().unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn like_a_map_in_tree_order() {
    let scratch = Scratch::new();
    let mut snapshot = open(&scratch);
    let mut random = Random(7);
    let mut model = Model::new();
    let names: [&[u8]; 6] = [b"a", b"a-", b"\x01", b"b", b"a\xff", b"c"];
    for round in 0..60 {
        let write = snapshot.write().unwrap();
        let mut tree = write.tree().unwrap();
        let mut next = model.clone();
        for _ in 0..random.below(40) {
            let mut some = || {
                let names: Vec<&[u8]> =
                    (0..=random.below(3)).map(|_| *random.pick(&names)).collect();
                path(names.join(&b'/'))
            };
            let (one, other) = (some(), some());
            match random.below(6) {
                0 => {
                    let below = |path: &RelPath| path.starts_with(&one);
                    let removed = next.extract_if(.., |path, _| below(path)).count();
                    assert_eq!(tree.remove(&one).unwrap(), removed as u64);
                }
                1 if one.starts_with(&other) || other.starts_with(&one) => {
                    let error = tree.rename(&one, &other).unwrap_err();
                    assert!(matches!(error, SnapshotError::Rename { .. }));
                }
                1 => {
                    next.retain(|path, _| !path.starts_with(&other));
                    let moved: Vec<_> =
                        next.extract_if(.., |path, _| path.starts_with(&one)).collect();
                    assert_eq!(tree.rename(&one, &other).unwrap(), moved.len() as u64);
                    next.extend(moved.into_iter().map(|(path, known)| {
                        let mut rest = path.names().skip(one.depth());
                        (
                            rest.try_fold(other.clone(), |path, name| path.join(&name)).unwrap(),
                            known,
                        )
                    }));
                }
                _ => {
                    let known = known(random.next());
                    tree.put(&one, &known).unwrap();
                    next.insert(one, known);
                }
            }
        }
        assert_eq!(tree.entries().unwrap(), next.len() as u64);
        drop(tree);
        let before = snapshot.read().unwrap();
        // What is not committed never was.
        if random.below(4) > 0 {
            write.commit().unwrap();
            let seen: Vec<_> = before.all().unwrap().map(Result::unwrap).collect();
            assert!(seen.into_iter().eq(model), "round {round}: a view changed");
            model = next;
        } else {
            drop(write);
        }
        drop(before);
        if random.below(10) == 0 {
            drop(snapshot);
            snapshot = open(&scratch);
        }
        assert_eq!(all(&snapshot), model.clone().into_iter().collect::<Vec<_>>(), "round {round}");
        let head = path(names[random.below(3)]);
        let below = snapshot.read().unwrap().below(&head).unwrap().map(|item| item.unwrap().0);
        let expected = model.keys().filter(|path| path.starts_with(&head) && **path != head);
        assert!(below.eq(expected.cloned()), "round {round}");
        assert_eq!(snapshot.get(&head).unwrap(), model.get(&head).cloned());
    }
}

#[test]
fn renames_of_many_entries_and_too_long_ones() {
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    let write = snapshot.write().unwrap();
    let mut tree = write.tree().unwrap();
    for number in 0..5000 {
        tree.put(&path(format!("old/{number}")), &known(number)).unwrap();
    }
    tree.put(&path("old/x"), &known(1)).unwrap();
    tree.put(&path("older"), &known(1)).unwrap();
    assert_eq!(tree.rename(&path("old"), &path("new/place")).unwrap(), 5001);
    assert_eq!(tree.get(&path("new/place/4999")).unwrap(), Some(known(4999)));
    assert_eq!(tree.get(&path("old/x")).unwrap(), None);
    assert_eq!(tree.rename(&path("old"), &path("other")).unwrap(), 0);
    let deep = path(["d"; files::MAX_DEPTH - 1].join("/"));
    assert!(matches!(tree.rename(&path("new"), &deep), Err(SnapshotError::Rename { .. })));
    // The root has no entry, and cannot be renamed.
    tree.put(&RelPath::root(), &known(1)).unwrap();
    assert_eq!(tree.get(&RelPath::root()).unwrap(), None);
    assert!(tree.rename(&RelPath::root(), &path("a")).is_err());
    assert_eq!(tree.remove(&RelPath::root()).unwrap(), 5002);
}

#[test]
fn the_keepers_own_tables_change_in_the_same_step() {
    const OWN: TableDefinition<u64, &[u8]> = TableDefinition::new("ledger");
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    for commits in [false, true] {
        let write = snapshot.write().unwrap();
        write.tree().unwrap().put(&path("a"), &known(1)).unwrap();
        write.transaction().open_table(OWN).unwrap().insert(1, b"own".as_slice()).unwrap();
        if commits {
            write.commit().unwrap();
        }
        let view = snapshot.read().unwrap();
        assert_eq!(view.get(&path("a")).unwrap().is_some(), commits);
        assert_eq!(view.transaction().open_table(OWN).is_ok(), commits);
    }
    assert_eq!(snapshot.entries().unwrap(), 1);
}

#[test]
fn who_may_open_it() {
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    let mode = scratch.dir().attributes_of(&path("tree.redb")).unwrap().mode;
    assert_eq!(mode, 0o600);
    let view = snapshot.read().unwrap();
    drop(snapshot);
    // A reader keeps it open.
    let again = Snapshot::open(&scratch.dir(), &name("tree.redb")).unwrap_err();
    assert!(matches!(again, SnapshotError::InUse { .. }), "{again}");
    assert_eq!(again.fault(), Fault::Transient);
    assert!(again.to_string().contains("tree.redb"), "{again}");
    drop(view);
    open(&scratch);
    let missing = Scratch::new().dir();
    let error = Snapshot::open(&missing, &name("x")).unwrap_err();
    assert!(matches!(error, SnapshotError::Files(_)));
}

#[test]
fn another_version_is_refused() {
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    let write = snapshot.write().unwrap();
    write.transaction().open_table(FORMAT).unwrap().insert(FORMAT_KEY, 2).unwrap();
    write.commit().unwrap();
    drop(snapshot);
    let error = Snapshot::open(&scratch.dir(), &name("tree.redb")).unwrap_err();
    assert!(matches!(error, SnapshotError::Version { version: 2, .. }), "{error}");
}

#[test]
fn an_entry_that_means_nothing_is_damage() {
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    for (key, value) in [(&b"a"[..], &b"?"[..]), (b"a\0\0b", b"")] {
        let write = snapshot.write().unwrap();
        write.transaction().open_table(TREE).unwrap().insert(key, value).unwrap();
        write.commit().unwrap();
        let view = snapshot.read().unwrap();
        let mut entries = view.all().unwrap();
        let error = entries.find_map(Result::err).unwrap();
        assert!(matches!(error, SnapshotError::Damaged { .. }) && error.fault() == Fault::Corrupt);
        assert!(entries.next().is_none());
        snapshot.write().unwrap().tree().unwrap().remove(&path("a")).unwrap();
    }
}

/// Whatever a failing disk did to the file: an error, or a snapshot that can be read; no panic.
#[test]
fn a_damaged_file_is_an_error() {
    let scratch = Scratch::new();
    let snapshot = open(&scratch);
    let write = snapshot.write().unwrap();
    let mut tree = write.tree().unwrap();
    for number in 0..2000 {
        tree.put(&path(format!("folder/{number}")), &known(number)).unwrap();
    }
    drop(tree);
    write.commit().unwrap();
    drop(snapshot);
    let whole = fs::read(scratch.at("tree.redb")).unwrap();
    let mut damaged = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        match seed % 3 {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => bytes[random.below(whole.len())] ^= 1 << random.below(8),
            _ => {
                let at = random.below(whole.len());
                bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = random.next() as u8);
            }
        }
        fs::write(scratch.at("tree.redb"), bytes).unwrap();
        match Snapshot::open(&scratch.dir(), &name("tree.redb")) {
            // It hit a place that is not in use, or was mended from the other copy of the root.
            Ok(snapshot) => {
                let entries = all(&snapshot).len();
                assert!(entries == 2000 || entries == 0, "seed {seed}: {entries} entries");
            }
            Err(SnapshotError::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
    }
    assert!(damaged > 10, "{damaged} of 60 found out");
    fs::write(scratch.at("tree.redb"), "this is no database").unwrap();
    let error = Snapshot::open(&scratch.dir(), &name("tree.redb")).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error:?}");
}

/// Where the child of the next test finds its snapshot; it does nothing without.
const CHILD: &str = "HAUL_TREE_SNAPSHOT_CHILD";
/// Entries that it writes at a time.
const BATCH: u64 = 50;

#[test]
fn writes_until_it_is_killed() {
    let Some(place) = std::env::var_os(CHILD) else { return };
    let dir = Dir::open_ambient(Path::new(&place)).unwrap();
    let snapshot = Snapshot::open(&dir, &name("tree.redb")).unwrap();
    for batch in snapshot.entries().unwrap() / BATCH.. {
        let write = snapshot.write().unwrap();
        let mut tree = write.tree().unwrap();
        for number in 0..BATCH {
            tree.put(&path(format!("{batch:06}/{number}")), &known(batch)).unwrap();
        }
        drop(tree);
        write.commit().unwrap();
        println!("committed {batch}");
    }
}

#[test]
fn a_kill_costs_nothing_that_was_committed() {
    let scratch = Scratch::new();
    let mut random = Random(1);
    let mut committed = 0;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "snapshot::tests::writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, scratch.at(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let batches = lines.filter_map(|line| {
            let line = line.unwrap();
            line.split_once("committed ")?.1.trim().parse::<u64>().ok()
        });
        let last = batches.take(1 + random.below(30)).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(last + 1 > committed, "round {round}: began again at {last}");
        committed = last + 1;
        let snapshot = open(&scratch);
        let entries = snapshot.entries().unwrap();
        assert_eq!(entries % BATCH, 0, "round {round}: half a batch");
        assert!(entries / BATCH >= committed, "round {round}: {entries} entries");
        committed = entries / BATCH;
        for (index, (path, known)) in all(&snapshot).into_iter().enumerate() {
            let batch = index as u64 / BATCH;
            assert!(path.as_bytes().starts_with(format!("{batch:06}/").as_bytes()));
            assert_eq!(known.stamp.size, batch);
        }
    }
}
