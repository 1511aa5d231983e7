//! What is in a folder, for a peer that asks.

use files::{Dir, Follow, Kind, Name, RelPath, is_reserved};
use transfer::message::Listed;

/// The most entries that one listing shows; what lies beyond is counted as too much to list.
const MAX_LISTED: usize = 1_000_000;

/// What is in a folder that may be seen, sorted by name; or the one line of what is none, under its own name.
pub fn list(
    dir: &Dir,
    path: &RelPath,
    own: Name,
    is_visible: impl Fn(&RelPath) -> bool,
) -> Result<Vec<Listed>, files::FilesError> {
    let attributes = dir.attributes_of(path)?;
    if attributes.kind != Kind::Directory {
        return Ok(vec![listed(own, &attributes)]);
    }
    let folder = dir.open_dir(path, Follow::Never)?;
    let mut lines = Vec::new();
    for entry in folder.entries()? {
        // A name that is none cannot be asked for either.
        let Ok(name) = entry?.name() else { continue };
        let Ok(path) = path.join(&name) else { continue };
        if is_reserved(&name) || !is_visible(&path) {
            continue;
        }
        match folder.attributes_of(&RelPath::from(&name)) {
            Ok(attributes) => lines.push(listed(name, &attributes)),
            // It went away while the folder was read.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        if lines.len() >= MAX_LISTED {
            break;
        }
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(lines)
}

fn listed(name: Name, attributes: &files::Attributes) -> Listed {
    let kind = match attributes.kind {
        Kind::Directory => b'd',
        Kind::File => b'f',
        Kind::Symlink => b'l',
        Kind::Other => b'o',
    };
    let files::Attributes { size, mode, mtime, .. } = *attributes;
    Listed { kind, name, size, mode: mode & 0o7777, mtime }
}
