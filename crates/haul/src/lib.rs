//! haul carries files over any link and proves that they arrived.
//!
//! `haul serve` lets machines that it knows copy from and to folders that it exports; `haul cp` copies
//! like `scp`, over QUIC or TCP, goes on after cuts, verifies every byte and leaves a signed receipt.
//!
//! This crate is the program: arguments, configuration, state folders, rendering, one module for each
//! command, and the daemon. What it is built from are crates of their own, re-exported here for programs
//! that want to copy without the command line:
//!
//! - [`Copy`](struct@Copy): a copy as `haul cp` makes one, in a few lines.
//! - [`files`]: one file on disk, safely.
//! - [`tree`]: walks, filters, tree digests.
//! - [`link`]: identities and connections.
//! - [`transfer`]: [`put`](transfer::client::put), [`get`](transfer::client::get), receipts.
//! - [`Daemon`], [`Exports`]: a daemon in process, and its policy of exported folders.
//!
//! ```
//! // A receipt can be checked by anyone, with nothing but its bytes.
//! let forged = br#"{"haul_receipt": 1}"#;
//! assert!(haul::transfer::receipt::Receipt::verify(forged).is_err());
//! ```

mod address;
mod args;
mod bounds;
mod commands;
mod config;
mod contact;
mod copy;
mod daemon;
#[cfg(feature = "dync")]
mod dync;
mod enrolment;
mod exports;
mod glob;
mod interrupt;
mod keys;
mod landing;
mod list;
mod listing;
mod local;
mod metadata;
mod over_ssh;
mod paths;
mod reach;
mod receipts;
mod remotes;
mod render;
mod report;
mod spool;
mod state;
mod trust;
mod units;
mod within;

pub use events;
pub use files;
pub use link;
pub use transfer;
pub use tree;

pub use address::{Address, AddressError};
pub use copy::{Copy, Error};
pub use daemon::{Daemon, DaemonOptions};
pub use exports::{Export, Exports, Mode};
pub use report::Code;

use std::process::ExitCode;

/// Runs the command line of this process and says how it ended; errors have been printed.
pub fn main() -> ExitCode {
    // For --help and for mistakes, which is code 2, it does not return.
    let arguments = args::Arguments::of_process();
    let json = arguments.wants_json();
    match commands::run(arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            let report = report::explain(&error);
            report.print(json);
            report.code.into()
        }
    }
}
