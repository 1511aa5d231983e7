//! What the target has and the source has not, for `--delete-extra`. It is only noted while folders are
//! finished, and removed in one go at the end: when all else has worked, and not when it would be most of
//! what is there, unless the order says so.

use files::{Dir, FilesError, Follow, Kind, Name, RelPath, is_reserved};
use std::collections::HashSet;
use tree::{Filter, Verdict};

use super::failed;
use crate::message::{Deletion, Order, RefuseCode};
use crate::target::{Failed, MAX_EXTRAS};

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Extras {
    found: Vec<RelPath>,
    /// Entries seen in the folders that were looked at.
    seen: u64,
    too_many: bool,
}

impl Extras {
    /// Looks for names in a folder that the source does not have and that no rule protects.
    pub(super) fn look(
        &mut self,
        folder: &Dir,
        (path, source_path): (&RelPath, &RelPath),
        keep: &[Name],
        order: &Order,
    ) -> Result<(), FilesError> {
        // The rules were checked when the order was read.
        let filter = Filter::new(order.rules.clone()).unwrap_or_default();
        let keep: HashSet<&[u8]> = keep.iter().map(Name::as_bytes).collect();
        for entry in folder.entries()? {
            let entry = entry?;
            let Ok(name) = entry.name() else { continue };
            if is_reserved(&name) {
                continue;
            }
            self.seen += 1;
            let Ok(full) = path.join(&name) else { continue };
            // Rules speak of the source's names, which a renamed target does not have.
            let Ok(named) = source_path.join(&name) else { continue };
            let kind = match entry.kind() {
                Some(kind) => kind,
                None => folder.attributes_of(&RelPath::from(&name))?.kind,
            };
            let protected = filter.matches(&named, kind == Kind::Directory) == Verdict::Exclude;
            if protected || keep.contains(name.as_bytes()) {
                continue;
            }
            if self.found.len() >= MAX_EXTRAS {
                self.too_many = true;
                return Ok(());
            }
            self.found.push(full);
        }
        Ok(())
    }

    /// Removes what was found, if that is safe. Says what it was, or would be in a dry run.
    pub(super) fn remove(
        self,
        base: &Dir,
        order: &Order,
        failures: bool,
    ) -> Result<Vec<RelPath>, Failed> {
        let count = self.found.len() as u64;
        if count == 0 && !self.too_many {
            return Ok(Vec::new());
        }
        let refuse = |text: String| Failed { code: RefuseCode::Denied, text };
        if failures {
            return Err(refuse(format!(
                "nothing was deleted: something failed, so {count} extra entries stay"
            )));
        }
        if self.too_many {
            return Err(refuse(format!(
                "nothing was deleted: more than {MAX_EXTRAS} extra entries"
            )));
        }
        if order.deletion == Deletion::Guarded && count * 2 > self.seen {
            return Err(refuse(format!(
                "nothing was deleted: {count} of {} entries would go, which is more than half; \
                 --delete-extra=all does it all the same",
                self.seen
            )));
        }
        if order.dry_run {
            return Ok(self.found);
        }
        for path in &self.found {
            let parent = path.parent().unwrap_or_default();
            let remove = || -> Result<(), FilesError> {
                let folder = base.open_dir(&parent, Follow::Never)?;
                let Some(name) = path.file_name() else { return Ok(()) };
                remove_from(&folder, &name, order.durable)
            };
            match remove() {
                Err(error) if !error.is_not_found() => return Err(failed(&error)),
                _ => {}
            }
        }
        Ok(self.found)
    }
}

/// Removes an entry of a folder that is finished already, and leaves the folder as it was otherwise.
fn remove_from(folder: &Dir, name: &Name, durable: bool) -> Result<(), FilesError> {
    let before = folder.attributes()?;
    let mode = before.mode & 0o7777;
    let is_closed = mode & 0o300 != 0o300;
    if is_closed {
        folder.set_own_mode(mode | 0o700)?;
    }
    let removed = folder.remove_tree(name);
    if is_closed {
        folder.set_own_mode(mode)?;
    }
    removed?;
    folder.set_own_times(before.mtime)?;
    if durable { folder.sync() } else { Ok(()) }
}
