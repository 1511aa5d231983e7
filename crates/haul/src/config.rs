//! The daemon's configuration file (`docs/formats/config.md`). Reading the text is pure; a key that is
//! not known is an error, because a mistyped `mode` would open a door.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use ::inbox::InboxesOptions;

use crate::exports::{ExportSpec, Grants, Mode};

mod inboxes;

pub use inboxes::DyncConfig;

/// The longest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// What a configuration file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Where to listen.
    pub listen: Option<String>,
    /// What to export.
    pub exports: Vec<ExportSpec>,
    /// What takes datasets.
    pub inboxes: InboxesOptions,
    /// The door for clients of dync.
    pub dync: Option<DyncConfig>,
    /// Whether unknown keys may ask to be let in.
    pub takes_requests: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<String>,
    #[serde(default)]
    export: Vec<Entry>,
    #[serde(default)]
    inbox: Vec<inboxes::Entry>,
    #[serde(default)]
    inboxes: inboxes::Shared,
    dync: Option<inboxes::DyncEntry>,
    #[serde(default)]
    enrolment: Enrolment,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    #[serde(default)]
    requests: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    path: PathBuf,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    setid: bool,
    #[serde(default)]
    owner: bool,
}

impl Config {
    /// Reads a file that the operator named.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = files::escape_path(path);
        let bytes = files::File::open_ambient(path)?.read_whole(MAX_CONFIG_BYTES)?;
        let text = String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8"))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).with_context(|| format!("{shown} cannot be used"))
    }

    /// Reads the text; relative paths are below `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let export = |entry: Entry| {
            let path = base.join(entry.path);
            let grants = Grants { setid: entry.setid, owner: entry.owner };
            ExportSpec::new(entry.name.as_deref().map(str::as_bytes), path.clone(), entry.mode)
                .map(|spec| ExportSpec { grants, ..spec })
                .with_context(|| format!("the export {}", files::escape_path(&path)))
        };
        let exports = file.export.into_iter().map(export).collect::<Result<_>>()?;
        let inboxes = inboxes::read(file.inbox, file.inboxes, base)?;
        let dync = inboxes::dync(file.dync, &inboxes)?;
        let takes_requests = file.enrolment.requests;
        Ok(Self { listen: file.listen, exports, inboxes, dync, takes_requests })
    }
}

#[cfg(test)]
mod tests;
