//! `--export PATH[:ro][=NAME]`, taken apart. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use files::Name;

use super::{Grants, Mode};

/// What the operator wants exported; nothing has been opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSpec {
    /// What peers call it.
    pub name: Name,
    /// The folder.
    pub path: PathBuf,
    /// What peers may do in it.
    pub mode: Mode,
    /// What peers may set on files there; only a configuration file can say more than nothing.
    pub grants: Grants,
}

/// Why a text is no export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No path.
    #[error("it names no folder")]
    NoPath,
    /// The name is none.
    #[error("its name cannot be used: {0}")]
    Name(#[source] files::NameError),
    /// The path has no last name, as `/` or `..`.
    #[error("the folder has no name of its own: write =NAME behind it")]
    NoName,
}

impl ExportSpec {
    /// Reads `PATH`, `PATH:ro`, `PATH=NAME` or `PATH:ro=NAME`; `:rw` may be written too. What stands
    /// behind the last `=` is a name only if it holds no slash.
    pub fn parse(word: &OsStr) -> Result<Self, SpecError> {
        let bytes = word.as_bytes();
        let equals = bytes.iter().rposition(|byte| *byte == b'=');
        let (rest, name) = match equals.map(|at| (&bytes[..at], &bytes[at + 1..])) {
            Some((rest, name)) if !name.contains(&b'/') => (rest, Some(name)),
            _ => (bytes, None),
        };
        let (path, mode) = if let Some(path) = rest.strip_suffix(b":ro") {
            (path, Mode::Ro)
        } else {
            (rest.strip_suffix(b":rw").unwrap_or(rest), Mode::Rw)
        };
        if path.is_empty() {
            return Err(SpecError::NoPath);
        }
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        Self::new(name, path, mode)
    }

    /// An export whose name is that of the folder unless it has one of its own.
    pub fn new(name: Option<&[u8]>, path: PathBuf, mode: Mode) -> Result<Self, SpecError> {
        let name = match name {
            Some(name) => Name::new(name).map_err(SpecError::Name)?,
            None => {
                let last = path.file_name().ok_or(SpecError::NoName)?;
                Name::new(last.as_bytes()).map_err(SpecError::Name)?
            }
        };
        Ok(Self { name, path, mode, grants: Grants::default() })
    }
}
