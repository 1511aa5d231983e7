//! One dataset as the catalogue has it.

use std::fmt;

use files::Digest;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::words;
use crate::name::DatasetId;

/// A dataset in `store/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRow {
    /// Its id.
    pub id: DatasetId,
    /// Which inbox took it.
    pub inbox: String,
    /// What it is called.
    pub name: String,
    /// Who handed it in, as [`crate::Client::id`].
    pub client: String,
    /// What the operator called them then.
    pub label: String,
    /// Under which id of theirs.
    pub upload: UploadId,
    /// When it was offered, in milliseconds of precision.
    pub offered: Timestamp,
    /// When it was published, likewise.
    pub published: Timestamp,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// The content half of their tree digest.
    pub content: Digest,
    /// Its metadata as they were sent.
    pub metadata: String,
    /// BLAKE3 of these.
    pub metadata_digest: Digest,
    /// Its folder, below the root.
    pub path: String,
    /// Whether the folder is there.
    pub state: DatasetState,
}

/// Whether the folder of a dataset is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetState {
    /// It is.
    Ok,
    /// It was not at the last start.
    Missing,
}

impl DatasetState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
        }
    }
}

/// What a client calls an upload: 16 bytes, written as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// Reads 32 hex digits in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits: Option<Vec<u8>> = text.bytes().take(33).map(digit).collect();
        let digits: [u8; 32] = digits?.try_into().ok()?;
        Some(Self(std::array::from_fn(|at| digits[2 * at] << 4 | digits[2 * at + 1])))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({self})")
    }
}

const COLUMNS: &str = "id, inbox, name, client, label, upload, offered_ms, published_ms, files, bytes, content, \
    metadata, metadata_blake3, path, state";

impl DatasetRow {
    /// A query for rows; `tail` begins with WHERE or what may follow it.
    pub(super) fn select(tail: &str) -> String {
        format!("SELECT {COLUMNS} FROM datasets {tail}")
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |column: usize| row.get::<_, String>(column);
        let count = |column: usize| row.get::<_, i64>(column).map(|count| count.max(0) as u64);
        let time = |column: usize| {
            let millis = row.get(column)?;
            Timestamp::from_millisecond(millis).map_err(|_| unreadable(column, Type::Integer))
        };
        let digest = |column: usize| {
            Digest::parse(&text(column)?).map_err(|_| unreadable(column, Type::Text))
        };
        let state = match text(14)?.as_str() {
            "ok" => DatasetState::Ok,
            _ => DatasetState::Missing,
        };
        Ok(Self {
            id: DatasetId::parse(&text(0)?).ok_or(unreadable(0, Type::Text))?,
            inbox: text(1)?,
            name: text(2)?,
            client: text(3)?,
            label: text(4)?,
            upload: UploadId::parse(&text(5)?).ok_or(unreadable(5, Type::Text))?,
            offered: time(6)?,
            published: time(7)?,
            files: count(8)?,
            bytes: count(9)?,
            content: digest(10)?,
            metadata: text(11)?,
            metadata_digest: digest(12)?,
            path: text(13)?,
            state,
        })
    }

    /// Puts the row in, and its words; one with the same id gives way.
    pub(super) fn insert(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let known: Option<i64> = transaction
            .query_row("SELECT number FROM datasets WHERE id = ?1", [self.id.as_str()], |row| {
                row.get(0)
            })
            .optional()?;
        if let Some(number) = known {
            transaction.execute("DELETE FROM datasets WHERE number = ?1", [number])?;
            transaction.execute("DELETE FROM words WHERE rowid = ?1", [number])?;
        }
        let integer = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        transaction.execute(
            &format!(
                "INSERT INTO datasets ({COLUMNS})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
            ),
            params![
                self.id.as_str(),
                self.inbox,
                self.name,
                self.client,
                self.label,
                self.upload.to_string(),
                self.offered.as_millisecond(),
                self.published.as_millisecond(),
                integer(self.files),
                integer(self.bytes),
                self.content.to_string(),
                self.metadata,
                self.metadata_digest.to_string(),
                self.path,
                self.state.as_str(),
            ],
        )?;
        let number = transaction.last_insert_rowid();
        transaction.execute(
            "INSERT INTO words (rowid, name, label, metadata) VALUES (?1, ?2, ?3, ?4)",
            params![number, self.name, self.label, words::of(&self.metadata)],
        )?;
        Ok(())
    }
}

/// A column that holds what was never written there.
fn unreadable(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        column,
        kind,
        "it was not written by this program".into(),
    )
}
