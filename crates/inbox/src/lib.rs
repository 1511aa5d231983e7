//! What takes datasets (`docs/formats/inbox.md`): metadata are judged before the first byte, uploads wait for their
//! turn, partial and finished are kept apart, and what is published can be proven years later. It is a receiving
//! policy of `transfer`, not a protocol of its own. It knows nothing of flags and files of configuration: it gets
//! [`InboxOptions`], and tells what happens through events.

pub mod admission;
pub mod audit;
pub mod catalogue;
mod client;
#[cfg(feature = "dync")]
pub mod dync;
mod engine;
pub mod hooks;
mod json;
mod name;
mod options;
mod reconcile;
pub mod rights;
mod schema;
#[cfg(test)]
mod scratch;
mod store;
mod verify;

pub use catalogue::{
    CATALOGUE, Catalogue, CatalogueError, DatasetRow, DatasetState, Filter, QueryError, UploadId,
    Usage,
};
pub use client::Client;
#[cfg(feature = "dync")]
pub use engine::DyncDesk;
pub use engine::{
    Answer, DoorError, Enrol, Inboxes, OpenError, Place, Reception, Tell, Told, Upload,
};
pub use json::{MOST_DEPTH, MOST_VALUES, Metadata};
pub use name::{
    DatasetId, DatasetNameError, MOST_NAME, NotAnId, check_name, folder_name, id_of_folder,
};
pub use options::{
    Budgets, Duplicates, HookAction, HookCommand, HookOptions, HookValue, InboxOptions,
    InboxesOptions, SameName, Webhook,
};
pub use reconcile::{Reconciled, reconcile};
pub use schema::{MOST_FAULTS, MOST_SCHEMA, Schema, SchemaError};
pub use store::{
    Facts, Incoming, OfferError, OfferRecord, Publication, PublishedDataset, Root, SchemaRecord,
    SidecarError, StoreError,
};
pub use verify::{Finding, MOST_FINDINGS, Verified, VerifyOptions, verify, verify_all};
