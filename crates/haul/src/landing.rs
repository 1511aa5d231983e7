//! Which folder a target path means, decided once for what is pushed here and what is pulled here.
//! The rules are those of `cp -r`: an existing folder is copied into, anything else is the new name.

use std::path::Path;

use files::{Dir, Kind, Name, RelPath};
use transfer::host::Refusal;
use transfer::message::{Order, RefuseCode};

use crate::state::split_path;

/// How often a chain of symbolic links is followed.
const MAX_LINKS: usize = 40;

/// What the one who copies said about the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// There are several sources, or the path ends in a slash: it must be a folder that exists.
    pub into_folder: bool,
    /// The source is `folder/.`: its children go into the target, which is made if missing.
    pub contents: bool,
    /// The last name of the path is the one that the one source gets, whatever stands there. Beside the other two it means
    /// nothing.
    pub named: bool,
}

impl Wish {
    /// What an order says.
    pub fn of(order: &Order) -> Self {
        let Order { into_folder, contents, named, .. } = *order;
        Self { into_folder, contents, named }
    }

    /// Whether the path is a name in a folder, also where it is that of a folder.
    pub fn is_name(self) -> bool {
        self.named && !self.into_folder && !self.contents
    }
}

/// Where a copy lands, below a folder that nothing leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder that entries go into.
    pub folder: RelPath,
    /// The folder is to be made; its parent exists.
    pub make: bool,
    /// The name that the one top entry gets.
    pub rename_top: Option<Name>,
}

/// Finds the place that `path` below `root` means. `shown` is the path as the user knows it.
pub fn place(root: &Dir, path: &RelPath, wish: Wish, shown: &str) -> Result<Place, Refusal> {
    if wish.is_name() {
        return named(root, path, shown);
    }
    let path = follow(root, path)?;
    let into = |folder: RelPath| Place { folder, make: false, rename_top: None };
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return Ok(into(path)),
    };
    match root.attributes_of(&path) {
        Ok(attributes) if attributes.kind == Kind::Directory => Ok(into(path)),
        Ok(attributes) if wish.into_folder || wish.contents => {
            let text = format!("{shown} is {}, but a folder is needed", attributes.kind);
            Err(refusal(RefuseCode::NotAFolder, text))
        }
        Ok(_) => Ok(Place { folder: parent, make: false, rename_top: Some(name) }),
        Err(error) if error.is_not_found() => {
            if wish.into_folder {
                let text = format!(
                    "the folder {shown} does not exist; several sources, a pattern, or a slash at the \
                     end ask for one that does"
                );
                return Err(refusal(RefuseCode::NotFound, text));
            }
            check_parent(root, &parent, shown)?;
            if wish.contents {
                return Ok(Place { folder: path, make: true, rename_top: None });
            }
            Ok(Place { folder: parent, make: false, rename_top: Some(name) })
        }
        Err(error) => Err(from_disk(&error, shown)),
    }
}

/// The place where `path` below `root` is the name that the one source gets, whatever stands there.
fn named(root: &Dir, path: &RelPath, shown: &str) -> Result<Place, Refusal> {
    let path = follow(root, path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refusal(RefuseCode::NotAFolder, format!("{shown} is no name in a folder")));
    };
    check_parent(root, &folder, shown)?;
    Ok(Place { folder, make: false, rename_top: Some(name) })
}

fn check_parent(root: &Dir, parent: &RelPath, shown: &str) -> Result<(), Refusal> {
    match root.attributes_of(parent) {
        Ok(attributes) if attributes.kind == Kind::Directory => Ok(()),
        Ok(_) => {
            let text = format!("cannot make {shown}: what it should lie in is no folder");
            Err(refusal(RefuseCode::NotAFolder, text))
        }
        Err(error) if error.is_not_found() => {
            let text =
                format!("cannot make {shown}: the folder that it should lie in does not exist");
            Err(refusal(RefuseCode::NotFound, text))
        }
        Err(error) => Err(from_disk(&error, shown)),
    }
}

