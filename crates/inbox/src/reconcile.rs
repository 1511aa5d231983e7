//! What the start of a server makes of what the last one left: the catalogue is held against `store/` in both
//! directions, and what is in `incoming/` either waits for its client or is removed. Nothing is guessed, and nothing that
//! could be somebody's data is removed because it could not be read.

use files::{Dir, Follow, Name, RelPath};
use link::PublicKey;
use rusqlite::Transaction;

use crate::catalogue::{DatasetRow, DatasetState};
use crate::name::{DatasetId, id_of_folder};
use crate::store::{Incoming, OfferError, Root, StoreError, is_there, register};
use crate::verify::{Verified, VerifyOptions, look_at};

/// Rows that are read from the catalogue at a time.
const PAGE: usize = 256;
/// The most that is listed of each kind; more is only counted.
const MOST_LISTED: usize = 1_000;

/// What was found, and what was done.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Datasets in the store that the catalogue did not have, and has now. Their hooks are the caller's, who has entered
    /// them in the same transaction.
    pub registered: Vec<DatasetId>,
    /// Datasets whose folder is not there: those that were there at the last start too are not told again.
    pub missing: Vec<DatasetId>,
    /// Datasets that were missing and are there again.
    pub found_again: Vec<DatasetId>,
    /// What was removed from `incoming/`: leftovers of what was published, discarded or never begun.
    pub removed: Vec<String>,
    /// Datasets that stand and have their rows, and whose uploads were not removed yet: what follows a publication may
    /// not have come of them.
    pub completed: Vec<DatasetId>,
    /// What was left as it is and needs somebody's eyes: where it is, and why. The first of them.
    pub unclear: Vec<(String, String)>,
    /// How many are unclear beside these.
    pub more_unclear: u64,
    /// Uploads that wait for their clients, in the order in which they were offered.
    pub waiting: Vec<Incoming>,
}

impl Reconciled {
    fn unclear(&mut self, place: impl Into<String>, reason: impl ToString) {
        match self.unclear.len() < MOST_LISTED {
            true => self.unclear.push((place.into(), reason.to_string())),
            false => self.more_unclear += 1,
        }
    }
}

/// Makes the catalogue agree with the store, and clears `incoming/`. To be called once, after [`Root::open`] and before
/// anything is taken in. `signer` is this server: a dataset without a row is entered only if its receipt is signed by it and
/// is about what is there, as far as that can be seen without reading its files. `also` adds rows for each that is
/// entered, in the same transaction.
///
/// # Errors
/// When a folder of the root cannot be read, or the catalogue not be written. What one dataset has wrong is no error
/// but a line in the result.
pub fn reconcile(
    root: &Root,
    signer: Option<&PublicKey>,
    mut also: impl FnMut(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
) -> Result<Reconciled, StoreError> {
    let mut report = Reconciled::default();
    let options = VerifyOptions { skip_contents: true, signer: signer.cloned() };
    for (path, name) in folders(root.store_dir(), "store", &mut report)? {
        let shelf = root.store_dir().open_dir(&RelPath::from(name), Follow::Never)?;
        for (path, name) in folders(&shelf, &path, &mut report)? {
            let month = shelf.open_dir(&RelPath::from(name), Follow::Never)?;
            for entry in month.entries()? {
                let entry = entry?;
                let path = format!("{path}/{}", files::escape(entry.bytes()));
                match id_of_folder(entry.bytes()) {
                    Some(id) => enter(root, &path, id, &options, &mut also, &mut report)?,
                    None => report.unclear(path, "it is no folder of a dataset"),
                }
            }
        }
    }
    look_for_missing(root, &mut report)?;
    clear_incoming(root, &mut report)?;
    Ok(report)
}

/// The folders in a folder, with their paths.
fn folders(
    dir: &Dir,
    path: &str,
    report: &mut Reconciled,
) -> Result<Vec<(String, Name)>, StoreError> {
    let mut folders = Vec::new();
    for entry in dir.entries()? {
        let name = entry?.name()?;
        let path = format!("{path}/{name}");
        match dir.open_dir(&RelPath::from(&name), Follow::Never) {
            Ok(_) => folders.push((path, name)),
            Err(error) => report.unclear(path, error),
        }
    }
    Ok(folders)
}

/// A folder in the store: it has its row, or gets it.
fn enter(
    root: &Root,
    path: &str,
    id: DatasetId,
    options: &VerifyOptions,
    also: &mut impl FnMut(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
    report: &mut Reconciled,
) -> Result<(), StoreError> {
    if let Some(row) = root.catalogue().dataset(id)?
        && row.path == path
    {
        if row.state == DatasetState::Missing && is_there(root, path)? {
            root.catalogue().set_state(id, DatasetState::Ok)?;
            report.found_again.push(id);
        }
        return Ok(());
    }
    let mut verified = Verified::default();
    if let Err(error) = look_at(root.dir(), path, options, &mut verified) {
        report.unclear(path, error);
        return Ok(());
    }
    if let Some(finding) = verified.findings.first() {
        report.unclear(path, finding);
        return Ok(());
    }
    match register(root, path, |transaction, row| also(transaction, row)) {
        Ok(_) => report.registered.push(id),
        Err(error @ StoreError::Catalogue(_)) => return Err(error),
        Err(error) => report.unclear(path, error),
    }
    Ok(())
}

/// Rows without a folder are marked.
fn look_for_missing(root: &Root, report: &mut Reconciled) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let rows = root.catalogue().after(after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.id);
        for row in rows {
            if row.state == DatasetState::Ok && !is_there(root, &row.path)? {
                root.catalogue().set_state(row.id, DatasetState::Missing)?;
                report.missing.push(row.id);
            }
        }
    }
}

/// Leaves in `incoming/` what waits for a client.
fn clear_incoming(root: &Root, report: &mut Reconciled) -> Result<(), StoreError> {
    let names: Result<Vec<Name>, _> =
        root.incoming_dir().entries()?.map(|entry| entry.and_then(|entry| entry.name())).collect();
    for name in names? {
        let place = format!("incoming/{name}");
        match Incoming::at(root, &name) {
            Ok(incoming) => match root.catalogue().dataset(incoming.id())? {
                Some(row) if row.state == DatasetState::Ok => {
                    report.completed.push(row.id);
                    incoming.remove()?;
                    report.removed.push(place);
                }
                _ => report.waiting.push(incoming),
            },
            // What a later program wrote is not this one's to remove.
            Err(StoreError::Offer { source: source @ OfferError::Version(_), .. }) => {
                report.unclear(place, source);
            }
            Err(error) if is_no_upload(&error) => {
                root.incoming_dir().remove_tree(&name)?;
                report.removed.push(place);
            }
            Err(error) => report.unclear(place, error),
        }
    }
    report.waiting.sort_by_key(Incoming::id);
    Ok(root.incoming_dir().sync()?)
}

/// Whether there was never an offer, or none that was written whole.
fn is_no_upload(error: &StoreError) -> bool {
    match error {
        StoreError::Offer { .. } => true,
        StoreError::Files(error) => crate::store::is_absent(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
