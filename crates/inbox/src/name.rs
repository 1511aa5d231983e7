//! Names of datasets: which are taken, what folder one becomes, and the ids that tell datasets of one name apart. Pure.

use std::fmt;
use std::str::FromStr;

use files::Name;

/// The most bytes of a dataset's name.
pub const MOST_NAME: usize = 200;
/// How much of a name is in its folder's name.
const MOST_IN_FOLDER: usize = 100;
/// Characters of an id.
const ID_LEN: usize = 16;
/// Crockford's base 32, in lower case: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Why a name is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatasetNameError {
    /// There is none.
    #[error("a dataset must have a name; give it one")]
    Empty,
    /// It is longer than [`MOST_NAME`].
    #[error("the name of a dataset has at most {MOST_NAME} bytes, and this one {0}")]
    TooLong(usize),
    /// It is `.` or `..`.
    #[error("'.' and '..' are no names of datasets")]
    Dots,
    /// It holds a slash.
    #[error("the name of a dataset holds no '/'")]
    Slash,
    /// It holds what cannot be seen, or changes how the rest is seen.
    #[error(
        "the name of a dataset holds no control characters, nor marks that are invisible or turn text around"
    )]
    Invisible,
    /// It begins or ends with a space.
    #[error("the name of a dataset begins and ends with something else than a space")]
    Space,
}

/// Whether a dataset may be called so: 1 to [`MOST_NAME`] bytes that a person can read as they stand.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), DatasetNameError> {
    match name {
        "" => Err(DatasetNameError::Empty),
        "." | ".." => Err(DatasetNameError::Dots),
        _ if name.len() > MOST_NAME => Err(DatasetNameError::TooLong(name.len())),
        _ if name.contains('/') => Err(DatasetNameError::Slash),
        _ if is_escaped(name) => Err(DatasetNameError::Invisible),
        _ if name.trim() != name => Err(DatasetNameError::Space),
        _ => Ok(()),
    }
}

/// Whether something in it would be escaped where it is shown. A backslash always is, and is harmless.
fn is_escaped(name: &str) -> bool {
    let bare = name.replace('\\', "");
    files::escape(bare.as_bytes()).to_string() != bare
}

/// The name of the folder of a dataset: `<id>-<name>`, in ASCII that needs no quotes in any shell.
///
/// # Panics
/// Never: what it makes is a name.
#[must_use]
pub fn folder_name(id: &DatasetId, name: &str) -> Name {
    let safe = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let safe: String = name.chars().map(safe).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let safe = &safe[..safe.len().min(MOST_IN_FOLDER)];
    Name::new(format!("{id}-{safe}")).expect("ASCII without slashes that begins with an id")
}

/// The id of the dataset whose folder this is.
#[must_use]
pub fn id_of_folder(folder: &[u8]) -> Option<DatasetId> {
    match folder.split_at_checked(ID_LEN)? {
        (id, [b'-', ..]) => DatasetId::parse(std::str::from_utf8(id).ok()?),
        _ => None,
    }
}

/// Names one dataset for good: 16 characters, which sort by the time at which it was offered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetId([u8; ID_LEN]);

impl DatasetId {
    /// The id of something that was offered at this time, milliseconds since 1970 of which 48 bits count. `chance`
    /// tells it from others of the same millisecond.
    #[must_use]
    pub fn new(millis: u64, chance: u32) -> Self {
        let bits = u128::from(millis & ((1 << 48) - 1)) << 32 | u128::from(chance);
        let digit = |at: usize| ALPHABET[(bits >> (5 * (ID_LEN - 1 - at)) & 31) as usize];
        Self(std::array::from_fn(digit))
    }

    /// Reads an id as it is written: no other form of it is taken.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; ID_LEN] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    /// When it was offered, in milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> u64 {
        let value = |byte: &u8| ALPHABET.iter().position(|known| known == byte).unwrap_or(0);
        let bits = self.0.iter().fold(0, |bits: u128, byte| bits << 5 | value(byte) as u128);
        (bits >> 32) as u64
    }

    /// The id as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatasetId({self})")
    }
}

impl FromStr for DatasetId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        Self::parse(text).ok_or(NotAnId)
    }
}

/// A text that is no id of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a dataset is {ID_LEN} digits and small letters, without i, l, o and u")]
pub struct NotAnId;

#[cfg(test)]
mod tests;
