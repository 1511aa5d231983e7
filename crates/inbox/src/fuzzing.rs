//! Entrances for the fuzz targets to readers that nobody else reaches; no part of the crate otherwise.

use crate::{MOST_DEPTH, Metadata, Schema};

/// Metadata of a client: what is taken is what every reader of JSON sees in it, and no deeper than is allowed.
pub fn metadata(data: &[u8]) {
    match Metadata::read(data, 1 << 16) {
        Ok(metadata) => {
            assert_eq!(metadata.text().as_bytes(), data);
            let value: serde_json::Value = serde_json::from_slice(data).expect("it is JSON");
            assert_eq!(&value, metadata.value());
            assert!(depth(&value) <= MOST_DEPTH);
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.reason.is_empty()))
        }
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A schema of an operator up to the first NUL byte, and metadata behind it: whatever does not fit has a reason.
pub fn schema(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let Ok(schema) = Schema::compile(&data[..end]) else { return };
    let Ok(metadata) = Metadata::read(data.get(end + 1..).unwrap_or_default(), 1 << 16) else {
        return;
    };
    let (faults, more) = schema.judge(metadata.value());
    assert!(more == 0 || faults.len() == crate::MOST_FAULTS);
    assert!(faults.iter().all(|fault| !fault.reason.is_empty() && !fault.reason.contains('\n')));
}

/// What a disk may have made of `offer.json`.
pub fn offer(data: &[u8]) {
    crate::store::fuzz_offer(data);
}

/// What a disk may have made of `metadata.json`.
pub fn sidecar(data: &[u8]) {
    if let Ok(sidecar) = crate::store::Sidecar::parse(data, "store/x/y/z") {
        assert_eq!(files::Digest::of(sidecar.row.metadata.as_bytes()), sidecar.row.metadata_digest);
    }
}

/// What a disk may have made of the records of an upload.
pub fn records(data: &[u8]) {
    crate::store::fuzz_record(data);
}

/// What a disk may have made of a manifest: each line that is read has one form.
pub fn manifest(data: &[u8]) {
    crate::store::fuzz_manifest(data);
}
