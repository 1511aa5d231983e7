//! What a dataset would consist of: looked through before it is offered, so that sizes are known, what no inbox takes is
//! found, and the same files have the same upload id.

use files::{Digest, FilesError, Follow, Kind, RelPath};
use tree::{Body, Record, TreeDigest};

use crate::TransferError;
use crate::host::SourceRoot;
use crate::message::Order;
use crate::send::{Top, weigh};
use crate::source::Walked;

/// The most entries that are named which no inbox takes.
const MAX_UNFIT: usize = 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Over paths, kinds, sizes, modes and times: the same as long as nothing is changed.
    pub stamp: Digest,
    /// The content half of the tree digest, where it was asked for.
    pub content: Option<Digest>,
    /// What cannot be in a dataset, the first of it.
    pub unfit: Vec<Unfit>,
}

/// An entry that cannot be in a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Which, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Looks through the sources, and reads all of them if the content is to be known. It blocks on the disk.
pub fn inventory(
    sources: &[SourceRoot],
    order: &Order,
    read: bool,
) -> Result<Inventory, TransferError> {
    let tops: Vec<Top> = sources.iter().map(Top::of).collect();
    let mut steps = weigh(sources.to_vec(), order.clone());
    let mut found = Inventory {
        files: 0,
        bytes: 0,
        stamp: Digest::of(b""),
        content: read.then(|| Digest::of(b"")),
        unfit: Vec::new(),
    };
    let (mut stamps, mut contents) = (TreeDigest::new(), TreeDigest::new());
    let mut unfit = |path: String, reason: String| {
        if found.unfit.len() < MAX_UNFIT {
            found.unfit.push(Unfit { path, reason });
        }
    };
    let mut finished = false;
    while let Some(step) = steps.blocking_recv() {
        let entry = match step {
            Walked::Enter(entry) | Walked::Leaf(entry) => entry,
            Walked::Problem { path, reason } => {
                unfit(path, reason);
                continue;
            }
            Walked::Finished => {
                finished = true;
                break;
            }
            Walked::EnterContents | Walked::Leave { .. } => continue,
        };
        let source = &sources[entry.place.source];
        let path = tops[entry.place.source].offered(&entry.place.path);
        let attributes = &entry.attributes;
        let content = match attributes.kind {
            Kind::Symlink => {
                let reason = "it is a symbolic link; datasets hold files and folders";
                unfit(path.to_string(), reason.to_owned());
                continue;
            }
            Kind::File => {
                found.files += 1;
                found.bytes = found.bytes.saturating_add(attributes.size);
                match read {
                    true => content_of(source, &entry.place.path)?,
                    false => Digest::of(b""),
                }
            }
            _ => Digest::of(b""),
        };
        let record = |content| Record {
            path: &path,
            body: match attributes.kind {
                Kind::File => Body::File { size: attributes.size, content },
                _ => Body::Directory,
            },
            mode: Some(attributes.mode & 0o777),
            mtime: Some(attributes.mtime),
        };
        stamps.add(&record(Digest::of(b"")));
        contents.add(&record(content));
    }
    if !finished {
        return Err(TransferError::Cancelled);
    }
    let stamps = stamps.finish();
    let both = [stamps.content.as_bytes().as_slice(), stamps.attributes.as_bytes()].concat();
    found.stamp = Digest::of(&both);
    found.content = found.content.map(|_| contents.finish().content);
    Ok(found)
}

fn content_of(source: &SourceRoot, path: &RelPath) -> Result<Digest, FilesError> {
    // Where a walk begins at an entry, its paths begin with that entry's name.
    let base = match (&source.name, source.path.parent()) {
        (Some(_), Some(parent)) => parent,
        _ => source.path.clone(),
    };
    let folder = source.root.open_dir(&base, Follow::Never)?;
    folder.open_file(path, Follow::Never)?.digest()
}
