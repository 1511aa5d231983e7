//! What takes datasets (`docs/formats/inbox.md`): metadata are judged before the first byte, uploads wait for their
//! turn, partial and finished are kept apart, and what is published can be proven years later. It is a receiving
//! policy of `transfer`, not a protocol of its own. It knows nothing of flags and files of configuration: it gets
//! [`InboxOptions`], and tells what happens through events.

pub mod audit;
pub mod catalogue;
mod client;
#[cfg(feature = "dync")]
pub mod dync;
pub mod hooks;
mod options;

pub use client::Client;
pub use options::{
    Budgets, Duplicates, HookAction, HookCommand, HookOptions, HookValue, InboxOptions,
    InboxesOptions, SameName, Webhook,
};
