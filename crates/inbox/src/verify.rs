//! Reading datasets again: whether what is on the disk is what was published, and what the catalogue says. Nothing is
//! changed. Faults of a dataset are findings; an error is what kept it from being looked at.

use std::fmt;

use files::{Digest, Dir, DirCache, FilesError, Follow, Kind, Name, RelPath};
use link::PublicKey;
use transfer::receipt::{Receipt, ReceiptError};
use tree::{Body, Record, TreeDigest};

use crate::catalogue::{Catalogue, DatasetRow};
use crate::store::{
    FILES, Line, ManifestReader, Method, Sidecar, SidecarError, StoreError, Survey, dataset_dir,
    digests, is_absent, open, read_receipt, survey,
};

/// The most findings that are listed of one dataset.
pub const MOST_FINDINGS: usize = 1_000;
const HANDLES: usize = 64;
/// Rows that are read from the catalogue at a time.
const PAGE: usize = 256;

/// How thoroughly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Takes the content of files as the manifests have it, and reads none: sizes, names, sidecars and the
    /// signature are looked at.
    pub skip_contents: bool,
    /// Who must have signed the receipts; anybody, if nobody is named.
    pub signer: Option<PublicKey>,
}

/// What was found of a dataset.
#[derive(Debug, Default)]
pub struct Verified {
    /// The first [`MOST_FINDINGS`] faults; none if it is whole.
    pub findings: Vec<Finding>,
    /// How many there are beside these.
    pub more: u64,
    /// Files that are there.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
}

impl Verified {
    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn push(&mut self, finding: Finding) {
        match self.findings.len() < MOST_FINDINGS {
            true => self.findings.push(finding),
            false => self.more += 1,
        }
    }
}

