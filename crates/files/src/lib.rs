//! One file on disk, safely: the only door to the disk of the whole project. Names that cannot climb
//! out, directory handles through which every path call goes, attributes, digests, and staging that
//! publishes a received file in one step.
//!
//! Everything here is synchronous and knows no network. A path from a peer is a [`RelPath`] and is only
//! ever used relative to a [`Dir`]; a path from the local operator enters through [`Dir::open_ambient`]
//! and nowhere else.

mod attributes;
mod digest;
mod dir;
mod error;
mod file;
mod metadata;
mod path;
#[cfg(test)]
mod scratch;
mod sha256;
mod staging;

pub use attributes::{Attributes, Kind, Timestamp};
pub use digest::{
    CHUNK, ChunkHash, Digest, DigestParseError, chunk_count, chunk_len, file_digest, hash_chunk,
};
pub use dir::{Dir, DirCache, Entries, Entry, Follow, Replace, Resolution};
pub use error::{Action, Fault, FilesError, StagingDefect};
pub use file::File;
pub use path::{
    Escaped, MAX_DEPTH, MAX_NAME, MAX_PATH, Name, NameError, RelPath, escape, escape_json,
    escape_path,
};
pub use sha256::{RunningSha256, Sha256};
pub use staging::{
    MAX_FILE_SIZE, Map, MapError, MapHeader, Partial, PartialKey, PublishOptions, Published,
    STAGING_NAME, Staging, Swept, is_reserved, parse_map,
};
