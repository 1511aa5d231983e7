//! What moves, goes and changes, as the ledger has it, and what that costs.

use files::{Kind, Timestamp};
use tree::Stamp;

use super::*;
use crate::rig::Scratch;
use crate::send::row::Note;

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// A file whose content is in this object.
pub(super) fn known(size: u64, object: u64, offset: u64) -> Known {
    let time = Timestamp { seconds: 1, nanos: 2 };
    let (kind, mode, uid, gid, links, device, inode) = (Kind::File, 0o644, 0, 0, 1, 1, 7);
    let stamp =
        Stamp { kind, size, mode, mtime: time, uid, gid, links, device, inode, ctime: time };
    Known { stamp, link_target: None, note: Note { digest: [0; 32], object, offset }.encode() }
}

pub(super) fn object(length: u64) -> Row {
    Row::new(ObjectKind::Content, length, 1)
}

const PER_OBJECT: u64 = 500;

/// A folder with so many files of 10 bytes, 500 in an object.
fn grow(ledger: &mut Ledger, folder: &str, files: u64) {
    for first in (0..files).step_by(PER_OBJECT as usize) {
        let number = ledger.new_object().unwrap();
        let mut batch =
            Batch { objects: vec![(number, object(10 * PER_OBJECT))], ..Batch::default() };
        for file in first..first + PER_OBJECT {
            let at = path(&format!("{folder}/f{:03}/{file:06}", file / 1000));
            batch.puts.push((at, known(10, number, 10 * (file - first))));
        }
        // One transaction for many is faster, and another object's business.
        ledger.commit(batch).unwrap();
    }
}

#[track_caller]
fn check(ledger: &Ledger, files: usize) {
    let transaction = ledger.snapshot.database().begin_read().unwrap();
    let (objects, due) =
        (transaction.open_table(OBJECTS).unwrap(), transaction.open_table(DUE).unwrap());
    let mut found = 0;
    for entry in objects.iter().unwrap() {
        let object = entry.unwrap().0.value();
        let row = ledger.row(object).unwrap().unwrap();
        assert!(due.get((row.due_ms.unwrap(), object)).unwrap().is_some());
        let files = ledger.files_of(object).unwrap();
        assert!(!files.is_empty(), "object {object} holds nothing");
        found += files.len();
        for (offset, path) in files {
            let note = ledger.snapshot.get(&path).unwrap().map(|known| known.note);
            let note = Note::decode(&note.unwrap()).unwrap();
            assert_eq!((note.object, note.offset), (object, offset), "{path}");
        }
    }
    assert_eq!(found, files);
    let all = redb::ReadableTableMetadata::len(&objects).unwrap();
    assert_eq!(all, redb::ReadableTableMetadata::len(&due).unwrap());
    assert_eq!(ledger.counts().unwrap(), (all, 0));
}

#[test]
fn what_moves_or_goes_is_found_by_its_object_and_an_object_without_files_is_gone() {
    let scratch = Scratch::new();
    let mut ledger = Ledger::open(&scratch.dir()).unwrap();
    grow(&mut ledger, "a/b", 3000);
    check(&ledger, 3000);
    let (a, new) = (path("a"), path("n/new"));
    let renames = vec![(a, new), (path("n/new/b/f001/001234"), path("n/x"))];
    ledger.commit(Batch { renames, ..Batch::default() }).unwrap();
    check(&ledger, 3000);
    let first = ledger.files_of(1).unwrap();
    assert_eq!(first[7], (70, path("n/new/b/f000/000007")));
    // A move onto another file, and one whose content is new.
    let renames = vec![(path("n/x"), path("n/new/b/f000/000007"))];
    let puts = vec![(path("n/new/b/f000/000008"), known(10, 99, 0))];
    let objects = vec![(99, object(10))];
    ledger.commit(Batch { renames, puts, objects, ..Batch::default() }).unwrap();
    check(&ledger, 2999);
    assert_eq!(ledger.files_of(1).unwrap().len(), 498);
    assert_eq!(ledger.files_of(3).unwrap()[234], (2340, path("n/new/b/f000/000007")));
    // The first folder goes, and with it two objects, but for the file that came from another one.
    let removes = vec![path("n/new/b/f000")];
    ledger.commit(Batch { removes, ..Batch::default() }).unwrap();
    check(&ledger, 1999);
    assert!(ledger.row(1).unwrap().is_none() && ledger.row(99).unwrap().is_none());
    let mut ledger = {
        drop(ledger);
        Ledger::open(&scratch.dir()).unwrap()
    };
    check(&ledger, 1999);
    ledger.commit(Batch { removes: vec![path("n")], ..Batch::default() }).unwrap();
    check(&ledger, 0);
}

