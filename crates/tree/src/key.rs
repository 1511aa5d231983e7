//! Paths as keys whose byte order is the order of a tree: the slashes become zero bytes, which stand in
//! no name, so that a folder comes before what it holds and its whole subtree is one range. It is the
//! order of [`RelPath`] too. Pure.

use std::ops::Bound;

use files::{MAX_DEPTH, MAX_PATH, RelPath};

/// What stands between two names.
const SEPARATOR: u8 = 0;

/// A range of keys, as both ends.
pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The key of a path; the root's is empty.
pub(crate) fn of(path: &RelPath) -> Vec<u8> {
    let mut key = path.as_bytes().to_vec();
    swap(&mut key, b'/', SEPARATOR);
    key
}

/// The path of a key; `None` for bytes that are the key of none.
pub(crate) fn path(key: &[u8]) -> Option<RelPath> {
    if key.contains(&b'/') {
        return None;
    }
    let mut bytes = key.to_vec();
    swap(&mut bytes, SEPARATOR, b'/');
    RelPath::parse(&bytes).ok()
}

/// Whether `key` lies below `head`, and is not `head` itself.
pub(crate) fn is_below(key: &[u8], head: &[u8]) -> bool {
    match key.strip_prefix(head) {
        Some(rest) => rest.first() == Some(&SEPARATOR) || (head.is_empty() && !rest.is_empty()),
        None => false,
    }
}

/// The first key that can come after a path and all below it. For all but the root, which nothing comes
/// after.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    // No name begins with a zero byte, so what begins with the key and a one, or more, is a sibling.
    [key, &[SEPARATOR + 1]].concat()
}

/// A path and all below it.
pub(crate) fn with_all_below(key: &[u8]) -> KeyRange {
    match key {
        b"" => (Bound::Unbounded, Bound::Unbounded),
        _ => (Bound::Included(key.to_vec()), Bound::Excluded(after(key))),
    }
}

/// All below a path, without itself.
pub(crate) fn all_below(key: &[u8]) -> KeyRange {
    (Bound::Excluded(key.to_vec()), with_all_below(key).1)
}

/// The key of what is at `key`, below `from`, once `from` has become `to`; `None` if no path is that
/// long or that deep.
pub(crate) fn moved(key: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let key = [to, key.strip_prefix(from)?].concat();
    let depth = 1 + key.iter().filter(|&&byte| byte == SEPARATOR).count();
    (key.len() <= MAX_PATH && depth <= MAX_DEPTH).then_some(key)
}

fn swap(bytes: &mut [u8], from: u8, to: u8) {
    bytes.iter_mut().filter(|byte| **byte == from).for_each(|byte| *byte = to);
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use super::*;

    fn path_of(bytes: &[u8]) -> RelPath {
        RelPath::parse(bytes).unwrap()
    }

    /// In tree order.
    const PATHS: [&[u8]; 9] =
        [b"", b"\x01", b"a", b"a/\x01b", b"a/b", b"a/b/c", b"a\x01", b"a-b", b"a\xff"];

    #[test]
    fn keys_are_in_the_order_of_paths_and_come_back() {
        for (i, left) in PATHS.iter().enumerate() {
            assert_eq!(path(&of(&path_of(left))), Some(path_of(left)));
            for (j, right) in PATHS.iter().enumerate() {
                assert_eq!(of(&path_of(left)).cmp(&of(&path_of(right))), i.cmp(&j));
                assert_eq!(path_of(left).cmp(&path_of(right)), i.cmp(&j));
            }
        }
    }

    #[test]
    fn a_subtree_is_one_range() {
        for head in PATHS.map(path_of) {
            for below in PATHS.map(path_of) {
                let (head_key, key) = (of(&head), of(&below));
                assert_eq!(with_all_below(&head_key).contains(&key), below.starts_with(&head));
                let is_below = below.starts_with(&head) && below != head;
                assert_eq!(all_below(&head_key).contains(&key), is_below);
                assert_eq!(super::is_below(&key, &head_key), is_below, "{below} below {head}");
            }
        }
    }

    #[test]
    fn what_is_no_key_has_no_path() {
        for bytes in [&b"a/b"[..], b"\0", b"a\0", b"a\0\0b", b"..", &[b'x'; 256]] {
            assert_eq!(path(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn keys_move_with_their_folder() {
        assert_eq!(moved(b"a\0b\0c", b"a\0b", b"z"), Some(b"z\0c".to_vec()));
        assert_eq!(moved(b"a", b"a", b"z\0y"), Some(b"z\0y".to_vec()));
        assert_eq!(
            moved(b"a\0b", b"a", &[b"x\0".repeat(MAX_DEPTH - 2), b"x".to_vec()].concat()),
            { Some([b"x\0".repeat(MAX_DEPTH - 1), b"b".to_vec()].concat()) }
        );
        let deep = [b"x\0".repeat(MAX_DEPTH - 1), b"x".to_vec()].concat();
        assert_eq!(moved(b"a\0b", b"a", &deep), None);
        assert_eq!(moved(&[b"a\0", &[b'x'; 200][..]].concat(), b"a", &[b'x'; 4000]), None);
    }
}
