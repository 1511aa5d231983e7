//! Receipts: what a target states, signed, about what it holds after a transfer
//! (`docs/formats/receipt.md`). Pure. The signature covers the statement's canonical JSON (keys sorted,
//! no spaces, whole numbers only), so that a receipt may be reformatted and still be checked.

use link::{Identity, PublicKey};
use serde_json::{Map, Value};
use tree::TreeDigests;

use crate::Totals;

/// What the signature covers before the statement, so that it can mean nothing else.
const DOMAIN: &[u8] = b"haul receipt 1\0";
/// Top-level names that a receipt lists; beyond them it only counts.
pub const MAX_ROOTS: usize = 256;

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The transfer's id, in hex.
    pub transfer: String,
    /// Who sent.
    pub source: PublicKey,
    /// Who received, and signs.
    pub target: PublicKey,
    /// To which path, as the target names it.
    pub path: String,
    /// Begin and end, seconds since 1970.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
    /// Whether all of it was on stable storage before the receipt was signed.
    pub durable: bool,
    /// The top-level names that were offered, escaped, at most `MAX_ROOTS`. Empty when a folder's
    /// contents were sent rather than the folder.
    pub roots: Vec<String>,
    /// Top-level names offered in all.
    pub root_count: u64,
    /// Digest over paths, kinds, sizes and contents.
    pub tree: TreeDigests,
    /// What was counted.
    pub totals: Totals,
    /// Extras removed at the target.
    pub removed: u64,
    /// What it is that was handed in, where an inbox has taken it.
    pub dataset: Option<DatasetStatement>,
}

/// What a receipt says of a dataset beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetStatement {
    /// Its id at the target.
    pub id: String,
    /// Which inbox has it.
    pub inbox: String,
    /// What it is called.
    pub name: String,
    /// The BLAKE3 digest of its metadata's bytes as the source sent them.
    pub metadata: files::Digest,
}

/// A receipt whose signature was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// What it says.
    pub statement: Statement,
    /// As JSON, for showing.
    pub json: Value,
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is of a version that this program does not know.
    #[error("it is no receipt of version 1")]
    Version,
    /// A field is missing or of a wrong form.
    #[error("its field '{0}' is missing or malformed")]
    Field(&'static str),
    /// The signature does not fit.
    #[error("its signature does not fit: it was changed, or signed by another key")]
    Signature,
    /// It speaks of something else than what was sent.
    #[error("its {0} is not that of this transfer")]
    Mismatch(&'static str),
}

impl Statement {
    /// Signs the statement; the result is the receipt's JSON.
    pub fn sign(&self, identity: &Identity) -> Vec<u8> {
        let statement = self.to_json();
        let signature = identity.sign(&signed_bytes(&statement));
        let mut receipt = Map::new();
        receipt.insert("haul_receipt".into(), 1.into());
        receipt.insert("statement".into(), statement);
        receipt.insert("signature".into(), crate::client::hex(&signature).into());
        serde_json::to_vec_pretty(&Value::Object(receipt)).expect("a map of text and numbers")
    }

    fn to_json(&self) -> Value {
        let t = &self.totals;
        let number = Value::from;
        let fields: [(&str, Value); 23] = [
            ("transfer", self.transfer.clone().into()),
            ("source", self.source.to_line("").trim_end().into()),
            ("target", self.target.to_line("").trim_end().into()),
            ("path", self.path.clone().into()),
            ("began", number(self.began)),
            ("ended", number(self.ended)),
            ("durable", self.durable.into()),
            ("roots", self.roots.clone().into()),
            ("root_count", number(self.root_count)),
            ("tree_content", self.tree.content.to_string().into()),
            ("tree_attributes", self.tree.attributes.to_string().into()),
            ("tree_records", number(self.tree.records)),
            ("files_copied", number(t.copied)),
            ("files_unchanged", number(t.unchanged)),
            ("links", number(t.links)),
            ("folders", number(t.folders)),
            ("skipped", number(t.skipped)),
            ("failed", number(t.failed)),
            ("bytes_copied", number(t.bytes_copied)),
            ("bytes_present", number(t.bytes_present)),
            ("removed", number(self.removed)),
            ("digest_method", "blake3-lthash16".into()),
            ("program", concat!("haul ", env!("CARGO_PKG_VERSION")).into()),
        ];
        let mut fields: Map<String, Value> =
            fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        if let Some(dataset) = &self.dataset {
            fields.insert("dataset".into(), dataset.to_json());
        }
        Value::Object(fields)
    }

    fn from_json(json: &Value) -> Result<Self, ReceiptError> {
        let text = |key: &'static str| {
            json.get(key).and_then(Value::as_str).ok_or(ReceiptError::Field(key))
        };
        let number = |key: &'static str| {
            json.get(key).and_then(Value::as_u64).ok_or(ReceiptError::Field(key))
        };
        let key = |key: &'static str| -> Result<PublicKey, ReceiptError> {
            let (public, _) =
                PublicKey::parse_line(text(key)?).map_err(|_| ReceiptError::Field(key))?;
            Ok(public)
        };
        let digest = |key: &'static str| {
            files::Digest::parse(text(key)?).map_err(|_| ReceiptError::Field(key))
        };
        let roots =
            json.get("roots").and_then(Value::as_array).ok_or(ReceiptError::Field("roots"))?;
        let roots = roots.iter().map(|root| root.as_str().map(str::to_owned));
        let roots: Option<Vec<_>> = roots.collect();
        Ok(Self {
            transfer: text("transfer")?.to_owned(),
            source: key("source")?,
            target: key("target")?,
            path: text("path")?.to_owned(),
            began: number("began")?,
            ended: number("ended")?,
            durable: json
                .get("durable")
                .and_then(Value::as_bool)
                .ok_or(ReceiptError::Field("durable"))?,
            roots: roots.ok_or(ReceiptError::Field("roots"))?,
            root_count: number("root_count")?,
            tree: TreeDigests {
                content: digest("tree_content")?,
                attributes: digest("tree_attributes")?,
                records: number("tree_records")?,
            },
            totals: Totals {
                copied: number("files_copied")?,
                unchanged: number("files_unchanged")?,
                links: number("links")?,
                folders: number("folders")?,
                skipped: number("skipped")?,
                failed: number("failed")?,
                bytes_copied: number("bytes_copied")?,
                bytes_present: number("bytes_present")?,
                ..Totals::default()
            },
            removed: number("removed")?,
            dataset: json.get("dataset").map(DatasetStatement::from_json).transpose()?,
        })
    }
}