/// Rows that a commit looks at or writes, for a folder with so many files that moves, and goes.
fn cost(files: u64) -> (u64, u64) {
    let scratch = Scratch::new();
    let mut ledger = Ledger::open(&scratch.dir()).unwrap();
    grow(&mut ledger, "a/b", files);
    let before = ledger.steps;
    let renames = vec![(path("a"), path("z"))];
    ledger.commit(Batch { renames, ..Batch::default() }).unwrap();
    let moved = ledger.steps - before;
    assert_eq!(ledger.files_of(1).unwrap()[1].1, path("z/b/f000/000001"));
    ledger.commit(Batch { removes: vec![path("z")], ..Batch::default() }).unwrap();
    check(&ledger, 0);
    (moved, ledger.steps - before - moved)
}

#[test]
fn a_folder_of_many_files_moves_and_goes_in_time_that_grows_with_their_number() {
    let ((moved, gone), (more_moved, more_gone)) = (cost(20_000), cost(200_000));
    assert!(moved >= 20_000 && more_moved <= 10 * moved, "{moved}, {more_moved}");
    assert!(gone >= 20_000 && more_gone <= 10 * gone, "{gone}, {more_gone}");
}

#[test]
fn many_moves_at_once_cost_no_more_than_one_by_one() {
    let cost = |files: u64| {
        let scratch = Scratch::new();
        let mut ledger = Ledger::open(&scratch.dir()).unwrap();
        grow(&mut ledger, "a", files);
        let before = ledger.steps;
        let name = |folder: &str, file| path(&format!("{folder}/f{:03}/{file:06}", file / 1000));
        let renames = (0..files).map(|file| (name("a", file), name("z", file))).collect();
        ledger.commit(Batch { renames, ..Batch::default() }).unwrap();
        check(&ledger, files as usize);
        ledger.steps - before
    };
    let (few, many) = (cost(1000), cost(8000));
    assert!(few >= 1000 && many <= 8 * few, "{few}, {many}");
}

#[test]
fn objects_go_out_again_when_they_are_due_and_are_counted() {
    let scratch = Scratch::new();
    let mut ledger = Ledger::open(&scratch.dir()).unwrap();
    grow(&mut ledger, "a", 3000);
    let schedule = Schedule { times: 3, files: vec![Duration::from_secs(1)], pages: Vec::new() };
    let due = |ledger: &Ledger, now, most| {
        let found = ledger.due(now, most, |object| object == 2).unwrap();
        found.into_iter().map(|(object, _)| object).collect::<Vec<_>>()
    };
    assert_eq!(due(&ledger, 0, 3), [1, 3, 4]);
    ledger.have_gone(&[1, 3].into(), 5000, &schedule).unwrap();
    ledger.put_off(4, 7000).unwrap();
    assert_eq!(ledger.counts().unwrap(), (3, 3));
    assert_eq!(due(&ledger, 6000, 9), [5, 6, 1, 3]);
    for now in [6000, 7000] {
        ledger.have_gone(&[1].into(), now, &schedule).unwrap();
    }
    assert_eq!(ledger.counts().unwrap(), (3, 2));
    assert_eq!(ledger.row(1).unwrap().unwrap().passes, 3);
    assert_eq!(due(&ledger, u64::MAX, 9), [5, 6, 3, 4]);
}
