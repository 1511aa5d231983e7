//! What is said of metadata that do not fit, in words for who has to mend them: they need not know what a schema is.

use jsonschema::{ValidationError, error::TypeKind, error::ValidationErrorKind as Kind};
use serde_json::Value;
use transfer::message::Fault;

use super::SchemaError;
use crate::json::{kind, shown};

/// The most choices that are listed.
const MOST_CHOICES: usize = 12;
/// The most keys that are listed.
const MOST_KEYS: usize = 8;

/// A fault of metadata.
pub(super) fn of(error: &ValidationError<'_>) -> Fault {
    Fault { path: error.instance_path().as_str().to_owned(), reason: reason(error) }
}

/// Why a schema is none.
pub(super) fn of_schema(error: &ValidationError<'_>) -> SchemaError {
    match error.kind() {
        Kind::Referencing(referencing) => SchemaError::Reference(shown(&referencing.to_string())),
        _ => {
            let path = error.instance_path().as_str().to_owned();
            let reason = match error.kind() {
                Kind::Format { format } if format == "regex" => format!(
                    "{} is no pattern that can be used; look-around and back references are not",
                    value(error.instance())
                ),
                Kind::Format { format } => format!("the format \"{}\" is not known", shown(format)),
                _ => reason(error),
            };
            SchemaError::Invalid(Fault { path, reason })
        }
    }
}

fn reason(error: &ValidationError<'_>) -> String {
    let it = || value(error.instance());
    match error.kind() {
        Kind::Required { property } => format!("{} is missing", value(property)),
        Kind::Type { kind: TypeKind::Single(wanted) } => {
            format!(
                "it must be {}, and is {}",
                wanted_type(&wanted.to_string()),
                kind(error.instance())
            )
        }
        Kind::Type { kind: TypeKind::Multiple(wanted) } => {
            let wanted: Vec<_> = wanted.iter().map(|one| wanted_type(&one.to_string())).collect();
            format!("it must be {}, and is {}", wanted.join(" or "), kind(error.instance()))
        }
        Kind::Enum { options } => choices(error.instance(), options),
        Kind::Constant { expected_value } => {
            format!("it must be {}, and is {}", value(expected_value), it())
        }
        Kind::Pattern { pattern } => {
            format!("{} does not match the pattern {}", it(), shown(pattern))
        }
        Kind::Format { format } => format!("{} is not {}", it(), wanted_format(format)),
        Kind::MinLength { limit } => format!("{} is shorter than {limit} characters", it()),
        Kind::MaxLength { limit } => format!("{} is longer than {limit} characters", it()),
        Kind::Minimum { limit } => format!("{} is less than {limit}, the least", it()),
        Kind::Maximum { limit } => format!("{} is more than {limit}, the most", it()),
        Kind::ExclusiveMinimum { limit } => format!("{} is not more than {limit}", it()),
        Kind::ExclusiveMaximum { limit } => format!("{} is not less than {limit}", it()),
        Kind::MultipleOf { multiple_of } => format!("{} is no multiple of {multiple_of}", it()),
        Kind::MinItems { limit } => format!("the list has fewer entries than {limit}"),
        Kind::MaxItems { limit } => format!("the list has more entries than {limit}"),
        Kind::AdditionalItems { limit } => format!("the list has more entries than {limit}"),
        Kind::UniqueItems => "an entry of the list is there twice".to_owned(),
        Kind::Contains => "no entry of the list is of the kind that must be there".to_owned(),
        Kind::MinProperties { limit } => format!("the object has fewer keys than {limit}"),
        Kind::MaxProperties { limit } => format!("the object has more keys than {limit}"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("{} not known here; is it a slip of the pen?", keys(unexpected))
        }
        Kind::UnevaluatedItems { .. } => "the list has entries that are not known here".to_owned(),
        Kind::PropertyNames { error } => format!("a key is not as it should be: {}", reason(error)),
        Kind::AnyOf { .. } => format!("{} fits none of the forms that are allowed here", it()),
        Kind::OneOfNotValid { context } | Kind::OneOfMultipleValid { context }
            if context.is_empty() =>
        {
            format!("{} does not fit exactly one of the forms that are allowed here", it())
        }
        Kind::OneOfNotValid { .. } => {
            format!("{} fits none of the forms that are allowed here", it())
        }
        Kind::OneOfMultipleValid { .. } => {
            format!("{} fits several forms of which only one may fit", it())
        }
        Kind::Not { .. } | Kind::FalseSchema => format!("{} is not allowed here", it()),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            format!("{} could not be held against its pattern", it())
        }
        _ => format!("{} does not fit the schema ({})", it(), shown(error.kind().keyword())),
    }
}

/// A value as it may stand in a sentence. Only what is small is written out: the text of a large one is not made.
fn value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        plain => plain.to_string(),
    }
}

fn choices(found: &Value, options: &Value) -> String {
    let Some(options) = options.as_array() else { return format!("{} is no choice", value(found)) };
    let listed: Vec<_> = options.iter().take(MOST_CHOICES).map(value).collect();
    let more = match options.len().saturating_sub(MOST_CHOICES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} is none of {}{more}", value(found), listed.join(", "))
}

fn keys(unexpected: &[String]) -> String {
    let listed: Vec<_> =
        unexpected.iter().take(MOST_KEYS).map(|key| format!("\"{}\"", shown(key))).collect();
    let verb = if unexpected.len() == 1 { "is" } else { "are" };
    match unexpected.len().saturating_sub(MOST_KEYS) {
        0 => format!("{} {verb}", listed.join(", ")),
        more => format!("{} and {more} more {verb}", listed.join(", ")),
    }
}

fn wanted_type(name: &str) -> &'static str {
    match name {
        "null" => "null",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text",
        "array" => "a list",
        _ => "an object",
    }
}

fn wanted_format(format: &str) -> String {
    match format {
        "date" => "a date like 2026-11-22".to_owned(),
        "date-time" => "a time like 2026-11-22T08:30:00Z".to_owned(),
        "time" => "a time of day like 08:30:00Z".to_owned(),
        "email" => "an e-mail address".to_owned(),
        "uri" => "an address like https://example.org/x".to_owned(),
        "uuid" => "a UUID".to_owned(),
        other => format!("of the format \"{}\"", shown(other)),
    }
}
