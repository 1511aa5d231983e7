//! `offer.json`: who offered what, written before anything else of an upload. What a crash leaves of an upload is
//! judged by it alone.

use files::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::UploadId;
use crate::name::{DatasetId, DatasetNameError, check_name};

/// The most bytes of metadata that are kept, whatever an inbox would take.
pub(super) const MOST_METADATA: u64 = 32 << 20;
/// The most bytes of the record: escaping at most doubles what UTF-8 text of JSON has.
pub(super) const MOST_OFFER: u64 = 2 * MOST_METADATA + (1 << 20);
const VERSION: u64 = 1;

/// What was offered, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRecord {
    /// The id that the dataset will have.
    pub id: DatasetId,
    /// The client's own id of it.
    pub upload: UploadId,
    /// Which inbox it is for.
    pub inbox: String,
    /// What the dataset is called.
    pub name: String,
    /// Who offers it, as [`crate::Client::id`].
    pub client: String,
    /// What the operator calls them.
    pub label: String,
    /// Where they came from, if that is known.
    pub address: Option<String>,
    /// When.
    pub offered: Timestamp,
    /// How many files were announced.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// The content digest that was announced, if any was.
    pub content: Option<Digest>,
    /// BLAKE3 of the metadata as they were sent. They themselves stay on disk: many offers may wait at once.
    pub metadata_digest: Digest,
    /// By which schema they were judged.
    pub schema: Option<SchemaRecord>,
    /// Which program took the offer.
    pub program: String,
}

/// A schema that was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRecord {
    /// What it called itself.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// BLAKE3 of its text.
    pub digest: Digest,
}

/// Why a record of an offer is not taken, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] DatasetNameError),
    /// The inbox cannot be called so.
    #[error("its inbox has a name that none has")]
    Inbox,
    /// The metadata are too long to be kept.
    #[error("its metadata have {0} bytes; at most {MOST_METADATA} are kept")]
    Metadata(u64),
    /// It is not JSON of the right form.
    #[error("offer.json is not readable: {0}")]
    Unreadable(String),
    /// It was written by a program that knows more.
    #[error("offer.json is of version {0}, which this program does not know")]
    Version(u64),
    /// The metadata are others than were offered.
    #[error("its metadata are others than were offered")]
    OtherMetadata,
    /// It is about another upload than its folder.
    #[error("offer.json is that of {0}")]
    OtherId(DatasetId),
}

impl OfferRecord {
    /// Whether it can be kept, with these metadata.
    pub(super) fn check(&self, metadata: &str) -> Result<(), OfferError> {
        check_name(&self.name)?;
        match metadata.len() as u64 {
            _ if !link::is_inbox_name(&self.inbox) => Err(OfferError::Inbox),
            len if len > MOST_METADATA => Err(OfferError::Metadata(len)),
            _ if Digest::of(metadata.as_bytes()) != self.metadata_digest => {
                Err(OfferError::OtherMetadata)
            }
            _ => Ok(()),
        }
    }

    /// The bytes of `offer.json`.
    pub(super) fn to_bytes(&self, metadata: &str) -> Vec<u8> {
        let offer = Form {
            haul_offer: VERSION,
            id: self.id.to_string(),
            upload: self.upload.to_string(),
            inbox: self.inbox.clone(),
            name: self.name.clone(),
            client: self.client.clone(),
            label: self.label.clone(),
            address: self.address.clone(),
            offered: self.offered.to_string(),
            files: self.files,
            bytes: self.bytes,
            content: self.content.map(|content| content.to_string()),
            metadata: metadata.to_owned(),
            schema: self.schema.as_ref().map(SchemaForm::of),
            program: self.program.clone(),
        };
        serde_json::to_vec_pretty(&offer).expect("texts and numbers")
    }

    /// Reads `offer.json` strictly, with the metadata: what it says was checked when it was written, and is again.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, String), OfferError> {
        let unreadable = |what: &str| OfferError::Unreadable(what.to_owned());
        let Version { haul_offer } =
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))?;
        if haul_offer != VERSION {
            return Err(OfferError::Version(haul_offer));
        }
        let form: Form =
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))?;
        let digest = |text: &str| Digest::parse(text).map_err(|_| unreadable("a digest"));
        let offer = Self {
            id: DatasetId::parse(&form.id).ok_or(unreadable("its id"))?,
            upload: UploadId::parse(&form.upload).ok_or(unreadable("its upload id"))?,
            inbox: form.inbox,
            name: form.name,
            client: form.client,
            label: form.label,
            address: form.address,
            offered: form.offered.parse().map_err(|_| unreadable("its time"))?,
            files: form.files,
            bytes: form.bytes,
            content: form.content.as_deref().map(digest).transpose()?,
            metadata_digest: Digest::of(form.metadata.as_bytes()),
            schema: form.schema.map(SchemaForm::read).transpose()?,
            program: form.program,
        };
        offer.check(&form.metadata)?;
        Ok((offer, form.metadata))
    }
}

#[derive(Deserialize)]
struct Version {
    haul_offer: u64,
}

/// The record as it is written.
#[derive(Serialize, Deserialize)]
struct Form {
    haul_offer: u64,
    id: String,
    upload: String,
    inbox: String,
    name: String,
    client: String,
    label: String,
    address: Option<String>,
    offered: String,
    files: u64,
    bytes: u64,
    content: Option<String>,
    metadata: String,
    schema: Option<SchemaForm>,
    program: String,
}

/// A schema as sidecars and offers have it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SchemaForm {
    name: Option<String>,
    version: Option<String>,
    blake3: String,
}

impl SchemaForm {
    pub(super) fn of(schema: &SchemaRecord) -> Self {
        let SchemaRecord { name, version, digest } = schema.clone();
        Self { name, version, blake3: digest.to_string() }
    }

    fn read(self) -> Result<SchemaRecord, OfferError> {
        let digest = Digest::parse(&self.blake3)
            .map_err(|_| OfferError::Unreadable("the digest of its schema".to_owned()))?;
        Ok(SchemaRecord { name: self.name, version: self.version, digest })
    }
}

/// What is read is written as it was read.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok((offer, metadata)) = OfferRecord::parse(data) {
        assert_eq!(OfferRecord::parse(&offer.to_bytes(&metadata)), Ok((offer, metadata)));
    }
}
