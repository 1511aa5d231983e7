//! What a target that dialled has asked for. Pure, but for the policy that it asks in turn.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use files::{Name, RelPath};
use tree::{NameGlob, Selection};

use crate::host::{Admission, Refusal};
use crate::message::{Entry, RefuseCode};

/// Admits what was asked for and nothing beside it: a daemon must not choose the names that appear here.
pub(super) struct Asked {
    /// Last names of the paths asked for.
    names: HashSet<Name>,
    /// Last names that are patterns: the daemon says which of the names that they stand for are there.
    patterns: Vec<NameGlob>,
    /// Paths without a last name, such as an export as a whole: the daemon names these.
    unnamed: usize,
    /// What the daemon has called them.
    given: Mutex<HashSet<Name>>,
    /// `folder/.`: whatever is in it.
    contents: bool,
    /// Or only this.
    only: Option<Arc<Selection>>,
    inner: Arc<dyn Admission>,
}

impl Asked {
    pub(super) fn new(paths: &[Vec<u8>], inner: Arc<dyn Admission>) -> Self {
        let mut asked = Self {
            names: HashSet::new(),
            patterns: Vec::new(),
            unnamed: 0,
            given: Mutex::default(),
            contents: false,
            only: None,
            inner,
        };
        for path in paths {
            asked.contents |= path == b"." || path.ends_with(b"/.");
            asked.add(path);
        }
        asked
    }

    /// The same, of what is in a folder no more than is listed.
    pub(super) fn listed(self, only: Option<Arc<Selection>>) -> Self {
        Self { only, ..self }
    }

    fn add(&mut self, path: &[u8]) {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let last = path[..end].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match Name::new(last) {
            Ok(name) => self.names.insert(name),
            Err(_) => {
                self.unnamed += 1;
                return;
            }
        };
        // A name that stands there as it is written is meant before what it stands for as a pattern.
        let Some(pattern) = NameGlob::parse(last) else { return };
        match pattern.literal().map(Name::new) {
            Some(name) => self.names.extend(name.ok()),
            None => self.patterns.push(pattern),
        }
    }
}

impl Admission for Asked {
    fn admit(&self, entry: &Entry, path: &RelPath) -> Result<(), Refusal> {
        self.inner.admit(entry, path)?;
        let unasked =
            || Refusal { code: RefuseCode::Denied, text: "nobody has asked for it".to_owned() };
        if let Some(only) = &self.only {
            return only.covers(path).then_some(()).ok_or_else(unasked);
        }
        if entry.parent != 0 || self.contents || self.names.contains(&entry.name) {
            return Ok(());
        }
        if self.patterns.iter().any(|pattern| pattern.matches(entry.name.as_bytes())) {
            return Ok(());
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let is_hidden = entry.name.as_bytes().starts_with(b".");
        if !is_hidden && (given.contains(&entry.name) || given.len() < self.unnamed) {
            given.insert(entry.name.clone());
            return Ok(());
        }
        Err(unasked())
    }
}

#[cfg(test)]
mod tests {
    use files::Timestamp;

    use super::*;
    use crate::host::AdmitAll;
    use crate::message::EntryKind;

    /// Whether a daemon that was asked for these paths may offer something of this name.
    fn admits(paths: &[&str], parent: u64, name: &str) -> bool {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let name = Name::new(name).unwrap();
        let path = RelPath::from(&name);
        let entry = Entry {
            index: 1,
            parent,
            name,
            kind: EntryKind::Folder,
            mode: 0o755,
            mtime: Timestamp::default(),
            owner: None,
            xattrs: Vec::new(),
        };
        Asked::new(&paths, Arc::new(AdmitAll)).admit(&entry, &path).is_ok()
    }

    #[test]
    fn only_names_that_were_asked_for_come_in() {
        for (paths, yes, no) in [
            (vec!["data/a"], vec!["a"], vec!["b", "data", "*"]),
            (vec!["data/a/", "b"], vec!["a", "b"], vec!["c"]),
            (vec!["logs/*.gz"], vec!["x.gz", "*.gz"], vec!["x", ".x.gz", "x.gz.sh", ".bashrc"]),
            (vec!["*/ab?"], vec!["abc"], vec!["ab", "abcd"]),
            (vec!["a/*/b"], vec!["b"], vec!["a", "x"]),
            (vec!["[ab]"], vec!["a", "b", "[ab]"], vec!["c", "ab"]),
            (vec![r"a\*b"], vec!["a*b", r"a\*b"], vec!["axb"]),
            (vec!["a/**"], vec!["x"], vec![".x"]),
            (vec!["[a"], vec!["[a"], vec!["a"]),
            (vec!["data/."], vec!["x", ".x"], vec![]),
            (vec!["*", "a"], vec!["x"], vec![".x", ".ssh", ".haul"]),
            (vec![".*"], vec![".x"], vec!["x", ".haul"]),
        ] {
            yes.iter().for_each(|name| assert!(admits(&paths, 0, name), "{paths:?}: {name}"));
            no.iter().for_each(|name| assert!(!admits(&paths, 0, name), "{paths:?}: {name}"));
            assert!(admits(&paths, 1, "below"), "{paths:?}: what lies in a folder");
        }
    }

    #[test]
    fn a_path_without_a_name_brings_in_one() {
        let asked = Asked::new(&[Vec::new()], Arc::new(AdmitAll));
        let offer = |name: &str| {
            let name = Name::new(name).unwrap();
            let path = RelPath::from(&name);
            let kind = EntryKind::Folder;
            let (mtime, owner, xattrs) = (Timestamp::default(), None, Vec::new());
            asked.admit(
                &Entry { index: 1, parent: 0, name, kind, mode: 0, mtime, owner, xattrs },
                &path,
            )
        };
        assert!(offer(".hidden").is_err());
        assert!(offer("data").is_ok() && offer("data").is_ok());
        assert!(offer("more").is_err());
    }
}
