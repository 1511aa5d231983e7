//! What is in a folder of files, in the order of its paths' bytes, in memory that does not grow with it.

use files::{Attributes, Digest, Dir, DirCache, File, FilesError, Follow, Kind, RelPath};
use tree::sort::{Merge, Sorted, Sorter};
use tree::{Step, Walk, WalkOptions, WalkRoot};

use super::{Result, SORT_MEMORY, StoreError};

/// One entry of a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: RelPath,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
}

/// Lists a folder. Names that haul keeps for itself are none of a dataset, and are left out.
pub(crate) fn survey(folder: &Dir, scratch: &Dir) -> Result<Sorted> {
    let mut sorter = Sorter::new(scratch, SORT_MEMORY);
    let mut note = |path: &RelPath, attributes: &Attributes| -> Result<()> {
        let kind = match attributes.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Symlink => 2,
            Kind::Other => 3,
        };
        let mut value = vec![kind];
        value.extend_from_slice(&attributes.size.to_le_bytes());
        Ok(sorter.push(path.as_bytes(), &value)?)
    };
    let walk =
        Walk::new(folder.clone(), WalkRoot::Inside(RelPath::root()), WalkOptions::default())?;
    for step in walk {
        match step {
            Step::Enter(entry) if entry.path.is_root() => {}
            Step::Enter(entry) | Step::Leaf(entry) => note(&entry.path, &entry.attributes)?,
            Step::Leave { complete: true, .. } => {}
            Step::Leave { path, complete: false } => return Err(StoreError::Changed(path)),
            Step::Problem { error, .. } => return Err(error.into()),
        }
    }
    Ok(sorter.finish()?)
}

/// Goes through a survey.
pub(crate) struct Survey {
    merge: Merge,
    next: Option<Found>,
}

impl Survey {
    pub(crate) fn new(sorted: &Sorted) -> Result<Self, FilesError> {
        let mut survey = Self { merge: sorted.pass()?, next: None };
        survey.advance()?;
        Ok(survey)
    }

    /// The entry that is next.
    pub(crate) fn peek(&self) -> Option<&Found> {
        self.next.as_ref()
    }

    /// Takes the next entry.
    pub(crate) fn take(&mut self) -> Result<Option<Found>, FilesError> {
        let found = self.next.take();
        self.advance()?;
        Ok(found)
    }

    fn advance(&mut self) -> Result<(), FilesError> {
        self.next = match self.merge.advance()? {
            true => decode(self.merge.key(), self.merge.value()),
            false => None,
        };
        Ok(())
    }
}

/// What the survey itself has put in.
fn decode(key: &[u8], value: &[u8]) -> Option<Found> {
    let (kind, size) = value.split_first()?;
    let kind = match kind {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => Kind::Symlink,
        _ => Kind::Other,
    };
    let size = u64::from_le_bytes(size.try_into().ok()?);
    Some(Found { path: RelPath::parse(key).ok()?, kind, size })
}

/// Opens a file of a survey.
pub(crate) fn open(folders: &mut DirCache, path: &RelPath) -> Result<File, FilesError> {
    let parent = path.parent().unwrap_or_default();
    let name = path.file_name().map(RelPath::from).unwrap_or_default();
    folders.get(&parent)?.open_file(&name, Follow::Never)
}

/// Reads a file once, for its size, its BLAKE3 digest and its SHA-256 digest.
pub(crate) fn digests(file: &File) -> Result<(u64, Digest, [u8; 32]), FilesError> {
    let mut blake3 = blake3::Hasher::new();
    let mut sha256 = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut buffer, mut size) = (vec![0; 256 << 10], 0);
    loop {
        match file.read_at(&mut buffer, size)? {
            0 => break,
            len => {
                blake3.update(&buffer[..len]);
                sha256.update(&buffer[..len]);
                size += len as u64;
            }
        }
    }
    let mut second = [0; 32];
    second.copy_from_slice(sha256.finish().as_ref());
    Ok((size, Digest::from_bytes(*blake3.finalize().as_bytes()), second))
}
