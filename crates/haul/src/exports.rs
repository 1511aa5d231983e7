//! The daemon's policy: exported folders, and what each peer may do in them. A path that a peer names
//! is taken apart by name, symbolic links are followed only beneath the export, and what the peer's
//! `authorized_keys` line allows is asked of the path that was found, not of the one that was typed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::{Dir, Kind, Name, RelPath, Timestamp, is_reserved};
use link::{Identity, Lane, PeerName, Permissions};
use transfer::grant::Granter;
use transfer::host::{Admission, AdmitAll, Host, Landing, Refusal, SourceRoot};
use transfer::message::{Deletion, Entry, Listed, Order, RefuseCode};

use crate::landing::{self, Wish, from_disk, invalid, refusal};
use crate::listing;
use crate::trust::{LiveKeys, Log};

mod patterns;
mod spec;

pub use spec::ExportSpec;

/// Paths that one line of the log names.
const MOST_LOGGED: usize = 4;

/// Whether peers may change what is in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Reading and writing.
    #[default]
    #[serde(alias = "read-write")]
    Rw,
    /// Reading only.
    #[serde(alias = "read-only")]
    Ro,
}

/// What the operator lets peers set on files beyond the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants {
    /// Set-user, set-group and sticky bits.
    pub setid: bool,
    /// Owner and group.
    pub owner: bool,
}

/// A folder that peers may copy from or to.
#[derive(Debug, Clone)]
pub struct Export {
    /// What peers call it.
    pub name: Name,
    /// The folder, opened once.
    pub dir: Dir,
    /// What peers may do in it.
    pub mode: Mode,
    /// What peers may set on files there.
    pub grants: Grants,
    /// The path that the operator gave, made absolute, and the one without symbolic links.
    paths: Vec<PathBuf>,
}

impl Export {
    /// Opens a folder to be exported.
    pub fn open(name: Name, path: &Path, mode: Mode) -> Result<Self, files::FilesError> {
        let dir = Dir::open_ambient(path)?;
        let mut paths: Vec<PathBuf> = std::path::absolute(path).into_iter().collect();
        paths.extend(real_path(&dir));
        paths.dedup();
        Ok(Self { name, dir, mode, grants: Grants::default(), paths })
    }

    /// The same, where peers may set more on files.
    pub fn granting(self, grants: Grants) -> Self {
        Self { grants, ..self }
    }

    /// The path to show to the operator.
    pub fn path(&self) -> &Path {
        self.paths.first().map_or(self.dir.path(), PathBuf::as_path)
    }
}

/// The path of an open folder as the system knows it, where it says so.
pub(crate) fn real_path(dir: &Dir) -> Option<PathBuf> {
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

/// All exports of a daemon, and who signs for what arrives.
pub struct Exports {
    list: Vec<Export>,
    identity: Arc<Identity>,
    log: Log,
    /// Who may what at any moment; without them nothing is taken in the name of others.
    keys: Option<Arc<LiveKeys>>,
}

/// A path that a peer named, as it was found.
struct Found<'a> {
    export: &'a Export,
    /// Below the export, without symbolic links.
    path: RelPath,
    /// It was written with `/.` at the end.
    contents: bool,
}

impl Found<'_> {
    /// The path as permissions and receipts name it: the export's name and what lies below.
    fn full(&self) -> Vec<u8> {
        full_path(self.export, &self.path)
    }
}

fn full_path(export: &Export, path: &RelPath) -> Vec<u8> {
    match path.is_root() {
        true => export.name.as_bytes().to_vec(),
        false => [export.name.as_bytes(), path.as_bytes()].join(&b'/'),
    }
}

impl Exports {
    /// A policy over these folders, whose names differ.
    pub fn new(list: Vec<Export>, identity: Arc<Identity>) -> Self {
        Self { list, identity, log: Arc::new(|_| {}), keys: None }
    }

    /// The same, telling an operator who copies what.
    pub(crate) fn with_log(self, log: Log) -> Self {
        Self { log, ..self }
    }

