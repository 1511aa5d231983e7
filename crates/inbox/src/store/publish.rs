//! Publishing an upload: what is on disk is held against what stands, put on record, and renamed into the store. Every
//! step is durable before the next begins; nothing is removed before the whole is known to be what was offered.

use std::sync::atomic::Ordering;

use files::{Digest, Dir, DirCache, Follow, Kind, RelPath};
use jiff::Timestamp;
use rusqlite::Transaction;
use transfer::host::Standing;
use tree::sort::{Merge, Sorted, Sorter};
use tree::{Body, Record, TreeDigest};

use super::incoming::{DATASET, Incoming, Inner, Opened, ignore_missing};
use super::manifest::{Line, Lines, ManifestWriter, Method};
use super::survey::{Survey, digests, open, survey};
use super::{
    FILES, METADATA, RECEIPT, Result, SORT_MEMORY, StoreError, is_failed_sync, links, own, place,
    records, sidecar,
};
use crate::catalogue::{DatasetRow, DatasetState};
use crate::name::DatasetId;

/// The longest record: two digests, a size, a path of which each byte is escaped.
const MOST_RECORD_LINE: usize = 2 * files::MAX_PATH + 256;
/// Handles of folders that are kept open.
const HANDLES: usize = 64;

/// What the publisher says of a dataset beside what is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// When the transfer began.
    pub began: Timestamp,
    /// When it ended: now. It decides about the month under which the dataset lies.
    pub published: Timestamp,
    /// This server's key line.
    pub by: String,
    /// This program and its version.
    pub program: String,
    /// The content digest that the files must have, where it is known. Without one, what was noted is believed.
    pub content: Option<Digest>,
    /// A dataset whose files take the place of those that have the same content, as hard links.
    pub link_to: Option<DatasetId>,
}

/// What is true of a dataset when its receipt is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub id: DatasetId,
    /// Where its folder will be, below the root.
    pub path: String,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// The content half of their tree digest.
    pub content: Digest,
    /// BLAKE3 of the metadata as they were sent.
    pub metadata: Digest,
    /// BLAKE3 of `manifest.sha256`.
    pub manifest_sha256: Digest,
    /// BLAKE3 of `manifest.blake3`.
    pub manifest_blake3: Digest,
}

/// A dataset that stands in the store, durable, with its row in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedDataset {
    /// Its row.
    pub row: DatasetRow,
    /// Its signed receipt.
    pub receipt: Vec<u8>,
    /// How many of its files are links to those of another dataset.
    pub linked: u64,
}

impl Incoming {
    /// Publishes the upload. `receipt` is given the final facts and makes the signed receipt; `also` adds rows to the
    /// catalogue in the transaction that enters the dataset. An upload that was published before, of which only the row
    /// is lacking, gets its row, and keeps the receipt that it has.
    ///
    /// What lies among the files without having been noted, as an earlier attempt leaves it, is removed once the digest
    /// of all is known to be the one that is wanted. Memory is bounded, whatever the number of files: what is to be put
    /// into order goes through scratch files without names in the upload's folder beyond some tens of megabytes.
    ///
    /// # Errors
    /// When a file is missing or is not as it was noted, when there is something that no dataset has, when the caller
    /// gives no receipt, or when the disk or the catalogue fails. Nothing is published then, unless the catalogue alone
    /// failed: calling again enters the row. A failed sync is final: the upload is [`StoreError::Broken`], its files
    /// are removed, and [`Incoming::restart_records`] begins it anew. After [`StoreError::Tree`] and
    /// [`StoreError::Content`] it must begin with [`Incoming::begin_anew`].
    pub fn publish(
        &self,
        publication: &Publication,
        receipt: impl FnOnce(&Facts) -> Result<Vec<u8>, String>,
        also: impl FnOnce(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
    ) -> Result<PublishedDataset> {
        let inner = &*self.0;
        if inner.is_broken.load(Ordering::Acquire) {
            return Err(StoreError::Broken(self.id()));
        }
        let result = inner.publish(publication, receipt, also);
        if result.as_ref().is_err_and(|error| is_failed_sync(error) || is_lost(error)) {
            inner.is_broken.store(true, Ordering::Release);
            // If this fails too, the next attempt does it.
            let _ = inner.opened().and_then(|opened| inner.empty(&opened.dir));
        }
        result
    }
}

/// Whether notes were lost: what is not noted would be taken for a leftover.
fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::Records(_))
}