impl DatasetStatement {
    fn to_json(&self) -> Value {
        serde_json::json!({
            "id": self.id,
            "inbox": self.inbox,
            "name": self.name,
            "metadata": self.metadata.to_string(),
        })
    }

    fn from_json(json: &Value) -> Result<Self, ReceiptError> {
        let text = |key: &str| {
            let text = json.get(key).and_then(Value::as_str);
            text.map(str::to_owned).ok_or(ReceiptError::Field("dataset"))
        };
        let metadata = files::Digest::parse(&text("metadata")?);
        Ok(Self {
            id: text("id")?,
            inbox: text("inbox")?,
            name: text("name")?,
            metadata: metadata.map_err(|_| ReceiptError::Field("dataset"))?,
        })
    }
}

impl Receipt {
    /// Reads a receipt and checks that the target it names has signed it. Whether that target is the
    /// right one is the reader's question.
    pub fn verify(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let json: Value = serde_json::from_slice(bytes)
            .map_err(|error| ReceiptError::NotJson(error.to_string()))?;
        if json.get("haul_receipt").and_then(Value::as_u64) != Some(1) {
            return Err(ReceiptError::Version);
        }
        let signed = json.get("statement").ok_or(ReceiptError::Field("statement"))?;
        let statement = Statement::from_json(signed)?;
        let signature = json.get("signature").and_then(Value::as_str);
        let signature = signature.and_then(unhex).ok_or(ReceiptError::Field("signature"))?;
        if !statement.target.verify(&signed_bytes(signed), &signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(Self { statement, json })
    }
}

/// `serde_json` keeps maps sorted by key, so its compact form is the canonical one.
fn signed_bytes(statement: &Value) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(statement.to_string().as_bytes());
    bytes
}

fn unhex(text: &str) -> Option<[u8; 64]> {
    let text = text.as_bytes();
    let mut bytes = [0; 64];
    if text.len() != 128 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
