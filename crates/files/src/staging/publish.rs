//! From staged to published: attributes first, by descriptor, then one rename. Readers of the final
//! name see the old file or the whole new one. Where a rename cannot reach, on another filesystem, a
//! copy under a passing name goes beside the target and is renamed there.

use rustix::io::Errno;

use crate::attributes::{Attributes, Kind, Timestamp};
use crate::dir::{Dir, Replace, TEMPORARY_PREFIX, Temporary};
use crate::error::{Action, FilesError, Result};
use crate::file::File;
use crate::path::{Name, RelPath};

/// What a file gets on its way to its final name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// The permission bits; `None` leaves what the umask gives a new file.
    pub mode: Option<u32>,
    /// Whether setuid, setgid and sticky bits in `mode` are kept rather than stripped.
    pub keep_setid: bool,
    /// The modification time; `None` leaves the time of arrival.
    pub mtime: Option<Timestamp>,
    /// Owner and group, which takes privileges.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes; only names in `user.` are accepted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether content and attributes are on stable storage before the final name appears. The name
    /// itself is durable after [`Dir::sync`] on the directory, once for all files published in it.
    pub durable: bool,
    /// Whether an existing file or link of that name is replaced. A directory never is.
    pub replace: Replace,
}

impl PublishOptions {
    /// The permission bits that the file gets, if any are named.
    fn final_mode(&self) -> Option<u32> {
        self.mode.map(|mode| mode & if self.keep_setid { 0o7777 } else { 0o777 })
    }

    /// The permission bits that a file may be made with at once: no bits that writing or a change of
    /// owner would clear, and none that extended attributes would meet before their time.
    pub(super) fn mode_at_creation(&self) -> Option<u32> {
        let is_plain = self.owner.is_none() && self.xattrs.is_empty();
        self.final_mode().filter(|mode| is_plain && mode & !0o777 == 0)
    }
}

impl Default for PublishOptions {
    /// Nothing kept, not durable, replacing.
    fn default() -> PublishOptions {
        PublishOptions {
            mode: None,
            keep_setid: false,
            mtime: None,
            owner: None,
            xattrs: Vec::new(),
            durable: false,
            replace: Replace::Yes,
        }
    }
}

/// How a publication went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether the file was copied, because the target is on another filesystem.
    pub was_copied: bool,
    /// How many extended attributes the target's filesystem cannot hold.
    pub xattrs_left_out: usize,
}

/// Publishes a staged file that is named in the staging directory. If it `was_copied`, the staged one
/// is still there.
pub(super) fn publish(
    file: &File,
    staged: (&Dir, &Name),
    into: &Dir,
    name: &Name,
    options: &PublishOptions,
) -> Result<Published> {
    let xattrs_left_out = finish(file, false, options)?;
    let (area, staged_name) = staged;
    match area.rename(staged_name, (into, name), options.replace) {
        Err(error) if error.errno() == Some(Errno::XDEV) => copy(file, into, name, options),
        result => {
            result.map_err(in_the_way(into, name))?;
            Ok(Published { was_copied: false, xattrs_left_out })
        }
    }
}

/// As [`publish`], for a file that goes away by itself unless it gets its final name. It `has_mode` if
/// it was made with the mode that the options name.
pub(super) fn publish_temporary(
    temporary: &mut Temporary,
    has_mode: bool,
    (into, name): (&Dir, &Name),
    options: &PublishOptions,
) -> Result<Published> {
    let xattrs_left_out = finish(temporary.file(), has_mode, options)?;
    match temporary.place(into, name, options.replace) {
        Err(error) if error.errno() == Some(Errno::XDEV) => {
            copy(temporary.file(), into, name, options)
        }
        result => {
            result.map_err(in_the_way(into, name))?;
            Ok(Published { was_copied: false, xattrs_left_out })
        }
    }
}

/// Fails early if the name is a directory's, before anything is done to the staged file.
pub(super) fn refuse_directory(into: &Dir, name: &Name) -> Result<()> {
    let path = RelPath::from(name);
    match into.attributes_of(&path) {
        Ok(Attributes { kind: Kind::Directory, .. }) => {
            Err(FilesError::DirectoryInTheWay { path: into.join_for_message(&path) })
        }
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn in_the_way<'a>(into: &'a Dir, name: &'a Name) -> impl Fn(FilesError) -> FilesError + 'a {
    move |error| match error.errno() {
        Some(Errno::ISDIR) => {
            FilesError::DirectoryInTheWay { path: into.join_for_message(&RelPath::from(name)) }
        }
        _ => error,
    }
}

/// Sets the attributes, and syncs if wanted. Says how many extended attributes were left out.
///
/// The owner comes first, because changing it clears setuid bits; the mode after the extended
/// attributes, because a file without write permission takes none; the times last.
fn finish(file: &File, has_mode: bool, options: &PublishOptions) -> Result<usize> {
    if let Some((uid, gid)) = options.owner {
        file.set_owner(uid, gid)?;
    }
    let mut left_out = 0;
    for (name, value) in &options.xattrs {
        if !name.starts_with(b"user.") {
            let (name, path) = (name.clone(), file.path().to_owned());
            return Err(FilesError::XattrRefused { name, path });
        }
        match file.set_xattr(name, value) {
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => left_out += 1,
            result => result?,
        }
    }
    if let (Some(mode), false) = (options.final_mode(), has_mode) {
        file.set_mode(mode)?;
    }
    if let Some(mtime) = options.mtime {
        file.set_times(mtime)?;
    }
    if options.durable {
        file.sync()?;
    }
    Ok(left_out)
}

fn copy(from: &File, into: &Dir, name: &Name, options: &PublishOptions) -> Result<Published> {
    let shown = into.join_for_message(&RelPath::from(name));
    // Others can reach this directory, so the file is private until it has its attributes.
    let mode = if options.mode.is_some() { 0o600 } else { 0o666 };
    let mut temporary = Temporary::new(into, TEMPORARY_PREFIX, "", mode, shown)?;
    copy_content(from, temporary.file())?;
    let xattrs_left_out = finish(temporary.file(), false, options)?;
    temporary.place(into, name, options.replace).map_err(in_the_way(into, name))?;
    Ok(Published { was_copied: true, xattrs_left_out })
}

/// Copies the data and leaves the holes.
fn copy_content(from: &File, to: &File) -> Result<()> {
    let size = from.attributes()?.size;
    to.set_len(size)?;
    let mut offset = 0;
    while offset < size {
        let Some(start) = from.next_data(offset)? else { break };
        let end = from.next_hole(start, size)?.min(size);
        copy_range(from, to, start, end)?;
        offset = end.max(start + 1);
    }
    Ok(())
}

/// Copies in the kernel where it can, which shares blocks where the filesystem can, and through memory elsewhere.
pub(super) fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<()> {
    let mut at = start;
    while at < end {
        let (mut read, mut write) = (at, at);
        let step = (end - at).min(1 << 24) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), step) {
            Ok(len) if len > 0 => at += len as u64,
            Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
                return Err(to.error(Action::Write, error));
            }
            _ => break,
        }
    }
    let mut buffer = vec![0; 1 << 18];
    while at < end {
        let step = (end - at).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..step], at)?;
        to.write_all_at(&buffer[..step], at)?;
        at += step as u64;
    }
    Ok(())
}
