//! `metadata.json`: what a dataset is, beside its files. The metadata stand in it byte for byte as they were sent, as
//! its last field, with their length before them; so their digest can be checked as long as nobody rewrites the file.

use files::{Digest, Dir, FilesError, Follow, RelPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::offer::{MOST_METADATA, OfferRecord, SchemaForm};
use super::{METADATA, Publication, RECEIPT, StoreError, own};
use crate::catalogue::{DatasetRow, DatasetState, UploadId};
use crate::name::DatasetId;

const VERSION: u64 = 1;
const MOST_SIDECAR: u64 = MOST_METADATA + (1 << 20);
/// A receipt lists at most 256 names.
const MOST_RECEIPT: u64 = 4 << 20;
/// What stands before the metadata, and behind them.
const FIELD: &[u8] = b",\n  \"metadata\":";
const END: &[u8] = b"\n}\n";

/// Why `metadata.json` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// It is not JSON of the right form.
    #[error("metadata.json is not readable: {0}")]
    Unreadable(String),
    /// It was written by a program that knows more.
    #[error("metadata.json is of version {0}, which this program does not know")]
    Version(u64),
    /// The metadata are not where they were.
    #[error(
        "metadata.json was written again by something else: its metadata are not byte for byte what was sent"
    )]
    Rewritten,
    /// The metadata have another digest.
    #[error("the metadata in metadata.json were changed: their digest differs")]
    Digest,
    /// The folder is that of another dataset.
    #[error("metadata.json is that of another dataset, {0}")]
    OtherId(DatasetId),
}

/// What the file says, as a row of the catalogue has it, and by whom it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) row: DatasetRow,
}

/// The file without the metadata.
#[derive(Serialize, Deserialize)]
struct Form {
    haul_dataset: u64,
    id: String,
    inbox: String,
    name: String,
    upload: String,
    received: Received,
    files: u64,
    bytes: u64,
    content: String,
    metadata_blake3: String,
    metadata_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Received {
    from: String,
    label: String,
    address: Option<String>,
    offered: String,
    began: String,
    published: String,
    by: String,
    program: String,
    schema: Option<SchemaForm>,
}

/// The bytes of the file.
pub(super) fn to_bytes(
    offer: &OfferRecord,
    publication: &Publication,
    row: &DatasetRow,
) -> Vec<u8> {
    let form = Form {
        haul_dataset: VERSION,
        id: row.id.to_string(),
        inbox: row.inbox.clone(),
        name: row.name.clone(),
        upload: row.upload.to_string(),
        received: Received {
            from: row.client.clone(),
            label: row.label.clone(),
            address: offer.address.clone(),
            offered: row.offered.to_string(),
            began: publication.began.to_string(),
            published: row.published.to_string(),
            by: publication.by.clone(),
            program: publication.program.clone(),
            schema: offer.schema.as_ref().map(SchemaForm::of),
        },
        files: row.files,
        bytes: row.bytes,
        content: row.content.to_string(),
        metadata_blake3: row.metadata_digest.to_string(),
        metadata_bytes: row.metadata.len() as u64,
    };
    let mut bytes = serde_json::to_vec_pretty(&form).expect("texts and numbers");
    // Its end, which comes behind the metadata.
    bytes.truncate(bytes.len() - b"\n}".len());
    bytes.extend_from_slice(FIELD);
    bytes.extend_from_slice(row.metadata.as_bytes());
    bytes.extend_from_slice(END);
    bytes
}

impl Sidecar {
    /// Reads the file of a dataset whose folder is at `path`, below the root.
    pub(crate) fn parse(bytes: &[u8], path: &str) -> Result<Self, SidecarError> {
        let unreadable = |what: &str| SidecarError::Unreadable(what.to_owned());
        let Version { haul_dataset } =
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))?;
        if haul_dataset != VERSION {
            return Err(SidecarError::Version(haul_dataset));
        }
        let form: Form =
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))?;
        let digest = |text: &str| Digest::parse(text).map_err(|_| unreadable("a digest"));
        let time = |text: &str| text.parse::<Timestamp>().map_err(|_| unreadable("a time"));
        let metadata = metadata(bytes, form.metadata_bytes).ok_or(SidecarError::Rewritten)?;
        let metadata_digest = digest(&form.metadata_blake3)?;
        if Digest::of(metadata.as_bytes()) != metadata_digest {
            return Err(SidecarError::Digest);
        }
        Ok(Self {
            row: DatasetRow {
                id: DatasetId::parse(&form.id).ok_or(unreadable("its id"))?,
                inbox: form.inbox,
                name: form.name,
                client: form.received.from,
                label: form.received.label,
                upload: UploadId::parse(&form.upload).ok_or(unreadable("its upload id"))?,
                offered: time(&form.received.offered)?,
                published: time(&form.received.published)?,
                files: form.files,
                bytes: form.bytes,
                content: digest(&form.content)?,
                metadata: metadata.to_owned(),
                metadata_digest,
                path: path.to_owned(),
                state: DatasetState::Ok,
            },
        })
    }

    /// Reads the sidecar in the folder of a dataset.
    pub(crate) fn read(dataset: &Dir, path: &str) -> Result<Self, StoreError> {
        let bytes = read_own(dataset, METADATA, MOST_SIDECAR)?;
        Self::parse(&bytes, path)
            .map_err(|source| StoreError::Sidecar { path: path.to_owned(), source })
    }
}

#[derive(Deserialize)]
struct Version {
    haul_dataset: u64,
}

/// The metadata in the bytes of the file.
fn metadata(bytes: &[u8], len: u64) -> Option<&str> {
    let head = bytes.strip_suffix(END)?;
    let start = head.len().checked_sub(usize::try_from(len).ok()?)?;
    let (before, metadata) = head.split_at(start);
    before.ends_with(FIELD).then_some(())?;
    std::str::from_utf8(metadata).ok()
}

/// The receipt in the folder of a dataset.
pub(crate) fn read_receipt(dataset: &Dir) -> Result<Vec<u8>, StoreError> {
    Ok(read_own(dataset, RECEIPT, MOST_RECEIPT)?)
}

fn read_own(dataset: &Dir, name: &str, most: u64) -> Result<Vec<u8>, FilesError> {
    dataset.open_file(&RelPath::from(own(name)), Follow::Never)?.read_whole(most)
}
