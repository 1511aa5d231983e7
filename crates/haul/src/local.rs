//! Paths of this machine as sources and targets, opened once and never used as paths again. A link that
//! the user names is followed, as scp does; links found below it are copied as links.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use files::{Dir, Kind, Name, RelPath};
use link::{Identity, Lane};
use transfer::host::{AdmitAll, Host, Landing, Refusal, SourceRoot};
use transfer::message::{Listed, Order, RefuseCode};

use crate::exports::{real_path, typed_name};
use crate::landing::{self, Wish, refusal};
use crate::report::{Code, Failure};

/// A source of this machine, ready to be offered.
pub fn source(path: &Path) -> Result<SourceRoot> {
    let shown = files::escape_path(path);
    let bytes = path.as_os_str().as_bytes();
    // `folder/.`, and what has no name of its own, stands for what is in it.
    let name = typed_name(bytes);
    let missing = || {
        Failure::new(Code::Usage, format!("{shown} does not exist"))
            .hint("check how the path is spelled")
    };
    let (root, path) = match landing::ambient(path) {
        Err(error) if error.is_not_found() => return Err(missing().into()),
        found => found?,
    }
    .into_place(name.is_some());
    let kind = match root.attributes_of(&path) {
        Err(error) if error.is_not_found() => return Err(missing().into()),
        found => found?.kind,
    };
    if kind != Kind::Directory && (name.is_none() || bytes.ends_with(b"/")) {
        let text = format!("{shown} is {kind}, not a folder");
        return Err(Failure::new(Code::Usage, text).into());
    }
    if kind == Kind::Other {
        let text = format!("{shown} is {kind}: haul copies files, folders and links");
        return Err(Failure::new(Code::Usage, text)
            .hint("to copy what a pipe gives, use - as SOURCE")
            .into());
    }
    Ok(SourceRoot { root, path, name, max_rate_bytes_per_s: None, only: None })
}

/// Where a copy to a path of this machine lands.
pub fn landing(path: &Path, wish: Wish) -> Result<Landing> {
    let shown = files::escape_path(path).to_string();
    let (root, path) = match landing::ambient(path) {
        Err(error) if error.is_not_found() => {
            let text =
                format!("cannot make {shown}: the folder that it should lie in does not exist");
            return Err(refusal(RefuseCode::NotFound, text).into());
        }
        // A folder that is there is a name only where it is meant as one.
        found => found?.into_place(wish.is_name()),
    };
    let place = landing::place(&root, &path, wish, &shown)?;
    Ok(Landing {
        root,
        folder: place.folder,
        make: place.make,
        rename_top: place.rename_top,
        shown,
        max_rate_bytes_per_s: None,
        max_bytes: None,
        // Whoever runs the command is the operator of this machine.
        allow_setid: true,
        allow_owner: true,
        may_read: true,
        intake: None,
        admission: Arc::new(AdmitAll),
    })
}

/// Refuses to copy a folder into itself, which would go on until the disk is full. `given` and `shown`
/// are source and target as the user wrote them.
pub fn check_apart(
    given: &[PathBuf],
    sources: &[SourceRoot],
    landing: &Landing,
    shown: &Path,
) -> Result<()> {
    let above = folders_above(landing);
    for (typed, source) in given.iter().zip(sources) {
        let found = source.root.attributes_of(&source.path)?;
        if found.kind == Kind::Directory && above.contains(&(found.device, found.inode)) {
            let (typed, shown) = (files::escape_path(typed), files::escape_path(shown));
            let text = format!("cannot copy a directory, '{typed}', into itself, '{shown}'");
            return Err(Failure::new(Code::Usage, text).into());
        }
    }
    Ok(())
}

/// Device and inode of the folder that entries go into, and of all above it. One that cannot be opened
/// is passed over: it could not be read as a source either.
fn folders_above(landing: &Landing) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut path = Some(landing.folder.clone());
    while let Some(folder) = path {
        found.extend(landing.root.attributes_of(&folder).ok());
        path = folder.parent();
    }
    let root = real_path(&landing.root);
    let parents = root.iter().flat_map(|root| root.ancestors().skip(1));
    found.extend(parents.filter_map(|path| Dir::open_ambient(path).ok()?.attributes().ok()));
    found.iter().map(|folder| (folder.device, folder.inode)).collect()
}

/// A landing in a private folder, under a name that was chosen.
pub fn landing_in(dir: &Dir, name: Name, shown: &str) -> Landing {
    Landing {
        root: dir.clone(),
        folder: RelPath::root(),
        make: false,
        rename_top: Some(name),
        shown: shown.to_owned(),
        max_rate_bytes_per_s: None,
        max_bytes: None,
        // Whoever runs the command is the operator of this machine.
        allow_setid: true,
        allow_owner: true,
        may_read: true,
        intake: None,
        admission: Arc::new(AdmitAll),
    }
}

/// The policy of a daemon that takes one copy, from its own process.
pub struct OneLanding {
    /// Where it lands.
    pub landing: Landing,
    /// Who signs.
    pub identity: Arc<Identity>,
}

impl Host for OneLanding {
    fn landing(&self, _lane: &Lane, _order: &Order) -> Result<Landing, Refusal> {
        Ok(self.landing.clone())
    }

    fn sources(&self, _: &Lane, _: &[Vec<u8>], _: &Order) -> Result<Vec<SourceRoot>, Refusal> {
        Err(refusal(RefuseCode::Denied, "this daemon only takes one copy"))
    }

    fn list(&self, _lane: &Lane, _path: &[u8]) -> Result<Vec<Listed>, Refusal> {
        Err(refusal(RefuseCode::Denied, "this daemon only takes one copy"))
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }
}
