//! Names of unfinished files, and when the others are left alone.

use super::*;
use crate::filter::{Filter, Verdict};
use files::RelPath;

#[test]
fn names_of_unfinished_files() {
    let filter = Filter::new(unfinished_names()).unwrap();
    for (name, is_left_out) in [
        ("a/film.mkv.part", true),
        ("film.partial", true),
        ("x.tmp", true),
        ("Unconfirmed 1.crdownload", true),
        ("x.dlm", true),
        ("x.ut", true),
        ("x.!ut", true),
        (".notes.swp", true),
        ("~$report.docx", true),
        (".~lock.report.odt#", true),
        (".data.bin.a8fK2x", true),
        (".data.bin.abcdeF", true),
        (".profile.backup", false),
        (".data.bin.a8fK2xy", false),
        ("data.bin.a8fK2x", false),
        ("part", false),
        ("x.tmpl", false),
        ("~report", false),
    ] {
        let path = RelPath::parse(name.as_bytes()).unwrap();
        assert_eq!(filter.matches(&path, false) == Verdict::Exclude, is_left_out, "{name}");
        assert_eq!(filter.matches(&path, true), Verdict::Include, "{name}/");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 500_000_000 }
}

#[test]
fn a_file_settles_when_it_was_left_alone() {
    let settle = Duration::from_secs(60);
    let now = at(10_000);
    for (mtime, ctime, expected) in [
        (at(9_000), at(9_000), None),
        (at(9_940), at(9_000), None),
        (at(9_941), at(9_000), Some(at(10_001))),
        // A mode that was changed, or a name.
        (at(1), at(9_990), Some(at(10_050))),
        (at(10_059), at(9_990), Some(at(10_119))),
        // A foreign clock: the mtime says nothing, and the other time does.
        (at(99_999), at(9_000), None),
        (at(99_999), at(9_950), Some(at(10_010))),
    ] {
        let stamp = Stamp { mtime, ctime, ..crate::stamp::tests::stamp(Kind::File) };
        assert_eq!(settles_at(&stamp, settle, now), expected, "{mtime:?} {ctime:?}");
        assert_eq!(settles_at(&stamp, Duration::ZERO, now), None);
        let folder = Stamp { kind: Kind::Directory, ..stamp };
        assert_eq!(settles_at(&folder, settle, now), None);
    }
}

#[test]
fn moments_at_the_ends_of_time() {
    let late = Timestamp { seconds: i64::MAX, nanos: 999_999_999 };
    let early = Timestamp { seconds: i64::MIN, nanos: 0 };
    let second = Duration::new(1, 1);
    assert_eq!(plus(late, Duration::MAX).seconds, i64::MAX);
    assert_eq!(minus(early, Duration::MAX).seconds, i64::MIN);
    assert_eq!(minus(plus(at(5), second), second), at(5));
    assert_eq!(
        minus(at(0), Duration::from_millis(600)),
        Timestamp { seconds: -1, nanos: 900_000_000 }
    );
    for time in [at(5), at(-5)] {
        assert_eq!(Timestamp::from(system_time(time)), time);
    }
    assert!(system_time(late) > system_time(at(5)) || system_time(late) == UNIX_EPOCH);
}
