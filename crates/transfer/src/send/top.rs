//! Under which path something is offered that a walk has found below one of the sources.

use files::{Name, RelPath};

use crate::host::SourceRoot;

/// What a source is offered as.
pub(crate) struct Top {
    name: Option<Name>,
    /// Paths begin with the entry's own name.
    is_entry: bool,
}

impl Top {
    pub(crate) fn of(source: &SourceRoot) -> Self {
        Self { name: source.name.clone(), is_entry: !source.path.is_root() }
    }

    /// The path under which what the walk calls `path` is offered.
    pub(crate) fn offered(&self, path: &RelPath) -> RelPath {
        let below = match &self.name {
            Some(name) if self.is_entry && path.begins_with(name) => Ok(path.clone()),
            Some(name) if self.is_entry => {
                path.names().skip(1).try_fold(RelPath::from(name), |path, name| path.join(&name))
            }
            Some(name) => RelPath::from(name).join_path(path),
            None => Ok(path.clone()),
        };
        // A path that is too long is refused by the target and has no record.
        below.unwrap_or_default()
    }
}