    /// The same, taking what peers with these keys have granted to others.
    pub(crate) fn with_keys(self, keys: Arc<LiveKeys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The exports in the order in which they were given.
    pub fn list(&self) -> &[Export] {
        &self.list
    }

    /// The export that a path begins with, and what is behind it as typed.
    fn split<'a>(
        &self,
        typed: &'a [u8],
        allowed: &Permissions,
    ) -> Result<(&Export, &'a [u8]), Refusal> {
        if typed.starts_with(b"/") {
            return self.split_absolute(typed, allowed);
        }
        let trimmed = strip_dots(typed);
        let end = trimmed.iter().position(|byte| *byte == b'/').unwrap_or(trimmed.len());
        let named = self.list.iter().find(|export| export.name.as_bytes() == &trimmed[..end]);
        match (named, self.list.as_slice()) {
            (Some(export), _) => Ok((export, &trimmed[end..])),
            (None, [only]) => Ok((only, typed)),
            (None, _) if trimmed.is_empty() || trimmed == b"." => {
                let text = format!("name an export; {}", self.names(allowed));
                Err(refusal(RefuseCode::NotFound, text))
            }
            (None, _) => {
                let name = files::escape(&trimmed[..end]);
                let text = format!("there is no export '{name}'; {}", self.names(allowed));
                Err(refusal(RefuseCode::NotFound, text))
            }
        }
    }

    /// An absolute path is this machine's own and lies in an export, or is refused.
    fn split_absolute<'a>(
        &self,
        typed: &'a [u8],
        allowed: &Permissions,
    ) -> Result<(&Export, &'a [u8]), Refusal> {
        use std::os::unix::ffi::OsStrExt;
        let mut best: Option<(&Export, &[u8], usize)> = None;
        for export in &self.list {
            for path in &export.paths {
                let root = path.as_os_str().as_bytes();
                let root = root.strip_suffix(b"/").unwrap_or(root);
                let Some(rest) = typed.strip_prefix(root) else { continue };
                let whole = rest.is_empty() || rest.starts_with(b"/");
                // Of exports that lie in each other, the innermost is meant.
                if whole && best.is_none_or(|(_, _, length)| length < root.len() + 1) {
                    best = Some((export, rest, root.len() + 1));
                }
            }
        }
        best.map(|(export, rest, _)| (export, rest)).ok_or_else(|| {
            let text =
                format!("{} lies in no export; {}", files::escape(typed), self.names(allowed));
            refusal(RefuseCode::NotFound, text)
        })
    }

    /// The exports that a peer may know of, in words.
    fn names(&self, allowed: &Permissions) -> String {
        let shown: Vec<String> = self
            .list
            .iter()
            .filter(|export| leads_to(allowed, export.name.as_bytes()))
            .map(|export| export.name.to_string())
            .collect();
        if shown.is_empty() {
            "nothing is exported to this key".to_owned()
        } else {
            format!("exports here: {}", shown.join(", "))
        }
    }

    fn find(&self, typed: &[u8], allowed: &Permissions) -> Result<Found<'_>, Refusal> {
        let (export, rest) = self.split(typed, allowed)?;
        let path = RelPath::parse_user(strip_slashes(rest)).map_err(|error| invalid(&error))?;
        let contents = typed == b"." || typed.ends_with(b"/.");
        let path = landing::follow(&export.dir, &path)?;
        if path.names().any(|name| is_reserved(&name)) {
            let text = format!("{path} is kept for haul's own use");
            return Err(refusal(RefuseCode::Denied, text));
        }
        Ok(Found { export, path, contents })
    }

    fn source(&self, typed: &[u8], allowed: &Permissions) -> Result<SourceRoot, Refusal> {
        let found = self.find(typed, allowed)?;
        let full = found.full();
        let shown = files::escape(&full).to_string();
        check_covered(allowed, &full, &shown)?;
        let attributes = found.export.dir.attributes_of(&found.path);
        let kind = attributes.map_err(|error| from_disk(&error, &shown))?.kind;
        if found.contents && kind != Kind::Directory {
            let text = format!("{shown} is {kind}, so there is nothing in it to copy");
            return Err(refusal(RefuseCode::NotAFolder, text));
        }
        // The name is the one that was typed, also where it was a link to something else.
        let name = match typed_name(typed) {
            _ if found.contents => None,
            Some(name) => Some(name),
            None => Some(found.path.file_name().unwrap_or_else(|| found.export.name.clone())),
        };
        let max_rate_bytes_per_s = allowed.max_rate_bytes_per_s;
        Ok(SourceRoot {
            root: found.export.dir.clone(),
            path: found.path,
            name,
            max_rate_bytes_per_s,
            only: None,
        })
    }

    fn live_keys(&self) -> Result<&LiveKeys, Refusal> {
        let text = "this daemon takes nothing in the name of others";
        self.keys.as_deref().ok_or_else(|| refusal(RefuseCode::Denied, text))
    }

    /// Where an order of a peer that is allowed so much lands.
    fn land(&self, allowed: &Permissions, order: &Order) -> Result<Landing, Refusal> {
        if !allowed.write {
            return Err(refusal(RefuseCode::Denied, "this key may only read here"));
        }
        let found = self.find(&order.target, allowed)?;
        let export = found.export;
        let full = found.full();
        let shown = files::escape(&full).to_string();
        // Into a folder above the allowed ones only what lies below those may go, entry by entry.
        if !leads_to(allowed, &full) {
            check_covered(allowed, &full, &shown)?;
        }
        if export.mode == Mode::Ro {
            let text = format!("the export {} is read-only", export.name);
            return Err(refusal(RefuseCode::Denied, text));
        }
        let place = landing::place(&export.dir, &found.path, Wish::of(order), &shown)?;
        let base = full_path(export, &place.folder);
        let top = match &place.rename_top {
            Some(name) => [base.as_slice(), name.as_bytes()].join(&b'/'),
            None => base.clone(),
        };
        check_deletion(allowed, &base, order)?;
        let admission: Arc<dyn Admission> = match allowed.covers(&base) {
            true => Arc::new(AdmitAll),
            false => Arc::new(AdmitCovered { allowed: allowed.clone(), base }),
        };
        Ok(Landing {
            root: export.dir.clone(),
            folder: place.folder,
            make: place.make,
            rename_top: place.rename_top,
            shown: files::escape(&top).to_string(),
            max_rate_bytes_per_s: allowed.max_rate_bytes_per_s,
            max_bytes: None,
            admission,
            allow_setid: export.grants.setid,
            allow_owner: export.grants.owner,
            may_read: allowed.read,
            intake: None,
        })
    }
}