/// One thing that is wrong with a dataset.
#[derive(Debug)]
pub enum Finding {
    /// Its folder is not there.
    Absent,
    /// A file that was published is not there.
    Missing(RelPath),
    /// A file is there that was not published.
    Extra(RelPath),
    /// Something else than a file or a folder is there.
    Kind(RelPath, Kind),
    /// A file cannot be read.
    Unreadable(RelPath, FilesError),
    /// The content of a file has another digest than a manifest says: `blake3` or `sha256`.
    Content(RelPath, &'static str),
    /// A manifest is missing, or holds a line that it cannot have had.
    Manifest(&'static str),
    /// A file is in one manifest alone: not in this one.
    NotInManifest(RelPath, &'static str),
    /// A sidecar or a manifest is not there or cannot be read.
    NoSidecar(FilesError),
    /// `metadata.json` is not as it was written.
    Sidecar(SidecarError),
    /// The receipt proves nothing.
    Receipt(ReceiptError),
    /// The receipt was signed by another server.
    Signer(Box<PublicKey>),
    /// The receipt says something else than `metadata.json` of this.
    ReceiptDiffers(&'static str),
    /// The files as a whole are not those of the receipt or of `metadata.json`: of which of them.
    Tree(&'static str),
    /// There are more or fewer files or bytes than `metadata.json` says.
    Total,
    /// The catalogue says something else of this.
    Row(&'static str),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "its folder is not there"),
            Self::Missing(path) => write!(f, "{path} is missing"),
            Self::Extra(path) => write!(f, "{path} was not published with it"),
            Self::Kind(path, kind) => write!(f, "{path} is {kind}"),
            Self::Unreadable(path, error) => write!(f, "{path} cannot be read: {error}"),
            Self::Content(path, method) => write!(f, "{path} has changed: its {method} differs"),
            Self::Manifest(name) => write!(f, "{name} is damaged"),
            Self::NotInManifest(path, name) => write!(f, "{path} is not in {name}"),
            Self::NoSidecar(error) => write!(f, "{error}"),
            Self::Sidecar(error) => write!(f, "{error}"),
            Self::Receipt(error) => write!(f, "receipt.json proves nothing: {error}"),
            Self::Signer(key) => {
                write!(f, "receipt.json was signed by another key: {}", key.to_line("").trim_end())
            }
            Self::ReceiptDiffers(what) => {
                write!(f, "receipt.json and metadata.json differ in {what}")
            }
            Self::Tree(what) => write!(f, "the files together are not those of {what}"),
            Self::Total => write!(f, "there are not as many files and bytes as metadata.json says"),
            Self::Row(what) => write!(f, "the catalogue has another {what} than metadata.json"),
        }
    }
}

/// Verifies one dataset of the catalogue of a root.
///
/// # Errors
/// When the disk keeps it from being looked at.
pub fn verify(
    root: &Dir,
    row: &DatasetRow,
    options: &VerifyOptions,
) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    if let Some(sidecar) = look_at(root, &row.path, options, &mut verified)? {
        compare_row(row, &sidecar, &mut verified);
    }
    Ok(verified)
}

/// Verifies every dataset of a catalogue, one after another in the order of their ids.
///
/// # Errors
/// When the disk keeps one from being looked at, or the catalogue cannot be read.
pub fn verify_all(
    root: &Dir,
    catalogue: &Catalogue,
    options: &VerifyOptions,
    mut each: impl FnMut(&DatasetRow, Verified),
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let rows = catalogue.after(after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.id);
        for row in &rows {
            each(row, verify(root, row, options)?);
        }
    }
}

/// Looks at the folder of a dataset, and gives what its sidecar says, if it says anything.
pub(crate) fn look_at(
    root: &Dir,
    path: &str,
    options: &VerifyOptions,
    verified: &mut Verified,
) -> Result<Option<DatasetRow>, StoreError> {
    let dataset = match dataset_dir(root, path) {
        Err(StoreError::Files(error)) if is_absent(&error) => {
            verified.push(Finding::Absent);
            return Ok(None);
        }
        result => result?,
    };
    let sidecar = match Sidecar::read(&dataset, path) {
        Ok(sidecar) => Some(sidecar.row),
        Err(StoreError::Sidecar { source, .. }) => {
            verified.push(Finding::Sidecar(source));
            None
        }
        Err(StoreError::Files(error)) => {
            verified.push(Finding::NoSidecar(error));
            None
        }
        Err(error) => return Err(error),
    };
    let receipt = read_own_receipt(&dataset, options, verified)?;
    if let (Some(row), Some(receipt)) = (&sidecar, &receipt) {
        compare_receipt(row, receipt, verified);
    }
    if let Some(seen) = check_files(root, &dataset, options, verified)? {
        let wants = [
            ("receipt.json", receipt.as_ref().map(|receipt| receipt.statement.tree.content)),
            ("metadata.json", sidecar.as_ref().map(|row| row.content)),
        ];
        for (what, wanted) in wants {
            if seen.content.zip(wanted).is_some_and(|(content, wanted)| wanted != content) {
                verified.push(Finding::Tree(what));
            }
        }
        if sidecar
            .as_ref()
            .is_some_and(|row| (row.files, row.bytes) != (verified.files, verified.bytes))
        {
            verified.push(Finding::Total);
        }
    }
    Ok(sidecar)
}

fn read_own_receipt(
    dataset: &Dir,
    options: &VerifyOptions,
    verified: &mut Verified,
) -> Result<Option<Receipt>, StoreError> {
    let bytes = match read_receipt(dataset) {
        Err(StoreError::Files(error)) => {
            verified.push(Finding::NoSidecar(error));
            return Ok(None);
        }
        result => result?,
    };
    let receipt = match Receipt::verify(&bytes) {
        Ok(receipt) => receipt,
        Err(error) => {
            verified.push(Finding::Receipt(error));
            return Ok(None);
        }
    };
    let by = &receipt.statement.target;
    if options.signer.as_ref().is_some_and(|signer| signer != by) {
        verified.push(Finding::Signer(Box::new(by.clone())));
    }
    Ok(Some(receipt))
}

fn compare_receipt(row: &DatasetRow, receipt: &Receipt, verified: &mut Verified) {
    let Some(dataset) = &receipt.statement.dataset else {
        return verified.push(Finding::ReceiptDiffers("what they are about"));
    };
    let is_equal = [
        ("the id", dataset.id == row.id.as_str()),
        ("the inbox", dataset.inbox == row.inbox),
        ("the name", dataset.name == row.name),
        ("the metadata", dataset.metadata == row.metadata_digest),
    ];
    for (what, is_equal) in is_equal {
        if !is_equal {
            verified.push(Finding::ReceiptDiffers(what));
        }
    }
}

fn compare_row(row: &DatasetRow, sidecar: &DatasetRow, verified: &mut Verified) {
    let is_equal = [
        ("id", row.id == sidecar.id),
        ("inbox", row.inbox == sidecar.inbox),
        ("name", row.name == sidecar.name),
        ("client", row.client == sidecar.client && row.label == sidecar.label),
        ("upload id", row.upload == sidecar.upload),
        ("time", (row.offered, row.published) == (sidecar.offered, sidecar.published)),
        ("number of files or bytes", (row.files, row.bytes) == (sidecar.files, sidecar.bytes)),
        ("content digest", row.content == sidecar.content),
        (
            "metadata",
            row.metadata == sidecar.metadata && row.metadata_digest == sidecar.metadata_digest,
        ),
    ];
    for (what, is_equal) in is_equal {
        if !is_equal {
            verified.push(Finding::Row(what));
        }
    }
}

/// A manifest that is gone through beside the files. One that is damaged ends, and is told once.
struct Manifest<'a> {
    reader: ManifestReader<'a>,
    method: Method,
    next: Option<Line>,
    has_ended: bool,
}

impl<'a> Manifest<'a> {
    fn new(file: &'a files::File, method: Method) -> Result<Self, FilesError> {
        Ok(Self { reader: ManifestReader::new(file)?, method, next: None, has_ended: false })
    }

