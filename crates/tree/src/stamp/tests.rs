//! Stamps: their bytes, and what a change of each attribute means.

use super::*;

pub(crate) fn stamp(kind: Kind) -> Stamp {
    Stamp {
        kind,
        size: 300,
        mode: 0o644,
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 999_999_999 },
        uid: 1000,
        gid: 100,
        links: 1,
        device: 0xfe01,
        inode: 1 << 40,
        ctime: Timestamp { seconds: -1, nanos: 5 },
    }
}

fn known(kind: Kind) -> Known {
    let link_target = (kind == Kind::Symlink).then(|| b"to".to_vec());
    Known { stamp: stamp(kind), link_target, note: b"note".to_vec() }
}

fn bytes(known: &Known) -> Vec<u8> {
    let mut bytes = Vec::new();
    known.encode(&mut bytes);
    bytes
}

/// The bytes of version 1, as `docs/formats/snapshot.md` has them.
#[test]
fn golden() {
    let expected = "03ac02a40380c49fd50cff93ebdc03e8076401\
                    81fc03808080808020010503746f6e6f7465";
    let hex: String = bytes(&known(Kind::Symlink)).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn what_is_known_comes_back() {
    for kind in [Kind::File, Kind::Directory, Kind::Symlink, Kind::Other] {
        let known = known(kind);
        let bytes = bytes(&known);
        assert_eq!(Known::decode(&bytes), Some(known.clone()));
        // What is cut short is no entry, up to where the note begins.
        let note = bytes.len() - 4;
        for len in 0..bytes.len() {
            assert_eq!(Known::decode(&bytes[..len]).is_some(), len >= note, "{kind:?} {len}");
        }
    }
    for kind in [0, 5, 255] {
        let mut bytes = bytes(&known(Kind::File));
        bytes[0] = kind;
        assert_eq!(Known::decode(&bytes), None);
    }
}

#[test]
fn what_each_change_means() {
    type Edit = fn(&mut Stamp);
    let (nothing, attributes) = (Difference::Nothing, Difference::Attributes);
    let content = Difference::Content;
    let edits: [(Edit, Difference, Difference); 12] = [
        (|_| {}, nothing, nothing),
        (|s| s.size += 1, content, nothing),
        (|s| s.mtime.nanos -= 1, content, attributes),
        (|s| s.mode = 0o600, attributes, attributes),
        (|s| s.uid += 1, attributes, attributes),
        (|s| s.gid += 1, attributes, attributes),
        (|s| s.links += 1, attributes, attributes),
        (|s| s.ctime.seconds += 1, attributes, attributes),
        // Another number for the filesystem, after a reboot.
        (|s| s.device += 1, nothing, nothing),
        // Another number for the same inode, after a mount.
        (|s| s.inode += 1, nothing, nothing),
        // Another file of the same size and time.
        (|s| (s.inode, s.ctime.seconds) = (7, 7), content, attributes),
        (|s| s.kind = Kind::Other, Difference::Kind, Difference::Kind),
    ];
    for (index, (edit, of_file, of_folder)) in edits.into_iter().enumerate() {
        for (kind, expected) in [(Kind::File, of_file), (Kind::Directory, of_folder)] {
            let mut now = stamp(kind);
            edit(&mut now);
            assert_eq!(known(kind).difference(&now, None), expected, "edit {index} of {kind:?}");
        }
    }
    let link = known(Kind::Symlink);
    assert_eq!(link.difference(&link.stamp, Some(b"to")), nothing);
    assert_eq!(link.difference(&link.stamp, Some(b"elsewhere")), content);
    let mut later = link.stamp;
    later.mtime.seconds += 1;
    assert_eq!(link.difference(&later, Some(b"to")), attributes);
}
