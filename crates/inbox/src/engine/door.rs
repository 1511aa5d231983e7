//! One inbox: its policies, and its schema as the file has it now.

use std::sync::{Arc, Mutex, PoisonError};

use files::{Attributes, File, FilesError};

use crate::store::Root;
use crate::{InboxOptions, Schema, SchemaError};

/// The longest schema that is read.
const MAX_SCHEMA: u64 = 1 << 20;

/// See the module's text.
pub(crate) struct Door {
    pub(crate) options: InboxOptions,
    pub(crate) root: Root,
    /// The number of its root, which stands for its disk.
    pub(crate) disk: usize,
    schema: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    schema: Option<Arc<Schema>>,
    /// What the file looked like when it was last read.
    stamp: Option<Attributes>,
}

/// Why a schema is not in force.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The file cannot be read.
    #[error("the schema of inbox {inbox} cannot be read")]
    Unreadable {
        /// Of which inbox.
        inbox: String,
        /// Why not.
        source: FilesError,
    },
    /// It is no schema that can be used.
    #[error("the schema of inbox {inbox}, {}, cannot be used", files::escape_path(path))]
    Schema {
        /// Of which inbox.
        inbox: String,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: SchemaError,
    },
}

impl Door {
    /// Opens an inbox; its schema must be good.
    pub(crate) fn open(options: InboxOptions, root: Root, disk: usize) -> Result<Self, DoorError> {
        let door = Self { options, root, disk, schema: Mutex::default() };
        door.reload(&|_| {})?;
        Ok(door)
    }

    /// The schema that is in force, if there is one. A file that has changed is read again; one that cannot be used is
    /// told, and the one before stays in force.
    pub(crate) fn schema(&self, tell: &dyn Fn(&str)) -> Option<Arc<Schema>> {
        if let Err(error) = self.reload(tell) {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            tell(&format!("{text}; the one before stays in force"));
        }
        self.schema.lock().unwrap_or_else(PoisonError::into_inner).schema.clone()
    }

    fn reload(&self, tell: &dyn Fn(&str)) -> Result<(), DoorError> {
        let Some(path) = &self.options.schema else { return Ok(()) };
        let inbox = || self.options.name.clone();
        let unreadable = |source| DoorError::Unreadable { inbox: inbox(), source };
        let mut loaded = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        let file = File::open_ambient(path).map_err(unreadable)?;
        let stamp = file.attributes().map_err(unreadable)?;
        if loaded.stamp.as_ref().is_some_and(|known| stamp.unchanged_since(known)) {
            return Ok(());
        }
        // Whatever comes of it is told once for each change.
        loaded.stamp = Some(stamp);
        let text = file.read_whole(MAX_SCHEMA).map_err(unreadable)?;
        let wrong = |source| DoorError::Schema { inbox: inbox(), path: path.clone(), source };
        let schema = Schema::compile(&text).map_err(wrong)?;
        schema.keep_in(self.root.schemas()).map_err(unreadable)?;
        if loaded.schema.is_some() {
            tell(&format!("inbox {}: the schema was changed and is in force", self.options.name));
        }
        loaded.schema = Some(Arc::new(schema));
        Ok(())
    }
}