impl Host for Exports {
    fn landing(&self, lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        let landing = self.land(permissions(lane)?, order)?;
        (self.log)(&format!("{} began a copy to {}", lane.peer_name(), landing.shown));
        Ok(landing)
    }

    fn sources(
        &self,
        lane: &Lane,
        paths: &[Vec<u8>],
        _order: &Order,
    ) -> Result<Vec<SourceRoot>, Refusal> {
        let allowed = permissions(lane)?;
        if !allowed.read {
            return Err(refusal(RefuseCode::Denied, "this key may only write here"));
        }
        let sources = self.all_sources(paths, allowed)?;
        let shown: Vec<String> =
            paths.iter().take(MOST_LOGGED).map(|path| files::escape(path).to_string()).collect();
        let more = if paths.len() > MOST_LOGGED { " and more" } else { "" };
        (self.log)(&format!("{} began a copy from {}{more}", lane.peer_name(), shown.join(", ")));
        Ok(sources)
    }

    fn list(&self, lane: &Lane, path: &[u8]) -> Result<Vec<Listed>, Refusal> {
        let allowed = permissions(lane)?;
        if !allowed.read {
            return Err(refusal(RefuseCode::Denied, "this key may only write here"));
        }
        if path.is_empty() {
            let visible = |export: &&Export| leads_to(allowed, export.name.as_bytes());
            return Ok(self.list.iter().filter(visible).map(listed_export).collect());
        }
        let found = self.find(path, allowed)?;
        let shown = files::escape(&found.full()).to_string();
        if !leads_to(allowed, &found.full()) {
            check_covered(allowed, &found.full(), &shown)?;
        }
        list_at(&found, allowed).map_err(|error| from_disk(&error, &shown))
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }

    fn grants(&self, lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        // Without keys that can be asked again it would be refused when it is used.
        self.live_keys()?;
        let landing = self.land(permissions(lane)?, order)?;
        (self.log)(&format!("{} has granted a copy to {}", lane.peer_name(), landing.shown));
        Ok(landing)
    }

