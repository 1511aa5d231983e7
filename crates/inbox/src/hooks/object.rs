//! The JSON objects that hooks are given (`docs/formats/inbox.md`). Metadata go into them as the client wrote them, byte
//! for byte. It is pure.

use std::path::Path;

use serde_json::json;
use transfer::message::Offer;

use crate::Client;

/// The version of these objects.
const VERSION: u64 = 1;

/// Of a dataset that was published: what its `metadata.json` holds, which is a JSON object, with the event and the
/// folder in front. None if the text is no object.
pub fn published(metadata_json: &str, path: &Path) -> Option<String> {
    let rest = metadata_json.trim().strip_prefix('{')?;
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let front = json!({
        "haul_hook": VERSION,
        "event": "published",
        "path": path.to_string_lossy(),
    });
    Some(format!("{}{comma}{rest}", open(&front)))
}

/// Of an upload that will soon be removed.
#[derive(Debug, Clone, Copy)]
pub struct Expiring<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its inbox.
    pub inbox: &'a str,
    /// What the dataset would be called.
    pub name: &'a str,
    /// Who began it.
    pub client: &'a Client,
    /// How many files it was to have.
    pub files: u64,
    /// How many bytes it was to have.
    pub bytes: u64,
    /// When it will be removed.
    pub at: jiff::Timestamp,
}

/// Of an upload that will soon be removed.
pub fn expiring(upload: &Expiring<'_>) -> String {
    json!({
        "haul_hook": VERSION,
        "event": "expiring",
        "id": upload.id,
        "inbox": upload.inbox,
        "name": upload.name,
        "from": upload.client.id,
        "label": upload.client.label,
        "files": upload.files,
        "bytes": upload.bytes,
        "expires": upload.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
    .to_string()
}

/// Of an offer. `inbox` is its name also where the offer leaves it out; `metadata` is the JSON object of the client.
pub fn offer(client: &Client, inbox: &str, offer: &Offer, metadata: &str) -> String {
    let front = json!({
        "haul_hook": VERSION,
        "event": "offer",
        "inbox": inbox,
        "name": offer.name,
        "from": client.id,
        "label": client.label,
        "address": client.address.map(|address| address.to_string()),
        "files": offer.files,
        "bytes": offer.bytes,
        "content": offer.content.map(|content| content.to_string()),
        "check": offer.check,
    });
    format!("{},\"metadata\":{}}}", open(&front), metadata.trim())
}

/// An object without its last brace.
fn open(object: &serde_json::Value) -> String {
    let mut text = object.to_string();
    text.pop();
    text
}

#[cfg(test)]
mod tests;
