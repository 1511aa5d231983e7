//! The record of an entry in the tree digest: both sides sum up the same ones, so that a source can tell
//! whether a receipt speaks of what it sent.

use files::{Digest, RelPath};
use tree::{Body, Record, TreeDigest};

use crate::message::{Entry, EntryKind, Outcome};

/// The content of a file that stands at the target now, of a hard link that of what it is linked to.
pub(crate) fn content_of(outcome: &Outcome, linked: Option<Digest>) -> Option<Digest> {
    match outcome {
        Outcome::Copied(digest) | Outcome::Unchanged(digest) => Some(*digest),
        Outcome::Made => linked,
        _ => None,
    }
}

/// Adds what stands at the target now. `path` has the names as offered, `linked` is the content of a
/// hard link.
pub(crate) fn add_record(
    tree: &mut TreeDigest,
    setid: bool,
    path: &RelPath,
    entry: &Entry,
    outcome: &Outcome,
    linked: Option<Digest>,
) {
    if !matches!(outcome, Outcome::Copied(_) | Outcome::Unchanged(_) | Outcome::Made) {
        return;
    }
    let content = content_of(outcome, linked);
    let body = match (&entry.kind, content, entry.size()) {
        (EntryKind::Folder, ..) => Body::Directory,
        (EntryKind::Symlink { target }, ..) => Body::Symlink { target },
        (_, Some(content), Some(size)) => Body::File { size, content },
        _ => return,
    };
    let mode = Some(entry.mode & if setid { 0o7777 } else { 0o777 });
    tree.add(&Record { path, body, mode, mtime: Some(entry.mtime) });
}
