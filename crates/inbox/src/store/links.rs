//! Files of an upload that another dataset has too: hard links to that dataset's take their place, so that the content
//! lies on the disk once. What is linked to is read first, for it becomes part of what this upload's receipt is about.

use files::{Dir, DirCache, Follow, RelPath, Replace};
use tree::sort::{Sorted, Sorter};

use super::incoming::ignore_missing;
use super::manifest::{ManifestReader, Method};
use super::place::dataset_dir;
use super::survey::{digests, open};
use super::{FILES, Result, Root, SORT_MEMORY, own};
use crate::name::DatasetId;

/// The name of a link in the upload's folder before it takes its file's place.
const LINK: &str = "link";
const HANDLES: usize = 64;

/// Links files of `files`, given by digest, to those of a dataset; says how many. Where there is no such dataset, or its
/// files are not what they should be, or the filesystem makes no link, files stay as they are.
pub(super) fn link(
    root: &Root,
    upload: &Dir,
    files: &Dir,
    by_digest: &Sorted,
    other: DatasetId,
) -> Result<u64> {
    let Some(row) = root.catalogue().dataset(other)? else { return Ok(0) };
    let Ok(dataset) = dataset_dir(root.dir(), &row.path) else { return Ok(0) };
    let manifest = dataset.open_file(&RelPath::from(own(Method::Blake3.file())), Follow::Never);
    let theirs = dataset.open_dir(&RelPath::from(own(FILES)), Follow::Never);
    let (Ok(manifest), Ok(theirs)) = (manifest, theirs) else { return Ok(0) };
    let mut sorter = Sorter::new(upload, SORT_MEMORY);
    let mut lines = ManifestReader::new(&manifest)?;
    while let Some(line) = lines.next()? {
        let Some(line) = line else { return Ok(0) };
        sorter.push(&line.digest, line.path.as_bytes())?;
    }
    let (mut own_files, sorted) = (by_digest.pass()?, sorter.finish()?);
    let mut others = sorted.pass()?;
    let mut theirs = DirCache::new(theirs, Follow::Never, HANDLES);
    let mut ours = DirCache::new(files.clone(), Follow::Never, HANDLES);
    let (mut has_own, mut has_other) = (own_files.advance()?, others.advance()?);
    // Of the file that was read last: its digest, and whether it has it.
    let mut known: Option<(Vec<u8>, bool)> = None;
    let mut linked = 0;
    while has_own && has_other {
        if others.key() < own_files.key() {
            has_other = others.advance()?;
            continue;
        }
        if others.key() == own_files.key() {
            let parse = |path: &[u8]| RelPath::parse(path).unwrap_or_default();
            let (to, from) = (parse(own_files.value()), parse(others.value()));
            if known.as_ref().is_none_or(|(digest, _)| digest != others.key()) {
                let digest = others.key().to_vec();
                let is_sound = open(&mut theirs, &from)
                    .and_then(|file| digests(&file))
                    .is_ok_and(|(_, found, _)| found.as_bytes()[..] == digest[..]);
                known = Some((digest, is_sound));
            }
            let is_sound = known.as_ref().is_some_and(|(_, is_sound)| *is_sound);
            if is_sound && link_one(root, upload, (&mut ours, &to), (&mut theirs, &from))? {
                linked += 1;
            }
        }
        has_own = own_files.advance()?;
    }
    Ok(linked)
}

fn link_one(
    root: &Root,
    upload: &Dir,
    (ours, to): (&mut DirCache, &RelPath),
    (theirs, from): (&mut DirCache, &RelPath),
) -> Result<bool> {
    let (parent, name) = (to.parent().unwrap_or_default(), to.file_name());
    let source = theirs.get(&from.parent().unwrap_or_default())?;
    let (Some(name), Some(existing)) = (name, from.file_name()) else { return Ok(false) };
    let passing = own(LINK);
    ignore_missing(upload.unlink(&passing))?;
    root.steps().at("link")?;
    if upload.hard_link(&passing, (&source, &existing)).is_err() {
        return Ok(false);
    }
    root.steps().at("place link")?;
    upload.rename(&passing, (&ours.get(&parent)?, &name), Replace::Yes)?;
    // Two names of one inode are left by a rename between them.
    ignore_missing(upload.unlink(&passing))?;
    Ok(true)
}