/// What going through all files came to.
struct Checked {
    files: u64,
    bytes: u64,
    content: Digest,
    manifest_sha256: Digest,
    manifest_blake3: Digest,
    /// The files by digest, if links are wanted.
    by_digest: Option<Sorted>,
}

impl Inner {
    fn publish(
        &self,
        publication: &Publication,
        receipt: impl FnOnce(&Facts) -> Result<Vec<u8>, String>,
        also: impl FnOnce(&Transaction<'_>, &DatasetRow) -> rusqlite::Result<()>,
    ) -> Result<PublishedDataset> {
        let (steps, opened) = (self.root.steps(), self.opened()?);
        let dir = &opened.dir;
        let dataset = match dir.open_dir(&RelPath::from(own(DATASET)), Follow::Never) {
            Err(error) if error.is_not_found() => return place::adopt(self, also),
            result => result?,
        };
        let files = dataset.open_dir(&RelPath::from(own(FILES)), Follow::Never)?;
        steps.at("clear sidecars")?;
        // Those of an attempt that did not get to its end, and what a crash has left of one that was being written.
        for entry in dataset.entries()? {
            let name = entry?.name()?;
            if name != own(FILES) {
                ignore_missing(dataset.remove_tree(&name))?;
            }
        }
        let (noted, found) = (self.noted(&opened)?, survey(&files, dir)?);
        let by_digest = publication.link_to.map(|_| Sorter::new(dir, SORT_MEMORY));
        let checked = self.check(&dataset, &files, (&noted, &found), by_digest)?;
        if publication.content.is_some_and(|wanted| wanted != checked.content) {
            return Err(StoreError::Tree);
        }
        self.remove_extras(&files, (&noted, &found))?;
        let linked = match (publication.link_to, &checked.by_digest) {
            (Some(other), Some(own)) => links::link(&self.root, dir, &files, own, other)?,
            _ => 0,
        };
        self.sync_folders(&files, &found)?;
        let row = self.row(publication, &checked, self.metadata()?);
        steps.at("write metadata.json")?;
        dataset.write_whole(
            &own(METADATA),
            &sidecar::to_bytes(&self.offer, publication, &row),
            0o644,
        )?;
        let facts = Facts {
            id: row.id,
            path: row.path.clone(),
            files: row.files,
            bytes: row.bytes,
            content: row.content,
            metadata: row.metadata_digest,
            manifest_sha256: checked.manifest_sha256,
            manifest_blake3: checked.manifest_blake3,
        };
        let receipt = receipt(&facts).map_err(StoreError::Receipt)?;
        steps.at("write receipt.json")?;
        dataset.write_whole(&own(RECEIPT), &receipt, 0o644)?;
        steps.at("sync dataset")?;
        dataset.sync()?;
        place::place(&self.root, dir, &row)?;
        steps.at("catalogue")?;
        self.root.catalogue().insert(&row, |transaction| also(transaction, &row))?;
        steps.at("answer")?;
        Ok(PublishedDataset { row, receipt, linked })
    }

    /// What was noted, by path.
    fn noted(&self, opened: &Opened) -> Result<Sorted> {
        let lost = || StoreError::Records(self.offer.id);
        let (file, end) = opened.records.settle().inspect_err(|_| {
            // Notes are lost, and a file without one would be taken for a leftover.
            self.is_broken.store(true, Ordering::Release);
        })?;
        let mut sorter = Sorter::new(&opened.dir, SORT_MEMORY);
        let mut lines = Lines::new(file, end, MOST_RECORD_LINE);
        let mut number: u64 = 0;
        while let Some(line) = lines.next()? {
            let line = line.ok_or_else(lost)?;
            let standing = records::parse(line).ok_or_else(lost)?;
            let value = [&number.to_be_bytes(), line].concat();
            sorter.push(standing.path.as_bytes(), &value)?;
            number += 1;
        }
        Ok(sorter.finish()?)
    }

    /// Holds what is there against what was noted, brings each file to disk, and writes the manifests.
    fn check(
        &self,
        dataset: &Dir,
        files: &Dir,
        (noted, found): (&Sorted, &Sorted),
        mut by_digest: Option<Sorter>,
    ) -> Result<Checked> {
        let steps = self.root.steps();
        steps.at("make manifests")?;
        let make = |name: &str| dataset.make_file(&own(name), 0o644).map(ManifestWriter::new);
        let (mut sha256, mut blake3) = (make(Method::Sha256.file())?, make(Method::Blake3.file())?);
        let mut folders = DirCache::new(files.clone(), Follow::Never, HANDLES);
        let (mut tree, mut count, mut bytes) = (TreeDigest::new(), 0, 0_u64);
        for pair in Joined::new(noted, found)? {
            let (path, standing) = match pair? {
                Pair::Folder(path) => {
                    tree.add(&Record {
                        path: &path,
                        body: Body::Directory,
                        mode: None,
                        mtime: None,
                    });
                    continue;
                }
                Pair::Extra(_) => continue,
                Pair::File(standing) => (standing.path.clone(), standing),
            };
            let second = self.check_file(&mut folders, &standing)?;
            let body = Body::File { size: standing.size, content: standing.digest };
            tree.add(&Record { path: &path, body, mode: None, mtime: None });
            count += 1;
            bytes = bytes.saturating_add(standing.size);
            if let Some(sorter) = &mut by_digest {
                sorter.push(standing.digest.as_bytes(), path.as_bytes())?;
            }
            blake3.push(&Line { path: path.clone(), digest: *standing.digest.as_bytes() })?;
            sha256.push(&Line { path, digest: second })?;
        }
        let finish = |writer: ManifestWriter| -> Result<Digest> {
            steps.at("write manifest")?;
            let (file, digest) = writer.finish()?;
            steps.at("sync manifest")?;
            file.sync()?;
            Ok(digest)
        };
        Ok(Checked {
            files: count,
            bytes,
            content: tree.finish().content,
            manifest_sha256: finish(sha256)?,
            manifest_blake3: finish(blake3)?,
            by_digest: by_digest.map(Sorter::finish).transpose()?,
        })
    }

    /// One file: its size, and where its SHA-256 is not known yet its content and its way to the disk. Gives its SHA-256.
    fn check_file(&self, folders: &mut DirCache, standing: &Standing) -> Result<[u8; 32]> {
        let path = &standing.path;
        let file = open(folders, path)?;
        let found = file.attributes()?.size;
        let expected = standing.size;
        if found != expected {
            return Err(StoreError::Size { path: path.clone(), expected, found });
        }
        match standing.sha256 {
            // This attempt has written it, and has brought it to the disk before it said that it stands.
            Some(sha256) => Ok(*sha256.as_bytes()),
            // An attempt before a crash may have left it, and not have brought it to the disk.
            None => {
                self.root.steps().at("read file")?;
                let (size, blake3, sha256) = digests(&file)?;
                if (size, blake3) != (expected, standing.digest) {
                    return Err(StoreError::Content(path.clone()));
                }
                self.root.steps().at("sync file")?;
                file.sync()?;
                Ok(sha256)
            }
        }
    }

    /// Removes regular files that were not noted.
    fn remove_extras(&self, files: &Dir, (noted, found): (&Sorted, &Sorted)) -> Result<()> {
        for pair in Joined::new(noted, found)? {
            if let Pair::Extra(path) = pair?
                && let Some((parent, name)) = path.parent().zip(path.file_name())
            {
                self.root.steps().at("remove extra")?;
                files.open_dir(&parent, Follow::Never)?.unlink(&name)?;
            }
        }
        Ok(())
    }

    /// Brings every folder to disk.
    fn sync_folders(&self, files: &Dir, found: &Sorted) -> Result<()> {
        let mut found = Survey::new(found)?;
        while let Some(entry) = found.take()? {
            if entry.kind == Kind::Directory {
                self.root.steps().at("sync folder")?;
                files.open_dir(&entry.path, Follow::Never)?.sync()?;
            }
        }
        self.root.steps().at("sync files")?;
        Ok(files.sync()?)
    }

    fn row(&self, publication: &Publication, checked: &Checked, metadata: String) -> DatasetRow {
        let offer = &self.offer;
        let published = in_millis(publication.published);
        DatasetRow {
            id: offer.id,
            inbox: offer.inbox.clone(),
            name: offer.name.clone(),
            client: offer.client.clone(),
            label: offer.label.clone(),
            upload: offer.upload,
            offered: in_millis(offer.offered),
            published,
            files: checked.files,
            bytes: checked.bytes,
            content: checked.content,
            metadata,
            metadata_digest: offer.metadata_digest,
            path: place::path_of(&offer.inbox, published, &offer.id, &offer.name),
            state: DatasetState::Ok,
        }
    }
}

/// The catalogue keeps times as milliseconds, and the sidecars say the same.
fn in_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// One path of an upload.
enum Pair {
    Folder(RelPath),
    /// A file that is there and was noted.
    File(Standing),
    /// A file that was not noted.
    Extra(RelPath),
}

/// What was noted and what is there, side by side, in the order of the paths.
struct Joined {
    noted: Noted,
    found: Survey,
}

impl Joined {
    fn new(noted: &Sorted, found: &Sorted) -> Result<Self> {
        Ok(Self { noted: Noted::new(noted)?, found: Survey::new(found)? })
    }

