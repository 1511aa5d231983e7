//! What datasets a root holds, as a database that can be searched: SQLite, one file, which any other program may read.
//! It is never the truth: what it says follows from the folders in `store/`, so it can be thrown away and made again.
//! One connection behind a lock; a change is on the disk when its call returns.

pub mod outbox;
mod row;
mod search;
mod tables;
mod words;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use files::{Digest, Dir, FilesError, Name, RelPath, Replace};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

pub use row::{DatasetRow, DatasetState, UploadId};
pub use search::{Filter, QueryError, Usage};

use crate::name::DatasetId;

/// The file's name in its root.
pub const CATALOGUE: &str = "catalogue.db";
/// How many catalogues are set aside before the oldest name is used again.
const MOST_ASIDE: u32 = 1_000;

/// Why the catalogue could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database says so.
    #[error("the catalogue (catalogue.db) cannot be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// Its file cannot be reached.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It was made by a program that knows more.
    #[error("the catalogue (catalogue.db) is of version {0}, which this program does not know")]
    Version(i64),
    /// Pages of it are damaged.
    #[error("the catalogue (catalogue.db) is damaged: {0}")]
    Damaged(String),
    /// A query that cannot be understood.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl CatalogueError {
    /// Whether another file would do: this one is damaged, or of another version.
    fn wants_a_new_one(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Database(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Version(_) | Self::Damaged(_) => true,
            Self::Files(_) | Self::Query(_) => false,
        }
    }
}

pub(crate) type Result<T, E = CatalogueError> = std::result::Result<T, E>;

/// The datasets of one root.
#[derive(Debug)]
pub struct Catalogue(Mutex<Connection>);

impl crate::hooks::Books for crate::Root {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.catalogue().with(work)
    }
}

impl Catalogue {
    /// Opens the catalogue of a root, or makes one. What is damaged, or of a version that is not known, is renamed to
    /// `catalogue.db.aside-N` and a new one made; its path is returned, and the caller fills the new one from `store/`.
    ///
    /// # Errors
    /// When neither can be done.
    pub fn open(root: &Dir) -> Result<(Self, Option<String>)> {
        match Self::open_sound(root) {
            Err(error) if error.wants_a_new_one() => {
                let aside = set_aside(root)?;
                Ok((Self::open_sound(root)?, Some(aside)))
            }
            result => Ok((result?, None)),
        }
    }

    /// Opens the catalogue of a root for reading, also while a server is at work there.
    ///
    /// # Errors
    /// When there is none, or none that this program can read.
    pub fn open_to_read(root: &Dir) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path_in(root), flags)?;
        prepare(&connection)?;
        tables::check_version(&connection)?;
        Ok(Self(Mutex::new(connection)))
    }

    fn open_sound(root: &Dir) -> Result<Self> {
        // The mode of the file is that of what clients say in their metadata: the operator's own.
        let name = own_name(CATALOGUE);
        if !exists(root, &name)? {
            root.open_private(&name)?;
            root.sync()?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path_in(root), flags)?;
        prepare(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(CatalogueError::Damaged(verdict));
        }
        tables::make(&mut connection)?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Enters a dataset, and whatever the caller adds in the same transaction: all of it is durable when this returns,
    /// or none of it is there. A row with its id gives way.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn insert(
        &self,
        row: &DatasetRow,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        row.insert(&transaction)?;
        also(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// Carries something out in a transaction of its own, for the tables that others keep here.
    ///
    /// # Errors
    /// When it fails, or cannot be made durable; nothing of it is there then.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// The dataset of that id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dataset(&self, id: DatasetId) -> Result<Option<DatasetRow>> {
        self.one("WHERE id = ?1", params![id.as_str()])
    }

    /// What a client has handed in under this upload id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of_upload(&self, client: &str, upload: &UploadId) -> Result<Option<DatasetRow>> {
        self.one(
            "WHERE client = ?1 AND upload = ?2 ORDER BY id DESC",
            params![client, upload.to_string()],
        )
    }

    /// The first dataset of an inbox that has this content and is not missing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of_content(&self, inbox: &str, content: &Digest) -> Result<Option<DatasetRow>> {
        let content = content.to_string();
        let tail = "WHERE content = ?1 AND inbox = ?2 AND state = 'ok' ORDER BY id";
        self.one(tail, params![content, inbox])
    }

    /// The first dataset of an inbox that is called so.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of_name(&self, inbox: &str, name: &str) -> Result<Option<DatasetRow>> {
        self.one("WHERE inbox = ?1 AND name = ?2 ORDER BY id", params![inbox, name])
    }

    /// Marks a dataset as missing, or as there again.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn set_state(&self, id: DatasetId, state: DatasetState) -> Result<()> {
        let statement = "UPDATE datasets SET state = ?2 WHERE id = ?1";
        self.change(|tx| tx.execute(statement, params![id.as_str(), state.as_str()]).map(drop))
    }

    /// Up to `most` datasets whose ids come after this one, in the order of their ids: for going through all.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn after(&self, id: Option<DatasetId>, most: usize) -> Result<Vec<DatasetRow>> {
        let after = id.map_or(String::new(), |id| id.to_string());
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.many("WHERE id > ?1 ORDER BY id LIMIT ?2", params![after, most])
    }

    fn one(&self, tail: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Option<DatasetRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare(&DatasetRow::select(tail))?;
        Ok(statement.query_row(params, DatasetRow::read).optional()?)
    }

    fn many(&self, tail: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Vec<DatasetRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare(&DatasetRow::select(tail))?;
        let rows = statement.query_map(params, DatasetRow::read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Does something with the database that nothing else interrupts.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        work(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // What a thread that panicked had begun was rolled back with its transaction.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way to the file that begins at the handle, as every path does; SQLite takes nothing but paths.
fn path_in(root: &Dir) -> String {
    format!("/proc/self/fd/{}/{CATALOGUE}", root.as_fd().as_raw_fd())
}

fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    // What a damaged schema says is not trusted to call functions.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn own_name(name: &str) -> Name {
    Name::new(name).expect("a plain file name")
}

fn exists(root: &Dir, name: &Name) -> Result<bool> {
    match root.attributes_of(&RelPath::from(name)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Renames the database and its log, so that somebody can look at them; says what it is called now.
fn set_aside(root: &Dir) -> Result<String> {
    let mut number = 1;
    while number < MOST_ASIDE && exists(root, &own_name(&format!("{CATALOGUE}.aside-{number}")))? {
        number += 1;
    }
    let aside = format!("{CATALOGUE}.aside-{number}");
    // The log last would leave a new database with an old log if this were cut short, so it goes first.
    for suffix in ["-wal", "-shm", ""] {
        let from = own_name(&format!("{CATALOGUE}{suffix}"));
        let to = own_name(&format!("{aside}{suffix}"));
        match root.rename(&from, (root, &to), Replace::Yes) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    root.sync()?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