    fn permissions_of(&self, granter: &Granter) -> Result<Permissions, Refusal> {
        let allowed = self.live_keys()?.check(&granter.key, granter.remote.ip());
        allowed.map_err(|_| {
            let text = "the key that has granted this may do nothing here any more";
            refusal(RefuseCode::Denied, text)
        })
    }

    fn granted(
        &self,
        allowed: &Permissions,
        source: &PeerName,
        order: &Order,
    ) -> Result<Landing, Refusal> {
        let landing = self.land(allowed, order)?;
        let shown = &landing.shown;
        (self.log)(&format!("{source} began a copy to {shown} that was granted to it"));
        Ok(landing)
    }
}

/// Admits what a peer's line allows and nothing beside it.
struct AdmitCovered {
    allowed: Permissions,
    /// The target folder, as permissions name it.
    base: Vec<u8>,
}

impl Admission for AdmitCovered {
    fn admit(&self, entry: &Entry, path: &RelPath) -> Result<(), Refusal> {
        AdmitAll.admit(entry, path)?;
        let full = [self.base.as_slice(), path.as_bytes()].join(&b'/');
        check_covered(&self.allowed, &full, &files::escape(&full).to_string())
    }
}

fn permissions(lane: &Lane) -> Result<&Permissions, Refusal> {
    // A lane that we dialled has none: the one who dials serves nobody.
    lane.permissions().ok_or_else(|| refusal(RefuseCode::Denied, "nothing is served on this lane"))
}

fn check_covered(allowed: &Permissions, full: &[u8], shown: &str) -> Result<(), Refusal> {
    if allowed.covers(full) {
        return Ok(());
    }
    let paths: Vec<String> =
        allowed.paths.iter().map(|path| files::escape(path.as_bytes()).to_string()).collect();
    let text = format!("this key may not use {shown}; it may use {}", paths.join(", "));
    Err(refusal(RefuseCode::Denied, text))
}

/// What is in a folder can be called extra only by a key that sees all of it: what lies beside its
/// paths is not its to remove.
fn check_deletion(allowed: &Permissions, base: &[u8], order: &Order) -> Result<(), Refusal> {
    if order.deletion == Deletion::No || allowed.covers(base) {
        return Ok(());
    }
    let shown = files::escape(base);
    let text =
        format!("this key may not remove what is extra in {shown}: it may not use all of it");
    Err(refusal(RefuseCode::Denied, text))
}

/// Whether a path is allowed, or is on the way to one that is.
fn leads_to(allowed: &Permissions, path: &[u8]) -> bool {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.map(<[u8]>::to_vec).collect()
    };
    let asked = parts(path);
    allowed.covers(path)
        || allowed.paths.iter().any(|known| parts(known.as_bytes()).starts_with(&asked))
}

fn listed_export(export: &Export) -> Listed {
    let attributes = export.dir.attributes();
    let mode = attributes.as_ref().map_or(0, |found| found.mode & 0o7777);
    let mode = if export.mode == Mode::Ro { mode & !0o222 } else { mode };
    let mtime = attributes.map_or(Timestamp::default(), |found| found.mtime);
    Listed { kind: b'e', name: export.name.clone(), size: 0, mode, mtime }
}

/// What a peer may see of a folder, or the one line of what is none.
fn list_at(found: &Found<'_>, allowed: &Permissions) -> Result<Vec<Listed>, files::FilesError> {
    let (export, path) = (found.export, &found.path);
    let own = path.file_name().unwrap_or_else(|| export.name.clone());
    listing::list(&export.dir, path, own, |path| leads_to(allowed, &full_path(export, path)))
}

/// The last name of a path as typed; none where it ends in nothing, `.` or `/.`.
pub fn typed_name(typed: &[u8]) -> Option<Name> {
    let end = typed.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = typed[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Name::new(&typed[start..end]).ok()
}

/// Without `./` in front.
fn strip_dots(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
        while let Some(rest) = path.strip_prefix(b"/") {
            path = rest;
        }
    }
    path
}

fn strip_slashes(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"/") {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests;
