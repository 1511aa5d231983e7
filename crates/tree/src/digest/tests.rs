//! The tree digest: its golden values, its blindness to order, and its sight of every field.

use super::*;

/// A record that owns what it speaks of.
#[derive(Clone)]
struct Owned {
    path: Vec<u8>,
    body: OwnedBody,
    mode: Option<u32>,
    mtime: Option<Timestamp>,
}

#[derive(Clone)]
enum OwnedBody {
    File(u64, Digest),
    Directory,
    Symlink(Vec<u8>),
}

impl Owned {
    fn lend<R>(&self, use_it: impl FnOnce(&Record<'_>) -> R) -> R {
        let path = RelPath::parse(&self.path).unwrap();
        let body = match &self.body {
            OwnedBody::File(size, content) => Body::File { size: *size, content: *content },
            OwnedBody::Directory => Body::Directory,
            OwnedBody::Symlink(target) => Body::Symlink { target },
        };
        use_it(&Record { path: &path, body, mode: self.mode, mtime: self.mtime })
    }
}

fn time(seconds: i64, nanos: u32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

/// The tree of the worked example in `docs/formats/tree-digest.md`.
fn example() -> Vec<Owned> {
    let entry = |path: &str, body, mode, mtime| Owned { path: path.into(), body, mode, mtime };
    let hello = OwnedBody::File(6, Digest::of(b"hello\n"));
    let link = OwnedBody::Symlink(b"docs/hello.txt".to_vec());
    vec![
        entry("docs", OwnedBody::Directory, Some(0o755), None),
        entry("docs/hello.txt", hello, Some(0o644), time(1_700_000_000, 5)),
        entry("latest", link, None, None),
    ]
}

fn sum(records: &[Owned]) -> TreeDigest {
    let mut digest = TreeDigest::new();
    records.iter().for_each(|record| record.lend(|record| digest.add(record)));
    digest
}

/// The numbers were computed by the Python reference in `docs/formats/tree-digest.md`.
#[test]
fn golden_values() {
    let page = include_str!("../../../../docs/formats/tree-digest.md");
    for (records, content, attributes) in [
        (
            vec![],
            "e3ecdb723ec53a04a157319066ad37ecdd05fee09f066d729e06abfc9bac49d2",
            "22a17f4700e6b07ffdf95701d2a1333b56320d10368231d6c3d2b08881f63668",
        ),
        (
            example(),
            "959c07e72356f82938236f864340799d0d906104cb06c7c0ce8bbc16fb12e020",
            "e1a0d9431b9beb3c2f3060e90a1ecc4190053485db33a8ee2eb18f768b2a1f98",
        ),
    ] {
        let digests = sum(&records).finish();
        assert_eq!(digests.content.to_string(), content);
        assert_eq!(digests.attributes.to_string(), attributes);
        assert_eq!(digests.records, records.len() as u64);
        assert!(page.contains(content) && page.contains(attributes), "the page has other numbers");
    }
    for record in example() {
        let mut bytes = Vec::new();
        record.lend(|record| {
            encode_content(record, &mut bytes);
            encode_attributes(record, &mut bytes);
        });
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(page.contains(&hex), "the page lacks the record {hex}");
    }
}

/// Records drawn from a seed, with distinct paths.
fn many(seed: u64, count: u64) -> Vec<Owned> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        state >> 33
    };
    let record = |i: u64| {
        let body = match next() % 3 {
            0 => OwnedBody::File(next(), Digest::of(&next().to_le_bytes())),
            1 => OwnedBody::Directory,
            _ => OwnedBody::Symlink(next().to_le_bytes().to_vec()),
        };
        let mode = (next() % 2 == 0).then(|| next() as u32 & 0o7777);
        let path = format!("{}/{i}", next() % 10).into_bytes();
        Owned { path, body, mode, mtime: time(next() as i64, 0) }
    };
    (0..count).map(record).collect()
}

#[test]
fn order_does_not_matter() {
    for seed in 0..8 {
        let mut records = many(seed, 60);
        let expected = sum(&records);
        // A rotation and a deterministic shuffle.
        records.rotate_left(1 + seed as usize * 5);
        for i in (1..records.len()).rev() {
            records.swap(i, (seed as usize * 31 + i * 17) % (i + 1));
        }
        assert_eq!(sum(&records).finish(), expected.finish(), "seed {seed}");

        let (left, right) = records.split_at(23);
        let mut merged = sum(right);
        merged.merge(&sum(left));
        assert_eq!(merged.finish(), expected.finish(), "seed {seed}");
    }
}

#[test]
fn what_is_taken_out_was_never_there() {
    let records = many(1, 20);
    let mut digest = TreeDigest::new();
    // Out before in comes to the same, also for the count.
    records[7].lend(|record| digest.remove(record));
    digest.merge(&sum(&records));
    let without: Vec<_> = [&records[..7], &records[8..]].concat();
    assert_eq!(digest.finish(), sum(&without).finish());
    without.iter().for_each(|record| record.lend(|record| digest.remove(record)));
    assert_eq!(digest.finish(), TreeDigest::new().finish());
}

/// Whether a change of one record of the example is seen by the content and by the attributes.
#[track_caller]
fn check(index: usize, content: bool, attributes: bool, change: impl FnOnce(&mut Owned)) {
    let before = sum(&example()).finish();
    let mut records = example();
    change(&mut records[index]);
    let after = sum(&records).finish();
    let seen = (before.content != after.content, before.attributes != after.attributes);
    assert_eq!(seen, (content, attributes));
}

#[test]
fn every_field_counts() {
    let (dir, file, link) = (0, 1, 2);
    for index in [dir, file, link] {
        check(index, true, true, |record| record.path.push(b'x'));
    }
    check(dir, true, true, |record| record.body = OwnedBody::Symlink(Vec::new()));
    let content = Digest::of(b"hello\n");
    check(file, true, true, |record| record.body = OwnedBody::File(7, content));
    check(file, true, true, |record| record.body = OwnedBody::File(6, Digest::of(b"hellO\n")));
    check(link, true, true, |record| record.body = OwnedBody::Symlink(b"docs".to_vec()));
    for index in [dir, file] {
        check(index, false, true, |record| record.mode = Some(0o700));
        check(index, false, true, |record| record.mode = None);
    }
    check(file, false, true, |record| record.mtime = time(1_700_000_000, 6));
    check(file, false, true, |record| record.mtime = time(1_700_000_001, 5));
    check(file, false, true, |record| record.mtime = time(-1_700_000_000, 5));
    check(file, false, true, |record| record.mtime = None);
}

#[test]
fn what_is_not_carried_does_not_count() {
    check(0, false, false, |record| record.mtime = time(1, 1));
    check(0, false, false, |record| record.mode = Some(0o040_755));
    check(2, false, false, |record| record.mode = Some(0o777));
    check(2, false, false, |record| record.mtime = time(1, 1));
}

/// Fields that slide into each other would make these the same.
#[test]
fn fields_do_not_run_together() {
    let link = |path: &str, target: &str| Owned {
        path: path.into(),
        body: OwnedBody::Symlink(target.into()),
        mode: None,
        mtime: None,
    };
    let digests =
        [("ab", "c"), ("a", "bc"), ("abc", "")].map(|(a, b)| sum(&[link(a, b)]).finish().content);
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
}
