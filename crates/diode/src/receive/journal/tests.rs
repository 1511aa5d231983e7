use files::{Name, Timestamp};

use super::*;
use crate::manifest::Told;
use crate::rig::Scratch;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn told() -> Told {
    let mtime = Timestamp { seconds: -7, nanos: 5 };
    let xattrs = vec![(Name::new("user.a").unwrap(), b"\0b".to_vec())];
    Told { mode: 0o640, mtime, owner: Some((3, 4)), xattrs: Some(xattrs) }
}

fn entries() -> Vec<(RelPath, Entry)> {
    let folder = What::Folder { told: told() };
    let file = |object| What::File { told: told(), size: 9, digest: [7; 32], object, offset: 5 };
    let link = What::Symlink { mtime: told().mtime, target: b"../\xff".to_vec() };
    let hard = |place| What::HardLink { file: path("a/b"), place };
    [
        ("a", folder.clone()),
        ("a/b", file(1)),
        ("a/b-c", link),
        ("a/c", folder),
        ("a/c/d", hard(None)),
        ("a.b", file(2)),
    ]
    .into_iter()
    .map(|(at, what)| (path(at), Entry { what, is_wanted: at == "a/b", seen: 3 }))
    .collect()
}

#[test]
fn rows_come_back_and_a_folder_stands_before_what_is_in_it() {
    let scratch = Scratch::new();
    let journal = Journal::open(&scratch.dir()).unwrap();
    let tx = journal.begin().unwrap();
    for (path, entry) in entries().iter().rev() {
        tx.put_entry(path, entry).unwrap();
    }
    let below = |of: &str| tx.below(&path(of), None, 100).unwrap();
    assert_eq!(below("a"), entries()[..5]);
    assert_eq!(below("a/b"), entries()[1..2]);
    assert_eq!(below("a/c"), entries()[3..5]);
    assert_eq!(below("b"), []);
    assert_eq!(tx.below(&path("a"), Some(&path("a/b")), 2).unwrap(), entries()[2..4]);
    assert_eq!(tx.below(&RelPath::root(), None, 100).unwrap(), entries());
    assert_eq!(tx.entry(&path("a.b")).unwrap().as_ref(), Some(&entries()[5].1));
    tx.commit().unwrap();
    let view = journal.read().unwrap();
    assert_eq!((view.entries().unwrap(), view.entry(&path("a/x")).unwrap()), (6, None));
}

#[test]
fn places_sets_and_objects_come_back() {
    let scratch = Scratch::new();
    let place = Place {
        generation: 9,
        base: 8,
        page: 7,
        entry: 6,
        moving: 5,
        last: [4; 32],
        whole: 3,
        complete: 2,
    };
    let mut settled = Intervals::from_range(0, 40);
    settled.insert_range(50, u64::MAX);
    let mut end = GenerationEnd::unsigned(7, 6);
    (end.pages, end.entries) = (3, 12);
    {
        let journal = Journal::open(&scratch.dir()).unwrap();
        let tx = journal.begin().unwrap();
        tx.put_place(&place).unwrap();
        tx.put_settled(&settled).unwrap();
        tx.put_end(&end).unwrap();
        tx.put_page((4, 2), 3, 9, b"page").unwrap();
        tx.want(6, 100, &path("x/y"), 4).unwrap();
        tx.want(6, 0, &path("x"), 4).unwrap();
        tx.want(7, 0, &path("z"), 5).unwrap();
        for at in ["b", "b/c", "bb"] {
            tx.touch(&path(at)).unwrap();
            tx.doom(&path(at), 9).unwrap();
        }
        tx.commit().unwrap();
        // What is not committed is not there.
        journal.begin().unwrap().want(8, 0, &path("lost"), 1).unwrap();
    }
    let journal = Journal::open(&scratch.dir()).unwrap();
    let elsewhere = Journal::open(&scratch.dir());
    assert!(elsewhere.is_err_and(|error| error.is_open_elsewhere()));
    let tx = journal.begin().unwrap();
    assert_eq!((tx.place().unwrap(), tx.settled().unwrap()), (place, settled));
    assert_eq!(
        (tx.ends().unwrap(), tx.page(4, 2).unwrap()),
        (vec![end], Some((b"page".to_vec(), 9)))
    );
    assert_eq!(tx.pages().unwrap(), [(4, 2, 3, 20)]);
    let of: Vec<_> = tx.wanted_of(6, 9).unwrap().into_iter().map(|w| (w.offset, w.path)).collect();
    assert_eq!(of, [(0, path("x")), (100, path("x/y"))]);
    let all = tx.wanted_after(None, 2).unwrap();
    assert_eq!(tx.wanted_after(all.last(), 9).unwrap()[0].path, path("z"));
    assert_eq!(tx.wanted().unwrap(), 3);
    assert_eq!(tx.unwant(7, 0, &path("z")).unwrap(), Some(5));
    assert_eq!(tx.untouch(2).unwrap(), [path("bb"), path("b/c")]);
    assert_eq!(tx.doomed_below(&path("b"), 9).unwrap(), [(path("b"), 9), (path("b/c"), 9)]);
    assert_eq!(tx.spare(&path("b/c")).unwrap(), Some(9));
    tx.forget_sender().unwrap();
    assert_eq!(tx.place().unwrap(), Place::default());
    assert_eq!((tx.doomed(None, 9).unwrap(), tx.wanted().unwrap()), (vec![], 0));
}
