//! The schema of an inbox: what its metadata must be, as a JSON Schema, and what is said of those that are not. It is
//! judged with what it holds alone: nothing is fetched, and its patterns take time that is linear in the text.

mod reasons;

use files::{Digest, Dir, FilesError, Follow, Name, RelPath};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use transfer::message::Fault;

use crate::json::{self, Limits};

/// The most bytes of a schema.
pub const MOST_SCHEMA: u64 = 1 << 20;
/// The most faults that are told.
pub const MOST_FAULTS: usize = 100;
/// Schemas are about as deep as twice what they describe, and then some.
const LIMITS: Limits = Limits { bytes: MOST_SCHEMA, depth: 120, values: 100_000 };
/// What one pattern may take, compiled.
const PATTERN_BYTES: usize = 4 << 20;
/// Parts of a schema that are judged for one value, at most: see [`paths`].
const MOST_PATHS: u64 = 1_000_000;

/// A schema, ready to judge.
pub struct Schema {
    text: Vec<u8>,
    digest: Digest,
    name: Option<String>,
    version: Option<String>,
    validator: Validator,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is no JSON that is taken.
    #[error("the schema is not usable{}: {}", at(&.0.path), .0.reason)]
    Json(Fault),
    /// It refers to something that is not in it.
    #[error(
        "the schema refers to something outside of itself, and nothing is fetched; put it under \"$defs\": {0}"
    )]
    Reference(String),
    /// It is no schema.
    #[error("the schema is not valid{}: {}", at(&.0.path), .0.reason)]
    Invalid(Fault),
    /// Judging with it could take for ever.
    #[error("the schema refers to its own parts in so many ways that judging could take for ever")]
    TooMany,
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {}", files::escape(path.as_bytes())) }
}

impl Schema {
    /// Reads and compiles a schema, of draft 2020-12 unless its `$schema` says otherwise. Formats are checked.
    ///
    /// # Errors
    /// If it is too large or no JSON, no schema, refers to something that is not in it, names a format that
    /// nobody knows, or has patterns with look-around or back references, for which there is no bound in time.
    pub fn compile(text: &[u8]) -> Result<Self, SchemaError> {
        let (_, value) = json::read(text, LIMITS).map_err(SchemaError::Json)?;
        if paths(&value) > MOST_PATHS {
            return Err(SchemaError::TooMany);
        }
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(patterns)
            .build(&value)
            .map_err(|error| reasons::of_schema(&error))?;
        let text_of = |key: &str| match value.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let name = text_of("$id").or_else(|| text_of("title")).filter(|name| !name.is_empty());
        let version = text_of("version").or_else(|| text_of("$id").and_then(|id| version_in(&id)));
        Ok(Self { text: text.to_vec(), digest: Digest::of(text), name, version, validator })
    }

    /// The first [`MOST_FAULTS`] faults of metadata, each with its place as a JSON pointer, and how many there are
    /// beside these. None at all: they fit.
    #[must_use]
    pub fn judge(&self, metadata: &Value) -> (Vec<Fault>, u64) {
        if self.validator.is_valid(metadata) {
            return (Vec::new(), 0);
        }
        let mut errors = self.validator.iter_errors(metadata);
        let faults: Vec<Fault> =
            errors.by_ref().take(MOST_FAULTS).map(|error| reasons::of(&error)).collect();
        let more = errors.count() as u64;
        match faults.is_empty() {
            // Both judgements are of one library, but a difference between them must not let anything in.
            true => {
                let reason = "it does not fit the schema".to_owned();
                (vec![Fault { path: String::new(), reason }], 0)
            }
            false => (faults, more),
        }
    }

    /// What it calls itself: its `$id`, or its `title`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its version: what it says under `version`, or what stands for one in its `$id`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// BLAKE3 of its text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its text as it was given.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Keeps it as `<digest>.json` in a folder of schemas, durably, so that it can be read when it is no longer in
    /// force. One that is there with the same bytes is left alone.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn keep_in(&self, schemas: &Dir) -> Result<(), FilesError> {
        let name = Name::new(format!("{}.json", self.digest))
            .map_err(|source| FilesError::Name { bytes: Vec::new(), source })?;
        let kept = schemas
            .open_file(&RelPath::from(&name), Follow::Never)
            .and_then(|file| file.read_whole(MOST_SCHEMA));
        match kept {
            Ok(kept) if kept == self.text => Ok(()),
            _ => schemas.write_whole(&name, &self.text, 0o666),
        }
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The part of an id that looks like a version: `v1.2` in `https://lab.example/ngs/v1.2/schema.json`.
fn version_in(id: &str) -> Option<String> {
    let looks = |part: &&str| {
        let number = part.strip_prefix('v').unwrap_or(part);
        number.starts_with(|first: char| first.is_ascii_digit())
            && number.chars().all(|character| character.is_ascii_digit() || character == '.')
    };
    let id = id.strip_suffix(".json").unwrap_or(id);
    id.rsplit(['/', ':', '#', '-', '_', '@']).find(looks).map(str::to_owned)
}

/// How many ways lead through a schema's parts for one and the same value, at most. `allOf` of two references to a
/// schema that is `allOf` of two references, and so on, doubles the work at each step; the operator who
/// wrote that is told, rather than the first client that waits for an answer. A reference inside what it refers to
/// counts once: it can only be for a part of the value, or no schema could end.
fn paths(schema: &Value) -> u64 {
    fn cost(root: &Value, part: &Value, within: &mut Vec<String>, known: &mut Known) -> u64 {
        let mut sum: u64 = 1;
        match part {
            Value::Object(map) => {
                for (key, value) in map {
                    sum = sum.saturating_add(match (key.as_str(), value) {
                        ("$ref" | "$dynamicRef", Value::String(to)) => {
                            refer(root, to, within, known)
                        }
                        (
                            "$defs" | "definitions" | "enum" | "const" | "default" | "examples",
                            _,
                        ) => 0,
                        _ => cost(root, value, within, known),
                    });
                }
            }
            Value::Array(list) => {
                for value in list {
                    sum = sum.saturating_add(cost(root, value, within, known));
                }
            }
            _ => {}
        }
        sum
    }
    fn refer(root: &Value, to: &str, within: &mut Vec<String>, known: &mut Known) -> u64 {
        if let Some(sum) = known.get(to) {
            return *sum;
        }
        let Some(part) = to.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else {
            return 1;
        };
        if within.iter().any(|open| open == to) || within.len() > 200 {
            return 1;
        }
        within.push(to.to_owned());
        let sum = cost(root, part, within, known);
        within.pop();
        known.insert(to.to_owned(), sum);
        sum
    }
    type Known = std::collections::HashMap<String, u64>;
    cost(schema, schema, &mut Vec::new(), &mut Known::new())
}

#[cfg(test)]
mod tests;
