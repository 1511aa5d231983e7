//! The tables, and how an older catalogue gets them: each step of the list is taken once, in one transaction with the
//! number that says so (`user_version`). Steps are only ever added, at the end.

use rusqlite::{Connection, Transaction};

use super::{CatalogueError, Result};

/// Marks the file as ours for tools that look: `HAUL` in ASCII.
const APPLICATION: i64 = 0x4841_554c;

/// Each step leads from the version of its place to the next.
const STEPS: &[fn(&Transaction<'_>) -> rusqlite::Result<()>] = &[datasets, outbox];

/// Brings the database to the version that this program knows.
pub(super) fn make(connection: &mut Connection) -> Result<()> {
    let at = check_version(connection)?;
    for (step, make) in STEPS.iter().enumerate().skip(at) {
        let transaction = connection.transaction()?;
        make(&transaction)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", step as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The version that it has; none of a program that knows more.
pub(super) fn check_version(connection: &Connection) -> Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match usize::try_from(version) {
        Ok(version) if version <= STEPS.len() => Ok(version),
        _ => Err(CatalogueError::Version(version)),
    }
}

fn outbox(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    super::outbox::create(transaction)
}

fn datasets(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE datasets (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            inbox TEXT NOT NULL,
            name TEXT NOT NULL,
            client TEXT NOT NULL,
            label TEXT NOT NULL,
            upload TEXT NOT NULL,
            offered_ms INTEGER NOT NULL,
            published_ms INTEGER NOT NULL,
            files INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            content TEXT NOT NULL,
            metadata TEXT NOT NULL,
            metadata_blake3 TEXT NOT NULL,
            path TEXT NOT NULL,
            state TEXT NOT NULL
        ) STRICT;
        CREATE INDEX datasets_content ON datasets (content);
        CREATE INDEX datasets_name ON datasets (inbox, name);
        CREATE INDEX datasets_upload ON datasets (client, upload);
        CREATE INDEX datasets_published ON datasets (published_ms);
        CREATE VIRTUAL TABLE words USING fts5 (
            name, label, metadata, content = '', contentless_delete = 1,
            tokenize = 'unicode61 remove_diacritics 2'
        );",
    )
}
