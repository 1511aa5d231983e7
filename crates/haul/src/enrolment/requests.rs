//! Requests of keys that want to be let in: one small file for each key, in the folder `requests/`. They are kept for
//! a week, few from one address, and not many in all. A file that is none is left alone and counts.

use std::net::SocketAddr;

use anyhow::Result;
use files::{Dir, Follow, RelPath};
use jiff::{SignedDuration, Timestamp};
use link::PublicKey;
use serde::{Deserialize, Serialize};

use super::counted;
use crate::state::own_name;

const FOLDER: &str = "requests";
/// How long a request is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The most requests in all, and from one address.
const MOST: usize = 1_000;
const MOST_OF_ADDRESS: usize = 5;
/// A request's file has fewer bytes than this.
const MAX_FILE: u64 = 4_096;

/// A key that wants to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The key.
    pub key: PublicKey,
    /// Who it says it is: from outside, so escaped where it is shown.
    pub label: String,
    /// Where it came from.
    pub address: String,
    /// When it asked last.
    pub at: Timestamp,
}

/// Why a request is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are too many.
    #[error("too many requests wait here; tell the operator, or ask for a code")]
    InAll,
    /// There are too many from this address.
    #[error(
        "{MOST_OF_ADDRESS} requests from your address wait here, which is the most; tell the operator"
    )]
    OfAddress,
}

/// A request as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    label: String,
    address: String,
    at: String,
}

impl Request {
    /// A request that came now.
    pub fn new(key: PublicKey, label: &str, from: SocketAddr, at: Timestamp) -> Self {
        Self { key, label: label.to_owned(), address: from.to_string(), at }
    }

    /// Whether both came from what counts as one address.
    fn is_from_where(&self, other: &Self) -> bool {
        let place = |request: &Self| {
            request.address.parse::<SocketAddr>().map(|address| counted(address.ip())).ok()
        };
        place(self) == place(other)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let (key, _) = PublicKey::parse_line(&stored.key).ok()?;
        let at = stored.at.parse().ok()?;
        Some(Self { key, label: stored.label, address: stored.address, at })
    }
}

/// The folder.
pub struct Requests {
    dir: Dir,
}

impl Requests {
    /// In this configuration folder; made if it is not there.
    pub fn open(config: &Dir) -> Result<Self> {
        Ok(Self { dir: config.make_private_dir(&own_name(FOLDER))? })
    }

    /// All that can be read, the oldest first.
    pub fn list(&self) -> Result<Vec<Request>> {
        let mut all = Vec::new();
        for entry in self.dir.entries()?.take(2 * MOST) {
            let Ok(name) = entry?.name() else { continue };
            let read = self.dir.open_file(&RelPath::from(&name), Follow::Never);
            let Ok(bytes) = read.and_then(|file| file.read_whole(MAX_FILE)) else { continue };
            all.extend(Request::parse(&bytes));
        }
        all.sort_by_key(|request| (request.at, request.key.0));
        Ok(all)
    }

    /// Removes those that are too old, and gives them.
    pub fn expire(&self, now: Timestamp) -> Result<Vec<Request>> {
        let mut old = self.list()?;
        old.retain(|request| now.duration_since(request.at) > KEPT);
        for request in &old {
            self.remove(&request.key)?;
        }
        Ok(old)
    }

    /// Whether this one would be kept, and if so, whether its key has not asked before.
    pub fn would_take(&self, request: &Request) -> Result<Result<bool, Full>> {
        let all = self.list()?;
        if all.iter().any(|other| other.key == request.key) {
            return Ok(Ok(false));
        }
        let of_address = all.iter().filter(|other| other.is_from_where(request)).count();
        Ok(match () {
            () if of_address >= MOST_OF_ADDRESS => Err(Full::OfAddress),
            () if all.len() >= MOST => Err(Full::InAll),
            () => Ok(true),
        })
    }

    /// Keeps a request, in the place of an older one of the same key.
    pub fn put(&self, request: &Request) -> Result<()> {
        let Request { key, label, address, at } = request;
        let (label, address) = (label.clone(), address.clone());
        let stored = Stored { key: key.to_line(""), label, address, at: at.to_string() };
        let text = serde_json::to_vec(&stored)?;
        Ok(self.dir.write_private(&own_name(&file_of(key)), &text)?)
    }

    /// Removes the request of a key; whether there was one.
    pub fn remove(&self, key: &PublicKey) -> Result<bool> {
        match self.dir.unlink(&own_name(&file_of(key))) {
            Err(error) if error.is_not_found() => Ok(false),
            result => {
                result?;
                self.dir.sync()?;
                Ok(true)
            }
        }
    }
}

fn file_of(key: &PublicKey) -> String {
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}
