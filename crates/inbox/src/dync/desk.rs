//! What the listener asks of whoever keeps the inboxes: whether a file is taken, whose turn it is, where its bytes go.
//! Calls may block; the listener makes them on threads that may. The listener knows an upload by an id that is made of
//! the client's key and the identity that it chose for the upload, so nobody can name an upload of another key.

use thiserror::Error;
use tokio::sync::watch;
use transfer::host;
use transfer::message::RefuseCode;
use transfer::reception::{Turn, Turned};

use crate::Client;
pub use crate::catalogue::UploadId;

/// What takes files from clients of dync.
pub trait Desk: Send + Sync + 'static {
    /// Takes an offer in, or says why not. An upload that is known already, with the same name and metadata, has the
    /// same answer again.
    fn offer(&self, client: &Client, offer: Offer) -> Result<Ticket, Refusal>;

    /// What is known of an upload, perhaps from before a restart.
    fn find(&self, client: &Client, upload: UploadId) -> Found;

    /// Begins an upload whose turn it is, or goes on with it. At most one sink of an upload is there at a time.
    fn open(&self, upload: UploadId) -> Result<Box<dyn FileSink>, Refusal>;

    /// The client gave up, or has sent what cannot be taken. What has arrived may go. No sink of it is open.
    fn abandon(&self, upload: UploadId, reason: &str);
}

/// Where the bytes of one file go, in order. Dropped, it keeps what is durable for who comes back.
pub trait FileSink: Send {
    /// How many bytes are on the disk for good; the next that is written comes behind these at first.
    fn durable(&self) -> u64;

    /// Takes bytes, which come right behind those before.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Refusal>;

    /// Brings everything to the disk, and gives how many bytes are there for good.
    fn sync(&mut self) -> Result<u64, Refusal>;

    /// The file is whole and has this SHA-256: publishes it, and gives the dataset's id. If this fails, the upload is
    /// over.
    fn finish(self: Box<Self>, sha256: [u8; 32]) -> Result<String, Refusal>;
}

/// A file that a client wants to hand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The upload.
    pub upload: UploadId,
    /// What the client calls the file: any text. It need not be a name that a file can have.
    pub name: String,
    /// Text that should be a JSON object, as the client sent it.
    pub metadata: String,
}

/// A place in the queue. The listener keeps it while the client is heard of; dropped, it is kept for a while for who
/// comes back.
pub struct Ticket {
    /// How it stands, now and whenever that changes.
    pub turns: watch::Receiver<Turn>,
    /// Whatever goes when the ticket does.
    pub guard: Box<dyn Send>,
}

/// What a desk knows of an upload.
pub enum Found {
    /// Nothing.
    Unknown,
    /// It was published as this dataset.
    Finished(String),
    /// It may go on, when it is its turn.
    Unfinished(Ticket),
}

impl UploadId {
    /// The id of the upload that the bearer of `key` calls `identity`, for clients of dync, which send none.
    pub fn of(key: &[u8; 32], identity: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("haul dync upload 1");
        hasher.update(key).update(identity);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

/// No, in words that the client's user will read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    /// As in HTTP.
    pub code: u32,
    /// What is refused, and what would help.
    pub text: String,
}

impl Refusal {
    /// A refusal with this number.
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<host::Refusal> for Refusal {
    fn from(refusal: host::Refusal) -> Self {
        let code = match refusal.code {
            RefuseCode::Denied => 403,
            RefuseCode::NotFound => 404,
            RefuseCode::Exists => 409,
            RefuseCode::Disk => 507,
            RefuseCode::Busy => 429,
            RefuseCode::TooMuch => 413,
            RefuseCode::Corrupt => 422,
            _ => 500,
        };
        Self { code, text: refusal.text }
    }
}

impl From<Turned> for Refusal {
    fn from(turned: Turned) -> Self {
        let (faults, more) = match turned {
            Turned::Refused(refusal) => return refusal.into(),
            Turned::Unfit { faults, more } => (faults, more),
        };
        let mut text = "the metadata do not fit:".to_owned();
        for fault in faults {
            let path = if fault.path.is_empty() { "/" } else { &fault.path };
            text.push_str(&format!(" {path}: {};", fault.reason));
        }
        match more {
            0 => text.pop().map(drop).unwrap_or_default(),
            more => text.push_str(&format!(" and {more} more")),
        }
        Self { code: 422, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transfer::message::Fault;

    #[test]
    fn an_upload_belongs_to_its_key() {
        let id = |key: u8, identity: &[u8]| UploadId::of(&[key; 32], identity);
        assert_eq!(id(1, b"a"), id(1, b"a"));
        assert_ne!(id(1, b"a"), id(2, b"a"));
        assert_ne!(id(1, b"a"), id(1, b"b"));
        assert_ne!(id(1, b""), id(1, b"\0"));
    }

    #[test]
    fn faults_are_told_in_one_line() {
        let fault = |path: &str| Fault { path: path.into(), reason: "is missing".into() };
        let told = |more| {
            Refusal::from(Turned::Unfit { faults: vec![fault(""), fault("/a")], more }).to_string()
        };
        assert_eq!(told(0), "the metadata do not fit: /: is missing; /a: is missing");
        assert_eq!(told(3), "the metadata do not fit: /: is missing; /a: is missing; and 3 more");
    }
}
