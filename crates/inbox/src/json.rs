//! JSON from outside, read strictly: metadata of clients, and the schemas of operators. What two readers could take
//! for two things (a key that is there twice, a number that loses digits) is refused here, so that whatever reads it
//! later sees what was sent. Pure, and bounded: in depth, in length, in the number of values.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use transfer::message::Fault;

/// How deep metadata may be nested: the object itself is the first level.
pub const MOST_DEPTH: usize = 64;
/// How many values metadata may hold, of all kinds and at all depths.
pub const MOST_VALUES: u64 = 100_000;
/// What a text is shortened to in a reason.
const SHOWN: usize = 80;

/// Metadata as a client sent them: one JSON object that every reader understands alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    text: String,
    value: Value,
}

/// What a text of JSON may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) depth: usize,
    pub(crate) values: u64,
}

impl Metadata {
    /// Reads the text of one JSON object of at most `most_bytes` bytes.
    ///
    /// # Errors
    /// What is wrong with it, with its place as a JSON pointer; at present the first such fault alone. It must be
    /// UTF-8, not nested deeper than [`MOST_DEPTH`], of at most [`MOST_VALUES`] values, without a key twice in one
    /// object or control characters in one, and its numbers must be those that 64 bits hold: whole ones exactly.
    pub fn read(text: &[u8], most_bytes: u64) -> Result<Self, Vec<Fault>> {
        let limits = Limits { bytes: most_bytes, depth: MOST_DEPTH, values: MOST_VALUES };
        let (text, value) = read(text, limits).map_err(|fault| vec![fault])?;
        if !value.is_object() {
            let reason = format!("metadata are one JSON object, not {}", kind(&value));
            return Err(vec![whole(reason)]);
        }
        Ok(Self { text: text.to_owned(), value })
    }

    /// The bytes as they were sent.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What they say: always an object.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// Reads a text of JSON, whatever value it is.
pub(crate) fn read(text: &[u8], limits: Limits) -> Result<(&str, Value), Fault> {
    if text.len() as u64 > limits.bytes {
        let (len, most) = (text.len(), limits.bytes);
        return Err(whole(format!("it has {len} bytes; at most {most} are taken")));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        whole(format!("it is not UTF-8: byte {} is none of a character", error.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(whole("it begins with a byte order mark; save it as UTF-8 without one"));
    }
    let mut reader = Reader {
        limits,
        path: Vec::new(),
        values: 0,
        numbers: 0,
        first_too_large: first_too_large(text),
        fault: None,
    };
    let mut input = serde_json::Deserializer::from_str(text);
    let result = Next(&mut reader).deserialize(&mut input).and_then(|value| {
        input.end()?;
        Ok(value)
    });
    match (result, reader.fault.take()) {
        (Ok(value), None) => Ok((text, value)),
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(Fault { path: pointer(&reader.path), reason: explain(&error) }),
    }
}

/// What kind of value this is, for people.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text for people, on one line and not too long.
pub(crate) fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    let dots = if cut < text.len() { "..." } else { "" };
    format!("{}{dots}", files::escape(&text.as_bytes()[..cut]))
}

fn whole(reason: impl Into<String>) -> Fault {
    Fault { path: String::new(), reason: reason.into() }
}

fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.starts_with("number out of range") {
        true => "this number is larger than any reader can hold; write it as text".to_owned(),
        false => format!("it is not JSON: {text}"),
    }
}

/// One step into a value.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// RFC 6901.
fn pointer(path: &[Step]) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => pointer.push_str(&index.to_string()),
        }
    }
    pointer
}

/// The first whole number of a text that 64 bits do not hold, counted among its numbers from 0. The parser gives such a
/// number as a float without saying so, hence this look at the text itself; where the text is no JSON the parser
/// says so.
fn first_too_large(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = &bytes[at..];
                let is_part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let len = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                if is_too_large(&text[at..at + len]) {
                    return Some(count);
                }
                count += 1;
                at += len;
            }
            _ => at += 1,
        }
    }
    None
}

fn is_too_large(number: &str) -> bool {
    let is_whole = !number.contains(['.', 'e', 'E']);
    is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

/// What is known while a text is read.
struct Reader {
    limits: Limits,
    path: Vec<Step>,
    values: u64,
    numbers: usize,
    first_too_large: Option<usize>,
    /// What the parser's own error gives no room for.
    fault: Option<Fault>,
}

impl Reader {
    fn refuse<E: de::Error>(&mut self, reason: impl Into<String>) -> E {
        let path = pointer(&self.path);
        self.fault.get_or_insert(Fault { path, reason: reason.into() });
        E::custom("refused")
    }

    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        // The path has a step for each level above this one.
        match self.path.len() < self.limits.depth {
            true => Ok(()),
            false => {
                let reason = format!("it is nested deeper than {} levels", self.limits.depth);
                Err(self.refuse(reason))
            }
        }
    }

    fn number<E: de::Error>(&mut self) -> Result<(), E> {
        if self.first_too_large == Some(self.numbers) {
            return Err(
                self.refuse("this whole number is too large to be kept exactly; write it as text")
            );
        }
        self.numbers += 1;
        Ok(())
    }
}

/// The next value of the text.
struct Next<'a>(&'a mut Reader);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        self.0.values += 1;
        if self.0.values > self.0.limits.values {
            let reason = format!("it holds more than {} values", self.0.limits.values);
            return Err(self.0.refuse(reason));
        }
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Next<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.number()?;
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.number()?;
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.number()?;
        match Number::from_f64(value) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(self
                .0
                .refuse("this number is larger than any reader can hold; write it as text")),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        self.0.enter()?;
        let mut list = Vec::new();
        loop {
            self.0.path.push(Step::Index(list.len()));
            let Some(value) = input.next_element_seed(Next(self.0))? else { break };
            self.0.path.pop();
            list.push(value);
        }
        self.0.path.pop();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        self.0.enter()?;
        let mut object = Map::new();
        while let Some(key) = input.next_key::<String>()? {
            if key.chars().any(char::is_control) {
                let reason = format!("the key \"{}\" holds control characters", shown(&key));
                return Err(self.0.refuse(reason));
            }
            if object.contains_key(&key) {
                return Err(self.0.refuse(format!("the key \"{}\" is there twice", shown(&key))));
            }
            self.0.path.push(Step::Key(key.clone()));
            let value = input.next_value_seed(Next(self.0))?;
            self.0.path.pop();
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