    /// The digest of a path, where it is the next; what comes before it is missing on disk.
    fn fill(&mut self, verified: &mut Verified) -> Result<(), FilesError> {
        if self.next.is_none() && !self.has_ended {
            match self.reader.next()? {
                Some(Some(line)) => self.next = Some(line),
                other => {
                    self.has_ended = true;
                    if other.is_some() {
                        verified.push(Finding::Manifest(self.method.file()));
                    }
                }
            }
        }
        Ok(())
    }

    fn path(&self) -> Option<&RelPath> {
        self.next.as_ref().map(|line| &line.path)
    }

    fn take(&mut self, path: &RelPath) -> Option<[u8; 32]> {
        match self.path() == Some(path) {
            true => self.next.take().map(|line| line.digest),
            false => None,
        }
    }
}

/// Files that could be held against their manifests.
struct Seen {
    /// The content digest of all, if each has one.
    content: Option<Digest>,
}

/// Holds the files against the manifests, if these and the folder can be opened.
fn check_files(
    root: &Dir,
    dataset: &Dir,
    options: &VerifyOptions,
    verified: &mut Verified,
) -> Result<Option<Seen>, StoreError> {
    let own = |name: &str| RelPath::from(Name::new(name).expect("a plain name"));
    let opened = |method: Method| dataset.open_file(&own(method.file()), Follow::Never);
    let (sha256, blake3) = (opened(Method::Sha256), opened(Method::Blake3));
    let files = dataset.open_dir(&own(FILES), Follow::Never);
    let (sha256, blake3, files) = match (sha256, blake3, files) {
        (Ok(sha256), Ok(blake3), Ok(files)) => (sha256, blake3, files),
        (sha256, blake3, files) => {
            for error in [sha256.err(), blake3.err(), files.err()].into_iter().flatten() {
                verified.push(Finding::NoSidecar(error));
            }
            return Ok(None);
        }
    };
    let mut sha256 = Manifest::new(&sha256, Method::Sha256)?;
    let mut blake3 = Manifest::new(&blake3, Method::Blake3)?;
    let sorted = survey(&files, root)?;
    let mut found = Survey::new(&sorted)?;
    let mut folders = DirCache::new(files, Follow::Never, HANDLES);
    let (mut tree, mut is_whole) = (TreeDigest::new(), true);
    loop {
        sha256.fill(verified)?;
        blake3.fill(verified)?;
        let paths = [found.peek().map(|found| &found.path), sha256.path(), blake3.path()];
        let first = paths.into_iter().flatten().min_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let Some(path) = first.cloned() else { break };
        let entry = match found.peek() {
            Some(entry) if entry.path == path => found.take()?,
            _ => None,
        };
        let digests = (blake3.take(&path), sha256.take(&path));
        let body =
            match (entry, digests) {
                (Some(entry), (None, None)) if entry.kind == Kind::Directory => Body::Directory,
                (Some(entry), _) if entry.kind != Kind::File => {
                    verified.push(Finding::Kind(path, entry.kind));
                    is_whole = false;
                    continue;
                }
                (Some(entry), (first, second)) => {
                    verified.files += 1;
                    verified.bytes = verified.bytes.saturating_add(entry.size);
                    match (first, second) {
                        (None, None) => verified.push(Finding::Extra(path.clone())),
                        (None, _) => verified
                            .push(Finding::NotInManifest(path.clone(), Method::Blake3.file())),
                        (_, None) => verified
                            .push(Finding::NotInManifest(path.clone(), Method::Sha256.file())),
                        (Some(first), Some(second)) if !options.skip_contents => {
                            check_content(&mut folders, &path, (first, second), verified);
                        }
                        _ => {}
                    }
                    let Some(first) = first else {
                        is_whole = false;
                        continue;
                    };
                    Body::File { size: entry.size, content: Digest::from_bytes(first) }
                }
                (None, _) => {
                    verified.push(Finding::Missing(path));
                    is_whole = false;
                    continue;
                }
            };
        tree.add(&Record { path: &path, body, mode: None, mtime: None });
    }
    Ok(Some(Seen { content: is_whole.then(|| tree.finish().content) }))
}

fn check_content(
    folders: &mut DirCache,
    path: &RelPath,
    (blake3, sha256): ([u8; 32], [u8; 32]),
    verified: &mut Verified,
) {
    // What the page cache has says nothing of the disk.
    let read = open(folders, path).and_then(|file| {
        file.forget_cached()?;
        digests(&file)
    });
    match read {
        Err(error) => verified.push(Finding::Unreadable(path.clone(), error)),
        Ok((_, first, second)) => {
            if *first.as_bytes() != blake3 {
                verified.push(Finding::Content(path.clone(), "blake3"));
            }
            if second != sha256 {
                verified.push(Finding::Content(path.clone(), "sha256"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
