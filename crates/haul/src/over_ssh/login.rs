//! What a login may copy: all that its user may, by paths as a shell there takes them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::{Identity, Lane};
use transfer::host::{Host, Landing, Refusal, SourceRoot};
use transfer::message::{Listed, Order, RefuseCode};

use crate::landing::{self, Wish, from_disk, refusal};
use crate::report::Failure;
use crate::{listing, local};

/// The policy of `haul over-ssh`.
pub struct Login {
    /// The login folder, which relative paths begin at.
    pub home: PathBuf,
    /// Who signs.
    pub identity: Arc<Identity>,
}

impl Login {
    /// The path that is meant by one as typed.
    fn path(&self, typed: &[u8]) -> Result<PathBuf, Refusal> {
        let rest = match typed {
            b"" => return Ok(self.home.clone()),
            [b'~'] => return Ok(self.home.clone()),
            [b'~', b'/', rest @ ..] => rest,
            [b'~', ..] => {
                let typed = files::escape(typed);
                let text = format!(
                    "{typed}: only one's own login folder, ~, has a short form; \
                     write the whole path, or ./{typed} for a name that begins so"
                );
                return Err(refusal(RefuseCode::NotFound, text));
            }
            rest => rest,
        };
        if rest.contains(&0) {
            return Err(refusal(RefuseCode::NotFound, "a path holds no NUL byte"));
        }
        Ok(self.home.join(std::ffi::OsStr::from_bytes(rest)))
    }
}

/// An error of this machine, for the other one.
fn told(error: anyhow::Error, path: &Path) -> Refusal {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal.clone();
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return refusal(RefuseCode::NotFound, failure.to_string());
    }
    let shown = files::escape_path(path).to_string();
    match error.downcast_ref::<files::FilesError>() {
        Some(error) => from_disk(error, &shown),
        None => refusal(RefuseCode::Disk, format!("cannot use {shown}: {error:#}")),
    }
}

impl Host for Login {
    fn landing(&self, _lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        let path = self.path(&order.target)?;
        let wish = Wish { into_folder: order.into_folder, contents: order.contents };
        local::landing(&path, wish).map_err(|error| told(error, &path))
    }

    fn sources(
        &self,
        _lane: &Lane,
        paths: &[Vec<u8>],
        _order: &Order,
    ) -> Result<Vec<SourceRoot>, Refusal> {
        let source = |typed: &Vec<u8>| {
            let path = self.path(typed)?;
            local::source(&path).map_err(|error| told(error, &path))
        };
        paths.iter().map(source).collect()
    }

    fn list(&self, _lane: &Lane, path: &[u8]) -> Result<Vec<Listed>, Refusal> {
        let path = self.path(path)?;
        let shown = files::escape_path(&path).to_string();
        let listing = || {
            let (dir, below) = landing::ambient(&path)?.into_place(false);
            let own = below.file_name().unwrap_or_else(|| crate::state::own_name("folder"));
            listing::list(&dir, &below, own, |_| true)
        };
        listing().map_err(|error| from_disk(&error, &shown))
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_login_folder() {
        let identity = Arc::new(Identity::generate().unwrap());
        let login = Login { home: "/there/me".into(), identity };
        let check = |typed: &str, expected: &str| {
            assert_eq!(login.path(typed.as_bytes()).unwrap(), Path::new(expected), "{typed}");
        };
        check("", "/there/me");
        check("~", "/there/me");
        check("~/a", "/there/me/a");
        check("a/b", "/there/me/a/b");
        check("./~x", "/there/me/./~x");
        check("/srv/a", "/srv/a");
        check("a/.", "/there/me/a/.");
        assert!(login.path(b"~root/a").unwrap_err().text.contains("./~root/a"));
        assert!(login.path(b"a\0b").is_err());
    }
}