/// The same path without symbolic links, as the disk is now. A link that leads out of `root` is
/// refused; what does not exist stays as it is written.
pub fn follow(root: &Dir, path: &RelPath) -> Result<RelPath, Refusal> {
    let shown = path.to_string();
    let out = || {
        let text = format!("{shown} leads through a symbolic link out of the export");
        refusal(RefuseCode::Denied, text)
    };
    let mut pending: Vec<Vec<u8>> =
        path.names().rev().map(|name| name.as_bytes().to_vec()).collect();
    let mut done = RelPath::root();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == b".." {
            done = done.parent().ok_or_else(out)?;
            continue;
        }
        let name = Name::new(&part).map_err(|error| invalid(&error))?;
        let next = done.join(&name).map_err(|error| invalid(&error))?;
        match root.attributes_of(&next) {
            Ok(attributes) if attributes.kind == Kind::Symlink => {}
            Ok(_) => {
                done = next;
                continue;
            }
            Err(error) if error.is_not_found() || error.is_not_a_directory() => {
                done = next;
                continue;
            }
            Err(error) => return Err(from_disk(&error, &shown)),
        }
        links += 1;
        let target = root
            .open_dir(&done, files::Follow::Never)
            .and_then(|dir| dir.read_link(&name))
            .map_err(|error| from_disk(&error, &shown))?;
        if target.starts_with(b"/") || links > MAX_LINKS {
            return Err(out());
        }
        let parts = target.split(|byte| *byte == b'/').rev();
        pending.extend(parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec));
        if pending.len() > files::MAX_PATH {
            return Err(out());
        }
    }
    Ok(done)
}

/// The folder that a path of this machine lies in and its name there, links in the last place
/// followed; or the folder itself, where the path has no last name (`.`, `..`, `/`).
#[derive(Debug, Clone)]
pub enum Ambient {
    /// A folder, and where it lies where the path says its name.
    Folder(Dir, Option<(Dir, Name)>),
    /// An entry of a folder, which may not exist.
    Entry(Dir, Name),
}

impl Ambient {
    /// A folder and what is meant below it. With `by_name` a folder is seen from the one above it where
    /// that is known, so that paths of a walk begin with its name, as filter rules expect.
    pub fn into_place(self, by_name: bool) -> (Dir, RelPath) {
        match self {
            Self::Folder(_, Some((parent, own))) if by_name => (parent, RelPath::from(own)),
            Self::Folder(dir, _) => (dir, RelPath::root()),
            Self::Entry(dir, name) => (dir, RelPath::from(name)),
        }
    }
}

/// Opens what a path of this machine means.
pub fn ambient(path: &Path) -> Result<Ambient, files::FilesError> {
    let mut path = path.to_owned();
    let mut links = 0;
    loop {
        let Some((parent, name)) = split_path(&path) else {
            return Ok(Ambient::Folder(Dir::open_ambient(&path)?, None));
        };
        let dir = Dir::open_ambient(&parent)?;
        let kind = dir.attributes_of(&RelPath::from(&name)).map(|attributes| attributes.kind);
        match kind {
            Ok(Kind::Directory) => {
                let folder = dir.open_dir(&RelPath::from(&name), files::Follow::Never)?;
                return Ok(Ambient::Folder(folder, Some((dir, name))));
            }
            Ok(Kind::Symlink) if links < MAX_LINKS => {
                use std::os::unix::ffi::OsStrExt;
                links += 1;
                let target = dir.read_link(&name)?;
                path = parent.join(std::ffi::OsStr::from_bytes(&target));
            }
            // What cannot be looked at is met again, with its error, by whoever wants it.
            _ => return Ok(Ambient::Entry(dir, name)),
        }
    }
}

/// A refusal in our words.
pub fn refusal(code: RefuseCode, text: impl Into<String>) -> Refusal {
    Refusal { code, text: text.into() }
}

/// A path that cannot be one.
pub fn invalid(error: &files::NameError) -> Refusal {
    refusal(RefuseCode::NotFound, format!("the path cannot be used: {error}"))
}

/// What the disk said, for the peer: its own path stays here, the path that the peer knows goes out.
pub fn from_disk(error: &files::FilesError, shown: &str) -> Refusal {
    let (code, why) = if error.is_not_found() {
        (RefuseCode::NotFound, "it does not exist")
    } else if error.is_not_a_directory() {
        (RefuseCode::NotAFolder, "something on the way is no folder")
    } else if error.is_permission_denied() {
        (RefuseCode::Denied, "the system forbids it")
    } else if error.is_symlink_refused() {
        (RefuseCode::Denied, "a symbolic link leads out of the export")
    } else if error.is_disk_full() {
        (RefuseCode::Disk, "the disk is full")
    } else if error.is_read_only() {
        (RefuseCode::Disk, "the filesystem is read-only")
    } else {
        (RefuseCode::Disk, "the disk fails")
    };
    refusal(code, format!("cannot use {shown}: {why}"))
}

#[cfg(test)]
mod tests;
