//! How many entries ended how, counted alike on both sides.

use crate::message::{Outcome, RefuseCode};

/// Counts of a transfer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Files whose content arrived.
    pub copied: u64,
    /// Files that were there already, unchanged.
    pub unchanged: u64,
    /// Hard and symbolic links that stand.
    pub links: u64,
    /// Folders that stand.
    pub folders: u64,
    /// Entries left alone because something different exists.
    pub skipped: u64,
    /// Entries that failed, and what the source could not read.
    pub failed: u64,
    /// Of those failed, the ones that a disk is the reason of.
    pub failed_by_disk: u64,
    /// What a dry run would have copied or made.
    pub planned: u64,
    /// Content bytes of files copied.
    pub bytes_copied: u64,
    /// Content bytes of files copied or found unchanged.
    pub bytes_present: u64,
    /// Content bytes of all files that the walk has found so far (source only).
    pub bytes_found: u64,
    /// Content bytes of entries that have ended, however: what progress is measured by.
    pub bytes_ended: u64,
}

impl Totals {
    /// How many numbers these are.
    pub(crate) const NUMBERS: usize = 12;

    /// All of them, in the order of the fields.
    pub(crate) fn numbers(&self) -> [u64; Self::NUMBERS] {
        let Self {
            copied,
            unchanged,
            links,
            folders,
            skipped,
            failed,
            failed_by_disk,
            planned,
            bytes_copied,
            bytes_present,
            bytes_found,
            bytes_ended,
        } = *self;
        [
            copied,
            unchanged,
            links,
            folders,
            skipped,
            failed,
            failed_by_disk,
            planned,
            bytes_copied,
            bytes_present,
            bytes_found,
            bytes_ended,
        ]
    }

    /// The totals with these numbers.
    pub(crate) fn of_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
        let [
            copied,
            unchanged,
            links,
            folders,
            skipped,
            failed,
            failed_by_disk,
            planned,
            bytes_copied,
            bytes_present,
            bytes_found,
            bytes_ended,
        ] = numbers;
        Self {
            copied,
            unchanged,
            links,
            folders,
            skipped,
            failed,
            failed_by_disk,
            planned,
            bytes_copied,
            bytes_present,
            bytes_found,
            bytes_ended,
        }
    }

    /// Counts one entry; `size` is that of a file's content.
    pub fn count(&mut self, size: Option<u64>, is_folder: bool, outcome: &Outcome) {
        let bytes = size.unwrap_or(0);
        self.bytes_ended += bytes;
        match outcome {
            Outcome::Copied(_) => {
                self.copied += 1;
                self.bytes_copied += bytes;
                self.bytes_present += bytes;
            }
            Outcome::Unchanged(_) => {
                self.unchanged += 1;
                self.bytes_present += bytes;
            }
            Outcome::Made if is_folder => self.folders += 1,
            Outcome::Made => self.links += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Failed { code, .. } => {
                self.failed += 1;
                self.failed_by_disk += u64::from(*code == RefuseCode::Disk);
            }
            Outcome::Withdrawn => {}
            Outcome::Planned(_) => self.planned += 1,
        }
    }
}
