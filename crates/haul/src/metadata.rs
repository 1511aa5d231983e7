//! The metadata of a dataset as its client puts them together: a JSON object, and single keys over it. Pure. What was
//! given as a whole is sent as it is, byte for byte.

use inbox::Metadata;
use serde_json::{Map, Value};
use transfer::message::Fault;

/// So much is read where single keys are set.
const MOST_BYTES: u64 = 32 << 20;

/// Why metadata cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The text is not JSON.
    #[error("the metadata are not JSON: {0}")]
    NotJson(String),
    /// It is something else than an object.
    #[error("the metadata are not a JSON object")]
    NotAnObject,
    /// They cannot be written again as they are meant.
    #[error("the metadata cannot be written with other keys, at {}: {reason}", place(.path))]
    Unclear {
        /// Where, as a JSON pointer.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A value is JSON that would change when it is written.
    #[error("the value of the key {key}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// Why not.
        reason: String,
    },
    /// A key is not written as one.
    #[error("'{0}' is not KEY:VALUE")]
    NotAKey(String),
    /// A key leads through something that has none.
    #[error("the key {key} leads through {part}, which is not an object")]
    NoObject {
        /// The key.
        key: String,
        /// The part of it that is something else.
        part: String,
    },
}

/// The metadata's bytes: `text`, or an empty object, with `keys` set in it.
pub fn compose(text: Option<&[u8]>, keys: &[String]) -> Result<Vec<u8>, MetadataError> {
    let text = text.unwrap_or(b"{}");
    let value: Value =
        serde_json::from_slice(text).map_err(|error| MetadataError::NotJson(error.to_string()))?;
    if !value.is_object() {
        return Err(MetadataError::NotAnObject);
    }
    if keys.is_empty() {
        return Ok(text.to_vec());
    }
    // What is written again must not lose a key that is there twice, or digits of a whole number.
    let unclear = |Fault { path, reason }| MetadataError::Unclear { path, reason };
    let Value::Object(mut object) = strictly(text).map_err(unclear)? else {
        return Err(MetadataError::NotAnObject);
    };
    for key in keys {
        set(&mut object, key)?;
    }
    Ok(serde_json::to_vec_pretty(&Value::Object(object)).expect("what was read can be written"))
}

/// Reads an object as an inbox does.
fn strictly(text: &[u8]) -> Result<Value, Fault> {
    let nothing = || Fault { path: String::new(), reason: "it cannot be read".to_owned() };
    Metadata::read(text, MOST_BYTES)
        .map(|metadata| metadata.value().clone())
        .map_err(|faults| faults.into_iter().next().unwrap_or_else(nothing))
}

fn place(path: &str) -> &str {
    if path.is_empty() { "their top" } else { path }
}

fn set(object: &mut Map<String, Value>, given: &str) -> Result<(), MetadataError> {
    let wrong = || MetadataError::NotAKey(given.to_owned());
    let (key, text) = given.split_once(':').ok_or_else(wrong)?;
    let value = match serde_json::from_str::<Value>(text) {
        Ok(_) => {
            let held = strictly(format!("{{\"\":{text}}}").as_bytes()).map_err(|fault| {
                MetadataError::Value { key: key.to_owned(), reason: fault.reason }
            })?;
            held.get("").cloned().unwrap_or_default()
        }
        Err(_) => Value::String(text.to_owned()),
    };
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty()).ok_or_else(wrong)?;
    let mut at = object;
    for part in parts {
        if part.is_empty() {
            return Err(wrong());
        }
        let inner = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
        let no_object = || MetadataError::NoObject { key: key.to_owned(), part: part.to_owned() };
        at = inner.as_object_mut().ok_or_else(no_object)?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(text: Option<&str>, keys: &[&str]) -> Result<Value, MetadataError> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let bytes = compose(text.map(str::as_bytes), &keys)?;
        Ok(serde_json::from_slice(&bytes).expect("it is JSON"))
    }

    #[test]
    fn keys_go_over_what_the_file_says() {
        let text = r#"{"sample": {"id": "A", "lane": 1}, "by": "x"}"#;
        let now = composed(
            Some(text),
            &["sample.id:B:2", "sample.lane:3", "run.paired:true", "note:\"7\"", "by:", "n:[1"],
        );
        let expected = serde_json::json!({
            "sample": {"id": "B:2", "lane": 3}, "run": {"paired": true}, "note": "7", "by": "", "n": "[1",
        });
        assert_eq!(now.unwrap(), expected);
        assert_eq!(composed(None, &[]).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn what_is_given_whole_is_sent_as_it_is() {
        let text = b"{ \"a\": 1.10,  \"b\": 123456789012345678901234567890 }\n";
        assert_eq!(compose(Some(text), &[]).unwrap(), text);
    }

    #[test]
    fn what_would_change_when_it_is_written_again_is_named() {
        let long = r#"{"a": {"n": 123456789012345678901234567890}}"#;
        let refused = composed(Some(long), &["b:1"]).unwrap_err().to_string();
        assert!(refused.contains("/a/n"), "{refused}");
        let refused = composed(Some(r#"{"a": 1, "a": 2}"#), &["b:1"]).unwrap_err().to_string();
        assert!(refused.contains("twice"), "{refused}");
        let refused = composed(None, &["n:123456789012345678901234567890"]).unwrap_err();
        assert!(refused.to_string().starts_with("the value of the key n:"), "{refused}");
        let refused = composed(None, &[r#"n:{"x": 1, "x": 2}"#]).unwrap_err().to_string();
        assert!(refused.contains("twice"), "{refused}");
    }

    #[test]
    fn what_is_no_metadata_is_named() {
        assert_eq!(composed(Some("[1]"), &[]), Err(MetadataError::NotAnObject));
        assert!(matches!(composed(Some("{"), &[]), Err(MetadataError::NotJson(_))));
        for key in ["plain", ":x", "a.:x", "a..b:x", ".a:x"] {
            assert_eq!(composed(None, &[key]), Err(MetadataError::NotAKey(key.to_owned())));
        }
        let through = composed(Some(r#"{"a": 1}"#), &["a.b:2"]).unwrap_err();
        assert_eq!(through.to_string(), "the key a.b leads through a, which is not an object");
    }
}