    fn step(&mut self) -> Result<Option<Pair>> {
        let Some(found) = self.found.peek() else {
            return match self.noted.take()? {
                Some(standing) => Err(StoreError::Missing(standing.path)),
                None => Ok(None),
            };
        };
        let noted = self.noted.next.as_ref().map(|standing| standing.path.as_bytes());
        if noted.is_some_and(|noted| noted < found.path.as_bytes()) {
            let standing = self.noted.take()?;
            return Err(StoreError::Missing(
                standing.map(|standing| standing.path).unwrap_or_default(),
            ));
        }
        let is_noted = noted == Some(found.path.as_bytes());
        let Some(found) = self.found.take()? else { return Ok(None) };
        match found.kind {
            Kind::Directory if !is_noted => Ok(Some(Pair::Folder(found.path))),
            Kind::File if is_noted => Ok(self.noted.take()?.map(Pair::File)),
            Kind::File => Ok(Some(Pair::Extra(found.path))),
            kind => Err(StoreError::Kind { path: found.path, kind }),
        }
    }
}

impl Iterator for Joined {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The last note of each path.
struct Noted {
    merge: Merge,
    /// Whether the merge is at a record.
    is_at: bool,
    next: Option<Standing>,
}

impl Noted {
    fn new(sorted: &Sorted) -> Result<Self> {
        let mut merge = sorted.pass()?;
        let is_at = merge.advance()?;
        let mut noted = Self { merge, is_at, next: None };
        noted.take()?;
        Ok(noted)
    }

    fn take(&mut self) -> Result<Option<Standing>> {
        let taken = self.next.take();
        if self.is_at {
            let path = self.merge.key().to_vec();
            let mut last = self.merge.value().to_vec();
            loop {
                self.is_at = self.merge.advance()?;
                if !self.is_at || self.merge.key() != path {
                    break;
                }
                // They begin with their number.
                if self.merge.value() > last.as_slice() {
                    last = self.merge.value().to_vec();
                }
            }
            self.next = last.get(8..).and_then(records::parse);
        }
        Ok(taken)
    }
}
