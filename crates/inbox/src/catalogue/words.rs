//! The words of metadata that a search can find: keys, texts and numbers, without the signs of JSON between them.

use serde_json::Value;

/// The words of a text of JSON, one value behind another.
pub(super) fn of(metadata: &str) -> String {
    let mut words = String::new();
    // What was taken in is JSON; a folder that somebody changed by hand is found by its name at least.
    if let Ok(value) = serde_json::from_str(metadata) {
        gather(&value, &mut words);
    }
    words
}

fn gather(value: &Value, words: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => push(&number.to_string(), words),
        Value::String(text) => push(text, words),
        Value::Array(list) => list.iter().for_each(|value| gather(value, words)),
        Value::Object(map) => {
            for (key, value) in map {
                push(key, words);
                gather(value, words);
            }
        }
    }
}

fn push(text: &str, words: &mut String) {
    words.push_str(text);
    words.push('\n');
}
