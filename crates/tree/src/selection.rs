//! A list of paths that somebody wrote down, to be copied and nothing else. Pure. It is kept sorted, in the
//! order of a walk, as bytes one after another: a million names of usual length take some 60 MB.

use std::cmp::Ordering;

use files::RelPath;

/// Paths below one folder, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    bytes: Vec<u8>,
    /// Where each path begins and ends.
    places: Vec<(u32, u32)>,
    whole: bool,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list has more than {0} bytes of names")]
pub struct TooLong(pub usize);

impl Selection {
    /// Takes paths into a list of at most `most` bytes, each counted with 8 more. With `whole`, what lies in
    /// a folder that is listed belongs to it; without, the folder is listed for itself.
    ///
    /// # Errors
    /// When there are more.
    pub fn of<E: From<TooLong>>(
        paths: impl IntoIterator<Item = Result<RelPath, E>>,
        whole: bool,
        most: usize,
    ) -> Result<Self, E> {
        let most = most.min(u32::MAX as usize);
        let mut list = Self { whole, ..Self::default() };
        for path in paths {
            let path = path?;
            if list.cost() + path.as_bytes().len() + PLACE > most {
                return Err(TooLong(most).into());
            }
            let start = list.bytes.len() as u32;
            list.bytes.extend_from_slice(path.as_bytes());
            list.places.push((start, list.bytes.len() as u32));
        }
        let bytes = &list.bytes;
        let at = |place: &(u32, u32)| &bytes[place.0 as usize..place.1 as usize];
        list.places.sort_unstable_by(|a, b| in_walk(at(a), at(b)));
        list.places.dedup_by(|a, b| at(a) == at(b));
        Ok(list)
    }

    /// How many paths there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a folder that is listed stands for all that is in it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The bytes of the path with this number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let (start, end) = *self.places.get(number)?;
        Some(&self.bytes[start as usize..end as usize])
    }

    /// All of them, in the order of a walk.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|number| self.get(number))
    }

    /// What it takes in memory.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.places.len() * PLACE
    }

    /// Whether a walk that visits what is listed comes to this path: it is listed, or a folder on the way to
    /// what is, or lies in a folder that is listed as a whole.
    #[must_use]
    pub fn covers(&self, path: &RelPath) -> bool {
        if self.leads_to(path) {
            return true;
        }
        let mut above = path.parent().filter(|_| self.whole);
        while let Some(folder) = above {
            if self.find(&folder).is_ok() {
                return true;
            }
            above = folder.parent();
        }
        false
    }

    /// Whether the path is listed or on the way to what is.
    fn leads_to(&self, path: &RelPath) -> bool {
        let place = self.find(path).unwrap_or_else(|place| place);
        let next = self.get(place).and_then(|bytes| bytes.strip_prefix(path.as_bytes()));
        next.is_some_and(|rest| path.is_root() || rest.is_empty() || rest[0] == b'/')
    }

    fn find(&self, path: &RelPath) -> Result<usize, usize> {
        let at = |place: &(u32, u32)| &self.bytes[place.0 as usize..place.1 as usize];
        self.places.binary_search_by(|place| in_walk(at(place), path.as_bytes()))
    }
}

/// What the place of a path takes.
const PLACE: usize = 8;

/// The order of `RelPath`: names are compared one by one, so a slash comes before every other byte.
fn in_walk(a: &[u8], b: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn list(paths: &[&str], whole: bool) -> Selection {
        let paths = paths.iter().map(|text| Ok::<_, TooLong>(path(text)));
        Selection::of(paths, whole, 1000).unwrap()
    }

    #[test]
    fn paths_stand_in_the_order_of_a_walk_and_once() {
        let list = list(&["b", "a-b", "a/c", "a", "a/b/x", "b", "a/b"], false);
        let found: Vec<&[u8]> = list.iter().collect();
        assert_eq!(found, [&b"a"[..], b"a/b", b"a/b/x", b"a/c", b"a-b", b"b"]);
        let mut sorted: Vec<RelPath> =
            found.iter().map(|bytes| RelPath::parse(bytes).unwrap()).collect();
        sorted.sort();
        assert!(sorted.iter().map(RelPath::as_bytes).eq(list.iter()), "as `RelPath` has it");
    }

    #[test]
    fn only_what_is_listed_and_what_leads_there_is_covered() {
        let listed = ["a/b/c", "d", "d-e/f"];
        for (path_text, alone, whole) in [
            ("", true, true),
            ("a", true, true),
            ("a/b", true, true),
            ("a/b/c", true, true),
            ("a/b/c/d", false, true),
            ("a/b/cd", false, false),
            ("a/c", false, false),
            ("d", true, true),
            ("d/x/y", false, true),
            ("d-e", true, true),
            ("d-", false, false),
            ("e", false, false),
        ] {
            assert_eq!(list(&listed, false).covers(&path(path_text)), alone, "{path_text}");
            assert_eq!(list(&listed, true).covers(&path(path_text)), whole, "{path_text}, whole");
        }
        assert!(!list(&[], true).covers(&path("")) && !list(&[], false).covers(&path("a")));
        assert!(list(&[""], true).covers(&path("a/b")) && !list(&[""], false).covers(&path("a")));
    }

    #[test]
    fn a_list_is_no_longer_than_it_may_be() {
        let paths = || (0..10).map(|number| Ok::<_, TooLong>(path(&format!("{number:08}"))));
        assert!(Selection::of(paths(), false, 160).is_ok());
        assert_eq!(Selection::of(paths(), false, 159).unwrap_err(), TooLong(159));
    }
}
