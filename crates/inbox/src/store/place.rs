//! A dataset's place in the store, and how it gets there: one rename, whose two folders are synced before anything
//! says that it happened.

use files::{Dir, FilesError, Follow, Name, RelPath, Replace};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Transaction;

use super::incoming::{DATASET, Inner};
use super::publish::PublishedDataset;
use super::{Result, Root, Sidecar, StoreError, own, sidecar};
use crate::catalogue::DatasetRow;
use crate::name::{DatasetId, folder_name};

/// Where a dataset lies, below the root.
pub(super) fn path_of(inbox: &str, published: Timestamp, id: &DatasetId, name: &str) -> String {
    let month = published.to_zoned(TimeZone::UTC).strftime("%Y-%m");
    format!("store/{inbox}/{month}/{}", folder_name(id, name))
}

/// The path of a dataset as the catalogue has it: nothing else is opened for one.
pub(crate) fn at_path(path: &str) -> Result<RelPath> {
    let refuse = || StoreError::Path(path.to_owned());
    let parsed = RelPath::parse(path.as_bytes()).map_err(|_| refuse())?;
    let is_in_store = parsed.depth() == 4 && parsed.begins_with(&own("store"));
    if is_in_store { Ok(parsed) } else { Err(refuse()) }
}

/// The folder of a dataset.
pub(crate) fn dataset_dir(root: &Dir, path: &str) -> Result<Dir> {
    Ok(root.open_dir(&at_path(path)?, Follow::Never)?)
}

/// The folder that holds a dataset, the folder above it, and the dataset's name in the first.
fn split(path: &str) -> Result<(RelPath, RelPath, Name)> {
    let path = at_path(path)?;
    let month = path.parent().unwrap_or_default();
    let shelf = month.parent().unwrap_or_default();
    let name = path.file_name().ok_or_else(|| StoreError::Path(path.to_string()))?;
    Ok((month, shelf, name))
}

/// Renames the dataset of an upload to its place, durably. If that cannot be made durable it is no longer there, as
/// far as the disk still obeys.
pub(super) fn place(root: &Root, upload: &Dir, row: &DatasetRow) -> Result<()> {
    let steps = root.steps();
    let (month, shelf, name) = split(&row.path)?;
    steps.at("make month")?;
    let month = root.dir().make_dir_all(&month, 0o755)?;
    // Both may just have been made.
    steps.at("sync shelf")?;
    root.dir().open_dir(&shelf, Follow::Never)?.sync()?;
    steps.at("sync store")?;
    root.store_dir().sync()?;
    steps.at("rename")?;
    upload.rename(&own(DATASET), (&month, &name), Replace::No)?;
    let made_durable = || -> Result<()> {
        steps.at("sync month")?;
        month.sync()?;
        steps.at("sync upload")?;
        Ok(upload.sync()?)
    };
    made_durable().inspect_err(|_| {
        // A sync that failed is not asked again: the dataset goes back, and its upload begins anew.
        if steps.at("take back").is_ok() {
            let _ = month.rename(&name, (upload, &own(DATASET)), Replace::No);
            let _ = month.sync();
        }
    })
}

/// An upload whose dataset is in the store already: whatever is lacking of the last steps is done.
pub(super) fn adopt(
    upload: &Inner,
    also: impl FnOnce(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
) -> Result<PublishedDataset> {
    let (root, offer) = (&upload.root, &upload.offer);
    let Some(path) = root.find_published(&offer.inbox, offer.id)? else {
        return Err(StoreError::Broken(offer.id));
    };
    let row = register(root, &path, also)?;
    let receipt = sidecar::read_receipt(&dataset_dir(root.dir(), &path)?)?;
    Ok(PublishedDataset { row, receipt, linked: 0 })
}

/// Enters a dataset that stands in the store, once its place is durable. One whose row is there is left alone.
pub(crate) fn register(
    root: &Root,
    path: &str,
    also: impl FnOnce(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
) -> Result<DatasetRow> {
    let (month, shelf, name) = split(path)?;
    let dataset = dataset_dir(root.dir(), path)?;
    let row = read_row(&dataset, path, &name)?;
    if root.catalogue().dataset(row.id)?.as_ref() == Some(&row) {
        return Ok(row);
    }
    root.steps().at("sync month")?;
    root.dir().open_dir(&month, Follow::Never)?.sync()?;
    root.dir().open_dir(&shelf, Follow::Never)?.sync()?;
    root.store_dir().sync()?;
    root.steps().at("catalogue")?;
    root.catalogue().insert(&row, |transaction| also(transaction, &row))?;
    Ok(row)
}

/// What the sidecar of a dataset says, if it is that of the folder in which it lies.
pub(crate) fn read_row(dataset: &Dir, path: &str, name: &Name) -> Result<DatasetRow> {
    let row = Sidecar::read(dataset, path)?.row;
    let inbox = path.split('/').nth(1);
    match crate::name::id_of_folder(name.as_bytes()) == Some(row.id) && inbox == Some(&row.inbox) {
        true => Ok(row),
        false => {
            let source = super::SidecarError::OtherId(row.id);
            Err(StoreError::Sidecar { path: path.to_owned(), source })
        }
    }
}

/// Whether a folder is there.
pub(crate) fn is_there(root: &Root, path: &str) -> Result<bool> {
    match dataset_dir(root.dir(), path) {
        Ok(_) => Ok(true),
        Err(StoreError::Path(_)) => Ok(false),
        Err(StoreError::Files(error)) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn is_absent(error: &FilesError) -> bool {
    error.is_not_found() || error.is_not_a_directory() || error.is_symlink_refused()
}
